//! `null-server`: answers producers and consumers at once and keeps nothing, so that what a client reaches with it is the
//! client's own limit, on this machine, over this loopback.
//!
//! Every topic exists, with one partition. A produce is acked unread; a fetch is answered with the largest batch that was
//! ever produced, over and over, at whatever offset is asked for. Groups have one member. It trusts its client: for benchmarks only.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use clap::Parser;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, HeartbeatResponse, InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, ProduceRequest,
    ProduceResponse, ProducerId, RequestHeader, RequestKind, ResponseHeader, ResponseKind, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it answers, and in which versions: by name of topic, and as new as kafka-clients 4 asks for.
const SERVED: [(ApiKey, i16, i16); 13] = [
    (ApiKey::Produce, 3, 12),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 1, 12),
    (ApiKey::OffsetCommit, 2, 8),
    (ApiKey::OffsetFetch, 8, 8),
    (ApiKey::FindCoordinator, 4, 4),
    (ApiKey::JoinGroup, 4, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 4),
    (ApiKey::SyncGroup, 3, 5),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::InitProducerId, 0, 4),
];
/// The end of every log: never reached.
const END: i64 = i64::MAX >> 1;
/// Longest frame it takes, bytes.
const FRAME_MAX: usize = 128 << 20;
/// Where a batch tells the offset of its last record, relative to the first.
const LAST_OFFSET_DELTA: std::ops::Range<usize> = 23..27;
const READ_BUFFER: usize = 256 << 10;
/// How long a fetch waits before the first produce.
const EMPTY_WAIT: Duration = Duration::from_millis(100);

/// A server that keeps nothing, to show a client's own limit.
#[derive(Debug, Parser)]
#[command(name = "null-server")]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
}

/// What all connections share.
#[derive(Debug)]
struct Null {
    address: SocketAddr,
    /// The batch all fetches get; empty before the first produce.
    batch: RwLock<Bytes>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match tokio::runtime::Runtime::new().and_then(|runtime| runtime.block_on(run(arguments.listen))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let null = Arc::new(Null { address: listener.local_addr()?, batch: RwLock::default() });
    println!("listening on {}", null.address);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let null = Arc::clone(&null);
                connections.spawn(async move { serve(stream, &null).await });
            }
            Some(ended) = connections.join_next() => match ended {
                Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => eprintln!("null-server: {error}"),
                Ok(_) | Err(_) => {}
            },
            ended = tokio::signal::ctrl_c() => return ended,
        }
    }
}

