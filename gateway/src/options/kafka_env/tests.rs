//! Environments in the shapes that public compose files use, and what becomes of each.

use super::super::load::load;
use super::*;

fn around(image: bool) -> Surroundings {
    let mounts = "1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /var/lib/kafka/data rw - ext4 /dev/x rw";
    Surroundings { host: "3f2a".into(), mounts: mounts.into(), image }
}

fn env(lines: &str) -> Properties {
    let pairs = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let pairs = pairs.map(|line| line.split_once(": ").unwrap_or_else(|| (line.trim_end_matches(':'), "")));
    from_env(pairs.map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned())))
}

fn translated(lines: &str) -> Translated {
    translate(&env(lines), &around(true)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(lines: &str) -> String {
    match translate(&env(lines), &around(true)) {
        Err(error) => error.to_string(),
        Ok(translated) => panic!("not refused: {:?}", translated.table),
    }
}

fn text<'a>(translated: &'a Translated, key: &str) -> &'a str {
    translated.table.get(key).and_then(Value::as_str).unwrap_or("")
}

fn kafka<'a>(translated: &'a Translated, key: &str) -> &'a str {
    translated.table.get("kafka").and_then(|t| t.get(key)).and_then(Value::as_str).unwrap_or("")
}

/// name, environment, listen, advertise
const SHAPES: &[(&str, &str, &str, &str)] = &[
    ("nothing at all", "", "PLAINTEXT://:9092", "PLAINTEXT://localhost:9092"),
    (
        "apache/kafka, one KRaft node",
        "KAFKA_NODE_ID: 1
         KAFKA_PROCESS_ROLES: broker,controller
         KAFKA_LISTENERS: PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
         KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://localhost:9092
         KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER
         KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
         KAFKA_CONTROLLER_QUORUM_VOTERS: 1@localhost:9093
         KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1
         KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR: 1
         KAFKA_TRANSACTION_STATE_LOG_MIN_ISR: 1
         KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: 0
         KAFKA_NUM_PARTITIONS: 3",
        "PLAINTEXT://localhost:9092",
        "PLAINTEXT://localhost:9092",
    ),
    (
        "cp-kafka, inside and outside, KRaft",
        "KAFKA_NODE_ID: 1
         KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: 'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT'
         KAFKA_ADVERTISED_LISTENERS: 'PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:9092'
         KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1
         KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: 0
         KAFKA_JMX_PORT: 9101
         KAFKA_JMX_HOSTNAME: localhost
         KAFKA_PROCESS_ROLES: 'broker,controller'
         KAFKA_CONTROLLER_QUORUM_VOTERS: '1@broker:29093'
         KAFKA_LISTENERS: 'PLAINTEXT://broker:29092,CONTROLLER://broker:29093,PLAINTEXT_HOST://0.0.0.0:9092'
         KAFKA_INTER_BROKER_LISTENER_NAME: 'PLAINTEXT'
         KAFKA_CONTROLLER_LISTENER_NAMES: 'CONTROLLER'
         KAFKA_LOG_DIRS: '/tmp/kraft-combined-logs'
         CLUSTER_ID: 'MkU3OEVBNTcwNTJENDM2Qk'",
        "PLAINTEXT://broker:29092,PLAINTEXT_HOST://0.0.0.0:9092",
        "PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:9092",
    ),
    (
        "cp-kafka with ZooKeeper: no listeners",
        "KAFKA_BROKER_ID: 1
         KAFKA_ZOOKEEPER_CONNECT: zookeeper:2181
         KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: PLAINTEXT:PLAINTEXT,PLAINTEXT_INTERNAL:PLAINTEXT
         KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://localhost:9092,PLAINTEXT_INTERNAL://broker:29092
         KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1",
        "PLAINTEXT://:9092,PLAINTEXT_INTERNAL://:29092",
        "PLAINTEXT://localhost:9092,PLAINTEXT_INTERNAL://broker:29092",
    ),
    (
        "Bitnami, one node",
        "KAFKA_CFG_NODE_ID: 0
         KAFKA_CFG_PROCESS_ROLES: controller,broker
         KAFKA_CFG_LISTENERS: PLAINTEXT://:9092,CONTROLLER://:9093,EXTERNAL://:9094
         KAFKA_CFG_ADVERTISED_LISTENERS: PLAINTEXT://kafka:9092,EXTERNAL://localhost:9094
         KAFKA_CFG_LISTENER_SECURITY_PROTOCOL_MAP: CONTROLLER:PLAINTEXT,EXTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT
         KAFKA_CFG_CONTROLLER_QUORUM_VOTERS: 0@kafka:9093
         KAFKA_CFG_CONTROLLER_LISTENER_NAMES: CONTROLLER
         ALLOW_PLAINTEXT_LISTENER: yes",
        "PLAINTEXT://:9092,EXTERNAL://:9094",
        "PLAINTEXT://kafka:9092,EXTERNAL://localhost:9094",
    ),
    ("Bitnami, next to nothing", "ALLOW_PLAINTEXT_LISTENER: yes", "PLAINTEXT://:9092", "PLAINTEXT://3f2a:9092"),
    (
        "listeners without names outside",
        "KAFKA_LISTENERS: PLAINTEXT://:9092",
        "PLAINTEXT://:9092",
        "PLAINTEXT://3f2a:9092",
    ),
    (
        "a controller of another name",
        "KAFKA_LISTENERS: BROKER://:9092,QUORUM://:9093
         KAFKA_ADVERTISED_LISTENERS: BROKER://kafka:9092
         KAFKA_CONTROLLER_LISTENER_NAMES: QUORUM
         KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: BROKER:PLAINTEXT,QUORUM:SASL_SSL",
        "BROKER://:9092",
        "BROKER://kafka:9092",
    ),
];

