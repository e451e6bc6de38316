//! Real gateways: the `streamhouse` program as a process of its own, to be asked, measured, killed and started again.
//!
//! The program is `STREAMHOUSE_BIN` if that is set, else it is built once per test process, with the named crash points in.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::raw_client::RawClient;
use crate::s3_server::S3Server;

/// Longest a gateway may take to start, to end or to say something before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Most that is kept of what a process writes, bytes.
const OUTPUT_KEPT: usize = 4 << 20;
/// Pause between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Ticks of `/proc/PID/stat` in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How a gateway is to be started.
#[derive(Debug)]
pub struct Setup {
    data: Data,
    bare: bool,
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    failpoints: Option<String>,
}

#[derive(Debug, Clone)]
enum Data {
    Own(Arc<TempDir>),
    At(PathBuf),
}

impl Data {
    fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::At(path) => path,
        }
    }
}

/// How a process ended that was not to be a gateway.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// All it wrote, errors included.
    pub stderr: String,
    /// Its standard output.
    pub stdout: String,
    /// From its start to its end.
    pub took: Duration,
}

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    setup: Setup,
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    started_in: Duration,
}

#[derive(Debug)]
struct Process {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Setup {
    /// A gateway on a folder of its own and ports that the system chooses.
    ///
    /// # Errors
    /// If there can be no such folder.
    pub fn new() -> io::Result<Self> {
        let data = Data::Own(Arc::new(TempDir::new()?));
        let (args, env) = (Vec::new(), BTreeMap::new());
        Ok(Self { data, bare: false, listen: None, admin: None, args, env, failpoints: None })
    }

    /// A gateway that is told nothing but what is added: no folder, no addresses.
    ///
    /// # Errors
    /// None but those of [`Setup::new`].
    pub fn bare() -> io::Result<Self> {
        Ok(Self { bare: true, ..Self::new()? })
    }

    /// Keeps its data there.
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Data::At(folder.into());
        self
    }

    /// Listens there.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Has its admin listener there.
    pub fn admin(mut self, address: SocketAddr) -> Self {
        self.admin = Some(address);
        self
    }

    /// Keeps its objects in the server's bucket.
    pub fn on(self, s3: &S3Server) -> Self {
        let bucket = format!("s3://{}", s3.bucket());
        let with_env = s3.environment().into_iter().fold(self, |setup, (name, value)| setup.env(name, value));
        with_env.args(["--bucket", &bucket, "--endpoint", &s3.endpoint()])
    }

    /// Adds arguments.
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// Sets an option by its key, such as `kafka.num.partitions`.
    pub fn set(self, key: &str, value: &str) -> Self {
        self.args(["--set", &format!("{key}={value}")])
    }

    /// Sets a variable of its environment. Of the test's own environment, what could configure a gateway is left out.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Arms crash points, such as `writer::after_put=3*off->return`; see `metadata::failpoint`. Forgotten on a restart.
    pub fn failpoints(mut self, points: &str) -> Self {
        self.failpoints = Some(points.to_owned());
        self
    }

