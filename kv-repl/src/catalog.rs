//! What every member knows of the cluster: who founded it with whom, and which tables there are.
//!
//! Members stay, but a member whose disk was lost may get another storage: each has a generation, which grows, and two
//! foundings that differ are joined member by member, the later generation first. Tables are only added, in one order, by the
//! member with the lowest name (the schema home), so that what a node holds is always a prefix of what the home holds.
//!
//! ```text
//! founding := format:u8 (2)  cluster:u128  epoch:varint  partitions:varint  count:varint  member*
//! member   := node:varint  incarnation:u64  generation:varint (ms)  address:prefixed  zone:prefixed  weight:varint
//! table    := format:u8 (1)  id:varint  name:prefixed  rule:u8  [kind:u8]  replicas:varint  reads:u8  writes:u8
//!             flags:u8 (1 default ttl | 4 cache | 8 sloppy)  [ttl ms:varint]
//!             [policy:u8  memory bytes:varint  ttl max ms:varint]  layout:prefixed
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::crdt::Kind;
use kv_core::evict::PolicyKind;
use kv_core::hash::{Token, seeded};
use kv_core::key::{RecordKey, TableId};
use kv_core::record::Rule;
use kv_core::time::Millis;
use kv_core::version::Incarnation;
use kv_ring::{Layout, Weight, Zone};

use crate::identity::ClusterId;
use crate::member::Member;
use crate::quorum::Consistency;
use crate::table_options::{CacheOptions, TableOptions};
use crate::transport::PeerInfo;

const FORMAT: u8 = 1;
const FOUNDING_FORMAT: u8 = 2;
/// Longest name of a table, address or zone, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Most members a founding may list.
const MEMBERS_MAX: usize = 10_000;
const LAYOUT_BYTES_MAX: usize = 4 << 20;

/// A member and its storage.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct FoundingMember {
    /// Name, address, zone and weight.
    pub member: Member,
    /// Its storage. A node with another one is not this member.
    pub incarnation: Incarnation,
    /// Zero for its first storage. For a later one, when it took the place of the one before, in milliseconds of some member's wall
    /// clock, and always later than the one before: of two that members took for the present one without knowing of each
    /// other, the later one counts.
    pub generation: u64,
}

impl FoundingMember {
    /// A member with its first storage.
    #[must_use]
    pub const fn new(member: Member, incarnation: Incarnation) -> Self {
        Self { member, incarnation, generation: 0 }
    }

    /// Which of two storages is the later one. Of two of one moment, any, but everywhere the same.
    const fn storage(&self) -> (u64, u64) {
        (self.generation, self.incarnation.0)
    }
}

/// The birth of a cluster.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Founding {
    /// Its name.
    pub cluster: ClusterId,
    /// The version of membership: one as long as each member has its first storage, and more with each that is replaced.
    pub epoch: u64,
    /// Into how many partitions the hash space of each table is cut.
    pub partitions: u32,
    /// Everybody, in the order of names.
    pub members: Vec<FoundingMember>,
}

/// A table: its options, and where its partitions lie.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct TableSchema {
    /// Its number.
    pub id: TableId,
    /// Its name.
    pub name: String,
    /// What it was created with.
    pub options: TableOptions,
    /// Which nodes hold which keys.
    pub layout: Arc<Layout>,
}

impl TableSchema {
    /// The nodes that hold the keys at `token`, the preferred one first.
    #[must_use]
    pub fn replicas_of(&self, token: Token) -> &[NodeId] {
        self.layout.replicas_of(token)
    }
}

