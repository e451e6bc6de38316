//! What goes wrong, when and for how long, as a seed says.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use metadata::journal::memory::Chances;
use rand::RngExt;
use rand::rngs::StdRng;
use storage::blob::faulty::Delay;
use tokio::time::sleep;

use super::clients::Work;
use super::node::{Node, SESSION_TIMEOUT, World};
use super::wire::Way;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A gateway dies, and is started again.
    Kill,
    /// A gateway leaves, and is started again.
    Leave,
    /// One more gateway joins, and dies.
    JoinAndDie,
    /// A gateway's way to the journal is cut.
    JournalCut,
    /// Nothing comes through to the journal, often until the others take the gateway for dead.
    JournalHeld,
    /// A gateway is stopped whole, as by SIGSTOP: nothing comes through to the journal nor the bucket.
    Pause,
    /// The journal is away for all.
    JournalAway,
    /// Appends happen or not, and are told or not; late ones among them.
    JournalFlaky,
    /// Nothing comes through to the bucket.
    StoreHeld,
    /// Requests to the bucket are done or not, and are told or not.
    StoreFlaky,
    /// The bucket is slow for one gateway.
    StoreSlow,
    /// What is read from the bucket is wrong by a bit, or ends too early.
    StoreWrong,
}

/// Every fault there is.
pub const ALL: [Fault; 12] = [
    Fault::Kill,
    Fault::Leave,
    Fault::JoinAndDie,
    Fault::JournalCut,
    Fault::JournalHeld,
    Fault::Pause,
    Fault::JournalAway,
    Fault::JournalFlaky,
    Fault::StoreHeld,
    Fault::StoreFlaky,
    Fault::StoreSlow,
    Fault::StoreWrong,
];

/// The cluster as faults see it.
#[derive(Debug)]
pub struct Stage {
    /// What the gateways share.
    pub world: World,
    /// The clients, who are told which gateways there are.
    pub work: Work,
    /// Gateways started so far.
    pub lives: u64,
}

fn millis(random: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..to))
}

impl Stage {
    /// The gateways there are.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.work.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a gateway, however often that takes.
    ///
    /// # Errors
    /// If it does not come up in a simulated minute.
    pub async fn start(&mut self, number: i32) -> Result<Arc<Node>, String> {
        let mut told = String::new();
        for _ in 0..20 {
            self.lives += 1;
            match self.world.start(number, self.lives).await {
                Ok(node) => return Ok(Arc::new(node)),
                Err(error) => told = error,
            }
            sleep(Duration::from_secs(3)).await;
        }
        Err(format!("gateway {number} does not start: {told}"))
    }

    fn put(&self, at: usize, node: Arc<Node>) {
        let mut nodes = self.work.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if at < nodes.len() { nodes[at] = node } else { nodes.push(node) }
    }

    fn drop_last(&self) {
        self.work.nodes.lock().unwrap_or_else(PoisonError::into_inner).pop();
    }

    async fn again(&mut self, at: usize) -> Result<(), String> {
        let node = self.start(at as i32 + 1).await?;
        self.put(at, node);
        Ok(())
    }

    /// Lets it happen, and ends it.
    ///
    /// # Errors
    /// If a gateway does not come up again.
    pub async fn strike(&mut self, fault: Fault, random: &mut StdRng) -> Result<(), String> {
        let nodes = self.nodes();
        let at = random.random_range(0..nodes.len());
        let node = &nodes[at];
        let short = millis(random, 100, 3_000);
        let long = SESSION_TIMEOUT.mul_f64(random.random_range(0.3..2.5));
        match fault {
            Fault::Kill => {
                node.kill();
                sleep(short).await;
                self.again(at).await?;
            }
            Fault::Leave => {
                node.leave().await;
                sleep(short / 4).await;
                self.again(at).await?;
            }
            Fault::JoinAndDie => {
                let joined = self.start(nodes.len() as i32 + 1).await?;
                self.put(nodes.len(), Arc::clone(&joined));
                sleep(short).await;
                joined.kill();
                self.drop_last();
            }
            Fault::JournalCut => {
                node.journal.set(Way::Cut);
                sleep(short).await;
                node.journal.set(Way::Open);
            }
            Fault::JournalHeld => {
                node.journal.set(Way::Held);
                sleep(long).await;
                node.journal.set(Way::Open);
            }
            Fault::Pause => {
                node.journal.set(Way::Held);
                node.store.black_hole(true);
                sleep(long).await;
                node.journal.set(Way::Open);
                node.store.black_hole(false);
            }
            Fault::JournalAway => {
                self.world.journal.set_away(true);
                sleep(short).await;
                self.world.journal.set_away(false);
            }
            Fault::JournalFlaky => {
                let one = |random: &mut StdRng| random.random_range(0..150);
                let chances = Chances {
                    answer_lost: one(random),
                    refused: one(random),
                    request_lost: one(random),
                    late: one(random),
                    stall: one(random),
                    stall_max: Duration::from_millis(1_500),
                    read_failed: one(random),
                };
                self.world.journal.set_chances(chances);
                sleep(short * 2).await;
                self.world.journal.set_chances(Chances::default());
            }
            Fault::StoreHeld | Fault::StoreFlaky | Fault::StoreSlow | Fault::StoreWrong => {
                store(fault, node, random);
                sleep(short * 2).await;
                node.store.clear();
            }
        }
        Ok(())
    }
}

fn store(fault: Fault, node: &Node, random: &mut StdRng) {
    let mut chance = || random.random_range(0.0..0.3);
    match fault {
        Fault::StoreHeld => node.store.black_hole(true),
        Fault::StoreFlaky => {
            let (before, after, throttle, stall) = (chance(), chance(), chance(), chance() / 10.0);
            node.store.set(|plan| {
                (plan.fail_before, plan.fail_after, plan.throttle, plan.stall) = (before, after, throttle, stall);
            });
        }
        Fault::StoreWrong => {
            let (flip_bit, truncate) = (chance(), chance());
            node.store.set(|plan| (plan.flip_bit, plan.truncate) = (flip_bit, truncate));
        }
        _ => node.store.set(|plan| {
            plan.delay = Delay::LogNormal { p50: Duration::from_millis(200), p99: Duration::from_millis(2_000) };
        }),
    }
}
