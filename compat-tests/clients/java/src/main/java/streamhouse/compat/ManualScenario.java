package streamhouse.compat;

import static streamhouse.compat.Payload.utf8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Assignment and positions by hand: offsets, times, the ends, and beyond them. */
final class ManualScenario implements Scenario {
    private static final int COUNT = 100;
    private static final long HOUR_MS = 3_600_000;
    private static final long PAST_THE_END = 1000;
    /** Records written until a consumer that was reset to the end sees one. */
    private static final int RESETS = 9;

    @Override
    public String run(Setup setup) throws Exception {
        TopicPartition partition = new TopicPartition(setup.topic(), 0);
        setup.create(partition.topic(), 1);
        long base = System.currentTimeMillis() - HOUR_MS;
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < COUNT; i++) {
            sent.add(new ProducerRecord<>(partition.topic(), 0, base + i * 1000L, null, utf8("manual-" + i)));
        }
        try (var producer = setup.producer()) {
            Records.send(producer, sent);
        }
        try (var consumer = setup.consumer()) {
            consumer.assign(List.of(partition));
            byOffset(consumer, partition);
            byTime(consumer, partition, base);
        }
        specs(setup, partition, base);
        pastTheEnd(setup, partition);
        return "records=" + (COUNT + 1) + " reset=earliest,latest,none";
    }

    private static void byOffset(Consumer<byte[], byte[]> consumer, TopicPartition partition) {
        List<TopicPartition> one = List.of(partition);
        Check.equal("beginning offset", 0L, consumer.beginningOffsets(one).get(partition));
        Check.equal("end offset", (long) COUNT, consumer.endOffsets(one).get(partition));
        for (int from : new int[] {0, 57, COUNT - 1}) {
            consumer.seek(partition, from);
            List<ConsumerRecord<byte[], byte[]>> read = Records.read(consumer, COUNT - from);
            for (int i = from; i < COUNT; i++) {
                expect("after seek to " + from, i, read.get(i - from));
            }
        }
    }

    private static void byTime(Consumer<byte[], byte[]> consumer, TopicPartition partition, long base) {
        expectOffset(consumer, partition, base, 0L, base);
        expectOffset(consumer, partition, base + 40_000, 40L, base + 40_000);
        expectOffset(consumer, partition, base + 40_001, 41L, base + 41_000);
        expectOffset(consumer, partition, 0, 0L, base);
        expectOffset(consumer, partition, base + 1_000_000, null, 0);
        consumer.seek(partition, 41);
        expect("after seek to a time", 41, Records.read(consumer, COUNT - 41).get(0));
    }

    private static void expectOffset(
            Consumer<byte[], byte[]> consumer, TopicPartition partition, long time, Long offset, long found) {
        OffsetAndTimestamp got = consumer.offsetsForTimes(Map.of(partition, time)).get(partition);
        Check.equal("offset for time " + time, offset, got == null ? null : got.offset());
        if (got != null) {
            Check.equal("timestamp found for time " + time, found, got.timestamp());
        }
    }

    private static void specs(Setup setup, TopicPartition partition, long base) throws Exception {
        try (Admin admin = setup.admin()) {
            var max = admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).partitionResult(partition).get();
            Check.equal("offset of the greatest timestamp", (long) COUNT - 1, max.offset());
            Check.equal("greatest timestamp", base + (COUNT - 1) * 1000L, max.timestamp());
            var latest = admin.listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition).get();
            Check.equal("latest offset", (long) COUNT, latest.offset());
        }
    }

    private static void pastTheEnd(Setup setup, TopicPartition partition) throws Exception {
        List<TopicPartition> one = List.of(partition);
        try (var consumer = setup.consumer("auto.offset.reset", "earliest")) {
            consumer.assign(one);
            consumer.seek(partition, PAST_THE_END);
            expect("reset to earliest", 0, Records.read(consumer, COUNT).get(0));
        }
        try (var consumer = setup.consumer("auto.offset.reset", "latest");
                var producer = setup.producer()) {
            consumer.assign(one);
            consumer.seek(partition, PAST_THE_END);
            Records.nothingMore(consumer);
            // On a busy machine the end may be found only after a record was written: then the next one is read.
            int last = COUNT - 1;
            List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
            while (got.isEmpty() && last < COUNT - 1 + RESETS) {
                last++;
                producer.send(Records.record(partition.topic(), 0, null, utf8("manual-" + last))).get();
                for (int i = 0; i < 50 && got.isEmpty(); i++) {
                    consumer.poll(Duration.ofMillis(200)).forEach(got::add);
                }
            }
            Check.equal("records after a reset to latest", 1, got.size());
            expect("reset to latest", last, got.get(0));
        }
        try (var consumer = setup.consumer("auto.offset.reset", "none")) {
            consumer.assign(one);
            consumer.seek(partition, PAST_THE_END);
            Check.fails("reset none", OffsetOutOfRangeException.class, () -> pollLong(consumer));
        }
    }

    /** A position is checked by the first fetch, which may need more than one poll. */
    private static int pollLong(Consumer<byte[], byte[]> consumer) {
        int records = 0;
        for (int i = 0; i < 300 && records == 0; i++) {
            records = consumer.poll(Duration.ofMillis(200)).count();
        }
        return records;
    }

    private static void expect(String what, int i, ConsumerRecord<byte[], byte[]> record) {
        Check.equal(what + ": offset", (long) i, record.offset());
        Check.bytes(what + ": value", utf8("manual-" + i), record.value());
    }
}
