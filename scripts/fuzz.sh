#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/ under libFuzzer: scripts/fuzz.sh [SECONDS] [TARGET...], 60 s each of all of them if
# nothing is said. What it finds worth keeping goes into fuzz/corpus/, minimised; what breaks a property into
# fuzz/artifacts/. Stable Rust and a C++ compiler are enough: the coverage that libFuzzer follows comes from a pass
# that every rustc has, and no sanitizer is needed where no unsafe code is ours.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
# shellcheck source=scripts/lib.sh
source ../scripts/lib.sh

seconds=${1:-60}
shift || true
if [ $# -eq 0 ]; then
    mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
else
    targets=("$@")
fi
# Not the machine's own: build scripts and macros would not link with coverage.
platform=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"

build() {
    need_rust
    need c++=g++
    RUSTFLAGS=$coverage cargo build --locked --release --target "$platform"
}

# fuzz TARGET: a folder of its own to grow in, merged into the corpus when nothing was found.
fuzz() {
    local binary=target/$platform/release/$1 grown pid status=0
    grown=$(mktemp -d)
    mkdir -p "corpus/$1" "artifacts/$1"
    "$binary" -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -verbosity=1 -artifact_prefix="artifacts/$1/" "$grown" "corpus/$1" >"$grown.log" 2>&1 &
    pid=$!
    wait "$pid" || status=$?
    # A fuzzer ends without dropping what it holds.
    rm -rf /dev/shm/ssh-jit-fuzz-"$pid"-*
    grep -E '^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)|cov: .*DONE|panicked|SUMMARY|Test unit' \
        "$grown.log" || true
    if [ "$status" -ne 0 ]; then
        tail -30 "$grown.log"
        return "$status"
    fi
    minimise "$1" "$binary" "$grown"
    rm -r "$grown" "$grown.log"
}

# minimise TARGET BINARY GROWN: the least number of small inputs that reach all that was reached, 80 within 80 kB, and
# what was genuine from the start (its names are shorter than libFuzzer's).
minimise() {
    local least
    least=$(mktemp -d)
    "$2" -merge=1 -max_len=4096 "$least" "corpus/$1" "$3" >/dev/null 2>&1
    find "$least" -type f -printf '%s %p\n' | sort -n | awk 'NR > 80 || (all += $1) > 80000 { print $2 }' | xargs -r rm
    find "corpus/$1" -type f -name '????????????????' -exec cp -t "$least" {} +
    rm -rf "corpus/$1"
    mv "$least" "corpus/$1"
    chmod 755 "corpus/$1"
}

step "build" build
for target in "${targets[@]}"; do
    step "$target" fuzz "$target"
done
du -sh corpus
