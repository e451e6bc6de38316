//! `bench`: what the README claims, measured on this machine, each number with the way it was measured.
//!
//! The gateway is a process of its own (`STREAMHOUSE_BIN`), and so is the S3 server where its CPU or its counts matter;
//! gateway CPU is what the operating system says of the process. Clients are real where the name says so.
//!
//! `bench [part ...]`: parts are `first`, `storage` and `cluster`, and single rows of the latter two as `storage:ROW`; default all.

mod bucket;
mod cluster;
mod commits;
mod failover;
mod load;
mod report;
mod several;
mod steps;
mod storage;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ::storage::blob::faulty::Delay;
use ::storage::codec::records::RecordsBuilder;
use compat_tests::harness::{Gateway, Setup};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{create_topic, produce};
use compat_tests::s3_server::S3Server;
use compat_tests::s3_server::faults::RequestKind;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use report::{MIB, Result, head, ms, quantile, row};

const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const TIMESTAMP: i64 = 1_700_000_000_000;
const INJECTED_PUT: Duration = Duration::from_millis(60);
const INJECTED_GET: Duration = Duration::from_millis(25);

/// Parts whose rows can be asked for one by one.
const ROWS: [(&str, &[&str]); 2] = [("storage", &storage::ROWS), ("cluster", &cluster::ROWS)];

/// What is wrong with a part that was asked for.
fn check(asked: &str) -> Result<()> {
    let is_known = match asked.split_once(':') {
        Some((part, row)) => ROWS.iter().any(|(name, rows)| *name == part && rows.contains(&row)),
        None => asked == "first" || ROWS.iter().any(|(name, _)| *name == asked),
    };
    if is_known {
        return Ok(());
    }
    let rows = ROWS.map(|(part, rows)| format!("{part}, {part}:ROW with a row of {}", rows.join(", ")));
    Err(format!("{asked:?} is no part of the bench: choose first, {}", rows.join("; ")).into())
}

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    asked.iter().try_for_each(|part| check(part))?;
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|wanted| wanted == part);
    let wanted = |part: &str, rows: &[&'static str]| -> Vec<&'static str> {
        rows.iter().copied().filter(|row| wants(part) || asked.contains(&format!("{part}:{row}"))).collect()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if wants("first") {
            first().await?;
        }
        let rows = wanted("storage", &storage::ROWS);
        if !rows.is_empty() {
            storage::some(&rows).await?;
        }
        let rows = wanted("cluster", &cluster::ROWS);
        if !rows.is_empty() {
            cluster::some(&rows).await?;
        }
        Ok(())
    })
}

/// The throughput runs come first: deleting the files of others slows the making of new ones for a while.
async fn first() -> Result<()> {
    head("On one machine");
    throughput().await?;
    start_and_idle().await?;
    folder_ack("java3", "kafka-clients 3.9, all defaults (linger.ms=0)").await?;
    folder_ack("java4", "kafka-clients 4.x, all defaults (linger.ms=5, which is in it)").await?;
    idle_ack_on_s3().await?;
    five_in_flight().await?;
    hundred_partitions(Layout::Together).await?;
    hundred_partitions(Layout::Apart).await
}

async fn start_and_idle() -> Result<()> {
    let gateway = Setup::new()?.start().await?;
    let started = gateway.started_in();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = gateway.cpu_seconds()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = (gateway.cpu_seconds()? - cpu) / 5.0 * 100.0;
    let rss = gateway.rss()? as f64 / MIB;
    row("start until clients are taken", &ms(started), "< 1 s", "process start to the ready line, empty folder");
    row("idle memory", &format!("{rss:.1} MB RSS, {idle:.1} % of a core"), "< 50 MB", "2 s after start; CPU over 5 s");
    Ok(())
}

/// Medians of one fsync, and of all it takes to make a small file durable under its name (create, write, fsync, rename,
/// fsync of the folder), as the folder store must.
fn durable_p50(folder: &Path) -> Result<(Duration, Duration)> {
    use std::io::Write as _;
    let (mut fsyncs, mut files) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let started = Instant::now();
        let (temporary, path) = (folder.join(format!("bench-{n}.tmp")), folder.join(format!("bench-{n}")));
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&[0; 1024])?;
        let written = Instant::now();
        file.sync_data()?;
        fsyncs.push(written.elapsed());
        std::fs::rename(&temporary, &path)?;
        std::fs::File::open(folder)?.sync_all()?;
        files.push(started.elapsed());
    }
    fsyncs.sort();
    files.sort();
    Ok((quantile(&fsyncs, 0.5), quantile(&files, 0.5)))
}

