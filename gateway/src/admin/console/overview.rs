//! Topics and groups as the state has them, in tables of bounded length.
//!
//! Nothing here asks the journal: what this gateway knows is shown. A look at the state holds up `apply`, so each is short: a
//! large state is looked at in several.

use std::cmp::Ordering;

use metadata::handle::Metadata;
use metadata::model::ids::TopicId;
use metadata::state::State;
use metadata::state::topics::Topic;
use serde::{Deserialize, Serialize};

use crate::coordinator::groups::Groups;
use crate::coordinator::record;
use crate::coordinator::view::ListedGroup;
use crate::limits::{CONSOLE_LOOK, CONSOLE_OFFSETS_PER_GROUP, CONSOLE_ROWS};

/// A table, cut to [`CONSOLE_ROWS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table<T> {
    /// How many there are.
    pub total: usize,
    /// How many of them were asked for.
    pub matching: usize,
    /// The first of those.
    pub rows: Vec<T>,
}

/// What to put into a table.
#[derive(Debug, Clone, Default)]
pub struct Wanted<By> {
    /// Names that hold this, whatever their case.
    pub find: String,
    /// The column that orders it.
    pub by: By,
    /// The largest first.
    pub down: bool,
}

/// Columns that order topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopicsBy {
    /// By name.
    #[default]
    Name,
    /// By number of partitions.
    Partitions,
    /// By number of records.
    Records,
    /// By size.
    Bytes,
}

