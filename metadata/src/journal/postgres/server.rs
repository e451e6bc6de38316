//! The journal's statements, and what their answers mean.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::failure::Failure;
use super::history::History;
use super::link::Link;
use crate::model::ids::Lsn;

/// Bytes of entries in one read, unless the first alone has more.
const READ_BYTES_MAX: i64 = 32 << 20;
/// Entries forgotten in one transaction.
const TRIM_STEP: i64 = 1_000;

/// The tables of one journal, and what this process has seen of them.
#[derive(Debug)]
pub(super) struct Server {
    /// For appends alone: nothing that is read stands in their way.
    appends: Link,
    reads: Link,
    history: History,
    sql: Sql,
}

/// The statements, with our schema in them.
#[derive(Debug)]
struct Sql {
    append: String,
    read: String,
    head: String,
    ends: String,
    trim: String,
    begin: String,
}

impl Sql {
    fn of(schema: &str) -> Self {
        let (entries, head) = (format!("{schema}.entries"), format!("{schema}.head"));
        Self {
            append: format!("SELECT {schema}.append($1, $2, $3, $4)"),
            // The entry asked from comes along without its bytes, for its mark.
            read: format!(
                "SELECT lsn, mark, CASE WHEN lsn > $1 THEN bytes END FROM ( \
                   SELECT lsn, mark, bytes, sum(CASE WHEN lsn > $1 THEN octet_length(bytes) ELSE 0 END) \
                     OVER (ORDER BY lsn ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before \
                   FROM (SELECT lsn, mark, bytes FROM {entries} WHERE lsn >= $1 ORDER BY lsn LIMIT $2) AS next \
                 ) AS summed WHERE coalesce(before, 0) < $3 ORDER BY lsn"
            ),
            head: format!(
                "SELECT h.lsn, (SELECT e.mark FROM {entries} AS e WHERE e.lsn = h.lsn), pg_is_in_recovery() \
                 FROM {head} AS h"
            ),
            ends: format!("SELECT h.lsn, (SELECT min(e.lsn) FROM {entries} AS e) FROM {head} AS h"),
            trim: format!(
                "DELETE FROM {entries} WHERE lsn IN (SELECT e.lsn FROM {entries} AS e \
                   WHERE e.lsn < least($1, (SELECT h.lsn FROM {head} AS h)) ORDER BY e.lsn LIMIT $2) RETURNING lsn"
            ),
            begin: format!(
                "WITH begun AS (UPDATE {head} SET lsn = $1 WHERE lsn = 0 RETURNING lsn) \
                 INSERT INTO {entries} (lsn, mark, bytes) SELECT lsn, $2, $3 FROM begun RETURNING lsn"
            ),
        }
    }
}

impl Server {
    pub(super) fn new(schema: &str, appends: Link, reads: Link) -> Self {
        Self { appends, reads, history: History::default(), sql: Sql::of(schema) }
    }

    /// Puts an entry at the end.
    pub(super) async fn append(&self, entry: &[u8]) -> Result<Lsn, Failure> {
        let (known, known_mark) = self.history.newest();
        let mark = new_mark();
        let values = [
            (&sql(known) as _, Type::INT8),
            (&known_mark as _, Type::INT8),
            (&mark as _, Type::INT8),
            (&entry as _, Type::BYTEA),
        ];
        let rows = self.appends.query(&self.sql.append, &values).await?;
        let lsn = lsn(rows.first().ok_or_else(|| Failure::Damaged("an append has no position".into()))?, 0)?;
        self.note(lsn, mark)?;
        Ok(lsn)
    }

