//! Every API in every version it advertises gives an answer that a client can decode (P3).

use std::collections::BTreeMap;

use compat_tests::raw_client::RawClient;
use gateway::app::App;
use gateway::options::Options;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as Incremental, AlterableConfig as Operation,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Message, StrBytes};
use storage::codec::records::RecordsBuilder;
use uuid::Uuid;

const TOPIC: &str = "swept";
const GROUP: &str = "sweepers";

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str(GROUP))
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Asks in every advertised version and hands each answer to the check.
macro_rules! sweep {
    ($swept:ident, $key:expr, $request:expr, $check:expr) => {{
        let (min, max) = $swept.advertised.remove(&($key as i16)).expect("the API is advertised");
        let min = if $key == ApiKey::Produce { 3 } else { min };
        for version in min..=max {
            let request = $request(version);
            if version > newest_encoded(&request) {
                $swept.not_encoded.push(($key, version));
                continue;
            }
            let answer = $swept.client.ask(version, &request).await;
            let answer = answer.unwrap_or_else(|e| panic!("{:?} version {version}: {e}", $key));
            $check(version, answer);
        }
    }};
}

/// The newest version the message crate encodes a request in.
fn newest_encoded<R: Message>(_: &R) -> i16 {
    R::VERSIONS.max
}

struct Swept {
    client: RawClient,
    /// Versions left to tests of their own.
    not_encoded: Vec<(ApiKey, i16)>,
    advertised: BTreeMap<i16, (i16, i16)>,
    topic_id: Uuid,
}

