"""The work each server is given, and what is measured of it."""

import json
import re
import subprocess
import time

from servers import HERE, tool

PYTHON = HERE.parent / "clients" / "python" / ".venv" / "bin" / "python"
GO = HERE.parent / "clients" / "go" / "target" / "many"
TUNED = ["batch.size=1000000", "linger.ms=20", "buffer.memory=134217728"]
DEFAULT = []
PRODUCED = re.compile(r"([\d.]+) records/sec \(([\d.]+) MB/sec\).* ([\d.]+) ms avg latency.* (\d+) ms 99th", re.S)


def idle(server):
    """A server nobody uses."""
    time.sleep(3)
    before = server.cpu_seconds()
    time.sleep(5)
    return {
        "start, s": server.start_seconds,
        "memory when idle, MiB": server.memory_mib("VmRSS"),
        "CPU when idle, % of a core": (server.cpu_seconds() - before) / 5 * 100,
    }


def bulk(server, topic, records, size=1024, partitions=1, producer=TUNED, codec="none"):
    """As fast as kafka-producer-perf-test can, then as fast as kafka-consumer-perf-test can."""
    warm_up(server)
    create(server, topic, partitions)
    gib = records * size / 2**30
    cpu, disk, requests = server.cpu_seconds(), server.disk_written_mib(), server.requests()
    settings = [f"bootstrap.servers={server.address}", "acks=all", f"compression.type={codec}", *producer]
    work = ["--topic", topic, "--num-records", records, "--record-size", size, "--throughput", -1]
    said = tool("kafka-producer-perf-test", *work, "--producer-props", *settings)
    rate, mb, _, p99 = PRODUCED.findall(said)[-1]
    cpu_in = server.cpu_seconds() - cpu
    said = tool(
        "kafka-consumer-perf-test", "--topic", topic, "--messages", records,
        "--bootstrap-server", server.address, "--timeout", 60000,
    )  # fmt: skip
    # Columns: start, end, MB, MB/s, messages, messages/s, rebalance ms, fetch ms, fetch MB/s, fetch messages/s.
    columns = [line for line in said.splitlines() if line.count(",") >= 9][-1].split(",")
    if int(columns[4]) < records:
        raise SystemExit(f"{server.name} gave back {columns[4]} of {records} records")
    cpu_all = server.cpu_seconds() - cpu
    measured = {
        "produced, MiB/s": float(mb),
        "produced, records/s": float(rate),
        "produce p99, ms": float(p99),
        "consumed, MiB/s": float(columns[8]),
        "CPU-s per GiB in": cpu_in / gib,
        "CPU-s per GiB in + out": cpu_all / (2 * gib),
        "peak memory, MiB": server.memory_mib(),
        "disk written per byte in": (server.disk_written_mib() - disk) / 1024 / gib,
    }
    if requests is not None:
        after = server.requests()
        measured |= {f"{kind} per GiB": (after[kind] - requests[kind]) / gib for kind in requests}
    return measured


def paced(server, topic, rate, seconds=10, size=100, producers=1):
    """Records at a fixed rate from default librdkafka producers; every wait counts, that for a producer's turn too."""
    create(server, topic, 1)
    arguments = [server.address, topic, rate, seconds, size, producers]
    command = [PYTHON, HERE / "paced.py", *map(str, arguments)]
    cpu = server.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    if done.returncode:
        raise SystemExit(f"{server.name}: paced.py failed: {done.stderr[-1000:]}")
    said = json.loads(done.stdout)
    if said["errors"] or said["not_consumed"]:
        raise SystemExit(f"{server.name}: {said}")
    waits = {f"{of.replace('_', ' ')} {p}, ms": ms for of in ("ack", "end_to_end") for p, ms in said[of].items()}
    return {**waits, "CPU-s": server.cpu_seconds() - cpu}


def many(server, topic, producers=1000, seconds=10, size=1024):
    """As many producers as that, each a client of its own, each sending its next record when its last is acked."""
    create(server, topic, 100)
    cpu = server.cpu_seconds()
    command = [GO, server.address, topic, *map(str, [producers, seconds, size])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 180)
    if done.returncode:
        raise SystemExit(f"{server.name}: many failed: {done.stderr[-1000:]}")
    said = json.loads(done.stdout)
    return {
        "records/s": said["per_second"],
        "errors": said["errors"],
        "slowest producer / median": said["slowest_by_median"],
        "ack p50, ms": said["p50_ms"],
        "ack p99, ms": said["p99_ms"],
        "peak memory, MiB": server.memory_mib(),
        "CPU-s": server.cpu_seconds() - cpu,
    }


def warm_up(server, records=200_000):
    """What a server that has run for a while has behind it: a compiler that knows the code, caches that are full."""
    create(server, "before", 1)
    where = ["--bootstrap-server", server.address]
    settings = [f"bootstrap.servers={server.address}", *TUNED]
    work = ["--topic", "before", "--num-records", records, "--record-size", 1024, "--throughput", -1]
    tool("kafka-producer-perf-test", *work, "--producer-props", *settings)
    tool("kafka-consumer-perf-test", "--topic", "before", "--messages", records, *where, "--timeout", 60000)


def create(server, topic, partitions):
    where = ["--bootstrap-server", server.address, "--create", "--topic", topic]
    tool("kafka-topics", *where, "--partitions", partitions, "--replication-factor", 1)


def works(long):
    """Every work by the heading it has in the tables: (heading, which servers, what to do)."""
    records = 1_000_000 if long else 500_000
    rows = [
        ("idle", "all", idle),
        (f"{records:,} records of 1 KiB, tuned producer", "all", lambda s: bulk(s, "tuned", records)),
        (f"{records // 2:,} records of 1 KiB, default producer", "all", lambda s: bulk(s, "plain", records // 2, producer=DEFAULT)),
        ("100 records/s of 100 bytes, 1 default producer", "all", lambda s: paced(s, "slow", 100)),
        ("2,000 records/s of 100 bytes, 4 default producers", "all", lambda s: paced(s, "steady", 2000, producers=4)),
    ]
    rows.append(("1,000 producers at once, 100 partitions", "all", lambda s: many(s, "many")))
    if long:
        some = "disk"
        rows += [
            (f"{n} partitions", some, lambda s, n=n: bulk(s, f"p{n}", records, partitions=n)) for n in (10, 100, 1000)
        ]
        rows += [
            (f"records of {size:,} bytes", some, lambda s, size=size, n=n: bulk(s, f"b{size}", n, size=size))
            for size, n in ((10, 2_000_000), (100, 2_000_000), (10_000, 50_000), (100_000, 5_000))
        ]
        rows += [(codec, some, lambda s, c=codec: bulk(s, c, records // 2, codec=c)) for codec in ("gzip", "snappy", "lz4", "zstd")]
    return rows