#[test]
fn every_shape_listens_and_tells_what_it_should() {
    for (name, lines, listen, advertise) in SHAPES {
        let found = translated(lines);
        assert_eq!((text(&found, "listen"), text(&found, "advertise")), (*listen, *advertise), "{name}");
        assert_eq!(found.remarks.warnings, Vec::<String>::new(), "{name}");
        let base = (found.table, found.remarks.origins);
        if let Err(error) = load(base, None, std::iter::empty(), &[], Vec::new()) {
            panic!("{name}: {error}");
        }
    }
}

/// What Kafka's names cannot say wrong, but ours can once they are translated.
#[test]
fn what_is_wrong_in_our_terms_names_kafkas_variable() {
    for (lines, variable) in [
        ("KAFKA_LISTENERS: PLAINTEXT://:9092,PLAINTEXT://:9093", "KAFKA_LISTENERS"),
        ("KAFKA_CFG_ADVERTISED_LISTENERS: PLAINTEXT://a:9092,PLAINTEXT://b:9092", "KAFKA_CFG_ADVERTISED_LISTENERS"),
        (
            "KAFKA_LISTENERS: IN SIDE://:9092\nKAFKA_LISTENER_SECURITY_PROTOCOL_MAP: IN SIDE:PLAINTEXT",
            "KAFKA_LISTENERS",
        ),
    ] {
        let Translated { table, remarks } = translated(lines);
        let message =
            load((table, remarks.origins), None, std::iter::empty(), &[], Vec::new()).unwrap_err().to_string();
        assert!(message.ends_with(&format!("(it is set by {variable})")), "{lines}: {message}");
    }
}

#[test]
fn a_failure_names_what_set_the_options_it_speaks_of() {
    let remarks = translated("KAFKA_LISTENERS: PLAINTEXT://:9092\nKAFKA_LOG_DIRS: /data").remarks;
    assert_eq!(remarks.blame("in use; choose another with --listen"), " (it is set by KAFKA_LISTENERS)");
    assert_eq!(remarks.blame("choose --listen or --data"), " (it is set by KAFKA_LOG_DIRS, KAFKA_LISTENERS)");
    assert_eq!(remarks.blame("--database, --listeners and --log"), "");
    let mounted = translated("").remarks.blame("cannot use the data folder (--data)");
    assert_eq!(mounted, " (it is set by what is mounted there; KAFKA_LOG_DIRS or STREAMHOUSE_DATA names another)");
}

