package streamhouse.compat;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** A default producer and a default group consumer on an auto-created topic. */
final class DefaultsScenario implements Scenario {
    private static final int COUNT = 1000;
    private static final int KEYS = 50;

    @Override
    public String run(Setup setup) throws Exception {
        String topic = setup.topic();
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < COUNT; i++) {
            sent.add(Records.record(topic, null, "key-" + i % KEYS, Payload.bytes(i, 100)));
        }
        List<RecordMetadata> acks;
        try (var producer = setup.producer()) {
            acks = Records.send(producer, sent);
        }
        // Where each record was acknowledged: offsets are dense exactly when this map has every offset below its size.
        Map<TopicPartition, Map<Long, Integer>> places = new HashMap<>();
        for (int i = 0; i < COUNT; i++) {
            TopicPartition partition = new TopicPartition(topic, acks.get(i).partition());
            Integer twice = places.computeIfAbsent(partition, p -> new HashMap<>()).put(acks.get(i).offset(), i);
            Check.that("records " + twice + " and " + i + " acknowledged at one offset", twice == null);
        }
        try (var consumer = setup.consumer("group.id", Setup.group(topic), "auto.offset.reset", "earliest")) {
            consumer.subscribe(List.of(topic));
            compare(sent, places, Records.read(consumer, COUNT));
            Records.nothingMore(consumer);
        }
        return "records=" + COUNT + " partitions=" + places.size();
    }

    private static void compare(
            List<ProducerRecord<byte[], byte[]>> sent,
            Map<TopicPartition, Map<Long, Integer>> places,
            List<ConsumerRecord<byte[], byte[]>> read) {
        Map<TopicPartition, Long> next = new HashMap<>();
        Map<String, Integer> partitionOfKey = new HashMap<>();
        Map<String, Integer> lastOfKey = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : read) {
            TopicPartition partition = new TopicPartition(record.topic(), record.partition());
            String where = partition + "@" + record.offset();
            Check.equal("offset in " + partition, next.getOrDefault(partition, 0L), record.offset());
            next.put(partition, record.offset() + 1);
            Integer i = places.getOrDefault(partition, Map.of()).get(record.offset());
            Check.that("nothing was acknowledged at " + where, i != null);
            Check.record("record " + i + " at " + where, sent.get(i), record);
            String key = new String(record.key(), java.nio.charset.StandardCharsets.UTF_8);
            Integer other = partitionOfKey.put(key, record.partition());
            Check.that("key " + key + " in one partition", other == null || other == record.partition());
            Integer before = lastOfKey.put(key, i);
            Check.that("order of key " + key + ": " + before + " before " + i, before == null || before < i);
        }
    }
}
