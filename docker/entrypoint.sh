#!/bin/bash
# What a container of the image runs, by the names that Kafka's images have for it:
#   entrypoint.sh [word...]              a command, as `command:` of a compose file gives one; without one, the gateway with these flags
#   run, run.sh, launch                  the gateway, for scripts of others that end with it
#   kafka-server-start[.sh] FILE [--override NAME=VALUE]...   the gateway with that file
set -euo pipefail
case ${0##*/} in
  run | run.sh | launch) exec streamhouse ;;
  kafka-server-start | kafka-server-start.sh)
    file=${1:-}
    [[ $file == [!-]* ]] || { echo "usage: ${0##*/} server.properties [--override property=value]*" >&2; exit 1; }
    shift
    while [ $# -gt 0 ]; do
      [[ $1 == --override && ${2:-} == *=* ]] || { echo "${0##*/}: $1 is not known here" >&2; exit 1; }
      # As a variable of the environment, of the kind that wins over the others.
      name=${2%%=*}
      name=${name//_/__} name=${name//-/___} name=${name//./_}
      export "KAFKA_CFG_${name^^}=${2#*=}"
      shift 2
    done
    # Kafka's images have such files of their own, of which there is nothing to be read here.
    [ -e "$file" ] || { echo "${0##*/}: there is no $file; the environment alone says what is served" >&2; exec streamhouse; }
    exec streamhouse --properties "$file"
    ;;
esac
# Flags and words of the gateway (`health`, `scrub`) are not programs.
[[ ${1:-} == [!-]* ]] && type -P -- "$1" >/dev/null && exec "$@"
exec streamhouse "$@"
