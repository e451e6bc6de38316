package streamhouse.compat;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

/** Topics of 1, 10 and 100 partitions, read together. */
final class PartitionsScenario implements Scenario {
    private static final int[] PARTITIONS = {1, 10, 100};
    private static final int EACH = 20;

    @Override
    public String run(Setup setup) throws Exception {
        for (int count : PARTITIONS) {
            String topic = setup.topic(String.valueOf(count));
            setup.create(topic, count);
            List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
            for (int s = 0; s < EACH; s++) {
                for (int p = 0; p < count; p++) {
                    sent.add(Records.record(topic, p, String.valueOf(p), Payload.utf8(p + ":" + s)));
                }
            }
            try (var producer = setup.producer()) {
                Records.send(producer, sent);
                TreeSet<Integer> listed = new TreeSet<>();
                for (PartitionInfo info : producer.partitionsFor(topic)) {
                    listed.add(info.partition());
                    Check.that(info + " has a leader", info.leader() != null && !info.leader().isEmpty());
                }
                Check.equal("partitions listed", new TreeSet<>(IntStream.range(0, count).boxed().toList()), listed);
            }
            read(setup, topic, count);
        }
        return "partitions=1,10,100 each=" + EACH;
    }

    private static void read(Setup setup, String topic, int count) {
        List<TopicPartition> all =
                IntStream.range(0, count).mapToObj(p -> new TopicPartition(topic, p)).toList();
        int[] next = new int[count];
        try (var consumer = setup.readerOf(all)) {
            for (ConsumerRecord<byte[], byte[]> record : Records.read(consumer, count * EACH)) {
                int p = record.partition();
                Check.equal("offset in partition " + p, (long) next[p], record.offset());
                Check.bytes("key in partition " + p, Payload.utf8(String.valueOf(p)), record.key());
                Check.bytes("value in partition " + p, Payload.utf8(p + ":" + next[p]), record.value());
                next[p]++;
            }
        }
        for (int p = 0; p < count; p++) {
            Check.equal("records in partition " + p, EACH, next[p]);
        }
    }
}
