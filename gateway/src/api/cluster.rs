//! The cluster as clients see it.

pub mod api_versions;
