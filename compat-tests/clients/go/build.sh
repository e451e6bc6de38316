#!/bin/sh
# Builds target/clients, target/many and target/drain. Quick when nothing changed: the go tool keeps its own cache.
set -eu
cd "$(dirname "$0")"
command -v go >/dev/null || { echo "go (1.26 or later) is missing" >&2; exit 1; }
mkdir -p target
GOFLAGS=-mod=readonly go build -o target/clients .
GOFLAGS=-mod=readonly go build -o target/many ./many
GOFLAGS=-mod=readonly go build -o target/drain ./drain
