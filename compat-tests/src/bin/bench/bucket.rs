//! The S3 server in a process of its own, so that its CPU is nobody else's, and told over its standard input.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use compat_tests::harness::Setup;

use super::report::Result;

/// How long requests take, as `s3-server` reads it: `p50,p99` in ms, and ms for each MiB.
#[derive(Debug, Clone, Copy)]
pub struct Latencies {
    pub name: &'static str,
    pub put: &'static str,
    pub get: &'static str,
    pub per_mib: &'static str,
}

/// As S3 Standard answers: PUT p50 60 + 10 ms/MiB, GET p50 25 + 10 ms/MiB (8 in the field), p99 three and four times as much.
pub const STANDARD: Latencies = Latencies { name: "Standard", put: "60,180", get: "25,100", per_mib: "10" };
/// As S3 Express One Zone answers.
pub const EXPRESS: Latencies = Latencies { name: "Express", put: "6,18", get: "3,15", per_mib: "2" };
/// No time but the server's own.
pub const NONE: Latencies = Latencies { name: "no", put: "0", get: "0", per_mib: "0" };

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Bucket {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    endpoint: String,
    name: String,
    environment: Vec<(String, String)>,
}

/// Requests that arrived at the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Requests {
    pub puts: u64,
    pub gets: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Bucket {
    /// Starts it, empty.
    pub fn start(latencies: Latencies) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("s3-server");
        let Latencies { put, get, per_mib, .. } = latencies;
        let arguments = ["--listen", "127.0.0.1:0", "--put-ms", put, "--get-ms", get, "--ms-per-mib", per_mib];
        let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let (endpoint, name) = (String::new(), String::new());
        let mut bucket = Self { child, stdin, stdout, endpoint, name, environment: Vec::new() };
        let first = bucket.line()?;
        let rest = first.strip_prefix("listening on ").ok_or("no address")?;
        let (endpoint, name) = rest.split_once(", bucket s3://").ok_or("no bucket")?;
        (bucket.endpoint, bucket.name) = (endpoint.to_owned(), name.to_owned());
        while bucket.environment.len() < 3 {
            let line = bucket.line()?;
            let (name, value) = line.strip_prefix("export ").and_then(|l| l.split_once('=')).ok_or("no variable")?;
            bucket.environment.push((name.to_owned(), value.to_owned()));
        }
        Ok(bucket)
    }

    /// A gateway on this bucket.
    pub fn gateway(&self) -> Result<Setup> {
        let place = format!("s3://{}", self.name);
        let setup = Setup::new()?.args(["--log", "warn", "--bucket", &place, "--endpoint", &self.endpoint]);
        Ok(self.environment.iter().fold(setup, |setup, (name, value)| setup.env(name, value)))
    }

    /// Requests so far.
    pub fn requests(&mut self) -> Result<Requests> {
        writeln!(self.stdin, "counts")?;
        let line = self.line()?;
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next().ok_or("too few numbers");
        Ok(Requests { puts: next()??, gets: next()??, bytes_in: next()??, bytes_out: next()?? })
    }

    /// Other latencies from now on.
    pub fn set(&mut self, latencies: Latencies) -> Result<()> {
        writeln!(self.stdin, "latencies {} {} {}", latencies.put, latencies.get, latencies.per_mib)?;
        self.line().map(drop)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err("the S3 server ended".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl std::ops::Sub for Requests {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            puts: self.puts - before.puts,
            gets: self.gets - before.gets,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
