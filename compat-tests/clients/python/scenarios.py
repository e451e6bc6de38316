"""Scenarios 1 to 6, 9 and 10 of SCENARIOS.md, written against the adapters."""

import time

from groups import Member
from records import *

WAIT = 90  # seconds for anything that should come at once: the machine may be slow, with other programs on it
RESETS = 9  # records written until a reader that was reset to the end sees one


def read(reader, count, seconds=WAIT):
    """Exactly `count` records or a failure; more than that is kept by no one, so callers ask for all."""
    got, end = [], time.monotonic() + seconds
    while len(got) < count:
        expect_that(f"{count} records within {seconds} s", time.monotonic() < end, f"only {len(got)} came")
        got += reader.poll(0.2)
    return got


def read_from(run, topic, count, partitions=(0,)):
    """The whole topic from offset 0, and no record more than `count`."""
    with run.library.reader(run) as reader:
        reader.assign(topic, {p: 0 for p in partitions})
        got = read(reader, count)
    expect(f"records in {topic}", count, len(got))
    return got


def expect_dense(got, acks=None):
    """Offsets 0, 1, 2, ... in the order they came."""
    expect("offsets", list(range(len(got))), [r.offset for r in got])
    if acks is not None:
        expect("acknowledged offsets", [(r.partition, r.offset) for r in got], acks)


def defaults(run):
    variants = [("", {})]
    if run.library.idempotence == "off by default":
        variants.append(("idempotent", {"idempotent": True}))
    for part, options in variants:
        _defaults(run, run.topic(part), options)
    return f"records=1000 producers={len(variants)}"


def _defaults(run, topic, options):
    sent = [Record(b"key-%d" % (i % 50), generate(i, 100)) for i in range(1000)]
    with run.library.producer(run, **options) as producer:
        acks = producer.send_all(topic, sent)
    member = Member(run, [topic], f"{topic}-group", auto_commit=True)
    try:
        wait_until("1000 records", WAIT, lambda: len(member.records) >= 1000, lambda: member.state())
        time.sleep(1)
        got = list(member.records)
    finally:
        member.close()
    expect("number of records", 1000, len(got))
    at = {(r.partition, r.offset): r for r in got}
    expect("number of distinct offsets", 1000, len(at))
    partition_of_key, last, offsets = {}, {}, {}
    for i, (record, ack) in enumerate(zip(sent, acks)):
        expect_that(f"record {i} as acknowledged", ack in at, ack)
        compare(f"record {i}", record, at[ack])
        expect(f"partition of {record.key}", partition_of_key.setdefault(record.key, ack[0]), ack[0])
        expect_that(f"order of {record.key}", last.get(record.key, -1) < ack[1], ack)
        last[record.key] = ack[1]
    for record in got:
        expect(f"offset in partition {record.partition}", offsets.get(record.partition, 0), record.offset)
        offsets[record.partition] = record.offset + 1


def codecs(run):
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        if codec not in run.library.codecs:
            run.without.add(f"codec-{codec}")
            continue
        topic = run.create(codec, 1)
        sent = [Record(value=generate(i, 300) if i % 2 else text(i)) for i in range(200)]
        with run.library.producer(run, codec=codec) as producer:
            acks = producer.send_all(topic, sent)
        got = read_from(run, topic, 200)
        expect_dense(got, acks)
        for i, (record, back) in enumerate(zip(sent, got)):
            compare(f"{codec} record {i}", record, back)
    return "codecs=" + ",".join(run.library.codecs)


def shapes(run):
    lib = run.library
    topic = run.create("create", 1)
    base = now_ms() - HOUR_MS
    run.without |= {"null-headers", "null-record"} & lib.cannot
    sent = [storable(r, lib.cannot) for r in shaped(base)]
    if "null-record" in lib.cannot:
        sent = [r for r in sent if (r.key, r.value) != (None, None)]
    with lib.producer(run) as producer:
        acks = producer.send_all(topic, sent)
    got = read_from(run, topic, len(sent))
    expect_dense(got, acks)
    for n, (record, back) in enumerate(zip(sent, got)):
        compare(f"record {n}", record, back)
        expect(f"record {n} has LogAppendTime", False, back.log_append)

    topic = run.create("append", 1, {"message.timestamp.type": "LogAppendTime"})
    begin = now_ms()
    with lib.producer(run) as producer:
        producer.send_all(topic, [Record(value=b"%d" % n, timestamp=base + n * 1000, partition=0) for n in range(10)])
    end = now_ms()
    got = read_from(run, topic, 10)
    expect("order", [b"%d" % n for n in range(10)], [r.value for r in got])
    stamps = [r.timestamp for r in got]
    expect("timestamps ascend", sorted(stamps), stamps)
    expect_that("timestamps within 60 s", begin - 60_000 <= stamps[0] and stamps[-1] <= end + 60_000, stamps)
    expect("timestamp types are LogAppendTime", [True] * 10, [r.log_append for r in got])
    return f"records={len(sent)}"


def sizes(run):
    topic = run.create("", 1)
    values = [generate(n, n) for n in (1, 1024, 102_400, 1_000_000)]
    options = {"max_bytes": 4 * 1024 * 1024}
    if "idempotence-after-refusal" in run.library.cannot:
        run.without.add("idempotence")
        options["idempotent"] = False
    with run.library.producer(run, **options) as producer:
        acks = [producer.send(topic, Record(value=v, partition=0)) for v in values]
        too_large = Record(value=generate(9, 1_100_000), partition=0)
        expect_refused("1,100,000 bytes", MESSAGE_TOO_LARGE, lambda: producer.send(topic, too_large))
        values.append(generate(5, 5))
        acks.append(producer.send(topic, Record(value=values[-1], partition=0)))
    got = read_from(run, topic, 5)
    expect_dense(got, acks)
    expect("values", values, [r.value for r in got])
    return "largest=1000000"


