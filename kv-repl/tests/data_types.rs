//! Tables of replicated data types, and siblings that the application merges, in a cluster in one process.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use kv_core::MemStore;
use kv_core::conflict::unfair;
use kv_core::crdt::{Crdt, Field, Kind, Update, UpdateRefused};
use kv_core::record::{OperationId, RecordJoin, Rule};
use kv_core::store::{Space, SpaceOptions};
use kv_repl::request::{ClusterError, WriteError, WrongType};
use kv_repl::table_options::InvalidOptions;
use kv_repl::transport::MemoryNetwork;
use kv_repl::{Consistency, Member, Node, NodeId, Session, Table, TableOptions};

fn cluster(network: &MemoryNetwork, size: u64) -> Vec<Node> {
    let start = |node| {
        let join = SpaceOptions { merge: Some(std::sync::Arc::new(RecordJoin)) };
        let plain = SpaceOptions::default;
        let store = MemStore::new([(Space::META, plain()), (Space::DATA, join), (Space::HINTS, plain())]);
        Node::builder(NodeId(node)).store(store).transport(network.transport(NodeId(node))).start().unwrap()
    };
    let nodes: Vec<Node> = (1..=size).map(start).collect();
    let members: Vec<Member> = (1..=size).map(|node| Member::new(NodeId(node), "memory")).collect();
    nodes[0].bootstrap(&members).unwrap();
    nodes
}

/// The table at every node.
fn tables(nodes: &[Node], kind: Kind) -> Vec<Table> {
    let name = format!("{kind:?}");
    nodes[0].create_table(&name, TableOptions::crdt(kind).replicas(3)).unwrap();
    nodes.iter().map(|node| node.table(&name).unwrap()).collect()
}

#[test]
fn counters_hold_what_was_counted_at_every_node() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 5);
    let likes = tables(&nodes, Kind::Counter);
    let counting: Vec<_> =
        likes.iter().flat_map(|likes| (1..=20).map(|amount| likes.increment("k", amount).into_future())).collect();
    for request in counting {
        request.wait().unwrap();
    }
    likes[3].increment("k", -50).wait().unwrap();
    for likes in &likes {
        assert_eq!(likes.get("k").wait().unwrap().counter(), Ok(5 * 210 - 50));
        assert_eq!(likes.get("never counted").wait().unwrap().counter(), Ok(0));
    }
    let read = likes[1].get("k").wait().unwrap();
    likes[2].delete("k").context(read.context()).wait().unwrap();
    assert_eq!(likes[4].get("k").wait().unwrap().counter(), Ok(0));
    likes[0].increment("k", 7).wait().unwrap();
    assert_eq!(likes[4].get("k").wait().unwrap().counter(), Ok(7), "it counts on after a delete");
}

#[test]
fn a_session_sees_what_it_changed_wherever_it_reads() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 5);
    let tags = tables(&nodes, Kind::Set);
    let session = Session::new();
    let one = Consistency::One;
    for round in 0..20_usize {
        let (here, there) = (&tags[round % 5], &tags[(round + 2) % 5]);
        here.insert("k", format!("tag {round}")).consistency(one).session(&session).wait().unwrap();
        let read = there.get("k").consistency(one).session(&session).wait().unwrap();
        assert_eq!(read.set().unwrap(), [format!("tag {round}").as_bytes()]);
        match round % 2 {
            0 => there.remove("k", format!("tag {round}")).consistency(one).session(&session).wait().unwrap(),
            _ => there.delete("k").consistency(one).session(&session).wait().unwrap(),
        };
        let read = here.get("k").consistency(one).session(&session).wait().unwrap();
        assert_eq!(read.set().unwrap(), Vec::<&Bytes>::new(), "round {round}");
    }
}

#[test]
fn a_retried_increment_counts_once() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let likes = tables(&nodes, Kind::Counter);
    let request = likes[0].increment("k", 1).operation(OperationId(42));
    assert_eq!(request.operation_id(), OperationId(42));
    request.wait().unwrap();
    for likes in &likes {
        likes.increment("k", 1).retry(OperationId(42)).consistency(Consistency::All).wait().unwrap();
    }
    assert_eq!(likes[2].get("k").wait().unwrap().counter(), Ok(1));
    let unknown = likes[1].increment("k", 1).retry(OperationId(43)).wait();
    assert!(matches!(unknown, Err(WriteError::Ambiguous { operation: OperationId(43), .. })), "{unknown:?}");
}

