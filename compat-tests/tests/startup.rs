//! Starting and ending: quickly and quietly when all is well, with a clear word and nothing touched when it is not.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::time::Duration;

use compat_tests::harness::{Ended, Setup};
use compat_tests::requests::{create_topic, produce_one};
use compat_tests::s3_server::S3Server;
use storage::codec::records::RecordsBuilder;
use tempfile::TempDir;

/// Bounds for a build without optimisation on a machine with other work; the benchmark has the real ones.
const START_WITHIN: Duration = Duration::from_secs(5);
const END_WITHIN: Duration = Duration::from_secs(30);
/// What is promised of time counts as held when it is held once in so many tries: a busy machine takes its share of some.
const TRIES: usize = 8;
const IDLE_BYTES: u64 = 100 << 20;

#[tokio::test]
async fn starts_soon_idles_small_and_ends_when_asked() {
    let mut gateway = Setup::new().unwrap().start().await.unwrap();
    for _ in 1..TRIES {
        if gateway.started_in() < START_WITHIN {
            break;
        }
        gateway.restart().await.unwrap();
    }
    assert!(gateway.started_in() < START_WITHIN, "{:?}", gateway.started_in());
    assert!(gateway.is_ready().await);
    assert_eq!(gateway.metric("streamhouse_connections").await.unwrap(), Some(0.0));
    let mut idle = f64::MAX;
    for _ in 0..TRIES {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (rss, cpu) = (gateway.rss().unwrap(), gateway.cpu_seconds().unwrap());
        assert!(rss < IDLE_BYTES, "{rss} bytes");
        tokio::time::sleep(Duration::from_secs(1)).await;
        idle = gateway.cpu_seconds().unwrap() - cpu;
        if idle < 0.1 {
            break;
        }
    }
    assert!(idle < 0.1, "{idle} seconds of processor time in an idle second, {TRIES} times");
    assert_eq!(gateway.terminate().await.unwrap(), Some(0), "{}", gateway.stderr());
    let address = gateway.address();
    gateway.restart().await.unwrap();
    assert_eq!(gateway.address(), address);
}

/// It ends by itself, with an exit code, soon, and says why in these words.
async fn refuses(setup: Setup, words: &[&str]) -> Ended {
    let ended = setup.run().await.unwrap();
    assert!(matches!(ended.code, Some(1..=2)), "{ended:?}");
    let missing: Vec<_> = words.iter().filter(|word| !ended.stderr.contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?} is not in: {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(!ended.stdout.contains("is ready"), "{}", ended.stdout);
    assert!(ended.took < END_WITHIN, "{:?}", ended.took);
    ended
}

/// A data folder that is not there, and must not be there afterwards.
struct Absent(TempDir);

impl Absent {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn setup(&self) -> Setup {
        Setup::new().unwrap().data(self.0.path().join("data"))
    }

    fn is_untouched(&self) -> bool {
        std::fs::read_dir(self.0.path()).unwrap().next().is_none()
    }
}

/// L2, L6 on one machine. (Goes red when the journal's file is opened without its exclusive lock.)
#[tokio::test]
async fn a_second_gateway_on_the_folder() {
    let mut first = Setup::new().unwrap().start().await.unwrap();
    let mut client = first.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "t", 1, &[]).await.unwrap(), 0);
    refuses(Setup::new().unwrap().data(first.data()), &[&first.data().display().to_string()]).await;
    let batch = RecordsBuilder::new().record(0, None, Some(b"still served")).build();
    assert_eq!(produce_one(&mut client, "t", 0, batch).await.unwrap().error_code, 0);
    drop(client);
    assert_eq!(first.terminate().await.unwrap(), Some(0));
}

#[tokio::test]
async fn options_that_there_are_not() {
    let absent = Absent::new();
    refuses(absent.setup().args(["--lissen", "x"]), &["--lissen", "--listen"]).await;
    refuses(absent.setup().set("storage.put-budgte", "1"), &["storage.put-budgte", "`storage.put-budget`"]).await;
    refuses(absent.setup().set("kafka.num.partition", "1"), &["num.partition", "`kafka.num.partitions`"]).await;
    refuses(absent.setup().env("STREAMHOUSE_NOD_ID", "1"), &["STREAMHOUSE_NOD_ID", "STREAMHOUSE_NODE_ID"]).await;
    refuses(absent.setup().set("node-id", "one"), &["node-id", "whole number"]).await;
    refuses(absent.setup().args(["--bucket", "no-scheme"]), &["`bucket`", "s3://"]).await;
    refuses(absent.setup().args(["--config", "/there/is/none.toml"]), &["/there/is/none.toml"]).await;
    refuses(absent.setup().args(["--log", "x=y=z"]), &["`log`"]).await;
    assert!(absent.is_untouched());
}

#[tokio::test]
async fn a_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let absent = Absent::new();
    refuses(absent.setup().listen(address), &[&address.to_string(), "--listen"]).await;
    refuses(absent.setup().admin(address), &[&address.to_string(), "--admin"]).await;
    assert!(absent.is_untouched());
}

