use super::*;

const OTHER: SessionId = SessionId(200);

fn expire(session: SessionId, last_seen: Lsn) -> Command {
    Command::ExpireSession { session, last_seen }
}

#[test]
fn l6_nothing_of_a_fenced_session_takes_effect() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    assert_eq!(bed.say_as(OTHER, open(2)), Outcome::Done);
    let last_seen = bed.state.sessions().get(OTHER).unwrap().last_lsn;
    assert_eq!(bed.say(expire(OTHER, last_seen)), Outcome::Done);
    assert_eq!(bed.state.sessions().standing(OTHER), Standing::Expired);
    let before = bed.essence();
    let commands = vec![segment(OTHER, 1, tp(1, 0), vec![plain(1)]), create(2, "u", 1), open(2), Command::CloseSession];
    let entry = bed.entry(OTHER, 1_000_000, commands);
    assert_eq!(bed.apply(&entry).outcomes, vec![refused(Refusal::SessionFenced); 4]);
    assert_eq!(bed.essence(), before);
}

#[test]
fn l6_a_delayed_opening_does_not_revive_a_fenced_session() {
    let mut bed = Bed::new();
    bed.say_as(OTHER, open(2));
    bed.say_as(OTHER, Command::CloseSession);
    let delayed = Entry { session: OTHER, sequence: 1, time_ms: 0, commands: vec![open(2)], follows: None };
    assert!(bed.apply(&delayed).repeated);
    assert_eq!(bed.say_as(OTHER, open(2)), refused(Refusal::SessionFenced));
    assert_eq!(bed.state.sessions().live_count(), 1);
}

#[test]
fn an_unknown_session_must_open_first() {
    let mut bed = Bed::new();
    assert_eq!(bed.say_as(OTHER, create(1, "t", 1)), refused(Refusal::SessionFenced));
    let commands = vec![create(1, "t", 1), open(2)];
    let entry = bed.entry(OTHER, 0, commands);
    assert_eq!(bed.apply(&entry).outcomes, vec![refused(Refusal::SessionFenced); 2]);
    let entry = bed.entry(OTHER, 0, vec![open(2), create(1, "t", 1), Command::CloseSession, create(2, "u", 1)]);
    let fenced = refused(Refusal::SessionFenced);
    assert_eq!(bed.apply(&entry).outcomes, [Outcome::Done, Outcome::Done, Outcome::Done, fenced]);
}

#[test]
fn a_session_that_spoke_meanwhile_is_not_expired() {
    let mut bed = Bed::new();
    bed.say_as(OTHER, open(2));
    let last_seen = bed.state.sessions().get(OTHER).unwrap().last_lsn;
    bed.say_as(OTHER, Command::AllocateProducerIds { count: 1 });
    assert_eq!(bed.say(expire(OTHER, last_seen)), refused(Refusal::SessionAlive));
    assert_eq!(bed.say(expire(MAIN, bed.state.applied())), refused(Refusal::SessionAlive), "it is just speaking");
    let last_seen = bed.state.sessions().get(OTHER).unwrap().last_lsn;
    assert_eq!(bed.say(expire(OTHER, last_seen)), Outcome::Done);
    assert_eq!(bed.say(expire(OTHER, last_seen)), Outcome::Done, "it is over already");
}

#[test]
fn a_node_id_belongs_to_the_newer_session() {
    let mut bed = Bed::new();
    bed.say_as(OTHER, open(1));
    assert_eq!(bed.state.sessions().standing(MAIN), Standing::Expired);
    assert_eq!(bed.state.sessions().by_node(NodeId(1)).unwrap().id, OTHER);
    assert_eq!(bed.say(create(1, "t", 1)), refused(Refusal::SessionFenced));
}

#[test]
fn a_single_gateway_fences_every_other_session() {
    let mut bed = Bed::new();
    bed.say_as(OTHER, open(2));
    let third = SessionId(300);
    bed.say_as(third, Command::OpenSession(OpenSession { fence_others: true, ..opening(3) }));
    assert_eq!(bed.state.sessions().live().map(|s| s.id).collect::<Vec<_>>(), [third]);
    assert_eq!(bed.state.sessions().expired().count(), 2);
    assert_eq!(bed.state.cluster_id(), "cluster-of-1", "the first proposal wins for ever");
}

#[test]
fn what_moves_sessions_is_told() {
    let mut bed = Bed::new();
    let mut moves = |session, command| {
        let entry = bed.entry(session, 0, vec![command]);
        bed.apply(&entry).sessions
    };
    assert!(moves(OTHER, open(2)));
    assert!(!moves(OTHER, create(1, "t", 1)));
    assert!(!moves(OTHER, Command::MarkState) && !moves(OTHER, Command::SayStateHash { at: Lsn(1), hash: 2 }));
    assert!(moves(OTHER, Command::LeaveSoon));
    assert!(!moves(MAIN, expire(OTHER, Lsn(1))), "refused: it spoke since");
    assert!(moves(OTHER, Command::CloseSession));
    assert!(!moves(OTHER, Command::LeaveSoon), "it is over");
    assert!(!bed.state.sessions().get(MAIN).unwrap().leaving);
}