#[test]
fn what_acts_reaches_the_options() {
    let found = translated(
        "KAFKA_BROKER_ID: 7
         KAFKA_BROKER_RACK: eu-1a
         KAFKA_LOG_DIRS: /data/one,/data/two
         KAFKA_AUTO_CREATE_TOPICS_ENABLE: 'false'
         KAFKA_MESSAGE_MAX_BYTES: 5242880
         KAFKA_LOG_RETENTION_HOURS: 2
         KAFKA_LOG_RETENTION_BYTES: -1
         KAFKA_MIN_INSYNC_REPLICAS: 2
         KAFKA_DEFAULT_REPLICATION_FACTOR: 3
         KAFKA_COMPRESSION_TYPE: zstd",
    );
    assert_eq!(found.table["node-id"].as_integer(), Some(7));
    assert_eq!((text(&found, "rack"), text(&found, "data")), ("eu-1a", "/data/one"));
    for (name, value) in [
        ("auto.create.topics.enable", "false"),
        ("message.max.bytes", "5242880"),
        ("log.retention.hours", "2"),
        ("min.insync.replicas", "2"),
        ("default.replication.factor", "3"),
        ("compression.type", "zstd"),
    ] {
        assert_eq!(kafka(&found, name), value, "{name}");
    }
    assert_eq!(found.remarks.without_effect, ["min.insync.replicas"]);
    assert!(found.remarks.warnings[0].starts_with("KAFKA_LOG_DIRS: only the first"), "{:?}", found.remarks);
}

#[test]
fn the_newer_name_wins_and_minus_one_is_no_id() {
    assert_eq!(translated("KAFKA_NODE_ID: 4\nKAFKA_BROKER_ID: 3").table["node-id"].as_integer(), Some(4));
    assert_eq!(translated("KAFKA_BROKER_ID: -1").table.get("node-id"), None);
    let bitnami = translated("KAFKA_NUM_PARTITIONS: 1\nKAFKA_CFG_NUM_PARTITIONS: 2");
    assert_eq!(kafka(&bitnami, "num.partitions"), "2");
}

#[test]
fn what_has_no_effect_is_listed() {
    let found = translated(
        "KAFKA_ZOOKEEPER_CONNECT: z:2181
         KAFKA_HEAP_OPTS: -Xmx1G
         KAFKA_SASL_ENABLED_MECHANISMS: PLAIN
         KAFKA_LOG4J_LOGGERS: kafka=WARN
         KAFKA_AUTHORIZER_CLASS_NAME: ''
         KAFKA_CONFLUENT_SUPPORT_METRICS_ENABLE: 'false'
         KAFKA_METRIC_REPORTERS: x
         KAFKA_PORT_9092_TCP: tcp://10.0.0.1:9092
         CLUSTER_ID: x",
    );
    assert_eq!(found.remarks.without_effect.len(), 9, "{:?}", found.remarks);
    assert_eq!(found.remarks.warnings, Vec::<String>::new());
}

#[test]
fn what_would_leave_the_user_less_safe_is_refused() {
    for (lines, words) in [
        (
            "KAFKA_LISTENERS: SASL_SSL://:9093\nKAFKA_ADVERTISED_LISTENERS: SASL_SSL://k:9093",
            "KAFKA_LISTENERS: SASL_SSL is SASL_SSL",
        ),
        (
            "KAFKA_LISTENERS: IN://:1,OUT://:2\nKAFKA_ADVERTISED_LISTENERS: IN://k:1,OUT://k:2
             KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: IN:PLAINTEXT,OUT:SASL_PLAINTEXT",
            "OUT is SASL_PLAINTEXT",
        ),
        (
            "KAFKA_AUTHORIZER_CLASS_NAME: org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "KAFKA_AUTHORIZER_CLASS_NAME",
        ),
        ("KAFKA_CFG_CREATE_TOPIC_POLICY_CLASS_NAME: x.Y", "KAFKA_CFG_CREATE_TOPIC_POLICY_CLASS_NAME"),
    ] {
        let message = refused(lines);
        assert!(message.contains(words) && !message.contains('\n'), "{lines}: {message}");
    }
}

