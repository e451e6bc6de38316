//! Kafka's own configuration, obeyed: environments of its images, its file, several listeners, the health check.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use compat_tests::harness::{Setup, program};
use compat_tests::raw_client::RawClient;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId, JoinGroupRequest};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest a client may take for one command.
const CLIENT_WITHIN: Duration = Duration::from_secs(150);

/// Two ports that nobody has: taken, noted, let go.
fn two_ports() -> (u16, u16) {
    let (a, b) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    (a.local_addr().unwrap().port(), b.local_addr().unwrap().port())
}

/// What a program wrote, when it was given that; it must succeed.
async fn output(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let ended = timeout(CLIENT_WITHIN, child.wait_with_output()).await.expect("in time").unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{command:?}: {errors}");
    String::from_utf8(ended.stdout).unwrap()
}

mod real_clients {
    use super::*;

    async fn kcat(bootstrap: &str, args: &[&str], input: &str) -> String {
        output(Command::new("kcat").args(["-b", bootstrap]).args(args), input).await
    }

    /// The shape of cp-kafka's own compose file: one name for inside, one for the host. Each client is sent back to the door it
    /// came by, and both see the same records. (Goes red when Metadata tells the first listener to everyone.)
    #[tokio::test(flavor = "multi_thread")]
    async fn inside_and_outside_each_have_their_own_address() {
        let (inside, outside) = two_ports();
        let bind: SocketAddr = ([127, 0, 0, 1], inside).into();
        let folder = TempDir::new().unwrap();
        let gateway = Setup::bare()
            .unwrap()
            .args(["--kafka-env", "--admin", "127.0.0.1:0"])
            .env("KAFKA_LISTENERS", format!("PLAINTEXT://{bind},CONTROLLER://broker:29093,OUT://:{outside}"))
            .env("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://127.0.0.1:{inside},OUT://localhost:{outside}"))
            .env("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,OUT:PLAINTEXT")
            .env("KAFKA_LOG_DIRS", folder.path().display().to_string())
            .env("KAFKA_NODE_ID", "7")
            .env("KAFKA_NUM_PARTITIONS", "3")
            .env("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1")
            .env("KAFKA_ZOOKEEPER_CONNECT", "zookeeper:2181")
            .env("KAFKA_NUM_PARTITION", "9")
            .start()
            .await
            .unwrap();
        let doors = [format!("127.0.0.1:{inside}"), format!("localhost:{outside}")];
        for (at, door) in doors.iter().enumerate() {
            let listing = kcat(door, &["-L"], "").await;
            assert!(listing.contains(&format!("broker 7 at {door}")), "{listing}");
            assert!(!listing.contains(&doors[1 - at]), "{listing}");
            let topic = format!("by-{at}");
            kcat(door, &["-P", "-t", &topic], "hello\n").await;
            let other = &doors[1 - at];
            let read = kcat(other, &["-C", "-t", &topic, "-o", "beginning", "-e", "-q"], "").await;
            assert_eq!(read, "hello\n", "written by {door}, read by {other}");
            assert!(kcat(other, &["-L", "-t", &topic], "").await.contains("with 3 partitions"));
            let group = kcat(door, &["-G", &format!("group-{at}"), "-o", "beginning", "-e", "-q", &topic], "").await;
            assert_eq!(group, "hello\n", "in a group, by {door}");
        }
        assert!(folder.path().read_dir().unwrap().next().is_some(), "the journal lies where KAFKA_LOG_DIRS says");
        gateway.says("KAFKA_NUM_PARTITION: ").await.unwrap();
        gateway.says("without effect").await.unwrap();
        let log = gateway.stderr();
        let idle: Vec<_> = log.lines().filter(|line| line.contains("without effect")).collect();
        assert_eq!(idle.len(), 1, "once: {log}");
        assert!(idle[0].contains("offsets.topic.replication.factor, zookeeper.connect"), "{idle:?}");
        assert!(log.contains("KAFKA_NUM_PARTITION: ") && log.contains("did you mean num.partitions"), "{log}");
    }
}

