//! Segments there and back, their pinned bytes, and bytes that are none.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::sample::{batch_at, batch_of, object, partition, shared, summary_of};
use crate::segment::builder::{BuiltSegment, SegmentBuilder};

fn built(batches: &[(metadata::model::ids::TopicPartition, Bytes)]) -> BuiltSegment {
    let mut builder = SegmentBuilder::default();
    for (partition, batch) in batches {
        builder.push(*partition, batch.clone(), summary_of(batch));
    }
    let name_of = |topic: TopicId| (topic.0.as_u128() == 1).then(|| "orders".to_owned());
    builder.finish(object(5), 1_700_000_000_000, name_of).unwrap()
}

fn small() -> BuiltSegment {
    let stamp = ProducerStamp { id: ProducerId(9), epoch: 2, base_sequence: 40, transactional: false };
    built(&[
        (partition(2, 0), shared(batch_of(1, 1))),
        (partition(1, 3), shared(batch_at(&[50, 40], 2, Some(stamp)))),
        (partition(1, 0), shared(batch_of(2, 3))),
        (partition(1, 3), shared(batch_of(3, 4))),
    ])
}

#[test]
fn a_segment_says_of_itself_what_its_commit_says() {
    let BuiltSegment { payload, commit, runs } = small();
    let bytes = payload.to_bytes();
    let footer = parse_segment(&bytes).unwrap();
    assert_eq!(footer.object, commit.object);
    assert_eq!(commit.object_bytes, bytes.len() as u64);
    assert_eq!(footer.topics.iter().map(|t| &*t.name).collect::<Vec<_>>(), ["orders", ""]);
    let said: Vec<_> = footer
        .topics
        .iter()
        .flat_map(|t| t.runs.iter().map(|r| (t.id, r.partition, r.position, r.batches.clone())))
        .collect();
    let committed: Vec<_> = commit
        .partitions
        .iter()
        .map(|p| (p.partition.topic, p.partition.partition, p.position, p.batches.clone()))
        .collect();
    assert_eq!(said, committed);
    for (part, run) in commit.partitions.iter().zip(&runs) {
        let at = part.position as usize;
        assert_eq!(&bytes[at..at + run.len()], &run[..], "the producers' bytes, untouched");
    }
    assert_eq!(parse_footer(&bytes[bytes.len() - 400..]).ok(), parse_footer(&bytes).ok());
}

#[test]
fn a_large_run_lies_in_memory_as_it_does_in_the_object() {
    let large = shared(batch_of(20_000, 1));
    let batches =
        [(partition(1, 0), shared(batch_of(4, 1))), (partition(1, 1), large.clone()), (partition(1, 1), large)];
    let BuiltSegment { payload, commit, runs } = built(&batches);
    let (run, position) = (&runs[1], commit.partitions[1].position as usize);
    assert!(run.len() > 256 << 10, "{} bytes", run.len());
    assert_eq!(run.as_ptr().align_offset(4096), position.wrapping_neg() % 4096);
    assert!(payload.chunks().iter().any(|chunk| chunk.as_ptr() == run.as_ptr()), "kept is what was sent");
}

/// The bytes of version 1. If this fails, objects written by released versions can no longer be read.
#[test]
fn golden_bytes_of_version_1() {
    let bytes = small().payload.to_bytes();
    let hex: String =
        bytes.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect();
    let golden = include_str!("../golden/segment-v1.hex");
    assert_eq!(hex, golden, "segment bytes differ from the golden file");
    assert_eq!(parse_segment(&bytes).unwrap().topics[0].runs[0].batches[0].records, 2);
}

#[test]
fn a_newer_version_stops_the_reader() {
    let bytes = small().payload.to_bytes().to_vec();
    let mut newer = bytes.clone();
    newer[5] = 2;
    assert_eq!(parse_segment(&newer), Err(SegmentError::Newer { found: 2 }));
    let mut newer = bytes.clone();
    let at = bytes.len() - TRAILER_LEN + 5;
    newer[at] = 9;
    let error = parse_footer(&newer).unwrap_err();
    assert_eq!(error, SegmentError::Newer { found: 9 });
    assert!(error.to_string().contains("upgrade"));
}

#[test]
fn l7_every_flipped_bit_is_noticed() {
    let bytes = small().payload.to_bytes().to_vec();
    for bit in 0..bytes.len() * 8 {
        let byte = bit / 8;
        if (6..8).contains(&byte) {
            continue; // reserved
        }
        let mut bad = bytes.clone();
        bad[byte] ^= 1 << (bit % 8);
        assert!(parse_segment(&bad).is_err(), "bit {bit} of {}", bytes.len() * 8);
    }
    for len in 0..bytes.len() {
        assert!(parse_segment(&bytes[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn counts_are_not_believed() {
    let mut tail = vec![0; 24];
    tail.extend_from_slice(&u32::MAX.to_be_bytes());
    let footer_len = tail.len() as u32;
    tail.extend_from_slice(&footer_len.to_be_bytes());
    tail.extend_from_slice(&[0, 1, 0, 0]);
    let crc = crc32c::crc32c(&tail);
    tail.extend_from_slice(&crc.to_be_bytes());
    tail.extend_from_slice(&(8 + footer_len + TRAILER_LEN as u32).to_be_bytes());
    tail.extend_from_slice(&END_MAGIC);
    assert_eq!(parse_footer(&tail), Err(SegmentError::Damaged("it counts more than it can hold")));
}

fn batches() -> impl Strategy<Value = Vec<(u128, i32, Vec<i64>, bool)>> {
    let times = proptest::collection::vec(0_i64..1_000_000, 1..5);
    proptest::collection::vec((0_u128..3, 0_i32..4, times, any::<bool>()), 1..20)
}

proptest! {
    #[test]
    fn what_is_built_is_parsed(batches in batches()) {
        let stamp = |on: bool| on.then_some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: 7, transactional: true });
        let made: Vec<_> = batches
            .into_iter()
            .enumerate()
            .map(|(n, (t, p, times, on))| (partition(t, p), shared(batch_at(&times, n as u64, stamp(on)))))
            .collect();
        let segment = built(&made);
        let footer = parse_segment(&segment.payload.to_bytes()).unwrap();
        let count: usize = footer.topics.iter().flat_map(|t| &t.runs).map(|r| r.batches.len()).sum();
        prop_assert_eq!(count, made.len());
        let runs_end = segment.commit.partitions.last().map(|p| p.position + p.batches.iter().map(|b| u64::from(b.length)).sum::<u64>());
        let bytes = segment.payload.to_bytes();
        let again = footer.encode(runs_end.unwrap()).unwrap();
        prop_assert!(bytes.ends_with(&again));
    }

    #[test]
    fn any_bytes_give_a_footer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse_segment(&bytes);
        let _ = parse_footer(&bytes);
        let mut framed = bytes;
        let footer_len = framed.len() as u32;
        framed.extend_from_slice(&footer_len.to_be_bytes());
        framed.extend_from_slice(&[0, 1, 0, 0]);
        let crc = crc32c::crc32c(&framed);
        framed.extend_from_slice(&crc.to_be_bytes());
        framed.extend_from_slice(&footer_len.to_be_bytes());
        framed.extend_from_slice(&END_MAGIC);
        let _ = parse_footer(&framed); // past the checksum
    }
}
