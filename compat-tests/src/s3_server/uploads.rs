//! Uploads in parts, as strict as S3: parts of 5 MiB at least but for the last, named in order with their tags when completed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use s3s::dto::{CompletedPart, ETag};
use s3s::{S3Result, s3_error};

/// Smallest part that is not the last, bytes.
const PART_MIN_BYTES: usize = 5 << 20;
const PART_NUMBER_MAX: i32 = 10_000;

/// The uploads that were begun. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<Begun>>);

#[derive(Debug, Default)]
struct Begun {
    last: u64,
    uploads: HashMap<String, Upload>,
}

#[derive(Debug)]
struct Upload {
    key: String,
    parts: BTreeMap<i32, Bytes>,
}

impl Begun {
    fn find(&mut self, id: &str, key: &str) -> S3Result<&mut Upload> {
        let found = self.uploads.get_mut(id).filter(|upload| upload.key == key);
        found.ok_or_else(|| s3_error!(NoSuchUpload, "no upload {id} of {key}"))
    }
}

impl Uploads {
    pub(super) fn unfinished(&self) -> usize {
        self.lock().uploads.len()
    }

    /// Begins one and tells its id.
    pub(super) fn begin(&self, key: &str) -> String {
        let mut begun = self.lock();
        begun.last += 1;
        let id = format!("upload-{}", begun.last);
        begun.uploads.insert(id.clone(), Upload { key: key.to_owned(), parts: BTreeMap::new() });
        id
    }

    /// Takes a part, in place of an earlier one of that number, and tells its tag.
    pub(super) fn take_part(&self, id: &str, key: &str, number: i32, bytes: Bytes) -> S3Result<ETag> {
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(s3_error!(InvalidArgument, "part {number}"));
        }
        let tag = tag(&bytes);
        self.lock().find(id, key)?.parts.insert(number, bytes);
        Ok(tag)
    }

    /// Ends an upload: the bytes of the parts that are named.
    pub(super) fn complete(&self, id: &str, key: &str, named: &[CompletedPart]) -> S3Result<Bytes> {
        let mut begun = self.lock();
        let upload = begun.find(id, key)?;
        if named.is_empty() {
            return Err(s3_error!(MalformedXML, "no parts"));
        }
        if !named.is_sorted_by(|a, b| a.part_number < b.part_number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let mut whole = Vec::new();
        for (place, part) in named.iter().enumerate() {
            let bytes = part.part_number.and_then(|number| upload.parts.get(&number));
            let bytes = bytes.filter(|bytes| part.e_tag == Some(tag(bytes)));
            let bytes = bytes.ok_or_else(|| s3_error!(InvalidPart, "part {:?}", part.part_number))?;
            if bytes.len() < PART_MIN_BYTES && place + 1 < named.len() {
                return Err(s3_error!(EntityTooSmall, "part {:?} has {} bytes", part.part_number, bytes.len()));
            }
            whole.extend_from_slice(bytes);
        }
        begun.uploads.remove(id);
        Ok(whole.into())
    }

    pub(super) fn give_up(&self, id: &str, key: &str) -> S3Result<()> {
        let mut begun = self.lock();
        begun.find(id, key)?;
        begun.uploads.remove(id);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tag(bytes: &[u8]) -> ETag {
    ETag::Strong(format!("{:08x}-part-{:x}", crc32c::crc32c(bytes), bytes.len()))
}
