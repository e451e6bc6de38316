//! The client programs in `clients/`: built once, and run against a gateway. What they do is written in `clients/SCENARIOS.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// What a scenario is given before its program ends itself: the machine may be slow, with other programs on it.
const DEADLINE: Duration = Duration::from_secs(600);
/// What a program is given on top of that before it is killed.
const GRACE: Duration = Duration::from_secs(30);
/// Most of what a program wrote that is shown, bytes.
const SHOWN: usize = 8 << 10;

/// A client library in a program that runs scenarios with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Folder of the program, in `clients/`.
    pub program: &'static str,
    /// What the program calls the library.
    pub library: &'static str,
}

/// The line with which a scenario ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The whole line.
    pub line: String,
}

/// A scenario that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    last: String,
    stderr: File,
}

impl Passed {
    /// What the library could not do: the words behind `without=`, with commas between them; empty for nothing.
    pub fn without(&self) -> &str {
        self.line.split(' ').find_map(|word| word.strip_prefix("without=")).unwrap_or_default()
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.program, self.library)
    }
}

impl Client {
    /// Runs a scenario to its end.
    ///
    /// # Errors
    /// If it fails; the text says what was expected and what came.
    pub async fn run(&self, scenario: &str, bootstrap: &str, keys: &[&str]) -> io::Result<Passed> {
        self.start(scenario, bootstrap, keys).await?.passed().await
    }

    /// Starts a scenario.
    ///
    /// # Errors
    /// If the program cannot be built or started.
    pub async fn start(&self, scenario: &str, bootstrap: &str, keys: &[&str]) -> io::Result<Running> {
        let mut arguments = vec![self.library, scenario, bootstrap];
        arguments.extend(keys);
        start(self.program, "run.sh", &arguments).await
    }
}

/// Runs Kafka's own command line tools end to end.
///
/// # Errors
/// As [`Client::run`].
pub async fn run_tools(bootstrap: &str) -> io::Result<Passed> {
    start("java", "tools-scenario.sh", &[bootstrap]).await?.passed().await
}

/// How to run one of Kafka's own command line tools; it still needs its arguments.
///
/// # Errors
/// If the tools cannot be fetched.
pub async fn tool(name: &str) -> io::Result<Command> {
    build("java").await?;
    let mut command = Command::new(folder("java").join("tools.sh"));
    command.arg(name);
    Ok(command)
}

async fn start(program: &'static str, script: &str, arguments: &[&str]) -> io::Result<Running> {
    build(program).await?;
    let stderr = tempfile::tempfile()?;
    let mut child = Command::new(folder(program).join(script))
        .args(arguments)
        .arg(format!("deadline={}", DEADLINE.as_secs()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr.try_clone()?)
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let what = format!("{program}/{script} {}", arguments.join(" "));
    Ok(Running { what, child, lines: BufReader::new(stdout).lines(), last: String::new(), stderr })
}

impl Running {
    /// Waits until it prints this line.
    ///
    /// # Errors
    /// If it ends before.
    pub async fn until(&mut self, line: &str) -> io::Result<()> {
        while self.last != line {
            if !self.next_line().await? {
                return Err(self.failed("ended too early"));
            }
        }
        Ok(())
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end, which must be a good one.
    ///
    /// # Errors
    /// If it failed; the text says what was expected and what came.
    pub async fn passed(mut self) -> io::Result<Passed> {
        while self.next_line().await? {}
        let status = self.child.wait().await?;
        if !status.success() || !self.last.starts_with("ok ") {
            return Err(self.failed(&format!("ended with {status}")));
        }
        Ok(Passed { line: self.last })
    }

    /// Whether there is a further line, which is then the last one.
    async fn next_line(&mut self) -> io::Result<bool> {
        match timeout(DEADLINE + GRACE, self.lines.next_line()).await {
            Ok(line) => Ok(line?.map(|line| self.last = line).is_some()),
            Err(_) => Err(self.failed("does not end")),
        }
    }

    fn failed(&mut self, how: &str) -> io::Error {
        let mut text = Vec::new();
        let read = self.stderr.rewind().and_then(|()| self.stderr.read_to_end(&mut text));
        let text = match read {
            Ok(_) => String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]).into_owned(),
            Err(error) => format!("(its errors cannot be read: {error})"),
        };
        io::Error::other(format!("{} {how}; its last line was {:?}\n{text}", self.what, self.last))
    }
}

fn folder(program: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "clients", program].iter().collect()
}

/// Builds a program and installs its libraries, once per test process; quick when that has been done.
async fn build(program: &'static str) -> io::Result<()> {
    static BUILT: Mutex<BTreeMap<&str, Result<(), String>>> = Mutex::const_new(BTreeMap::new());
    let mut built = BUILT.lock().await;
    if !built.contains_key(program) {
        let script = folder(program).join("build.sh");
        let output = Command::new(&script).stdin(Stdio::null()).output().await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let result = if output.status.success() { Ok(()) } else { Err(format!("{}: {stderr}", script.display())) };
        built.insert(program, result);
    }
    built[program].clone().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_cannot_do_is_read_from_its_line() {
        let without = |line: &str| Passed { line: line.to_owned() }.without().to_owned();
        assert_eq!(without("ok all scenarios=8"), "");
        assert_eq!(without("ok all scenarios=8 without=static,lag"), "static,lag");
    }
}
