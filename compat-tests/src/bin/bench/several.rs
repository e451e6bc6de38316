//! Gateways that know each other, and what they stand on.

use std::time::{Duration, Instant};

use ::storage::codec::records::RecordsBuilder;
use compat_tests::harness::Gateway;
use compat_tests::postgres::Postgres;
use compat_tests::requests::create_topic;
use kafka_protocol::messages::MetadataRequest;
use tokio::time::sleep;

use super::bucket::{Bucket, Latencies};
use super::report::Result;

/// The topic that a cluster begins with.
pub const TOPIC: &str = "load";
const TIMESTAMP: i64 = 1_700_000_000_000;
/// Longest wait for the gateways to know each other.
const SOON: Duration = Duration::from_secs(30);

/// A batch of one record of 1 KiB.
pub fn batch() -> bytes::Bytes {
    RecordsBuilder::new().values(TIMESTAMP, [[7; 1024]]).build()
}

/// Gateways that know each other; they end before what they stand on.
#[derive(Debug)]
pub struct Cluster {
    pub gateways: Vec<Gateway>,
    _bucket: Bucket,
    _postgres: Postgres,
}

impl Cluster {
    /// Starts so many, with the default options, and makes a topic.
    pub async fn start(count: usize, latencies: Latencies, partitions: i32) -> Result<Self> {
        let (bucket, postgres) = (Bucket::start(latencies)?, Postgres::start()?);
        let mut gateways = Vec::with_capacity(count);
        for _ in 0..count {
            gateways.push(bucket.gateway()?.args(["--journal", &postgres.url()]).start().await?);
        }
        let cluster = Self { gateways, _bucket: bucket, _postgres: postgres };
        for gateway in &cluster.gateways {
            names(gateway, count).await?;
        }
        match create_topic(&mut cluster.gateways[0].client().await?, TOPIC, partitions, &[]).await? {
            0 => Ok(cluster),
            code => Err(format!("no topic: error {code}").into()),
        }
    }

    /// Processor time that all gateways have taken.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let each: std::io::Result<Vec<f64>> = self.gateways.iter().map(Gateway::cpu_seconds).collect();
        Ok(each?.iter().sum())
    }
}

/// Waits until a gateway names so many.
async fn names(gateway: &Gateway, count: usize) -> Result<()> {
    let (mut client, began) = (gateway.client().await?, Instant::now());
    let no_topics = MetadataRequest::default().with_topics(Some(Vec::new()));
    while began.elapsed() < SOON {
        if client.ask(12, &no_topics).await?.brokers.len() == count {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(format!("no {count} gateways after {SOON:?}").into())
}
