//! Accepts connections on one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::connection::serve;
use super::permits::Permit;
use super::request::Caller;
use super::shared::Shared;
use crate::context::Peer;
use crate::limits::{ACCEPT_BACKLOG, ACCEPT_BACKOFF, ACCEPT_BACKOFF_MAX, KEEPALIVE, REFUSALS_SAID_EVERY};

/// A bound address, not yet accepting.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    name: Arc<str>,
}

impl Listener {
    /// Takes the address. Port 0 lets the system choose one.
    ///
    /// # Errors
    /// What the system says, most often that the port is in use.
    pub fn bind(address: SocketAddr, name: &str) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?; // a restart need not wait for the last process's connections to be forgotten
        socket.bind(address)?;
        Ok(Self { socket: socket.listen(ACCEPT_BACKLOG)?, name: name.into() })
    }

    /// The address taken.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the gateway stops, a task for each connection.
    pub async fn run(self, shared: Arc<Shared>) {
        let mut backoff = ACCEPT_BACKOFF;
        let mut warned = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = shared.stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    backoff = ACCEPT_BACKOFF;
                    self.admit(stream, canonical(address), &shared, &mut warned);
                }
                Err(error) => backoff = self.rest(&error, backoff).await,
            }
        }
    }

    /// Serves the connection in a task of its own if there is room for it; `warned` is when the log last said that there is not.
    fn admit(&self, stream: TcpStream, address: SocketAddr, shared: &Arc<Shared>, warned: &mut Option<Instant>) {
        let permit = match shared.permits.take(address.ip()) {
            Ok(permit) => permit,
            Err(full) => {
                shared.metrics.connection_refused();
                if warned.is_none_or(|at| at.elapsed() >= REFUSALS_SAID_EVERY) {
                    *warned = Some(Instant::now());
                    warn!(%address, "connections are refused: {full}; see `max.connections` and `max.connections.per.ip`");
                }
                return;
            }
        };
        if let Err(error) = prepare(&stream) {
            debug!(%address, "connection lost at once: {error}");
            return;
        }
        let peer = Peer { address, listener: Arc::clone(&self.name), principal: "User:ANONYMOUS".into() };
        let shared_by_task = Arc::clone(shared);
        shared.tasks.spawn(async move { run(stream, peer, permit, &shared_by_task).await });
    }

    /// Out of descriptors, most likely: accepting again at once would only burn a core.
    async fn rest(&self, error: &io::Error, backoff: Duration) -> Duration {
        warn!(listener = %self.name, "cannot accept connections: {error}; next try in {backoff:?}");
        tokio::time::sleep(backoff).await;
        (backoff * 2).min(ACCEPT_BACKOFF_MAX)
    }
}

/// A listener for all addresses takes IPv4 clients as IPv6 ones. As Java has it, they are IPv4 clients to all who ask: the members of a
/// group are described at `/10.0.0.1`.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An answer is one write, to be sent at once; a client that vanished is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

async fn run(stream: TcpStream, peer: Peer, permit: Permit, shared: &Shared) {
    let address = peer.address;
    let caller = Caller { peer: Arc::new(peer), client_id: "".into() };
    let _open = shared.metrics.connection_opened();
    let closing = tokio::select! {
        biased;
        () = shared.abandon.cancelled() => return,
        closing = serve(stream, caller, shared) => closing,
    };
    shared.metrics.connection_closed(closing.word());
    if closing.is_usual() {
        debug!(%address, "connection closed: {closing}");
    } else {
        warn!(%address, "connection closed: {closing}");
    }
    drop(permit);
}
