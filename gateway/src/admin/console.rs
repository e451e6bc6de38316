//! The console: one page for people, and the JSON that it asks for. It shows and changes nothing.
//!
//! Costs nothing while nobody looks but one look at the metrics for each point of the plots.

pub mod history;
pub mod overview;
pub mod reading;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use self::history::{History, Point, SERIES};
use self::overview::{GroupRow, GroupsBy, MemberRow, OffsetRow, PartitionRow, Table, TopicRow, TopicsBy, Wanted};
use self::reading::{Number, Reading, Timed, Times};
use crate::cost::Money;
use crate::limits::CONSOLE_FIND_LEN;
use crate::services::Services;

const PAGE: &str = include_str!("console/page.html");
const STYLE: &str = include_str!("console/style.css");
const SCRIPT: &str = include_str!("console/script.js");

/// What the page is made of and what it shows.
#[derive(Debug)]
pub struct Console {
    services: Arc<Services>,
    started: Instant,
    history: Mutex<History>,
    /// Whoever asks makes one answer at a time, however many pages are open.
    answering: tokio::sync::Mutex<()>,
}

/// What a page asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Question {
    /// Points after this time only, ms since the epoch.
    after: i64,
    topics: String,
    topics_by: TopicsBy,
    topics_down: bool,
    groups: String,
    groups_by: GroupsBy,
    groups_down: bool,
    /// A topic to be shown with its partitions.
    topic: Option<String>,
    /// A group to be shown with its members and offsets.
    group: Option<String>,
}

/// What it is told.
#[derive(Debug, Serialize)]
pub struct Answer {
    about: About,
    totals: Totals,
    money: Money,
    series: [&'static str; SERIES.len()],
    points: Vec<Point>,
    topics: Table<TopicRow>,
    groups: Table<GroupRow>,
    topic: Option<TopicDetail>,
    group: Option<GroupDetail>,
}

#[derive(Debug, Serialize)]
struct About {
    version: &'static str,
    cluster: String,
    node: i32,
    /// Where clients are told to connect, by the first listener.
    bootstrap: String,
    gateways: usize,
    store: String,
    journal: &'static str,
    ready: bool,
    now_ms: i64,
    uptime_s: u64,
    point_ms: u64,
}

/// Since the start, and now.
#[derive(Debug, Serialize)]
struct Totals {
    partitions: usize,
    objects: usize,
    kept_bytes: u64,
    bytes_in: f64,
    bytes_out: f64,
    requests: f64,
    errors: f64,
    connections: f64,
    appends: f64,
    append_p50: Option<f64>,
    append_p99: Option<f64>,
    lsn: f64,
    puts: f64,
    gets: f64,
    from_memory: f64,
    from_disk: f64,
    from_store: f64,
    cached_in_memory: f64,
    cached_on_disk: f64,
}

#[derive(Debug, Serialize)]
struct TopicDetail {
    name: String,
    /// `None` if it is gone.
    partitions: Option<Table<PartitionRow>>,
}

#[derive(Debug, Serialize)]
struct GroupDetail {
    name: String,
    members: Option<Table<MemberRow>>,
    offsets: Table<OffsetRow>,
}

impl Console {
    /// A console that shows these services; its plots begin now.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services, started: Instant::now(), history: Mutex::default(), answering: tokio::sync::Mutex::default() }
    }

    /// Time between two points.
    pub fn point_every(&self) -> Duration {
        Duration::from_millis(self.services.options.console_point_ms)
    }

    /// Takes a point.
    pub fn look(&self, reading: Reading) {
        let at_ms = self.services.clock.now_ms();
        self.history.lock().unwrap_or_else(PoisonError::into_inner).look(Instant::now(), at_ms, reading);
    }

    /// The page, and the policy that its browser is to keep: nothing from elsewhere, no script and no style but its own.
    pub fn page() -> (String, String) {
        let nonce = Uuid::new_v4().simple().to_string();
        let page = PAGE.replace("{style}", STYLE).replace("{script}", SCRIPT).replace("{nonce}", &nonce);
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        (page, policy)
    }

