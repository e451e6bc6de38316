//! Walks a request by its shape before anything of it is decoded.
//!
//! The message crate reserves memory by the counts it reads, and a decoded struct is many times its bytes; so a frame goes
//! through here first. What passes has only lengths and counts that its bytes bear out, and
//! decodes into memory in proportion to its frame: at most [`DECODED_PER_FRAME_BYTE`] times its bytes plus
//! [`DECODED_FREE_BYTES`], and never more than [`DECODED_BYTES_MAX`]. Messages do not nest in themselves, so the shapes bound the depth.

use super::shape::{Field, Kind, Shape};
use super::shapes::REQUESTS;

/// Most bytes a request may take once decoded, for each byte of its body; the rest of it is [`DECODED_FREE_BYTES`].
pub const DECODED_PER_FRAME_BYTE: usize = 12;
/// Bytes any request may take once decoded, however small its body.
pub const DECODED_FREE_BYTES: usize = 512 << 10;
/// Most bytes any request may take once decoded, however large its body; what it carries is not decoded and not counted.
pub const DECODED_BYTES_MAX: usize = 64 << 20;
/// Most tagged fields of one struct.
pub const TAGGED_FIELDS_PER_STRUCT: u32 = 64;

/// What the message crate keeps for a string, bytes or records: a handle, also when null.
const HANDLE_BYTES: usize = 32;
/// What it keeps for an array, besides the elements.
const ARRAY_BYTES: usize = 24;
/// What every struct has besides its fields: the map of unknown tags, and padding.
const STRUCT_BYTES: usize = 24 + 8;
/// What the first unknown tag of a struct costs: a node of that map.
const TAG_NODE_BYTES: usize = 480;

/// Why a frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The frame ends inside a field.
    #[error("it ends inside a field")]
    Short,
    /// A varint of more than 32 bits.
    #[error("a varint has more than 32 bits")]
    Varint,
    /// A length or count below -1.
    #[error("a length is negative: {0}")]
    Negative(i32),
    /// Null where the version has no null.
    #[error("a field is null that may not be")]
    Null,
    /// A struct that may be null is marked as neither null nor there.
    #[error("a struct is marked {0}, neither null nor there")]
    Presence(i8),
    /// More elements than the remaining bytes can hold.
    #[error("an array of {count} elements cannot stand in {remaining} bytes")]
    Count {
        /// The elements announced.
        count: usize,
        /// The bytes left.
        remaining: usize,
    },
    /// More tagged fields than a struct may have.
    #[error("a struct has {0} tagged fields")]
    Tags(u32),
    /// A tagged field that is longer or shorter than its content.
    #[error("tagged field {0} is not as long as its content")]
    TagLength(u32),
    /// It would take too much memory once decoded.
    #[error("decoded it would take more than {0} bytes")]
    Cost(usize),
    /// No shape is known of this API.
    #[error("its shape is unknown")]
    Unknown,
}

/// The shape of this API's requests; `None` if Kafka 4.2 has none.
pub fn shape(key: i16) -> Option<&'static Shape> {
    REQUESTS.binary_search_by_key(&key, |shape| shape.key).ok().map(|place| &REQUESTS[place])
}

/// What passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Bytes it takes once decoded, at most.
    pub decoded: usize,
    /// Where its last field ends. What follows is to be cut off and ignored, as on a Kafka broker: librdkafka's Metadata request
    /// for all topics carries three bytes too many.
    pub len: usize,
}

/// Judges whether the body of a request is what its API and version say. Takes no memory itself, and time in proportion to the
/// body.
///
/// # Errors
/// What is wrong with it, for the log; the connection is then closed, as a Kafka broker does.
pub fn check(key: i16, version: i16, body: &[u8]) -> Result<Passed, Refused> {
    let shape = shape(key).ok_or(Refused::Unknown)?;
    let budget = (DECODED_FREE_BYTES + body.len().saturating_mul(DECODED_PER_FRAME_BYTE)).min(DECODED_BYTES_MAX);
    let mut walk = Walk { rest: body, version, flexible: shape.flexible.holds(version), budget, left: budget };
    walk.fields(shape.fields)?;
    Ok(Passed { decoded: walk.budget - walk.left, len: body.len() - walk.rest.len() })
}

