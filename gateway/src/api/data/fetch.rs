//! Fetch (1), versions 4-18: batches out.
//!
//! - Sessions (KIP-227), topics by id from v13 (KIP-516), long poll by `min_bytes` and `max_wait_ms`.
//! - All partitions are read side by side; at least one whole batch per request even past the limits; the order in which
//!   partitions get bytes rotates with the session, so none starves.
//! - `read_committed` equals `read_uncommitted` as long as there are no transactions; the aborted list is empty.
//! - A `replica_id` of a broker is not trusted: there are no replica brokers (CVE-2018-1288).
//! - v11+: a consumer that says its rack is told a gateway of that rack to read from (KIP-392), if this one is elsewhere. Any
//!   gateway serves any fetch it is asked all the same.
//! - A gateway that is about to leave ends long polls and answers NOT_LEADER_OR_FOLLOWER, at which every client looks for
//!   another at once.
//!
//! Source: Kafka's `KafkaApis.handleFetchRequest`, `ReplicaManager.fetchMessages`.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::fetch_request::FetchRequest;
use metadata::model::ids::NodeId;
use metadata::model::offset::Offset;
use storage::error::ReadError;
use storage::reader::{ReadRequest, ReadResult};
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::handler::{Handler, Pending};
use crate::catalog::{Found, TopicRef, resolve};
use crate::cluster::Nearer;
use crate::context::Context;
use crate::fetch::session::{Asked, Fetch as Session, Told};
use crate::fetch::wait::enough;
use crate::limits;
use crate::wire::error_code::ErrorCode;
use crate::wire::fetch_answer::{FetchAnswer, FetchedPartition, FetchedTopic};

/// Isolation level of readers that see only committed transactions.
const READ_COMMITTED: i8 = 1;
/// First version in which a consumer says its rack.
const RACK: i16 = 11;

/// The handler.
pub struct Fetch;

/// What came of one partition.
#[derive(Debug)]
enum Read {
    Failed(ErrorCode),
    /// To be read at that gateway instead.
    Elsewhere(NodeId, Ends),
    Done(ReadResult),
}

/// Where a log ends, and where it begins.
#[derive(Debug, Clone, Copy)]
struct Ends {
    high_watermark: Offset,
    log_start: Offset,
}

impl Handler for Fetch {
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: RangeInclusive<i16> = 4..=18;
    type Request = FetchRequest;
    type Response = FetchAnswer;

    async fn begin(context: &Context, request: FetchRequest) -> Pending<FetchAnswer> {
        let asked = asked(&request);
        let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
            let named = TopicRef::new(&topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |partition| (named.clone(), *partition))
        });
        let forgotten: Vec<_> = forgotten.collect();
        let sessions = &context.services.fetch_sessions;
        let (id, epoch) = if context.version >= 7 { (request.session_id, request.session_epoch) } else { (0, -1) };
        match sessions.begin(id, epoch, asked, &forgotten) {
            Ok(session) => {
                let context = context.clone();
                Pending::later(async move { serve(context, request, session).await })
            }
            Err(code) => Pending::ready(FetchAnswer { error: code, ..FetchAnswer::default() }),
        }
    }

    fn error_code(answer: &FetchAnswer) -> i16 {
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let errors = std::iter::once(answer.error).chain(partitions.map(|partition| partition.error));
        errors.map(ErrorCode::code).find(|code| *code != 0).unwrap_or(0)
    }
}

fn asked(request: &FetchRequest) -> Vec<Asked> {
    let topics = request.topics.iter().flat_map(|topic| {
        let named = TopicRef::new(&topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |p| Asked {
            topic: named.clone(),
            partition: p.partition,
            offset: p.fetch_offset,
            max_bytes: p.partition_max_bytes,
            leader_epoch: p.current_leader_epoch,
        })
    });
    topics.collect()
}

async fn serve(context: Context, request: FetchRequest, session: Session) -> FetchAnswer {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(limits::FETCH_WAIT);
    let deadline = Instant::now() + wait;
    let services = &context.services;
    // Partitions of one topic mostly stand together: each run of them is looked up once.
    let mut wanted: Vec<TopicRef> = Vec::new();
    let mut places = Vec::with_capacity(session.asked.len());
    for asked in &session.asked {
        if wanted.last() != Some(&asked.topic) {
            wanted.push(asked.topic.clone());
        }
        places.push(wanted.len() - 1);
    }
    let topics = resolve(services, &wanted).await;
    let leaving = services.leaving.is_cancelled();
    let checked = session.asked.iter().zip(places).map(|(asked, place)| match leaving {
        true => Err(ErrorCode::NotLeaderOrFollower),
        false => check(asked, topics[place].as_ref()),
    });
    let checked: Vec<_> = checked.collect();
    if context.version >= RACK
        && let Some(reads) = elsewhere(&context, &request.rack_id, &checked)
    {
        let reads = session.asked.iter().zip(reads);
        return assemble(&session, reads.map(|(asked, read)| answer(asked.partition, read, false)).collect());
    }
    let requests: Vec<_> = checked.iter().filter_map(|c| c.as_ref().ok().copied()).collect();
    let fetch_max = u64::try_from(services.kafka.number("fetch.max.bytes")).unwrap_or(u64::MAX);
    let max_bytes = u64::try_from(request.max_bytes).unwrap_or(0).min(fetch_max);
    // With an error to tell there is nothing to wait for.
    if requests.len() == checked.len() {
        let min_bytes = u64::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
        let partitions = requests.iter().map(|request| request.partition);
        let kept = session.take_watch().filter(|watch| watch.is_over(partitions.clone()));
        let mut watch = kept.unwrap_or_else(|| services.metadata.watch(partitions));
        let enough = enough(&mut watch, &services.reader, &requests, min_bytes, deadline);
        services.leaving.run_until_cancelled(enough).await;
        session.keep_watch(watch);
    }
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let expected = usize::try_from(services.reader.available(&requests).bytes).unwrap_or(usize::MAX);
    let hold = services.answer_memory.take(expected.min(max_bytes)).await;
    let mut results = services.reader.read(&requests, max_bytes).await.into_iter();
    let reads = checked.into_iter().map(|checked| match checked {
        Err(code) => Read::Failed(code),
        Ok(_) => results.next().map_or(Read::Failed(ErrorCode::UnknownTopicOrPartition), Read::Done),
    });
    let committed = request.isolation_level == READ_COMMITTED;
    let partitions: Vec<_> =
        session.asked.iter().zip(reads).map(|(asked, read)| answer(asked.partition, read, committed)).collect();
    FetchAnswer { hold: Some(hold), ..assemble(&session, partitions) }
}

