//! Unchanged Kafka clients against a real gateway process: the scenarios of `clients/SCENARIOS.md`, on the folder and on S3.
//!
//! Each test builds its client if need be (installing what is missing, or failing with what is missing), starts a gateway of
//! its own and looks at the program's exit status: the programs compare every byte themselves.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use compat_tests::foreign_s3::ForeignS3;
use compat_tests::harness::{Gateway, Setup};
use compat_tests::s3_server::S3Server;

/// A client library: the folder of its program, and its name there.
type Library = (&'static str, &'static str);

/// Longest a program may take, also on a busy machine; its own deadline is set a little below.
const PATIENCE: Duration = Duration::from_secs(300);
const DEADLINE: &str = "deadline=280";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Builds a folder's programs once per test run, however many tests want them.
fn build(name: &'static str) {
    static BUILT: OnceLock<Mutex<HashMap<&str, Arc<OnceLock<()>>>>> = OnceLock::new();
    let once = Arc::clone(
        BUILT.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default(),
    );
    once.get_or_init(|| {
        let output = Command::new("bash").arg(folder(name).join("build.sh")).arg("-q").output().expect("bash is there");
        assert!(output.status.success(), "clients/{name}/build.sh failed:\n{}", text(&output));
    });
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn command((name, library): Library, arguments: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.arg("-c").arg("exec \"$0\" \"$@\"").arg(folder(name).join("run.sh")).arg(library).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// Runs one scenario to its end.
fn run(library: Library, arguments: &[&str], gateway: &Gateway) {
    build(library.0);
    let started = Instant::now();
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string()).arg("bash").arg("-c").arg("exec \"$0\" \"$@\"");
    command.arg(folder(library.0).join("run.sh")).arg(library.1).args(arguments).stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    println!("{library:?} {arguments:?}: {:.1} s", started.elapsed().as_secs_f64());
    assert!(
        output.status.success(),
        "{library:?} {arguments:?} ended with {:?}:\n{}\n--- gateway:\n{}",
        output.status.code(),
        text(&output),
        gateway.stderr()
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

fn every_scenario(library: Library, gateway: &Gateway) {
    run(library, &["all", &gateway.bootstrap(), DEADLINE], gateway);
}

async fn on_a_folder() -> Gateway {
    Setup::new().expect("a folder").start().await.expect("the gateway starts")
}

/// Produces while the gateway goes away in the middle and comes back.
async fn through_a_restart(library: Library, kill: bool) {
    build(library.0);
    let mut gateway = on_a_folder().await;
    let at = gateway.bootstrap();
    let arguments = ["restart", &at, "topic=restart-topic", "count=200", "pace=10", DEADLINE];
    let mut child = command(library, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut out = child.stdout.take().expect("piped");
    let seen = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&seen);
    let reading = std::thread::Builder::new().name("client".into()).spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(n) = out.read(&mut piece) {
            if n == 0 {
                break;
            }
            told.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    });
    let reading = reading.expect("a thread");
    let since = Instant::now();
    while !seen.lock().unwrap_or_else(PoisonError::into_inner).contains("started") {
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none() && since.elapsed() < PATIENCE, "{library:?} never started: {ended:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if kill {
        gateway.kill9().await.expect("killed");
    } else {
        assert_eq!(gateway.terminate().await.expect("stopped"), Some(0), "SIGTERM ends in order");
    }
    gateway.restart().await.expect("restarts");
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joined").expect("ended");
    reading.join().expect("read");
    let said = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(output.status.success(), "{library:?}: {said}{}\n--- gateway:\n{}", text(&output), gateway.stderr());
    print!("{said}");
}

macro_rules! on_the_folder {
    ($($name:ident: $folder:literal $library:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let gateway = on_a_folder().await;
            every_scenario(($folder, $library), &gateway);
        }
    )*};
}

on_the_folder! {
    folder_java4: "java" "java4";
    folder_java3: "java" "java3";
    folder_go_franz: "go" "franz";
    folder_go_sarama: "go" "sarama";
    folder_go_kafka_go: "go" "kafka-go";
    folder_python_confluent: "python" "confluent";
    folder_python_kafka_python: "python" "kafka-python";
    folder_python_aiokafka: "python" "aiokafka";
    folder_node_kafkajs: "node" "kafkajs";
    folder_node_confluent: "node" "confluent";
    folder_rust_rdkafka: "rust" "rdkafka";
    folder_kcat: "kcat" "kcat";
}

/// Kafka's own command line tools, unchanged, from the published jars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folder_kafka_tools() {
    build("java");
    let gateway = on_a_folder().await;
    let output = Command::new("bash")
        .arg(folder("java").join("tools-scenario.sh"))
        .args([&gateway.bootstrap(), "deadline=600"])
        .stdin(Stdio::null())
        .output()
        .expect("bash is there");
    assert!(output.status.success(), "{}\n--- gateway:\n{}", text(&output), gateway.stderr());
}

/// The tests' own strict server: atomic, and it checks every signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_strict() {
    let s3 = S3Server::start().await;
    let gateway = Setup::new().expect("a folder").on(&s3).start().await.expect("the gateway starts");
    for library in [("java", "java4"), ("python", "confluent"), ("go", "franz"), ("node", "kafkajs")] {
        every_scenario(library, &gateway);
    }
    assert!(s3.contents().keys().any(|key| key.contains("segments/")), "the records lie in the bucket");
}

/// A server no one here wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_foreign() {
    let s3 = tokio::task::spawn_blocking(ForeignS3::start).await.expect("joined").expect("the S3 server starts");
    let bucket = format!("s3://{}", s3.bucket());
    let mut setup = Setup::new().expect("a folder").args(["--bucket", &bucket, "--endpoint", &s3.endpoint()]);
    for (name, value) in s3.environment() {
        setup = setup.env(name, value);
    }
    let gateway = setup.start().await.expect("the gateway starts");
    every_scenario(("java", "java4"), &gateway);
    every_scenario(("python", "confluent"), &gateway);
}

/// What one library wrote, others read: keys, values, headers, timestamps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop() {
    let libraries: [Library; 5] =
        [("java", "java4"), ("go", "franz"), ("python", "confluent"), ("node", "kafkajs"), ("rust", "rdkafka")];
    let gateway = on_a_folder().await;
    let at = gateway.bootstrap();
    for (n, writer) in libraries.into_iter().enumerate() {
        let topic = format!("topic=interop-{n}");
        run(writer, &["interop-write", &at, &topic, DEADLINE], &gateway);
        for reader in [libraries[(n + 1) % 5], libraries[(n + 2) % 5]] {
            run(reader, &["interop-read", &at, &topic, DEADLINE], &gateway);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_sigterm() {
    for library in
        [("java", "java4"), ("python", "confluent"), ("go", "franz"), ("node", "kafkajs"), ("rust", "rdkafka")]
    {
        through_a_restart(library, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_kill9() {
    for library in
        [("java", "java4"), ("python", "confluent"), ("go", "franz"), ("node", "kafkajs"), ("rust", "rdkafka")]
    {
        through_a_restart(library, true).await;
    }
}
