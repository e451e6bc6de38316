//! A PostgreSQL server of a test's own: made, started, stopped, started again, and gone with the test.
//!
//! The programs are Debian's (`apt-get install postgresql`; `run.sh` does). They refuse to run as root: then they run as
//! `postgres`, or as `nobody` where that user is missing. A test process that is killed takes its server along.

pub mod certificates;
pub mod pooler;
mod service;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::certificates::Certificates;
use self::service::{Service, Unprivileged};

const START_TIMEOUT: Duration = Duration::from_secs(120);
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
    run_as: Unprivileged,
    address: SocketAddr,
    running: Option<Service>,
}

impl Postgres {
    /// Makes a server on a folder of its own and starts it on a free port of the loopback. Blocks, for about two seconds.
    ///
    /// # Errors
    /// If PostgreSQL is not installed, or does not start; the text says why.
    pub fn start() -> io::Result<Self> {
        let mut server = Self::nothing()?;
        server.make()?;
        server.run_somewhere()?;
        server.sql("CREATE DATABASE streamhouse", "postgres")?;
        Ok(server)
    }

    fn nothing() -> io::Result<Self> {
        let (programs, folder, run_as) = (programs()?, TempDir::new()?, Unprivileged::find()?);
        run_as.own(folder.path())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self { folder, programs, run_as, address, running: None })
    }

    fn run_somewhere(&mut self) -> io::Result<()> {
        let mut attempt = 1;
        loop {
            self.address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            match self.run(&[]) {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    /// Makes and starts a server that follows this one, and takes no writes until it is told to (`pg_promote()`).
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn replica(&self) -> io::Result<Self> {
        let mut replica = Self::nothing()?;
        let (ip, port) = (self.address.ip(), self.address.port());
        let from = format!("host={ip} port={port} user={USER} password={PASSWORD}");
        let args = ["-d", &from, "-D", &replica.path("data"), "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"];
        replica.as_user(&replica.program("pg_basebackup"), &args)?;
        replica.run_somewhere()?;
        Ok(replica)
    }

    /// Makes certificates for `names` (see [`Certificates::make`]), and the settings by which a start takes them in use.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn certify(&self, name: &str, names: &str) -> io::Result<(Certificates, [String; 3])> {
        let made = Certificates::make(self.folder.path(), name, names)?;
        self.run_as.own(&made.key)?;
        self.run_as.own(&made.certificate)?;
        let (certificate, key) = (made.certificate.display(), made.key.display());
        let settings = ["ssl=on".to_owned(), format!("ssl_cert_file={certificate}"), format!("ssl_key_file={key}")];
        Ok((made, settings))
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

    /// Changes a setting for good; returns when new connections have it, and the others have been told.
    ///
    /// # Errors
    /// If the server refuses, or does not take it in.
    pub fn set(&self, setting: &str, value: &str) -> io::Result<()> {
        self.execute(&format!("ALTER SYSTEM SET {setting} = '{value}'"))?;
        self.execute("SELECT pg_reload_conf()")?;
        let until = Instant::now() + START_TIMEOUT;
        while self.execute(&format!("SHOW {setting}"))? != value {
            if Instant::now() > until {
                return Err(io::Error::other(format!("{setting} is not {value} after {START_TIMEOUT:?}")));
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
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
        self.run_as.run(self.folder.path(), program, args)
    }

    fn run(&mut self, settings: &[&str]) -> io::Result<()> {
        let (folder, data) = (self.folder.path().display().to_string(), self.path("data"));
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut args = vec!["-D", &data, "-h", &ip, "-p", &port, "-k", &folder];
        args.extend(["-c", "shared_buffers=16MB", "-c", "max_connections=60", "-c", "logging_collector=off"]);
        args.extend(settings.iter().flat_map(|setting| ["-c", setting]));
        self.running = Some(Service::start(self.run_as, self.folder.path(), &self.program("postgres"), &args)?);
        self.wait_until_up()
    }

    fn wait_until_up(&mut self) -> io::Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(said) = self.running.as_ref().and_then(Service::ended) {
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
        self.running.take().map_or(Ok(()), |running| running.end(signal))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.end("QUIT"); // it may have ended by itself
    }
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
