//! Bytes to messages and back. The message crate is used here and in `api` only.

pub mod answer;
pub mod error_code;
pub mod fetch_answer;
pub mod guard;
pub mod header;
pub mod newer;
pub mod old_produce;
pub mod question;
pub mod shape;
pub mod shapes;
