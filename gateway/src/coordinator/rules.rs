//! What the protocols of groups allow, as pure functions of state, event and time: no I/O, no clock, no task.
//!
//! Each protocol has a file of its own; the classic one is whole, the KIP-848 ones stand beside it when they come.

pub mod classic;
