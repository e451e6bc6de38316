//! Topics: names, identities, explicit configs, and the logs of their partitions.

use std::collections::{BTreeMap, HashMap};

use super::log::LogIndex;
use super::objects::ObjectLedger;
use crate::command::{CreateTopic, Refusal};
use crate::model::ids::{TopicId, TopicName, TopicPartition};
use crate::model::limits::{
    CONFIG_NAME_MAX_LEN, CONFIG_VALUE_MAX_LEN, CONFIGS_PER_TOPIC_MAX, PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX,
    TOPICS_MAX,
};

/// One topic.
#[derive(Debug, Clone)]
pub struct Topic {
    id: TopicId,
    name: TopicName,
    created_ms: i64,
    configs: BTreeMap<String, String>,
    logs: Vec<LogIndex>,
}

impl Topic {
    /// Its identity.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// State time of its creation, ms.
    pub fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// The configs set explicitly, by name.
    pub fn configs(&self) -> &BTreeMap<String, String> {
        &self.configs
    }

    /// Number of partitions.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.logs.len()).expect("capped when created")
    }

    /// Its partitions, in order.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = TopicPartition> + use<> {
        let topic = self.id;
        (0..self.partition_count()).map(move |partition| TopicPartition { topic, partition })
    }

    /// A topic as a snapshot has it; `None` without partitions, or with more than can be numbered.
    pub(super) fn restore(
        id: TopicId,
        name: TopicName,
        created_ms: i64,
        configs: BTreeMap<String, String>,
        logs: Vec<LogIndex>,
    ) -> Option<Self> {
        let legal = !logs.is_empty() && i32::try_from(logs.len()).is_ok();
        legal.then_some(Self { id, name, created_ms, configs, logs })
    }

    pub(super) fn log(&self, partition: i32) -> Option<&LogIndex> {
        usize::try_from(partition).ok().and_then(|partition| self.logs.get(partition))
    }

    pub(super) fn has_sparse_extents(&self) -> bool {
        self.logs.iter().any(LogIndex::has_sparse_extents)
    }

    pub(super) fn logs(&self) -> &[LogIndex] {
        &self.logs
    }
}

/// All topics.
///
/// The hash maps are only looked up, never iterated; iteration is by name.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    by_id: HashMap<TopicId, Topic>,
    by_name: BTreeMap<TopicName, TopicId>,
    /// Names that have a '.' or '_', with every '.' written as '_': no two topics share one.
    by_metric_name: HashMap<String, TopicId>,
    partitions: usize,
}

impl Topics {
    /// The topic of that identity.
    pub fn get(&self, id: TopicId) -> Option<&Topic> {
        self.by_id.get(&id)
    }

