//! No bytes make the guard and the message crate panic, or take more memory than 16 times their frame and a mebibyte (P1).
//!
//! One test in this file: it counts what the whole process allocates.

use bytes::Bytes;
use compat_tests::made_requests::{Random, any, swollen};
use gateway::api::table::find;
use gateway::wire::guard;
use gateway::wire::shape::Shape;
use gateway::wire::shapes::REQUESTS;
use kafka_protocol::messages::{ApiKey, RequestKind};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a frame may take, for each of its bytes and besides (invariant P1).
const PER_BYTE: usize = 16;
const BESIDES: usize = 1 << 20;
/// What the guard need not foresee: a struct outside any array, the text of an error.
const SMALL: usize = 16 << 10;
/// Whole requests made of each version of each API, and crooked ones of each of these.
const WHOLE: usize = 12;
const CROOKED: usize = 24;

/// Bends a request: flips, cuts, lengthens, and puts counts where none can stand.
fn bend(random: &mut Random, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = random.number() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => bytes.extend((0..random.below(9)).map(|_| 0xff)),
            4 => drop(bytes.splice(at..(at + 4).min(bytes.len()), [0x7f, 0xff, 0xff, 0xff])),
            _ => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
        }
    }
    bytes
}

#[derive(Debug, PartialEq)]
enum Read {
    Refused,
    Undecodable,
    Whole,
    Rest(usize),
}

/// Decodes as the gateway does what it serves, and as the message crate does what it does not serve yet.
fn decode(api: ApiKey, version: i16, bytes: &mut Bytes) -> bool {
    match find(api as i16) {
        Some(entry) if entry.versions.contains(&version) => entry.read(bytes, version).is_ok(),
        _ => RequestKind::decode(api, bytes, version).is_ok(),
    }
}

/// Guards and decodes, and judges what it took.
fn read(api: ApiKey, version: i16, body: &[u8]) -> Read {
    let mut bytes = Bytes::copy_from_slice(body);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let guarded = guard::check(api as i16, version, &bytes);
    let read = match guarded {
        Err(_) => Read::Refused,
        Ok(passed) => {
            bytes.truncate(passed.len);
            match decode(api, version, &mut bytes) {
                false => Read::Undecodable,
                true if bytes.is_empty() => Read::Whole,
                true => Read::Rest(bytes.len()),
            }
        }
    };
    let took = MEMORY.peak_usage().saturating_sub(before);
    let allowed = PER_BYTE * body.len() + BESIDES;
    // The guard's own estimate, from which the gateway shares memory out, is no lie either.
    let allowed = guarded.map_or(allowed, |passed| allowed.min(passed.decoded + SMALL));
    assert!(took <= allowed, "{api:?} {version}: {took} bytes for {} of {body:02x?}", body.len());
    read
}

/// Reads requests whose arrays grow until the guard will not have them.
fn swell(api: ApiKey, shape: &Shape, version: i16) {
    for place in 0.. {
        for count in [1_000, 20_000] {
            let Some(body) = swollen(shape, version, place, count) else { return };
            let read = read(api, version, &body);
            assert!(count > 1_000 || read == Read::Whole, "{api:?} {version}: {count} of array {place}: {read:?}");
            if read == Read::Refused {
                break;
            }
        }
    }
}

/// Whether the gateway or the message crate decodes this version; the list the crate has of them is longer than what it decodes.
fn is_known(api: ApiKey, version: i16) -> bool {
    if find(api as i16).is_some_and(|entry| entry.versions.contains(&version)) {
        return true;
    }
    let decoded = RequestKind::decode(api, &mut Bytes::new(), version);
    decoded.err().is_none_or(|error| !format!("{error:#}").contains("version not supported"))
}

#[test]
fn no_bytes_take_more_than_their_due() {
    let mut random = Random(2026);
    let (mut whole, mut refused, mut crooked) = (0, 0, 0);
    for shape in REQUESTS {
        let Ok(api) = ApiKey::try_from(shape.key) else { continue };
        for version in (shape.versions.low..=shape.versions.high).filter(|version| is_known(api, *version)) {
            let flexible = shape.flexible.holds(version);
            assert_eq!(api.request_header_version(version) >= 2, flexible, "{} {version}", shape.name);
            for _ in 0..WHOLE {
                let body = any(shape, version, &mut random);
                assert_eq!(read(api, version, &body), Read::Whole, "{} {version}: {body:02x?}", shape.name);
                whole += 1;
                for _ in 0..CROOKED {
                    match read(api, version, &bend(&mut random, &body)) {
                        Read::Refused => refused += 1,
                        Read::Rest(rest) => panic!("{} {version}: {rest} bytes behind", shape.name),
                        Read::Undecodable | Read::Whole => crooked += 1,
                    }
                }
            }
            swell(api, shape, version);
            for _ in 0..CROOKED {
                let body: Vec<u8> = (0..random.below(200)).map(|_| random.number() as u8).collect();
                read(api, version, &body);
            }
        }
    }
    // The bends bend: many are refused, and many still reach the decoder.
    assert!(whole > 2000 && refused > 10_000 && crooked > 1_000, "{whole} {refused} {crooked}");
}
