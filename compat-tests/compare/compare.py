"""StreamHouse beside other servers: the same clients, the same work, in turn, on this machine.

Usage: compare.sh [--rounds N] [--long] [--only WORD] [--write]
Prints the tables; --write puts them into docs/benchmarks.md and the plots beside it. --only keeps the servers whose name holds
the word. Each round runs every server once, work by work (A B C, A B C), each on an empty folder or bucket.
"""

import argparse
import datetime
import os
import sys
from collections import defaultdict
from pathlib import Path

import report
from servers import HERE, Kafka, Nisshi, StreamHouse, machine
from work import works

DOCS = HERE.parent.parent / "docs"
BEGIN, END = "<!-- compare: begin -->", "<!-- compare: end -->"
REFERENCE = Kafka.name
PLOTTED = {
    "tuned producer": ["produced, MiB/s", "consumed, MiB/s", "CPU-s per GiB in + out", "peak memory, MiB"],
    "1 default producer": ["ack p50, ms", "ack p99, ms"],
}


def servers(only):
    """How to start each, by whether its acks stand on this machine's disk."""
    known = [("disk", Kafka), ("disk", lambda: Kafka(flush_each=True)), ("disk", StreamHouse)]
    known += [("bucket", lambda l=l: StreamHouse(l)) for l in ("no", "Standard")]
    known += [("bucket", lambda: StreamHouse("Express", "--profile", "realtime"))]
    if os.environ.get("NISSHI_BIN"):
        known += [("memory", Nisshi), ("bucket", lambda: Nisshi("no")), ("bucket", lambda: Nisshi("Express"))]
    return [(kind, start) for kind, start in known if only.lower() in start().name.lower()]


def run(arguments):
    """All works on all servers; answers heading -> server -> measure -> values of the rounds."""
    results = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for number in range(arguments.rounds):
        for heading, where, work in works(arguments.long):
            for kind, start in servers(arguments.only):
                if where not in ("all", kind):
                    continue
                with start() as server:
                    print(f"round {number + 1}: {heading}: {server.name}", file=sys.stderr, flush=True)
                    try:
                        measured = work(server)
                    except SystemExit as failed:
                        # What a peer cannot do is a result; what we cannot do is a failure.
                        if isinstance(server, StreamHouse):
                            raise
                        print(f"  {failed}", file=sys.stderr, flush=True)
                        measured = {}
                    for measure, value in measured.items():
                        results[heading][server.name][measure].append(value)
                    results[heading][server.name]  # a server that failed keeps its column
    return results


def text(results, arguments):
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%d %B %Y")
    lines = [f"Measured on {today} by `make compare`, {arguments.rounds} rounds in turn, on {machine()}; servers and clients share it."]
    lines += ["Medians, with the lowest and highest in brackets; the ratio is the median of the rounds' ratios."]
    for heading, found in results.items():
        lines += ["", f"### {heading[0].upper()}{heading[1:]}", "", report.table(found, list(found), REFERENCE)]
        for word, measures in PLOTTED.items():
            for measure in measures if word in heading else []:
                name = plot_name(heading, measure)
                lines += ["", f"![{measure}]({name})"]
    return "\n".join(lines)


def plot_name(heading, measure):
    words = "".join(c if c.isalnum() else "-" for c in f"{heading} {measure}".lower())
    return "plots/" + "-".join(filter(None, words.split("-"))) + ".svg"


def write(results, said):
    page = DOCS / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before.rstrip()}\n\n{BEGIN}\n{said}\n{END}\n{after.lstrip() and chr(10) + after.lstrip()}")
    (DOCS / "plots").mkdir(exist_ok=True)
    for heading, found in results.items():
        for word, measures in PLOTTED.items():
            for measure in measures if word in heading else []:
                values = [(name, of.get(measure, [])) for name, of in found.items()]
                (DOCS / plot_name(heading, measure)).write_text(report.plot(f"{heading}: {measure}", values))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", action="store_true", help="partitions, record sizes and codecs too")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--write", action="store_true", help="into docs/")
    arguments = parser.parse_args()
    results = run(arguments)
    said = text(results, arguments)
    print(said)
    if arguments.write:
        write(results, said)


if __name__ == "__main__":
    main()
