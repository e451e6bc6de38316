//! A PostgreSQL server of a test's own: made, started, stopped, started again, and gone with the test.
//!
//! The programs are Debian's (`apt-get install postgresql`; `run.sh` does). They refuse to run as root: then they run as
//! `postgres`, or as `nobody` where that user is missing. A test process that is killed takes its server along.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Another process may take the port between our asking for a free one and the server's listening on it.
const START_ATTEMPTS: u32 = 3;
const USER: &str = "streamhouse";
const PASSWORD: &str = "a-secret-of-the-tests-only";

/// A server with an empty database and one user; ends, and its data with it, when dropped.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    run_as: Option<(u32, u32)>,
    address: SocketAddr,
    running: Option<Running>,
}

/// The server's process. The thread that started it waits for it: the system ends the server when that thread ends.
#[derive(Debug)]
struct Running {
    pid: u32,
    thread: JoinHandle<()>,
    ended: Receiver<String>,
}

impl Postgres {
    /// Makes a server on a folder of its own and starts it on a free port of the loopback. Blocks, for about two seconds.
    ///
    /// # Errors
    /// If PostgreSQL is not installed, or does not start; the text says why.
    pub fn start() -> io::Result<Self> {
        let programs = programs()?;
        let folder = TempDir::new()?;
        let run_as = match is_root()? {
            false => None,
            true => Some(unprivileged()?),
        };
        if let Some((uid, gid)) = run_as {
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = Self { folder, programs, run_as, address, running: None };
        server.make()?;
        let mut attempt = 1;
        loop {
            server.address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            match server.run(&[]) {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                started => {
                    started?;
                    break;
                }
            }
        }
        server.sql("CREATE DATABASE streamhouse", "postgres")?;
        Ok(server)
    }

    /// Where it listens; the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its database, as `--journal` takes it.
    pub fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// The URL of its database by way of another address, such as a proxy's.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://{USER}:{PASSWORD}@{address}/streamhouse")
    }

    /// The URL of a journal of its own in that database.
    pub fn url_of(&self, schema: &str) -> String {
        format!("{}?schema={schema}", self.url())
    }

    /// Carries out SQL in the database, as `psql` does; returns what it answers, a line for each row.
    ///
    /// # Errors
    /// With what the server said.
    pub fn execute(&self, sql: &str) -> io::Result<String> {
        self.sql(sql, "streamhouse")
    }

    fn sql(&self, sql: &str, database: &str) -> io::Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", &self.address.ip().to_string()])
            .args(["-p", &self.address.port().to_string(), "-U", USER, "-d", database, "-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }

    /// Stops it at once, as a crash does: connections are cut, commits under way are lost or not.
    ///
    /// # Errors
    /// If it does not end.
    pub fn crash(&mut self) -> io::Result<()> {
        self.end("QUIT")
    }

    /// Stops it in order: connections are cut.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&mut self) -> io::Result<()> {
        self.end("INT")
    }

    /// Starts it again, on the same address, with these settings besides (`name=value`).
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_again(&mut self, settings: &[&str]) -> io::Result<()> {
        self.run(settings)
    }

    /// Keeps a copy of everything, to go back to with [`Postgres::go_back`]. The server must be stopped.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn keep(&self) -> io::Result<()> {
        self.as_user("cp", &["-a", &self.path("data"), &self.path("kept")])
    }

    /// Goes back to what was kept, as a failover to a replica that lagged behind does. The server must be stopped.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn go_back(&self) -> io::Result<()> {
        std::fs::remove_dir_all(self.path("data"))?;
        self.as_user("cp", &["-a", &self.path("kept"), &self.path("data")])
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }

    fn make(&self) -> io::Result<()> {
        let password = self.folder.path().join("password");
        std::fs::write(&password, PASSWORD)?;
        let password = password.display().to_string();
        // Not SCRAM: its thousands of rounds take a build without optimisation half a second for each connection.
        let args = ["-D", &self.path("data"), "-U", USER, "-A", "md5", "--pwfile", &password];
        let plain = ["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"];
        self.as_user(&self.program("initdb"), &[&args[..], &plain[..]].concat())
    }

    fn as_user(&self, program: &str, args: &[&str]) -> io::Result<()> {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path());
        self.let_go(&mut command);
        let output = command.output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))),
        }
    }

    /// Lets go of the superuser's rights.
    fn let_go(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
    }

    fn run(&mut self, settings: &[&str]) -> io::Result<()> {
        let folder = self.folder.path().display().to_string();
        let mut command = Command::new("setpriv");
        if let Some((uid, gid)) = self.run_as {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        }
        // Ends with the thread that starts it, and so with this process, however that ends.
        command.args(["--pdeathsig", "QUIT", &self.program("postgres"), "-D", &self.path("data")]);
        command.args(["-h", &self.address.ip().to_string(), "-p", &self.address.port().to_string(), "-k", &folder]);
        command.args(["-c", "shared_buffers=16MB", "-c", "max_connections=60", "-c", "logging_collector=off"]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        command.current_dir(self.folder.path());
        let (tell_pid, pid) = sync_channel(1);
        let (tell_end, ended) = sync_channel(1);
        let thread = Builder::new().name("postgres".into()).spawn(move || {
            let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
            let mut child = match spawned {
                Ok(child) => child,
                Err(error) => return drop(tell_pid.send(Err(error))),
            };
            let _ = tell_pid.send(Ok(child.id())); // the other end waits
            let mut said = String::new();
            if let Some(stderr) = &mut child.stderr {
                let _ = stderr.read_to_string(&mut said); // what it said until its end
            }
            let status = child.wait();
            let _ = tell_end.send(format!("{status:?}: {said}")); // whoever wants to know
        })?;
        let pid = pid.recv().map_err(io::Error::other)?;
        let pid =
            pid.map_err(|error| io::Error::other(format!("cannot run setpriv (Debian package util-linux): {error}")))?;
        self.running = Some(Running { pid, thread, ended });
        self.wait_until_up()
    }

    fn wait_until_up(&mut self) -> io::Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(said) = self.running.as_ref().and_then(|running| running.ended.try_recv().ok()) {
                self.running = None;
                return Err(io::Error::other(format!("PostgreSQL does not start: {said}")));
            }
            if TcpStream::connect(self.address).is_ok() && self.sql("SELECT 1", "postgres").is_ok() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("PostgreSQL does not answer after {START_TIMEOUT:?}")));
            }
            sleep(LOOK_EVERY);
        }
    }

    fn end(&mut self, signal: &str) -> io::Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let line = format!("kill -{signal} {}", running.pid);
        Command::new("sh").args(["-c", &line]).status()?;
        running.thread.join().map_err(|_| io::Error::other("the thread that waits for PostgreSQL panicked"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.end("QUIT"); // it may have ended by itself
    }
}

fn is_root() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

/// Somebody who may not do much.
fn unprivileged() -> io::Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_it = fields.next() == Some(name);
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            is_it.then_some((uid, gid))
        })
    };
    let found = find("postgres").or_else(|| find("nobody"));
    found
        .ok_or_else(|| io::Error::other("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`"))
}

/// The folder of the newest PostgreSQL's programs.
fn programs() -> io::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder): &(u32, PathBuf)| folder.join("initdb").is_file())
        .collect();
    found.sort();
    if let Some((_, folder)) = found.pop() {
        return Ok(folder);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).find(|folder: &PathBuf| folder.join("initdb").is_file());
    in_path.ok_or_else(|| {
        io::Error::other(
            "PostgreSQL is not installed: `apt-get install postgresql`, or run compat-tests/run.sh, which does it",
        )
    })
}
