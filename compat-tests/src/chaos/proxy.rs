//! A wire that can be cut or held: a TCP proxy between a gateway and what it depends on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

const PIECE: usize = 16 << 10;

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Lets everything through.
    Whole,
    /// Ends all connections, and new ones at once.
    Cut,
    /// Takes connections and bytes, and lets none through until it is whole again; if it is cut, they are lost.
    Held,
}

/// A running proxy; ends, and its connections with it, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    struck: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Stands before `target`, on a free port of the loopback.
    ///
    /// # Errors
    /// If there is no such port.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (wire, struck) = (watch::Sender::new(Wire::Whole), Arc::new(AtomicU64::new(0)));
        let accepting = tokio::spawn(accept(listener, target, wire.subscribe(), Arc::clone(&struck))).abort_handle();
        Ok(Self { address, wire, struck, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the wire at once.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// How many connections were cut and pieces were held so far.
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its connections live in its set of tasks, which goes with it.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, wire: watch::Receiver<Wire>, struck: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(carry(stream, target, wire.clone(), Arc::clone(&struck)))),
                // A connection that went away while waiting: the next may be fine.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(near: TcpStream, target: SocketAddr, mut wire: watch::Receiver<Wire>, struck: Arc<AtomicU64>) {
    if *wire.borrow_and_update() == Wire::Cut {
        struck.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else { return };
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let there = pump(near_in, far_out, wire.clone(), &struck);
    let back = pump(far_in, near_out, wire.clone(), &struck);
    tokio::join!(there, back);
}

/// Carries bytes one way until that way ends or the wire is cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wire: watch::Receiver<Wire>, struck: &AtomicU64) {
    let mut bytes = vec![0; PIECE];
    let (mut cut, mut held) = (wire.clone(), wire);
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            _ = cut.wait_for(|wire| *wire == Wire::Cut) => {
                struck.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let Ok(len @ 1..) = read else { break };
        if *held.borrow_and_update() == Wire::Held {
            struck.fetch_add(1, Ordering::Relaxed);
        }
        let is_whole = held.wait_for(|wire| *wire != Wire::Held).await.is_ok_and(|wire| *wire == Wire::Whole);
        if !is_whole || to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
    // The other way goes on until its own end; whoever has gone away already does not mind.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const BLINK: Duration = Duration::from_millis(100);
    const SOON: Duration = Duration::from_secs(10);

    /// A server that says everything twice.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                serving.spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        stream.write_all(&[byte, byte]).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream, byte: u8) -> io::Result<[u8; 2]> {
        stream.write_all(&[byte]).await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_wire_is_whole_held_cut_and_whole_again() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut stream, 1).await.unwrap(), [1, 1]);

        proxy.set(Wire::Held);
        assert_eq!(proxy.struck(), 0);
        assert!(timeout(BLINK, says(&mut stream, 2)).await.is_err(), "nothing comes through");
        assert_eq!(proxy.struck(), 1);
        proxy.set(Wire::Whole);
        let mut answer = [0; 2];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, [2, 2], "what was held arrives");

        proxy.set(Wire::Cut);
        assert!(timeout(SOON, says(&mut stream, 3)).await.unwrap().is_err(), "the connection is gone");
        let mut other = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(timeout(SOON, says(&mut other, 4)).await.unwrap().is_err(), "and there is no other");
        proxy.set(Wire::Whole);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut stream, 5).await.unwrap(), [5, 5]);
    }
}
