//! Scenarios 1 to 6, 9 and 10 of SCENARIOS.md.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::time::{Duration, Instant};

use crate::client::Reader;
use crate::groups::Member;
use crate::records::*;
use crate::run::Run;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Records written until a reader that was reset to the end sees one.
const RESETS: i64 = 9;

/// `count` records, or more when more come with the last of them.
pub fn read(reader: &Reader, count: usize, limit: Duration) -> Outcome<Vec<Record>> {
    let (mut got, end) = (Vec::new(), Instant::now() + limit);
    while got.len() < count {
        expect_that(&format!("{count} records within {limit:?}"), Instant::now() < end, got.len())?;
        let (more, failure) = reader.poll(Duration::from_millis(200));
        got.extend(more);
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    Ok(got)
}

/// The whole topic from offset 0: `count` records and no more.
fn read_from(run: &Run, topic: &str, count: usize, partitions: i32) -> Outcome<Vec<Record>> {
    let reader = run.reader("earliest")?;
    reader.assign(topic, &(0..partitions).map(|p| (p, 0)).collect())?;
    let got = read(&reader, count, PATIENCE)?;
    expect(format!("records in {topic}"), count, got.len())?;
    Ok(got)
}

/// Offsets 0, 1, 2, ... in the order they came, in partition 0, and as acknowledged.
fn expect_dense(got: &[Record], acks: &[Ack]) -> Outcome<()> {
    for (n, (record, ack)) in got.iter().zip(acks).enumerate() {
        expect("offset", n as i64, record.offset)?;
        expect("acknowledged", *ack, (record.partition.unwrap_or(-1), record.offset))?;
    }
    Ok(())
}

fn expect_same(what: &str, sent: &[Record], got: &[Record], without: &Words) -> Outcome<()> {
    for (n, (sent, got)) in sent.iter().zip(got).enumerate() {
        compare(&format!("{what} {n}"), sent, got, without)?;
    }
    Ok(())
}

fn valued(value: Vec<u8>) -> Record {
    Record { value: Some(value), partition: Some(0), ..Record::default() }
}

pub fn defaults(run: &mut Run) -> Outcome<String> {
    defaults_with(run, "", &[])?;
    defaults_with(run, "idempotent", &[("enable.idempotence", "true")])?;
    Ok("records=1000 producers=2".to_owned())
}

fn defaults_with(run: &Run, part: &str, changed: &[(&str, &str)]) -> Outcome<()> {
    let topic = run.topic(part);
    let record = |i: usize| Record {
        key: Some(format!("key-{}", i % 50).into_bytes()),
        value: Some(generate(i, 100)),
        ..Record::default()
    };
    let sent: Vec<_> = (0..1000).map(record).collect();
    let acks = run.send_all(&topic, changed, &sent)?;
    let member = Member::join(run, &topic, &format!("{topic}-group"), &[])?;
    wait_until("1000 records", PATIENCE, || Ok(member.count() >= 1000), || member.state())?;
    std::thread::sleep(Duration::from_secs(1));
    let got = member.taken(0);
    member.close();
    expect("number of records", 1000, got.len())?;
    let mut next = HashMap::new();
    let mut at = HashMap::new();
    for record in &got {
        let partition = record.partition.unwrap_or(-1);
        let offset = next.entry(partition).or_insert(0);
        expect(format!("offset in partition {partition}"), *offset, record.offset)?;
        *offset += 1;
        at.insert((partition, record.offset), record);
    }
    let mut last: HashMap<_, Ack> = HashMap::new();
    for (i, (record, ack)) in sent.iter().zip(&acks).enumerate() {
        let Some(back) = at.get(ack) else { return differs(format!("record {i} is not at {ack:?}")) };
        compare(&format!("record {i}"), record, back, &Words::new())?;
        if let Some(before) = last.insert(&record.key, *ack) {
            expect("partition of a key", before.0, ack.0)?;
            expect_that("order of a key", before.1 < ack.1, ack)?;
        }
    }
    Ok(())
}

pub fn codecs(run: &mut Run) -> Outcome<String> {
    for codec in CODECS {
        let topic = run.create(codec, 1, &[])?;
        let record =
            |i: usize| Record { value: Some(if i % 2 == 1 { generate(i, 300) } else { text(i) }), ..Record::default() };
        let sent: Vec<_> = (0..200).map(record).collect();
        let acks = run.send_all(&topic, &[("compression.type", codec)], &sent)?;
        let got = read_from(run, &topic, 200, 1)?;
        expect_dense(&got, &acks)?;
        expect_same(codec, &sent, &got, &run.without)?;
    }
    Ok(format!("codecs={}", CODECS.join(",")))
}

pub fn shapes(run: &mut Run) -> Outcome<String> {
    let topic = run.create("create", 1, &[])?;
    let base = now_ms() - HOUR_MS;
    let sent = shaped(base);
    let acks = run.send_all(&topic, &[], &sent)?;
    let got = read_from(run, &topic, sent.len(), 1)?;
    expect_dense(&got, &acks)?;
    expect_same("record", &sent, &got, &run.without)?;
    expect("records with LogAppendTime", 0, got.iter().filter(|r| r.log_append).count())?;

    let topic = run.create("append", 1, &[("message.timestamp.type", "LogAppendTime")])?;
    let stamped = |n: i64| Record { timestamp: Some(base + n * 1000), ..valued(n.to_string().into_bytes()) };
    let sent: Vec<_> = (0..10).map(stamped).collect();
    let begin = now_ms();
    run.send_all(&topic, &[], &sent)?;
    let end = now_ms();
    let mut before = begin - 60_000;
    for (sent, got) in sent.iter().zip(read_from(run, &topic, 10, 1)?) {
        expect("order", &sent.value, &got.value)?;
        expect("LogAppendTime", true, got.log_append)?;
        let came = got.timestamp.unwrap_or(-1);
        expect_that("timestamps ascend, within 60 s", before <= came && came <= end + 60_000, came)?;
        before = came;
    }
    Ok("records=11".to_owned())
}

pub fn sizes(run: &mut Run) -> Outcome<String> {
    let topic = run.create("", 1, &[])?;
    let producer = run.producer(&[("message.max.bytes", "4194304")])?;
    let mut sent = Vec::new();
    let mut store = |seed: usize| {
        sent.push(valued(generate(seed, seed)));
        expect("ack", (0, sent.len() as i64 - 1), producer.send(&topic, &sent[sent.len() - 1])?)
    };
    for size in [1, 1024, 102_400, 1_000_000] {
        store(size)?;
    }
    let too_large = producer.send(&topic, &valued(generate(9, 1_100_000)));
    expect_refused("1,100,000 bytes", MESSAGE_TOO_LARGE, too_large)?;
    store(5)?;
    let got = read_from(run, &topic, 5, 1)?;
    expect_same("record", &sent, &got, &run.without)?;
    expect("offsets", vec![0, 1, 2, 3, 4], got.iter().map(|r| r.offset).collect())?;
    Ok("largest=1000000".to_owned())
}

pub fn partitions(run: &mut Run) -> Outcome<String> {
    for count in [1, 10, 100] {
        let topic = run.create(&count.to_string(), count, &[])?;
        let mut listed: Vec<_> = run.admin()?.describe(&topic)?.into_iter().map(|(id, ..)| id).collect();
        listed.sort_unstable();
        expect("partitions", (0..count).collect::<Vec<_>>(), listed)?;
        let mut sent = numbered(count, 0, 20);
        for record in &mut sent {
            record.key = record.partition.map(|p| p.to_string().into_bytes());
        }
        let wanted: Vec<Ack> = (0..20).flat_map(|s| (0..count).map(move |p| (p, s))).collect();
        expect("acknowledged", wanted, run.send_all(&topic, &[], &sent)?)?;
        let mut next = vec![0; count as usize];
        for got in read_from(run, &topic, sent.len(), count)? {
            let p = got.partition.unwrap_or(-1) as usize;
            expect("offset", next[p], got.offset)?;
            expect("value", Some(format!("{p}:{}", next[p]).into_bytes()), got.value)?;
            expect("key", Some(p.to_string().into_bytes()), got.key)?;
            next[p] += 1;
        }
    }
    Ok("partitions=1,10,100".to_owned())
}

pub fn manual(run: &mut Run) -> Outcome<String> {
    let topic = run.create("", 1, &[])?;
    let base = now_ms() - HOUR_MS;
    let record = |i: i64| Record { timestamp: Some(base + i * 1000), ..valued(format!("manual-{i}").into_bytes()) };
    run.send_all(&topic, &[], &(0..100).map(record).collect::<Vec<_>>())?;
    let reader = run.reader("earliest")?;
    reader.assign(&topic, &BTreeMap::from([(0, 0)]))?;
    read(&reader, 1, PATIENCE)?;
    expect("beginning and end", (0, 100), reader.bounds(&topic, 0)?)?;
    for start in [0, 57, 99] {
        reader.seek(&topic, 0, start)?;
        for (n, got) in (start..).zip(read(&reader, 100 - start as usize, PATIENCE)?) {
            expect("offset", n, got.offset)?;
            expect("value", Some(format!("manual-{n}").into_bytes()), got.value)?;
        }
    }
    for (time, wanted) in
        [(base, Some(0)), (base + 40_000, Some(40)), (base + 40_001, Some(41)), (0, Some(0)), (base + 1_000_000, None)]
    {
        expect(format!("offset for base + {}", time - base), wanted, reader.offset_for_time(&topic, 0, time)?)?;
    }
    reader.seek(&topic, 0, 41)?;
    expect("at 41", Some(b"manual-41".to_vec()), read(&reader, 1, PATIENCE)?.remove(0).value)?;
    out_of_range(run, &topic)?;
    Ok("records=101".to_owned())
}

/// Reads from beyond the end with every reset policy.
fn out_of_range(run: &Run, topic: &str) -> Outcome<()> {
    let away = BTreeMap::from([(0, 1000)]);
    let reader = run.reader("earliest")?;
    reader.assign(topic, &away)?;
    expect("reset to earliest", 0, read(&reader, 1, PATIENCE)?[0].offset)?;

    let reader = run.reader("latest")?;
    reader.assign(topic, &away)?;
    let quiet = Instant::now() + Duration::from_secs(1);
    while Instant::now() < quiet {
        expect("records after a reset to latest", 0, reader.poll(Duration::from_millis(100)).0.len())?;
    }
    // On a busy machine the end may be found only after a record was written: then the next one is read.
    let (mut got, mut last) = (Vec::new(), 99);
    while got.is_empty() && last < 99 + RESETS {
        last += 1;
        let acks = run.send_all(topic, &[], &[valued(format!("manual-{last}").into_bytes())])?;
        expect("ack", vec![(0, last)], acks)?;
        let end = Instant::now() + Duration::from_secs(10);
        while got.is_empty() && Instant::now() < end {
            got = reader.poll(Duration::from_millis(100)).0;
        }
    }
    let got: Vec<_> = got.into_iter().map(|record| (record.offset, record.value)).collect();
    expect("reset to latest", vec![(last, Some(format!("manual-{last}").into_bytes()))], got)?;

    let reader = run.reader("error")?;
    reader.assign(topic, &away)?;
    expect_refused("reset none", OFFSET_OUT_OF_RANGE, read(&reader, 1, PATIENCE))
}

pub fn interop_write(run: &mut Run) -> Outcome<String> {
    let (topic, count) = (run.key("topic", ""), run.number("count", 300)?);
    let (codec, profile) = (run.key("codec", "none"), run.key("profile", "full"));
    let base = now_ms() - HOUR_MS;
    let sent: Vec<_> = (0..count).map(|i| interop(i, base, &profile)).collect();
    let acks = run.send_all(&topic, &[("compression.type", &codec)], &sent)?;
    expect("acknowledged", (0..count as i64).map(|i| (0, i)).collect(), acks)?;
    Ok(format!("topic={topic} count={count} codec={codec} profile={profile}"))
}

pub fn interop_read(run: &mut Run) -> Outcome<String> {
    let (topic, count) = (run.key("topic", ""), run.number("count", 300)?);
    let (codec, profile) = (run.key("codec", "none"), run.key("profile", "full"));
    let mut loose: Words = run.key("without", "").split(',').map(str::to_owned).collect();
    if profile == "plain" {
        loose.insert("timestamps".to_owned());
    }
    let got = read_from(run, &topic, count, 1)?;
    expect("bounds", (0, count as i64), run.reader("earliest")?.bounds(&topic, 0)?)?;
    let base = got.first().and_then(|r| r.timestamp).unwrap_or(-1);
    for (i, back) in got.iter().enumerate() {
        expect("offset", i as i64, back.offset)?;
        compare(&format!("record {i}"), &interop(i, base, &profile), back, &loose)?;
        let age = now_ms() - back.timestamp.unwrap_or(-1);
        expect_that("timestamp within 24 hours", age.abs() < 24 * HOUR_MS, age)?;
    }
    Ok(format!("topic={topic} count={count} codec={codec} profile={profile}"))
}

pub fn restart(run: &mut Run) -> Outcome<String> {
    let (topic, count) = (run.key("topic", ""), run.number("count", 500)?);
    let pace = Duration::from_millis(run.number("pace", 20)? as u64);
    let record = |i: usize| Record { key: Some(format!("key-{i}").into_bytes()), ..valued(text(i)) };
    let sent: Vec<_> = (0..count).map(record).collect();
    let producer = run.producer(&[("enable.idempotence", "true")])?;
    let mut acks = Vec::new();
    for record in &sent {
        acks.push(producer.send(&topic, record)?);
        if acks.len() == 1 {
            println!("started");
            // The caller waits for this line through a pipe.
            let _ = std::io::stdout().flush();
        }
        std::thread::sleep(pace);
    }
    let got = read_from(run, &topic, count, 1)?;
    expect_dense(&got, &acks)?;
    expect_same("record", &sent, &got, &run.without)?;
    Ok(format!("topic={topic} count={count} duplicates=0"))
}
