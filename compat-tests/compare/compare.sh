#!/usr/bin/env bash
# StreamHouse beside Apache Kafka and Nisshi, on this machine, in one run. Arguments: see compare.py --help.
# COMPARE_NISSHI=yes builds Nisshi from crates.io first (a nightly compiler, several minutes); NISSHI_BIN names one that is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release -p gateway --bin streamhouse
cargo build --release -p compat-tests --bin s3-server
bash compat-tests/clients/java/build.sh -q >&2
sh compat-tests/clients/python/build.sh >&2
sh compat-tests/clients/go/build.sh >&2
target=${CARGO_TARGET_DIR:-$PWD/target}
if [ "${COMPARE_NISSHI:-}" = yes ] && [ -z "${NISSHI_BIN:-}" ]; then
  cargo +nightly install nisshi --version 0.8.1 --locked --no-default-features --features dynostore --root "$target/nisshi"
  export NISSHI_BIN=$target/nisshi/bin/nisshi
fi
export STREAMHOUSE_BIN=${STREAMHOUSE_BIN:-$target/release/streamhouse} S3_SERVER_BIN=${S3_SERVER_BIN:-$target/release/s3-server}
exec python3 -B compat-tests/compare/compare.py "$@"
