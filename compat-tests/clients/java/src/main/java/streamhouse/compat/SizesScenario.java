package streamhouse.compat;

import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;

/** From one byte to near the limit, and one record beyond it. */
final class SizesScenario implements Scenario {
    private static final int[] SIZES = {1, 1024, 102_400, 1_000_000};
    private static final int TOO_LARGE = 1_100_000;
    private static final int PRODUCER_LIMIT = 4 * 1024 * 1024;

    @Override
    public String run(Setup setup) throws Exception {
        String topic = setup.topic();
        setup.create(topic, 1);
        try (var producer = setup.producer("max.request.size", PRODUCER_LIMIT)) {
            for (int i = 0; i < SIZES.length; i++) {
                byte[] value = Payload.bytes(SIZES[i], SIZES[i]);
                long offset = producer.send(Records.record(topic, 0, null, value)).get().offset();
                Check.equal("acknowledged offset of size " + SIZES[i], (long) i, offset);
            }
            byte[] large = Payload.bytes(TOO_LARGE, TOO_LARGE);
            Check.fails("a record of " + TOO_LARGE + " bytes", RecordTooLargeException.class,
                    () -> producer.send(Records.record(topic, 0, null, large)).get());
            long offset = producer.send(Records.record(topic, 0, null, Payload.bytes(5, 5))).get().offset();
            Check.equal("acknowledged offset after the refused record", (long) SIZES.length, offset);
        }
        List<ConsumerRecord<byte[], byte[]>> read =
                Records.readDense(setup, new TopicPartition(topic, 0), SIZES.length + 1);
        for (int i = 0; i < SIZES.length; i++) {
            Check.bytes("value of size " + SIZES[i], Payload.bytes(SIZES[i], SIZES[i]), read.get(i).value());
        }
        Check.bytes("value after the refused record", Payload.bytes(5, 5), read.get(SIZES.length).value());
        return "largest=" + SIZES[SIZES.length - 1] + " refused=" + TOO_LARGE;
    }
}
