#!/usr/bin/env bash
# Where the gateway's CPU goes: records a tuned producer, then a consumer, on a folder, and writes a flame graph of each to
# docs/plots (profile-produce.svg, profile-fetch.svg; frames of the runtime are left out). Says the largest costs: functions by
# their own time, and by all that happens below them.
#
# usage: profile.sh [RECORDS]     records of 1 KiB, default 2,000,000
# The build has frame pointers, so that stacks are whole, and is otherwise a release build; it lies in a folder of its own.
# STREAMHOUSE_BIN names one that is there instead; its stacks are then unwound by its tables, which takes longer.
# Needs perf (Debian: linux-perf) and the rights to use it; installs inferno, which draws.
set -euo pipefail
cd "$(dirname "$0")/.."
records=${1:-2000000}
HERTZ=499
SMALLEST_PERCENT=0.2

command -v perf >/dev/null || { echo "profile.sh: perf is missing (Debian: apt-get install linux-perf)" >&2; exit 1; }
target=${CARGO_TARGET_DIR:-$PWD/target}
PATH=$target/inferno/bin:$PATH
if ! command -v inferno-flamegraph >/dev/null; then
  cargo install inferno --version 0.12.3 --locked --no-default-features --features cli --root "$target/inferno"
fi
stacks=dwarf,16384
if [ -z "${STREAMHOUSE_BIN:-}" ]; then
  RUSTFLAGS="-C force-frame-pointers=yes" cargo build --release -p gateway --bin streamhouse --target-dir "$target/profile"
  STREAMHOUSE_BIN=$target/profile/release/streamhouse stacks=fp
fi
bash compat-tests/clients/java/build.sh -q >&2

work=$(mktemp -d)
gateway=
# shellcheck disable=SC2329 # called by the trap
clean() {
  [ -z "$gateway" ] || { kill "$gateway" && wait "$gateway"; } 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
port=$((20000 + RANDOM % 10000))
address=127.0.0.1:$port
env -u STREAMHOUSE_BIN "$STREAMHOUSE_BIN" --listen "$address" --admin 127.0.0.1:0 --log warn --data "$work/data" &
gateway=$!
for _ in $(seq 100); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  sleep 0.1
done

tool() { bash compat-tests/clients/java/tools.sh "$@"; }
produce() { # topic, records
  tool kafka-producer-perf-test --topic "$1" --num-records "$2" --record-size 1024 --throughput -1 \
    --producer-props acks=all batch.size=1000000 linger.ms=20 buffer.memory=134217728 "bootstrap.servers=$address"
}
consume() { # topic, records
  tool kafka-consumer-perf-test --bootstrap-server "$address" --topic "$1" --messages "$2" --timeout 60000 --fetch-size 10485760
}

# record NAME COMMAND...: the gateway while the command runs, as a flame graph and as folded stacks.
record() {
  local name=$1
  shift
  perf record -q -e cpu-clock -F "$HERTZ" --call-graph "$stacks" -p "$gateway" -o "$work/$name.perf" &
  local recorder=$!
  sleep 1
  "$@" | tail -n 1 >&2
  kill -INT "$recorder"
  wait "$recorder" || true
  perf script --no-inline -i "$work/$name.perf" 2>/dev/null | inferno-collapse-perf 2>/dev/null | python3 "$work/costs.py" "$name" >"$work/$name.folded"
  inferno-flamegraph --title "gateway, $name, folder" --minwidth "$SMALLEST_PERCENT" --hash \
    <"$work/$name.folded" >"docs/plots/profile-$name.svg"
}

cat >"$work/costs.py" <<'END'
"""Folded stacks without the frames that are in all of them; says on standard error what costs most."""
import re
import sys
from collections import Counter

RUNTIME = re.compile(r"^<*(&mut |alloc::|core::|std::|tokio::|tokio_util::|futures_util::|__rust|__rustc|clone3|start_thread|__clone)")
OURS = re.compile(r"\b(storage|gateway|metadata)::|^sqlite3|^__x64_sys_|^do_writev|^exc_page_fault|^asm_exc_page_fault")
MOST = 25
own, below, total, kept = Counter(), Counter(), 0, Counter()
for line in sys.stdin:
    stack, count = line.rsplit(" ", 1)
    count = int(count)
    # The hash behind a function's name changes with every build, and splits one function into several.
    frames = [re.sub(r"::h[0-9a-f]{16}|::\{\{closure\}\}", "", frame) for frame in stack.split(";")[1:]]
    total += count
    own[frames[-1] if frames else "?"] += count
    for frame in set(frames):
        if OURS.search(frame):
            below[frame] += count
    frames = [frame for frame in frames if OURS.search(frame) or not RUNTIME.match(frame)]
    kept[";".join(frame[:120] for frame in frames) or "runtime"] += count
for title, counts in (("by their own time", own), ("of ours and system calls, with all below them", below)):
    print(f"\n{sys.argv[1]}, functions {title}, % of {total / 1e9:.2f} CPU-s", file=sys.stderr)
    for function, count in counts.most_common(MOST):
        print(f"{count / total * 100:6.1f}  {function[:150]}", file=sys.stderr)
for stack, count in kept.items():
    print(stack, count)
END

mkdir -p docs/plots
tool kafka-topics --bootstrap-server "$address" --create --topic warm >&2
tool kafka-topics --bootstrap-server "$address" --create --topic profiled >&2
produce warm 200000 | tail -n 1 >&2
consume warm 200000 | tail -n 1 >&2
record produce produce profiled "$records"
record fetch consume profiled "$records"
ls -l docs/plots/profile-*.svg