/// Kafka describes a client of IPv4 by its address, whichever sockets it listens with. (Goes red when a listener for all addresses, an
/// IPv6 one, tells `/::ffff:127.0.0.1`.)
#[tokio::test]
async fn a_member_of_a_group_is_described_at_its_own_address() {
    let (port, _) = two_ports();
    let folder = TempDir::new().unwrap();
    let _gateway = Setup::bare()
        .unwrap()
        .args(["--kafka-env", "--admin", "127.0.0.1:0"])
        .env("KAFKA_LOG_DIRS", folder.path().display().to_string())
        .env("KAFKA_LISTENERS", format!("PLAINTEXT://:{port}"))
        .env("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://localhost:{port}"))
        .env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
        .start()
        .await
        .unwrap();
    let mut client = RawClient::connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let group = GroupId("readers".into());
    let join = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type("consumer".into())
        .with_protocols(vec![JoinGroupRequestProtocol::default().with_name("range".into())]);
    let joined = client.ask(3, &join).await.unwrap();
    assert_eq!(joined.error_code, 0, "{joined:?}");
    let described = client.ask(4, &DescribeGroupsRequest::default().with_groups(vec![group])).await.unwrap();
    let hosts: Vec<_> = described.groups[0].members.iter().map(|member| member.client_host.as_str()).collect();
    assert_eq!(hosts, ["/127.0.0.1"]);
}

