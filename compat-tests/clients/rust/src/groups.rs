//! Group members and scenario 7.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Event, Reader};
use crate::records::*;
use crate::run::Run;

const MANUAL_COMMIT: (&str, &str) = ("enable.auto.commit", "false");
const MOVING: Duration = Duration::from_secs(40);

/// What a member has seen.
#[derive(Default)]
struct Seen {
    records: Vec<Record>,
    owned: BTreeSet<i32>,
    /// What it did not own for a while after it had owned it.
    lost: BTreeSet<i32>,
    /// Records read from a partition that it did not own.
    strays: usize,
    failure: Option<Failure>,
}

/// A group member polled by a thread of its own. Ends the way the library ends it: a dynamic one leaves, a static one does not.
pub struct Member {
    consumer: Arc<Reader>,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    pub fn join(run: &Run, topic: &str, group: &str, changed: &[(&str, &str)]) -> Outcome<Member> {
        let consumer = Arc::new(Reader::in_group(&run.bootstrap, topic, group, changed)?);
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let polling = (Arc::clone(&consumer), Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name(group.to_owned()).spawn(move || {
            let (consumer, seen, stop) = polling;
            while !stop.load(Ordering::Relaxed) {
                let (got, failure) = consumer.poll(Duration::from_millis(100));
                let owned = consumer.assignment();
                let mut seen = seen.lock().expect("no one panics with it");
                let lost: Vec<_> = seen.owned.difference(&owned).copied().collect();
                seen.lost.extend(lost);
                seen.strays += got.iter().filter(|r| !owned.contains(&r.partition.unwrap_or(-1))).count();
                seen.records.extend(got);
                seen.owned = owned;
                seen.failure = failure.or_else(|| seen.failure.take());
            }
        });
        let thread = thread.or_else(|error| differs(error.to_string()))?;
        Ok(Member { consumer, seen, stop, thread: Some(thread) })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no one panics with it")
    }

    pub fn count(&self) -> usize {
        self.seen().records.len()
    }

    pub fn taken(&self, from: usize) -> Vec<Record> {
        self.seen().records[from..].to_vec()
    }

    pub fn owned(&self) -> BTreeSet<i32> {
        self.seen().owned.clone()
    }

    fn events(&self) -> Vec<Event> {
        self.consumer.events()
    }

    pub fn state(&self) -> String {
        let seen = self.seen();
        format!("{} records, owns {:?}, failure {:?}", seen.records.len(), seen.owned, seen.failure)
    }

    pub fn consumer(&self) -> &Reader {
        &self.consumer
    }

    pub fn close(self) {}
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic of it has shown as records that did not come.
            let _ = thread.join();
        }
    }
}

fn states(members: &[&Member]) -> String {
    members.iter().map(|m| m.state()).collect::<Vec<_>>().join("; ")
}

/// Until the members own all partitions between them, evenly.
fn wait_shared(members: &[&Member], partitions: usize) -> Outcome<()> {
    let settled = || {
        let sets: Vec<_> = members.iter().map(|m| m.owned()).collect();
        let even = sets.iter().all(|s| s.len() == partitions / members.len());
        Ok(even && sets.iter().flatten().collect::<BTreeSet<_>>().len() == partitions)
    };
    wait_until("equal shares", PATIENCE, settled, || states(members))
}

/// Together the members read exactly `wanted` since the counts in `before`, each record where it was owned.
fn expect_read(members: &[&Member], before: &[usize], mut wanted: Vec<Vec<u8>>) -> Outcome<()> {
    let fresh = || -> Vec<_> {
        let each = members.iter().zip(before).flat_map(|(m, n)| m.taken(*n));
        each.filter_map(|r| r.value).collect()
    };
    wait_until("records", PATIENCE, || Ok(fresh().len() >= wanted.len()), || states(members))?;
    std::thread::sleep(Duration::from_millis(500));
    let mut got = fresh();
    got.sort();
    wanted.sort();
    expect("records read by the group", wanted, got)?;
    expect("records outside the assignment", 0, members.iter().map(|m| m.seen().strays).sum::<usize>())
}

