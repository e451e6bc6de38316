//! The file journal: the contract, its lock, its damage, and processes that die.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file::JournalFile;
use super::*;
use crate::command::{Command, Outcome};
use crate::handle::{Metadata, MetadataParts};
use crate::journal::contract;
use crate::journal::contract::entry;
use crate::snapshot::MemorySnapshots;

/// Set for a test that runs as a second process: the folder to work in.
const CHILD_FOLDER: &str = "JOURNAL_TEST_CHILD_FOLDER";

fn open(folder: &Path) -> Arc<SqliteJournal> {
    Arc::new(SqliteJournal::open(folder).expect("it opens"))
}

/// Runs the test `name` of this file again, as a process of its own.
fn child(name: &str, folder: &Path, failpoints: &str) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args([&format!("journal::sqlite::tests::{name}"), "--exact", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .env("FAILPOINTS", failpoints)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What each file of a folder holds.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let counter = std::sync::atomic::AtomicU32::new(0);
    contract::every_case(async || {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        open(&folder.path().join(number.to_string())) as Arc<dyn Journal>
    })
    .await;
    contract::survives_reopening(async || open(&folder.path().join("reopened/deep")) as Arc<dyn Journal>).await;
}

#[tokio::test]
async fn a_trim_of_many_entries_lets_appends_through_and_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = JournalFile::open(folder.path()).unwrap();
    for group in 0..50_u64 {
        let entries: Vec<_> = (1..=100).map(|at| crate::codec::encode_entry(&entry(group * 100 + at))).collect();
        file.append(&entries).unwrap();
    }
    drop(file);
    let journal = open(folder.path());
    let trimming = journal.trim(Lsn(4_501));
    let more = entry(5_001);
    let appending = journal.append(&more);
    let (trimmed, appended) = tokio::join!(trimming, appending);
    assert_eq!((trimmed, appended), (Ok(()), Ok(Lsn(5_001))));
    assert_eq!(journal.first().await, Ok(Lsn(4_501)));
    assert_eq!(journal.read(Lsn(4_500), 1).await.unwrap()[0], (Lsn(4_501), entry(4_501)));
}

#[test]
fn the_write_ahead_log_is_written_back_when_no_one_waits_or_it_is_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = JournalFile::open(folder.path()).unwrap();
    assert!(file.write_back(true), "what an earlier process may have left");
    let size = |name: String| std::fs::metadata(folder.path().join(name)).unwrap().len() >> 20;
    let (whole, log) = (|| size(FILE_NAME.to_owned()), || size(format!("{FILE_NAME}-wal")));
    let mut idle = Vec::new();
    for number in 1..=80 {
        file.append(&[vec![7; 1 << 20]]).unwrap();
        idle.extend(file.write_back(number < 40).then_some(number));
    }
    // Busy from the 40th on: 64 MiB behind the 32nd would be the 96th.
    assert_eq!((idle, whole()), (vec![16, 32], 32));
    assert!((48..52).contains(&log()), "{} MiB", log());
    (0..20).for_each(|_| drop(file.append(&[vec![7; 1 << 20]]).map(|_| file.write_back(false))));
    assert!(whole() > 90, "long enough to be written back while others wait");
}

#[test]
fn a_second_opening_is_refused_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let before = contents(folder.path());
    let refused = SqliteJournal::open(folder.path()).expect_err("it is locked");
    assert_eq!(refused, OpenError::Locked { folder: folder.path().to_owned() });
    assert!(refused.to_string().contains(folder.path().to_str().unwrap()), "{refused}");
    assert!(refused.to_string().contains("--data"), "{refused}");
    assert_eq!(contents(folder.path()), before);
    drop(journal);
    open(folder.path());
}

