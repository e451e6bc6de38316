//! Twenty environments in the shapes that public compose files use, each as a process: it starts, is well by the health check of
//! its compose file, lets an init container make a topic, tells the clients of each listener that listener's own address, takes a
//! record through every listener and gives it back through every other.
//!
//! The checks are run as they are written, by a shell, with Kafka's commands of `docker/tools` on its path and the names of the
//! compose file in its `/etc/hosts` (a mount namespace of its own). The same shapes in real containers, some of them: docker/test.sh.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use compat_tests::harness::{Gateway, Setup, tools};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{create_topic, produce_one, read_all};
use futures_util::{StreamExt, stream};
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest};
use kafka_protocol::protocol::StrBytes;
use storage::codec::records::RecordsBuilder;
use tempfile::TempDir;
use tokio::process::Command;

/// Gateways started at once.
const AT_ONCE: usize = 4;
/// Longest a command may take on a busy machine.
const COMMAND_WITHIN: Duration = Duration::from_secs(180);
/// How long a health check of a gateway that has ended is given before it counts as failed, as compose does by its `timeout:`.
const CHECK_GIVEN: Duration = Duration::from_secs(1);
/// Ends of names whose values are judged; what has no effect here may be anything.
const JUDGED: [&str; 17] = [
    "ADVERTISED_LISTENERS",
    "AUTO_CREATE_TOPICS_ENABLE",
    "BROKER_ID",
    "COMPRESSION_TYPE",
    "DEFAULT_REPLICATION_FACTOR",
    "DELETE_TOPIC_ENABLE",
    "GROUP_INITIAL_REBALANCE_DELAY_MS",
    "LISTENERS",
    "LISTENER_SECURITY_PROTOCOL_MAP",
    "LOG_CLEANUP_POLICY",
    "LOG_RETENTION_BYTES",
    "LOG_RETENTION_HOURS",
    "LOG_RETENTION_MS",
    "MESSAGE_MAX_BYTES",
    "MIN_INSYNC_REPLICAS",
    "NODE_ID",
    "NUM_PARTITIONS",
];
/// Where compose files have Kafka's commands.
const PLACES: [&str; 3] = ["/opt/kafka/bin/", "/opt/bitnami/kafka/bin/", "/usr/bin/cub"];
const METADATA_VERSION: i16 = 9;
const COORDINATOR_VERSION: i16 = 3;

/// `{A}`, `{B}` and `{C}` stand for ports that are free, `{DATA}` for a folder, `{HOST}` for the name of this machine.
#[derive(Debug)]
struct Shape {
    name: &'static str,
    /// The environment, a variable a line.
    env: &'static str,
    /// The health check, as a shell takes it.
    health: &'static str,
    /// A server.properties, if one is mounted.
    file: Option<&'static str>,
    node: i32,
    /// What clients of each listener are told; a listener's own port is the one that is told, unless said otherwise.
    told: &'static [&'static str],
    /// Variables that are warned about, because Kafka does not know them either.
    warned: &'static [&'static str],
}

const SHAPE: Shape = Shape { name: "", env: "", health: "", file: None, node: 1, told: &[], warned: &[] };

