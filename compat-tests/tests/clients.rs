//! Real clients, unchanged: every scenario of `clients/SCENARIOS.md` with every library, against a gateway of their own.
//!
//! All of it is in one module so that a run without the clients' toolchains can leave it out by name.

mod real_clients {
    use std::collections::BTreeMap;
    use std::io;
    use std::time::Duration;

    use compat_tests::client::{Client, Passed, run_tools};
    use compat_tests::foreign_s3::ForeignS3;
    use compat_tests::harness::{Gateway, Setup};
    use compat_tests::s3_server::S3Server;
    use tokio::time::sleep;

    const JAVA4: Client = Client { program: "java", library: "java4" };
    const JAVA3: Client = Client { program: "java", library: "java3" };
    const CONFLUENT_PYTHON: Client = Client { program: "python", library: "confluent" };
    const KAFKA_PYTHON: Client = Client { program: "python", library: "kafka-python" };
    const AIOKAFKA: Client = Client { program: "python", library: "aiokafka" };
    const FRANZ_GO: Client = Client { program: "go", library: "franz-go" };
    const SARAMA: Client = Client { program: "go", library: "sarama" };
    const KAFKA_GO: Client = Client { program: "go", library: "kafka-go" };
    const KAFKAJS: Client = Client { program: "node", library: "kafkajs" };
    const CONFLUENT_NODE: Client = Client { program: "node", library: "confluent" };
    const RDKAFKA: Client = Client { program: "rust", library: "rdkafka" };
    const KCAT: Client = Client { program: "kcat", library: "kcat" };

    /// Everyone, in an order in which each is followed by libraries of other families: those read what it wrote.
    const RING: [Client; 12] = [
        JAVA4,
        FRANZ_GO,
        KAFKAJS,
        CONFLUENT_PYTHON,
        SARAMA,
        AIOKAFKA,
        RDKAFKA,
        JAVA3,
        KCAT,
        KAFKA_GO,
        KAFKA_PYTHON,
        CONFLUENT_NODE,
    ];
    const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

    /// From the first acknowledged record to the stop of the gateway, and from its being back to its being killed. The records
    /// are spread over ten seconds.
    const BEFORE_STOP: Duration = Duration::from_millis(500);
    const BEFORE_KILL: Duration = Duration::from_secs(3);

    async fn does_everything(client: Client, gateway: &Gateway) {
        let passed = client.run("all", &gateway.bootstrap(), &[]).await;
        print(&or_panic(passed, gateway));
    }

    async fn does_everything_on_a_folder(client: Client) {
        let mut gateway = Setup::new().expect("a folder").start().await.expect("the gateway starts");
        does_everything(client, &gateway).await;
        assert_eq!(gateway.terminate().await.expect("it ends"), Some(0), "{}", gateway.stderr());
    }

    async fn does_everything_on_a_bucket(client: Client) {
        let s3 = S3Server::start().await;
        let mut gateway = Setup::new().expect("a folder").on(&s3).start().await.expect("the gateway starts");
        does_everything(client, &gateway).await;
        assert!(s3.contents().keys().any(|key| key.contains("journal/")), "the records lie in the bucket");
        assert_eq!(gateway.terminate().await.expect("it ends"), Some(0), "{}", gateway.stderr());
    }

    /// The gateway is stopped and started, then killed and started, while the client writes.
    async fn lives_through_a_stop_and_a_kill(client: Client) {
        let mut gateway = Setup::new().expect("a folder").start().await.expect("the gateway starts");
        let mut running =
            client.start("restart", &gateway.bootstrap(), &["topic=restart"]).await.expect("the client starts");
        running.until("started").await.expect("a record is acknowledged");
        sleep(BEFORE_STOP).await;
        assert_eq!(gateway.terminate().await.expect("it ends"), Some(0), "{}", gateway.stderr());
        gateway.restart().await.expect("it starts again");
        sleep(BEFORE_KILL).await;
        assert!(running.is_running().expect("a process"), "the client had ended before the gateway was killed");
        gateway.kill9().await.expect("it is killed");
        gateway.restart().await.expect("it starts again");
        let passed = or_panic(running.passed().await, &gateway);
        print(&passed);
    }

