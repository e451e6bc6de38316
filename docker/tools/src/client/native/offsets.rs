//! Offsets of logs.

use rdkafka::bindings as c;

use super::{Admin, Failure, Outcomes, TopicPartition};
use super::{array, partition_list, partitions_at};

/// Which offset of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Where it begins.
    Earliest,
    /// Where it ends.
    Latest,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// That of the first record at or after this time, milliseconds.
    At(i64),
}

impl Wanted {
    fn code(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::At(time) => time,
        }
    }
}

impl Admin {
    /// One offset of each of these partitions; -1 if there is no such record.
    ///
    /// # Errors
    /// If the cluster does not answer; one for each partition it does not know.
    pub fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        wanted: Wanted,
    ) -> Result<Outcomes<TopicPartition, i64>, Failure> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let list = partition_list(partitions.iter().map(|partition| (partition, wanted.code())))?;
        // SAFETY: the request copies the list; see the head of the room for the rest.
        unsafe {
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
            let answer = self.ask(op, "listOffsets", |call| {
                c::rd_kafka_ListOffsets(call.rk, list.pointer, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_ListOffsets_result(answer.event());
            let mut offsets = Vec::new();
            for info in array(|count| c::rd_kafka_ListOffsets_result_infos(result, count)) {
                let at = c::rd_kafka_ListOffsetsResultInfo_topic_partition(*info).cast_mut();
                // A list of one, borrowed, to read it as the others are read.
                let one = c::rd_kafka_topic_partition_list_t { cnt: 1, size: 1, elems: at };
                let read = partitions_at(&one).into_iter();
                offsets.extend(read.map(|(of, offset, failure, _)| (of, failure.map_or(Ok(offset), Err))));
            }
            offsets.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(offsets)
        }
    }
}
