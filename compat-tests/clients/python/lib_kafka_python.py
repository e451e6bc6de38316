"""kafka-python (3.x).

Without: `null-headers` (a header's value must be bytes), `null-record` (a record needs a key or a value) and, in `sizes`,
`idempotence` (its idempotent producer is unusable after MESSAGE_TOO_LARGE, as after any refusal it does not retry).
A fenced member notices it only when it commits.
"""

import re
from contextlib import contextmanager

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.protocol.consumer import OffsetSpec
from kafka.structs import OffsetAndMetadata

from records import OFFSET_OUT_OF_RANGE, Differs, Record, Refused, expect


@contextmanager
def refusals():
    """Turns the library's exceptions into Refused."""
    try:
        yield
    except (NoOffsetForPartitionError, OffsetOutOfRangeError) as failure:
        raise Refused(OFFSET_OUT_OF_RANGE, str(failure)) from failure
    except KafkaError as failure:
        raise Refused(getattr(failure, "errno", None), repr(failure)) from failure


class Library:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    idempotence = "on by default"
    fenced_at = "commit"
    cannot = {"null-headers", "null-record", "idempotence-after-refusal"}

    @contextmanager
    def producer(self, run, codec=None, max_bytes=None, idempotent=None, patient=False):
        config = {"bootstrap_servers": run.bootstrap}
        if codec:
            config["compression_type"] = None if codec == "none" else codec
        if max_bytes:
            config["max_request_size"] = max_bytes
        if idempotent is not None:
            config["enable_idempotence"] = idempotent
        producer = KafkaProducer(**config)
        try:
            yield Sender(producer)
        finally:
            producer.close(10)

    @contextmanager
    def reader(self, run, reset="earliest"):
        reader = Reader(KafkaConsumer(bootstrap_servers=run.bootstrap, auto_offset_reset=reset))
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
        if cooperative:
            config["partition_assignment_strategy"] = (CooperativeStickyAssignor,)
        return Reader(KafkaConsumer(**config), rebalanced)

    @contextmanager
    def admin(self, run):
        admin = KafkaAdminClient(bootstrap_servers=run.bootstrap)
        try:
            yield Admin(admin)
        finally:
            admin.close()


class Sender:
    def __init__(self, inner):
        self.inner = inner

    def send(self, topic, record):
        return self.send_all(topic, [record])[0]

    def send_all(self, topic, records):
        with refusals():
            futures = [
                self.inner.send(topic, r.value, r.key, r.headers or None, r.partition, r.timestamp) for r in records
            ]
            done = [f.get(timeout=85) for f in futures]
        return [(m.partition, m.offset) for m in done]


class Listener(ConsumerRebalanceListener):
    def __init__(self, tell):
        self.tell = tell

    def on_partitions_assigned(self, assigned):
        self.tell("assigned", {p.partition for p in assigned})

    def on_partitions_revoked(self, revoked):
        self.tell("revoked", {p.partition for p in revoked})


