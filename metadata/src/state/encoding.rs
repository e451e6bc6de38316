//! The parts of a state to and from the records of a snapshot. The same state gives the same bytes.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use uuid::Uuid;

use super::groups::{Group, Groups};
use super::log::{Log, LogIndex};
use super::objects::{ObjectLedger, Slot};
use super::offsets::CommittedOffsets;
use super::producers::{Producer, RememberedBatch};
use super::sessions::{ExpiredSession, Session, Sessions};
use super::topics::{Topic, Topics};
use super::wire::{self, Kind};
use crate::codec::CodecError;
use crate::command::{AdvertisedListener, CommittedOffset};
use crate::model::extent::{Extent, ObjectId};
use crate::model::fold::Fold;
use crate::model::ids::{Lsn, NodeId, ProducerId, SessionId, TopicId, TopicPartition};
use crate::model::limits::OBJECT_BYTES_MAX;
use crate::model::offset::Offset;

pub(super) const SNAPSHOT: &str = "state snapshot";

/// No object has so many folded extents; their bytes can be summed up.
const FOLDED_MAX: u32 = u32::MAX / 2;

/// Everything a snapshot holds.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) header: wire::Header,
    pub(super) sessions: Sessions,
    pub(super) objects: ObjectLedger,
    pub(super) topics: Topics,
    pub(super) groups: Groups,
    pub(super) offsets: CommittedOffsets,
}

/// Writes records one behind the other.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    indexes: HashMap<ObjectId, u32>,
}

impl Encoder {
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn header(&mut self, header: wire::Header) {
        self.push(Kind::Header(header));
    }

    pub(super) fn sessions(&mut self, sessions: &Sessions) {
        for session in sessions.live() {
            let listener = |listener: &AdvertisedListener| wire::Listener {
                name: listener.name.clone(),
                host: listener.host.clone(),
                port: listener.port.into(),
            };
            self.push(Kind::Session(wire::Session {
                id: session.id.0,
                node: session.node.0,
                listeners: session.listeners.iter().map(listener).collect(),
                rack: session.rack.clone(),
                feature_level: session.feature_level,
                opened_ms: session.opened_ms,
                last_lsn: session.last_lsn.0,
                last_sequence: session.last_sequence,
                leaving: session.leaving,
            }));
        }
        for session in sessions.expired() {
            self.push(Kind::Expired(wire::Expired {
                id: session.id.0,
                last_sequence: session.last_sequence,
                expired_lsn: session.expired_lsn.0,
                expired_ms: session.expired_ms,
            }));
        }
    }

    /// Comes before the topics, whose extents name objects by their index here.
    pub(super) fn objects(&mut self, objects: &ObjectLedger) {
        for (index, object) in (0..).zip(objects.iter()) {
            self.indexes.insert(object.id, index);
            self.push(Kind::Object(wire::Object {
                session: object.id.session.0,
                counter: object.id.counter,
                bytes: object.bytes,
                committed_ms: object.committed_ms,
                dead_since_ms: object.dead_since_ms,
                level: object.level,
                folded: object.folded,
                folded_bytes: object.folded_bytes,
            }));
        }
        for fold in objects.dropped() {
            let fold = self.fold(fold);
            self.push(Kind::Dropped(fold));
        }
    }

    fn fold(&self, fold: &Fold) -> wire::Fold {
        wire::Fold {
            base: number(fold.base),
            end: number(fold.end),
            extents: fold.extents,
            bytes: fold.bytes,
            max_timestamp: fold.max_timestamp,
            oldest_ms: fold.oldest_ms,
            newest_ms: fold.newest_ms,
            object: self.indexes[&fold.object],
            position: fold.position,
            length: fold.length,
            hash: fold.hash.to_vec(),
        }
    }

    pub(super) fn topics(&mut self, topics: &Topics, objects: &ObjectLedger) {
        for topic in topics.iter() {
            let (id_high, id_low) = topic.id().0.as_u64_pair();
            let config = |(name, value): (&String, &String)| wire::Config { name: name.clone(), value: value.clone() };
            self.push(Kind::Topic(wire::Topic {
                id_high,
                id_low,
                name: topic.name().to_string(),
                created_ms: topic.created_ms(),
                configs: topic.configs().iter().map(config).collect(),
            }));
            topic.logs().iter().for_each(|index| self.log(Log::new(index, objects)));
        }
    }

