#!/bin/sh
# Installs kcat where it is missing; at once otherwise.
set -eu
command -v perl >/dev/null || { echo "perl is missing" >&2; exit 1; }
command -v kcat >/dev/null && exit 0
command -v apt-get >/dev/null || { echo "kcat is missing" >&2; exit 1; }
apt-get install -y -qq --no-install-recommends kcat >/dev/null
