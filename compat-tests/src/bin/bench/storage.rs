//! Latency, cost and speed through a bucket whose requests take as long as those of S3.

use std::sync::Arc;
use std::time::{Duration, Instant};

use compat_tests::harness::{Gateway, Setup};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{FETCH_VERSION, create_topic, topic_name};
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use metadata::journal::sqlite::SqliteJournal;
use tokio::time::sleep;

use super::bucket::{Bucket, EXPRESS, Latencies, NONE, STANDARD};
use super::commits::Committer;
use super::load::{Load, Seen, poll, run, times_of_batches};
use super::report::{MIB, Result, head, ms, p50_p99, row};

const GIB: f64 = 1024.0 * MIB;
const TOPIC: &str = "load";

/// The rows of this part, by name, in the order in which they are measured.
pub const ROWS: [&str; 10] = [
    "standard",
    "express",
    "busy",
    "requests-1",
    "requests-3",
    "requests-10",
    "backlog",
    "sequential",
    "commits",
    "partitions",
];

/// Some rows of this part.
pub async fn some(rows: &[&str]) -> Result<()> {
    head("Through a bucket");
    for row in rows {
        match *row {
            "standard" => steady(STANDARD, "balanced", "p50 <= 110 ms, p99 <= 300 ms").await?,
            "express" => steady(EXPRESS, "realtime", "p50 <= 15 ms, p99 <= 45 ms").await?,
            "busy" => {
                busy(EXPRESS, "realtime").await?;
                busy(STANDARD, "balanced").await?;
            }
            "requests-1" => requests_per_gib(1, 40.0).await?,
            "requests-3" => requests_per_gib(3, 40.0).await?,
            "requests-10" => requests_per_gib(10, 8.0).await?,
            "backlog" => backlog().await?,
            "sequential" => sequential_read().await?,
            "commits" => commits().await?,
            "partitions" => hundred_thousand_partitions().await?,
            unknown => return Err(format!("{unknown:?} is no row").into()),
        }
    }
    Ok(())
}

async fn topic(gateway: &Gateway, partitions: i32) -> Result<()> {
    match create_topic(&mut gateway.client().await?, TOPIC, partitions, &[]).await? {
        0 => Ok(()),
        code => Err(format!("no topic: error {code}").into()),
    }
}

fn load(gateway: &Gateway) -> Load {
    Load {
        address: gateway.address(),
        topic: TOPIC,
        partitions: (0..288).collect(),
        producers: 4,
        consumers: 4,
        groups: 1,
        bytes_per_second: 20.0 * MIB,
        lasts: Duration::from_secs(30),
        warmup: Duration::from_secs(5),
    }
}

async fn steady(latencies: Latencies, profile: &str, bar: &str) -> Result<()> {
    let mut bucket = Bucket::start(latencies)?;
    let gateway = bucket.gateway()?.args(["--profile", profile]).start().await?;
    topic(&gateway, 288).await?;
    let (cpu, requests) = (gateway.cpu_seconds()?, bucket.requests()?);
    let mut seen = run(load(&gateway)).await?;
    let (cpu, requests) = (gateway.cpu_seconds()? - cpu, bucket.requests()? - requests);
    let moved = (seen.produced_bytes + seen.consumed_bytes) as f64 / MIB;
    row(
        &format!("20 MiB/s, 288 partitions, 4 producers, 4 consumers, {} latencies, {profile}", latencies.name),
        &format!(
            "produce request {}; by its batches {}, to a consumer {}; record to ack {}, to a consumer {}; {} PUT, {} GET; {:.2} CPU-ms per MiB in + out",
            p50_p99(&mut seen.requests),
            p50_p99(&mut seen.sends),
            p50_p99(&mut seen.arrivals),
            p50_p99(&mut seen.acks),
            p50_p99(&mut seen.end_to_end),
            requests.puts,
            requests.gets,
            cpu * 1000.0 / moved
        ),
        &format!("{bar}; to a consumer p99 <= produce p99 + 10 ms; <= 5 CPU-ms per MiB"),
        &format!(
            "bare clients, default producers' batches, 25 s after 5 s, CPU of all 30; PUT {} ms, GET {} ms (p50,p99), {} ms per MiB",
            latencies.put, latencies.get, latencies.per_mib
        ),
    );
    Ok(())
}

