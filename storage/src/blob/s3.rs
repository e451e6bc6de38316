//! Objects in an S3-compatible bucket. The only file, with the one below it, that knows the AWS SDK.
//!
//! What is set differently from the SDK's defaults, and why:
//! - Its retries are off: [`super::retry`] knows which of our operations may be repeated and for how long. The SDK's share one
//!   budget, so that under a burst of failures half of the requests would get none.
//! - Checksums only where S3 insists on them: the default adds trailers that several stores refuse, and reads every body once
//!   more. Segments and batches carry their own.
//! - Payloads are not signed, over TLS or plain HTTP: TLS guards them anyway, and without TLS our own checksums find every accident
//!   (and no signature stops someone who may change what they can also read and replay). It halves the work of a PUT.
//! - One timeout around each request including its body; the SDK's end with the headers.

mod answer;
mod body;
mod multipart;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, ProvideCredentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::{Bytes, BytesMut};
use metadata::class::{Classify, ErrorClass};

use super::measured::Meter;
use super::{
    BlobError, BlobStore, GET_MAX_BYTES, ObjectMeta, Operation, Payload, check_key, check_prefix, check_range,
    check_size,
};
use answer::Place;
use body::body;

/// Most keys S3 takes in one DeleteObjects, and gives in one ListObjectsV2.
const PAGE_MAX_KEYS: usize = 1000;
const DEFAULT_REGION: &str = "us-east-1";

/// Which bucket, and how to reach it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// Goes before every key, so that several installations can share a bucket; a slash is put between. Default none.
    pub prefix: String,
    /// Where the server is; default AWS, or what `AWS_ENDPOINT_URL` says.
    pub endpoint: Option<String>,
    /// Default: `AWS_REGION`, the AWS profile, then (on AWS) the machine's own; else us-east-1.
    pub region: Option<String>,
    /// `http://server/bucket/key` instead of `http://bucket.server/key`. Default: if an endpoint is given.
    pub path_style: Option<bool>,
    /// Access key and secret. Default: as every AWS tool finds them (environment, profile, web identity, container, machine).
    pub credentials: Option<(String, String)>,
    /// How long to wait for a connection; default 3 s.
    pub connect_timeout: Duration,
    /// How long a request may take, bodies included; default 10 s.
    pub request_timeout: Duration,
    /// A plain PUT of twice so many bytes or more is sent in parts of so many, side by side; default 16 MiB. S3 wants at
    /// least 5 MiB. Each object in parts costs two requests more than its parts.
    pub part_bytes: u64,
}

impl S3Options {
    /// The bucket with all defaults.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            path_style: None,
            credentials: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(10),
            part_bytes: 16 << 20,
        }
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("credentials", &self.credentials.as_ref().map(|_| "given"))
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("part_bytes", &self.part_bytes)
            .finish()
    }
}

/// A store on a bucket. Clones share connections.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    place: Place,
    /// Empty, or ends with a slash.
    prefix: String,
    request_timeout: Duration,
    part_bytes: u64,
    /// What a request sends in a second at most; unlimited if none.
    bytes_per_second: Option<u64>,
    meter: Meter,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store({} at {})", self.place.bucket, self.place.endpoint)
    }
}

impl S3Store {
    /// Connects, and lists one object as proof that the bucket is there, reachable, and that the credentials are good.
    /// The error names the flag or variable to look at.
    pub async fn open(options: S3Options) -> Result<Self, BlobError> {
        Self::open_metered(options, Meter::unobserved()).await
    }

