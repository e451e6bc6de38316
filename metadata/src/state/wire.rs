//! The protobuf messages of a state snapshot. Its body is a sequence of length-delimited [`Record`]s, so that neither writing
//! nor reading holds more than one of them beside the state:
//!
//! header, live sessions, expired sessions, objects by id, dropped folds by their place, then topics by name, each followed by one log per partition, then
//! groups by name and committed offsets by group.
//!
//! Numbers are never reused and never change their meaning.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 12")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    Header(Header),
    #[prost(message, tag = "2")]
    Session(Session),
    #[prost(message, tag = "3")]
    Expired(Expired),
    #[prost(message, tag = "4")]
    Object(Object),
    #[prost(message, tag = "5")]
    Topic(Topic),
    #[prost(message, tag = "6")]
    Log(Log),
    #[prost(message, tag = "7")]
    Group(Group),
    #[prost(message, tag = "8")]
    Offsets(Offsets),
    /// A fold that no log has any more. Since version 4.
    #[prost(message, tag = "12")]
    Dropped(Fold),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(uint64, tag = "1")]
    pub(super) applied: u64,
    #[prost(sint64, tag = "2")]
    pub(super) time_ms: i64,
    #[prost(string, tag = "3")]
    pub(super) cluster_id: String,
    #[prost(uint32, tag = "4")]
    pub(super) feature_level: u32,
    #[prost(sint64, tag = "5")]
    pub(super) next_producer_id: i64,
    #[prost(uint64, tag = "6")]
    pub(super) deleted_group_version: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Session {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(int32, tag = "2")]
    pub(super) node: i32,
    #[prost(message, repeated, tag = "3")]
    pub(super) listeners: Vec<Listener>,
    #[prost(string, optional, tag = "4")]
    pub(super) rack: Option<String>,
    #[prost(uint32, tag = "5")]
    pub(super) feature_level: u32,
    #[prost(sint64, tag = "6")]
    pub(super) opened_ms: i64,
    #[prost(uint64, tag = "7")]
    pub(super) last_lsn: u64,
    #[prost(uint64, tag = "8")]
    pub(super) last_sequence: u64,
    /// Since version 3.
    #[prost(bool, tag = "9")]
    pub(super) leaving: bool,
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
pub(super) struct Expired {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) last_sequence: u64,
    #[prost(uint64, tag = "3")]
    pub(super) expired_lsn: u64,
    #[prost(sint64, tag = "4")]
    pub(super) expired_ms: i64,
}

/// References are counted anew from the extents, but for those that are folded.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Object {
    #[prost(fixed64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) counter: u64,
    #[prost(uint64, tag = "3")]
    pub(super) bytes: u64,
    #[prost(sint64, tag = "4")]
    pub(super) committed_ms: i64,
    #[prost(sint64, optional, tag = "5")]
    pub(super) dead_since_ms: Option<i64>,
    /// Since version 2.
    #[prost(uint32, tag = "6")]
    pub(super) level: u32,
    /// References that no extent in memory makes, and their bytes. Since version 4.
    #[prost(uint32, tag = "7")]
    pub(super) folded: u32,
    #[prost(uint64, tag = "8")]
    pub(super) folded_bytes: u64,
}

/// A run in a manifest.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Fold {
    #[prost(uint64, tag = "1")]
    pub(super) base: u64,
    #[prost(uint64, tag = "2")]
    pub(super) end: u64,
    #[prost(uint32, tag = "3")]
    pub(super) extents: u32,
    #[prost(uint64, tag = "4")]
    pub(super) bytes: u64,
    #[prost(sint64, tag = "5")]
    pub(super) max_timestamp: i64,
    #[prost(sint64, tag = "6")]
    pub(super) oldest_ms: i64,
    #[prost(sint64, tag = "7")]
    pub(super) newest_ms: i64,
    /// The manifest's index among the snapshot's objects.
    #[prost(uint32, tag = "8")]
    pub(super) object: u32,
    #[prost(uint32, tag = "9")]
    pub(super) position: u32,
    #[prost(uint32, tag = "10")]
    pub(super) length: u32,
    #[prost(bytes = "vec", tag = "11")]
    pub(super) hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Topic {
    #[prost(fixed64, tag = "1")]
    pub(super) id_high: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) id_low: u64,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(sint64, tag = "4")]
    pub(super) created_ms: i64,
    #[prost(message, repeated, tag = "5")]
    pub(super) configs: Vec<Config>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Config {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// A log; its extents as columns of equal length.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Log {
    #[prost(uint64, tag = "1")]
    pub(super) start: u64,
    #[prost(uint64, tag = "2")]
    pub(super) end: u64,
    /// Offsets between the end of the extent before (or 0) and this one's base.
    #[prost(uint64, repeated, tag = "3")]
    pub(super) gaps: Vec<u64>,
    #[prost(uint32, repeated, tag = "4")]
    pub(super) records: Vec<u32>,
    /// Index among the snapshot's objects.
    #[prost(uint32, repeated, tag = "5")]
    pub(super) objects: Vec<u32>,
    #[prost(uint32, repeated, tag = "6")]
    pub(super) positions: Vec<u32>,
    #[prost(uint32, repeated, tag = "7")]
    pub(super) lengths: Vec<u32>,
    #[prost(sint64, repeated, tag = "8")]
    pub(super) max_timestamps: Vec<i64>,
    #[prost(message, repeated, tag = "9")]
    pub(super) producers: Vec<Producer>,
    /// Since version 2: the rows whose extents are sparse, rising.
    #[prost(uint32, repeated, tag = "10")]
    pub(super) sparse: Vec<u32>,
    /// Since version 4: what stands before the extents.
    #[prost(message, repeated, tag = "11")]
    pub(super) folds: Vec<Fold>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Producer {
    #[prost(sint64, tag = "1")]
    pub(super) id: i64,
    #[prost(sint32, tag = "2")]
    pub(super) epoch: i32,
    #[prost(sint64, tag = "3")]
    pub(super) last_active_ms: i64,
    #[prost(message, repeated, tag = "4")]
    pub(super) batches: Vec<Batch>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Batch {
    #[prost(int32, tag = "1")]
    pub(super) base_sequence: i32,
    #[prost(int32, tag = "2")]
    pub(super) last_sequence: i32,
    #[prost(uint64, tag = "3")]
    pub(super) base: u64,
    #[prost(sint64, tag = "4")]
    pub(super) max_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Group {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) version: u64,
    #[prost(string, tag = "3")]
    pub(super) protocol_type: String,
    #[prost(sint32, tag = "4")]
    pub(super) generation: i32,
    #[prost(sint64, optional, tag = "5")]
    pub(super) empty_since_ms: Option<i64>,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) record: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Offsets {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) offsets: Vec<Offset>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Offset {
    #[prost(fixed64, tag = "1")]
    pub(super) topic_high: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) topic_low: u64,
    #[prost(int32, tag = "3")]
    pub(super) partition: i32,
    #[prost(uint64, tag = "4")]
    pub(super) offset: u64,
    #[prost(sint32, tag = "5")]
    pub(super) leader_epoch: i32,
    #[prost(string, tag = "6")]
    pub(super) metadata: String,
    #[prost(sint64, tag = "7")]
    pub(super) commit_ms: i64,
    #[prost(sint64, optional, tag = "8")]
    pub(super) expire_ms: Option<i64>,
}