    fn log(&mut self, log: Log<'_>) {
        let mut record = wire::Log {
            start: number(log.log_start()),
            end: number(log.high_watermark()),
            producers: log.producers().map(producer_to_wire).collect(),
            folds: log.folds().iter().map(|fold| self.fold(fold)).collect(),
            ..wire::Log::default()
        };
        let mut end = Offset::ZERO;
        for (row, extent) in (0..).zip(log.all_unfolded()) {
            let packed = "extents are packed into 32 bits";
            record.gaps.push(extent.base.since(end));
            record.records.push(u32::try_from(extent.end.since(extent.base)).expect(packed));
            record.objects.push(self.indexes[&extent.object]);
            record.positions.push(u32::try_from(extent.position).expect(packed));
            record.lengths.push(extent.length);
            record.max_timestamps.push(extent.max_timestamp);
            record.sparse.extend(extent.sparse.then_some(row));
            end = extent.end;
        }
        self.push(Kind::Log(record));
    }

    pub(super) fn groups(&mut self, groups: &Groups) {
        for (name, group) in groups.iter() {
            self.push(Kind::Group(wire::Group {
                name: name.to_owned(),
                version: group.version,
                protocol_type: group.protocol_type.clone(),
                generation: group.generation,
                empty_since_ms: group.empty_since_ms,
                record: group.record.clone(),
            }));
        }
    }

    pub(super) fn offsets(&mut self, offsets: &CommittedOffsets) {
        for group in offsets.groups() {
            let offset = |(tp, offset): (TopicPartition, &CommittedOffset)| {
                let (topic_high, topic_low) = tp.topic.0.as_u64_pair();
                wire::Offset {
                    topic_high,
                    topic_low,
                    partition: tp.partition,
                    offset: number(offset.offset),
                    leader_epoch: offset.leader_epoch,
                    metadata: offset.metadata.clone(),
                    commit_ms: offset.commit_ms,
                    expire_ms: offset.expire_ms,
                }
            };
            let offsets = offsets.iter(group).map(offset).collect();
            self.push(Kind::Offsets(wire::Offsets { group: group.to_owned(), offsets }));
        }
    }

    fn push(&mut self, kind: Kind) {
        let record = wire::Record { kind: Some(kind) };
        record.encode_length_delimited(&mut self.bytes).expect("a vector grows");
    }
}

fn producer_to_wire(producer: &Producer) -> wire::Producer {
    let batch = |batch: &RememberedBatch| wire::Batch {
        base_sequence: batch.base_sequence,
        last_sequence: batch.last_sequence,
        base: number(batch.base),
        max_timestamp: batch.max_timestamp,
    };
    wire::Producer {
        id: producer.id().0,
        epoch: producer.epoch().into(),
        last_active_ms: producer.last_active_ms(),
        batches: producer.window().iter().map(batch).collect(),
    }
}

fn number(offset: Offset) -> u64 {
    offset.since(Offset::ZERO)
}

/// Reads the records of a snapshot's body.
pub(super) fn decode_body(mut body: &[u8]) -> Result<Parts, CodecError> {
    let mut decoder = Decoder::default();
    while !body.is_empty() {
        let record =
            wire::Record::decode_length_delimited(&mut body).map_err(|why| CodecError::malformed(SNAPSHOT, why))?;
        decoder.take(record.kind.ok_or_else(|| bad("it holds an unknown record"))?)?;
    }
    decoder.finish()
}

#[derive(Debug, Default)]
struct Decoder {
    parts: Parts,
    header_seen: bool,
    /// In the order of the snapshot, with the time of death it claims.
    objects: Vec<(Slot, Option<i64>)>,
    /// How many folds name an object, by its slot.
    runs: HashMap<u32, u32>,
    /// The topic whose logs are being read.
    topic: Option<(wire::Topic, Vec<LogIndex>)>,
    groups: BTreeMap<Box<str>, Group>,
}

