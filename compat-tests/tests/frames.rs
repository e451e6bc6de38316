//! No bytes make the guard and the message crate panic, or take more memory than 16 times their frame and a mebibyte (P1).
//!
//! One test in this file: it counts what the whole process allocates.

use bytes::Bytes;
use gateway::api::table::TABLE;
use gateway::wire::guard;
use gateway::wire::shape::{Field, Kind, Shape};
use gateway::wire::shapes::REQUESTS;
use kafka_protocol::messages::{ApiKey, RequestKind};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a frame may take, for each of its bytes and besides (invariant P1).
const PER_BYTE: usize = 16;
const BESIDES: usize = 1 << 20;
/// Whole requests made of each version of each API, and crooked ones of each of these.
const WHOLE: usize = 12;
const CROOKED: usize = 24;

/// SplitMix64: the same requests in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// Writes requests by their shape.
struct Maker<'a> {
    random: &'a mut Random,
    version: i16,
    flexible: bool,
    bytes: Vec<u8>,
}

impl Maker<'_> {
    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.versions.holds(version)) {
            self.value(&field.kind, field.nullable.holds(self.version));
        }
        if self.flexible {
            self.tags(fields);
        }
    }

    fn value(&mut self, kind: &Kind, nullable: bool) {
        let null = nullable && self.random.one_in(4);
        let len = if null { None } else { Some(self.random.below(4)) };
        match kind {
            Kind::Bool => self.bytes.push(1),
            Kind::Int8 => self.some(1),
            Kind::Int16 => self.some(2),
            Kind::Int32 => self.some(4),
            Kind::Int64 => self.some(8),
            Kind::Uuid => self.some(16),
            Kind::String => {
                self.len(len, 2);
                self.bytes.extend(std::iter::repeat_n(b'x', len.unwrap_or(0)));
            }
            Kind::Bytes => {
                self.len(len, 4);
                self.some(len.unwrap_or(0));
            }
            Kind::Array(of) => {
                self.len(len, 4);
                (0..len.unwrap_or(0)).for_each(|_| self.value(of, false));
            }
            Kind::Struct(fields) => {
                if nullable {
                    self.bytes.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.fields(fields);
                }
            }
        }
    }

    fn some(&mut self, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|_| self.random.next() as u8).collect();
        self.bytes.extend(bytes);
    }

    fn len(&mut self, len: Option<usize>, width: usize) {
        if self.flexible {
            self.bytes.push(len.map_or(0, |len| len as u8 + 1));
        } else {
            let len = len.map_or(-1, |len| len as i32).to_be_bytes();
            self.bytes.extend(&len[4 - width..]);
        }
    }

    fn tags(&mut self, fields: &[Field]) {
        let version = self.version;
        let known = fields.iter().filter(|field| field.tag.is_some() && field.versions.holds(version));
        let known: Vec<_> = known.filter(|_| self.random.one_in(2)).collect();
        let unknown = if self.random.one_in(4) { self.random.below(3) } else { 0 };
        self.bytes.push((known.len() + unknown) as u8);
        for field in known {
            let outer = std::mem::take(&mut self.bytes);
            self.value(&field.kind, field.nullable.holds(self.version));
            let content = std::mem::replace(&mut self.bytes, outer);
            self.bytes.extend([field.tag.unwrap_or(0) as u8, content.len() as u8]);
            self.bytes.extend(content);
        }
        for tag in 0..unknown as u8 {
            self.bytes.extend([0x40 + tag, 2, 9, 9]);
        }
    }
}

