//! The file itself: one table, one connection, one owner.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{FILE_NAME, OpenError, Row};
use crate::error::{AppendError, ReadError};
use crate::model::ids::Lsn;

/// Format of the file, in `PRAGMA user_version`; raised when its meaning changes.
const FORMAT: i64 = 1;
/// Tells our files from other SQLite files, in `PRAGMA application_id`: "SHJ1".
const APPLICATION: i64 = 0x5348_4a31;
/// Bytes of entries in one read, unless the first alone has more.
const READ_BYTES_MAX: usize = 32 << 20;
/// Entries forgotten in one transaction.
const TRIM_STEP: u64 = 1_000;
/// The write-ahead log is cut back to this after a checkpoint, bytes.
const WAL_KEPT_BYTES: i64 = 64 << 20;
/// Bytes in the write-ahead log past which it is written back into the file when no one waits, and in any case. SQLite itself
/// would do it inside a commit every 4 MiB, and whoever waits for that commit would wait for it.
const WRITE_BACK_IDLE_BYTES: usize = 16 << 20;
const WRITE_BACK_MAX_BYTES: usize = 64 << 20;
/// What a transaction takes in the write-ahead log beside the entries, and what forgetting some entries takes, about.
const TRANSACTION_BYTES: usize = 8 << 10;
const TRIM_STEP_BYTES: usize = 256 << 10;

/// The open file and what is known of its ends.
#[derive(Debug)]
pub(super) struct JournalFile {
    connection: Connection,
    first: u64,
    head: u64,
    /// A commit failed: the head must be asked of the file before the next append.
    is_head_uncertain: bool,
    /// Bytes in the write-ahead log that are not written back yet, about.
    unwritten: usize,
}

impl JournalFile {
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        make_folder(folder)?;
        let path = folder.join(FILE_NAME);
        let problem = |error: rusqlite::Error| open_error(folder, &path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(problem)?;
        connection.busy_timeout(std::time::Duration::ZERO).map_err(problem)?;
        lock(&mut connection, &path).map_err(|refused| match refused {
            Refused::Sqlite(error) => problem(error),
            Refused::Open(error) => error,
        })?;
        let ends = "SELECT coalesce(min(lsn), 1), coalesce(max(lsn), 0), count(*) FROM entries";
        let (first, head, count) = connection
            .query_row(ends, [], |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?)))
            .map_err(problem)?;
        if head + 1 - first != count {
            let reason = format!("of the entries {first} to {head} only {count} are there");
            return Err(OpenError::Corrupt { path, reason });
        }
        // What a process that died left there is written back at the first occasion.
        Ok(Self { connection, first, head, is_head_uncertain: false, unwritten: WRITE_BACK_IDLE_BYTES })
    }

    /// Puts the first entry of an empty file at a position of its own.
    pub(super) fn begin_at(&mut self, lsn: Lsn, entry: Vec<u8>) -> Result<(), AppendError> {
        if self.head != 0 {
            return Err(AppendError::KnownNotWritten("there is a journal already".into()));
        }
        (self.first, self.head) = (lsn.0, lsn.0 - 1);
        self.append(&[entry]).map(drop)
    }

    pub(super) fn head(&self) -> Lsn {
        Lsn(self.head)
    }

    pub(super) fn first(&self) -> Lsn {
        Lsn(self.first)
    }

    /// Appends all entries or none, in one synced transaction.
    ///
    /// A failure before the commit began leaves nothing behind. When the commit itself fails, SQLite rolls back, but the
    /// commit record may have reached the disk, and then counts after a crash: unknown. In this process the same places of
    /// the write-ahead log are written again by the next commit, so the connection stays in use.
    pub(super) fn append(&mut self, entries: &[Vec<u8>]) -> Result<RangeInclusive<Lsn>, AppendError> {
        let inserted = self.insert(entries);
        if let Err(error) = inserted {
            self.roll_back();
            return Err(match damage(&error) {
                Some(reason) => AppendError::Corrupt(reason.into()),
                None => AppendError::KnownNotWritten(error.to_string().into()),
            });
        }
        if let Err(error) = self.connection.execute_batch("COMMIT") {
            self.roll_back();
            self.is_head_uncertain = true;
            return Err(AppendError::Unknown(error.to_string().into()));
        }
        let first = self.head + 1;
        self.head += entries.len() as u64;
        self.unwritten += entries.iter().map(Vec::len).sum::<usize>() + TRANSACTION_BYTES;
        Ok(Lsn(first)..=Lsn(self.head))
    }

    /// The entries after `after`, at most `limit`, fewer if they are large.
    pub(super) fn read(&self, after: Lsn, limit: usize) -> Result<Vec<Row>, ReadError> {
        if after.0 + 1 < self.first {
            return Err(ReadError::Trimmed { after, first: self.first() });
        }
        let mut select = self
            .connection
            .prepare_cached("SELECT lsn, bytes FROM entries WHERE lsn > ?1 ORDER BY lsn LIMIT ?2")
            .map_err(read_error)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = select.query((sql(after.0), limit)).map_err(read_error)?;
        let (mut entries, mut bytes_read) = (Vec::new(), 0);
        while let Some(row) = rows.next().map_err(read_error)? {
            let lsn = number(row, 0).map_err(read_error)?;
            let bytes: Vec<u8> = row.get(1).map_err(read_error)?;
            bytes_read += bytes.len();
            entries.push((Lsn(lsn), bytes));
            if bytes_read >= READ_BYTES_MAX {
                break;
            }
        }
        Ok(entries)
    }

    /// Forgets some of the entries before `before`, never the last entry; tells whether all are gone.
    pub(super) fn trim_some(&mut self, before: Lsn) -> Result<bool, ReadError> {
        let end = before.0.min(self.head);
        if end <= self.first {
            return Ok(true);
        }
        let step = end.min(self.first.saturating_add(TRIM_STEP));
        self.connection
            .prepare_cached("DELETE FROM entries WHERE lsn < ?1")
            .and_then(|mut delete| delete.execute([sql(step)]))
            .map_err(read_error)?;
        self.first = step;
        self.unwritten += TRIM_STEP_BYTES;
        Ok(step == end)
    }

    /// Writes the write-ahead log back if it is long; no answer must wait for this. If it fails, nothing is lost: it is tried
    /// again when as much more has come, and when the file is opened.
    pub(super) fn write_back(&mut self, is_idle: bool) -> bool {
        if self.unwritten < if is_idle { WRITE_BACK_IDLE_BYTES } else { WRITE_BACK_MAX_BYTES } {
            return false;
        }
        self.unwritten = 0;
        let written = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0));
        if let Err(error) = &written {
            tracing::warn!(%error, "the journal's write-ahead log was not written back");
        }
        written.is_ok_and(|busy| busy == 0)
    }

    fn insert(&mut self, entries: &[Vec<u8>]) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        if self.is_head_uncertain {
            let head = self.connection.query_row("SELECT coalesce(max(lsn), 0) FROM entries", [], |row| number(row, 0));
            self.head = head?;
            self.is_head_uncertain = false;
        }
        let mut insert = self.connection.prepare_cached("INSERT INTO entries (lsn, bytes) VALUES (?1, ?2)")?;
        for (lsn, bytes) in (self.head + 1..).zip(entries) {
            insert.execute((sql(lsn), bytes))?;
        }
        Ok(())
    }

    /// Changes the open file behind our back.
    #[cfg(test)]
    pub(super) fn tamper(&self, sql: &str) {
        self.connection.execute_batch(sql).expect("valid SQL");
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a failed append was not rolled back");
        }
    }
}

