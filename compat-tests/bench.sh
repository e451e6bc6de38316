#!/usr/bin/env bash
# Prints the numbers that docs/benchmarks.md quotes. Release build; the gateway is a process of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release -p gateway --bin streamhouse
cargo build --release -p compat-tests --bin bench --bin s3-server
bash compat-tests/clients/java/build.sh -q >&2
STREAMHOUSE_BIN="$PWD/target/release/streamhouse" exec target/release/bench "$@"
