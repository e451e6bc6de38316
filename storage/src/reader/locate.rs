//! From offsets to extents: one look at the state for all partitions of a read.

use metadata::model::extent::Extent;
use metadata::model::offset::Offset;
use metadata::state::State;

use super::ReadRequest;
use crate::error::ReadError;

/// Most extents of one partition in one read; the rest comes with the next.
pub(super) const EXTENTS_PER_PARTITION_MAX: usize = 256;

/// Where a partition's bytes are.
#[derive(Debug, Clone, Default)]
pub(super) struct Located {
    pub(super) high_watermark: Offset,
    pub(super) last_stable: Offset,
    pub(super) log_start: Offset,
    pub(super) leader_epoch: i32,
    /// In offset order; the first one holds the offset asked for, or is the next one after it.
    pub(super) extents: Vec<Extent>,
    pub(super) error: Option<ReadError>,
}

/// Looks all requests up. Extents are handed out in the order of the requests until `max_bytes` are, by estimate, reached;
/// the first partition with any gets at least one.
pub(super) fn locate(state: &State, requests: &[ReadRequest], max_bytes: usize) -> Vec<Located> {
    let mut left = max_bytes as u64;
    let mut nothing_yet = true;
    let mut located = Vec::with_capacity(requests.len());
    for request in requests {
        let Some(log) = state.log(request.partition) else {
            located.push(Located { error: Some(ReadError::UnknownPartition), ..Located::default() });
            continue;
        };
        let mut found = Located {
            high_watermark: log.high_watermark(),
            last_stable: log.last_stable(),
            log_start: log.log_start(),
            leader_epoch: log.leader_epoch(),
            extents: Vec::new(),
            error: None,
        };
        if request.offset < found.log_start || request.offset > found.high_watermark {
            found.error = Some(ReadError::OffsetOutOfRange);
            located.push(found);
            continue;
        }
        let limit = left.min(u64::from(request.max_bytes));
        let mut taken = 0;
        for extent in log.extents(request.offset).take(EXTENTS_PER_PARTITION_MAX) {
            if taken >= limit && !nothing_yet {
                break;
            }
            taken += bytes_from(&extent, request.offset);
            found.extents.push(extent);
            nothing_yet = false;
        }
        left -= taken.min(limit);
        located.push(found);
    }
    located
}

/// About how many bytes of an extent lie at or after an offset: exact if its records are of one size.
pub(super) fn bytes_from(extent: &Extent, offset: Offset) -> u64 {
    let (all, wanted) = (extent.end.since(extent.base), extent.end.since(offset.max(extent.base)));
    u64::from(extent.length) * wanted / all.max(1)
}