impl Founding {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FOUNDING_FORMAT);
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        put_varint(out, self.epoch);
        put_varint(out, u64::from(self.partitions));
        put_varint(out, self.members.len() as u64);
        for FoundingMember { member, incarnation, generation } in &self.members {
            put_varint(out, member.node.0);
            out.extend_from_slice(&incarnation.0.to_le_bytes());
            put_varint(out, *generation);
            put_prefixed(out, member.address.as_bytes());
            put_prefixed(out, member.zone.name().as_bytes());
            put_varint(out, u64::from(member.weight.0));
        }
    }

    /// Reads what [`Founding::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a founding.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.u8()? != FOUNDING_FORMAT {
            return Err(reader.error("unknown format of founding"));
        }
        let cluster = ClusterId(u128::from_le_bytes(reader.array()?));
        if cluster == ClusterId::NONE {
            return Err(reader.error("a founding without a cluster"));
        }
        let epoch = reader.varint()?;
        let partitions = reader.varint32()?;
        let count = reader.count(13)?;
        if count == 0 || count > MEMBERS_MAX {
            return Err(reader.error("number of members"));
        }
        let mut members: Vec<FoundingMember> = Vec::with_capacity(count);
        for _ in 0..count {
            let node = NodeId(reader.varint()?);
            if members.last().is_some_and(|last| last.member.node >= node) {
                return Err(reader.error("members out of order"));
            }
            let incarnation = Incarnation(reader.u64()?);
            let generation = reader.varint()?;
            let address = text(reader)?;
            let zone = Zone::new(&text(reader)?);
            let weight = Weight(reader.varint32()?);
            let member = Member { node, address, zone, weight };
            members.push(FoundingMember { member, incarnation, generation });
        }
        if version_of(&members) != epoch {
            return Err(reader.error("a version that is not that of the members"));
        }
        Ok(Self { cluster, epoch, partitions, members })
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&FoundingMember> {
        self.members.binary_search_by_key(&node, |member| member.member.node).ok().map(|at| &self.members[at])
    }

    /// Puts another storage in the place of a member's present one, at this time.
    ///
    /// # Panics
    /// When there is no such member.
    pub fn succeed(&mut self, node: NodeId, incarnation: Incarnation, wall: Millis) {
        let at = self.members.binary_search_by_key(&node, |member| member.member.node).expect("a member");
        let member = &mut self.members[at];
        (member.incarnation, member.generation) = (incarnation, member.generation.saturating_add(1).max(wall.0));
        self.epoch = version_of(&self.members);
    }

    /// Learns from what another node knows of the same cluster which storages were replaced. Commutative, associative and
    /// idempotent. Returns whether anything was new.
    pub fn join(&mut self, other: &Self) -> bool {
        let is_same = self.cluster == other.cluster && self.members.len() == other.members.len();
        if !is_same {
            return false;
        }
        let mut changed = false;
        for (known, told) in self.members.iter_mut().zip(&other.members) {
            if known.member.node == told.member.node && known.storage() < told.storage() {
                (known.incarnation, known.generation) = (told.incarnation, told.generation);
                changed = true;
            }
        }
        self.epoch = version_of(&self.members);
        changed
    }

    /// The member that hands out table numbers.
    #[must_use]
    pub fn schema_home(&self) -> NodeId {
        self.members[0].member.node
    }

    /// Lays out a table of `replicas` over the members.
    ///
    /// # Errors
    /// As the ring says.
    pub fn lay_out(&self, replicas: usize) -> Result<Layout, kv_ring::LayoutError> {
        let mut builder = Layout::builder(replicas).partitions(self.partitions);
        for FoundingMember { member, .. } in &self.members {
            builder = builder.node(member.node, member.weight, member.zone.clone());
        }
        builder.build()
    }
}

/// The version of a founding with these members.
fn version_of(members: &[FoundingMember]) -> u64 {
    members.iter().fold(1, |epoch, member| epoch.saturating_add(member.generation))
}

