mod folds;
mod groups;
mod random;
mod sessions;
mod snapshot;
mod topics;
mod unfolded;

use uuid::Uuid;

use super::*;
use crate::command::{BatchOutcome, CommitSegment, CreateTopic, PartitionCommit, SaveGroup};
use crate::model::batch::{BatchSummary, ProducerStamp};
use crate::model::extent::ObjectId;
use crate::model::ids::{NodeId, SessionId};

/// A state and the sessions that write to it.
struct Bed {
    state: State,
    sequences: std::collections::BTreeMap<SessionId, u64>,
    next_object: u64,
}

const MAIN: SessionId = SessionId(100);

impl Bed {
    /// Session [`MAIN`] is open, as node 1.
    fn new() -> Self {
        let mut bed = Self { state: State::default(), sequences: Default::default(), next_object: 0 };
        assert_eq!(bed.say_as(MAIN, open(1)), Outcome::Done);
        bed
    }

    fn entry(&mut self, session: SessionId, time_ms: i64, commands: Vec<Command>) -> Entry {
        let sequence = self.sequences.entry(session).or_default();
        *sequence += 1;
        Entry { session, sequence: *sequence, time_ms, commands, follows: None }
    }

    fn apply(&mut self, entry: &Entry) -> Applied {
        self.state.apply(Lsn(self.state.applied().0 + 1), entry)
    }

    fn say(&mut self, command: Command) -> Outcome {
        self.say_as(MAIN, command)
    }

    fn say_as(&mut self, session: SessionId, command: Command) -> Outcome {
        let entry = self.entry(session, 0, vec![command]);
        self.apply(&entry).outcomes.remove(0)
    }

    fn time(&mut self, time_ms: i64) {
        let entry = self.entry(MAIN, time_ms, Vec::new());
        self.apply(&entry);
    }

    fn topic(&mut self, number: u64, name: &str) -> Outcome {
        self.say(create(number, name, 2))
    }

    fn produce(&mut self, tp: TopicPartition, batches: Vec<BatchSummary>) -> Vec<BatchOutcome> {
        self.next_object += 1;
        let commit = segment(MAIN, self.next_object, tp, batches);
        match self.say(commit) {
            Outcome::Segment(mut outcomes) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Everything but the position in the journal.
    fn essence(&self) -> Vec<u8> {
        State { applied: Lsn(0), ..self.state.clone() }.encode()
    }
}

fn open(node: i32) -> Command {
    Command::OpenSession(opening(node))
}

fn opening(node: i32) -> OpenSession {
    OpenSession {
        node: NodeId(node),
        listeners: Vec::new(),
        rack: None,
        feature_level: FEATURE_LEVEL,
        cluster_id: format!("cluster-of-{node}"),
        fence_others: false,
    }
}

fn topic_id(number: u64) -> TopicId {
    TopicId(Uuid::from_u64_pair(1, number))
}

fn tp(topic: u64, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic_id(topic), partition }
}

fn create(number: u64, name: &str, partitions: i32) -> Command {
    Command::CreateTopic(CreateTopic {
        id: topic_id(number),
        name: name.parse().unwrap(),
        partitions,
        configs: Vec::new(),
    })
}

fn segment(session: SessionId, counter: u64, partition: TopicPartition, batches: Vec<BatchSummary>) -> Command {
    Command::CommitSegment(CommitSegment {
        object: ObjectId { session, counter },
        object_bytes: 100_000,
        partitions: vec![PartitionCommit { partition, position: 0, batches }],
    })
}

fn plain(records: u32) -> BatchSummary {
    BatchSummary { records, length: 100, max_timestamp: 7, stamp: None }
}

fn stamped(base_sequence: i32, records: u32) -> BatchSummary {
    let stamp = ProducerStamp { id: ProducerId(7), epoch: 0, base_sequence, transactional: false };
    BatchSummary { stamp: Some(stamp), ..plain(records) }
}

fn offset(value: i64) -> Offset {
    Offset::new(value).unwrap()
}

fn appended(base: i64) -> BatchOutcome {
    BatchOutcome::Appended { base: offset(base), log_start: Offset::ZERO }
}

fn save(group: &str, expected_version: u64, generation: i32, is_empty: bool) -> Command {
    Command::SaveGroup(SaveGroup {
        group: group.into(),
        expected_version,
        protocol_type: "consumer".into(),
        generation,
        is_empty,
        record: vec![1, 2, 3],
    })
}

fn commit_offset(group: &str, expected_version: Option<u64>, tp: TopicPartition, value: i64) -> Command {
    let committed = CommittedOffset {
        offset: offset(value),
        leader_epoch: -1,
        metadata: String::new(),
        commit_ms: -1,
        expire_ms: None,
    };
    Command::CommitOffsets(CommitOffsets { group: group.into(), expected_version, offsets: vec![(tp, committed)] })
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

#[test]
fn l4_a_repeated_entry_changes_nothing() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    let entry =
        bed.entry(MAIN, 5, vec![segment(MAIN, 1, tp(1, 0), vec![plain(3)]), Command::AllocateProducerIds { count: 5 }]);
    let first = bed.apply(&entry);
    assert_eq!(first.outcomes, [Outcome::Segment(vec![vec![appended(0)]]), Outcome::ProducerIds(ProducerId(0))]);
    assert_eq!((first.changed, first.repeated), (vec![tp(1, 0)], false));
    let before = bed.essence();
    let again = bed.apply(&Entry { time_ms: 99, ..entry });
    assert_eq!(again, Applied { repeated: true, ..Applied::default() });
    assert_eq!(bed.essence(), before);
    assert_eq!(bed.state.applied(), Lsn(4));
}

#[test]
fn state_time_never_runs_backwards() {
    let mut bed = Bed::new();
    for (entry_ms, state_ms) in [(10, 10), (5, 10), (11, 11), (i64::MIN, 11)] {
        bed.time(entry_ms);
        assert_eq!(bed.state.time_ms(), state_ms);
    }
}

#[test]
fn producer_ids_are_given_once() {
    let mut bed = Bed::new();
    let mut next = |count| bed.say(Command::AllocateProducerIds { count });
    assert_eq!(next(10), Outcome::ProducerIds(ProducerId(0)));
    assert_eq!(next(1), Outcome::ProducerIds(ProducerId(10)));
    assert_eq!(next(1), Outcome::ProducerIds(ProducerId(11)));
    bed.state.next_producer_id = i64::MAX;
    assert_eq!(bed.say(Command::AllocateProducerIds { count: 1 }), refused(Refusal::LimitReached));
}

#[test]
fn idle_producers_are_forgotten_by_state_time() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    bed.produce(tp(1, 0), vec![stamped(0, 5)]);
    bed.time(1_000);
    let expire = |idle| Command::ExpireState { producer_idle_ms: idle, offsets_retention_ms: 0 };
    bed.say(expire(1_000));
    assert_eq!(bed.state.log(tp(1, 0)).unwrap().producers().count(), 1);
    bed.say(expire(999));
    assert_eq!(bed.state.log(tp(1, 0)).unwrap().producers().count(), 0);
    assert_eq!(bed.produce(tp(1, 0), vec![stamped(77, 5)]), [appended(5)], "a forgotten producer may go on anywhere");
}