#[test]
fn what_is_wrong_names_its_variable() {
    for (lines, words) in [
        ("KAFKA_LISTENERS: PLAINTEXT:9092", "KAFKA_LISTENERS: `PLAINTEXT:9092` must be NAME://host:port"),
        ("KAFKA_LISTENERS: CONTROLLER://:9093", "KAFKA_LISTENERS: has no listener for clients"),
        ("KAFKA_LISTENERS: IN://:9092", "IN has no protocol; add IN:PLAINTEXT"),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: A:TLS\nKAFKA_LISTENERS: A://:1", "there is no protocol `TLS`"),
        ("KAFKA_LISTENERS: PLAINTEXT://0.0.0.0:9092", "KAFKA_LISTENERS: clients of PLAINTEXT would be told 0.0.0.0:9092"),
        (
            "KAFKA_LISTENERS: PLAINTEXT://:1\nKAFKA_ADVERTISED_LISTENERS: PLAINTEXT://0.0.0.0:1",
            "KAFKA_ADVERTISED_LISTENERS: clients of PLAINTEXT would be told",
        ),
        (
            "KAFKA_LISTENERS: PLAINTEXT://:1\nKAFKA_ADVERTISED_LISTENERS: PLAINTEXT://k:1,OTHER://k:2",
            "KAFKA_ADVERTISED_LISTENERS: there is no listener OTHER",
        ),
        (
            "KAFKA_LISTENERS: PLAINTEXT://:1,SECOND://:2\nKAFKA_LISTENER_SECURITY_PROTOCOL_MAP: SECOND:PLAINTEXT,PLAINTEXT:PLAINTEXT
             KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://k:1",
            "KAFKA_ADVERTISED_LISTENERS: names no address for listener SECOND",
        ),
        ("KAFKA_NUM_PARTITIONS: 0", "KAFKA_NUM_PARTITIONS: "),
        ("KAFKA_NODE_ID: one", "KAFKA_NODE_ID: `one`"),
    ] {
        let message = refused(lines);
        assert!(message.contains(words) && !message.contains('\n'), "{lines}: {message}");
    }
}

#[test]
fn an_unknown_name_is_a_warning_with_the_nearest() {
    let found = translated("KAFKA_NUM_PARTITION: 3\nKAFKA_BROKERS: localhost:9092");
    let warnings = found.remarks.warnings.join("\n");
    assert!(
        warnings.contains(
            "KAFKA_NUM_PARTITION: there is no Kafka setting `num.partition`: ignored; did you mean num.partitions?"
        ),
        "{warnings}"
    );
    assert!(warnings.contains("`brokers`: ignored") && found.remarks.warnings.len() == 2, "{warnings}");
}

#[test]
fn data_lies_where_the_user_mounts_it() {
    assert_eq!(text(&translated(""), "data"), "/var/lib/kafka/data");
    assert_eq!(text(&translated("KAFKA_LOG_DIRS: /elsewhere"), "data"), "/elsewhere");
    let bare = Surroundings { mounts: String::new(), ..around(true) };
    assert_eq!(translate(&env(""), &bare).unwrap().table.get("data"), None);
}

#[test]
fn names_of_variables() {
    let found = env("KAFKA_LISTENER_NAME_IN_A__B___C: x\nKAFKA_: y\nKAFKAX: z");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["listener.name.in.a_b-c"]);
}

#[test]
fn a_file_is_read_as_java_reads_it_and_the_environment_wins() {
    let file = "# a comment\n! another\n\n  num.partitions = 3\nlisteners:PLAINTEXT\\://:9092,\\\n   OTHER://:9093\n\
                broker.rack eu\nlog.dirs=/a\\\\b\nadvertised.listeners=\nempty";
    let mut found = from_file(file, "server.properties");
    let value = |name: &str| found[name].value.clone();
    assert_eq!(value("num.partitions"), "3");
    assert_eq!(value("listeners"), "PLAINTEXT://:9092,OTHER://:9093");
    assert_eq!((value("broker.rack"), value("log.dirs")), ("eu".into(), "/a\\b".into()));
    assert_eq!((value("advertised.listeners"), value("empty")), (String::new(), String::new()));
    found.extend(env("KAFKA_NUM_PARTITIONS: 4"));
    assert_eq!(found["num.partitions"], Property { value: "4".into(), origin: "KAFKA_NUM_PARTITIONS".into() });
    let wrong = from_file("num.partitions=0", "server.properties");
    let message = translate(&wrong, &around(false)).unwrap_err().to_string();
    assert!(message.starts_with("server.properties: num.partitions: "), "{message}");
    let nothing = translate(&Properties::new(), &around(false)).unwrap();
    assert!(nothing.table.is_empty(), "a file alone has no defaults of an image");
}
