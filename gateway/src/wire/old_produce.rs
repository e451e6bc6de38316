//! Produce in versions 0-2, which Kafka 4 tells of and no longer takes: read just enough to say so for each partition.
//!
//! The message crate does not know these versions. They carry the record formats 0 and 1, which are not supported.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, Bytes};

use super::answer::{Answer, Body, EncodeError};
use super::error_code::ErrorCode;

/// The versions refused here.
pub const VERSIONS: RangeInclusive<i16> = 0..=2;

/// The refusal of every partition in a request.
#[derive(Debug)]
pub struct Refusal {
    topics: Vec<(Bytes, Vec<i32>)>,
}

/// The answer to a body that has passed the guard; `None` if the client asked for none (acks=0).
pub fn refusal(version: i16, body: &Bytes) -> Option<Refusal> {
    debug_assert!(VERSIONS.contains(&version));
    let mut rest = body.clone();
    if rest.try_get_i16().ok()? == 0 {
        return None;
    }
    rest.try_get_i32().ok()?; // timeout
    let mut topics = Vec::new();
    for _ in 0..rest.try_get_i32().ok()? {
        let len = usize::try_from(rest.try_get_i16().ok()?).ok()?;
        let name = split(&mut rest, len)?;
        let mut partitions = Vec::new();
        for _ in 0..rest.try_get_i32().ok()? {
            partitions.push(rest.try_get_i32().ok()?);
            let len = usize::try_from(rest.try_get_i32().ok()?).unwrap_or(0);
            split(&mut rest, len)?;
        }
        topics.push((name, partitions));
    }
    Some(Refusal { topics })
}

fn split(rest: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= rest.len()).then(|| rest.split_to(len))
}

impl Answer for Refusal {
    fn write(self, version: i16, out: &mut Body) -> Result<(), EncodeError> {
        let bytes = &mut out.bytes;
        bytes.put_i32(self.topics.len() as i32);
        for (name, partitions) in &self.topics {
            bytes.put_i16(name.len() as i16);
            bytes.put_slice(name);
            bytes.put_i32(partitions.len() as i32);
            for partition in partitions {
                bytes.put_i32(*partition);
                bytes.put_i16(ErrorCode::UnsupportedVersion.code());
                bytes.put_i64(-1); // base offset
                if version >= 2 {
                    bytes.put_i64(-1); // log append time
                }
            }
        }
        if version >= 1 {
            bytes.put_i32(0); // throttle time
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::super::answer::encode;
    use super::super::guard;
    use super::*;

    const REQUEST: &[u8] =
        b"\x00\x01\x00\x00\x03\xe8\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x02xx";

    #[test]
    fn every_partition_is_refused() {
        for version in VERSIONS {
            guard::check(0, version, REQUEST).unwrap();
            let refusal = refusal(version, &Bytes::from_static(REQUEST)).unwrap();
            let encoded = encode(ApiKey::Produce, version, 9, refusal).unwrap();
            let mut expected =
                b"\x00\x00\x00\x09\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x01\x00\x00\x00\x05\x00\x23".to_vec();
            expected.extend([0xff; 8]);
            expected.extend(if version >= 2 { vec![0xff; 8] } else { vec![] });
            expected.extend(if version >= 1 { vec![0; 4] } else { vec![] });
            assert_eq!(encoded.chunks.concat()[4..], expected);
        }
    }

    #[test]
    fn who_wants_no_answer_gets_none() {
        let silent = [b"\x00\x00", &REQUEST[2..]].concat();
        assert!(refusal(1, &Bytes::from(silent)).is_none());
    }
}
