#!/usr/bin/env bash
# Drives the command line tools of the Kafka distribution end to end and checks what they print and do (build.sh first).
# usage: tools-scenario.sh <bootstrap> [run=<id>] [deadline=<seconds>]
# Exit status and last line as in ../SCENARIOS.md; the deadline is 240 s, because every call of a tool starts a JVM. Four parts run side by side: topics, console, groups, perf.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() { echo "usage: tools-scenario.sh <bootstrap> [run=<id>] [deadline=<seconds>]" >&2; exit 2; }
[ $# -ge 1 ] || usage
bootstrap=$1
shift
run=$(date +%s)-$$
deadline=240
for word in "$@"; do
  case "$word" in
    run=*) run=${word#run=} ;;
    deadline=*) deadline=${word#deadline=} ;;
    *) usage ;;
  esac
done
[[ "$run" =~ ^[a-z0-9-]{1,32}$ && "$deadline" =~ ^[0-9]+$ ]] || usage
[ -d "$here/target/tools/lib" ] || { echo "not built: run build.sh first" >&2; exit 2; }
work=$(mktemp -d)
started=$(date +%s)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "FAILED tools $part: $*" >&2
  [ -z "${out:-}" ] || { echo "--- standard output of the last tool" >&2; tail -n 40 "$out" >&2; }
  [ -z "${err:-}" ] || { echo "--- standard error of the last tool" >&2; tail -n 40 "$err" >&2; }
  exit 1
}

# tool <name> <args...>: runs it against the bootstrap server; standard output to $out, error to $err; answers its status.
tool() {
  local name=$1 left=$((deadline - $(date +%s) + started))
  shift
  count=$((${count:-0} + 1))
  out=$work/$part.$count.out
  err=$work/$part.$count.err
  [ "$left" -gt 0 ] || fail "the deadline of $deadline s is reached before $name $*"
  timeout "$left" "$here/tools.sh" "$name" "$@" --bootstrap-server "$bootstrap" >"$out" 2>"$err" <"${input:-/dev/null}"
  local status=$?
  [ "$status" -ne 124 ] || fail "the deadline of $deadline s is reached in $name $*"
  return "$status"
}
# must <name> <args...>: the tool must succeed.
must() { tool "$@" || fail "$* ended with status $?"; }
# refused <text> <name> <args...>: the tool must fail, saying so.
refused() {
  local text=$1
  shift
  ! tool "$@" || fail "$* succeeded"
  grep -q -- "$text" "$out" "$err" || fail "$* did not say '$text'"
}
# prints <regex>: some line of the last tool's output matches. prints_no: none does.
prints() { grep -qE -- "$1" "$out" || fail "no line matches '$1'"; }
prints_no() { ! grep -qE -- "$1" "$out" || fail "a line matches '$1'"; }
same() { cmp "$1" "$2" >"$work/$part.cmp" || fail "$3: $(cat "$work/$part.cmp")"; }
# eventually <what> <command...>: tries for 90 s, of which each try may take some on a busy machine.
eventually() {
  local what=$1 end=$((SECONDS + 90))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "not within 90 s: $what"
    sleep 0.3
  done
}

listed() { tool kafka-topics --list && grep -qxF "$1" "$out"; }
unlisted() { tool kafka-topics --list && ! grep -qxF "$1" "$out"; }
partitions_are() { tool kafka-topics --describe --topic "$1" && grep -q "PartitionCount: $2	" "$out"; }

