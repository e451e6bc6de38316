package streamhouse.compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The admin client's calls and the errors it must see; the steps are those of SCENARIOS.md, the group ones in {@link AdminGroups}. */
final class AdminScenario implements Scenario {
    private static final int RECORDS = 20;
    private static final int DELETED = 12;
    /** A broker may show a change a moment after it answered. */
    private static final int VISIBLE_SECONDS = 60;

    @Override
    public String run(Setup setup) throws Exception {
        String topic = setup.topic();
        String dflt = setup.topic("default");
        String unknown = setup.topic("unknown");
        try (Admin admin = setup.admin()) {
            Set<Integer> nodes = describeCluster(admin);
            create(admin, topic, dflt);
            createErrors(admin, topic, setup);
            list(admin, topic, dflt, setup.topic("dry"));
            describe(admin, topic, nodes, 3);
            Check.fails("describe an unknown topic", UnknownTopicOrPartitionException.class,
                    () -> admin.describeTopics(List.of(unknown)).allTopicNames().get());
            describeConfigs(admin, topic, unknown);
            alterConfigs(admin, topic);
            createPartitions(admin, topic, unknown);
            describe(admin, topic, nodes, 5);
            records(setup, admin, topic);
            logDirs(admin, topic, nodes);
            AdminGroups.run(setup, admin, topic);
            deleteTopics(admin, List.of(topic, dflt));
        }
        return "steps=18";
    }

    private static Set<Integer> describeCluster(Admin admin) throws Exception {
        var cluster = admin.describeCluster();
        Check.that("a cluster id", !cluster.clusterId().get().isEmpty());
        Set<Integer> nodes = new TreeSet<>();
        for (Node node : cluster.nodes().get()) {
            nodes.add(node.id());
        }
        Check.that("one node or more", !nodes.isEmpty());
        Check.that("the controller is a node", nodes.contains(cluster.controller().get().id()));
        return nodes;
    }

    private static void create(Admin admin, String topic, String dflt) throws Exception {
        NewTopic configured = new NewTopic(topic, 3, (short) 1)
                .configs(Map.of("retention.ms", "3600000", "cleanup.policy", "delete"));
        NewTopic left = new NewTopic(dflt, Optional.empty(), Optional.empty());
        var created = admin.createTopics(List.of(configured, left));
        created.all().get();
        Check.equal("partitions in the answer", 3, created.numPartitions(topic).get());
        Check.equal("retention.ms in the answer", "3600000", created.config(topic).get().get("retention.ms").value());
        Check.that("a topic id", !created.topicId(topic).get().equals(Uuid.ZERO_UUID));
        Check.that("default partitions", created.numPartitions(dflt).get() >= 1);
    }

    private static void createErrors(Admin admin, String topic, Setup setup) throws Exception {
        String name = setup.topic("refused");
        refused(admin, "create again", TopicExistsException.class, new NewTopic(topic, 3, (short) 1));
        refused(admin, "create a bad name", InvalidTopicException.class, new NewTopic("bad name!", 1, (short) 1));
        refused(admin, "create 0 partitions", InvalidPartitionsException.class, new NewTopic(name, 0, (short) 1));
        for (Map<String, String> bad : List.of(Map.of("retention.ms", "abc"), Map.of("no.such.config", "1"))) {
            refused(admin, "create with " + bad, InvalidConfigurationException.class,
                    new NewTopic(name, 1, (short) 1).configs(bad));
        }
        NewTopic dry = new NewTopic(setup.topic("dry"), 1, (short) 1);
        admin.createTopics(List.of(dry), new CreateTopicsOptions().validateOnly(true)).all().get();
    }

    private static void refused(Admin admin, String what, Class<? extends Exception> error, NewTopic topic)
            throws Exception {
        Check.fails(what, error, () -> admin.createTopics(List.of(topic)).all().get());
    }

    private static Set<String> names(Admin admin) {
        try {
            return admin.listTopics().names().get();
        } catch (InterruptedException | ExecutionException e) {
            throw new IllegalStateException(e);
        }
    }

    private static void list(Admin admin, String topic, String dflt, String dry) throws Exception {
        Check.eventually("both topics are listed", VISIBLE_SECONDS, () -> names(admin).containsAll(Set.of(topic, dflt)));
        Check.that(dry + " is not listed", !names(admin).contains(dry));
    }

    private static void describe(Admin admin, String topic, Set<Integer> nodes, int partitions) throws Exception {
        TopicDescription description = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        Check.equal("name", topic, description.name());
        Check.equal("internal", false, description.isInternal());
        Check.that("topic id", !description.topicId().equals(Uuid.ZERO_UUID));
        Check.equal("partitions described", partitions, description.partitions().size());
        for (int p = 0; p < partitions; p++) {
            TopicPartitionInfo info = description.partitions().get(p);
            Check.equal("partition", p, info.partition());
            Check.that(info + ": the leader is a node", info.leader() != null && nodes.contains(info.leader().id()));
            Check.that(info + ": replicas", !info.replicas().isEmpty() && !info.isr().isEmpty());
        }
    }