    /// Starts it and waits until it takes clients.
    ///
    /// # Errors
    /// If it ends instead, or takes too long; the text holds what it wrote.
    pub async fn start(self) -> io::Result<Gateway> {
        program()?; // not part of its start
        let begun = Instant::now();
        let process = self.spawn()?;
        let (process, address, admin) = process.until_ready().await?;
        Ok(Gateway { setup: self, process, address, admin, started_in: begun.elapsed() })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn run(self) -> io::Result<Ended> {
        program()?;
        let begun = Instant::now();
        let mut process = self.spawn()?;
        let Some(code) = process.ended_within(PATIENCE).await? else {
            return Err(io::Error::other(format!("it still runs after {PATIENCE:?}:\n{}", text(&process.stderr))));
        };
        let took = begun.elapsed();
        process.has_said_all().await;
        Ok(Ended { code, stderr: text(&process.stderr), stdout: text(&process.stdout), took })
    }

    fn spawn(&self) -> io::Result<Process> {
        let mut command = Command::new(program()?);
        for (name, _) in std::env::vars() {
            if ["STREAMHOUSE_", "AWS_", "KAFKA_", "FAILPOINTS"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        let or_any = |address: Option<SocketAddr>| address.unwrap_or(ANY_PORT).to_string();
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        if !self.bare {
            command.args(["--listen", &or_any(self.listen), "--admin", &or_any(self.admin)]);
            command.arg("--data").arg(self.data.path());
        }
        command.args(&self.args).envs(&self.env);
        if let Some(points) = &self.failpoints {
            command.env("FAILPOINTS", points);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = keep(child.stdout.take(), "stdout")?;
        let stderr = keep(child.stderr.take(), "stderr")?;
        Ok(Process { child, stdout, stderr })
    }
}

impl Process {
    async fn until_ready(mut self) -> io::Result<(Self, SocketAddr, SocketAddr)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = text(&self.stdout);
            let found =
                after(&said, "bootstrap.servers=", served_at).zip(after(&said, "http://", |text| text.parse().ok()));
            if let Some((address, admin)) = found {
                return Ok((self, address, admin));
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                if ended.is_some() {
                    self.has_said_all().await;
                }
                let said = text(&self.stdout);
                let how = ended.map_or_else(|| "is not ready in time".to_owned(), |status| format!("ended: {status}"));
                return Err(io::Error::other(format!("the gateway {how}\n{said}{}", text(&self.stderr))));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all that an ended process wrote is kept: the last lines are on their way until those who keep them let go.
    async fn has_said_all(&self) {
        let is_kept = |kept: &Arc<Mutex<String>>| Arc::strong_count(kept) > 1;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && (is_kept(&self.stdout) || is_kept(&self.stderr)) {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Its exit code, `None` for a signal; nothing if it still runs after that time.
    async fn ended_within(&mut self, wait: Duration) -> io::Result<Option<Option<i32>>> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status.code()));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    /// Where it serves Kafka clients; the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin listener stands.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Its address as clients are told it.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Where its admin listener stands.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        self.setup.data.path()
    }

    /// From the last start of the process until it took clients.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// A connection to it.
    ///
    /// # Errors
    /// If it does not take one.
    pub async fn client(&self) -> io::Result<RawClient> {
        RawClient::connect(self.address).await
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Errors
    /// If the system will not.
    pub async fn kill9(&mut self) -> io::Result<()> {
        self.process.child.kill()?;
        self.process.child.wait().map(drop)
    }

    /// Sends a signal by its name, such as `TERM` or `STOP`.
    ///
    /// # Errors
    /// If the system will not.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let line = format!("kill -{name} {}", self.process.child.id());
        let sent = Command::new("sh").args(["-c", &line]).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other(format!("`{line}` failed"))) }
    }

    /// Asks it to end, and waits; returns its exit code.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn terminate(&mut self) -> io::Result<Option<i32>> {
        self.signal("TERM")?;
        self.ended(PATIENCE).await
    }

    /// Waits for its end, and for its last words; its exit code, `None` if a signal ended it.
    ///
    /// # Errors
    /// If it still runs after that time.
    pub async fn ended(&mut self, wait: Duration) -> io::Result<Option<i32>> {
        let ended = self.process.ended_within(wait).await?;
        let still_runs = || io::Error::other(format!("the gateway still runs after {wait:?}:\n{}", self.stderr()));
        let code = ended.ok_or_else(still_runs)?;
        self.process.has_said_all().await;
        Ok(code)
    }

    /// Waits until its log has these words. What it wrote a moment ago may still be on its way here.
    ///
    /// # Errors
    /// If they do not come; the text is the log.
    pub async fn says(&self, words: &str) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.stderr().contains(words) {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("it never said `{words}`:\n{}", self.stderr())));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.child.try_wait(), Ok(None))
    }

    /// Starts it again, on the same data and address, with these crash points armed. Kills it first if it still runs.
    ///
    /// # Errors
    /// As [`Setup::start`].
    pub async fn restart_with(&mut self, failpoints: Option<&str>) -> io::Result<()> {
        if self.is_running() {
            self.kill9().await?;
        }
        self.setup.listen = Some(self.address);
        self.setup.failpoints = failpoints.map(str::to_owned);
        let begun = Instant::now();
        let (process, _, admin) = self.setup.spawn()?.until_ready().await?;
        self.process = process;
        self.admin = admin;
        self.started_in = begun.elapsed();
        Ok(())
    }

    /// Starts it again, without crash points.
    ///
    /// # Errors
    /// As [`Setup::start`].
    pub async fn restart(&mut self) -> io::Result<()> {
        self.restart_with(None).await
    }

    /// What it has written to its log since it was started.
    pub fn stderr(&self) -> String {
        text(&self.process.stderr)
    }

    /// What it has written to its standard output since it was started.
    pub fn stdout(&self) -> String {
        text(&self.process.stdout)
    }

    /// Whether its admin listener says that it takes clients.
    pub async fn is_ready(&self) -> bool {
        matches!(self.admin_get("/ready").await, Ok((200, _)))
    }

    /// Status and body of a page of the admin listener.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn admin_get(&self, path: &str) -> io::Result<(u16, String)> {
        let ask = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = timeout(PATIENCE, ask).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        parse_http(&answer?).ok_or_else(|| io::Error::other("not an HTTP answer"))
    }

    /// The value of a metric line, such as `streamhouse_connections` or `x_total{api="Fetch"}`; `None` if it is not there.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn metric(&self, line: &str) -> io::Result<Option<f64>> {
        let (_, page) = self.admin_get("/metrics").await?;
        let value = |found: &str| found.strip_prefix(line)?.strip_prefix(' ')?.trim().parse().ok();
        Ok(page.lines().find_map(value))
    }

    /// Waits until the bucket has a copy of all that its journal, which is elsewhere, holds by now.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn has_archived(&self, s3: &S3Server) -> io::Result<()> {
        let applied = self.metric("streamhouse_journal_state_lsn").await?.ok_or(io::ErrorKind::NotFound)? as u64;
        let last = |key: &str| key.strip_prefix("archive/")?.split_once('-')?.1.parse::<u64>().ok();
        let deadline = Instant::now() + PATIENCE;
        while s3.contents().keys().filter_map(|key| last(key)).max().unwrap_or_default() < applied {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("no copy up to {applied}:\n{}", self.stderr())));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Bytes of memory it has in use.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn rss(&self) -> io::Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most bytes of memory it ever had in use.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn rss_peak(&self) -> io::Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> io::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other(format!("no {name}")))
    }

    /// Seconds of processor time it has taken since it was started.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = self.proc("stat")?;
        // The name of the program, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let both = ticks(11).zip(ticks(12)).ok_or_else(|| io::Error::other("no times in stat"))?;
        Ok((both.0 + both.1) / TICKS_PER_SECOND)
    }

    fn proc(&self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.child.id()))
    }
}

