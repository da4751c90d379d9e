//! What every transport must do, whatever it is made of. Feature `conformance`.
//!
//! [`transport_conformance!`](crate::transport_conformance) makes a module of tests out of anything that opens transports;
//! [`CHECKS`] are the same checks as values. Each check opens nodes of its own, so they may run side by side.
//!
//! The suite asks for no more than [`Transport`] promises: frames may be lost and reordered, so it sends until one arrives
//! and counts none that did not. But whatever is delivered must be what was sent, whole, from the right sender, on the
//! right lane, to the right node and once; no call may wait; and nobody may suffer for a node that is away or does not keep
//! up. What a transport shows under load, and what it costs, is for tests of its own.

mod delivery;
mod isolation;
mod lifecycle;
mod probe;
mod sample;

use std::fmt;
use std::sync::Arc;

use kv_core::NodeId;

use super::Transport;

/// Where the suite gets transports from. A closure will do.
pub trait Hosts: Send + Sync {
    /// A transport for `node` that nobody has attached to yet, and the address that its peers are told. Asked again for a
    /// node that was detached, it gives a transport for that node's next life, at the same address or another one.
    fn open(&self, node: NodeId) -> (Arc<dyn Transport>, String);
}

impl<F: Fn(NodeId) -> (Arc<dyn Transport>, String) + Send + Sync> Hosts for F {
    fn open(&self, node: NodeId) -> (Arc<dyn Transport>, String) {
        self(node)
    }
}

/// One promise of [`Transport`], and how it is tried.
#[derive(Copy, Clone)]
pub struct Check {
    /// What is promised.
    pub name: &'static str,
    run: fn(&dyn Hosts) -> Result<(), String>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

impl Check {
    /// Tries it with transports of `hosts`. Takes a second or so, and up to half a minute when something never happens.
    ///
    /// # Errors
    /// What the transport did instead of what it promises.
    pub fn run(&self, hosts: &dyn Hosts) -> Result<(), String> {
        (self.run)(hosts)
    }
}

/// All of the suite.
pub const CHECKS: &[Check] = &[
    Check { name: "frames_arrive_as_they_were_sent", run: delivery::frames_arrive_as_they_were_sent },
    Check { name: "larger_frames_are_refused_by_name", run: delivery::larger_frames_are_refused_by_name },
    Check { name: "senders_are_told_apart", run: delivery::senders_are_told_apart },
    Check { name: "no_frame_arrives_twice", run: delivery::no_frame_arrives_twice },
    Check { name: "any_thread_may_send", run: delivery::any_thread_may_send },
    Check { name: "nobody_waits_for_a_node_that_is_away", run: isolation::nobody_waits_for_a_node_that_is_away },
    Check { name: "nobody_waits_for_a_node_that_is_stuck", run: isolation::nobody_waits_for_a_node_that_is_stuck },
    Check { name: "an_unknown_node_is_an_error", run: isolation::an_unknown_node_is_an_error },
    Check { name: "peers_come_as_they_are_told", run: lifecycle::peers_come_as_they_are_told },
    Check { name: "a_node_that_moved_is_found_where_it_is", run: lifecycle::a_node_that_moved_is_found_where_it_is },
    Check { name: "nothing_is_delivered_after_the_end", run: lifecycle::nothing_is_delivered_after_the_end },
    Check { name: "answers_leave_within_a_turn", run: lifecycle::answers_leave_within_a_turn },
    Check { name: "turns_come_when_they_are_asked_for", run: lifecycle::turns_come_when_they_are_asked_for },
];

/// Makes a module of tests: the promises of [`Transport`](crate::transport::Transport), each tried on transports that the
/// expression opens. It is a [`Hosts`](crate::transport::conformance::Hosts), for example a closure.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use kv_repl::NodeId;
/// use kv_repl::transport::{MemoryNetwork, Transport};
///
/// fn hosts() -> impl Fn(NodeId) -> (Arc<dyn Transport>, String) {
///     let network = MemoryNetwork::new();
///     move |node| (Arc::new(network.transport(node)), node.to_string())
/// }
///
/// kv_repl::transport_conformance!(in_memory, super::hosts());
/// ```
#[macro_export]
macro_rules! transport_conformance {
    ($module:ident, $hosts:expr) => {
        mod $module {
            $crate::transport_conformance!(@tests $hosts,
                frames_arrive_as_they_were_sent,
                larger_frames_are_refused_by_name,
                senders_are_told_apart,
                no_frame_arrives_twice,
                any_thread_may_send,
                nobody_waits_for_a_node_that_is_away,
                nobody_waits_for_a_node_that_is_stuck,
                an_unknown_node_is_an_error,
                peers_come_as_they_are_told,
                a_node_that_moved_is_found_where_it_is,
                nothing_is_delivered_after_the_end,
                answers_leave_within_a_turn,
                turns_come_when_they_are_asked_for,
            );
        }
    };
    (@tests $hosts:expr, $($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                $crate::transport::conformance::check(stringify!($name), &$hosts);
            }
        )*

        /// The tests above are all there is.
        #[test]
        fn nothing_is_left_out() {
            let tests = [$(stringify!($name)),*];
            let checks = $crate::transport::conformance::CHECKS.iter().map(|check| check.name);
            assert!(checks.eq(tests), "the macro and the suite list the same checks");
        }
    };
}

/// What the macro's tests call.
///
/// # Panics
/// When the promise of that name is broken, with what was seen.
#[doc(hidden)]
pub fn check(name: &str, hosts: &dyn Hosts) {
    let check =
        CHECKS.iter().find(|check| check.name == name).expect("the macro and the list are made of the same names");
    if let Err(what) = check.run(hosts) {
        panic!("{name}: {what}");
    }
}

#[cfg(test)]
mod tests;
