#!/usr/bin/env bash
# Tests of the pages in Chromium, with passkeys. With names of files of tests/browser only these run.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

need_browser
step "cargo build" cargo build --locked
SSH_JIT=$(built)
export SSH_JIT
cd tests/browser
# Each file has a service and a browser of its own, so that two can run at once.
timeout --kill-after=10 480 node --test --test-concurrency=2 "$@"
