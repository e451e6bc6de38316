//! One behaviour of Kafka's coordinator each.

use super::*;

fn error_of(reply: &JoinReply) -> GroupError {
    reply.as_ref().unwrap_err().error
}

#[test]
fn first_rebalance_waits_for_members_and_is_extended_by_them() {
    let mut table = Table::new(LIMITS);
    let (a, first) = table.join_twice("a");
    table.pass(2_000);
    let (b, second) = table.join_twice("b");
    table.pass(1_500);
    assert!(table.find_join(first).is_none(), "a newcomer extends the delay");
    table.pass(3_000);
    let leader = table.joined(first).clone().unwrap();
    let follower = table.joined(second).clone().unwrap();
    assert_eq!((leader.generation, follower.generation), (1, 1));
    assert_eq!((&leader.leader, &follower.leader), (&a, &a));
    assert_eq!(leader.members.iter().map(|m| &m.member_id).collect::<Vec<_>>(), [&a, &b]);
    assert!(follower.members.is_empty());
    assert_eq!(leader.protocol.as_deref(), Some("range"));
    assert_eq!(table.saves, 1, "C2: saved before anybody learns of the generation");
}

#[test]
fn delay_is_bounded_by_the_rebalance_timeout() {
    let mut table = Table::new(LIMITS);
    let (_, first) = table.join_twice("a");
    for at in 0..40 {
        table.join_twice(&format!("m{at}"));
        table.pass(2_000);
        if table.find_join(first).is_some() {
            assert!(table.now_ms <= 1_000 + REBALANCE_MS + LIMITS.initial_rebalance_delay_ms);
            return;
        }
    }
    panic!("newcomers delay the first rebalance for ever");
}

#[test]
fn old_clients_join_at_once_and_without_a_delay_if_told_so() {
    let mut table = Table::new(Limits { initial_rebalance_delay_ms: 0, ..LIMITS });
    let number = table.join(JoinRequest { requires_known_id: false, ..dynamic("old", "") });
    table.pass(0);
    assert_eq!(table.joined(number).clone().unwrap().generation, 1);
}

#[test]
fn sync_waits_for_the_leader_and_late_ones_are_served() {
    let mut table = Table::new(LIMITS);
    let (a, _) = table.join_twice("a");
    let (b, _) = table.join_twice("b");
    let (c, _) = table.join_twice("c");
    table.pass(9_000);
    let early = table.sync(sync(&b, 1, &[]));
    assert!(table.synced(early).is_none());
    let leading = table.sync(sync(&a, 1, &[&a, &b]));
    assert_eq!(table.synced(early).unwrap().as_ref().unwrap().assignment, b.as_bytes());
    assert_eq!(table.synced(leading).unwrap().as_ref().unwrap().assignment, a.as_bytes());
    let late = table.sync(sync(&c, 1, &[]));
    assert!(table.synced(late).unwrap().as_ref().unwrap().assignment.is_empty(), "left out by the leader");
    assert_eq!(table.saves, 2);
}

#[test]
fn wrong_callers_get_kafkas_codes() {
    let (mut table, ids) = Table::stable(&["a", "b"]);
    let now = table.now_ms;
    assert_eq!(table.group.heartbeat(&caller("x", 1), now), Err(GroupError::UnknownMember));
    assert_eq!(table.group.heartbeat(&caller(&ids[0], 2), now), Err(GroupError::IllegalGeneration));
    assert_eq!(table.group.heartbeat(&caller(&ids[0], 1), now), Ok(()));
    let number = table.sync(sync(&ids[0], 7, &[]));
    assert_eq!(table.synced(number), Some(&Err(GroupError::IllegalGeneration)));
    let number = table.sync(SyncRequest { protocol: Some("other".into()), ..sync(&ids[0], 1, &[]) });
    assert_eq!(table.synced(number), Some(&Err(GroupError::InconsistentProtocol)));
    let number = table.join(dynamic("x", "nobody"));
    assert_eq!(error_of(table.joined(number)), GroupError::UnknownMember);
    let number = table.join(JoinRequest { protocols: protocols(&["other"]), ..dynamic("x", "") });
    assert_eq!(error_of(table.joined(number)), GroupError::InconsistentProtocol);
    let number = table.join(JoinRequest { protocol_type: "connect".into(), ..dynamic("x", "") });
    assert_eq!(error_of(table.joined(number)), GroupError::InconsistentProtocol);
    assert_eq!(table.leave(&[leaver("x")]), [Err(GroupError::UnknownMember)]);
    assert_eq!(table.group.phase(), Phase::Stable);
}

