package streamhouse.compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** A group member that polls in a thread of its own and remembers what it read and what it was given and lost. */
final class Member implements AutoCloseable {
    private static final Duration POLL = Duration.ofMillis(50);
    private static final int CALL_LIMIT_SECONDS = 90;

    private final String name;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Thread thread;
    private final BlockingQueue<FutureTask<Void>> calls = new ArrayBlockingQueue<>(4);
    private volatile boolean stopping;

    // Guarded by this.
    private final Set<Integer> owned = new TreeSet<>();
    private final Set<Integer> revoked = new TreeSet<>();
    private final List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    private int events;
    private Exception failure;

    /** @param settings beyond group, {@code earliest} and no automatic commit */
    Member(Setup setup, String name, String topic, String... settings) {
        this.name = name;
        List<Object> all = new ArrayList<>(List.of(
                "group.id", Setup.group(topic), "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
        all.addAll(List.of(settings));
        consumer = setup.consumer(all.toArray());
        consumer.subscribe(List.of(topic), new Listener());
        thread = new Thread(this::loop, "member-" + topic + "-" + name);
        thread.setDaemon(true);
        thread.start();
    }

    private final class Listener implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            synchronized (Member.this) {
                events++;
                partitions.forEach(partition -> owned.add(partition.partition()));
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            synchronized (Member.this) {
                events++;
                partitions.forEach(partition -> {
                    owned.remove(partition.partition());
                    revoked.add(partition.partition());
                });
            }
        }
    }

    private void loop() {
        try {
            while (!stopping) {
                FutureTask<Void> call = calls.poll();
                if (call != null) {
                    call.run();
                }
                var records = consumer.poll(POLL);
                synchronized (this) {
                    for (ConsumerRecord<byte[], byte[]> record : records) {
                        Check.that(
                                name + " read partition " + record.partition() + " but owns " + owned,
                                owned.contains(record.partition()));
                        read.add(record);
                    }
                }
            }
        } catch (Exception e) {
            synchronized (this) {
                failure = e;
            }
        } finally {
            consumer.close();
        }
    }

    /** Commits the position of everything read. */
    void commit() throws Exception {
        FutureTask<Void> call = new FutureTask<>(consumer::commitSync, null);
        Check.that(name + " takes a call", calls.offer(call, CALL_LIMIT_SECONDS, TimeUnit.SECONDS));
        call.get(CALL_LIMIT_SECONDS, TimeUnit.SECONDS);
    }

    /** Partitions owned now. @throws Mismatch when the member ended by an error */
    synchronized Set<Integer> owned() {
        if (failure != null) {
            Mismatch mismatch = new Mismatch("member " + name + " ended: " + failure);
            mismatch.initCause(failure);
            throw mismatch;
        }
        return Set.copyOf(owned);
    }

    /** Every partition ever taken away. */
    synchronized Set<Integer> revoked() {
        return Set.copyOf(revoked);
    }

    synchronized List<ConsumerRecord<byte[], byte[]>> read() {
        return List.copyOf(read);
    }

    /** Number of assignments and revocations so far. */
    synchronized int events() {
        return events;
    }

    /** Why the member ended by itself, or null. */
    synchronized Exception failure() {
        return failure;
    }

    /** Closes the consumer as the library does by default: a dynamic member leaves the group, a static one stays. */
    @Override
    public void close() throws InterruptedException {
        stopping = true;
        thread.join(TimeUnit.SECONDS.toMillis(CALL_LIMIT_SECONDS));
        Check.that(name + " closes within " + CALL_LIMIT_SECONDS + " s", !thread.isAlive());
    }
}
