//! The wire of StreamHouse: sockets, frames, handlers, groups.

pub mod api;
pub mod context;
pub mod dispatch;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod options;
pub mod services;
pub mod wire;