impl Decoder {
    fn take(&mut self, kind: Kind) -> Result<(), CodecError> {
        match kind {
            Kind::Header(header) => {
                self.parts.header = header;
                self.header_seen = true;
                Ok(())
            }
            Kind::Session(session) => self.session(session),
            Kind::Expired(session) => {
                self.parts.sessions.restore_expired(ExpiredSession {
                    id: SessionId(session.id),
                    last_sequence: session.last_sequence,
                    expired_lsn: Lsn(session.expired_lsn),
                    expired_ms: session.expired_ms,
                });
                Ok(())
            }
            Kind::Object(object) => self.object(object),
            Kind::Dropped(fold) => {
                let fold = self.fold(&fold)?;
                self.parts.objects.drop_fold(fold);
                Ok(())
            }
            Kind::Topic(topic) => {
                self.close_topic()?;
                self.topic = Some((topic, Vec::new()));
                Ok(())
            }
            Kind::Log(log) => {
                let log = self.log(log)?;
                let (_, logs) = self.topic.as_mut().ok_or_else(|| bad("a log stands before any topic"))?;
                logs.push(log);
                Ok(())
            }
            Kind::Group(group) => {
                let name = group.name.into();
                let group = Group {
                    version: group.version,
                    protocol_type: group.protocol_type,
                    generation: group.generation,
                    empty_since_ms: group.empty_since_ms,
                    record: group.record,
                };
                self.groups.insert(name, group);
                Ok(())
            }
            Kind::Offsets(offsets) => self.offsets(offsets),
        }
    }

    fn session(&mut self, session: wire::Session) -> Result<(), CodecError> {
        let listener = |listener: wire::Listener| {
            let port = u16::try_from(listener.port).map_err(|why| CodecError::malformed(SNAPSHOT, why))?;
            Ok(AdvertisedListener { name: listener.name, host: listener.host, port })
        };
        self.parts.sessions.restore_live(Session {
            id: SessionId(session.id),
            node: NodeId(session.node),
            listeners: session.listeners.into_iter().map(listener).collect::<Result<_, CodecError>>()?,
            rack: session.rack,
            feature_level: session.feature_level,
            opened_ms: session.opened_ms,
            last_lsn: Lsn(session.last_lsn),
            last_sequence: session.last_sequence,
            leaving: session.leaving,
        });
        Ok(())
    }

    fn object(&mut self, object: wire::Object) -> Result<(), CodecError> {
        let id = ObjectId { session: SessionId(object.session), counter: object.counter };
        if object.bytes > OBJECT_BYTES_MAX {
            return Err(bad("an object is larger than any can be"));
        }
        let slot = self.parts.objects.insert(id, object.bytes, object.committed_ms);
        let slot = slot.map_err(|_| bad("it names an object twice"))?;
        self.parts.objects.describe(slot, object.level, object.committed_ms);
        let is_legal =
            object.folded <= FOLDED_MAX && object.folded_bytes <= u64::from(object.folded) * u64::from(u32::MAX);
        if !is_legal {
            return Err(bad("an object has more folded bytes than it can have"));
        }
        self.parts.objects.restore_folded(slot, object.folded, object.folded_bytes);
        self.objects.push((slot, object.dead_since_ms));
        Ok(())
    }

    fn fold(&mut self, fold: &wire::Fold) -> Result<Fold, CodecError> {
        let slot = self.slot(fold.object).ok_or_else(|| bad("a fold names an unknown object"))?;
        *self.runs.entry(slot.0).or_default() += 1;
        Ok(Fold {
            base: offset(fold.base)?,
            end: offset(fold.end)?,
            extents: fold.extents,
            bytes: fold.bytes,
            max_timestamp: fold.max_timestamp,
            oldest_ms: fold.oldest_ms,
            newest_ms: fold.newest_ms,
            object: self.parts.objects.id_of(slot),
            position: fold.position,
            length: fold.length,
            hash: fold.hash.as_slice().try_into().map_err(|_| bad("a hash is not of 32 bytes"))?,
        })
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        usize::try_from(index).ok().and_then(|index| self.objects.get(index)).map(|(slot, _)| *slot)
    }

