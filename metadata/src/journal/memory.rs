//! A journal in memory that can misbehave in every way a real one can, the same way again for the same seed.
//!
//! What may happen to an append is (did it happen) x (was it told), and *late*: not told, and happening after the next one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::backoff::SplitMix;
use crate::codec::{decode_entry, encode_entry};
use crate::command::Entry;
use crate::error::{AppendError, ReadError};
use crate::journal::Journal;
use crate::model::ids::Lsn;

/// What goes wrong with one append. That it happens and is told is the case without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    /// It happens; the writer hears [`AppendError::Unknown`].
    AnswerLost,
    /// It does not happen; the writer hears [`AppendError::KnownNotWritten`].
    Refused,
    /// It does not happen; the writer hears [`AppendError::Unknown`].
    RequestLost,
    /// The writer hears [`AppendError::Unknown`]; it happens right after the next append that happens.
    Late,
    /// It does not happen, for ever: the writer hears [`AppendError::Fenced`].
    TakenOver,
    /// It happens and is told, but only after this long.
    Stall(Duration),
}

/// How often things go wrong by chance, each per thousand calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chances {
    /// [`AppendFault::AnswerLost`].
    pub answer_lost: u32,
    /// [`AppendFault::Refused`].
    pub refused: u32,
    /// [`AppendFault::RequestLost`].
    pub request_lost: u32,
    /// [`AppendFault::Late`].
    pub late: u32,
    /// [`AppendFault::Stall`] of up to `stall_max`.
    pub stall: u32,
    /// Longest stall by chance.
    pub stall_max: Duration,
    /// A read, head or trim that fails with [`ReadError::Unavailable`].
    pub read_failed: u32,
}

/// A journal in memory. Several gateways of a test share one.
#[derive(Debug)]
pub struct MemoryJournal {
    log: Mutex<Log>,
    head: watch::Sender<Lsn>,
    held: watch::Sender<bool>,
}

#[derive(Debug)]
struct Log {
    /// Encoded, so that what is read went through the codec.
    entries: VecDeque<Vec<u8>>,
    first: u64,
    late: Vec<Vec<u8>>,
    script: VecDeque<AppendFault>,
    chances: Chances,
    random: SplitMix,
    is_away: bool,
    appends: u64,
    heads: u64,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::with_chances(0, Chances::default())
    }
}

impl MemoryJournal {
    /// A journal whose calls go wrong by chance, decided by `seed` and the order of the calls.
    pub fn with_chances(seed: u64, chances: Chances) -> Self {
        let log = Log {
            entries: VecDeque::new(),
            first: 1,
            late: Vec::new(),
            script: VecDeque::new(),
            chances,
            random: SplitMix(seed),
            is_away: false,
            appends: 0,
            heads: 0,
        };
        Self { log: Mutex::new(log), head: watch::Sender::new(Lsn(0)), held: watch::Sender::new(false) }
    }

    /// The next appends go wrong like this, one after the other, before chance decides again.
    pub fn script(&self, faults: impl IntoIterator<Item = AppendFault>) {
        self.log().script.extend(faults);
    }

    /// Sets the chances from here on.
    pub fn set_chances(&self, chances: Chances) {
        self.log().chances = chances;
    }

    /// While held, appends wait before they do anything.
    pub fn hold_appends(&self, is_held: bool) {
        self.held.send_replace(is_held);
    }

    /// While away, every call fails at once and does nothing.
    pub fn set_away(&self, is_away: bool) {
        self.log().is_away = is_away;
    }

    /// How many appends were asked for, whatever came of them.
    pub fn appends(&self) -> u64 {
        self.log().appends
    }

    /// How many times the head was asked for.
    pub fn heads(&self) -> u64 {
        self.log().heads
    }

    /// Appends at once, past faults and holds: another writer.
    pub fn append_now(&self, entry: &Entry) {
        self.write(entry, None).expect("the journal is not away");
    }

    /// Appends bytes as they are: what some other build wrote.
    pub fn append_bytes(&self, bytes: Vec<u8>) {
        let mut log = self.log();
        log.entries.push_back(bytes);
        let head = log.head();
        drop(log);
        self.head.send_replace(head);
    }

    /// Flips a bit in the middle of a kept entry.
    pub fn damage(&self, lsn: Lsn) {
        let mut log = self.log();
        let at = usize::try_from(lsn.0 - log.first).expect("small in tests");
        if let Some(bytes) = log.entries.get_mut(at) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nothing panics while it holds the journal")
    }

    fn check_reading(&self) -> Result<(), ReadError> {
        let mut log = self.log();
        let failed = log.chances.read_failed;
        if log.is_away || log.happens(failed) {
            return Err(ReadError::Unavailable("injected".into()));
        }
        Ok(())
    }