const SHAPES: [Shape; 20] = [
    Shape {
        name: "apache/kafka: one KRaft node",
        health: "/opt/kafka/bin/kafka-broker-api-versions.sh --bootstrap-server localhost:{A} || exit 1",
        env: "KAFKA_NODE_ID: 1
              KAFKA_PROCESS_ROLES: broker,controller
              KAFKA_LISTENERS: PLAINTEXT://localhost:{A},CONTROLLER://localhost:{B}
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://localhost:{A}
              KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
              KAFKA_CONTROLLER_QUORUM_VOTERS: 1@localhost:{B}
              KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1
              KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR: 1
              KAFKA_TRANSACTION_STATE_LOG_MIN_ISR: 1
              KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: 0
              KAFKA_NUM_PARTITIONS: 3",
        told: &["localhost:{A}"],
        ..SHAPE
    },
    Shape {
        name: "apache/kafka: every address, an id of the cluster, a folder",
        health: "/opt/kafka/bin/kafka-topics.sh --bootstrap-server kafka:{A} --list",
        env: "KAFKA_NODE_ID: 2
              KAFKA_PROCESS_ROLES: broker,controller
              CLUSTER_ID: 4L6g3nShT-eMCtK--X86sw
              KAFKA_LISTENERS: PLAINTEXT://0.0.0.0:{A},CONTROLLER://0.0.0.0:{B}
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://kafka:{A}
              KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER
              KAFKA_CONTROLLER_QUORUM_BOOTSTRAP_SERVERS: kafka:{B}
              KAFKA_LOG_DIRS: {DATA}
              KAFKA_LOG_RETENTION_HOURS: 24
              KAFKA_AUTO_CREATE_TOPICS_ENABLE: true",
        node: 2,
        told: &["kafka:{A}"],
        ..SHAPE
    },
    Shape {
        name: "apache/kafka: inside and on the host",
        health: "/opt/kafka/bin/kafka-topics.sh --list --bootstrap-server localhost:{B} > /dev/null 2>&1",
        env: "KAFKA_NODE_ID: 1
              KAFKA_PROCESS_ROLES: broker,controller
              KAFKA_LISTENERS: PLAINTEXT://:{A},PLAINTEXT_HOST://:{B},CONTROLLER://:{C}
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://broker:{A},PLAINTEXT_HOST://localhost:{B}
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT
              KAFKA_INTER_BROKER_LISTENER_NAME: PLAINTEXT
              KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER
              KAFKA_CONTROLLER_QUORUM_VOTERS: 1@broker:{C}",
        told: &["broker:{A}", "localhost:{B}"],
        ..SHAPE
    },
    Shape {
        name: "apache/kafka: the second of three that vote",
        health: "nc -z kafka-2 {A} || exit 1",
        env: "KAFKA_NODE_ID: 22
              KAFKA_PROCESS_ROLES: broker
              KAFKA_LISTENERS: INTERNAL://:{A},EXTERNAL://:{B}
              KAFKA_ADVERTISED_LISTENERS: INTERNAL://kafka-2:{A},EXTERNAL://localhost:{B}
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
              KAFKA_INTER_BROKER_LISTENER_NAME: INTERNAL
              KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER
              KAFKA_CONTROLLER_QUORUM_VOTERS: 1@c-1:9093,2@c-2:9093,3@c-3:9093
              KAFKA_DEFAULT_REPLICATION_FACTOR: 3
              KAFKA_MIN_INSYNC_REPLICAS: 2
              KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 3",
        node: 22,
        told: &["kafka-2:{A}", "localhost:{B}"],
        ..SHAPE
    },
    Shape {
        name: "cp-kafka: KRaft, inside and on the host, JMX",
        health: "kafka-broker-api-versions --bootstrap-server broker:{A}",
        env: "KAFKA_NODE_ID: 1
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: 'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT'
              KAFKA_ADVERTISED_LISTENERS: 'PLAINTEXT://broker:{A},PLAINTEXT_HOST://localhost:{B}'
              KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1
              KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: 0
              KAFKA_JMX_PORT: 9101
              KAFKA_JMX_HOSTNAME: localhost
              KAFKA_PROCESS_ROLES: 'broker,controller'
              KAFKA_CONTROLLER_QUORUM_VOTERS: '1@broker:{C}'
              KAFKA_LISTENERS: 'PLAINTEXT://0.0.0.0:{A},CONTROLLER://broker:{C},PLAINTEXT_HOST://0.0.0.0:{B}'
              KAFKA_INTER_BROKER_LISTENER_NAME: 'PLAINTEXT'
              KAFKA_CONTROLLER_LISTENER_NAMES: 'CONTROLLER'
              CLUSTER_ID: 'MkU3OEVBNTcwNTJENDM2Qk'",
        told: &["broker:{A}", "localhost:{B}"],
        ..SHAPE
    },
    Shape {
        name: "cp-kafka: ZooKeeper, advertised only",
        health: "cub kafka-ready -b broker:{B} 1 20",
        env: "KAFKA_BROKER_ID: 1
              KAFKA_ZOOKEEPER_CONNECT: zookeeper:2181
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: PLAINTEXT:PLAINTEXT,PLAINTEXT_INTERNAL:PLAINTEXT
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://localhost:{A},PLAINTEXT_INTERNAL://broker:{B}
              KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1
              KAFKA_TRANSACTION_STATE_LOG_MIN_ISR: 1",
        told: &["localhost:{A}", "broker:{B}"],
        ..SHAPE
    },
    Shape {
        name: "cp-kafka: ZooKeeper, inside, outside, and for containers of others",
        health: "nc -vz localhost {B} && kafka-topics --bootstrap-server kafka1:{A} --list",
        env: "KAFKA_BROKER_ID: 3
              KAFKA_ZOOKEEPER_CONNECT: zoo1:2181,zoo2:2181,zoo3:2181
              KAFKA_ADVERTISED_LISTENERS: INTERNAL://kafka1:{A},EXTERNAL://${DOCKER_HOST_IP:-127.0.0.1}:{B},DOCKER://host.docker.internal:{C}
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,DOCKER:PLAINTEXT
              KAFKA_INTER_BROKER_LISTENER_NAME: INTERNAL
              KAFKA_LOG4J_LOGGERS: kafka.controller=INFO,kafka.producer.async.DefaultEventHandler=INFO",
        node: 3,
        told: &["kafka1:{A}", "127.0.0.1:{B}", "host.docker.internal:{C}"],
        ..SHAPE
    },
    Shape {
        name: "cp-server: Confluent's own names, and those of the REST proxy",
        health: "cub kafka-ready 1 40 -b localhost:{B}",
        env: "KAFKA_BROKER_ID: 1
              KAFKA_ZOOKEEPER_CONNECT: zookeeper:2181
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://broker:{A},PLAINTEXT_HOST://localhost:{B}
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT
              KAFKA_METRIC_REPORTERS: io.confluent.metrics.reporter.ConfluentMetricsReporter
              KAFKA_CONFLUENT_LICENSE_TOPIC_REPLICATION_FACTOR: 1
              KAFKA_CONFLUENT_BALANCER_TOPIC_REPLICATION_FACTOR: 1
              KAFKA_CONFLUENT_SCHEMA_REGISTRY_URL: http://schema-registry:8081
              KAFKA_REST_HOST_NAME: rest-proxy
              KAFKA_REST_BOOTSTRAP_SERVERS: broker:{A}
              CONFLUENT_METRICS_REPORTER_BOOTSTRAP_SERVERS: broker:{A}
              CONFLUENT_METRICS_ENABLE: 'true'
              CONFLUENT_SUPPORT_CUSTOMER_ID: anonymous",
        told: &["broker:{A}", "localhost:{B}"],
        warned: &["KAFKA_REST_BOOTSTRAP_SERVERS", "KAFKA_REST_HOST_NAME"],
        ..SHAPE
    },
    Shape {
        name: "Bitnami: KRaft, inside and outside",
        health: "kafka-topics.sh --bootstrap-server kafka:{A} --list",
        env: "KAFKA_CFG_NODE_ID: 0
              KAFKA_CFG_PROCESS_ROLES: controller,broker
              KAFKA_CFG_LISTENERS: PLAINTEXT://:{A},CONTROLLER://:{C},EXTERNAL://:{B}
              KAFKA_CFG_ADVERTISED_LISTENERS: PLAINTEXT://kafka:{A},EXTERNAL://localhost:{B}
              KAFKA_CFG_LISTENER_SECURITY_PROTOCOL_MAP: CONTROLLER:PLAINTEXT,EXTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT
              KAFKA_CFG_CONTROLLER_QUORUM_VOTERS: 0@kafka:{C}
              KAFKA_CFG_CONTROLLER_LISTENER_NAMES: CONTROLLER
              ALLOW_PLAINTEXT_LISTENER: yes",
        node: 0,
        told: &["kafka:{A}", "localhost:{B}"],
        ..SHAPE
    },
    Shape {
        name: "Bitnami: ZooKeeper",
        health: "/opt/bitnami/kafka/bin/kafka-topics.sh --describe --bootstrap-server localhost:{B}",
        env: "KAFKA_CFG_ZOOKEEPER_CONNECT: zookeeper:2181
              ALLOW_PLAINTEXT_LISTENER: yes
              KAFKA_CFG_BROKER_ID: 4
              KAFKA_CFG_LISTENER_SECURITY_PROTOCOL_MAP: CLIENT:PLAINTEXT,EXTERNAL:PLAINTEXT
              KAFKA_CFG_LISTENERS: CLIENT://:{A},EXTERNAL://:{B}
              KAFKA_CFG_ADVERTISED_LISTENERS: CLIENT://kafka:{A},EXTERNAL://localhost:{B}
              KAFKA_CFG_INTER_BROKER_LISTENER_NAME: CLIENT
              KAFKA_CFG_DELETE_TOPIC_ENABLE: 'true'",
        node: 4,
        told: &["kafka:{A}", "localhost:{B}"],
        ..SHAPE
    },
    Shape {
        name: "Bitnami: the first KRaft images",
        health: "(echo > /dev/tcp/127.0.0.1/{A}) &>/dev/null && exit 0 || exit 1",
        env: "KAFKA_ENABLE_KRAFT: yes
              KAFKA_KRAFT_CLUSTER_ID: LelM2dIFQkiUFvXCEcqRWA
              KAFKA_BROKER_ID: 1
              KAFKA_CFG_PROCESS_ROLES: broker,controller
              KAFKA_CFG_CONTROLLER_LISTENER_NAMES: CONTROLLER
              KAFKA_CFG_LISTENERS: PLAINTEXT://:{A},CONTROLLER://:{B}
              KAFKA_CFG_LISTENER_SECURITY_PROTOCOL_MAP: CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
              KAFKA_CFG_ADVERTISED_LISTENERS: PLAINTEXT://127.0.0.1:{A}
              KAFKA_CFG_CONTROLLER_QUORUM_VOTERS: 1@127.0.0.1:{B}
              ALLOW_PLAINTEXT_LISTENER: yes
              BITNAMI_DEBUG: yes",
        told: &["127.0.0.1:{A}"],
        ..SHAPE
    },
    Shape {
        name: "an image of the community, with topics to be made",
        health: "nc -z -w 5 localhost {B}",
        env: "KAFKA_ZOOKEEPER_CONNECT: zookeeper:2181
              KAFKA_LISTENERS: INSIDE://:{A},OUTSIDE://:{B}
              KAFKA_ADVERTISED_LISTENERS: INSIDE://kafka:{A},OUTSIDE://localhost:{B}
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT
              KAFKA_INTER_BROKER_LISTENER_NAME: INSIDE
              KAFKA_CREATE_TOPICS: orders:3:1,audit:1:1:compact",
        told: &["kafka:{A}", "localhost:{B}"],
        warned: &["KAFKA_CREATE_TOPICS"],
        ..SHAPE
    },
    Shape {
        name: "a mounted server.properties and nothing else",
        health: "timeout 5 kafka-consumer-groups.sh --bootstrap-server localhost:{A} --list",
        env: "",
        file: Some(
            "process.roles=broker,controller\nnode.id=5\ncontroller.quorum.voters=5@localhost:{B}\n\
             listeners=PLAINTEXT://:{A},CONTROLLER://:{B}\nadvertised.listeners=PLAINTEXT://localhost:{A}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={DATA}\nnum.partitions=2\nlog.retention.hours=168\n\
             num.network.threads=3\nlog.segment.bytes=1073741824\n",
        ),
        node: 5,
        told: &["localhost:{A}"],
        ..SHAPE
    },
    Shape {
        name: "a mounted server.properties, and an environment that wins",
        health: "kafka-broker-api-versions.sh --bootstrap-server=kafka.example.org:{A}",
        env: "KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://kafka.example.org:{A}
              KAFKA_NODE_ID: 8",
        file: Some("node.id=6\nlisteners=PLAINTEXT://:{A}\nadvertised.listeners=PLAINTEXT://localhost:{A}\nlog.dirs={DATA}\n"),
        node: 8,
        told: &["kafka.example.org:{A}"],
        ..SHAPE
    },
    Shape {
        name: "advertised by the name of the machine, as Kafka does when nobody says",
        health: "kafka-topics.sh --bootstrap-server $HOSTNAME:{A} --list",
        env: "KAFKA_NODE_ID: 1
              KAFKA_PROCESS_ROLES: broker,controller
              KAFKA_LISTENERS: PLAINTEXT://:{A},CONTROLLER://:{B}",
        told: &["{HOST}:{A}"],
        ..SHAPE
    },
    Shape {
        name: "advertised at another port than the one listened on",
        health: r#"kafka-broker-api-versions.sh --bootstrap-server localhost:{A} | grep -q "(id: 1 rack""#,
        env: "KAFKA_NODE_ID: 1
              KAFKA_LISTENERS: INTERNAL://0.0.0.0:{A},EXTERNAL://0.0.0.0:{B}
              KAFKA_ADVERTISED_LISTENERS: INTERNAL://kafka:{A},EXTERNAL://kafka.example.org:443
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT",
        told: &["kafka:{A}", "kafka.example.org:443={B}"],
        ..SHAPE
    },
    Shape {
        name: "for development: small, with limits of its own",
        health: "kafka-topics.sh --bootstrap-server localhost:{A} --list || exit 1",
        env: "KAFKA_NODE_ID: 1
              KAFKA_LISTENERS: PLAINTEXT://:{A}
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://localhost:{A}
              KAFKA_HEAP_OPTS: -Xmx256m -Xms256m
              KAFKA_MESSAGE_MAX_BYTES: 10485760
              KAFKA_REPLICA_FETCH_MAX_BYTES: 10485760
              KAFKA_LOG_RETENTION_MS: 3600000
              KAFKA_LOG_RETENTION_BYTES: 1073741824
              KAFKA_LOG_CLEANUP_POLICY: delete
              KAFKA_COMPRESSION_TYPE: producer
              KAFKA_OFFSETS_RETENTION_MINUTES: 1440
              KAFKA_NUM_IO_THREADS: 4",
        told: &["localhost:{A}"],
        ..SHAPE
    },
    Shape {
        name: "topics are made by an init container only",
        health: "/opt/kafka/bin/kafka-topics.sh --bootstrap-server localhost:{B} --list",
        env: "KAFKA_NODE_ID: 1
              KAFKA_LISTENERS: PLAINTEXT://:{A},PLAINTEXT_HOST://:{B}
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://kafka:{A},PLAINTEXT_HOST://localhost:{B}
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT
              KAFKA_AUTO_CREATE_TOPICS_ENABLE: 'false'
              KAFKA_DELETE_TOPIC_ENABLE: 'true'",
        told: &["kafka:{A}", "localhost:{B}"],
        ..SHAPE
    },
    Shape {
        name: "a pod of Kubernetes, with the variables of its services",
        health: r#"/bin/sh -c "kafka-broker-api-versions.sh --bootstrap-server=localhost:{A}""#,
        env: "KAFKA_NODE_ID: 0
              KAFKA_LISTENERS: PLAINTEXT://:{A},CONTROLLER://:{B}
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://kafka-0.kafka.default.svc.cluster.local:{A}
              KAFKA_SERVICE_HOST: 10.96.0.12
              KAFKA_SERVICE_PORT: 9092
              KAFKA_PORT: tcp://10.96.0.12:9092
              KAFKA_PORT_9092_TCP: tcp://10.96.0.12:9092
              KAFKA_PORT_9092_TCP_ADDR: 10.96.0.12",
        node: 0,
        told: &["kafka-0.kafka.default.svc.cluster.local:{A}"],
        ..SHAPE
    },
    Shape {
        name: "a test that starts cp-kafka itself",
        health: "/usr/bin/cub kafka-ready -b 127.0.0.1:{B} 1 30",
        env: "KAFKA_LISTENERS: PLAINTEXT://0.0.0.0:{A},BROKER://0.0.0.0:{B},CONTROLLER://0.0.0.0:{C}
              KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://localhost:{A},BROKER://127.0.0.1:{B}
              KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
              KAFKA_INTER_BROKER_LISTENER_NAME: BROKER
              KAFKA_PROCESS_ROLES: broker,controller
              KAFKA_NODE_ID: 1
              KAFKA_BROKER_ID: 1
              KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER
              KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS: 1
              KAFKA_LOG_FLUSH_INTERVAL_MESSAGES: 9223372036854775807
              KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: 0
              KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR: 1",
        told: &["localhost:{A}", "127.0.0.1:{B}"],
        ..SHAPE
    },
];

