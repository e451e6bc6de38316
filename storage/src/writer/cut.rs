//! When to close the open segment: a pure policy, asked again whenever something it looks at has changed.
//!
//! An idle gateway cuts at once, so that an ack costs one PUT. A busy one gathers while an upload is under way, and then cuts
//! what has gathered when the upload is answered. Two things keep few PUTs large:
//!
//! - *Echo.* Clients answer an ack with their next request. After an upload was answered, a cut waits for a moment, a small
//!   part of an upload's time, until as many requests are open as were outstanding before. Without this a producer with five
//!   requests in flight falls into a rhythm of one, four, one, four.
//! - *Worth it.* While an upload is under way, another is only begun when the budget has a token and the last cut lies some
//!   time back, when half as many requests have gathered as the largest upload under way has, and when none is about to be
//!   answered. Half: clients that wait for their acks fall into step with the uploads, and if the next one had to be as large
//!   as the last, all of them would travel in one upload at a time, and whoever comes in between would wait for all of it.
//!
//! `linger.max` and the target size overrule both. The numbers are those of the topics whose batches are in the segment: of
//! several profiles the tightest.

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait for an echo.
const ECHO_MAX: Duration = Duration::from_millis(5);
/// An echo shorter than this is not waited for: timers are no finer.
const ECHO_MIN: Duration = Duration::from_millis(1);
/// An echo is waited for during this part of an upload's usual time.
const ECHO_PART: u32 = 8;
/// An upload is about to be answered when this part of its usual time is left.
const SOON_PART: u32 = 4;
/// Another upload is worth its PUT if it has this part of the requests of the largest under way.
const WORTH_PART: usize = 2;

/// Why a segment was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutReason {
    /// No upload was under way.
    Idle,
    /// The PUT budget allowed another one beside those under way.
    Budget,
    /// A batch had waited for `linger.max`.
    Linger,
    /// The target size was reached.
    Size,
    /// The writer is shutting down.
    Shutdown,
}

impl CutReason {
    /// A short word for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Budget => "budget",
            Self::Linger => "linger",
            Self::Size => "size",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The numbers of the policy.
#[derive(Debug, Clone, Copy)]
pub struct CutOptions {
    /// Most segments under way.
    pub uploads_max: usize,
}

/// The open segment, with the tightest numbers of those whose batches are in it.
#[derive(Debug, Clone, Copy)]
pub struct Gathered {
    /// Requests in it.
    pub requests: usize,
    /// Bytes in it.
    pub bytes: usize,
    /// Target size, bytes.
    pub segment_bytes: usize,
    /// When one of its batches has waited for its `linger.max`.
    pub linger_at: Instant,
}

/// What was answered last.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// When.
    pub at: Instant,
    /// Requests that were outstanding just before, these included.
    pub outstanding: usize,
}

/// What the policy looks at.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The time.
    pub now: Instant,
    /// The open segment, if any batch is in it.
    pub open: Option<Gathered>,
    /// Whether a segment that is full already waits.
    pub full: bool,
    /// Segments under way, from their cut to their answers.
    pub under_way: usize,
    /// Requests in the largest of them.
    pub largest: usize,
    /// When the oldest of them began.
    pub oldest: Option<Instant>,
    /// How long an upload usually takes until it is answered; unknown at first.
    pub usual: Option<Duration>,
    /// What was answered last.
    pub answered: Option<Answered>,
    /// When the budget has a token.
    pub token_at: Instant,
    /// When the last cut lies far enough back for another beside it.
    pub spaced_at: Option<Instant>,
    /// Whether the writer is shutting down.
    pub closing: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Cut now.
    Cut(CutReason),
    /// Look again at this time, or when something changes.
    Until(Instant),
    /// Look again when something changes.
    Wait,
}

/// Decides.
pub fn decide(options: &CutOptions, view: &View) -> Decision {
    let under_way_max = view.under_way >= options.uploads_max.max(1);
    if view.full {
        return if under_way_max { Decision::Wait } else { Decision::Cut(CutReason::Size) };
    }
    let Some(open) = view.open else { return Decision::Wait };
    if under_way_max {
        return Decision::Wait;
    }
    if view.closing {
        return Decision::Cut(CutReason::Shutdown);
    }
    if open.bytes >= open.segment_bytes {
        return Decision::Cut(CutReason::Size);
    }
    let linger = open.linger_at;
    if linger <= view.now {
        return Decision::Cut(CutReason::Linger);
    }
    let (reason, ready) = match view.under_way {
        0 => (CutReason::Idle, Some(view.token_at.max(echo_until(view, &open)))),
        _ => (CutReason::Budget, worth_it_at(view, &open)),
    };
    match ready {
        Some(ready) if ready <= view.now => Decision::Cut(reason),
        Some(ready) => Decision::Until(ready.min(linger)),
        None => Decision::Until(linger),
    }
}

/// Until when the requests that answer the last acks are waited for; `now` if they are all there or not worth a wait.
fn echo_until(view: &View, open: &Gathered) -> Instant {
    let window = view.usual.unwrap_or_default() / ECHO_PART;
    match view.answered {
        Some(answered) if open.requests < answered.outstanding && window >= ECHO_MIN => {
            answered.at + window.min(ECHO_MAX)
        }
        Some(_) | None => view.now,
    }
}