/// What a processor does that is busy: the steady rows have a quarter of one to do, in small requests.
async fn busy(latencies: Latencies, profile: &str) -> Result<()> {
    const ALL_IT_CAN: f64 = 400.0 * MIB;
    let lasts = Duration::from_secs(20);
    let bucket = Bucket::start(latencies)?;
    let gateway = bucket.gateway()?.args(["--profile", profile]).start().await?;
    topic(&gateway, 288).await?;
    let cpu = gateway.cpu_seconds()?;
    let load = Load { bytes_per_second: ALL_IT_CAN, lasts, warmup: Duration::ZERO, ..load(&gateway) };
    let mut seen = run(load).await?;
    let cpu = gateway.cpu_seconds()? - cpu;
    let moved = (seen.produced_bytes + seen.consumed_bytes) as f64 / MIB;
    row(
        &format!("as much as goes, 288 partitions, 4 producers, 4 consumers, {} latencies, {profile}", latencies.name),
        &format!(
            "{:.0} MiB/s in and {:.0} out; {:.2} CPU-ms per MiB in + out, {:.0} MiB/s per busy core; produce request {}",
            seen.produced_bytes as f64 / MIB / lasts.as_secs_f64(),
            seen.consumed_bytes as f64 / MIB / lasts.as_secs_f64(),
            cpu * 1000.0 / moved,
            moved / cpu,
            p50_p99(&mut seen.requests),
        ),
        "<= 5 CPU-ms per MiB: 200 MiB/s per busy core",
        "bare clients, default producers' batches, five requests in flight, 20 s; CPU of the gateway from the operating system",
    );
    Ok(())
}

async fn requests_per_gib(groups: usize, rate: f64) -> Result<()> {
    let mut bucket = Bucket::start(STANDARD)?;
    let gateway = bucket.gateway()?.args(["--profile", "throughput"]).start().await?;
    topic(&gateway, 288).await?;
    let (cpu, before) = (gateway.cpu_seconds()?, bucket.requests()?);
    let load = Load { groups, bytes_per_second: rate * MIB, warmup: Duration::ZERO, ..load(&gateway) };
    let Seen { mut acks, produced_bytes, consumed_bytes, .. } = run(load).await?;
    let (cpu, requests) = (gateway.cpu_seconds()? - cpu, bucket.requests()? - before);
    let gib = produced_bytes as f64 / GIB;
    row(
        &format!("{rate} MiB/s, throughput profile, {groups} consumers for each producer"),
        &format!(
            "{:.0} PUT and {:.0} GET per GiB at {:.1} MiB/s; read {:.2} x what was written; record to ack {}; {:.2} CPU-ms per MiB in + out",
            requests.puts as f64 / gib,
            requests.gets as f64 / gib,
            produced_bytes as f64 / MIB / 30.0,
            consumed_bytes as f64 / produced_bytes as f64,
            p50_p99(&mut acks),
            cpu * 1000.0 / ((produced_bytes + consumed_bytes) as f64 / MIB)
        ),
        "<= 140 PUT, <= 150 GET per GiB, GETs flat; <= 5 CPU-ms per MiB",
        "counted at the server, journal and merges included; 30 s",
    );
    Ok(())
}

/// Writes `bytes` as fast as it goes.
async fn fill(gateway: &Gateway, bucket: &mut Bucket, bytes: f64) -> Result<()> {
    bucket.set(NONE)?;
    let load =
        Load { consumers: 1, groups: 0, bytes_per_second: bytes / 40.0, warmup: Duration::ZERO, ..load(gateway) };
    run(Load { lasts: Duration::from_secs(40), ..load }).await?;
    bucket.set(STANDARD)
}

