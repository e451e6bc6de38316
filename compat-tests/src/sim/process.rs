//! A seed in a process of its own, in which nothing is of chance.
//!
//! The order of a hash map, and the order in which tokio wakes those who wait for one thing, are of chance in every process. All of it
//! comes from `getrandom`, which lets itself be replaced: the process is started with one that tells the same bytes to the same seed
//! (`even.c`). A process runs one seed, for tokio's next runtime begins elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::run::Run;

/// Says in a process that it is one of these, and what its seed is.
pub const SEED: &str = "STREAMHOUSE_SIM_SEED";
/// What switches a deliberate bug on, as it does everywhere; see `metadata::failpoint`.
const FAILPOINTS: &str = "FAILPOINTS";
const EVEN: &str = include_str!("even.c");
/// A seed takes a second or two.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// What a process says of its run, in one line behind the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Acked sends.
    pub acked: u64,
    /// Acked commits of offsets.
    pub commits: u64,
    /// Merged objects that there were in the end.
    pub merged: u64,
    /// Faults, in their order, with the simulated milliseconds at which they struck.
    pub faults: Vec<(u64, String)>,
    /// What was broken, by the names of the checker's rules.
    pub broken: BTreeMap<String, Vec<String>>,
    /// What else went wrong.
    pub failed: Vec<String>,
    /// CRC-32C of the log, if there is one.
    pub log_crc: u32,
}

impl Told {
    /// What there is to say of a run.
    pub fn of(run: &Run) -> Self {
        let millis = |at: Duration| u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        Self {
            acked: run.acked,
            commits: run.commits,
            merged: run.merged,
            faults: run.faults.iter().map(|(at, fault)| (millis(*at), format!("{fault:?}"))).collect(),
            broken: run.broken.iter().map(|(rule, said)| (format!("{rule:?}"), said.clone())).collect(),
            failed: run.failed.clone(),
            log_crc: crc32c::crc32c(run.log.as_bytes()),
        }
    }

    /// Whether all promises were kept.
    pub fn is_sound(&self) -> bool {
        self.broken.is_empty() && self.failed.is_empty()
    }
}

/// Starts the processes.
#[derive(Debug)]
pub struct Processes {
    program: PathBuf,
    even: PathBuf,
    _folder: TempDir,
}

impl Processes {
    /// Makes what they are started with. `program` is `sim`.
    ///
    /// # Errors
    /// If there is no C compiler, or no Linux.
    pub async fn new(program: &Path) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let even = folder.path().join("even.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-x", "c", "-o"]).arg(&even).arg("-").stdin(Stdio::piped());
        let mut compiling = compiler.spawn().map_err(|error| io::Error::other(format!("cc: {error}")))?;
        let mut source = compiling.stdin.take().ok_or_else(|| io::Error::other("cc has no input"))?;
        source.write_all(EVEN.as_bytes()).await?;
        drop(source);
        let compiled = compiling.wait().await?;
        match compiled.success() {
            true => Ok(Self { program: program.to_owned(), even, _folder: folder }),
            false => Err(io::Error::other(format!("cc: {compiled}"))),
        }
    }

    /// The process of a seed, to be started as the caller likes; `bug` as of [`super::bugs`].
    pub fn of(&self, seed: u64, bug: Option<&str>) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(seed.to_string()).env("LD_PRELOAD", &self.even).env(SEED, seed.to_string()).env_remove(FAILPOINTS);
        if let Some(bug) = bug {
            command.arg("--bug").arg(bug).env(FAILPOINTS, format!("{bug}=return"));
        }
        command
    }

    /// Runs a seed: its log, if that is wanted, and what it came to.
    ///
    /// # Errors
    /// If the process does not end in time, or ends without a word; what it said is in the error.
    pub async fn run(&self, seed: u64, bug: Option<&str>, with_log: bool) -> io::Result<(String, Told)> {
        let mut command = self.of(seed, bug);
        if with_log {
            command.arg("--log");
        }
        let ended = timeout(ENDS_WITHIN, command.kill_on_drop(true).output()).await;
        let ended =
            ended.map_err(|_| io::Error::other(format!("seed {seed} did not end within {ENDS_WITHIN:?}")))??;
        let said = String::from_utf8_lossy(&ended.stdout);
        let said = said.trim_end();
        let (log, last) = said.rsplit_once('\n').unwrap_or(("", said));
        let died = |status: ExitStatus| {
            let complaint = String::from_utf8_lossy(&ended.stderr);
            io::Error::other(format!("seed {seed} ended with {status}: {}", complaint.trim()))
        };
        let told = serde_json::from_str(last).map_err(|_| died(ended.status))?;
        Ok((log.to_owned(), told))
    }
}