#[tokio::test]
async fn what_cannot_be_served_ends_with_one_line_that_names_the_variable() {
    for (name, value, words) in [
        ("KAFKA_LISTENERS", "SASL_SSL://:9093", "KAFKA_LISTENERS: SASL_SSL is SASL_SSL"),
        ("KAFKA_CFG_LISTENERS", "PLAINTEXT:9092", "KAFKA_CFG_LISTENERS: `PLAINTEXT:9092`"),
        ("KAFKA_LISTENERS", "PLAINTEXT://0.0.0.0:9092", "set advertised.listeners"),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:TLS", "there is no protocol `TLS`"),
        ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://:9092,OUT:9093", "KAFKA_ADVERTISED_LISTENERS: `OUT:9093`"),
        ("KAFKA_AUTHORIZER_CLASS_NAME", "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "ACLs"),
        ("KAFKA_NUM_PARTITIONS", "none", "KAFKA_NUM_PARTITIONS"),
        ("KAFKA_LOG_DIRS", "/proc/streamhouse", "KAFKA_LOG_DIRS"),
    ] {
        let setup =
            Setup::bare().unwrap().args(["--kafka-env", "--listen", "127.0.0.1:0", "--advertise", "127.0.0.1:0"]);
        let setup = setup.args(["--admin", "127.0.0.1:0"]);
        let ended = setup.env(name, value).run().await.unwrap();
        assert!(matches!(ended.code, Some(1..=2)), "{name}={value}: {ended:?}");
        assert!(ended.stderr.contains(words), "{name}={value}: {}", ended.stderr);
        let errors = ended.stderr.lines().filter(|line| line.starts_with("streamhouse: ")).count();
        assert_eq!(errors, 1, "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_listener_without_a_name_for_its_clients_is_named_with_its_variable() {
    let setup = Setup::bare().unwrap().args(["--kafka-env", "--admin", "127.0.0.1:0"]);
    let setup = setup.env("KAFKA_LISTENERS", "IN://127.0.0.1:0,OUT://127.0.0.1:0");
    let setup = setup.env("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "IN:PLAINTEXT,OUT:PLAINTEXT");
    let ended = setup.env("KAFKA_ADVERTISED_LISTENERS", "IN://kafka:9092").run().await.unwrap();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let said = "streamhouse: KAFKA_ADVERTISED_LISTENERS: names no address for listener OUT\n";
    assert_eq!(ended.stderr, said);
}

/// Of our own variables, too; and one that stands for a flag.
#[tokio::test]
async fn what_is_wrong_in_our_own_variables_ends_with_one_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (name, value) in [
        ("STREAMHOUSE_KAFKA_ENV", "perhaps"),
        ("STREAMHOUSE_CONFIG", "/there/is/none.toml"),
        ("STREAMHOUSE_PROPERTIES", "/there/is/none.properties"),
        ("STREAMHOUSE_LOG", "x=y=z"),
        ("STREAMHOUSE_LOG_FORMAT", "xml"),
        ("STREAMHOUSE_LISTEN", taken.as_str()),
        ("STREAMHOUSE_ADMIN", taken.as_str()),
        ("STREAMHOUSE_DATA", "/proc/streamhouse"),
        ("STREAMHOUSE_JOURNAL", "postgres://streamhouse:secret@127.0.0.1/streamhouse?sslmode=never"),
    ] {
        let setup =
            Setup::bare().unwrap().env("STREAMHOUSE_LISTEN", "127.0.0.1:0").env("STREAMHOUSE_ADMIN", "127.0.0.1:0");
        let setup = setup.env("STREAMHOUSE_DATA", TempDir::new().unwrap().path().display().to_string());
        let ended = setup.env(name, value).run().await.unwrap();
        assert!(matches!(ended.code, Some(1..=2)), "{name}={value}: {ended:?}");
        let errors: Vec<&str> = ended.stderr.lines().filter(|line| !line.contains(" INFO ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(name), "{name}={value}: {}", ended.stderr);
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
}

/// The volume of another user, or one that is mounted read-only.
#[tokio::test]
async fn a_volume_that_cannot_be_written_is_named_with_its_variable() {
    let folder = TempDir::new().unwrap();
    // A file where the folder should be refuses root too.
    let volume = folder.path().join("volume");
    std::fs::write(&volume, "").unwrap();
    let at = volume.join("data").display().to_string();
    let setup = Setup::bare().unwrap().args(["--kafka-env", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let ended = setup.args(["--advertise", "127.0.0.1:1"]).env("KAFKA_LOG_DIRS", at.clone()).run().await.unwrap();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("streamhouse: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(&at) && errors[0].contains("KAFKA_LOG_DIRS"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_address_that_is_taken_names_the_variable_that_asked_for_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = || Setup::bare().unwrap().args(["--kafka-env", "--admin", "127.0.0.1:0"]);
    let kafkas = setup().env("KAFKA_LISTENERS", format!("PLAINTEXT://{address}")).run().await.unwrap();
    assert_eq!(kafkas.code, Some(1), "{kafkas:?}");
    assert!(kafkas.stderr.contains("(it is set by KAFKA_LISTENERS)"), "{}", kafkas.stderr);
    let ours = setup().env("KAFKA_LISTENERS", "PLAINTEXT://127.0.0.1:1").args(["--listen", &address]);
    let ours = ours.args(["--advertise", &address]).run().await.unwrap();
    assert!(ours.stderr.contains(&address) && !ours.stderr.contains("KAFKA_"), "{}", ours.stderr);
}

#[tokio::test]
async fn the_folder_of_a_broker_is_left_as_it_is_with_a_warning() {
    let folder = TempDir::new().unwrap();
    let meta = folder.path().join("meta.properties");
    std::fs::write(&meta, "version=1").unwrap();
    let mut gateway = Setup::new().unwrap().data(folder.path()).start().await.unwrap();
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
    let log = gateway.stderr();
    assert!(log.contains("a Kafka broker has lived here") && log.contains("meta.properties"), "{log}");
    assert_eq!(std::fs::read_to_string(&meta).unwrap(), "version=1");
}

#[tokio::test]
async fn without_the_flag_the_environment_of_kafka_is_left_alone() {
    let setup = Setup::new().unwrap().env("KAFKA_LISTENERS", "SASL_SSL://:1").env("KAFKA_NODE_ID", "nine");
    let mut gateway = setup.start().await.unwrap();
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_file_of_kafka_and_what_wins_over_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("server.properties");
    let data = folder.path().join("data");
    let text = format!("node.id=5\nlisteners=PLAINTEXT://127.0.0.1:1\nlog.dirs={}\nnum.partitions=2\n", data.display());
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let setup =
        Setup::bare().unwrap().args(["--properties", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let setup = setup.args(["--advertise", "127.0.0.1:0"]).set("kafka.num.partitions", "4");
    let mut gateway = setup.start().await.unwrap();
    assert!(data.read_dir().unwrap().next().is_some(), "the file says where the data lies");
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
}

#[tokio::test]
async fn health_says_whether_clients_are_taken() {
    let mut gateway = Setup::new().unwrap().start().await.unwrap();
    let admin = gateway.admin().to_string();
    let mut ask = Command::new(program().unwrap());
    ask.args(["health", "--admin", &admin]).env_remove("STREAMHOUSE_BIN");
    assert_eq!(output(&mut ask, "").await, "ready\n");
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
    let after = ask.output().await.unwrap();
    assert_eq!(after.status.code(), Some(1));
    let said = String::from_utf8_lossy(&after.stderr).into_owned();
    assert!(said.contains(&admin), "{said}");
}
