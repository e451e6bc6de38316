//! The ways to a PostgreSQL server: TLS, a pooler that gives each transaction another connection, a second server that takes over.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use compat_tests::postgres::Postgres;
use compat_tests::postgres::pooler::{POOL, Pooler};
use metadata::error::AppendError;
use metadata::journal::Journal;
use metadata::journal::contract::{self, entry};
use metadata::journal::postgres::PostgresJournal;
use metadata::model::ids::Lsn;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(90);

async fn open(url: &str) -> PostgresJournal {
    PostgresJournal::open(url.parse().unwrap()).await.unwrap()
}

/// What whoever starts a gateway is told.
async fn refused(url: &str) -> String {
    let text = PostgresJournal::open(url.parse().unwrap()).await.expect_err("refused").to_string();
    assert!(!text.contains('\n') && !text.contains("secret"), "{text}"); // P7
    text
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
    let (by_other, by_name) = tokio::join!(refused(&untrusted), refused(&unnamed));
    assert!(by_other.contains("UnknownIssuer") || by_other.contains("certificate"), "{by_other}");
    assert!(by_name.contains("certificate") && by_name.contains("name"), "{by_name}");
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
    refused(&replica.url()).await;
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
