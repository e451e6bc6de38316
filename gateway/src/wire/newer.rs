//! Messages in versions that Kafka 4.2 has and the message crate has not: read here, into the crate's own structs.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes, VersionRange};
use uuid::Uuid;

use super::answer::{Answer, Body, EncodeError};
use super::guard;
use super::question::{Question, Undecodable};

/// First version of OffsetCommit and OffsetFetch that names topics by id in place of their name (KIP-848).
pub const TOPIC_IDS: i16 = 10;

/// A message whose versions up to `MAX` look like the newest one the crate knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Alike<T, const MAX: i16>(pub T);

/// A request of OffsetCommit or OffsetFetch up to [`TOPIC_IDS`]. The answers the crate knows.
#[derive(Debug, Clone, PartialEq)]
pub struct ById<T>(pub T);

impl<T: Decodable + Message, const MAX: i16> Question for Alike<T, MAX> {
    const VERSIONS: VersionRange = VersionRange { min: <T as Message>::VERSIONS.min, max: MAX };

    fn read(body: &mut Bytes, version: i16) -> Result<Self, Undecodable> {
        T::read(body, version.min(<T as Message>::VERSIONS.max)).map(Self)
    }
}

impl<T: Encodable + Message, const MAX: i16> Answer for Alike<T, MAX> {
    fn write(self, version: i16, out: &mut Body) -> Result<(), EncodeError> {
        self.0.write(version.min(<T as Message>::VERSIONS.max), out)
    }
}

impl Question for ById<OffsetCommitRequest> {
    const VERSIONS: VersionRange = VersionRange { min: <OffsetCommitRequest as Message>::VERSIONS.min, max: TOPIC_IDS };

    fn read(body: &mut Bytes, version: i16) -> Result<Self, Undecodable> {
        if version < TOPIC_IDS {
            return OffsetCommitRequest::read(body, version).map(Self);
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(body)?.unwrap_or_default()))
            .with_generation_id_or_member_epoch(body.try_get_i32().map_err(short)?)
            .with_member_id(text(body)?.unwrap_or_default())
            .with_group_instance_id(text(body)?);
        let topics = array(body, |body| {
            let topic = OffsetCommitRequestTopic::default().with_topic_id(id(body)?);
            // Partitions look as they did in the version before.
            let partitions = array(body, |body| OffsetCommitRequestPartition::read(body, TOPIC_IDS - 1))?;
            skip_tags(body)?;
            Ok(topic.with_partitions(partitions.unwrap_or_default()))
        })?;
        skip_tags(body)?;
        Ok(Self(request.with_topics(topics.unwrap_or_default())))
    }
}

impl Question for ById<OffsetFetchRequest> {
    const VERSIONS: VersionRange = VersionRange { min: <OffsetFetchRequest as Message>::VERSIONS.min, max: TOPIC_IDS };

    fn read(body: &mut Bytes, version: i16) -> Result<Self, Undecodable> {
        if version < TOPIC_IDS {
            return OffsetFetchRequest::read(body, version).map(Self);
        }
        let groups = array(body, |body| {
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text(body)?.unwrap_or_default()))
                .with_member_id(text(body)?)
                .with_member_epoch(body.try_get_i32().map_err(short)?);
            let topics = array(body, |body| {
                let topic = OffsetFetchRequestTopics::default().with_topic_id(id(body)?);
                let partitions = array(body, |body| body.try_get_i32().map_err(short))?;
                skip_tags(body)?;
                Ok(topic.with_partition_indexes(partitions.unwrap_or_default()))
            })?;
            skip_tags(body)?;
            Ok(group.with_topics(topics))
        })?;
        let require_stable = body.try_get_u8().map_err(short)? != 0;
        skip_tags(body)?;
        let request = OffsetFetchRequest::default().with_groups(groups.unwrap_or_default());
        Ok(Self(request.with_require_stable(require_stable)))
    }
}

fn short(_: TryGetError) -> Undecodable {
    Undecodable("it ends inside a field".to_owned())
}

/// A compact length: `None` for null.
fn length(body: &mut Bytes) -> Result<Option<usize>, Undecodable> {
    let mut value = 0_u32;
    for shift in (0..u32::BITS).step_by(7) {
        let byte = body.try_get_u8().map_err(short)?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value.checked_sub(1).map(|len| len as usize));
        }
    }
    Err(Undecodable("a length has no end".to_owned()))
}

fn text(body: &mut Bytes) -> Result<Option<StrBytes>, Undecodable> {
    let Some(len) = length(body)? else { return Ok(None) };
    if len > body.len() {
        return Err(Undecodable("a text is longer than the request".to_owned()));
    }
    StrBytes::from_utf8(body.split_to(len)).map(Some).map_err(|error| Undecodable(error.to_string()))
}

fn id(body: &mut Bytes) -> Result<Uuid, Undecodable> {
    body.try_get_u128().map(Uuid::from_u128).map_err(short)
}

/// An array; `None` if it is null. The guard has seen that the body bears its count out; no element is shorter than a byte.
fn array<T>(
    body: &mut Bytes,
    one: impl Fn(&mut Bytes) -> Result<T, Undecodable>,
) -> Result<Option<Vec<T>>, Undecodable> {
    let Some(count) = length(body)? else { return Ok(None) };
    let mut all = Vec::with_capacity(count.min(body.len()));
    for _ in 0..count {
        all.push(one(body)?);
    }
    Ok(Some(all))
}

/// Goes over tagged fields: none is known.
fn skip_tags(body: &mut Bytes) -> Result<(), Undecodable> {
    let len = guard::tagged_fields_len(body).map_err(|refused| Undecodable(refused.to_string()))?;
    body.advance(len);
    Ok(())
}
