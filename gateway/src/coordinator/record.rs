//! The saved form of a classic group: a version byte, then protobuf.
//!
//! A reader that meets a newer version stops with an error instead of guessing. Fields are only ever added.

use std::sync::Arc;

use bytes::Bytes;
use metadata::class::{Classify, ErrorClass};
use metadata::state::groups::Group;
use prost::Message;

use super::rules::classic::{Protocol, Restored, RestoredMember};

/// The version this build writes, and the newest it reads.
const VERSION: u8 = 1;

/// A saved group that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// No bytes at all.
    #[error("a saved group is empty")]
    Empty,
    /// Written by a newer build.
    #[error("a saved group has version {0}, this build reads up to {VERSION}")]
    Newer(u8),
    /// Not what was written.
    #[error("a saved group is damaged: {0}")]
    Damaged(#[from] prost::DecodeError),
}

impl Classify for RecordError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Newer(_) => ErrorClass::Rejected,
            Self::Empty | Self::Damaged(_) => ErrorClass::Corrupt,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct GroupRecord {
    #[prost(int32, tag = "1")]
    generation: i32,
    #[prost(string, optional, tag = "2")]
    protocol_type: Option<String>,
    #[prost(string, optional, tag = "3")]
    protocol: Option<String>,
    #[prost(string, optional, tag = "4")]
    leader: Option<String>,
    #[prost(bool, tag = "5")]
    is_stable: bool,
    #[prost(message, repeated, tag = "6")]
    members: Vec<MemberRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct MemberRecord {
    #[prost(string, tag = "1")]
    member_id: String,
    #[prost(string, optional, tag = "2")]
    instance: Option<String>,
    #[prost(string, tag = "3")]
    client_id: String,
    #[prost(string, tag = "4")]
    client_host: String,
    #[prost(int64, tag = "5")]
    session_timeout_ms: i64,
    #[prost(int64, tag = "6")]
    rebalance_timeout_ms: i64,
    #[prost(message, repeated, tag = "7")]
    protocols: Vec<ProtocolRecord>,
    #[prost(bytes = "bytes", tag = "8")]
    assignment: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct ProtocolRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    metadata: Bytes,
}

/// The group that the state keeps. One that was only ever a store of offsets has no bytes of ours.
pub fn read(saved: &Group) -> Result<Restored, RecordError> {
    if saved.record.is_empty() {
        let protocol_type = (!saved.protocol_type.is_empty()).then(|| saved.protocol_type.as_str().into());
        return Ok(Restored { generation: saved.generation, protocol_type, ..Restored::default() });
    }
    decode(&saved.record)
}

/// The bytes of a group.
pub fn encode(group: &Restored) -> Vec<u8> {
    let text = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
    let protocol =
        |protocol: &Protocol| ProtocolRecord { name: protocol.name.to_string(), metadata: protocol.metadata.clone() };
    let member = |member: &RestoredMember| MemberRecord {
        member_id: member.member_id.to_string(),
        instance: text(&member.instance),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        session_timeout_ms: member.session_timeout_ms,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        protocols: member.protocols.iter().map(protocol).collect(),
        assignment: member.assignment.clone(),
    };
    let record = GroupRecord {
        generation: group.generation,
        protocol_type: text(&group.protocol_type),
        protocol: text(&group.protocol),
        leader: text(&group.leader),
        is_stable: group.is_stable,
        members: group.members.iter().map(member).collect(),
    };
    let mut bytes = Vec::with_capacity(1 + record.encoded_len());
    bytes.push(VERSION);
    record.encode(&mut bytes).expect("a Vec grows as needed");
    bytes
}

/// The group of these bytes.
pub fn decode(bytes: &[u8]) -> Result<Restored, RecordError> {
    let (version, body) = bytes.split_first().ok_or(RecordError::Empty)?;
    if *version > VERSION {
        return Err(RecordError::Newer(*version));
    }
    let record = GroupRecord::decode(body)?;
    let protocol = |protocol: ProtocolRecord| Protocol { name: protocol.name.into(), metadata: protocol.metadata };
    let member = |member: MemberRecord| RestoredMember {
        member_id: member.member_id.into(),
        instance: member.instance.map(Into::into),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        session_timeout_ms: member.session_timeout_ms,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        protocols: member.protocols.into_iter().map(protocol).collect(),
        assignment: member.assignment,
    };
    Ok(Restored {
        generation: record.generation,
        protocol_type: record.protocol_type.map(Into::into),
        protocol: record.protocol.map(Into::into),
        leader: record.leader.map(Into::into),
        is_stable: record.is_stable,
        members: record.members.into_iter().map(member).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Restored {
        let protocol = |name: &str| Protocol { name: name.into(), metadata: Bytes::from_static(&[0, 1, 2]) };
        Restored {
            generation: 7,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            leader: Some("c-1".into()),
            is_stable: true,
            members: vec![RestoredMember {
                member_id: "c-1".into(),
                instance: Some("i".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                session_timeout_ms: 45_000,
                rebalance_timeout_ms: 300_000,
                protocols: vec![protocol("range"), protocol("sticky")],
                assignment: Bytes::from_static(&[9]),
            }],
        }
    }

    /// The bytes of version 1, for ever.
    const GOLDEN: &str = concat!(
        "01",
        "0807",
        "1208636f6e73756d6572",
        "1a0572616e6765",
        "2203632d31",
        "2801",
        "323f",
        "0a03632d31",
        "120169",
        "1a0163",
        "220a2f3132372e302e302e31",
        "28c8df02",
        "30e0a712",
        "3a0c",
        "0a0572616e6765",
        "1203000102",
        "3a0d",
        "0a06737469636b79",
        "1203000102",
        "420109",
    );

    #[test]
    fn golden_bytes_stay() {
        let bytes = encode(&sample());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        assert_eq!(decode(&bytes), Ok(sample()));
    }

    #[test]
    fn other_versions_and_garbage_are_refused() {
        assert_eq!(decode(&[]), Err(RecordError::Empty));
        assert_eq!(decode(&[VERSION + 1]), Err(RecordError::Newer(VERSION + 1)));
        assert!(matches!(decode(&[VERSION, 0xff]), Err(RecordError::Damaged(_))));
    }

    prop_compose! {
        fn members()(
            id in ".{0,20}", instance in proptest::option::of(".{0,20}"), session in any::<i64>(), rebalance in any::<i64>(),
            names in proptest::collection::vec(("[a-z]{0,9}", proptest::collection::vec(any::<u8>(), 0..20)), 0..4),
            assignment in proptest::collection::vec(any::<u8>(), 0..30),
        ) -> RestoredMember {
            RestoredMember {
                member_id: id.as_str().into(),
                instance: instance.map(Into::into),
                client_id: id.as_str().into(),
                client_host: "h".into(),
                session_timeout_ms: session,
                rebalance_timeout_ms: rebalance,
                protocols: names.into_iter().map(|(name, bytes)| Protocol { name: name.into(), metadata: bytes.into() }).collect(),
                assignment: assignment.into(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_saved_is_restored(
            members in proptest::collection::vec(members(), 0..5), generation in any::<i32>(), is_stable in any::<bool>(),
            leader in proptest::option::of(".{0,20}"),
        ) {
            let group = Restored {
                generation, is_stable, members,
                leader: leader.map(Into::into),
                protocol_type: None,
                protocol: Some("range".into()),
            };
            prop_assert_eq!(decode(&encode(&group)), Ok(group));
        }
    }
}
