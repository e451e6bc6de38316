#!/usr/bin/env bash
# A real container of the image: built, started read-only, asked for its health, used from the host and from a second container,
# stopped with SIGTERM, started again with its data. Needs root, podman, runc, debootstrap, kcat (all in Debian) and the program.
#
# Then the environments of other images, each as its compose files have it.
#
# usage: test.sh <streamhouse program>     Kafka's commands (kafka-tools) are taken from the same folder.
#        STREAMHOUSE_IMAGE=<name> test.sh  an image that is there, as `podman build --format docker -f docker/Dockerfile` made it
#
# Prints what the table of README.md says of the image: its size, its memory, its first record, a list of topics.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${1:-}
[ -n "$program${STREAMHOUSE_IMAGE:-}" ] || { echo "usage: test.sh <streamhouse program>, or STREAMHOUSE_IMAGE=<name> test.sh" >&2; exit 2; }
work=${WORK:-$(mktemp -d)} kept=${WORK:-}
name=streamhouse-test-$$ volume=streamhouse-test-$$ network=streamhouse-test-$$

# What is promised: megabytes of the image, milliseconds from its start to the first record written and read, and of a list of topics.
MOST_MB=60 MOST_MS=3000 MOST_LIST_MS=50
# A debug build is twice the size of the release that the promise is of.
[[ $program != */debug/* ]] || MOST_MB=100
# Milliseconds that a container which does nothing takes on a quiet machine of two cores, most of them podman's. Where it takes longer
# the machine is busy, and the first record may take longer in proportion.
QUIET_MS=600
# A promise of time counts as held when it is held once in so many tries.
TRIES=5

# No more than this machine's own: podman asks for more than it may have.
limits=(--ulimit "nofile=$(ulimit -Hn):$(ulimit -Hn)" --ulimit nproc=4096:4096)
# Without systemd podman has no timers for health checks, and says so each time; here they are run by hand.
pod() { podman --runtime runc "$@" 2> >(grep -v 'unable to get systemd connection' >&2); }
. "$here/local-image.sh"
# says <pattern> <command...>: the command succeeds, and a line of what it writes is so. Not by a pipe: its reader ends at that line,
# and the command with it if it still writes.
says() {
  local wanted=$1 said
  shift
  said=$("$@") && grep -q -- "$wanted" <<<"$said"
}
fail() { echo "test.sh: $*" >&2; pod logs "$name" >&2 || true; exit 1; }
cleanup() {
  pod rm -f -v "$name" "$name-2" >/dev/null 2>&1 || true
  pod volume rm -f "$volume" >/dev/null 2>&1 || true
  pod network rm -f "$network" >/dev/null 2>&1 || true
  [ -n "$kept" ] || rm -rf "$work"
}
trap cleanup EXIT

needs podman runc kcat
pod info >/dev/null || fail "podman does not work on this machine; it needs root"
base_image
own_image
megabytes=$(($(pod image inspect --format '{{.Size}}' $image) / 1000000))
echo "size: $megabytes MB"
[ "$megabytes" -lt $MOST_MB ] || fail "the image has $megabytes MB"
[ "$(pod image inspect --format '{{.User}} {{.Config.StopSignal}}' $image)" = "1000:0 SIGTERM" ] || fail "user or stop signal"

run() {
  pod run -d --name "$name" --network "$network" --network-alias kafka -p 127.0.0.1:19092:19092 --read-only \
    "${limits[@]}" -v "$volume:/var/lib/kafka/data" \
    -e KAFKA_NODE_ID=1 -e KAFKA_PROCESS_ROLES=broker,controller \
    -e KAFKA_LISTENERS='INSIDE://:29092,CONTROLLER://:29093,OUTSIDE://:19092' \
    -e KAFKA_ADVERTISED_LISTENERS='INSIDE://kafka:29092,OUTSIDE://localhost:19092' \
    -e KAFKA_LISTENER_SECURITY_PROTOCOL_MAP='CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT' \
    -e KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER -e KAFKA_CONTROLLER_QUORUM_VOTERS=1@kafka:29093 \
    -e KAFKA_INTER_BROKER_LISTENER_NAME=INSIDE -e KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 $image >/dev/null
}

healthy() {
  local until=$((SECONDS + 120))
  while [ $SECONDS -lt $until ]; do
    if pod healthcheck run "$name" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  fail "not healthy"
}

step "start, and from the host by port"
pod network create "$network" >/dev/null
for try in $(seq $TRIES); do
  pod rm -f -v "$name" >/dev/null 2>&1 || true
  pod volume rm -f "$volume" >/dev/null 2>&1 || true
  pod volume create "$volume" >/dev/null
  began=$(milliseconds)
  pod run --rm --network "$network" --read-only "${limits[@]}" --entrypoint true $image
  idle=$(($(milliseconds) - began)) began=$(milliseconds)
  run
  healthy
  well=$(($(milliseconds) - began))
  echo hello | kcat -b localhost:19092 -P -t greetings
  [ "$(kcat -b localhost:19092 -C -t greetings -o beginning -e -q)" = hello ] || fail "what the host reads"
  took=$(($(milliseconds) - began)) most=$((MOST_MS * (idle > QUIET_MS ? idle : QUIET_MS) / QUIET_MS))
  echo "healthy after $well ms, first record after $took ms; a container that does nothing takes $idle ms"
  [ "$took" -ge "$most" ] || break
  [ "$try" -lt $TRIES ] || fail "the first record took $took ms, $TRIES times too long"
done
says 'broker 1 at localhost:19092' kcat -b localhost:19092 -L || fail "what clients outside are told"
process=$(pod inspect --format '{{.State.Pid}}' "$name")
echo "memory: $(awk '/^VmRSS:/ { print int($2 / 1024) }' "/proc/$process/status") MiB"

step "inside: the name, the shell, who it runs as, where the data lies"
pod exec "$name" sh -c 'nc -z localhost 29092 && [ "$(id -u)" = 1000 ] && [ -n "$(ls /var/lib/kafka/data)" ]' || fail "inside"
pod exec "$name" bash -c 'touch /etc/x 2>/dev/null' && fail "the root can be written"

step "Kafka's commands, where the other images have them"
# By the listener for the outside: not every podman resolves the name of the inside one.
inside() { pod exec -i "$name" "$@" --bootstrap-server localhost:19092; }
for command in kafka-topics kafka-topics.sh /opt/kafka/bin/kafka-topics.sh /opt/bitnami/kafka/bin/kafka-topics.sh /usr/bin/kafka-topics; do
  says '^greetings$' inside $command --list || fail "$command --list"
done
says '^Created topic init\.$' inside kafka-topics.sh --create --if-not-exists --topic init --partitions 3 --replication-factor 1 || fail "init"
echo said | inside kafka-console-producer.sh --topic init || fail "kafka-console-producer.sh"
[ "$(inside kafka-console-consumer --topic init --from-beginning --max-messages 1)" = said ] || fail "kafka-console-consumer"
says localhost:19092 inside kafka-broker-api-versions.sh || fail "kafka-broker-api-versions.sh"
pod exec "$name" cub kafka-ready -b localhost:19092 1 60 || fail "cub"
for try in $(seq $TRIES); do
  # Tenths of milliseconds, as a script in the container sees them.
  took=$(pod exec "$name" bash -c 'for _ in {1..20}; do
    began=${EPOCHREALTIME/./}; kafka-topics.sh --bootstrap-server localhost:19092 --list >/dev/null
    echo $(((${EPOCHREALTIME/./} - began) / 100)); done' | sort -n | sed -n '1p;10p' | paste -sd' ')
  read -r fastest median <<<"$took"
  echo "kafka-topics.sh --list: $((fastest / 10)).$((fastest % 10)) ms the fastest of 20, median $((median / 10)).$((median % 10)) ms"
  [ "$fastest" -ge $((MOST_LIST_MS * 10)) ] || break
  [ "$try" -lt $TRIES ] || fail "no list of topics took less than $MOST_LIST_MS ms"
done

step "from a second container by name"
# Not every podman has its plugin for names.
address=$(pod inspect --format "{{(index .NetworkSettings.Networks \"$network\").IPAddress}}" "$name")
second() { pod run --rm -i "${limits[@]}" --network "$network" --add-host "kafka:$address" $base kcat -b kafka:29092 "$@"; }
says 'broker 1 at kafka:29092' second -L || fail "what clients inside are told"
[ "$(second -C -t greetings -o beginning -e -q)" = hello ] || fail "what the second container reads"

step "an init container of the same image makes a topic"
for _ in once again; do # as each `up` does
  pod run --rm "${limits[@]}" --network "$network" --add-host "kafka:$address" --entrypoint kafka-topics.sh $image \
    --bootstrap-server kafka:29092 --create --if-not-exists --topic by-init --partitions 2 --replication-factor 1 >/dev/null || fail "init container"
done
says 'with 2 partitions' kcat -b localhost:19092 -L -t by-init || fail "the topic of the init container"

step "what compose files run in the images of Kafka, without an entrypoint of their own"
# runs <words...>: a container that is given these words as its `command:`.
runs() { pod run --rm "${limits[@]}" --network "$network" --add-host "kafka:$address" $image "$@"; }
says '^by-init$' runs /__cacert_entrypoint.sh kafka-topics --bootstrap-server kafka:29092 --list || fail "command: kafka-topics"
[ "$(runs bash -c '/opt/bitnami/scripts/kafka/entrypoint.sh kafka-topics.sh --version')" = 4.2.1 ] || fail "command: bash -c"
says '^Usage: streamhouse' runs help || fail "words of the gateway"
starts=(/etc/kafka/docker/run /etc/confluent/docker/run /opt/bitnami/scripts/kafka/run.sh {/opt/kafka/bin,/opt/bitnami/kafka/bin,/usr/bin}/kafka-server-start.sh)
[ "$(pod exec "$name" sh -c 'for start; do readlink "$start"; done' sh "${starts[@]}" | sort | uniq -c | xargs)" = "${#starts[@]} /entrypoint.sh" ] || fail "not all of these start the gateway: ${starts[*]}"
# serves <words...>: so started, it is well, and ends with 0 at SIGTERM.
serves() {
  pod run -d --name "$name-2" "${limits[@]}" -v "$work/server.properties:/config/server.properties:ro" $image "$@" >/dev/null
  for _ in $(seq 100); do
    ! pod healthcheck run "$name-2" >/dev/null 2>&1 || break
    sleep 0.1
  done
  says made pod exec "$name-2" kafka-topics.sh --bootstrap-server localhost:19092 --create --topic made || { pod logs "$name-2"; fail "it does not serve: $*"; }
  says 'PartitionCount: 2' pod exec "$name-2" kafka-topics.sh --bootstrap-server localhost:19092 --describe --topic made || fail "not as said: $*"
  pod stop -t 20 "$name-2" >/dev/null
  [ "$(pod inspect --format '{{.State.ExitCode}}' "$name-2")" = 0 ] || fail "ended otherwise: $*"
  pod rm -v "$name-2" >/dev/null
}
printf 'node.id=5\nlisteners=PLAINTEXT://:19092\nadvertised.listeners=PLAINTEXT://localhost:19092\n' >"$work/server.properties"
chmod 644 "$work/server.properties"
serves sh -c 'export KAFKA_LISTENERS=PLAINTEXT://:19092 KAFKA_NUM_PARTITIONS=2 && exec /etc/confluent/docker/run'
serves bash -c 'kafka-storage format -t x -c /config/server.properties &&
  exec kafka-server-start.sh /config/server.properties --override num.partitions=2'

step "SIGTERM"
began=$(milliseconds)
pod stop -t 60 "$name" >/dev/null
echo "stopped after $(($(milliseconds) - began)) ms"
[ "$(pod inspect --format '{{.State.ExitCode}}' "$name")" = 0 ] || fail "it did not end with 0"

step "again, with its data"
pod rm -v "$name" >/dev/null
run
healthy
[ "$(kcat -b localhost:19092 -C -t greetings -o beginning -e -q)" = hello ] || fail "the data is gone"

step "a mistake ends with one line that names the variable"
said=$(pod run --rm "${limits[@]}" -e KAFKA_LISTENERS=SASL_SSL://:9093 $image 2>&1 | grep '^streamhouse: ') || true
[ "$(echo "$said" | wc -l)" = 1 ] && [[ $said == *KAFKA_LISTENERS* ]] || fail "it said: $said"

# shape <what> <advertised> <health check> <podman arguments...>: starts in that shape, is well by that check of its compose file, tells
# that address, takes a record and gives it back.
shape() {
  step "shape: $1"
  local advertised=$2 check=$3
  shift 3
  pod rm -f -v "$name" >/dev/null
  pod run -d --name "$name" --hostname broker --network "$network" -p 127.0.0.1:19092:19092 --read-only "${limits[@]}" "$@" \
    $image >/dev/null
  healthy
  pod exec "$name" sh -c "$check" >/dev/null || fail "by this check it is not well: $check"
  says "at $advertised" kcat -b localhost:19092 -L || fail "not told: $advertised"
  echo hello | kcat -b localhost:19092 -P -t shape
  [ "$(kcat -b localhost:19092 -C -t shape -o beginning -e -q)" = hello ] || fail "what was written is not read"
}

shape "cp-kafka, one KRaft node" localhost:19092 "kafka-topics --bootstrap-server broker:29092 --list" \
  -e KAFKA_NODE_ID=1 -e KAFKA_PROCESS_ROLES=broker,controller -e CLUSTER_ID=MkU3OEVBNTcwNTJENDM2Qk \
  -e KAFKA_LISTENERS=PLAINTEXT://broker:29092,CONTROLLER://broker:29093,PLAINTEXT_HOST://0.0.0.0:19092 \
  -e KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:19092 \
  -e KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT \
  -e KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER -e KAFKA_LOG_DIRS=/tmp/kraft-combined-logs -v /tmp/kraft-combined-logs
shape "cp-kafka with ZooKeeper" localhost:19092 "cub kafka-ready -b broker:29092 1 20" \
  -e KAFKA_BROKER_ID=1 -e KAFKA_ZOOKEEPER_CONNECT=zookeeper:2181 -e KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 \
  -e KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,PLAINTEXT_INTERNAL:PLAINTEXT \
  -e KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:19092,PLAINTEXT_INTERNAL://broker:29092
shape "Bitnami" localhost:19092 "kafka-broker-api-versions.sh --bootstrap-server broker:9092" \
  -e KAFKA_CFG_NODE_ID=0 -e KAFKA_CFG_PROCESS_ROLES=controller,broker -e ALLOW_PLAINTEXT_LISTENER=yes \
  -e KAFKA_CFG_LISTENERS=PLAINTEXT://:9092,CONTROLLER://:9093,EXTERNAL://:19092 \
  -e KAFKA_CFG_ADVERTISED_LISTENERS=PLAINTEXT://broker:9092,EXTERNAL://localhost:19092 \
  -e KAFKA_CFG_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,EXTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT \
  -e KAFKA_CFG_CONTROLLER_LISTENER_NAMES=CONTROLLER -v /bitnami/kafka
shape "a mounted server.properties" localhost:19092 "nc -z localhost 19092" -v "$work/server.properties:/mnt/shared/config/server.properties:ro"
says 'broker 5 at' kcat -b localhost:19092 -L || fail "the node id of the file"
echo 'test result: ok. 1 passed; 0 failed'
