//! Bugs made on purpose, one at a time, to show that the checker finds what it is there to find. Each is a place in the code that asks
//! `metadata::failpoint::bug_here`, which is nothing in a build without the feature `failpoints`.

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// What switches it on.
    pub name: &'static str,
    /// A seed in which it showed; others are tried if it does not.
    pub seed: u64,
    /// What it breaks.
    pub breaks: &'static str,
}

const fn bug(name: &'static str, seed: u64, breaks: &'static str) -> Bug {
    Bug { name, seed, breaks }
}

/// All of them.
pub const BUGS: [Bug; 14] = [
    bug(
        "writer::acks_before_commit",
        0,
        "a produce is acked when its object is stored, at the offset that is expected",
    ),
    bug("writer::commits_without_put", 1, "a segment is committed though its PUT failed"),
    bug("state::no_fence", 2, "what a session says counts though it has expired"),
    bug("state::applies_twice", 0, "an append that is repeated takes effect again"),
    bug("state::window_unchecked", 0, "a batch is not looked for among those its producer has sent"),
    bug("replica::own_first", 0, "a gateway applies what it appended before what others appended earlier"),
    bug("barrier::stale", 0, "a read barrier takes what is applied for all there is"),
    bug("snapshot::misses_entry", 0, "a snapshot says to hold an entry more than it does"),
    bug("sweep::by_age", 1, "an object is deleted for being old and not referred to, though its commit is under way"),
    bug("merge::drops_a_batch", 0, "the last batch of a merged extent is left out"),
    bug("reader::watermark_ahead", 0, "readers are told a high watermark that is not committed yet"),
    bug("reader::crc_unchecked", 3, "bytes are handed out though their checksum does not match"),
    bug("groups::acks_without_commit", 0, "a commit of offsets is acked and not put into the journal"),
    bug("groups::goes_on", 3, "a gateway goes on with a group that another coordinates by now, and its saves count"),
];
