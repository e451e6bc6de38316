# Sourced by test.sh and compose-test.sh: the image of the repository's Dockerfile on a machine without a registry.
#
# The base image is imported from a debootstrap tree. The Dockerfile is the repository's, but for its first stage: the program is
# given, not built, because a release build in a container takes longer than all the rest.
#
# Wants `here` (this folder), `program` (streamhouse, with kafka-tools beside it), `work` (a folder to write in), and `pod`: docker or
# podman, whose words are the same. STREAMHOUSE_IMAGE: the image to use instead, built before by all the stages of the Dockerfile.
base=localhost/streamhouse-test-base image=${STREAMHOUSE_IMAGE:-localhost/streamhouse-test}

step() { printf '== %s\n' "$*"; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }

# needs <tool...>: where it cannot run, that is no pass; this says why.
needs() {
  for tool in debootstrap iptables strip "$@"; do command -v "$tool" >/dev/null || fail "$tool is missing"; done
}

base_image() {
  pod image inspect $base >/dev/null 2>&1 && return
  step "base image"
  local tries=0
  until [ -d "$work/tree" ]; do # a download may fail
    rm -rf "$work/tree.new"
    if debootstrap --variant=minbase --include=ca-certificates,busybox-static,netcat-openbsd,kcat bookworm "$work/tree.new" >"$work/debootstrap.log"; then
      mv "$work/tree.new" "$work/tree"
    elif [ $((tries += 1)) -ge 3 ]; then
      fail "the base image cannot be made: $(tail -n 3 "$work/debootstrap.log")"
    fi
  done
  tar -C "$work/tree" -c . | pod import - $base >/dev/null
}

own_image() {
  [ -z "${STREAMHOUSE_IMAGE:-}" ] || return 0
  step "image"
  mkdir -p "$work/context/docker"
  cp "$here/entrypoint.sh" "$work/context/docker"
  cp "$program" "$work/context/streamhouse"
  cp "$(dirname "$program")/kafka-tools" "$work/context/kafka-tools" || fail "kafka-tools is not beside $program"
  strip "$work/context/streamhouse" "$work/context/kafka-tools"
  awk '/^FROM .* AS build$/ { skip = 1 } /^FROM/ && !/ AS build$/ { skip = 0 } !skip' "$here/Dockerfile" |
    sed 's|^COPY --from=build /streamhouse /kafka-tools |COPY streamhouse kafka-tools |' >"$work/Dockerfile"
  grep -q '^COPY streamhouse kafka-tools ' "$work/Dockerfile" || fail "the Dockerfile has no stage build that gives both programs"
  # Health checks are not in podman's own format of images.
  BUILDAH_FORMAT=docker pod build -q --build-arg BASE=$base -f "$work/Dockerfile" -t $image "$work/context" >/dev/null
}