async fn folder_ack(client: &str, what: &str) -> Result<()> {
    let gateway = Setup::new()?.start().await?;
    let (fsync, file) = durable_p50(gateway.data())?;
    let output = java(&[client, "latency", &gateway.bootstrap(), "count=1000", "run=bench"])?;
    let number = |name: &str| -> Option<f64> {
        let rest = output.split_once(&format!("\"{name}\":"))?.1;
        rest.split([',', '}']).next()?.trim().parse().ok()
    };
    let (p50, p99) = (number("p50_us").ok_or("no p50")? / 1000.0, number("p99_us").ok_or("no p99")? / 1000.0);
    let metric = |name: &str| format!("streamhouse_request_duration_seconds_{name}{{api=\"Produce\"}}");
    let (sum, count) = (gateway.metric(&metric("sum")).await?, gateway.metric(&metric("count")).await?);
    let inside = sum.zip(count).map_or(f64::NAN, |(sum, count)| sum / count * 1000.0);
    row(
        &format!("ack of one record, folder, default Java producer ({client})"),
        &format!(
            "p50 {p50:.2} ms, p99 {p99:.2} ms, of which the gateway {inside:.2} ms (mean); one fsync {}, one durable file {}",
            ms(fsync),
            ms(file)
        ),
        "p50 <= fsync + 5 ms",
        &format!(
            "{what}; 1,000 records of 100 bytes one after another; medians of 200 files of 1 KiB in the same folder before it"
        ),
    );
    Ok(())
}

async fn on_s3() -> Result<(S3Server, Gateway)> {
    let s3 = S3Server::start().await;
    let gateway = Setup::new()?.on(&s3).start().await?;
    Ok((s3, gateway))
}

fn batch(value: &[u8]) -> bytes::Bytes {
    RecordsBuilder::new().values(TIMESTAMP, [value]).build()
}

async fn idle_ack_on_s3() -> Result<()> {
    let (s3, gateway) = on_s3().await?;
    let mut client = gateway.client().await?;
    create_topic(&mut client, "idle", 1, &[]).await?;
    s3.faults().put_latency(Delay::Fixed(INJECTED_PUT));
    let mut taken = Vec::new();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let started = Instant::now();
        client.ask(PRODUCE_VERSION, &produce("idle", -1, 30_000, vec![(0, Some(batch(b"x")))])).await?;
        taken.push(started.elapsed());
    }
    taken.sort();
    let measured = format!("p50 {}, p90 {}", ms(quantile(&taken, 0.5)), ms(quantile(&taken, 0.9)));
    row("ack of an idle gateway, PUT 60 ms", &measured, "<= 70 ms", "bare client, 40 single records, 100 ms apart");
    Ok(())
}

/// One connection that always has five requests in flight, as a default idempotent producer under load.
async fn five_in_flight() -> Result<()> {
    let (s3, gateway) = on_s3().await?;
    let mut client = gateway.client().await?;
    create_topic(&mut client, "five", 1, &[]).await?;
    s3.faults().put_latency(Delay::Fixed(INJECTED_PUT));
    let request = produce("five", -1, 30_000, vec![(0, Some(batch(&[7; 1024])))]);
    let puts = || s3.count(RequestKind::Put).requests + s3.count(RequestKind::Create).requests;
    let puts_before = puts();
    let mut flying = std::collections::VecDeque::new();
    let (started, mut answered) = (Instant::now(), 0_u32);
    while started.elapsed() < Duration::from_secs(6) {
        while flying.len() < 5 {
            flying.push_back(client.send(PRODUCE_VERSION, &request).await?);
        }
        let oldest = flying.pop_front().ok_or("nothing in flight")?;
        client.receive::<kafka_protocol::messages::ProduceRequest>(oldest).await?;
        answered += 1;
    }
    let puts = puts() - puts_before;
    let rate = f64::from(answered) / started.elapsed().as_secs_f64();
    let possible = 5.0 / INJECTED_PUT.as_secs_f64();
    row(
        "one producer, five requests in flight, PUT 60 ms",
        &format!(
            "{:.2} requests per PUT, {:.0} % of 5 per PUT time",
            f64::from(answered) / puts as f64,
            rate / possible * 100.0
        ),
        ">= 4.5 requests per PUT",
        "bare client, 1 KiB records, 6 s; PUTs counted at the server",
    );
    Ok(())
}

/// How the batches of a hundred partitions lie in objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Ten objects, each with a batch of every partition, as one producer leaves them.
    Together,
    /// A hundred objects with one batch each: the worst case.
    Apart,
}

async fn hundred_partitions(layout: Layout) -> Result<()> {
    let (s3, mut gateway) = on_s3().await?;
    let mut client = gateway.client().await?;
    for topic in ["wide", "other"] {
        create_topic(&mut client, topic, 100, &[]).await?;
        let requests = match layout {
            Layout::Together => vec![0..100; 10],
            Layout::Apart => (0..100).map(|partition| partition..partition + 1).collect(),
        };
        for partitions in requests {
            let batches = partitions.map(|partition| (partition, Some(batch(&[1; 1024])))).collect();
            client.ask(PRODUCE_VERSION, &produce(topic, -1, 30_000, batches)).await?;
        }
    }
    s3.faults().get_latency(Delay::Fixed(INJECTED_GET));
    let (mut one, mut hundred) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        for (partitions, taken) in [(1, &mut one), (100, &mut hundred)] {
            gateway.terminate().await?;
            gateway.restart().await?;
            let mut client = gateway.client().await?;
            cold_fetch(&mut client, "other", 100).await?;
            taken.push(cold_fetch(&mut client, "wide", partitions).await?);
        }
    }
    one.sort();
    hundred.sort();
    let (one, hundred) = (quantile(&one, 0.5), quantile(&hundred, 0.5));
    let lie = match layout {
        Layout::Together => "ten objects with a batch of every partition",
        Layout::Apart => "every batch in an object of its own",
    };
    row(
        "100 partitions polled together, cold, GET 25 ms",
        &format!("{} against {} for one: {:.2} x", ms(hundred), ms(one), hundred.as_secs_f64() / one.as_secs_f64()),
        "<= 1.5 x",
        &format!(
            "bare client, {lie}; gateway restarted before each, its connections to the bucket opened by reading another topic; median of 5"
        ),
    );
    Ok(())
}

