"""The work each server is given, and what is measured of it."""

import time
from dataclasses import dataclass
from typing import Callable

from clients import GO, Client, Failed, JavaConsumer, JavaProducer, create, first_record, python
from servers import loopback_mib

TUNED = ["batch.size=1000000", "linger.ms=20", "buffer.memory=134217728"]
DEFAULT = []
# The same for librdkafka, whose default batch is 1 MB already.
TUNED_C = ["linger.ms=20", "queue.buffering.max.messages=1000000"]
BIG_FETCHES = ["--fetch-size", 10485760]
PERCENTILES = ["p50", "p90", "p95", "p99", "p99.9", "max"]
HOURS_OF_A_MONTH = 730
MIB_PER_GIB = 1024


class Meter:
    """What a server used of the machine since this was made."""

    def __init__(self, server):
        self.server = server
        self.began = self._now()

    def _now(self):
        server = self.server
        use = server.bucket_use() or {}
        disk = {which: server.disk_mib(which) for which in ("write_bytes", "read_bytes")}
        return {"at": time.monotonic(), "cpu": server.cpu_seconds(), "lo": loopback_mib(), **disk, **use}

    def used(self):
        now = self._now()
        return {name: value - self.began[name] for name, value in now.items()}

    def of_bytes(self, mib_in, mib_out):
        """Costs of so many bytes in and out, and the memory they took."""
        used, gib_in = self.used(), mib_in / MIB_PER_GIB
        found = {
            "CPU-s per GiB in + out": used["cpu"] / ((mib_in + mib_out) / MIB_PER_GIB),
            "peak memory, MiB": self.server.memory_mib(),
            "disk bytes written per byte in": used["write_bytes"] / mib_in,
            "disk bytes read per byte in": used["read_bytes"] / mib_in,
            "network bytes per byte in (bucket and clients)": used["lo"] / mib_in,
        }
        if "PUT" in used:
            found["PUT per GiB in"] = (used["PUT"] + used["parts"]) / gib_in
            found["GET per GiB in"] = used["GET"] / gib_in
            found["requests cost, USD per GiB in"] = self.server.money(used) / gib_in
        return found


def named(prefix, waits):
    return {f"{prefix} {percentile}, ms": waits[percentile] for percentile in PERCENTILES if percentile in waits}


def idle(server, seconds):
    """From nothing to the first record, and then a server nobody uses."""
    acked, read = first_record(server)
    found = {
        "start until clients are answered, s": server.start_seconds,
        "start to first record acked, s": server.start_seconds + acked,
        "start to first record read, s": server.start_seconds + read,
    }
    time.sleep(3)
    meter = Meter(server)
    time.sleep(seconds)
    used = meter.used()
    hours = used["at"] / 3600
    found["memory when idle, MiB"] = server.memory_mib("VmRSS")
    found["CPU when idle, % of a core"] = used["cpu"] / used["at"] * 100
    found["disk written when idle, MiB per hour"] = used["write_bytes"] / hours
    if "PUT" in used:
        found["requests when idle, per hour"] = sum(used[kind] for kind in ("PUT", "GET", "LIST", "HEAD", "parts")) / hours
        found["requests when idle, USD per month"] = server.money(used) / hours * HOURS_OF_A_MONTH
    return found


def warm_up(server, records):
    """What a server that has run for a while has behind it: a compiler that knows the code, caches that are full."""
    create(server, "before")
    with JavaProducer(server, "before", records, 1024, TUNED) as producer:
        producer.told()
    with JavaConsumer(server, "before", records) as consumer:
        consumer.told()


def warm_up_paced(server, seconds):
    """The same for loads that are not about throughput, in which a cold compiler would be most of what is seen."""
    create(server, "before")
    pace(server, "before", 1000, seconds, 100, 1, 1)


def bulk(server, records, warm, size=1024, partitions=1, producer=DEFAULT, codec="none", consumer=()):
    """As fast as kafka-producer-perf-test can, then as fast as kafka-consumer-perf-test can."""
    warm_up(server, warm)
    create(server, "bulk", partitions)
    mib = records * size / 2**20
    meter = Meter(server)
    with JavaProducer(server, "bulk", records, size, [f"compression.type={codec}", *producer]) as running:
        into = running.told()
    cpu_in = meter.used()["cpu"]
    with JavaConsumer(server, "bulk", records, *consumer) as running:
        out = running.told()
    return {
        "produced, MiB/s": into["mib"],
        "produced, records/s": into["rate"],
        "consumed, MiB/s": out["mib"],
        "consumed, records/s": out["rate"],
        **named("ack", into["waits"]),
        "CPU-s per GiB in": cpu_in / (mib / MIB_PER_GIB),
        **meter.of_bytes(mib, mib),
    }


