//! Random histories: whatever is said, in whatever order, the invariants hold.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::run::{encode_run, hash_run};
use crate::command::{FoldExtents, NewExtent, PartitionFold, PartitionSwap, SwapExtents, UnfoldExtents};
use crate::model::fold::RunHash;

/// Groups and names of the histories; two of the names collide.
const GROUPS: [&str; 2] = ["g", "h"];
const NAMES: [&str; 4] = ["a.b", "a_b", "c", "d"];

fn session() -> impl Strategy<Value = SessionId> {
    prop_oneof![9 => Just(SessionId(0)), 3 => Just(SessionId(1)), 1 => (2u64..4).prop_map(SessionId)]
}

/// Topics 0 and 1 begin with partitions 0 and 1.
fn partition() -> impl Strategy<Value = TopicPartition> {
    let topic = prop_oneof![8 => 0u64..2, 1 => Just(2)];
    (topic, prop_oneof![8 => 0i32..2, 1 => Just(2)]).prop_map(|(topic, partition)| tp(topic, partition))
}

/// Base sequences stand for what [`Clients`] makes of them.
fn batch() -> impl Strategy<Value = BatchSummary> {
    let epoch = prop_oneof![9 => Just(1), 1 => 0i16..3];
    let stamp =
        (0i64..2, epoch, 0i32..10, prop::bool::weighted(0.03)).prop_map(|(id, epoch, base_sequence, transactional)| {
            ProducerStamp { id: ProducerId(id), epoch, base_sequence, transactional }
        });
    let records = prop_oneof![1 => Just(0), 19 => 1u32..4];
    (records, 1u32..200, -1i64..50, prop::option::of(stamp))
        .prop_map(|(records, length, max_timestamp, stamp)| BatchSummary { records, length, max_timestamp, stamp })
}

fn commit() -> impl Strategy<Value = Command> {
    let part = (partition(), vec(batch(), 0..4));
    // Session 0 stands for the writer's own.
    let session = prop_oneof![19 => Just(0u64), 1 => Just(1)];
    (session, 0u64..500, vec(part, 0..4)).prop_map(|(session, counter, parts)| {
        let mut position = 0;
        let place = |(partition, batches): (TopicPartition, Vec<BatchSummary>)| {
            let part = PartitionCommit { partition, position, batches };
            position += part.batches.iter().map(|b| u64::from(b.length)).sum::<u64>();
            part
        };
        let object = ObjectId { session: SessionId(session), counter };
        let partitions = parts.into_iter().map(place).collect();
        Command::CommitSegment(CommitSegment { object, object_bytes: 2_000, partitions })
    })
}

fn topic_command() -> impl Strategy<Value = Command> {
    let start = (partition(), 0i64..9).prop_map(|(tp, to)| (tp, offset(to)));
    prop_oneof![
        4 => (0u64..3, 0..NAMES.len(), 1i32..4).prop_map(|(id, name, count)| create(id, NAMES[name], count)),
        1 => (0u64..3).prop_map(|id| Command::DeleteTopic { topic: topic_id(id) }),
        1 => (0u64..3, 0i32..5).prop_map(|(id, total)| Command::CreatePartitions { topic: topic_id(id), total }),
        1 => (0u64..3, prop::option::of("[a-z]"))
            .prop_map(|(id, value)| Command::SetTopicConfigs { topic: topic_id(id), changes: vec![("k".into(), value)] }),
        3 => vec(start, 0..4).prop_map(|starts| Command::AdvanceLogStart { starts }),
        1 => vec((0u64..2, 0u64..1_200), 0..9).prop_map(|ids| {
            let id = |(session, counter)| ObjectId { session: SessionId(session), counter };
            Command::ForgetObjects { objects: ids.into_iter().map(id).collect() }
        }),
    ]
}

fn group_command() -> impl Strategy<Value = Command> {
    let group = || prop::sample::select(&GROUPS[..]);
    prop_oneof![
        3 => (group(), 0u64..4, 0i32..3, any::<bool>())
            .prop_map(|(group, version, generation, is_empty)| save(group, version, generation, is_empty)),
        2 => (group(), 0u64..4)
            .prop_map(|(group, expected_version)| Command::DeleteGroup { group: group.into(), expected_version }),
        4 => (group(), prop::option::of(0u64..4), partition(), 0i64..9)
            .prop_map(|(group, version, tp, offset)| commit_offset(group, version, tp, offset)),
        1 => (group(), vec(partition(), 0..3))
            .prop_map(|(group, partitions)| Command::DeleteOffsets { group: group.into(), partitions }),
        1 => (0i64..90, 0i64..90).prop_map(|(producer_idle_ms, offsets_retention_ms)| Command::ExpireState {
            producer_idle_ms,
            offsets_retention_ms
        }),
    ]
}