/// One connection, request by request, until the client closes it.
async fn serve(stream: TcpStream, null: &Null) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(READ_BUFFER, stream);
    loop {
        let length = usize::try_from(stream.read_u32().await?).map_err(io::Error::other)?;
        if length > FRAME_MAX {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut frame = BytesMut::with_capacity(length);
        while frame.len() < length {
            let missing = length - frame.len();
            if stream.read_buf(&mut (&mut frame).limit(missing)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if frame.starts_with(&(ApiKey::Fetch as i16).to_be_bytes()) && null.has_nothing() {
            // A reader that is there before the producer must not take the machine by asking again and again.
            tokio::time::sleep(EMPTY_WAIT).await;
        }
        if let Some(answer) = null.answer(frame.freeze()).map_err(io::Error::other)? {
            stream.write_all(&answer).await?;
        }
    }
}

impl Null {
    /// The whole frame of the answer; none for a produce that wants none.
    fn answer(&self, mut frame: Bytes) -> Result<Option<Bytes>, String> {
        if frame.len() < 8 {
            return Err("a frame without a header".to_owned());
        }
        let (key, version) = (i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]]));
        let api = ApiKey::try_from(key).map_err(|()| format!("no API has the key {key}"))?;
        let served = SERVED.iter().any(|(served, min, max)| *served == api && (*min..=*max).contains(&version));
        let wrong = |error| format!("{api:?} {version}: {error}");
        let header = RequestHeader::decode(&mut frame, api.request_header_version(version)).map_err(wrong)?;
        // An unknown version of ApiVersions is answered in version 0, as Kafka does; others never ask beyond what was said.
        let (response, version) = match (api, served) {
            (ApiKey::ApiVersions, _) => (versions(served), if served { version } else { 0 }),
            (_, true) => {
                let request = RequestKind::decode(api, &mut frame, version).map_err(wrong)?;
                match self.respond(request)? {
                    Some(response) => (response, version),
                    None => return Ok(None),
                }
            }
            (_, false) => return Err(format!("{api:?} {version} is not served")),
        };
        let mut out = BytesMut::with_capacity(256);
        out.put_u32(0);
        let answered = ResponseHeader::default().with_correlation_id(header.correlation_id);
        answered.encode(&mut out, api.response_header_version(version)).map_err(wrong)?;
        response.encode(&mut out, version).map_err(wrong)?;
        let length = u32::try_from(out.len() - 4).map_err(|error| error.to_string())?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        Ok(Some(out.freeze()))
    }

    fn respond(&self, request: RequestKind) -> Result<Option<ResponseKind>, String> {
        Ok(Some(match request {
            RequestKind::Produce(request) => {
                let (acks, answer) = (request.acks, self.produce(request));
                if acks == 0 {
                    return Ok(None);
                }
                ResponseKind::Produce(answer)
            }
            RequestKind::Fetch(request) => ResponseKind::Fetch(self.fetch(request)),
            RequestKind::Metadata(request) => ResponseKind::Metadata(self.metadata(request)),
            RequestKind::FindCoordinator(request) => ResponseKind::FindCoordinator(self.coordinator(request)),
            RequestKind::ListOffsets(request) => ResponseKind::ListOffsets(offsets(request)),
            RequestKind::InitProducerId(_) => {
                ResponseKind::InitProducerId(InitProducerIdResponse::default().with_producer_id(ProducerId(1)))
            }
            RequestKind::JoinGroup(request) => ResponseKind::JoinGroup(join(request)),
            RequestKind::SyncGroup(request) => ResponseKind::SyncGroup(sync(request)),
            RequestKind::Heartbeat(_) => ResponseKind::Heartbeat(HeartbeatResponse::default()),
            RequestKind::LeaveGroup(_) => ResponseKind::LeaveGroup(LeaveGroupResponse::default()),
            RequestKind::OffsetCommit(request) => ResponseKind::OffsetCommit(committed(request)),
            RequestKind::OffsetFetch(request) => ResponseKind::OffsetFetch(nothing_committed(request)),
            other => return Err(format!("{other:?} is not served")),
        }))
    }

    fn produce(&self, request: ProduceRequest) -> ProduceResponse {
        let mut answer = ProduceResponse::default();
        for topic in request.topic_data {
            let mut of_topic = TopicProduceResponse::default().with_name(topic.name);
            for partition in topic.partition_data {
                if let Some(records) = partition.records {
                    self.keep_largest(&records);
                }
                of_topic
                    .partition_responses
                    .push(PartitionProduceResponse::default().with_index(partition.index).with_base_offset(0));
            }
            answer.responses.push(of_topic);
        }
        answer
    }

    fn has_nothing(&self) -> bool {
        self.batch.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn keep_largest(&self, records: &Bytes) {
        let batch = first_batch(records);
        if batch.len() > self.batch.read().unwrap_or_else(PoisonError::into_inner).len() {
            *self.batch.write().unwrap_or_else(PoisonError::into_inner) = Bytes::copy_from_slice(batch);
        }
    }

    fn fetch(&self, request: FetchRequest) -> FetchResponse {
        let batch = self.batch.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut answer = FetchResponse::default();
        for topic in request.topics {
            let mut of_topic = FetchableTopicResponse::default().with_topic(topic.topic);
            for partition in topic.partitions {
                let limit = usize::try_from(partition.partition_max_bytes).unwrap_or(0);
                let data = PartitionData::default()
                    .with_partition_index(partition.partition)
                    .with_high_watermark(END)
                    .with_last_stable_offset(END)
                    .with_log_start_offset(0)
                    .with_aborted_transactions(Some(Vec::new()))
                    .with_records(Some(repeated(&batch, partition.fetch_offset, limit)));
                of_topic.partitions.push(data);
            }
            answer.responses.push(of_topic);
        }
        answer
    }

    fn host(&self) -> StrBytes {
        StrBytes::from_string(self.address.ip().to_string())
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(1))
            .with_host(self.host())
            .with_port(self.address.port().into());
        let partition = MetadataResponsePartition::default()
            .with_leader_id(BrokerId(1))
            .with_leader_epoch(0)
            .with_replica_nodes(vec![BrokerId(1)])
            .with_isr_nodes(vec![BrokerId(1)]);
        let topic = |name| MetadataResponseTopic::default().with_name(name).with_partitions(vec![partition.clone()]);
        let asked = request.topics.unwrap_or_default();
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_controller_id(BrokerId(1))
            .with_topics(asked.into_iter().map(|asked| topic(asked.name)).collect())
    }

    fn coordinator(&self, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
        let coordinator = |key| {
            Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(1))
                .with_host(self.host())
                .with_port(self.address.port().into())
        };
        FindCoordinatorResponse::default()
            .with_coordinators(request.coordinator_keys.into_iter().map(coordinator).collect())
    }
}

