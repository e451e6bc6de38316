//! Our tables in the database, and what a server must be like to be trusted with them.
//!
//! Each change of the tables is a numbered file. What is missing is made in one transaction under a lock, so that gateways
//! that start together do it once; a database that knows more changes than this version is left alone.

use tokio_postgres::Client;

use super::failure::{Failure, reason};

/// The changes, in order; number 1 is the first. What stands in a released file is never changed.
const MIGRATIONS: [&str; 2] = [include_str!("schema/0001_journal.sql"), include_str!("schema/0002_no_jit.sql")];
/// The oldest server whose behaviour we rely on, as `server_version_num` has it.
const VERSION_MIN: i32 = 130_000;

/// Why a server or database cannot keep the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the server runs with {0}=off, so what it confirms may be lost with its power: set {0}=on")]
    NotDurable(&'static str),
    #[error("the server is a replica, which takes no writes: name the primary, or all servers as host1,host2")]
    Replica,
    #[error("the server is PostgreSQL {0}; 13 or newer is needed")]
    TooOld(String),
    #[error("the schema {schema} has format {found}, this version knows up to {known}: start the newer version again")]
    Newer { schema: String, found: i32, known: usize },
    #[error("the schema {schema} cannot be made or used: {reason}")]
    NotOurs { schema: String, reason: String },
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Looks whether the server at the other end keeps what it confirms. Asked on every new connection: behind one name there
/// may be another server tomorrow.
pub(super) async fn inspect(client: &Client) -> Result<(), Unfit> {
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
               current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery()";
    let row = client.query_typed(sql, &[]).await.map_err(|error| Failure::of(&error))?;
    let row = row.first().ok_or_else(|| Failure::NotDone("the server told nothing of itself".into()))?;
    let text = |column| row.try_get::<_, &str>(column).unwrap_or_default();
    if row.try_get::<_, i32>(0).unwrap_or(0) < VERSION_MIN {
        return Err(Unfit::TooOld(text(1).to_owned()));
    }
    if text(2) == "off" {
        return Err(Unfit::NotDurable("fsync"));
    }
    if text(3) == "off" {
        return Err(Unfit::NotDurable("synchronous_commit"));
    }
    match row.try_get::<_, bool>(4) {
        Ok(false) => Ok(()),
        Ok(true) | Err(_) => Err(Unfit::Replica),
    }
}

/// Makes what is missing of our tables.
pub(super) async fn migrate(client: &Client, schema: &str) -> Result<(), Unfit> {
    let known = MIGRATIONS.len();
    let found = format_of(client, schema).await?;
    if usize::try_from(found).is_ok_and(|found| found == known) {
        return Ok(());
    }
    if usize::try_from(found).is_ok_and(|found| found > known) {
        return Err(Unfit::Newer { schema: schema.to_owned(), found, known });
    }
    let made = make(client, schema).await;
    if made.is_err() {
        // The connection may be kept.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    made.map_err(|error| match &error {
        Unfit::Failed(Failure::NotDone(reason)) => {
            Unfit::NotOurs { schema: schema.to_owned(), reason: reason.to_string() }
        }
        _ => error,
    })
}

async fn make(client: &Client, schema: &str) -> Result<(), Unfit> {
    let run = async |sql: &str| client.batch_execute(sql).await.map_err(|error| Failure::of(&error));
    run("BEGIN").await?;
    // Of a transaction, so that it works through a pooler; by name, so that other schemas need not wait.
    run(&format!("SELECT pg_advisory_xact_lock(hashtextextended('streamhouse journal {schema}', 0))")).await?;
    let found = format_of(client, schema).await?;
    if found == 0 {
        let is_there = format!("SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'");
        let rows = client.query_typed(&is_there, &[]).await.map_err(|error| Failure::of(&error))?;
        if rows.is_empty() {
            run(&format!("CREATE SCHEMA {schema}")).await?;
        }
        run(&format!(
            "CREATE TABLE {schema}.migrations (number int4 PRIMARY KEY, done_at timestamptz NOT NULL DEFAULT now())"
        ))
        .await?;
    }
    for (number, migration) in (1..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        run(&migration.replace("{schema}", schema)).await?;
        run(&format!("INSERT INTO {schema}.migrations (number) VALUES ({number})")).await?;
        tracing::info!(schema, number, "the journal's tables were made or changed");
    }
    run("COMMIT").await?;
    Ok(())
}

/// The newest change the database has; 0 if it has no tables of ours.
async fn format_of(client: &Client, schema: &str) -> Result<i32, Unfit> {
    let is_there = format!("SELECT to_regclass('{schema}.migrations') IS NOT NULL");
    let rows = client.query_typed(&is_there, &[]).await.map_err(|error| Failure::of(&error))?;
    if !rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
        return Ok(0);
    }
    let newest = format!("SELECT coalesce(max(number), 0) FROM {schema}.migrations");
    let rows = client.query_typed(&newest, &[]).await.map_err(|error| Failure::of(&error))?;
    let newest = rows.first().map(|row| row.try_get::<_, i32>(0)).transpose();
    newest.map(Option::unwrap_or_default).map_err(|error| Failure::NotDone(reason(&error).into()).into())
}