fn session_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => (0i32..9, prop::bool::weighted(0.1))
            .prop_map(|(node, fence_others)| Command::OpenSession(OpenSession { fence_others, ..opening(node) })),
        1 => Just(Command::CloseSession),
        2 => (1u64..4, any::<bool>()).prop_map(|(session, late)| Command::ExpireSession {
            session: SessionId(session),
            last_seen: Lsn(if late { u64::MAX } else { 0 }),
        }),
        1 => (0u32..9).prop_map(|count| Command::AllocateProducerIds { count }),
        1 => Just(Command::RaiseFeatureLevel { level: FEATURE_LEVEL }),
    ]
}

/// Idempotent producers as they behave, more or less: what each sent last to a partition.
#[derive(Debug, Default)]
struct Clients(BTreeMap<(TopicPartition, ProducerId), (i32, u32)>);

impl Clients {
    /// Gives a batch its sequence: mostly the next one, sometimes the last one again, sometimes any.
    fn stamp(&mut self, tp: TopicPartition, batch: &mut BatchSummary) {
        let Some(stamp) = &mut batch.stamp else { return };
        let last = self.0.entry((tp, stamp.id)).or_insert((0, 0));
        match stamp.base_sequence {
            0..7 => stamp.base_sequence = last.0 + i32::try_from(last.1).unwrap(),
            7 | 8 if last.1 > 0 => (stamp.base_sequence, batch.records) = *last,
            _ => return,
        }
        *last = (stamp.base_sequence, batch.records);
    }
}

/// Gives every topic id of the command the generation it is in: an id is never used again for another topic.
fn renew_topics(command: &mut Command, generations: &mut BTreeMap<TopicId, u64>) {
    let renew = |id: &mut TopicId| {
        let number = id.0.as_u64_pair().1 + 10 * generations.get(id).copied().unwrap_or_default();
        *id = topic_id(number);
    };
    match command {
        Command::CreateTopic(create) => renew(&mut create.id),
        Command::CreatePartitions { topic, .. } | Command::SetTopicConfigs { topic, .. } => renew(topic),
        Command::CommitSegment(commit) => commit.partitions.iter_mut().for_each(|p| renew(&mut p.partition.topic)),
        Command::AdvanceLogStart { starts } => starts.iter_mut().for_each(|(tp, _)| renew(&mut tp.topic)),
        Command::SwapExtents(swap) => swap.partitions.iter_mut().for_each(|p| renew(&mut p.partition.topic)),
        Command::FoldExtents(fold) => fold.runs.iter_mut().for_each(|run| renew(&mut run.partition.topic)),
        Command::UnfoldExtents(unfold) => unfold.partition.iter_mut().for_each(|tp| renew(&mut tp.topic)),
        Command::CommitOffsets(commit) => commit.offsets.iter_mut().for_each(|(tp, _)| renew(&mut tp.topic)),
        Command::DeleteOffsets { partitions, .. } => partitions.iter_mut().for_each(|tp| renew(&mut tp.topic)),
        Command::DeleteTopic { topic } => {
            let first = *topic;
            renew(topic);
            *generations.entry(first).or_default() += 1;
        }
        _ => {}
    }
}

/// A swap yet to be made of what the log has: which partition, from which extent on, how many, and how.
fn swap() -> impl Strategy<Value = Command> {
    let run = (partition(), 0i64..6, 1i64..6).prop_map(|(partition, skip, take)| PartitionSwap {
        partition,
        base: offset(skip),
        end: offset(take),
        old: Vec::new(),
        new: Vec::new(),
    });
    (500u64..999, 0u32..5, vec(run, 1..4)).prop_map(|(counter, level, partitions)| {
        let object = ObjectId { session: SessionId(0), counter };
        Command::SwapExtents(SwapExtents { object, object_bytes: 2_000, level, partitions })
    })
}

