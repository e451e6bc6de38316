//! The journal of a cluster: a table in a PostgreSQL server that all its gateways reach.
//!
//! An append is one call of a function: one round trip, one transaction. It takes the next position from a row that stays
//! locked until the commit is durable, so positions are dense and become visible in order. Whoever waits for entries hears
//! NOTIFY, and asks now and then in case that is lost (`tail`).
//!
//! What may happen to a server is found out, never assumed away: that it is a replica, does not sync its commits (`schema`),
//! or came up without commits it had confirmed (`history`). An append whose answer is lost is repeated by the appender, and
//! `apply` knows the repetition by its session and number.

mod failure;
mod history;
mod link;
mod place;
mod schema;
mod server;
mod tail;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::failure::Failure;
use self::link::{Connector, Link};
pub use self::place::{PlaceError, PostgresPlace};
use self::schema::{Unfit, migrate};
use self::server::Server;
use self::tail::Tail;
use crate::class::{Classify, ErrorClass};
use crate::codec::{decode_entry, encode_entry};
use crate::command::Entry;
use crate::error::{AppendError, ReadError};
use crate::journal::Journal;
use crate::model::ids::Lsn;

/// Longest wait for one call. Below what callers wait (`journal-timeout-ms`), so that the connection of a call that hangs
/// is given up with it.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a server that is not there yet is waited for at start.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const OPEN_PAUSE: Duration = Duration::from_millis(250);

/// Why the journal could not be opened. Meant for whoever starts the gateway; names no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no answer.
    #[error("cannot reach PostgreSQL at {place} (--journal): {reason}")]
    Unreachable {
        /// Host and database.
        place: String,
        /// What the system said.
        reason: Arc<str>,
    },
    /// The server answers, and does not let us in.
    #[error("PostgreSQL at {place} refuses this gateway (--journal): {reason}")]
    Refused {
        /// Host and database.
        place: String,
        /// What the server said.
        reason: Arc<str>,
    },
    /// The server, or what is in it, cannot keep a journal.
    #[error("PostgreSQL at {place} cannot keep the journal (--journal): {reason}")]
    Unfit {
        /// Host and database.
        place: String,
        /// What is wrong and what to do.
        reason: Arc<str>,
    },
}

impl Classify for OpenError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } => ErrorClass::Retry,
            Self::Refused { .. } | Self::Unfit { .. } => ErrorClass::Rejected,
        }
    }
}

impl OpenError {
    fn of(place: &str, unfit: &Unfit) -> Self {
        let (place, reason) = (place.to_owned(), unfit.to_string().into());
        match unfit {
            Unfit::Failed(Failure::NotDone(_) | Failure::Unknown(_)) => Self::Unreachable { place, reason },
            Unfit::Failed(Failure::Refused(_)) => Self::Refused { place, reason },
            _ => Self::Unfit { place, reason },
        }
    }
}

/// A journal in PostgreSQL. Dropping it ends its tasks and connections.
#[derive(Debug)]
pub struct PostgresJournal {
    server: Arc<Server>,
    tail: Tail,
}

impl PostgresJournal {
    /// Opens the journal at `place`, making its tables if they are not there. Waits a few seconds for a server that cannot be
    /// reached yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// In one line, for whoever starts the gateway. A server that is unfit is left as it was.
    pub async fn open(place: PostgresPlace) -> Result<Self, OpenError> {
        let shown = place.to_string();
        let (server, connector) = reach(place).await?;
        let head = server.head().await.map_err(|failure| OpenError::of(&shown, &failure.into()))?;
        let server = Arc::new(server);
        Ok(Self { tail: Tail::start(Arc::clone(&server), connector, head), server })
    }

