//! The journal in PostgreSQL: the contract every journal keeps, and what a server does to those who rely on it.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use compat_tests::postgres::Postgres;
use metadata::journal::postgres::PostgresJournal;
use metadata::journal::{Journal, contract};

async fn open(url: &str) -> Arc<dyn Journal> {
    Arc::new(PostgresJournal::open(url.parse().unwrap()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let server = Postgres::start().unwrap();
    let schemas = AtomicU32::new(0);
    contract::every_case(async || {
        open(&server.url_of(&format!("case_{}", schemas.fetch_add(1, Ordering::Relaxed)))).await
    })
    .await;
    contract::survives_reopening(async || open(&server.url()).await).await;
}
