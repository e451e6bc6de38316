//! What Kafka says for an error code when the broker adds no words of its own.

/// The class of the exception that Kafka's tools show, and its text. Both are part of what scripts search for.
/// Source: `org.apache.kafka.common.protocol.Errors`.
const ERRORS: &[(i32, &str, &str)] = &[
    (-1, "UnknownServerException", "The server experienced an unexpected error when processing the request."),
    (
        1,
        "OffsetOutOfRangeException",
        "The requested offset is not within the range of offsets maintained by the server.",
    ),
    (3, "UnknownTopicOrPartitionException", "This server does not host this topic-partition."),
    (
        5,
        "LeaderNotAvailableException",
        "There is no leader for this topic-partition as we are in the middle of a leadership election.",
    ),
    (7, "TimeoutException", "The request timed out."),
    (
        10,
        "RecordTooLargeException",
        "The request included a message larger than the max message size the server will accept.",
    ),
    (14, "CoordinatorLoadInProgressException", "The coordinator is loading and hence can't process requests."),
    (15, "CoordinatorNotAvailableException", "The coordinator is not available."),
    (16, "NotCoordinatorException", "This is not the correct coordinator."),
    (17, "InvalidTopicException", "The request attempted to perform an operation on an invalid topic."),
    (24, "InvalidGroupIdException", "The group id is invalid."),
    (25, "UnknownMemberIdException", "The coordinator is not aware of this member."),
    (27, "RebalanceInProgressException", "The group is rebalancing, so a rejoin is needed."),
    (29, "TopicAuthorizationException", "Topic authorization failed."),
    (30, "GroupAuthorizationException", "Group authorization failed."),
    (31, "ClusterAuthorizationException", "Cluster authorization failed."),
    (35, "UnsupportedVersionException", "The version of API is not supported."),
    (36, "TopicExistsException", "Topic with this name already exists."),
    (37, "InvalidPartitionsException", "Number of partitions is below 1."),
    (
        38,
        "InvalidReplicationFactorException",
        "Replication factor is below 1 or larger than the number of available brokers.",
    ),
    (39, "InvalidReplicaAssignmentException", "Replica assignment is invalid."),
    (40, "InvalidConfigurationException", "Configuration is invalid."),
    (41, "NotControllerException", "This is not the correct controller for this cluster."),
    (44, "PolicyViolationException", "Request parameters do not satisfy the configured policy."),
    (54, "SecurityDisabledException", "Security features are disabled."),
    (58, "SaslAuthenticationException", "SASL Authentication failed."),
    (68, "GroupNotEmptyException", "The group is not empty."),
    (69, "GroupIdNotFoundException", "The group id does not exist."),
    (73, "TopicDeletionDisabledException", "Topic deletion is disabled."),
    (
        86,
        "GroupSubscribedToTopicException",
        "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.",
    ),
    (89, "ThrottlingQuotaExceededException", "The throttling quota has been exceeded."),
];

/// Kafka's words for a code, if they are known here.
pub fn text(code: i32) -> Option<&'static str> {
    ERRORS.iter().find(|(known, _, _)| *known == code).map(|(_, _, text)| *text)
}

/// The full name of the exception of a code.
pub fn exception(code: i32) -> String {
    let class = ERRORS.iter().find(|(known, _, _)| *known == code).map_or("ApiException", |(_, class, _)| *class);
    format!("org.apache.kafka.common.errors.{class}")
}
