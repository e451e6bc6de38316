#!/usr/bin/env bash
# run.sh kcat <scenario> <bootstrap> [key=value ...]: the scenarios of SCENARIOS.md with kcat.
#
# Without: `timestamps` (cannot be set), `log-append-time` and `create` (kcat creates no topics: what needs more than one partition
# or a config is left out, so `partitions` and `group` have one partition), `static`, `cooperative`, `empty-header-name`
# (refused), `header-bytes` (shown up to the first zero byte); in `admin` all but the lists. In sizes and restart every record
# has a producer of its own, as kcat reads its input to the end first. interop-write knows only profile=plain.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
all=(defaults codecs shapes sizes partitions manual group admin)
format='%p %o %K %S %T\n%k%s%h<|end|>\n'

usage() {
  echo "$1
usage: kcat <scenario> <bootstrap> [key=value ...]" >&2
  exit 2
}

fail() {
  echo "$scenario: $*" >&2
  exit 1
}

# What kcat said when it was not asked to say much.
quietly() {
  "$@" 2>"$work/stderr" || fail "$* failed: $(tail -n 3 "$work/stderr")"
}

topic() { echo "$scenario-kcat-$run${1:+-$1}"; }
records() { perl "$here/records.pl" "$@"; }
input() { records input "$@"; }
check() { records check "$@" || fail "see above"; }

# produce <topic> [kcat options]: standard input, all records without waiting for each other; the offsets go to $work/acks.
produce() {
  local to=$1
  shift
  kcat -P -b "$bootstrap" -t "$to" -K '<|key|>' -D '<|end|>' -vv -X topic.produce.offset.report=true "$@" 2>"$work/log" ||
    fail "producing to $to: $(tail -n 3 "$work/log")"
  sed -n 's/.*delivered to partition \([0-9]*\) (offset \([0-9]*\)).*/\1 \2/p' "$work/log" >"$work/acks"
}

# expect_acks <first> <count>: the last produce to partition 0 was acknowledged at these offsets.
expect_acks() {
  seq -f '0 %.0f' "$1" $(($1 + $2 - 1)) | cmp -s - "$work/acks" || fail "acknowledged: $(head -n 3 "$work/acks" | tr '\n' ';')..."
}

# consume <topic> [kcat options]: from the beginning to the end, to $work/out.
consume() {
  local from=$1
  shift
  quietly kcat -C -q -e -b "$bootstrap" -t "$from" -o beginning -f "$format" "$@" >"$work/out"
}

defaults() {
  local part options name
  for part in '' idempotent; do
    options=(${part:+-X enable.idempotence=true})
    name=$(topic "$part")
    input keyed 1000 | produce "$name" "${options[@]}"
    quietly kcat -G "$name-group" -q -e -b "$bootstrap" -X auto.offset.reset=earliest -f "$format" "$name" >"$work/out"
    check keyed "$work/out" 1000
    # The same places were acknowledged.
    perl -ne 'print "$1\n" if /^(\d+ \d+) -?\d+ -?\d+ \d+$/' "$work/out" | sort | cmp -s - <(sort "$work/acks") || fail "acknowledged elsewhere"
  done
  details="records=1000 producers=2"
}

codecs() {
  local codec
  for codec in none gzip snappy lz4 zstd; do
    input odd 200 | produce "$(topic $codec)" -z $codec
    expect_acks 0 200
    consume "$(topic $codec)"
    check odd "$work/out" 200
  done
  details="codecs=none,gzip,snappy,lz4,zstd"
}

shapes() {
  local name bin
  name=$(topic create)
  # -Z makes null of what is empty.
  printf 'k0<|key|>v0<|end|>' | produce "$name"
  printf '<|key|>no key<|end|>k2<|key|><|end|>' | produce "$name" -Z
  printf '<|key|>empty key<|end|>k4<|key|><|end|>' | produce "$name"
  printf '<|key|><|end|>' | produce "$name" -Z
  printf 'k6<|key|>v6<|end|>' | produce "$name" -H a=1
  printf 'k7<|key|>v7<|end|>' | produce "$name" -H a=1 -H b=2 -H a=3 -H a=1
  printf 'k8<|key|>v8<|end|>' | produce "$name" -H empty= -H null
  printf 'k9<|key|><|end|>' | produce "$name" -Z -H why=deleted
  bin=$(records bytes 12 64)
  { records bytes 10 32; printf '<|key|>'; records bytes 11 512; printf '<|end|>'; } | produce "$name" -H "bin=$bin" -H ключ=значение
  expect_acks 10 1
  consume "$name"
  check shapes "$work/out"
  quietly kcat -C -q -e -J -b "$bootstrap" -t "$name" -o beginning >"$work/out"
  [ "$(grep -c '"tstype":"create"' "$work/out")" = 11 ] || fail "timestamp types: $(head -n 1 "$work/out")"
  details="records=11"
  without=empty-header-name,log-append-time,timestamps
}