    /// Answers a page. `reading` is of now.
    pub async fn answer(&self, question: Question, reading: &Reading, money: Money, ready: bool) -> Answer {
        let _alone = self.answering.lock().await;
        let Services { metadata, groups, .. } = &*self.services;
        let wanted = Wanted { find: cut(&question.topics), by: question.topics_by, down: question.topics_down };
        let topics = overview::topics(metadata, &wanted).await;
        let wanted = Wanted { find: cut(&question.groups), by: question.groups_by, down: question.groups_down };
        let all_groups = overview::groups(groups, &wanted).await;
        let topic = question.topic.map(|name| {
            let partitions = overview::partitions(metadata, &name);
            TopicDetail { name, partitions }
        });
        let group = match question.group {
            Some(name) => {
                let members = overview::members(groups, &name).await;
                Some(GroupDetail { offsets: overview::offsets(metadata, &name), members, name })
            }
            None => None,
        };
        let points = self.history.lock().unwrap_or_else(PoisonError::into_inner).after(question.after);
        Answer {
            about: self.about(ready),
            totals: self.totals(reading),
            money,
            series: SERIES,
            points,
            topics,
            groups: all_groups,
            topic,
            group,
        }
    }

    fn about(&self, ready: bool) -> About {
        let Services { metadata, options, clock, .. } = &*self.services;
        let session = metadata.session();
        let (cluster, gateways, node, bootstrap) = metadata.read(|state| {
            let own = state.sessions().get(session);
            let first = own.and_then(|own| own.listeners.first());
            let bootstrap = first.map(|at| format!("{}:{}", at.host, at.port)).unwrap_or_default();
            // Between two lives it has none.
            let node = own.map_or(-1, |own| own.node.0);
            (state.cluster_id().to_owned(), state.sessions().live_count(), node, bootstrap)
        });
        About {
            version: env!("CARGO_PKG_VERSION"),
            cluster,
            node,
            bootstrap,
            gateways,
            store: options.bucket.clone().unwrap_or_else(|| options.data.display().to_string()),
            journal: options.journal_place().map_or("", |place| place.name()),
            ready,
            now_ms: clock.now_ms(),
            uptime_s: self.started.elapsed().as_secs(),
            point_ms: options.console_point_ms,
        }
    }

    fn totals(&self, reading: &Reading) -> Totals {
        let number = |number| reading.number(number);
        let append = |share| reading.times(Timed::Append).quantile(&Times::default(), share);
        let (partitions, objects, kept_bytes) = self.services.metadata.read(|state| {
            let kept = state.objects().live_bytes() + state.objects().dead_bytes();
            (state.topics().partition_count(), state.objects().len(), kept)
        });
        Totals {
            partitions,
            objects,
            kept_bytes,
            bytes_in: number(Number::BytesIn),
            bytes_out: number(Number::BytesOut),
            requests: number(Number::Requests),
            errors: number(Number::Requests) - number(Number::Good),
            connections: number(Number::Connections),
            appends: number(Number::Appends),
            append_p50: append(0.5),
            append_p99: append(0.99),
            lsn: number(Number::Lsn),
            puts: number(Number::Puts),
            gets: number(Number::Gets),
            from_memory: number(Number::FromMemory),
            from_disk: number(Number::FromDisk),
            from_store: number(Number::FromStore),
            cached_in_memory: number(Number::CachedInMemory),
            cached_on_disk: number(Number::CachedOnDisk),
        }
    }
}

/// No name is longer.
fn cut(find: &str) -> String {
    find.chars().take(CONSOLE_FIND_LEN).collect()
}

/// Whether a browser may be told: a page from elsewhere can make its own name mean this machine, but cannot make its name an
/// address or `localhost`.
pub fn is_asked_by_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_nobody_else() {
        let (page, policy) = Console::page();
        assert!(!page.contains("{nonce}") && !page.contains("{style}") && !page.contains("{script}"));
        let nonce = policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("a nonce");
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "one style, one script");
        assert_ne!(Console::page().1, policy, "each page has a nonce of its own");
        for outside in ["http://", "https://", "//cdn", "@import", "src=\"", "innerHTML", "insertAdjacentHTML", "eval("]
        {
            let rest = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!rest.contains(outside), "the page holds {outside}");
        }
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn names_that_could_be_anybodys_are_not_answered() {
        for good in ["127.0.0.1:9464", "localhost:9464", "LocalHost", "[::1]:9464", "10.0.0.7", "[::1]", "127.0.0.1"] {
            assert!(is_asked_by_address(good), "{good}");
        }
        for bad in
            ["", "evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example:80", "a:b"]
        {
            assert!(!is_asked_by_address(bad), "{bad}");
        }
    }
}
