//! Topics of several profiles in one writer, and PUTs that take long.

use super::*;

/// Hands in one batch of topic 1 under a profile.
fn submit_as(bed: &Bed, profile: Option<Profile>) -> ticket::ProduceTicket {
    let mut submissions = submissions(vec![(partition(1, 0), batch_of(1, 1))]);
    submissions[0].profile = profile;
    let permit = bed.writer.admit(100).now_or_never().expect("there is memory").unwrap();
    bed.writer.submit(permit, submissions)
}

fn puts(bed: &Bed) -> usize {
    bed.world.stage.script().put_count
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_a_realtime_topic_takes_the_open_segment_with_it() {
    let bed = Bed::with(WriterOptions::of(Profile::Throughput)).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = ms(5_000);
    let first: Vec<_> = (0..10).map(|_| submit_as(&bed, None)).collect();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(puts(&bed), 1, "idle: at once");
    let slow = submit_as(&bed, None);
    tokio::time::sleep(ms(500)).await;
    assert_eq!(puts(&bed), 1, "one request is not worth a PUT beside that of ten");
    let urgent = submit_as(&bed, Some(Profile::Realtime));
    tokio::time::sleep(ms(25)).await;
    assert_eq!(puts(&bed), 2, "cut 20 ms after the urgent one came, not 1 s after the first");
    let patient = submit_as(&bed, Some(Profile::Throughput));
    tokio::time::sleep(ms(900)).await;
    assert_eq!(puts(&bed), 2, "what comes after it is patient again");
    tokio::time::sleep(ms(150)).await;
    assert_eq!(puts(&bed), 3);
    for ticket in first.into_iter().chain([slow, urgent, patient]) {
        base_of(ticket.await);
    }
}

#[tokio::test(start_paused = true)]
async fn the_smallest_target_size_in_the_segment_counts() {
    let size = batch_of(1, 1).len();
    let mut options = segments_of(100 * size, options());
    options.topic_numbers[Profile::Realtime.index()].segment_bytes = 4 * size;
    let bed = Bed::with(options).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = ms(5_000);
    let mut tickets = vec![submit_as(&bed, None)];
    tokio::time::sleep(ms(1)).await;
    tickets.extend((0..6).map(|_| submit_as(&bed, None)));
    tickets.push(submit_as(&bed, Some(Profile::Realtime)));
    tokio::time::sleep(ms(1)).await;
    assert_eq!(puts(&bed), 2, "six were too many for a segment with the seventh");
    tickets.extend((0..3).map(|_| submit_as(&bed, None)));
    tokio::time::sleep(ms(1)).await;
    assert_eq!(puts(&bed), 3, "with three more the seventh's is full");
    for ticket in tickets {
        base_of(ticket.await);
    }
}

/// Writes one request after the other; every fortieth PUT takes 2 s, all others 50 ms. How long the slowest ack took.
async fn slowest_of(bed: &Bed, requests: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..requests {
        let slow = puts(bed).is_multiple_of(40);
        bed.world.stage.script().puts.push_back(PutFault::Slow(ms(if slow { 2_000 } else { 50 })));
        bed.world.stage.script().put_delay = ms(50);
        let began = Instant::now();
        bed.append(partition(1, 0), 1, 1).await;
        slowest = slowest.max(began.elapsed());
        bed.world.stage.script().puts.clear();
    }
    slowest
}

#[tokio::test(start_paused = true)]
async fn a_put_that_takes_long_is_overtaken_by_a_second_one() {
    let bed =
        Bed::with(options().with(|numbers| ProfileNumbers { put_budget: 100.0, put_burst: 100, ..numbers })).await;
    bed.topic(1, 1).await;
    assert!(slowest_of(&bed, 200).await >= ms(2_000), "not known yet");
    let slowest = slowest_of(&bed, 200).await;
    assert!(slowest <= ms(120), "{slowest:?}");
    let hedged = bed.metrics.writer.hedges.get();
    assert!((1..=20).contains(&hedged), "{hedged} of 200");
    assert_eq!(bed.objects().len(), 400, "a second PUT of the same key is no second object");
    let last = read(&bed.cold_reader(), partition(1, 0), 200).await;
    assert_eq!(batches(&last).len(), 200, "and all is there");
}

#[tokio::test(start_paused = true)]
async fn no_second_put_without_a_token_or_on_a_folder() {
    let poor = options().with(|numbers| ProfileNumbers { put_budget: 1.0, put_burst: 1, linger_max: ms(1), ..numbers });
    for options in [poor, WriterOptions { hedge: false, ..free() }] {
        let bed = Bed::with(options).await;
        bed.topic(1, 1).await;
        slowest_of(&bed, 200).await;
        assert!(slowest_of(&bed, 80).await >= ms(2_000));
        assert_eq!((puts(&bed), bed.metrics.writer.hedges.get()), (280, 0));
    }
}
