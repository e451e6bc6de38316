//! OffsetDelete (47), version 0: a group forgets offsets of topics that none of its members reads (KIP-496).

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{ApiKey, OffsetDeleteRequest, OffsetDeleteResponse};
use metadata::model::ids::TopicPartition;

use super::words::{code, code_of, kept, partition};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::error::GroupError;
use crate::limits;
use crate::services::Services;

/// The handler.
pub struct OffsetDelete;

impl Handler for OffsetDelete {
    const KEY: ApiKey = ApiKey::OffsetDelete;
    const VERSIONS: RangeInclusive<i16> = 0..=0;
    const MAX_FRAME: usize = limits::FRAME_BYTES_GROUP;
    type Request = OffsetDeleteRequest;
    type Response = OffsetDeleteResponse;

    async fn begin(context: &Context, request: OffsetDeleteRequest) -> Pending<OffsetDeleteResponse> {
        let services = Arc::clone(&context.services);
        Pending::later(async move {
            let groups = &services.groups;
            if let Err(error) = groups.barrier().await {
                return OffsetDeleteResponse::default().with_error_code(code(error).code());
            }
            let known = resolve(&services, &request);
            let wanted: Vec<_> = known.iter().flatten().cloned().collect();
            match groups.delete_offsets(&request.group_id.0, &wanted).await {
                Err(error) => OffsetDeleteResponse::default().with_error_code(code(error).code()),
                Ok(deleted) => {
                    let mut deleted = deleted.into_iter();
                    let results = known.iter().map(|known| match known {
                        Some(_) => deleted.next().unwrap_or(Err(GroupError::SaveUnknown)),
                        None => Err(GroupError::UnknownTopicOrPartition),
                    });
                    answer(&request, results.map(code_of))
                }
            }
        })
    }

    fn error_code(response: &OffsetDeleteResponse) -> i16 {
        response.error_code
    }
}

/// Every partition of the request in order, with its topic's name; `None` for unknown ones.
fn resolve(services: &Services, request: &OffsetDeleteRequest) -> Vec<Option<(Arc<str>, TopicPartition)>> {
    services.groups.metadata().read(|state| {
        let of_topic = |topic: &kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic| {
            let name = kept(&topic.name);
            let one = |index: i32| Some((name.clone(), partition(state, &name, index)?));
            topic.partitions.iter().map(|asked| one(asked.partition_index)).collect::<Vec<_>>()
        };
        request.topics.iter().flat_map(of_topic).collect()
    })
}

fn answer(request: &OffsetDeleteRequest, mut codes: impl Iterator<Item = i16>) -> OffsetDeleteResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(codes.next().unwrap_or_default())
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
