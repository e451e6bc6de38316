//! The end of a segment as a broken store may return it, with the checksum of its footer set right. A footer that is read comes
//! out of its own bytes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use storage::segment::format::{END_MAGIC, HEADER_LEN, Run, VERSION};
use storage::segment::parser::{parse_footer, parse_segment};

fuzz_target!(
    init: { fuzz::seed("segment", fuzz::golden("storage/src/segment/golden", "segment").into_iter().flat_map(inputs)) },
    |input: &[u8]| {
        let _ = parse_segment(input);
        let _ = parse_footer(input);
        let Some((head, footer)) = input.split_first_chunk::<6>() else { return };
        let mut tail = footer.to_vec();
        tail.extend((footer.len() as u32).to_be_bytes());
        tail.extend(VERSION.to_be_bytes());
        tail.extend(&head[..2]); // flags
        let crc = crc32c::crc32c(&tail);
        tail.extend(crc.to_be_bytes());
        tail.extend(&head[2..]); // length of the whole segment
        tail.extend(END_MAGIC);
        let Ok(footer) = parse_footer(&tail) else { return };
        let runs = footer.topics.iter().flat_map(|topic| &topic.runs).map(Run::length).sum::<u64>();
        let again = footer.encode(HEADER_LEN as u64 + runs).expect("a footer that was read is no larger than one may be");
        assert_eq!(parse_footer(&again), Ok(footer));
    }
);

/// A whole segment, and the flags, whole length and footer of it.
fn inputs(segment: Vec<u8>) -> [Vec<u8>; 2] {
    let end = segment.len() - 20;
    let number = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().expect("four bytes"));
    let footer = &segment[end - number(end) as usize..end];
    let parts = [&segment[end + 6..end + 8], &segment[end + 12..end + 16], footer].concat();
    [segment, parts]
}