    macro_rules! clients {
        ($($name:ident: $client:expr;)*) => { $(
            mod $name {
                use super::*;

                #[tokio::test(flavor = "multi_thread")]
                async fn does_everything() {
                    does_everything_on_a_folder($client).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn lives_through_restarts() {
                    lives_through_a_stop_and_a_kill($client).await;
                }
            }
        )* };
    }

    clients! {
        java4: JAVA4;
        java3: JAVA3;
        confluent_python: CONFLUENT_PYTHON;
        kafka_python: KAFKA_PYTHON;
        aiokafka: AIOKAFKA;
        franz_go: FRANZ_GO;
        sarama: SARAMA;
        kafka_go: KAFKA_GO;
        kafkajs: KAFKAJS;
        confluent_node: CONFLUENT_NODE;
        rdkafka: RDKAFKA;
        kcat: KCAT;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn java4_on_a_bucket() {
        does_everything_on_a_bucket(JAVA4).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn confluent_python_on_a_bucket() {
        does_everything_on_a_bucket(CONFLUENT_PYTHON).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn franz_go_on_a_bucket() {
        does_everything_on_a_bucket(FRANZ_GO).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn kafkajs_on_a_bucket() {
        does_everything_on_a_bucket(KAFKAJS).await;
    }

    /// On an S3 server that no one here wrote.
    async fn does_everything_on_a_foreign_bucket(client: Client) {
        let s3 = ForeignS3::start().expect("the S3 server starts");
        let bucket = format!("s3://{}", s3.bucket());
        let with_env = s3
            .environment()
            .into_iter()
            .fold(Setup::new().expect("a folder"), |setup, (name, value)| setup.env(name, value));
        let setup = with_env.args(["--bucket", &bucket, "--endpoint", &s3.endpoint()]);
        let mut gateway = setup.start().await.expect("the gateway starts");
        does_everything(client, &gateway).await;
        assert_eq!(gateway.terminate().await.expect("it ends"), Some(0), "{}", gateway.stderr());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn franz_go_on_a_foreign_bucket() {
        does_everything_on_a_foreign_bucket(FRANZ_GO).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn java4_on_a_foreign_bucket() {
        does_everything_on_a_foreign_bucket(JAVA4).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn confluent_python_on_a_foreign_bucket() {
        does_everything_on_a_foreign_bucket(CONFLUENT_PYTHON).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn kcat_on_a_foreign_bucket() {
        does_everything_on_a_foreign_bucket(KCAT).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_tools_of_kafka() {
        let gateway = Setup::new().expect("a folder").start().await.expect("the gateway starts");
        print(&or_panic(run_tools(&gateway.bootstrap()).await, &gateway));
    }

    /// What each writes, two others read: every codec, and everything a record can be.
    #[tokio::test(flavor = "multi_thread")]
    async fn they_read_what_others_wrote() {
        let gateway = Setup::new().expect("a folder").start().await.expect("the gateway starts");
        let bootstrap = gateway.bootstrap();
        for (place, writer) in RING.into_iter().enumerate() {
            let codec = CODECS[place % CODECS.len()];
            let mut readers: BTreeMap<&str, Vec<Client>> = BTreeMap::new();
            for reader in (1..=2).map(|next| RING[(place + next) % RING.len()]) {
                // kcat can write and read simple records only.
                let profile = if [writer, reader].contains(&KCAT) { "plain" } else { "full" };
                readers.entry(profile).or_default().push(reader);
            }
            for (profile, readers) in readers {
                let topic = format!("topic={}-{}-{codec}-{profile}", writer.program, writer.library);
                let (codec, profile) = (format!("codec={codec}"), format!("profile={profile}"));
                let keys = [&*topic, &*codec, &*profile];
                let written = or_panic(writer.run("interop-write", &bootstrap, &keys).await, &gateway);
                let without = format!("without={}", written.without());
                let mut keys = keys.to_vec();
                if !written.without().is_empty() {
                    keys.push(&without);
                }
                for reader in readers {
                    let read = or_panic(reader.run("interop-read", &bootstrap, &keys).await, &gateway);
                    println!("{reader} read what {writer} wrote: {}", read.line);
                }
            }
        }
    }

    fn print(passed: &Passed) {
        println!("{}", passed.line);
    }

    /// What passed; else both sides of what went wrong.
    fn or_panic(passed: io::Result<Passed>, gateway: &Gateway) -> Passed {
        passed.unwrap_or_else(|error| {
            let log = gateway.stderr();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            panic!("{error}\nthe gateway's last lines:\n{}", last.join("\n"))
        })
    }
}
