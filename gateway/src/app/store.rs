//! The place of the objects: a folder, or a bucket behind deadlines, retries and counters.

use std::sync::Arc;
use std::time::Duration;

use metadata::class::{Classify, ErrorClass};
use prometheus_client::registry::Registry;
use storage::blob::local::LocalStore;
use storage::blob::measured::{BlobMetrics, Measured, Meter};
use storage::blob::purpose::{Purpose, Stores};
use storage::blob::retry::RetryOptions;
use storage::blob::s3::{S3Options, S3Store};
use storage::blob::{BlobError, BlobStore};
use storage::cache::disk::DiskCache;
use storage::metrics::DiskMetrics;
use tokio::time::{Instant, sleep};

use super::AppError;
use crate::options::Options;

/// Folder of the objects below the data folder.
const OBJECTS: &str = "objects";

/// How long a bucket that answers with passing errors is asked again at start.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
const OPEN_PAUSE: Duration = Duration::from_millis(200);

/// Folder of the readers' cache below the data folder.
const CACHE: &str = "cache";

/// The readers' cache on the local disk, if there is to be one: a folder for each cluster, whose object ids are its own.
pub async fn open_cache(
    options: &Options,
    cluster_id: &str,
    metrics: DiskMetrics,
) -> Result<Option<Arc<DiskCache>>, AppError> {
    let bytes = options.storage.disk_cache_bytes;
    if options.bucket.is_none() || bytes == 0 {
        return Ok(None);
    }
    let folder = options.data.join(CACHE).join(cluster_id);
    let shown = folder.display().to_string();
    let opened = tokio::task::spawn_blocking(move || DiskCache::open(folder, bytes, metrics)).await;
    let opened = opened.unwrap_or_else(|ended| Err(std::io::Error::other(ended)));
    opened.map(Some).map_err(|error| AppError::Data { folder: shown, reason: error.to_string() })
}

/// Opens the bucket; a store that is only busy at the moment is asked again for a short while.
async fn open_bucket(options: &S3Options, meter: impl Fn() -> Meter) -> Result<S3Store, BlobError> {
    let deadline = Instant::now() + OPEN_WITHIN;
    loop {
        match S3Store::open_metered(options.clone(), meter()).await {
            Err(error) if error.class() == ErrorClass::Retry && Instant::now() < deadline => {
                tracing::warn!(%error, "the bucket cannot be used yet; trying again");
                sleep(OPEN_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// Opens and checks it. Counters stand inside the retries, so that every request is counted and paid for.
pub async fn open(options: &Options, registry: &mut Registry) -> Result<(Stores, BlobMetrics), AppError> {
    let metrics = BlobMetrics::default();
    metrics.register(registry);
    let lanes = options.storage.lanes();
    // In a folder nothing is slow that a second request would find faster.
    let retry = RetryOptions { hedge: options.bucket.is_some(), ..RetryOptions::default() };
    let stores = match options.bucket_url()? {
        None => {
            let folder = options.data.join(OBJECTS);
            let place = format!("the folder {} (--data)", folder.display());
            let store = LocalStore::open(folder).await.map_err(|source| AppError::Store { place, source })?;
            let store: Arc<dyn BlobStore> = Arc::new(store);
            let measured = |purpose| Measured::new(Arc::clone(&store), Meter::new(metrics.clone(), "local", purpose));
            Stores::new(&lanes, &retry, metrics.hedged_gets(), |purpose| Arc::new(measured(purpose)))
        }
        Some(url) => {
            let at = options.endpoint.as_ref().map(|url| format!(" at {url} (--endpoint)")).unwrap_or_default();
            let place = format!("the bucket {} (--bucket){at}", options.bucket.as_deref().unwrap_or_default());
            let mut s3 = S3Options::new(url.name);
            s3.prefix = url.prefix;
            s3.endpoint.clone_from(&options.endpoint);
            s3.region.clone_from(&options.region);
            let meter = |purpose| Meter::new(metrics.clone(), "s3", purpose);
            let opened = open_bucket(&s3, || meter(Purpose::Upkeep)).await;
            let store = opened.map_err(|source| AppError::Store { place, source })?;
            let measured = |purpose| store.metered(meter(purpose));
            Stores::new(&lanes, &retry, metrics.hedged_gets(), |purpose| match purpose {
                Purpose::Merge | Purpose::Compact => {
                    Arc::new(measured(purpose).unhurried(options.storage.upkeep_bytes_per_second))
                }
                Purpose::Produce | Purpose::Fetch | Purpose::Journal | Purpose::Snapshot | Purpose::Upkeep => {
                    Arc::new(measured(purpose))
                }
            })
        }
    };
    Ok((stores, metrics))
}
