#!/usr/bin/env bash
# `docker compose up` for real: compose files for images of Kafka (drop-in/) in which nothing is changed but the image, then compose.yaml,
# compose.observability.yaml over it, compose.s3.yaml and compose.cluster.yaml as they are. Needs root, docker and dockerd (Debian's
# docker.io), debootstrap, kcat, curl, jq, Go, and the ports of the files free (9090, 9092 to 9094, 9101, 9465).
#
# usage: compose-test.sh <streamhouse program>     Kafka's commands (kafka-tools) are taken from the same folder.
#
# A daemon that answers is used, else one is started that ends with the script. There need be no registry: the compose plugin, if docker has
# none, and MinIO and its client come from Go's module proxy, and under the names of the images that the files ask for stand (an
# override file): ours as in test.sh, PostgreSQL, Prometheus, socat and kcat of Debian. Grafana and the Kafka UI are not to be had in this
# way and are left out. The first run builds all that, for a quarter of an hour; it is kept in target/compose-test.
#
# Prints how long it takes from `docker compose up` to the first record written and read (docs/benchmarks.md).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${1:?usage: compose-test.sh <streamhouse program>}
# What is built once and kept.
kept=${KEPT:-${CARGO_TARGET_DIR:-$here/../target}/compose-test}
mkdir -p "$kept"
kept=$(cd "$kept" && pwd)
work=$(mktemp -d) project=streamhouse-test-$$ files=() daemon=

# Versions that were seen to work.
COMPOSE=v2.40.3
MINIO=v0.0.0-20260212201848-7aac2a2c5b7c # RELEASE.2025 and later have no versions that Go knows
MINIO_CLIENT=v0.0.0-20250313080218-cf909e1063a9
# Longest that a service may take to be well, or a check to come true, seconds.
PATIENCE=60
# How often the first record is timed, and the milliseconds that the fastest may take.
TIMES=5 MOST_MS=3000

