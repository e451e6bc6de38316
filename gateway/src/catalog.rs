//! Topics as requests name them: by name or by id, looked up in one view of the state, with the configs that act.

use std::sync::Arc;

use metadata::command::{Command, CreateTopic, Outcome, Refusal};
use metadata::error::SubmitError;
use metadata::model::ids::{TopicId, TopicName, TopicPartition};
use metadata::model::topic_config::TopicConfig;
use metadata::state::State;
use metadata::state::topics::Topic;
use uuid::Uuid;

use crate::options::kafka::KafkaSettings;
use crate::services::Services;

/// How a request names a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name. Shared, for a fetch names it once for each of its partitions.
    Name(Arc<str>),
    /// By id (KIP-516).
    Id(Uuid),
}

impl TopicRef {
    /// By id if there is one, else by name: newer versions of a request carry ids and leave the name empty.
    pub fn new(name: &str, id: Uuid) -> Self {
        if id.is_nil() { Self::Name(name.into()) } else { Self::Id(id) }
    }
}

/// A topic that exists.
#[derive(Debug, Clone)]
pub struct Found {
    /// Identity.
    pub id: TopicId,
    /// Name.
    pub name: TopicName,
    /// Number of partitions.
    pub partitions: i32,
    /// Configs that act.
    pub config: TopicConfig,
}

impl Found {
    /// The partition with this index, if the topic has it.
    pub fn partition(&self, index: i32) -> Option<TopicPartition> {
        (0..self.partitions).contains(&index).then_some(TopicPartition { topic: self.id, partition: index })
    }
}

/// Looks all of `wanted` up at once. If one is not there, the journal's head is asked first: another gateway may have made
/// it (read barrier). With the journal away, what is known here is answered.
pub async fn resolve(services: &Services, wanted: &[TopicRef]) -> Vec<Option<Found>> {
    let look = |state: &State| wanted.iter().map(|w| find(state, w, &services.kafka)).collect::<Vec<_>>();
    let found = services.metadata.read(look);
    if found.iter().all(Option::is_some) || services.metadata.barrier().await.is_err() {
        return found;
    }
    services.metadata.read(look)
}

/// One topic in this state.
pub fn find(state: &State, wanted: &TopicRef, kafka: &KafkaSettings) -> Option<Found> {
    let topic = match wanted {
        TopicRef::Name(name) => state.topics().by_name(&name.parse().ok()?)?,
        TopicRef::Id(id) => state.topics().get(TopicId(*id))?,
    };
    Some(describe(topic, kafka))
}

/// What requests need of a topic.
pub fn describe(topic: &Topic, kafka: &KafkaSettings) -> Found {
    Found {
        id: topic.id(),
        name: topic.name().clone(),
        partitions: topic.partition_count(),
        config: kafka.topic_config(topic.configs()),
    }
}

/// Makes a topic with the defaults, as Kafka does when a client first asks for it. That another made it meanwhile is fine.
pub async fn auto_create(services: &Services, name: TopicName) -> Result<(), AutoCreateError> {
    let partitions = i32::try_from(services.kafka.number("num.partitions")).unwrap_or(1);
    let create = CreateTopic { id: TopicId::random(), name, partitions, configs: Vec::new() };
    match services.metadata.submit(Command::CreateTopic(create)).await? {
        Outcome::Refused(Refusal::TopicExists) => Ok(()),
        Outcome::Refused(why) => Err(AutoCreateError::Refused(why)),
        Outcome::Done
        | Outcome::ProducerIds(_)
        | Outcome::Segment(_)
        | Outcome::LogStarts(_)
        | Outcome::GroupSaved { .. }
        | Outcome::Offsets(_)
        | Outcome::Swapped(_) => Ok(()),
    }
}

/// Why a topic was not made.
#[derive(Debug, thiserror::Error)]
pub enum AutoCreateError {
    /// The state refused it.
    #[error(transparent)]
    Refused(Refusal),
    /// The journal did not take it.
    #[error(transparent)]
    Journal(#[from] SubmitError),
}