#[tokio::test]
async fn a_folder_that_cannot_be_one() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "of someone else").unwrap();
    refuses(Setup::new().unwrap().data(&file), &[&file.display().to_string(), "--data"]).await;
    let below = file.join("below");
    refuses(Setup::new().unwrap().data(&below), &[&below.display().to_string(), "--data"]).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of someone else");
    // Where no one may write, not even the superuser.
    refuses(Setup::new().unwrap().data("/proc/streamhouse"), &["/proc/streamhouse", "--data"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_cannot_be_used() {
    let s3 = S3Server::start().await;
    let absent = Absent::new();
    let on = |bucket: &str, endpoint: &str| {
        let with_env = s3.environment().into_iter().fold(absent.setup(), |setup, (name, value)| setup.env(name, value));
        with_env.args(["--bucket", bucket, "--endpoint", endpoint])
    };
    let bucket = format!("s3://{}", s3.bucket());
    let endpoint = s3.endpoint();
    refuses(on("s3://there-is-none", &endpoint), &["s3://there-is-none", "--bucket"]).await;
    refuses(on(&bucket, &endpoint).env("AWS_SECRET_ACCESS_KEY", "wrong"), &[&bucket]).await;
    let stranger = refuses(on(&bucket, &endpoint).env("AWS_ACCESS_KEY_ID", "AKIDSTRANGER"), &[&bucket]).await;
    assert!(!stranger.stderr.contains(s3.secret()), "a secret in the log");
    refuses(on(&bucket, "http://127.0.0.1:1"), &[&bucket, "127.0.0.1:1"]).await;
    assert!(absent.is_untouched());
    assert!(s3.contents().is_empty(), "{:?}", s3.contents().keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_lie_below_the_prefix_of_the_bucket() {
    let s3 = S3Server::start().await;
    let url = format!("s3://{}/cells/one/", s3.bucket());
    let own = Setup::new().unwrap();
    let with_env = s3.environment().into_iter().fold(own, |setup, (name, value)| setup.env(name, value));
    let setup = with_env.args(["--bucket", &url, "--endpoint", &s3.endpoint()]);
    let mut gateway = setup.start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "t", 1, &[]).await.unwrap(), 0);
    let batch = RecordsBuilder::new().record(0, None, Some(b"below")).build();
    assert_eq!(produce_one(&mut client, "t", 0, batch).await.unwrap().error_code, 0);
    drop(client);
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
    let contents = s3.contents();
    assert!(contents.keys().any(|key| key.starts_with("cells/one/journal/")), "{:?}", contents.keys());
    let elsewhere = contents.keys().find(|key| !key.starts_with("cells/one/") || key.contains("//"));
    assert_eq!(elsewhere, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_another_cluster() {
    let (theirs, ours) = (S3Server::start().await, S3Server::start().await);
    let in_folder = ["--journal", "sqlite"];
    let mut first = Setup::new().unwrap().on(&theirs).args(in_folder).start().await.unwrap();
    assert_eq!(first.terminate().await.unwrap(), Some(0));
    let before = theirs.contents();
    assert!(!before.is_empty(), "a claim");
    let absent = Absent::new();
    refuses(absent.setup().on(&theirs).args(in_folder), &["belongs to cluster", "--bucket"]).await;
    assert!(absent.is_untouched(), "a new gateway");
    let mut second = Setup::new().unwrap().on(&ours).args(in_folder).start().await.unwrap();
    assert_eq!(second.terminate().await.unwrap(), Some(0));
    refuses(Setup::new().unwrap().data(second.data()).on(&theirs).args(in_folder), &["belongs to cluster", "--bucket"])
        .await;
    assert_eq!(theirs.contents(), before, "nothing in the bucket changed");
    first.restart().await.unwrap();
    second.restart().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_whose_journal_is_elsewhere() {
    let (inside, outside) = (S3Server::start().await, S3Server::start().await);
    let mut object = Setup::new().unwrap().on(&inside).start().await.unwrap();
    assert_eq!(object.terminate().await.unwrap(), Some(0));
    let mut sqlite = Setup::new().unwrap().on(&outside).args(["--journal", "sqlite"]).start().await.unwrap();
    assert_eq!(sqlite.terminate().await.unwrap(), Some(0));
    let before = (inside.contents(), outside.contents());
    let absent = Absent::new();
    refuses(absent.setup().on(&inside).args(["--journal", "sqlite"]), &["belongs to cluster", "--journal object"])
        .await;
    refuses(absent.setup().on(&outside), &["belongs to cluster", "--journal sqlite", "--data"]).await;
    assert!(absent.is_untouched());
    assert!((inside.contents(), outside.contents()) == before, "nothing in the buckets changed");
    object.restart().await.unwrap();
    sqlite.restart().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_create_only_writes() {
    let s3 = S3Server::start().await;
    s3.ignore_conditions();
    let absent = Absent::new();
    refuses(absent.setup().on(&s3), &["If-None-Match", "--journal sqlite"]).await;
    assert!(absent.is_untouched());
    assert!(s3.contents().is_empty(), "{:?}", s3.contents().keys());
}
