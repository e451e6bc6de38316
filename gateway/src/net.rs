//! Sockets: who may connect, how frames come in, how answers go out.

pub mod budget;
pub mod connection;
pub mod frame;
pub mod listener;
pub mod permits;
pub mod request;
pub mod shared;
