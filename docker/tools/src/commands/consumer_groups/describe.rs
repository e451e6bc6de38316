//! `kafka-consumer-groups --describe`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use super::{FIRST_COLUMN, chosen};
use crate::client::native::{Admin, Committed, Group, Member, Wanted};
use crate::client::{Failure, TopicPartition};
use crate::flags::Flags;
use crate::output::{End, Out};

/// In the place of what is not known.
const MISSING: &str = "-";

/// Describes the groups that the flags name, in the order of their names.
pub fn run(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    let mut groups = Vec::new();
    for (name, group) in admin.describe_groups(&chosen(admin, flags)?)? {
        match group {
            // Before KIP-1043 a group that is not there was said to be dead.
            Ok(group) if group.state == "Dead" && group.members.is_empty() => return Err(unknown(&name).into()),
            Err(failure) if failure.code == Failure::UNKNOWN_GROUP => return Err(unknown(&name).into()),
            group => groups.push(group?),
        }
    }
    let verbose = flags.has("verbose");
    for group in &groups {
        if flags.has("members") {
            members(group, verbose, out)?;
        } else if flags.has("state") {
            state(group, verbose, out)?;
        } else {
            offsets(admin, group, verbose, out)?;
        }
    }
    Ok(())
}

fn unknown(group: &str) -> Failure {
    Failure { code: Failure::UNKNOWN_GROUP, message: format!("Group {group} not found.") }
}

/// Whether there is something to show of a group in its state, after saying what is odd about it.
fn is_shown(group: &Group, rows: usize) -> bool {
    let id = &group.id;
    match &*group.state {
        "Empty" => eprintln!("\nConsumer group '{id}' has no active members."),
        "Stable" => {}
        _ => eprintln!("\nWarning: Consumer group '{id}' is rebalancing."),
    }
    rows > 0
}

/// A partition that a group reads or has read.
struct Row<'a> {
    of: TopicPartition,
    committed: Option<Committed>,
    end: Option<i64>,
    member: Option<&'a Member>,
}

impl Row<'_> {
    /// The texts of all columns, from the topic on.
    fn columns(&self, verbose: bool) -> Vec<String> {
        let or_missing = |number: Option<i64>| number.map_or_else(|| MISSING.to_owned(), |number| number.to_string());
        let offset = self.committed.map(|committed| committed.offset);
        let lag = offset.filter(|offset| *offset >= 0).and_then(|offset| Some(self.end? - offset));
        let member = |text: fn(&Member) -> &String| self.member.map_or(MISSING, |member| text(member)).to_owned();
        let mut columns = vec![self.of.topic.clone(), self.of.partition.to_string()];
        if verbose {
            columns.push(or_missing(self.committed.and_then(|committed| committed.epoch).map(i64::from)));
        }
        columns.extend([or_missing(offset), or_missing(self.end), or_missing(lag)]);
        columns.extend([member(|member| &member.id), member(|member| &member.host), member(|member| &member.client)]);
        columns
    }
}

fn offsets(admin: &Admin, group: &Group, verbose: bool, out: &mut Out) -> Result<(), End> {
    let committed = admin.committed(&group.id)?;
    let assigned: BTreeSet<_> = group.members.iter().flat_map(|member| &member.assignment).collect();
    let known: Vec<_> =
        committed.keys().chain(assigned.iter().copied()).cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let ends: BTreeMap<_, _> =
        admin.list_offsets(&known, Wanted::Latest)?.into_iter().filter_map(|(of, end)| Some((of, end.ok()?))).collect();
    let row = |of: &TopicPartition, member| Row {
        of: of.clone(),
        committed: committed.get(of).copied(),
        end: ends.get(of).copied(),
        member,
    };
    // Members with the most partitions first.
    let mut members: Vec<_> = group.members.iter().filter(|member| !member.assignment.is_empty()).collect();
    members.sort_by_key(|member| std::cmp::Reverse(member.assignment.len()));
    let of_members = members.iter().flat_map(|member| member.assignment.iter().map(|of| row(of, Some(*member))));
    let of_nobody = committed.keys().filter(|of| !assigned.contains(of)).map(|of| row(of, None));
    let rows: Vec<_> = of_members.chain(of_nobody).collect();
    if !is_shown(group, rows.len()) {
        return Ok(());
    }
    let mut table = vec![header(verbose)];
    table.extend(rows.iter().map(|row| row.columns(verbose)));
    table.iter_mut().skip(1).for_each(|row| row.insert(0, group.id.clone()));
    // These are as wide as their longest text, the others have one width each.
    let fixed: &[usize] = if verbose { &[0, 0, 10, 15, 15, 15, 15, 0, 0] } else { &[0, 0, 10, 15, 15, 15, 0, 0] };
    let widest = |column: usize| table.iter().skip(1).map(|row| row[column].len()).fold(FIRST_COLUMN, usize::max);
    let widths: Vec<_> =
        fixed.iter().enumerate().map(|(at, width)| if *width == 0 { widest(at) } else { *width }).collect();
    for row in &table {
        let padded = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        let padded: Vec<_> = padded.chain(row.last().cloned()).collect();
        write!(out, "\n{}", padded.join(" "))?;
    }
    writeln!(out)?;
    Ok(())
}