async fn start(folder: &std::path::Path) -> (App, Swept) {
    let options = Options {
        listen: "127.0.0.1:0".into(),
        admin: "127.0.0.1:0".into(),
        data: folder.to_path_buf(),
        kafka: BTreeMap::from([("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned())]),
        ..Options::default()
    };
    let app = App::start(options).await.expect("the gateway starts");
    let mut client = RawClient::connect(app.address).await.expect("connects");
    let versions = client.ask(0, &ApiVersionsRequest::default()).await.expect("answers");
    let advertised = versions.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect();
    let made = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![
        CreatableTopic::default().with_name(name()).with_num_partitions(2).with_replication_factor(3),
    ]);
    let made = client.ask(7, &made).await.expect("answers");
    assert_eq!(made.topics[0].error_code, 0, "{made:?}");
    let topic_id = made.topics[0].topic_id;
    (app, Swept { client, not_encoded: Vec::new(), advertised, topic_id })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_every_api_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (app, mut swept) = start(folder.path()).await;
    cluster(&mut swept).await;
    acls(&mut swept).await;
    data(&mut swept).await;
    groups(&mut swept).await;
    configs(&mut swept).await;
    topics(&mut swept).await;
    assert!(swept.advertised.is_empty(), "advertised but not swept: {:?}", swept.advertised);
    let elsewhere = [(ApiKey::ListOffsets, 11), (ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10)];
    assert_eq!(swept.not_encoded, elsewhere, "see newer_versions.rs");
    drop(swept);
    app.stop().await;
}

async fn cluster(swept: &mut Swept) {
    sweep!(
        swept,
        ApiKey::ApiVersions,
        |_| ApiVersionsRequest::default()
            .with_client_software_name(text("sweep"))
            .with_client_software_version(text("1")),
        |_, a: ApiVersionsResponse| assert_eq!(a.error_code, 0)
    );
    let id = swept.topic_id;
    sweep!(
        swept,
        ApiKey::Metadata,
        |version| {
            let topic = MetadataRequestTopic::default();
            let topic =
                if version >= 12 { topic.with_topic_id(id).with_name(None) } else { topic.with_name(Some(name())) };
            MetadataRequest::default()
                .with_topics(Some(vec![topic]))
                .with_include_topic_authorized_operations(version >= 8)
                .with_include_cluster_authorized_operations((8..=10).contains(&version))
        },
        |version, a: MetadataResponse| {
            assert_eq!((a.topics[0].error_code, a.topics[0].partitions.len()), (0, 2), "version {version}");
            assert_eq!(a.brokers.len(), 1);
        }
    );
    sweep!(swept, ApiKey::DescribeCluster, |_| DescribeClusterRequest::default(), |_, a: DescribeClusterResponse| {
        assert_eq!((a.error_code, a.brokers.len()), (0, 1));
    });
    let partitions = |_| {
        DescribeTopicPartitionsRequest::default()
            .with_topics(vec![describe_topic_partitions_request::TopicRequest::default().with_name(name())])
            .with_response_partition_limit(1)
    };
    sweep!(swept, ApiKey::DescribeTopicPartitions, partitions, |_, a: DescribeTopicPartitionsResponse| {
        assert_eq!((a.topics[0].error_code, a.topics[0].partitions.len()), (0, 1));
        assert_eq!(a.next_cursor.map(|c| c.partition_index), Some(1));
    });
    sweep!(
        swept,
        ApiKey::DescribeLogDirs,
        |_| DescribeLogDirsRequest::default().with_topics(None),
        |_, a: DescribeLogDirsResponse| assert_eq!(a.results[0].topics[0].partitions.len(), 2)
    );
    sweep!(
        swept,
        ApiKey::ListPartitionReassignments,
        |_| ListPartitionReassignmentsRequest::default().with_topics(None),
        |_, a: ListPartitionReassignmentsResponse| assert_eq!((a.error_code, a.topics.len()), (0, 0))
    );
}

/// As by a broker without an authorizer: each rule and each filter is refused, with a code that clients take for "no rules".
async fn acls(swept: &mut Swept) {
    const SECURITY_DISABLED: i16 = 54;
    sweep!(swept, ApiKey::DescribeAcls, |_| DescribeAclsRequest::default(), |_, a: DescribeAclsResponse| assert_eq!(
        (a.error_code, a.resources.len()),
        (SECURITY_DISABLED, 0)
    ));
    sweep!(
        swept,
        ApiKey::CreateAcls,
        |_| CreateAclsRequest::default().with_creations(vec![AclCreation::default(); 2]),
        |_, a: CreateAclsResponse| {
            assert_eq!(a.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [SECURITY_DISABLED; 2]);
        }
    );
    sweep!(
        swept,
        ApiKey::DeleteAcls,
        |_| DeleteAclsRequest::default().with_filters(vec![DeleteAclsFilter::default(); 2]),
        |_, a: DeleteAclsResponse| {
            assert_eq!(a.filter_results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [SECURITY_DISABLED; 2]);
        }
    );
}

async fn data(swept: &mut Swept) {
    let id = swept.topic_id;
    let mut wanted = 0;
    sweep!(
        swept,
        ApiKey::Produce,
        |version| {
            let batch = RecordsBuilder::new().values(1_700_000_000_000, ["value"]).build();
            let topic = TopicProduceData::default()
                .with_partition_data(vec![PartitionProduceData::default().with_index(0).with_records(Some(batch))]);
            let topic = if version >= 13 { topic.with_topic_id(id) } else { topic.with_name(name()) };
            ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic])
        },
        |version, a: ProduceResponse| {
            let partition = &a.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (0, wanted), "version {version}");
            wanted += 1;
        }
    );
    sweep!(
        swept,
        ApiKey::Fetch,
        |version| {
            let partition =
                FetchPartition::default().with_partition(0).with_fetch_offset(0).with_partition_max_bytes(1 << 20);
            let topic = FetchTopic::default().with_partitions(vec![partition]);
            let topic = if version >= 13 { topic.with_topic_id(id) } else { topic.with_topic(name()) };
            let request = FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_max_wait_ms(1000);
            let request = if version >= 15 { request } else { request.with_replica_id(BrokerId(-1)) };
            request.with_session_epoch(-1).with_topics(vec![topic])
        },
        |version, a: FetchResponse| {
            let partition = &a.responses[0].partitions[0];
            assert_eq!((partition.error_code, partition.high_watermark), (0, wanted), "version {version}");
            assert!(partition.records.as_ref().is_some_and(|r| r.len() > 61 * 11), "version {version}");
        }
    );
    sweep!(
        swept,
        ApiKey::ListOffsets,
        |_| {
            let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
            let topic = ListOffsetsTopic::default().with_name(name()).with_partitions(vec![partition]);
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
        },
        |version, a: ListOffsetsResponse| {
            let partition = &a.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.offset), (0, wanted), "version {version}");
        }
    );
    sweep!(
        swept,
        ApiKey::InitProducerId,
        |_| InitProducerIdRequest::default().with_transactional_id(None),
        |_, a: InitProducerIdResponse| {
            assert_eq!((a.error_code, a.producer_epoch), (0, 0));
        }
    );
    let epochs = |_| {
        let partition = OffsetForLeaderPartition::default().with_partition(0).with_leader_epoch(0);
        let topic = OffsetForLeaderTopic::default().with_topic(name()).with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    sweep!(swept, ApiKey::OffsetForLeaderEpoch, epochs, |_, a: OffsetForLeaderEpochResponse| {
        assert_eq!((a.topics[0].partitions[0].error_code, a.topics[0].partitions[0].end_offset), (0, wanted));
    });
    let producers = |_| {
        let topic = TopicRequest::default().with_name(name()).with_partition_indexes(vec![0]);
        DescribeProducersRequest::default().with_topics(vec![topic])
    };
    sweep!(swept, ApiKey::DescribeProducers, producers, |_, a: DescribeProducersResponse| {
        assert_eq!(a.topics[0].partitions[0].error_code, 0);
    });
}

