//! The folder store: the contract, and what only a folder can do wrong.

use super::*;
use crate::blob::contract;

#[tokio::test]
async fn keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract::all(&LocalStore::open(folder.path()).await.unwrap()).await;
}

#[tokio::test]
async fn objects_are_plain_files_and_outlive_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path().join("data")).await.unwrap();
    let chunks: Vec<Bytes> = (0..3000_u32).map(|i| Bytes::from(vec![i as u8; 1 + i as usize % 50])).collect();
    let payload = Payload::new(chunks);
    store.put("a/b/c.seg", payload.clone()).await.unwrap();
    drop(store);
    assert_eq!(fs::read(folder.path().join("data/a/b/c.seg")).unwrap(), payload.to_bytes());
    let store = LocalStore::open(folder.path().join("data")).await.unwrap();
    assert_eq!(store.get("a/b/c.seg").await.unwrap(), payload.to_bytes());
}

/// The case of `--data name`: nothing stands before the name, and nothing is there yet.
#[tokio::test]
async fn a_plain_relative_name_is_a_folder_to_be_made() {
    let unique = tempfile::Builder::new().prefix("relative-store-").tempdir_in(".").unwrap();
    let name = PathBuf::from(unique.path().file_name().unwrap());
    drop(unique);
    let opened = LocalStore::open(name.join("objects")).await;
    fs::remove_dir_all(&name).unwrap();
    opened.unwrap();
}

#[tokio::test]
async fn leftovers_go_at_open_but_not_those_of_a_living_store() {
    let folder = tempfile::tempdir().unwrap();
    let first = LocalStore::open(folder.path()).await.unwrap();
    let leftover = folder.path().join(TEMPORARY).join("dead");
    fs::write(&leftover, "half").unwrap();
    let second = LocalStore::open(folder.path()).await.unwrap();
    assert!(leftover.exists(), "the first store lives: the file may be its own");
    assert_eq!(first.list("", None, 10).await.unwrap(), []);
    drop((first, second));
    LocalStore::open(folder.path()).await.unwrap();
    assert!(!leftover.exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = LocalStore::open(&path).await.unwrap_err();
        assert!(matches!(&error, BlobError::Invalid(text) if text.contains("--data")), "{error}");
    }
}

#[tokio::test]
async fn a_write_leaves_no_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).await.unwrap();
    store.put("a", Payload::from(&b"1"[..])).await.unwrap();
    store.put_new("b", Payload::from(&b"1"[..])).await.unwrap();
    store.put_new("b", Payload::from(&b"2"[..])).await.unwrap_err();
    store.put("b/c", Payload::from(&b"2"[..])).await.unwrap_err();
    assert_eq!(fs::read_dir(folder.path().join(TEMPORARY)).unwrap().count(), 0);
}

#[tokio::test]
async fn a_key_cannot_be_object_and_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).await.unwrap();
    store.put("a/b", Payload::from(&b"1"[..])).await.unwrap();
    assert!(matches!(store.put("a", Payload::default()).await, Err(BlobError::Invalid(_))));
    assert!(matches!(store.put("a/b/c", Payload::default()).await, Err(BlobError::Invalid(_))));
    assert!(matches!(store.put_new("a/b/c", Payload::default()).await, Err(BlobError::Invalid(_))));
    assert!(matches!(store.get("a").await, Err(BlobError::NotFound { .. })));
    assert!(matches!(store.head("a/b/c").await, Err(BlobError::NotFound { .. })));
}

#[tokio::test]
async fn what_others_left_in_the_folder_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).await.unwrap();
    fs::write(folder.path().join("not a key"), "").unwrap();
    fs::write(folder.path().join(".hidden"), "").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(store.list("", None, 10).await.unwrap(), []);
}