/// What each partition gets if the client is to read at a gateway of its own rack.
fn elsewhere(context: &Context, rack: &str, checked: &[Result<ReadRequest, ErrorCode>]) -> Option<Vec<Read>> {
    context.services.metadata.read(|state| {
        let nearer = Nearer::than_this(context, state, rack)?;
        let read = |checked: &Result<ReadRequest, ErrorCode>| {
            let partition = checked.map_err(Read::Failed)?.partition;
            let log = state.log(partition).ok_or(Read::Failed(ErrorCode::UnknownTopicOrPartition))?;
            let node = nearer.node(partition).ok_or(Read::Failed(ErrorCode::NotLeaderOrFollower))?;
            Ok(Read::Elsewhere(node, Ends { high_watermark: log.high_watermark(), log_start: log.log_start() }))
        };
        Some(checked.iter().map(|checked| read(checked).unwrap_or_else(|failed| failed)).collect())
    })
}

/// Where a partition's read starts, or what is wrong with asking.
fn check(asked: &Asked, found: Option<&Found>) -> Result<ReadRequest, ErrorCode> {
    let found = found.ok_or(match asked.topic {
        TopicRef::Name(_) => ErrorCode::UnknownTopicOrPartition,
        TopicRef::Id(_) => ErrorCode::UnknownTopicId,
    })?;
    let partition = found.partition(asked.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if asked.leader_epoch > limits::LEADER_EPOCH {
        return Err(ErrorCode::UnknownLeaderEpoch);
    }
    let offset = Offset::new(asked.offset).ok_or(ErrorCode::OffsetOutOfRange)?;
    Ok(ReadRequest { partition, offset, max_bytes: u32::try_from(asked.max_bytes).unwrap_or(0) })
}

fn answer(index: i32, read: Read, committed: bool) -> FetchedPartition {
    match read {
        Read::Failed(code) => FetchedPartition::failed(index, code),
        Read::Elsewhere(node, Ends { high_watermark, log_start }) => FetchedPartition {
            index,
            high_watermark: high_watermark.get(),
            last_stable_offset: high_watermark.get(),
            log_start_offset: log_start.get(),
            preferred_read_replica: node.0,
            ..FetchedPartition::failed(index, ErrorCode::None)
        },
        Read::Done(ReadResult { error: Some(error), .. }) => {
            if let ReadError::Corrupt(what) = &error {
                tracing::error!(partition = index, %what, "stored bytes are damaged");
            }
            FetchedPartition::failed(index, code_of(&error))
        }
        Read::Done(ReadResult { records, high_watermark, last_stable, log_start, error: None }) => FetchedPartition {
            index,
            high_watermark: high_watermark.get(),
            last_stable_offset: last_stable.get(),
            log_start_offset: log_start.get(),
            aborted: committed.then(Vec::new),
            records,
            ..FetchedPartition::failed(index, ErrorCode::None)
        },
    }
}

/// What a client is told of a failed read: a storage error is retried by every client, damaged bytes are shown to its user.
pub fn code_of(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        ReadError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        ReadError::Storage(_) | ReadError::Journal(_) => ErrorCode::KafkaStorageError,
        ReadError::Corrupt(_) => ErrorCode::CorruptMessage,
    }
}

fn assemble(session: &Session, partitions: Vec<FetchedPartition>) -> FetchAnswer {
    let told = partitions.iter().map(|p| {
        let told = Told { high_watermark: p.high_watermark, log_start: p.log_start_offset, error: p.error.is_error() };
        (told, p.preferred_read_replica >= 0 || p.records.iter().any(|chunk: &Bytes| !chunk.is_empty()))
    });
    let told: Vec<_> = told.collect();
    let chosen = session.choose(&told);
    let mut topics: Vec<FetchedTopic> = Vec::new();
    let sent = session.asked.iter().zip(partitions).zip(chosen).filter(|(_, chosen)| *chosen);
    for ((asked, partition), _) in sent {
        let (name, id) = match &asked.topic {
            TopicRef::Name(name) => (&**name, Uuid::nil()),
            TopicRef::Id(id) => ("", *id),
        };
        match topics.last_mut().filter(|topic| topic.id == id && topic.name == name) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchedTopic { name: name.to_owned(), id, partitions: vec![partition] }),
        }
    }
    FetchAnswer { session_id: session.session_id, topics, ..FetchAnswer::default() }
}
