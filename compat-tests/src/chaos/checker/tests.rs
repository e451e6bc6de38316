use super::*;

/// Two producers on one partition, two readers, a group with a rebalance: all is well.
fn good() -> Vec<Event> {
    let mut events = vec![
        Event::Sent { producer: 1, partition: 0, first: 0, count: 2 },
        Event::Sent { producer: 2, partition: 0, first: 0, count: 1 },
        Event::Sent { producer: 1, partition: 0, first: 2, count: 1 },
        Event::Acked { producer: 1, partition: 0, first: 0, count: 2, offset: 0 },
        Event::Acked { producer: 2, partition: 0, first: 0, count: 1, offset: 2 },
        Event::Watermark { connection: 1, partition: 0, offset: 3 },
        Event::Watermark { connection: 1, partition: 0, offset: 4 },
    ];
    for reader in [1, 2] {
        events.extend([read(reader, 0, 1, 0), read(reader, 1, 1, 1), read(reader, 2, 2, 0), read(reader, 3, 1, 2)]);
        events.push(Event::ReadAll { reader, partition: 0, end: 4 });
    }
    events.extend([
        Event::Joining { ask: 1 },
        Event::Joined { ask: 1, generation: 4 },
        Event::Assigned { generation: 4, member: "a".into(), partitions: vec![0] },
        Event::Committing { partition: 0, offset: 3 },
        Event::Asking { ask: 2 },
        Event::Committed { partition: 0, offset: 3 },
        Event::Told { ask: 2, partition: 0, offset: -1 },
        Event::Joining { ask: 3 },
        Event::Joined { ask: 3, generation: 5 },
        Event::Assigned { generation: 5, member: "b".into(), partitions: vec![0] },
        Event::Asking { ask: 4 },
        Event::Told { ask: 4, partition: 0, offset: 3 },
    ]);
    events
}

fn read(reader: u32, offset: i64, producer: u32, sequence: u32) -> Event {
    Event::Read { reader, partition: 0, offset, mark: Some(Mark { producer, sequence }) }
}

/// The good history with one event in the place of another.
fn with(old: &Event, new: Event) -> Vec<Event> {
    let mut events = good();
    let at = events.iter().position(|event| event == old).expect("the event is there");
    events[at] = new;
    events
}

/// The good history with more at its end.
fn and(more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    good().into_iter().chain(more).collect()
}

fn broken(events: &[Event]) -> Vec<Rule> {
    judge(events).into_keys().collect()
}

#[test]
fn a_history_as_it_should_be_breaks_no_rule() {
    assert_eq!(judge(&good()), BTreeMap::new());
    // What was sent and never acked may be there or not.
    assert_eq!(judge(&and([Event::Sent { producer: 1, partition: 0, first: 3, count: 5 }])), BTreeMap::new());
}

#[test]
fn an_acked_record_that_nobody_reads_is_lost() {
    let late = Event::Acked { producer: 1, partition: 0, first: 2, count: 1, offset: 4 };
    assert_eq!(broken(&and([late])), [Rule::Lost]);
    // In the middle: another record stands where it was acked.
    let elsewhere = Event::Acked { producer: 1, partition: 0, first: 2, count: 1, offset: 2 };
    assert!(broken(&and([elsewhere])).contains(&Rule::Lost));
    // A reader that finds an earlier end than others do.
    let end = |reader, end| Event::ReadAll { reader, partition: 0, end };
    assert_eq!(broken(&with(&end(2, 4), end(2, 2))), [Rule::Lost]);
    // Nobody has read the partition at all.
    let sent = Event::Sent { producer: 3, partition: 9, first: 0, count: 1 };
    let acked = Event::Acked { producer: 3, partition: 9, first: 0, count: 1, offset: 0 };
    assert_eq!(broken(&and([sent, acked])), [Rule::Lost]);
}

#[test]
fn a_record_at_two_offsets_is_duplicated() {
    assert_eq!(broken(&and([read(1, 4, 1, 2)])), [Rule::Duplicated]);
}

