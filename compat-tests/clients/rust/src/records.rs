//! What every scenario writes and how it compares what it reads.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const OFFSET_OUT_OF_RANGE: i32 = 1;
pub const UNKNOWN_TOPIC: i32 = 3;
pub const MESSAGE_TOO_LARGE: i32 = 10;
pub const INVALID_TOPIC: i32 = 17;
pub const TOPIC_ALREADY_EXISTS: i32 = 36;
pub const INVALID_PARTITIONS: i32 = 37;
pub const INVALID_CONFIG: i32 = 40;
pub const NON_EMPTY_GROUP: i32 = 68;
pub const GROUP_ID_NOT_FOUND: i32 = 69;
pub const FENCED_INSTANCE_ID: i32 = 82;

pub const HOUR_MS: i64 = 3_600_000;
/// For anything that should come at once.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Why a scenario ends.
#[derive(Debug, Clone)]
pub enum Failure {
    /// What came is not what was expected.
    Differs(String),
    /// The broker answered with a Kafka error code (librdkafka's own codes are negative).
    Refused(i32, String),
    /// The library itself cannot do this.
    Without,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Differs(text) => write!(f, "{text}"),
            Failure::Refused(code, text) => write!(f, "error code {code}: {text}"),
            Failure::Without => write!(f, "the library cannot do this"),
        }
    }
}

pub type Outcome<T> = Result<T, Failure>;

/// A record as sent or as read. `timestamp` in milliseconds; where one is None the library chooses.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
    pub partition: Option<i32>,
    pub offset: i64,
    pub log_append: bool,
}

/// The partition and offset of an acknowledged record.
pub type Ack = (i32, i64);

/// `bytes(seed, n)` of SCENARIOS.md: xorshift32.
pub fn generate(seed: usize, n: usize) -> Vec<u8> {
    let mut x = seed as u32 ^ 0x9E37_79B9;
    if x == 0 {
        x = 1;
    }
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as u8
    };
    (0..n).map(|_| next()).collect()
}

/// `text(i)` of SCENARIOS.md.
pub fn text(i: usize) -> Vec<u8> {
    format!("value-{i}-").repeat(i % 50 + 1).into_bytes()
}

/// These programs stand outside of the gateway and its clock.
#[allow(clippy::disallowed_methods)]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    since.as_millis() as i64
}

pub fn differs<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure::Differs(text.into()))
}

fn brief(value: &impl std::fmt::Debug) -> String {
    let shown = format!("{value:?}");
    match shown.char_indices().nth(300) {
        Some((end, _)) => format!("{}... ({} characters)", &shown[..end], shown.len()),
        None => shown,
    }
}

pub fn expect<T: PartialEq + std::fmt::Debug>(what: impl std::fmt::Display, wanted: T, got: T) -> Outcome<()> {
    if wanted == got {
        return Ok(());
    }
    differs(format!("{what}: expected {}, came {}", brief(&wanted), brief(&got)))
}

pub fn expect_that(what: &str, holds: bool, got: impl std::fmt::Debug) -> Outcome<()> {
    if holds { Ok(()) } else { differs(format!("{what}: {}", brief(&got))) }
}

/// The outcome must be a refusal by the broker with `code`.
pub fn expect_refused<T: std::fmt::Debug>(what: &str, code: i32, outcome: Outcome<T>) -> Outcome<()> {
    match outcome {
        Err(Failure::Refused(came, _)) => expect(format!("{what}: error code"), code, came),
        other => differs(format!("{what}: expected error code {code}, came {}", brief(&other))),
    }
}