async fn groups(swept: &mut Swept) {
    let coordinator = |version| {
        let request = FindCoordinatorRequest::default();
        if version >= 4 { request.with_coordinator_keys(vec![text(GROUP)]) } else { request.with_key(text(GROUP)) }
    };
    sweep!(swept, ApiKey::FindCoordinator, coordinator, |version, a: FindCoordinatorResponse| {
        assert_eq!(a.error_code, 0);
        let node = if version >= 4 { a.coordinators[0].node_id } else { a.node_id };
        assert_eq!(node, BrokerId(1), "version {version}");
    });
    let id = swept.topic_id;
    sweep!(
        swept,
        ApiKey::OffsetCommit,
        |version| {
            let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(1);
            let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
            let topic = if version >= 10 { topic.with_topic_id(id) } else { topic.with_name(name()) };
            OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic])
        },
        |version, a: OffsetCommitResponse| assert_eq!(a.topics[0].partitions[0].error_code, 0, "version {version}")
    );
    sweep!(
        swept,
        ApiKey::OffsetFetch,
        |version| {
            if version < 8 {
                let topic = OffsetFetchRequestTopic::default().with_name(name()).with_partition_indexes(vec![0]);
                return OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
            }
            let group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
            OffsetFetchRequest::default().with_groups(vec![group])
        },
        |version, a: OffsetFetchResponse| {
            let offset = if version < 8 {
                a.topics[0].partitions[0].committed_offset
            } else {
                a.groups[0].topics[0].partitions[0].committed_offset
            };
            assert_eq!(offset, 1, "version {version}");
        }
    );
    let unknown_member = 25;
    sweep!(
        swept,
        ApiKey::Heartbeat,
        |_| HeartbeatRequest::default().with_group_id(group()).with_member_id(text("nobody")),
        |_, a: HeartbeatResponse| assert_eq!(a.error_code, unknown_member)
    );
    sweep!(
        swept,
        ApiKey::SyncGroup,
        |version| {
            let request = SyncGroupRequest::default().with_group_id(group()).with_member_id(text("nobody"));
            // From version 5 on both must be there.
            let named = (version >= 5).then(|| text("consumer"));
            request.with_protocol_type(named.clone()).with_protocol_name(named)
        },
        |_, a: SyncGroupResponse| assert_eq!(a.error_code, unknown_member)
    );
    sweep!(
        swept,
        ApiKey::LeaveGroup,
        |version| {
            let request = LeaveGroupRequest::default().with_group_id(group());
            let member = leave_group_request::MemberIdentity::default().with_member_id(text("nobody"));
            if version >= 3 { request.with_members(vec![member]) } else { request.with_member_id(text("nobody")) }
        },
        |version, a: LeaveGroupResponse| {
            let code = if version >= 3 { a.members[0].error_code } else { a.error_code };
            assert_eq!(code, unknown_member, "version {version}");
        }
    );
    sweep!(
        swept,
        ApiKey::JoinGroup,
        |_| JoinGroupRequest::default()
            .with_group_id(group())
            .with_session_timeout_ms(1)
            .with_protocol_type(text("consumer")),
        |_, a: JoinGroupResponse| assert_ne!(a.error_code, 0, "the session timeout is too short")
    );
    sweep!(
        swept,
        ApiKey::DescribeGroups,
        |_| DescribeGroupsRequest::default().with_groups(vec![group()]),
        |_, a: DescribeGroupsResponse| {
            assert_eq!((a.groups[0].error_code, a.groups[0].group_state.as_str()), (0, "Empty"));
        }
    );
    sweep!(swept, ApiKey::ListGroups, |_| ListGroupsRequest::default(), |_, a: ListGroupsResponse| {
        assert_eq!(a.groups.iter().map(|g| g.group_id.as_str()).collect::<Vec<_>>(), [GROUP]);
    });
    let offsets = |_| {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let topic = OffsetDeleteRequestTopic::default().with_name(name()).with_partitions(vec![partition]);
        OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic])
    };
    sweep!(swept, ApiKey::OffsetDelete, offsets, |_, a: OffsetDeleteResponse| assert_eq!(a.error_code, 0));
    let mut deleted = 0;
    sweep!(
        swept,
        ApiKey::DeleteGroups,
        |_| DeleteGroupsRequest::default().with_groups_names(vec![group()]),
        |_, a: DeleteGroupsResponse| {
            deleted += i32::from(a.results[0].error_code == 0);
        }
    );
    assert!(deleted <= 1);
}

