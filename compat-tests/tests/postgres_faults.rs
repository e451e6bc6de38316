//! What a PostgreSQL server, and the way to it, may do to a journal: faults, TLS, a pooler, a second server that takes over.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use compat_tests::postgres::Postgres;
use compat_tests::postgres::pooler::{POOL, Pooler};
use metadata::error::{AppendError, ReadError};
use metadata::journal::Journal;
use metadata::journal::contract::{self, entry};
use metadata::journal::postgres::{OpenError, PostgresJournal};
use metadata::model::ids::Lsn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(90);
/// Longest until what cannot be done now is said to have failed (L9).
const BOUND: Duration = Duration::from_secs(30);

async fn open(url: &str) -> PostgresJournal {
    PostgresJournal::open(url.parse().unwrap()).await.unwrap()
}

/// What whoever starts a gateway is told: one line, with these words in it.
async fn refused(url: &str, words: &[&str]) {
    let error = PostgresJournal::open(url.parse().unwrap()).await.expect_err("refused");
    let text = error.to_string();
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    assert!(missing.is_empty() && !text.contains('\n') && !text.contains("secret"), "{missing:?} in: {text}"); // P7
}

/// Appends the entry until it is there, as the appender does.
async fn append_until_written(journal: &PostgresJournal, sequence: u64) -> Lsn {
    let until = Instant::now() + SOON;
    loop {
        match journal.append(&entry(sequence)).await {
            Ok(lsn) => return lsn,
            Err(AppendError::KnownNotWritten(_) | AppendError::Unknown(_)) if Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A way to the server that can misbehave.
struct Proxy {
    address: SocketAddr,
    manner: Arc<AtomicU8>,
}

/// Everything passes.
const OPEN: u8 = 0;
/// The answer to the next append is lost, with its connection.
const LOSE_ANSWER: u8 = 1;
/// Who wants to listen is cut off.
const DEAF: u8 = 2;

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, manner) = (listener.local_addr().unwrap(), Arc::new(AtomicU8::new(OPEN)));
        let shared = Arc::clone(&manner);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, to, Arc::clone(&shared)));
            }
        });
        Self { address, manner }
    }
}

