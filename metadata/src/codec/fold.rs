//! Folding and unfolding on the wire.

use super::{
    CodecError, ENTRY, missing, object_from_wire, object_to_wire, partition_from_wire, partition_to_wire, wire,
};
use crate::command::{FoldExtents, PartitionFold, UnfoldExtents};

pub(super) fn to_wire(fold: &FoldExtents) -> wire::FoldExtents {
    let run = |run: &PartitionFold| wire::PartitionFold {
        partition: Some(partition_to_wire(run.partition)),
        extents: run.extents,
        position: run.position,
        length: run.length,
        hash: run.hash.to_vec(),
    };
    wire::FoldExtents {
        object: Some(object_to_wire(fold.object)),
        object_bytes: fold.object_bytes,
        runs: fold.runs.iter().map(run).collect(),
    }
}

pub(super) fn from_wire(fold: wire::FoldExtents) -> Result<FoldExtents, CodecError> {
    let run = |run: wire::PartitionFold| {
        let hash = run.hash.try_into().map_err(|_| CodecError::malformed(ENTRY, "a hash is not of 32 bytes"))?;
        let wire::PartitionFold { extents, position, length, .. } = run;
        Ok(PartitionFold { partition: partition_from_wire(run.partition)?, extents, position, length, hash })
    };
    Ok(FoldExtents {
        object: fold.object.map(object_from_wire).ok_or_else(|| missing("object"))?,
        object_bytes: fold.object_bytes,
        runs: fold.runs.into_iter().map(run).collect::<Result<_, CodecError>>()?,
    })
}

pub(super) fn unfold_to_wire(unfold: &UnfoldExtents) -> wire::UnfoldExtents {
    wire::UnfoldExtents {
        partition: unfold.partition.map(partition_to_wire),
        object: Some(object_to_wire(unfold.object)),
        position: unfold.position,
        run: unfold.run.clone(),
    }
}

pub(super) fn unfold_from_wire(unfold: wire::UnfoldExtents) -> Result<UnfoldExtents, CodecError> {
    Ok(UnfoldExtents {
        partition: unfold.partition.map(|tp| partition_from_wire(Some(tp))).transpose()?,
        object: unfold.object.map(object_from_wire).ok_or_else(|| missing("object"))?,
        position: unfold.position,
        run: unfold.run,
    })
}
