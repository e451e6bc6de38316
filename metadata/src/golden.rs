//! Golden files: the bytes that every later build must still read, and that this build must still write.

use std::fmt::Write;
use std::path::PathBuf;

use uuid::Uuid;

use crate::codec::run::{encode_run, hash_run};
use crate::command::{
    AdvertisedListener, Command, CommitOffsets, CommitSegment, CommittedOffset, CreateTopic, Entry, FoldExtents,
    NewExtent, OpenSession, PartitionCommit, PartitionFold, PartitionSwap, SaveGroup, SwapExtents, UnfoldExtents,
};
use crate::model::batch::{BatchSummary, ProducerStamp};
use crate::model::extent::{Extent, ObjectId};
use crate::model::ids::{Lsn, NodeId, ProducerId, SessionId, TopicId, TopicPartition};
use crate::model::offset::Offset;

const HEADER: &str = "# Pinned bytes. A change here means that builds in the field read them differently: raise the
# format version and add a file instead. To write a new file: GOLDEN_WRITE=1 cargo test -p metadata golden pinned
";

/// Compares with the file, or writes it if `GOLDEN_WRITE` is set.
pub(crate) fn check(file: &str, bytes: &[u8]) {
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        let mut text = HEADER.to_owned();
        for line in bytes.chunks(32) {
            line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push('\n');
        }
        std::fs::write(path(file), text).unwrap();
    }
    assert!(read(file) == bytes, "the bytes differ from golden/{file}; its first lines say what to do");
}

/// The bytes of a golden file.
pub(crate) fn read(file: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(path(file)).unwrap();
    let digits: Vec<u8> = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::bytes).collect();
    digits.chunks(2).map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap()).collect()
}

fn path(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "golden", file].iter().collect()
}

/// The topic of the golden files.
pub(crate) fn topic() -> TopicId {
    TopicId(Uuid::from_u64_pair(0x0123_4567_89ab_4def, 0x8899_aabb_ccdd_eeff))
}

/// An entry with every command, every field set to something of its own. Applied as the first entry, most take effect.
pub(crate) fn entry() -> Entry {
    let session = SessionId(0xfeed_face_cafe_beef);
    let mut commands = vec![
        Command::OpenSession(OpenSession {
            node: NodeId(3),
            listeners: vec![AdvertisedListener { name: "PLAINTEXT".into(), host: "kafka.example".into(), port: 9092 }],
            rack: Some("zone-a".into()),
            feature_level: 0,
            cluster_id: "c1u5t3r".into(),
            fence_others: true,
        }),
        Command::ExpireSession { session: SessionId(0xdead), last_seen: Lsn(11) },
        Command::CreateTopic(CreateTopic {
            id: topic(),
            name: "orders.eu".parse().unwrap(),
            partitions: 2,
            configs: vec![("retention.ms".into(), "60000".into())],
        }),
        Command::CreatePartitions { topic: topic(), total: 3 },
        Command::SetTopicConfigs {
            topic: topic(),
            changes: vec![("max.message.bytes".into(), Some("1000".into())), ("retention.ms".into(), None)],
        },
        Command::AllocateProducerIds { count: 1_000 },
        commit(session),
    ];
    commands.extend(group_commands());
    commands.extend([
        Command::AdvanceLogStart { starts: vec![(partition(0), Offset::new(3).unwrap())] },
        Command::ForgetObjects { objects: vec![ObjectId { session, counter: 8 }] },
        Command::ExpireState { producer_idle_ms: 86_400_000, offsets_retention_ms: 604_800_000 },
        Command::RaiseFeatureLevel { level: 1 },
        Command::DeleteTopic { topic: TopicId(Uuid::from_u64_pair(1, 2)) },
        Command::CloseSession,
    ]);
    Entry { session, sequence: 1, time_ms: 1_700_000_000_123, commands, follows: None }
}

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: topic(), partition }
}

fn commit(session: SessionId) -> Command {
    let batch = |base_sequence, transactional| BatchSummary {
        records: 5,
        length: 300,
        max_timestamp: 1_700_000_000_000,
        stamp: Some(ProducerStamp { id: ProducerId(77), epoch: 2, base_sequence, transactional }),
    };
    let plain = BatchSummary { records: 1, length: 70, max_timestamp: -1, stamp: None };
    Command::CommitSegment(CommitSegment {
        object: ObjectId { session, counter: 9 },
        object_bytes: 4_096,
        partitions: vec![
            PartitionCommit {
                partition: partition(0),
                position: 64,
                batches: vec![batch(0, false), batch(5, false), plain],
            },
            PartitionCommit { partition: partition(1), position: 734, batches: vec![batch(0, true), plain] },
        ],
    })
}

