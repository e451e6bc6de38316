//! The wire of StreamHouse: sockets, frames, handlers, groups.

pub mod admin;
pub mod api;
pub mod app;
pub mod catalog;
pub mod claim;
pub mod cli;
pub mod cluster;
pub mod context;
pub mod coordinator;
pub mod cost;
pub mod dispatch;
pub mod fetch;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod options;
pub mod placement;
pub mod produce;
pub mod producer_ids;
pub mod restore;
pub mod scrub;
pub mod services;
pub mod snapshots;
pub mod submit;
pub mod survey;
pub mod wire;
