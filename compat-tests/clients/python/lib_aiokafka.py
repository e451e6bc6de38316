"""aiokafka.

Without: `null-record` (a record needs a key or a value); `cooperative` (no such assignor); of `static` the fencing (heartbeats
and commits do not carry the instance id, so it rejoins where others are fenced); of `create` the topic with the broker's own
number of partitions; of `describe` the unknown topic (its metadata requests create topics); `alter-offsets`, `delete-offsets`, `delete-group`, `delete-nonempty-group`
`describe-producers`, `describe-log-dirs` (no such calls). `alter-configs` uses the older, not incremental request.
"""

import asyncio
import inspect
import threading
from contextlib import contextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import IllegalArgumentError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from records import OFFSET_OUT_OF_RANGE, Record, Refused, Without


@contextmanager
def refusals():
    """Turns the library's exceptions into Refused."""
    try:
        yield
    except (NoOffsetForPartitionError, OffsetOutOfRangeError) as failure:
        raise Refused(OFFSET_OUT_OF_RANGE, str(failure)) from failure
    except KafkaError as failure:
        raise Refused(getattr(failure, "errno", None), repr(failure)) from failure


def check(code, text=""):
    if code:
        raise Refused(code, text)


class Library:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    idempotence = "off by default"
    fenced_at = None
    cannot = {"null-record", "cooperative", "fencing"}

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def call(self, make, *arguments, **options):
        """Runs `make(...)` on the event loop, awaits what it gives, and returns that."""

        async def run():
            made = make(*arguments, **options)
            return await made if inspect.isawaitable(made) else made

        with refusals():
            return asyncio.run_coroutine_threadsafe(run(), self.loop).result(85)

    @contextmanager
    def producer(self, run, codec=None, max_bytes=None, idempotent=False, patient=False):
        config = {"bootstrap_servers": run.bootstrap}
        if codec:
            config["compression_type"] = None if codec == "none" else codec
        if max_bytes:
            config["max_request_size"] = max_bytes
        if idempotent:
            config["enable_idempotence"] = True
        if patient:
            # It gives a batch up after this time.
            config["request_timeout_ms"] = 70_000
        producer = self.call(AIOKafkaProducer, **config)
        self.call(producer.start)
        try:
            yield Sender(self, producer)
        finally:
            self.call(producer.stop)

    def started(self, **config):
        consumer = self.call(AIOKafkaConsumer, **config)
        self.call(consumer.start)
        return consumer

    @contextmanager
    def reader(self, run, reset="earliest"):
        reader = Reader(self, self.started(bootstrap_servers=run.bootstrap, auto_offset_reset=reset))
        try:
            yield reader
        finally:
            reader.close()

    def consumer(self, run, group, rebalanced, instance=None, cooperative=False, auto_commit=False):
        config = {"bootstrap_servers": run.bootstrap, "group_id": group, "auto_offset_reset": "earliest"}
        if not auto_commit:
            config["enable_auto_commit"] = False
        if instance:
            config["group_instance_id"] = instance
        return Reader(self, self.started(**config), rebalanced)

    @contextmanager
    def admin(self, run):
        admin = self.call(AIOKafkaAdminClient, bootstrap_servers=run.bootstrap)
        self.call(admin.start)
        try:
            yield Admin(self, admin)
        finally:
            self.call(admin.close)


class Sender:
    def __init__(self, library, inner):
        self.library, self.inner = library, inner

    def send(self, topic, record):
        return self.send_all(topic, [record])[0]

    def send_all(self, topic, records):
        async def send():
            futures = [
                await self.inner.send(topic, r.value, r.key, r.partition, r.timestamp, r.headers or None) for r in records
            ]
            return await asyncio.gather(*futures)

        return [(m.partition, m.offset) for m in self.library.call(send)]


class Listener(ConsumerRebalanceListener):
    def __init__(self, tell):
        self.tell = tell

    async def on_partitions_assigned(self, assigned):
        self.tell("assigned", {p.partition for p in assigned})

    async def on_partitions_revoked(self, revoked):
        self.tell("revoked", {p.partition for p in revoked})


