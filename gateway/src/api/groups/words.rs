//! Texts, topics and errors between the wire and the coordinator.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use metadata::model::ids::{TopicId, TopicName, TopicPartition};
use metadata::state::State;
use metadata::state::topics::Topic;
use uuid::Uuid;

use crate::coordinator::error::GroupError;
use crate::wire::error_code::ErrorCode;
use crate::wire::newer::TOPIC_IDS;

/// A text of ours: what stays must not hold on to the request's frame.
pub fn kept(text: &str) -> Arc<str> {
    text.into()
}

/// An optional text of ours.
pub fn kept_option(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(|text| kept(text))
}

/// A text for an answer.
pub fn told(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An optional text for an answer.
pub fn told_option(text: Option<&Arc<str>>) -> Option<StrBytes> {
    text.map(|text| told(text))
}

/// The partition of that name and index, if there is one.
pub fn partition(state: &State, topic: &str, index: i32) -> Option<TopicPartition> {
    let name: TopicName = topic.parse().ok()?;
    partition_of(state.topics().by_name(&name)?, index)
}

/// The topic that a part of a request names: by id from version [`TOPIC_IDS`] on.
pub fn topic<'a>(state: &'a State, version: i16, name: &str, id: Uuid) -> Result<&'a Topic, GroupError> {
    if version >= TOPIC_IDS {
        return state.topics().get(TopicId(id)).ok_or(GroupError::UnknownTopicId);
    }
    let found = name.parse().ok().and_then(|name: TopicName| state.topics().by_name(&name));
    found.ok_or(GroupError::UnknownTopicOrPartition)
}

/// Its partition with this index, if it has one.
pub fn partition_of(topic: &Topic, index: i32) -> Option<TopicPartition> {
    (0..topic.partition_count()).contains(&index).then(|| TopicPartition { topic: topic.id(), partition: index })
}

/// Kafka's code for a refusal. Retry and unknown outcomes become codes that clients of every group API try again.
pub fn code(error: GroupError) -> ErrorCode {
    match error {
        GroupError::UnknownMember => ErrorCode::UnknownMemberId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::FencedInstance => ErrorCode::FencedInstanceId,
        GroupError::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::GroupFull => ErrorCode::GroupMaxSizeReached,
        GroupError::GroupNotFound => ErrorCode::GroupIdNotFound,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::TooManyOffsets => ErrorCode::InvalidCommitOffsetSize,
        GroupError::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        GroupError::UnknownTopicId => ErrorCode::UnknownTopicId,
        GroupError::AssignmentTooLarge => ErrorCode::UnknownServerError,
        GroupError::Busy => ErrorCode::CoordinatorLoadInProgress,
        GroupError::Unavailable | GroupError::SaveUnknown => ErrorCode::CoordinatorNotAvailable,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
    }
}

/// The same for SyncGroup, Heartbeat and LeaveGroup, whose clients do not know COORDINATOR_LOAD_IN_PROGRESS.
pub fn member_code(error: GroupError) -> ErrorCode {
    if error == GroupError::Busy { ErrorCode::CoordinatorNotAvailable } else { code(error) }
}

/// The same for OffsetFetch, whose clients before Kafka 3.9 try again only after NOT_COORDINATOR.
pub fn fetch_code(error: GroupError) -> ErrorCode {
    match code(error) {
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        other => other,
    }
}

/// The code of a result.
pub fn code_of(result: Result<(), GroupError>) -> i16 {
    result.map_or_else(code, |()| ErrorCode::None).code()
}

#[cfg(test)]
mod tests {
    use metadata::class::{Classify, ErrorClass};

    use super::*;

    #[test]
    fn what_may_be_tried_again_is_told_so() {
        for error in [GroupError::Busy, GroupError::Unavailable, GroupError::SaveUnknown, GroupError::NotCoordinator] {
            assert!(matches!(error.class(), ErrorClass::Retry | ErrorClass::Unknown));
            for code in [code(error), member_code(error), fetch_code(error)] {
                assert!(matches!(code.code(), 14..=16), "{error}: {code}");
            }
        }
        assert_eq!(fetch_code(GroupError::Unavailable), ErrorCode::NotCoordinator);
        assert_eq!(member_code(GroupError::Busy), ErrorCode::CoordinatorNotAvailable);
    }
}
