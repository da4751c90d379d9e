//! The versions of a memtable in order: a B+tree with one writer at a time, and readers who take no lock and are never held
//! up.
//!
//! - Entries lie in leaves of [`node::WIDTH`], each as eight bytes of its key and the place of its record. Those eight bytes
//!   stand behind what all keys between the node's fences begin with, so that they tell most keys apart and a search touches
//!   one record or none (prefix B-trees: Bayer and Unterauer 1977; normalised heads: Graefe and Larson, "B-tree indexes and
//!   CPU caches", ICDE 2001).
//! - A reader goes down with optimistic lock coupling (Leis et al., "The ART of practical synchronization", DaMoN 2016):
//!   it looks at a child before it makes sure that the parent is still what it was.
//! - A full node is replaced by two new ones, which one change of the parent puts in its place. The old one is retired:
//!   readers in it start again.
//!
//! Nothing is ever removed. Nodes and records live as long as the tree.

mod insert;
mod node;
mod run;

pub(super) use run::Run;

use std::cmp::Ordering as Order;
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use super::arena::{ChunkPool, Record, RecordAt};
use super::sync::{AtomicPtr, AtomicU64, Ordering, spin_loop};
use crate::internal_key::Trailer;
use insert::Writer;
use node::{Inner, Node, Seen};

/// A place in the order of versions: those of a space, by key, newest first.
#[derive(Copy, Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) space: u32,
    pub(super) key: &'a [u8],
    pub(super) trailer: Trailer,
}

impl<'a> Place<'a> {
    pub(super) const fn of(record: &Record<'a>) -> Self {
        Self { space: record.space, key: record.key, trailer: record.trailer }
    }

    /// Eight bytes of what versions are ordered by first, the space as four big-endian bytes and then the key, from `skip`
    /// on, as a big-endian number and filled up with zeros: of two places that agree before `skip`, and whose heads differ,
    /// the order is that of the heads.
    fn head(&self, skip: usize) -> u64 {
        let mut bytes = [0; 8];
        let (mut at, mut skip) = (0, skip);
        if skip < 4 {
            at = 4 - skip;
            bytes[..at].copy_from_slice(&self.space.to_be_bytes()[skip..]);
            skip = 4;
        }
        let rest = self.key.get(skip - 4..).unwrap_or_default();
        if let (0, Some(whole)) = (at, rest.first_chunk::<8>()) {
            return u64::from_be_bytes(*whole);
        }
        let taken = rest.len().min(8 - at);
        bytes[at..at + taken].copy_from_slice(&rest[..taken]);
        u64::from_be_bytes(bytes)
    }

    fn cmp(&self, other: &Place<'_>) -> Order {
        let by_keys = self.space.cmp(&other.space).then_with(|| self.key.cmp(other.key));
        by_keys.then_with(|| other.trailer.cmp(&self.trailer))
    }

    /// How many bytes, of the space and then of the key, two places have in common.
    fn common(&self, other: &Place<'_>) -> usize {
        let (a, b) = (self.space.to_be_bytes(), other.space.to_be_bytes());
        let equal = |(a, b): &(&u8, &u8)| a == b;
        match a.iter().zip(&b).take_while(equal).count() {
            4 => 4 + self.key.iter().zip(other.key).take_while(equal).count(),
            fewer => fewer,
        }
    }
}

/// The root's address, and in the lowest bits, which are free because of its alignment, how many levels lie below it.
struct Root(AtomicPtr<Node>);

const HEIGHT_MASK: usize = align_of::<Node>() - 1;

impl Root {
    fn new(root: NonNull<Node>) -> Self {
        Self(AtomicPtr::new(root.as_ptr()))
    }

    fn load(&self) -> (*mut Node, usize) {
        let tagged = self.0.load(Ordering::Acquire);
        (tagged.map_addr(|address| address & !HEIGHT_MASK), tagged.addr() & HEIGHT_MASK)
    }

    fn store(&self, root: *mut Node, height: usize) {
        assert!(height <= HEIGHT_MASK, "a tree that high would not fit any memory");
        self.0.store(root.map_addr(|address| address | height), Ordering::Release);
    }
}

pub(super) struct Tree {
    root: Root,
    /// Of records and nodes.
    bytes: AtomicU64,
    writer: Mutex<Writer>,
}

// SAFETY: the pointers of the tree and of its nodes lead to nodes that the tree owns, through its writer, and that are shared
// as atomics only.
unsafe impl Send for Tree {}
// SAFETY: as above.
unsafe impl Sync for Tree {}

