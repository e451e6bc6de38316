//! The protobuf messages of journal entries. Numbers are never reused and never change their meaning.
//!
//! A new command gets a new number, which older readers refuse. A new field of a present message needs a new format version
//! too, since older readers would not see it and so apply something else. Times that may be -1 are `sint64`.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(fixed64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sequence: u64,
    #[prost(sint64, tag = "3")]
    pub(super) time_ms: i64,
    #[prost(message, repeated, tag = "4")]
    pub(super) commands: Vec<Command>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) follows: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Command {
    #[prost(
        oneof = "Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 30, 31, 32, 40, 41"
    )]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    OpenSession(OpenSession),
    #[prost(message, tag = "2")]
    CloseSession(CloseSession),
    #[prost(message, tag = "3")]
    ExpireSession(ExpireSession),
    #[prost(message, tag = "4")]
    CreateTopic(CreateTopic),
    #[prost(message, tag = "5")]
    DeleteTopic(DeleteTopic),
    #[prost(message, tag = "6")]
    CreatePartitions(CreatePartitions),
    #[prost(message, tag = "7")]
    SetTopicConfigs(SetTopicConfigs),
    #[prost(uint32, tag = "8")]
    AllocateProducerIds(u32),
    #[prost(message, tag = "9")]
    CommitSegment(CommitSegment),
    #[prost(message, tag = "10")]
    AdvanceLogStart(AdvanceLogStart),
    #[prost(message, tag = "11")]
    ForgetObjects(ForgetObjects),
    #[prost(message, tag = "12")]
    SaveGroup(SaveGroup),
    #[prost(message, tag = "13")]
    DeleteGroup(DeleteGroup),
    #[prost(message, tag = "14")]
    CommitOffsets(CommitOffsets),
    #[prost(message, tag = "15")]
    DeleteOffsets(DeleteOffsets),
    #[prost(message, tag = "16")]
    ExpireState(ExpireState),
    #[prost(uint32, tag = "17")]
    RaiseFeatureLevel(u32),
    #[prost(message, tag = "18")]
    SwapExtents(SwapExtents),
    #[prost(message, tag = "30")]
    LeaveSoon(LeaveSoon),
    #[prost(message, tag = "31")]
    MarkState(MarkState),
    #[prost(message, tag = "32")]
    SayStateHash(SayStateHash),
    #[prost(message, tag = "40")]
    FoldExtents(FoldExtents),
    #[prost(message, tag = "41")]
    UnfoldExtents(UnfoldExtents),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct CloseSession {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaveSoon {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct MarkState {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct SayStateHash {
    #[prost(uint64, tag = "1")]
    pub(super) at: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) hash: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct TopicId {
    #[prost(fixed64, tag = "1")]
    pub(super) high: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) low: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct TopicPartition {
    #[prost(fixed64, tag = "1")]
    pub(super) topic_high: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) topic_low: u64,
    #[prost(int32, tag = "3")]
    pub(super) partition: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ObjectId {
    #[prost(fixed64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) counter: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OpenSession {
    #[prost(int32, tag = "1")]
    pub(super) node: i32,
    #[prost(message, repeated, tag = "2")]
    pub(super) listeners: Vec<Listener>,
    #[prost(string, optional, tag = "3")]
    pub(super) rack: Option<String>,
    #[prost(uint32, tag = "4")]
    pub(super) feature_level: u32,
    #[prost(string, tag = "5")]
    pub(super) cluster_id: String,
    #[prost(bool, tag = "6")]
    pub(super) fence_others: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Listener {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) host: String,
    #[prost(uint32, tag = "3")]
    pub(super) port: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ExpireSession {
    #[prost(fixed64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) last_seen: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateTopic {
    #[prost(message, optional, tag = "1")]
    pub(super) id: Option<TopicId>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(int32, tag = "3")]
    pub(super) partitions: i32,
    #[prost(message, repeated, tag = "4")]
    pub(super) configs: Vec<Config>,
}

/// A config's new value; none removes it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Config {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct DeleteTopic {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<TopicId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct CreatePartitions {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<TopicId>,
    #[prost(int32, tag = "2")]
    pub(super) total: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetTopicConfigs {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<TopicId>,
    #[prost(message, repeated, tag = "2")]
    pub(super) changes: Vec<Config>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CommitSegment {
    #[prost(message, optional, tag = "1")]
    pub(super) object: Option<ObjectId>,
    #[prost(uint64, tag = "2")]
    pub(super) object_bytes: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) partitions: Vec<PartitionCommit>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartitionCommit {
    #[prost(message, optional, tag = "1")]
    pub(super) partition: Option<TopicPartition>,
    #[prost(uint64, tag = "2")]
    pub(super) position: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) batches: Vec<Batch>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Batch {
    #[prost(uint32, tag = "1")]
    pub(super) records: u32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
    #[prost(sint64, tag = "3")]
    pub(super) max_timestamp: i64,
    #[prost(message, optional, tag = "4")]
    pub(super) stamp: Option<Stamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Stamp {
    #[prost(sint64, tag = "1")]
    pub(super) producer: i64,
    #[prost(sint32, tag = "2")]
    pub(super) epoch: i32,
    #[prost(sint32, tag = "3")]
    pub(super) base_sequence: i32,
    #[prost(bool, tag = "4")]
    pub(super) transactional: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SwapExtents {
    #[prost(message, optional, tag = "1")]
    pub(super) object: Option<ObjectId>,
    #[prost(uint64, tag = "2")]
    pub(super) object_bytes: u64,
    #[prost(uint32, tag = "3")]
    pub(super) level: u32,
    /// The objects whose extents are replaced, each once.
    #[prost(message, repeated, tag = "4")]
    pub(super) old_objects: Vec<ObjectId>,
    #[prost(message, repeated, tag = "5")]
    pub(super) partitions: Vec<PartitionSwap>,
}

/// The old extents as columns of equal length.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PartitionSwap {
    #[prost(message, optional, tag = "1")]
    pub(super) partition: Option<TopicPartition>,
    #[prost(uint64, tag = "2")]
    pub(super) base: u64,
    #[prost(uint64, tag = "3")]
    pub(super) end: u64,
    /// Index among the old objects.
    #[prost(uint32, repeated, tag = "4")]
    pub(super) objects: Vec<u32>,
    #[prost(uint64, repeated, tag = "5")]
    pub(super) positions: Vec<u64>,
    #[prost(message, repeated, tag = "6")]
    pub(super) new: Vec<NewExtent>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct NewExtent {
    #[prost(uint64, tag = "1")]
    pub(super) base: u64,
    #[prost(uint64, tag = "2")]
    pub(super) end: u64,
    #[prost(uint64, tag = "3")]
    pub(super) position: u64,
    #[prost(uint32, tag = "4")]
    pub(super) length: u32,
    #[prost(sint64, tag = "5")]
    pub(super) max_timestamp: i64,
    #[prost(bool, tag = "6")]
    pub(super) sparse: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AdvanceLogStart {
    #[prost(message, repeated, tag = "1")]
    pub(super) starts: Vec<LogStart>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LogStart {
    #[prost(message, optional, tag = "1")]
    pub(super) partition: Option<TopicPartition>,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ForgetObjects {
    #[prost(message, repeated, tag = "1")]
    pub(super) objects: Vec<ObjectId>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SaveGroup {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(uint64, tag = "2")]
    pub(super) expected_version: u64,
    #[prost(string, tag = "3")]
    pub(super) protocol_type: String,
    #[prost(sint32, tag = "4")]
    pub(super) generation: i32,
    #[prost(bool, tag = "5")]
    pub(super) is_empty: bool,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) record: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteGroup {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(uint64, tag = "2")]
    pub(super) expected_version: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CommitOffsets {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(uint64, optional, tag = "2")]
    pub(super) expected_version: Option<u64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) offsets: Vec<OffsetOfPartition>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OffsetOfPartition {
    #[prost(message, optional, tag = "1")]
    pub(super) partition: Option<TopicPartition>,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
    #[prost(sint32, tag = "3")]
    pub(super) leader_epoch: i32,
    #[prost(string, tag = "4")]
    pub(super) metadata: String,
    #[prost(sint64, tag = "5")]
    pub(super) commit_ms: i64,
    #[prost(sint64, optional, tag = "6")]
    pub(super) expire_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteOffsets {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) partitions: Vec<TopicPartition>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ExpireState {
    #[prost(sint64, tag = "1")]
    pub(super) producer_idle_ms: i64,
    #[prost(sint64, tag = "2")]
    pub(super) offsets_retention_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FoldExtents {
    #[prost(message, optional, tag = "1")]
    pub(super) object: Option<ObjectId>,
    #[prost(uint64, tag = "2")]
    pub(super) object_bytes: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) runs: Vec<PartitionFold>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartitionFold {
    #[prost(message, optional, tag = "1")]
    pub(super) partition: Option<TopicPartition>,
    #[prost(uint32, tag = "2")]
    pub(super) extents: u32,
    #[prost(uint64, tag = "3")]
    pub(super) position: u64,
    #[prost(uint32, tag = "4")]
    pub(super) length: u32,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UnfoldExtents {
    /// None if the fold was dropped.
    #[prost(message, optional, tag = "1")]
    pub(super) partition: Option<TopicPartition>,
    #[prost(message, optional, tag = "2")]
    pub(super) object: Option<ObjectId>,
    #[prost(uint64, tag = "3")]
    pub(super) position: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) run: Vec<u8>,
}
