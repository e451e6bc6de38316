"""Scenario 8: the admin calls, step by step."""

import time

from groups import Member
from records import *
from scenarios import read


def admin(run):
    steps = Steps(run)
    with run.library.admin(run) as steps.admin:
        for name, step in (
            ("describe-cluster", steps.describe_cluster),
            ("create", steps.create),
            ("create-errors", steps.create_errors),
            ("list", steps.list),
            ("describe", steps.describe),
            ("describe-configs", steps.describe_configs),
            ("alter-configs", steps.alter_configs),
            ("create-partitions", steps.create_partitions),
            ("delete-records", steps.delete_records),
            ("describe-producers", steps.describe_producers),
            ("describe-log-dirs", steps.describe_log_dirs),
            ("describe-group", steps.describe_group),
            ("delete-nonempty-group", steps.delete_nonempty_group),
            ("list-offsets", steps.list_offsets),
            ("alter-offsets", steps.alter_offsets),
            ("delete-offsets", steps.delete_offsets),
            ("delete-group", steps.delete_group),
            ("delete-topic", steps.delete_topic),
        ):
            try:
                step()
                steps.done += 1
            except Without:
                run.without.add(name)
            except Exception as failure:
                steps.close()
                raise Differs(f"step {name}: {failure!r}") from failure
    return f"steps={steps.done}"


