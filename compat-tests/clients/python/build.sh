#!/bin/sh
# Makes .venv with the pinned libraries. Quick when nothing changed.
set -eu
cd "$(dirname "$0")"
command -v python3 >/dev/null || { echo "python3 (3.10 or later) is missing" >&2; exit 1; }
stamp=.venv/requirements.txt
cmp -s requirements.txt "$stamp" && exit 0
rm -rf .venv
python3 -m venv .venv || { echo "python3 -m venv does not work: install python3-venv" >&2; exit 1; }
.venv/bin/pip install --quiet --no-deps --only-binary :all: -r requirements.txt
cp requirements.txt "$stamp"
