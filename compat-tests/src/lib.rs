//! The proof of StreamHouse: what its tests share.

pub mod raw_client;
