//! An S3 server no one here wrote: versitygw on a folder. It is installed by name the first time it is needed (a Go toolchain
//! must be there; about two minutes of work), and its conditional PUTs are atomic.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use storage::blob::s3::S3Options;
use tempfile::TempDir;

const PROGRAM: &str = "versitygw";
const PACKAGE: &str = "github.com/versity/versitygw/cmd/versitygw";
const VERSION: &str = "v1.8.0";
const BUCKET: &str = "streamhouse-test";
const ACCESS_KEY: &str = "AKIDFOREIGN";
const SECRET: &str = "a-secret-of-the-tests-only";
const REGION: &str = "us-east-1";
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Another process may take the port between our asking for a free one and the server's listening on it.
const START_ATTEMPTS: u32 = 3;
/// A download may fail.
const DOWNLOAD_ATTEMPTS: u32 = 3;

/// A running server with one empty bucket; ends, and its objects with it, when dropped.
#[derive(Debug)]
pub struct ForeignS3 {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl ForeignS3 {
    /// Installs the server if it is not there yet and starts it on a free port of the loopback. Blocks.
    pub fn start() -> io::Result<Self> {
        let program = install()?;
        let mut attempt = 1;
        loop {
            match Self::start_once(&program) {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                answer => return answer,
            }
        }
    }

    fn start_once(program: &Path) -> io::Result<Self> {
        // Below the build folder, and not in a temporary one: the server keeps attributes that a memory file system may refuse.
        let folder = tempfile::tempdir_in(home()?)?;
        fs::create_dir(folder.path().join(BUCKET))?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new(program)
            .args(["--port", &address.to_string(), "--access", ACCESS_KEY, "--secret", SECRET, "--region", REGION])
            .args(["--quiet", "--keep-alive", "posix"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut server = Self { child, address, folder };
        server.wait_until_up()?;
        Ok(server)
    }

    fn wait_until_up(&mut self) -> io::Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let mut text = String::new();
                if let Some(stderr) = &mut self.child.stderr {
                    stderr.read_to_string(&mut text)?;
                }
                return Err(io::Error::other(format!("{PROGRAM} ended with {status}: {text}")));
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!("{PROGRAM} does not listen after {START_TIMEOUT:?}")));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The bucket it has.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The folder its buckets are in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How a store reaches it.
    pub fn store_options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.endpoint()),
            region: Some(REGION.to_owned()),
            credentials: Some((ACCESS_KEY.to_owned(), SECRET.to_owned())),
            ..S3Options::new(BUCKET)
        }
    }

    /// The environment that makes a gateway, or any AWS tool, reach it (together with `--endpoint`).
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
        ]
    }
}

impl Drop for ForeignS3 {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's program, built once and kept beside our own builds.
fn install() -> io::Result<PathBuf> {
    let home = home()?;
    let program = home.join(format!("{PROGRAM}-{VERSION}"));
    // Tests of several processes may want it at once: one builds, the others wait.
    let lock = File::options().create(true).append(true).open(home.join("lock"))?;
    lock.lock()?;
    if !program.exists() {
        let building = home.join("building");
        let install = || {
            Command::new("go")
                .args(["install", "-ldflags=-s -w", &format!("{PACKAGE}@{VERSION}")])
                .env("GOBIN", &building)
                .env("CGO_ENABLED", "0")
                .output()
                .map_err(|e| io::Error::other(format!("cannot run go, which builds {PROGRAM} for the tests: {e}")))
        };
        let mut installed = install()?;
        for _ in 1..DOWNLOAD_ATTEMPTS {
            if installed.status.success() {
                break;
            }
            installed = install()?;
        }
        if !installed.status.success() {
            let text = String::from_utf8_lossy(&installed.stderr);
            return Err(io::Error::other(format!("cannot install {PACKAGE}@{VERSION}: {text}")));
        }
        fs::rename(building.join(PROGRAM), &program)?;
    }
    Ok(program)
}

/// A folder in the build folder, which is ignored by version control and removed by `cargo clean`.
fn home() -> io::Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"),
    };
    let home = target.join("foreign-s3");
    fs::create_dir_all(&home)?;
    Ok(home)
}