class Steps:
    def __init__(self, run):
        self.run, self.admin, self.done, self.member = run, None, 0, None
        self.topic, self.other, self.dry = run.topic(""), run.topic("default"), run.topic("dry")
        self.missing, self.group = run.topic("missing"), f"{self.topic}-group"

    def close(self):
        if self.member:
            self.member.close()

    def describe_cluster(self):
        cluster, nodes, controller = self.admin.cluster()
        expect_that("cluster id", cluster, cluster)
        expect_that("controller among the nodes", controller in nodes, (controller, nodes))

    def create(self):
        self.admin.create(self.topic, 3, 1, {"retention.ms": "3600000", "cleanup.policy": "delete"})
        partial = None
        try:
            self.admin.create(self.other, -1, -1, {})
        except Without as without:
            partial = without
            self.admin.create(self.other, 1, 1, {})
        wait_until("both topics", 60, lambda: {self.topic, self.other} <= self.admin.list())
        if partial:
            raise partial

    def create_errors(self):
        create, partial = self.admin.create, []
        for what, code, arguments in (
            ("existing", TOPIC_ALREADY_EXISTS, (self.topic, 3, 1, {})),
            ("bad name", INVALID_TOPIC, ("bad name!", 1, 1, {})),
            ("0 partitions", INVALID_PARTITIONS, (self.dry, 0, 1, {})),
            ("bad config value", INVALID_CONFIG, (self.dry, 1, 1, {"retention.ms": "abc"})),
            ("unknown config", INVALID_CONFIG, (self.dry, 1, 1, {"no.such.config": "1"})),
        ):
            try:
                expect_refused(what, code, lambda: create(*arguments))
            except Without as without:
                partial.append(without)
        create(self.dry, 1, 1, {}, validate_only=True)
        if partial:
            raise partial[0]

    def list(self):
        topics = self.admin.list()
        expect_that("both listed", {self.topic, self.other} <= topics)
        expect_that("validated only, not listed", self.dry not in topics)

    def describe(self):
        parts, topic_id = self.admin.describe(self.topic)
        _, nodes, _ = self.admin.cluster()
        expect("partitions", [0, 1, 2], sorted(p for p, *_ in parts))
        for p, leader, replicas, in_sync in parts:
            expect_that(f"leader of {p}", leader in nodes, leader)
            expect_that(f"replicas of {p}", replicas and in_sync, (replicas, in_sync))
        expect_that("topic id", topic_id is None or topic_id.strip("A=-0"), topic_id)
        expect_refused("unknown topic", UNKNOWN_TOPIC_OR_PARTITION, lambda: self.admin.describe(self.missing))

    def describe_configs(self):
        configs = self.admin.configs(self.topic)
        expect("retention.ms", ("3600000", False, False, False), configs["retention.ms"])
        expect("max.message.bytes", ("1048588", True, False, False), configs["max.message.bytes"])
        expect_refused("unknown topic", UNKNOWN_TOPIC_OR_PARTITION, lambda: self.admin.configs(self.missing))

    def alter_configs(self):
        self.admin.alter(self.topic, {"max.message.bytes": "2000000"}, ["retention.ms"])

        def shown():
            configs = self.admin.configs(self.topic)
            return configs["max.message.bytes"][:2], configs["retention.ms"][:2]

        wanted = (("2000000", False), ("604800000", True))
        wait_until("the altered configs", 60, lambda: shown() == wanted, shown)
        expect_refused("bad value", INVALID_CONFIG, lambda: self.admin.alter(self.topic, {"retention.ms": "abc"}, []))
        expect("configs after a refusal", wanted, shown())

    def create_partitions(self):
        self.admin.grow(self.topic, 5)

        def shown():
            return sorted(p for p, *_ in self.admin.describe(self.topic)[0])

        wait_until("5 partitions", 60, lambda: shown() == [0, 1, 2, 3, 4], shown)
        expect_refused("to 5 again", INVALID_PARTITIONS, lambda: self.admin.grow(self.topic, 5))
        expect_refused("to 4", INVALID_PARTITIONS, lambda: self.admin.grow(self.topic, 4))
        expect_refused("unknown topic", UNKNOWN_TOPIC_OR_PARTITION, lambda: self.admin.grow(self.missing, 5))

    def delete_records(self):
        with self.run.library.producer(self.run) as producer:
            producer.send_all(self.topic, [Record(value=b"%d" % i, partition=0) for i in range(20)])
        expect("low watermark", 12, self.admin.delete_records(self.topic, 0, 12))
        with self.run.library.reader(self.run) as reader:
            reader.assign(self.topic, {0: 0})
            expect("beginning and end", (12, 20), reader.bounds(self.topic, 0))
            expect("what is left", list(range(12, 20)), [r.offset for r in read(reader, 8)])
        expect_refused("before 1000", OFFSET_OUT_OF_RANGE, lambda: self.admin.delete_records(self.topic, 0, 1000))

    def describe_producers(self):
        if not hasattr(self.admin, "producers"):
            raise Without("describe-producers")
        expect("last sequences", [19], self.admin.producers(self.topic, 0))

    def describe_log_dirs(self):
        if not hasattr(self.admin, "log_dirs"):
            raise Without("describe-log-dirs")
        expect("partitions in the log dirs", set(range(5)), self.admin.log_dirs(self.topic))

    def describe_group(self):
        self.member = Member(self.run, [self.topic], self.group)
        partitions = len(self.admin.describe(self.topic)[0])
        wait_until("the assignment", 60, lambda: len(self.member.owned) == partitions, self.member.state)
        wanted = ("Stable", "consumer", [set(range(partitions))])
        wait_until("the group", 60, lambda: self.admin.group(self.group) == wanted, lambda: self.admin.group(self.group))
        expect_that("group listed", self.group in self.admin.groups())

    def delete_nonempty_group(self):
        expect_refused("delete", NON_EMPTY_GROUP, lambda: self.admin.delete_group(self.group))

    def list_offsets(self):
        self.member.call(lambda consumer: consumer.commit_at(self.topic, {0: 15}))
        self.member.close()
        wait_until("Empty", 60, lambda: self.admin.group(self.group)[0] == "Empty", lambda: self.admin.group(self.group))
        expect("committed", {0: 15}, self.admin.committed(self.group, self.topic))

    def alter_offsets(self):
        self.admin.alter_offsets(self.group, self.topic, {0: 13})
        expect("altered", {0: 13}, self.admin.committed(self.group, self.topic))

    def delete_offsets(self):
        self.admin.delete_offsets(self.group, self.topic, [0])
        expect("deleted", {}, self.admin.committed(self.group, self.topic))

    def delete_group(self):
        self.admin.delete_group(self.group)
        expect_that("group gone", self.group not in self.admin.groups())
        expect_refused("unknown group", GROUP_ID_NOT_FOUND, lambda: self.admin.delete_group(self.group))

    def delete_topic(self):
        # A broker may still answer what a closed member sent last, behind its waiting fetch: a metadata request that would
        # create the topic again. A fetch waits half a second at most.
        time.sleep(1)
        for topic in (self.topic, self.other):
            self.admin.delete(topic)
        wait_until("both gone", 60, lambda: not {self.topic, self.other} & self.admin.list())
        expect_refused("again", UNKNOWN_TOPIC_OR_PARTITION, lambda: self.admin.delete(self.topic))