def partitions(run):
    for count in (1, 10, 100):
        topic = run.create(str(count), count)
        with run.library.admin(run) as admin:
            expect("partitions", list(range(count)), sorted(p for p, *_ in admin.describe(topic)[0]))
        sent = [replace(r, key=b"%d" % r.partition) for r in numbered(count, 0, 20)]
        with run.library.producer(run) as producer:
            acks = producer.send_all(topic, sent)
        expect("acknowledged", [(r.partition, int(r.value.split(b":")[1])) for r in sent], acks)
        got = read_from(run, topic, 20 * count, range(count))
        for p in range(count):
            mine = [r for r in got if r.partition == p]
            expect_dense(mine)
            expect(f"values of {p}", [b"%d:%d" % (p, s) for s in range(20)], [r.value for r in mine])
            expect(f"keys of {p}", {b"%d" % p}, {r.key for r in mine})
    return "partitions=1,10,100"


def manual(run):
    lib = run.library
    topic = run.create("", 1)
    base = now_ms() - HOUR_MS
    with lib.producer(run) as producer:
        producer.send_all(topic, [Record(value=b"manual-%d" % i, timestamp=base + i * 1000, partition=0) for i in range(100)])
    with lib.reader(run) as reader:
        reader.assign(topic, {0: 0})
        expect("beginning and end", (0, 100), reader.bounds(topic, 0))
        for start in (0, 57, 99):
            reader.seek(topic, 0, start)
            got = read(reader, 100 - start)
            expect(f"from {start}", [(i, b"manual-%d" % i) for i in range(start, 100)], [(r.offset, r.value) for r in got])
        for ts, offset in ((base, 0), (base + 40_000, 40), (base + 40_001, 41), (0, 0), (base + 1_000_000, None)):
            expect(f"offset for base + {ts - base}", offset, reader.offset_for_time(topic, 0, ts))
        with lib.admin(run) as admin:
            if hasattr(admin, "max_timestamp"):
                expect("offset of the greatest timestamp", 99, admin.max_timestamp(topic, 0))
        reader.seek(topic, 0, 41)
        expect("at 41", b"manual-41", read(reader, 1)[0].value)
    with lib.reader(run, reset="earliest") as reader:
        reader.assign(topic, {0: 1000})
        expect("reset to earliest", 0, read(reader, 1)[0].offset)
    with lib.reader(run, reset="latest") as reader:
        reader.assign(topic, {0: 1000})
        quiet = time.monotonic() + 1
        while time.monotonic() < quiet:
            expect("records after a reset to latest", [], reader.poll(0.1))
        # On a busy machine the end may be found only after a record was written: then the next one is read.
        got, end = [], 100
        with lib.producer(run) as producer:
            while not got and end < 100 + RESETS:
                expect("ack", (0, end), producer.send(topic, Record(value=b"manual-%d" % end, partition=0)))
                end, until = end + 1, time.monotonic() + 10
                while not got and time.monotonic() < until:
                    got = reader.poll(0.1)
        expect_that("reset to latest", [(r.offset, r.value) for r in got] == [(end - 1, b"manual-%d" % (end - 1))], got)
    with lib.reader(run, reset="none") as reader:
        reader.assign(topic, {0: 1000})
        expect_refused("reset none", OFFSET_OUT_OF_RANGE, lambda: read(reader, 1, 60))
    return "records=101"


def interop_write(run, topic, count="300", codec="none", profile="full"):
    lib, base = run.library, now_ms() - HOUR_MS
    if codec not in lib.codecs:
        raise Without(f"codec-{codec}")
    if profile == "full":
        run.without |= {"null-headers"} & lib.cannot
    sent = [storable(interop(i, base, profile), lib.cannot) for i in range(int(count))]
    with lib.producer(run, codec=codec) as producer:
        acks = producer.send_all(topic, sent)
    expect("acknowledged", [(0, i) for i in range(int(count))], acks)
    return f"topic={topic} count={count} codec={codec} profile={profile}"


def interop_read(run, topic, count="300", codec="none", profile="full", without=""):
    loose, count = set(filter(None, without.split(","))), int(count)
    got = read_from(run, topic, count)
    expect_dense(got)
    with run.library.reader(run) as reader:
        reader.assign(topic, {0: 0})
        expect("bounds", (0, count), reader.bounds(topic, 0))
    if profile == "plain":
        loose.add("timestamps")
    base = got[0].timestamp
    for i, back in enumerate(got):
        compare(f"record {i}", interop(i, base, profile), back, loose)
        if i == 0 or "timestamps" in loose:
            expect_that("timestamp within 24 hours", abs(now_ms() - back.timestamp) < 24 * HOUR_MS, back.timestamp)
    return f"topic={topic} count={count} codec={codec} profile={profile}"


def restart(run, topic, count="500", pace="20"):
    sent = [Record(b"key-%d" % i, text(i), partition=0) for i in range(int(count))]
    acks = []
    with run.library.producer(run, idempotent=True, patient=True) as producer:
        for record in sent:
            acks.append(producer.send(topic, record))
            if len(acks) == 1:
                print("started", flush=True)
            time.sleep(int(pace) / 1000)
    got = read_from(run, topic, len(sent))
    expect_dense(got, acks)
    for i, (record, back) in enumerate(zip(sent, got)):
        compare(f"record {i}", record, back)
    return f"topic={topic} count={count} duplicates=0"
