//! Three nodes on a transport of the host's own: Unix-domain sockets, in eighty lines ([`kv_examples::unix_transport`], explained
//! in `docs/transport.md`).
//!
//! ```text
//! cargo run --release --example unix_sockets
//! ```

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::sync::Arc;

    use kv_core::MemStore;
    use kv_core::record::RecordJoin;
    use kv_core::store::{Space, SpaceOptions};
    use kv_examples::unix_transport::UnixTransport;
    use kv_repl::{Consistency, Member, Node, NodeId, TableOptions};

    let directory = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    let mut members = Vec::new();
    for id in [1, 2, 3].map(NodeId) {
        let path = directory.path().join(format!("{id}.socket"));
        let transport = UnixTransport::bind(id, &path)?;
        let records = SpaceOptions { merge: Some(Arc::new(RecordJoin)) };
        let store = MemStore::new([(Space::META, SpaceOptions::default()), (Space::DATA, records)]);
        nodes.push(Node::builder(id).store(store).transport(transport).start()?);
        members.push(Member::new(id, path.display()));
    }
    nodes[0].bootstrap(&members)?;
    let carts = nodes[0].create_table("carts", TableOptions::siblings().replicas(3))?;
    for number in 0..1_000 {
        carts.put(format!("cart {number}"), format!("milk, {number} times")).consistency(Consistency::All).wait()?;
    }
    let elsewhere = nodes[2].table("carts")?;
    let mut right = 0;
    for number in 0..1_000 {
        let read = elsewhere.get(format!("cart {number}")).wait()?;
        right += usize::from(read.values() == [format!("milk, {number} times").as_bytes()]);
    }
    println!("written at one node and read at another, over Unix-domain sockets: {right} of 1000");
    if right == 1_000 { Ok(()) } else { Err("a read was wrong".into()) }
}

#[cfg(not(unix))]
fn main() {
    println!("this example needs Unix-domain sockets");
}