async fn cold_fetch(client: &mut RawClient, topic: &'static str, partitions: i32) -> Result<Duration> {
    let asked = (0..partitions)
        .map(|p| FetchPartition::default().with_partition(p).with_fetch_offset(0).with_partition_max_bytes(1 << 20));
    let topic =
        FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(topic))).with_partitions(asked.collect());
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_session_epoch(-1)
        .with_max_bytes(64 << 20)
        .with_min_bytes(1)
        .with_max_wait_ms(500)
        .with_topics(vec![topic]);
    let started = Instant::now();
    let answer = client.ask(FETCH_VERSION, &request).await?;
    let taken = started.elapsed();
    let full = answer
        .responses
        .iter()
        .flat_map(|t| &t.partitions)
        .filter(|p| p.records.as_ref().is_some_and(|r| !r.is_empty()));
    let full = full.count();
    if full as i32 == partitions { Ok(taken) } else { Err(format!("{full} of {partitions} partitions came").into()) }
}

async fn throughput() -> Result<()> {
    const WARM_UP: u32 = 500_000;
    const RECORDS: u32 = 1_500_000;
    let gateway = Setup::new()?.args(["--log", "warn"]).start().await?;
    let mut client = gateway.client().await?;
    for topic in ["before", "fast"] {
        create_topic(&mut client, topic, 1, &[]).await?;
    }
    // A process that runs for weeks has its caches full; to fill them for the first time costs pages, once.
    perf_produce(&gateway, "before", WARM_UP)?;
    let before = gateway.cpu_seconds()?;
    let produced = perf_produce(&gateway, "fast", RECORDS)?;
    let in_cpu = gateway.cpu_seconds()? - before;
    let consumed = perf_consume(&gateway, "fast", RECORDS)?;
    let cpu = gateway.cpu_seconds()? - before;
    let gib = f64::from(RECORDS) * 1024.0 / (MIB * 1024.0);
    row(
        "one producer, 1 KiB records, folder",
        &produced,
        ">= 100,000 records/s",
        "kafka-producer-perf-test, batch.size=1000000, linger.ms=20, acks=all, after 500,000 records to another topic",
    );
    row(
        "one consumer, the same records",
        &consumed,
        "",
        "kafka-consumer-perf-test, columns as it prints them (MB.sec fourth, nMsg.sec sixth)",
    );
    row(
        "gateway CPU, folder",
        &format!("{:.2} CPU-s per GiB in, {:.2} per GiB in + out", in_cpu / gib, cpu / (2.0 * gib)),
        "<= 1.5 in + out",
        "user + system time of the process over both runs",
    );
    row("gateway memory after it", &format!("{:.0} MB RSS", gateway.rss()? as f64 / MIB), "", "");
    Ok(())
}

/// What kafka-producer-perf-test says at the end.
fn perf_produce(gateway: &Gateway, topic: &str, records: u32) -> Result<String> {
    let (records, servers) = (records.to_string(), format!("bootstrap.servers={}", gateway.bootstrap()));
    let size = ["--num-records", &records, "--record-size", "1024", "--throughput", "-1"];
    let tuned =
        ["--producer-props", &servers, "acks=all", "batch.size=1000000", "linger.ms=20", "buffer.memory=134217728"];
    let said = tool(&[&["kafka-producer-perf-test", "--topic", topic][..], &size, &tuned].concat())?;
    Ok(said.lines().rfind(|l| l.contains("records/sec")).ok_or("no producer summary")?.trim().to_owned())
}

/// What kafka-consumer-perf-test says at the end.
fn perf_consume(gateway: &Gateway, topic: &str, records: u32) -> Result<String> {
    let (records, at) = (records.to_string(), gateway.bootstrap());
    let from = ["--bootstrap-server", &at, "--timeout", "60000"];
    let said = tool(&[&["kafka-consumer-perf-test", "--topic", topic, "--messages", &records][..], &from].concat())?;
    Ok(said.lines().rfind(|l| l.contains(", ")).unwrap_or_default().trim().to_owned())
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/java")
}

fn java(args: &[&str]) -> Result<String> {
    run("run.sh", args)
}

fn tool(args: &[&str]) -> Result<String> {
    run("tools.sh", args)
}

fn run(script: &str, args: &[&str]) -> Result<String> {
    let output = Command::new("bash").arg(clients().join(script)).args(args).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{script} {args:?} failed: {text}{}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
