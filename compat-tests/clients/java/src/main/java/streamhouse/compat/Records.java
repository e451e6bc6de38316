package streamhouse.compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** Sending and reading lists of records. */
final class Records {
    /** Past this a read that still misses records is given up, with a message that says how many came. */
    private static final long READ_LIMIT_NS = 90_000_000_000L;

    private Records() {}

    static ProducerRecord<byte[], byte[]> record(String topic, Integer partition, String key, byte[] value) {
        return new ProducerRecord<>(topic, partition, key == null ? null : Payload.utf8(key), value);
    }

    /** Sends all without waiting in between; returns the acknowledgements in the same order. */
    static List<RecordMetadata> send(
            Producer<byte[], byte[]> producer, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        List<Future<RecordMetadata>> pending = new ArrayList<>();
        for (ProducerRecord<byte[], byte[]> record : records) {
            pending.add(producer.send(record));
        }
        List<RecordMetadata> acks = new ArrayList<>();
        for (Future<RecordMetadata> future : pending) {
            acks.add(future.get());
        }
        return acks;
    }

    /** Polls until {@code count} records have come; more than that is a mismatch. */
    static List<ConsumerRecord<byte[], byte[]>> read(Consumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long end = System.nanoTime() + READ_LIMIT_NS;
        while (records.size() < count) {
            if (System.nanoTime() > end) {
                throw new Mismatch("read " + records.size() + " of " + count + " records within "
                        + READ_LIMIT_NS / 1_000_000_000L + " s; positions " + positions(consumer));
            }
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        Check.equal("records read", count, records.size());
        return records;
    }

    /** Polls for a second, in which nothing may come. */
    static void nothingMore(Consumer<byte[], byte[]> consumer) {
        long end = System.nanoTime() + 1_000_000_000L;
        while (System.nanoTime() < end) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                throw new Mismatch("an unexpected record at " + record.topic() + "-" + record.partition() + "@"
                        + record.offset() + ": " + Payload.show(record.value()));
            }
        }
    }

    /** Reads a whole partition that must hold exactly {@code count} records at offsets 0, 1, 2, ... */
    static List<ConsumerRecord<byte[], byte[]>> readDense(Setup setup, TopicPartition partition, int count) {
        try (var consumer = setup.readerOf(List.of(partition))) {
            List<ConsumerRecord<byte[], byte[]>> records = read(consumer, count);
            for (int i = 0; i < count; i++) {
                Check.equal("offset of record " + i + " in " + partition, (long) i, records.get(i).offset());
            }
            Check.equal(
                    "end offset of " + partition,
                    (long) count,
                    consumer.endOffsets(List.of(partition)).get(partition));
            return records;
        }
    }

    private static String positions(Consumer<byte[], byte[]> consumer) {
        StringBuilder out = new StringBuilder();
        for (TopicPartition partition : consumer.assignment()) {
            String position;
            try {
                position = String.valueOf(consumer.position(partition, Duration.ofSeconds(1)));
            } catch (RuntimeException e) {
                position = e.toString();
            }
            out.append(out.isEmpty() ? "" : ", ").append(partition).append('@').append(position);
        }
        return out.isEmpty() ? "(no partition assigned)" : out.toString();
    }
}
