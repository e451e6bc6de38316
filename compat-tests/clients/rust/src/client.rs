//! rdkafka as the scenarios use it: a producer, a reader assigned by hand, a group member's consumer, the admin calls.
//!
//! Without: of `describe-cluster` the controller; `delete-offsets`, `describe-producers`, `describe-log-dirs` (no such calls).
//! Of `alter-configs` the refusal, which the library drops; it uses the older, not incremental request. Groups are described by `fetch_group_list`, offsets altered by
//! a consumer that commits without joining.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Runtime;

use crate::records::{Ack, Failure, OFFSET_OUT_OF_RANGE, Outcome, Record};

const CALL: Duration = Duration::from_secs(60);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime can be made"));

impl From<RDKafkaErrorCode> for Failure {
    fn from(code: RDKafkaErrorCode) -> Self {
        let number = if code == RDKafkaErrorCode::AutoOffsetReset { OFFSET_OUT_OF_RANGE } else { code as i32 };
        Failure::Refused(number, code.to_string())
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        error.rdkafka_error_code().map_or_else(|| Failure::Differs(error.to_string()), Failure::from)
    }
}

fn config(bootstrap: &str, pairs: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (name, value) in pairs {
        config.set(*name, *value);
    }
    config
}

/// A producer with the defaults and what the scenario changes.
pub struct Sender(FutureProducer);

impl Sender {
    pub fn new(bootstrap: &str, changed: &[(&str, &str)]) -> Outcome<Sender> {
        Ok(Sender(config(bootstrap, changed).create()?))
    }

    pub fn send(&self, topic: &str, record: &Record) -> Outcome<Ack> {
        Ok(self.send_all(topic, std::slice::from_ref(record))?[0])
    }

    /// Sends without waiting for each other; the acknowledgements in the order of the records.
    pub fn send_all(&self, topic: &str, records: &[Record]) -> Outcome<Vec<Ack>> {
        RUNTIME.block_on(async {
            let mut sent = Vec::with_capacity(records.len());
            for record in records {
                sent.push(self.0.send_result(outgoing(topic, record)).map_err(|(error, _)| error)?);
            }
            let mut acks = Vec::with_capacity(records.len());
            for done in join_all(sent).await {
                match done {
                    Ok(Ok(delivery)) => acks.push((delivery.partition, delivery.offset)),
                    Ok(Err((error, _))) => return Err(error.into()),
                    Err(_) => return Err(Failure::Differs("the producer dropped a record".to_owned())),
                }
            }
            Ok(acks)
        })
    }
}

fn outgoing<'a>(topic: &'a str, record: &'a Record) -> FutureRecord<'a, [u8], [u8]> {
    let mut out = FutureRecord::to(topic);
    out.key = record.key.as_deref();
    out.payload = record.value.as_deref();
    out.partition = record.partition;
    out.timestamp = record.timestamp;
    if !record.headers.is_empty() {
        let add = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
            all.insert(Header { key, value: value.as_deref() })
        };
        out.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), add));
    }
    out
}

fn incoming(message: &BorrowedMessage<'_>) -> Record {
    let headers =
        message.headers().map(|all| all.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect());
    Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp: message.timestamp().to_millis(),
        partition: Some(message.partition()),
        offset: message.offset(),
        log_append: matches!(message.timestamp(), Timestamp::LogAppendTime(_)),
    }
}

/// A rebalance: what was assigned (true) or revoked (false).
pub type Event = (bool, BTreeSet<i32>);

/// Notes the rebalances of a consumer.
#[derive(Default)]
pub struct Told(pub Mutex<Vec<Event>>);

impl ClientContext for Told {}

impl ConsumerContext for Told {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let event = match rebalance {
            Rebalance::Assign(parts) => (true, numbers(parts)),
            Rebalance::Revoke(parts) => (false, numbers(parts)),
            Rebalance::Error(_) => return,
        };
        self.0.lock().expect("no one panics with it").push(event);
    }
}

fn numbers(list: &TopicPartitionList) -> BTreeSet<i32> {
    list.elements().iter().map(TopicPartitionListElem::partition).collect()
}

fn list_of(topic: &str, offsets: &BTreeMap<i32, i64>) -> Outcome<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

/// A consumer, assigned by hand or in a group.
pub struct Reader(BaseConsumer<Told>);

impl Reader {
    /// Without a group; `reset` is `earliest`, `latest` or `error`.
    pub fn by_hand(bootstrap: &str, reset: &str) -> Outcome<Reader> {
        let pairs = [("group.id", "not-used"), ("enable.auto.commit", "false"), ("auto.offset.reset", reset)];
        Ok(Reader(config(bootstrap, &pairs).create_with_context(Told::default())?))
    }