pub fn group(run: &mut Run) -> Outcome<String> {
    basic(run, &run.create("basic", 4, &[])?)?;
    fixed(run, &run.create("static", 4, &[])?)?;
    cooperative(run, &run.create("cooperative", 4, &[])?)?;
    Ok("parts=basic,static,cooperative".to_owned())
}

/// `count` records to each of the four partitions; their values.
fn produce(run: &Run, topic: &str, first: usize, count: usize) -> Outcome<Vec<Vec<u8>>> {
    let sent = numbered(4, first, count);
    run.send_all(topic, &[], &sent)?;
    Ok(sent.into_iter().filter_map(|r| r.value).collect())
}

fn basic(run: &Run, topic: &str) -> Outcome<()> {
    let group = format!("{topic}-group");
    let join = || Member::join(run, topic, &group, &[MANUAL_COMMIT]);
    let (a, b) = (join()?, join()?);
    wait_shared(&[&a, &b], 4)?;
    expect_read(&[&a, &b], &[0, 0], produce(run, topic, 0, 100)?)?;
    a.consumer.commit()?;
    b.consumer.commit()?;
    b.close();
    wait_until("A to own all", MOVING, || Ok(a.owned().len() == 4), || a.state())?;
    let seen = a.count();
    expect_read(&[&a], &[seen], produce(run, topic, 100, 10)?)?;
    a.consumer.commit()?;
    a.close();
    expect_offsets(run, topic, &group, 110, 0)?;
    let wanted = produce(run, topic, 110, 10)?;
    expect_offsets(run, topic, &group, 110, 10)?;
    let c = join()?;
    expect_read(&[&c], &[0], wanted)?;
    c.consumer.commit()?;
    c.close();
    expect_offsets(run, topic, &group, 120, 0)
}

fn expect_offsets(run: &Run, topic: &str, group: &str, committed: i64, lag: i64) -> Outcome<()> {
    let got = run.admin()?.committed(group, topic)?;
    expect("committed", (0..4).map(|p| (p, committed)).collect(), got.clone())?;
    let reader = run.reader("earliest")?;
    for (partition, offset) in got {
        expect(format!("lag of {partition}"), lag, reader.bounds(topic, partition)?.1 - offset)?;
    }
    Ok(())
}

fn fixed(run: &Run, topic: &str) -> Outcome<()> {
    let group = format!("{topic}-group");
    let join = |name| Member::join(run, topic, &group, &[MANUAL_COMMIT, ("group.instance.id", name)]);
    let (one, two) = (join("one")?, join("two")?);
    wait_shared(&[&one, &two], 4)?;
    let (held, events) = (two.owned(), one.events());
    two.close();
    let again = join("two")?;
    wait_until("the same partitions", MOVING, || Ok(again.owned() == held), || again.state())?;
    std::thread::sleep(Duration::from_secs(5));
    expect("rebalances seen by one", events, one.events())?;
    expect("partitions of two", held, again.owned())?;
    let _usurper = join("two")?;
    wait_until("the older one to be fenced", MOVING, || Ok(again.seen().failure.is_some()), || again.state())?;
    let ended = again.seen().failure.clone();
    expect_refused("the older one", FENCED_INSTANCE_ID, ended.map_or(Ok(()), Err))
}

fn cooperative(run: &Run, topic: &str) -> Outcome<()> {
    let group = format!("{topic}-group");
    let strategy = ("partition.assignment.strategy", "cooperative-sticky");
    let join = || Member::join(run, topic, &group, &[MANUAL_COMMIT, strategy]);
    let a = join()?;
    wait_until("A to own all", MOVING, || Ok(a.owned().len() == 4), || a.state())?;
    let events = a.events().len();
    let b = join()?;
    wait_shared(&[&a, &b], 4)?;
    let moved = b.owned();
    let revoked = a.events().into_iter().skip(events).filter(|(assigned, _)| !assigned).flat_map(|(_, parts)| parts);
    expect("what A gave up", moved.clone(), revoked.collect())?;
    expect("what A lost for a while", moved, a.seen().lost.clone())?;
    let seen = a.count();
    expect_read(&[&a, &b], &[seen, 0], produce(run, topic, 0, 25)?)
}
