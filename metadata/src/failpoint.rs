//! Named points at which a test ends the process as `kill -9` would, or makes it do wrong on purpose.
//!
//! With the feature `failpoints`, `FAILPOINTS='journal::after_append=3*off->return'` ends it the fourth time that point is
//! passed. Without the feature the points are nothing.

/// Arms the points that the environment variable `FAILPOINTS` names. Called once, at the start of `main`.
pub fn arm_from_env() {
    if fail::has_failpoints() {
        std::mem::forget(fail::FailScenario::setup()); // armed until the process ends
    }
}

/// Whether this build has the points at all.
pub fn are_here() -> bool {
    fail::has_failpoints()
}

/// Whether this is to be done wrong: the deliberate bug `name` is armed with the action `return`. The simulation switches these on one by
/// one, to show that its checker finds them; nothing else does.
pub fn bug_here(name: &str) -> bool {
    fail::has_failpoints() && fail::eval(name, |_| ()).is_some()
}

/// Ends the process here, at once and without unwinding, if `name` is armed with the action `return`.
pub fn crash_here(name: &str) {
    if fail::has_failpoints() && fail::eval(name, |_| ()).is_some() {
        std::process::abort();
    }
}
