#!/bin/sh
# Makes node_modules with the pinned library that drives the browser; the browser itself is the system's (Debian's
# chromium-headless-shell). Quick when nothing changed.
set -eu
cd "$(dirname "$0")"
for tool in node npm; do
  command -v "$tool" >/dev/null || { echo "$tool is missing (node 20 or later)" >&2; exit 1; }
done
stamp=node_modules/.package-lock.built
cmp -s package-lock.json "$stamp" && exit 0
npm ci --ignore-scripts --no-audit --no-fund --silent
cp package-lock.json "$stamp"