#[test]
fn every_data_type_reads_as_what_was_done_to_it() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);

    let tags = tables(&nodes, Kind::Set);
    tags[0].insert("k", "a").wait().unwrap();
    tags[1].insert("k", "b").wait().unwrap();
    tags[2].insert("k", "c").wait().unwrap();
    let read = tags[0].get("k").wait().unwrap();
    assert_eq!(read.set().unwrap(), ["a", "b", "c"]);
    tags[1].remove("k", "b").context(read.context()).wait().unwrap();
    assert_eq!(tags[2].get("k").wait().unwrap().set().unwrap(), ["a", "c"]);
    assert!(tags[2].get("absent").wait().unwrap().set().unwrap().is_empty());

    let settings = tables(&nodes, Kind::LwwMap);
    settings[0].set_entry("k", "colour", "red").wait().unwrap();
    settings[1].set_entry("k", "colour", "blue").wait().unwrap();
    settings[2].set_entry("k", "size", "small").wait().unwrap();
    settings[0].remove("k", "size").wait().unwrap();
    let read = settings[1].get("k").wait().unwrap();
    assert_eq!(read.entries().unwrap(), [(&Bytes::from("colour"), &Bytes::from("blue"))]);

    for (kind, concurrent) in [(Kind::EnableWinsFlag, true), (Kind::DisableWinsFlag, false)] {
        let flags = tables(&nodes, kind);
        assert_eq!(flags[0].get("k").wait().unwrap().flag(), Ok(false));
        flags[0].enable("k").wait().unwrap();
        let seen = flags[1].get("k").wait().unwrap();
        assert_eq!(seen.flag(), Ok(true));
        flags[1].enable("k").context(seen.context()).wait().unwrap();
        flags[2].disable("k").context(seen.context()).wait().unwrap();
        assert_eq!(flags[0].get("k").wait().unwrap().flag(), Ok(concurrent), "{kind:?}");
    }

    for (kind, stands) in [(Kind::MaxRegister, 9), (Kind::MinRegister, -4)] {
        let register = tables(&nodes, kind);
        assert_eq!(register[0].get("k").wait().unwrap().number(), Ok(None));
        for (table, number) in register.iter().zip([3, 9, -4]) {
            table.offer("k", number).wait().unwrap();
        }
        assert_eq!(register[0].get("k").wait().unwrap().number(), Ok(Some(stands)));
    }

    let notes = tables(&nodes, Kind::MvRegister);
    let first = notes[0].assign("k", "first").wait().unwrap();
    notes[1].assign("k", "left").context(&first.context).wait().unwrap();
    notes[2].assign("k", "right").context(&first.context).wait().unwrap();
    let both = notes[0].get("k").wait().unwrap();
    assert_eq!(both.register().unwrap().into_iter().collect::<BTreeSet<_>>().len(), 2);
    notes[1].assign("k", "one").context(both.context()).wait().unwrap();
    assert_eq!(notes[2].get("k").wait().unwrap().register().unwrap(), ["one"]);

    let carts = tables(&nodes, Kind::Map);
    let eggs = Field { kind: Kind::Counter, name: Bytes::from("eggs") };
    for table in &carts {
        table.update("k", Update::In(eggs.clone(), Box::new(Update::Add(2)))).wait().unwrap();
    }
    let read = carts[0].get("k").wait().unwrap();
    let fields = read.fields().unwrap();
    let [(field, Crdt::Counter(counter))] = fields.as_slice() else { panic!("{fields:?}") };
    assert_eq!((*field, counter.value()), (&eggs, 6));
    carts[1].update("k", Update::RemoveField(eggs)).context(read.context()).wait().unwrap();
    assert!(carts[2].get("k").wait().unwrap().fields().unwrap().is_empty());
}

