//! Several gateways on one PostgreSQL and one bucket, all on this machine.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compat_tests::following::{leaders, metadata_of};
use compat_tests::harness::Gateway;
use compat_tests::postgres::Postgres;
use compat_tests::requests::{FETCH_VERSION, produce_one};
use kafka_protocol::messages::FetchRequest;
use metadata::command::Entry;
use metadata::journal::Journal;
use metadata::journal::postgres::PostgresJournal;
use metadata::model::ids::SessionId;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::bucket::{Latencies, NONE, STANDARD};
use super::commits::{Committer, MANY, segment};
use super::failover;
use super::load::{Load, poll, run};
use super::report::{MIB, Result, head, p50_p99, p50_to_p999, row};
use super::several::{Cluster, TOPIC, batch};
use super::steps::{Steps, Timed};

const GIB: f64 = 1024.0 * MIB;
/// Commits of a gateway in a second, as a bar counts them.
const COMMITS_PER_SECOND: u32 = 4;

/// The rows of this part, by name, in the order in which they are measured.
pub const ROWS: [&str; 6] = ["commits", "commits-3", "appends", "tail", "throughput", "kill"];

/// Some rows of this part.
pub async fn some(rows: &[&str]) -> Result<()> {
    head("Several gateways");
    for row in rows {
        match *row {
            "commits" => commits().await?,
            "commits-3" => commits_of_three().await?,
            "appends" => appends().await?,
            "tail" => tail().await?,
            "throughput" => throughput().await?,
            "kill" => failover::kill().await?,
            unknown => return Err(format!("{unknown:?} is no row").into()),
        }
    }
    Ok(())
}

async fn open(postgres: &Postgres) -> Result<Arc<dyn Journal>> {
    Ok(Arc::new(PostgresJournal::open(postgres.url().parse()?).await?))
}

/// A server that has run for a while: it writes its log into files that it has used before. A new one makes a file of 16 MiB, zero by
/// zero, in the middle of one commit in some hundred.
fn long_running() -> Result<Postgres> {
    let postgres = Postgres::start()?;
    postgres.execute(
        "SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 1000000))) FROM generate_series(1, 300)",
    )?;
    postgres.execute("CHECKPOINT")?;
    Ok(postgres)
}

async fn commits() -> Result<()> {
    let postgres = long_running()?;
    let committer = Committer::among_others(1, open(&postgres).await?).await?;
    committer.create_topic().await?;
    let (mut one, mut many) = committer.in_turn(200).await?;
    committer.end().await;
    row(
        "commit of 1,600 batches over 1,600 partitions, PostgreSQL",
        &format!("{}; one batch of the same bytes {}", p50_p99(&mut many), p50_p99(&mut one)),
        "p99 <= 10 ms",
        "200 commits of each in turn, from submit to outcome, journal and state only; server of its own on the loopback, fsync on, 300 MB written to its log before",
    );
    Ok(())
}

async fn commits_of_three() -> Result<()> {
    /// Of each gateway: a minute and a half.
    const COMMITS: usize = 360;
    /// The first touch memory and tables that nobody touched before.
    const WARMUP: usize = 8;
    /// So many that were slow are looked at one by one.
    const SLOWEST: usize = 12;
    let postgres = long_running()?;
    let mut each = JoinSet::new();
    let pace = Duration::from_secs(1) / COMMITS_PER_SECOND;
    for node in 1..=3 {
        let journal = Timed::new(open(&postgres).await?);
        let committer = Committer::among_others(node, Arc::clone(&journal) as _).await?;
        if node == 1 {
            committer.create_topic().await?;
        }
        each.spawn(async move {
            // As gateways that know nothing of each other: not all at once.
            sleep(pace / 3 * node.unsigned_abs()).await;
            let (mut ticks, mut taken) = (interval(pace), Vec::with_capacity(COMMITS));
            for number in 0..COMMITS + WARMUP {
                ticks.tick().await;
                let began = Instant::now();
                committer.commit(MANY).await?;
                if number >= WARMUP {
                    taken.push(journal.steps_since(began));
                }
            }
            committer.end().await;
            Result::Ok(taken)
        });
    }
    let mut taken = Vec::new();
    while let Some(done) = each.join_next().await {
        taken.extend(done??);
    }
    taken.sort_unstable();
    row(
        "the same by three gateways at 4 commits/s each",
        &p50_to_p999(&mut taken.iter().map(|steps| steps.took).collect::<Vec<_>>()),
        "p99 <= 10 ms",
        "360 commits of 1,600 batches by each, after 8; each applies those of all, in one process; the same server",
    );
    let slowest: Vec<_> = taken.iter().rev().take(SLOWEST).map(Steps::to_string).collect();
    row(
        "the slowest of them",
        &slowest.join(", "),
        "",
        "in brackets until the entry was sent + until PostgreSQL had it, synced + until it was applied and told",
    );
    Ok(())
}

