//! What a client can ask: one file per API key, by family. `table` is the only list of them.

pub mod acls;
pub mod advertised;
pub mod cluster;
pub mod configs;
pub mod data;
pub mod entry;
pub mod groups;
pub mod handler;
pub mod table;
pub mod topics;