/// Two processes on one folder: the second is refused; a killed one leaves no lock and loses nothing acked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_it_acked_and_leaves_no_lock() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        let journal = open(Path::new(&folder));
        for sequence in 1.. {
            println!("acked {}", journal.append(&entry(sequence)).await.unwrap());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut process = child("a_killed_process_loses_nothing_it_acked_and_leaves_no_lock", folder.path(), "");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acked = lines.by_ref().filter_map(|line| line.split_once("acked ")?.1.parse::<u64>().ok());
    assert_eq!(acked.find(|lsn| *lsn >= 20), Some(20));
    let refused = SqliteJournal::open(folder.path()).expect_err("the other process has it");
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    process.kill().unwrap();
    let last = acked.last().unwrap_or(20);
    process.wait().unwrap();
    let journal = open(folder.path());
    let head = journal.head().await.unwrap();
    assert!(head.0 == last || head.0 == last + 1, "acked {last}, found {head}");
    for (expected, (lsn, read)) in (1..).zip(journal.read(Lsn(0), usize::MAX).await.unwrap()) {
        assert_eq!((lsn, read), (Lsn(expected), entry(expected)));
    }
    assert_eq!(journal.append(&entry(1)).await, Ok(Lsn(head.0 + 1)));
}

/// L1, L4 at the journal's two named points: a process that dies before the append has written nothing; one that dies after
/// it has written the entry whole, though it told no one.
#[tokio::test]
async fn a_process_that_dies_at_a_named_point_leaves_a_whole_journal() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        crate::failpoint::arm_from_env();
        let parts = MetadataParts::for_tests(1, open(Path::new(&folder)), Arc::new(MemorySnapshots::default()));
        let metadata = Metadata::start(parts).await.unwrap();
        loop {
            match metadata.submit(Command::AllocateProducerIds { count: 1 }).await.unwrap() {
                Outcome::ProducerIds(id) => println!("acked {id}"),
                other => panic!("{other:?}"),
            }
        }
    }
    for (point, written_unheard) in [("journal::before_append", 0), ("journal::after_append", 1)] {
        let folder = tempfile::tempdir().unwrap();
        // The first append opens the session, the next three are acked, the fifth dies.
        let name = "a_process_that_dies_at_a_named_point_leaves_a_whole_journal";
        let process = child(name, folder.path(), &format!("{point}=4*off->return"));
        let output = process.wait_with_output().unwrap();
        assert!(!output.status.success(), "it died");
        let acked = String::from_utf8(output.stdout).unwrap().matches("acked ").count() as i64;
        assert_eq!(acked, 3, "{point}");
        let parts = MetadataParts::for_tests(1, open(folder.path()), Arc::new(MemorySnapshots::default()));
        let metadata = Metadata::start(parts).await.unwrap();
        let next = metadata.submit(Command::AllocateProducerIds { count: 1 }).await;
        assert_eq!(next, Ok(Outcome::ProducerIds(crate::model::ids::ProducerId(acked + written_unheard))), "{point}");
    }
}

/// Group commit: a thousand commands at once need far fewer entries, and few syncs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_commands_at_once_share_entries() {
    let folder = tempfile::tempdir().unwrap();
    let parts = MetadataParts::for_tests(1, open(folder.path()), Arc::new(MemorySnapshots::default()));
    let metadata = Metadata::start(parts).await.unwrap();
    // What a thousand would take one after the other, by what some do on this disk now.
    const ALONE: u32 = 20;
    let started = Instant::now();
    for _ in 0..ALONE {
        metadata.submit(Command::AllocateProducerIds { count: 1 }).await.unwrap();
    }
    let one_by_one = started.elapsed() * (1_000 / ALONE);
    let before = metadata.barrier().await.unwrap().0;
    let started = Instant::now();
    let submits: tokio::task::JoinSet<_> = (0..1_000)
        .map(|_| {
            let metadata = metadata.clone();
            async move { metadata.submit(Command::AllocateProducerIds { count: 1 }).await }
        })
        .collect();
    let outcomes = submits.join_all().await;
    let took = started.elapsed();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::ProducerIds(_)))));
    let entries = metadata.barrier().await.unwrap().0 - before;
    assert!(entries < 250, "{entries} entries for 1,000 commands");
    assert!(took < Duration::from_secs(5).max(one_by_one / 2), "{took:?}, one by one {one_by_one:?}");
}