def at_once(server, records, warm):
    """A tuned producer, and a consumer beside it that reads the same records as they come."""
    warm_up(server, warm)
    create(server, "both")
    mib, meter = records / 1024, Meter(server)
    with JavaConsumer(server, "both", records, *BIG_FETCHES) as consumer:
        with JavaProducer(server, "both", records, 1024, TUNED) as producer:
            into = producer.told()
        out = consumer.told()
    return {
        "produced, records/s": into["rate"],
        "consumed, records/s": out["rate"],
        **named("ack", into["waits"]),
        **meter.of_bytes(mib, mib),
    }


def librdkafka(server, records, warm, settings):
    """The same through librdkafka: one producer, then one consumer."""
    warm_up(server, warm)
    create(server, "c")
    mib, meter = records / 1024, Meter(server)
    with python("bulk", server.address, "c", records, 1024, *settings) as client:
        said = client.told()
    return {
        "produced, MiB/s": said["mib"]["in"],
        "produced, records/s": said["rate"]["in"],
        "consumed, MiB/s": said["mib"]["out"],
        "consumed, records/s": said["rate"]["out"],
        **meter.of_bytes(mib, mib),
    }


def pace(server, topics, rate, seconds, size, producers, consumers, settings=()):
    """What a paced load's clients say; a lost or late record is a failure."""
    with python("paced", server.address, topics, rate, seconds, size, producers, consumers, *settings) as client:
        said = client.told()
    if said["errors"] or said["not_consumed"] or not said["acked"]:
        raise Failed(f"{said['acked']} acked, {said['errors']} errors {said['first_error']}, {said['not_consumed']} not consumed")
    return said


def paced(server, rate, seconds, warm, size=100, producers=1, consumers=1, partitions=1, topics=1, settings=()):
    """Records at a fixed rate from librdkafka producers; every wait counts, that for a producer's turn too."""
    warm_up_paced(server, warm)
    made = create(server, "paced", partitions, topics)
    before = server.memory_mib("VmRSS")
    meter = Meter(server)
    said = pace(server, "paced" if topics == 1 else f"paced*{topics}", rate, seconds, size, producers, consumers, settings)
    found = {**named("ack", said["ack"]), **named("end to end", said["end_to_end"])}
    found["CPU-s"] = meter.used()["cpu"]
    found["peak memory, MiB"] = server.memory_mib()
    if topics > 1:
        found = {f"{topics} topics made, s": made, "memory with the topics, MiB": before, **found}
    used = meter.used()
    if "PUT" in used:
        found["PUT"] = used["PUT"] + used["parts"]
        found["requests cost, USD per hour of it"] = server.money(used) / used["at"] * 3600
    return found


def many(server, producers, seconds, warm, size=1024):
    """As many producers as that, each a client of its own, each sending its next record when its last is acked."""
    warm_up_paced(server, warm)
    create(server, "many", 100)
    meter = Meter(server)
    with Client(GO / "many", server.address, "many", producers, seconds, size) as client:
        said = client.told()
    return {
        "records/s": said["per_second"],
        "errors": said["errors"],
        "slowest producer / median": said["slowest_by_median"],
        **named("ack", said["waits"]),
        "peak memory, MiB": server.memory_mib(),
        "CPU-ms per 1,000 records": meter.used()["cpu"] * 1e6 / said["acked"],
    }


def fan_out(server, records, consumers, partitions=4):
    """So many consumers, each reading everything there is, all at once."""
    create(server, "fan", partitions)
    with JavaProducer(server, "fan", records, 1024, TUNED) as producer:
        producer.told()
    mib, meter = records / 1024, Meter(server)
    with Client(GO / "drain", server.address, "fan", consumers, records) as client:
        said = client.told()
    used = meter.used()
    found = {
        "consumed in total, MiB/s": said["mib_per_second"],
        "fastest consumer's time / slowest's": said["fastest_by_slowest"],
        "first record after, ms": said["first_ms"],
        "CPU-s per GiB out": used["cpu"] / (mib * consumers / MIB_PER_GIB),
        "peak memory, MiB": server.memory_mib(),
    }
    if "GET" in used:
        found["GET per GiB out"] = used["GET"] / (mib * consumers / MIB_PER_GIB)
    return found


def catch_up(server, records, rate, seconds):
    """A reader that is far behind, beside a live load: how fast it reads, and what the live load feels of it."""
    create(server, "behind", 4)
    with JavaProducer(server, "behind", records, 1024, TUNED) as producer:
        producer.told()
    live = ("behind", rate, seconds, 1024, 2, 1)
    alone = pace(server, *live)
    with Client(GO / "drain", server.address, "behind", 1, records) as reader:
        beside = pace(server, *live)
        said = reader.told()
    return {
        "backlog, MiB": records / 1024,
        "backlog read, MiB/s": said["mib_per_second"],
        "live rates it is read at": said["mib_per_second"] / (rate / 1024),
        **{f"live alone, {name}": ms for name, ms in named("end to end", alone["end_to_end"]).items()},
        **{f"live beside it, {name}": ms for name, ms in named("end to end", beside["end_to_end"]).items()},
        "peak memory, MiB": server.memory_mib(),
    }


