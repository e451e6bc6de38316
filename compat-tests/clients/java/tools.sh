#!/usr/bin/env bash
# Runs a command line tool of the Kafka distribution from its published jars (build.sh first).
# usage: tools.sh <tool> <args...>     e.g. tools.sh kafka-topics --bootstrap-server localhost:9092 --list
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case "${1:-}" in
  kafka-acls) main=org.apache.kafka.tools.AclCommand ;;
  kafka-broker-api-versions) main=org.apache.kafka.tools.BrokerApiVersionsCommand ;;
  kafka-cluster) main=org.apache.kafka.tools.ClusterTool ;;
  kafka-configs) main=kafka.admin.ConfigCommand ;;
  kafka-console-consumer) main=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
  kafka-console-producer) main=org.apache.kafka.tools.ConsoleProducer ;;
  kafka-consumer-groups) main=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
  kafka-consumer-perf-test) main=org.apache.kafka.tools.ConsumerPerformance ;;
  kafka-delete-records) main=org.apache.kafka.tools.DeleteRecordsCommand ;;
  kafka-get-offsets) main=org.apache.kafka.tools.GetOffsetShell ;;
  kafka-groups) main=org.apache.kafka.tools.GroupsCommand ;;
  kafka-log-dirs) main=org.apache.kafka.tools.LogDirsCommand ;;
  kafka-producer-perf-test) main=org.apache.kafka.tools.ProducerPerformance ;;
  kafka-server-start) main=kafka.Kafka ;;
  kafka-storage) main=kafka.tools.StorageTool ;;
  kafka-topics) main=org.apache.kafka.tools.TopicCommand ;;
  *) echo "tools.sh: unknown tool '${1:-}'" >&2; exit 2 ;;
esac
tool=$1
shift
[ -d "$here/target/tools/lib" ] || { echo "not built: run build.sh first" >&2; exit 2; }
# Warnings and errors go to standard error; standard output belongs to the tools.
flags=(-Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn)
machine=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC)
without='log4j-*'
case "$tool" in
  # These use log4j's own classes.
  kafka-configs | kafka-server-start | kafka-storage)
    flags=(-Xmx512m "-Dlog4j2.configurationFile=$here/tools/log4j2.properties")
    without='slf4j-simple-*'
    ;;
  # These are measured with: the memory and the collector that Kafka's own scripts give them.
  kafka-producer-perf-test | kafka-consumer-perf-test)
    flags=(-Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn)
    machine=(-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent)
    ;;
esac
path=
for jar in "$here"/target/tools/lib/*.jar; do
  # shellcheck disable=SC2053  # a pattern is meant
  [[ "${jar##*/}" == $without ]] || path="$path:$jar"
done
exec java "${flags[@]}" "${machine[@]}" -cp "${path#:}" "$main" "$@"