/// When an upload beside those under way is worth its PUT, if no batch is added until then; `None` if never.
fn worth_it_at(view: &View, open: &Gathered) -> Option<Instant> {
    if open.requests < view.largest.div_ceil(WORTH_PART) {
        return None;
    }
    let ready = view.spaced_at.map_or(view.token_at, |spaced| spaced.max(view.token_at)).max(view.now);
    match (view.oldest, view.usual) {
        (Some(began), Some(usual)) => {
            let (soon, answered) = (began + usual - usual / SOON_PART, began + usual + usual / SOON_PART);
            // An upload that takes longer than usual is not waited for.
            Some(if ready >= soon && ready < answered { answered } else { ready })
        }
        _ => Some(ready),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: CutOptions = CutOptions { uploads_max: 3 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn gathered(requests: usize, bytes: usize, since: Instant) -> Gathered {
        Gathered { requests, bytes, segment_bytes: 1_000, linger_at: since + ms(250) }
    }

    fn view(start: Instant, at: u64, requests: usize) -> View {
        let now = start + ms(at);
        View {
            now,
            open: (requests > 0).then_some(gathered(requests, requests, now)),
            full: false,
            under_way: 0,
            largest: 0,
            oldest: None,
            usual: Some(ms(60)),
            answered: None,
            token_at: start,
            spaced_at: None,
            closing: false,
        }
    }

    #[test]
    fn an_idle_gateway_cuts_at_once() {
        let start = Instant::now();
        assert_eq!(decide(&OPTIONS, &view(start, 0, 1)), Decision::Cut(CutReason::Idle));
        assert_eq!(decide(&OPTIONS, &view(start, 0, 0)), Decision::Wait);
        let poor = View { token_at: start + ms(50), ..view(start, 0, 1) };
        assert_eq!(decide(&OPTIONS, &poor), Decision::Until(start + ms(50)));
    }

    #[test]
    fn after_an_answer_the_echo_is_awaited_for_a_moment() {
        let start = Instant::now();
        let answered = Some(Answered { at: start + ms(60), outstanding: 5 });
        let four = View { answered, ..view(start, 60, 4) };
        assert_eq!(decide(&OPTIONS, &four), Decision::Until(start + ms(65)));
        let five = View { answered, ..view(start, 61, 5) };
        assert_eq!(decide(&OPTIONS, &five), Decision::Cut(CutReason::Idle));
        let late = View { answered, ..view(start, 65, 4) };
        assert_eq!(decide(&OPTIONS, &late), Decision::Cut(CutReason::Idle));
        let fast_store = View { usual: Some(ms(1)), ..four };
        assert_eq!(decide(&OPTIONS, &fast_store), Decision::Cut(CutReason::Idle), "not worth a timer");
    }

    #[test]
    fn a_second_upload_must_be_worth_it() {
        let start = Instant::now();
        let busy = |at, requests, largest| View {
            under_way: 1,
            largest,
            oldest: Some(start),
            spaced_at: Some(start + ms(20)),
            ..view(start, at, requests)
        };
        assert_eq!(decide(&OPTIONS, &busy(10, 4, 1)), Decision::Until(start + ms(20)), "spaced");
        assert_eq!(decide(&OPTIONS, &busy(20, 4, 1)), Decision::Cut(CutReason::Budget));
        assert_eq!(decide(&OPTIONS, &busy(20, 2, 4)), Decision::Cut(CutReason::Budget), "half as many will do");
        assert_eq!(decide(&OPTIONS, &busy(20, 1, 4)), Decision::Until(start + ms(270)), "smaller: gathers");
        assert_eq!(decide(&OPTIONS, &busy(20, 2, 5)), Decision::Until(start + ms(270)), "two of five are not half");
        assert_eq!(decide(&OPTIONS, &busy(50, 4, 1)), Decision::Until(start + ms(75)), "one is about to be answered");
        assert_eq!(decide(&OPTIONS, &busy(76, 4, 1)), Decision::Cut(CutReason::Budget), "it was not");
    }

    #[test]
    fn linger_and_size_overrule_and_the_number_of_uploads_overrules_all() {
        let start = Instant::now();
        let busy = View { under_way: 2, largest: 100, oldest: Some(start), ..view(start, 0, 1) };
        let old = View { now: start + ms(250), ..busy };
        assert_eq!(decide(&OPTIONS, &old), Decision::Cut(CutReason::Linger));
        let open = Some(gathered(1, 1_000, start));
        assert_eq!(decide(&OPTIONS, &View { open, ..busy }), Decision::Cut(CutReason::Size));
        assert_eq!(decide(&OPTIONS, &View { full: true, ..busy }), Decision::Cut(CutReason::Size));
        assert_eq!(decide(&OPTIONS, &View { closing: true, ..busy }), Decision::Cut(CutReason::Shutdown));
        for all in [View { under_way: 3, open, ..old }, View { under_way: 3, full: true, closing: true, ..old }] {
            assert_eq!(decide(&OPTIONS, &all), Decision::Wait);
        }
    }
}
