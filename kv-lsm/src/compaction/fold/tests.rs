use kv_core::store::Corrupt;

use super::*;

/// Concatenates; a partial result is in brackets, a complete one in braces.
struct Show;

impl MergeOperator for Show {
    fn fold(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        if oldest_first.contains(&&b"bad"[..]) {
            return Err(Corrupt::new("bad"));
        }
        let (open, close) = if how == Fold::Partial { (b'[', b']') } else { (b'{', b'}') };
        out.push(open);
        out.extend_from_slice(base.unwrap_or(b"-"));
        oldest_first.iter().for_each(|operand| out.extend_from_slice(operand));
        out.push(close);
        Ok(if oldest_first.contains(&&b"x"[..]) { Folded::Absent } else { Folded::Value })
    }
}

/// Versions as `5=v` (put), `5+v` (merge), `5-` (delete), newest first.
fn fold(versions: &[&str], covering: &[u64], boundaries: &[u64], bottom: bool, operator: bool) -> Vec<String> {
    let mut key = KeyVersions::default();
    for version in versions {
        let at = version.find(['=', '+', '-']).unwrap();
        let kind = match version.as_bytes()[at] {
            b'=' => Kind::Put,
            b'+' => Kind::Merge,
            _ => Kind::Delete,
        };
        key.push(Trailer::new(version[..at].parse().unwrap(), kind), &version.as_bytes()[at + 1..]);
    }
    let operator: Option<Arc<dyn MergeOperator>> = if operator { Some(Arc::new(Show)) } else { None };
    let boundaries = boundaries.iter().map(|&sequence| Moment { sequence, as_of: Millis(1) }).collect();
    let rules = FoldRules { boundaries, operator };
    let mut kept = Vec::new();
    fold_key(b"k", &key, covering, &rules, &|| bottom, &mut |trailer, value| {
        let sign = match trailer.kind() {
            Kind::Put => '=',
            Kind::Merge => '+',
            Kind::Delete => '-',
        };
        kept.push(format!("{}{sign}{}", trailer.sequence(), String::from_utf8_lossy(value)));
        Ok::<(), ()>(())
    })
    .unwrap();
    kept
}

#[test]
fn lesson_51_each_interval_between_snapshots_keeps_its_newest() {
    let versions = ["9=i", "8=h", "6=f", "5=e", "3=c", "2=b"];
    assert_eq!(fold(&versions, &[], &[9], false, true), ["9=i"]);
    assert_eq!(fold(&versions, &[], &[5, 9], false, true), ["9=i", "5=e"]);
    assert_eq!(fold(&versions, &[], &[2, 4, 7, 100], false, true), ["9=i", "6=f", "3=c", "2=b"]);
}

#[test]
fn engine_rule_10_operands_fold_only_where_nothing_can_come_between() {
    // No base and something older may exist: one operand, at the highest number.
    assert_eq!(fold(&["7+c", "5+b", "3+a"], &[], &[9], false, true), ["7+[-abc]"]);
    // Never across a snapshot.
    assert_eq!(fold(&["7+c", "5+b", "3+a"], &[], &[5, 9], false, true), ["7+c", "5+[-ab]"]);
    // merge@3, delete_range@5, merge@7: folding 3 and 7 would revive 3.
    assert_eq!(fold(&["7+c", "3+a"], &[5], &[9], false, true), ["7={-c}"]);
    assert_eq!(fold(&["7+c", "3+a"], &[5], &[4, 9], false, true), ["7={-c}", "3+a"]);
    assert_eq!(
        fold(&["7+c", "6+b", "3+a"], &[5], &[5, 9], false, true),
        ["7+[-bc]"],
        "the range is in the older interval"
    );
    // A base, or the bottom, completes.
    assert_eq!(fold(&["7+c", "5+b", "3=a"], &[], &[9], false, true), ["7={abc}"]);
    assert_eq!(fold(&["7+c", "5-", "3=a"], &[], &[9], false, true), ["7={-c}"]);
    assert_eq!(fold(&["7+c", "5+b"], &[], &[9], true, true), ["7={-bc}"]);
    assert_eq!(fold(&["7+c", "5+b"], &[], &[5, 9], true, true), ["7+c", "5={-b}"]);
}

#[test]
fn without_an_operator_or_its_consent_operands_are_kept() {
    assert_eq!(fold(&["7+c", "5+b", "3=a", "2=z"], &[], &[9], true, false), ["7+c", "5+b", "3=a"]);
    assert_eq!(fold(&["7+c", "5+bad", "3=a", "2=z"], &[], &[9], true, true), ["7+c", "5+bad", "3=a"]);
    assert_eq!(fold(&["7+x", "5+b"], &[], &[9], false, true), ["7+x", "5+b"], "a partial fold may not say absent");
}

#[test]
fn deletes_go_only_where_nothing_older_lies_under_them() {
    assert_eq!(fold(&["7-", "5=a"], &[], &[9], false, true), ["7-"]);
    assert_eq!(fold(&["7-", "5=a"], &[], &[9], true, true), [""; 0]);
    assert_eq!(fold(&["7-", "5=a"], &[], &[6, 9], true, true), ["7-", "5=a"]);
    assert_eq!(fold(&["8=b", "7-", "5-"], &[], &[5, 7, 9], true, true), ["8=b"]);
    assert_eq!(fold(&["7+x", "5=a"], &[], &[9], false, true), ["7-"], "an absent fold is a delete …");
    assert_eq!(fold(&["7+x", "5=a"], &[], &[9], true, true), [""; 0], "… and goes like one");
}

#[test]
fn deleted_ranges_hide_what_is_older_in_their_interval() {
    assert_eq!(fold(&["7=c", "5=b", "3=a"], &[6], &[9], false, true), ["7=c"]);
    assert_eq!(fold(&["5=b", "3=a"], &[6], &[9], false, true), [""; 0]);
    assert_eq!(fold(&["5=b", "3=a"], &[6], &[4, 9], false, true), ["3=a"]);
    assert_eq!(fold(&["5=b", "3=a"], &[8, 4], &[3, 9], false, true), ["3=a"]);
}