async fn configs(swept: &mut Swept) {
    sweep!(
        swept,
        ApiKey::DescribeConfigs,
        |version| {
            let resource = |kind, name| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            DescribeConfigsRequest::default()
                .with_resources(vec![resource(2, TOPIC), resource(4, "1")])
                .with_include_synonyms(true)
                .with_include_documentation(version >= 3)
        },
        |version, a: DescribeConfigsResponse| {
            for result in &a.results {
                assert_eq!(result.error_code, 0, "version {version}");
                assert!(result.configs.len() > 15);
            }
        }
    );
    let retention = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("7")));
    let alter = |_| {
        let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(TOPIC));
        AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![retention.clone()])])
    };
    sweep!(swept, ApiKey::AlterConfigs, alter, |_, a: AlterConfigsResponse| assert_eq!(a.responses[0].error_code, 0));
    let delete = |_| {
        let operation = Operation::default().with_name(text("retention.ms")).with_config_operation(1).with_value(None);
        let resource = Incremental::default().with_resource_type(2).with_resource_name(text(TOPIC));
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![operation])])
    };
    sweep!(swept, ApiKey::IncrementalAlterConfigs, delete, |_, a: IncrementalAlterConfigsResponse| {
        assert_eq!(a.responses[0].error_code, 0, "{a:?}");
    });
}

async fn topics(swept: &mut Swept) {
    let mut total = 2;
    let mut grow = |_| {
        total += 1;
        let topic = CreatePartitionsTopic::default().with_name(name()).with_count(total).with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
    };
    sweep!(swept, ApiKey::CreatePartitions, grow, |_, a: CreatePartitionsResponse| assert_eq!(
        a.results[0].error_code,
        0
    ));
    let records = |_| {
        let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(3);
        let topic = DeleteRecordsTopic::default().with_name(name()).with_partitions(vec![partition]);
        DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
    };
    sweep!(swept, ApiKey::DeleteRecords, records, |_, a: DeleteRecordsResponse| {
        assert_eq!((a.topics[0].partitions[0].error_code, a.topics[0].partitions[0].low_watermark), (0, 3));
    });
    let fresh = |version: i16| TopicName(StrBytes::from_string(format!("fresh-{version}")));
    let create = |version| {
        let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("5")));
        let topic =
            CreatableTopic::default().with_name(fresh(version)).with_num_partitions(1).with_replication_factor(1);
        CreateTopicsRequest::default().with_topics(vec![topic.with_configs(vec![config])]).with_timeout_ms(10_000)
    };
    sweep!(swept, ApiKey::CreateTopics, create, |version, a: CreateTopicsResponse| {
        assert_eq!(a.topics[0].error_code, 0, "version {version}");
        if version >= 5 {
            let configs = a.topics[0].configs.as_ref().expect("never null");
            assert!(configs.iter().any(|c| c.name.as_str() == "retention.ms" && c.value.as_deref() == Some("5")));
        }
    });
    let delete = |version: i16| {
        let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
        if version >= 6 {
            request.with_topics(vec![DeleteTopicState::default().with_name(Some(fresh(version)))])
        } else {
            request.with_topic_names(vec![fresh(version.max(2))])
        }
    };
    sweep!(swept, ApiKey::DeleteTopics, delete, |version, a: DeleteTopicsResponse| {
        // Version 1 and 2 name the same topic: CreateTopics begins at 2.
        let code = a.responses[0].error_code;
        assert!(code == 0 || (version == 2 && code == 3), "version {version}: {code}");
    });
}
