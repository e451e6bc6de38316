//! The truth of StreamHouse: the words, one pure state machine, and the journal that orders its commands.
//!
//! Every gateway reads the same journal and applies the same commands to the same state machine (`state.rs`), so every gateway
//! holds the same state in memory. Nothing here knows the Kafka wire or the bucket.

mod agreement;
mod appender;
pub mod archive;
pub mod aside;
mod backoff;
pub mod carried;
pub mod class;
pub mod clock;
pub mod codec;
pub mod command;
mod door;
pub mod error;
pub mod failpoint;
#[cfg(test)]
mod golden;
pub mod handle;
pub mod journal;
mod life;
pub mod metrics;
pub mod model;
pub mod options;
mod pipeline;
pub mod rendezvous;
mod replica;
pub mod shares;
mod silence;
mod size;
pub mod snapshot;
pub mod state;
pub mod watch;
