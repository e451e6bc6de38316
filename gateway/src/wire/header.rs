//! The header before every request (RequestHeader versions 1 and 2).

use std::sync::Arc;

use super::guard::{self, Refused};

/// Bytes every header begins with: key, version, correlation id.
pub const FIXED_LEN: usize = 8;
/// Fewest bytes a request can have: the fixed ones and the length of a null client id.
pub const LEN_MIN: usize = FIXED_LEN + 2;

/// The part that stands in the same place in every version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// The API's key.
    pub key: i16,
    /// The version of request and answer.
    pub version: i16,
    /// The client's number of this request; the answer repeats it.
    pub correlation_id: i32,
}

impl Fixed {
    /// Reads the first bytes of a frame.
    pub fn read(bytes: [u8; FIXED_LEN]) -> Self {
        let [k0, k1, v0, v1, c0, c1, c2, c3] = bytes;
        Self {
            key: i16::from_be_bytes([k0, k1]),
            version: i16::from_be_bytes([v0, v1]),
            correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
        }
    }
}

/// A whole header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Key, version and correlation id.
    pub fixed: Fixed,
    /// The client's name for itself; empty if it gave none, as Kafka treats null.
    pub client_id: Arc<str>,
    /// Bytes of the header; the body follows.
    pub len: usize,
}

/// Reads the header of a frame. `last` is the client id of the connection's last request, so that one that has not changed
/// takes no new memory.
///
/// # Errors
/// When the header is not one.
pub fn read(frame: &[u8], last: &Arc<str>) -> Result<Header, Refused> {
    let fixed = Fixed::read(*frame.first_chunk().ok_or(Refused::Short)?);
    let after = &frame[FIXED_LEN..];
    let (len, after) = after.split_first_chunk::<2>().ok_or(Refused::Short)?;
    let name = match i16::from_be_bytes(*len) {
        -1 => &[],
        len => {
            let len = usize::try_from(len).map_err(|_| Refused::Negative(len.into()))?;
            after.get(..len).ok_or(Refused::Short)?
        }
    };
    let flexible = guard::shape(fixed.key).is_some_and(|shape| shape.flexible.holds(fixed.version));
    let tags = if flexible { guard::tagged_fields_len(&after[name.len()..])? } else { 0 };
    let client_id =
        if name == last.as_bytes() { Arc::clone(last) } else { Arc::from(String::from_utf8_lossy(name).as_ref()) };
    Ok(Header { fixed, client_id, len: FIXED_LEN + 2 + name.len() + tags })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
        [&key.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), rest].concat()
    }

    #[test]
    fn old_and_flexible_headers() {
        let last: Arc<str> = "".into();
        let old = read(&bytes(3, 8, b"\x00\x02abXYZ"), &last).unwrap();
        assert_eq!((&*old.client_id, old.len, old.fixed.correlation_id), ("ab", 12, 7));
        let flexible = read(&bytes(3, 9, b"\x00\x02ab\x01\x05\x03...XYZ"), &last).unwrap();
        assert_eq!((&*flexible.client_id, flexible.len), ("ab", 18));
        let null = read(&bytes(3, 9, b"\xff\xff\x00"), &last).unwrap();
        assert_eq!((&*null.client_id, null.len), ("", 11));
    }

    #[test]
    fn the_same_name_is_kept_once() {
        let last: Arc<str> = "ab".into();
        assert!(Arc::ptr_eq(&read(&bytes(3, 8, b"\x00\x02ab"), &last).unwrap().client_id, &last));
    }

    #[test]
    fn cut_and_crooked_headers_are_refused() {
        let last: Arc<str> = "".into();
        let whole = bytes(3, 9, b"\x00\x02ab\x01\x05\x03...");
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len], &last), Err(Refused::Short), "{len}");
        }
        assert_eq!(read(&bytes(3, 9, b"\xff\xfe"), &last), Err(Refused::Negative(-2)));
        assert_eq!(read(&bytes(3, 9, b"\xff\xff\xff\xff\xff\xff\x7f"), &last), Err(Refused::Varint));
        assert!(matches!(read(&bytes(3, 9, b"\xff\xff\xff\xff\x03"), &last), Err(Refused::Tags(_))));
    }
}
