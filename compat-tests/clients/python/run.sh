#!/bin/sh
# run.sh <library> <scenario> <bootstrap> [key=value ...]
here=$(dirname "$0")
exec "$here/.venv/bin/python" -B "$here/main.py" "$@"
