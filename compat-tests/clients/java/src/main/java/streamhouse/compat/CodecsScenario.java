package streamhouse.compat;

import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Every compression codec there and back. */
final class CodecsScenario implements Scenario {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final int COUNT = 200;

    @Override
    public String run(Setup setup) throws Exception {
        for (String codec : CODECS) {
            String topic = setup.topic(codec);
            setup.create(topic, 1);
            List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
            for (int i = 0; i < COUNT; i++) {
                byte[] value = i % 2 == 0 ? Payload.text(i) : Payload.bytes(i, 300);
                sent.add(Records.record(topic, null, null, value));
            }
            try (var producer = setup.producer("compression.type", codec)) {
                Records.send(producer, sent);
            }
            List<ConsumerRecord<byte[], byte[]>> read =
                    Records.readDense(setup, new TopicPartition(topic, 0), COUNT);
            for (int i = 0; i < COUNT; i++) {
                Check.record(codec + " record " + i, sent.get(i), read.get(i));
            }
        }
        return "codecs=" + String.join(",", CODECS);
    }
}