#[test]
fn a_newcomer_makes_the_others_rejoin() {
    let (mut table, ids) = Table::stable(&["a"]);
    let (b, second) = table.join_twice("b");
    assert_eq!(table.group.heartbeat(&caller(&ids[0], 1), table.now_ms), Err(GroupError::RebalanceInProgress));
    let first = table.join(dynamic("a", &ids[0]));
    assert_eq!(table.joined(first).clone().unwrap().generation, 2);
    assert_eq!(table.joined(second).clone().unwrap().generation, 2);
    table.sync_all(&[&ids[0], &b]);
}

#[test]
fn who_does_not_rejoin_in_time_is_out_and_another_leads() {
    let (mut table, ids) = Table::stable(&["a", "b"]);
    let first = table.join(JoinRequest { protocols: protocols(&["range"]), ..dynamic("b", &ids[1]) });
    for _ in 0..REBALANCE_MS / 5_000 {
        let _ = table.group.heartbeat(&caller(&ids[0], 1), table.now_ms);
        table.pass(5_000);
    }
    let joined = table.joined(first).clone().unwrap();
    assert_eq!(joined.leader, ids[1], "a heartbeats but never rejoins");
    assert_eq!(joined.members.len(), 1);
    assert_eq!(table.group.heartbeat(&caller(&ids[0], 2), table.now_ms), Err(GroupError::UnknownMember));
}

#[test]
fn silent_members_are_dropped_and_an_empty_group_is_saved() {
    let (mut table, _) = Table::stable(&["a", "b"]);
    let saves = table.saves;
    table.pass(SESSION_MS);
    assert_eq!(table.group.phase(), Phase::Empty);
    assert_eq!(table.saves, saves + 1);
    assert_eq!(table.group.generation(), 2);
    assert!(table.group.is_vacant());
    assert_eq!(table.group.next_deadline_ms(), None);
}

#[test]
fn members_that_never_sync_are_dropped() {
    let mut table = Table::new(LIMITS);
    let (a, _) = table.join_twice("a");
    let (b, _) = table.join_twice("b");
    table.pass(6_000);
    let waits = table.sync(sync(&b, 1, &[]));
    for _ in 0..REBALANCE_MS / 5_000 {
        let _ = table.group.heartbeat(&caller(&a, 1), table.now_ms);
        table.pass(5_000);
    }
    assert_eq!(table.synced(waits), Some(&Err(GroupError::RebalanceInProgress)), "C9");
    assert!(!table.group.members.contains_key(&a));
}

#[test]
fn a_leader_that_rejoins_rebalances_and_a_follower_does_not() {
    let (mut table, ids) = Table::stable(&["a", "b"]);
    let follower = table.join(dynamic("b", &ids[1]));
    assert_eq!(table.joined(follower).clone().unwrap().generation, 1);
    assert_eq!(table.group.phase(), Phase::Stable);
    let leader = table.join(dynamic("a", &ids[0]));
    assert!(table.find_join(leader).is_none());
    let follower = table.join(dynamic("b", &ids[1]));
    assert_eq!(table.joined(follower).clone().unwrap().generation, 2);
    let again = table.join(dynamic("a", &ids[0]));
    let said_again = table.joined(again).clone().unwrap();
    assert_eq!((said_again.generation, said_again.members.len()), (2, 2), "the first answer may have been lost");
}

#[test]
fn static_member_returns_without_rebalance_and_the_old_one_is_fenced() {
    let mut table = Table::new(LIMITS);
    let first = table.join(fixed("i", "", 1));
    table.pass(6_000);
    let old = table.joined(first).clone().unwrap().member_id;
    table.sync_all(&[&old]);
    let saves = table.saves;

    let again = table.join(fixed("i", "", 2));
    let back = table.joined(again).clone().unwrap();
    assert_eq!((back.generation, table.group.phase(), table.saves), (1, Phase::Stable, saves + 1), "C4");
    assert_ne!(back.member_id, old);
    assert!(back.skip_assignment && back.leader == back.member_id && back.members.len() == 1, "KIP-814");
    let number = table.sync(SyncRequest { instance: Some("i".into()), ..sync(&back.member_id, 1, &[]) });
    assert_eq!(table.synced(number).unwrap().as_ref().unwrap().assignment, old.as_bytes());

    let ghost = Caller { instance: Some("i".into()), ..caller(&old, 1) };
    assert_eq!(table.group.heartbeat(&ghost, table.now_ms), Err(GroupError::FencedInstance));
    assert_eq!(table.group.check_commit(&ghost, table.now_ms), Err(GroupError::FencedInstance));
    let number = table.join(fixed("i", &old, 3));
    assert_eq!(error_of(table.joined(number)), GroupError::FencedInstance);
}

