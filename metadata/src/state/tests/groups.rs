use super::*;
use crate::model::limits::{GROUP_RECORD_MAX_BYTES, GROUP_STRING_MAX_LEN};

fn saved(version: u64) -> Outcome {
    Outcome::GroupSaved { version }
}

fn delete(group: &str, expected_version: u64) -> Command {
    Command::DeleteGroup { group: group.into(), expected_version }
}

fn expire(offsets_retention_ms: i64) -> Command {
    Command::ExpireState { producer_idle_ms: 0, offsets_retention_ms }
}

const COMMITTED: fn() -> Outcome = || Outcome::Offsets(vec![Ok(())]);

#[test]
fn c2_a_stale_coordinator_cannot_save() {
    let mut bed = Bed::new();
    assert_eq!(bed.say(save("g", 1, 0, false)), refused(Refusal::StaleGroup));
    assert_eq!(bed.say(save("g", 0, 1, false)), saved(1));
    assert_eq!(bed.say(save("g", 0, 2, false)), refused(Refusal::StaleGroup));
    assert_eq!(bed.say(save("g", 1, 2, false)), saved(2));
    assert_eq!(bed.say(save("g", 1, 3, false)), refused(Refusal::StaleGroup));
    assert_eq!(bed.say(save("g", 2, 1, false)), refused(Refusal::StaleGroup), "a generation never goes backwards");
    assert_eq!(bed.say(save("g", 2, 2, false)), saved(3));
    let group = bed.state.groups().get("g").unwrap();
    assert_eq!((group.generation, group.is_empty(), &*group.record), (2, false, &[1, 2, 3][..]));
}

#[test]
fn c2_a_group_made_again_is_not_taken_for_the_old_one() {
    let mut bed = Bed::new();
    bed.say(save("g", 0, 1, false));
    bed.say(save("g", 1, 1, true));
    assert_eq!(bed.say(delete("g", 2)), Outcome::Done);
    assert_eq!(bed.say(save("g", 0, 0, false)), saved(3));
    assert_eq!(bed.say(save("g", 2, 5, false)), refused(Refusal::StaleGroup));
}

#[test]
fn groups_with_members_are_not_deleted_and_empty_ones_take_their_offsets_along() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    assert_eq!(bed.say(delete("g", 0)), refused(Refusal::UnknownGroup));
    bed.say(save("g", 0, 1, false));
    assert_eq!(bed.say(delete("g", 1)), refused(Refusal::GroupNotEmpty));
    assert_eq!(bed.say(commit_offset("g", Some(1), tp(1, 0), 5)), COMMITTED());
    bed.say(save("g", 1, 2, true));
    assert_eq!(bed.say(delete("g", 1)), refused(Refusal::StaleGroup));
    assert_eq!(bed.say(delete("g", 2)), Outcome::Done);
    assert!(bed.state.groups().is_empty() && bed.state.offsets().is_empty());
}

#[test]
fn c6_offsets_are_committed_by_the_coordinator_in_charge_or_to_a_group_without_members() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    assert_eq!(bed.say(commit_offset("g", Some(1), tp(1, 0), 5)), refused(Refusal::StaleGroup));
    bed.time(40);
    assert_eq!(bed.say(commit_offset("g", None, tp(1, 0), 5)), COMMITTED());
    let group = bed.state.groups().get("g").unwrap();
    assert_eq!((group.version, &*group.protocol_type, group.empty_since_ms), (1, "", Some(40)));
    assert_eq!(bed.state.offsets().get("g", tp(1, 0)).unwrap().commit_ms, 40, "set by state time");

    assert_eq!(bed.say(save("g", 1, 1, false)), saved(2));
    assert_eq!(bed.say(commit_offset("g", None, tp(1, 0), 6)), refused(Refusal::StaleGroup));
    assert_eq!(bed.say(commit_offset("g", Some(1), tp(1, 0), 6)), refused(Refusal::StaleGroup));
    assert_eq!(bed.say(commit_offset("g", Some(2), tp(1, 0), 6)), COMMITTED());
    let committed: Vec<_> = bed.state.offsets().iter("g").map(|(tp, o)| (tp, o.offset)).collect();
    assert_eq!(committed, [(tp(1, 0), offset(6))]);
}

