//! DescribeLogDirs (35), versions 1-4: how many bytes each partition keeps.
//!
//! There is one "log dir", the bucket. Sizes are those of the live extents; total and usable bytes are unknown (-1).
//!
//! Source: Kafka's `ReplicaManager.describeLogDirs`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{ApiKey, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use metadata::model::ids::{TopicName, TopicPartition};
use metadata::state::State;
use metadata::state::topics::Topic;

use crate::api::handler::{Handler, Pending};
use crate::context::Context;

/// Name of the one place where records are.
const BUCKET: &str = "/streamhouse/bucket";

/// The handler.
pub struct DescribeLogDirs;

impl Handler for DescribeLogDirs {
    const KEY: ApiKey = ApiKey::DescribeLogDirs;
    const VERSIONS: RangeInclusive<i16> = 1..=4;
    type Request = DescribeLogDirsRequest;
    type Response = DescribeLogDirsResponse;

    async fn begin(context: &Context, request: DescribeLogDirsRequest) -> Pending<DescribeLogDirsResponse> {
        let topics = context.services.metadata.read(|state| match &request.topics {
            None => state.topics().iter().map(|topic| sizes(state, topic, None)).collect::<Vec<_>>(),
            Some(asked) => {
                let found = asked.iter().filter_map(|asked| {
                    let name = asked.topic.parse::<TopicName>().ok()?;
                    Some(sizes(state, state.topics().by_name(&name)?, Some(&asked.partitions)))
                });
                found.collect()
            }
        });
        let bucket = DescribeLogDirsResult::default()
            .with_log_dir(StrBytes::from_static_str(BUCKET))
            .with_topics(topics)
            .with_total_bytes(-1)
            .with_usable_bytes(-1);
        Pending::ready(DescribeLogDirsResponse::default().with_results(vec![bucket]))
    }
}

fn sizes(state: &State, topic: &Topic, asked: Option<&Vec<i32>>) -> DescribeLogDirsTopic {
    let indexes = (0..topic.partition_count()).filter(|index| asked.is_none_or(|asked| asked.contains(index)));
    let partitions = indexes.map(|index| {
        let log = state.log(TopicPartition { topic: topic.id(), partition: index });
        let bytes = log.map_or(0, |log| log.bytes());
        DescribeLogDirsPartition::default()
            .with_partition_index(index)
            .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default()
        .with_name(WireName(StrBytes::from_string(topic.name().to_string())))
        .with_partitions(partitions.collect())
}
