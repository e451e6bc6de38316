//! Large objects in parts, side by side: each part fits the time of one request, and the object is there at once and whole, or
//! not at all.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::S3Store;
use crate::blob::{BlobError, Operation, Payload};

/// Most parts S3 takes.
const PARTS_MAX: u64 = 10_000;
/// Parts of one object sent at once.
const PARTS_AT_ONCE: usize = 8;

/// An upload that was begun. Dropped before its end, it is given up, so that its parts are not kept and paid for.
struct Begun {
    store: S3Store,
    key: String,
    full_key: String,
    id: String,
    is_done: bool,
}

impl S3Store {
    /// Sends an object in parts. After an error nothing is at the key that was not there before, unless the last request's
    /// outcome is unknown.
    pub(super) async fn upload_in_parts(&self, key: &str, payload: &Payload) -> Result<(), BlobError> {
        let mut upload = self.begin(key).await?;
        let part_bytes = self.part_bytes.max(payload.len().div_ceil(PARTS_MAX));
        let numbers = 0..payload.len().div_ceil(part_bytes);
        let send = |number: u64| {
            let from = number * part_bytes;
            Box::pin(upload.send(number, payload.slice(from..(from + part_bytes).min(payload.len()))))
        };
        let parts = stream::iter(numbers).map(send).buffered(PARTS_AT_ONCE).try_collect::<Vec<_>>().await?;
        upload.complete(parts).await
    }

    async fn begin(&self, key: &str) -> Result<Begun, BlobError> {
        let full_key = self.key(key)?;
        let request = self.client.create_multipart_upload().bucket(&self.place.bucket).key(&full_key);
        let send = Box::pin(async { request.send().await.map_err(|e| self.place.error(key, e)) });
        let id = self.within(Operation::PutPart, send, |_| 0).await?.upload_id;
        let id = id.ok_or_else(|| BlobError::Unknown(format!("no upload id for {key} in the answer")))?;
        Ok(Begun { store: self.clone(), key: key.to_owned(), full_key, id, is_done: false })
    }
}

impl Begun {
    fn client(&self) -> &Client {
        &self.store.client
    }

    async fn send(&self, number: u64, part: Payload) -> Result<CompletedPart, BlobError> {
        let size = part.len();
        // S3 counts parts from 1.
        let number = i32::try_from(number + 1).map_err(|e| BlobError::Invalid(e.to_string()))?;
        let request = self.client().upload_part().bucket(&self.store.place.bucket).key(&self.full_key);
        let request = request
            .upload_id(&self.id)
            .part_number(number)
            .content_length(i64::try_from(size).map_err(|e| BlobError::Invalid(e.to_string()))?)
            .body(self.store.body(part))
            .customize()
            .disable_payload_signing();
        let send = Box::pin(async { request.send().await.map_err(|e| self.store.place.error(&self.key, e)) });
        let answer = self.store.within(Operation::PutPart, send, |_| size).await?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build())
    }

    async fn complete(&mut self, parts: Vec<CompletedPart>) -> Result<(), BlobError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client().complete_multipart_upload().bucket(&self.store.place.bucket).key(&self.full_key);
        let request = request.upload_id(&self.id).multipart_upload(parts);
        let send =
            Box::pin(async { request.send().await.map(|_| ()).map_err(|e| self.store.place.error(&self.key, e)) });
        self.store.within(Operation::PutPart, send, |()| 0).await?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Without a runtime the process is ending; the bucket's own rule for unfinished uploads finds it then.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_done {
            return;
        }
        let (store, key, id) = (self.store.clone(), self.full_key.clone(), self.id.clone());
        runtime.spawn(async move {
            let request = store.client.abort_multipart_upload().bucket(&store.place.bucket).key(&key).upload_id(id);
            let send = Box::pin(async { request.send().await.map(|_| ()).map_err(|e| store.place.error(&key, e)) });
            if let Err(error) = store.within(Operation::Abort, send, |()| 0).await {
                tracing::debug!(%error, key, "an unfinished upload could not be given up");
            }
        });
    }
}
