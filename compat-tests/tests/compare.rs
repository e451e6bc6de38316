//! The comparison can be run: its rows measure, what fails is recorded, and the next row goes on.

mod real_clients {
    use std::path::Path;
    use std::process::Command;

    use compat_tests::harness::program;
    use serde_json::Value;

    /// Runs rows in small; answers the status and what was measured.
    fn compare(gateway: &Path, rows: &str, servers: &str, seconds: u32) -> (Option<i32>, Vec<Value>) {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = folder.path().join("kept.json");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ran = Command::new(here.join("clients/python/.venv/bin/python"))
            .arg("-B")
            .arg(here.join("compare/compare.py"))
            .args(["--quick", "--scale", "0.01", "--rows", rows, "--servers", servers, "--keep"])
            .arg(&kept)
            .args(["--row-seconds", &seconds.to_string()])
            .env("STREAMHOUSE_BIN", gateway)
            .env("S3_SERVER_BIN", env!("CARGO_BIN_EXE_s3-server"))
            .env("NULL_SERVER_BIN", env!("CARGO_BIN_EXE_null-server"))
            .output()
            .expect("python runs");
        let kept = std::fs::read_to_string(&kept).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        println!("{}", String::from_utf8_lossy(&ran.stdout));
        (ran.status.code(), serde_json::from_str(&kept).expect("a list of results"))
    }

    fn at(one: &Value, measure: &str) -> f64 {
        one["measured"][measure].as_f64().unwrap_or_else(|| panic!("no {measure:?} in {one}"))
    }

    #[test]
    fn a_row_measures_costs_on_the_folder_and_on_a_bucket() {
        let (status, found) = compare(program().expect("the gateway is built"), "start, first", "streamhouse", 300);
        assert_eq!(status, Some(0), "{found:?}");
        let servers: Vec<_> = found.iter().map(|one| one["server"].as_str().expect("a name")).collect();
        assert_eq!(servers, ["StreamHouse, folder", "StreamHouse, S3 (no latency)"]);
        for one in &found {
            assert!(
                at(one, "start to first record acked, s") > at(one, "start until clients are answered, s"),
                "{one}"
            );
            assert!(at(one, "memory when idle, MiB") > 1.0, "{one}");
        }
        assert!(
            at(&found[1], "requests when idle, per hour") > 0.0,
            "a journal in a bucket is looked at: {}",
            found[1]
        );
    }

    #[test]
    fn the_clients_own_limit_is_measured_without_a_server_behind_them() {
        let (status, found) = compare(program().expect("the gateway is built"), "default Java clients", "null", 300);
        assert_eq!((status, found.len()), (Some(0), 1), "{found:?}");
        assert!(at(&found[0], "produced, records/s") > 0.0, "{found:?}");
        assert!(at(&found[0], "consumed, records/s") > 0.0, "{found:?}");
    }

    #[test]
    fn what_fails_and_what_takes_too_long_is_recorded_and_the_next_goes_on() {
        let (status, found) = compare(Path::new("/bin/false"), "1,000 producers", "streamhouse", 60);
        assert_eq!((status, found.len()), (Some(1), 2), "{found:?}");
        assert!(
            found.iter().all(|one| one["failed"].as_str().is_some_and(|why| why.contains("ended with 1"))),
            "{found:?}"
        );
        let (status, found) =
            compare(program().expect("the gateway is built"), "start, first", "streamhouse, folder", 4);
        assert_eq!((status, found.len()), (Some(1), 1), "{found:?}");
        assert!(found[0]["failed"].as_str().is_some_and(|why| why.contains("not done after")), "{found:?}");
    }
}