#[test]
fn old_static_leader_is_shown_its_old_id_so_that_it_does_not_assign() {
    let mut table = Table::new(LIMITS);
    let first = table.join(fixed("i", "", 1));
    table.pass(6_000);
    let old = table.joined(first).clone().unwrap().member_id;
    table.sync_all(&[&old]);
    let again = table.join(JoinRequest { can_skip_assignment: false, ..fixed("i", "", 2) });
    let back = table.joined(again).clone().unwrap();
    assert_eq!(back.leader, old);
    assert!(!back.skip_assignment && back.members.is_empty());
}

#[test]
fn a_waiting_static_member_is_fenced_by_its_double() {
    let mut table = Table::new(LIMITS);
    let first = table.join(fixed("i", "", 1));
    let second = table.join(fixed("i", "", 2));
    assert_eq!(error_of(table.joined(first)), GroupError::FencedInstance);
    table.pass(9_000);
    let joined = table.joined(second).clone().unwrap();
    let waits = table.sync(sync(&joined.member_id, 9, &[]));
    assert_eq!(table.synced(waits), Some(&Err(GroupError::IllegalGeneration)));
    let third = table.join(fixed("i", "", 3));
    assert_eq!(table.joined(third).clone().unwrap().generation, 2, "between join and sync it rebalances");
}

#[test]
fn absent_static_members_keep_their_place_until_their_session_lapses() {
    let mut table = Table::new(LIMITS);
    let first = table.join(JoinRequest { session_timeout_ms: 100_000, ..fixed("i", "", 1) });
    let (b, _) = table.join_twice("b");
    table.pass(6_000);
    let old = table.joined(first).clone().unwrap().member_id;
    table.sync_all(&[&old, &b]);
    let newcomer = table.join(JoinRequest { requires_known_id: false, ..dynamic("c", "") });
    let rejoined = table.join(dynamic("b", &b));
    table.pass(REBALANCE_MS);
    assert_eq!(table.joined(newcomer).clone().unwrap().generation, 2);
    assert_ne!(table.joined(rejoined).clone().unwrap().leader, old, "a leader that did not rejoin loses its office");
    assert!(table.group.members.contains_key(&old));
    assert_eq!(table.leave(&[Leaver { member_id: "".into(), instance: Some("i".into()) }]), [Ok(())]);
    assert!(!table.group.members.contains_key(&old), "an administrator removes it by its instance");
}

#[test]
fn a_static_member_of_another_protocol_rebalances() {
    let mut table = Table::new(LIMITS);
    let first = table.join(fixed("i", "", 1));
    table.pass(6_000);
    let old = table.joined(first).clone().unwrap().member_id;
    table.sync_all(&[&old]);
    let again = table.join(JoinRequest { protocols: protocols(&["sticky"]), ..fixed("i", "", 2) });
    let back = table.joined(again).clone().unwrap();
    assert_eq!((back.generation, back.protocol.as_deref()), (2, Some("sticky")));
}

#[test]
fn pending_ids_are_capped_and_lapse() {
    let mut table = Table::new(LIMITS);
    let (mut given, mut refused) = (0, 0);
    for at in 0..10_000 {
        let number = table.next + 1;
        let mut effects = Effects::default();
        table.group.join(dynamic(&format!("p{at}"), ""), number, table.now_ms, &mut effects);
        table.next = number;
        match effects.joins.remove(0).1.unwrap_err().error {
            GroupError::MemberIdRequired => given += 1,
            GroupError::Busy => refused += 1,
            other => panic!("{other}"),
        }
    }
    check(&table.group);
    assert_eq!((given, refused), (LIMITS.max_pending, 10_000 - LIMITS.max_pending), "C3");
    assert!(!table.group.is_vacant());
    table.pass(SESSION_MS);
    assert!(table.group.is_vacant());
    let number = table.join(dynamic("p0", "p0-up0"));
    assert_eq!(error_of(table.joined(number)), GroupError::UnknownMember, "too late");
}

#[test]
fn a_pending_id_holds_a_rebalance_up_only_until_it_lapses() {
    let (mut table, ids) = Table::stable(&["a"]);
    table.join(dynamic("ghost", ""));
    let number = table.join(dynamic("a", &ids[0]));
    assert!(table.find_join(number).is_none());
    table.pass(SESSION_MS);
    assert_eq!(table.joined(number).clone().unwrap().generation, 2);
}

