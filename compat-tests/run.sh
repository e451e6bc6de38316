#!/usr/bin/env bash
# What `make test` runs: everything, from unit tests to unchanged Kafka clients. Installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

# The gateway that the tests start as a process is built once, with the crash points the crash tests name.
say "building the gateway and the tests"
cargo build --workspace --bins --features gateway/failpoints
export STREAMHOUSE_BIN="$PWD/target/debug/streamhouse"
cargo test --workspace --features gateway/failpoints --no-run

say "unit, contract, crash and limit tests"
cargo test --workspace --features gateway/failpoints -- --skip folder_ --skip s3_strict --skip s3_foreign --skip interop --skip restart_

say "unchanged Kafka clients"
cargo test --workspace --features gateway/failpoints --test clients -- --test-threads=2
say "all passed"
