//! The seeded bugs: which there are, where they come from, what each does wrong.
//!
//! A plain list without any dependency: `cargo xtask mutants` includes this file as its own.

/// What a bug costs when nobody notices it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// Acknowledged records or committed metadata are lost, doubled, or come back wrong.
    LosesData,
    /// Nothing is lost, but something stands still, or is refused, that should go on.
    Stalls,
}

macro_rules! bugs {
    ($($name:ident $row:literal $harm:ident $what:literal)*) => {
        /// A bug that real systems had, kept in the code to see whether the tests would find it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum SeededBug {
            $(#[doc = concat!($row, ": ", $what, ".")] $name,)*
        }

        impl SeededBug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, as `VLTAVA_BUG` takes it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The known bugs or the rule of `docs/reliability.md` that it stands for.
            pub const fn row(self) -> &'static str {
                match self { $(Self::$name => $row,)* }
            }

            /// What it does wrong.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }

            /// What it costs.
            pub const fn harm(self) -> Harm {
                match self { $(Self::$name => Harm::$harm,)* }
            }
        }
    };
}

bugs! {
    TruncatesToWatermark "B1" LosesData "a follower cuts its log at its own, late high watermark before it asks the leader"
    ComparesEndsOnly "B2" LosesData "a leader takes logs for equal whose last epoch it does not know, if they are short enough"
    BelievesZombieLeader "B3" LosesData "a follower takes what a leader of an older epoch sends"
    CountsFollowersOfOldEpochs "B3" LosesData "a leader counts progress that was reported in another epoch"
    BeginsWithoutEpoch "B5" LosesData "a new leader notes its epoch only with its first record"
    KeepsEmptyEpochs "B5" LosesData "truncation keeps an epoch that begins where the log now ends"
    JoinsAtOldWatermark "B6" LosesData "a replica joins the ISR at the watermark, though behind the start of the leader's epoch"
    ForgetsJoiningMembers "B7" LosesData "the watermark does not wait for members whose joining is under way"
    ForgetsUnansweredChange "B7, B20" LosesData "a refusal ends a change of the ISR of which an earlier attempt may yet be executed"
    JoinsUnderUnseenRegistration "B10" LosesData "a leader proposes a follower under a registration that it has not seen in a subscription"
    CommitsBelowMinIsr "B11" LosesData "the watermark moves while fewer than min.insync.replicas are in sync"
    GoesOnAfterFailure "B13" LosesData "a replica goes on appending after its storage failed"
    TakesDataBeforeAgreement "B14" LosesData "a follower takes data and watermarks from where its log ends, before it is compared with the leader's"
    CountsDivergingFollowers "B15" LosesData "a leader counts the log end of a follower whose log diverges"
    DeletesUncommitted "B19" LosesData "records above the high watermark can be deleted"
    NeverProposesAgain "B21" Stalls "a lost answer of the controller leaves the leader waiting for ever"
    AcksBeforeSync "B32" LosesData "replicas count what is written as if it were on stable storage"
    AcksBeforeReplication "I10" LosesData "acks=all is answered when the leader's own disk has it"
    AcksJournalBeforeSync "B32" LosesData "the journal tells its shards that a group is on stable storage without syncing it"
    TrustsSyncsOfCutRecords "I10" LosesData "a sync that was begun before a truncation counts for what was written after it"
    AdmitsFencedMembers "B9" LosesData "the controller lets a fenced broker into an ISR"
    AdmitsOldRegistrations "B10" LosesData "the controller ignores the broker epoch of an ISR's new members"
    KeepsWipedReplicasEligible "B10" LosesData "a replica whose disk was replaced stays eligible"
    TrustsUncleanRestart "B11" LosesData "a replica that died without syncing stays eligible"
    ElectsOutOfSync "B12" LosesData "an out-of-sync replica is elected though unclean elections are off"
    IgnoresPartitionEpoch "B20" LosesData "a change of the ISR that was made on an older state is executed"
    RefusesRepeatedChange "B21" Stalls "a change of the ISR that was made, but whose answer was lost, is refused"
    KeepsLeaderEpoch "I3" LosesData "another leader is elected in the same epoch"
    LetsLeadersStop "B8" Stalls "a broker may stop that is still the last one in sync"
    ForgetsNewNames "B28" LosesData "syncing a segment leaves its name unsynced"
    RecyclesBeforeSync "B32" LosesData "the journal uses a file again before the segments that it stands for are synced"
    IgnoresJournalFrames "B32" LosesData "a restart takes the segments for all there is"
    ReplaysCutFrames "B42" LosesData "a restart writes what the journal holds of records that were cut off"
    TrustsOldEpochFile "B5, I8" LosesData "a restart keeps saved epochs that begin behind what was synced"
    IgnoresSideChecksums "I12" LosesData "base offset, leader epoch and partition of a batch are believed without their checksum"
    ForgetsLogStart "I13" LosesData "the log's start moves in memory only"
    KeepsCleanMark "B26" LosesData "a start leaves the mark of a clean shutdown where it is"
    BelievesOldClaims "B10" Stalls "a log that begins anew is held against the recovery point of the one before"
    AcksRaftWritesBeforeSync "I25" LosesData "votes and entries count as durable when they are written"
    RenewsEpochOfSameProcess "B65" Stalls "a process that registers again gets another broker epoch"
}