/// How many entries a second so many gateways append, each with one on its way, as theirs do.
async fn append_rate(postgres: &Postgres, gateways: usize, batches: u32) -> Result<f64> {
    const LASTS: Duration = Duration::from_secs(5);
    let mut each = JoinSet::new();
    for number in 0..gateways {
        let journal = open(postgres).await?;
        each.spawn(async move {
            let (began, session) = (Instant::now(), SessionId(1_000 + number as u64));
            let mut sequence = 0;
            while began.elapsed() < LASTS {
                sequence += 1;
                let commands = vec![segment(session, sequence, batches)];
                let entry = Entry { session, sequence, time_ms: 1_700_000_000_000, commands, follows: None };
                journal.append(&entry).await?;
            }
            Result::Ok(sequence as f64 / began.elapsed().as_secs_f64())
        });
    }
    let mut rate = 0.0;
    while let Some(done) = each.join_next().await {
        rate += done??;
    }
    Ok(rate)
}

/// Commits a second that three gateways bring about between them, when each has so many waiting.
async fn grouped_rate(postgres: &Postgres, waiting: usize) -> Result<(f64, f64)> {
    const LASTS: Duration = Duration::from_secs(5);
    let journal = open(postgres).await?;
    let mut committers = Vec::new();
    for node in 1..=3 {
        committers.push(Committer::among_others(node, open(postgres).await?).await?);
    }
    committers[0].create_topic().await?;
    let (before, began) = (journal.head().await?, Instant::now());
    let mut each = JoinSet::new();
    for committer in committers.iter().flat_map(|committer| vec![committer.clone(); waiting]) {
        each.spawn(async move {
            let mut commits = 0_u64;
            while began.elapsed() < LASTS {
                committer.commit(1).await?;
                commits += 1;
            }
            Result::Ok(commits)
        });
    }
    let mut commits = 0;
    while let Some(done) = each.join_next().await {
        commits += done??;
    }
    let (took, after) = (began.elapsed().as_secs_f64(), journal.head().await?);
    for committer in committers {
        committer.end().await;
    }
    Ok((commits as f64 / took, (after.0 - before.0) as f64 / took))
}

async fn appends() -> Result<()> {
    let mut rates = Vec::new();
    for (gateways, batches) in [(1, 1), (3, 1), (10, 1), (3, MANY), (10, MANY)] {
        rates.push(append_rate(&Postgres::start()?, gateways, batches).await?);
    }
    let (commands, entries) = grouped_rate(&Postgres::start()?, 64).await?;
    row(
        "entries PostgreSQL takes, one on its way from each gateway",
        &format!(
            "{:.0}, {:.0}, {:.0} appends/s from 1, 3 and 10 gateways; of 1,600 batches {:.0} and {:.0} from 3 and 10: {:.0} gateways at \
             {COMMITS_PER_SECOND} such commits/s each",
            rates[0],
            rates[1],
            rates[2],
            rates[3],
            rates[4],
            rates[4] / f64::from(COMMITS_PER_SECOND)
        ),
        "",
        "5 s each, journal alone: nobody applies; each commit synced by the server",
    );
    row(
        "commands three gateways bring through it",
        &format!("{commands:.0} commits/s in {entries:.0} appends/s"),
        "",
        "each with 64 commits of one batch waiting, 5 s; what waits while an append is under way goes into the next; each applies those of all",
    );
    Ok(())
}

/// How long after a produce's own ack, at one gateway, the fetch that waits at another is answered.
async fn woken_after_ack(latencies: Latencies, rounds: usize) -> Result<Vec<Duration>> {
    let cluster = Cluster::start(3, latencies, 1).await?;
    let (mut clients, mut lags) = (VecDeque::new(), Vec::with_capacity(rounds));
    for gateway in &cluster.gateways {
        clients.push_back(gateway.client().await?);
    }
    let batch = batch();
    let mut offset = 0;
    for round in 0..rounds {
        let mut waiting = clients.pop_front().ok_or("no client")?;
        let sent = waiting.send(FETCH_VERSION, &poll(TOPIC, &[(0, offset)], 20_000)).await?;
        // Until it surely waits there; not always as long after the last commit.
        sleep(Duration::from_millis(20 + (round as u64 * 7) % 30)).await;
        let arriving = tokio::spawn(async move {
            let answer = waiting.receive::<FetchRequest>(sent).await;
            (Instant::now(), waiting, answer)
        });
        let told = produce_one(&mut clients[0], TOPIC, 0, batch.clone()).await?;
        let acked = Instant::now();
        let (arrived, waiting, answer) = arriving.await?;
        let found = answer?.responses.into_iter().flat_map(|topic| topic.partitions).next().ok_or("no partition")?;
        if told.error_code != 0 || found.error_code != 0 || found.records.is_none_or(|records| records.is_empty()) {
            return Err(format!("told {} and {}, or nothing", told.error_code, found.error_code).into());
        }
        offset = told.base_offset + 1;
        clients.push_back(waiting);
        lags.push(arrived.saturating_duration_since(acked));
    }
    Ok(lags)
}