    fn log(&mut self, log: wire::Log) -> Result<LogIndex, CodecError> {
        let columns =
            [log.gaps.len(), log.objects.len(), log.positions.len(), log.lengths.len(), log.max_timestamps.len()];
        if columns.iter().any(|&rows| rows != log.records.len()) {
            return Err(bad("the columns of a log differ in length"));
        }
        let restored = LogIndex::restore(offset(log.start)?, offset(log.end)?);
        let mut index = restored.ok_or_else(|| bad("a log ends before it starts"))?;
        for fold in &log.folds {
            let fold = self.fold(fold)?;
            index.restore_fold(fold).ok_or_else(|| bad("a fold lies outside its log"))?;
        }
        let mut end = Offset::ZERO;
        let mut sparse = log.sparse.iter().copied().peekable();
        for row in 0..log.records.len() {
            let slot = self.slot(log.objects[row]).ok_or_else(|| bad("an extent names an unknown object"))?;
            let base = end.checked_add(log.gaps[row]).ok_or_else(|| bad("an extent starts past all offsets"))?;
            end = base.checked_add(log.records[row].into()).ok_or_else(|| bad("an extent ends past all offsets"))?;
            let extent = Extent {
                base,
                end,
                object: self.parts.objects.id_of(slot),
                position: log.positions[row].into(),
                length: log.lengths[row],
                max_timestamp: log.max_timestamps[row],
                sparse: sparse.next_if(|&sparse| usize::try_from(sparse) == Ok(row)).is_some(),
            };
            let fits = index.restore_extent(&extent, slot, &mut self.parts.objects);
            fits.ok_or_else(|| bad("an extent lies outside its log"))?;
        }
        if sparse.next().is_some() {
            return Err(bad("the sparse extents of a log are not in order"));
        }
        for producer in log.producers {
            let epoch = i16::try_from(producer.epoch).map_err(|why| CodecError::malformed(SNAPSHOT, why))?;
            let batches = producer.batches.iter().map(remembered_from_wire).collect::<Result<Vec<_>, _>>()?;
            if !index.producers.restore(ProducerId(producer.id), epoch, producer.last_active_ms, &batches) {
                return Err(bad("the producers of a log are not in order"));
            }
        }
        Ok(index)
    }

    fn close_topic(&mut self) -> Result<(), CodecError> {
        let Some((topic, logs)) = self.topic.take() else { return Ok(()) };
        let id = TopicId(Uuid::from_u64_pair(topic.id_high, topic.id_low));
        let name = topic.name.parse().map_err(|why| CodecError::malformed(SNAPSHOT, why))?;
        let configs = topic.configs.into_iter().map(|config| (config.name, config.value)).collect();
        let restored = Topic::restore(id, name, topic.created_ms, configs, logs);
        let entered = restored.and_then(|topic| self.parts.topics.restore(topic));
        entered.ok_or_else(|| bad("it names a topic twice, or one without partitions"))
    }

    fn offsets(&mut self, offsets: wire::Offsets) -> Result<(), CodecError> {
        for committed in offsets.offsets {
            let topic = TopicId(Uuid::from_u64_pair(committed.topic_high, committed.topic_low));
            let tp = TopicPartition { topic, partition: committed.partition };
            let committed = CommittedOffset {
                offset: offset(committed.offset)?,
                leader_epoch: committed.leader_epoch,
                metadata: committed.metadata,
                commit_ms: committed.commit_ms,
                expire_ms: committed.expire_ms,
            };
            let entered = self.parts.offsets.commit(&offsets.group, tp, committed);
            entered.map_err(|why| CodecError::malformed(SNAPSHOT, why))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Parts, CodecError> {
        self.close_topic()?;
        if !self.header_seen {
            return Err(bad("it has no header"));
        }
        for (slot, dead_since_ms) in self.objects {
            if self.parts.objects.folded(slot) < self.runs.get(&slot.0).copied().unwrap_or_default() {
                return Err(bad("a manifest has more runs than it counts"));
            }
            if self.parts.objects.is_referenced(slot) != dead_since_ms.is_none() {
                return Err(bad("an object is dead and referenced, or neither"));
            }
            self.parts.objects.settle(slot, dead_since_ms.unwrap_or_default());
        }
        self.parts.groups = Groups::restore(self.groups, self.parts.header.deleted_group_version);
        Ok(self.parts)
    }
}

fn remembered_from_wire(batch: &wire::Batch) -> Result<RememberedBatch, CodecError> {
    Ok(RememberedBatch {
        base_sequence: batch.base_sequence,
        last_sequence: batch.last_sequence,
        base: offset(batch.base)?,
        max_timestamp: batch.max_timestamp,
    })
}

fn offset(number: u64) -> Result<Offset, CodecError> {
    Offset::ZERO.checked_add(number).ok_or_else(|| bad("an offset is negative"))
}

fn bad(why: &str) -> CodecError {
    CodecError::malformed(SNAPSHOT, why)
}
