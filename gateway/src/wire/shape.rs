//! What a message looks like on the wire, version by version: the words `shapes` is written in.

/// The shape of one kind of request.
#[derive(Debug)]
pub struct Shape {
    /// The API's key.
    pub key: i16,
    /// Kafka's name of the API.
    pub name: &'static str,
    /// The versions Kafka knows.
    pub versions: Span,
    /// The versions with compact lengths and tagged fields (KIP-482).
    pub flexible: Span,
    /// The fields, in the order they stand on the wire.
    pub fields: &'static [Field],
}

/// A field of a message or of a struct in it.
#[derive(Debug)]
pub struct Field {
    /// What it holds.
    pub kind: Kind,
    /// The versions that have it.
    pub versions: Span,
    /// The versions in which it may be null.
    pub nullable: Span,
    /// Its tag, if it stands among the tagged fields.
    pub tag: Option<u32>,
}

/// What a field holds.
#[derive(Debug)]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// One byte.
    Int8,
    /// Two bytes.
    Int16,
    /// Four bytes.
    Int32,
    /// Eight bytes; a double too.
    Int64,
    /// Sixteen bytes.
    Uuid,
    /// UTF-8 with its length before it.
    String,
    /// Bytes with their length before them; records too.
    Bytes,
    /// A count, then as many of these.
    Array(&'static Kind),
    /// Fields, one after the other.
    Struct(&'static [Field]),
}

/// A range of versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Lowest.
    pub low: i16,
    /// Highest.
    pub high: i16,
}

impl Span {
    /// Whether the version lies in it.
    pub const fn holds(self, version: i16) -> bool {
        self.low <= version && version <= self.high
    }
}

/// No version at all.
pub const NEVER: Span = Span { low: 1, high: 0 };

/// This version and all after it.
pub const fn from(low: i16) -> Span {
    Span { low, high: i16::MAX }
}

/// These versions.
pub const fn span(low: i16, high: i16) -> Span {
    Span { low, high }
}

/// A field that is never null.
pub const fn field(kind: Kind, versions: Span) -> Field {
    Field { kind, versions, nullable: NEVER, tag: None }
}

/// A field that may be null.
pub const fn nullable(kind: Kind, versions: Span, nullable: Span) -> Field {
    Field { kind, versions, nullable, tag: None }
}

/// A field that stands among the tagged ones.
pub const fn tagged(tag: u32, kind: Kind, versions: Span, nullable: Span) -> Field {
    Field { kind, versions, nullable, tag: Some(tag) }
}