/// What stands for `{A}` and its like in one start of a shape.
#[derive(Debug)]
struct Filling {
    ports: [u16; 3],
    data: String,
    host: String,
}

impl Filling {
    fn new(folder: &TempDir) -> Self {
        // Taken together, so that they differ; let go before the gateway takes them.
        let taken = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
        let ports = taken.map(|taken| taken.local_addr().unwrap().port());
        Self { ports, data: folder.path().join("data").display().to_string(), host }
    }

    fn fill(&self, text: &str) -> String {
        let [a, b, c] = self.ports.map(|port| port.to_string());
        // Compose puts the default in the place of a variable that nobody set.
        let text = text.replace("${DOCKER_HOST_IP:-127.0.0.1}", "127.0.0.1");
        let text = text.replace("{A}", &a).replace("{B}", &b).replace("{C}", &c);
        text.replace("{DATA}", &self.data).replace("{HOST}", &self.host)
    }
}

/// One listener: what it tells, and where it is.
#[derive(Debug)]
struct Door {
    told: String,
    at: SocketAddr,
}

impl Door {
    fn new(told: &str) -> Self {
        let (told, port) = told.split_once('=').unwrap_or_else(|| (told, told.rsplit(':').next().unwrap()));
        Self { told: told.to_owned(), at: (Ipv4Addr::LOCALHOST, port.parse().unwrap()).into() }
    }
}

