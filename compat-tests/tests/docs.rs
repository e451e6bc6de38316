//! docs/{config,apis,metrics}.md are made from the code; a difference fails. `DOCS_WRITE=1` writes them anew.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;

use compat_tests::raw_client::RawClient;
use compat_tests::requests::{create_topic, produce_one, read_all};
use gateway::api::table::advertised;
use gateway::app::App;
use gateway::options::Options;
use gateway::options::kafka::SETTINGS;
use gateway::options::load::documented;
use metadata::model::topic_config::{DEFINITIONS, Effect};
use storage::codec::records::RecordsBuilder;

const MADE: &str = "<!-- Made from the code: DOCS_WRITE=1 cargo test -p compat-tests --test docs -->";

fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("DOCS_WRITE").is_some() {
        std::fs::write(&path, text).expect("docs are writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/{name} is not what the code says; run with DOCS_WRITE=1 and commit it");
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn config() {
    let mut text = format!("# Configuration\n\n{MADE}\n\n");
    text += "Later wins: the TOML file (`--config`), the environment, `--set key=value`, flags. Unknown keys are refused.\n\n\
             | option | environment | default | meaning |\n| --- | --- | --- | --- |\n";
    for option in documented() {
        let variable = format!("STREAMHOUSE_{}", option.key.replace(['.', '-'], "_").to_uppercase());
        let default = option.default.map(|d| format!("`{d}`")).unwrap_or_default();
        let _ = writeln!(text, "| `{}` | `{variable}` | {default} | {} |", option.key, cell(&option.doc));
    }
    text += "\n## Settings by Kafka's names\n\nSet as `kafka.<name>`: `--set kafka.num.partitions=3`, or in the file under \
             `[kafka]` in quotes.\n\n| setting | default | meaning |\n| --- | --- | --- |\n";
    for setting in SETTINGS {
        let _ = writeln!(text, "| `{}` | `{}` | {} |", setting.name, setting.default, cell(setting.doc));
    }
    text += "\nEvery broker-wide default of a topic config below is a setting too (`log.retention.ms` for `retention.ms`; \
             `log.retention.minutes` and `log.retention.hours` as in Kafka).\n";
    compare("config.md", &text);
}

#[test]
fn topic_configs() {
    let mut text = format!("# Topic configs\n\n{MADE}\n\nKafka's names, defaults and checks.\n\n## Those that act\n\n");
    let table = "| config | broker-wide | default | meaning |\n| --- | --- | --- | --- |\n";
    text += table;
    let row = |d: &metadata::model::topic_config::Definition, why: &str| {
        let broker = d.broker_name.map(|n| format!("`{n}`")).unwrap_or_default();
        format!("| `{}` | {broker} | `{}` | {}{why} |\n", d.name, d.default, cell(d.doc))
    };
    text.extend(DEFINITIONS.iter().filter(|d| d.effect == Effect::Acts).map(|d| row(d, "")));
    text += "\n## Those that are accepted without effect\n\nThey are checked, kept and described, so that tools and \
             configurations made for Kafka work unchanged.\n\n";
    text += table;
    for definition in DEFINITIONS {
        if let Effect::NoEffect(why) = definition.effect {
            text += &row(definition, &format!(" **No effect:** {why}."));
        }
    }
    text += "\n## Compaction\n\nWhat was compacted before, and what may be, is counted in the extents of the index instead of \
             segment files; the newest one is left alone, as Kafka leaves the active segment. `segment.ms` and \
             `segment.bytes` therefore hold nothing back.\n\n## Refused\n\n`remote.storage.enable=true`: every record is in \
             object storage already.\n";
    compare("topic-configs.md", &text);
}

#[test]
fn apis() {
    let mut text = format!("# Kafka APIs\n\n{MADE}\n\n| key | API | versions |\n| --- | --- | --- |\n");
    for api in advertised() {
        let _ = writeln!(text, "| {} | {} | {}-{} |", api.key, api.name, api.min, api.max);
    }
    text += "\nProduce 0-2 are advertised because librdkafka otherwise switches compression off (KAFKA-18659); Kafka 4 no longer \
             takes them, and neither do we: they are answered with UNSUPPORTED_VERSION. Any other key closes the connection, as \
             on a Kafka broker.\n";
    compare("apis.md", &text);
}

/// What is counted by label is told from its first count on: some of everything has to have happened.
async fn use_it(app: &App) {
    let mut client = RawClient::connect(app.address).await.expect("connects");
    assert_eq!(create_topic(&mut client, "counted", 1, &[]).await.expect("answers"), 0);
    let batch = RecordsBuilder::new().values(1_700_000_000_000, [b"hello".to_vec()]).build();
    assert_eq!(produce_one(&mut client, "counted", 0, batch).await.expect("answers").error_code, 0);
    assert_eq!(read_all(&mut client, "counted", 0).await.expect("reads").len(), 1);
    client.finish().await.expect("ends");
    assert!(client.is_closed().await, "the gateway has counted the end of the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        listen: "127.0.0.1:0".into(),
        admin: "127.0.0.1:0".into(),
        data: folder.path().to_path_buf(),
        ..Options::default()
    };
    let app = App::start(options).await.expect("the gateway starts");
    use_it(&app).await;
    let address = app.admin_address;
    let scraped = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("connects");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sends");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answers");
        text
    });
    let scraped = scraped.await.expect("scraped");
    app.stop().await;
    let mut lines = Vec::new();
    let mut help = std::collections::BTreeMap::new();
    for line in scraped.lines() {
        if let Some((name, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.insert(name, text);
        } else if let Some((name, found)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            lines.push((name.to_owned(), found, help.get(name).copied().unwrap_or_default()));
        }
    }
    lines.sort();
    assert!(lines.len() > 20, "only {} metrics", lines.len());
    assert!(lines.iter().all(|(name, ..)| name.starts_with("streamhouse_")), "{lines:?}");
    let mut text =
        format!("# Metrics\n\n{MADE}\n\nPrometheus text at `http://<admin>/metrics`. Units are in the names.\n\n");
    text += "| metric | type | meaning |\n| --- | --- | --- |\n";
    for (name, kind, help) in lines {
        let name = if kind == "counter" { format!("{name}_total") } else { name };
        let _ = writeln!(text, "| `{name}` | {kind} | {} |", cell(help));
    }
    compare("metrics.md", &text);
}
