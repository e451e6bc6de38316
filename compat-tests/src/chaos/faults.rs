//! What goes wrong, one after the other, in an order and of a length that a seed decides.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use storage::blob::faulty::Delay;
use tokio::time::sleep;

use crate::chaos::cluster::{Cluster, SESSION_TIMEOUT};
use crate::chaos::producers::Addresses;
use crate::chaos::proxy::Wire;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and started again.
    Kill,
    /// Stopped for less than the session timeout.
    ShortPause,
    /// Stopped until the others take it for dead, and longer.
    LongPause,
    /// No connection to PostgreSQL.
    JournalCut,
    /// Nothing comes through to PostgreSQL, until the others take the gateway for dead, and longer.
    JournalHeld,
    /// No gateway has a connection to PostgreSQL.
    JournalCutForAll,
    /// No connection to the bucket.
    StoreCut,
    /// Nothing comes through to the bucket.
    StoreHeld,
    /// The bucket is slow, for all.
    StoreSlow,
    /// The bucket answers 503 to most requests, of all.
    StoreBusy,
    /// PostgreSQL crashes and is started again.
    JournalRestart,
    /// One gateway after the other leaves and is started again.
    Roll,
    /// A gateway joins, and leaves.
    JoinAndLeave,
}

/// Every fault there is.
pub const ALL: [Fault; 13] = [
    Fault::Kill,
    Fault::ShortPause,
    Fault::LongPause,
    Fault::JournalCut,
    Fault::JournalHeld,
    Fault::JournalCutForAll,
    Fault::StoreCut,
    Fault::StoreHeld,
    Fault::StoreSlow,
    Fault::StoreBusy,
    Fault::JournalRestart,
    Fault::Roll,
    Fault::JoinAndLeave,
];

/// What the bucket's requests take while it is slow.
const SLOW: Delay = Delay::Fixed(Duration::from_millis(400));
/// Requests of which a busy bucket refuses.
const BUSY: f64 = 0.8;
/// Longest that a fault waits for somebody to feel it.
const FELT_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

fn millis(random: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..to))
}

fn unless(struck: bool, what: &str) -> io::Result<()> {
    if struck { Ok(()) } else { Err(io::Error::other(format!("the fault did not strike: {what}"))) }
}

/// Whether it is so before long: on a busy machine, or one whose clients are elsewhere, a fault lasts until it is felt.
async fn is_so(felt: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !felt() && began.elapsed() < FELT_WITHIN {
        sleep(LOOK_EVERY).await;
    }
    felt()
}

impl Fault {
    /// Lets it happen to a gateway, or to all, and ends it.
    ///
    /// # Errors
    /// If it was not felt, or a gateway does not do what it must meanwhile.
    pub async fn strike(self, cluster: &mut Cluster, clients: &Addresses, random: &mut StdRng) -> io::Result<()> {
        let at = random.random_range(0..cluster.nodes.len());
        match self {
            Self::Kill => {
                cluster.nodes[at].gateway.kill9().await?;
                sleep(millis(random, 100, 4_000)).await;
                cluster.nodes[at].gateway.restart().await
            }
            Self::ShortPause => {
                cluster.nodes[at].gateway.signal("STOP")?;
                sleep(SESSION_TIMEOUT.mul_f64(random.random_range(0.2..0.7))).await;
                cluster.nodes[at].gateway.signal("CONT")
            }
            Self::LongPause => {
                cluster.nodes[at].gateway.signal("STOP")?;
                let struck = taken_for_dead(cluster, at, random).await;
                cluster.nodes[at].gateway.signal("CONT")?;
                struck
            }
            Self::JournalCut | Self::StoreCut => self.wire(cluster, &[at], Wire::Cut, random).await,
            Self::JournalCutForAll => {
                let all: Vec<_> = (0..cluster.nodes.len()).collect();
                self.wire(cluster, &all, Wire::Cut, random).await
            }
            Self::StoreHeld => self.wire(cluster, &[at], Wire::Held, random).await,
            Self::JournalHeld => {
                cluster.nodes[at].journal.set(Wire::Held);
                let struck = taken_for_dead(cluster, at, random).await;
                cluster.nodes[at].journal.set(Wire::Whole);
                struck
            }
            Self::StoreSlow | Self::StoreBusy => self.bucket(cluster, random).await,
            Self::JournalRestart => {
                cluster.postgres.crash()?;
                sleep(millis(random, 0, 3_000)).await;
                cluster.postgres.start_again(&[])
            }
            Self::Roll => {
                for at in 0..cluster.nodes.len() {
                    cluster.leave(at).await?;
                    cluster.nodes[at].gateway.restart().await?;
                }
                Ok(())
            }
            Self::JoinAndLeave => join_and_leave(cluster, clients, random).await,
        }
    }

    async fn wire(self, cluster: &Cluster, nodes: &[usize], wire: Wire, random: &mut StdRng) -> io::Result<()> {
        let wires = nodes.iter().map(|at| &cluster.nodes[*at]);
        let is_journal = matches!(self, Self::JournalCut | Self::JournalCutForAll);
        let wires: Vec<_> = wires.map(|node| if is_journal { &node.journal } else { &node.store }).collect();
        let before: u64 = wires.iter().map(|wire| wire.struck()).sum();
        wires.iter().for_each(|proxy| proxy.set(wire));
        sleep(millis(random, 500, 4_000)).await;
        let is_felt = is_so(|| wires.iter().map(|wire| wire.struck()).sum::<u64>() > before).await;
        wires.iter().for_each(|proxy| proxy.set(Wire::Whole));
        unless(is_felt, "no connection was in the way")
    }

    async fn bucket(self, cluster: &Cluster, random: &mut StdRng) -> io::Result<()> {
        let requests = || cluster.s3.counts().values().map(|count| count.requests).sum::<u64>();
        let (faults, before) = (cluster.s3.faults(), requests());
        if self == Self::StoreSlow {
            faults.put_latency(SLOW);
            faults.get_latency(SLOW);
        } else {
            faults.set(|plan| plan.slow_down = BUSY);
        }
        sleep(millis(random, 2_000, 4_000)).await;
        let is_felt = is_so(|| requests() > before + 5).await;
        faults.clear();
        unless(is_felt, "the bucket was hardly asked")
    }
}

/// Waits until the others name it no more, and a little longer.
async fn taken_for_dead(cluster: &Cluster, at: usize, random: &mut StdRng) -> io::Result<()> {
    let count = cluster.nodes.len();
    for other in (0..count).filter(|other| *other != at) {
        cluster.is_seen_by(other, count - 1).await?;
    }
    sleep(millis(random, 0, 1_500)).await;
    Ok(())
}

async fn join_and_leave(cluster: &mut Cluster, clients: &Addresses, random: &mut StdRng) -> io::Result<()> {
    let before = cluster.addresses();
    let node = cluster.node().await?;
    cluster.nodes.push(node);
    cluster.is_seen(before.len() + 1).await?;
    clients.set(cluster.addresses());
    sleep(millis(random, 1_000, 2_000)).await;
    cluster.is_well().await?;
    clients.set(before);
    let left = cluster.leave(cluster.nodes.len() - 1).await;
    drop(cluster.nodes.pop());
    left
}
