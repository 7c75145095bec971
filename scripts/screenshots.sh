#!/usr/bin/env bash
# Takes a picture of every page into docs/screenshots: run it when pages have changed. Takes two minutes,
# one of which a request takes to lapse.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

need_browser
step "cargo build" cargo build --locked
SSH_JIT=$(built) node tests/browser/screenshots.mjs docs/screenshots
