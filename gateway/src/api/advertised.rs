//! One line of what ApiVersions tells.

/// An API and the versions of it that are told to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertised {
    /// The API's key.
    pub key: i16,
    /// Kafka's name of it.
    pub name: &'static str,
    /// Lowest version told.
    pub min: i16,
    /// Highest version told, and answered.
    pub max: i16,
}
