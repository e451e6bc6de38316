package streamhouse.compat;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ConsumerGroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;

/** The steps of scenario {@code admin} that are about consumer groups. */
final class AdminGroups {
    private static final long COMMITTED = 15;
    private static final long ALTERED = 13;
    private static final int STATE_SECONDS = 60;

    private AdminGroups() {}

    /** @param topic has five partitions, and 20 as the end of partition 0 */
    static void run(Setup setup, Admin admin, String topic) throws Exception {
        String group = Setup.group(topic);
        String unknown = setup.topic("unknown") + "-group";
        TopicPartition partition = new TopicPartition(topic, 0);
        live(setup, admin, topic, group, partition);

        Check.eventually("the group is empty", STATE_SECONDS, () -> state(admin, group) == ConsumerGroupState.EMPTY);
        Check.equal("members of the empty group", 0, describe(admin, group).members().size());
        Check.equal("committed offset", COMMITTED, offsets(admin, group).get(partition).offset());
        Check.equal("metadata of the commit", "note", offsets(admin, group).get(partition).metadata());

        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(ALTERED))).all().get();
        Check.equal("altered offset", ALTERED, offsets(admin, group).get(partition).offset());

        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        Check.that("the deleted offset is not listed", offsets(admin, group).get(partition) == null);

        // The group still has an offset to keep it alive until it is deleted by name.
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(1))).all().get();
        admin.deleteConsumerGroups(List.of(group)).all().get();
        Check.that("the deleted group is not listed", !listed(admin, group));
        Check.equal("offsets of the deleted group", Map.of(), offsets(admin, group));
        Check.fails("delete an unknown group", GroupIdNotFoundException.class,
                () -> admin.deleteConsumerGroups(List.of(unknown)).all().get());
        Check.equal("offsets of an unknown group", Map.of(), offsets(admin, unknown));
    }

    /** What is seen while a member is there. */
    private static void live(Setup setup, Admin admin, String topic, String group, TopicPartition partition)
            throws Exception {
        try (var consumer = setup.consumer("group.id", group, "auto.offset.reset", "earliest",
                "enable.auto.commit", "false", "client.id", "admin-scenario")) {
            consumer.subscribe(List.of(topic));
            long end = System.nanoTime() + STATE_SECONDS * 1_000_000_000L;
            while (consumer.assignment().size() < 5 && System.nanoTime() < end) {
                consumer.poll(Duration.ofMillis(200));
            }
            Check.equal("partitions of the member", 5, consumer.assignment().size());

            ConsumerGroupDescription description = describe(admin, group);
            Check.equal("group id", group, description.groupId());
            Check.equal("state", ConsumerGroupState.STABLE, description.state());
            Check.equal("simple group", false, description.isSimpleConsumerGroup());
            Check.equal("assignor", "range", description.partitionAssignor());
            Check.that("a coordinator", description.coordinator() != null && !description.coordinator().isEmpty());
            Check.equal("members", 1, description.members().size());
            MemberDescription member = description.members().iterator().next();
            Check.equal("client id of the member", "admin-scenario", member.clientId());
            Check.equal("partitions in its assignment", Set.of(0, 1, 2, 3, 4), partitions(member));
            Check.that("the group is listed", listed(admin, group));
            Check.fails("delete a group with a member", GroupNotEmptyException.class,
                    () -> admin.deleteConsumerGroups(List.of(group)).all().get());
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(COMMITTED, "note")));
        }
    }

    private static Set<Integer> partitions(MemberDescription member) {
        Set<Integer> partitions = new TreeSet<>();
        member.assignment().topicPartitions().forEach(partition -> partitions.add(partition.partition()));
        return partitions;
    }

    private static ConsumerGroupDescription describe(Admin admin, String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
    }

    private static ConsumerGroupState state(Admin admin, String group) {
        try {
            return describe(admin, group).state();
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private static boolean listed(Admin admin, String group) throws Exception {
        for (ConsumerGroupListing listing : admin.listConsumerGroups().all().get()) {
            if (listing.groupId().equals(group)) {
                Check.equal("simple group in the list", false, listing.isSimpleConsumerGroup());
                return true;
            }
        }
        return false;
    }

    private static Map<TopicPartition, OffsetAndMetadata> offsets(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    }
}