    /// Like [`S3Store::open`]; every request from the first on is counted.
    pub async fn open_metered(options: S3Options, meter: Meter) -> Result<Self, BlobError> {
        let base = load(&options).await;
        if let Some(provider) = base.credentials_provider() {
            let found = provider.provide_credentials().await;
            found.map_err(|e| BlobError::Credentials(format!("none were found: {}", answer::whole_text(&e))))?;
        }
        let endpoint = base.endpoint_url().map(str::to_owned);
        let timeouts = TimeoutConfig::builder().connect_timeout(options.connect_timeout).build();
        let config = aws_sdk_s3::config::Builder::from(&base)
            .force_path_style(options.path_style.unwrap_or_else(|| endpoint.is_some()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        let region = base.region().map_or(DEFAULT_REGION, Region::as_ref);
        let endpoint = endpoint.unwrap_or_else(|| format!("AWS, region {region}"));
        let slash = if options.prefix.is_empty() { "" } else { "/" };
        let store = Self {
            client: Client::from_conf(config),
            prefix: format!("{}{slash}", options.prefix),
            place: Place { bucket: options.bucket, endpoint },
            request_timeout: options.request_timeout,
            part_bytes: options.part_bytes.max(1),
            bytes_per_second: None,
            meter,
        };
        match store.list("", None, 1).await {
            Ok(_) => Ok(store),
            Err(error) => Err(store.start_error(error)),
        }
    }

    /// The same store and connections, counted by another meter.
    pub fn metered(&self, meter: Meter) -> Self {
        Self { meter, ..self.clone() }
    }

    /// The same store and connections for objects that nobody waits for: each request sends evenly, so many bytes a second, so that
    /// what someone waits for is not held up by it. But none takes more than half of its time.
    pub fn unhurried(&self, bytes_per_second: u64) -> Self {
        Self { bytes_per_second: Some(bytes_per_second), ..self.clone() }
    }

    /// What a request sends.
    fn body(&self, payload: Payload) -> ByteStream {
        let at_least = (payload.len() as f64 / (self.request_timeout / 2).as_secs_f64()) as u64;
        body(payload, self.bytes_per_second.map(|pace| pace.max(at_least)))
    }

    /// Says what to look at when the very first request fails.
    fn start_error(&self, error: BlobError) -> BlobError {
        let Place { bucket, endpoint } = &self.place;
        match (&error, error.class()) {
            (BlobError::Denied(why), _) => BlobError::Denied(format!(
                "{why}: these credentials may not list bucket {bucket}; they need s3:ListBucket, GetObject, PutObject and \
                 DeleteObject, or another AWS_ACCESS_KEY_ID or AWS_PROFILE"
            )),
            (_, ErrorClass::Retry | ErrorClass::Unknown) => BlobError::Unavailable(format!(
                "bucket {bucket} cannot be reached at {endpoint}: {error}; check --endpoint, AWS_REGION and the network"
            )),
            (_, ErrorClass::Rejected | ErrorClass::Corrupt | ErrorClass::Closed) => error,
        }
    }

    fn key(&self, key: &str) -> Result<String, BlobError> {
        check_key(key).map(|()| format!("{}{key}", self.prefix))
    }

    /// One request, in time and counted; `bytes` tells the payload of its answer. The request comes boxed: the SDK's futures
    /// are large, and this one passes through several hands.
    async fn within<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, BlobError>>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, BlobError> {
        let timed_out = || BlobError::Timeout { operation, after: self.request_timeout };
        let in_time = tokio::time::timeout(self.request_timeout, request);
        self.meter.request(operation, async { in_time.await.unwrap_or_else(|_| Err(timed_out())) }, bytes).await
    }

    async fn upload(
        &self,
        operation: Operation,
        key: &str,
        payload: Payload,
        condition: Option<&str>,
    ) -> Result<(), BlobError> {
        let size = payload.len();
        let request = self.client.put_object().bucket(&self.place.bucket).key(self.key(key)?);
        let request = request
            .set_if_none_match(condition.map(str::to_owned))
            .content_length(i64::try_from(size).map_err(|e| BlobError::Invalid(e.to_string()))?)
            .body(self.body(payload))
            .customize()
            .disable_payload_signing();
        let send = Box::pin(async { request.send().await.map(|_| ()).map_err(|e| self.place.error(key, e)) });
        self.within(operation, send, |()| size).await
    }

    /// One answer of the bucket, and whether there is more.
    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<ObjectMeta>, bool), BlobError> {
        let request = self.client.list_objects_v2().bucket(&self.place.bucket);
        let request = request
            .set_prefix(Some(format!("{}{prefix}", self.prefix)))
            .set_start_after(after.map(|after| format!("{}{after}", self.prefix)))
            .max_keys(i32::try_from(limit).unwrap_or(i32::MAX));
        let send = Box::pin(async { request.send().await.map_err(|e| self.place.error(prefix, e)) });
        let answer = self.within(Operation::List, send, |_| 0).await?;
        let more = answer.is_truncated.unwrap_or_default();
        let found = answer.contents.unwrap_or_default().into_iter().filter_map(|object| {
            let key = object.key?.strip_prefix(&self.prefix)?.to_owned();
            let size = u64::try_from(object.size.unwrap_or_default()).unwrap_or_default();
            Some(ObjectMeta { key, size, modified_ms: millis(object.last_modified) })
        });
        Ok((found.collect(), more))
    }

    async fn delete_page(&self, keys: &[String], failed: &mut Vec<(String, BlobError)>) -> Result<(), BlobError> {
        let invalid = |e: aws_sdk_s3::error::BuildError| BlobError::Invalid(e.to_string());
        let mut delete = Delete::builder().quiet(true);
        for key in keys {
            delete = delete.objects(ObjectIdentifier::builder().key(self.key(key)?).build().map_err(invalid)?);
        }
        let request = self.client.delete_objects().bucket(&self.place.bucket);
        let request = request.delete(delete.build().map_err(invalid)?);
        let send = Box::pin(async { request.send().await.map_err(|e| self.place.error("", e)) });
        let answer = self.within(Operation::Delete, send, |_| 0).await?;
        for error in answer.errors.unwrap_or_default() {
            let key = error.key.unwrap_or_default();
            let key = key.strip_prefix(&self.prefix).unwrap_or(&key).to_owned();
            let why = self.place.coded(&key, error.code.as_deref(), None, error.message.as_deref());
            if !matches!(why, BlobError::NotFound { .. }) {
                failed.push((key, why));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BlobStore for S3Store {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        if payload.len() >= self.part_bytes.saturating_mul(2) {
            return Box::pin(self.upload_in_parts(key, &payload)).await;
        }
        self.upload(Operation::Put, key, payload, None).await
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.upload(Operation::PutNew, key, payload, Some("*")).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        let full_key = self.key(key)?;
        let wanted = check_range(key, &range)?;
        let bounds = format!("bytes={}-{}", range.start, range.end - 1);
        let request = self.client.get_object().bucket(&self.place.bucket).key(full_key).range(bounds);
        let request = Box::pin(async {
            let answer = request.send().await.map_err(|e| match self.place.error(key, e) {
                // The object ends before the range starts.
                BlobError::ShortRead { .. } => {
                    BlobError::ShortRead { key: key.to_owned(), position: range.start, wanted, found: 0 }
                }
                other => other,
            })?;
            let found = answer.content_length.and_then(|l| u64::try_from(l).ok()).unwrap_or_default();
            // Without a range in the answer it is the whole object, which is the right one only from its start.
            let starts_at = answer.content_range.as_deref().map_or(Some(0), range_start);
            if found != wanted || starts_at != Some(range.start) {
                return Err(BlobError::ShortRead { key: key.to_owned(), position: range.start, wanted, found });
            }
            read(key, range.start, wanted, answer).await
        });
        self.within(Operation::GetRange, request, |bytes| bytes.len() as u64).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        let request = self.client.get_object().bucket(&self.place.bucket).key(self.key(key)?);
        let request = Box::pin(async {
            let answer = request.send().await.map_err(|e| self.place.error(key, e))?;
            let size = answer.content_length.and_then(|l| u64::try_from(l).ok());
            let size = size.ok_or_else(|| BlobError::Unknown(format!("no length of {key} in the answer")))?;
            check_size(key, size, GET_MAX_BYTES)?;
            read(key, 0, size, answer).await
        });
        self.within(Operation::Get, request, |bytes| bytes.len() as u64).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        let request = self.client.head_object().bucket(&self.place.bucket).key(self.key(key)?);
        let send = Box::pin(async { request.send().await.map_err(|e| self.place.error(key, e)) });
        let answer = self.within(Operation::Head, send, |_| 0).await?;
        let size = answer.content_length.and_then(|l| u64::try_from(l).ok());
        let size = size.ok_or_else(|| BlobError::Unknown(format!("no length of {key} in the answer")))?;
        Ok(ObjectMeta { key: key.to_owned(), size, modified_ms: millis(answer.last_modified) })
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        check_prefix(prefix)?;
        let mut found: Vec<ObjectMeta> = Vec::new();
        while found.len() < limit {
            let page = (limit - found.len()).min(PAGE_MAX_KEYS);
            let from = found.last().map(|meta| meta.key.clone()).or_else(|| after.map(str::to_owned));
            let (objects, more) = self.list_page(prefix, from.as_deref(), page).await?;
            let stands_still = objects.is_empty();
            found.extend(objects);
            if !more || stands_still {
                break;
            }
        }
        Ok(found)
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let mut failed = Vec::new();
        for page in keys.chunks(PAGE_MAX_KEYS) {
            self.delete_page(page, &mut failed).await?;
        }
        Ok(failed)
    }
}

async fn load(options: &S3Options) -> aws_config::SdkConfig {
    let named = options.region.clone().map(Region::new);
    // The machine's own region is asked last, and only on AWS: elsewhere the question is answered by a timeout.
    let configured = RegionProviderChain::first_try(named)
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    let region = match options.endpoint {
        Some(_) => configured.or_else(DEFAULT_REGION),
        None => configured.or_default_provider().or_else(DEFAULT_REGION),
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region);
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((access_key, secret)) = &options.credentials {
        loader = loader.credentials_provider(Credentials::new(access_key, secret, None, None, "options"));
    }
    loader.load().await
}

/// The body of an answer, which must have `wanted` bytes, in one buffer of just that size.
async fn read(key: &str, position: u64, wanted: u64, mut answer: GetObjectOutput) -> Result<Bytes, BlobError> {
    let capacity = usize::try_from(wanted).map_err(|e| BlobError::Invalid(e.to_string()))?;
    let mut bytes = BytesMut::with_capacity(capacity);
    let broke = |e: &dyn std::error::Error| {
        BlobError::Unknown(format!("the answer for {key} broke off: {}", answer::whole_text(e)))
    };
    while let Some(chunk) = answer.body.try_next().await.map_err(|e| broke(&e))? {
        if bytes.len() + chunk.len() > capacity {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() != capacity {
        return Err(BlobError::ShortRead { key: key.to_owned(), position, wanted, found: bytes.len() as u64 });
    }
    Ok(bytes.freeze())
}

/// Where the range of `bytes 5-9/100` starts.
fn range_start(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn millis(at: Option<DateTime>) -> i64 {
    at.and_then(|at| at.to_millis().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut options = S3Options::new("b");
        options.credentials = Some(("AKIDCANARY".to_owned(), "SECRETCANARY".to_owned()));
        assert!(!format!("{options:?}").contains("CANARY"));
    }

    #[test]
    fn ranges_of_answers_are_read() {
        assert_eq!(range_start("bytes 5-9/100"), Some(5));
        assert_eq!(range_start("bytes */100"), None);
        assert_eq!(range_start("items 5-9/100"), None);
    }
}
