#!/usr/bin/env bash
# Everything `make test` runs: builds the client programs (installing their libraries), the tests of the workspace, and then real
# clients against real gateways. Prints how far it is; the last line is `N passed, N failed`; the status is not 0 on any failure.
#
# usage: run.sh [filter]     a filter names tests of real clients, such as `franz` or `on_a_bucket`; only those are then run
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CLIENTS_AT_ONCE=2
filter=${1:-}
case $filter in -*) echo "usage: run.sh [filter]" >&2; exit 2 ;; esac

began=$SECONDS
say() { printf '== %3d:%02d  %s\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) "$*"; }
die() { echo "run.sh: $*" >&2; exit 1; }
# A download may fail.
thrice() { "$@" || { sleep 5; "$@"; } || { sleep 15; "$@"; }; }

# tool, Debian packages, what for
needed='cargo - the workspace
cc gcc the workspace
java openjdk-17-jdk-headless the Java clients
javac openjdk-17-jdk-headless the Java clients
mvn maven the Java clients
python3 python3 the Python clients
node nodejs the Node clients
npm npm the Node clients
c++ g++ the Node clients
make make librdkafka
go - the Go clients and the foreign S3 server
perl perl kcat
pg_ctlcluster postgresql the journal in PostgreSQL
pgbouncer pgbouncer the journal behind a pooler
openssl openssl the journal behind TLS
kcat kcat itself
nc netcat-openbsd health checks of compose files
unshare util-linux names of compose files
chromium-headless-shell chromium-headless-shell,fonts-dejavu-core the console in a browser
podman podman,containernetworking-plugins the image in real containers
runc runc the image in real containers
iptables iptables the image in real containers
debootstrap debootstrap the base of the image'

missing() {
  while read -r tool package what; do
    command -v "$tool" >/dev/null || printf '%s %s %s\n' "$tool" "$package" "$what"
  done <<<"$needed"
}

install_tools() {
  local packages
  packages=$(missing | awk '$2 != "-" { print $2 }' | tr , '\n' | sort -u)
  if [ -n "$packages" ] && command -v apt-get >/dev/null; then
    say "installing $(echo $packages)"
    # shellcheck disable=SC2086 # one word for each package
    { thrice apt-get update -qq && DEBIAN_FRONTEND=noninteractive thrice apt-get install -y -qq --no-install-recommends $packages; } >/dev/null ||
      echo "run.sh: apt-get could not install them" >&2
  fi
  [ -z "$(missing)" ] || die "missing: $(missing | awk '{ tool = $1; $1 = $2 = ""; printf "%s (for%s); ", tool, $0 }')"
}

# run <name> <command...>: its output goes to the screen and into the count of tests.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed_to_run=0
run() {
  say "$1"
  shift
  "$@" 2>&1 | tee -a "$log"
  local status=${PIPESTATUS[0]}
  [ "$status" = 0 ] || failed_to_run=1
}

install_tools
for script in compat-tests/clients/*/build.sh; do
  program=$(basename "$(dirname "$script")")
  say "clients: $program"
  thrice "$script" || die "the $program clients cannot be built"
done

say "browser"
thrice compat-tests/browser/build.sh || die "what drives the browser cannot be built"

# The gateway that the tests start as a process is built once, with the crash points the crash tests name.
say "building the gateway and the tests"
cargo build --workspace --bins --features gateway/failpoints || die "the workspace does not build"
STREAMHOUSE_BIN="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/debug/streamhouse"
export STREAMHOUSE_BIN
cargo test --workspace --features gateway/failpoints --no-run || die "the tests do not build"

if [ -z "$filter" ]; then
  run "tests of the workspace" cargo test --workspace --features gateway/failpoints --no-fail-fast -- --skip real_clients::
fi
run "real clients" cargo test --workspace --features gateway/failpoints --test clients --test cluster_routing --test console --test dropin --test commands --test compare --test upkeep -- \
  --test-threads "$CLIENTS_AT_ONCE" "${filter:-real_clients::}"

if [ -z "$filter" ]; then
  run "containers" docker/test.sh "$STREAMHOUSE_BIN"
fi

say "done"
read -r passed failed < <(awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$log")
[ "$passed" -gt 0 ] || failed_to_run=1
[ "$failed_to_run" = 0 ] || [ "$failed" -gt 0 ] || echo "run.sh: something did not build or ended before its tests did: see above" >&2
echo "$passed passed, $failed failed"
exit "$failed_to_run"
