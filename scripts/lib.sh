# shellcheck shell=bash
# Sourced by the scripts beside it: steps that say how long they took, and the tools that they need.

set -Eeuo pipefail
# Debian keeps sshd where only root looks.
PATH=$PATH:/usr/sbin:/sbin

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# step NAME COMMAND...: runs the command between two lines that name it; the first failure ends the script.
step() {
    current_step=$1
    local begin=$SECONDS
    shift
    printf '== %s\n' "$current_step"
    "$@"
    printf '== %s: ok, %d s\n' "$current_step" $((SECONDS - begin))
    current_step=''
}
current_step=''
trap 'if [ -n "$current_step" ]; then printf "== %s: FAILED\n" "$current_step" >&2; current_step=""; fi' ERR

# missing COMMAND=PACKAGE[,PACKAGE]...: prints Debian's packages for the commands that are missing.
missing() {
    local pair
    for pair in "$@"; do
        if ! command -v "${pair%%=*}" >/dev/null; then
            printf '%s ' "${pair#*=}" | tr , ' '
        fi
    done
}

# may_install: whether this is root of a Debian machine.
may_install() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null
}

# need COMMAND=PACKAGE[,PACKAGE]...: has the packages for the commands that are missing. Who may install gets
# them installed; everybody else is told what to install.
need() {
    local packages
    read -ra packages <<<"$(missing "$@")"
    if [ ${#packages[@]} -eq 0 ]; then
        return
    fi
    if ! may_install; then
        die "something is missing; on Debian: apt-get install ${packages[*]}"
    fi
    printf 'installing: %s\n' "${packages[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
}

# need_rust: a toolchain that Cargo.toml accepts, a C compiler and make (SQLite and jemalloc are built from source).
need_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    command -v cargo >/dev/null || die "no cargo; install Rust $wanted or later with rustup"
    found=$(rustc --version | cut -d' ' -f2)
    printf '%s\n%s\n' "$wanted" "$found" | sort -CV || die "Rust $wanted or later is needed, and this is $found; try: rustup update"
    need cc=gcc,libc6-dev make=make
}

# What tests of the pages need beside Rust and OpenSSH.
browser_tools=(chromium=chromium node=nodejs npm=npm)

# need_browser: Chromium, and Node.js with the packages that tests/browser pins.
need_browser() {
    need ssh-keygen=openssh-client ssh-agent=openssh-client "${browser_tools[@]}"
    need_rust
    CHROMIUM=${CHROMIUM:-$(command -v chromium)}
    export CHROMIUM
    npm ci --prefix tests/browser --no-audit --no-fund --silent
}

# built: where `cargo build` puts the binary.
built() {
    realpath "${CARGO_TARGET_DIR:-target}/debug/ssh-jit"
}