#[test]
fn each_mistake_has_its_own_error() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let tags = &tables(&nodes, Kind::Set)[0];
    let carts = nodes[0].create_table("carts", TableOptions::siblings().replicas(3)).unwrap();
    let wrong = |outcome| matches!(outcome, Err(WriteError::Update(UpdateRefused::WrongKind(Kind::Set))));
    assert!(wrong(tags.increment("k", 1).wait()));
    assert!(wrong(
        tags.update("k", Update::In(Field { kind: Kind::Set, name: Bytes::new() }, Box::new(Update::Clear))).wait()
    ));
    assert!(matches!(tags.put("k", "v").wait(), Err(WriteError::WrongTable { rule: Rule::Crdt(Kind::Set) })));
    assert!(matches!(carts.insert("k", "v").wait(), Err(WriteError::WrongTable { rule: Rule::Siblings })));
    assert_eq!(tags.delete("k").ttl(Duration::from_secs(1)).wait().err(), Some(WriteError::TtlOnDataType));
    assert!(matches!(tags.insert("k", vec![0; 9 << 20]).wait(), Err(WriteError::ValueTooLarge { .. })));
    assert!(matches!(tags.insert("", "v").wait(), Err(WriteError::InvalidKey(_))));
    let written = tags.insert("k", "v").wait().unwrap();
    let elsewhere = tags.remove("j", "v").context(&written.context).wait();
    assert!(matches!(elsewhere, Err(WriteError::InvalidContext(_))));
    let read = tags.get("k").wait().unwrap();
    assert_eq!(read.counter(), Err(WrongType { held: Some(Kind::Set), wanted: "counter" }));
    assert_eq!(carts.get("k").wait().unwrap().set(), Err(WrongType { held: None, wanted: "set" }));
    let expiring = TableOptions::crdt(Kind::Set).default_ttl(Duration::from_secs(1));
    let refused = nodes[0].create_table("expiring", expiring).err();
    assert_eq!(refused, Some(ClusterError::InvalidOptions(InvalidOptions::TtlOnDataType)));
    let likes = &tables(&nodes, Kind::Counter)[0];
    likes.increment("k", i64::MAX).wait().unwrap();
    let over = likes.increment("k", 1).wait();
    assert!(matches!(over, Err(WriteError::Update(UpdateRefused::Overflow(_)))), "{over:?}");
}

/// The union of carts, each a list of words.
fn union(_: &[u8], carts: &[&Bytes]) -> Bytes {
    let text: Vec<String> = carts.iter().map(|cart| String::from_utf8_lossy(cart).into_owned()).collect();
    let words: BTreeSet<&str> = text.iter().flat_map(|cart| cart.split(' ')).collect();
    words.into_iter().collect::<Vec<_>>().join(" ").into()
}

/// Readers at every node merge what they see and write it back, at once and again, while others write.
#[test]
fn siblings_that_readers_merge_and_write_back_become_one() {
    let [a, b, c] = ["bread", "eggs milk", "milk tea"].map(Bytes::from);
    assert_eq!(unfair(&union, b"cart", [&a, &b, &c]), None, "what is to converge must be fair");
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    nodes[0].create_table("carts", TableOptions::siblings().replicas(3)).unwrap();
    let carts: Vec<Table> = nodes.iter().map(|node| node.table("carts").unwrap()).collect();
    assert_eq!(carts[0].get("cart").wait().unwrap().merged(|_| panic!("nothing to merge")), None);
    for (cart, value) in carts.iter().zip([&a, &b, &c]) {
        cart.put("cart", value.to_vec()).wait().unwrap();
    }
    let read = carts[0].get("cart").wait().unwrap();
    assert_eq!(read.values().len(), 3);
    // All of them have read the same, and write it back without having seen each other's.
    let merged = read.merged(|values| union(b"cart", values)).unwrap();
    assert!(merged.is_new && merged.value == "bread eggs milk tea");
    let started: Vec<_> = carts.iter().map(|cart| cart.write_back("cart", &merged).into_future()).collect();
    carts[1].put("cart", "salt").wait().unwrap();
    for request in started {
        request.wait().unwrap();
    }
    let mut rounds = 0;
    while let read = carts[rounds % 3].get("cart").wait().unwrap()
        && let Some(merged) = read.merged(|values| union(b"cart", values))
        && merged.is_new
    {
        rounds += 1;
        assert!(rounds < 4, "it does not end");
        carts[rounds % 3].write_back("cart", &merged).wait().unwrap();
    }
    for cart in &carts {
        let read = cart.get("cart").wait().unwrap();
        assert_eq!(read.values(), ["bread eggs milk salt tea"], "nothing was lost");
        let merged = read.merged(|_| panic!("there is one value")).unwrap();
        assert!(!merged.is_new);
    }
}