    private static Config configs(Admin admin, String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static void expectConfig(Config config, String name, String value, boolean isDefault) {
        ConfigEntry entry = config.get(name);
        Check.that(name + " is described", entry != null);
        Check.equal(name, value, entry.value());
        Check.equal(name + " is at its default", isDefault, entry.isDefault());
        Check.equal(name + " is sensitive", false, entry.isSensitive());
        Check.equal(name + " is read-only", false, entry.isReadOnly());
    }

    private static void describeConfigs(Admin admin, String topic, String unknown) throws Exception {
        Config config = configs(admin, topic);
        expectConfig(config, "retention.ms", "3600000", false);
        Check.equal("source of retention.ms", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG,
                config.get("retention.ms").source());
        expectConfig(config, "max.message.bytes", "1048588", true);
        Check.fails("describe the configs of an unknown topic", UnknownTopicOrPartitionException.class,
                () -> configs(admin, unknown));
    }

    private static void alter(Admin admin, String topic, AlterConfigOp... operations) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(operations))).all().get();
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
    }

    private static void alterConfigs(Admin admin, String topic) throws Exception {
        AlterConfigOp delete = new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE);
        alter(admin, topic, set("max.message.bytes", "2000000"), delete);
        expectAltered(admin, topic);
        Check.fails("set retention.ms=abc", InvalidConfigurationException.class, () -> {
            alter(admin, topic, set("retention.ms", "abc"));
            return "no error";
        });
        expectAltered(admin, topic);
    }

    private static void expectAltered(Admin admin, String topic) throws Exception {
        Check.eventually("max.message.bytes=2000000 is described", VISIBLE_SECONDS, () -> {
            try {
                return configs(admin, topic).get("max.message.bytes").value().equals("2000000");
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        Config config = configs(admin, topic);
        expectConfig(config, "max.message.bytes", "2000000", false);
        expectConfig(config, "retention.ms", "604800000", true);
    }

    private static void createPartitions(Admin admin, String topic, String unknown) throws Exception {
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        for (int count : new int[] {5, 4}) {
            Check.fails("partitions from 5 to " + count, InvalidPartitionsException.class,
                    () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(count))).all().get());
        }
        Check.fails("partitions of an unknown topic", UnknownTopicOrPartitionException.class,
                () -> admin.createPartitions(Map.of(unknown, NewPartitions.increaseTo(5))).all().get());
        Check.eventually("5 partitions are described", VISIBLE_SECONDS, () -> {
            try {
                return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 5;
            } catch (InterruptedException | ExecutionException e) {
                throw new IllegalStateException(e);
            }
        });
    }

    /** Delete records, and what the producer left behind in the partition. */
    private static void records(Setup setup, Admin admin, String topic) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < RECORDS; i++) {
            records.add(Records.record(topic, 0, null, Payload.utf8("admin-" + i)));
        }
        try (var producer = setup.producer()) {
            Records.send(producer, records);
        }
        List<ProducerState> producers = admin.describeProducers(List.of(partition)).all().get()
                .get(partition).activeProducers();
        Check.equal("producers of the partition", 1, producers.size());
        Check.equal("last sequence of the producer", RECORDS - 1, producers.get(0).lastSequence());

        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(DELETED)));
        Check.equal("low watermark", (long) DELETED, deleted.lowWatermarks().get(partition).get().lowWatermark());
        Check.fails("delete records past the end", OffsetOutOfRangeException.class,
                () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(1000))).all().get());
        try (var consumer = setup.readerOf(List.of(partition))) {
            Check.equal("beginning offset", (long) DELETED,
                    consumer.beginningOffsets(List.of(partition), Duration.ofSeconds(60)).get(partition));
            List<ConsumerRecord<byte[], byte[]>> read = Records.read(consumer, RECORDS - DELETED);
            for (int i = 0; i < read.size(); i++) {
                Check.equal("offset after the deleted", (long) DELETED + i, read.get(i).offset());
                Check.bytes("value after the deleted", Payload.utf8("admin-" + (DELETED + i)), read.get(i).value());
            }
        }
    }

    private static void logDirs(Admin admin, String topic, Set<Integer> nodes) throws Exception {
        Set<Integer> found = new TreeSet<>();
        for (var dirs : admin.describeLogDirs(nodes).allDescriptions().get().values()) {
            for (var dir : dirs.values()) {
                Check.equal("error of a log dir", null, dir.error());
                for (TopicPartition partition : dir.replicaInfos().keySet()) {
                    if (partition.topic().equals(topic)) {
                        found.add(partition.partition());
                    }
                }
            }
        }
        Check.equal("partitions in log dirs", Set.of(0, 1, 2, 3, 4), found);
    }

    private static void deleteTopics(Admin admin, List<String> topics) throws Exception {
        admin.deleteTopics(topics).all().get();
        Check.eventually("the topics are gone from the list", VISIBLE_SECONDS, () -> {
            Set<String> names = names(admin);
            return topics.stream().noneMatch(names::contains);
        });
        Check.fails("delete again", UnknownTopicOrPartitionException.class,
                () -> admin.deleteTopics(topics).all().get());
    }
}
