//! A cluster under faults: what clients do and see is written down, and judged by rules that know nothing of the cluster.

pub mod checker;
pub mod cluster;
pub mod faults;
pub mod history;
pub mod librdkafka;
pub mod members;
pub mod producers;
pub mod proxy;
pub mod readers;
