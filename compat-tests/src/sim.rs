//! A cluster in one thread and in simulated time: the metadata and storage code of several gateways as it is, over a journal and a
//! bucket that misbehave as a seed says, with producers, readers and members of a group, and the checker that judges what they were told.
//!
//! What sockets and PostgreSQL do is not in it: `chaos` has that, with real processes.

pub mod bugs;
pub mod clients;
pub mod faults;
pub mod log;
pub mod members;
pub mod node;
pub mod process;
pub mod run;
pub mod wire;