/// Walks the header's tagged fields; answers how many bytes they take.
///
/// # Errors
/// What is wrong with them.
pub fn tagged_fields_len(bytes: &[u8]) -> Result<usize, Refused> {
    let budget = DECODED_FREE_BYTES;
    let mut walk = Walk { rest: bytes, version: 0, flexible: true, budget, left: budget };
    walk.tags(&[])?;
    Ok(bytes.len() - walk.rest.len())
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    /// Decoded bytes allowed, and what is left of them.
    budget: usize,
    left: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), Refused> {
        for field in fields {
            if field.tag.is_none() && field.versions.holds(self.version) {
                self.value(&field.kind, field.nullable.holds(self.version))?;
            }
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn value(&mut self, kind: &'static Kind, nullable: bool) -> Result<(), Refused> {
        match kind {
            Kind::Bool | Kind::Int8 => self.skip(1),
            Kind::Int16 => self.skip(2),
            Kind::Int32 => self.skip(4),
            Kind::Int64 => self.skip(8),
            Kind::Uuid => self.skip(16),
            Kind::String => {
                let len = if self.flexible { self.compact_len()? } else { self.short_len()? };
                self.text(len, nullable)
            }
            Kind::Bytes => {
                let len = if self.flexible { self.compact_len()? } else { self.long_len()? };
                self.text(len, nullable)
            }
            Kind::Array(of) => self.array(of, nullable),
            // Readers disagree about other marks, so none but these two may reach one.
            Kind::Struct(fields) if nullable => match self.take(1)?[0] as i8 {
                -1 => Ok(()),
                1 => self.fields(fields),
                other => Err(Refused::Presence(other)),
            },
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn text(&mut self, len: Option<usize>, nullable: bool) -> Result<(), Refused> {
        match len {
            Some(len) => self.skip(len),
            None if nullable => Ok(()),
            None => Err(Refused::Null),
        }
    }

    fn array(&mut self, of: &'static Kind, nullable: bool) -> Result<(), Refused> {
        let len = if self.flexible { self.compact_len()? } else { self.long_len()? };
        let Some(count) = len else { return if nullable { Ok(()) } else { Err(Refused::Null) } };
        let remaining = self.rest.len();
        let least = least_len(of, self.version, self.flexible).max(1);
        if count > remaining / least {
            return Err(Refused::Count { count, remaining });
        }
        self.charge(count.saturating_mul(decoded_len(of)))?;
        if let Some(len) = fixed_len(of) {
            return self.skip(count * len);
        }
        for _ in 0..count {
            self.value(of, false)?;
        }
        Ok(())
    }

    fn tags(&mut self, fields: &'static [Field]) -> Result<(), Refused> {
        let count = self.varint()?;
        if count > TAGGED_FIELDS_PER_STRUCT {
            return Err(Refused::Tags(count));
        }
        for _ in 0..count {
            let tag = self.varint()?;
            let len = self.varint()? as usize;
            let content = self.take(len)?;
            let known = fields.iter().find(|field| field.tag == Some(tag) && field.versions.holds(self.version));
            match known {
                None => self.charge(TAG_NODE_BYTES)?,
                Some(field) => {
                    let after = std::mem::replace(&mut self.rest, content);
                    self.value(&field.kind, field.nullable.holds(self.version))?;
                    if !self.rest.is_empty() {
                        return Err(Refused::TagLength(tag));
                    }
                    self.rest = after;
                }
            }
        }
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Refused> {
        self.left = self.left.checked_sub(bytes).ok_or(Refused::Cost(self.budget))?;
        Ok(())
    }

    fn short_len(&mut self) -> Result<Option<usize>, Refused> {
        let bytes = self.take(2)?;
        length(i16::from_be_bytes([bytes[0], bytes[1]]).into())
    }

    fn long_len(&mut self) -> Result<Option<usize>, Refused> {
        let bytes = self.take(4)?;
        length(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A compact length is one more than it says; 0 is null.
    fn compact_len(&mut self) -> Result<Option<usize>, Refused> {
        Ok(self.varint()?.checked_sub(1).map(|len| len as usize))
    }

    fn varint(&mut self) -> Result<u32, Refused> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            if shift == 28 && byte > 0x0f {
                return Err(Refused::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Refused::Varint)
    }

    fn skip(&mut self, len: usize) -> Result<(), Refused> {
        self.take(len).map(|_| ())
    }
}

impl<'a> Walk<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Refused::Short)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn length(len: i32) -> Result<Option<usize>, Refused> {
    match len {
        -1 => Ok(None),
        len => usize::try_from(len).map(Some).map_err(|_| Refused::Negative(len)),
    }
}

/// Bytes of a value whose length never varies.
fn fixed_len(kind: &Kind) -> Option<usize> {
    match kind {
        Kind::Bool | Kind::Int8 => Some(1),
        Kind::Int16 => Some(2),
        Kind::Int32 => Some(4),
        Kind::Int64 => Some(8),
        Kind::Uuid => Some(16),
        Kind::String | Kind::Bytes | Kind::Array(_) | Kind::Struct(_) => None,
    }
}

/// Fewest bytes a value can take on the wire.
fn least_len(kind: &Kind, version: i16, flexible: bool) -> usize {
    match kind {
        Kind::String => 2 - usize::from(flexible),
        Kind::Bytes | Kind::Array(_) => 4 - 3 * usize::from(flexible),
        Kind::Struct(fields) => {
            let standing = fields.iter().filter(|field| field.tag.is_none() && field.versions.holds(version));
            let least = standing.map(|field| match field.kind {
                Kind::Struct(_) if field.nullable.holds(version) => 1,
                _ => least_len(&field.kind, version, flexible),
            });
            least.sum::<usize>() + usize::from(flexible)
        }
        kind => fixed_len(kind).unwrap_or(1),
    }
}

/// Bytes a value takes once decoded, without the elements of its arrays. A struct has room for the fields of all versions.
fn decoded_len(kind: &Kind) -> usize {
    match kind {
        Kind::String | Kind::Bytes => HANDLE_BYTES,
        Kind::Array(_) => ARRAY_BYTES,
        Kind::Struct(fields) => fields.iter().map(|field| decoded_len(&field.kind)).sum::<usize>() + STRUCT_BYTES,
        kind => fixed_len(kind).unwrap_or(HANDLE_BYTES),
    }
}

#[cfg(test)]
mod tests;