async fn pass(mut client: TcpStream, to: SocketAddr, manner: Arc<AtomicU8>) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let (mut question, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
    let mut appends = false;
    loop {
        tokio::select! {
            read = client.read(&mut question) => {
                let Ok(length @ 1..) = read else { return };
                let says = |word: &[u8]| question[..length].windows(word.len()).any(|at| at == word);
                appends = says(b".append(");
                if manner.load(Ordering::SeqCst) == DEAF && says(b"LISTEN") {
                    return;
                }
                if server.write_all(&question[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answer) => {
                let Ok(length @ 1..) = read else { return };
                if appends && manner.compare_exchange(LOSE_ANSWER, OPEN, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    return; // the commit is done, and nobody hears of it
                }
                if client.write_all(&answer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_keep_a_journal_is_refused_in_one_line() {
    let mut server = Postgres::start().unwrap();
    let url = server.url();
    let journal = open(&url).await;
    assert_eq!(journal.append(&entry(1)).await, Ok(Lsn(1)));
    // P7: never the password.
    let wrong = |from: &str, to: &str| url.replacen(from, to, 1);
    refused(&wrong("a-secret-of-the-tests-only", "another-secret"), &["password", "streamhouse"]).await;
    refused(&format!("{}elsewhere", url.strip_suffix("streamhouse").unwrap()), &["elsewhere", "does not exist"]).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&server.url_at(free), &["cannot reach", &free.to_string(), "refused"]).await;
    refused(&format!("{url}?sslmode=require"), &["TLS"]).await;
    for setting in ["synchronous_commit", "fsync"] {
        let set = |value: &str| {
            server.set(setting, value).unwrap();
        };
        set("off");
        refused(&url, &[setting, "off"]).await;
        let told = journal.append(&entry(2)).await;
        assert!(matches!(&told, Err(AppendError::KnownNotWritten(why)) if why.contains("off")), "{setting}: {told:?}");
        set("on");
    }
    assert_eq!(journal.append(&entry(2)).await, Ok(Lsn(2)));
    server.execute("INSERT INTO streamhouse.migrations (number) VALUES (99)").unwrap();
    refused(&url, &["format 99", "newer version"]).await;
    server.stop().unwrap();
    server.start_again(&["default_transaction_read_only=on"]).unwrap();
    let error = PostgresJournal::open(url.parse().unwrap()).await.expect_err("read only");
    assert!(matches!(error, OpenError::Unreachable { .. } | OpenError::Unfit { .. }), "{error}");
}

/// Seconds of processor time of a process, from the 14th and 15th field of its `stat`.
fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

/// An append is a matter of a millisecond, whatever the planner of a fresh server thinks of tables it knows nothing of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_cost_the_server_little() {
    let server = Postgres::start().unwrap();
    let journal = open(&server.url()).await;
    let appender = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%.append($1%' AND pid <> pg_backend_pid()";
    assert_eq!(journal.append(&entry(1)).await, Ok(Lsn(1)));
    let pid = server.execute(appender).unwrap();
    let before = cpu_seconds(&pid);
    for sequence in 2..=51 {
        assert_eq!(journal.append(&entry(sequence)).await, Ok(Lsn(sequence)));
    }
    let taken = cpu_seconds(&pid) - before;
    assert!(taken < 0.5, "{taken} CPU-seconds for 50 appends");
}

/// L9: appends and reads fail in bounded time while the server is away, and go on by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashed_and_came_back_has_everything() {
    let mut server = Postgres::start().unwrap();
    let (writer, reader) = (open(&server.url()).await, open(&server.url()).await);
    for sequence in 1..=5 {
        assert_eq!(writer.append(&entry(sequence)).await, Ok(Lsn(sequence)));
    }
    for round in 0..2 {
        if round == 0 { server.crash() } else { server.stop() }.unwrap();
        let began = Instant::now();
        let told = writer.append(&entry(6)).await;
        assert!(matches!(told, Err(AppendError::KnownNotWritten(_) | AppendError::Unknown(_))), "{told:?}");
        assert!(matches!(reader.head().await, Err(ReadError::Unavailable(_))));
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        server.start_again(&[]).unwrap();
        let before = *reader.tail().borrow();
        let lsn = append_until_written(&writer, 6 + round).await;
        let mut tail = reader.tail();
        timeout(SOON, tail.wait_for(|head| *head >= lsn)).await.unwrap().unwrap();
        assert!(lsn > before, "{lsn} after {before}");
    }
    let head = reader.head().await.unwrap();
    let entries = reader.read(Lsn(0), 100).await.unwrap();
    assert_eq!(entries.last().unwrap().0, head);
    assert!(entries.iter().zip(1..).all(|((lsn, _), expected)| lsn.0 == expected), "dense");
}

/// A failover to a replica that lagged behind: who acted on what is lost stops, and writes nothing into the other history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_a_server_lost_are_noticed() {
    let mut server = Postgres::start().unwrap();
    let (ahead, other) = (open(&server.url()).await, open(&server.url()).await);
    for sequence in 1..=5 {
        ahead.append(&entry(sequence)).await.unwrap();
    }
    assert_eq!(other.read(Lsn(0), 100).await.unwrap().len(), 5);
    server.stop().unwrap();
    server.keep().unwrap();
    server.start_again(&[]).unwrap();
    for sequence in 6..=8 {
        append_until_written(&ahead, sequence).await;
    }
    server.stop().unwrap();
    server.go_back().unwrap();
    server.start_again(&[]).unwrap();
    let until = Instant::now() + SOON;
    let is_lost = |told: &str| told.contains("lost commits");
    loop {
        match ahead.head().await {
            Err(ReadError::Corrupt(why)) if is_lost(&why) => break,
            told => assert!(matches!(told, Err(ReadError::Unavailable(_))) && Instant::now() < until, "{told:?}"),
        }
    }
    let told = ahead.append(&entry(9)).await;
    assert!(matches!(&told, Err(AppendError::Corrupt(why)) if is_lost(why)), "{told:?}");
    // Who had not seen them goes on, past where they were.
    let tail_of = |journal: &PostgresJournal| *journal.tail().borrow();
    for sequence in 20..=26 {
        let told = append_or_wait(&other, sequence).await;
        assert!(told.is_some() || tail_of(&other) > Lsn(5), "the other has not seen them either");
    }
    let fresh = open(&server.url()).await;
    let head = fresh.head().await.unwrap();
    assert!(head >= Lsn(5), "{head}");
    // Now the positions are there again, of other entries.
    for sequence in 30..=36 {
        fresh.append(&entry(sequence)).await.unwrap();
    }
    let told = ahead.append(&entry(9)).await;
    assert!(matches!(&told, Err(AppendError::Corrupt(why)) if is_lost(why)), "{told:?}");
    let told = ahead.read(Lsn(8), 10).await;
    assert!(matches!(&told, Err(ReadError::Corrupt(why)) if is_lost(why)), "{told:?}");
    let entries = fresh.read(Lsn(5), 100).await.unwrap();
    assert!(entries.iter().all(|(_, entry)| entry.sequence != 9), "nothing of the one that is behind the times");
}

/// `None` if this one too has heard of a lost entry.
async fn append_or_wait(journal: &PostgresJournal, sequence: u64) -> Option<Lsn> {
    let until = Instant::now() + SOON;
    loop {
        match journal.append(&entry(sequence)).await {
            Ok(lsn) => return Some(lsn),
            Err(AppendError::Corrupt(_)) => return None,
            Err(_) if Instant::now() < until => sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// L4, P6: an append whose answer is lost is unknown, never failed; appended again it takes a place of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_leaves_the_outcome_unknown() {
    let server = Postgres::start().unwrap();
    let proxy = Proxy::start(server.address()).await;
    let journal = open(&server.url_at(proxy.address)).await;
    assert_eq!(journal.append(&entry(1)).await, Ok(Lsn(1)));
    proxy.manner.store(LOSE_ANSWER, Ordering::SeqCst);
    let told = journal.append(&entry(2)).await;
    assert!(matches!(told, Err(AppendError::Unknown(_))), "{told:?}");
    assert_eq!(proxy.manner.load(Ordering::SeqCst), OPEN, "the answer was lost");
    assert_eq!(append_until_written(&journal, 2).await, Lsn(3));
    let sequences: Vec<_> = journal.read(Lsn(0), 10).await.unwrap().iter().map(|(_, entry)| entry.sequence).collect();
    assert_eq!(sequences, [1, 2, 2]);
}

/// Behind a pooler in transaction mode nobody hears NOTIFY: it is asked instead, and often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_notifications_are_lost_it_is_asked_often() {
    let server = Postgres::start().unwrap();
    let proxy = Proxy::start(server.address()).await;
    proxy.manner.store(DEAF, Ordering::SeqCst);
    let (writer, reader) = (open(&server.url()).await, open(&server.url_at(proxy.address)).await);
    let mut tail = reader.tail();
    let mut taken = Vec::new();
    for sequence in 1..=20 {
        let lsn = writer.append(&entry(sequence)).await.unwrap();
        let began = Instant::now();
        timeout(SOON, tail.wait_for(|head| *head >= lsn)).await.unwrap().unwrap();
        taken.push(began.elapsed());
    }
    taken.sort();
    // A busy machine takes its share of some.
    assert!(taken[taken.len() / 2] < Duration::from_secs(2), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_proves_who_the_server_is() {
    let mut server = Postgres::start().unwrap();
    let at = |mode: &str| server.url().replacen("127.0.0.1", "localhost", 1) + mode;
    let (plain, require) = (at("?sslmode=disable"), at("?sslmode=require"));
    let (right, settings) = server.certify("right", "DNS:localhost").unwrap();
    let (other, _) = server.certify("other", "DNS:localhost").unwrap();
    let full = format!("?sslmode=verify-full&sslrootcert={}", right.root.display());
    let (verified, unnamed) = (at(&full), server.url() + &full);
    let untrusted = at(&format!("?sslmode=verify-full&sslrootcert={}", other.root.display()));
    server.stop().unwrap();
    server.start_again(&settings.each_ref().map(String::as_str)).unwrap();
    let encrypted = || {
        let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'streamhouse' AND ssl";
        server.execute(sql).unwrap().parse::<u32>().unwrap()
    };
    let journal = open(&plain).await;
    assert_eq!(journal.append(&entry(1)).await, Ok(Lsn(1)));
    assert_eq!(encrypted(), 0);
    drop(journal);
    for (url, lsn) in [(&verified, 2), (&require, 3)] {
        let (journal, other) = (open(url).await, open(url).await);
        let mut tail = other.tail();
        assert_eq!(journal.append(&entry(lsn)).await, Ok(Lsn(lsn)));
        timeout(SOON, tail.wait_for(|head| *head >= Lsn(lsn))).await.unwrap().unwrap();
        let begun = Instant::now();
        while encrypted() < 3 {
            assert!(begun.elapsed() < SOON, "of two that append, read and listen: {}", encrypted());
            sleep(Duration::from_millis(50)).await;
        }
    }
    // Another authority's certificate; and that of another name.
    tokio::join!(refused(&untrusted, &["certificate"]), refused(&unnamed, &["certificate", "name"]));
}

/// A pooler in transaction mode: no statement may rely on the connection it is sent by, and nobody hears NOTIFY.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_it_keeps_the_contract() {
    let server = Postgres::start().unwrap();
    let pooler = Pooler::start(&server).unwrap();
    let url = server.url_at(pooler.address());
    let schemas = AtomicU32::new(0);
    contract::every_case(async || {
        let number = schemas.fetch_add(1, Ordering::Relaxed);
        Arc::new(open(&format!("{url}?schema=case_{number}")).await) as Arc<dyn Journal>
    })
    .await;
    // More gateways than connections to the server.
    let mut writers = tokio::task::JoinSet::new();
    let reader = open(&url).await;
    for writer in 1..=4 {
        let journal = open(&url).await;
        writers.spawn(async move {
            for sequence in 1..=25 {
                append_until_written(&journal, writer * 100 + sequence).await;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let mut tail = reader.tail();
    timeout(SOON, tail.wait_for(|head| *head >= Lsn(100))).await.unwrap().unwrap();
    let entries = reader.read(Lsn(0), 1_000).await.unwrap();
    assert!(entries.iter().zip(1..).all(|((lsn, _), expected)| lsn.0 == expected) && entries.len() >= 100, "dense");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'streamhouse' AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let connections: usize = server.execute(sql).unwrap().parse().unwrap();
    assert!(connections <= POOL, "{connections} connections: not pooled by transaction");
}

/// Two servers in the URL: the one that takes writes is found, before a failover and behind it; what a primary that comes back from
/// the dead has, or has not, is never mixed in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_the_one_that_took_over_is_used() {
    let mut primary = Postgres::start().unwrap();
    let replica = primary.replica().unwrap();
    // Synchronous replication: what is acknowledged is at both.
    primary.set("synchronous_standby_names", "*").unwrap();
    let url_of = |first: &Postgres, second: &Postgres| {
        let hosts = format!("{},{}", first.address(), second.address());
        first.url().replacen(&first.address().to_string(), &hosts, 1)
    };
    let (url, stale_first) = (url_of(&replica, &primary), url_of(&primary, &replica));
    refused(&replica.url(), &[]).await;
    let journal = open(&url).await;
    for sequence in 1..=5 {
        assert_eq!(journal.append(&entry(sequence)).await, Ok(Lsn(sequence)));
    }
    // The setting is taken in by one process of the server after the other; who has not waited may lag behind.
    let has_all = "SELECT bool_and(flush_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication";
    let begun = Instant::now();
    while primary.execute(has_all).unwrap() != "t" {
        assert!(begun.elapsed() < SOON, "the replica lags behind");
        sleep(Duration::from_millis(50)).await;
    }
    primary.crash().unwrap();
    replica.execute("SELECT pg_promote()").unwrap();
    assert!(append_until_written(&journal, 6).await >= Lsn(6));
    let entries = journal.read(Lsn(0), 100).await.unwrap();
    assert!(entries.iter().zip(1..).all(|((lsn, _), expected)| lsn.0 == expected) && entries.len() >= 6, "{entries:?}");
    // The dead one is named first, and not there: the other is used. Then it is there again, and takes writes.
    let misled = open(&stale_first).await;
    let head = append_until_written(&misled, 7).await;
    primary.start_again(&["synchronous_standby_names="]).unwrap();
    replica
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'streamhouse'")
        .unwrap();
    let until = Instant::now() + SOON;
    let told = loop {
        match misled.append(&entry(8)).await {
            Err(AppendError::KnownNotWritten(_) | AppendError::Unknown(_)) if Instant::now() < until => {}
            told => break told,
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert!(matches!(&told, Err(AppendError::Corrupt(why)) if why.contains("lost commits")), "{told:?}");
    assert_eq!(primary.execute("SELECT max(lsn) FROM streamhouse.entries").unwrap(), "5", "nothing went there");
    assert!(append_until_written(&journal, 9).await > head, "who names the living one first goes on");
}
