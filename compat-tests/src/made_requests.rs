//! Requests made from their shapes alone: legal, whatever they mean.

use gateway::wire::shape::{Field, Kind, Shape};

/// SplitMix64: the same requests in every run.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// True once in so many times.
    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// Any request of this shape and version, with a few elements in each array.
pub fn any(shape: &Shape, version: i16, random: &mut Random) -> Vec<u8> {
    let flexible = shape.flexible.holds(version);
    let mut maker = Maker { random, version, flexible, bytes: Vec::new() };
    maker.fields(shape.fields);
    maker.bytes
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
        let bytes: Vec<u8> = (0..len).map(|_| self.random.number() as u8).collect();
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

/// The smallest request of this shape and version whose every array has an element.
pub fn smallest(shape: &Shape, version: i16) -> Vec<u8> {
    let flexible = shape.flexible.holds(version);
    let swell = (usize::MAX, 0);
    let mut lean = Lean { version, flexible, arrays: 0, swell, inside: false, bytes: Vec::new() };
    lean.fields(shape.fields);
    lean.bytes
}

/// Requests of which one array, the `place`th met, has `count` of its smallest elements: what a decoder swells most on.
/// `None` if there is no such array.
pub fn swollen(shape: &Shape, version: i16, place: usize, count: usize) -> Option<Vec<u8>> {
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
