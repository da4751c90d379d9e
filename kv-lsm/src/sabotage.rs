//! Switches that break single rules, to prove that the battery which guards a rule can fail, and places where it may let
//! something happen in between.
//!
//! They exist only in tests and with the feature `battery`, and act on the thread that sets them. Without the feature they
//! compile to nothing.

/// A rule that can be broken, see `ENGINE` rules in `docs/testing.md`.
#[cfg(any(test, feature = "battery"))]
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Sabotage {
    /// Recovery does not sync what it wrote anew (rule E1).
    TrustRecoveredBytes,
    /// A sync covers the last segment of the log only (rule E2).
    SyncLastSegmentOnly,
    /// A memtable counts as durable once it is sealed, not once it is in tables (rule E3).
    CallSealedDurable,
    /// Everything behind the first bad record is a torn tail (rule E4, lesson 41).
    CallCorruptionTorn,
    /// A log segment is removed before the edit that retires it is durable (rule E5).
    RetireLogEarly,
    /// What a file of the log held before it was recycled passes for what it holds now (rule E5).
    BelieveStaleChunks,
    /// A failed sync of the log is reported and forgotten (rule E6, lesson 40).
    GoOnAfterFailedSync,
    /// A log that holds all it may is no reason to flush (rule E7).
    LetLogGrow,
    /// The files of a checkpoint are not synced (rule E8).
    LeaveCheckpointUnsynced,
    /// A read loads the visible number before it pins the version (rule E9).
    PinAfterVisible,
    /// Merge operands fold across a deleted range (rule E10).
    FoldAcrossRangeDelete,
    /// Merge operands fold across the boundary of a snapshot (rules E10 and E9).
    FoldAcrossSnapshot,
    /// A table's filter is asked before its deleted ranges (rule E11).
    FilterBeforeRangeDeletes,
    /// Merge operands fold onto the pointer that stands for a value (rule E13).
    FoldOntoPointer,
    /// A blob file is not synced before tables point into it (rule E13, lesson 44).
    LeaveBlobsUnsynced,
    /// An expired value is passed over, and uncovers an older one (rule E12, lesson 49).
    ExpiredIsMissing,
    /// The checksum of a block says nothing about its place (rule E14).
    ChecksumWithoutPlace,
    /// What a transaction read is not checked when it commits (rule E15).
    SkipValidation,
    /// A write that finds no room in stepped mode waits for somebody else (rule E16).
    WaitForNobody,
    /// The durable number covers what was only written (rule E17).
    CallVisibleDurable,
    /// New names in the directory are not synced (lesson 44).
    SkipDirectorySync,
    /// A synced write returns before its sync (lesson 19).
    AcknowledgeEarly,
    /// The first operation of a batch is visible before the others are there (lesson 45).
    PublishHalfBatch,
    /// An iterator goes on behind what it could not read (lesson 52).
    SkipUnreadableBlock,
}

#[cfg(any(test, feature = "battery"))]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
    static MEANWHILE: std::cell::RefCell<Option<Box<dyn FnOnce()>>> = const { std::cell::RefCell::new(None) };
}

#[cfg(any(test, feature = "battery"))]
impl Sabotage {
    /// Every switch.
    pub const ALL: &[Self] = &[
        Self::TrustRecoveredBytes,
        Self::SyncLastSegmentOnly,
        Self::CallSealedDurable,
        Self::CallCorruptionTorn,
        Self::RetireLogEarly,
        Self::BelieveStaleChunks,
        Self::GoOnAfterFailedSync,
        Self::LetLogGrow,
        Self::LeaveCheckpointUnsynced,
        Self::PinAfterVisible,
        Self::FoldAcrossRangeDelete,
        Self::FoldAcrossSnapshot,
        Self::FilterBeforeRangeDeletes,
        Self::FoldOntoPointer,
        Self::LeaveBlobsUnsynced,
        Self::ExpiredIsMissing,
        Self::ChecksumWithoutPlace,
        Self::SkipValidation,
        Self::WaitForNobody,
        Self::CallVisibleDurable,
        Self::SkipDirectorySync,
        Self::AcknowledgeEarly,
        Self::PublishHalfBatch,
        Self::SkipUnreadableBlock,
    ];

    /// Runs `work` with the rule broken on this thread.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Sabotage>);
        impl Drop for Restore {
            fn drop(&mut self) {
                ACTIVE.set(self.0);
            }
        }
        let _restore = Restore(ACTIVE.replace(Some(self)));
        work()
    }

    pub(crate) fn is_active(self) -> bool {
        ACTIVE.get() == Some(self)
    }
}

/// Runs `work`, and `meanwhile` at the first place in it where another thread could make a difference to a read: between the
/// two things that a read takes hold of. What two threads do by chance, one does for certain.
#[cfg(any(test, feature = "battery"))]
pub fn interleave<T>(meanwhile: impl FnOnce() + 'static, work: impl FnOnce() -> T) -> T {
    struct Disarm;
    impl Drop for Disarm {
        fn drop(&mut self) {
            MEANWHILE.take();
        }
    }
    MEANWHILE.replace(Some(Box::new(meanwhile)));
    let _disarm = Disarm;
    work()
}

/// What [`between!`] calls.
#[cfg(any(test, feature = "battery"))]
pub(crate) fn reach_between() {
    let meanwhile = MEANWHILE.take();
    if let Some(meanwhile) = meanwhile {
        meanwhile();
    }
}

/// Whether the named rule is broken: never, outside tests and the battery.
macro_rules! sabotaged {
    ($rule:ident) => {{
        #[cfg(any(test, feature = "battery"))]
        let broken = $crate::sabotage::Sabotage::$rule.is_active();
        #[cfg(not(any(test, feature = "battery")))]
        let broken = false;
        broken
    }};
}

/// A place where the battery may let something happen, see [`interleave`]: nothing, outside tests and the battery.
macro_rules! between {
    () => {{
        #[cfg(any(test, feature = "battery"))]
        $crate::sabotage::reach_between();
    }};
}
