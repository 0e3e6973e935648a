//! The one list of errors that a client of any front end can see, with what to do about each.
//!
//! Names and numbers are Kafka's (`org.apache.kafka.common.protocol.Errors`), so that both fronts say the same thing.

use std::fmt;

/// What the receiver of an error does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ErrorClass {
    /// The same request to the same node may succeed after a pause.
    Retry,
    /// The sender's metadata is old: fetch it anew, then send the request to whom it names.
    Refresh,
    /// The request will never succeed as it is.
    GiveUp,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $class:ident;)*) => {
        /// An error by Kafka's name and number.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(i16)]
        pub enum ErrorCode { $($(#[$doc])* $variant = $number,)* }

        impl ErrorCode {
            /// Every code, for tests and documents.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Kafka's name, as in `NOT_LEADER_OR_FOLLOWER`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What to do about it.
            pub const fn class(self) -> ErrorClass {
                match self { $(Self::$variant => ErrorClass::$class,)* }
            }

            /// Reads Kafka's number; `None` for one that this version does not know.
            pub const fn from_number(number: i16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// Something went wrong that has no name; the server's log has more.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", GiveUp;
    /// The offset is below the log start or above the high watermark.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", GiveUp;
    /// A batch failed its checksum or is malformed.
    CorruptMessage = 2, "CORRUPT_MESSAGE", GiveUp;
    /// No such topic or partition is known here (yet).
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", Refresh;
    /// No replica can lead this partition now.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", Refresh;
    /// Another broker leads this partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", Refresh;
    /// The request was not finished in time; whether it took effect is unknown.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", Retry;
    /// No such broker is registered, or it is fenced.
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", Retry;
    /// A record or batch is larger than the topic allows.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", GiveUp;
    /// The connection broke before an answer came; whether the request took effect is unknown.
    NetworkException = 13, "NETWORK_EXCEPTION", Refresh;
    /// The topic's name is not legal.
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", GiveUp;
    /// Fewer in-sync replicas than `min.insync.replicas`: nothing was written.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", Retry;
    /// Written, but the in-sync replicas fell below `min.insync.replicas` before it was replicated.
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Retry;
    /// `acks` is none of 0, 1, all.
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", GiveUp;
    /// The principal may not do this to the topic.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", GiveUp;
    /// The principal may not do this to the cluster.
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", GiveUp;
    /// A timestamp lies outside what the topic accepts.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", GiveUp;
    /// The server does not know this version of the request.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", GiveUp;
    /// A topic of that name exists.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", GiveUp;
    /// The number of partitions is not legal.
    InvalidPartitions = 37, "INVALID_PARTITIONS", GiveUp;
    /// The replication factor is below 1 or above the number of usable brokers.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", GiveUp;
    /// The replica assignment is not legal.
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", GiveUp;
    /// A configuration's name or value is not legal.
    InvalidConfig = 40, "INVALID_CONFIG", GiveUp;
    /// The node that was asked is not the active controller.
    NotController = 41, "NOT_CONTROLLER", Refresh;
    /// The request contradicts itself or lacks something.
    InvalidRequest = 42, "INVALID_REQUEST", GiveUp;
    /// The record batch's format version is not supported.
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", GiveUp;
    /// A policy refuses the request.
    PolicyViolation = 44, "POLICY_VIOLATION", GiveUp;
    /// A batch's sequence leaves a gap to the last one of this producer.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", GiveUp;
    /// An older batch of this producer, known to be written already, too old to name its offset.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", GiveUp;
    /// A newer incarnation of this producer exists.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", GiveUp;
    /// The log directory of this partition failed.
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", Refresh;
    /// The broker does not know the producer id.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", GiveUp;
    /// The follower has subscribed on a later stream meanwhile.
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", Retry;
    /// The request names an older leader epoch than the broker knows.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", Refresh;
    /// The request names a newer leader epoch than the broker knows yet.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", Retry;
    /// The record batch's compression is not known.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", GiveUp;
    /// The request names an older registration of a broker.
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", GiveUp;
    /// Offsets of the request are not available yet on this leader.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", Retry;
    /// The preferred leader cannot lead now.
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", Retry;
    /// No replica of the partition is eligible to lead.
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", Retry;
    /// Nothing to elect: the partition has the leader that was asked for.
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", GiveUp;
    /// A record breaks a rule of the topic.
    InvalidRecord = 87, "INVALID_RECORD", GiveUp;
    /// A queue is full; nothing was done.
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", Retry;
    /// The producer was fenced by a newer one.
    ProducerFenced = 90, "PRODUCER_FENCED", GiveUp;
    /// No such resource.
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", GiveUp;
    /// The resource exists already.
    DuplicateResource = 92, "DUPLICATE_RESOURCE", GiveUp;
    /// The partition changed since the sender last saw it.
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", Refresh;
    /// No topic has that id (any more).
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", Refresh;
    /// Another process registered the same node id and lives.
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", Retry;
    /// The broker is not registered.
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", Refresh;
    /// The topic id does not belong to the cluster's metadata as the sender knows it.
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", Refresh;
    /// The cluster id is another cluster's.
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", GiveUp;
    /// A broker in the new ISR is fenced, shutting down or of another epoch.
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", Retry;
    /// The ISR was changed, but this broker leads no more.
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", Refresh;
    /// A voter of that id exists already.
    DuplicateVoter = 126, "DUPLICATE_VOTER", GiveUp;
    /// No such voter.
    VoterNotFound = 127, "VOTER_NOT_FOUND", GiveUp;
}

impl ErrorCode {
    /// Kafka's number.
    pub const fn number(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_read_back() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
            assert!(ErrorCode::ALL[..i].iter().all(|other| other.name() != code.name()));
        }
    }
}