    pub fn in_group(bootstrap: &str, topic: &str, group: &str, changed: &[(&str, &str)]) -> Outcome<Reader> {
        let mut config = config(bootstrap, changed);
        config.set("group.id", group).set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer<Told> = config.create_with_context(Told::default())?;
        consumer.subscribe(&[topic])?;
        Ok(Reader(consumer))
    }

    pub fn assign(&self, topic: &str, starts: &BTreeMap<i32, i64>) -> Outcome<()> {
        Ok(self.0.assign(&list_of(topic, starts)?)?)
    }

    pub fn seek(&self, topic: &str, partition: i32, offset: i64) -> Outcome<()> {
        Ok(self.0.seek(topic, partition, Offset::Offset(offset), CALL)?)
    }

    /// What has come, waiting for the first; an error only when no record came with it.
    pub fn poll(&self, wait: Duration) -> (Vec<Record>, Option<Failure>) {
        let (mut got, mut wait) = (Vec::new(), wait);
        while got.len() < 500 {
            match self.0.poll(wait) {
                None => break,
                Some(Ok(message)) => got.push(incoming(&message)),
                Some(Err(error)) => return (got, Some(error.into())),
            }
            wait = Duration::ZERO;
        }
        (got, None)
    }

    pub fn bounds(&self, topic: &str, partition: i32) -> Outcome<(i64, i64)> {
        Ok(self.0.fetch_watermarks(topic, partition, CALL)?)
    }

    pub fn offset_for_time(&self, topic: &str, partition: i32, millis: i64) -> Outcome<Option<i64>> {
        let found = self.0.offsets_for_times(list_of(topic, &BTreeMap::from([(partition, millis)]))?, CALL)?;
        Ok(found.elements()[0].offset().to_raw().filter(|offset| *offset >= 0))
    }

    pub fn assignment(&self) -> BTreeSet<i32> {
        self.0.assignment().map(|list| numbers(&list)).unwrap_or_default()
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.context().0.lock().expect("no one panics with it").clone()
    }

    pub fn commit(&self) -> Outcome<()> {
        Ok(self.0.commit_consumer_state(CommitMode::Sync)?)
    }

    pub fn commit_at(&self, topic: &str, offsets: &BTreeMap<i32, i64>) -> Outcome<()> {
        Ok(self.0.commit(&list_of(topic, offsets)?, CommitMode::Sync)?)
    }
}

/// A topic config: value, default, sensitive, read-only.
pub type Config = (String, bool, bool, bool);
/// A partition: id, leader, number of replicas, number in sync.
pub type Partition = (i32, i32, usize, usize);
/// A group: state, protocol type, partitions of each member.
pub type Group = (String, String, Vec<BTreeSet<i32>>);

pub struct Admin {
    inner: AdminClient<DefaultClientContext>,
    /// Asks for metadata; a consumer's questions do not create topics.
    asking: Reader,
    bootstrap: String,
}

impl Admin {
    pub fn new(bootstrap: &str) -> Outcome<Admin> {
        let asking = Reader::by_hand(bootstrap, "earliest")?;
        Ok(Admin { inner: config(bootstrap, &[]).create()?, asking, bootstrap: bootstrap.to_owned() })
    }

    pub fn cluster(&self) -> Outcome<(String, Vec<i32>)> {
        let nodes = self.asking.0.fetch_metadata(None, CALL)?.brokers().iter().map(|b| b.id()).collect();
        Ok((self.inner.inner().fetch_cluster_id(CALL).unwrap_or_default(), nodes))
    }

    pub fn create(&self, topic: &str, partitions: i32, configs: &[(&str, &str)], validate_only: bool) -> Outcome<()> {
        let replication = TopicReplication::Fixed(if partitions == -1 { -1 } else { 1 });
        let new = configs.iter().fold(NewTopic::new(topic, partitions, replication), |new, (k, v)| new.set(k, v));
        let options = AdminOptions::new().validate_only(validate_only);
        one(RUNTIME.block_on(self.inner.create_topics(&[new], &options))?)
    }

    pub fn topics(&self) -> Outcome<BTreeSet<String>> {
        let listed = self.asking.0.fetch_metadata(None, CALL)?;
        Ok(listed.topics().iter().map(|t| t.name().to_owned()).collect())
    }

    pub fn describe(&self, topic: &str) -> Outcome<Vec<Partition>> {
        let listed = self.asking.0.fetch_metadata(Some(topic), CALL)?;
        let described = &listed.topics()[0];
        if let Some(error) = described.error() {
            return Err(RDKafkaErrorCode::from(error).into());
        }
        Ok(described.partitions().iter().map(|p| (p.id(), p.leader(), p.replicas().len(), p.isr().len())).collect())
    }

