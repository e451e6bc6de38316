//! A frame as a stranger sends it: header, guard, decoder. What passes the guard decodes to its last byte or not at all; the
//! run's malloc limit stands for the bound on memory.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use gateway::api::table::{TABLE, find};
use gateway::wire::{guard, header, old_produce};
use libfuzzer_sys::fuzz_target;
use made_requests::{Random, any};

#[allow(dead_code)] // its other makers are for other tests
#[path = "../../src/made_requests.rs"]
mod made_requests;

/// One request of each version of each API.
fn requests() -> Vec<Vec<u8>> {
    let mut random = Random(2026);
    let versions = TABLE.iter().flat_map(|entry| entry.versions.clone().map(move |version| (entry.key, version)));
    let made = versions.filter_map(|(key, version)| {
        let shape = guard::shape(key as i16)?;
        let tags = if key.request_header_version(version) >= 2 { &[0][..] } else { &[] };
        let body = any(shape, version, &mut random);
        let fixed = [(key as i16).to_be_bytes(), version.to_be_bytes(), [0; 2], [0; 2], [0xff; 2]].concat();
        Some([&fixed[..], tags, &body].concat())
    });
    made.collect()
}

fuzz_target!(
    init: { fuzz::seed("request", requests()) },
    |frame: &[u8]| {
        let nobody: Arc<str> = "".into();
        let Ok(header) = header::read(frame, &nobody) else { return };
        let (key, version) = (header.fixed.key, header.fixed.version);
        let mut body = Bytes::copy_from_slice(&frame[header.len..]);
        let Ok(passed) = guard::check(key, version, &body) else { return };
        if key == 0 && old_produce::VERSIONS.contains(&version) {
            let _ = old_produce::refusal(version, &body);
        }
        body.truncate(passed.len);
        if let Some(entry) = find(key).filter(|entry| entry.versions.contains(&version)) {
            let is_read = entry.read(&mut body, version).is_ok();
            assert!(!is_read || body.is_empty(), "{} bytes were not understood", body.len());
        }
    }
);
