//! Switches that turn single rules off, to prove that the tests which guard a rule can fail.
//!
//! They exist only in tests and with the feature `sim`, and act on the thread that sets them: a simulated cluster is one
//! thread.

/// A rule that can be switched off.
#[cfg(any(test, feature = "sim"))]
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Sabotage {
    /// Replies leave before what they saw is durable (rule P3, lesson 19).
    ReplyBeforeDurable,
    /// A restart after a crash goes on with the same actor (rule P5, lesson 03).
    KeepActorAfterCrash,
    /// A quorum read answers without repairing what disagreed (lesson 09).
    AnswerBeforeRepair,
    /// Frames of other clusters are taken (rule P2).
    IgnoreClusterId,
    /// A node is believed by its name alone (rule P1).
    IgnoreIncarnation,
    /// A storage is replaced although its node still answers (rule P1).
    ReplaceTheLiving,
    /// A schema home that has lost its disk goes on without asking what others know (rule P14).
    CountTablesAnew,
    /// Nobody learns that a storage was replaced but whoever was asked (rule P1).
    ForgetReplacements,
    /// A new storage counts at once, whatever it lacks (rule P13).
    ServeBeforeImport,
    /// Requests that were made for other storages are answered (rule P13).
    IgnoreEpochs,
    /// Frames of, or to, an earlier life of a node are taken (rule P1).
    IgnoreBoot,
    /// Acknowledgements are counted, not the replicas that gave them (rule P13).
    CountAcksTwice,
    /// Two copies of one operation count as two values (rule P10).
    CountRetriesTwice,
    /// A forwarded write that arrives twice is done twice (rule P10).
    RepeatForwarded,
    /// A write that was passed on is passed on to the next life of the same replica too (rule P10).
    ForwardToNextLife,
    /// A write covers everything its replica holds, seen or not (rule P5, lesson 02).
    CoverUnseen,
    /// Two writes of one key in one turn read the same state (rule P5).
    ReadBehindTheTurn,
    /// Siblings multiply without a limit (lesson 02).
    NoSiblingsLimit,
    /// A retry is answered with a context that covers what its writer never saw (rule P5).
    TellUnseen,
    /// The tags of requests begin again in each life of a node (rule P1).
    ShareTagsBetweenLives,
    /// A node that has noted that it forgets nothing goes on minting (rule P5).
    GoOnAfterTheEnd,
    /// A node waits no longer for others when it is slow itself.
    NoLocalHealth,
    /// A node that is suspected does not contradict.
    NeverRefute,
    /// A node that does not answer is dead at once.
    NoSuspicion,
    /// Suspicions by several nodes last as long as one.
    IgnoreConfirmations,
    /// A suspected node learns of it by chance only.
    NotTheSuspect,
    /// A question that an earlier life did not answer counts against the next one.
    BlameTheNextLife,
    /// Nobody is asked through others.
    NoIndirectProbes,
    /// Whatever is heard is believed, however old (rule P1).
    BelieveOldRumours,
    /// Rumours are told without an end.
    TellForEver,
    /// A node that serves greets all its peers at a time.
    GreetEverybody,
    /// Nobody talks to whom it believes dead.
    ForgetTheDead,
    /// A quorum is counted among those that are believed to be up (lesson 11).
    CountOnlyTheLiving,
    /// A node serves right after its start, before peers have confirmed it (rules P1 and P11).
    ServeUnconfirmed,
    /// A write leaves the leaf of the hash tree that it lies in as clean as it was (rule P12).
    ForgetDirt,
    /// A write leaves the note in the store that says what the leaf was that it lies in (rule P12).
    LeaveNotes,
    /// What has expired by the local clock is left out of hashes (rule P12, lesson 15).
    HashOnlyLive,
    /// A record that another replica sends for repair takes the place of the one held (rule P6).
    ReplaceOnRepair,
    /// Replicas are not compared unless somebody asks.
    NeverCompare,
    /// An increment that is asked for again counts again (rule P10, lesson 16).
    CountRetriedUpdates,
    /// A removal takes everything its replica holds, seen or not (rule P18).
    ClearUnseen,
    /// A removal says what it takes, and not what its replica knew to be gone before (rule P18).
    RemoveByDelta,
    /// An offer that tops nothing travels as the nothing that it changes (rule P18).
    OfferNothing,
    /// Deletes of a cache table are evicted as values are (rule P19).
    EvictTombstones,
    /// A node that has started shows of cache tables what was written before (rule P19).
    ForgetColdStart,
    /// A value of a cache table takes the place of the delete before it, and may be evicted (rule P19).
    ForgetReplacedDeletes,
    /// A replica of a cache table takes deletes that are born too far ahead of its clock (rule P19).
    TakeEarlyDeletes,
    /// A read brings back what a replica of a cache table has evicted (rule P19, lesson 20).
    RepairCaches,
    /// Nothing is kept for a replica that has missed a write.
    NeverHint,
    /// A hint goes as soon as it was sent.
    DeleteHintBeforeAck,
    /// A hint goes when what was sent of it is acknowledged, whatever was joined to it since.
    DropGrownHint,
    /// Fallbacks count for writes of every table, asked for or not (lesson 08).
    FallBackUnasked,
    /// Nobody keeps a write for a replica that is away but its coordinator.
    NeverFallBack,
    /// Fallbacks are told as replicas that have acknowledged (lesson 08, rule P13).
    TellFallbacksAsReplicas,
    /// A fallback acknowledges what a power cut can still take from it (rule P3).
    CountUnsyncedHints,
    /// A fallback acknowledges what it has no room for.
    CountShedHints,
    /// One node stands in for several replicas of a key (rule P13).
    FallBackTwice,
    /// Replicas stand in for replicas (rule P13).
    FallBackOnReplicas,
    /// Who stands in for a replica may be in any zone, at levels that count zones too (rule P13).
    FallBackAnywhere,
    /// A write is acknowledged that nobody but fallbacks holds.
    AnswerWithoutHolding,
    /// A fallback lets go of what has grown old, as others do who are not the last to have it.
    LetGoOfOldFallbacks,
    /// A session takes what fallbacks keep for held by a quorum (rule P17).
    SettleByFallbacks,
    /// A hint is shed and nobody knows (lesson 17).
    ShedWithoutMark,
    /// A write fails when there is no room to keep what a replica has missed of it (lesson 17).
    FailWhenHintsAreFull,
    /// A hint goes to the node that it was kept for, wherever its record lies by now.
    ReplayToFormerReplica,
    /// Hints are delivered as fast as they can be read.
    IgnoreHintRate,
    /// Each slice of deliveries begins with the same node.
    ServeTheFirst,
    /// Hints that are kept for others instead cost nothing of the time they take.
    RedirectForFree,
    /// What is owed to a node that does not share the place any more is never forgotten by whoever compares.
    RememberMootDebts,
    /// What would have been kept in a turn that the store did not take is neither kept nor owed.
    ForgetRefusedHints,
    /// A coordinator whose store did not take its write leaves it to the other replicas.
    StoreOnce,
    /// All hints are read again whenever a commit was refused.
    RescanWithoutRest,
    /// Answers that a turn gives are lost with what it could not store.
    SwallowAnswers,
    /// A walk whose last hint is taken back goes on for ever.
    LeaveWalksOpen,
    /// A hint tells the birth of the latest that was joined to it (rule P7, lesson 06).
    ForgetBirth,
    /// Hints grow without bounds of bytes and age.
    IgnoreHintBounds,
    /// A comparison that was under way when a hint was shed clears the mark of it.
    ClearMarkOfLaterSheds,
    /// A node that has crashed owes nothing to those that may have missed what it had under way.
    ForgetCrashes,
    /// Marks of what was shed end with the life of a node.
    ForgetMarks,
    /// A local level counts the replicas of every zone (rule P13).
    CountEveryZone,
    /// A session forgets what it wrote (rule P17).
    ForgetSessionWrites,
    /// A session forgets what it read (rule P17).
    ForgetSessionReads,
    /// A write does not say what its session has seen (rules P16 and P17).
    WriteOutsideSession,
    /// A read is answered although it is older than what its session has seen (rule P17).
    AnswerBelowSession,
    /// A session unsettles more keys than it has room for (rule P17).
    OverbookSession,
    /// What a request has seen is all that its session has, whatever was forgotten meanwhile (rule P17).
    TakePartForAll,
    /// A session takes what a writer had seen for held by whoever holds the write, when that is not so (rule P17).
    SettleUnheld,
    /// Keys that a session had to forget are read as if it had never known them (rule P17).
    ForgetOverflow,
    /// A digest is taken for that of the record, whatever it is (lesson 09).
    TrustDigests,
    /// What a replica answered before is forgotten when it answers something else, though a digest may stand for it.
    ForgetFormerAnswers,
    /// A read is not answered before the record of every digest was fetched, whoever has answered.
    WaitForUnread,
    /// Whoever has not been asked is asked in the place of one that is late, whether it counts or not.
    HedgeAnywhere,
    /// A read asks every replica for its record.
    FetchEveryRecord,
    /// Nobody is asked in the place of a replica that takes longer than usual.
    NeverHedge,
    /// Whatever is late is asked for again, without a bound.
    SpendWithoutBudget,
    /// Whatever is asked for is taken on, however much there is to do.
    AdmitAll,
    /// Whatever arrives waits for a turn, however much there is.
    UnboundedInbox,
    /// What is urgent waits in one queue with the rest.
    OneLane,
    /// A write that a replica has refused because it has too much to do is passed on to nobody else.
    StayWithTheBusy,
    /// A node that has too much to do is asked as before.
    HammerTheBusy,
    /// Writes that were answered are kept until every replica has acknowledged them, however many.
    KeepStragglers,
    /// The requests of a batch go their ways one by one, and so do the answers.
    NeverBundle,
    /// Messages that travel together leave when the first of them may (rule P3).
    LeaveWithTheFirst,
    /// The outcome of the first request of a batch that cannot begin is that of all after it.
    FailTheWholeBatch,
    /// A description waits for those who cannot be reached.
    WaitForTheUnreachable,
    /// What one replica says is taken for what all of them hold.
    DescribeByHearsay,
    /// Nobody knows when replicas were compared.
    ForgetComparisons,
    /// A scan believes the first replica that has sent records, whatever the level.
    TrustOneReplica,
    /// A scan goes on after what was listed, and not after what was handed out.
    SkipThePageEdge,
    /// A page goes on until it is full, however many deleted keys it comes across.
    LookWithoutBound,
    /// A scan goes on from the cursor of another table.
    TakeAnyCursor,
    /// What is deleted is forgotten when those that can be reached hold the delete (rule P7, lesson 05).
    PurgeUnconfirmed,
    /// Replicas promise whatever they keep for others (rule P7, lesson 06).
    PromiseOverHints,
    /// A place counts as settled when all were compared with one (rule P7).
    RaiseAfterOnePass,
    /// What is deleted is forgotten as soon as it is settled (rule P7).
    PurgeAtOnce,
    /// A replica takes in what it knew to be gone (rule P7).
    TakeBelowFloor,
    /// A replica whose clock has gone back mints below what it has promised (rule P7).
    MintBelowPromise,
    /// A key that was forgotten is counted from one again (rule P5).
    CountAnew,
    /// Nobody asks in which lives replicas know each other (rules P1 and P7).
    MixLives,
    /// A new storage does not ask below which births nothing is minted any more (rule P8).
    ImportWithoutFloor,
    /// A replica that has missed a raise is told of it when something else is dead (rule P7).
    LeaveBehind,
    /// A new storage takes a place for settled that it is still being given (rules P7 and P8).
    RiseWhileImporting,
    /// A floor that the store did not take is remembered as if it had (rule P7).
    KeepRefusedFloors,
    /// A retry is minted anew where the first attempt is (rule P10, lesson 10).
    MintRetriesAgain,
    /// A write is begun after its deadline, by when its client was told that nothing was written (lesson 10).
    BeginTooLate,
}

#[cfg(any(test, feature = "sim"))]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

#[cfg(any(test, feature = "sim"))]
impl Sabotage {
    /// Runs `work` with the rule switched off on this thread.
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

/// Whether the named rule is switched off: never, outside tests and simulations.
macro_rules! sabotaged {
    ($rule:ident) => {{
        #[cfg(any(test, feature = "sim"))]
        let off = $crate::sabotage::Sabotage::$rule.is_active();
        #[cfg(not(any(test, feature = "sim")))]
        let off = false;
        off
    }};
}
