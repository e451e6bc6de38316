package streamhouse.compat;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** What a scenario was started with, and clients made from it. Settings are the library's defaults unless given here. */
record Setup(String library, String scenario, String bootstrap, String run, Map<String, String> options) {
    private static final int SETTLE_SECONDS = 60;

    Setup forScenario(String other) {
        return new Setup(library, other, bootstrap, run, options);
    }

    String topic() {
        return scenario + "-" + library + "-" + run;
    }

    String topic(String part) {
        return topic() + "-" + part;
    }

    /** The group that belongs to a topic. */
    static String group(String topic) {
        return topic + "-group";
    }

    String required(String key) {
        String value = options.get(key);
        if (value == null) {
            throw new UsageError(scenario + " needs " + key + "=...");
        }
        return value;
    }

    String option(String key, String otherwise) {
        return options.getOrDefault(key, otherwise);
    }

    int number(String key, int otherwise) {
        String value = options.get(key);
        try {
            return value == null ? otherwise : Integer.parseInt(value);
        } catch (NumberFormatException e) {
            throw new UsageError(key + "=" + value + " is not a number");
        }
    }

    /** @param settings name, value, name, value, ... */
    KafkaProducer<byte[], byte[]> producer(Object... settings) {
        return new KafkaProducer<>(config(settings), new ByteArraySerializer(), new ByteArraySerializer());
    }

    KafkaConsumer<byte[], byte[]> consumer(Object... settings) {
        return new KafkaConsumer<>(config(settings), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** A consumer without a group, at the beginning of the given partitions. */
    KafkaConsumer<byte[], byte[]> readerOf(List<TopicPartition> partitions) {
        KafkaConsumer<byte[], byte[]> consumer = consumer();
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        return consumer;
    }

    Admin admin() {
        return Admin.create(config());
    }

    /** Creates the topic; with {@code settle=yes} it is then ready for records, else only named (see SCENARIOS.md). */
    void create(String topic, int partitions) throws Exception {
        create(topic, partitions, Map.of());
    }

    void create(String topic, int partitions, Map<String, String> configs) throws Exception {
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
            if (options.containsKey("settle")) {
                settle(admin, topic, partitions);
            }
        }
    }

    /** Waits until every partition answers. */
    private static void settle(Admin admin, String topic, int partitions) throws InterruptedException {
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        for (int p = 0; p < partitions; p++) {
            ends.put(new TopicPartition(topic, p), OffsetSpec.latest());
        }
        Check.eventually(topic + " answers", SETTLE_SECONDS, () -> {
            try {
                admin.listOffsets(ends).all().get();
                return true;
            } catch (ExecutionException e) {
                if (e.getCause() instanceof RetriableException) {
                    return false;
                }
                throw new IllegalStateException(e);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        });
    }

    private Map<String, Object> config(Object... settings) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < settings.length; i += 2) {
            config.put((String) settings[i], settings[i + 1]);
        }
        return config;
    }
}
