package streamhouse.compat;

import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Produces one by one while the caller stops and starts the broker, then reads everything back. */
final class RestartScenario implements Scenario {
    private static final int DEFAULT_COUNT = 500;
    private static final int DEFAULT_PACE_MS = 20;

    @Override
    public String run(Setup setup) throws Exception {
        String topic = setup.required("topic");
        int count = setup.number("count", DEFAULT_COUNT);
        int pace = setup.number("pace", DEFAULT_PACE_MS);
        long slowest = 0;
        try (var producer = setup.producer()) {
            for (int i = 0; i < count; i++) {
                long start = System.nanoTime();
                Check.equal("acknowledged offset", (long) i, producer.send(record(topic, i)).get().offset());
                slowest = Math.max(slowest, System.nanoTime() - start);
                if (i == 0) {
                    System.out.println("started");
                    System.out.flush();
                }
                Thread.sleep(pace);
            }
        }
        List<ConsumerRecord<byte[], byte[]>> read = Records.readDense(setup, new TopicPartition(topic, 0), count);
        for (int i = 0; i < count; i++) {
            Check.record("record " + i, record(topic, i), read.get(i));
        }
        return "records=" + count + " slowest_ms=" + slowest / 1_000_000;
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, int i) {
        return Records.record(topic, 0, "key-" + i, Payload.text(i));
    }
}