/// Makes a swap of extents that are there: a merge of the dense ones without a gap (level 0 to 2), or a compaction that
/// keeps every other offset (3), or one that names the right extents and replaces them wrongly (4).
fn fill(swap: &mut SwapExtents, state: &State) {
    for part in &mut swap.partitions {
        let Some(log) = state.log(part.partition) else { continue };
        let (skip, take) = (part.base.since(Offset::ZERO), part.end.since(Offset::ZERO));
        let at = |from: Offset, more: u64| from.checked_add(more).unwrap();
        let mut run: Vec<Extent> = Vec::new();
        for extent in log.all_unfolded().skip(usize::try_from(skip).unwrap()).take(usize::try_from(take).unwrap()) {
            let breaks = run.last().is_some_and(|last| last.end != extent.base || last.sparse || extent.sparse);
            if breaks && swap.level < 3 {
                break;
            }
            run.push(extent);
        }
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        (part.base, part.end) = (first.base, last.end);
        part.old = run.iter().map(|extent| (extent.object, extent.position)).collect();
        let new = |base, end, sparse| NewExtent { base, end, position: 7, length: 50, max_timestamp: 9, sparse };
        part.new = match swap.level {
            0..3 => vec![new(part.base, part.end, run[0].sparse)],
            3 => {
                let offsets = (0..part.end.since(part.base)).map(|more| at(part.base, more));
                let is_last = |offset: Offset| at(offset, 1) == log.high_watermark();
                let kept = offsets.filter(|&offset| offset.get() % 2 == 0 || is_last(offset));
                kept.map(|offset| new(offset, at(offset, 1), true)).collect()
            }
            _ => vec![new(at(part.base, 1), at(part.end, 1), false)],
        };
    }
}

/// Folds and unfolds yet to be made of what the log has.
fn fold() -> impl Strategy<Value = Command> {
    let run = (partition(), 1u32..4).prop_map(|(partition, extents)| PartitionFold {
        partition,
        extents,
        position: 0,
        length: 0,
        hash: RunHash::default(),
    });
    let wrong = prop::bool::weighted(0.1);
    prop_oneof![
        2 => (1_000u64..1_200, vec(run, 1..3), wrong).prop_map(|(counter, runs, is_wrong)| {
            let object = ObjectId { session: SessionId(0), counter };
            Command::FoldExtents(FoldExtents { object, object_bytes: u64::from(is_wrong), runs })
        }),
        1 => (prop::option::of(partition()), wrong).prop_map(|(partition, is_wrong)| {
            let object = ObjectId::default();
            Command::UnfoldExtents(UnfoldExtents { partition, object, position: 0, run: vec![0; is_wrong.into()] })
        }),
    ]
}

/// What the manifests hold.
pub(super) type Runs = BTreeMap<RunHash, Vec<u8>>;

/// Makes a fold of extents that are there, or of others.
fn fill_fold(fold: &mut FoldExtents, state: &State, runs: &mut Runs) {
    let is_wrong = fold.object_bytes == 1;
    let mut position = 8;
    for run in &mut fold.runs {
        let Some(log) = state.log(run.partition) else { continue };
        let extents: Vec<Extent> = log.all_unfolded().skip(is_wrong.into()).take(run.extents as usize).collect();
        let bytes = encode_run(&extents);
        (run.position, run.length, run.hash) = (position, u32::try_from(bytes.len()).unwrap(), hash_run(&bytes));
        position += u64::from(run.length);
        runs.insert(run.hash, bytes);
    }
    fold.object_bytes = position;
}

/// Makes an unfolding of what is folded, or a wrong one.
fn fill_unfold(unfold: &mut UnfoldExtents, state: &State, runs: &Runs) {
    let found = match unfold.partition {
        Some(partition) => state.log(partition).and_then(|log| log.folds().last()),
        None => state.objects().dropped().next(),
    };
    let Some(fold) = found else { return };
    let is_wrong = !unfold.run.is_empty();
    (unfold.object, unfold.position) = (fold.object, fold.position.into());
    unfold.run.clone_from(&runs[&fold.hash]);
    unfold.run[9] ^= u8::from(is_wrong);
}

/// The entries of a history of everything.
fn history() -> impl Strategy<Value = Vec<Entry>> {
    let command = prop_oneof![
        8 => commit(),
        5 => swap(),
        5 => fold(),
        6 => topic_command(),
        4 => group_command(),
        1 => session_command(),
    ];
    history_of(vec((session(), prop::bool::weighted(0.1), 0i64..9, vec(command, 0..4)), 0..40))
        .prop_map(|(entries, _)| entries)
}

