use super::*;
use crate::model::limits::{CONFIG_VALUE_MAX_LEN, PARTITIONS_PER_TOPIC_MAX};

#[test]
fn names_are_taken_once_and_do_not_collide_by_dots() {
    let mut bed = Bed::new();
    assert_eq!(bed.topic(1, "a.b"), Outcome::Done);
    assert_eq!(bed.topic(2, "a.b"), refused(Refusal::TopicExists));
    assert_eq!(bed.topic(2, "a_b"), refused(Refusal::TopicCollides));
    assert_eq!(bed.topic(2, "a-b"), Outcome::Done);
    assert_eq!(bed.topic(2, "other"), refused(Refusal::TopicExists), "the identity is taken");
    bed.say(Command::DeleteTopic { topic: topic_id(1) });
    assert_eq!(bed.topic(3, "a_b"), Outcome::Done);
    assert_eq!(bed.state.topics().iter().map(|t| t.name().as_str()).collect::<Vec<_>>(), ["a-b", "a_b"]);
    assert_eq!(bed.state.topics().partition_count(), 4);
}

#[test]
fn partitions_are_counted_and_only_added() {
    let mut bed = Bed::new();
    for bad in [0, -1, i32::MIN, PARTITIONS_PER_TOPIC_MAX + 1] {
        assert_eq!(bed.say(create(1, "t", bad)), refused(Refusal::InvalidPartitions));
    }
    bed.topic(1, "t");
    bed.produce(tp(1, 1), vec![plain(4)]);
    let grow = |total| Command::CreatePartitions { topic: topic_id(1), total };
    for bad in [1, 2, -5, PARTITIONS_PER_TOPIC_MAX + 1] {
        assert_eq!(bed.say(grow(bad)), refused(Refusal::InvalidPartitions));
    }
    assert_eq!(bed.say(grow(5)), Outcome::Done);
    assert_eq!(bed.state.topics().partition_count(), 5);
    assert_eq!(bed.state.log(tp(1, 1)).unwrap().high_watermark(), offset(4));
    assert_eq!(bed.state.log(tp(1, 4)).unwrap().high_watermark(), offset(0));
    let unknown = Command::CreatePartitions { topic: topic_id(9), total: 5 };
    assert_eq!(bed.say(unknown), refused(Refusal::UnknownTopic));
}

#[test]
fn all_partitions_together_are_capped() {
    let mut bed = Bed::new();
    let mut topics = 0;
    while bed.say(create(topics, &format!("t{topics}"), PARTITIONS_PER_TOPIC_MAX)) == Outcome::Done {
        topics += 1;
    }
    assert_eq!(bed.state.topics().partition_count(), crate::model::limits::PARTITIONS_MAX);
    assert_eq!(bed.say(create(9_999, "one", 1)), refused(Refusal::LimitReached));
}

#[test]
fn configs_are_set_and_removed_all_or_nothing() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    let mut set = |changes: &[(&str, Option<&str>)]| {
        let changes = changes.iter().map(|(name, value)| (name.to_string(), value.map(str::to_owned))).collect();
        bed.say(Command::SetTopicConfigs { topic: topic_id(1), changes })
    };
    assert_eq!(set(&[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))]), Outcome::Done);
    assert_eq!(set(&[("b", None), ("c", None)]), Outcome::Done);
    let long = "x".repeat(CONFIG_VALUE_MAX_LEN + 1);
    assert_eq!(set(&[("a", None), ("d", Some(&long))]), refused(Refusal::LimitReached));
    let many: Vec<String> = (0..300).map(|n| format!("n{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), Some("1"))).collect();
    assert_eq!(set(&many), refused(Refusal::LimitReached));
    let configs = bed.state.topics().get(topic_id(1)).unwrap().configs();
    assert_eq!(configs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), [("a", "3")]);
    let unknown = Command::SetTopicConfigs { topic: topic_id(9), changes: Vec::new() };
    assert_eq!(bed.say(unknown), refused(Refusal::UnknownTopic));
}

#[test]
fn g6_a_topic_made_again_has_nothing_of_the_old_one() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    bed.produce(tp(1, 0), vec![stamped(0, 5), plain(5)]);
    bed.produce(tp(1, 1), vec![plain(5)]);
    bed.say(commit_offset("g", None, tp(1, 0), 3));
    let entry = bed.entry(MAIN, 0, vec![Command::DeleteTopic { topic: topic_id(1) }]);
    let deleted = bed.apply(&entry);
    assert_eq!(deleted.changed, [tp(1, 0), tp(1, 1)]);
    assert_eq!(bed.topic(2, "t"), Outcome::Done);

    assert!(bed.state.log(tp(1, 0)).is_none());
    let log = bed.state.log(tp(2, 0)).unwrap();
    assert_eq!((log.high_watermark(), log.bytes(), log.producers().count()), (offset(0), 0, 0));
    assert!(bed.state.offsets().is_empty());
    assert_eq!((bed.state.objects().dead().count(), bed.state.objects().live_bytes()), (2, 0));

    // What was in flight to the old identity is refused; the producer starts anew on the new one.
    assert_eq!(bed.produce(tp(1, 0), vec![plain(1)]), [BatchOutcome::Refused(Refusal::UnknownTopic)]);
    assert_eq!(bed.produce(tp(2, 0), vec![stamped(0, 5)]), [appended(0)]);
    assert_eq!(bed.say(Command::DeleteTopic { topic: topic_id(1) }), refused(Refusal::UnknownTopic));
}

#[test]
fn g3_log_starts_move_each_on_its_own() {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    bed.produce(tp(1, 0), vec![plain(10)]);
    bed.produce(tp(1, 1), vec![plain(10)]);
    let starts = vec![(tp(1, 0), offset(10)), (tp(1, 1), offset(11)), (tp(2, 0), offset(0)), (tp(1, 7), offset(0))];
    let entry = bed.entry(MAIN, 77, vec![Command::AdvanceLogStart { starts }]);
    let applied = bed.apply(&entry);
    let expected = vec![
        Ok(offset(10)),
        Err(Refusal::OffsetOutOfRange),
        Err(Refusal::UnknownTopic),
        Err(Refusal::UnknownPartition),
    ];
    assert_eq!(applied.outcomes, [Outcome::LogStarts(expected)]);
    assert_eq!(applied.changed, [tp(1, 0)]);
    let back = bed.say(Command::AdvanceLogStart { starts: vec![(tp(1, 0), offset(2))] });
    assert_eq!(back, Outcome::LogStarts(vec![Ok(offset(10))]));
    assert_eq!(
        bed.produce(tp(1, 0), vec![plain(1)]),
        [BatchOutcome::Appended { base: offset(10), log_start: offset(10) }]
    );

    let dead: Vec<_> = bed.state.objects().dead().map(|o| (o.id, o.dead_since_ms)).collect();
    assert_eq!(dead, [(ObjectId { session: MAIN, counter: 1 }, Some(77))]);
    let live = ObjectId { session: MAIN, counter: 2 };
    assert_eq!(bed.say(Command::ForgetObjects { objects: vec![live] }), refused(Refusal::ObjectReferenced));
    assert_eq!(bed.say(Command::ForgetObjects { objects: vec![dead[0].0] }), Outcome::Done);
    assert_eq!(bed.state.objects().dead().count(), 0);
}
