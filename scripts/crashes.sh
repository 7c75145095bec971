#!/usr/bin/env bash
# Kills the real server, and fails its calls, at every point where it writes, syncs or sends, and checks what is
# there afterwards. With names of flows only these; `scripts/crashes.sh short` is what scripts/test.sh runs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

extent=full
if [ "${1:-}" = short ]; then
    extent=short
    shift
    # Not worth asking anybody for: it says when it skips.
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        need strace=strace
    fi
else
    need strace=strace
fi
need_rust
cargo test --locked --quiet --test crashes -- --sweep "$extent" "$@"
