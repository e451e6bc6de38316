//! Readers that read on, those that lag behind, and the disk: what is found without a GET.
use metadata::model::batch::BatchIter;

use super::*;
use crate::cache::disk::DiskCache;
use crate::metrics::FoundLabel;

/// Writes `count` segments of partition 0 of topic 1, one batch of about `bytes` bytes each.
async fn written(bed: &Bed, count: u64, bytes: usize) {
    bed.topic(1, 1).await;
    let records = bytes / 12;
    for n in 0..count {
        bed.append(partition(1, 0), records, n).await;
    }
}

/// Reads the whole log, `max_bytes` at a time, and tells how many reads there were.
async fn read_through(reader: &Reader, max_bytes: u32, think: Duration) -> usize {
    read_through_and(reader, max_bytes, async || tokio::time::sleep(think).await).await
}

/// The same, and does something after each read.
async fn read_through_and(reader: &Reader, max_bytes: u32, think: impl AsyncFn()) -> usize {
    let (mut at, mut reads) = (0, 0);
    loop {
        let mut results = reader.read(&[want(partition(1, 0), at, max_bytes)], max_bytes as usize).await;
        let result = results.remove(0);
        assert_eq!(result.error, None);
        if result.records.is_empty() {
            assert_eq!(at, result.high_watermark.get());
            return reads;
        }
        for batch in BatchIter::new(&result.records.concat()) {
            let batch = batch.unwrap();
            assert!(batch.crc_is_valid() && batch.base_offset() == at);
            at += i64::from(batch.last_offset_delta()) + 1;
        }
        reads += 1;
        think().await;
    }
}

fn found(metrics: &StorageMetrics, place: &'static str) -> f64 {
    metrics.reader.found.get_or_create(&FoundLabel { place }).get() as f64
}

fn parts(bed: &Bed, options: ReaderOptions) -> ReaderParts {
    bed.cold_parts(options, bed.world.lanes(&LanesOptions::default()))
}