/// The first batch of a produce's records: its base offset, its length, and so many bytes.
fn first_batch(records: &[u8]) -> &[u8] {
    let length = records.get(8..12).map_or(0, |mut bytes| bytes.get_u32() as usize);
    records.get(..12 + length).unwrap_or(records)
}

/// The batch again and again, with offsets that go on from the one asked for: as often as the limit holds, at least once.
fn repeated(batch: &Bytes, mut offset: i64, limit: usize) -> Bytes {
    let Some(mut delta) = batch.get(LAST_OFFSET_DELTA) else { return Bytes::new() };
    let records = i64::from(delta.get_i32()) + 1;
    let times = (limit / batch.len()).max(1);
    let mut out = BytesMut::with_capacity(times * batch.len());
    for _ in 0..times {
        out.put_i64(offset);
        out.put_slice(&batch[8..]);
        offset += records;
    }
    out.freeze()
}

fn versions(served: bool) -> ResponseKind {
    const UNSUPPORTED_VERSION: i16 = 35;
    let version = |&(api, min, max): &(ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(api as i16).with_min_version(min).with_max_version(max)
    };
    ResponseKind::ApiVersions(
        ApiVersionsResponse::default()
            .with_error_code(if served { 0 } else { UNSUPPORTED_VERSION })
            .with_api_keys(SERVED.iter().map(version).collect()),
    )
}

/// Every log begins at 0, and so does every reader.
fn offsets(request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partition = |index| ListOffsetsPartitionResponse::default().with_partition_index(index).with_offset(0);
        ListOffsetsTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// The one member leads itself.
fn join(request: JoinGroupRequest) -> JoinGroupResponse {
    let id = StrBytes::from_static_str("the-member");
    let first = request.protocols.into_iter().next().unwrap_or_default();
    let member = JoinGroupResponseMember::default().with_member_id(id.clone()).with_metadata(first.metadata);
    JoinGroupResponse::default()
        .with_generation_id(1)
        .with_protocol_type(Some(request.protocol_type))
        .with_protocol_name(Some(first.name))
        .with_leader(id.clone())
        .with_member_id(id)
        .with_members(vec![member])
}

fn sync(request: SyncGroupRequest) -> SyncGroupResponse {
    let assignment = request.assignments.into_iter().next().map(|of_member| of_member.assignment);
    SyncGroupResponse::default()
        .with_protocol_type(request.protocol_type)
        .with_protocol_name(request.protocol_name)
        .with_assignment(assignment.unwrap_or_default())
}

fn committed(request: OffsetCommitRequest) -> OffsetCommitResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partition = |index| OffsetCommitResponsePartition::default().with_partition_index(index);
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn nothing_committed(request: OffsetFetchRequest) -> OffsetFetchResponse {
    let partition =
        |index| OffsetFetchResponsePartitions::default().with_partition_index(index).with_committed_offset(-1);
    let groups = request.groups.into_iter().map(|group| {
        let topics = group.topics.unwrap_or_default().into_iter().map(|topic| {
            OffsetFetchResponseTopics::default()
                .with_name(topic.name)
                .with_partitions(topic.partition_indexes.iter().map(|&index| partition(index)).collect())
        });
        OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics.collect())
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_is_repeated_at_the_offsets_asked_for() {
        // A header of three records and no records: 49 bytes behind the length, magic 2, last offset delta 2.
        let mut batch = vec![0; 61];
        (batch[11], batch[16], batch[26], batch[60]) = (49, 2, 2, 3);
        let batch = Bytes::from(batch);
        let two = [&batch[..], &batch[..]].concat();
        assert_eq!(first_batch(&two), &batch[..]);
        let answered = repeated(&batch, 30, 2 * batch.len() + 1);
        let bases: Vec<i64> = metadata::model::batch::BatchIter::new(&answered)
            .map(|view| view.expect("a whole batch").base_offset())
            .collect();
        assert_eq!(bases, [30, 33]);
        assert_eq!(repeated(&batch, 0, 1).len(), batch.len(), "at least one, whatever the limit");
    }
}
