//! Kafka's error codes (`org.apache.kafka.common.protocol.Errors`, as of 4.1).

use std::fmt;

use crate::primitive::{DecodeError, Reader, Wire, Writer};

macro_rules! error_codes {
    ($($(#[$attribute:meta])* $name:ident = $code:literal, $kafka_name:literal, $retry:ident, $doc:literal;)*) => {
        /// What went wrong, in Kafka's terms. An unknown number is kept as it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum ErrorCode {
            $(
                $(#[$attribute])*
                #[doc = $doc]
                $name,
            )*
            /// A code this list does not know, from a newer peer.
            Unlisted(i16),
        }

        impl ErrorCode {
            /// All codes of the list.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The error with this number.
            pub const fn from_code(code: i16) -> Self {
                match code {
                    $($code => Self::$name,)*
                    other => Self::Unlisted(other),
                }
            }

            /// The number on the wire.
            pub const fn code(self) -> i16 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unlisted(code) => code,
                }
            }

            /// Kafka's name, `UNKNOWN_TOPIC_OR_PARTITION`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $kafka_name,)*
                    Self::Unlisted(_) => "UNLISTED",
                }
            }

            /// Whether trying again may help, as Kafka's own client sees it.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$name => retriable!($retry),)*
                    Self::Unlisted(_) => false,
                }
            }

            /// A sentence for people.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$name => $doc,)*
                    Self::Unlisted(_) => "an error this version does not know",
                }
            }
        }
    };
}

macro_rules! retriable {
    (retry) => {
        true
    };
    (fail) => {
        false
    };
}

