//! Commits that the lost journal had and its copy has not, made again from what the segments say of themselves.
//!
//! Segments of a session are replayed in the order of their numbers, which is the order of their commits; sessions in the
//! order of their first segments. `apply` decides about each batch as it did before: a repetition is recognised, a batch out
//! of order refused. What a footer cannot tell is whether its segment was committed at all: one whose upload its producers
//! were told had failed, though it arrived, comes to light here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use metadata::command::{BatchOutcome, Command, CommitSegment, CreateTopic, Entry, Outcome, PartitionCommit};
use metadata::model::extent::ObjectId;
use metadata::model::ids::{Lsn, SessionId, TopicPartition};
use metadata::state::State;
use metadata::state::sessions::Standing;
use storage::blob::{BlobError, BlobStore, ObjectMeta};
use storage::segment::format::Footer;
use storage::segment::parser::{Trailer, parse_footer};

/// Keys of one page of a listing.
const PAGE: usize = 1_000;
/// Footers read side by side.
const READS_MAX: usize = 32;
/// Bytes read from the end of a segment at first; most footers are smaller.
const END_BYTES: u64 = 64 << 10;

/// Applies the commits of segments that the state does not know; tells how many.
pub(super) async fn replay(
    state: &mut State,
    cluster: &str,
    blobs: &Arc<dyn BlobStore>,
    say: &(dyn Fn(String) + Sync),
) -> Result<u64, BlobError> {
    let candidates = candidates(state, blobs).await?;
    let total = candidates.len();
    let mut footers = stream::iter(candidates)
        .map(|meta| async move { (footer(blobs.as_ref(), &meta).await, meta) })
        .buffered(READS_MAX);
    let mut sessions: BTreeMap<SessionId, Vec<(Footer, u64)>> = BTreeMap::new();
    let mut read = 0;
    while let Some((footer, meta)) = footers.next().await {
        read += 1;
        if read % PAGE == 0 {
            say(format!("{read} of {total} segments that the copied entries do not name"));
        }
        match footer? {
            // What merge and compact wrote is of records that stood in other segments before.
            Ok(footer) if footer.placed => {}
            Ok(footer) => sessions.entry(footer.object.session).or_default().push((footer, meta.size)),
            Err(why) => say(format!("{} is passed over: {why}", meta.key)),
        }
    }
    let mut in_order: Vec<_> = sessions.into_iter().collect();
    in_order.sort_by_key(|(session, segments)| {
        let first = segments.iter().map(|(footer, _)| footer.created_ms).min();
        (state.sessions().standing(*session) != Standing::Live, first)
    });
    let mut replayed = 0;
    for (session, mut segments) in in_order {
        segments.sort_by_key(|(footer, _)| footer.object.counter);
        let said = state.sessions().get(session).map_or(0, |known| known.last_sequence);
        for (sequence, (footer, size)) in (said + 1..).zip(segments) {
            let mut commands = Vec::new();
            if state.sessions().standing(session) == Standing::Unknown {
                commands.push(super::opening(cluster));
            }
            commands.extend(topics(state, &footer));
            commands.push(commit(&footer, size));
            let entry = Entry { session, sequence, time_ms: footer.created_ms, commands, follows: None };
            let applied = state.apply(Lsn(state.applied().0 + 1), &entry);
            replayed += u64::from(applied.outcomes.last().is_some_and(has_appended));
        }
    }
    say(format!("{replayed} of {total} segments that the copied entries do not name were committed again"));
    Ok(replayed)
}

/// The segments that may have been committed behind the state: of sessions that it does not know, and of those that live in
/// it, from their last commit on. What an ended session left uncommitted was never committed.
async fn candidates(state: &State, blobs: &Arc<dyn BlobStore>) -> Result<Vec<ObjectMeta>, BlobError> {
    let mut committed: BTreeMap<SessionId, u64> = BTreeMap::new();
    for object in state.objects().iter() {
        let last = committed.entry(object.id.session).or_default();
        *last = (*last).max(object.id.counter);
    }
    let is_candidate = |id: ObjectId| match state.sessions().standing(id.session) {
        Standing::Live => committed.get(&id.session).is_none_or(|last| id.counter > *last),
        Standing::Unknown => !committed.contains_key(&id.session),
        Standing::Expired => false,
    };
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = blobs.list(ObjectId::PREFIX, after.as_deref(), PAGE).await?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|meta| meta.key.clone());
        found.extend(page.into_iter().filter(|meta| ObjectId::from_key(&meta.key).is_some_and(is_candidate)));
        if is_last {
            return Ok(found);
        }
    }
}

/// What a segment says of itself, or why it cannot be read.
async fn footer(blobs: &dyn BlobStore, meta: &ObjectMeta) -> Result<Result<Footer, String>, BlobError> {
    let end_len = meta.size.min(END_BYTES);
    if end_len == 0 {
        return Ok(Err("it is empty".into()));
    }
    let mut end = blobs.get_range(&meta.key, meta.size - end_len..meta.size).await?;
    if let Ok(trailer) = Trailer::parse(&end) {
        let whole = u64::from(trailer.footer_len) + storage::segment::format::TRAILER_LEN as u64;
        if whole > end_len && whole <= meta.size {
            end = blobs.get_range(&meta.key, meta.size - whole..meta.size).await?;
        }
    }
    let footer = match parse_footer(&end) {
        Ok(footer) => footer,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let is_own = ObjectId::from_key(&meta.key) == Some(footer.object);
    Ok(if is_own { Ok(footer) } else { Err(format!("it says that it is {}", footer.object)) })
}

/// Topics and partitions whose making was lost, as far as the segment knows of them.
fn topics(state: &State, footer: &Footer) -> Vec<Command> {
    let mut commands = Vec::new();
    for topic in &footer.topics {
        let partitions = topic.runs.iter().map(|run| run.partition + 1).max().unwrap_or(0);
        match state.topics().get(topic.id) {
            Some(known) if known.partition_count() < partitions => {
                commands.push(Command::CreatePartitions { topic: topic.id, total: partitions });
            }
            Some(_) => {}
            None => {
                let Ok(name) = topic.name.parse() else { continue };
                commands.push(Command::CreateTopic(CreateTopic {
                    id: topic.id,
                    name,
                    partitions,
                    configs: Vec::new(),
                }));
            }
        }
    }
    commands
}

fn commit(footer: &Footer, size: u64) -> Command {
    let mut partitions = Vec::new();
    for topic in &footer.topics {
        partitions.extend(topic.runs.iter().map(|run| PartitionCommit {
            partition: TopicPartition { topic: topic.id, partition: run.partition },
            position: run.position,
            batches: run.batches.clone(),
        }));
    }
    Command::CommitSegment(CommitSegment { object: footer.object, object_bytes: size, partitions })
}

fn has_appended(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Segment(parts) => parts.iter().flatten().any(|batch| matches!(batch, BatchOutcome::Appended { .. })),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