#[test]
fn a_session_that_will_leave_lives_until_it_does() {
    let mut bed = Bed::new();
    bed.say_as(OTHER, open(2));
    assert_eq!(bed.say_as(OTHER, Command::LeaveSoon), Outcome::Done);
    assert_eq!(bed.say_as(OTHER, create(1, "t", 1)), Outcome::Done, "what it says takes effect");
    assert_eq!(bed.state.sessions().standing(OTHER), Standing::Live);
    assert!(bed.state.sessions().get(OTHER).unwrap().leaving);
    let again = SessionId(300);
    bed.say_as(again, open(2));
    assert!(!bed.state.sessions().get(again).unwrap().leaving, "its next life stays");
}

#[test]
fn the_feature_level_rises_only_when_every_live_session_knows_it() {
    let mut bed = Bed::new();
    let level = FEATURE_LEVEL + 1;
    let raise = Command::RaiseFeatureLevel { level };
    assert_eq!(bed.say(raise.clone()), refused(Refusal::FeatureLevel));
    let newer = |node| Command::OpenSession(OpenSession { feature_level: level, ..opening(node) });
    bed.say_as(OTHER, newer(1));
    assert_eq!(bed.say_as(OTHER, raise.clone()), Outcome::Done);
    assert_eq!(bed.state.feature_level(), level);
    assert_eq!(bed.say_as(OTHER, raise), refused(Refusal::FeatureLevel));
    assert_eq!(bed.say_as(SessionId(300), open(3)), refused(Refusal::FeatureLevel), "it does not know the level");
    assert_eq!(bed.state.sessions().standing(SessionId(300)), Standing::Unknown);
    let error = State::decode(&bed.state.encode()).unwrap_err();
    assert!(matches!(error, CodecError::Newer { .. }), "this build does not know the level either: {error}");
}

#[test]
fn expired_sessions_are_remembered_up_to_a_cap() {
    let mut sessions = Sessions::default();
    let cap = u64::try_from(crate::model::limits::EXPIRED_SESSIONS_MAX).unwrap();
    for number in 0..cap + 2 {
        // Ids fall while positions rise: the oldest goes, not the smallest id.
        let id = SessionId(u64::MAX - number);
        sessions.open(id, &opening(1), 0, Lsn(number + 1), 1, 0).unwrap();
    }
    assert_eq!(sessions.expired().count(), usize::try_from(cap).unwrap());
    assert_eq!(sessions.standing(SessionId(u64::MAX)), Standing::Unknown);
    assert_eq!(sessions.standing(SessionId(u64::MAX - 1)), Standing::Expired);
    assert_eq!(sessions.live_count(), 1);
}

#[test]
fn l8_what_stands_behind_a_lost_entry_is_without_effect() {
    let mut bed = Bed::new();
    let opened = bed.state.applied();
    let mut first = bed.entry(MAIN, 0, vec![create(1, "first", 1)]);
    first.follows = Some(opened);
    assert_eq!(bed.apply(&first).outcomes, [Outcome::Done]);
    let last = bed.state.applied();
    let _lost = bed.entry(MAIN, 0, vec![create(2, "lost", 1)]);
    let filler = Entry { session: SessionId::NONE, sequence: 0, time_ms: 9, commands: vec![], follows: None };
    assert_eq!(bed.apply(&filler), Applied::default());
    let before = bed.essence();
    let mut behind = bed.entry(MAIN, 1_000, vec![create(3, "behind", 1), Command::CloseSession]);
    behind.follows = Some(Lsn(last.0 + 1));
    assert_eq!(bed.apply(&behind).outcomes, vec![refused(Refusal::Displaced); 2]);
    let mut last_behind = bed.entry(MAIN, 1_000, vec![create(4, "last-behind", 1)]);
    last_behind.follows = Some(bed.state.applied());
    assert_eq!(bed.apply(&last_behind).outcomes, [refused(Refusal::Displaced)]);
    assert_eq!(bed.essence(), before);
    let again = bed.entry(MAIN, 0, vec![create(2, "lost", 1)]);
    assert_eq!(bed.apply(&again).outcomes, [Outcome::Done], "a new row begins");
    assert!(bed.apply(&behind).repeated, "and nothing of the old one comes back");
}

#[test]
fn g1_a_segment_in_the_journal_is_committed_at_its_own_position_or_never() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    let at = |lsn: u64| {
        let mut commit = segment(SessionId::NONE, lsn, tp(1, 0), vec![plain(1)]);
        if let Command::CommitSegment(commit) = &mut commit {
            commit.object = ObjectId::at(Lsn(lsn));
        }
        commit
    };
    let next = bed.state.applied().0 + 1;
    assert_eq!(bed.say(at(next + 5)), refused(Refusal::Malformed));
    assert!(matches!(bed.say(at(next + 1)), Outcome::Segment(_)));
    assert!(bed.state.objects().get(ObjectId::at(Lsn(next + 1))).is_some());
}
