//! The S3 store against a server no one here wrote.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use compat_tests::foreign_s3::ForeignS3;
use metadata::class::{Classify, ErrorClass};
use storage::blob::s3::{S3Options, S3Store};
use storage::blob::{BlobError, contract};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_and_refuses_clearly() {
    let server = tokio::task::spawn_blocking(ForeignS3::start).await.unwrap().unwrap();
    let store = S3Store::open(server.store_options()).await.unwrap();
    contract::all(&store).await;
    // Large objects in parts.
    let options = S3Options { part_bytes: 5 << 20, ..server.store_options() };
    contract::all(&S3Store::open(options).await.unwrap()).await;
    // Below a prefix, too.
    let options = S3Options { prefix: "cells/one".to_owned(), ..server.store_options() };
    contract::all(&S3Store::open(options).await.unwrap()).await;

    let options = S3Options { bucket: "not-there".to_owned(), ..server.store_options() };
    let error = S3Store::open(options).await.unwrap_err();
    assert!(matches!(error, BlobError::NoSuchBucket { .. }), "{error}");
    for credentials in [("AKIDFOREIGN", "wrong"), ("AKIDNOBODY", "wrong")] {
        let credentials = Some((credentials.0.to_owned(), credentials.1.to_owned()));
        let error = S3Store::open(S3Options { credentials, ..server.store_options() }).await.unwrap_err();
        assert!(matches!(error, BlobError::Credentials(_)), "{error}");
        assert_eq!(error.class(), ErrorClass::Rejected);
    }
}
