//! Groups and what they committed.

use std::collections::BTreeMap;
use std::ffi::CString;

use rdkafka::bindings as c;

use super::{Admin, Failure, Node, Outcomes, Owned, TopicPartition};
use super::{array, failure_at, maybe_text_at, node_at, partition_list, partitions_at, pointers, text_at, text_for};

/// Offset of a partition that a group has committed nothing for.
const NOTHING_COMMITTED: i64 = -1001;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub id: String,
    /// Its state, as Kafka writes it.
    pub state: String,
    /// `Classic` or `Consumer`.
    pub kind: String,
}

/// A group as the cluster describes it.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name.
    pub id: String,
    /// Its state, as Kafka writes it.
    pub state: String,
    /// How its members share the partitions.
    pub assignor: String,
    /// Who looks after it.
    pub coordinator: Node,
    /// In the order of the answer.
    pub members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct Member {
    /// The id it was given.
    pub id: String,
    /// Of a static member.
    pub instance: Option<String>,
    /// What it calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// What it reads.
    pub assignment: Vec<TopicPartition>,
}

/// What a group committed for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The next offset it wants.
    pub offset: i64,
    /// The leader epoch that goes with it.
    pub epoch: Option<i32>,
}

impl Admin {
    /// All groups of consumers, by name.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn groups(&self) -> Result<Vec<GroupListing>, Failure> {
        // SAFETY: see the head of the room.
        unsafe {
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
            let answer = self.ask(op, "listGroups", |call| {
                c::rd_kafka_ListConsumerGroups(call.rk, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_ListConsumerGroups_result(answer.event());
            for error in array(|count| c::rd_kafka_ListConsumerGroups_result_errors(result, count)) {
                failure_at(*error).map_or(Ok(()), Err)?;
            }
            let listing = |at: &*const c::rd_kafka_ConsumerGroupListing_t| GroupListing {
                id: text_at(c::rd_kafka_ConsumerGroupListing_group_id(*at)),
                state: state(c::rd_kafka_ConsumerGroupListing_state(*at)),
                kind: text_at(c::rd_kafka_consumer_group_type_name(c::rd_kafka_ConsumerGroupListing_type(*at))),
            };
            let valid = array(|count| c::rd_kafka_ListConsumerGroups_result_valid(result, count));
            let mut groups: Vec<_> = valid.iter().map(listing).collect();
            groups.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(groups)
        }
    }

    /// Describes groups, in the order of their names.
    ///
    /// # Errors
    /// If the cluster does not answer; one for each group it refuses.
    pub fn describe_groups(&self, names: &[String]) -> Result<Outcomes<String, Group>, Failure> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = texts(names)?;
        let mut names_at: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the names are copied; see the head of the room for the rest.
        unsafe {
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
            let answer = self.ask(op, "describeConsumerGroups", |call| {
                let (at, count) = (names_at.as_mut_ptr(), names_at.len());
                c::rd_kafka_DescribeConsumerGroups(call.rk, at, count, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DescribeConsumerGroups_result(answer.event());
            let groups = array(|count| c::rd_kafka_DescribeConsumerGroups_result_groups(result, count));
            let mut described: Vec<_> = groups.iter().map(|group| described(*group)).collect();
            described.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(described)
        }
    }

    /// Deletes groups.
    ///
    /// # Errors
    /// If the cluster does not answer; one for each group it does not delete.
    pub fn delete_groups(&self, names: &[String]) -> Result<Outcomes<String, ()>, Failure> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = texts(names)?;
        // SAFETY: see the head of the room.
        unsafe {
            let owned = |name: &CString| Owned {
                pointer: c::rd_kafka_DeleteGroup_new(name.as_ptr()),
                free: c::rd_kafka_DeleteGroup_destroy,
            };
            let groups: Vec<_> = names.iter().map(owned).collect();
            let mut groups_at = pointers(&groups);
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEGROUPS;
            let answer = self.ask(op, "deleteConsumerGroups", |call| {
                c::rd_kafka_DeleteGroups(call.rk, groups_at.as_mut_ptr(), groups_at.len(), call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DeleteGroups_result(answer.event());
            let deleted = |at: &*const c::rd_kafka_group_result_t| {
                let failure = failure_at(c::rd_kafka_group_result_error(*at));
                (text_at(c::rd_kafka_group_result_name(*at)), failure.map_or(Ok(()), Err))
            };
            Ok(array(|count| c::rd_kafka_DeleteGroups_result_groups(result, count)).iter().map(deleted).collect())
        }
    }

    /// What a group committed, for all partitions it committed anything for.
    ///
    /// # Errors
    /// If the cluster refuses it or does not answer.
    pub fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>, Failure> {
        let group = text_for(group)?;
        // SAFETY: see the head of the room.
        unsafe {
            let request = Owned {
                pointer: c::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), std::ptr::null()),
                free: c::rd_kafka_ListConsumerGroupOffsets_destroy,
            };
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
            let answer = self.ask(op, "listConsumerGroupOffsets", |call| {
                c::rd_kafka_ListConsumerGroupOffsets(call.rk, &mut { request.pointer }, 1, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_ListConsumerGroupOffsets_result(answer.event());
            let mut committed = BTreeMap::new();
            for group in array(|count| c::rd_kafka_ListConsumerGroupOffsets_result_groups(result, count)) {
                failure_at(c::rd_kafka_group_result_error(*group)).map_or(Ok(()), Err)?;
                for (of, offset, failure, epoch) in partitions_at(c::rd_kafka_group_result_partitions(*group)) {
                    failure.map_or(Ok(()), Err)?;
                    if offset != NOTHING_COMMITTED {
                        committed.insert(of, Committed { offset, epoch: (epoch >= 0).then_some(epoch) });
                    }
                }
            }
            Ok(committed)
        }
    }

    /// Commits offsets for a group without members.
    ///
    /// # Errors
    /// If the cluster refuses one or does not answer.
    pub fn commit(&self, group: &str, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), Failure> {
        if offsets.is_empty() {
            return Ok(());
        }
        let group = text_for(group)?;
        let list = partition_list(offsets.iter().map(|(partition, offset)| (partition, *offset)))?;
        // SAFETY: the request copies the list; see the head of the room for the rest.
        unsafe {
            let request = Owned {
                pointer: c::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), list.pointer),
                free: c::rd_kafka_AlterConsumerGroupOffsets_destroy,
            };
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
            let answer = self.ask(op, "alterConsumerGroupOffsets", |call| {
                c::rd_kafka_AlterConsumerGroupOffsets(call.rk, &mut { request.pointer }, 1, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_AlterConsumerGroupOffsets_result(answer.event());
            for group in array(|count| c::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, count)) {
                failure_at(c::rd_kafka_group_result_error(*group)).map_or(Ok(()), Err)?;
                for (_, _, failure, _) in partitions_at(c::rd_kafka_group_result_partitions(*group)) {
                    failure.map_or(Ok(()), Err)?;
                }
            }
            Ok(())
        }
    }

    /// Forgets what a group committed for some partitions.
    ///
    /// # Errors
    /// If the cluster refuses the group or does not answer; one for each partition it refuses.
    pub fn forget_committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<Failure>)>, Failure> {
        let group = text_for(group)?;
        let list = partition_list(partitions.iter().map(|partition| (partition, 0)))?;
        // SAFETY: the request copies the list; see the head of the room for the rest.
        unsafe {
            let request = Owned {
                pointer: c::rd_kafka_DeleteConsumerGroupOffsets_new(group.as_ptr(), list.pointer),
                free: c::rd_kafka_DeleteConsumerGroupOffsets_destroy,
            };
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS;
            let answer = self.ask(op, "deleteConsumerGroupOffsets", |call| {
                c::rd_kafka_DeleteConsumerGroupOffsets(call.rk, &mut { request.pointer }, 1, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DeleteConsumerGroupOffsets_result(answer.event());
            let mut outcomes = Vec::new();
            for group in array(|count| c::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, count)) {
                failure_at(c::rd_kafka_group_result_error(*group)).map_or(Ok(()), Err)?;
                let read = partitions_at(c::rd_kafka_group_result_partitions(*group));
                outcomes.extend(read.into_iter().map(|(of, _, failure, _)| (of, failure)));
            }
            Ok(outcomes)
        }
    }
}

fn texts(names: &[String]) -> Result<Vec<CString>, Failure> {
    names.iter().map(|name| text_for(name)).collect()
}

fn state(state: c::rd_kafka_consumer_group_state_t) -> String {
    // SAFETY: a text that librdkafka keeps for ever.
    unsafe { text_at(c::rd_kafka_consumer_group_state_name(state)) }
}

/// # Safety
/// A description that lives for the call.
unsafe fn described(group: *const c::rd_kafka_ConsumerGroupDescription_t) -> (String, Result<Group, Failure>) {
    // SAFETY: as the caller promises; members are asked for by an index below their number.
    unsafe {
        let id = text_at(c::rd_kafka_ConsumerGroupDescription_group_id(group));
        if let Some(failure) = failure_at(c::rd_kafka_ConsumerGroupDescription_error(group)) {
            return (id, Err(failure));
        }
        let member = |place| {
            let at = c::rd_kafka_ConsumerGroupDescription_member(group, place);
            let assignment = c::rd_kafka_MemberAssignment_partitions(c::rd_kafka_MemberDescription_assignment(at));
            let mut assignment: Vec<_> = partitions_at(assignment).into_iter().map(|(of, ..)| of).collect();
            assignment.sort();
            Member {
                id: text_at(c::rd_kafka_MemberDescription_consumer_id(at)),
                instance: maybe_text_at(c::rd_kafka_MemberDescription_group_instance_id(at)),
                client: text_at(c::rd_kafka_MemberDescription_client_id(at)),
                host: text_at(c::rd_kafka_MemberDescription_host(at)),
                assignment,
            }
        };
        let count = c::rd_kafka_ConsumerGroupDescription_member_count(group);
        let coordinator = node_at(c::rd_kafka_ConsumerGroupDescription_coordinator(group));
        let described = Group {
            id: id.clone(),
            state: state(c::rd_kafka_ConsumerGroupDescription_state(group)),
            assignor: text_at(c::rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
            coordinator: coordinator.unwrap_or_default(),
            members: (0..count).map(member).collect(),
        };
        (id, Ok(described))
    }
}