#[test]
fn a_full_disk_is_known_not_written_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = JournalFile::open(folder.path()).unwrap();
    let small = crate::codec::encode_entry(&entry(1));
    file.append(std::slice::from_ref(&small)).unwrap();
    file.tamper("PRAGMA max_page_count = 16");
    let refused = file.append(&[small.clone(), vec![0; 1 << 20]]);
    assert!(matches!(refused, Err(AppendError::KnownNotWritten(_))), "{refused:?}");
    assert_eq!(file.head(), Lsn(1));
    file.tamper("PRAGMA max_page_count = 1000000000");
    assert_eq!(file.append(&[small.clone(), small]), Ok(Lsn(2)..=Lsn(3)));
    assert_eq!(file.read(Lsn(0), 10).unwrap().len(), 3);
}

/// P6: a commit that fails has an unknown outcome, and the next append goes on from what the file then holds.
#[test]
fn a_failed_commit_is_unknown_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = JournalFile::open(folder.path()).unwrap();
    let bytes = crate::codec::encode_entry(&entry(1));
    file.append(std::slice::from_ref(&bytes)).unwrap();
    // A constraint that is checked at the commit only.
    file.tamper(
        "PRAGMA foreign_keys = ON;
         CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER orphan AFTER INSERT ON entries BEGIN INSERT INTO child VALUES (1); END",
    );
    let failed = file.append(&[bytes.clone(), bytes.clone()]);
    assert!(matches!(failed, Err(AppendError::Unknown(_))), "{failed:?}");
    assert_eq!(file.read(Lsn(0), 10).unwrap().len(), 1);
    file.tamper("DROP TRIGGER orphan");
    assert_eq!(file.append(&[bytes.clone(), bytes]), Ok(Lsn(2)..=Lsn(3)));
    assert_eq!(file.read(Lsn(0), 10).unwrap().len(), 3);
}

/// Runs SQL on a journal that is not open.
fn tamper(folder: &Path, sql: &str) {
    rusqlite::Connection::open(folder.join(FILE_NAME)).unwrap().execute_batch(sql).unwrap();
}

async fn journal_of_three(folder: &Path) {
    let journal = open(folder);
    for sequence in 1..=3 {
        journal.append(&entry(sequence)).await.unwrap();
    }
}

#[tokio::test]
async fn a_hole_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    journal_of_three(folder.path()).await;
    tamper(folder.path(), "DELETE FROM entries WHERE lsn = 2");
    let refused = SqliteJournal::open(folder.path()).expect_err("there is a hole");
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}

/// L7.
#[tokio::test]
async fn a_changed_entry_is_corrupt_not_data() {
    let folder = tempfile::tempdir().unwrap();
    journal_of_three(folder.path()).await;
    let flip =
        "UPDATE entries SET bytes = CAST(substr(bytes, 1, 20) || x'7f7f' || substr(bytes, 23) AS BLOB) WHERE lsn = 2";
    tamper(folder.path(), flip);
    let journal = open(folder.path());
    let read = journal.read(Lsn(0), 10).await;
    assert!(matches!(read, Err(ReadError::Corrupt(_))), "{read:?}");
    assert_eq!(journal.read(Lsn(2), 10).await.unwrap(), [(Lsn(3), entry(3))]);
}

/// L7: an entry that was cut anywhere is no shorter entry. (Goes red without the checksum of a frame: cut between two
/// commands, an entry still decodes.)
#[tokio::test]
async fn a_cut_entry_is_corrupt_not_a_shorter_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut two = entry(1);
    two.commands.push(Command::AllocateProducerIds { count: 1 });
    let journal = open(folder.path());
    journal.append(&two).await.unwrap();
    drop(journal);
    let whole = crate::codec::encode_entry(&two).len();
    for len in (0..whole).rev() {
        tamper(folder.path(), &format!("UPDATE entries SET bytes = CAST(substr(bytes, 1, {len}) AS BLOB)"));
        let read = open(folder.path()).read(Lsn(0), 10).await;
        assert!(matches!(read, Err(ReadError::Corrupt(_))), "{len} of {whole} bytes: {read:?}");
    }
}

