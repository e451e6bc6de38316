#!/bin/sh
# run.sh <library> <scenario> <bootstrap> [key=value ...]
exec node "$(dirname "$0")/main.js" "$@"
