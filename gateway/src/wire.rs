//! Bytes to messages and back. The message crate is used here and in `api` only.

pub mod answer;
pub mod error_code;
