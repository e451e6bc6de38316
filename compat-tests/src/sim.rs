//! A cluster in one thread and in simulated time: the metadata and storage code of several gateways as it is, over a journal and a
//! bucket that misbehave as a seed says, with producers and readers, and the checker that judges what they were told.
//!
//! What sockets and groups do is not in it: `chaos` has that, with real processes.

pub mod clients;
pub mod faults;
pub mod node;
pub mod run;
pub mod wire;