/// The variables of an environment, by name.
fn variables(env: &str) -> BTreeMap<&str, &str> {
    let lines = env.lines().map(str::trim).filter(|line| !line.is_empty());
    let pairs = lines.map(|line| line.split_once(": ").unwrap());
    pairs.map(|(name, value)| (name, value.trim_matches('\''))).collect()
}

fn setup(shape: &Shape, filling: &Filling, folder: &TempDir) -> Setup {
    let mut setup = Setup::bare().unwrap().args(["--kafka-env", "--admin", "127.0.0.1:0"]);
    if let Some(file) = shape.file {
        let path = folder.path().join("server.properties");
        std::fs::write(&path, filling.fill(file)).unwrap();
        setup = setup.args(["--properties", &path.display().to_string()]);
    }
    for (name, value) in variables(&filling.fill(shape.env)) {
        setup = setup.env(name, value);
    }
    let says_where = |text: &str| text.contains("{DATA}");
    if !says_where(shape.env) && !shape.file.is_some_and(says_where) {
        setup = setup.env("STREAMHOUSE_DATA", filling.data.clone()); // the volume
    }
    setup
}

async fn start(shape: &Shape, filling: &Filling, folder: &TempDir) -> Gateway {
    setup(shape, filling, folder).start().await.unwrap_or_else(|error| panic!("{}: {error}", shape.name))
}

