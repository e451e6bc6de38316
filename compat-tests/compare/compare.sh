#!/usr/bin/env bash
# StreamHouse beside Apache Kafka and Nisshi, on this machine, in one run. Arguments: see compare.py --help; --quick takes 20 minutes.
# STREAMHOUSE_BIN, S3_SERVER_BIN and NULL_SERVER_BIN (release builds) are taken as they are; what is not named is built first.
# COMPARE_NISSHI=yes builds Nisshi from crates.io first (a nightly compiler, several minutes); NISSHI_BIN names one that is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
if [ -z "${STREAMHOUSE_BIN:-}" ]; then
  cargo build --release -p gateway --bin streamhouse
  export STREAMHOUSE_BIN=$target/release/streamhouse
fi
if [ -z "${S3_SERVER_BIN:-}" ]; then
  cargo build --release -p compat-tests --bin s3-server
  export S3_SERVER_BIN=$target/release/s3-server
fi
if [ -z "${NULL_SERVER_BIN:-}" ]; then
  cargo build --release -p compat-tests --bin null-server
  export NULL_SERVER_BIN=$target/release/null-server
fi
bash compat-tests/clients/java/build.sh -q >&2
sh compat-tests/clients/python/build.sh >&2
sh compat-tests/clients/go/build.sh >&2
if [ "${COMPARE_NISSHI:-}" = yes ] && [ -z "${NISSHI_BIN:-}" ]; then
  cargo +nightly install nisshi --version 0.8.1 --locked --no-default-features --features dynostore --root "$target/nisshi"
  export NISSHI_BIN=$target/nisshi/bin/nisshi
fi
exec compat-tests/clients/python/.venv/bin/python -B compat-tests/compare/compare.py "$@"
