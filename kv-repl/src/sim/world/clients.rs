//! What clients and hosts ask of the nodes of a simulated cluster.

use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_core::time::Millis;

use super::{Answer, World};
use crate::identity::ClusterId;
use crate::inbox::Asked;
use crate::machine::Request;
use crate::member::Member;
use crate::repair_request::RepairScope;
use crate::request::{Get, Modify, Put, Write};
use crate::scan::Scan;
use crate::table_options::TableOptions;

/// One request of a batch.
#[derive(Clone, Debug)]
pub enum BatchPart {
    /// A read.
    Get(Get),
    /// A write.
    Put(Put),
}

impl World {
    /// Founds a cluster of everybody at node 1 and creates tables, without faults of the network until it is done.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn found(&mut self, tables: &[(&str, TableOptions)]) {
        self.found_in_zones(1, tables);
    }

    /// The same, with the nodes dealt out to so many zones: node 1 to zone 1, node 2 to zone 2, and around again.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn found_in_zones(&mut self, zones: u64, tables: &[(&str, TableOptions)]) {
        let rough = std::mem::take(&mut self.network.faults);
        let zone = |node: NodeId| format!("{}", (node.0 - 1) % zones + 1);
        let members: Vec<Member> =
            self.nodes().into_iter().map(|node| Member::new(node, node).zone(zone(node))).collect();
        let cluster = ClusterId(self.random.u128(1..));
        let first = NodeId(1);
        let request = Request::Bootstrap { members, cluster, partitions: 16 };
        let founding = self.ask(first, request);
        assert_eq!(self.finish(founding), Answer::Cluster(Ok(())), "a cluster without faults is founded");
        for (name, options) in tables {
            let request = Request::CreateTable { name: (*name).to_owned(), options: options.clone() };
            let creation = self.ask(first, request);
            assert_eq!(self.finish(creation), Answer::Cluster(Ok(())), "a cluster without faults creates a table");
        }
        self.network.faults = rough;
    }

    /// Creates a table at a node, and returns what came of it.
    pub fn create(&mut self, node: NodeId, name: &str, options: TableOptions) -> Answer {
        let creation = self.ask(node, Request::CreateTable { name: name.to_owned(), options });
        self.finish(creation)
    }

    /// Starts the founding of a cluster of these nodes at `founder`.
    pub fn bootstrap(&mut self, founder: NodeId, members: &[NodeId]) -> u64 {
        let members = members.iter().map(|node| Member::new(*node, node)).collect();
        let cluster = ClusterId(self.random.u128(1..));
        self.ask(founder, Request::Bootstrap { members, cluster, partitions: 16 })
    }

    /// Hands a write to a node and returns the number of the request.
    pub fn put(&mut self, node: NodeId, put: Put) -> u64 {
        self.ask(node, Request::Write(Write::Put(Box::new(put))))
    }

    /// Hands a change of a data type to a node and returns the number of the request.
    pub fn modify(&mut self, node: NodeId, modify: Modify) -> u64 {
        self.ask(node, Request::Write(Write::Modify(Box::new(modify))))
    }

    /// The same for a write that has so long.
    pub fn put_within(&mut self, node: NodeId, put: Put, patience: Millis) -> u64 {
        self.ask_within(node, Request::Write(Write::Put(Box::new(put))), patience)
    }

    /// Has a node with an empty storage replace the one that was there, and returns the number of the request.
    pub fn replace(&mut self, node: NodeId) -> u64 {
        self.ask_within(node, Request::Replace, Millis(60_000))
    }

    /// Hands a read to a node and returns the number of the request.
    pub fn get(&mut self, node: NodeId, get: Get) -> u64 {
        self.ask(node, Request::Get(get))
    }

    /// Asks a node where a key is, and returns the number of the request.
    pub fn describe(&mut self, node: NodeId, key: RecordKey) -> u64 {
        self.ask_within(node, Request::Describe(key), Millis(1_000))
    }

    /// Asks a node for a page, and returns the number of the request.
    pub(crate) fn scan(&mut self, node: NodeId, scan: Scan) -> u64 {
        self.ask(node, Request::Scan(Box::new(scan)))
    }

    /// Has a node compare what it holds with the other replicas, and returns the number of the request.
    pub fn repair(&mut self, node: NodeId, scope: RepairScope) -> u64 {
        self.ask_within(node, Request::Repair(scope), Millis(30_000))
    }

    fn ask(&mut self, node: NodeId, request: Request) -> u64 {
        self.ask_within(node, request, self.settings.deadline)
    }

    fn ask_within(&mut self, node: NodeId, request: Request, patience: Millis) -> u64 {
        self.hand_in(node, vec![request], patience)[0]
    }

    /// Hands a batch of reads and writes to a node and returns the numbers of the requests.
    pub fn batch(&mut self, node: NodeId, requests: Vec<BatchPart>) -> Vec<u64> {
        let request = |part| match part {
            BatchPart::Get(get) => Request::Get(get),
            BatchPart::Put(put) => Request::Write(Write::Put(Box::new(put))),
        };
        let requests = requests.into_iter().map(request).collect();
        self.hand_in(node, requests, self.settings.deadline)
    }

    /// Hands in one request, or several together.
    fn hand_in(&mut self, node: NodeId, requests: Vec<Request>, patience: Millis) -> Vec<u64> {
        let deadline = self.time_of(node).monotonic.saturating_add(patience);
        let first = self.next_request + 1;
        self.next_request += requests.len() as u64;
        let ids: Vec<u64> = (first..=self.next_request).collect();
        let host = self.host(node);
        if host.worker.is_none() {
            self.answers.extend(ids.iter().map(|id| (*id, Answer::Gone)));
            return ids;
        }
        let mut asked: Vec<_> =
            requests.into_iter().zip(&ids).map(|(request, id)| Asked { request, deadline, reply: *id }).collect();
        let refused = match asked.len() {
            1 => host.inbox.request(asked.remove(0)).map_err(|(asked, retry_after)| (vec![asked], retry_after)),
            _ => host.inbox.batch(asked),
        };
        match refused {
            Ok(()) => {
                host.open.extend(&ids);
                self.answers.extend(ids.iter().map(|id| (*id, Answer::Pending)));
                self.schedule_turn(node, 10);
            }
            Err((refused, retry_after)) => {
                let answers = refused.into_iter().map(|asked| (asked.reply, asked.request.overloaded(retry_after)));
                self.answers.extend(answers.map(|(id, outcome)| (id, super::answer(outcome))));
            }
        }
        ids
    }

    /// What is known of a request. One that has an outcome is forgotten.
    pub fn take(&mut self, request: u64) -> Answer {
        match self.answers.get(&request) {
            Some(Answer::Pending) => Answer::Pending,
            _ => self.answers.remove(&request).unwrap_or(Answer::Gone),
        }
    }

    /// Lets time pass until a request has its outcome.
    ///
    /// # Panics
    /// When it has none after a simulated minute.
    pub fn finish(&mut self, request: u64) -> Answer {
        let give_up = self.now_us + 60_000_000;
        loop {
            match self.take(request) {
                Answer::Pending => {
                    assert!(self.now_us < give_up, "a request without an outcome");
                    self.step();
                }
                answer => return answer,
            }
        }
    }
}
