use std::collections::BTreeMap;

use proptest::prelude::*;

use super::random::{Runs, check_whole, folded_history};
use super::*;
use crate::codec::run::decode_run;
use crate::command::UnfoldExtents;
use crate::model::fold::Fold;
use crate::state::log::fold::Part;

fn is_of_folds(command: &Command) -> bool {
    matches!(command, Command::FoldExtents(_) | Command::UnfoldExtents(_))
}

/// Whether the command takes something away that only the model has let go of already: what is folded goes later, never earlier.
fn is_too_early(command: &Command, outcome: &Outcome) -> bool {
    matches!(command, Command::ForgetObjects { .. }) && matches!(outcome, Outcome::Refused(_))
}

/// The entry for the model, which says nothing where the other says something of folds, and what it is to come to.
fn without_folds(entry: &Entry, applied: &Applied) -> (Entry, Vec<Outcome>) {
    let mut entry = entry.clone();
    let mut outcomes = applied.outcomes.clone();
    for (command, outcome) in entry.commands.iter_mut().zip(&mut outcomes) {
        if is_of_folds(command) || is_too_early(command, outcome) {
            *command = Command::MarkState;
            if !matches!(outcome, Outcome::Refused(Refusal::SessionFenced | Refusal::Displaced)) {
                *outcome = Outcome::Done;
            }
        }
    }
    (entry, outcomes)
}

/// All extents of a log, as one who reads the manifests sees them.
fn seen(state: &State, tp: TopicPartition, runs: &Runs) -> Vec<Extent> {
    let log = state.log(tp).unwrap();
    let mut extents = Vec::new();
    for part in log.parts(log.log_start()) {
        match part {
            Part::Folded(fold) => extents.extend(decode_run(&runs[&fold.hash]).unwrap()),
            Part::Extent(extent) => extents.push(extent),
        }
    }
    extents.retain(|extent| extent.end > log.log_start());
    extents
}

/// The folds tell of their extents what these are.
fn check_folds(state: &State, tp: TopicPartition, runs: &Runs) {
    for fold in state.log(tp).unwrap().folds() {
        let extents = decode_run(&runs[&fold.hash]).unwrap();
        let committed = |extent: &Extent| state.objects().get(extent.object).unwrap().committed_ms;
        let time = |extent: &Extent| if extent.max_timestamp >= 0 { extent.max_timestamp } else { committed(extent) };
        let times = || extents.iter().map(time);
        assert_eq!((fold.base, fold.end), (extents[0].base, extents.last().unwrap().end));
        assert_eq!(fold.bytes, extents.iter().map(|extent| u64::from(extent.length)).sum::<u64>());
        assert_eq!(Some(fold.max_timestamp), extents.iter().map(|extent| extent.max_timestamp).max());
        assert_eq!((Some(fold.oldest_ms), Some(fold.newest_ms)), (times().min(), times().max()));
    }
}

fn check_same(folded: &State, model: &State, runs: &Runs) {
    for tp in model.topics().iter().flat_map(|topic| topic.partitions()) {
        let (with, without) = (folded.log(tp).unwrap(), model.log(tp).unwrap());
        let marks = |log: log::Log<'_>| (log.log_start(), log.high_watermark());
        assert_eq!(marks(with), marks(without));
        assert_eq!(seen(folded, tp, runs), without.all_unfolded().collect::<Vec<_>>(), "{tp}");
        check_folds(folded, tp, runs);
    }
    assert_eq!(folded.topics().len(), model.topics().len());
    // G1: what the model needs is alive.
    for object in model.objects().iter().filter(|object| object.dead_since_ms.is_none()) {
        let kept = folded.objects().get(object.id).unwrap();
        assert!(kept.dead_since_ms.is_none() && kept.references >= object.references, "{kept:?} of {object:?}");
    }
}

/// Says of every fold what it holds: of dropped ones, then the newest of every log until there is none.
fn unfold_all(state: &mut State, runs: &Runs) {
    let session = SessionId(u64::MAX);
    let mut sequence = 0;
    let mut say = |state: &mut State, command| {
        sequence += 1;
        let lsn = Lsn(state.applied().0 + 1);
        let entry = Entry { session, sequence, time_ms: 0, commands: vec![command], follows: None };
        assert_eq!(state.apply(lsn, &entry).outcomes, [Outcome::Done]);
    };
    say(state, open(77));
    let unfold = |partition, fold: &Fold| {
        let run = runs[&fold.hash].clone();
        let (object, position) = (fold.object, fold.position.into());
        Command::UnfoldExtents(UnfoldExtents { partition, object, position, run })
    };
    let first_dropped = |state: &State| state.objects().dropped().next().copied();
    while let Some(fold) = first_dropped(state) {
        say(state, unfold(None, &fold));
    }
    let partitions: Vec<_> = state.topics().iter().flat_map(|topic| topic.partitions()).collect();
    for tp in partitions {
        while let Some(fold) = state.log(tp).unwrap().folds().last().copied() {
            say(state, unfold(Some(tp), &fold));
        }
    }
}

/// What is known of every object that is no manifest.
fn ledger(state: &State) -> BTreeMap<ObjectId, (u32, u64, u32, bool)> {
    let is_manifest = |id: ObjectId| (1_000..1_200).contains(&id.counter);
    let objects = state.objects().iter().filter(|object| !is_manifest(object.id));
    objects.map(|o| (o.id, (o.references, o.referenced_bytes, o.folded, o.dead_since_ms.is_some()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn l1_l2_g1_g2_g3_folds_change_nothing_that_can_be_seen((history, runs) in folded_history()) {
        let (mut folded, mut model) = (State::default(), State::default());
        for (lsn, entry) in (1..).zip(&history) {
            let applied = folded.apply(Lsn(lsn), entry);
            let (entry, outcomes) = without_folds(entry, &applied);
            let expected = Applied { outcomes, ..applied };
            let told = model.apply(Lsn(lsn), &entry);
            prop_assert_eq!(told, expected);
            check_same(&folded, &model, &runs);
        }
        unfold_all(&mut folded, &runs);
        check_whole(&folded);
        check_same(&folded, &model, &runs);
        prop_assert!(folded.objects().dropped().len() == 0);
        prop_assert_eq!(ledger(&folded), ledger(&model), "G2: nothing is kept for ever");
    }
}
