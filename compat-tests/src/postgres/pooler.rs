//! PgBouncer in transaction mode before a server: each transaction may be given another connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::service::{Service, Unprivileged};
use super::{PASSWORD, Postgres, START_ATTEMPTS, USER};

/// Connections to the server, for however many to the pooler.
pub const POOL: usize = 3;
const START_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running pooler; ends when dropped.
#[derive(Debug)]
pub struct Pooler {
    address: SocketAddr,
    service: Option<Service>,
    _folder: TempDir,
}

impl Pooler {
    /// Starts one before this server.
    ///
    /// # Errors
    /// If PgBouncer is not installed, or does not start; the text says why.
    pub fn start(server: &Postgres) -> io::Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::start_once(server) {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    fn start_once(server: &Postgres) -> io::Result<Self> {
        let (folder, run_as) = (TempDir::new()?, Unprivileged::find()?);
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (config, users) = (folder.path().join("pgbouncer.ini"), folder.path().join("users"));
        let (to, at) = (server.address(), users.display());
        let text = format!(
            "[databases]\nstreamhouse = host={} port={} dbname=streamhouse\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = md5\nauth_file = {at}\npool_mode = transaction\ndefault_pool_size = {POOL}\n",
            to.ip(),
            to.port(),
            address.ip(),
            address.port()
        );
        std::fs::write(&config, text)?;
        std::fs::write(&users, format!("\"{USER}\" \"{PASSWORD}\"\n"))?;
        for path in [folder.path(), &config, &users] {
            run_as.own(path)?;
        }
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| std::fs::exists(path).unwrap_or(false));
        let program = program.ok_or_else(|| {
            io::Error::other(
                "PgBouncer is not installed: `apt-get install pgbouncer`, or run compat-tests/run.sh, which does it",
            )
        })?;
        let service = Service::start(run_as, folder.path(), program, &["-q", &config.display().to_string()])?;
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(said) = service.ended() {
                return Err(io::Error::other(format!("PgBouncer does not start: {said}")));
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("PgBouncer does not answer after {START_TIMEOUT:?}")));
            }
            sleep(LOOK_EVERY);
        }
        Ok(Self { address, service: Some(service), _folder: folder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            let _ = service.end("TERM"); // it may have ended by itself
        }
    }
}
