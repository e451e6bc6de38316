//! Topics, their partitions and their records.

use std::collections::BTreeMap;

use rdkafka::bindings as c;
use rdkafka::producer::Producer;

use super::{Admin, Answer, Failure, Node, Outcomes, Owned, TopicPartition};
use super::{array, failure_at, made, node_at, partition_list, partitions_at, pointers, text_at, text_for};

/// A topic to be made. What is not said is the cluster's default.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its number of partitions.
    pub partitions: Option<i32>,
    /// Its replication factor.
    pub replication: Option<i32>,
    /// The brokers of each partition, instead of the two numbers.
    pub assignment: Vec<Vec<i32>>,
    /// Settings of its own.
    pub configs: BTreeMap<String, String>,
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id as Kafka writes it: base64 without padding.
    pub id: String,
    /// By number.
    pub partitions: Vec<Partition>,
}

/// A partition as the cluster describes it.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Its number.
    pub id: i32,
    /// Nobody, while it has none.
    pub leader: Option<i32>,
    /// Its replicas.
    pub replicas: Vec<i32>,
    /// Those of them that keep up.
    pub isr: Vec<i32>,
}

type Results = Outcomes<String, ()>;

impl Admin {
    /// The names of all topics with the number of their partitions, by name.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn topics(&self) -> Result<BTreeMap<String, Vec<i32>>, Failure> {
        let metadata = self.client.client().fetch_metadata(None, self.patience);
        let metadata = metadata.map_err(|error| match Failure::from(error) {
            failure if failure.is_timeout() => Failure::timed_out("listTopics"),
            failure => failure,
        })?;
        let partitions = |topic: &rdkafka::metadata::MetadataTopic| {
            let mut ids: Vec<_> = topic.partitions().iter().map(|partition| partition.id()).collect();
            ids.sort_unstable();
            ids
        };
        Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), partitions(topic))).collect())
    }

    /// The brokers.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn nodes(&self) -> Result<Vec<Node>, Failure> {
        let metadata = self.client.client().fetch_metadata(None, self.patience)?;
        let node = |broker: &rdkafka::metadata::MetadataBroker| Node {
            id: broker.id(),
            host: broker.host().to_owned(),
            port: u16::try_from(broker.port()).unwrap_or_default(),
        };
        Ok(metadata.brokers().iter().map(node).collect())
    }

    /// Describes topics, in the order of their names.
    ///
    /// # Errors
    /// If the cluster does not answer; one for each topic it does not know.
    pub fn describe_topics(&self, names: &[String]) -> Result<Outcomes<String, Topic>, Failure> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = names.iter().map(|name| text_for(name)).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the collection copies the names; see the head of the room for the rest.
        unsafe {
            let collection = Owned {
                pointer: c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
                free: c::rd_kafka_TopicCollection_destroy,
            };
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
            let answer = self.ask(op, "describeTopics", |call| {
                c::rd_kafka_DescribeTopics(call.rk, collection.pointer, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DescribeTopics_result(answer.event());
            let topics = array(|count| c::rd_kafka_DescribeTopics_result_topics(result, count));
            let mut described: Vec<_> = topics.iter().map(|topic| described(*topic)).collect();
            described.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(described)
        }
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// If the cluster refuses it or does not answer.
    pub fn create_topic(&self, topic: &NewTopic) -> Result<(), Failure> {
        let name = text_for(&topic.name)?;
        let assigned = (!topic.assignment.is_empty()).then_some(topic.assignment.len() as i32);
        let partitions = assigned.or(topic.partitions).unwrap_or(-1);
        let replication = if assigned.is_some() { -1 } else { topic.replication.unwrap_or(-1) };
        // SAFETY: see the head of the room.
        unsafe {
            let new = made(c::rd_kafka_NewTopic_destroy, |text, size| {
                c::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replication, text, size)
            })?;
            for (key, value) in &topic.configs {
                c::rd_kafka_NewTopic_set_config(new.pointer, text_for(key)?.as_ptr(), text_for(value)?.as_ptr());
            }
            for (partition, brokers) in topic.assignment.iter().enumerate() {
                let mut brokers = brokers.clone();
                let mut text = [0; super::ERROR_TEXT];
                let (at, count) = (brokers.as_mut_ptr(), brokers.len());
                let error = c::rd_kafka_NewTopic_set_replica_assignment(
                    new.pointer,
                    partition as i32,
                    at,
                    count,
                    text.as_mut_ptr(),
                    text.len(),
                );
                if error as i32 != 0 {
                    return Err(Failure::of(error as i32, &text_at(text.as_ptr())));
                }
            }
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
            let answer = self.ask(op, "createTopics", |call| {
                c::rd_kafka_CreateTopics(call.rk, &mut { new.pointer }, 1, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_CreateTopics_result(answer.event());
            first(results(&answer, |count| c::rd_kafka_CreateTopics_result_topics(result, count)))
        }
    }

    /// Deletes topics.
    ///
    /// # Errors
    /// If the cluster does not answer; one for each topic it does not delete.
    pub fn delete_topics(&self, names: &[String]) -> Result<Results, Failure> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = names.iter().map(|name| text_for(name)).collect::<Result<Vec<_>, _>>()?;
        // SAFETY: see the head of the room.
        unsafe {
            let owned = |name: &std::ffi::CString| Owned {
                pointer: c::rd_kafka_DeleteTopic_new(name.as_ptr()),
                free: c::rd_kafka_DeleteTopic_destroy,
            };
            let topics: Vec<_> = names.iter().map(owned).collect();
            let mut topics_at = pointers(&topics);
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETETOPICS;
            let answer = self.ask(op, "deleteTopics", |call| {
                c::rd_kafka_DeleteTopics(call.rk, topics_at.as_mut_ptr(), topics_at.len(), call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DeleteTopics_result(answer.event());
            Ok(results(&answer, |count| c::rd_kafka_DeleteTopics_result_topics(result, count)))
        }
    }

    /// Raises the number of partitions of a topic; the brokers of the new ones may be said.
    ///
    /// # Errors
    /// If the cluster refuses it or does not answer.
    pub fn add_partitions(&self, topic: &str, total: usize, assignment: &[Vec<i32>]) -> Result<(), Failure> {
        let name = text_for(topic)?;
        // SAFETY: see the head of the room.
        unsafe {
            let new = made(c::rd_kafka_NewPartitions_destroy, |text, size| {
                c::rd_kafka_NewPartitions_new(name.as_ptr(), total, text, size)
            })?;
            for (place, brokers) in assignment.iter().enumerate() {
                let mut brokers = brokers.clone();
                let mut text = [0; super::ERROR_TEXT];
                let (at, count) = (brokers.as_mut_ptr(), brokers.len());
                c::rd_kafka_NewPartitions_set_replica_assignment(
                    new.pointer,
                    place as i32,
                    at,
                    count,
                    text.as_mut_ptr(),
                    text.len(),
                );
            }
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS;
            let answer = self.ask(op, "createPartitions", |call| {
                c::rd_kafka_CreatePartitions(call.rk, &mut { new.pointer }, 1, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_CreatePartitions_result(answer.event());
            first(results(&answer, |count| c::rd_kafka_CreatePartitions_result_topics(result, count)))
        }
    }

    /// Deletes the records before an offset; answers where each log begins then.
    ///
    /// # Errors
    /// If the cluster does not answer; one for each partition it refuses.
    pub fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Outcomes<TopicPartition, i64>, Failure> {
        let list = partition_list(before.iter().map(|(partition, offset)| (partition, *offset)))?;
        // SAFETY: the request copies the list; see the head of the room for the rest.
        unsafe {
            let request =
                Owned { pointer: c::rd_kafka_DeleteRecords_new(list.pointer), free: c::rd_kafka_DeleteRecords_destroy };
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETERECORDS;
            let answer = self.ask(op, "deleteRecords", |call| {
                c::rd_kafka_DeleteRecords(call.rk, &mut { request.pointer }, 1, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DeleteRecords_result(answer.event());
            let offsets = partitions_at(c::rd_kafka_DeleteRecords_result_offsets(result));
            Ok(offsets.into_iter().map(|(of, offset, failure, _)| (of, failure.map_or(Ok(offset), Err))).collect())
        }
    }
}

/// What became of each topic of a call.
///
/// # Safety
/// The getter must belong to the answer.
unsafe fn results(
    _answer: &Answer,
    read: impl FnOnce(*mut usize) -> *mut *const c::rd_kafka_topic_result_t,
) -> Results {
    // SAFETY: as the caller promises.
    unsafe {
        let one = |result: &*const c::rd_kafka_topic_result_t| {
            let code = c::rd_kafka_topic_result_error(*result) as i32;
            let text = text_at(c::rd_kafka_topic_result_error_string(*result));
            let outcome = if code == 0 { Ok(()) } else { Err(Failure::of(code, &text)) };
            (text_at(c::rd_kafka_topic_result_name(*result)), outcome)
        };
        array(read).iter().map(one).collect()
    }
}

fn first(results: Results) -> Result<(), Failure> {
    results.into_iter().try_for_each(|(_, outcome)| outcome)
}

/// # Safety
/// A description that lives for the call.
unsafe fn described(topic: *const c::rd_kafka_TopicDescription_t) -> (String, Result<Topic, Failure>) {
    // SAFETY: as the caller promises.
    unsafe {
        let name = text_at(c::rd_kafka_TopicDescription_name(topic));
        if let Some(failure) = failure_at(c::rd_kafka_TopicDescription_error(topic)) {
            return (name, Err(failure));
        }
        let ids = |nodes: &[*const c::rd_kafka_Node_t]| nodes.iter().map(|node| c::rd_kafka_Node_id(*node)).collect();
        let partition = |at: &*const c::rd_kafka_TopicPartitionInfo_t| Partition {
            id: c::rd_kafka_TopicPartitionInfo_partition(*at),
            leader: node_at(c::rd_kafka_TopicPartitionInfo_leader(*at)).map(|node| node.id).filter(|id| *id >= 0),
            replicas: ids(array(|count| c::rd_kafka_TopicPartitionInfo_replicas(*at, count))),
            isr: ids(array(|count| c::rd_kafka_TopicPartitionInfo_isr(*at, count))),
        };
        let partitions = array(|count| c::rd_kafka_TopicDescription_partitions(topic, count));
        let mut partitions: Vec<_> = partitions.iter().map(partition).collect();
        partitions.sort_by_key(|partition| partition.id);
        let id = text_at(c::rd_kafka_Uuid_base64str(c::rd_kafka_TopicDescription_topic_id(topic)));
        // Kafka writes the alphabet of web addresses.
        let id = id.replace('+', "-").replace('/', "_");
        (name.clone(), Ok(Topic { name, id, partitions }))
    }
}