async fn backlog() -> Result<()> {
    const BACKLOG: f64 = 4.0 * GIB;
    let mut bucket = Bucket::start(STANDARD)?;
    let gateway = bucket.gateway()?.start().await?;
    topic(&gateway, 288).await?;
    fill(&gateway, &mut bucket, BACKLOG).await?;
    let live = Load { groups: 0, lasts: Duration::from_secs(30), warmup: Duration::from_secs(3), ..load(&gateway) };
    let mut alone = run(live.clone()).await?;
    let draining = tokio::spawn(drain(gateway.address(), 288, BACKLOG / 4.0));
    let mut beside = run(live).await?;
    let drained = draining.await??;
    row(
        "a backlog drained while 20 MiB/s arrive",
        &format!(
            "{:.1} MiB/s drained, {:.1} x the live rate; live record to ack {} without, {} with",
            drained / MIB,
            drained / MIB / 20.0,
            p50_p99(&mut alone.acks),
            p50_p99(&mut beside.acks)
        ),
        "drain >= 5 x the live rate, live p99 changes < 20 %",
        "4 GiB written before and read to their end by 4 connections; acks of 27 s",
    );
    Ok(())
}

/// Reads so many bytes from the start on each of four connections; bytes per second.
async fn drain(address: std::net::SocketAddr, partitions: i32, each: f64) -> Result<f64> {
    let began = Instant::now();
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..4 {
        readers.spawn(async move {
            let mut client = RawClient::connect(address).await?;
            let mut offsets: Vec<(i32, i64)> = (0..partitions).filter(|p| p % 4 == number).map(|p| (p, 0)).collect();
            let mut bytes = 0;
            while (bytes as f64) < each {
                let answer = client.ask(FETCH_VERSION, &poll(TOPIC, &offsets, 100)).await?;
                for found in answer.responses.iter().flat_map(|topic| &topic.partitions) {
                    let records = found.records.clone().unwrap_or_default();
                    bytes += records.len() as u64;
                    let place = offsets.iter_mut().find(|(partition, _)| *partition == found.partition_index);
                    times_of_batches(&records, &mut place.ok_or("a partition nobody asked for")?.1)?;
                }
                let turn = offsets.len().min(1);
                offsets.rotate_left(turn);
            }
            Result::Ok((bytes, began.elapsed()))
        });
    }
    let mut rate = 0.0;
    while let Some(done) = readers.join_next().await {
        let (bytes, took) = done??;
        rate += bytes as f64 / took.as_secs_f64();
    }
    Ok(rate)
}

async fn sequential_read() -> Result<()> {
    let mut bucket = Bucket::start(STANDARD)?;
    // Nothing on the disk either: the second reader would find there what the first has read.
    let mut gateway = bucket.gateway()?.env("STREAMHOUSE_STORAGE_DISK_CACHE_BYTES", "0").start().await?;
    topic(&gateway, 8).await?;
    let few = Load { partitions: (0..8).collect(), ..load(&gateway) };
    bucket.set(NONE)?;
    run(Load { groups: 0, bytes_per_second: 25.0 * MIB, lasts: Duration::from_secs(16), ..few }).await?;
    bucket.set(STANDARD)?;
    gateway.terminate().await?;
    for (name, pace) in [("at 100 MiB/s", Some(100.0 * MIB)), ("as fast as it goes", None)] {
        gateway.restart().await?;
        one_reader(&gateway, name, pace).await?;
        gateway.terminate().await?;
    }
    Ok(())
}

