#!/usr/bin/env bash
# Runs a single Apache Kafka broker (KRaft) in the foreground on 127.0.0.1, to check the scenarios against the real thing (build.sh first).
# usage: reference-kafka.sh <port> <dir> [name=value ...]
#   port       the clients' port; port+1 is the controller's
#   dir        configuration and data; made when missing, used again when there
#   name=value further lines of server.properties
# Prints "ready" to standard output when it answers; ends on SIGTERM or SIGINT.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 2 ] || { sed -n '2,7s/^# //p' "$0" >&2; exit 2; }
port=$1
dir=$2
shift 2
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
{
  echo "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1"
  printf '%s\n' "$@"
} >"$dir/server.properties"
[ -f "$dir/data/meta.properties" ] ||
  "$here/tools.sh" kafka-storage format --cluster-id c2NlbmFyaW9zLW9mLW9uZQ --config "$dir/server.properties" >/dev/null

"$here/tools.sh" kafka-server-start "$dir/server.properties" >"$dir/server.log" 2>&1 &
broker=$!
trap 'kill "$broker" 2>/dev/null || true; wait "$broker" || true; exit 0' TERM INT
for _ in $(seq 120); do
  kill -0 "$broker" 2>/dev/null || { tail -n 20 "$dir/server.log" >&2; exit 1; }
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo ready
    wait "$broker"
    exit
  fi
  sleep 0.25
done
echo "the broker did not open port $port within 30 s; see $dir/server.log" >&2
kill "$broker"
exit 1