class Reader:
    """A consumer, assigned by hand or in a group."""

    def __init__(self, library, inner, rebalanced=None):
        self.call, self.inner, self.rebalanced = library.call, inner, rebalanced

    def assign(self, topic, starts):
        self.call(self.inner.assign, [TopicPartition(topic, p) for p in starts])
        for p, offset in starts.items():
            self.seek(topic, p, offset)

    def subscribe(self, topics):
        self.call(self.inner.subscribe, topics, listener=Listener(self.rebalanced))

    def poll(self, seconds):
        batches = self.call(self.inner.getmany, timeout_ms=int(seconds * 1000))
        return [
            Record(m.key, m.value, list(m.headers), m.timestamp, m.partition, m.offset, m.timestamp_type == 1)
            for batch in batches.values()
            for m in batch
        ]

    def seek(self, topic, partition, offset):
        self.call(self.inner.seek, TopicPartition(topic, partition), offset)

    def bounds(self, topic, partition):
        at = TopicPartition(topic, partition)
        return self.call(self.inner.beginning_offsets, [at])[at], self.call(self.inner.end_offsets, [at])[at]

    def offset_for_time(self, topic, partition, timestamp):
        at = TopicPartition(topic, partition)
        found = self.call(self.inner.offsets_for_times, {at: timestamp})[at]
        return found and found.offset

    def assignment(self):
        return {p.partition for p in self.call(self.inner.assignment)}

    def commit(self):
        self.call(self.inner.commit)

    def commit_at(self, topic, offsets):
        self.call(self.inner.commit, {TopicPartition(topic, p): o for p, o in offsets.items()})

    def close(self):
        self.call(self.inner.stop)


class Admin:
    def __init__(self, library, inner):
        self.call, self.inner = library.call, inner

    def cluster(self):
        got = self.call(self.inner.describe_cluster)
        return got["cluster_id"], {b["node_id"] for b in got["brokers"]}, got["controller_id"]

    def create(self, topic, partitions, replication, configs, validate_only=False):
        try:
            new = NewTopic(topic, partitions, replication, topic_configs=configs)
        except IllegalArgumentError as failure:
            raise Without("create") from failure
        for _, code, text in self.call(self.inner.create_topics, [new], validate_only=validate_only).topic_errors:
            check(code, text)

    def list(self):
        return set(self.call(self.inner.list_topics))

    def describe(self, topic):
        if topic not in self.list():
            raise Without("describe")
        (got,) = self.call(self.inner.describe_topics, [topic])
        check(got["error_code"])
        return [(p["partition"], p["leader"], p["replicas"], p["isr"]) for p in got["partitions"]], None

    def configs(self, topic):
        (answer,) = self.call(self.inner.describe_configs, [ConfigResource(ConfigResourceType.TOPIC, topic)])
        code, text, _, _, entries = answer.resources[0]
        check(code, text)
        # name, value, read only, source (5 = the default), sensitive
        return {e[0]: (e[1], e[3] == 5, e[4], e[2]) for e in entries}

    def alter(self, topic, values, deletions):
        (answer,) = self.call(self.inner.alter_configs, [ConfigResource(ConfigResourceType.TOPIC, topic, values)])
        for code, text, *_ in answer.resources:
            check(code, text)

    def grow(self, topic, partitions):
        self.call(self.inner.create_partitions, {topic: NewPartitions(partitions)})

    def delete_records(self, topic, partition, before):
        at = TopicPartition(topic, partition)
        return self.call(self.inner.delete_records, {at: RecordsToDelete(before)})[at]

    def group(self, group):
        (answer,) = self.call(self.inner.describe_consumer_groups, [group])
        code, _, state, protocol_type, _, members, *_ = answer.groups[0]
        check(code)
        shares = []
        for *_, assignment in members:
            decoded = ConsumerProtocolMemberAssignment.decode(assignment)
            shares.append({p for _, parts in decoded.assignment for p in parts})
        return state, protocol_type, shares

    def groups(self):
        return {g[0] for g in self.call(self.inner.list_consumer_groups)}

    def committed(self, group, topic):
        got = self.call(self.inner.list_consumer_group_offsets, group)
        return {p.partition: o.offset for p, o in got.items() if p.topic == topic and o.offset >= 0}

    def alter_offsets(self, group, topic, offsets):
        raise Without("alter-offsets")

    def delete_offsets(self, group, topic, partitions):
        raise Without("delete-offsets")

    def delete_group(self, group):
        raise Without("delete-group")

    def delete(self, topic):
        for _, code in self.call(self.inner.delete_topics, [topic]).topic_error_codes:
            check(code)
