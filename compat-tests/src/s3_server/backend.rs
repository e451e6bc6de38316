//! The bucket itself: a map under a lock, so that every request is atomic.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::uploads::Uploads;
use bytes::Bytes;
use futures_util::StreamExt;
use metadata::clock::{Clock, SystemClock};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETag, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object, PutObjectInput,
    PutObjectOutput, StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

/// Most keys S3 takes in one DeleteObjects, and gives in one ListObjectsV2.
const PAGE_MAX_KEYS: usize = 1000;
/// Largest single PUT of S3 is 5 GiB; nothing of ours comes near this.
const PUT_MAX_BYTES: usize = 1 << 30;
const KEY_MAX_LEN: usize = 1024;

/// One bucket. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    bucket: String,
    objects: Arc<Mutex<BTreeMap<String, Stored>>>,
    pub(super) uploads: Uploads,
    is_careless: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Bytes,
    /// Of all bytes; not computed again for each answer, which would cost more than the answer.
    crc: u32,
    modified: SystemTime,
}

impl Stored {
    fn new(bytes: Bytes) -> Self {
        Self { crc: crc32c::crc32c(&bytes), bytes, modified: now() }
    }

    fn etag(&self) -> ETag {
        ETag::Strong(format!("{:08x}-{:x}", self.crc, self.bytes.len()))
    }

    fn modified(&self) -> Timestamp {
        self.modified.into()
    }

    fn size(&self) -> i64 {
        i64::try_from(self.bytes.len()).unwrap_or(i64::MAX)
    }
}

impl Backend {
    pub(super) fn new(bucket: String) -> Self {
        Self { bucket, objects: Arc::default(), uploads: Uploads::default(), is_careless: Arc::default() }
    }

    pub(super) fn contents(&self) -> BTreeMap<String, Bytes> {
        self.lock().iter().map(|(key, object)| (key.clone(), object.bytes.clone())).collect()
    }

    /// From now on conditions are ignored, as by a store that does not know them.
    pub(super) fn ignore_conditions(&self) {
        self.is_careless.store(true, Ordering::Relaxed);
    }

    /// Puts an object there, or takes it away, behind everybody's back.
    pub(super) fn tamper(&self, key: &str, bytes: Option<Bytes>) {
        match bytes {
            Some(bytes) => drop(self.lock().insert(key.to_owned(), Stored::new(bytes))),
            None => drop(self.lock().remove(key)),
        }
    }

    pub(super) fn unfinished_uploads(&self) -> usize {
        self.uploads.unfinished()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.bucket { Ok(()) } else { Err(s3_error!(NoSuchBucket, "no bucket {bucket}")) }
    }

