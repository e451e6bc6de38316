#!/usr/bin/env bash
# Fetches the jars and compiles the programs for both kafka-clients versions into target/. Does nothing when nothing changed.
# usage: build.sh [-q]     -q: nothing on standard output; on failure Maven's output goes to standard error either way
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { [ "$quiet" = 1 ] || echo "$*"; }
quiet=0
case "${1:-}" in
  '') ;;
  -q) quiet=1 ;;
  *) echo "usage: build.sh [-q]" >&2; exit 2 ;;
esac

stamp=target/built
now=$(cat pom.xml java4/pom.xml java3/pom.xml tools/pom.xml $(find src -type f | LC_ALL=C sort) | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then
  say "java clients: up to date"
  exit 0
fi
for tool in java javac mvn; do
  command -v "$tool" >/dev/null || { echo "java clients: '$tool' is not installed (a JDK 17 or newer and Maven are needed)" >&2; exit 1; }
done

mkdir -p target
# One build at a time: two callers may both find the stamp missing.
exec 9>target/.lock
if command -v flock >/dev/null; then flock 9; fi
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then exit 0; fi
rm -rf target/java4 target/java3 target/tools "$stamp"
log=target/build.log
say "java clients: building (the first time fetches about 80 MB)"
for attempt in 1 2 3; do
  if mvn -B -ntp process-classes >"$log" 2>&1; then
    echo "$now" >"$stamp"
    say "java clients: built"
    exit 0
  fi
  # Only a failed download is worth a second attempt.
  grep -q 'Could not transfer' "$log" || break
  say "java clients: a download failed (attempt $attempt)"
done
grep -E '^\[(ERROR|WARNING)\]' "$log" >&2 || tail -n 40 "$log" >&2
exit 1
