//! Gateways on one PostgreSQL and one bucket, each with wires of its own to both.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::MetadataRequest;
use tokio::time::sleep;

use crate::chaos::proxy::Proxy;
use crate::harness::{Gateway, Setup};
use crate::postgres::Postgres;
use crate::raw_client::RawClient;
use crate::s3_server::S3Server;

/// Of the gateways' sessions; short, so that a death is seen soon.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for what must happen.
const SOON: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A gateway and its wires.
#[derive(Debug)]
pub struct Node {
    /// The gateway.
    pub gateway: Gateway,
    /// Between it and PostgreSQL.
    pub journal: Proxy,
    /// Between it and the bucket.
    pub store: Proxy,
}

/// All of it; ends when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The gateways; the node id of each is its place plus one.
    pub nodes: Vec<Node>,
    /// What they share.
    pub postgres: Postgres,
    /// What they share.
    pub s3: S3Server,
}

impl Cluster {
    /// Starts so many gateways; returns when each names all.
    ///
    /// # Errors
    /// If something does not start; the text says why.
    pub async fn start(count: usize) -> io::Result<Self> {
        let mut cluster = Self { nodes: Vec::new(), postgres: Postgres::start()?, s3: S3Server::start().await };
        for _ in 0..count {
            let node = cluster.node().await?;
            cluster.nodes.push(node);
        }
        cluster.is_seen(count).await?;
        Ok(cluster)
    }

    /// Starts one gateway more, to be added to the others.
    ///
    /// # Errors
    /// If it does not start; the text says why.
    pub async fn node(&self) -> io::Result<Node> {
        let endpoint = self.s3.endpoint();
        let store = endpoint.trim_start_matches("http://").parse().map_err(io::Error::other)?;
        let (journal, store) = (Proxy::start(self.postgres.address()).await?, Proxy::start(store).await?);
        let (bucket, endpoint) = (format!("s3://{}", self.s3.bucket()), format!("http://{}", store.address()));
        let (url, number) = (self.postgres.url_at(journal.address()), (self.nodes.len() + 1).to_string());
        let setup = Setup::new()?.args(["--bucket", &bucket, "--endpoint", &endpoint]);
        let setup = setup.args(["--journal", &url, "--node-id", &number]);
        let setup = [
            ("metadata.session-timeout-ms", SESSION_TIMEOUT.as_millis().to_string().as_str()),
            ("metadata.state-check-interval-ms", "1000"),
            ("kafka.group.initial.rebalance.delay.ms", "0"),
            // Snapshots, merges and sweeps go on meanwhile.
            ("metadata.snapshot-entries", "500"),
            ("storage.merge-interval-ms", "500"),
            ("storage.merge-age-min-ms", "500"),
            ("storage.merge-objects-min", "16"),
            ("storage.sweep-interval-ms", "500"),
            ("storage.sweep-grace-ms", "60000"),
        ]
        .into_iter()
        .fold(setup, |setup, (key, value)| setup.set(key, value));
        let setup = self.s3.environment().into_iter().fold(setup, |setup, (name, value)| setup.env(name, value));
        Ok(Node { gateway: setup.start().await?, journal, store })
    }

    /// Where the gateways serve clients.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.gateway.address()).collect()
    }

    /// Waits until every gateway names so many, itself included.
    ///
    /// # Errors
    /// If that is not so in time.
    pub async fn is_seen(&self, count: usize) -> io::Result<()> {
        for at in 0..self.nodes.len() {
            self.is_seen_by(at, count).await?;
        }
        Ok(())
    }

    /// Waits until one gateway names so many.
    ///
    /// # Errors
    /// If that is not so in time.
    pub async fn is_seen_by(&self, at: usize, count: usize) -> io::Result<()> {
        let began = Instant::now();
        let mut named = None;
        while began.elapsed() < SOON {
            if let Ok(mut client) = RawClient::connect(self.nodes[at].gateway.address()).await {
                let no_topics = MetadataRequest::default().with_topics(Some(Vec::new()));
                named = client.ask(12, &no_topics).await.map(|answer| answer.brokers.len()).ok();
            }
            if named == Some(count) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        let said = self.nodes[at].gateway.stderr();
        Err(io::Error::other(format!("gateway {} names {named:?} gateways, not {count}\n{said}", at + 1)))
    }

    /// Each gateway runs, has not panicked, and has found no other state than its own.
    ///
    /// # Errors
    /// If not so; the text says which, and what it wrote.
    pub async fn is_well(&mut self) -> io::Result<()> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let said = node.gateway.stderr();
            if !node.gateway.is_running() || said.contains("panicked") {
                return Err(io::Error::other(format!("gateway {} is not well:\n{said}", at + 1)));
            }
            let differences = node.gateway.metric("streamhouse_journal_state_differences_total").await?;
            if differences != Some(0.0) {
                return Err(io::Error::other(format!("gateway {}: {differences:?} states differ:\n{said}", at + 1)));
            }
        }
        Ok(())
    }

    /// Asks one to end, and waits until it has.
    ///
    /// # Errors
    /// If it does not end well.
    pub async fn leave(&mut self, at: usize) -> io::Result<()> {
        let gateway = &mut self.nodes[at].gateway;
        match gateway.terminate().await? {
            Some(0) => Ok(()),
            code => Err(io::Error::other(format!("gateway {} ended with {code:?}:\n{}", at + 1, gateway.stderr()))),
        }
    }
}
