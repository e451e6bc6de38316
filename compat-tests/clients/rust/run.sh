#!/bin/sh
# run.sh <library> <scenario> <bootstrap> [key=value ...]
exec "$(dirname "$0")/target/debug/streamhouse-client-rust" "$@"
