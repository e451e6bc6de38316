//! Named points at which a test ends the process as `kill -9` would.
//!
//! With the feature `failpoints`, `FAILPOINTS='journal::after_append=3*off->return'` ends it the fourth time that point is
//! passed. Without the feature the points are nothing.

/// Arms the points that the environment variable `FAILPOINTS` names. Called once, at the start of `main`.
pub fn arm_from_env() {
    if fail::has_failpoints() {
        std::mem::forget(fail::FailScenario::setup()); // armed until the process ends
    }
}

/// Ends the process here, at once and without unwinding, if `name` is armed with the action `return`.
pub fn crash_here(name: &str) {
    if fail::has_failpoints() && fail::eval(name, |_| ()).is_some() {
        std::process::abort();
    }
}
