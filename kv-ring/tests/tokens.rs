//! Tokens decide where keys live, so they never change.

use kv_ring::{Layout, NodeId, PartitionId, Weight, Zone, token_of};

/// The same vectors stand beside the hash itself; here they guard what this crate exports.
#[test]
fn tokens_and_partitions_are_frozen() {
    let layout = Layout::builder(1).partitions(1024).node(NodeId(1), Weight(1), Zone::default()).build().unwrap();
    let vectors: [(&[u8], u64, u32); 4] = [
        (b"", 0x681e_facf_20b3_494f, 416),
        (b"a", 0x914d_525b_b1d2_e0e3, 581),
        (b"user:1", 0x4592_0102_b345_3c29, 278),
        (b"user:2", 0x65ab_a477_8141_0e36, 406),
    ];
    let got = vectors.map(|(key, ..)| (key, token_of(key).0, layout.partition_of(layout.token_of(key)).0));
    assert_eq!(got, vectors);
    assert_eq!(layout.partition_of(kv_ring::Token(u64::MAX)), PartitionId(1023));
}