/// The entries of a history of long logs that are folded and cut, and what was folded.
pub(super) fn folded_history() -> impl Strategy<Value = (Vec<Entry>, Runs)> {
    let cut = vec((partition(), 0i64..40).prop_map(|(tp, to)| (tp, offset(to))), 1..3);
    let command = prop_oneof![
        30 => commit(),
        6 => swap(),
        20 => fold(),
        6 => cut.prop_map(|starts| Command::AdvanceLogStart { starts }),
        1 => topic_command(),
    ];
    let session = prop_oneof![20 => Just(SessionId(0)), 1 => session()];
    history_of(vec((session, prop::bool::weighted(0.02), 0i64..9, vec(command, 1..4)), 10..60))
}

/// What the sessions say, each step with its session, whether it repeats the number of the entry before, and the time since.
type Step = (SessionId, bool, i64, Vec<Command>);

fn history_of(steps: impl Strategy<Value = Vec<Step>>) -> impl Strategy<Value = (Vec<Entry>, Runs)> {
    steps.prop_map(|steps| {
        let mut clients = Clients::default();
        let mut sequences: BTreeMap<SessionId, u64> = BTreeMap::new();
        let mut generations = BTreeMap::new();
        let mut runs = Runs::new();
        let mut time_ms = 0;
        let (mut entries, mut state): (Vec<Entry>, State) = Default::default();
        for (session, name) in [(0, "a.b"), (1, "c")] {
            let commands = vec![open(session), create(session.unsigned_abs().into(), name, 2)];
            let session = SessionId(session.unsigned_abs().into());
            sequences.insert(session, 1);
            entries.push(Entry { session, sequence: 1, time_ms, commands, follows: None });
            state.apply(Lsn(state.applied().0 + 1), &entries[entries.len() - 1]);
        }
        for (session, repeats, passed_ms, mut commands) in steps {
            let sequence = sequences.entry(session).or_default();
            *sequence += u64::from(!repeats || *sequence == 0);
            time_ms += passed_ms;
            for command in &mut commands {
                renew_topics(command, &mut generations);
                match command {
                    Command::SwapExtents(swap) => {
                        swap.object.session = session;
                        fill(swap, &state);
                    }
                    Command::FoldExtents(fold) => {
                        fold.object.session = session;
                        fill_fold(fold, &state, &mut runs);
                    }
                    Command::UnfoldExtents(unfold) => fill_unfold(unfold, &state, &runs),
                    _ => {}
                }
                let Command::CommitSegment(commit) = command else { continue };
                if commit.object.session == SessionId(0) {
                    commit.object.session = session;
                }
                for part in &mut commit.partitions {
                    part.batches.iter_mut().for_each(|batch| clients.stamp(part.partition, batch));
                }
            }
            entries.push(Entry { session, sequence: *sequence, time_ms, commands, follows: None });
            state.apply(Lsn(state.applied().0 + 1), &entries[entries.len() - 1]);
        }
        (entries, runs)
    })
}

/// End and start of every log.
fn marks(state: &State) -> BTreeMap<TopicPartition, (Offset, Offset)> {
    let partitions = state.topics().iter().flat_map(|topic| topic.partitions());
    partitions
        .map(|tp| (tp, state.log(tp).unwrap()))
        .map(|(tp, log)| (tp, (log.high_watermark(), log.log_start())))
        .collect()
}