/// Which of several children a walk takes.
#[derive(Copy, Clone)]
enum Toward<'a> {
    /// The one where the place is, or would be.
    At(Place<'a>),
    /// The one that holds the last version before the place.
    Before(Place<'a>),
    /// The last one.
    End,
}

/// Versions that a walk found, in its order. Fewer than there is room for mean that the leaf ended.
struct Found<const ROOM: usize> {
    records: [Option<RecordAt>; ROOM],
    count: usize,
    /// In the walk's direction: where the leaf ends, when there is more behind it.
    fence: Option<RecordAt>,
}

impl Tree {
    pub(super) fn new(pool: Arc<ChunkPool>) -> Self {
        let mut writer = Writer::new(pool);
        let root = writer.new_leaf();
        Self { root: Root::new(root), bytes: AtomicU64::new(0), writer: Mutex::new(writer) }
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn record(&self, at: RecordAt) -> Record<'_> {
        // SAFETY: all that the tree's cells hold was made by the arena of its writer, which lives as long as the tree.
        unsafe { at.record() }
    }

    fn place(&self, at: RecordAt) -> Place<'_> {
        Place::of(&self.record(at))
    }

    fn node(&self, node: *mut Node) -> Option<&Node> {
        // SAFETY: null, or a node that the tree owns: nodes are freed with the tree.
        unsafe { node.as_ref() }
    }

    /// A node that is known to have children.
    ///
    /// # Safety
    /// `node` came out of the root or a cell of the tree and does not stand at the height of a leaf.
    unsafe fn inner(&self, node: *mut Node) -> &Inner {
        // SAFETY: then it is the first field of an `Inner` of the tree's own, and the address of the whole.
        unsafe { &*node.cast::<Inner>() }
    }

    /// Position of the first entry, from `first` on, that is not before `place`, or, with `past_equal`, that is behind it.
    fn search(&self, seen: Seen<'_>, first: usize, place: &Place<'_>, past_equal: bool) -> usize {
        let head = place.head(seen.skip());
        let (mut low, mut high) = (first, seen.count().max(first));
        while low < high {
            let middle = usize::midpoint(low, high);
            let order = seen.head(middle).cmp(&head).then_with(|| match seen.record(middle) {
                Some(record) => self.place(record).cmp(place),
                // Not current any more, as the caller will find.
                None => Order::Equal,
            });
            if order.is_lt() || (past_equal && order.is_eq()) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn child_position(&self, seen: Seen<'_>, toward: Toward<'_>) -> usize {
        let behind = match toward {
            Toward::At(place) => self.search(seen, 1, &place, true),
            Toward::Before(place) => self.search(seen, 1, &place, false),
            Toward::End => seen.count().max(1),
        };
        behind - 1
    }

    /// The leaf in one direction, as it is now.
    fn leaf(&self, toward: Toward<'_>) -> Seen<'_> {
        loop {
            if let Some(leaf) = self.try_leaf(toward) {
                return leaf;
            }
            spin_loop();
        }
    }

    fn try_leaf(&self, toward: Toward<'_>) -> Option<Seen<'_>> {
        let (root, height) = self.root.load();
        let mut at = root;
        let mut seen = self.node(at)?.look();
        // The root may have been replaced, retired and used again before it was looked at.
        if self.root.load() != (root, height) {
            return None;
        }
        for _ in 0..height {
            // SAFETY: `at` is the root or the child of a node that was as it should be, and not as deep as a leaf.
            let inner = unsafe { self.inner(at) };
            at = inner.child(seen, self.child_position(seen, toward));
            let child = self.node(at)?.look();
            // Only a parent that still is what it was says that this is its child, and not another node by now.
            if !seen.is_current() {
                return None;
            }
            seen = child;
        }
        Some(seen)
    }

    /// The versions at and behind a place, as far as one leaf and the room go.
    fn at<const ROOM: usize>(&self, place: &Place<'_>) -> Found<ROOM> {
        loop {
            let leaf = self.leaf(Toward::At(*place));
            let from = self.search(leaf, 0, place, false);
            let mut found = Found { records: [None; ROOM], count: 0, fence: leaf.fences().upper };
            for position in from..leaf.count().min(from + ROOM) {
                found.records[found.count] = leaf.record(position);
                found.count += 1;
            }
            if leaf.is_current() {
                return found;
            }
            spin_loop();
        }
    }

    /// The versions before a place, or the last ones, going down, as far as one leaf and the room go.
    fn before<const ROOM: usize>(&self, place: Option<&Place<'_>>) -> Found<ROOM> {
        loop {
            let leaf = self.leaf(place.map_or(Toward::End, |place| Toward::Before(*place)));
            let end = place.map_or(leaf.count(), |place| self.search(leaf, 0, place, false));
            let mut found = Found { records: [None; ROOM], count: 0, fence: leaf.fences().lower };
            for position in (end.saturating_sub(ROOM)..end).rev() {
                found.records[found.count] = leaf.record(position);
                found.count += 1;
            }
            if leaf.is_current() {
                return found;
            }
            spin_loop();
        }
    }

    /// Calls `each` with the versions of one key at and behind `place`, newest first, until it breaks.
    pub(super) fn of_key(&self, place: Place<'_>, each: &mut dyn FnMut(Trailer, &[u8]) -> ControlFlow<()>) {
        const ROOM: usize = 4;
        let mut next = place;
        loop {
            let found = self.at::<ROOM>(&next);
            let mut last = None;
            for record in found.records.iter().flatten().map(|&at| self.record(at)) {
                if record.space != place.space
                    || record.key != place.key
                    || each(record.trailer, record.value).is_break()
                {
                    return;
                }
                last = Some(record.trailer);
            }
            next = match (found.count == ROOM, last, found.fence) {
                // The place right behind a version is that of the version one older: sequence numbers begin at one.
                (true, Some(last), _) => Place { trailer: last.just_older(), ..place },
                (_, _, Some(fence)) => self.place(fence),
                _ => return,
            };
            if next.space != place.space || next.key != place.key {
                return;
            }
        }
    }

    /// Appends at most `count` versions to `out`: those at and behind a place, ascending. Behind the last of the place's space
    /// there may be some of others: to see that, each record would have to be waited for, though most are not looked at.
    fn collect_from(&self, place: Place<'_>, count: usize, out: &mut Vec<RecordAt>) {
        const ROOM: usize = 64;
        let mut next = place;
        let full = out.len() + count;
        loop {
            let found = self.at::<ROOM>(&next);
            for &at in found.records.iter().flatten() {
                if out.len() == full {
                    return;
                }
                at.prefetch();
                out.push(at);
            }
            if out.len() == full {
                return;
            }
            next = match (found.count == ROOM, out.last(), found.fence) {
                (true, Some(&last), _) => {
                    let last = self.place(last);
                    Place { trailer: last.trailer.just_older(), ..last }
                }
                (_, _, Some(fence)) => self.place(fence),
                _ => return,
            };
            if next.space != place.space {
                return;
            }
        }
    }

    /// Appends at most `count` versions to `out`: those before `place`, or the last ones of `space`, descending. Behind the
    /// first of the space there may be some of others.
    fn collect_before(&self, space: u32, place: Option<Place<'_>>, count: usize, out: &mut Vec<RecordAt>) {
        const ROOM: usize = 64;
        let behind_space = space.checked_add(1).map(|space| Place { space, key: &[], trailer: Trailer::NEWEST });
        let mut next = place.or(behind_space);
        let full = out.len() + count;
        loop {
            let found = self.before::<ROOM>(next.as_ref());
            for &at in found.records.iter().flatten() {
                if out.len() == full {
                    return;
                }
                at.prefetch();
                out.push(at);
            }
            if out.len() == full {
                return;
            }
            next = match (found.count == ROOM, out.last(), found.fence) {
                (true, Some(&last), _) => Some(self.place(last)),
                (_, _, Some(fence)) => Some(self.place(fence)),
                _ => return,
            };
            if out.last().is_some_and(|&last| self.record(last).space != space) {
                return;
            }
        }
    }

    /// The spaces that have versions, ascending.
    pub(super) fn spaces(&self) -> Vec<u32> {
        let mut spaces = Vec::new();
        let mut next = Some(0);
        while let Some(space) = next {
            // A leaf may be empty behind a place, so its fence is followed.
            let mut place = Place { space, key: &[], trailer: Trailer::NEWEST };
            let found = loop {
                let found = self.at::<1>(&place);
                match (found.records[0], found.fence) {
                    (None, Some(fence)) => place = self.place(fence),
                    (record, _) => break record,
                }
            };
            let Some(record) = found else { break };
            let space = self.record(record).space;
            spaces.push(space);
            next = space.checked_add(1);
        }
        spaces
    }
}

#[cfg(all(test, loom))]
mod interleavings;
#[cfg(all(test, not(loom)))]
mod tests;