/// Bends a request: flips, cuts, lengthens, and puts counts where none can stand.
fn bend(random: &mut Random, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = random.next() as u8,
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

/// Guards and decodes, and judges what it took.
fn read(api: ApiKey, version: i16, body: &[u8]) -> Read {
    let mut bytes = Bytes::copy_from_slice(body);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let read = match guard::check(api as i16, version, &bytes) {
        Err(_) => Read::Refused,
        Ok(()) => match RequestKind::decode(api, &mut bytes, version) {
            Err(_) => Read::Undecodable,
            Ok(_request) if bytes.is_empty() => Read::Whole,
            Ok(_request) => Read::Rest(bytes.len()),
        },
    };
    let took = MEMORY.peak_usage().saturating_sub(before);
    let allowed = PER_BYTE * body.len() + BESIDES;
    assert!(took <= allowed, "{api:?} {version}: {took} bytes for {} of {body:02x?}", body.len());
    read
}

/// Requests of which one array, the `place`th met, has `count` of its smallest elements: what a decoder swells most on.
/// `None` if there is no such array.
fn swollen(shape: &Shape, version: i16, place: usize, count: usize) -> Option<Vec<u8>> {
    let flexible = shape.flexible.holds(version);
    let mut lean = Lean { version, flexible, arrays: 0, swell: (place, count), inside: false, bytes: Vec::new() };
    lean.fields(shape.fields);
    (lean.arrays > place).then_some(lean.bytes)
}

/// Writes the smallest request whose every array has an element, but for the one to swell.
struct Lean {
    version: i16,
    flexible: bool,
    arrays: usize,
    swell: (usize, usize),
    inside: bool,
    bytes: Vec<u8>,
}

impl Lean {
    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.versions.holds(version)) {
            match field.kind {
                Kind::Struct(_) if field.nullable.holds(version) => self.bytes.push(0xff),
                _ => self.value(&field.kind),
            }
        }
        if self.flexible {
            self.bytes.push(0);
        }
    }

    fn value(&mut self, kind: &Kind) {
        match kind {
            Kind::Bool | Kind::Int8 => self.bytes.push(0),
            Kind::Int16 => self.bytes.extend([0; 2]),
            Kind::Int32 => self.bytes.extend([0; 4]),
            Kind::Int64 => self.bytes.extend([0; 8]),
            Kind::Uuid => self.bytes.extend([0; 16]),
            Kind::String => self.count(0, 2),
            Kind::Bytes => self.count(0, 4),
            Kind::Array(_) if self.inside => self.count(0, 4),
            Kind::Array(of) => {
                self.inside = self.arrays == self.swell.0;
                self.arrays += 1;
                let count = if self.inside { self.swell.1 } else { 1 };
                self.count(count, 4);
                (0..count).for_each(|_| self.value(of));
                self.inside = false;
            }
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn count(&mut self, count: usize, width: usize) {
        if !self.flexible {
            return self.bytes.extend(&(count as u32).to_be_bytes()[4 - width..]);
        }
        let mut value = count + 1;
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
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

/// Whether the message crate decodes this version; the list it has of them is longer than what it decodes.
fn is_known(api: ApiKey, version: i16) -> bool {
    let decoded = RequestKind::decode(api, &mut Bytes::new(), version);
    decoded.err().is_none_or(|error| !format!("{error:#}").contains("version not supported"))
}

#[test]
fn no_bytes_take_more_than_their_due() {
    let mut random = Random(2026);
    let (mut whole, mut refused, mut crooked) = (0, 0, 0);
    for entry in TABLE {
        assert!(entry.versions.clone().all(|version| is_known(entry.key, version)), "{}", entry.name());
    }
    for shape in REQUESTS {
        let Ok(api) = ApiKey::try_from(shape.key) else { continue };
        for version in (shape.versions.low..=shape.versions.high).filter(|version| is_known(api, *version)) {
            let flexible = shape.flexible.holds(version);
            assert_eq!(api.request_header_version(version) >= 2, flexible, "{} {version}", shape.name);
            for _ in 0..WHOLE {
                let mut maker = Maker { random: &mut random, version, flexible, bytes: Vec::new() };
                maker.fields(shape.fields);
                let body = maker.bytes;
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
                let body: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
                read(api, version, &body);
            }
        }
    }
    // The bends bend: many are refused, and many still reach the decoder.
    assert!(whole > 2000 && refused > 10_000 && crooked > 1_000, "{whole} {refused} {crooked}");
}
