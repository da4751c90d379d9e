//! The transport of `docs/transport.md` keeps every promise, and is the one that the page shows.
#![cfg(unix)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_examples::unix_transport::UnixTransport;
use kv_repl::NodeId;
use kv_repl::transport::Transport;

fn hosts() -> impl Fn(NodeId) -> (Arc<dyn Transport>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let lives = AtomicU64::new(0);
    move |node| {
        let life = lives.fetch_add(1, Ordering::Relaxed);
        let path = directory.path().join(format!("{node}-{life}"));
        let transport = UnixTransport::bind(node, &path).expect("a socket");
        (Arc::new(transport), path.to_string_lossy().into_owned())
    }
}

kv_repl::transport_conformance!(unix_sockets, super::hosts());

#[test]
fn the_page_shows_the_code_that_is_tested() {
    let code = include_str!("../src/unix_transport.rs");
    let code = &code[code.find("use std").expect("imports")..];
    assert!(include_str!("../../docs/transport.md").contains(code), "docs/transport.md shows other code");
    let lines = code.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//"));
    let lines = lines.count();
    assert!(lines <= 80, "eighty lines, not {lines}");
}
