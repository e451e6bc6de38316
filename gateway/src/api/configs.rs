//! Configs of topics and of the gateway.

pub mod alter_configs;
pub mod change;
pub mod describe;
pub mod describe_configs;
pub mod incremental_alter_configs;