fn header(verbose: bool) -> Vec<String> {
    let mut names = vec!["GROUP", "TOPIC", "PARTITION"];
    names.extend(verbose.then_some("LEADER-EPOCH"));
    names.extend(["CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID"]);
    names.into_iter().map(str::to_owned).collect()
}

fn members(group: &Group, verbose: bool, out: &mut Out) -> Result<(), End> {
    is_shown(group, group.members.len());
    let with_instance = group.members.iter().any(|member| member.instance.is_some());
    let widest = |least: usize, text: &dyn Fn(&Member) -> usize| group.members.iter().map(text).fold(least, usize::max);
    let first = group.id.len().max(FIRST_COLUMN);
    let first = if group.members.is_empty() { FIRST_COLUMN } else { first };
    let (id, host) = (widest(15, &|member| member.id.len()), widest(15, &|member| member.host.len()));
    let instance = widest(17, &|member| member.instance.as_ref().map_or(0, String::len));
    let client = widest(15, &|member| member.client.len());
    let assigned = widest(20, &|member| assignment(member).len());
    writeln!(out)?;
    let mut row = |texts: [&str; 6], more: [&str; 4]| {
        let [group, member, static_id, at, name, count] = texts;
        write!(out, "{group:first$} {member:id$} ")?;
        if with_instance {
            write!(out, "{static_id:instance$} ")?;
        }
        write!(out, "{at:host$} {name:client$} {count:15} ")?;
        if verbose {
            let [epoch, current, target_epoch, target] = more;
            write!(out, "{epoch:15} {current:assigned$} {target_epoch:15} {target:20}")?;
        }
        writeln!(out)
    };
    let more = ["CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT"];
    let names = ["GROUP", "CONSUMER-ID", "GROUP-INSTANCE-ID", "HOST", "CLIENT-ID", "#PARTITIONS"];
    // A header even if nobody is there.
    row(names, more)?;
    for member in &group.members {
        let (assignment, count) = (assignment(member), member.assignment.len().to_string());
        let static_id = member.instance.as_deref().unwrap_or_default();
        // Epochs are of the new protocol, whose groups this version does not have.
        let more = [MISSING, &assignment, MISSING, MISSING];
        row([&group.id, &member.id, static_id, &member.host, &member.client, &count], more)?;
    }
    Ok(())
}

fn state(group: &Group, verbose: bool, out: &mut Out) -> Result<(), End> {
    if !is_shown(group, 1) {
        return Ok(());
    }
    let at = &group.coordinator;
    let coordinator = format!("{}:{}  ({})", at.host, at.port, at.id);
    let (first, second) = (group.id.len().max(FIRST_COLUMN), coordinator.len().max(25));
    let assignor = if group.assignor.is_empty() { MISSING } else { &group.assignor };
    let count = group.members.len().to_string();
    for [id, at, assignor, state, epoch, target, members] in [
        [
            "GROUP",
            "COORDINATOR (ID)",
            "ASSIGNMENT-STRATEGY",
            "STATE",
            "GROUP-EPOCH",
            "TARGET-ASSIGNMENT-EPOCH",
            "#MEMBERS",
        ],
        [&group.id, &coordinator, assignor, &group.state, MISSING, MISSING, &count],
    ] {
        write!(out, "\n{id:first$} {at:second$} {assignor:20} {state:20} ")?;
        if verbose {
            write!(out, "{epoch:15} {target:25} ")?;
        }
        write!(out, "{members}")?;
    }
    writeln!(out)?;
    Ok(())
}

/// `topic:0,1;other:2`
fn assignment(member: &Member) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for of in &member.assignment {
        topics.entry(&of.topic).or_default().push(of.partition.to_string());
    }
    if topics.is_empty() {
        return MISSING.to_owned();
    }
    let text = |(topic, ids): (&str, Vec<String>)| format!("{topic}:{}", ids.join(","));
    topics.into_iter().map(text).collect::<Vec<_>>().join(";")
}
