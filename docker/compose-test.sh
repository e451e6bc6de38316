#!/usr/bin/env bash
# The compose files, brought up for real: compose.yaml with compose.observability.yaml over it, compose.s3.yaml, compose.cluster.yaml.
# Needs root, podman with the plugin for names (golang-github-containernetworking-plugin-dnsname), runc, debootstrap, kcat, curl, Go and
# Python's venv, and the ports of the files (9092 to 9094, 9090, 9465) free.
#
# usage: compose-test.sh <streamhouse program>     Kafka's commands (kafka-tools) are taken from the same folder.
#
# There need be no registry, so the files are given other images under other names (an override file), and are else as they are: ours
# as in test.sh, PostgreSQL, Prometheus and socat of Debian, MinIO and its client from Go's module proxy. Grafana and the Kafka UI are not
# to be had in this way and are left out. podman-compose is fetched from PyPI. The first run builds all that, MinIO for ten minutes; it
# is kept in target/compose-test, and the images in podman.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${1:?usage: compose-test.sh <streamhouse program>}
# What is built once and kept.
kept=${KEPT:-${CARGO_TARGET_DIR:-$here/../target}/compose-test}
mkdir -p "$kept"
kept=$(cd "$kept" && pwd)
work=$(mktemp -d) project=streamhouse-test-$$ files=()

# Versions that were seen to work.
PODMAN_COMPOSE=1.6.0
MINIO=v0.0.0-20260212201848-7aac2a2c5b7c # RELEASE.2025 and later have no versions that Go knows
MINIO_CLIENT=v0.0.0-20250313080218-cf909e1063a9
# Longest that a service may take to be well, or a check to come true, seconds.
PATIENCE=60

. "$here/local-image.sh"
fail() {
  echo "compose-test.sh: $*" >&2
  for container in $(pod ps -aq --filter "label=io.podman.compose.project=$project"); do
    pod inspect --format '--- {{.Name}} {{.State.Status}} {{.State.ExitCode}}' "$container" >&2
    pod logs --tail 15 "$container" >&2
  done
  exit 1
}
cleanup() {
  [ ${#files[@]} = 0 ] || compose down -v >/dev/null 2>&1 || true
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
    pod build -q --network host --format docker --target $target -t "$base-$target" "$work/others" >/dev/null
  done
}

# project of these files, with these services' images replaced.
compose() { "$kept/venv/bin/podman-compose" --podman-args "--runtime runc" --podman-run-args "${limits[*]}" -p "$project" "${files[@]}" "$@"; }

# of <service=image...>: gives the services these images.
of() { printf '%s\n' 'services:' "${@/%/ \}}" | sed 's/=/: { image: /; 2,$s/^/  /' >"$work/override.yaml"; }
# in_own_order <file>: the file without its depends_on, because podman 4.3 cannot wait for health, nor start what depends on something
# that has ended; the order is this script's.
in_own_order() {
  sed '/^    depends_on:$/,/^    [a-z]/{/^    depends_on:$/d;/^      /d}' "$here/$1" >"$work/$1"
  files=(-f "$work/$1" -f "$work/override.yaml")
}

container() { pod ps -aq --filter "label=io.podman.compose.project=$project" --filter "label=com.docker.compose.service=$1"; }
well() { pod healthcheck run "$(container "$1")"; }

# up <service...>: up until each that has a health check is well by it; podman has timers for them only under systemd.
up() {
  compose up -d "$@" >>"$work/log" 2>&1 || fail "up $*: $(tail -15 "$work/log")"
}

# Twice, as by two times `up`.
makes_bucket() {
  for _ in once again; do
    up bucket
    [ "$(pod wait "$(container bucket)")" = 0 ] || fail "the bucket was not made"
  done
}

records() { kcat -b "localhost:$1" -C -t greetings -o beginning -e -q | sort | paste -sd' '; }
holds() { [ "$(records "$1")" = "$2" ]; }

down() {
  compose down -v >>"$work/log" 2>&1 || fail "down: $(tail -15 "$work/log")"
  files=()
}

needs kcat curl go python3
# Services find each other by name only with this.
[ "$(pod info --format '{{.Host.NetworkBackend}}')" != cni ] || [ -x /usr/lib/cni/dnsname ] || fail "podman's plugin dnsname is missing"
base_image
own_image
export STREAMHOUSE_IMAGE=$image # the files ask for it
[ -x "$kept/venv/bin/podman-compose" ] || { python3 -m venv "$kept/venv" && "$kept/venv/bin/pip" install -q "podman-compose==$PODMAN_COMPOSE"; }
step "images of others"
other_images

step "compose.yaml, compose.observability.yaml"
pod run --rm "${limits[@]}" -v "$here/prometheus:/etc/prometheus:ro" --entrypoint promtool $base-prometheus check config --lint-fatal /etc/prometheus/prometheus.yml ||
  fail "promtool"
of prometheus=$base-prometheus console=$base-socat
files=(-f "$here/compose.yaml" -f "$here/compose.observability.yaml" -f "$work/override.yaml")
up streamhouse prometheus console
within "streamhouse is well" well streamhouse
echo one | kcat -b localhost:9092 -P -t greetings
holds 9092 one || fail "what was written is not read"
asks() { curl -fsS --get "http://localhost:9090/api/v1/$1" "${@:3}" | grep "$2" >/dev/null; }
within "Prometheus reads the gateway" asks query '"value":\[[0-9.]*,"1"\]' --data-urlencode 'query=up{job="streamhouse"}'
within "Prometheus knows the gateway's metrics" asks query '"value"' --data-urlencode 'query=streamhouse_requests_total{api="Produce"}'
asks rules StreamHouseDown || fail "Prometheus has no alerts"
[ "$(curl -fsS http://localhost:9090/api/v1/alerts)" = '{"status":"success","data":{"alerts":[]}}' ] || fail "there is an alarm"
[[ $(curl -fsS http://localhost:9465/) == *'<title>'* ]] || fail "no console on the host"
compose stop streamhouse >>"$work/log" 2>&1
down

step "compose.s3.yaml"
others=(minio=$base-minio bucket=$base-minio)
of "${others[@]}"
in_own_order compose.s3.yaml
up minio
within "minio is well" well minio
makes_bucket
up streamhouse
within "streamhouse is well" well streamhouse
echo one | kcat -b localhost:9092 -P -t greetings
# The container holds nothing: another one goes on.
pod rm -f "$(container streamhouse)" >/dev/null
up streamhouse
within "the next streamhouse is well" well streamhouse
within "the records are there" holds 9092 one
down

step "compose.cluster.yaml"
gateways=(gateway1 gateway2 gateway3)
of "${others[@]}" postgres=$base-postgres
in_own_order compose.cluster.yaml
up minio postgres
within "minio is well" well minio
within "postgres is well" well postgres
makes_bucket
up "${gateways[@]}"
for gateway in "${gateways[@]}"; do within "$gateway is well" well "$gateway"; done
for port in 9092 9093 9094; do echo "by $port" | kcat -b localhost:$port -P -t greetings; done
for port in 9092 9093 9094; do within "all records through $port" holds $port "by 9092 by 9093 by 9094"; done
pod run --rm "${limits[@]}" --network "${project}_default" $base kcat -b gateway3:29092 -L | grep -q "broker 1 at gateway1:29092" ||
  fail "what a container is told"
compose stop gateway1 >>"$work/log" 2>&1
echo "without 1" | kcat -b localhost:9093 -P -t greetings
within "all records without gateway1" holds 9094 "by 9092 by 9093 by 9094 without 1"
down
echo 'test result: ok. 1 passed; 0 failed'