    /// Makes a journal that begins with this entry at this position, the journal before it being lost.
    ///
    /// # Errors
    /// As of [`PostgresJournal::open`]; and where there is a journal with entries, which is left as it was.
    pub async fn begin_at(place: PostgresPlace, lsn: Lsn, entry: &Entry) -> Result<(), OpenError> {
        let shown = place.to_string();
        let (server, _) = reach(place).await?;
        match server.begin_at(lsn, &encode_entry(entry)).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let reason = "it holds a journal already; name another schema with ?schema=".into();
                Err(OpenError::Unfit { place: shown, reason })
            }
            Err(failure) => Err(OpenError::of(&shown, &failure.into())),
        }
    }
}

/// Connects, and sees to the tables.
async fn reach(place: PostgresPlace) -> Result<(Server, Arc<Connector>), OpenError> {
    let (shown, schema) = (place.to_string(), place.schema.clone());
    let connector = Connector::new(place, CALL_TIMEOUT)
        .map_err(|reason| OpenError::Unfit { place: shown.clone(), reason: reason.into() })?;
    let deadline = Instant::now() + OPEN_WITHIN;
    let client = loop {
        let opened = match connector.open().await {
            Ok(client) => migrate(&client, &schema).await.map(|()| client),
            Err(unfit) => Err(unfit),
        };
        match opened.map_err(|unfit| OpenError::of(&shown, &unfit)) {
            Ok(client) => break client,
            Err(error) if error.class() == ErrorClass::Retry && Instant::now() < deadline => {
                tracing::warn!(%error, "the journal cannot be opened yet; trying again");
                sleep(OPEN_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    };
    let connector = Arc::new(connector);
    let appends = Link::new(Arc::clone(&connector), None);
    let reads = Link::new(Arc::clone(&connector), Some(client));
    Ok((Server::new(&schema, appends, reads), connector))
}

#[async_trait]
impl Journal for PostgresJournal {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        let lsn = self.server.append(&encode_entry(entry)).await.map_err(|failure| match failure {
            Failure::NotDone(reason) | Failure::Refused(reason) => AppendError::KnownNotWritten(reason),
            Failure::Unknown(reason) => AppendError::Unknown(reason),
            Failure::Lost(reason) => AppendError::Corrupt(lost(&reason)),
            Failure::Damaged(reason) => AppendError::Corrupt(reason),
        })?;
        self.tail.reached(lsn);
        Ok(lsn)
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        let rows = self.server.read(after, limit).await.map_err(read_error)?;
        if rows.first().is_none_or(|(lsn, _)| lsn.0 > after.0 + 1) {
            let (first, head) = self.server.ends().await.map_err(read_error)?;
            if after.0 + 1 < first.0 {
                return Err(ReadError::Trimmed { after, first });
            }
            if after > head {
                return Err(ReadError::Corrupt(lost(&format!("it ends at {head}, but entry {after} was there"))));
            }
        }
        let decode = |(lsn, bytes): (Lsn, Vec<u8>)| match decode_entry(&bytes) {
            Ok(entry) => Ok((lsn, entry)),
            Err(error) => Err(ReadError::Corrupt(format!("entry {lsn}: {error}").into())),
        };
        rows.into_iter().map(decode).collect()
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        let head = self.server.head().await.map_err(read_error)?;
        self.tail.reached(head);
        Ok(head)
    }

    fn tail(&self) -> watch::Receiver<Lsn> {
        self.tail.watch()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        while self.server.trim_some(before).await.map_err(read_error)? {}
        Ok(())
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        Ok(self.server.ends().await.map_err(read_error)?.0)
    }
}

fn read_error(failure: Failure) -> ReadError {
    match failure {
        Failure::NotDone(reason) | Failure::Unknown(reason) | Failure::Refused(reason) => {
            ReadError::Unavailable(reason)
        }
        Failure::Lost(reason) => ReadError::Corrupt(lost(&reason)),
        Failure::Damaged(reason) => ReadError::Corrupt(reason),
    }
}

/// What there is to say to whoever runs the database.
fn lost(reason: &str) -> Arc<str> {
    format!(
        "PostgreSQL has lost commits that it had confirmed, as after a failover to a replica that lagged behind ({reason}); this \
         gateway ends, because it has acted on them: docs/restore.md says how to get them back"
    )
    .into()
}
