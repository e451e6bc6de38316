//! A request body from bytes.

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Message, VersionRange};

/// What can be read from the body of a request.
pub trait Question: Sized {
    /// The versions it can be read in.
    const VERSIONS: VersionRange;

    /// Takes one body of this version from the front of `body`, which has passed the guard.
    ///
    /// # Errors
    /// When it is not one.
    fn read(body: &mut Bytes, version: i16) -> Result<Self, Undecodable>;
}

/// The body is not what its API and version say.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(pub String);

impl<T: Decodable + Message> Question for T {
    // The crate's other list of versions (`ApiKey::valid_versions`) names more than its decoders take.
    const VERSIONS: VersionRange = <T as Message>::VERSIONS;

    fn read(body: &mut Bytes, version: i16) -> Result<Self, Undecodable> {
        T::decode(body, version).map_err(|error| Undecodable(format!("{error}")))
    }
}
