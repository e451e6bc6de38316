//! A connection that is made when it is needed, and made again when it is lost.
//!
//! No statement relies on anything an earlier one left in the session: behind a pooler each may meet another server process.
//! Calls end at a deadline. No cancel request is ever sent: it would end a commit's wait for the replicas, and the server
//! would then confirm what they do not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Connection, Row, Socket};

use super::failure::{Failure, is_of_startup, is_of_the_server};
use super::place::PostgresPlace;
use super::schema::{Unfit, inspect};
use super::tls::{Encrypted, Tls};

/// A value of a statement, with its type: nothing is prepared, so that nothing need be remembered.
pub(super) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// Opens connections to one place.
#[derive(Debug)]
pub(super) struct Connector {
    place: PostgresPlace,
    tls: Tls,
    timeout: Duration,
    /// A pooler refused what we set when connecting.
    is_pooled: AtomicBool,
}

impl Connector {
    pub(super) fn new(place: PostgresPlace, timeout: Duration) -> Result<Self, String> {
        let tls = Tls::new(&place.trust)?;
        Ok(Self { place, tls, timeout, is_pooled: AtomicBool::new(false) })
    }

    /// Where appends are told.
    pub(super) fn channel(&self) -> &str {
        &self.place.schema
    }

    /// A new connection to a server that is fit to keep a journal. The caller drives the second part.
    pub(super) async fn connect(&self) -> Result<(Client, Connection<Socket, Encrypted<Socket>>), Failure> {
        if !self.is_pooled.load(Ordering::Relaxed) {
            // The server ends by itself what we have given up. A commit is not ended by this: the clock stops before it.
            let mut config = self.place.config.clone();
            let given = config.get_options().map(|given| format!("{given} ")).unwrap_or_default();
            config.options(format!("{given}-c statement_timeout={}", self.timeout.as_millis()));
            match config.connect(self.tls.clone()).await {
                Err(error) if is_of_startup(&error) => self.is_pooled.store(true, Ordering::Relaxed),
                connected => return connected.map_err(|error| Failure::of_connecting(&error)),
            }
        }
        self.place.config.connect(self.tls.clone()).await.map_err(|error| Failure::of_connecting(&error))
    }

    /// The same, driven by a task of its own, and looked at.
    pub(super) async fn open(&self) -> Result<Client, Unfit> {
        let (client, connection) = self.connect().await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        inspect(&client).await?;
        Ok(client)
    }
}

/// A connection shared by those who ask by it. Statements of several callers are sent one behind the other without waiting.
#[derive(Debug)]
pub(super) struct Link {
    connector: Arc<Connector>,
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
}

impl Link {
    /// A link that connects when first used, or goes on with this connection.
    pub(super) fn new(connector: Arc<Connector>, client: Option<Client>) -> Self {
        Self { connector, client: tokio::sync::Mutex::new(client.map(Arc::new)) }
    }

    /// Carries out one statement, in a transaction of its own.
    pub(super) async fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Failure> {
        let deadline = Instant::now() + self.connector.timeout;
        let late = |what: &str| format!("{what} in {} ms", self.connector.timeout.as_millis()).into();
        let client = match timeout_at(deadline, self.client()).await {
            Ok(client) => client?,
            Err(_) => return Err(Failure::NotDone(late("no connection"))),
        };
        match timeout_at(deadline, client.query_typed(sql, values)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                if is_of_the_server(&error) {
                    self.discard(&client).await;
                }
                Err(Failure::of(&error))
            }
            Err(_) => {
                self.discard(&client).await;
                Err(Failure::Unknown(late("no answer")))
            }
        }
    }

    async fn client(&self) -> Result<Arc<Client>, Failure> {
        let mut slot = self.client.lock().await; // whoever else asks waits for the same connection
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        *slot = None;
        let client = self.connector.open().await.map_err(|unfit| match unfit {
            Unfit::Failed(refused @ Failure::Refused(_)) => refused,
            unfit => Failure::NotDone(unfit.to_string().into()), // our statement was not sent
        })?;
        Ok(Arc::clone(slot.insert(Arc::new(client))))
    }

    /// Lets a connection go; the next call makes another.
    pub(super) async fn discard(&self, client: &Arc<Client>) {
        let mut slot = self.client.lock().await;
        slot.take_if(|current| Arc::ptr_eq(current, client));
    }

    /// Lets the present connection go.
    pub(super) async fn reset(&self) {
        self.client.lock().await.take();
    }
}
