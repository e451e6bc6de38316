//! Hears of new entries: by NOTIFY, and by asking in case a notification is lost.
//!
//! How often it is asked depends on whether notifications are seen to come: seldom if they do; often where they do not, as
//! behind a pooler that gives each transaction another server process, or while there is no connection to listen on.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{AsyncMessage, Client, Connection, Socket};

use super::failure::{Failure, reason};
use super::link::Connector;
use super::server::Server;
use super::tls::Encrypted;
use crate::backoff::Backoff;
use crate::model::ids::Lsn;

/// Between two questions while notifications come.
const ASK_SELDOM: Duration = Duration::from_millis(500);
/// Between two questions while they do not.
const ASK_OFTEN: Duration = Duration::from_millis(20);
const RETRY_INITIAL: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// The tasks that follow the journal's head.
#[derive(Debug)]
pub(super) struct Tail {
    heard: Arc<Heard>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Heard {
    head: watch::Sender<Lsn>,
    /// The highest position that a notification named.
    notified: AtomicU64,
    /// Whether there is a connection that listens.
    is_listening: AtomicBool,
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Tail {
    /// Follows from `head` on. Needs a tokio runtime.
    pub(super) fn start(server: Arc<Server>, connector: Arc<Connector>, head: Lsn) -> Self {
        let heard = Arc::new(Heard {
            head: watch::Sender::new(head),
            notified: AtomicU64::new(0),
            is_listening: AtomicBool::new(false),
        });
        let tasks = [
            tokio::spawn(listen(Arc::clone(&connector), Arc::clone(&heard))),
            tokio::spawn(ask(server, Arc::clone(&heard))),
        ];
        Self { heard, tasks }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Lsn> {
        self.heard.head.subscribe()
    }

    /// An entry of this process is there.
    pub(super) fn reached(&self, lsn: Lsn) {
        self.heard.reached(lsn);
    }
}

impl Heard {
    fn reached(&self, lsn: Lsn) {
        self.head.send_if_modified(|head| {
            let is_newer = lsn > *head;
            *head = lsn.max(*head);
            is_newer
        });
    }
}

/// Listens for as long as it lives, on one connection after the other.
async fn listen(connector: Arc<Connector>, heard: Arc<Heard>) {
    let mut backoff = Backoff::new(RETRY_INITIAL, RETRY_MAX, 1);
    loop {
        if let Ok((client, connection)) = connector.connect().await {
            let ended = hear(&connector, client, connection, &heard, &mut backoff).await;
            heard.is_listening.store(false, Ordering::Release);
            tracing::debug!(%ended, "the connection that listens to PostgreSQL ended; listening again");
        }
        sleep(backoff.next()).await;
    }
}

/// Hears notifications until the connection ends; tells why it did.
async fn hear(
    connector: &Connector,
    client: Client,
    mut connection: Connection<Socket, Encrypted<Socket>>,
    heard: &Heard,
    backoff: &mut Backoff,
) -> Arc<str> {
    let listen = format!("LISTEN {}", connector.channel());
    let mut listening = std::pin::pin!(async {
        match client.batch_execute(&listen).await {
            Ok(()) => {
                heard.is_listening.store(true, Ordering::Release);
                backoff.reset();
                std::future::pending().await
            }
            Err(error) => reason(&error),
        }
    });
    loop {
        tokio::select! {
            refused = &mut listening => return refused.into(),
            message = poll_fn(|cx| connection.poll_message(cx)) => match message {
                Some(Ok(AsyncMessage::Notification(told))) => {
                    if let Ok(lsn) = told.payload().parse() {
                        heard.notified.fetch_max(lsn, Ordering::AcqRel);
                        heard.reached(Lsn(lsn));
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return reason(&error).into(),
                None => return "it was closed".into(),
            },
        }
    }
}

/// Asks for the head for as long as it lives.
async fn ask(server: Arc<Server>, heard: Arc<Heard>) {
    let mut backoff = Backoff::new(RETRY_INITIAL, RETRY_MAX, 2);
    let mut is_told = true;
    loop {
        let is_listening = heard.is_listening.load(Ordering::Acquire);
        sleep(if is_listening && is_told { ASK_SELDOM } else { ASK_OFTEN }).await;
        let before = *heard.head.borrow();
        match server.head().await {
            Ok(head) => {
                backoff.reset();
                let notified = Lsn(heard.notified.load(Ordering::Acquire));
                if notified >= before && notified > Lsn(0) {
                    is_told = true;
                } else if head > before {
                    // It moved since we last looked, and nobody told.
                    is_told = false;
                }
                heard.reached(head);
            }
            // Who reads hears of it there.
            Err(Failure::Lost(_) | Failure::Damaged(_)) => sleep(RETRY_MAX).await,
            Err(Failure::NotDone(_) | Failure::Unknown(_) | Failure::Refused(_)) => sleep(backoff.next()).await,
        }
    }
}
