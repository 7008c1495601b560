#!/bin/sh
# Builds AWS's own session-manager-plugin, which carries SSH through Systems Manager, for the tests of tests/machine_room,
# once, into a cache outside of the tree. It comes from the Go module proxy, pinned by scripts/session_plugin/go.sum.
# Prints its path.
set -eu

# AWS tags releases with four numbers, which is no version for Go: the module is named by its commit.
COMMIT=b79d06c1d3a2
PACKAGE=github.com/aws/session-manager-plugin/src/sessionmanagerplugin-main
here="$(cd "$(dirname "$0")" && pwd)"
program="${XDG_CACHE_HOME:-$HOME/.cache}/cloudfn/session-plugin/$COMMIT/session-manager-plugin"

if [ -x "$program" ]; then
    echo "$program"
    exit 0
fi
. "$here/go.sh"
echo "Building session-manager-plugin $COMMIT (a minute, once)" >&2
mkdir -p "$(dirname "$program")"
partial="$program.$$"
trap 'rm -f "$partial"' EXIT
cd "$here/session_plugin"
GOFLAGS="-mod=readonly -buildvcs=false" go build -ldflags "-s -w" -o "$partial" "$PACKAGE"
mv "$partial" "$program" # at once: another build may have been faster
echo "$program"
