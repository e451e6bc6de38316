"""StreamHouse beside other servers: the same clients, the same work, in turn, on this machine.

Usage: compare.sh [--quick] [--rounds N] [--minutes M] [--rows WORD] [--servers WORD] [--keep FILE] [--write]
Each round runs every row on every server, row by row (A B C, A B C), each on an empty folder or bucket. What fails, and what
takes longer than a row may, is recorded as failed, and the next goes on; the status is 1 if that was StreamHouse.
--keep adds what is measured to FILE after every row, so rounds can be run at several times; --rounds 0 only shows what it has.
Prints the tables; --write puts them into docs/benchmarks.md and the plots beside it.
"""

import argparse
import contextlib
import datetime
import json
import os
import signal
import sys
import time
from pathlib import Path

import report
from clients import HERE, Failed
from servers import Kafka, Nisshi, Null, StreamHouse, machine
from work import rows

DOCS = HERE.parent.parent / "docs"
BEGIN, END = "<!-- compare: begin -->", "<!-- compare: end -->"
ROW_SECONDS_MAX = {"quick": 90, "full": 420}
QUICK_MINUTES = 20
STEP_SECONDS = 20


def servers(quick, only):
    """How to start each, and its kind: what its acks stand on."""
    known = [
        ("disk", Kafka),
        ("flush", lambda: Kafka(flush_each=True)),
        ("disk", StreamHouse),
        ("bucket", lambda: StreamHouse("no")),
        ("null", Null),
    ]
    if not quick:
        known += [
            ("bucket", lambda: StreamHouse("Standard")),
            ("bucket", lambda: StreamHouse("Express", "--profile", "realtime")),
        ]
        if os.environ.get("NISSHI_BIN"):
            known += [("memory", Nisshi), ("bucket", lambda: Nisshi("no")), ("bucket", lambda: Nisshi("Express"))]
    return [(kind, start) for kind, start in known if only.lower() in start().name.lower()]


@contextlib.contextmanager
def at_most(seconds):
    """Raises in what takes longer. Rings once, so that cleaning up after it is not disturbed."""

    def ring(*_):
        raise Failed(f"not done after {seconds:.0f} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def measure(server, row, seconds):
    """One row on one server: what was measured, or why it failed."""
    try:
        with at_most(seconds):
            server.start()
            return {"measured": row.work(server)}
    except Exception as failed:  # whatever it is, the next row is not to suffer from it
        why = server.why_ended() or f"{type(failed).__name__}: {failed}"
    finally:
        server.stop()
    return {"failed": " ".join(why.split())[:600]}


class Results:
    """What was measured so far, in the order in which it was."""

    def __init__(self, keep):
        self.keep = Path(keep) if keep else None
        self.all = json.loads(self.keep.read_text()) if self.keep and self.keep.exists() else []

    def next_round(self):
        return max((one["round"] for one in self.all), default=0) + 1

    def add(self, one):
        self.all.append(one)
        if self.keep:
            self.keep.parent.mkdir(parents=True, exist_ok=True)
            self.keep.write_text(json.dumps(self.all, indent=1))


def run(arguments, results):
    """All rows on all servers, round by round, until the time is over. Answers what was left out."""
    limit = arguments.row_seconds or ROW_SECONDS_MAX["quick" if arguments.quick else "full"]
    until = time.monotonic() + arguments.minutes * 60
    left_out = []
    chosen = [row for row in rows(arguments.quick, arguments.scale) if arguments.rows.lower() in row.heading.lower()]
    first = results.next_round()
    for number in range(first, first + arguments.rounds):
        for row in chosen:
            for kind, start in servers(arguments.quick, arguments.servers):
                if kind not in row.kinds:
                    continue
                server = start()
                left = until - time.monotonic()
                if left < STEP_SECONDS:
                    left_out.append(f"{row.heading}: {server.name}")
                    continue
                began = time.monotonic()
                print(f"round {number}: {row.heading}: {server.name}: ", end="", file=sys.stderr, flush=True)
                found = measure(server, row, min(limit, left))
                took = time.monotonic() - began
                print(f"{took:.0f} s {found.get('failed', '')}", file=sys.stderr, flush=True)
                at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes")
                results.add({"round": number, "row": row.heading, "server": server.name, "at": at, "took": took, **found})
    return left_out


def text(results, left_out):
    measured = results.all
    rounds = len({one["round"] for one in measured})
    told = lambda at: datetime.datetime.fromisoformat(at).strftime("%d %B %Y %H:%M")
    first, last = told(min(one["at"] for one in measured)), told(max(one["at"] for one in measured))
    times = "1 round" if rounds == 1 else f"{rounds} rounds in turn"
    lines = [f"Measured from {first} to {last} (UTC) by `make compare`, {times}, on {machine()}; servers and clients share it."]
    if rounds > 1:
        lines += ["Medians, with the lowest and highest in brackets; the ratio is the median of the rounds' ratios."]
    for heading in dict.fromkeys(one["row"] for one in measured):
        lines += ["", f"### {heading[0].upper()}{heading[1:]}", "", report.table(of(results, heading), Kafka.name)]
        lines += [f"\n![{measure}]({name})" for measure, name in report.plots(heading)]
    failures = [one for one in measured if "failed" in one]
    if failures:
        lines += ["", "### What failed", ""]
        lines += [f"- {one['row']}, {one['server']}, round {one['round']}: {one['failed']}" for one in failures]
    if left_out:
        lines += ["", "### What there was no time for", ""] + [f"- {what}" for what in left_out]
    return "\n".join(lines)


def of(results, heading):
    return [one for one in results.all if one["row"] == heading]


def write(results, said):
    page = DOCS / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2].strip()
    page.write_text(f"{before.rstrip()}\n\n{BEGIN}\n{said}\n{END}\n" + (f"\n{after}\n" if after else ""))
    (DOCS / "plots").mkdir(exist_ok=True)
    for heading in dict.fromkeys(one["row"] for one in results.all):
        for measure, name in report.plots(heading):
            (DOCS / name).write_text(report.plot(f"{heading}: {measure}", of(results, heading), measure))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of the weightiest rows on four servers, 20 minutes")
    parser.add_argument("--rounds", type=int, help="default 3; 1 with --quick")
    parser.add_argument("--minutes", type=float, help="nothing is begun after that; default 20 with --quick, else no end")
    parser.add_argument("--row-seconds", type=float, metavar="S", help="how long a row may take on one server; default 90 with --quick, else 420")
    parser.add_argument("--rows", default="", metavar="WORD", help="those whose heading holds the word")
    parser.add_argument("--servers", default="", metavar="WORD", help="those whose name holds the word")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="so much of the work; for trying it out")
    parser.add_argument("--keep", metavar="FILE", help="add what is measured to this file")
    parser.add_argument("--write", action="store_true", help="into docs/")
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 3
    if arguments.minutes is None:
        arguments.minutes = QUICK_MINUTES if arguments.quick else float("inf")
    if arguments.write and arguments.scale != 1:
        parser.error("--write is for whole works: leave --scale out")
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = Results(arguments.keep)
    left_out = run(arguments, results)
    if not results.all:
        raise SystemExit("nothing was measured: no row or no server has that word")
    said = text(results, left_out)
    print(said)
    if arguments.write:
        write(results, said)
    return int(any("failed" in one and one["server"].startswith("StreamHouse") for one in results.all))


if __name__ == "__main__":
    sys.exit(main())
