//! The proof of StreamHouse: servers, harnesses and clients that the tests in `tests/` share.

pub mod chaos;
pub mod client;
pub mod following;
pub mod foreign_s3;
pub mod harness;
pub mod load;
pub mod made_requests;
pub mod postgres;
pub mod raw_client;
pub mod requests;
pub mod s3_server;
pub mod sim;