    pub fn configs(&self, topic: &str) -> Outcome<HashMap<String, Config>> {
        let wanted = [ResourceSpecifier::Topic(topic)];
        let mut got = RUNTIME.block_on(self.inner.describe_configs(&wanted, &AdminOptions::new()))?;
        let entries = got.remove(0)?.entries;
        if entries.is_empty() {
            // The library drops the error of a resource: a topic that does not exist has no configs.
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition.into());
        }
        let shown = entries
            .into_iter()
            .map(|e| (e.name, (e.value.unwrap_or_default(), e.is_default, e.is_sensitive, e.is_read_only)));
        Ok(shown.collect())
    }

    pub fn alter(&self, topic: &str, values: &[(&str, &str)]) -> Outcome<()> {
        let change = values.iter().fold(AlterConfig::new(ResourceSpecifier::Topic(topic)), |c, (k, v)| c.set(k, v));
        let mut got = RUNTIME.block_on(self.inner.alter_configs(&[change], &AdminOptions::new()))?;
        got.remove(0).map(drop).map_err(|(_, code)| code.into())
    }

    pub fn grow(&self, topic: &str, partitions: usize) -> Outcome<()> {
        let wanted = [NewPartitions::new(topic, partitions)];
        one(RUNTIME.block_on(self.inner.create_partitions(&wanted, &AdminOptions::new()))?)
    }

    /// The low watermark after the deletion.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Outcome<Option<i64>> {
        let wanted = list_of(topic, &BTreeMap::from([(partition, before)]))?;
        let got = RUNTIME.block_on(self.inner.delete_records(&wanted, &AdminOptions::new()))?;
        got.elements()[0].error()?;
        Ok(got.elements()[0].offset().to_raw())
    }

    pub fn group(&self, group: &str) -> Outcome<Group> {
        let listed = self.asking.0.fetch_group_list(Some(group), CALL)?;
        let Some(found) = listed.groups().first() else { return Err(RDKafkaErrorCode::GroupIdNotFound.into()) };
        let shares = found.members().iter().map(|m| assigned(m.assignment().unwrap_or_default())).collect();
        Ok((found.state().to_owned(), found.protocol_type().to_owned(), shares))
    }

    pub fn groups(&self) -> Outcome<BTreeSet<String>> {
        let listed = self.asking.0.fetch_group_list(None, CALL)?;
        Ok(listed.groups().iter().map(|g| g.name().to_owned()).collect())
    }

    pub fn committed(&self, group: &str, topic: &str) -> Outcome<BTreeMap<i32, i64>> {
        let asking: BaseConsumer = config(&self.bootstrap, &[("group.id", group)]).create()?;
        let mut wanted = TopicPartitionList::new();
        for (partition, ..) in self.describe(topic)? {
            wanted.add_partition(topic, partition);
        }
        let got = asking.committed_offsets(wanted, CALL)?;
        let known = got.elements().into_iter().filter_map(|e| match e.offset() {
            Offset::Offset(offset) => Some((e.partition(), offset)),
            _ => None,
        });
        Ok(known.collect())
    }

    pub fn alter_offsets(&self, group: &str, topic: &str, offsets: &BTreeMap<i32, i64>) -> Outcome<()> {
        let committing: BaseConsumer = config(&self.bootstrap, &[("group.id", group)]).create()?;
        Ok(committing.commit(&list_of(topic, offsets)?, CommitMode::Sync)?)
    }

    pub fn delete_group(&self, group: &str) -> Outcome<()> {
        one(RUNTIME.block_on(self.inner.delete_groups(&[group], &AdminOptions::new()))?)
    }

    pub fn delete(&self, topic: &str) -> Outcome<()> {
        one(RUNTIME.block_on(self.inner.delete_topics(&[topic], &AdminOptions::new()))?)
    }
}

/// The only result of a request about one thing.
fn one(mut results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Outcome<()> {
    results.remove(0).map(drop).map_err(|(_, code)| code.into())
}

/// The partitions in a ConsumerProtocolAssignment: version, topics with name and partitions, user data.
fn assigned(mut bytes: &[u8]) -> BTreeSet<i32> {
    fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
        let (head, tail) = bytes.split_at(n.min(bytes.len()));
        *bytes = tail;
        head
    }
    fn number(bytes: &mut &[u8], n: usize) -> usize {
        take(bytes, n).iter().fold(0, |all, byte| all << 8 | usize::from(*byte))
    }
    let mut partitions = BTreeSet::new();
    number(&mut bytes, 2);
    for _ in 0..number(&mut bytes, 4) {
        let name = number(&mut bytes, 2);
        take(&mut bytes, name);
        for _ in 0..number(&mut bytes, 4) {
            partitions.insert(number(&mut bytes, 4) as i32);
        }
    }
    partitions
}
