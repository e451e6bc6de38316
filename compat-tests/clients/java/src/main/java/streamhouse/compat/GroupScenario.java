package streamhouse.compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Members that join, share, leave, come back. */
final class GroupScenario implements Scenario {
    private static final int PARTITIONS = 4;
    private static final Set<Integer> ALL = Set.of(0, 1, 2, 3);
    private static final int JOIN_SECONDS = 90;
    private static final int TAKE_OVER_SECONDS = 40;
    private static final int QUIET_MS = 5000;

    @Override
    public String run(Setup setup) throws Exception {
        Map<String, Callable<String>> parts = new LinkedHashMap<>();
        parts.put("basic", () -> basic(setup, setup.topic("basic")));
        parts.put("static", () -> fixed(setup, setup.topic("static")));
        parts.put("cooperative", () -> cooperative(setup, setup.topic("cooperative")));
        return Main.sideBySide(parts);
    }

    private static String basic(Setup setup, String topic) throws Exception {
        setup.create(topic, PARTITIONS);
        try (Member a = new Member(setup, "A", topic);
                Member b = new Member(setup, "B", topic)) {
            awaitHalves(a, b);
            produce(setup, topic, 0, 100);
            awaitExactlyOnce(0, 100, a, b);
            a.commit();
            b.commit();
            b.close();
            Check.eventually("A owns all partitions", TAKE_OVER_SECONDS, () -> a.owned().equals(ALL));
            int before = a.read().size();
            produce(setup, topic, 100, 110);
            awaitExactlyOnce(0, 110, a, b);
            Check.equal("records A read after B left", before + 10 * PARTITIONS, a.read().size());
            a.commit();
        }
        checkLag(setup, topic, 110, 0);
        produce(setup, topic, 110, 120);
        checkLag(setup, topic, 110, 10);
        try (Member c = new Member(setup, "C", topic)) {
            awaitExactlyOnce(110, 120, c);
            c.commit();
        }
        checkLag(setup, topic, 120, 0);
        return "basic=" + 120 * PARTITIONS;
    }

    private static String fixed(Setup setup, String topic) throws Exception {
        setup.create(topic, PARTITIONS);
        try (Member one = new Member(setup, "one", topic, "group.instance.id", "one")) {
            Member two = new Member(setup, "two", topic, "group.instance.id", "two");
            awaitHalves(one, two);
            Set<Integer> ofTwo = two.owned();
            int events = one.events();
            two.close();
            try (Member again = new Member(setup, "two-again", topic, "group.instance.id", "two")) {
                Check.eventually("two-again owns partitions", JOIN_SECONDS, () -> !again.owned().isEmpty());
                Check.equal("partitions of two-again", ofTwo, again.owned());
                Thread.sleep(QUIET_MS);
                Check.equal("rebalances seen by one", events, one.events());
                produce(setup, topic, 0, 5);
                awaitExactlyOnce(0, 5, one, again);
                try (Member usurper = new Member(setup, "two-third", topic, "group.instance.id", "two")) {
                    Check.eventually("two-again is fenced", JOIN_SECONDS, () -> again.failure() != null);
                    Check.equal("how two-again ended", FencedInstanceIdException.class, again.failure().getClass());
                    Check.eventually("two-third owns partitions", JOIN_SECONDS, () -> usurper.owned().equals(ofTwo));
                }
            }
        }
        return "static=" + 5 * PARTITIONS;
    }

    private static String cooperative(Setup setup, String topic) throws Exception {
        setup.create(topic, PARTITIONS);
        String[] sticky = {"partition.assignment.strategy", CooperativeStickyAssignor.class.getName()};
        try (Member a = new Member(setup, "A", topic, sticky)) {
            Check.eventually("A owns all partitions", JOIN_SECONDS, () -> a.owned().equals(ALL));
            try (Member b = new Member(setup, "B", topic, sticky)) {
                awaitHalves(a, b);
                Check.equal("partitions taken from A", b.owned(), a.revoked());
                Check.equal("partitions taken from B", Set.of(), b.revoked());
                produce(setup, topic, 0, 25);
                awaitExactlyOnce(0, 25, a, b);
            }
        }
        return "cooperative=" + 25 * PARTITIONS;
    }

    private static void awaitHalves(Member a, Member b) throws InterruptedException {
        Check.eventually("two partitions each, four together", JOIN_SECONDS, () -> {
            Set<Integer> together = new HashSet<>(a.owned());
            together.addAll(b.owned());
            return a.owned().size() == 2 && b.owned().size() == 2 && together.equals(ALL);
        });
    }

    /** Records {@code from} (inclusive) to {@code to} (exclusive) of every partition. */
    private static void produce(Setup setup, String topic, int from, int to) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int s = from; s < to; s++) {
            for (int p = 0; p < PARTITIONS; p++) {
                records.add(Records.record(topic, p, null, Payload.utf8(p + ":" + s)));
            }
        }
        try (var producer = setup.producer()) {
            Records.send(producer, records);
        }
    }

    /** The members together have read exactly these of every partition, each once, and nothing else in a further half second. */
    private static void awaitExactlyOnce(int from, int to, Member... members) throws InterruptedException {
        int expected = (to - from) * PARTITIONS;
        Check.eventually(expected + " records are read", JOIN_SECONDS, () -> {
            int count = 0;
            for (Member member : members) {
                count += member.read().size();
                if (count < expected && member.failure() != null) {
                    member.owned();
                }
            }
            return count >= expected;
        });
        Thread.sleep(500);
        Map<String, Integer> times = new HashMap<>();
        for (Member member : members) {
            for (ConsumerRecord<byte[], byte[]> record : member.read()) {
                String value = new String(record.value(), StandardCharsets.UTF_8);
                Check.equal("value at its offset", record.partition() + ":" + record.offset(), value);
                times.merge(value, 1, Integer::sum);
            }
        }
        TreeSet<String> twice = new TreeSet<>();
        times.forEach((value, count) -> {
            if (count > 1) {
                twice.add(value);
            }
        });
        Check.equal("records read more than once", Set.of(), twice);
        Check.equal("distinct records read", expected, times.size());
        for (int s = from; s < to; s++) {
            for (int p = 0; p < PARTITIONS; p++) {
                Check.that("record " + p + ":" + s + " was read", times.containsKey(p + ":" + s));
            }
        }
    }

    private static void checkLag(Setup setup, String topic, long committed, long lag) throws Exception {
        try (Admin admin = setup.admin()) {
            var offsets = admin.listConsumerGroupOffsets(Setup.group(topic))
                    .partitionsToOffsetAndMetadata()
                    .get();
            Check.equal("partitions with committed offsets", PARTITIONS, offsets.size());
            for (int p = 0; p < PARTITIONS; p++) {
                TopicPartition partition = new TopicPartition(topic, p);
                long end = admin.listOffsets(Map.of(partition, OffsetSpec.latest()))
                        .partitionResult(partition)
                        .get()
                        .offset();
                Check.equal("committed offset of " + partition, committed, offsets.get(partition).offset());
                Check.equal("lag of " + partition, lag, end - offsets.get(partition).offset());
            }
        }
    }
}