pub fn wait_until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Outcome<bool>,
    show: impl Fn() -> String,
) -> Outcome<()> {
    let end = Instant::now() + limit;
    while !holds()? {
        if Instant::now() > end {
            return differs(format!("waited {limit:?} for {what}: {}", show()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Words of SCENARIOS.md by which a comparison is loosened or a step left out.
pub type Words = BTreeSet<String>;

/// Compares key, value, headers and, where it was given, the timestamp.
pub fn compare(what: &str, sent: &Record, got: &Record, without: &Words) -> Outcome<()> {
    let has = |word: &str| without.contains(word);
    let bytes = |value: &Option<Vec<u8>>, loose: bool| match value {
        None if loose => Some(Vec::new()),
        _ => value.clone(),
    };
    let loose = has("null-vs-empty");
    expect(format!("{what} key"), bytes(&sent.key, loose), bytes(&got.key, loose))?;
    expect(format!("{what} value"), bytes(&sent.value, loose), bytes(&got.value, loose))?;
    if has("header-order") || has("repeated-headers") {
        let names = |r: &Record| r.headers.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
        expect(format!("{what} header names"), names(sent), names(got))?;
    } else {
        let headers = |r: &Record| {
            let shown = |(name, value): &(String, Option<Vec<u8>>)| (name.clone(), bytes(value, has("null-headers")));
            r.headers.iter().map(shown).collect::<Vec<_>>()
        };
        expect(format!("{what} headers"), headers(sent), headers(got))?;
    }
    if sent.timestamp.is_some() && !has("timestamps") {
        expect(format!("{what} timestamp"), sent.timestamp, got.timestamp)?;
    }
    Ok(())
}

fn header(name: &str, value: Option<&[u8]>) -> (String, Option<Vec<u8>>) {
    (name.to_owned(), value.map(<[u8]>::to_vec))
}

/// The records of scenario `shapes`.
pub fn shaped(base: i64) -> Vec<Record> {
    let (k10, v10, bin) = (generate(10, 32), generate(11, 512), generate(12, 64));
    type Row<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, Vec<(String, Option<Vec<u8>>)>);
    let repeated =
        vec![header("a", Some(b"1")), header("b", Some(b"2")), header("a", Some(b"3")), header("a", Some(b"1"))];
    let odd = vec![header("empty", Some(b"")), header("null", None), header("", Some(b"x"))];
    let binary = vec![header("bin", Some(&bin)), header("ключ", Some("значение".as_bytes()))];
    let rows: Vec<Row<'_>> = vec![
        (Some(b"k0"), Some(b"v0"), vec![]),
        (None, Some(b"no key"), vec![]),
        (Some(b"k2"), None, vec![]),
        (Some(b""), Some(b"empty key"), vec![]),
        (Some(b"k4"), Some(b""), vec![]),
        (None, None, vec![]),
        (Some(b"k6"), Some(b"v6"), vec![header("a", Some(b"1"))]),
        (Some(b"k7"), Some(b"v7"), repeated),
        (Some(b"k8"), Some(b"v8"), odd),
        (Some(b"k9"), None, vec![header("why", Some(b"deleted"))]),
        (Some(&k10), Some(&v10), binary),
    ];
    let made = rows.into_iter().enumerate().map(|(n, (key, value, headers))| Record {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers,
        timestamp: Some(base + n as i64 * 1000),
        partition: Some(0),
        ..Record::default()
    });
    made.collect()
}

/// Record `i` of the interop scenarios.
pub fn interop(i: usize, base: i64, profile: &str) -> Record {
    let mut record = Record {
        key: Some(format!("key-{i}").into_bytes()),
        value: Some(text(i)),
        partition: Some(0),
        ..Record::default()
    };
    if profile == "plain" {
        return record;
    }
    record.timestamp = Some(base + i as i64 * 1000);
    match i % 10 {
        3 => record.key = None,
        7 => record.key = Some(Vec::new()),
        5 => record.value = None,
        9 => record.value = Some(Vec::new()),
        0 => record.value = Some(generate(i, 1000)),
        4 => record.timestamp = Some(base + i as i64 * 1000 - 5000),
        _ => {}
    }
    record.headers = match i % 4 {
        1 => vec![header("h", Some(format!("v-{i}").as_bytes()))],
        2 => vec![header("h", Some(b"a")), header("h", Some(b"b")), header("other", Some(b""))],
        3 => vec![header("null", None), header("bin", Some(&generate(i, 16)))],
        _ => vec![],
    };
    record
}

/// Records `<p>:<s>` for s = first.., interleaved over the partitions.
pub fn numbered(partitions: i32, first: usize, count: usize) -> Vec<Record> {
    let at = |s: usize, p: i32| Record {
        value: Some(format!("{p}:{s}").into_bytes()),
        partition: Some(p),
        ..Record::default()
    };
    (first..first + count).flat_map(|s| (0..partitions).map(move |p| at(s, p))).collect()
}
