"""What every scenario writes and how it compares what it reads."""

import itertools
import time
from dataclasses import dataclass, field, replace

MESSAGE_TOO_LARGE = 10
OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
INVALID_TOPIC = 17
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_CONFIG = 40
NON_EMPTY_GROUP = 68
GROUP_ID_NOT_FOUND = 69
FENCED_INSTANCE_ID = 82

HOUR_MS = 3_600_000


class Differs(Exception):
    """What came is not what was expected."""


class Refused(Exception):
    """The broker answered with a Kafka error code."""

    def __init__(self, code, text=""):
        super().__init__(f"error code {code} {text}")
        self.code = code


class Without(Exception):
    """The library itself cannot do this; `word` is printed in the `ok` line."""

    def __init__(self, word):
        super().__init__(word)
        self.word = word


@dataclass
class Record:
    """A record as sent or as read. `timestamp` in milliseconds; None lets the library choose."""

    key: bytes | None = None
    value: bytes | None = None
    headers: list = field(default_factory=list)
    timestamp: int | None = None
    partition: int | None = None
    offset: int | None = None
    log_append: bool | None = None


def generate(seed, n):
    """`bytes(seed, n)` of SCENARIOS.md: xorshift32."""
    x = (seed ^ 0x9E3779B9) & 0xFFFFFFFF or 1
    out = bytearray(n)
    for i in range(n):
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        out[i] = x & 0xFF
    return bytes(out)


def text(i):
    """`text(i)` of SCENARIOS.md."""
    return (b"value-%d-" % i) * (i % 50 + 1)


def now_ms():
    return int(time.time() * 1000)


def brief(value):
    """A value short enough for an error message."""
    shown = repr(value)
    return shown if len(shown) <= 400 else f"{shown[:300]}... ({len(shown)} characters)"


def expect(what, wanted, got):
    if wanted != got:
        raise Differs(f"{what}: expected {brief(wanted)}, came {brief(got)}")


def expect_that(what, holds, got=""):
    if not holds:
        raise Differs(f"{what}: {brief(got)}")


def expect_refused(what, code, call):
    """Runs `call`, which the broker must refuse with `code`."""
    try:
        got = call()
    except Refused as refused:
        expect(f"{what}: error code", code, refused.code)
        return
    raise Differs(f"{what}: expected error code {code}, but it succeeded with {brief(got)}")


def wait_until(what, seconds, holds, show=lambda: ""):
    """Polls `holds` until it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise Differs(f"waited {seconds} s for {what}: {brief(show())}")
        time.sleep(0.05)


def compare(what, sent, got, without=(), timestamps=True):
    """Compares key, value, headers and, where it was given, the timestamp; `without` loosens as SCENARIOS.md says."""

    def loose(value):
        return (value or b"") if "null-vs-empty" in without else value

    expect(f"{what} key", loose(sent.key), loose(got.key))
    expect(f"{what} value", loose(sent.value), loose(got.value))
    if "header-order" in without or "repeated-headers" in without:
        expect(f"{what} header names", {name for name, _ in sent.headers}, {name for name, _ in got.headers})
    elif "null-headers" in without:
        expect(f"{what} headers", [(n, v or b"") for n, v in sent.headers], [(n, v or b"") for n, v in got.headers])
    else:
        expect(f"{what} headers", sent.headers, got.headers)
    if timestamps and sent.timestamp is not None and "timestamps" not in without:
        expect(f"{what} timestamp", sent.timestamp, got.timestamp)


def shaped(base):
    """The records of scenario `shapes`."""
    rows = [
        (b"k0", b"v0", []),
        (None, b"no key", []),
        (b"k2", None, []),
        (b"", b"empty key", []),
        (b"k4", b"", []),
        (None, None, []),
        (b"k6", b"v6", [("a", b"1")]),
        (b"k7", b"v7", [("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"1")]),
        (b"k8", b"v8", [("empty", b""), ("null", None), ("", b"x")]),
        (b"k9", None, [("why", b"deleted")]),
        (generate(10, 32), generate(11, 512), [("bin", generate(12, 64)), ("ключ", "значение".encode())]),
    ]
    return [Record(k, v, h, timestamp=base + n * 1000, partition=0) for n, (k, v, h) in enumerate(rows)]


def interop(i, base, profile):
    """Record `i` of the interop scenarios."""
    if profile == "plain":
        return Record(b"key-%d" % i, text(i), partition=0)
    digit = i % 10
    key = None if digit == 3 else b"" if digit == 7 else b"key-%d" % i
    value = None if digit == 5 else b"" if digit == 9 else generate(i, 1000) if digit == 0 else text(i)
    headers = [
        [],
        [("h", b"v-%d" % i)],
        [("h", b"a"), ("h", b"b"), ("other", b"")],
        [("null", None), ("bin", generate(i, 16))],
    ][i % 4]
    return Record(key, value, headers, base + i * 1000 - (5000 if digit == 4 else 0), 0)


def storable(record, without):
    """The record with what the library cannot write replaced by the nearest it can."""
    if "null-headers" in without:
        record = replace(record, headers=[(n, v if v is not None else b"") for n, v in record.headers])
    return record


def numbered(partitions, first, count):
    """Records `<p>:<s>` for s = first.., interleaved over the partitions."""
    return [
        Record(value=b"%d:%d" % (p, s), partition=p)
        for s, p in itertools.product(range(first, first + count), range(partitions))
    ]