    /// The topic of that name.
    pub fn by_name(&self, name: &TopicName) -> Option<&Topic> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }

    /// All topics, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values().filter_map(|id| self.by_id.get(id))
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Partitions of all topics together.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    pub(super) fn log(&self, tp: TopicPartition) -> Result<&LogIndex, Refusal> {
        let topic = self.by_id.get(&tp.topic).ok_or(Refusal::UnknownTopic)?;
        topic.log(tp.partition).ok_or(Refusal::UnknownPartition)
    }

    pub(super) fn log_mut(&mut self, tp: TopicPartition) -> Result<&mut LogIndex, Refusal> {
        let topic = self.by_id.get_mut(&tp.topic).ok_or(Refusal::UnknownTopic)?;
        let partition = usize::try_from(tp.partition).ok();
        partition.and_then(|partition| topic.logs.get_mut(partition)).ok_or(Refusal::UnknownPartition)
    }

    /// All logs, in no order: what is done to one must not depend on another.
    pub(super) fn each_log(&mut self, mut act: impl FnMut(&mut LogIndex)) {
        self.by_id.values_mut().flat_map(|topic| &mut topic.logs).for_each(&mut act);
    }

    pub(super) fn create(&mut self, create: &CreateTopic, now_ms: i64) -> Result<(), Refusal> {
        if create.id == TopicId::default() {
            return Err(Refusal::Malformed);
        }
        if self.by_name.contains_key(&create.name) || self.by_id.contains_key(&create.id) {
            return Err(Refusal::TopicExists);
        }
        if metric_name(&create.name).is_some_and(|name| self.by_metric_name.contains_key(&name)) {
            return Err(Refusal::TopicCollides);
        }
        let partitions = partition_total(create.partitions)?;
        let configs: BTreeMap<_, _> = create.configs.iter().cloned().collect();
        let full = self.len() >= TOPICS_MAX || self.partitions + partitions > PARTITIONS_MAX;
        if full || configs.len() > CONFIGS_PER_TOPIC_MAX || configs.iter().any(|(name, value)| too_long(name, value)) {
            return Err(Refusal::LimitReached);
        }
        self.enter(Topic {
            id: create.id,
            name: create.name.clone(),
            created_ms: now_ms,
            configs,
            logs: vec![LogIndex::default(); partitions],
        });
        Ok(())
    }

    /// Removes the topic and everything its logs hold. Returns its partitions.
    pub(super) fn delete(
        &mut self,
        id: TopicId,
        objects: &mut ObjectLedger,
        now_ms: i64,
    ) -> Result<impl Iterator<Item = TopicPartition> + use<>, Refusal> {
        let topic = self.by_id.remove(&id).ok_or(Refusal::UnknownTopic)?;
        self.by_name.remove(&topic.name);
        if let Some(name) = metric_name(&topic.name) {
            self.by_metric_name.remove(&name);
        }
        self.partitions -= topic.logs.len();
        let partitions = topic.partitions();
        topic.logs.into_iter().for_each(|log| log.release_all(objects, now_ms));
        Ok(partitions)
    }

    pub(super) fn grow(&mut self, id: TopicId, total: i32) -> Result<(), Refusal> {
        let others = self.partitions;
        let topic = self.by_id.get_mut(&id).ok_or(Refusal::UnknownTopic)?;
        let total = partition_total(total)?;
        if total <= topic.logs.len() {
            return Err(Refusal::InvalidPartitions);
        }
        let added = total - topic.logs.len();
        if others + added > PARTITIONS_MAX {
            return Err(Refusal::LimitReached);
        }
        topic.logs.reserve_exact(added);
        topic.logs.resize_with(total, LogIndex::default);
        self.partitions += added;
        Ok(())
    }

    pub(super) fn set_configs(&mut self, id: TopicId, changes: &[(String, Option<String>)]) -> Result<(), Refusal> {
        let topic = self.by_id.get_mut(&id).ok_or(Refusal::UnknownTopic)?;
        if changes.iter().any(|(name, value)| value.as_ref().is_some_and(|value| too_long(name, value))) {
            return Err(Refusal::LimitReached);
        }
        let mut configs = topic.configs.clone();
        for (name, value) in changes {
            match value {
                Some(value) => configs.insert(name.clone(), value.clone()),
                None => configs.remove(name),
            };
        }
        if configs.len() > CONFIGS_PER_TOPIC_MAX {
            return Err(Refusal::LimitReached);
        }
        topic.configs = configs;
        Ok(())
    }

    /// Puts a topic back as a snapshot has it; `None` if its name or identity is there already.
    pub(super) fn restore(&mut self, topic: Topic) -> Option<()> {
        let known = self.by_id.contains_key(&topic.id) || self.by_name.contains_key(&topic.name);
        (!known).then(|| self.enter(topic))
    }

    fn enter(&mut self, topic: Topic) {
        self.partitions += topic.logs.len();
        self.by_name.insert(topic.name.clone(), topic.id);
        if let Some(name) = metric_name(&topic.name) {
            self.by_metric_name.insert(name, topic.id);
        }
        self.by_id.insert(topic.id, topic);
    }
}

/// The name Kafka's metrics would show, if it can be another topic's too (`Topic.hasCollisionChars`).
fn metric_name(name: &TopicName) -> Option<String> {
    name.as_str().contains(['.', '_']).then(|| name.as_str().replace('.', "_"))
}

fn partition_total(total: i32) -> Result<usize, Refusal> {
    let legal = (1..=PARTITIONS_PER_TOPIC_MAX).contains(&total);
    usize::try_from(total).ok().filter(|_| legal).ok_or(Refusal::InvalidPartitions)
}

fn too_long(name: &str, value: &str) -> bool {
    name.len() > CONFIG_NAME_MAX_LEN || value.len() > CONFIG_VALUE_MAX_LEN
}