/// Columns that order groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupsBy {
    /// By name.
    #[default]
    Name,
    /// By Kafka's name of the state.
    State,
    /// By lag.
    Lag,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicRow {
    name: String,
    partitions: i32,
    /// From log starts to ends; a compacted topic may have fewer.
    records: i64,
    bytes: u64,
    extents: usize,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionRow {
    partition: i32,
    start: i64,
    end: i64,
    bytes: u64,
    extents: usize,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupRow {
    name: String,
    state: &'static str,
    kind: String,
    /// Of the saved group; `None` if that is not known here.
    members: Option<usize>,
    partitions: usize,
    lag: i64,
    /// There were too many offsets to add all of them up.
    at_least: bool,
}

/// What a group committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OffsetRow {
    topic: String,
    partition: i32,
    committed: i64,
    end: i64,
    lag: i64,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberRow {
    client: String,
    host: String,
    id: String,
    instance: Option<String>,
}

impl<By> Wanted<By> {
    fn wants(&self, name: &str) -> bool {
        self.find.is_empty() || name.to_lowercase().contains(&self.find.to_lowercase())
    }
}

/// All topics that are wanted.
pub async fn topics(metadata: &Metadata, wanted: &Wanted<TopicsBy>) -> Table<TopicRow> {
    let ids: Vec<TopicId> = metadata.read(|state| state.topics().iter().map(Topic::id).collect());
    let (mut rows, mut rest) = (Vec::new(), ids.as_slice());
    while !rest.is_empty() {
        rest = metadata.read(|state| {
            let (mut seen, mut taken) = (0, 0);
            for id in rest {
                taken += 1;
                let Some(topic) = state.topics().get(*id) else { continue };
                seen += 1 + topic.partitions().len();
                rows.extend(wanted.wants(topic.name().as_str()).then(|| row(state, topic)));
                if seen >= CONSOLE_LOOK {
                    break;
                }
            }
            &rest[taken..]
        });
        tokio::task::yield_now().await;
    }
    let order = |a: &TopicRow, b: &TopicRow| match wanted.by {
        TopicsBy::Name => a.name.cmp(&b.name),
        TopicsBy::Partitions => a.partitions.cmp(&b.partitions),
        TopicsBy::Records => a.records.cmp(&b.records),
        TopicsBy::Bytes => a.bytes.cmp(&b.bytes),
    };
    table(ids.len(), rows, wanted.down, order, |row| &row.name)
}

fn row(state: &State, topic: &Topic) -> TopicRow {
    let mut row = TopicRow {
        name: topic.name().to_string(),
        partitions: topic.partition_count(),
        records: 0,
        bytes: 0,
        extents: 0,
    };
    for log in topic.partitions().filter_map(|tp| state.log(tp)) {
        row.records += log.high_watermark().get() - log.log_start().get();
        row.bytes += log.bytes();
        row.extents += log.extent_count();
    }
    row
}

/// The partitions of a topic; `None` if there is no such topic.
pub fn partitions(metadata: &Metadata, topic: &str) -> Option<Table<PartitionRow>> {
    let name = topic.parse().ok()?;
    metadata.read(|state| {
        let topic = state.topics().by_name(&name)?;
        let of = |tp| (tp, state.log(tp));
        let rows = topic.partitions().take(CONSOLE_ROWS).map(of).filter_map(|(tp, log)| {
            let log = log?;
            Some(PartitionRow {
                partition: tp.partition,
                start: log.log_start().get(),
                end: log.high_watermark().get(),
                bytes: log.bytes(),
                extents: log.extent_count(),
            })
        });
        let total = topic.partitions().len();
        Some(Table { total, matching: total, rows: rows.collect() })
    })
}

/// All groups that are wanted.
pub async fn groups(groups: &Groups, wanted: &Wanted<GroupsBy>) -> Table<GroupRow> {
    let metadata = groups.metadata();
    let listed = groups.known();
    let total = listed.len();
    let listed: Vec<ListedGroup> = listed.into_iter().filter(|listed| wanted.wants(&listed.group)).collect();
    let (mut rows, mut rest) = (Vec::with_capacity(listed.len()), listed.as_slice());
    while !rest.is_empty() {
        rest = metadata.read(|state| {
            let before = rows.len();
            let mut seen = 0;
            for group in rest {
                let row = group_row(state, group);
                seen += 1 + row.partitions;
                rows.push(row);
                if seen >= CONSOLE_LOOK {
                    break;
                }
            }
            &rest[rows.len() - before..]
        });
        tokio::task::yield_now().await;
    }
    let order = |a: &GroupRow, b: &GroupRow| match wanted.by {
        GroupsBy::Name => a.name.cmp(&b.name),
        GroupsBy::State => a.state.cmp(b.state),
        GroupsBy::Lag => a.lag.cmp(&b.lag),
    };
    let mut table = table(total, rows, wanted.down, order, |row| &row.name);
    for row in &mut table.rows {
        let saved = metadata.read(|state| state.groups().get(&row.name).cloned());
        row.members = saved.and_then(|saved| record::read(&saved).ok()).map(|restored| restored.members.len());
    }
    table
}

fn group_row(state: &State, group: &ListedGroup) -> GroupRow {
    let (mut partitions, mut lag) = (0, 0_i64);
    let mut offsets = state.offsets().iter(&group.group);
    for (tp, committed) in offsets.by_ref().take(CONSOLE_OFFSETS_PER_GROUP) {
        if let Some(log) = state.log(tp) {
            partitions += 1;
            lag = lag.saturating_add(behind(committed.offset.get(), log.high_watermark().get()));
        }
    }
    GroupRow {
        name: group.group.to_string(),
        state: group.state,
        kind: group.protocol_type.to_string(),
        members: None,
        partitions,
        lag,
        at_least: offsets.next().is_some(),
    }
}

/// How far a group is behind the end. Kafka's own tool reckons like this.
fn behind(committed: i64, end: i64) -> i64 {
    end.saturating_sub(committed).max(0)
}

/// What a group has committed, by topic and partition.
pub fn offsets(metadata: &Metadata, group: &str) -> Table<OffsetRow> {
    metadata.read(|state| {
        let row = |(tp, committed): (metadata::model::ids::TopicPartition, &metadata::command::CommittedOffset)| {
            let end = state.log(tp)?.high_watermark().get();
            Some(OffsetRow {
                topic: state.topics().get(tp.topic)?.name().to_string(),
                partition: tp.partition,
                committed: committed.offset.get(),
                end,
                lag: behind(committed.offset.get(), end),
            })
        };
        let mut rows: Vec<OffsetRow> = state.offsets().iter(group).filter_map(row).take(CONSOLE_ROWS).collect();
        rows.sort_unstable();
        let total = state.offsets().iter(group).take(CONSOLE_OFFSETS_PER_GROUP).count();
        Table { total, matching: total, rows }
    })
}

/// The members of a group; `None` if there is no such group, or it cannot be asked now.
pub async fn members(groups: &Groups, group: &str) -> Option<Table<MemberRow>> {
    let view = groups.describe(group).await.ok().flatten()?;
    let row = |member: &crate::coordinator::view::MemberView| MemberRow {
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        id: member.member_id.to_string(),
        instance: member.instance.as_deref().map(str::to_owned),
    };
    let total = view.members.len();
    Some(Table { total, matching: total, rows: view.members.iter().take(CONSOLE_ROWS).map(row).collect() })
}

/// Orders and cuts. What is equal stands by its name.
fn table<T>(
    total: usize,
    mut rows: Vec<T>,
    down: bool,
    order: impl Fn(&T, &T) -> Ordering,
    name: impl Fn(&T) -> &str,
) -> Table<T> {
    rows.sort_unstable_by(|a, b| {
        let by = order(a, b);
        (if down { by.reverse() } else { by }).then_with(|| name(a).cmp(name(b)))
    });
    let matching = rows.len();
    rows.truncate(CONSOLE_ROWS);
    Table { total, matching, rows }
}