/// L1, L4: whatever the power took of the end of the file, what is left are whole appends, and all of them that were synced
/// before. (Goes red when each entry of an append is committed by itself.)
#[tokio::test]
async fn a_torn_file_ends_with_a_whole_append() {
    const STEP: usize = 211;
    let (folder, torn) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut file = JournalFile::open(folder.path()).unwrap();
    let log = format!("{FILE_NAME}-wal");
    let (mut next, mut ends) = (1, vec![]);
    for entries in [1, 3, 2] {
        let encoded: Vec<_> = (next..next + entries).map(|at| crate::codec::encode_entry(&entry(at))).collect();
        file.append(&encoded).unwrap();
        next += entries;
        ends.push((next - 1, std::fs::metadata(folder.path().join(&log)).unwrap().len() as usize));
    }
    let (whole, bytes) = (contents(folder.path()), contents(folder.path()).remove(&log).unwrap());
    let mut heads = std::collections::BTreeSet::new();
    for len in (0..=bytes.len()).step_by(STEP).chain(ends.iter().map(|(_, end)| *end)) {
        std::fs::remove_dir_all(torn.path()).unwrap();
        std::fs::create_dir(torn.path()).unwrap();
        for (name, bytes) in &whole {
            std::fs::write(torn.path().join(name), if *name == log { &bytes[..len] } else { bytes }).unwrap();
        }
        let journal = open(torn.path());
        let head = journal.head().await.unwrap().0;
        let synced = ends.iter().filter(|(_, end)| *end <= len).map(|(head, _)| *head).max().unwrap_or(0);
        assert!(head >= synced && (head == 0 || ends.iter().any(|(end, _)| *end == head)), "{head} of {len} bytes");
        let wanted: Vec<_> = (1..=head).map(|at| (Lsn(at), entry(at))).collect();
        assert_eq!(journal.read(Lsn(0), 10).await.unwrap(), wanted);
        heads.insert(head);
    }
    assert_eq!(heads.into_iter().collect::<Vec<_>>(), [0, 1, 4, 6]);
}

#[tokio::test]
async fn a_damaged_page_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    journal_of_three(folder.path()).await;
    let path = folder.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4_096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let refused = SqliteJournal::open(folder.path()).expect_err("its table is unreadable");
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    std::fs::write(
        &path,
        b"this was never a database, and is long enough to have a header of one hundred bytes or so, is it not? yes",
    )
    .unwrap();
    let refused = SqliteJournal::open(folder.path()).expect_err("it is no database");
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}

#[tokio::test]
async fn a_newer_format_and_a_foreign_file_are_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    journal_of_three(folder.path()).await;
    tamper(folder.path(), "PRAGMA user_version = 9");
    let before = contents(folder.path());
    let refused = SqliteJournal::open(folder.path()).expect_err("too new");
    assert!(matches!(refused, OpenError::Newer { found: 9, known: 1, .. }), "{refused}");
    assert_eq!(contents(folder.path()), before);

    let foreign = tempfile::tempdir().unwrap();
    tamper(foreign.path(), "CREATE TABLE notes (text)");
    let before = contents(foreign.path());
    let refused = SqliteJournal::open(foreign.path()).expect_err("not ours");
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    assert_eq!(contents(foreign.path()), before);
}

#[test]
fn a_folder_that_cannot_be_made_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let refused = SqliteJournal::open(&file.join("data")).expect_err("a file is in the way");
    assert!(matches!(&refused, OpenError::Io { path, .. } if path.starts_with(&file)), "{refused}");
}