/// What a shell inside the container would see: Kafka's commands on the path, and the names of the compose file.
#[derive(Debug)]
struct Inside {
    folder: TempDir,
}

impl Inside {
    /// Every name that a client is told leads to this machine.
    fn new(doors: &[Door]) -> Self {
        let folder = TempDir::new().unwrap();
        let commands = std::process::Command::new(tools().unwrap()).output().unwrap();
        let usage = String::from_utf8(commands.stderr).unwrap();
        let commands = usage.lines().filter_map(|line| line.strip_prefix("  "));
        for name in commands.flat_map(|name| [name.to_owned(), format!("{name}.sh")]) {
            std::os::unix::fs::symlink(tools().unwrap(), folder.path().join(name)).unwrap();
        }
        let names: Vec<&str> = doors.iter().map(|door| door.told.rsplit_once(':').unwrap().0).collect();
        std::fs::write(folder.path().join("hosts"), format!("127.0.0.1 localhost {}\n", names.join(" "))).unwrap();
        Self { folder }
    }

    /// Runs a line of shell, for so long.
    async fn run(&self, line: &str, given: Duration) -> Output {
        let folder = self.folder.path().display().to_string();
        let place = |line: String, place: &&str| line.replace(place, if place.ends_with('/') { "" } else { "cub" });
        let line = PLACES.iter().fold(line.to_owned(), place);
        let enter = r#"mount --bind "$1" /etc/hosts && exec timeout --kill-after 1 "$2" bash -c "$3""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", enter, "sh", &format!("{folder}/hosts")]);
        command.args([&given.as_secs().to_string(), &line]).kill_on_drop(true);
        command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
        command.output().await.expect("unshare runs; it is in util-linux")
    }

