//! The only list of handlers. Dispatch, the answer to ApiVersions and docs/apis.md derive from it.

use std::sync::LazyLock;

use kafka_protocol::messages::ApiKey;

use super::acls::create_acls::CreateAcls;
use super::acls::delete_acls::DeleteAcls;
use super::acls::describe_acls::DescribeAcls;
use super::advertised::Advertised;
use super::cluster::api_versions::ApiVersions;
use super::cluster::describe_cluster::DescribeCluster;
use super::cluster::describe_log_dirs::DescribeLogDirs;
use super::cluster::describe_topic_partitions::DescribeTopicPartitions;
use super::cluster::list_partition_reassignments::ListPartitionReassignments;
use super::cluster::metadata::Metadata;
use super::configs::alter_configs::AlterConfigs;
use super::configs::describe_configs::DescribeConfigs;
use super::configs::incremental_alter_configs::IncrementalAlterConfigs;
use super::data::describe_producers::DescribeProducers;
use super::data::fetch::Fetch;
use super::data::init_producer_id::InitProducerId;
use super::data::list_offsets::ListOffsets;
use super::data::offset_for_leader_epoch::OffsetForLeaderEpoch;
use super::data::produce::Produce;
use super::entry::Entry;
use super::groups::delete_groups::DeleteGroups;
use super::groups::describe_groups::DescribeGroups;
use super::groups::find_coordinator::FindCoordinator;
use super::groups::heartbeat::Heartbeat;
use super::groups::join_group::JoinGroup;
use super::groups::leave_group::LeaveGroup;
use super::groups::list_groups::ListGroups;
use super::groups::offset_commit::OffsetCommit;
use super::groups::offset_delete::OffsetDelete;
use super::groups::offset_fetch::OffsetFetch;
use super::groups::sync_group::SyncGroup;
use super::topics::create_partitions::CreatePartitions;
use super::topics::create_topics::CreateTopics;
use super::topics::delete_records::DeleteRecords;
use super::topics::delete_topics::DeleteTopics;

/// Every API this gateway answers.
pub static TABLE: &[Entry] = &[
    Entry::of::<AlterConfigs>(),
    Entry::of::<ApiVersions>(),
    Entry::of::<CreateAcls>(),
    Entry::of::<CreatePartitions>(),
    Entry::of::<CreateTopics>(),
    Entry::of::<DeleteAcls>(),
    Entry::of::<DeleteGroups>(),
    Entry::of::<DeleteRecords>(),
    Entry::of::<DeleteTopics>(),
    Entry::of::<DescribeAcls>(),
    Entry::of::<DescribeCluster>(),
    Entry::of::<DescribeConfigs>(),
    Entry::of::<DescribeGroups>(),
    Entry::of::<DescribeLogDirs>(),
    Entry::of::<DescribeProducers>(),
    Entry::of::<DescribeTopicPartitions>(),
    Entry::of::<Fetch>(),
    Entry::of::<FindCoordinator>(),
    Entry::of::<Heartbeat>(),
    Entry::of::<IncrementalAlterConfigs>(),
    Entry::of::<InitProducerId>(),
    Entry::of::<JoinGroup>(),
    Entry::of::<LeaveGroup>(),
    Entry::of::<ListGroups>(),
    Entry::of::<ListOffsets>(),
    Entry::of::<ListPartitionReassignments>(),
    Entry::of::<Metadata>(),
    Entry::of::<OffsetCommit>(),
    Entry::of::<OffsetDelete>(),
    Entry::of::<OffsetFetch>(),
    Entry::of::<OffsetForLeaderEpoch>(),
    Entry::of::<Produce>(),
    Entry::of::<SyncGroup>(),
];

/// Keys are small numbers: the place in [`TABLE`] of each.
static PLACES: LazyLock<Vec<Option<usize>>> = LazyLock::new(|| {
    let last = TABLE.iter().map(|entry| entry.key as usize).max().unwrap_or_default();
    let mut places = vec![None; last + 1];
    for (place, entry) in TABLE.iter().enumerate() {
        places[entry.key as usize] = Some(place);
    }
    places
});

static ADVERTISED: LazyLock<Vec<Advertised>> = LazyLock::new(|| {
    let mut all: Vec<_> = TABLE.iter().map(advertise).collect();
    all.sort_by_key(|api| api.key);
    all
});

/// The line of this key; `None` if no handler has it.
pub fn find(key: i16) -> Option<&'static Entry> {
    let place = PLACES.get(usize::try_from(key).ok()?)?;
    place.map(|place| &TABLE[place])
}

/// What ApiVersions tells, by key.
pub fn advertised() -> &'static [Advertised] {
    &ADVERTISED
}

fn advertise(entry: &Entry) -> Advertised {
    // librdkafka switches compression off unless version 0 of Produce is told (KAFKA-18659), as Kafka itself does.
    let min = if entry.key == ApiKey::Produce { 0 } else { *entry.versions.start() };
    Advertised { key: entry.key as i16, name: entry.name(), min, max: *entry.versions.end() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_handler() {
        for entry in TABLE {
            assert_eq!(TABLE.iter().filter(|other| other.key == entry.key).count(), 1, "{:?}", entry.key);
            assert_eq!(find(entry.key as i16).map(|found| found.key), Some(entry.key));
        }
        assert!(find(-1).is_none());
        assert!(find(i16::MAX).is_none());
    }
}