class Reader:
    """A consumer, assigned by hand or in a group."""

    def __init__(self, inner, rebalanced=None):
        self.inner, self.rebalanced = inner, rebalanced

    def assign(self, topic, starts):
        self.inner.assign([TopicPartition(topic, p) for p in starts])
        for p, offset in starts.items():
            self.seek(topic, p, offset)

    def subscribe(self, topics):
        # Fetches the metadata before the first join. Without it the library rejoins when the metadata comes, and then loses
        # the new assignment if poll() times out between JoinGroup and SyncGroup.
        for topic in topics:
            self.inner.partitions_for_topic(topic)
        self.inner.subscribe(topics, listener=Listener(self.rebalanced))

    def poll(self, seconds):
        with refusals():
            batches = self.inner.poll(timeout_ms=int(seconds * 1000))
        return [
            Record(m.key, m.value, list(m.headers), m.timestamp, m.partition, m.offset, m.timestamp_type == 1)
            for batch in batches.values()
            for m in batch
        ]

    def seek(self, topic, partition, offset):
        self.inner.seek(TopicPartition(topic, partition), offset)

    def bounds(self, topic, partition):
        at = TopicPartition(topic, partition)
        with refusals():
            return self.inner.beginning_offsets([at])[at], self.inner.end_offsets([at])[at]

    def offset_for_time(self, topic, partition, timestamp):
        at = TopicPartition(topic, partition)
        found = self.inner.offsets_for_times({at: timestamp})[at]
        return found and found.offset

    def assignment(self):
        return {p.partition for p in self.inner.assignment()}

    def commit(self):
        with refusals():
            self.inner.commit()

    def commit_at(self, topic, offsets):
        with refusals():
            self.inner.commit({TopicPartition(topic, p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()})

    def close(self):
        self.inner.close()


def check(shown):
    """Raises what the library answers as text or as a class instead of an exception."""
    if isinstance(shown, str) and shown not in ("OK", "NoError"):
        code = re.match(r"\[Error (-?\d+)\]", shown)
        import kafka.errors

        named = getattr(kafka.errors, shown, None)
        raise Refused(int(code[1]) if code else named.errno if named else None, shown)
    if isinstance(shown, type) and shown.errno:
        raise Refused(shown.errno, shown.__name__)


class Admin:
    def __init__(self, inner):
        self.inner = inner

    def cluster(self):
        got = self.inner.describe_cluster()
        return got["cluster_id"], {b["broker_id"] for b in got["brokers"]}, got["controller_id"]

    def create(self, topic, partitions, replication, configs, validate_only=False):
        new = {topic: {"num_partitions": partitions, "replication_factor": replication, "configs": configs}}
        with refusals():
            self.inner.create_topics(new, validate_only=validate_only)

    def list(self):
        return set(self.inner.list_topics())

    def describe(self, topic):
        with refusals():
            (got,) = self.inner.describe_topics([topic])
        if got["error_code"]:
            raise Refused(got["error_code"])
        parts = [(p["partition_index"], p["leader_id"], p["replica_nodes"], p["isr_nodes"]) for p in got["partitions"]]
        return parts, str(got["topic_id"])

    def configs(self, topic):
        with refusals():
            got = self.inner.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")["topic"][topic]
        # The library drops the error code of a resource: a topic that does not exist has no configs.
        if not got:
            raise Refused(3)
        return {
            n: (c["value"], c["config_source"] == "DEFAULT_CONFIG", c["is_sensitive"], c["read_only"]) for n, c in got.items()
        }

    def alter(self, topic, values, deletions):
        changes = {n: ("SET", v) for n, v in values.items()} | {n: ("DELETE", None) for n in deletions}
        with refusals():
            check(self.inner.alter_configs([ConfigResource("TOPIC", topic, changes)])["topic"][topic])

    def grow(self, topic, partitions):
        with refusals():
            self.inner.create_partitions({topic: partitions})

    def delete_records(self, topic, partition, before):
        at = TopicPartition(topic, partition)
        with refusals():
            got = self.inner.delete_records({at: before})[at]
        if got["error_code"]:
            raise Refused(got["error_code"])
        return got["low_watermark"]

    def max_timestamp(self, topic, partition):
        at = TopicPartition(topic, partition)
        return self.inner.list_partition_offsets({at: OffsetSpec.MAX_TIMESTAMP})[at].offset

    def producers(self, topic, partition):
        """The last sequences of the producers."""
        (got,) = self.inner.describe_producers([TopicPartition(topic, partition)]).values()
        return [state.last_sequence for state in got.active_producers]

    def log_dirs(self, topic):
        """The partitions of the topic that the nodes name."""
        found = set()
        for node in self.inner.describe_log_dirs():
            for place in node["log_dirs"]:
                expect("error of a log dir", 0, place["error_code"])
                found |= {p["partition_index"] for t in place["topics"] if t["name"] == topic for p in t["partitions"]}
        return found

    def group(self, group):
        with refusals():
            got = self.inner.describe_groups([group])[group]
        if got["error"]:
            raise Differs(got["error"])
        shares = [
            {p for t in m["member_assignment"]["assigned_partitions"] for p in t["partitions"]} for m in got["members"]
        ]
        return got["group_state"], got["protocol_type"], shares

    def groups(self):
        return {g["group_id"] for g in self.inner.list_groups()}

    def committed(self, group, topic):
        got = self.inner.list_group_offsets([group])[group]
        return {p.partition: o.offset for p, o in got.items() if p.topic == topic and o.offset >= 0}

    def alter_offsets(self, group, topic, offsets):
        wanted = {TopicPartition(topic, p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}
        for error in self.inner.alter_group_offsets(group, wanted).values():
            check(error)

    def delete_offsets(self, group, topic, partitions):
        with refusals():
            for error in self.inner.delete_group_offsets(group, [TopicPartition(topic, p) for p in partitions]).values():
                check(error)

    def delete_group(self, group):
        with refusals():
            check(self.inner.delete_groups([group])[group])

    def delete(self, topic):
        with refusals():
            self.inner.delete_topics([topic])