impl TableSchema {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        put_varint(out, u64::from(self.id.0));
        put_prefixed(out, self.name.as_bytes());
        encode_options(&self.options, out);
        put_prefixed(out, &self.layout.encode());
    }

    /// Reads what [`TableSchema::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a table.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.u8()? != FORMAT {
            return Err(reader.error("unknown format of table"));
        }
        let id = TableId(reader.varint32()?);
        let name = text(reader)?;
        let options = decode_options(reader)?;
        let layout = reader.prefixed(LAYOUT_BYTES_MAX)?;
        let layout = Layout::decode(layout).map_err(|_| reader.error("layout of a table"))?;
        if layout.replication_factor() != options.replicas {
            return Err(reader.error("layout of another number of replicas"));
        }
        Ok(Self { id, name, options, layout: Arc::new(layout) })
    }
}

const HAS_TTL: u8 = 1;
const IS_CACHE: u8 = 4;
const IS_SLOPPY: u8 = 8;

/// Appends the encoding of table options.
pub(crate) fn encode_options(options: &TableOptions, out: &mut Vec<u8>) {
    out.push(match options.rule {
        Rule::Siblings => 1,
        Rule::LastWriteWins => 2,
        Rule::Crdt(_) => 3,
    });
    if let Rule::Crdt(kind) = options.rule {
        out.push(kind.code());
    }
    put_varint(out, options.replicas as u64);
    out.push(encode_consistency(options.reads));
    out.push(encode_consistency(options.writes));
    let cache = options.cache_options();
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let shape = flag(cache.is_some(), IS_CACHE) | flag(options.sloppy, IS_SLOPPY);
    out.push(flag(options.ttl.is_some(), HAS_TTL) | shape);
    if let Some(ttl) = options.ttl {
        put_varint(out, ttl.0);
    }
    if let Some(CacheOptions { policy, memory_bytes, ttl_max }) = cache {
        out.push(policy.code());
        put_varint(out, memory_bytes);
        put_varint(out, ttl_max.0);
    }
}

/// Reads what [`encode_options`] wrote.
pub(crate) fn decode_options(reader: &mut Reader<'_>) -> Result<TableOptions, DecodeError> {
    let rule = match reader.u8()? {
        1 => Rule::Siblings,
        2 => Rule::LastWriteWins,
        3 => Rule::Crdt(Kind::from_code(reader.u8()?).ok_or_else(|| reader.error("unknown kind of data type"))?),
        _ => return Err(reader.error("unknown conflict rule")),
    };
    let replicas = usize::try_from(reader.varint32()?).map_err(|_| reader.error("number of replicas"))?;
    let reads = decode_consistency(reader)?;
    let writes = decode_consistency(reader)?;
    let flags = reader.u8()?;
    if flags & !(HAS_TTL | IS_CACHE | IS_SLOPPY) != 0 {
        return Err(reader.error("unknown flags of a table"));
    }
    let ttl = if flags & HAS_TTL == 0 { None } else { Some(Millis(reader.varint()?)) };
    let (mut cache, mut memory_bytes, mut ttl_max) = (None, None, None);
    if flags & IS_CACHE != 0 {
        let policy = PolicyKind::from_code(reader.u8()?);
        cache = Some(policy.ok_or_else(|| reader.error("unknown policy of eviction"))?);
        memory_bytes = Some(reader.varint()?);
        ttl_max = Some(Millis(reader.varint()?));
    }
    let sloppy = flags & IS_SLOPPY != 0;
    let options = TableOptions { rule, replicas, ttl, reads, writes, sloppy, cache, memory_bytes, ttl_max };
    options.check().map_err(|_| reader.error("options that contradict each other"))?;
    Ok(options)
}

pub(crate) const fn encode_consistency(consistency: Consistency) -> u8 {
    match consistency {
        Consistency::One => 1,
        Consistency::Quorum => 2,
        Consistency::All => 3,
        Consistency::Two => 4,
        Consistency::Three => 5,
        Consistency::LocalOne => 6,
        Consistency::LocalQuorum => 7,
        Consistency::EachQuorum => 8,
    }
}

