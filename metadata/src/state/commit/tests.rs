use super::*;
use crate::command::CreateTopic;
use crate::model::batch::ProducerStamp;
use crate::model::extent::ObjectId;
use crate::model::ids::{ProducerId, TopicId};
use crate::model::offset::Offset;
use crate::state::log::Log;

const SESSION: SessionId = SessionId(1);

struct Bed {
    topics: Topics,
    objects: ObjectLedger,
    changed: Vec<TopicPartition>,
    next_object: u64,
}

fn topic(number: u64) -> TopicId {
    TopicId(uuid::Uuid::from_u64_pair(0, number))
}

fn tp(number: u64, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic(number), partition }
}

fn plain(records: u32) -> BatchSummary {
    BatchSummary { records, length: 100, max_timestamp: 5, stamp: None }
}

fn stamped(epoch: i16, base_sequence: i32, records: u32) -> BatchSummary {
    let stamp = ProducerStamp { id: ProducerId(7), epoch, base_sequence, transactional: false };
    BatchSummary { stamp: Some(stamp), ..plain(records) }
}

fn offset(value: i64) -> Offset {
    Offset::new(value).unwrap()
}

fn appended(base: i64) -> BatchOutcome {
    BatchOutcome::Appended { base: offset(base), log_start: Offset::ZERO }
}

impl Bed {
    /// Topic 1 with two partitions.
    fn new() -> Self {
        let mut topics = Topics::default();
        let create = CreateTopic { id: topic(1), name: "t".parse().unwrap(), partitions: 2, configs: Vec::new() };
        topics.create(&create, 0).unwrap();
        Self { topics, objects: ObjectLedger::default(), changed: Vec::new(), next_object: 0 }
    }

    fn commit(&mut self, partitions: Vec<(TopicPartition, Vec<BatchSummary>)>) -> Outcome {
        let mut position = 16;
        let place = |(partition, batches): (TopicPartition, Vec<BatchSummary>)| {
            let part = PartitionCommit { partition, position, batches };
            position += part.batches.iter().map(|b| u64::from(b.length)).sum::<u64>();
            part
        };
        let partitions = partitions.into_iter().map(place).collect();
        let object = ObjectId { session: SESSION, counter: self.next_object };
        self.next_object += 1;
        self.submit(&CommitSegment { object, object_bytes: 10_000, partitions })
    }

    fn submit(&mut self, commit: &CommitSegment) -> Outcome {
        commit_segment(commit, SESSION, Lsn(7), &mut self.topics, &mut self.objects, 50, &mut self.changed)
    }

    fn extents(&self, tp: TopicPartition) -> Vec<(i64, i64, u64, u32)> {
        let log = Log::new(self.topics.log(tp).unwrap(), &self.objects);
        log.all_unfolded().map(|e| (e.base.get(), e.end.get(), e.position, e.length)).collect()
    }
}

#[test]
fn l5_offsets_are_dense_over_batches_partitions_and_segments() {
    let mut bed = Bed::new();
    let first = bed.commit(vec![(tp(1, 0), vec![plain(3), plain(4)]), (tp(1, 1), vec![plain(1)])]);
    assert_eq!(first, Outcome::Segment(vec![vec![appended(0), appended(3)], vec![appended(0)]]));
    let second = bed.commit(vec![(tp(1, 0), vec![plain(1)])]);
    assert_eq!(second, Outcome::Segment(vec![vec![appended(7)]]));
    assert_eq!(bed.extents(tp(1, 0)), [(0, 7, 16, 200), (7, 8, 16, 100)]);
    assert_eq!(bed.extents(tp(1, 1)), [(0, 1, 216, 100)]);
    assert_eq!(bed.changed, [tp(1, 0), tp(1, 1), tp(1, 0)]);
}

#[test]
fn t1_a_duplicate_in_the_middle_splits_the_extent_and_advances_nothing() {
    let mut bed = Bed::new();
    bed.commit(vec![(tp(1, 0), vec![stamped(0, 0, 5)])]);
    let outcome = bed.commit(vec![(tp(1, 0), vec![plain(1), stamped(0, 0, 5), plain(1)])]);
    let duplicate = BatchOutcome::Duplicate { base: offset(0), log_start: Offset::ZERO, max_timestamp: 5 };
    assert_eq!(outcome, Outcome::Segment(vec![vec![appended(5), duplicate, appended(6)]]));
    assert_eq!(bed.extents(tp(1, 0)), [(0, 5, 16, 100), (5, 6, 16, 100), (6, 7, 216, 100)]);
}

