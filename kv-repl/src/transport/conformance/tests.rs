//! The suite passes what keeps its promises, and rejects each of these that do not.

mod broken;

use std::sync::Arc;
#[cfg(feature = "tcp")]
use std::time::Duration;

use kv_core::NodeId;

use self::broken::{Fault, Flawed};
use super::{CHECKS, Hosts};
use crate::transport::{MemoryNetwork, Transport};

fn in_memory() -> impl Hosts {
    let network = MemoryNetwork::new();
    move |node: NodeId| -> (Arc<dyn Transport>, String) { (Arc::new(network.transport(node)), "in memory".to_owned()) }
}

crate::transport_conformance!(memory, super::in_memory());

#[cfg(feature = "tcp")]
fn over_tcp() -> impl Hosts {
    |node: NodeId| -> (Arc<dyn Transport>, String) {
        let transport = crate::transport::TcpTransport::bind(node, "127.0.0.1:0").expect("loopback has a free port");
        let address = transport.local_addr().to_string();
        (Arc::new(transport), address)
    }
}

#[cfg(feature = "tcp")]
crate::transport_conformance!(tcp, super::over_tcp());

/// Each loop on a thread of its host.
#[cfg(feature = "tcp")]
fn over_hosted_tcp() -> impl Hosts {
    |node: NodeId| -> (Arc<dyn Transport>, String) {
        let (transport, mut rounds) =
            crate::transport::TcpTransport::bind_hosted(node, "127.0.0.1:0", crate::transport::TcpOptions::default())
                .expect("loopback has a free port");
        std::thread::spawn(move || while rounds.round(Duration::from_secs(1)).is_continue() {});
        let address = transport.local_addr().to_string();
        (Arc::new(transport), address)
    }
}

#[cfg(feature = "tcp")]
crate::transport_conformance!(hosted_tcp, super::over_hosted_tcp());

/// A transport without faults of the same making passes, so each fault is rejected for itself.
#[test]
fn what_the_faults_are_put_into_keeps_its_promises() {
    for check in CHECKS {
        let network = MemoryNetwork::new();
        assert_eq!(check.run(&Flawed::hosts(network, None)), Ok(()), "{}", check.name);
    }
}

#[test]
fn each_fault_is_rejected_by_the_check_that_is_there_for_it() {
    let expected = [
        (Fault::Twice, "no_frame_arrives_twice"),
        (Fault::Waits, "nobody_waits_for_a_node_that_is_stuck"),
        (Fault::WaitsForTheAbsent, "nobody_waits_for_a_node_that_is_away"),
        (Fault::Cuts, "frames_arrive_as_they_were_sent"),
        (Fault::FlipsABit, "frames_arrive_as_they_were_sent"),
        (Fault::MixesUpSenders, "senders_are_told_apart"),
        (Fault::OneLane, "frames_arrive_as_they_were_sent"),
        (Fault::TakesWhatIsTooLarge, "larger_frames_are_refused_by_name"),
        (Fault::TakesWhatGoesNowhere, "an_unknown_node_is_an_error"),
        (Fault::GoesOnAfterTheEnd, "nothing_is_delivered_after_the_end"),
        (Fault::LosesAll, "peers_come_as_they_are_told"),
        (Fault::ForgetsTheTime, "turns_come_when_they_are_asked_for"),
        (Fault::SharesABuffer, "any_thread_may_send"),
        (Fault::KeepsTheFirstAddress, "a_node_that_moved_is_found_where_it_is"),
        (Fault::LosesWhatTurnsSend, "answers_leave_within_a_turn"),
        (Fault::OffersTooLittle, "frames_arrive_as_they_were_sent"),
    ];
    for check in CHECKS {
        assert!(expected.iter().any(|(_, name)| *name == check.name), "nothing is rejected by {}", check.name);
    }
    std::thread::scope(|scope| {
        for (fault, name) in expected {
            scope.spawn(move || {
                let check = CHECKS.iter().find(|check| check.name == name).expect("a check of the suite");
                let rejected = check.run(&Flawed::hosts(MemoryNetwork::new(), Some(fault)));
                assert!(rejected.is_err(), "{name} does not notice {fault:?}");
            });
        }
    });
}
