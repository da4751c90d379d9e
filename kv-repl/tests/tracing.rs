//! What nodes tell while they work.

#![cfg(feature = "tracing")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::cluster;
use kv_core::record::OperationId;
use kv_repl::transport::MemoryNetwork;
use kv_repl::{Consistency, TableOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// One event, with the text of each of its fields.
#[derive(Clone, Debug)]
struct Told {
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<Told>>>);

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "kv_repl"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut told = Told { level: *event.metadata().level(), fields: BTreeMap::new() };
        event.record(&mut told);
        self.0.lock().unwrap().push(told);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Listener {
    fn find(&self, wanted: &[(&str, &str)]) -> Option<Told> {
        let all = self.0.lock().unwrap();
        let has =
            |told: &&Told| wanted.iter().all(|(name, text)| told.fields.get(name).is_some_and(|value| value == text));
        all.iter().find(has).cloned()
    }
}

/// The whole process has one listener, because nodes have threads: so this is the only test here.
#[test]
fn nodes_tell_of_requests_and_of_each_other() {
    let listener = Listener::default();
    tracing::subscriber::set_global_default(listener.clone()).unwrap();
    let network = MemoryNetwork::new();
    let mut nodes = cluster(&network, 2);
    let table = nodes[0].create_table("t", TableOptions::siblings().replicas(2)).unwrap();
    table.put("secret key", "secret value").operation(OperationId(0xabc)).wait().unwrap();

    let serves = listener.find(&[("message", "a majority has confirmed the node; it serves"), ("node", "n1")]).unwrap();
    assert_eq!(serves.level, Level::INFO);
    assert!(listener.find(&[("message", "a table was added"), ("table", "t"), ("node", "n2")]).is_some());
    let operation = format!("{:?}", OperationId(0xabc));
    let asked = listener.find(&[("message", "a client asks"), ("kind", "put"), ("operation", &operation)]).unwrap();
    assert_eq!(asked.level, Level::TRACE);
    let number = asked.fields["request"].clone();
    let answered =
        listener.find(&[("message", "a client is answered"), ("node", "n1"), ("request", &number), ("outcome", "ok")]);
    assert_eq!(answered.unwrap().level, Level::DEBUG);
    assert!(listener.find(&[("message", "the turn has ended")]).is_some());

    nodes.pop().unwrap().kill();
    let refused = table.put("x", "v").consistency(Consistency::All).deadline(Duration::from_millis(100)).wait();
    let why = refused.unwrap_err().to_string();
    assert!(listener.find(&[("message", "a client is answered"), ("why", &why)]).is_some(), "{why}");
    for told in listener.0.lock().unwrap().iter() {
        assert!(!format!("{told:?}").contains("secret"), "neither keys nor values are told: {told:?}");
    }
}