sizes() {
  local name n offset=0
  name=$(topic)
  for n in 1 1024 102400 1000000 1100000 5; do
    records bytes $n $n >"$work/value"
    if [ $n = 1100000 ]; then
      if kcat -P -b "$bootstrap" -t "$name" -p 0 -X message.max.bytes=4194304 "$work/value" 2>"$work/log"; then
        fail "1,100,000 bytes were taken"
      fi
      grep -q 'Delivery failed.*Broker: Message size too large' "$work/log" || fail "1,100,000 bytes: $(tail -n 1 "$work/log")"
      continue
    fi
    produce "$name" -p 0 -X message.max.bytes=4194304 "$work/value" </dev/null
    expect_acks $offset 1
    cat "$work/value" >>"$work/values"
    offset=$((offset + 1))
  done
  quietly kcat -C -q -e -b "$bootstrap" -t "$name" -o beginning -f '%o %S\n' >"$work/out"
  printf '%s\n' '0 1' '1 1024' '2 102400' '3 1000000' '4 5' | cmp -s - "$work/out" || fail "read: $(tr '\n' ';' <"$work/out")"
  quietly kcat -C -q -e -b "$bootstrap" -t "$name" -o beginning -f '%s' >"$work/out"
  cmp "$work/values" "$work/out" || fail "the values differ"
  details="largest=1000000"
}

partitions() {
  local name
  name=$(topic 1)
  input numbered 0 20 | produce "$name" -p 0
  expect_acks 0 20
  quietly kcat -L -b "$bootstrap" -t "$name" >"$work/out"
  grep -q 'partition 0, leader [0-9]*, replicas: [0-9]*, isrs: [0-9]*' "$work/out" || fail "metadata: $(cat "$work/out")"
  consume "$name" -p 0
  check numbered "$work/out" 0 20
  details="partitions=1"
  without=create
}

# query <topic> <timestamp>: the offset for a time, -2 the beginning, -1 the end.
query() {
  quietly kcat -Q -b "$bootstrap" -t "$1:0:$2" | sed -n 's/.* offset //p'
}

expect() {
  [ "$2" = "$3" ] || fail "$1: expected $2, came $3"
}

manual() {
  local name start found log
  name=$(topic)
  input timed 0 100 | produce "$name" -p 0
  expect_acks 0 100
  expect "beginning" 0 "$(query "$name" -2)"
  expect "end" 100 "$(query "$name" -1)"
  for start in 0 57 99; do
    quietly kcat -C -q -e -b "$bootstrap" -t "$name" -p 0 -o $start -f "$format" >"$work/out"
    check timed "$work/out" $start $((100 - start))
  done
  # The times are kcat's own; the first record of a time is what must be found.
  quietly kcat -C -q -e -b "$bootstrap" -t "$name" -o beginning -f '%T %o\n' >"$work/times"
  while read -r time offset; do
    found=$(awk -v t="$time" '$1 >= t { print $2; exit }' "$work/times")
    expect "offset for the time of $offset" "$found" "$(query "$name" "$time")"
  done < <(awk 'NR % 33 == 1' "$work/times")
  expect "offset for time 0" 0 "$(query "$name" 0)"
  expect "offset for a time to come" -1 "$(query "$name" 99999999999999)"
  quietly kcat -C -q -c 1 -b "$bootstrap" -t "$name" -p 0 -o 1000 -X topic.auto.offset.reset=earliest -f '%o' >"$work/out"
  expect "reset to earliest" 0 "$(cat "$work/out")"
  # It says when it has come to the end: what is written before that is not read.
  kcat -C -c 1 -b "$bootstrap" -t "$name" -p 0 -o 1000 -X topic.auto.offset.reset=latest -f '%o %s' >"$work/latest" 2>"$work/latest.log" &
  wait_for 90 "the reset to latest" grep -q 'Reached end of topic .* at offset 100$' "$work/latest.log"
  expect "records after a reset to latest" '' "$(cat "$work/latest")"
  input timed 100 1 | produce "$name" -p 0
  wait $! || fail "reset to latest: $(cat "$work/latest" "$work/latest.log")"
  expect "reset to latest" '100 manual-100' "$(tail -n 1 "$work/latest")"
  if kcat -C -c 1 -b "$bootstrap" -t "$name" -p 0 -o 1000 -X topic.auto.offset.reset=error >/dev/null 2>"$work/log"; then
    fail "reset none: read something"
  fi
  log=$(cat "$work/log")
  [[ $log == *"Offset out of range"* ]] || fail "reset none: $log"
  details="records=101"
  without=timestamps
}

