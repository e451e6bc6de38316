//! Judges a history by what clients were promised. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::chaos::history::{Event, Mark};

/// What is promised, and was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// L1: an acked record is not where it was acked.
    Lost,
    /// T1: a record of an idempotent producer is there twice.
    Duplicated,
    /// L8: the records of a producer are not in the order it sent them.
    Reordered,
    /// L2: two reads of one offset differ.
    Inconsistent,
    /// A record was read that nobody sent there.
    Invented,
    /// L5: an offset between others has no record.
    Gap,
    /// L5: a high watermark was lower than before, on one connection.
    WatermarkBack,
    /// L10: OFFSET_OUT_OF_RANGE for an offset that is there.
    OutOfRange,
    /// T1, L8: an error for a producer that did everything right.
    Accused,
    /// C1: two members own a partition in one generation.
    TwoOwners,
    /// C2: a generation was lower than before.
    GenerationBack,
    /// C6: a committed offset was lower than one committed before.
    CommitBack,
    /// C6: an offset is committed that nobody committed.
    CommitInvented,
}

/// Most that is said of one rule.
const SAID_OF_A_RULE: usize = 5;

#[derive(Debug, Default)]
struct Judge {
    said: BTreeMap<Rule, Vec<String>>,
    sent: BTreeMap<u32, Sent>,
    acked: BTreeMap<(i32, i64), Mark>,
    log: BTreeMap<(i32, i64), Option<Mark>>,
    read: BTreeMap<u32, BTreeSet<(i32, i64)>>,
    ends: Vec<(u32, i32, i64)>,
    watermarks: BTreeMap<(u64, i32), i64>,
    group: Group,
}

/// What a producer sent: its records are numbered from 0.
#[derive(Debug, Default)]
struct Sent {
    partition: i32,
    end: u32,
}

#[derive(Debug, Default)]
struct Group {
    owners: BTreeMap<(i32, i32), String>,
    generation: i32,
    joining: BTreeMap<u64, i32>,
    committing: BTreeSet<(i32, i64)>,
    committed: BTreeMap<i32, i64>,
    asking: BTreeMap<u64, BTreeMap<i32, i64>>,
}

/// Everything that was broken, with the first few cases of each rule; empty if all is well.
pub fn judge(events: &[Event]) -> BTreeMap<Rule, Vec<String>> {
    let mut judge = Judge::default();
    events.iter().for_each(|event| judge.hear(event));
    judge.whole_logs();
    judge.lost();
    judge.order();
    judge.said
}

impl Judge {
    fn say(&mut self, rule: Rule, what: String) {
        let said = self.said.entry(rule).or_default();
        if said.len() < SAID_OF_A_RULE {
            said.push(what);
        }
    }

    fn hear(&mut self, event: &Event) {
        match *event {
            Event::Sent { producer, partition, first, count } => {
                let sent = self.sent.entry(producer).or_default();
                (sent.partition, sent.end) = (partition, sent.end.max(first + count));
            }
            Event::Acked { producer, partition, first, count, offset } => {
                for at in 0..count {
                    let (offset, mark) = (offset + i64::from(at), Mark { producer, sequence: first + at });
                    if let Some(other) = self.acked.insert((partition, offset), mark).filter(|other| *other != mark) {
                        let what = format!("{partition}@{offset} was acked for {other} and for {mark}");
                        self.say(Rule::Inconsistent, what);
                    }
                }
            }
            Event::Accused { producer, first, code } => {
                self.say(Rule::Accused, format!("producer {producer} at record {first}: error {code}"));
            }
            Event::Read { reader, partition, offset, mark } => self.hear_read(reader, partition, offset, mark),
            Event::ReadAll { reader, partition, end } => self.ends.push((reader, partition, end)),
            Event::OutOfRange { reader, partition, offset } => {
                self.say(Rule::OutOfRange, format!("reader {reader} at {partition}@{offset}"));
            }
            Event::Watermark { connection, partition, offset } => {
                let before = self.watermarks.insert((connection, partition), offset);
                if let Some(before) = before.filter(|before| *before > offset) {
                    let what = format!("connection {connection}, partition {partition}: {offset} after {before}");
                    self.say(Rule::WatermarkBack, what);
                }
            }
            _ => self.hear_group(event),
        }
    }

