//! Fetch beyond the reading itself: what a client has asked for so far, and how long it waits.

pub mod session;
pub mod wait;
