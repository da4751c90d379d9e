//! What the clients of a run have in common: each has one operation under way at a time, and notes what comes of it.

use kv_core::NodeId;

use super::world::{Answer, World};

/// What a client waits for, if it does: the number of the request, and what it was for.
pub(super) type UnderWay<D> = Option<(u64, D)>;

/// Clients of one sort.
pub(super) trait Clients {
    /// What one of them does.
    type Doing;

    /// How many there are.
    fn clients(&self) -> usize;

    /// What one of them waits for.
    fn under_way(&mut self, client: usize) -> &mut UnderWay<Self::Doing>;

    /// What one of them begins, if it begins anything.
    fn begin(&mut self, world: &mut World, client: usize) -> UnderWay<Self::Doing>;

    /// Notes what has come of an operation.
    fn finished(&mut self, world: &World, client: usize, doing: Self::Doing, answer: &Answer);

    /// Lets a client look for the outcome of its operation, or begin another one.
    fn attend(&mut self, world: &mut World, client: usize) {
        match self.under_way(client).take() {
            Some((request, doing)) => match world.take(request) {
                Answer::Pending => *self.under_way(client) = Some((request, doing)),
                answer => self.finished(world, client, doing, &answer),
            },
            None => *self.under_way(client) = self.begin(world, client),
        }
    }

    /// Notes outcomes without beginning anything. Returns whether somebody still waits.
    fn drain(&mut self, world: &mut World) -> bool {
        for client in 0..self.clients() {
            if self.under_way(client).is_some() {
                self.attend(world, client);
            }
        }
        (0..self.clients()).any(|client| self.under_way(client).is_some())
    }
}

/// The nodes that are up.
pub(super) fn all_up(world: &World) -> Vec<NodeId> {
    world.nodes().into_iter().filter(|node| world.is_up(*node)).collect()
}

/// A node that is up, if any is.
pub(super) fn any_up(world: &mut World) -> Option<NodeId> {
    let up = all_up(world);
    (!up.is_empty()).then(|| up[world.random.usize(..up.len())])
}

/// One of so many keys: any, or, in spells, one of the third whose turn it is.
pub(super) fn choose_key(world: &mut World, keys: usize, spell_ms: u64) -> usize {
    let key = world.random.usize(..keys);
    match (world.now_us() / 1000).checked_div(spell_ms) {
        None => key,
        Some(spell) => {
            let turn = usize::try_from(spell % 3).expect("less than three");
            Some(key - key % 3 + turn).filter(|key| *key < keys).unwrap_or(key)
        }
    }
}

/// Whether a spell is in its last third, in which most writes are deletes.
pub(super) fn is_late(world: &World, spell_ms: u64) -> bool {
    (world.now_us() / 1000).checked_rem(spell_ms).is_some_and(|since| since > spell_ms / 3 * 2)
}