    fn hear_read(&mut self, reader: u32, partition: i32, offset: i64, mark: Option<Mark>) {
        self.read.entry(reader).or_default().insert((partition, offset));
        let is_sent = mark.is_some_and(|mark| {
            self.sent.get(&mark.producer).is_some_and(|sent| sent.partition == partition && mark.sequence < sent.end)
        });
        if !is_sent {
            self.say(Rule::Invented, format!("reader {reader} read {mark:?} at {partition}@{offset}"));
        }
        match self.log.insert((partition, offset), mark) {
            Some(before) if before != mark => {
                let what = format!("{partition}@{offset}: {before:?}, then {mark:?} by reader {reader}");
                self.say(Rule::Inconsistent, what);
            }
            _ => {}
        }
    }

    fn hear_group(&mut self, event: &Event) {
        match event {
            Event::Assigned { generation, member, partitions } => {
                for partition in partitions {
                    let owner = self.group.owners.entry((*generation, *partition)).or_insert_with(|| member.clone());
                    if owner != member {
                        let what = format!("generation {generation}, partition {partition}: {owner} and {member}");
                        self.say(Rule::TwoOwners, what);
                    }
                }
            }
            Event::Joining { ask } => drop(self.group.joining.insert(*ask, self.group.generation)),
            Event::Joined { ask, generation } => {
                let before = self.group.joining.remove(ask).unwrap_or_default();
                if *generation < before {
                    self.say(Rule::GenerationBack, format!("{generation} after {before}"));
                }
                self.group.generation = self.group.generation.max(*generation);
            }
            Event::Committing { partition, offset } => drop(self.group.committing.insert((*partition, *offset))),
            Event::Committed { partition, offset } => {
                let committed = self.group.committed.entry(*partition).or_insert(-1);
                *committed = (*committed).max(*offset);
            }
            Event::Asking { ask } => drop(self.group.asking.insert(*ask, self.group.committed.clone())),
            Event::Told { ask, partition, offset } => {
                let known = self.group.asking.get(ask).and_then(|known| known.get(partition)).copied().unwrap_or(-1);
                if *offset < known {
                    self.say(Rule::CommitBack, format!("partition {partition}: {offset}, though {known} was acked"));
                }
                if *offset >= 0 && !self.group.committing.contains(&(*partition, *offset)) {
                    self.say(Rule::CommitInvented, format!("partition {partition}: {offset}"));
                }
            }
            _ => {}
        }
    }

    /// Whoever read everything has read every offset.
    fn whole_logs(&mut self) {
        for (reader, partition, end) in std::mem::take(&mut self.ends) {
            let read = self.read.get(&reader);
            let missing = (0..end).find(|offset| !read.is_some_and(|read| read.contains(&(partition, *offset))));
            if let Some(offset) = missing {
                self.say(Rule::Gap, format!("reader {reader} found nothing at {partition}@{offset} of {end}"));
            }
            let lost = self.acked.range((partition, end)..=(partition, i64::MAX)).next();
            if let Some(((_, offset), mark)) = lost {
                let what = format!("{mark} was acked at {partition}@{offset}; reader {reader} found the end at {end}");
                self.say(Rule::Lost, what);
            }
        }
    }

    fn lost(&mut self) {
        let is_there = |at: &(i32, i64), mark: &Mark| self.log.get(at) == Some(&Some(*mark));
        let lost = self.acked.iter().filter(|(at, mark)| !is_there(at, mark));
        let lost: Vec<_> = lost.map(|(at, mark)| (*at, *mark)).take(SAID_OF_A_RULE).collect();
        for ((partition, offset), mark) in lost {
            let found = self.log.get(&(partition, offset)).copied().flatten();
            self.say(Rule::Lost, format!("{mark} was acked at {partition}@{offset}; there is {found:?}"));
        }
    }

    fn order(&mut self) {
        let mut newest = BTreeMap::<(u32, i32), u32>::new();
        let mut seen = BTreeMap::<Mark, (i32, i64)>::new();
        for (at, mark) in std::mem::take(&mut self.log).into_iter().filter_map(|(at, mark)| Some((at, mark?))) {
            if let Some(first) = seen.insert(mark, at) {
                self.say(Rule::Duplicated, format!("{mark} at {first:?} and {at:?}"));
                continue;
            }
            let before = newest.insert((mark.producer, at.0), mark.sequence);
            if let Some(before) = before.filter(|before| *before > mark.sequence) {
                self.say(Rule::Reordered, format!("{mark} at {at:?} behind record {before} of its producer"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
