//! The bytes of a run of extents in a manifest object.
//!
//! `apply` makes these bytes of the extents at hand and takes their hash, so they are part of the state machine: for one version
//! the same extents give the same bytes, on every build. Objects are named once each and then by number.

use std::collections::HashMap;

use prost::Message;
use sha2::{Digest, Sha256};

use super::{CodecError, frame, unframe};
use crate::model::extent::{Extent, ObjectId};
use crate::model::fold::RunHash;
use crate::model::ids::SessionId;
use crate::model::offset::Offset;

/// Format of [`encode_run`]. Another one needs a feature level: a hash that is said in a command is of this one.
pub const RUN_VERSION: u16 = 1;

const RUN: &str = "run of a manifest";

/// Columns; those of the extents are of equal length.
#[derive(Clone, PartialEq, Message)]
struct Run {
    /// Of the objects, in the order in which the extents name them first.
    #[prost(fixed64, repeated, tag = "1")]
    sessions: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    counters: Vec<u64>,
    /// Offsets between the end of the extent before (or 0) and this one's base.
    #[prost(uint64, repeated, tag = "3")]
    gaps: Vec<u64>,
    #[prost(uint32, repeated, tag = "4")]
    records: Vec<u32>,
    /// Index among the objects.
    #[prost(uint32, repeated, tag = "5")]
    objects: Vec<u32>,
    #[prost(uint32, repeated, tag = "6")]
    positions: Vec<u32>,
    #[prost(uint32, repeated, tag = "7")]
    lengths: Vec<u32>,
    #[prost(sint64, repeated, tag = "8")]
    max_timestamps: Vec<i64>,
    /// The rows whose extents are sparse, rising.
    #[prost(uint32, repeated, tag = "9")]
    sparse: Vec<u32>,
}

/// The bytes of a run: neighbours of one log, in offset order, as a log has them.
pub fn encode_run(extents: &[Extent]) -> Vec<u8> {
    let packed = "the index keeps 32 bits of it";
    let mut run = Run::default();
    let mut numbers: HashMap<ObjectId, u32> = HashMap::new();
    let mut end = Offset::ZERO;
    for (row, extent) in (0..).zip(extents) {
        let number = *numbers.entry(extent.object).or_insert_with(|| {
            run.sessions.push(extent.object.session.0);
            run.counters.push(extent.object.counter);
            u32::try_from(run.sessions.len() - 1).expect("a run has fewer than 2^32 extents")
        });
        run.gaps.push(extent.base.since(end));
        run.records.push(u32::try_from(extent.end.since(extent.base)).expect(packed));
        run.objects.push(number);
        run.positions.push(u32::try_from(extent.position).expect(packed));
        run.lengths.push(extent.length);
        run.max_timestamps.push(extent.max_timestamp);
        run.sparse.extend(extent.sparse.then_some(row));
        end = extent.end;
    }
    frame(RUN_VERSION, run.encode_to_vec())
}

/// The hash that a fold keeps of its run.
pub fn hash_run(bytes: &[u8]) -> RunHash {
    Sha256::digest(bytes).into()
}

/// The extents of a run, in offset order. Total: any bytes give extents or an error, and allocate in proportion to their length.
pub fn decode_run(bytes: &[u8]) -> Result<Vec<Extent>, CodecError> {
    let bad = |why: &str| CodecError::malformed(RUN, why);
    let run = Run::decode(unframe(RUN, RUN_VERSION, bytes)?).map_err(|why| CodecError::malformed(RUN, why))?;
    let columns = [run.gaps.len(), run.objects.len(), run.positions.len(), run.lengths.len(), run.max_timestamps.len()];
    if columns.iter().any(|&rows| rows != run.records.len()) || run.sessions.len() != run.counters.len() {
        return Err(bad("its columns differ in length"));
    }
    let mut sparse = run.sparse.iter().copied().peekable();
    let mut extents = Vec::with_capacity(run.records.len());
    let mut end = Offset::ZERO;
    for (row, number) in (0..).zip(0..run.records.len()) {
        let object = usize::try_from(run.objects[number]).unwrap_or(usize::MAX);
        let (Some(&session), Some(&counter)) = (run.sessions.get(object), run.counters.get(object)) else {
            return Err(bad("an extent names an unknown object"));
        };
        let base = end.checked_add(run.gaps[number]).ok_or_else(|| bad("an extent starts past all offsets"))?;
        end = base.checked_add(run.records[number].into()).ok_or_else(|| bad("an extent ends past all offsets"))?;
        if base == end {
            return Err(bad("an extent holds no offset"));
        }
        extents.push(Extent {
            base,
            end,
            object: ObjectId { session: SessionId(session), counter },
            position: run.positions[number].into(),
            length: run.lengths[number],
            max_timestamp: run.max_timestamps[number],
            sparse: sparse.next_if_eq(&row).is_some(),
        });
    }
    if sparse.next().is_some() {
        return Err(bad("its sparse extents are not in order"));
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::golden;

    fn extents() -> impl Strategy<Value = Vec<Extent>> {
        let fields = (0_u64..9, 1_u32.., (0_u64..4, 0_u64..3), any::<(u32, u32, i64, bool)>());
        vec(fields, 0..40).prop_map(|rows| {
            let mut end = Offset::ZERO;
            let extent = |(gap, records, (session, counter), (position, length, max_timestamp, sparse))| {
                let base = end.checked_add(gap).unwrap();
                end = base.checked_add(u64::from(records)).unwrap();
                let object = ObjectId { session: SessionId(session), counter };
                Extent { base, end, object, position: u64::from(position), length, max_timestamp, sparse }
            };
            rows.into_iter().map(extent).collect()
        })
    }

    proptest! {
        #[test]
        fn runs_round_trip(extents in extents()) {
            prop_assert_eq!(decode_run(&encode_run(&extents)), Ok(extents));
        }

        #[test]
        fn l7_a_flipped_bit_or_a_cut_is_found(extents in extents(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = encode_run(&extents);
            let at = at.index(bytes.len());
            prop_assert!(decode_run(&bytes[..at]).is_err());
            let before = hash_run(&bytes);
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(decode_run(&bytes).is_err());
            prop_assert_ne!(hash_run(&bytes), before);
        }

        /// P1: the checksum keeps noise away from the body's decoder, so noise is given to it under an honest one.
        #[test]
        fn p1_decoding_is_total(
            extents in extents(),
            noise in vec(any::<u8>(), 0..200),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            drop(decode_run(&frame(RUN_VERSION, noise)));
            let mut body = unframe(RUN, RUN_VERSION, &encode_run(&extents)).unwrap().to_vec();
            for (at, byte) in damage {
                if !body.is_empty() {
                    let at = at.index(body.len());
                    body[at] = byte;
                }
            }
            if let Ok(extents) = decode_run(&frame(RUN_VERSION, body)) {
                prop_assert_eq!(decode_run(&encode_run(&extents)), Ok(extents));
            }
        }
    }

    #[test]
    fn d1_the_bytes_of_a_run_are_pinned() {
        golden::check("run_v1.hex", &encode_run(&golden::run()));
        assert_eq!(decode_run(&golden::read("run_v1.hex")), Ok(golden::run()));
    }

    #[test]
    fn a_newer_run_is_refused_clearly() {
        let mut bytes = encode_run(&golden::run());
        bytes[0] = 2;
        let error = decode_run(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "run of a manifest has format version 2, this build knows up to 1: upgrade it");
    }
}
