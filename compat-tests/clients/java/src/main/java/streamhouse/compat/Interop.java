package streamhouse.compat;

import static streamhouse.compat.Payload.bytes;
import static streamhouse.compat.Payload.text;
import static streamhouse.compat.Payload.utf8;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;

/** The records one library writes and any other verifies. */
final class Interop {
    private static final int DEFAULT_COUNT = 300;
    private static final long HOUR_MS = 3_600_000;
    private static final long DAY_MS = 24 * HOUR_MS;
    private static final byte[] EMPTY = {};
    /** What a writer may have been unable to write (SCENARIOS.md, interop). */
    private static final Set<String> RELAXATIONS =
            Set.of("null-headers", "header-order", "repeated-headers", "null-vs-empty", "timestamps");

    private Interop() {}

    static String write(Setup setup) throws Exception {
        String topic = setup.required("topic");
        int count = setup.number("count", DEFAULT_COUNT);
        boolean plain = plain(setup);
        String codec = codec(setup);
        long base = System.currentTimeMillis() - HOUR_MS;
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            sent.add(expected(topic, i, base, plain));
        }
        try (var producer = setup.producer("compression.type", codec)) {
            List<RecordMetadata> acks = Records.send(producer, sent);
            for (int i = 0; i < count; i++) {
                Check.equal("acknowledged offset", (long) i, acks.get(i).offset());
            }
        }
        return "records=" + count + " codec=" + codec;
    }

    static String read(Setup setup) throws Exception {
        String topic = setup.required("topic");
        int count = setup.number("count", DEFAULT_COUNT);
        boolean plain = plain(setup);
        codec(setup);
        Set<String> without = without(setup);
        boolean times = !plain && !without.contains("timestamps");
        List<ConsumerRecord<byte[], byte[]>> read = Records.readDense(setup, new TopicPartition(topic, 0), count);
        long base = read.get(0).timestamp();
        long now = System.currentTimeMillis();
        for (int i = 0; i < count; i++) {
            String what = "record " + i;
            ProducerRecord<byte[], byte[]> want = expected(topic, i, base, plain);
            ConsumerRecord<byte[], byte[]> have = read.get(i);
            boolean nulls = !without.contains("null-vs-empty");
            Check.bytes(what + ": key", nulls ? want.key() : orEmpty(want.key()), nulls ? have.key() : orEmpty(have.key()));
            Check.bytes(
                    what + ": value",
                    nulls ? want.value() : orEmpty(want.value()),
                    nulls ? have.value() : orEmpty(have.value()));
            headers(what, want.headers(), have.headers(), without);
            Check.that(
                    what + ": timestamp " + have.timestamp() + " within the last day",
                    have.timestamp() > now - DAY_MS && have.timestamp() <= now + HOUR_MS);
            if (times) {
                Check.equal(what + ": timestamp", want.timestamp(), have.timestamp());
            }
        }
        return "records=" + count;
    }

    private static ProducerRecord<byte[], byte[]> expected(String topic, int i, long base, boolean plain) {
        if (plain) {
            return new ProducerRecord<>(topic, 0, utf8("key-" + i), text(i));
        }
        byte[] key =
                switch (i % 10) {
                    case 3 -> null;
                    case 7 -> EMPTY;
                    default -> utf8("key-" + i);
                };
        byte[] value =
                switch (i % 10) {
                    case 5 -> null;
                    case 9 -> EMPTY;
                    case 0 -> bytes(i, 1000);
                    default -> text(i);
                };
        long time = base + i * 1000L - (i % 10 == 4 ? 5000 : 0);
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, time, key, value);
        switch (i % 4) {
            case 1 -> record.headers().add("h", utf8("v-" + i));
            case 2 -> record.headers().add("h", utf8("a")).add("h", utf8("b")).add("other", EMPTY);
            case 3 -> record.headers().add("null", null).add("bin", bytes(i, 16));
            default -> {}
        }
        return record;
    }

    private static void headers(String what, Headers want, Headers have, Set<String> without) {
        if (without.contains("repeated-headers") || without.contains("header-order")) {
            Check.equal(what + ": names of headers", names(want), names(have));
            return;
        }
        Header[] wants = want.toArray();
        Header[] haves = have.toArray();
        Check.equal(what + ": number of headers", wants.length, haves.length);
        boolean nulls = !without.contains("null-headers");
        for (int h = 0; h < wants.length; h++) {
            Check.equal(what + ": name of header " + h, wants[h].key(), haves[h].key());
            byte[] value = haves[h].value();
            Check.bytes(
                    what + ": value of header " + wants[h].key(),
                    nulls ? wants[h].value() : orEmpty(wants[h].value()),
                    nulls ? value : orEmpty(value));
        }
    }

    private static Set<String> names(Headers headers) {
        Set<String> names = new TreeSet<>();
        headers.forEach(header -> names.add(header.key()));
        return names;
    }

    private static byte[] orEmpty(byte[] bytes) {
        return bytes == null ? EMPTY : bytes;
    }

    private static boolean plain(Setup setup) {
        String profile = setup.option("profile", "full");
        if (!profile.equals("full") && !profile.equals("plain")) {
            throw new UsageError("profile=" + profile + " is neither full nor plain");
        }
        return profile.equals("plain");
    }

    private static String codec(Setup setup) {
        String codec = setup.option("codec", "none");
        if (!CodecsScenario.CODECS.contains(codec)) {
            throw new UsageError("codec=" + codec + " is none of " + CodecsScenario.CODECS);
        }
        return codec;
    }

    private static Set<String> without(Setup setup) {
        String words = setup.option("without", "");
        Set<String> set = words.isEmpty() ? Set.of() : Set.of(words.split(","));
        for (String word : set) {
            if (!RELAXATIONS.contains(word)) {
                throw new UsageError("without=" + word + " is none of " + new TreeSet<>(RELAXATIONS));
            }
        }
        return set;
    }
}
