//! How a cluster is born: once, by an operator, at one node.
//!
//! 1. The founder greets everybody on the list and waits until all have answered with their storage, none of them in a
//!    cluster. Nothing is stored before.
//! 2. It stores the founding (a random cluster id, the members with their storages) and belongs to the cluster.
//! 3. It tells every member that has not heard of it, whenever they greet each other. So does every other member that has:
//!    a founder that dies half-way does no harm.
//! 4. The bootstrap is complete when every member has greeted as one of this cluster; each stores the founding durably
//!    before it does.
//!
//! A node that starts never founds a cluster, and takes a founding only when it has none (rule P2).

use kv_core::NodeId;
use kv_core::store::{Batch, Space};
use kv_core::time::Millis;

use super::{Membership, dropped, replacing, reply};
use crate::catalog::{Founding, FoundingMember};
use crate::identity::ClusterId;
use crate::machine::{Action, Environment, Notice, Origin, Stripe};
use crate::member::Member;
use crate::peers::{DropReason, Peers};
use crate::request::ClusterError;
use crate::status::Standing;
use crate::wire::Header;

/// Where the founding is stored.
pub(crate) const FOUNDING_KEY: &[u8] = b"founding";

/// A founding under way at the founder.
#[derive(Debug)]
pub(super) struct Bootstrap {
    pub(super) origin: Origin,
    pub(super) deadline: Millis,
    pub(super) members: Vec<Member>,
    pub(super) cluster: ClusterId,
    pub(super) partitions: u32,
}

impl Membership {
    pub(super) fn begin_bootstrap(&mut self, env: &Environment<'_>, mut bootstrap: Bootstrap, out: &mut Vec<Action>) {
        bootstrap.members.sort_by_key(|member| member.node);
        if let Err(error) = check(env, &bootstrap) {
            out.push(reply(bootstrap.origin, Err(error)));
            return;
        }
        if let Some(other) = self.bootstrap.take() {
            out.push(reply(other.origin, Err(ClusterError::Incomplete { missing: Vec::new() })));
        }
        out.push(Action::Notify(Notice::Peers(bootstrap.members.iter().map(Member::peer_info).collect())));
        self.bootstrap = Some(bootstrap);
        // The peers are known from the next event on; greet them then.
        self.next_hello = env.now.monotonic;
        self.advance_bootstrap(env, out);
    }

    pub(super) fn advance_bootstrap(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let Some(bootstrap) = &self.bootstrap else { return };
        let cluster = env.catalog.map_or(ClusterId::NONE, |catalog| catalog.founding().cluster);
        let others = || bootstrap.members.iter().map(|member| member.node).filter(|node| *node != env.me.node);
        let outcome = if let Some(taken) = others().find(|node| {
            self.heard.get(node).is_some_and(|(_, theirs)| *theirs != ClusterId::NONE && *theirs != cluster)
        }) {
            Err(ClusterError::MemberTaken(taken))
        } else if cluster == ClusterId::NONE {
            let missing: Vec<NodeId> = others().filter(|node| !self.heard.contains_key(node)).collect();
            if missing.is_empty() {
                let founding = self.founding(env, bootstrap);
                store(env, &founding, out);
                // From here on the next greetings carry the cluster and spread the founding.
                self.next_hello = env.now.monotonic;
                if bootstrap.members.len() > 1 {
                    return;
                }
                Ok(())
            } else if env.now.monotonic < bootstrap.deadline {
                return;
            } else {
                Err(ClusterError::Incomplete { missing })
            }
        } else {
            let missing: Vec<NodeId> =
                others().filter(|node| self.heard.get(node).is_none_or(|(_, theirs)| *theirs != cluster)).collect();
            if missing.is_empty() {
                Ok(())
            } else if env.now.monotonic < bootstrap.deadline {
                return;
            } else {
                Err(ClusterError::Incomplete { missing })
            }
        };
        out.push(reply(bootstrap.origin, outcome));
        self.bootstrap = None;
    }

