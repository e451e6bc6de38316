//! Starting and ending: quickly and quietly when all is well, with a clear word and nothing touched when it is not.

use std::time::Duration;

use compat_tests::harness::Setup;

/// Bounds for a build without optimisation on a machine with other work; the benchmark has the real ones.
const START_WITHIN: Duration = Duration::from_secs(5);
const IDLE_BYTES: u64 = 100 << 20;

#[tokio::test]
async fn starts_soon_idles_small_and_ends_when_asked() {
    let mut gateway = Setup::new().unwrap().start().await.unwrap();
    assert!(gateway.started_in() < START_WITHIN, "{:?}", gateway.started_in());
    assert!(gateway.is_ready().await);
    assert_eq!(gateway.metric("streamhouse_connections").await.unwrap(), Some(0.0));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (rss, cpu) = (gateway.rss().unwrap(), gateway.cpu_seconds().unwrap());
    assert!(rss < IDLE_BYTES, "{rss} bytes");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = gateway.cpu_seconds().unwrap() - cpu;
    assert!(idle < 0.1, "{idle} seconds of processor time in an idle second");
    assert_eq!(gateway.terminate().await.unwrap(), Some(0), "{}", gateway.stderr());
    let address = gateway.address();
    gateway.restart().await.unwrap();
    assert_eq!(gateway.address(), address);
}
