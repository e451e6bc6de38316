#!/bin/sh
# Builds target/debug/streamhouse-client-rust; the first time with librdkafka from its sources in the rdkafka-sys package.
set -eu
cd "$(dirname "$0")"
for tool in cargo cc make; do
  command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
if ! [ -e /usr/include/zlib.h ] && command -v apt-get >/dev/null; then
  apt-get install -y -qq --no-install-recommends zlib1g-dev >/dev/null
fi
cargo build --quiet --locked
