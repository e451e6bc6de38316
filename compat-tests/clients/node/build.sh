#!/bin/sh
# Makes node_modules with the pinned libraries. Quick when nothing changed.
# confluent-kafka-javascript is compiled here, with the librdkafka in its package: a minute of processor time, the first time.
set -eu
cd "$(dirname "$0")"
for tool in node npm python3 c++ make; do
  command -v "$tool" >/dev/null || { echo "$tool is missing (node 20 or later; the others compile librdkafka)" >&2; exit 1; }
done
stamp=node_modules/.package-lock.built
cmp -s package-lock.json "$stamp" && exit 0

has() { printf '#include <%s>\n' "$1" | cc -E - >/dev/null 2>&1; }
missing=
has zlib.h || missing="$missing zlib1g-dev"
has zstd.h || missing="$missing libzstd-dev"
has openssl/ssl.h || missing="$missing libssl-dev"
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || { echo "install the development files of$missing" >&2; exit 1; }
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

npm ci --ignore-scripts --no-audit --no-fund --silent
# `dynamic` takes OpenSSL, zlib and zstd from the system instead of downloading their sources. Node's own headers, where they
# are installed, save another download.
prefix=$(dirname "$(dirname "$(command -v node)")")
[ -e "$prefix/include/node/node.h" ] && export npm_config_nodedir="$prefix"
log=node_modules/.build.log
(
  cd node_modules/@confluentinc/kafka-javascript
  CKJS_LINKING=dynamic ../../.bin/node-pre-gyp rebuild --build-from-source
) >"$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
cp package-lock.json "$stamp"
