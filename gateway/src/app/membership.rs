//! What a gateway does as one of several: raise the feature level once all know a higher one, and leave in such a way that
//! clients are elsewhere before it is gone.

use metadata::command::Command;
use metadata::handle::Metadata;
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::services::Services;

/// Raises the feature level whenever the last gateway that did not know it has gone, and compares this gateway's state with
/// those of the others. Runs until it is stopped.
pub async fn take_part(metadata: Metadata, stop: CancellationToken) {
    let both = async { tokio::join!(keep_level(&metadata), metadata.compare_states()) };
    stop.run_until_cancelled(both).await;
}

async fn keep_level(metadata: &Metadata) {
    let mut moved = metadata.sessions_moved();
    while moved.changed().await.is_ok() {
        // Whoever is replaced by a newer build may be back in a moment.
        tokio::time::sleep(limits::LEVEL_PAUSE).await;
        if let Err(error) = metadata.raise_feature_level().await {
            tracing::warn!(%error, "the feature level was not raised; it is tried again when a gateway comes or goes");
        }
    }
}

/// Sends clients to the gateways that stay, if there are any: says in the journal that this one will leave, so that nobody
/// names it any more, then refuses what clients send to a leader, at which they ask who leads now. Waits until they have.
pub async fn send_clients_away(services: &Services) {
    let metadata = &services.metadata;
    let session = metadata.session();
    let is_alone = metadata.read(|state| !state.sessions().live().any(|other| other.id != session && !other.leaving));
    if is_alone {
        return;
    }
    let said = tokio::time::timeout(limits::LEAVE_SAYING, metadata.submit(Command::LeaveSoon)).await;
    match said {
        Ok(Ok(_)) => tracing::info!("leaving: clients are sent to other gateways"),
        Ok(Err(error)) => return tracing::warn!(%error, "leaving without having told other gateways"),
        Err(_) => return tracing::warn!("leaving without having told other gateways: the journal did not answer"),
    }
    // The others hear of it as they hear of a record: in milliseconds.
    tokio::time::sleep(limits::LEAVE_HEARD).await;
    services.leaving.cancel();
    tokio::time::sleep(limits::LEAVE_GRACE).await;
}