pub(crate) fn decode_consistency(reader: &mut Reader<'_>) -> Result<Consistency, DecodeError> {
    match reader.u8()? {
        1 => Ok(Consistency::One),
        2 => Ok(Consistency::Quorum),
        3 => Ok(Consistency::All),
        4 => Ok(Consistency::Two),
        5 => Ok(Consistency::Three),
        6 => Ok(Consistency::LocalOne),
        7 => Ok(Consistency::LocalQuorum),
        8 => Ok(Consistency::EachQuorum),
        _ => Err(reader.error("unknown consistency")),
    }
}

pub(crate) fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = reader.prefixed(NAME_BYTES_MAX)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| reader.error("text that is not UTF-8"))
}

/// The founding and the tables, as one node holds them.
#[derive(Clone, Debug)]
pub struct Catalog {
    founding: Founding,
    tables: Vec<Arc<TableSchema>>,
    by_name: BTreeMap<String, TableId>,
}

impl Catalog {
    /// A cluster without tables.
    #[must_use]
    pub const fn new(founding: Founding) -> Self {
        Self { founding, tables: Vec::new(), by_name: BTreeMap::new() }
    }

    /// The founding.
    #[must_use]
    pub const fn founding(&self) -> &Founding {
        &self.founding
    }

    /// Storages were replaced.
    pub(crate) fn refound(&mut self, founding: Founding) {
        self.founding = founding;
    }