    fn object(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        self.check_bucket(bucket)?;
        self.lock().get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey, "no object {key}"))
    }
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let PutObjectInput { bucket, key, body, content_length, if_none_match, if_match, .. } = request.input;
        self.check_bucket(&bucket)?;
        if key.len() > KEY_MAX_LEN {
            return Err(s3_error!(KeyTooLongError));
        }
        if if_match.is_some() || if_none_match.as_ref().is_some_and(|condition| !condition.is_any()) {
            return Err(s3_error!(NotImplemented, "of conditions only If-None-Match: * is known here"));
        }
        let announced = content_length.ok_or_else(|| s3_error!(MissingContentLength))?;
        let bytes = collect(body).await?;
        let stored = Stored::new(bytes.into());
        if stored.size() != announced {
            return Err(s3_error!(IncompleteBody, "{} of {announced} bytes came", stored.size()));
        }
        let e_tag = Some(stored.etag());
        let mut objects = self.lock();
        let is_conditional = if_none_match.is_some() && !self.is_careless.load(Ordering::Relaxed);
        if is_conditional && objects.contains_key(&key) {
            return Err(s3_error!(PreconditionFailed, "{key} exists"));
        }
        objects.insert(key, stored);
        Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let CreateMultipartUploadInput { bucket, key, .. } = request.input;
        self.check_bucket(&bucket)?;
        let upload_id = Some(self.uploads.begin(&key));
        let output =
            CreateMultipartUploadOutput { bucket: Some(bucket), key: Some(key), upload_id, ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let UploadPartInput { bucket, key, body, content_length, part_number, upload_id, .. } = request.input;
        self.check_bucket(&bucket)?;
        let announced = content_length.ok_or_else(|| s3_error!(MissingContentLength))?;
        let bytes = collect(body).await?;
        if i64::try_from(bytes.len()).ok() != Some(announced) {
            return Err(s3_error!(IncompleteBody, "{} of {announced} bytes came", bytes.len()));
        }
        let e_tag = Some(self.uploads.take_part(&upload_id, &key, part_number, bytes.into())?);
        Ok(S3Response::new(UploadPartOutput { e_tag, ..UploadPartOutput::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let CompleteMultipartUploadInput { bucket, key, multipart_upload, upload_id, if_none_match, .. } =
            request.input;
        self.check_bucket(&bucket)?;
        if if_none_match.is_some() {
            return Err(s3_error!(NotImplemented, "conditions are not known here for uploads in parts"));
        }
        let named = multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let stored = Stored::new(self.uploads.complete(&upload_id, &key, &named)?);
        let e_tag = Some(stored.etag());
        self.lock().insert(key, stored);
        Ok(S3Response::new(CompleteMultipartUploadOutput { e_tag, ..CompleteMultipartUploadOutput::default() }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        self.check_bucket(&bucket)?;
        self.uploads.give_up(&upload_id, &key)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let GetObjectInput { bucket, key, range, .. } = request.input;
        let stored = self.object(&bucket, &key)?;
        let size = stored.bytes.len();
        let (bytes, content_range) = match range {
            None => (stored.bytes.clone(), None),
            Some(range) => {
                let range = range.check(size as u64).map_err(|_| s3_error!(InvalidRange, "{size} bytes are there"))?;
                let part = stored.bytes.slice(range.start as usize..range.end as usize);
                (part, Some(format!("bytes {}-{}/{size}", range.start, range.end - 1)))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(bytes.len()).ok(),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            content_range,
            e_tag: Some(stored.etag()),
            last_modified: Some(stored.modified()),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let stored = self.object(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(stored.size()),
            e_tag: Some(stored.etag()),
            last_modified: Some(stored.modified()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let ListObjectsV2Input { bucket, prefix, start_after, continuation_token, max_keys, delimiter, .. } =
            request.input;
        self.check_bucket(&bucket)?;
        if delimiter.is_some() {
            return Err(s3_error!(NotImplemented, "delimiters are not known here"));
        }
        let limit = usize::try_from(max_keys.unwrap_or(i32::MAX)).map_err(|_| s3_error!(InvalidArgument))?;
        let limit = limit.min(PAGE_MAX_KEYS);
        // The token is the key after which to go on, and wins over the start.
        let after = continuation_token.clone().or_else(|| start_after.clone()).unwrap_or_default();
        let start = prefix.clone().unwrap_or_default();
        let objects = self.lock();
        let from = if after >= start { Bound::Excluded(&after) } else { Bound::Included(&start) };
        let mut found = objects
            .range::<String, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&start))
            .map(|(key, stored)| Object {
                key: Some(key.clone()),
                size: Some(stored.size()),
                e_tag: Some(stored.etag()),
                last_modified: Some(stored.modified()),
                ..Object::default()
            });
        let contents: Vec<_> = found.by_ref().take(limit).collect();
        let is_truncated = limit > 0 && found.next().is_some();
        let last = contents.last().and_then(|object| object.key.clone());
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(bucket),
            prefix,
            start_after,
            continuation_token,
            max_keys: i32::try_from(limit).ok(),
            key_count: i32::try_from(contents.len()).ok(),
            is_truncated: Some(is_truncated),
            next_continuation_token: last.filter(|_| is_truncated),
            contents: Some(contents),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        // S3 insists on one of these, so we do.
        let is_checksum = |name: &str| name == "content-md5" || name.starts_with("x-amz-checksum-");
        if !request.headers.keys().any(|name| is_checksum(name.as_str())) {
            return Err(s3_error!(InvalidRequest, "DeleteObjects needs Content-MD5 or a checksum"));
        }
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        self.check_bucket(&bucket)?;
        if delete.objects.is_empty() || delete.objects.len() > PAGE_MAX_KEYS {
            return Err(s3_error!(MalformedXML, "{} objects", delete.objects.len()));
        }
        let mut objects = self.lock();
        let mut deleted = Vec::new();
        for object in delete.objects {
            objects.remove(&object.key);
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        let deleted = if delete.quiet == Some(true) { Vec::new() } else { deleted };
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..DeleteObjectsOutput::default() }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.check_bucket(&request.input.bucket)?;
        self.lock().remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.check_bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut body) = body else { return Ok(bytes) };
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|e| s3_error!(IncompleteBody, "{e}"))?;
        if bytes.len() + chunk.len() > PUT_MAX_BYTES {
            return Err(s3_error!(EntityTooLarge));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(SystemClock.now_ms()).unwrap_or_default())
}
