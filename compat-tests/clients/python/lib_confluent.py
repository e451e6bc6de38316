"""confluent-kafka: librdkafka for Python.

Without: `delete-offsets`, `describe-producers`, `describe-log-dirs` (the admin client has no calls for them).
"""

import threading
import time
from contextlib import contextmanager

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    ConsumerGroupTopicPartitions,

    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from records import FENCED_INSTANCE_ID, OFFSET_OUT_OF_RANGE, Record, Refused, Without

def refused(error):
    # A fatal error names the broker's reason only in its text.
    fenced = error.code() == KafkaError._FATAL and "Static consumer fenced" in error.str()
    return Refused(FENCED_INSTANCE_ID if fenced else error.code(), error.str())

@contextmanager
def refusals():
    """Turns the library's exceptions into Refused."""
    try:
        yield
    except KafkaException as failure:
        raise refused(failure.args[0]) from failure

class Library:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    idempotence = "off by default"
    fenced_at = "poll"
    cannot = set()

    @contextmanager
    def producer(self, run, codec=None, max_bytes=None, idempotent=False, patient=False):
        config = {"bootstrap.servers": run.bootstrap}
        if codec:
            config["compression.type"] = codec
        if max_bytes:
            config["message.max.bytes"] = max_bytes
        if idempotent:
            config["enable.idempotence"] = True
        producer = Sender(Producer(config))
        yield producer
        producer.inner.flush(10)

    @contextmanager
    def reader(self, run, reset="earliest"):
        config = {"group.id": "not-used", "enable.auto.commit": False, "auto.offset.reset": {"none": "error"}.get(reset, reset)}
        reader = Reader(Consumer({"bootstrap.servers": run.bootstrap, **config}))
        try:
            yield reader
        finally:
            reader.close()

    def consumer(self, run, group, rebalanced, instance=None, cooperative=False, auto_commit=False):
        config = {"bootstrap.servers": run.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
        if not auto_commit:
            config["enable.auto.commit"] = False
        if instance:
            config["group.instance.id"] = instance
        if cooperative:
            config["partition.assignment.strategy"] = "cooperative-sticky"
        return Reader(Consumer(config), rebalanced)

    @contextmanager
    def admin(self, run):
        yield Admin(AdminClient({"bootstrap.servers": run.bootstrap}))

class Sender:
    def __init__(self, inner):
        self.inner = inner

    def send(self, topic, record):
        return self.send_all(topic, [record])[0]

    def send_all(self, topic, records):
        acks, lock = [None] * len(records), threading.Lock()
        left = [len(records)]

        def delivered(i):
            def report(error, message):
                with lock:
                    acks[i] = error or (message.partition(), message.offset())
                    left[0] -= 1

            return report

        for i, r in enumerate(records):
            options = {"headers": r.headers} if r.headers else {}
            if r.partition is not None:
                options["partition"] = r.partition
            if r.timestamp is not None:
                options["timestamp"] = r.timestamp
            self.inner.produce(topic, key=r.key, value=r.value, on_delivery=delivered(i), **options)
        while left[0]:
            self.inner.poll(0.05)
        for ack in acks:
            if isinstance(ack, KafkaError):
                raise refused(ack)
        return acks

class Reader:
    """A consumer, assigned by hand or in a group."""

    def __init__(self, inner, rebalanced=None):
        self.inner, self.rebalanced, self.failure = inner, rebalanced, None

    def assign(self, topic, starts):
        self.inner.assign([TopicPartition(topic, p, offset) for p, offset in starts.items()])

    def subscribe(self, topics):
        def tell(what):
            return lambda _, parts: self.rebalanced(what, {p.partition for p in parts})

        self.inner.subscribe(topics, on_assign=tell("assigned"), on_revoke=tell("revoked"), on_lost=tell("revoked"))

    def poll(self, seconds):
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        got = []
        with refusals():
            for m in self.inner.consume(500, seconds):
                if m.error():
                    # Raised by the next call, so that the records around it are not lost.
                    out_of_range = m.error().code() == KafkaError._AUTO_OFFSET_RESET
                    self.failure = Refused(OFFSET_OUT_OF_RANGE) if out_of_range else refused(m.error())
                    continue
                kind, stamp = m.timestamp()
                headers = [(n, v) for n, v in m.headers() or []]
                got.append(Record(m.key(), m.value(), headers, stamp, m.partition(), m.offset(), kind == TIMESTAMP_LOG_APPEND_TIME))
        return got

    def seek(self, topic, partition, offset):
        end = time.monotonic() + 10
        while True:
            try:
                return self.inner.seek(TopicPartition(topic, partition, offset))
            except KafkaException as failure:
                # The assignment takes effect in the background.
                if failure.args[0].code() != KafkaError._STATE or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def bounds(self, topic, partition):
        with refusals():
            return self.inner.get_watermark_offsets(TopicPartition(topic, partition), timeout=60)

    def offset_for_time(self, topic, partition, timestamp):
        found = self.inner.offsets_for_times([TopicPartition(topic, partition, timestamp)], timeout=60)[0]
        return found.offset if found.offset >= 0 else None

    def assignment(self):
        return {p.partition for p in self.inner.assignment()}

    def commit(self):
        self.inner.commit(asynchronous=False)

    def commit_at(self, topic, offsets):
        self.inner.commit(offsets=[TopicPartition(topic, p, o) for p, o in offsets.items()], asynchronous=False)

    def close(self):
        self.inner.close()

class Admin:
    def __init__(self, inner):
        self.inner = inner

    def _one(self, futures):
        with refusals():
            return next(iter(futures.values())).result(30)

    def cluster(self):
        got = self.inner.describe_cluster().result(30)
        return got.cluster_id, {n.id for n in got.nodes}, got.controller.id

    def create(self, topic, partitions, replication, configs, validate_only=False):
        new = NewTopic(topic, num_partitions=partitions, replication_factor=replication, config=configs)
        with refusals():
            self._one(self.inner.create_topics([new], validate_only=validate_only))

    def list(self):
        return set(self.inner.list_topics(timeout=60).topics)

    def describe(self, topic):
        got = self._one(self.inner.describe_topics(TopicCollection([topic])))
        return [(p.id, p.leader.id, [n.id for n in p.replicas], [n.id for n in p.isr]) for p in got.partitions], str(got.topic_id)

    def configs(self, topic):
        got = self._one(self.inner.describe_configs([ConfigResource("topic", topic)]))
        default = ConfigSource.DEFAULT_CONFIG.value
        return {n: (c.value, c.source == default, bool(c.is_sensitive), bool(c.is_read_only)) for n, c in got.items()}

    def alter(self, topic, values, deletions):
        entries = [ConfigEntry(n, v, incremental_operation=AlterConfigOpType.SET) for n, v in values.items()]
        entries += [ConfigEntry(n, None, incremental_operation=AlterConfigOpType.DELETE) for n in deletions]
        self._one(self.inner.incremental_alter_configs([ConfigResource("topic", topic, incremental_configs=entries)]))

    def grow(self, topic, partitions):
        self._one(self.inner.create_partitions([NewPartitions(topic, partitions)]))

    def delete_records(self, topic, partition, before):
        return self._one(self.inner.delete_records([TopicPartition(topic, partition, before)])).low_watermark

    def max_timestamp(self, topic, partition):
        wanted = {TopicPartition(topic, partition): OffsetSpec.max_timestamp()}
        return self._one(self.inner.list_offsets(wanted)).offset

    def group(self, group):
        got = self._one(self.inner.describe_consumer_groups([group]))
        shares = [{p.partition for p in m.assignment.topic_partitions} for m in got.members]
        return got.state.name.capitalize(), "consumer", shares

    def groups(self):
        return {g.group_id for g in self.inner.list_consumer_groups().result(30).valid}

    def committed(self, group, topic):
        got = self._one(self.inner.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
        return {p.partition: p.offset for p in got.topic_partitions if p.topic == topic and p.offset >= 0}

    def alter_offsets(self, group, topic, offsets):
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p, o) for p, o in offsets.items()])
        for p in self._one(self.inner.alter_consumer_group_offsets([wanted])).topic_partitions:
            if p.error:
                raise refused(p.error)

    def delete_offsets(self, group, topic, partitions):
        raise Without("delete-offsets")

    def delete_group(self, group):
        self._one(self.inner.delete_consumer_groups([group]))

    def delete(self, topic):
        self._one(self.inner.delete_topics([topic]))