# member <name>: joins in the background; its records go to $work/<name>, its rebalances to $work/<name>.log.
member() {
  : >"$work/$1.log"
  kcat -G "$(topic basic)-group" -b "$bootstrap" -u -X auto.offset.reset=earliest -f '%o %s\n' "$(topic basic)" >"$work/$1" 2>"$work/$1.log" &
  members[$1]=$!
}

leave() {
  kill -TERM "${members[$1]}"
  wait "${members[$1]}" || true
  unset "members[$1]"
}

# wait_for <seconds> <what> <command ...>
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "waited for $what"
    sleep 0.1
  done
}

owns() { [[ $(grep -o 'assigned:.*\|revoked:.*' "$work/$1.log" | tail -n 1) == assigned:*"[0]"* ]]; }
joined() { grep -q 'assigned:' "$work/$1.log"; }
one_owns() { { owns A && ! owns B; } || { owns B && ! owns A; }; }
ends_with() { [ "$(tail -n 1 "$2")" = "$1" ]; }
has_lines() { [ "$(cat "${@:2}" | wc -l)" -ge "$1" ]; }
numbered_lines() { seq -f '%.0f' "$1" $(($1 + $2 - 1)) | sed 's/.*/& 0:&/'; }

group() {
  local name owner=A other=B
  declare -A members=()
  name=$(topic basic)
  input numbered 0 50 | produce "$name" -p 0
  member A
  member B
  wait_for 90 "both members" joined A
  wait_for 90 "both members" joined B
  wait_for 90 "one owner" one_owns
  wait_for 90 "50 records" has_lines 50 "$work/A" "$work/B"
  sleep 4 # a member that comes late takes the partition over and may read again what is not yet committed
  if owns B; then owner=B other=A; fi
  input numbered 50 50 | produce "$name" -p 0
  wait_for 90 "100 records" has_lines 100 "$work/A" "$work/B"
  wait_for 90 "the owner to read the last" ends_with "99 0:99" "$work/$owner"
  numbered_lines 50 50 | cmp -s - <(tail -n 50 "$work/$owner") || fail "the owner read: $(tail -n 3 "$work/$owner")"
  leave $owner
  wait_for 40 "the other one to own it" owns $other
  : >"$work/$other.before"
  cp "$work/$other" "$work/$other.before"
  input numbered 100 10 | produce "$name" -p 0
  wait_for 90 "10 records more" has_lines $(($(wc -l <"$work/$other.before") + 10)) "$work/$other"
  sleep 1
  numbered_lines 100 10 | cat "$work/$other.before" - | cmp -s - "$work/$other" || fail "the other read: $(tail -n 3 "$work/$other")"
  leave $other
  input numbered 110 10 | produce "$name" -p 0
  quietly kcat -G "$name-group" -q -e -b "$bootstrap" -X auto.offset.reset=earliest -f '%o %s\n' "$name" >"$work/C"
  numbered_lines 110 10 | cmp -s - "$work/C" || fail "the third read: $(head -n 3 "$work/C")"
  details="parts=basic"
  without=cooperative,create,static
}

admin() {
  local name
  name=$(topic)
  input numbered 0 1 | produce "$name" -p 0
  quietly kcat -L -b "$bootstrap" >"$work/out"
  grep -q '^ *[1-9][0-9]* brokers:' "$work/out" || fail "brokers: $(head -n 3 "$work/out")"
  grep -q 'broker [0-9]* at .*(controller)' "$work/out" || fail "controller: $(head -n 3 "$work/out")"
  grep -q "topic \"$name\" with [1-9]" "$work/out" || fail "$name is not listed"
  quietly kcat -L -J -b "$bootstrap" -t "$name" >"$work/out"
  grep -q '"partition":0,"leader":[0-9]*,"replicas":\[{"id":[0-9]*}\],"isrs":\[{"id":[0-9]*}\]' "$work/out" || fail "described: $(cat "$work/out")"
  details="steps=1"
  without=alter-configs,alter-offsets,create,create-errors,create-partitions,delete-group,delete-nonempty-group,delete-offsets,delete-records
  without=$without,delete-topic,describe,describe-cluster,describe-configs,describe-group,describe-log-dirs,describe-producers,list-offsets
}