/// Reads partition after partition, so many bytes a second if told.
async fn one_reader(gateway: &Gateway, name: &str, pace: Option<f64>) -> Result<()> {
    let mut client = gateway.client().await?;
    let (mut taken, mut bytes) = (Vec::new(), 0);
    let (before, started) = (found(gateway).await?, Instant::now());
    for partition in 0..8 {
        let mut at = vec![(partition, 0)];
        loop {
            let began = Instant::now();
            let answer = client.ask(FETCH_VERSION, &poll(TOPIC, &at, 0)).await?;
            let found = answer.responses.iter().flat_map(|topic| &topic.partitions).next().ok_or("no partition")?;
            let records = found.records.clone().unwrap_or_default();
            if records.is_empty() {
                break;
            }
            taken.push(began.elapsed());
            bytes += records.len();
            times_of_batches(&records, &mut at[0].1)?;
            if let Some(pace) = pace {
                // What a consumer does with this much.
                sleep(Duration::from_secs_f64(records.len() as f64 / pace).saturating_sub(began.elapsed())).await;
            }
        }
    }
    let (seconds, after) = (started.elapsed().as_secs_f64(), found(gateway).await?);
    let [memory, coming, bucket] = std::array::from_fn(|place| after[place] - before[place]);
    let part = |extents: f64| extents / (memory + coming + bucket) * 100.0;
    // What came without waiting for a GET: faster than any GET of this distribution is likely to be.
    let mut warm: Vec<Duration> = taken.iter().copied().filter(|took| *took < Duration::from_millis(10)).collect();
    let share = warm.len() as f64 / taken.len() as f64 * 100.0;
    row(
        &format!("one sequential reader, cold, {name}"),
        &format!(
            "{share:.0} % of {} fetches waited for no GET, those {}; of the extents {:.0} % were in memory when they were asked for, {:.0} % on their way; {:.0} MiB/s",
            taken.len(),
            p50_p99(&mut warm),
            part(memory),
            part(coming),
            bytes as f64 / MIB / seconds
        ),
        "85 to 95 % from cache or prefetch; warm p99 < 10 ms",
        &format!(
            "{:.0} MiB in 8 partitions one after another, fetches of up to 1 MiB, gateway restarted before; a fetch below 10 ms counts as warm",
            bytes as f64 / MIB
        ),
    );
    Ok(())
}

/// Extents that readers found in memory, on their way, and in the bucket.
async fn found(gateway: &Gateway) -> Result<[f64; 3]> {
    let mut extents = [0.0; 3];
    for (place, extents) in ["memory", "coming", "bucket"].into_iter().zip(&mut extents) {
        let metric = format!("streamhouse_reader_found_extents_total{{place=\"{place}\"}}");
        *extents = gateway.metric(&metric).await?.unwrap_or_default();
    }
    Ok(extents)
}

/// A commit of many batches over many partitions against one of a single batch, in the journal alone.
async fn commits() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let committer = Committer::alone(Arc::new(SqliteJournal::open(folder.path())?)).await?;
    committer.create_topic().await?;
    let (mut one, mut many) = committer.in_turn(200).await?;
    committer.end().await;
    row(
        "commit of 1,600 batches over 1,600 partitions, sqlite",
        &format!("{}; one batch of the same bytes {}", p50_p99(&mut many), p50_p99(&mut one)),
        "p99 <= 10 ms, within 2 x of one batch",
        "200 commits of each in turn, from submit to outcome, journal and state only",
    );
    Ok(())
}

async fn hundred_thousand_partitions() -> Result<()> {
    let mut gateway = Setup::new()?.args(["--log", "warn"]).start().await?;
    let mut client = gateway.client().await?;
    for number in 0..100 {
        match create_topic(&mut client, &format!("many-{number}"), 1_000, &[]).await? {
            0 => {}
            code => return Err(format!("no topic: error {code}").into()),
        }
    }
    gateway.terminate().await?;
    gateway.restart().await?;
    let mut client = gateway.client().await?;
    let (mut every, mut ten) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let began = Instant::now();
        let answer = client.ask(12, &MetadataRequest::default().with_topics(None)).await?;
        every.push(began.elapsed());
        let partitions: usize = answer.topics.iter().map(|topic| topic.partitions.len()).sum();
        if partitions < 100_000 {
            return Err(format!("only {partitions} partitions").into());
        }
        let wanted = MetadataRequestTopic::default().with_name(Some(topic_name("many-7")));
        let began = Instant::now();
        client.ask(12, &MetadataRequest::default().with_topics(Some(vec![wanted]))).await?;
        ten.push(began.elapsed());
    }
    row(
        "100,000 partitions (100 topics)",
        &format!(
            "{:.0} MB RSS; Metadata of all {}; of one topic {}; start {}",
            gateway.rss()? as f64 / MIB,
            p50_p99(&mut every),
            p50_p99(&mut ten),
            ms(gateway.started_in())
        ),
        "< 1 GiB, p99 < 500 ms, start < 10 s",
        "folder, restarted after creating them; 50 requests each",
    );
    Ok(())
}
