#!/usr/bin/env bash
# usage: run.sh <java4|java3> <scenario> <bootstrap> [key=value ...]     (see ../SCENARIOS.md; build.sh first)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case "${1:-}" in
  java4 | java3) ;;
  *) echo "usage: run.sh <java4|java3> <scenario> <bootstrap> [key=value ...]" >&2; exit 2 ;;
esac
target="$here/target/$1"
[ -d "$target/classes/streamhouse" ] || { echo "not built: run build.sh first" >&2; exit 2; }
exec java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$target/classes:$target/lib/*" streamhouse.compat.Main "$@"
