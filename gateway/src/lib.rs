//! The wire of StreamHouse: sockets, frames, handlers, groups.

pub mod options;