pod() { docker "$@" 2> >(grep -v -e DEPRECATED -e buildx -e '^ *$' >&2); }
. "$here/local-image.sh"
compose() { docker compose -p "$project" "${files[@]}" "$@" 2>>"$work/log"; }
fail() {
  echo "compose-test.sh: $*" >&2
  [ ${#files[@]} = 0 ] || { tail -15 "$work/log"; compose ps -a; compose logs --tail 15; } >&2
  exit 1
}
cleanup() {
  [ ${#files[@]} = 0 ] || compose down -v -t 1 || true
  [ -z "$daemon" ] || { kill "$daemon"; wait "$daemon" || true; }
  # The daemon leaves the network of the host mounted, where an image was built with it.
  umount "$work/docker/netns/default" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# within <what> <command...>: comes true within PATIENCE.
within() {
  local what=$1 end=$((SECONDS + PATIENCE))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "not within $PATIENCE s: $what"
    sleep 0.2
  done
}

docker_with_compose() {
  if ! docker info >/dev/null 2>&1; then
    command -v dockerd >/dev/null || fail "no Docker answers, and there is no dockerd to start"
    export DOCKER_HOST=unix://$work/docker.sock
    dockerd -H "$DOCKER_HOST" --data-root "$kept/docker" --exec-root "$work/docker" --pidfile "$work/docker.pid" >"$work/dockerd.log" 2>&1 &
    daemon=$!
    within "dockerd answers" docker info
  fi
  docker compose version >/dev/null 2>&1 && return
  export DOCKER_CONFIG=$kept/docker-config
  local plugin=$DOCKER_CONFIG/cli-plugins/docker-compose
  [ -x "$plugin" ] || (
    step "docker compose $COMPOSE"
    mkdir -p "$(dirname "$plugin")"
    source=$(cd / && GOFLAGS=-mod=mod go mod download -json "github.com/docker/compose/v2@$COMPOSE" | jq -r .Dir)
    # Its module says `exclude`, with which `go install` does not build.
    cd "$source" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$COMPOSE" -o "$plugin" ./cmd
  )
  docker compose version >/dev/null || fail "no docker compose"
}

# Images of others, from one tree.
other_images() {
  [ -x "$kept/minio" ] || CGO_ENABLED=0 GOBIN=$kept go install "github.com/minio/minio@$MINIO"
  [ -x "$kept/mc" ] || CGO_ENABLED=0 GOBIN=$kept go install "github.com/minio/mc@$MINIO_CLIENT"
  mkdir -p "$work/others"
  cp "$kept/minio" "$kept/mc" "$work/others"
  cat >"$work/others/postgres" <<'END'
#!/bin/bash
# As the image of PostgreSQL: a new volume is made a cluster with this user, password and database.
set -e
cd /tmp
if [ "$(id -u)" = 0 ]; then
  install -d -o postgres -m 700 "$PGDATA" && install -d -o postgres /var/run/postgresql
  exec setpriv --reuid postgres --regid postgres --clear-groups "$0"
fi
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  initdb -U "$POSTGRES_USER" --auth-host scram-sha-256 --pwfile <(echo "$POSTGRES_PASSWORD") "$PGDATA"
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  pg_ctl -w -o "-c listen_addresses=" start && createdb -U "$POSTGRES_USER" "$POSTGRES_DB" && pg_ctl -w stop
fi
exec postgres -c listen_addresses='*'
END
  chmod 755 "$work/others/postgres"
  cat >"$work/others/Dockerfile" <<END
FROM $base AS tree
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postgresql prometheus socat
FROM tree AS postgres
COPY postgres /usr/local/bin/postgres-entry
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["postgres-entry"]
FROM tree AS minio
COPY minio mc /usr/bin/
ENTRYPOINT ["minio"]
FROM tree AS prometheus
RUN mkdir -p /prometheus && chown nobody /prometheus
USER nobody
VOLUME /prometheus
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
FROM tree AS socat
ENTRYPOINT ["socat"]
END
  for target in postgres minio prometheus socat; do
    pod build -q --network host --target $target -t "$base-$target" "$work/others" >/dev/null
  done
}

# of <service=image...>: gives the services these images.
of() { printf '%s\n' 'services:' "${@/%/ \}}" | sed 's/=/: { image: /; 2,$s/^/  /' >"$work/override.yaml"; }
# use <file...>: the compose files of what follows, and the override.
use() {
  files=()
  for file in "$@" "$work/override.yaml"; do files+=(-f "$file"); done
  compose config -q || fail "docker compose config"
}
up() { compose up -d --no-build "$@" || fail "up $*"; }
# logs <service>: what it wrote.
logs() { compose logs --no-log-prefix "$1"; }
records() { kcat -b "localhost:$1" -C -t greetings -o beginning -e -q | sort | paste -sd' '; }
holds() { [ "$(records "$1")" = "$2" ]; }
down() {
  compose down -v -t 10 || fail "down"
  files=()
}

# drop_in <file> <port on the host>: nothing but its images is changed; all its services do what they are for.
drop_in() {
  step "drop-in/$1"
  cp "$here"/drop-in/* "$work"
  sed -E "s|image: (apache\|confluentinc\|bitnami)/.*|image: $image|; s|image: edenhill/kcat.*|image: $base|" "$here/drop-in/$1" >"$work/$1"
  ! diff "$here/drop-in/$1" "$work/$1" | grep '^[<>]' | grep -v 'image: ' || fail "more than the image was changed"
  echo 'services: {}' >"$work/override.yaml"
  use "$work/$1"
  local began
  began=$(milliseconds)
  up
  # Not `compose wait`, which knows nothing of a container that has ended by then.
  [ "$(pod wait "$(compose ps -a -q app)")" = 0 ] || fail "the application did not end with 0"
  echo "the application has its record $(($(milliseconds) - began)) ms after docker compose up"
  [ "$(logs app)" = "from the app" ] || fail "the application read: $(logs app)"
  echo "from the host" | kcat -b "localhost:$2" -P -t orders
  [ "$(kcat -b "localhost:$2" -C -t orders -o beginning -e -q | sort | paste -sd' ')" = "from the app from the host" ] || fail "what the host reads"
  # As a second `up` does: what makes topics finds them there.
  up
  down
}

# How long the user waits, with one service: the network, the volume and the container made, started, and the first record through it.
first_record() {
  of streamhouse=$image
  local fastest=
  for _ in $(seq $TIMES); do
    use "$here/compose.yaml"
    local began took
    began=$(milliseconds)
    up
    # Until there is somebody to take it; kcat itself waits for a broker that cannot be reached.
    until echo one | kcat -b localhost:9092 -P -t greetings 2>/dev/null; do :; done
    holds 9092 one || fail "what was written is not read"
    took=$(($(milliseconds) - began))
    echo "docker compose up to the first record written and read: $took ms"
    [ -n "$fastest" ] && [ "$took" -ge "$fastest" ] || fastest=$took
    down
  done
  [ "$fastest" -lt $MOST_MS ] || fail "the first record took $fastest ms, the fastest of $TIMES"
}

# every panel of the dashboard: Prometheus understands its queries, and has an answer to them. Some count what has not happened.
panels() {
  local asked=0 silent=0 query answer
  while read -r query; do
    query=${query//\$__rate_interval/1m} query=${query//\$instance/.*}
    answer=$(curl -fsS --get http://localhost:9090/api/v1/query --data-urlencode "query=$query") || fail "Prometheus does not understand: $query"
    asked=$((asked + 1))
    [ "$(jq '.data.result | length' <<<"$answer")" != 0 ] || { silent=$((silent + 1)); echo "no answer: $query"; }
  done < <(jq -r '.panels[].targets[]?.expr' "$here/grafana/streamhouse.json")
  echo "$asked queries of the dashboard, $silent without an answer"
  [ "$asked" -gt 60 ] || fail "the dashboard has $asked queries"
  [ "$silent" -le 1 ] || fail "more queries than that for errors have no answer"
}

needs docker kcat curl go jq
docker_with_compose
docker version --format 'docker {{.Client.Version}}, dockerd {{.Server.Version}}'
docker compose version
base_image
own_image
export STREAMHOUSE_IMAGE=$image # the files ask for it

drop_in apache-kafka.yaml 9092
drop_in cp-kafka.yaml 9092
drop_in bitnami.yaml 9094
drop_in properties.yaml 9092

step "compose.yaml"
first_record

step "images of others"
other_images

step "compose.yaml, compose.observability.yaml"
pod run --rm -v "$here/prometheus:/etc/prometheus:ro" --entrypoint promtool $base-prometheus check config --lint-fatal /etc/prometheus/prometheus.yml ||
  fail "promtool"
of prometheus=$base-prometheus console=$base-socat
use "$here/compose.yaml" "$here/compose.observability.yaml"
up --wait streamhouse
up prometheus console
asks() { curl -fsS --get "http://localhost:9090/api/v1/$1" "${@:3}" | grep "$2" >/dev/null; }
within "Prometheus reads the gateway" asks query '"value":\[[0-9.]*,"1"\]' --data-urlencode 'query=up{job="streamhouse"}'
# Some traffic over several readings.
for number in $(seq 20); do
  echo "$number" | kcat -b localhost:9092 -P -t greetings
  kcat -b localhost:9092 -G readers -o beginning -e -q greetings >/dev/null 2>&1 || fail "a group cannot read"
done
within "Prometheus knows the gateway's metrics" asks query '"value"' --data-urlencode 'query=streamhouse_requests_total{api="Produce"}'
within "Prometheus has seen it grow" asks query '"value"' --data-urlencode 'query=rate(streamhouse_requests_total{api="Produce"}[1m])'
panels
asks rules StreamHouseDown || fail "Prometheus has no alerts"
[ "$(curl -fsS http://localhost:9090/api/v1/alerts)" = '{"status":"success","data":{"alerts":[]}}' ] || fail "there is an alarm"
[[ $(curl -fsS http://localhost:9465/) == *'<title>'* ]] || fail "no console on the host"
down

step "compose.s3.yaml"
others=(minio=$base-minio bucket=$base-minio)
of streamhouse=$image "${others[@]}"
use "$here/compose.s3.yaml"
up
within "the record is taken" sh -c 'echo one | kcat -b localhost:9092 -P -t greetings'
# The container holds nothing: another one goes on. The bucket is made again, as each `up` does.
compose rm -f -s -v streamhouse bucket
up
within "the records are there" holds 9092 one
down

step "compose.cluster.yaml"
of "${others[@]}" postgres=$base-postgres
use "$here/compose.cluster.yaml"
up
up --wait gateway1 gateway2 gateway3
for port in 9092 9093 9094; do echo "by $port" | kcat -b localhost:$port -P -t greetings; done
for port in 9092 9093 9094; do within "all records through $port" holds $port "by 9092 by 9093 by 9094"; done
told=$(pod run --rm --network "${project}_default" $base kcat -b gateway3:29092 -L)
[[ $told == *"broker 1 at gateway1:29092"* ]] || fail "what a container is told"
compose stop gateway1
echo "without 1" | kcat -b localhost:9093 -P -t greetings
within "all records without gateway1" holds 9094 "by 9092 by 9093 by 9094 without 1"
down
echo 'test result: ok. 1 passed; 0 failed'
