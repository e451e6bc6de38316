//! A client that goes where gateways send it, as every client library does: it asks any of them who leads what, sends to the
//! leaders named there, and asks again when it is refused, cut off, or cannot connect.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;

use crate::raw_client::RawClient;
use crate::requests::{produce_one, topic_name};

/// Version of Metadata that it speaks.
const METADATA_VERSION: i16 = 12;
/// Version of FindCoordinator that it speaks.
const FIND_COORDINATOR_VERSION: i16 = 4;
/// Pause before it asks again; every library has one.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Most errors in a row that it takes for bad luck.
const PATIENCE: Duration = Duration::from_secs(120);
/// LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR: what libraries answer by asking for metadata and sending
/// again, without a word to their user.
const RETRIABLE: [i16; 3] = [5, 6, 56];

/// The client.
#[derive(Debug)]
pub struct Following {
    bootstrap: Vec<SocketAddr>,
    name: String,
    topic: String,
    leaders: BTreeMap<i32, SocketAddr>,
    connections: BTreeMap<SocketAddr, RawClient>,
    /// Error codes it was told, and how often; 0 stands for a connection that was lost.
    pub told: BTreeMap<i16, u64>,
}

impl Following {
    /// A client of one topic that knows these addresses to begin with, and calls itself `name`.
    pub fn new(bootstrap: &[SocketAddr], name: &str, topic: &str) -> Self {
        let (name, topic) = (name.to_owned(), topic.to_owned());
        let (leaders, connections, told) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { bootstrap: bootstrap.to_vec(), name, topic, leaders, connections, told }
    }

    /// Who leads what, by the last answer.
    pub fn leaders(&self) -> &BTreeMap<i32, SocketAddr> {
        &self.leaders
    }

    /// Produces a batch where it is told to, again and again until it is acked; its offset.
    ///
    /// # Errors
    /// If a gateway answers with an error that libraries tell their user, or there is no ack for two minutes.
    pub async fn produce(&mut self, partition: i32, batch: &Bytes) -> io::Result<i64> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let sent = match self.leaders.get(&partition).copied() {
                Some(leader) => self.produce_at(leader, partition, batch.clone()).await,
                None => Err(io::Error::from(io::ErrorKind::NotFound)),
            };
            let code = match sent {
                Ok((0, offset)) => return Ok(offset),
                Ok((code, _)) if RETRIABLE.contains(&code) => Some(code),
                Ok((code, _)) => return Err(io::Error::other(format!("partition {partition}: error {code}"))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(_) => Some(0),
            };
            if let Some(code) = code {
                *self.told.entry(code).or_default() += 1;
                tokio::time::sleep(RETRY_AFTER).await;
            }
            self.refresh().await?;
        }
        Err(io::Error::other(format!("partition {partition}: no ack; told {:?}", self.told)))
    }

    async fn produce_at(&mut self, leader: SocketAddr, partition: i32, batch: Bytes) -> io::Result<(i16, i64)> {
        let topic = self.topic.clone();
        let client = self.connection(leader).await?;
        match produce_one(client, &topic, partition, batch).await {
            Ok(told) => Ok((told.error_code, told.base_offset)),
            Err(error) => {
                self.connections.remove(&leader);
                Err(error)
            }
        }
    }

    async fn connection(&mut self, address: SocketAddr) -> io::Result<&mut RawClient> {
        if !self.connections.contains_key(&address) {
            self.connections.insert(address, RawClient::connect_as(address, &self.name).await?);
        }
        self.connections.get_mut(&address).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// Asks who leads what: those it is connected to before those it began with.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn refresh(&mut self) -> io::Result<()> {
        let known: Vec<_> = self.connections.keys().copied().chain(self.bootstrap.clone()).collect();
        for address in known {
            let topic = self.topic.clone();
            let asked = match self.connection(address).await {
                Ok(client) => metadata_of(client, &topic).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(answer) => {
                    self.leaders = leaders(&answer);
                    return Ok(());
                }
                Err(_) => drop(self.connections.remove(&address)),
            }
        }
        Err(io::Error::other("no gateway answers"))
    }
}

/// The metadata of one topic.
///
/// # Errors
/// If no answer comes.
pub async fn metadata_of(client: &mut RawClient, topic: &str) -> io::Result<MetadataResponse> {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    client.ask(METADATA_VERSION, &MetadataRequest::default().with_topics(Some(vec![topic]))).await
}

/// Who leads what, by an answer of one topic.
pub fn leaders(answer: &MetadataResponse) -> BTreeMap<i32, SocketAddr> {
    let address = |node: i32| {
        let broker = answer.brokers.iter().find(|broker| broker.node_id.0 == node)?;
        Some(SocketAddr::new(broker.host.parse().ok()?, u16::try_from(broker.port).ok()?))
    };
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.filter_map(|p| Some((p.partition_index, address(p.leader_id.0)?))).collect()
}

/// Node and address of a group's coordinator; `None` if there is none now.
///
/// # Errors
/// If no answer comes.
pub async fn coordinator_of(client: &mut RawClient, group: &str) -> io::Result<Option<(i32, SocketAddr)>> {
    let request =
        FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
    let answer = client.ask(FIND_COORDINATOR_VERSION, &request).await?;
    let found = answer.coordinators.first().filter(|found| found.error_code == 0);
    Ok(found.and_then(|found| {
        Some((found.node_id.0, SocketAddr::new(found.host.parse().ok()?, u16::try_from(found.port).ok()?)))
    }))
}