topics() {
  local topic=tools-$run-topics
  must kafka-broker-api-versions
  for api in 'Produce\(0\)' 'Fetch\(1\)' 'ListOffsets\(2\)' 'Metadata\(3\)' 'OffsetCommit\(8\)' 'CreateTopics\(19\)'; do
    prints "	$api: .*usable: "
  done
  must kafka-cluster cluster-id
  prints "^Cluster ID: ."
  must kafka-topics --create --topic "$topic" --partitions 3 --replication-factor 1 --config retention.ms=3600000
  prints "^Created topic $topic\."
  eventually "$topic is listed" listed "$topic"
  eventually "3 partitions" partitions_are "$topic" 3
  prints "retention.ms=3600000"
  [ "$(grep -cE '	Partition: [0-2]	Leader: [0-9]+	' "$out")" = 3 ] || fail "not three partitions with a leader"
  refused "already exists" kafka-topics --create --topic "$topic" --partitions 3
  must kafka-topics --create --if-not-exists --topic "$topic" --partitions 3
  refused "does not exist" kafka-topics --describe --topic "$topic-unknown"
  must kafka-topics --alter --topic "$topic" --partitions 5
  eventually "5 partitions" partitions_are "$topic" 5
  refused "5" kafka-topics --alter --topic "$topic" --partitions 2
  must kafka-get-offsets --topic "$topic"
  [ "$(sort "$out")" = "$(printf "$topic:%d:0\n" 0 1 2 3 4)" ] || fail "not five empty partitions"

  must kafka-configs --entity-type topics --entity-name "$topic" --alter --add-config max.message.bytes=2000000,message.timestamp.type=LogAppendTime
  must kafka-configs --entity-type topics --entity-name "$topic" --describe
  prints "^  max.message.bytes=2000000 "
  prints "^  message.timestamp.type=LogAppendTime "
  prints "^  retention.ms=3600000 "
  must kafka-configs --entity-type topics --entity-name "$topic" --alter --delete-config max.message.bytes
  must kafka-configs --entity-type topics --entity-name "$topic" --describe --all
  prints "^  max.message.bytes=1048588 .*DEFAULT_CONFIG"
  refused "retention.ms" kafka-configs --entity-type topics --entity-name "$topic" --alter --add-config retention.ms=abc

  must kafka-topics --delete --topic "$topic"
  eventually "$topic is gone" unlisted "$topic"
  refused "does not exist" kafka-topics --delete --topic "$topic"
}

# Lines with and without spaces, UTF-8, an empty value; with keys and headers for the second topic.
console() {
  local topic=tools-$run-console shaped=tools-$run-shaped
  for i in $(seq 0 199); do
    case $((i % 4)) in
      0) echo "line $i" ;;
      1) echo "zeile $i: größer, 日本語 ✓" ;;
      2) printf 'long %d %0500d\n' "$i" "$i" ;;
      3) echo "" ;;
    esac
  done >"$work/lines"
  # The first produce creates the topic.
  input=$work/lines must kafka-console-producer --topic "$topic"
  must kafka-console-consumer --topic "$topic" --from-beginning --max-messages 200 --timeout-ms 90000
  same "$work/lines" "$out" "the lines read differ from those written"
  must kafka-get-offsets --topic "$topic"
  [ "$(awk -F: '{ n += $3 } END { print n }' "$out")" = 200 ] || fail "the end offsets are not 200 together"

  must kafka-topics --create --topic "$shaped" --partitions 1
  eventually "1 partition" partitions_are "$shaped" 1
  for i in $(seq 0 99); do
    printf 'h1:a%d,h2:b\tkey-%d\tvalue %d\n' "$i" "$i" "$i"
  done >"$work/shaped"
  input=$work/shaped must kafka-console-producer --topic "$shaped" --compression-codec zstd \
    --reader-property parse.key=true --reader-property parse.headers=true
  must kafka-console-consumer --topic "$shaped" --partition 0 --offset 0 --max-messages 100 --timeout-ms 90000 \
    --formatter-property print.headers=true --formatter-property print.key=true
  same "$work/shaped" "$out" "headers, keys and values read differ from those written"
  must kafka-console-consumer --topic "$shaped" --partition 0 --offset 98 --max-messages 2 --timeout-ms 90000 \
    --formatter-property print.offset=true --formatter-property print.timestamp=true
  prints "^CreateTime:[0-9]{13}	Offset:99	value 99$"

  echo "{\"version\":1,\"partitions\":[{\"topic\":\"$shaped\",\"partition\":0,\"offset\":40}]}" >"$work/delete.json"
  must kafka-delete-records --offset-json-file "$work/delete.json"
  prints "low_watermark: 40"
  must kafka-get-offsets --topic "$shaped" --time earliest
  prints "^$shaped:0:40$"
  must kafka-get-offsets --topic "$shaped" --time latest
  prints "^$shaped:0:100$"
  must kafka-console-consumer --topic "$shaped" --from-beginning --max-messages 60 --timeout-ms 90000
  prints "^value 40$"
  prints_no "^value 39$"
  must kafka-log-dirs --describe --topic-list "$shaped"
  prints "\"partition\":\"$shaped-0\""
}