    /// The same; it must succeed. Answers what it wrote.
    async fn must(&self, at: &str, line: &str) -> String {
        let said = self.run(line, COMMAND_WITHIN).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(said.status.success(), "{at}: {line}: {}{}", text(&said.stdout), text(&said.stderr));
        text(&said.stdout)
    }

    /// A topic is made by an init container, once and again as each `up` does, and is there.
    async fn make_topic(&self, at: &str, bootstrap: &str) {
        let topics = format!("kafka-topics.sh --bootstrap-server {bootstrap}");
        let line = format!("{topics} --create --if-not-exists --topic by-init --partitions 3 --replication-factor 1");
        assert_eq!(self.must(at, &line).await, "Created topic by-init.\n", "{at}");
        self.must(at, &line).await;
        let described = self.must(at, &format!("{topics} --describe --topic by-init")).await;
        assert!(described.contains("PartitionCount: 3"), "{at}: {described}");
    }
}

async fn check(shape: &Shape) {
    let folder = TempDir::new().unwrap();
    let filling = Filling::new(&folder);
    let mut gateway = start(shape, &filling, &folder).await;
    let doors: Vec<Door> = shape.told.iter().map(|told| Door::new(&filling.fill(told))).collect();
    let (inside, health) = (Inside::new(&doors), filling.fill(shape.health));
    inside.must(shape.name, &health).await;
    inside.make_topic(shape.name, &doors[0].told).await;
    for (number, door) in doors.iter().enumerate() {
        let at = format!("{}, by {}", shape.name, door.told);
        let mut client = RawClient::connect(door.at).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        let answer =
            client.ask(METADATA_VERSION, &MetadataRequest::default().with_topics(Some(Vec::new()))).await.unwrap();
        let brokers: Vec<_> = answer
            .brokers
            .iter()
            .map(|broker| (*broker.node_id, format!("{}:{}", broker.host.as_str(), broker.port)))
            .collect();
        assert_eq!(brokers, [(shape.node, door.told.clone())], "{at}");
        let wanted = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("readers"));
        let coordinator = client.ask(COORDINATOR_VERSION, &wanted).await.unwrap();
        assert_eq!(format!("{}:{}", coordinator.host.as_str(), coordinator.port), door.told, "{at}");
        let topic = format!("by-{number}");
        assert_eq!(create_topic(&mut client, &topic, 1, &[]).await.unwrap(), 0, "{at}");
        let batch = RecordsBuilder::new().values(1_700_000_000_000, [b"hello".to_vec()]).build();
        assert_eq!(produce_one(&mut client, &topic, 0, batch).await.unwrap().error_code, 0, "{at}");
        for other in &doors {
            let mut reader = RawClient::connect(other.at).await.unwrap();
            let read = read_all(&mut reader, &topic, 0).await.unwrap();
            assert_eq!(read, [b"hello".to_vec()], "{at}, read by {}", other.told);
        }
    }
    let data = Path::new(&filling.data);
    assert!(data.read_dir().is_ok_and(|mut files| files.next().is_some()), "{}: nothing lies in {data:?}", shape.name);
    assert_eq!(gateway.terminate().await.unwrap(), Some(0), "{}", shape.name);
    let log = gateway.stderr();
    let warned = |line: &&str| line.contains("there is no Kafka setting");
    let warned: Vec<&str> = log.lines().filter(warned).collect();
    assert_eq!(warned.len(), shape.warned.len(), "{}: {warned:?}", shape.name);
    for name in shape.warned {
        assert!(warned.iter().any(|line| line.contains(name)), "{}: {name} is not in {warned:?}", shape.name);
    }
    let said = inside.run(&health, CHECK_GIVEN).await;
    assert!(!said.status.success(), "{}: well by `{health}`, though it has ended: {said:?}", shape.name);
}

/// Goes red when any listener tells another's address, or does not serve, or a health check says what is not so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_environments_are_served_as_they_are() {
    let mut checks = stream::iter(&SHAPES).map(check).buffer_unordered(AT_ONCE);
    while checks.next().await.is_some() {}
}

/// A wrong value of each variable that acts, in each environment that has it. Nothing is started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_value_ends_with_one_line_that_names_the_variable() {
    let mut judged = 0;
    for shape in &SHAPES {
        let folder = TempDir::new().unwrap();
        let filling = Filling::new(&folder);
        let names = variables(shape.env).into_keys();
        for name in names.filter(|name| JUDGED.contains(&name.trim_start_matches("KAFKA_").trim_start_matches("CFG_")))
        {
            let wrong = setup(shape, &filling, &folder).env(name, "no such value").args(["--check"]);
            let ended = wrong.run().await.unwrap();
            let at = format!("{}, {name}: {}", shape.name, ended.stderr);
            assert_eq!(ended.code, Some(2), "{at}");
            assert!(ended.stderr.lines().count() == 1 && ended.stderr.starts_with("streamhouse: "), "{at}");
            assert!(ended.stderr.contains(name), "{at}");
            judged += 1;
        }
    }
    assert!(judged > 60, "{judged}");
}
