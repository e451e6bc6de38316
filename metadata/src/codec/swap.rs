//! The swap of extents on the wire. Old objects are named once each and then by number: a merge replaces many extents that lie
//! in few objects.

use std::collections::HashMap;

use super::{
    CodecError, ENTRY, missing, object_from_wire, object_to_wire, offset_from_wire, offset_to_wire,
    partition_from_wire, partition_to_wire, wire,
};
use crate::command::{NewExtent, PartitionSwap, SwapExtents};
use crate::model::extent::ObjectId;

pub(super) fn to_wire(swap: &SwapExtents) -> wire::SwapExtents {
    let mut old_objects = Vec::new();
    let mut numbers: HashMap<ObjectId, u32> = HashMap::new();
    let mut number_of = |object: ObjectId| {
        *numbers.entry(object).or_insert_with(|| {
            old_objects.push(object_to_wire(object));
            u32::try_from(old_objects.len() - 1).expect("a command names fewer than 2^32 objects")
        })
    };
    let mut partitions = Vec::with_capacity(swap.partitions.len());
    for part in &swap.partitions {
        partitions.push(wire::PartitionSwap {
            partition: Some(partition_to_wire(part.partition)),
            base: offset_to_wire(part.base),
            end: offset_to_wire(part.end),
            objects: part.old.iter().map(|&(object, _)| number_of(object)).collect(),
            positions: part.old.iter().map(|&(_, position)| position).collect(),
            new: part.new.iter().map(new_to_wire).collect(),
        });
    }
    wire::SwapExtents {
        object: Some(object_to_wire(swap.object)),
        object_bytes: swap.object_bytes,
        level: swap.level,
        old_objects,
        partitions,
    }
}

fn new_to_wire(new: &NewExtent) -> wire::NewExtent {
    wire::NewExtent {
        base: offset_to_wire(new.base),
        end: offset_to_wire(new.end),
        position: new.position,
        length: new.length,
        max_timestamp: new.max_timestamp,
        sparse: new.sparse,
    }
}

pub(super) fn from_wire(swap: wire::SwapExtents) -> Result<SwapExtents, CodecError> {
    let old_objects: Vec<ObjectId> = swap.old_objects.into_iter().map(object_from_wire).collect();
    let partition = |part| partition_swap_from_wire(part, &old_objects);
    Ok(SwapExtents {
        object: swap.object.map(object_from_wire).ok_or_else(|| missing("object"))?,
        object_bytes: swap.object_bytes,
        level: swap.level,
        partitions: swap.partitions.into_iter().map(partition).collect::<Result<_, _>>()?,
    })
}

fn partition_swap_from_wire(part: wire::PartitionSwap, objects: &[ObjectId]) -> Result<PartitionSwap, CodecError> {
    if part.objects.len() != part.positions.len() {
        return Err(CodecError::malformed(ENTRY, "the columns of a swap differ in length"));
    }
    let old = |(number, position): (u32, u64)| {
        let object = usize::try_from(number).ok().and_then(|number| objects.get(number));
        let object = object.ok_or_else(|| CodecError::malformed(ENTRY, "a swap names an unknown object"))?;
        Ok((*object, position))
    };
    let new = |new: wire::NewExtent| {
        let (base, end) = (offset_from_wire(new.base)?, offset_from_wire(new.end)?);
        let wire::NewExtent { position, length, max_timestamp, sparse, .. } = new;
        Ok(NewExtent { base, end, position, length, max_timestamp, sparse })
    };
    Ok(PartitionSwap {
        partition: partition_from_wire(part.partition)?,
        base: offset_from_wire(part.base)?,
        end: offset_from_wire(part.end)?,
        old: part.objects.into_iter().zip(part.positions).map(old).collect::<Result<_, CodecError>>()?,
        new: part.new.into_iter().map(new).collect::<Result<_, CodecError>>()?,
    })
}