# position <group> <topic> <current> <end> <lag>: what the group's description says of partition 0.
position() {
  tool kafka-consumer-groups --describe --group "$1" || return 1
  awk -v want="$1 $2 0 $3 $4 $5" '$1 " " $2 " " $3 " " $4 " " $5 " " $6 == want { found = 1 } END { exit !found }' "$out"
}
stable() { tool kafka-consumer-groups --describe --group "$1" --state && grep -qE " Stable +1\b" "$out"; }
group_listed() { tool kafka-consumer-groups --list && grep -qxF "$1" "$out"; }
group_unlisted() { tool kafka-consumer-groups --list && ! grep -qxF "$1" "$out"; }

groups() {
  local topic=tools-$run-groups group=tools-$run-group
  must kafka-topics --create --topic "$topic" --partitions 1
  eventually "1 partition" partitions_are "$topic" 1
  seq 0 99 >"$work/numbers"
  input=$work/numbers must kafka-console-producer --topic "$topic"
  must kafka-console-consumer --topic "$topic" --group "$group" --from-beginning --max-messages 30 --timeout-ms 90000
  [ "$(cat "$out")" = "$(seq 0 29)" ] || fail "the group did not read 0..29"
  eventually "30 of 100 are committed" position "$group" "$topic" 30 100 70
  group_listed "$group" || fail "$group is not listed"
  must kafka-consumer-groups --reset-offsets --group "$group" --topic "$topic" --to-offset 90 --execute
  eventually "reset to 90" position "$group" "$topic" 90 100 10
  must kafka-consumer-groups --reset-offsets --group "$group" --topic "$topic" --shift-by -10 --execute
  eventually "shifted to 80" position "$group" "$topic" 80 100 20

  # A live member; --timeout-ms ends it if nothing else does.
  "$here/tools.sh" kafka-console-consumer --bootstrap-server "$bootstrap" --topic "$topic" --group "$group" --timeout-ms 300000 \
    >"$work/member.out" 2>"$work/member.err" &
  local member=$!
  eventually "the group is stable with one member" stable "$group"
  must kafka-consumer-groups --describe --group "$group" --members --verbose
  prints "^$group .*$topic"
  # The tool ends with status 0 and says what it could not do.
  must kafka-consumer-groups --delete --group "$group"
  grep -qi "not empty" "$out" "$err" || fail "a group with a member was deleted"
  eventually "the member read on from 80" cmp -s "$work/member.out" <(seq 80 99)
  kill "$member"
  wait "$member" 2>/dev/null
  eventually "everything is committed" position "$group" "$topic" 100 100 0

  must kafka-consumer-groups --reset-offsets --group "$group" --topic "$topic" --to-earliest --execute
  eventually "reset to the beginning" position "$group" "$topic" 0 100 100
  must kafka-consumer-groups --delete-offsets --group "$group" --topic "$topic"
  prints " Successful"
  must kafka-consumer-groups --reset-offsets --group "$group" --topic "$topic" --to-latest --execute
  must kafka-consumer-groups --delete --group "$group"
  prints "successful"
  eventually "$group is gone" group_unlisted "$group"
  must kafka-consumer-groups --delete --group "$group-unknown"
  grep -q "GroupIdNotFoundException" "$out" "$err" || fail "deleting an unknown group is no error"
}

perf() {
  local topic=tools-$run-perf records=10000
  must kafka-topics --create --topic "$topic" --partitions 4
  eventually "4 partitions" partitions_are "$topic" 4
  must kafka-producer-perf-test --topic "$topic" --num-records "$records" --record-size 1024 --throughput -1
  prints "^$records records sent, "
  # An error of a record is printed and does not change the tool's status.
  ! grep -qE "Exception|ERROR" "$out" "$err" || fail "the producer reported errors"
  must kafka-get-offsets --topic "$topic"
  [ "$(awk -F: '{ n += $3 } END { print n }' "$out")" = "$records" ] || fail "the end offsets are not $records together"
  must kafka-consumer-perf-test --topic "$topic" --num-records "$records" --timeout 90000 --hide-header
  [ "$(awk -F', *' 'END { print $5 }' "$out")" = "$records" ] || fail "the consumer did not read $records records"
  must kafka-topics --delete --topic "$topic"
}

parts=(topics console groups perf)
declare -A pids
for part in "${parts[@]}"; do
  ( "$part"; echo "$count" >"$work/$part.count" ) &
  pids[$part]=$!
done
failed=()
for part in "${parts[@]}"; do
  wait "${pids[$part]}" || failed+=("$part")
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
calls=$(cat "$work"/*.count | paste -sd+ | xargs -I{} sh -c 'echo $(({}))')
echo "ok tools parts=4 calls=$calls seconds=$(($(date +%s) - started))"
