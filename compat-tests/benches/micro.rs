//! The six steps a record passes on its way in and out, one by one, with the memory each of them takes: `make micro`.
//!
//! Pure steps are called as they are; `assemble` is a whole read out of the tail cache, since a read is what assembling is for.
//! Without `--bench` (as `cargo test --benches` runs it) every case runs once.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use gateway::produce::validate::{Rules, validate};
use gateway::wire::answer::encode;
use gateway::wire::error_code::ErrorCode;
use gateway::wire::fetch_answer::{FetchAnswer, FetchedPartition, FetchedTopic};
use gateway::wire::guard::check;
use gateway::wire::question::Question;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, ProduceRequest};
use kafka_protocol::protocol::Encodable;
use metadata::clock::ManualClock;
use metadata::command::{Command, CommitSegment, CreateTopic, Entry, OpenSession, Outcome, PartitionCommit};
use metadata::handle::Metadata;
use metadata::model::batch::{BatchSummary, ProducerStamp};
use metadata::model::extent::{Extent, ObjectId};
use metadata::model::ids::{Lsn, NodeId, ProducerId, SessionId, TopicId, TopicPartition};
use metadata::model::offset::Offset;
use metadata::model::topic_config::TopicConfig;
use metadata::state::State;
use storage::blob::lanes::{Lane, LanePermits, LanesOptions, ReadLanes};
use storage::blob::memory::MemoryStore;
use storage::cache::tail::TailCache;
use storage::codec::compression::Codec;
use storage::codec::records::RecordsBuilder;
use storage::metrics::StorageMetrics;
use storage::options::{ReaderOptions, WriterOptions};
use storage::reader::plan::plan;
use storage::reader::{ReadRequest, Reader, ReaderParts};
use storage::segment::builder::SegmentBuilder;
use storage::writer::{Submission, Writer, WriterParts};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const NOW_MS: i64 = 1_700_000_000_000;
/// The last versions by topic name.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const JOINED_MAX_BYTES: u64 = 8 << 20;

fn main() {
    divan::main();
}

fn topic() -> TopicId {
    TopicId(Uuid::from_u128(7))
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: topic(), partition }
}

fn batch(records: usize, bytes: usize, codec: Codec) -> Bytes {
    // Half of each value repeats, so that codecs have something to do and something to leave.
    let value = |record: usize| -> Vec<u8> {
        (0..bytes).map(|at| if at % 2 == 0 { b'a' } else { (record * 31 + at * 17) as u8 }).collect()
    };
    RecordsBuilder::new().codec(codec).values(NOW_MS, (0..records).map(value)).build()
}

fn summary(batch: &Bytes, records: u32) -> BatchSummary {
    let length = u32::try_from(batch.len()).expect("a batch of a few MiB");
    BatchSummary { records, length, max_timestamp: NOW_MS, stamp: None }
}

/// A producer's batch against the rules of its topic: records of so many bytes, in batches of about a MiB.
mod validate_batch {
    use super::*;

    fn of(bencher: Bencher<'_, '_>, records: usize, bytes: usize, codec: Codec) {
        let batch = batch(records, bytes, codec);
        let config = TopicConfig::resolve(|_| None);
        let rules = Rules { config: &config, now_ms: NOW_MS, version: PRODUCE_VERSION };
        bencher
            .counter(BytesCount::new(batch.len()))
            .counter(ItemsCount::new(records))
            .bench_local(|| validate(black_box(Some(&batch)), rules).expect("a valid batch"));
    }

    #[divan::bench(args = [10, 100, 1_024, 100_000])]
    fn plain(bencher: Bencher<'_, '_>, bytes: usize) {
        // Room for what stands around each record: a topic takes no batch above a MiB.
        of(bencher, 1_000_000 / (bytes + 20), bytes, Codec::None);
    }

    #[divan::bench(args = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd])]
    fn records_of_1_kib(bencher: Bencher<'_, '_>, codec: Codec) {
        of(bencher, 1_000, 1_024, codec);
    }
}

/// A segment of 8 MiB out of batches of so many partitions: laid out, summed, with its footer.
#[divan::bench(args = [1, 100, 1_000])]
fn build_segment(bencher: Bencher<'_, '_>, partitions: i32) {
    let size = (8 << 20) / usize::try_from(partitions).expect("positive");
    let batch = batch(size / 1_100 + 1, 1_024, Codec::None);
    let bytes = batch.len() * usize::try_from(partitions).expect("positive");
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let mut builder = SegmentBuilder::default();
        for partition in 0..partitions {
            builder.push(at(partition), batch.clone(), summary(&batch, 8));
        }
        let object = ObjectId { session: SessionId(1), counter: 1 };
        builder.finish(object, NOW_MS, |_| Some("topic".to_owned())).expect("below the largest segment")
    });
}