    /// Names the storages of these replicas: one as long as each has its first, and otherwise a number that differs when any of
    /// them does. Requests carry it, and nobody answers one that was made for other storages: so no quorum counts a storage
    /// that was replaced together with replicas that know of it (rule P13).
    #[must_use]
    pub fn epoch_of(&self, replicas: &[NodeId]) -> u64 {
        if self.founding.epoch == 1 || sabotaged!(IgnoreEpochs) {
            return 1;
        }
        let later =
            replicas.iter().filter_map(|node| self.founding.member(*node)).filter(|member| member.generation > 0);
        // A sum, because not everybody lists the replicas in the order of the layout.
        later.fold(1, |epoch: u64, member| {
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&member.member.node.0.to_le_bytes());
            bytes[8..16].copy_from_slice(&member.generation.to_le_bytes());
            bytes[16..].copy_from_slice(&member.incarnation.0.to_le_bytes());
            epoch.wrapping_add(seeded(&bytes, 1))
        })
    }

    /// The same for the replicas of a key; zero for one of no table.
    #[must_use]
    pub fn epoch_of_key(&self, key: &RecordKey) -> u64 {
        self.table(key.table()).map_or(0, |table| self.epoch_of(table.replicas_of(key.token())))
    }

    /// The tables in the order of their numbers.
    #[must_use]
    pub fn tables(&self) -> &[Arc<TableSchema>] {
        &self.tables
    }

    /// How many tables there are; also the highest table number.
    #[must_use]
    pub fn version(&self) -> u32 {
        u32::try_from(self.tables.len()).expect("table numbers are 32 bits")
    }

    /// Adds the next table.
    ///
    /// # Panics
    /// When it is not the next one.
    pub fn add(&mut self, table: Arc<TableSchema>) {
        assert_eq!(table.id, self.next_id(), "tables are added in the order of their numbers");
        self.by_name.insert(table.name.clone(), table.id);
        self.tables.push(table);
    }

    /// The number of the next table.
    #[must_use]
    pub fn next_id(&self) -> TableId {
        TableId(self.version() + 1)
    }

    /// The table of that number.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<&Arc<TableSchema>> {
        self.tables.get(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    /// The table of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.table(*self.by_name.get(name)?)
    }

    /// Every member and where it is.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.founding.members.iter().map(|member| member.member.peer_info()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options_of(bytes: &[u8]) -> Result<TableOptions, DecodeError> {
        decode_options(&mut Reader::new(bytes))
    }

    #[test]
    fn options_of_every_rule_come_back() {
        let kinds = Kind::ALL.map(TableOptions::crdt);
        let last_writes = TableOptions::last_write_wins().default_ttl(std::time::Duration::from_secs(9));
        let cache =
            |policy| TableOptions::cache(policy).memory_bytes(1 << 20).ttl_max(std::time::Duration::from_secs(9));
        let caches = PolicyKind::ALL.map(cache);
        let sloppy = [TableOptions::siblings().sloppy(), last_writes.clone().sloppy()];
        for options in [TableOptions::siblings(), last_writes].into_iter().chain(kinds).chain(caches).chain(sloppy) {
            let mut bytes = Vec::new();
            encode_options(&options, &mut bytes);
            assert_eq!(options_of(&bytes).as_ref(), Ok(&options));
            for at in 0..bytes.len() {
                assert!(options_of(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn an_epoch_names_the_storages_of_replicas_in_any_order() {
        let member = |node| FoundingMember::new(Member::new(NodeId(node), "a"), Incarnation(node));
        let members = (1..=4).map(member).collect();
        let mut founding = Founding { cluster: ClusterId(1), epoch: 1, partitions: 1, members };
        let epoch = |founding: &Founding, nodes: [u64; 3]| Catalog::new(founding.clone()).epoch_of(&nodes.map(NodeId));
        assert_eq!(epoch(&founding, [1, 2, 3]), 1);
        founding.succeed(NodeId(1), Incarnation(10), Millis(5));
        assert_eq!(epoch(&founding, [2, 3, 4]), 1, "none of these was replaced");
        let once = epoch(&founding, [1, 2, 3]);
        founding.succeed(NodeId(2), Incarnation(20), Millis(6));
        let twice = epoch(&founding, [1, 2, 3]);
        assert!(once != 1 && twice != 1 && once != twice);
        for order in [[1, 3, 2], [2, 1, 3], [3, 2, 1]] {
            assert_eq!(epoch(&founding, order), twice);
        }
    }

    #[test]
    fn foundings_are_joined_in_any_order() {
        let member = |node| FoundingMember::new(Member::new(NodeId(node), "a"), Incarnation(node));
        let first = Founding { cluster: ClusterId(1), epoch: 1, partitions: 1, members: (1..=2).map(member).collect() };
        let told = [(1, 10, 5), (1, 11, 5), (1, 12, 3), (2, 20, 9)].map(|(node, incarnation, wall)| {
            let mut founding = first.clone();
            founding.succeed(NodeId(node), Incarnation(incarnation), Millis(wall));
            founding
        });
        let join = |order: [usize; 5]| {
            let mut founding = first.clone();
            order.into_iter().for_each(|which| {
                founding.join(&told[which]);
            });
            founding
        };
        let all = join([0, 1, 2, 3, 0]);
        assert_eq!(
            all.members[0].incarnation,
            Incarnation(11),
            "of one moment the larger one, and none of an earlier moment"
        );
        assert_eq!((all.members[1].incarnation, all.epoch), (Incarnation(20), 1 + 5 + 9));
        for order in [[3, 2, 1, 0, 1], [1, 0, 3, 2, 2], [2, 3, 0, 1, 3]] {
            assert_eq!(join(order), all);
        }
        let stranger = Founding { cluster: ClusterId(2), ..told[0].clone() };
        assert!(!first.clone().join(&stranger), "of another cluster");
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let mut bytes = Vec::new();
        encode_options(&TableOptions { ttl: Some(Millis(5)), ..TableOptions::crdt(Kind::Set) }, &mut bytes);
        assert!(options_of(&bytes).is_err(), "values of data types do not expire");
        let wrong_rule = TableOptions { rule: Rule::Siblings, ..TableOptions::cache(PolicyKind::Lru) };
        let wrong_rule = wrong_rule.ttl_max(std::time::Duration::from_secs(1));
        assert!(wrong_rule.check().is_err(), "a cache of siblings");
        let mut unknown = Vec::new();
        encode_options(&TableOptions::crdt(Kind::Set), &mut unknown);
        unknown[1] = 99;
        assert!(options_of(&unknown).is_err(), "an unknown kind");
    }
}