async fn tail() -> Result<()> {
    let mut near = woken_after_ack(NONE, 300).await?;
    let mut far = woken_after_ack(STANDARD, 100).await?;
    row(
        "a fetch that waits at one gateway, woken by a produce at another",
        &format!(
            "{} after the produce's own ack; with Standard latencies, one GET in it, {}",
            p50_p99(&mut near),
            p50_p99(&mut far)
        ),
        "p99 <= 20 ms",
        &format!(
            "three gateways in turn, 300 records of 1 KiB one by one, a bucket that takes no time of its own; 100 with GET {} ms (p50,p99)",
            STANDARD.get
        ),
    );
    Ok(())
}

/// Which partitions each gateway leads; if there is but one, in as many parts.
async fn shares(cluster: &Cluster, partitions: i32) -> Result<Vec<(SocketAddr, Vec<i32>)>> {
    const PARTS: i32 = 3;
    if let [only] = &cluster.gateways[..] {
        let part = |number| (0..partitions).filter(|partition| partition % PARTS == number).collect();
        return Ok((0..PARTS).map(|number| (only.address(), part(number))).collect());
    }
    let mut client = cluster.gateways[0].client().await?;
    let leaders = leaders(&metadata_of(&mut client, TOPIC).await?);
    let led_by = |gateway: &Gateway| {
        let its = leaders.iter().filter(|(_, leader)| **leader == gateway.address());
        (gateway.address(), its.map(|(partition, _)| *partition).collect())
    };
    Ok(cluster.gateways.iter().map(led_by).collect())
}

/// CPU-seconds of all gateways for each GiB in and out, and what was moved in a second, MiB.
async fn cpu_per_gib(gateways: usize, rate: f64) -> Result<(f64, f64)> {
    const PARTITIONS: i32 = 288;
    const LASTS: Duration = Duration::from_secs(20);
    let cluster = Cluster::start(gateways, STANDARD, PARTITIONS).await?;
    let shares = shares(&cluster, PARTITIONS).await?;
    let before = cluster.cpu_seconds()?;
    let mut loads = JoinSet::new();
    for (address, partitions) in shares {
        let bytes_per_second = rate * partitions.len() as f64 / f64::from(PARTITIONS);
        let (producers, consumers, groups, warmup) = (2, 2, 1, Duration::ZERO);
        loads.spawn(run(Load {
            address,
            topic: TOPIC,
            partitions,
            producers,
            consumers,
            groups,
            bytes_per_second,
            lasts: LASTS,
            warmup,
        }));
    }
    let mut moved = 0;
    while let Some(seen) = loads.join_next().await {
        let seen = seen??;
        moved += seen.produced_bytes + seen.consumed_bytes;
    }
    let cpu = cluster.cpu_seconds()? - before;
    Ok((cpu / (moved as f64 / GIB), moved as f64 / MIB / LASTS.as_secs_f64()))
}

async fn throughput() -> Result<()> {
    /// More than this machine can do.
    const ALL_IT_CAN: f64 = 400.0 * MIB;
    one_against_three("30 MiB/s in and out", 30.0 * MIB).await?;
    one_against_three("as much as goes", ALL_IT_CAN).await
}

async fn one_against_three(name: &str, rate: f64) -> Result<()> {
    let (mut one, mut three, mut moved) = (0.0, 0.0, (0.0, 0.0));
    let mut each = Vec::new();
    for _ in 0..2 {
        let (of_one, of_three) = (cpu_per_gib(1, rate).await?, cpu_per_gib(3, rate).await?);
        one += of_one.0 / 2.0;
        three += of_three.0 / 2.0;
        moved = (moved.0 + of_one.1 / 2.0, moved.1 + of_three.1 / 2.0);
        each.push(format!("{:.2} and {:.2}", of_one.0, of_three.0));
    }
    row(
        &format!("three gateways against one on the same machine, {name}"),
        &format!(
            "{three:.2} against {one:.2} CPU-s per GiB in + out: {:+.0} % ({}); {:.0} and {:.0} MiB/s in + out",
            (three / one - 1.0) * 100.0,
            each.join(", "),
            moved.1,
            moved.0
        ),
        "within 15 %",
        "288 partitions, 6 producers and 6 consumers that go to the leaders, Standard latencies, balanced, 20 s; twice each in turn",
    );
    Ok(())
}
