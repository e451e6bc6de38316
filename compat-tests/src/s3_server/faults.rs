//! How the server misbehaves, changed while it runs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use storage::blob::faulty::Delay;
use tokio::sync::watch;

/// What kind of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// PutObject.
    Put,
    /// PutObject with `If-None-Match`.
    Create,
    /// GetObject.
    Get,
    /// HeadObject.
    Head,
    /// ListObjectsV2.
    List,
    /// DeleteObjects and DeleteObject.
    Delete,
    /// CreateMultipartUpload, CompleteMultipartUpload.
    Multipart,
    /// UploadPart.
    Part,
    /// AbortMultipartUpload.
    Abort,
    /// Anything else.
    Other,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// 503 SlowDown; not done.
    SlowDown,
    /// 409 ConditionalRequestConflict; not done.
    Conflict,
    /// 500 InternalError; not done.
    InternalError,
    /// The connection closes; not done.
    DropBefore,
    /// Done; the connection closes without an answer.
    DropAfter,
    /// Not done and never answered; the connection stays open.
    Stall,
    /// The body of a GET has one wrong bit.
    FlipBit,
    /// The body of a GET ends early, and its length says so.
    ShortBody,
    /// The connection closes in the middle of a GET's body.
    CutBody,
}

/// How likely each fault is, from 0 to 1, and how slow requests are.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// Of [`Fault::SlowDown`]: 1 is a storm.
    pub slow_down: f64,
    /// Of [`Fault::InternalError`].
    pub internal_error: f64,
    /// Of [`Fault::DropBefore`].
    pub drop_before: f64,
    /// Of [`Fault::DropAfter`].
    pub drop_after: f64,
    /// Of [`Fault::Stall`].
    pub stall: f64,
    /// Of [`Fault::FlipBit`].
    pub flip_bit: f64,
    /// Of [`Fault::ShortBody`].
    pub short_body: f64,
    /// Of [`Fault::CutBody`].
    pub cut_body: f64,
    /// Only requests of these kinds misbehave; empty means all. Does not bound latencies.
    pub only: Vec<RequestKind>,
    /// The time a request takes, by its kind; none for kinds that are missing.
    pub latency: HashMap<RequestKind, Delay>,
    /// More time for each MiB of a body, sent or received.
    pub latency_per_mib: Duration,
}

/// What the whole server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Up,
    /// Connections are taken and never answered.
    BlackHole,
    /// Connections are closed at once.
    Down,
}

/// The switches of a server.
#[derive(Debug)]
pub struct S3Faults {
    state: Mutex<FaultState>,
    mode: watch::Sender<Mode>,
}

#[derive(Debug)]
struct FaultState {
    rng: StdRng,
    plan: FaultPlan,
    scripted: HashMap<RequestKind, VecDeque<Fault>>,
}

impl S3Faults {
    /// No faults yet; all chances follow from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let state =
            FaultState { rng: StdRng::seed_from_u64(seed), plan: FaultPlan::default(), scripted: HashMap::new() };
        Self { state: Mutex::new(state), mode: watch::Sender::new(Mode::Up) }
    }

    /// Changes the plan from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut FaultPlan)) {
        change(&mut self.lock().plan);
    }

    /// The time every PUT takes from now on, conditional or not.
    pub fn put_latency(&self, delay: Delay) {
        self.set(|plan| plan.latency.extend([(RequestKind::Put, delay), (RequestKind::Create, delay)]));
    }

    /// The time every GET takes from now on.
    pub fn get_latency(&self, delay: Delay) {
        self.set(|plan| plan.latency.extend([(RequestKind::Get, delay)]));
    }

    /// Back to no faults and no latency; forgets what was scripted; comes up again.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.plan = FaultPlan::default();
        state.scripted.clear();
        drop(state);
        self.mode.send_replace(Mode::Up);
    }

    /// What happens to the next requests of a kind, one after the other, before chance decides again.
    pub fn next(&self, kind: RequestKind, faults: impl IntoIterator<Item = Fault>) {
        self.lock().scripted.entry(kind).or_default().extend(faults);
    }

    /// While on, nothing is answered; connections that wait when it ends are closed.
    pub fn black_hole(&self, on: bool) {
        self.mode.send_replace(if on { Mode::BlackHole } else { Mode::Up });
    }

    /// While on, every connection is closed at once.
    pub fn down(&self, on: bool) {
        self.mode.send_replace(if on { Mode::Down } else { Mode::Up });
    }

    pub(super) fn mode(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    pub(super) fn decide(&self, kind: RequestKind) -> (Duration, Fault) {
        let mut state = self.lock();
        let FaultState { rng, plan, scripted } = &mut *state;
        let delay = plan.latency.get(&kind).copied().unwrap_or_default().sample(rng);
        if let Some(fault) = scripted.get_mut(&kind).and_then(VecDeque::pop_front) {
            return (delay, fault);
        }
        if !plan.only.is_empty() && !plan.only.contains(&kind) {
            return (delay, Fault::Pass);
        }
        let chances = [
            (plan.slow_down, Fault::SlowDown),
            (plan.internal_error, Fault::InternalError),
            (plan.drop_before, Fault::DropBefore),
            (plan.drop_after, Fault::DropAfter),
            (plan.stall, Fault::Stall),
            (plan.flip_bit, Fault::FlipBit),
            (plan.short_body, Fault::ShortBody),
            (plan.cut_body, Fault::CutBody),
        ];
        let mut at: f64 = rng.random_range(0.0..1.0);
        for (chance, fault) in chances {
            if at < chance {
                return (delay, fault);
            }
            at -= chance;
        }
        (delay, Fault::Pass)
    }

    /// The time a body of this size takes.
    pub(super) fn transfer(&self, bytes: u64) -> Duration {
        let per_mib = self.lock().plan.latency_per_mib;
        per_mib.mul_f64(bytes as f64 / f64::from(1 << 20))
    }

    /// A number below `bound`, or 0.
    pub(super) fn below(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.lock().rng.random_range(0..bound) }
    }

    fn lock(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
