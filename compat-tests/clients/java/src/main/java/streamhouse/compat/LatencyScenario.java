package streamhouse.compat;

import java.util.Arrays;

/** How long a default producer waits for the acknowledgement of one record. */
final class LatencyScenario implements Scenario {
    private static final int DEFAULT_COUNT = 1000;
    private static final int WARM_UP = 100;
    private static final int BYTES = 100;

    @Override
    public String run(Setup setup) throws Exception {
        String topic = setup.topic();
        int count = setup.number("count", DEFAULT_COUNT);
        if (count < 1) {
            throw new UsageError("count must be 1 or more");
        }
        setup.create(topic, 1);
        long[] micros = new long[count];
        try (var producer = setup.producer()) {
            for (int i = -WARM_UP; i < count; i++) {
                byte[] value = Payload.bytes(i, BYTES);
                long start = System.nanoTime();
                producer.send(Records.record(topic, 0, null, value)).get();
                if (i >= 0) {
                    micros[i] = (System.nanoTime() - start) / 1000;
                }
            }
        }
        Arrays.sort(micros);
        System.out.printf(
                "{\"count\":%d,\"p50_us\":%d,\"p99_us\":%d,\"max_us\":%d}%n",
                count, percentile(micros, 50), percentile(micros, 99), micros[count - 1]);
        return "records=" + count;
    }

    /** Nearest rank. */
    private static long percentile(long[] sorted, int percent) {
        return sorted[(int) Math.ceil(sorted.length * percent / 100.0) - 1];
    }
}
