"""The clients: each a process of its own that is never left behind, whatever becomes of the row it works for."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).resolve().parent
CLIENTS = HERE.parent / "clients"
PYTHON = CLIENTS / "python" / ".venv" / "bin" / "python"
GO = CLIENTS / "go" / "target"
TOOLS = CLIENTS / "java" / "tools.sh"
TOPICS_AT_ONCE = 100
ANSWER_SECONDS_MAX = 30


class Failed(Exception):
    """A row that could not be measured, and why."""


class Client:
    """A started process, used by `with`: what still runs at the end is killed, with all it started."""

    def __init__(self, *command):
        self.command = [str(word) for word in command]
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, stdout=self.out, stderr=self.err, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.out.close()
        self.err.close()

    def said(self):
        """Waits for its end; answers its standard output."""
        status = self.process.wait()
        texts = []
        for stream in (self.out, self.err):
            stream.seek(0)
            texts.append(stream.read())
        if status:
            raise Failed(f"{' '.join(self.command[:3])} ended with {status}: {texts[0][-300:]}{texts[1][-700:]}")
        return texts[0]

    def told(self):
        """The same for one that prints a line of JSON."""
        return json.loads(self.said())


def run(*command):
    with Client(*command) as client:
        return client.said()


def tool(name, *arguments):
    """One of Kafka's own tools; answers what it printed."""
    return run("bash", TOOLS, name, *arguments)


def python(name, *arguments):
    """One of the programs here, on librdkafka."""
    return Client(PYTHON, "-B", HERE / f"{name}.py", *arguments)


def create(server, topic, partitions=1, count=1):
    """A topic; with a count that many, named TOPIC-0, TOPIC-1 and so on. Answers the seconds it took."""
    if not server.has_topics:
        return 0.0
    names = [topic] if count == 1 else [f"{topic}-{i}" for i in range(count)]
    admin = AdminClient({"bootstrap.servers": server.address, "log_level": 3})
    began = time.monotonic()
    for at in range(0, count, TOPICS_AT_ONCE):
        asked = [NewTopic(name, partitions, 1) for name in names[at : at + TOPICS_AT_ONCE]]
        for made in admin.create_topics(asked, request_timeout=ANSWER_SECONDS_MAX).values():
            made.result()
    return time.monotonic() - began


def first_record(server):
    """Seconds from a new client to its first record acked, and to that record read back, on a topic it makes itself."""
    began = time.monotonic()
    create(server, "first")
    producer = Producer({"bootstrap.servers": server.address, "log_level": 3})
    producer.produce("first", b"record")
    if producer.flush(ANSWER_SECONDS_MAX):
        raise Failed("the first record was not acked")
    acked = time.monotonic() - began
    consumer = Consumer({"bootstrap.servers": server.address, "group.id": "first", "enable.auto.commit": False})
    consumer.assign([TopicPartition("first", 0, OFFSET_BEGINNING)])
    message = consumer.poll(ANSWER_SECONDS_MAX)
    if message is None or message.error():
        raise Failed(f"the first record was not read: {message and message.error()}")
    read = time.monotonic() - began
    consumer.close()
    return acked, read


PRODUCED = re.compile(
    r"([\d.]+) records/sec \(([\d.]+) MB/sec\), ([\d.]+) ms avg latency, ([\d.]+) ms max latency, "
    r"(\d+) ms 50th, (\d+) ms 95th, (\d+) ms 99th, (\d+) ms 99.9th"
)


class JavaProducer(Client):
    """kafka-producer-perf-test as fast as it can."""

    def __init__(self, server, topic, records, size, settings):
        work = ["--topic", topic, "--num-records", records, "--record-size", size, "--throughput", -1]
        settings = [f"bootstrap.servers={server.address}", "acks=all", *settings]
        super().__init__("bash", TOOLS, "kafka-producer-perf-test", *work, "--producer-props", *settings)

    def told(self):
        found = PRODUCED.findall(self.said())
        if not found:
            raise Failed("kafka-producer-perf-test printed no result")
        rate, mib, _, most, p50, p95, p99, p999 = map(float, found[-1])
        waits = {"p50": p50, "p95": p95, "p99": p99, "p99.9": p999, "max": most}
        return {"rate": rate, "mib": mib, "waits": waits}


class JavaConsumer(Client):
    """kafka-consumer-perf-test, from the beginning until it has so many records."""

    def __init__(self, server, topic, records, *settings):
        self.records, where = records, ["--bootstrap-server", server.address]
        work = ["--topic", topic, "--messages", records, "--timeout", 60000, *settings]
        super().__init__("bash", TOOLS, "kafka-consumer-perf-test", *where, *work)

    def told(self):
        # Columns: start, end, MB, MB/s, messages, messages/s, rebalance ms, fetch ms, fetch MB/s, fetch messages/s.
        lines = [line for line in self.said().splitlines() if line.count(",") >= 9]
        columns = [column.strip() for column in lines[-1].split(",")] if lines else []
        if not columns or int(columns[4]) < self.records:
            raise Failed(f"{columns[4] if columns else 'none'} of {self.records} records came back")
        return {"mib": float(columns[8]), "rate": float(columns[9])}
