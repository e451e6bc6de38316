package streamhouse.compat;

import static streamhouse.compat.Payload.bytes;
import static streamhouse.compat.Payload.utf8;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.record.TimestampType;

/** Headers, nulls, empties, timestamps of both types. */
final class ShapesScenario implements Scenario {
    private static final byte[] EMPTY = {};
    private static final int APPENDED = 10;
    private static final long HOUR_MS = 3_600_000;
    private static final long NEAR_MS = 60_000;

    @Override
    public String run(Setup setup) throws Exception {
        int shapes = createTime(setup, setup.topic("create"));
        appendTime(setup, setup.topic("append"));
        return "shapes=" + shapes + " appended=" + APPENDED;
    }

    private static int createTime(Setup setup, String topic) throws Exception {
        setup.create(topic, 1);
        List<ProducerRecord<byte[], byte[]>> sent = shapes(topic, System.currentTimeMillis() - HOUR_MS);
        try (var producer = setup.producer()) {
            List<RecordMetadata> acks = Records.send(producer, sent);
            for (int n = 0; n < sent.size(); n++) {
                Check.equal("acknowledged offset", (long) n, acks.get(n).offset());
                Check.equal("acknowledged timestamp", sent.get(n).timestamp(), acks.get(n).timestamp());
            }
        }
        List<ConsumerRecord<byte[], byte[]>> read =
                Records.readDense(setup, new TopicPartition(topic, 0), sent.size());
        for (int n = 0; n < sent.size(); n++) {
            Check.record("record " + n, sent.get(n), read.get(n));
            Check.equal("timestamp type of record " + n, TimestampType.CREATE_TIME, read.get(n).timestampType());
        }
        return sent.size();
    }

    private static List<ProducerRecord<byte[], byte[]>> shapes(String topic, long base) {
        byte[][][] pairs = {
            {utf8("k0"), utf8("v0")},
            {null, utf8("no key")},
            {utf8("k2"), null},
            {EMPTY, utf8("empty key")},
            {utf8("k4"), EMPTY},
            {null, null},
            {utf8("k6"), utf8("v6")},
            {utf8("k7"), utf8("v7")},
            {utf8("k8"), utf8("v8")},
            {utf8("k9"), null},
            {bytes(10, 32), bytes(11, 512)},
        };
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int n = 0; n < pairs.length; n++) {
            records.add(new ProducerRecord<>(topic, 0, base + n * 1000L, pairs[n][0], pairs[n][1]));
        }
        records.get(6).headers().add("a", utf8("1"));
        records.get(7).headers().add("a", utf8("1")).add("b", utf8("2")).add("a", utf8("3")).add("a", utf8("1"));
        records.get(8).headers().add("empty", EMPTY).add("null", null).add("", utf8("x"));
        records.get(9).headers().add("why", utf8("deleted"));
        records.get(10).headers().add("bin", bytes(12, 64)).add("ключ", utf8("значение"));
        return records;
    }

    private static void appendTime(Setup setup, String topic) throws Exception {
        setup.create(topic, 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long base = System.currentTimeMillis() - HOUR_MS;
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int n = 0; n < APPENDED; n++) {
            sent.add(new ProducerRecord<>(topic, 0, base + n * 1000L, null, utf8("append-" + n)));
        }
        long before = System.currentTimeMillis();
        List<RecordMetadata> acks;
        try (var producer = setup.producer()) {
            acks = Records.send(producer, sent);
        }
        long after = System.currentTimeMillis();
        List<ConsumerRecord<byte[], byte[]>> read =
                Records.readDense(setup, new TopicPartition(topic, 0), APPENDED);
        long last = before - NEAR_MS;
        for (int n = 0; n < APPENDED; n++) {
            long time = read.get(n).timestamp();
            Check.bytes("value " + n, sent.get(n).value(), read.get(n).value());
            Check.equal("timestamp type", TimestampType.LOG_APPEND_TIME, read.get(n).timestampType());
            Check.equal("acknowledged timestamp", time, acks.get(n).timestamp());
            Check.that("append time " + time + " not below " + last, time >= last);
            Check.that("append time " + time + " near " + after, time <= after + NEAR_MS);
            last = time;
        }
    }
}
