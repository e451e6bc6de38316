//! Why a group request is refused.

use metadata::class::{Classify, ErrorClass};
use metadata::command::Refusal;
use metadata::error::SubmitError;

/// A refusal of the coordinator; each has one Kafka code (see `api::groups`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GroupError {
    /// The member is not, or no longer, in the group.
    #[error("the member is not part of the group")]
    UnknownMember,
    /// The generation is not the group's.
    #[error("the generation is not the current one")]
    IllegalGeneration,
    /// The group rebalances: rejoin.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// Another process runs under the same group.instance.id (KIP-345).
    #[error("another member has taken this group instance id")]
    FencedInstance,
    /// No protocol that all members know, or another protocol type.
    #[error("the member's protocols do not fit the group")]
    InconsistentProtocol,
    /// Join again with the id just given (KIP-394).
    #[error("a member id is required before joining")]
    MemberIdRequired,
    /// `group.max.size`, or a cap of the house on the group's members or bytes.
    #[error("the group has reached its maximum size")]
    GroupFull,
    /// No such group.
    #[error("the group does not exist")]
    GroupNotFound,
    /// The group has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// The group's members read this topic.
    #[error("the group is subscribed to the topic")]
    SubscribedToTopic,
    /// The group id is empty where it may not be, or too long.
    #[error("the group id is not valid")]
    InvalidGroupId,
    /// Outside `group.min.session.timeout.ms` to `group.max.session.timeout.ms`.
    #[error("the session timeout is not within the allowed range")]
    InvalidSessionTimeout,
    /// Longer than `offset.metadata.max.bytes`.
    #[error("the metadata of the offset is too large")]
    OffsetMetadataTooLarge,
    /// The cell keeps as many committed offsets as it may.
    #[error("too many committed offsets")]
    TooManyOffsets,
    /// No such topic or partition.
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    /// No topic with this id.
    #[error("no topic has this id")]
    UnknownTopicId,
    /// Members and assignment are too large to be saved.
    #[error("the group's assignment is too large")]
    AssignmentTooLarge,
    /// Too many groups or new members at once; nothing happened, try again.
    #[error("the coordinator is busy")]
    Busy,
    /// The coordinator cannot save or read now; try again.
    #[error("the coordinator is not available")]
    Unavailable,
    /// A save may or may not have happened; try again, the coordinator looks at what became of it.
    #[error("the outcome of a save is not known")]
    SaveUnknown,
    /// This gateway does not coordinate the group (any more).
    #[error("this is not the coordinator of the group")]
    NotCoordinator,
}

impl GroupError {
    /// What a failed submit or barrier means to a client of a group.
    pub fn of_submit(error: &SubmitError) -> Self {
        match error {
            SubmitError::Fenced(_) => Self::NotCoordinator,
            SubmitError::TooLarge { .. } => Self::AssignmentTooLarge,
            SubmitError::Unknown(_) => Self::SaveUnknown,
            SubmitError::Closed | SubmitError::Unavailable(_) | SubmitError::Corrupt(_) => Self::Unavailable,
        }
    }

    /// What a refused save, deletion or commit of a group means to its client.
    pub fn of_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SessionFenced | Refusal::StaleGroup => Self::NotCoordinator,
            Refusal::LimitReached => Self::GroupFull,
            Refusal::UnknownGroup => Self::GroupNotFound,
            Refusal::GroupNotEmpty => Self::NonEmptyGroup,
            Refusal::UnknownTopic | Refusal::UnknownPartition => Self::UnknownTopicOrPartition,
            Refusal::SessionAlive
            | Refusal::Displaced
            | Refusal::TopicExists
            | Refusal::TopicCollides
            | Refusal::InvalidPartitions
            | Refusal::OffsetOutOfRange
            | Refusal::InvalidProducerEpoch
            | Refusal::OutOfOrderSequence
            | Refusal::InvalidTxnState
            | Refusal::ObjectCommitted
            | Refusal::ObjectReferenced
            | Refusal::ExtentsChanged
            | Refusal::Malformed
            | Refusal::FeatureLevel => Self::Unavailable,
        }
    }

    /// The same for a committed offset, whose limit is the number of offsets and not of members.
    pub fn of_refused_offset(refusal: Refusal) -> Self {
        if refusal == Refusal::LimitReached { Self::TooManyOffsets } else { Self::of_refusal(refusal) }
    }
}

impl Classify for GroupError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownMember
            | Self::IllegalGeneration
            | Self::RebalanceInProgress
            | Self::FencedInstance
            | Self::InconsistentProtocol
            | Self::MemberIdRequired
            | Self::GroupFull
            | Self::GroupNotFound
            | Self::NonEmptyGroup
            | Self::SubscribedToTopic
            | Self::InvalidGroupId
            | Self::InvalidSessionTimeout
            | Self::OffsetMetadataTooLarge
            | Self::TooManyOffsets
            | Self::UnknownTopicOrPartition
            | Self::UnknownTopicId
            | Self::AssignmentTooLarge => ErrorClass::Rejected,
            Self::Busy | Self::Unavailable | Self::NotCoordinator => ErrorClass::Retry,
            Self::SaveUnknown => ErrorClass::Unknown,
        }
    }
}