    /// Writes, unless `fault` says otherwise.
    fn write(&self, entry: &Entry, fault: Option<AppendFault>) -> Result<Lsn, AppendError> {
        let mut log = self.log();
        if log.is_away {
            return Err(AppendError::KnownNotWritten("away".into()));
        }
        let bytes = encode_entry(entry);
        match fault {
            Some(AppendFault::Refused) => return Err(AppendError::KnownNotWritten("injected".into())),
            Some(AppendFault::RequestLost) => return Err(AppendError::Unknown("injected".into())),
            Some(AppendFault::TakenOver) => return Err(AppendError::Fenced),
            Some(AppendFault::Late) => {
                log.late.push(bytes);
                return Err(AppendError::Unknown("injected".into()));
            }
            Some(AppendFault::AnswerLost | AppendFault::Stall(_)) | None => {}
        }
        log.entries.push_back(bytes);
        let lsn = log.head();
        let late = std::mem::take(&mut log.late);
        log.entries.extend(late);
        let head = log.head();
        drop(log);
        self.head.send_replace(head);
        if fault == Some(AppendFault::AnswerLost) { Err(AppendError::Unknown("injected".into())) } else { Ok(lsn) }
    }
}

impl Log {
    fn head(&self) -> Lsn {
        Lsn(self.first + self.entries.len() as u64 - 1)
    }

    fn happens(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.random.next() % 1_000 < u64::from(per_thousand)
    }

    fn next_fault(&mut self) -> Option<AppendFault> {
        self.appends += 1;
        if let Some(fault) = self.script.pop_front() {
            return Some(fault);
        }
        let chances = self.chances;
        if self.happens(chances.answer_lost) {
            Some(AppendFault::AnswerLost)
        } else if self.happens(chances.refused) {
            Some(AppendFault::Refused)
        } else if self.happens(chances.request_lost) {
            Some(AppendFault::RequestLost)
        } else if self.happens(chances.late) {
            Some(AppendFault::Late)
        } else if self.happens(chances.stall) {
            let fraction = self.random.fraction();
            Some(AppendFault::Stall(chances.stall_max.mul_f64(fraction)))
        } else {
            None
        }
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        let mut held = self.held.subscribe();
        let _ = held.wait_for(|is_held| !is_held).await; // the sender lives in self
        let fault = self.log().next_fault();
        if let Some(AppendFault::Stall(pause)) = fault {
            tokio::time::sleep(pause).await;
        }
        self.write(entry, fault)
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        self.check_reading()?;
        let log = self.log();
        if after.0 + 1 < log.first {
            return Err(ReadError::Trimmed { after, first: Lsn(log.first) });
        }
        let skipped = usize::try_from(after.0 + 1 - log.first).unwrap_or(usize::MAX);
        let decode = |(lsn, bytes): (u64, &Vec<u8>)| match decode_entry(bytes) {
            Ok(entry) => Ok((Lsn(lsn), entry)),
            Err(error) => Err(ReadError::Corrupt(format!("entry {lsn}: {error}").into())),
        };
        (after.0 + 1..).zip(log.entries.iter().skip(skipped).take(limit)).map(decode).collect()
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        self.log().heads += 1;
        tokio::task::yield_now().await; // as a journal that is asked over a wire
        self.check_reading()?;
        Ok(self.log().head())
    }

    fn tail(&self) -> watch::Receiver<Lsn> {
        self.head.subscribe()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        self.check_reading()?;
        let mut log = self.log();
        while log.first < before.0 && log.entries.len() > 1 {
            log.entries.pop_front();
            log.first += 1;
        }
        Ok(())
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        self.check_reading()?;
        Ok(Lsn(self.log().first))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::contract;
    use crate::journal::contract::entry;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        contract::every_case(async || Arc::new(MemoryJournal::default()) as Arc<dyn Journal>).await;
    }

    async fn sequences(journal: &MemoryJournal) -> Vec<u64> {
        journal.read(Lsn(0), usize::MAX).await.unwrap().iter().map(|(_, entry)| entry.sequence).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_fault_does_and_tells_what_it_says() {
        let journal = MemoryJournal::default();
        let stall = Duration::from_secs(3);
        journal.script([
            AppendFault::AnswerLost,
            AppendFault::Refused,
            AppendFault::RequestLost,
            AppendFault::Late,
            AppendFault::TakenOver,
            AppendFault::Stall(stall),
        ]);
        assert!(matches!(journal.append(&entry(1)).await, Err(AppendError::Unknown(_))));
        assert!(matches!(journal.append(&entry(2)).await, Err(AppendError::KnownNotWritten(_))));
        assert!(matches!(journal.append(&entry(3)).await, Err(AppendError::Unknown(_))));
        assert!(matches!(journal.append(&entry(4)).await, Err(AppendError::Unknown(_))));
        assert_eq!(journal.append(&entry(5)).await, Err(AppendError::Fenced));
        assert_eq!(sequences(&journal).await, [1], "the late one has not happened yet");
        let before = tokio::time::Instant::now();
        assert_eq!(journal.append(&entry(6)).await, Ok(Lsn(2)));
        assert_eq!(before.elapsed(), stall);
        assert_eq!(sequences(&journal).await, [1, 6, 4]);
        assert_eq!(*journal.tail().borrow(), Lsn(3));
    }

    #[tokio::test]
    async fn chance_repeats_itself_for_a_seed() {
        let chances = Chances { answer_lost: 200, refused: 200, request_lost: 200, late: 200, ..Chances::default() };
        let mut histories = Vec::new();
        for seed in [1, 1, 2] {
            let journal = MemoryJournal::with_chances(seed, chances);
            for sequence in 1..=100 {
                let _ = journal.append(&entry(sequence)).await; // whatever chance makes of it
            }
            histories.push(sequences(&journal).await);
        }
        assert_eq!(histories[0], histories[1]);
        assert_ne!(histories[0], histories[2]);
    }
}