/// GETs for so many extents, ten to an object.
#[divan::bench(args = [1, 100, 1_000])]
fn plan_read(bencher: Bencher<'_, '_>, extents: u64) {
    let extent = |number: u64| Extent {
        base: Offset::new(0).expect("not negative"),
        end: Offset::new(1_000).expect("not negative"),
        object: ObjectId { session: SessionId(1), counter: number % extents.div_ceil(10) },
        position: number / 10 * 100_000,
        length: 100_000,
        max_timestamp: NOW_MS,
        sparse: false,
    };
    let extents: Vec<_> = (0..extents).map(extent).collect();
    bencher.counter(ItemsCount::new(extents.len())).bench_local(|| plan(black_box(&extents), JOINED_MAX_BYTES));
}

/// From a read to the bytes of a Fetch's answer, where everything is in the tail cache.
mod assemble {
    use super::*;

    struct Warm {
        runtime: tokio::runtime::Runtime,
        reader: Reader,
        requests: Vec<ReadRequest>,
        bytes: usize,
    }

    /// Partitions with one batch each, about a MiB together, written a moment ago.
    fn warm(partitions: i32) -> Warm {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let batch = batch(1_000 / usize::try_from(partitions).expect("positive"), 1_024, Codec::None);
        let records = u32::try_from(1_000 / partitions).expect("positive");
        let reader = runtime.block_on(async {
            let store = Arc::new(MemoryStore::default());
            let metadata = Metadata::for_tests().await;
            let create = CreateTopic {
                id: topic(),
                name: "warm".parse().expect("a topic's name"),
                partitions,
                configs: Vec::new(),
            };
            assert_eq!(metadata.submit(Command::CreateTopic(create)).await, Ok(Outcome::Done));
            let metrics = StorageMetrics::unregistered();
            let tail = Arc::new(TailCache::new(ReaderOptions::default().tail_bytes, metrics.tail.clone()));
            let writer = Writer::start(WriterParts {
                blobs: Arc::clone(&store) as _,
                metadata: metadata.clone(),
                tail: Arc::clone(&tail),
                clock: Arc::new(ManualClock::at(NOW_MS)),
                metrics: metrics.writer.clone(),
                options: WriterOptions::default(),
            });
            let permit = writer.admit(batch.len()).await.expect("there is memory");
            let submission = |partition| Submission {
                partition: at(partition),
                batch: batch.clone(),
                summary: summary(&batch, records),
                profile: None,
            };
            writer.submit(permit, (0..partitions).map(submission).collect()).await.expect("acked");
            let lane = |options| Arc::new(Lane::new(Arc::clone(&store) as _, LanePermits::new(options)));
            let LanesOptions { hot, cold, .. } = LanesOptions::default();
            let lanes = ReadLanes { tail: lane(hot), catch_up: lane(cold) };
            let options = ReaderOptions::default();
            Reader::new(ReaderParts { lanes, metadata, tail, disk: None, metrics, options })
        });
        let request = |partition| ReadRequest { partition: at(partition), offset: Offset::ZERO, max_bytes: 2 << 20 };
        let requests = (0..partitions).map(request).collect();
        Warm { runtime, reader, requests, bytes: batch.len() * usize::try_from(partitions).expect("positive") }
    }

    #[divan::bench(args = [1, 100, 1_000])]
    fn read_from_the_tail(bencher: Bencher<'_, '_>, partitions: i32) {
        let Warm { runtime, reader, requests, bytes } = warm(partitions);
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            let results = runtime.block_on(reader.read(black_box(&requests), 16 << 20));
            assert!(results.iter().all(|result| result.error.is_none() && result.bytes() > 0));
            results
        });
    }

    #[divan::bench(args = [1, 100, 1_000])]
    fn answer(bencher: Bencher<'_, '_>, partitions: i32) {
        let records = batch(1_000 / usize::try_from(partitions).expect("positive"), 1_024, Codec::None);
        let made = || {
            let partition = |index| FetchedPartition {
                high_watermark: 1_000,
                last_stable_offset: 1_000,
                log_start_offset: 0,
                records: vec![records.clone()],
                ..FetchedPartition::failed(index, ErrorCode::None)
            };
            FetchAnswer {
                throttle_time_ms: 0,
                error: ErrorCode::None,
                session_id: 1,
                topics: vec![FetchedTopic {
                    name: "topic".to_owned(),
                    id: topic().0,
                    partitions: (0..partitions).map(partition).collect(),
                }],
                endpoints: Vec::new(),
                hold: None,
            }
        };
        bencher
            .counter(BytesCount::new(records.len() * usize::try_from(partitions).expect("positive")))
            .with_inputs(made)
            .bench_local_values(|answer| encode(ApiKey::Fetch, FETCH_VERSION, 1, answer).expect("it can be said"));
    }
}