@dataclass(frozen=True)
class Row:
    """One work: its heading in the tables, on which kinds of servers, and how it is done to one."""

    heading: str
    kinds: tuple
    work: Callable
    quick: bool = True


EVERY = ("disk", "flush", "bucket", "memory")
DISKS = ("disk", "flush")
# Also without a server behind it, to show what the clients can do.
LIMIT = ("null",)
# Beside the plain broker: the folder only. For sweeps, in which the rest says nothing new.
PLAIN = ("disk",)


def rows(quick, scale):
    """Every row in the order of its weight: what no time is left for is the last."""
    many_records = max(1000, int((300_000 if quick else 1_000_000) * scale))
    warm = max(1000, int((100_000 if quick else 200_000) * scale))
    seconds = max(2, int((8 if quick else 20) * scale))
    warm_seconds = max(1, int((4 if quick else 10) * scale))
    half = many_records // 2
    n, h = f"{many_records:,}", f"{half:,}"
    go = lambda work, *given, **more: lambda server: work(server, *given, **more)
    tuned = go(bulk, many_records, warm, producer=TUNED, consumer=BIG_FETCHES)
    found = [
        Row(f"{n} records of 1 KiB, tuned Java clients", EVERY + LIMIT, tuned),
        Row("start, first record, idle", EVERY, go(idle, 10 if quick else 60)),
        Row("1 default librdkafka producer, 100 records/s of 100 bytes", EVERY, go(paced, 100, seconds, warm_seconds)),
        Row("1,000 producers at once, 100 partitions", EVERY, go(many, max(10, int(1000 * scale)), seconds, warm_seconds)),
        Row(f"{h} records of 1 KiB, default Java clients", EVERY + LIMIT, go(bulk, half, warm)),
        Row("4 default librdkafka producers, 2,000 records/s of 100 bytes", EVERY, go(paced, 2000, seconds, warm_seconds, producers=4)),
        Row(f"{n} records of 1 KiB, tuned Java producer and consumer at once", DISKS + LIMIT, go(at_once, many_records, warm)),
        Row(f"{h} records of 1 KiB, tuned librdkafka clients", PLAIN, go(librdkafka, half, warm, TUNED_C)),
        Row("a backlog read beside 2,000 records/s of 1 KiB", ("disk", "bucket"), go(catch_up, many_records, 2000, seconds)),
        Row(f"100 partitions, {h} records of 1 KiB, tuned", PLAIN, go(bulk, half, warm, partitions=100, producer=TUNED)),
        Row("500 records/s of 100 bytes to 500 topics", ("disk", "bucket"), go(paced, 500, seconds, warm_seconds, topics=max(2, int(500 * scale)))),
        Row("10 consumers, each of everything", PLAIN, go(fan_out, half, 10)),
        Row(f"zstd, {h} records of 1 KiB, tuned", PLAIN, go(bulk, half, warm, codec="zstd", producer=TUNED)),
    ]
    if quick:
        return found
    found.append(Row(f"{h} records of 1 KiB, default librdkafka clients", PLAIN, go(librdkafka, half, warm, DEFAULT)))
    found += [Row(f"{c} consumer{'s' * (c > 1)}, each of everything", PLAIN, go(fan_out, half, c)) for c in (1, 3)]
    found.append(Row("4 librdkafka producers with linger.ms=0, 2,000 records/s of 100 bytes", PLAIN, go(paced, 2000, seconds, warm_seconds, producers=4, settings=["linger.ms=0"])))
    found.append(Row("2,000 records/s of 1 KiB, 10 consumers of everything", ("disk", "bucket"), go(paced, 2000, seconds, warm_seconds, size=1024, producers=4, consumers=10)))
    found += [
        Row(f"{p} partitions, {h} records of 1 KiB, tuned", PLAIN, go(bulk, half, warm, partitions=p, producer=TUNED))
        for p in (1, 10, 1000)
    ]
    found += [
        Row(f"records of {size:,} bytes, tuned", PLAIN, go(bulk, max(100, int(count * scale)), warm, size=size, producer=TUNED))
        # The largest is 1 MiB with what the wire puts around it: a broker's default takes no more.
        for size, count in ((10, 3_000_000), (100, 2_000_000), (10_000, 50_000), (100_000, 5_000), (2**20 - 1024, 500))
    ]
    found += [
        Row(f"{codec}, {h} records of 1 KiB, tuned", PLAIN, go(bulk, half, warm, codec=codec, producer=TUNED))
        for codec in ("gzip", "snappy", "lz4")
    ]
    return found
