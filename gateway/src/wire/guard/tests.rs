//! What the guard lets through and what not.

use super::super::shape::{Span, from};
use super::*;

/// Metadata, version 1: an array of names.
fn metadata(count: i32, names: &[&str]) -> Vec<u8> {
    let mut body = count.to_be_bytes().to_vec();
    for name in names {
        body.extend((name.len() as i16).to_be_bytes());
        body.extend(name.as_bytes());
    }
    body
}

#[test]
fn whole_requests_pass() {
    check(3, 1, &metadata(2, &["a", "bc"])).unwrap();
    check(3, 1, &metadata(-1, &[])).unwrap();
    check(18, 0, &[]).unwrap();
    check(18, 3, b"\x02a\x02b\x00").unwrap();
}

/// CVE-2022-34917 and 2026-111108: counts that no bytes stand for.
#[test]
fn counts_beyond_the_frame_are_refused() {
    assert_eq!(check(3, 1, &[0x7f, 0xff, 0xff, 0xff]), Err(Refused::Count { count: i32::MAX as usize, remaining: 0 }));
    assert!(matches!(check(3, 1, &metadata(3, &["a", "bc"])), Err(Refused::Count { .. } | Refused::Short)));
    assert_eq!(check(3, 9, b"\xff\xff\xff\xff\x0f"), Err(Refused::Count { count: 0xffff_fffe, remaining: 0 }));
}

#[test]
fn every_cut_of_a_request_is_refused() {
    let whole = metadata(2, &["a", "bc"]);
    for len in 0..whole.len() {
        assert!(check(3, 1, &whole[..len]).is_err(), "{len}");
    }
}

#[test]
fn bytes_behind_the_last_field_are_cut_off() {
    let mut body = metadata(1, &["a"]);
    let len = body.len();
    body.push(0);
    assert_eq!(check(3, 1, &body).unwrap().len, len);
    // librdkafka 2: all topics, with four bytes of count where one is due.
    assert_eq!(check(3, 13, &[0, 0, 0, 0, 1, 0, 0]).unwrap().len, 4);
}

#[test]
fn lengths_and_nulls_must_be_legal() {
    assert_eq!(check(3, 1, &(-2i32).to_be_bytes()), Err(Refused::Negative(-2)));
    assert_eq!(check(3, 0, &metadata(-1, &[])), Err(Refused::Null), "null topics only from version 1 on");
    assert_eq!(check(18, 3, b"\x00\x02b\x00"), Err(Refused::Null));
    assert_eq!(check(18, 3, b"\xff\xff\xff\xff\x1f"), Err(Refused::Varint));
    assert_eq!(check(18, 3, b"\xff\xff\xff\xff\xff\x01"), Err(Refused::Varint));
    assert_eq!(check(999, 0, &[]), Err(Refused::Unknown));
}

/// CVE-2026-111115: tagged fields before authentication.
#[test]
fn tagged_fields_are_counted_and_capped() {
    let tags = |count: u8| {
        let mut body = b"\x02a\x02b".to_vec();
        body.push(count);
        (0..count).for_each(|tag| body.extend([tag, 1, 0]));
        body
    };
    check(18, 3, &tags(TAGGED_FIELDS_PER_STRUCT as u8)).unwrap();
    assert_eq!(check(18, 3, &tags(65)), Err(Refused::Tags(65)));
    assert_eq!(check(18, 3, b"\x02a\x02b\x01\x05\x7f"), Err(Refused::Short));
    // Fetch version 12, cluster id under tag 0: announced longer than it is.
    let fetch = |tag: &[u8]| [&[0; 25][..], &[1, 1, 1, 1], tag].concat();
    check(1, 12, &fetch(b"\x00\x02\x02a")).unwrap();
    assert_eq!(check(1, 12, &fetch(b"\x00\x03\x02aa")), Err(Refused::TagLength(0)));
}

/// Readers disagree about a struct that is marked neither -1 nor 1: one may read on where another skips.
#[test]
fn a_struct_is_there_or_null() {
    let request = |mark: u8, rest: &[u8]| [&[1, 0, 0, 0, 9, mark], rest].concat();
    check(75, 0, &request(0xff, &[0])).unwrap();
    check(75, 0, &request(1, b"\x02t\x00\x00\x00\x05\x00\x00")).unwrap();
    assert_eq!(check(75, 0, &request(2, &[0])), Err(Refused::Presence(2)));
    assert_eq!(check(75, 0, &request(0, &[0])), Err(Refused::Presence(0)));
}

#[test]
fn what_would_swell_is_refused() {
    // ListGroups, version 4: an array of one-byte states, 32 bytes each once decoded.
    let states = |count: u32| {
        let mut body = Vec::new();
        let mut value = count + 1;
        while value >= 0x80 {
            body.push(value as u8 | 0x80);
            value >>= 7;
        }
        body.push(value as u8);
        body.extend(std::iter::repeat_n(1, count as usize));
        body.push(0);
        body
    };
    assert_eq!(check(16, 4, &states(10_000)).unwrap().decoded, 320_000);
    assert!(matches!(check(16, 4, &states(100_000)), Err(Refused::Cost(_))));
}

#[test]
fn a_large_frame_buys_no_more_than_the_most() {
    // Produce, version 3: one topic with very many partitions of eight bytes each.
    let partitions = |count: usize| {
        let mut body = b"\xff\xff\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01t".to_vec();
        body.extend((count as u32).to_be_bytes());
        body.extend(std::iter::repeat_n([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], count).flatten());
        body
    };
    assert!(check(0, 3, &partitions(50_000)).is_ok_and(|passed| passed.decoded > 50_000 * 36));
    assert_eq!(check(0, 3, &partitions(2_000_000)), Err(Refused::Cost(DECODED_BYTES_MAX)));
}

#[test]
fn shapes_are_sorted_and_sound() {
    assert!(REQUESTS.is_sorted_by_key(|shape| shape.key));
    assert_eq!(REQUESTS.len(), 89);
    for shape in REQUESTS {
        for field in shape.fields {
            let in_range = |span: Span| span.low <= shape.versions.high;
            assert!(in_range(field.versions), "{}", shape.name);
        }
    }
    assert_eq!(shape(0).map(|shape| (shape.name, shape.flexible)), Some(("Produce", from(9))));
}
