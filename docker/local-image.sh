# Sourced by test.sh and compose-test.sh: the image of the repository's Dockerfile on a machine without a registry.
#
# The base image is imported from a debootstrap tree. The Dockerfile is the repository's, but for its first stage: the program is
# given, not built, because a release build in a container takes longer than all the rest.
#
# Wants `here` (this folder), `program` (streamhouse, with kafka-tools beside it) and `work` (a folder to write in).
base=localhost/streamhouse-test-base image=localhost/streamhouse-test
# No more than this machine's own: podman asks for more than it may have.
limits=(--ulimit "nofile=$(ulimit -Hn):$(ulimit -Hn)" --ulimit nproc=4096:4096)
# Without systemd podman has no timers for health checks, and says so each time; here they are run by hand.
pod() { podman --runtime runc "$@" 2> >(grep -v 'unable to get systemd connection' >&2); }

step() { printf '== %s\n' "$*"; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }

# needs <tool...>: where it cannot run, that is no pass; this says why.
needs() {
  for tool in podman runc debootstrap iptables strip "$@"; do command -v "$tool" >/dev/null || fail "$tool is missing"; done
  pod info >/dev/null || fail "podman does not work on this machine; it needs root"
}

base_image() {
  pod image exists $base && return
  step "base image"
  [ -d "$work/tree" ] || debootstrap --variant=minbase --include=ca-certificates,busybox-static,netcat-openbsd,kcat bookworm "$work/tree" >"$work/debootstrap.log"
  tar -C "$work/tree" -c . | pod import -q - $base >/dev/null
}

own_image() {
  step "image"
  mkdir -p "$work/context"
  cp "$program" "$work/context/streamhouse"
  cp "$(dirname "$program")/kafka-tools" "$work/context/kafka-tools" || fail "kafka-tools is not beside $program"
  strip "$work/context/streamhouse" "$work/context/kafka-tools"
  awk '/^FROM .* AS build$/ { skip = 1 } /^FROM/ && !/ AS build$/ { skip = 0 } !skip' "$here/Dockerfile" |
    sed 's|^COPY --from=build /streamhouse /kafka-tools |COPY streamhouse kafka-tools |' >"$work/Dockerfile"
  grep -q '^COPY streamhouse kafka-tools ' "$work/Dockerfile" || fail "the Dockerfile has no stage build that gives both programs"
  pod build -q --format docker --build-arg BASE=$base -f "$work/Dockerfile" -t $image "$work/context" >/dev/null
}