interop-write() {
  [ "${keys[profile]:-full}" = plain ] || usage "kcat can write only profile=plain"
  local count=${keys[count]:-300}
  input interop "$count" plain | produce "${keys[topic]}" -p 0 -z "${keys[codec]:-none}"
  expect_acks 0 "$count"
  details="topic=${keys[topic]} count=$count codec=${keys[codec]:-none} profile=plain"
}

interop-read() {
  local count=${keys[count]:-300} profile=${keys[profile]:-full}
  consume "${keys[topic]}" -p 0
  check interop "$work/out" "$count" "$profile" "${keys[without]:-}"
  expect "end offset" "$count" "$(query "${keys[topic]}" -1)"
  details="topic=${keys[topic]} count=$count codec=${keys[codec]:-none} profile=$profile"
  [ "$profile" = plain ] || without=header-bytes
}

# Fewer records than other clients write: on a busy machine each of these producers waits half a second before it asks for its id again.
restart() {
  local count=${keys[count]:-150} pace=${keys[pace]:-20} i
  for ((i = 0; i < count; i++)); do
    printf 'key-%s<|key|>%s<|end|>' $i "$(records text $i)" | produce "${keys[topic]}" -p 0 -E -m 60 -X enable.idempotence=true
    expect_acks $i 1
    [ $i != 0 ] || echo started
    sleep "$(printf '%d.%03d' $((pace / 1000)) $((pace % 1000)))"
  done
  consume "${keys[topic]}" -p 0
  check interop "$work/out" "$count" plain
  details="topic=${keys[topic]} count=$count duplicates=0"
}

# one <scenario>: runs it in a folder of its own and prints its line.
one() {
  scenario=$1 without='' details=''
  work=$(mktemp -d)
  trap 'rm -rf "$work"; kill $(jobs -p) 2>/dev/null || true' EXIT
  "$scenario"
  echo "ok $scenario $details${without:+ without=$without}"
}

everything() {
  local name failed=0 lines started=()
  lines=$(mktemp)
  for name in "${all[@]}"; do
    (one "$name") | tee -a "$lines" &
    started+=($!)
  done
  for name in "${started[@]}"; do
    wait "$name" || failed=1
  done
  without=$(sed -n 's/.* without=//p' "$lines" | tr , '\n' | sort -u | paste -sd,)
  rm -f "$lines"
  [ $failed = 0 ] && echo "ok all scenarios=${#all[@]} without=$without"
}

[ $# -ge 3 ] || usage "three arguments are needed"
[ "$1" = kcat ] || usage "unknown library $1; there is kcat"
known=' run deadline settle '
case $2 in
  interop-write) known+='topic count codec profile ' ;;
  interop-read) known+='topic count codec profile without ' ;;
  restart) known+='topic count pace ' ;;
  all) ;;
  *) [[ " ${all[*]} " == *" $2 "* ]] || usage "unknown scenario $2" ;;
esac
chosen=$2 bootstrap=$3
declare -A keys=()
for pair in "${@:4}"; do
  [[ $pair == *=* && $known == *" ${pair%%=*} "* ]] || usage "unknown key $pair"
  keys[${pair%%=*}]=${pair#*=}
done
[[ $known != *" topic "* || -n ${keys[topic]:-} ]] || usage "topic=<name> is missing"
run=${keys[run]:-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')}
[[ $run =~ ^[a-z0-9-]{1,32}$ ]] || usage "run must match [a-z0-9-]{1,32}"

if [ -z "${KCAT_DEADLINE:-}" ]; then
  status=0
  KCAT_DEADLINE=1 timeout "${keys[deadline]:-90}" "$0" "$@" || status=$?
  [ $status != 124 ] || echo "deadline of ${keys[deadline]:-90} s reached in $chosen" >&2
  [ $status != 124 ] || status=1
  exit $status
fi
if [ "$chosen" = all ]; then everything; else one "$chosen"; fi