/// A second entry, of the same session if [`entry`]'s last command is left out: what the first wrote of partition 0 moves
/// into another object, part of it compacted.
pub(crate) fn swap_entry() -> Entry {
    let session = SessionId(0xfeed_face_cafe_beef);
    let old = ObjectId { session, counter: 9 };
    let at = |value| Offset::new(value).unwrap();
    let new = |base, end, position, sparse| NewExtent {
        base: at(base),
        end: at(end),
        position,
        length: 300,
        max_timestamp: 1_700_000_000_000,
        sparse,
    };
    let swap = |partition, base, end, positions: &[u64], new| PartitionSwap {
        partition,
        base: at(base),
        end: at(end),
        old: positions.iter().map(|&position| (old, position)).collect(),
        new,
    };
    let swap = SwapExtents {
        object: ObjectId { session, counter: 12 },
        object_bytes: 2_048,
        level: 2,
        partitions: vec![
            swap(partition(0), 0, 11, &[64], vec![new(0, 4, 8, true), new(5, 11, 308, false)]),
            swap(partition(1), 0, 1, &[734, 1_034], vec![NewExtent { max_timestamp: -1, ..new(0, 1, 608, false) }]),
            swap(partition(2), 0, 1, &[1], Vec::new()),
        ],
    };
    Entry {
        session,
        sequence: 2,
        time_ms: 1_700_000_000_456,
        commands: vec![Command::SwapExtents(swap)],
        follows: None,
    }
}

/// What gateways say to each other from feature level 1 on.
pub(crate) fn level_1_entry() -> Entry {
    let commands = vec![
        Command::LeaveSoon,
        Command::MarkState,
        Command::SayStateHash { at: Lsn(300), hash: 0x0123_4567_89ab_cdef },
    ];
    Entry {
        session: SessionId(0xfeed_face_cafe_beef),
        sequence: 3,
        time_ms: 1_700_000_000_789,
        commands,
        follows: None,
    }
}

/// What a manifest holds, from feature level 2 on.
pub(crate) fn run() -> Vec<Extent> {
    let at = |value| Offset::new(value).unwrap();
    let object = |counter| ObjectId { session: SessionId(0xfeed_face_cafe_beef), counter };
    let extent = |base, end, object, position, length, max_timestamp, sparse| Extent {
        base: at(base),
        end: at(end),
        object,
        position,
        length,
        max_timestamp,
        sparse,
    };
    vec![
        extent(7, 11, object(9), 64, 900, 1_700_000_000_000, false),
        extent(11, 13, ObjectId::at(Lsn(12)), 8, 70, -1, false),
        extent(20, 300, object(9), 4_000_000_000, 5, 3, true),
    ]
}

/// An entry with what is said of manifests from feature level 2 on.
pub(crate) fn level_2_entry() -> Entry {
    let session = SessionId(0xfeed_face_cafe_beef);
    let object = ObjectId { session, counter: 14 };
    let bytes = encode_run(&run());
    let length = u32::try_from(bytes.len()).unwrap();
    let fold = |number: i32| PartitionFold {
        partition: partition(number),
        extents: 3,
        position: 8 + number.unsigned_abs() as u64 * u64::from(length),
        length,
        hash: hash_run(&bytes),
    };
    let fold = FoldExtents { object, object_bytes: 900, runs: vec![fold(0), fold(1)] };
    let unfold = UnfoldExtents { partition: Some(partition(1)), object, position: 8 + u64::from(length), run: bytes };
    let dropped = UnfoldExtents { partition: None, position: 8, ..unfold.clone() };
    let commands = vec![Command::FoldExtents(fold), Command::UnfoldExtents(unfold), Command::UnfoldExtents(dropped)];
    Entry { session, sequence: 4, time_ms: 1_700_000_000_999, commands, follows: None }
}

fn group_commands() -> [Command; 4] {
    let committed = CommittedOffset {
        offset: Offset::new(4).unwrap(),
        leader_epoch: -1,
        metadata: "mine".into(),
        commit_ms: 12,
        expire_ms: Some(1_700_000_999_999),
    };
    [
        Command::SaveGroup(SaveGroup {
            group: "readers".into(),
            expected_version: 0,
            protocol_type: "consumer".into(),
            generation: 6,
            is_empty: false,
            record: vec![0, 1, 2, 255],
        }),
        Command::CommitOffsets(CommitOffsets {
            group: "readers".into(),
            expected_version: Some(1),
            offsets: vec![
                (partition(0), committed.clone()),
                (partition(1), CommittedOffset { expire_ms: None, ..committed }),
            ],
        }),
        Command::DeleteOffsets { group: "readers".into(), partitions: vec![partition(1)] },
        Command::DeleteGroup { group: "nobody".into(), expected_version: 5 },
    ]
}