#[test]
fn size_and_bytes_are_limited() {
    let mut table = Table::new(Limits { max_size: 1, ..LIMITS });
    let old = |client: &str| JoinRequest { requires_known_id: false, ..dynamic(client, "") };
    let first = table.join(old("a"));
    let second = table.join(old("b"));
    assert_eq!(error_of(table.joined(second)), GroupError::GroupFull);
    table.pass(6_000);
    assert_eq!(table.joined(first).clone().unwrap().members.len(), 1);
    let third = table.join(old("c"));
    assert_eq!(error_of(table.joined(third)), GroupError::GroupFull);

    let mut table = Table::new(Limits { max_bytes: 1_000, ..LIMITS });
    let big = vec![Protocol { name: "range".into(), metadata: Bytes::from(vec![0; 1_000]) }];
    let number = table.join(JoinRequest { protocols: big, ..old("a") });
    assert_eq!(error_of(table.joined(number)), GroupError::GroupFull);
    let number = table.join(old("a"));
    table.pass(6_000);
    let id = table.joined(number).clone().unwrap().member_id;
    let assignments = vec![(id.clone(), Bytes::from(vec![0; 1_001]))];
    let number = table.sync(SyncRequest { assignments, ..sync(&id, 1, &[]) });
    assert_eq!(table.synced(number), Some(&Err(GroupError::AssignmentTooLarge)));
}

#[test]
fn commits_are_for_members_of_the_generation_and_for_strangers_while_empty() {
    let mut table = Table::new(LIMITS);
    let stranger = caller("", -1);
    assert_eq!(table.group.check_commit(&stranger, 0), Ok(()));
    assert_eq!(table.group.check_commit(&caller("x", 3), 0), Err(GroupError::UnknownMember));
    let (a, _) = table.join_twice("a");
    assert_eq!(table.group.check_commit(&stranger, 0), Err(GroupError::UnknownMember));
    table.pass(6_000);
    assert_eq!(table.group.check_commit(&caller(&a, 1), table.now_ms), Err(GroupError::RebalanceInProgress));
    table.sync_all(&[&a]);
    assert_eq!(table.group.check_commit(&caller(&a, 1), table.now_ms), Ok(()));
    assert_eq!(table.group.check_commit(&caller(&a, 0), table.now_ms), Err(GroupError::IllegalGeneration));
    assert_eq!(table.group.check_delete(), Err(GroupError::NonEmptyGroup));
    for _ in 0..5 {
        table.pass(SESSION_MS - 1);
        assert_eq!(table.group.check_commit(&caller(&a, 1), table.now_ms), Ok(()), "commits keep a session alive");
    }
}

#[test]
fn all_leaving_at_once_empties_the_group() {
    let (mut table, ids) = Table::stable(&["a", "b"]);
    let waits = table.join(dynamic("a", &ids[0]));
    assert_eq!(
        table.leave(&[leaver(&ids[0]), leaver(&ids[1]), leaver("x")]),
        [Ok(()), Ok(()), Err(GroupError::UnknownMember)]
    );
    assert_eq!(error_of(table.joined(waits)), GroupError::UnknownMember);
    assert_eq!((table.group.phase(), table.group.generation()), (Phase::Empty, 2));
    let number = table.join(dynamic("a", &ids[0]));
    assert_eq!(error_of(table.joined(number)), GroupError::UnknownMember);
    let (_, number) = table.join_twice("c");
    table.pass(3_000);
    assert_eq!(table.joined(number).clone().unwrap().generation, 3, "C2: an empty group keeps its generation");
}

#[test]
fn a_restored_group_goes_on_where_it_was() {
    let (table, ids) = Table::stable(&["a", "b"]);
    let mut back = Group::restore(LIMITS, table.group.to_restore(), 500_000);
    check(&back);
    assert_eq!(back.to_restore(), table.group.to_restore());
    assert_eq!(back.heartbeat(&caller(&ids[0], 1), 505_000), Ok(()));
    let mut effects = Effects::default();
    back.sync(sync(&ids[1], 1, &[]), 1, 505_000, &mut effects);
    assert_eq!(effects.syncs[0].1.as_ref().unwrap().assignment, ids[1].as_bytes());
    back.tick(515_000, &mut effects);
    assert!(matches!(back.phase(), Phase::Empty), "sessions run again");

    let mut table = Table::new(LIMITS);
    let (a, _) = table.join_twice("a");
    table.pass(3_000);
    let mut back = Group::restore(LIMITS, table.group.to_restore(), 0);
    check(&back);
    let mut effects = Effects::default();
    back.sync(sync(&a, 1, &[&a]), 1, 1, &mut effects);
    assert_eq!(effects.syncs[0].1.as_ref().unwrap().assignment, a.as_bytes(), "restored between join and sync");
}

#[test]
fn a_pause_moves_every_deadline() {
    let (mut table, _) = Table::stable(&["a", "b"]);
    table.join(dynamic("p", ""));
    let due = table.group.next_deadline_ms().unwrap();
    table.group.pause(5_000);
    check(&table.group);
    assert_eq!(table.group.next_deadline_ms(), Some(due + 5_000));
}