    /// Position of the last entry.
    pub(super) async fn head(&self) -> Result<Lsn, Failure> {
        // What is noted while we ask may be newer than the answer.
        let (known, known_mark) = self.history.newest();
        let rows = self.reads.query(&self.sql.head, &[]).await?;
        let row = rows.first().ok_or_else(no_head)?;
        if row.try_get::<_, bool>(2).unwrap_or(true) {
            self.reads.reset().await;
            return Err(Failure::NotDone("the server has become a replica".into()));
        }
        let head = lsn(row, 0)?;
        if head < known {
            return Err(Failure::Lost(format!("the journal ends at {head}, but entry {known} was there").into()));
        }
        // A newer head may be of another history: its mark counts once what leads there was read.
        let mark = row.try_get::<_, Option<i64>>(1).unwrap_or_default();
        if head == known && known > Lsn(0) && mark != Some(known_mark) {
            return Err(Failure::Lost(format!("entry {known} is another one than was there").into()));
        }
        Ok(head)
    }

    /// First and last position; the first is one past the last if there was never an entry.
    pub(super) async fn ends(&self) -> Result<(Lsn, Lsn), Failure> {
        let rows = self.reads.query(&self.sql.ends, &[]).await?;
        let row = rows.first().ok_or_else(no_head)?;
        let head = lsn(row, 0)?;
        match row.try_get::<_, Option<i64>>(1) {
            Ok(Some(first)) => Ok((Lsn(first.unsigned_abs()), head)),
            Ok(None) => Ok((Lsn(head.0 + 1), head)),
            Err(error) => Err(Failure::Damaged(error.to_string().into())),
        }
    }

    /// The entries after `after`, at most `limit`, fewer if they are large. None where `after` is the head, and where the
    /// entry behind it is not there.
    pub(super) async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Vec<u8>)>, Failure> {
        // One more for the entry asked from.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(i64::from(after.0 > 0));
        let values = [(&sql(after) as _, Type::INT8), (&limit as _, Type::INT8), (&READ_BYTES_MAX as _, Type::INT8)];
        let rows = self.reads.query(&self.sql.read, &values).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let at = lsn(row, 0)?;
            self.note(at, row.try_get(1).map_err(|error| Failure::Damaged(error.to_string().into()))?)?;
            if at > after {
                let bytes = row.try_get(2).map_err(|error| Failure::Damaged(error.to_string().into()))?;
                entries.push((at, bytes));
            }
        }
        Ok(entries)
    }

    /// Forgets some of the entries before `before`, never the last one; tells whether there may be more.
    pub(super) async fn trim_some(&self, before: Lsn) -> Result<bool, Failure> {
        let values = [(&sql(before) as _, Type::INT8), (&TRIM_STEP as _, Type::INT8)];
        let rows = self.reads.query(&self.sql.trim, &values).await?;
        Ok(i64::try_from(rows.len()).is_ok_and(|forgotten| forgotten >= TRIM_STEP))
    }

    /// Puts the first entry of an empty journal at a position of its own; `false` if the journal is not empty.
    pub(super) async fn begin_at(&self, at: Lsn, entry: &[u8]) -> Result<bool, Failure> {
        let values = [(&sql(at) as _, Type::INT8), (&new_mark() as _, Type::INT8), (&entry as _, Type::BYTEA)];
        Ok(!self.appends.query(&self.sql.begin, &values).await?.is_empty())
    }

    fn note(&self, lsn: Lsn, mark: i64) -> Result<(), Failure> {
        self.history.note(lsn, mark).map_err(|reason| Failure::Lost(reason.into()))
    }
}

fn no_head() -> Failure {
    Failure::Damaged("the journal has no head".into())
}

fn new_mark() -> i64 {
    Uuid::new_v4().as_u64_pair().1.cast_signed()
}

/// A position as PostgreSQL keeps it; ours never come near its end.
fn sql(lsn: Lsn) -> i64 {
    i64::try_from(lsn.0).unwrap_or(i64::MAX)
}

fn lsn(row: &Row, column: usize) -> Result<Lsn, Failure> {
    let number = row.try_get::<_, i64>(column).map_err(|error| Failure::Damaged(error.to_string().into()))?;
    u64::try_from(number).map(Lsn).map_err(|_| Failure::Damaged(format!("position {number}").into()))
}
