//! Entries of the journal, snapshots of the state and records of groups, with their checksum set right. What decodes comes out
//! of its own bytes again, and whatever an entry holds, it can be applied.
#![no_main]

use gateway::coordinator::record;
use libfuzzer_sys::fuzz_target;
use metadata::codec::{decode_entry, encode_entry};
use metadata::model::ids::Lsn;
use metadata::state::State;

/// Version and checksum before a body.
const FRAME_LEN: usize = 6;

fn goldens() -> Vec<Vec<u8>> {
    let of = |prefix| fuzz::golden("metadata/golden", prefix);
    [of("entry"), of("snapshot")].concat()
}

fuzz_target!(
    init: { fuzz::seed("journal", goldens()) },
    |input: &[u8]| {
        let _ = record::decode(input);
        if input.len() < FRAME_LEN {
            return;
        }
        let mut bytes = input.to_vec();
        let crc = crc32c::crc32c(&bytes[FRAME_LEN..]);
        bytes[2..FRAME_LEN].copy_from_slice(&crc.to_le_bytes());
        if let Ok(state) = State::decode(&bytes) {
            let again = State::decode(&state.encode()).expect("a state is read from its own bytes");
            assert_eq!(again.hash(), state.hash());
        }
        let Ok(mut entry) = decode_entry(&bytes) else { return };
        assert_eq!(decode_entry(&encode_entry(&entry)).as_ref(), Ok(&entry));
        // Once into nothing, and once more, as the session's next, into what it left.
        let mut state = State::default();
        state.apply(Lsn(1), &entry);
        entry.sequence = entry.sequence.wrapping_add(1);
        entry.follows = None;
        let applied = state.apply(Lsn(2), &entry);
        assert_eq!(applied.outcomes.len(), if applied.repeated { 0 } else { entry.commands.len() });
        let again = State::decode(&state.encode()).expect("a state is read from its own bytes");
        assert_eq!(again.hash(), state.hash());
    }
);