/// A commit of so many batches, each of a partition and an idempotent producer of its own, applied to a state that grows by it.
#[divan::bench(args = [1, 100, 1_600])]
fn apply_commit(bencher: Bencher<'_, '_>, batches: i32) {
    const SESSION: SessionId = SessionId(100);
    let mut state = State::default();
    let mut sequence = 0;
    let mut say = move |command: Command| {
        sequence += 1;
        let entry = Entry { session: SESSION, sequence, time_ms: NOW_MS, commands: vec![command], follows: None };
        let lsn = Lsn(state.applied().0 + 1);
        state.apply(lsn, &entry).outcomes
    };
    say(Command::OpenSession(OpenSession {
        node: NodeId(1),
        listeners: Vec::new(),
        rack: None,
        feature_level: 0,
        cluster_id: "bench".to_owned(),
        fence_others: false,
    }));
    let name = "topic".parse().expect("a topic's name");
    say(Command::CreateTopic(CreateTopic { id: topic(), name, partitions: batches, configs: Vec::new() }));
    say(Command::AllocateProducerIds { count: u32::try_from(batches).expect("positive") });
    let mut round = 0;
    let commit = move || {
        let stamp = |partition: i32| {
            Some(ProducerStamp {
                id: ProducerId(partition.into()),
                epoch: 0,
                base_sequence: round * 8,
                transactional: false,
            })
        };
        let part = |partition: i32| PartitionCommit {
            partition: at(partition),
            position: 8 + 9_000 * u64::from(partition.unsigned_abs()),
            batches: vec![BatchSummary { records: 8, length: 9_000, max_timestamp: NOW_MS, stamp: stamp(partition) }],
        };
        let partitions = (0..batches).map(part).collect();
        let object = ObjectId { session: SESSION, counter: u64::from(round.unsigned_abs()) };
        round += 1;
        Command::CommitSegment(CommitSegment { object, object_bytes: 16 << 20, partitions })
    };
    bencher.counter(ItemsCount::new(batches.unsigned_abs())).with_inputs(commit).bench_local_values(|command| {
        let outcomes = say(command);
        assert!(matches!(outcomes[..], [Outcome::Segment(_)]), "{outcomes:?}");
    });
}

/// A request's frame judged by its shape and then decoded.
mod frame {
    use super::*;

    fn body(version: i16, request: &impl Encodable) -> Bytes {
        let mut out = BytesMut::new();
        request.encode(&mut out, version).expect("a request that can be said");
        out.freeze()
    }

    fn produce() -> Bytes {
        let records = batch(1_000, 1_024, Codec::None);
        body(PRODUCE_VERSION, &compat_tests::requests::produce("topic", -1, 30_000, vec![(0, Some(records))]))
    }

    fn fetch() -> Bytes {
        let partition = |index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default()
            .with_topic(compat_tests::requests::topic_name("topic"))
            .with_partitions((0..100).map(partition).collect());
        body(FETCH_VERSION, &FetchRequest::default().with_max_bytes(50 << 20).with_topics(vec![asked]))
    }

    #[divan::bench]
    fn guard_produce_of_1_mib(bencher: Bencher<'_, '_>) {
        let body = produce();
        bencher.bench_local(|| check(0, PRODUCE_VERSION, black_box(&body)).expect("a good request"));
    }

    #[divan::bench]
    fn guard_fetch_of_100_partitions(bencher: Bencher<'_, '_>) {
        let body = fetch();
        bencher.bench_local(|| check(1, FETCH_VERSION, black_box(&body)).expect("a good request"));
    }

    #[divan::bench]
    fn decode_produce_of_1_mib(bencher: Bencher<'_, '_>) {
        let body = produce();
        bencher.with_inputs(|| body.clone()).bench_local_values(|mut body| {
            <ProduceRequest as Question>::read(&mut body, PRODUCE_VERSION).expect("a good request")
        });
    }

    #[divan::bench]
    fn decode_fetch_of_100_partitions(bencher: Bencher<'_, '_>) {
        let body = fetch();
        bencher.with_inputs(|| body.clone()).bench_local_values(|mut body| {
            <FetchRequest as Question>::read(&mut body, FETCH_VERSION).expect("a good request")
        });
    }

    /// What reading a frame off a socket costs beside them: its bytes, copied once.
    #[divan::bench]
    fn copy_of_1_mib(bencher: Bencher<'_, '_>) {
        let body = produce();
        bencher.counter(BytesCount::new(body.len())).bench_local(|| {
            let mut out = BytesMut::with_capacity(body.len());
            out.put_slice(black_box(&body));
            out.freeze()
        });
    }
}