/// What must be true of any state.
pub(super) fn check_whole(state: &State) {
    let mut references: BTreeMap<ObjectId, (u32, u64)> = BTreeMap::new();
    let mut manifests: BTreeMap<ObjectId, u32> = BTreeMap::new();
    state.objects().dropped().for_each(|fold| *manifests.entry(fold.object).or_default() += 1);
    let mut partitions = 0;
    for topic in state.topics().iter() {
        assert_eq!(state.topics().by_name(topic.name()).unwrap().id(), topic.id());
        for tp in topic.partitions() {
            partitions += 1;
            let log = state.log(tp).unwrap();
            assert!(log.log_start() <= log.last_stable() && log.last_stable() <= log.high_watermark());
            let extents: Vec<_> = log.all_unfolded().collect();
            for extent in &extents {
                let (count, bytes) = references.entry(extent.object).or_default();
                (*count, *bytes) = (*count + 1, *bytes + u64::from(extent.length));
                assert!(extent.base < extent.end && extent.end > log.log_start());
            }
            let folds = log.folds();
            folds.iter().for_each(|fold| *manifests.entry(fold.object).or_default() += 1);
            assert!(folds.iter().all(|fold| fold.base < fold.end && fold.end > log.log_start()));
            assert!(folds.windows(2).all(|pair| pair[0].end <= pair[1].base));
            let first = extents.first().map_or_else(|| log.high_watermark(), |first| first.base);
            assert!(folds.last().is_none_or(|last| last.end <= first && !extents.is_empty()));
            // In order, and up to the end: only compaction leaves holes, and none behind the last extent.
            assert!(extents.windows(2).all(|pair| pair[0].end <= pair[1].base));
            assert_eq!(extents.last().map_or_else(|| log.log_start(), |last| last.end), log.high_watermark());
            let folded = folds.iter().map(|fold| fold.bytes).sum::<u64>();
            assert_eq!(extents.iter().map(|e| u64::from(e.length)).sum::<u64>() + folded, log.bytes());
            assert_eq!(log.parts(log.log_start()).count(), extents.len() + folds.len());
        }
    }
    assert_eq!(state.topics().partition_count(), partitions);
    let mut bytes = (0, 0);
    for object in state.objects().iter() {
        let counted = (object.references - object.folded, object.referenced_bytes - object.folded_bytes);
        assert!(object.folded >= manifests.remove(&object.id).unwrap_or_default(), "{object:?}");
        assert_eq!(counted, references.remove(&object.id).unwrap_or_default(), "{object:?}");
        assert_eq!(object.dead_since_ms.is_some(), object.references == 0);
        *(if object.references == 0 { &mut bytes.1 } else { &mut bytes.0 }) += object.bytes;
    }
    assert!(manifests.is_empty(), "every manifest is in the ledger: {manifests:?}");
    assert!(references.is_empty(), "every extent's object is in the ledger: {references:?}");
    assert_eq!((state.objects().live_bytes(), state.objects().dead_bytes()), bytes);
    assert_eq!(state.objects().dead().count(), state.objects().iter().filter(|o| o.references == 0).count());
    let offsets: Vec<_> = state.offsets().groups().flat_map(|group| state.offsets().iter(group)).collect();
    assert_eq!(offsets.len(), state.offsets().len());
    assert!(offsets.iter().all(|&(tp, _)| state.log(tp).is_some()), "G6: only of topics that exist");
    assert!(state.offsets().groups().all(|group| state.groups().get(group).is_some()));
}

/// L2: every offset that has bytes had bytes before the entry or is new, and what is dense afterwards was dense, too. An
/// offset loses its bytes only to a compaction or behind the log start.
fn check_swaps(before: &State, after: &State, entry: &Entry) {
    let compacts = |c: &Command| matches!(c, Command::SwapExtents(swap) if swap.level == 3);
    let compacts = entry.commands.iter().any(compacts);
    for tp in after.topics().iter().flat_map(|topic| topic.partitions()) {
        let (Some(old), Some(new)) = (before.log(tp), after.log(tp)) else { continue };
        let offsets = |log: log::Log<'_>, only_dense: bool| -> std::collections::BTreeSet<i64> {
            let extents = log.all_unfolded().filter(|extent| !only_dense || !extent.sparse);
            // Folds hold what they held.
            let from = new.log_start().max(folded_until(old)).max(folded_until(new)).get();
            let offsets = extents.flat_map(|extent| extent.base.get()..extent.end.get());
            offsets.filter(|&offset| from <= offset && offset < old.high_watermark().get()).collect()
        };
        assert!(offsets(new, false).is_subset(&offsets(old, false)), "{tp} got bytes out of nothing");
        assert!(offsets(new, true).is_subset(&offsets(old, true)), "{tp} calls dense what is not");
        assert!(compacts || offsets(new, false) == offsets(old, false), "{tp} lost offsets to a merge");
    }
}

fn folded_until(log: log::Log<'_>) -> Offset {
    log.folds().last().map_or(Offset::ZERO, |last| last.end)
}