error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", fail, "Something went wrong on the broker that has no code of its own.";
    #[default]
    None = 0, "NONE", fail, "No error.";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", fail, "The offset is outside what the partition holds.";
    CorruptMessage = 2, "CORRUPT_MESSAGE", retry, "The batch failed its CRC or is otherwise damaged.";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", retry, "The broker does not host this topic or partition.";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", fail, "The fetch size is not valid.";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", retry, "The partition has no leader at the moment.";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", retry, "The broker asked is not the leader or a follower of the partition.";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", retry, "The request took too long.";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", fail, "The broker is not available.";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", retry, "The replica is not available.";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", fail, "The batch is larger than the topic accepts.";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", fail, "The controller moved to another broker.";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", fail, "The metadata of an offset commit is too large.";
    NetworkException = 13, "NETWORK_EXCEPTION", retry, "The connection ended before a response arrived.";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", retry, "The coordinator is still loading.";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", retry, "There is no coordinator at the moment.";
    NotCoordinator = 16, "NOT_COORDINATOR", retry, "The broker asked is not the coordinator.";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", fail, "The topic name is not valid, or the topic may not be used so.";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", fail, "The batches are larger than a segment.";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", retry, "Fewer replicas are in sync than required; nothing was written.";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", retry, "Written, but to fewer in-sync replicas than required.";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", fail, "The acks value is not valid.";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", fail, "The group's generation is another one.";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", fail, "The member's protocols do not match the group's.";
    InvalidGroupId = 24, "INVALID_GROUP_ID", fail, "The group id is not valid.";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", fail, "The coordinator does not know this member.";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", fail, "The session timeout is outside the allowed range.";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", fail, "The group is rebalancing; join again.";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", fail, "The offset commit is too large.";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", fail, "Not authorized for the topic.";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", fail, "Not authorized for the group.";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", fail, "Not authorized for the cluster.";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", fail, "The timestamp of a record is out of range.";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", fail, "The SASL mechanism is not supported.";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", fail, "The request does not fit the state of the SASL exchange.";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", fail, "The version of the API is not supported.";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", fail, "A topic of this name exists.";
    InvalidPartitions = 37, "INVALID_PARTITIONS", fail, "The number of partitions is not valid.";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", fail, "The replication factor is not valid.";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", fail, "The replica assignment is not valid.";
    InvalidConfig = 40, "INVALID_CONFIG", fail, "A configuration value is not valid.";
    NotController = 41, "NOT_CONTROLLER", retry, "The broker asked is not the controller.";
    InvalidRequest = 42, "INVALID_REQUEST", fail, "The request is malformed or contradicts itself.";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", fail, "The message format does not support the request.";
    PolicyViolation = 44, "POLICY_VIOLATION", fail, "A policy of the cluster forbids the request.";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", fail, "A sequence number is missing before this one.";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", fail, "The sequence number was seen before.";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", fail, "The producer's epoch is older than the current one.";
    InvalidTxnState = 48, "INVALID_TXN_STATE", fail, "The transaction's state does not allow the operation.";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", fail, "The producer id does not belong to the transactional id.";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", fail, "The transaction timeout is larger than allowed.";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", retry, "Another operation on the same transaction is under way.";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", fail, "The coordinator of the transaction has been replaced.";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", fail, "Not authorized for the transactional id.";
    SecurityDisabled = 54, "SECURITY_DISABLED", fail, "Security features are switched off.";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", fail, "The operation was not attempted because another in the same request failed.";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", retry, "The disk failed.";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", fail, "The log directory is not known.";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", fail, "Authentication failed.";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", fail, "Nothing is known about this producer id.";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", fail, "A reassignment of the partition is under way.";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", fail, "Delegation tokens are switched off.";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", fail, "The delegation token is not known.";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", fail, "The delegation token belongs to someone else.";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", fail, "Delegation tokens are not given out on this connection.";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", fail, "Not authorized for the delegation token.";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", fail, "The delegation token has expired.";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", fail, "The type of the principal is not supported.";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", fail, "The group still has members.";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", fail, "The group does not exist.";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", retry, "The fetch session is not known.";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", retry, "The fetch session's epoch is another one.";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", retry, "The leader has no listener of that name.";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", fail, "Deleting topics is switched off.";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", retry, "The leader epoch in the request is older than the broker's.";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", retry, "The leader epoch in the request is newer than the broker's.";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", fail, "The client does not support the compression of the partition.";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", fail, "The broker's epoch has changed.";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", retry, "The offset cannot be told yet after a change of leader.";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", fail, "Join again with the member id given.";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", retry, "The preferred leader is not available.";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", fail, "The group is full.";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", fail, "Another member took over the instance id.";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", retry, "No eligible leader is available.";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", retry, "No election is needed.";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", fail, "No reassignment is under way.";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", fail, "The group is still subscribed to the topic.";
    InvalidRecord = 87, "INVALID_RECORD", fail, "A record was refused; the batch was not written.";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", retry, "There are offset commits of unfinished transactions.";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", retry, "A quota is used up.";
    ProducerFenced = 90, "PRODUCER_FENCED", fail, "A newer producer with the same transactional id exists.";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", fail, "The resource does not exist.";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", fail, "The request names a resource twice.";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", fail, "The credential is not acceptable.";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", fail, "The voters do not match.";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", fail, "The update version is not valid.";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", fail, "The features could not be updated.";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", fail, "The forwarded principal could not be read.";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", fail, "The snapshot does not exist.";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", fail, "The position is outside the snapshot.";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", retry, "The broker does not host a topic of this id.";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", fail, "A broker of this id is registered.";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", fail, "No broker of this id is registered.";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", retry, "The topic has another id.";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", fail, "The cluster has another id.";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", fail, "The transactional id is not known.";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", retry, "The fetch session mixes topics with and without ids.";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", fail, "A replica may not be in sync.";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", fail, "A new leader was elected meanwhile.";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", fail, "The offset has moved to tiered storage.";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", fail, "The member's epoch is fenced; join again.";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", fail, "The instance id is still in use.";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", fail, "The assignor is not supported.";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", fail, "The member's epoch is old.";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", fail, "The endpoint is of another type.";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", fail, "The endpoint type is not supported.";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", fail, "The controller is not known.";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", fail, "The telemetry subscription is not known.";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", fail, "The telemetry is too large.";
    InvalidRegistration = 119, "INVALID_REGISTRATION", fail, "The registration is not valid.";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", fail, "The transaction has to be aborted.";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", fail, "The record is in a state that does not allow this.";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", retry, "The share session is not known.";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", retry, "The share session's epoch is another one.";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", fail, "The state epoch of the share group is fenced.";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", fail, "The key of the voter is another one.";
    DuplicateVoter = 126, "DUPLICATE_VOTER", fail, "The voter is already there.";
    VoterNotFound = 127, "VOTER_NOT_FOUND", fail, "The voter is not there.";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", fail, "The regular expression is not valid.";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", fail, "Start again from the bootstrap servers.";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", fail, "The topology is not valid.";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", fail, "The topology epoch is not valid.";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", fail, "The topology epoch is old.";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", retry, "There are too many share sessions.";
}

impl ErrorCode {
    /// Whether there is no error.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> Self {
        error.code()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

impl<'a> Wire<'a> for ErrorCode {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        i16::decode(r).map(Self::from_code)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        self.code().encode(w);
    }
    fn bytes_min(version: i16, flexible: bool) -> usize {
        i16::bytes_min(version, flexible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_round_trip() {
        for code in i16::MIN..=i16::MAX {
            assert_eq!(ErrorCode::from_code(code).code(), code);
        }
        assert_eq!(ErrorCode::default(), ErrorCode::from_code(0));
        assert_eq!(ErrorCode::UnknownTopicOrPartition.to_string(), "UNKNOWN_TOPIC_OR_PARTITION (3)");
    }

    #[test]
    fn retrying_helps_against_a_leader_that_moved_but_not_against_a_refused_record() {
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(!ErrorCode::InvalidRecord.is_retriable());
        assert!(!ErrorCode::Unlisted(999).is_retriable());
    }
}