#[tokio::test(start_paused = true)]
async fn a_sequential_cold_reader_finds_nine_of_ten_segments_here() {
    for (segment, fetch) in [(2_000, 1), (20_000, 2_500), (2_000, 9_000)] {
        let bed = Bed::new().await;
        written(&bed, 100, segment).await;
        bed.world.stage.script().get_delay = GET;
        let parts = parts(&bed, ReaderOptions::default());
        let metrics = parts.metrics.clone();
        let (began, reader) = (Instant::now(), Reader::new(parts));
        let reads = read_through(&reader, fetch, GET).await;
        let hits = found(&metrics, "memory") + found(&metrics, "coming");
        let rate = hits / (hits + found(&metrics, "bucket"));
        assert!(rate >= 0.9, "{rate} of segments of {segment} by fetches of {fetch}");
        let waited = began.elapsed() - GET * reads as u32;
        assert!(waited <= GET * 4, "{waited:?} in {reads} reads");
        assert_eq!(bed.world.stage.script().get_count, 100, "nothing twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_of_many_times_the_cache_is_read_once_and_ahead_of_its_reader() {
    let bed = Bed::new().await;
    written(&bed, 300, 20_000).await;
    bed.world.stage.script().get_delay = GET;
    // Room for twenty segments, and for five of them ahead; four reads of each.
    let parts = parts(&bed, ReaderOptions { block_bytes: 400_000, ..ReaderOptions::default() });
    let metrics = parts.metrics.clone();
    let (began, reader) = (Instant::now(), Reader::new(parts));
    let reads = read_through(&reader, 5_000, GET / 8).await;
    let waited = began.elapsed() - GET / 8 * reads as u32;
    assert_eq!(bed.world.stage.script().get_count, 300, "what is loaded ahead is still here when it is wanted");
    assert!(found(&metrics, "bucket") <= 10.0, "{}", found(&metrics, "bucket"));
    assert!(waited <= GET * 60, "{waited:?} for 300 segments");
}

#[tokio::test(start_paused = true)]
async fn what_a_busy_lane_kept_from_being_loaded_ahead_is_loaded_a_little_later() {
    let bed = Bed::new().await;
    written(&bed, 200, 20_000).await;
    bed.world.stage.script().get_delay = GET;
    let narrow = LaneOptions { requests: 4, bytes: 1 << 20 };
    let lanes = bed.world.lanes(&LanesOptions { cold: narrow, ..LanesOptions::default() });
    let parts = bed.cold_parts(ReaderOptions::default(), lanes);
    let metrics = parts.metrics.clone();
    // A read each time a quarter of a segment could have come: the lane is busy, and wide enough.
    read_through(&Reader::new(parts), 5_000, GET / 8).await;
    assert!(found(&metrics, "bucket") <= 10.0, "{} of 200", found(&metrics, "bucket"));
}

#[tokio::test(start_paused = true)]
async fn ten_consumers_make_no_more_gets_than_one() {
    let bed = Bed::new().await;
    written(&bed, 50, 2_000).await;
    bed.world.stage.script().get_delay = GET;
    for consumers in [1, 3, 10] {
        let reader = bed.cold_reader();
        let before = bed.world.stage.script().get_count;
        let all = (0..consumers).map(|n| {
            let reader = reader.clone();
            async move { read_through(&reader, 5_000, Duration::from_millis(3 * n)).await }
        });
        futures_util::future::join_all(all).await;
        assert_eq!(bed.world.stage.script().get_count - before, 50, "{consumers} consumers");
    }
}

#[tokio::test(start_paused = true)]
async fn who_lags_behind_evicts_nothing_of_the_tail() {
    let bed = Bed::new().await;
    written(&bed, 100, 20_000).await;
    let reader = bed.cold_reader_with(ReaderOptions { block_bytes: 400_000, ..ReaderOptions::default() });
    let end = bed.metadata.read(|state| state.log(partition(1, 0)).unwrap().high_watermark().get());
    let near_end = want(partition(1, 0), end - 1, 1);
    assert!(reader.read(&[near_end], 1).await[0].bytes() > 0);
    let gets = bed.world.stage.script().get_count;
    let lagging = async |at: i64| reader.read(&[want(partition(1, 0), at, 1)], 1).await[0].bytes();
    let step = end / 100;
    for n in 0..60 {
        // Twice, as if each were worth keeping.
        assert!(lagging(n * step).await > 0 && lagging(n * step).await > 0);
    }
    assert!(bed.world.stage.script().get_count >= gets + 60, "five times the cache");
    let gets = bed.world.stage.script().get_count;
    assert!(reader.read(&[near_end], 1).await[0].bytes() > 0);
    assert_eq!(bed.world.stage.script().get_count, gets, "the tail is still here");
}

#[tokio::test(start_paused = true)]
async fn who_lags_behind_does_not_hold_up_the_tail() {
    let bed = Bed::new().await;
    written(&bed, 100, 2_000).await;
    bed.world.stage.script().get_delay = GET;
    let one = LaneOptions { requests: 1, bytes: 1 << 20 };
    let lanes = bed.world.lanes(&LanesOptions { cold: one, ..LanesOptions::default() });
    let reader = bed.cold_reader_by(ReaderOptions::default(), lanes);
    let end = bed.metadata.read(|state| state.log(partition(1, 0)).unwrap().high_watermark().get());
    let step = end / 100;
    let lagging: Vec<_> = (0..40)
        .map(|n| {
            let reader = reader.clone();
            tokio::spawn(async move { reader.read(&[want(partition(1, 0), n * step, 1)], 1).await[0].bytes() })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    assert!(reader.read(&[want(partition(1, 0), end - 1, 1)], 1).await[0].bytes() > 0);
    assert_eq!(began.elapsed(), GET);
    assert!(lagging.iter().filter(|read| !read.is_finished()).count() > 30);
    for read in lagging {
        assert!(read.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn the_disk_serves_what_memory_had_to_let_go_even_after_a_restart() {
    let bed = Bed::new().await;
    written(&bed, 20, 40_000).await;
    let folder = tempfile::tempdir().unwrap();
    let life = |capacity: u64| {
        let options = ReaderOptions { block_bytes: 0, ..ReaderOptions::default() };
        let mut parts = parts(&bed, options);
        let disk = DiskCache::open(folder.path().to_path_buf(), capacity, parts.metrics.disk.clone()).unwrap();
        parts.disk = Some(Arc::clone(&disk));
        (parts.metrics.clone(), Reader::new(parts), disk)
    };
    let (metrics, reader, disk) = life(10 << 20);
    // A reader does not wait for a busy disk, which would then leave blocks out: this one does.
    let kept = async || {
        while disk.is_writing() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(read_through_and(&reader, 1, kept).await, 20);
    assert_eq!((found(&metrics, "bucket"), metrics.disk.hits.get()), (20.0, 0));
    let gets = bed.world.stage.script().get_count;
    let (metrics, reader, _) = life(10 << 20);
    read_through(&reader, 1, Duration::ZERO).await;
    assert_eq!((metrics.disk.hits.get(), bed.world.stage.script().get_count), (20, gets));
    // Every file damaged: all is read from the bucket, and right.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let (metrics, reader, _) = life(10 << 20);
    read_through(&reader, 1, Duration::from_millis(5)).await;
    assert_eq!((metrics.disk.hits.get(), metrics.disk.damaged.get()), (0, 20));
    assert_eq!(bed.world.stage.script().get_count, gets + 20);
}