#[test]
fn a_record_before_an_older_one_is_reordered() {
    let more = [Event::Sent { producer: 1, partition: 0, first: 3, count: 2 }, read(1, 4, 1, 4), read(1, 5, 1, 3)];
    assert_eq!(broken(&and(more)), [Rule::Reordered]);
}

#[test]
fn two_reads_that_differ_are_inconsistent() {
    let sent = Event::Sent { producer: 2, partition: 0, first: 1, count: 1 };
    assert_eq!(broken(&and([sent, read(3, 3, 2, 1)])), [Rule::Inconsistent]);
    let twice = Event::Acked { producer: 2, partition: 0, first: 0, count: 1, offset: 1 };
    assert!(broken(&and([twice])).contains(&Rule::Inconsistent));
}

#[test]
fn a_record_that_nobody_sent_is_invented() {
    assert_eq!(broken(&and([read(1, 4, 1, 3)])), [Rule::Invented]);
    assert_eq!(broken(&and([read(1, 4, 7, 0)])), [Rule::Invented]);
    assert_eq!(broken(&and([Event::Read { reader: 1, partition: 0, offset: 4, mark: None }])), [Rule::Invented]);
    // In another partition than its producer's: it is there twice besides.
    let astray = Event::Read { reader: 1, partition: 1, offset: 0, mark: Some(Mark { producer: 1, sequence: 0 }) };
    assert!(broken(&and([astray])).contains(&Rule::Invented));
    // Before it was sent.
    let early: Vec<_> = [read(1, 4, 1, 0)].into_iter().chain(good()).collect();
    assert!(broken(&early).contains(&Rule::Invented));
}

#[test]
fn an_offset_without_a_record_is_a_gap() {
    let skipped = with(&read(2, 3, 1, 2), read(2, 2, 2, 0));
    assert_eq!(broken(&skipped), [Rule::Gap]);
}

#[test]
fn a_high_watermark_never_goes_back_on_a_connection() {
    let told = |connection| Event::Watermark { connection, partition: 0, offset: 3 };
    assert_eq!(broken(&and([told(2)])), []);
    assert_eq!(broken(&and([told(1)])), [Rule::WatermarkBack]);
}

#[test]
fn errors_that_nobody_may_be_told_are_broken_rules() {
    assert_eq!(broken(&and([Event::OutOfRange { reader: 1, partition: 0, offset: 3 }])), [Rule::OutOfRange]);
    assert_eq!(broken(&and([Event::Accused { producer: 1, first: 3, code: 45 }])), [Rule::Accused]);
}

#[test]
fn a_partition_has_one_owner_in_a_generation() {
    let assigned = |generation| Event::Assigned { generation, member: "c".into(), partitions: vec![0] };
    assert_eq!(broken(&and([assigned(6)])), []);
    assert_eq!(broken(&and([assigned(5)])), [Rule::TwoOwners]);
}

#[test]
fn generations_never_go_back() {
    let begun_before = [
        Event::Joining { ask: 5 },
        Event::Joining { ask: 6 },
        Event::Joined { ask: 6, generation: 7 },
        Event::Joined { ask: 5, generation: 6 },
    ];
    assert_eq!(broken(&and(begun_before)), [], "both were under way at once");
    assert_eq!(
        broken(&and([Event::Joining { ask: 5 }, Event::Joined { ask: 5, generation: 4 }])),
        [Rule::GenerationBack]
    );
}

#[test]
fn committed_offsets_never_go_back_and_are_never_made_up() {
    let told = |offset| [Event::Asking { ask: 5 }, Event::Told { ask: 5, partition: 0, offset }];
    assert_eq!(broken(&and(told(-1))), [Rule::CommitBack]);
    assert_eq!(broken(&and(told(4))), [Rule::CommitInvented]);
    let low = [Event::Committing { partition: 0, offset: 1 }].into_iter().chain(told(1));
    assert_eq!(broken(&and(low)), [Rule::CommitBack]);
}