#[test]
fn l8_after_a_gap_the_rest_of_the_sequence_is_refused_too() {
    let mut bed = Bed::new();
    let batches = vec![stamped(0, 0, 5), stamped(0, 6, 5), stamped(0, 11, 5), stamped(0, 5, 1)];
    let refused = BatchOutcome::Refused(Refusal::OutOfOrderSequence);
    let expected = vec![appended(0), refused, refused, appended(5)];
    assert_eq!(bed.commit(vec![(tp(1, 0), batches)]), Outcome::Segment(vec![expected]));
}

#[test]
fn unknown_topics_and_partitions_are_refused_for_their_batches_only() {
    let mut bed = Bed::new();
    let outcome = bed.commit(vec![
        (tp(9, 0), vec![plain(1), plain(1)]),
        (tp(1, 2), vec![plain(1)]),
        (tp(1, -1), vec![plain(1)]),
        (tp(1, 0), vec![plain(1)]),
    ]);
    let refused = |refusal, count| vec![BatchOutcome::Refused(refusal); count];
    let (topic, partition) = (Refusal::UnknownTopic, Refusal::UnknownPartition);
    let expected = vec![refused(topic, 2), refused(partition, 1), refused(partition, 1), vec![appended(0)]];
    assert_eq!(outcome, Outcome::Segment(expected));
    assert_eq!(bed.changed, [tp(1, 0)]);
}

#[test]
fn transactional_and_empty_batches_are_refused() {
    let mut bed = Bed::new();
    let mut transactional = stamped(0, 0, 1);
    transactional.stamp.as_mut().unwrap().transactional = true;
    let empty = BatchSummary { length: 0, ..plain(1) };
    let outcome = bed.commit(vec![(tp(1, 0), vec![transactional, plain(0), empty])]);
    let refusals = [Refusal::InvalidTxnState, Refusal::Malformed, Refusal::Malformed];
    assert_eq!(outcome, Outcome::Segment(vec![refusals.map(BatchOutcome::Refused).to_vec()]));
    assert!(bed.changed.is_empty());
    assert_eq!(Log::new(bed.topics.log(tp(1, 0)).unwrap(), &bed.objects).producers().count(), 0);
}

#[test]
fn g2_an_object_of_which_nothing_was_appended_is_dead_at_once() {
    let mut bed = Bed::new();
    bed.commit(vec![(tp(1, 0), vec![plain(0)])]);
    bed.commit(vec![]);
    assert_eq!(
        bed.objects.dead().map(|o| (o.id.counter, o.dead_since_ms)).collect::<Vec<_>>(),
        [(0, Some(50)), (1, Some(50))]
    );
    bed.commit(vec![(tp(1, 0), vec![plain(1)])]);
    assert_eq!(bed.objects.live_bytes(), 10_000);
}

#[test]
fn l2_an_object_is_committed_once() {
    let mut bed = Bed::new();
    bed.commit(vec![(tp(1, 0), vec![plain(1)])]);
    bed.next_object = 0;
    let again = bed.commit(vec![(tp(1, 0), vec![plain(1)])]);
    assert_eq!(again, Outcome::Refused(Refusal::ObjectCommitted));
    assert_eq!(bed.extents(tp(1, 0)).len(), 1);
}

#[test]
fn g1_commands_that_contradict_themselves_are_refused_whole() {
    let mut bed = Bed::new();
    let good = CommitSegment {
        object: ObjectId { session: SESSION, counter: 1 },
        object_bytes: 200,
        partitions: vec![PartitionCommit { partition: tp(1, 0), position: 0, batches: vec![plain(1), plain(1)] }],
    };
    let foreign = CommitSegment { object: ObjectId { session: SessionId(2), counter: 1 }, ..good.clone() };
    let beyond = CommitSegment { object_bytes: 199, ..good.clone() };
    let mut far = good.clone();
    far.partitions[0].position = u64::MAX;
    for bad in [foreign, beyond, far] {
        assert_eq!(bed.submit(&bad), Outcome::Refused(Refusal::Malformed));
    }
    let huge = CommitSegment { object_bytes: OBJECT_BYTES_MAX + 1, ..good.clone() };
    assert_eq!(bed.submit(&huge), Outcome::Refused(Refusal::LimitReached));
    assert!(bed.objects.is_empty() && bed.changed.is_empty());
    assert!(matches!(bed.submit(&good), Outcome::Segment(_)));
}
