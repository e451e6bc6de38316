//! The place of the objects: a folder, or a bucket behind deadlines, retries and counters.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use storage::blob::BlobStore;
use storage::blob::local::LocalStore;
use storage::blob::measured::{BlobMetrics, Measured};
use storage::blob::retry::{Retry, RetryOptions};
use storage::blob::s3::{S3Options, S3Store};

use super::AppError;
use crate::options::Options;

/// Folder of the objects below the data folder.
const OBJECTS: &str = "objects";

/// Opens and checks it. Counters stand inside the retries, so that every request is counted and paid for.
pub async fn open(options: &Options, registry: &mut Registry) -> Result<Arc<dyn BlobStore>, AppError> {
    let metrics = BlobMetrics::default();
    metrics.register(registry);
    let (inner, name): (Arc<dyn BlobStore>, _) = match options.bucket_url()? {
        None => {
            let folder = options.data.join(OBJECTS);
            let place = format!("the folder {} (--data)", folder.display());
            let store = LocalStore::open(folder).await.map_err(|source| AppError::Store { place, source })?;
            (Arc::new(store), "local")
        }
        Some(url) => {
            let place = format!("the bucket {} (--bucket)", options.bucket.as_deref().unwrap_or_default());
            let mut s3 = S3Options::new(url.name);
            s3.prefix = url.prefix;
            s3.endpoint.clone_from(&options.endpoint);
            s3.region.clone_from(&options.region);
            let store = S3Store::open(s3).await.map_err(|source| AppError::Store { place, source })?;
            (Arc::new(store), "s3")
        }
    };
    let measured: Arc<dyn BlobStore> = Arc::new(Measured::new(inner, name, metrics));
    Ok(Arc::new(Retry::new(measured, RetryOptions::default())))
}
