//! A server program of a test: runs as somebody who may not do much, as such programs demand, and ends with the test, however
//! that ends.

use std::io::{self, Read};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Somebody who is not root; whoever runs the test, if that is not root either.
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged(Option<(u32, u32)>);

impl Unprivileged {
    /// `postgres`, or `nobody` where that user is missing.
    ///
    /// # Errors
    /// If there is neither.
    pub fn find() -> io::Result<Self> {
        if !is_root()? {
            return Ok(Self(None));
        }
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
        let none = "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`";
        found.map(|user| Self(Some(user))).ok_or_else(|| io::Error::other(none))
    }

    /// Gives a file or folder to them.
    ///
    /// # Errors
    /// If the system will not.
    pub fn own(self, path: &Path) -> io::Result<()> {
        self.0.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
    }

    /// Runs a program as them, to its end, in a folder.
    ///
    /// # Errors
    /// If it fails; with what it wrote.
    pub fn run(self, folder: &Path, program: &str, args: &[&str]) -> io::Result<()> {
        let mut command = Command::new(program);
        command.args(args).current_dir(folder);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        let output = command.output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))),
        }
    }
}

/// A process. The thread that started it waits for it: the system ends the process when that thread ends.
#[derive(Debug)]
pub struct Service {
    pid: u32,
    thread: JoinHandle<()>,
    ended: Receiver<String>,
}

impl Service {
    /// Starts a program in a folder.
    ///
    /// # Errors
    /// If the system will not.
    pub fn start(run_as: Unprivileged, folder: &Path, program: &str, args: &[&str]) -> io::Result<Self> {
        let mut command = Command::new("setpriv");
        if let Some((uid, gid)) = run_as.0 {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        }
        // Ends with the thread that starts it, and so with this process, however that ends.
        command.args(["--pdeathsig", "QUIT", program]).args(args).current_dir(folder);
        let (tell_pid, pid) = sync_channel(1);
        let (tell_end, ended) = sync_channel(1);
        let thread = Builder::new().name("service".into()).spawn(move || {
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
        Ok(Self { pid, thread, ended })
    }

    /// How it ended and what it said, if it has ended.
    pub fn ended(&self) -> Option<String> {
        self.ended.try_recv().ok()
    }

    /// Sends it a signal by its name, and waits for its end.
    ///
    /// # Errors
    /// If the system will not.
    pub fn end(self, signal: &str) -> io::Result<()> {
        let line = format!("kill -{signal} {}", self.pid);
        Command::new("sh").args(["-c", &line]).status()?;
        self.thread.join().map_err(|_| io::Error::other("the thread that waits for a server panicked"))
    }
}

fn is_root() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}
