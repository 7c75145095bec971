#!/usr/bin/env bash
# For every guard of tests/guards.toml: switches that one off, and watches its test go red. With names of guards only
# these. By hand, and not for each change: it builds all of it anew once, then once for each guard that is marked
# `alone`, and runs every test. What it builds stays in target/guards for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

need python3=python3 git=git ssh-keygen=openssh-client ssh-agent=openssh-client sshd=openssh-server
need_rust
exec python3 scripts/guards.py "$(realpath -m "${CARGO_TARGET_DIR:-target}/guards")" "$@"
