//! What is offered to operators: the compose files, the dashboard, the alerts. Every option in them is one of the program's, every
//! metric one that it tells.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use compat_tests::harness::Setup;
use serde::Deserialize;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[derive(Debug, Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    #[serde(default)]
    volumes: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

/// What is looked at of a service; the rest is not ours to judge.
#[derive(Debug, Deserialize)]
struct Service {
    image: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, Scalar>,
    #[serde(default)]
    depends_on: Names,
    #[serde(default)]
    volumes: Vec<String>,
    network_mode: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Flag(bool),
    Number(i64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<String>),
    Map(BTreeMap<String, BTreeMap<String, Scalar>>),
}

impl Default for Names {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The compose files, by name, each with what it is laid over.
fn compose_files() -> BTreeMap<String, Compose> {
    let names = std::fs::read_dir(root().join("docker"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files = names.filter(|name| name.starts_with("compose") && name.ends_with(".yaml"));
    let parsed = |name: String| {
        let compose: Compose =
            serde_saphyr::from_str(&read(&format!("docker/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, compose)
    };
    files.map(parsed).collect()
}

fn is_ours(service: &Service) -> bool {
    service.image.as_deref().is_some_and(|image| image.contains("streamhouse"))
}

/// Goes red for a variable that no option has, a value that cannot be served, or a Kafka setting that nobody knows.
#[tokio::test]
async fn every_gateway_of_a_compose_file_is_one_that_starts() {
    let (mut gateways, mut seen) = (0, Vec::new());
    for (file, compose) in compose_files() {
        for (name, service) in compose.services.iter().filter(|(_, service)| is_ours(service)) {
            gateways += 1;
            let mut setup = Setup::bare().unwrap().args(["--check"]).env("STREAMHOUSE_KAFKA_ENV", "true"); // as the image
            for (variable, value) in &service.environment {
                setup = setup.env(variable, value.text());
            }
            let ended = setup.run().await.unwrap();
            assert_eq!(ended.code, Some(0), "{file}, {name}: {}", ended.stderr);
            assert!(!ended.stderr.contains("WARN"), "{file}, {name}: {}", ended.stderr);
        }
        seen.push(file);
    }
    let wanted = ["compose.cluster.yaml", "compose.observability.yaml", "compose.s3.yaml", "compose.yaml"];
    assert_eq!((seen.as_slice(), gateways), (wanted.map(str::to_owned).as_slice(), 5));
}

/// The test above can fail.
#[tokio::test]
async fn a_check_tells_a_good_configuration_from_a_bad_one_and_starts_nothing() {
    let check = |name: &str, value: &str| {
        Setup::bare()
            .unwrap()
            .args(["--check", "--data", "/proc/none"])
            .env("STREAMHOUSE_KAFKA_ENV", "true")
            .env(name, value)
    };
    let good = check("STREAMHOUSE_NODE_ID", "3").run().await.unwrap();
    assert_eq!((good.code, good.stdout.as_str()), (Some(0), "The configuration can be served.\n"), "{good:?}");
    let bad = check("STREAMHOUSE_BUCKT", "s3://x").run().await.unwrap();
    assert!(bad.code == Some(2) && bad.stderr.contains("STREAMHOUSE_BUCKET"), "{bad:?}");
    let unknown = check("KAFKA_NUM_PARTITION", "3").run().await.unwrap();
    assert!(unknown.code == Some(0) && unknown.stderr.contains("WARN"), "{unknown:?}");
}

#[test]
fn what_a_service_leans_on_is_there() {
    let files = compose_files();
    let base: BTreeSet<&String> = files["compose.yaml"].services.keys().collect();
    for (file, compose) in &files {
        let there = |name: &String| {
            compose.services.contains_key(name) || (file.contains("observability") && base.contains(name))
        };
        for (name, service) in &compose.services {
            let depends: Vec<String> = match &service.depends_on {
                Names::List(names) => names.clone(),
                Names::Map(map) => map.keys().cloned().collect(),
            };
            let network = service.network_mode.as_deref().and_then(|mode| mode.strip_prefix("service:"));
            for wanted in depends.into_iter().chain(network.map(str::to_owned)) {
                assert!(there(&wanted), "{file}: {name} leans on {wanted}");
            }
            for source in service.volumes.iter().filter_map(|volume| volume.split(':').next()) {
                let known = match source.strip_prefix("./") {
                    Some(path) => root().join("docker").join(path).is_file(),
                    None => source.starts_with('/') || compose.volumes.contains_key(source),
                };
                assert!(known, "{file}: {name} mounts {source}, which is not there");
            }
        }
    }
    let readme = read("docker/README.md");
    for file in files.keys() {
        assert!(readme.contains(&format!("`{file}`")), "docker/README.md says nothing of {file}");
    }
}

/// Names of docs/metrics.md, which is made from what a gateway tells, and their kinds.
fn metrics() -> BTreeMap<String, String> {
    let text = read("docs/metrics.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// Names of metrics in a query, as they stand there.
fn named(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("streamhouse_")).map(str::to_owned).collect()
}

fn check_query(at: &str, query: &str, known: &BTreeMap<String, String>) -> usize {
    let names = named(query);
    for name in &names {
        let kind = known.get(name).map(String::as_str);
        let histogram =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).and_then(|n| known.get(n));
        assert!(
            matches!(kind, Some("counter" | "gauge")) || histogram.is_some_and(|kind| kind == "histogram"),
            "{at}: there is no {name}, or it is not to be asked for like this: {query}"
        );
        let is_asked_as_it_grows = query.contains("rate(") || query.contains("increase(");
        assert!(kind != Some("counter") || is_asked_as_it_grows, "{at}: {name} only grows: {query}");
    }
    names.len()
}

/// Every `expr` of the dashboard, with the title of its panel.
fn queries(board: &serde_json::Value) -> Vec<(String, String)> {
    let panels = board["panels"].as_array().unwrap();
    let of = |panel: &serde_json::Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets
            .into_iter()
            .map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    panels.iter().flat_map(of).collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let board: serde_json::Value = serde_json::from_str(&read("docker/grafana/streamhouse.json")).unwrap();
    let known = metrics();
    assert!(known.len() > 60, "docs/metrics.md lists {} metrics", known.len());
    let queries = queries(&board);
    let asked: usize = queries.iter().map(|(title, query)| check_query(title, query, &known)).sum();
    assert!(queries.len() > 60 && asked > 60, "{} queries of {asked} metrics", queries.len());
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    for panel in panels {
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
    }
}

#[derive(Debug, Deserialize)]
struct Rules {
    groups: Vec<RuleGroup>,
}

#[derive(Debug, Deserialize)]
struct RuleGroup {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[test]
fn the_alerts_ask_for_metrics_that_there_are() {
    let rules: Rules = serde_saphyr::from_str(&read("docker/prometheus/rules.yml")).unwrap();
    let known = metrics();
    let rules: Vec<Rule> = rules.groups.into_iter().flat_map(|group| group.rules).collect();
    for rule in &rules {
        let asked = check_query(&rule.alert, &rule.expr, &known);
        assert!(asked > 0 || rule.expr.starts_with("up{"), "{rule:?}");
        assert!(
            ["warning", "critical"].contains(&rule.labels["severity"].as_str())
                && rule.annotations.contains_key("summary")
        );
    }
    assert!(rules.len() >= 5);
}