#[test]
fn offsets_of_unknown_partitions_are_refused_each_on_its_own() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    assert_eq!(bed.say(commit_offset("g", None, tp(9, 0), 5)), Outcome::Offsets(vec![Err(Refusal::UnknownTopic)]));
    assert!(bed.state.groups().is_empty(), "nothing was committed, so no group was made");
    let Command::CommitOffsets(mut commit) = commit_offset("g", None, tp(1, 0), 5) else { unreachable!() };
    commit.offsets.push((tp(1, 2), commit.offsets[0].1.clone()));
    let long = CommittedOffset { metadata: "x".repeat(GROUP_STRING_MAX_LEN + 1), ..commit.offsets[0].1.clone() };
    commit.offsets.push((tp(1, 1), long));
    let expected = vec![Ok(()), Err(Refusal::UnknownPartition), Err(Refusal::LimitReached)];
    assert_eq!(bed.say(Command::CommitOffsets(commit)), Outcome::Offsets(expected));
    assert_eq!(bed.state.offsets().len(), 1);
}

#[test]
fn offsets_are_deleted_by_partition() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    let delete = |partitions| Command::DeleteOffsets { group: "g".into(), partitions };
    assert_eq!(bed.say(delete(vec![tp(1, 0)])), refused(Refusal::UnknownGroup));
    bed.say(commit_offset("g", None, tp(1, 0), 5));
    bed.say(commit_offset("g", None, tp(1, 1), 6));
    assert_eq!(bed.say(delete(vec![tp(1, 0), tp(9, 9)])), Outcome::Offsets(vec![Ok(()); 2]));
    assert_eq!(bed.state.offsets().iter("g").map(|(tp, _)| tp).collect::<Vec<_>>(), [tp(1, 1)]);
    assert_eq!(bed.state.offsets().len(), 1);
}

#[test]
fn c7_offsets_expire_only_when_the_group_is_empty_past_retention() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    bed.say(save("g", 0, 1, false));
    bed.say(commit_offset("g", Some(1), tp(1, 0), 5));
    bed.time(10_000);
    bed.say(expire(1_000));
    assert_eq!(bed.state.offsets().len(), 1, "the group has members");
    bed.say(save("g", 1, 2, true));
    bed.time(10_999);
    bed.say(save("g", 2, 2, true));
    bed.say(expire(1_000));
    assert_eq!(bed.state.offsets().len(), 1, "empty, but not for long enough");
    bed.time(11_000);
    bed.say(expire(1_000));
    assert!(bed.state.offsets().is_empty(), "another save of the empty group did not restart its time");
    assert!(bed.state.groups().is_empty(), "an empty group without offsets goes away");
}

#[test]
fn c7_a_later_commit_restarts_the_time_and_a_retention_of_its_own_overrules_it() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    bed.say(commit_offset("g", None, tp(1, 0), 5));
    bed.time(900);
    let Command::CommitOffsets(mut commit) = commit_offset("g", None, tp(1, 1), 5) else { unreachable!() };
    commit.offsets[0].1.expire_ms = Some(5_000);
    bed.say(Command::CommitOffsets(commit));
    bed.say(commit_offset("g", None, tp(1, 0), 6));
    bed.time(1_899);
    bed.say(expire(1_000));
    assert_eq!(bed.state.offsets().len(), 2);
    bed.time(1_900);
    bed.say(expire(1_000));
    assert_eq!(bed.state.offsets().iter("g").map(|(tp, _)| tp).collect::<Vec<_>>(), [tp(1, 1)]);
    bed.time(5_000);
    bed.say(expire(1_000_000));
    assert!(bed.state.groups().is_empty());
}

#[test]
fn what_a_group_may_hold_is_capped() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    let Command::SaveGroup(good) = save("g", 0, 0, true) else { unreachable!() };
    let long = "x".repeat(GROUP_STRING_MAX_LEN + 1);
    for bad in [
        SaveGroup { group: long.clone(), ..good.clone() },
        SaveGroup { protocol_type: long.clone(), ..good.clone() },
        SaveGroup { record: vec![0; GROUP_RECORD_MAX_BYTES + 1], ..good },
    ] {
        assert_eq!(bed.say(Command::SaveGroup(bad)), refused(Refusal::LimitReached));
    }
    assert_eq!(bed.say(commit_offset(&long, None, tp(1, 0), 1)), refused(Refusal::LimitReached));
    assert!(bed.state.groups().is_empty());
}