    fn founding(&self, env: &Environment<'_>, bootstrap: &Bootstrap) -> Founding {
        let members = bootstrap.members.iter().map(|member| {
            let heard = self.heard.get(&member.node);
            FoundingMember::new(member.clone(), heard.map_or(env.me.incarnation, |(incarnation, _)| *incarnation))
        });
        Founding { cluster: bootstrap.cluster, epoch: 1, partitions: bootstrap.partitions, members: members.collect() }
    }
}

fn check(env: &Environment<'_>, bootstrap: &Bootstrap) -> Result<(), ClusterError> {
    let invalid = |why: String| Err(ClusterError::InvalidMembers(why));
    match env.standing {
        Standing::Quarantined | Standing::Halted => return Err(ClusterError::NotServing(env.standing)),
        Standing::Unfounded | Standing::Confirming | Standing::Serving => {}
    }
    if let Some(catalog) = env.catalog {
        // Running it again continues where it stopped.
        let known = catalog.founding().members.iter().map(|member| &member.member);
        return if known.eq(&bootstrap.members) { Ok(()) } else { Err(ClusterError::AlreadyFounded) };
    }
    if !bootstrap.members.iter().any(|member| member.node == env.me.node) {
        return invalid(format!("{} founds a cluster it is not a member of", env.me.node));
    }
    let trial = Founding {
        cluster: bootstrap.cluster,
        epoch: 1,
        partitions: bootstrap.partitions,
        members: bootstrap
            .members
            .iter()
            .map(|member| FoundingMember::new(member.clone(), env.me.incarnation))
            .collect(),
    };
    if let Err(error) = trial.lay_out(1) {
        return invalid(error.to_string());
    }
    let mut bytes = Vec::new();
    trial.encode(&mut bytes);
    match Founding::decode(&mut kv_core::codec::Reader::new(&bytes)) {
        Ok(_) => Ok(()),
        Err(error) => invalid(error.to_string()),
    }
}

impl Membership {
    /// A founding arrives.
    pub(super) fn found(&mut self, env: &Environment<'_>, header: &Header, founding: &Founding, out: &mut Vec<Action>) {
        match env.catalog {
            Some(catalog) if catalog.founding().cluster == founding.cluster => {
                return replacing::told(env, header, founding, out);
            }
            Some(_) => return out.push(dropped(DropReason::OtherCluster)),
            None => {}
        }
        let listed = founding.member(env.me.node).filter(|me| me.incarnation == env.me.incarnation);
        let by_member = founding.member(header.from).is_some_and(|from| from.incarnation == header.from_incarnation);
        // An empty storage under a listed name is in quarantine until it is to replace the one before.
        let waits =
            env.standing == Standing::Unfounded || (env.standing == Standing::Quarantined && self.replacing.is_some());
        let Some(me) = listed.filter(|_| by_member && header.cluster == founding.cluster && waits) else {
            return out.push(dropped(DropReason::Stranger));
        };
        if me.generation > 0 {
            return self.take_place(env, founding, me.generation, out);
        }
        // The next greeting comes when the others have heard of it too: who is greeted as one of the cluster counts as reachable.
        store(env, founding, out);
    }
}

/// Writes a founding to be remembered.
pub(super) fn save(founding: &Founding, batch: &mut Batch) {
    let mut bytes = Vec::new();
    founding.encode(&mut bytes);
    batch.put(Space::META, FOUNDING_KEY, &bytes);
}

fn store(env: &Environment<'_>, founding: &Founding, out: &mut Vec<Action>) {
    let mut batch = Batch::new();
    save(founding, &mut batch);
    // Until now there was nobody to hold a life against; from now on an older one is refused.
    for member in &founding.members {
        if let Some(life) = env.peers.life(member.member.node) {
            Peers::save(member.member.node, life, &mut batch);
        }
    }
    out.push(Action::Store { stripe: Stripe::META, batch });
    out.push(Action::Notify(Notice::Founded(Box::new(founding.clone()))));
}