/// Where the program to start is; built first if need be.
///
/// # Errors
/// If it cannot be built.
pub fn program() -> io::Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| match std::env::var_os("STREAMHOUSE_BIN") {
        Some(path) => Ok(path.into()),
        // With its crash points.
        None => build(&["-p", "gateway", "--bin", "streamhouse", "--features", "failpoints"]),
    });
    found.as_deref().map_err(|why| io::Error::other(why.clone()))
}

/// Kafka's commands as one program; it stands beside the gateway's.
///
/// # Errors
/// If it cannot be built.
pub fn tools() -> io::Result<&'static Path> {
    static TOOLS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let beside = || Some(Path::new(&std::env::var_os("STREAMHOUSE_BIN")?).with_file_name("kafka-tools"));
    let found = TOOLS.get_or_init(|| match beside().filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => build(&["-p", "kafka-tools"]),
    });
    found.as_deref().map_err(|why| io::Error::other(why.clone()))
}

/// Builds a program; quick when it is there already.
fn build(what: &[&str]) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .arg("build")
        .args(what)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.status.success() {
        return Err(format!("it does not build: {}", what.join(" ")));
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    };
    messages.lines().find_map(executable).ok_or_else(|| "cargo names no program".to_owned())
}

/// Keeps what comes out of a pipe, line by line, on a thread that ends with the pipe.
fn keep(pipe: Option<impl Read + Send + 'static>, name: &str) -> io::Result<Arc<Mutex<String>>> {
    let pipe = pipe.ok_or_else(|| io::Error::other("no pipe"))?;
    let kept = Arc::new(Mutex::new(String::new()));
    let keeper = Arc::clone(&kept);
    let read = move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            let mut kept = keeper.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < OUTPUT_KEPT {
                kept.push_str(&String::from_utf8_lossy(&line));
            }
            drop(kept);
            line.clear();
        }
    };
    std::thread::Builder::new().name(format!("gateway {name}")).spawn(read)?;
    Ok(kept)
}

fn text(kept: &Mutex<String>) -> String {
    kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The address that stands behind a word in whole lines.
fn after(said: &str, word: &str, read: impl Fn(&str) -> Option<SocketAddr>) -> Option<SocketAddr> {
    let (_, rest) = said.split_once(word)?;
    let (line, _) = rest.split_once('\n')?;
    line.split(['/', ' ']).next().and_then(read)
}

/// Where a gateway is that tells its clients this. A name is not looked up: it is that of a container, say.
fn served_at(told: &str) -> Option<SocketAddr> {
    let by_name = || Some(SocketAddr::new(ANY_PORT.ip(), told.rsplit(':').next()?.parse().ok()?));
    told.parse().ok().or_else(by_name)
}

fn parse_http(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