/// Why the file was not taken.
enum Refused {
    Sqlite(rusqlite::Error),
    Open(OpenError),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Takes the file for this process and makes the table if it is new. The first read already fails if another process has
/// the file, before anything is written.
fn lock(connection: &mut Connection, path: &Path) -> Result<(), Refused> {
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let found = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
    if found > FORMAT {
        return Err(Refused::Open(OpenError::Newer { path: path.to_owned(), found, known: FORMAT }));
    }
    let application = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0))?;
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| number(row, 0))?;
    let is_new = found == 0 && application == 0 && tables == 0;
    if !is_new && application != APPLICATION {
        let reason = "it is a database of something else".to_owned();
        return Err(Refused::Open(OpenError::Corrupt { path: path.to_owned(), reason }));
    }
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let reason = format!("the file system does not allow a write-ahead log (journal mode {mode})");
        return Err(Refused::Open(OpenError::Io { path: path.to_owned(), reason }));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "fullfsync", true)?; // where fsync alone does not reach the disk (macOS)
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?; // see `write_back`
    let take = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    if is_new {
        take.execute_batch("CREATE TABLE entries (lsn INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT")?;
        take.pragma_update(None, "application_id", APPLICATION)?;
        take.pragma_update(None, "user_version", FORMAT)?;
    }
    take.commit()?;
    Ok(())
}

/// Makes the folder, durably: an entry in a folder that is gone after a power loss would be no entry.
fn make_folder(folder: &Path) -> Result<(), OpenError> {
    if folder.is_dir() {
        return Ok(());
    }
    let problem =
        |path: &Path, error: std::io::Error| OpenError::Io { path: path.to_owned(), reason: error.to_string() };
    std::fs::create_dir_all(folder).map_err(|error| problem(folder, error))?;
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    for synced in [folder, parent] {
        File::open(synced).and_then(|opened| opened.sync_all()).map_err(|error| problem(synced, error))?;
    }
    Ok(())
}

/// A number of ours as SQLite keeps it; LSNs never come near its end.
fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn open_error(folder: &Path, path: &Path, error: &rusqlite::Error) -> OpenError {
    if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) {
        OpenError::Locked { folder: folder.to_owned() }
    } else if let Some(reason) = damage(error) {
        OpenError::Corrupt { path: path.to_owned(), reason }
    } else {
        OpenError::Io { path: path.to_owned(), reason: error.to_string() }
    }
}

fn read_error(error: rusqlite::Error) -> ReadError {
    match damage(&error) {
        Some(reason) => ReadError::Corrupt(reason.into()),
        None => ReadError::Unavailable(error.to_string().into()),
    }
}

/// What is broken, if the error says that the file is.
fn damage(error: &rusqlite::Error) -> Option<String> {
    let is_damage = match error.sqlite_error_code() {
        Some(code) => {
            matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation)
        }
        None => matches!(error, rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..)),
    };
    is_damage.then(|| error.to_string())
}
