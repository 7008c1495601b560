#!/bin/sh
# Builds the Pulumi CLI that the tests of tests/engine use, once, into a cache outside of the tree.
# It comes from the Go module proxy, pinned by scripts/engine/go.sum. Prints its path.
set -eu

VERSION=v3.259.0
PACKAGE=github.com/pulumi/pulumi/pkg/v3/cmd/pulumi
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/cloudfn/engine/$VERSION"

if [ -x "$cache/pulumi" ]; then
    echo "$cache/pulumi"
    exit 0
fi
. "$here/go.sh"
echo "Building the Pulumi CLI $VERSION (minutes, once)" >&2
mkdir -p "$cache"
partial="$cache/.pulumi.$$"
trap 'rm -f "$partial"' EXIT
# Without a version in it, the Automation API refuses the CLI.
cd "$here/engine"
GOFLAGS="-mod=readonly -buildvcs=false" go build \
    -ldflags "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$VERSION" -o "$partial" "$PACKAGE"
mv "$partial" "$cache/pulumi" # at once: another build may have been faster
echo "$cache/pulumi"