/// What must be true of one step: ends and starts only grow, appended batches are dense, `changed` says what moved.
fn check_step(before: &State, after: &State, entry: &Entry, applied: &Applied) {
    let (old, new) = (marks(before), marks(after));
    for (tp, (end, start)) in &old {
        match new.get(tp) {
            Some((new_end, new_start)) => {
                assert!(new_end >= end && new_start >= start, "L5, G3: {tp}");
                let moved = new_end != end || new_start != start;
                assert!(!moved || applied.changed.contains(tp), "a waiting fetch must hear of {tp}");
            }
            None => assert!(applied.changed.contains(tp)),
        }
    }
    assert!(applied.changed.is_sorted());
    if !applied.repeated {
        assert_eq!(applied.outcomes.len(), entry.commands.len());
    }
    // Only while no topic comes or goes within the entry can its ends be followed from outside.
    let follows = |command: &Command| matches!(command, Command::DeleteTopic { .. } | Command::CreateTopic(_));
    if entry.commands.iter().any(follows) {
        return;
    }
    let mut ends: BTreeMap<_, _> = old.iter().map(|(&tp, &(end, _))| (tp, end)).collect();
    for (command, outcome) in entry.commands.iter().zip(&applied.outcomes) {
        let (Command::CommitSegment(commit), Outcome::Segment(outcomes)) = (command, outcome) else { continue };
        for (part, outcomes) in commit.partitions.iter().zip(outcomes) {
            assert_eq!(part.batches.len(), outcomes.len());
            for (batch, outcome) in part.batches.iter().zip(outcomes) {
                if let BatchOutcome::Appended { base, .. } = outcome {
                    let end = ends.entry(part.partition).or_insert(Offset::ZERO);
                    assert_eq!(base, end, "L5: offsets are dense");
                    *end = base.checked_add(batch.records.into()).unwrap();
                }
            }
        }
    }
    assert!(ends.iter().all(|(tp, end)| new[tp].0 == *end), "L3: what was refused is not visible");
}

fn essence(state: &State) -> Vec<u8> {
    State { applied: Lsn(0), ..state.clone() }.encode()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn l2_l3_l5_g1_g3_g6_hold_after_every_entry(history in history()) {
        let mut state = State::default();
        for (lsn, entry) in (1..).zip(&history) {
            let before = state.clone();
            let applied = state.apply(Lsn(lsn), entry);
            check_step(&before, &state, entry, &applied);
            check_swaps(&before, &state, entry);
            check_whole(&state);
        }
    }

    /// D1: another gateway, and one that starts from a snapshot in the middle, come to the same state.
    #[test]
    fn d1_the_same_journal_gives_the_same_state_with_or_without_a_snapshot(history in history(), cut in any::<prop::sample::Index>()) {
        let (mut first, mut second) = (State::default(), State::default());
        let cut = cut.index(history.len());
        for (at, entry) in history.iter().enumerate() {
            let lsn = Lsn(u64::try_from(at).unwrap() + 1);
            if at == cut {
                second = State::decode(&second.encode()).unwrap();
                check_whole(&second);
            }
            prop_assert_eq!(first.apply(lsn, entry), second.apply(lsn, entry));
        }
        prop_assert_eq!(first.hash(), second.hash());
        prop_assert_eq!(first.encode(), second.encode());
    }

    /// L4, L6: every entry arrives twice; the second time nothing happens, be its session alive, fenced or unknown.
    #[test]
    fn l4_l6_appending_every_entry_twice_changes_nothing(history in history()) {
        let mut state = State::default();
        for (number, entry) in (0..).zip(&history) {
            state.apply(Lsn(number * 2 + 1), entry);
            let before = essence(&state);
            let again = state.apply(Lsn(number * 2 + 2), entry);
            prop_assert!(again.changed.is_empty());
            prop_assert!(again.repeated || again.outcomes.iter().all(|o| *o == refused(Refusal::SessionFenced)));
            prop_assert_eq!(essence(&state), before);
        }
    }

    /// L6: from the moment a session is fenced, its whole further life leaves no trace.
    #[test]
    fn l6_a_fenced_session_leaves_no_trace(history in history()) {
        let mut state = State::default();
        for (lsn, entry) in (1..).zip(&history) {
            let fenced = state.sessions().standing(entry.session) == Standing::Expired;
            let before = essence(&state);
            state.apply(Lsn(lsn), entry);
            prop_assert!(!fenced || essence(&state) == before);
        }
    }
}
