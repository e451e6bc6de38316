//! From blocks to answers: whole batches, within the limits, in the order of the requests. Pure.

use metadata::model::offset::Offset;

use super::fetch::Fetched;
use super::locate::Located;
use super::{ReadRequest, ReadResult};

/// What a read gives, and where each of its partitions is to be read on; `None` where nothing was given.
pub(super) struct Assembled {
    pub(super) results: Vec<ReadResult>,
    pub(super) ends: Vec<Option<Offset>>,
}

/// Puts the answers together. The first batch of the whole read is given even past the limits.
pub(super) fn assemble(
    requests: &[ReadRequest],
    located: Vec<Located>,
    fetched: &[Fetched],
    max_bytes: usize,
) -> Assembled {
    let mut left = max_bytes;
    let mut nothing_yet = true;
    let mut results = Vec::with_capacity(requests.len());
    let mut ends = Vec::with_capacity(requests.len());
    for ((request, located), fetched) in requests.iter().zip(located).zip(fetched) {
        let mut limit = left.min(request.max_bytes as usize);
        let mut records = Vec::with_capacity(fetched.blocks.len());
        let (mut all_taken, mut end) = (true, None);
        for block in &fetched.blocks {
            let taken = block.take(block.batch_with(request.offset), limit, nothing_yet);
            let bytes = taken.bytes;
            nothing_yet &= bytes.is_empty();
            limit = limit.saturating_sub(bytes.len());
            left = left.saturating_sub(bytes.len());
            if !bytes.is_empty() {
                records.push(bytes);
                end = Some(taken.end);
            }
            all_taken = taken.is_rest;
            if !all_taken {
                break; // never a gap
            }
        }
        // An error behind data is met again by the read that begins there.
        let failed = fetched.error.clone().filter(|_| records.is_empty() && all_taken);
        ends.push(end);
        results.push(ReadResult {
            records,
            high_watermark: located.high_watermark,
            last_stable: located.last_stable,
            log_start: located.log_start,
            error: located.error.or(failed),
        });
    }
    Assembled { results, ends }
}
