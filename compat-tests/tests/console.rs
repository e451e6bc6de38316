//! The console of the admin listener: what its page shows of a real gateway with real traffic, in a real browser; and what it
//! does not tell, and to whom.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::harness::{Gateway, Setup};
use compat_tests::requests::{create_topic, produce_one, read_all};
use gateway::admin::console::history::SERIES;
use gateway::admin::console::reading::names;
use serde_json::{Value, json};
use storage::codec::records::RecordsBuilder;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Time between two points of the plots in these tests.
const POINT_MS: &str = "100";
/// Longest the browser may take for a scene; on a quiet machine it takes a few seconds.
const BROWSER_WITHIN: Duration = Duration::from_secs(400);
/// Longest until a point of the plots is there.
const SOON: Duration = Duration::from_secs(60);
/// Records of one batch.
const RECORDS: usize = 50;

fn batch() -> Bytes {
    RecordsBuilder::new().values(1_700_000_000_000, (0..RECORDS).map(|n| vec![n as u8; 1_000])).build()
}

async fn start() -> Gateway {
    Setup::new().unwrap().set("console-point-ms", POINT_MS).start().await.unwrap()
}

async fn data(gateway: &Gateway, query: &str) -> Value {
    let (status, body) = gateway.admin_get(&format!("/console/data?{query}")).await.unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Status and all else of an answer of the admin listener.
async fn ask(gateway: &Gateway, request: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(gateway.admin()).await.unwrap();
    stream.write_all(format!("{request}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// Commits an offset of partition 0 for a group without members.
async fn commit(gateway: &Gateway, group: &str, topic: &str, offset: i64) {
    let mut client = gateway.client().await.unwrap();
    assert_eq!(compat_tests::requests::commit_offset(&mut client, group, topic, offset).await.unwrap(), 0, "{group}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_are_those_of_the_clients() {
    let gateway = start().await;
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "orders", 3, &[]).await.unwrap(), 0);
    assert_eq!(create_topic(&mut client, "idle", 1, &[]).await.unwrap(), 0);
    let size = batch().len();
    for partition in [0, 0, 2] {
        assert_eq!(produce_one(&mut client, "orders", partition, batch()).await.unwrap().error_code, 0);
    }
    assert_eq!(read_all(&mut client, "orders", 0).await.unwrap().len(), 2 * RECORDS);
    commit(&gateway, "readers", "orders", 30).await;
    commit(&gateway, "done", "orders", 100).await;
    let told = data(&gateway, "topics_by=records&topics_down=true&topic=orders&group=readers").await;
    let row = |name: &str, partitions: i32, records: usize, bytes: usize, extents: usize| json!({"name": name, "partitions": partitions, "records": records, "bytes": bytes, "extents": extents});
    let extents = told["topics"]["rows"][0]["extents"].as_u64().unwrap() as usize;
    assert_eq!(told["topics"]["rows"], json!([row("orders", 3, 150, 3 * size, extents), row("idle", 1, 0, 0, 0)]));
    let ends: Vec<_> =
        told["topic"]["partitions"]["rows"].as_array().unwrap().iter().map(|row| row["end"].clone()).collect();
    assert_eq!(ends, [100, 0, 50]);
    let lags = |told: &Value| -> Vec<(String, i64)> {
        let rows = told["groups"]["rows"].as_array().unwrap();
        rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row["lag"].as_i64().unwrap())).collect()
    };
    assert_eq!(lags(&told), [("done".to_owned(), 0), ("readers".to_owned(), 70)]);
    assert_eq!(lags(&data(&gateway, "groups_by=lag&groups_down=true&groups=READ").await), [("readers".into(), 70)]);
    let offset = json!({"topic": "orders", "partition": 0, "committed": 30, "end": 100, "lag": 70});
    assert_eq!(told["group"]["offsets"]["rows"], json!([offset]));
    assert_eq!(told["totals"]["bytes_in"], json!((3 * size) as f64));
    assert!(told["totals"]["bytes_out"].as_f64().unwrap() >= (2 * size) as f64);
    assert_eq!((&told["about"]["bootstrap"], &told["totals"]["partitions"]), (&json!(gateway.bootstrap()), &json!(4)));
    let gone = data(&gateway, "topic=never&group=neither").await;
    assert_eq!((&gone["topic"]["partitions"], &gone["group"]["members"]), (&Value::Null, &Value::Null));
}

/// What came in is what the points between add up to; a page that comes back asks for the newer ones only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_points_add_up() {
    let gateway = start().await;
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "orders", 1, &[]).await.unwrap(), 0);
    let begun = Instant::now();
    let last = loop {
        let before = data(&gateway, "").await;
        if let Some(last) = before["points"].as_array().unwrap().last() {
            break last[0].as_i64().unwrap();
        }
        assert!(begun.elapsed() < SOON, "{before}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for _ in 0..4 {
        assert_eq!(produce_one(&mut client, "orders", 0, batch()).await.unwrap().error_code, 0);
    }
    let column = 1 + SERIES.iter().position(|name| *name == "produces").unwrap();
    let begun = Instant::now();
    // The point of the last produce comes a moment later, and then a few without any.
    loop {
        let told = data(&gateway, &format!("after={last}")).await;
        let points = told["points"].as_array().unwrap();
        assert!(points.iter().all(|point| point[0].as_i64().unwrap() > last), "{points:?}");
        let (mut from, mut produced, mut quiet) = (last, 0.0, 0);
        for point in points {
            let (at, rate) = (point[0].as_i64().unwrap(), point[column].as_f64().unwrap());
            produced += rate * (at - from) as f64 / 1_000.0;
            quiet = if rate == 0.0 { quiet + 1 } else { 0 };
            from = at;
        }
        // The points are dated in whole milliseconds.
        assert!(produced < 4.3, "{produced} of 4 produces: {points:?}");
        if produced > 3.7 && quiet > 2 {
            return;
        }
        assert!(begun.elapsed() < SOON, "{produced} of 4 produces: {points:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_tells_whom_it_may_and_changes_nothing() {
    let gateway = start().await;
    let (status, page) = ask(&gateway, "GET / HTTP/1.1\r\nHost: 127.0.0.1").await;
    assert_eq!(status, 200);
    let head = page.split("\r\n\r\n").next().unwrap().to_lowercase();
    for line in ["content-security-policy: default-src 'none'; script-src 'nonce-", "x-content-type-options: nosniff"] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    assert!(!head.contains("access-control-allow-origin"), "{head}");
    let cases = [
        ("GET /console/data HTTP/1.1\r\nHost: evil.example", 403),
        ("GET /console/data HTTP/1.1\r\nHost: localhost:9464", 200),
        ("GET /console/data?topics_by=colour HTTP/1.1\r\nHost: localhost", 400),
        ("GET /console/data?what=ever HTTP/1.1\r\nHost: localhost", 400),
        ("POST /console/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
        ("DELETE / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
        ("GET /console HTTP/1.1\r\nHost: localhost", 200),
    ];
    for (request, wanted) in cases {
        let (status, answer) = ask(&gateway, request).await;
        assert_eq!(status, wanted, "{request}: {answer}");
    }
}

/// Goes red when a metric that the console reads gets another name.
#[test]
fn every_metric_that_is_read_is_documented() {
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).unwrap();
    for name in names() {
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
    }
}

mod real_clients {
    use super::*;

    const HOSTILE: [&str; 3] = [
        "<img src=x onerror=\"window.hacked=1\">",
        "\"><script>window.hacked=1</script>",
        "';window.hacked=1;//&amp;${window.hacked=1}",
    ];
    const CLIENT: &str = "<svg onload=window.hacked=1>";

    struct Browser {
        child: Child,
        lines: Lines<BufReader<ChildStdout>>,
        seen: Vec<String>,
    }

    impl Browser {
        /// Opens the console of the gateway and looks at it as `console.js` says.
        fn start(gateway: &Gateway, scene: &str, expected: &Value) -> Self {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
            let built = std::process::Command::new(folder.join("build.sh")).output().unwrap();
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            let mut command = Command::new("node");
            command
                .arg(folder.join("console.js"))
                .arg(gateway.admin().to_string())
                .arg(scene)
                .arg(expected.to_string());
            // For people who want to see what the test saw.
            command.args(std::env::var_os("STREAMHOUSE_SCREENSHOTS"));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
            let mut child = command.spawn().expect("node is installed");
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            Self { child, lines, seen: Vec::new() }
        }

        /// Reads on until it says so.
        async fn until(&mut self, wanted: &str) {
            let read = async {
                while let Some(line) = self.lines.next_line().await.unwrap() {
                    self.seen.push(line);
                    if self.seen.last().is_some_and(|line| line == wanted) {
                        return true;
                    }
                }
                false
            };
            let said = timeout(BROWSER_WITHIN, read).await.expect("the browser is done in time");
            assert!(said, "the browser never said `{wanted}`, but: {:#?}", self.seen);
        }

        async fn passed(mut self) {
            self.until("passed").await;
            assert!(self.child.wait().await.unwrap().success());
        }
    }

    /// As the page shows it: three digits.
    fn size(bytes: usize) -> String {
        let (value, unit) =
            if bytes < 1 << 20 { (bytes as f64 / 1_024.0, "KiB") } else { (bytes as f64 / 1_048_576.0, "MiB") };
        let digits = if value < 10.0 { 2 } else { 1 };
        format!("{value:.digits$} {unit}")
    }

    /// A member of a group that reads the topic until it is dropped.
    fn member(gateway: &Gateway, group: &str, client: &str, topic: &str) -> Child {
        let mut kcat = Command::new("kcat");
        kcat.args([
            "-b",
            &gateway.bootstrap(),
            "-X",
            &format!("client.id={client}"),
            "-X",
            "auto.commit.interval.ms=100",
        ]);
        kcat.args(["-o", "beginning", "-q", "-G", group, topic]);
        kcat.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_page_of_an_empty_gateway() {
        let gateway = start().await;
        Browser::start(&gateway, "empty", &json!({"bootstrap": gateway.bootstrap()})).passed().await;
    }

    /// Topics, groups, lag, a hostile name, light, dark and a phone.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_page_shows_what_was_written_and_read() {
        let mut gateway = start().await;
        let mut client = gateway.client().await.unwrap();
        for (topic, partitions) in [("orders", 3), ("orders.audit", 1)] {
            assert_eq!(create_topic(&mut client, topic, partitions, &[]).await.unwrap(), 0);
        }
        let others = 1_100;
        for number in 0..others {
            assert_eq!(create_topic(&mut client, &format!("t{number:04}"), 1, &[]).await.unwrap(), 0);
        }
        for partition in (0..30).map(|n| n % 3) {
            assert_eq!(produce_one(&mut client, "orders", partition, batch()).await.unwrap().error_code, 0);
        }
        assert_eq!(produce_one(&mut client, "orders.audit", 0, batch()).await.unwrap().error_code, 0);
        commit(&gateway, "billing", "orders", 120).await;
        for group in HOSTILE {
            commit(&gateway, group, "orders", 500).await;
        }
        let _member = member(&gateway, "live", CLIENT, "orders");
        let expected = json!({
            "bootstrap": gateway.bootstrap(),
            "topics": [
                ["orders", "3", "1,500", size(30 * batch().len())],
                ["orders.audit", "1", "50", size(batch().len())],
                ["t0007", "1", "0", "0 B"],
            ],
            "topicsTotal": "1,102",
            "partitions": "1,104",
            "largest": "orders",
            "opened": ["orders.audit", ["50"]],
            "groups": [["billing", "Empty", "0", "1", "380"], ["live", "Stable", "1", "3", "0"]],
            "member": ["live", CLIENT],
            "hostile": HOSTILE,
        });
        let mut browser = Browser::start(&gateway, "full", &expected);
        browser.until("stop the gateway").await;
        gateway.kill9().await.unwrap();
        browser.passed().await;
    }
}
