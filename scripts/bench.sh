#!/usr/bin/env bash
# How fast the real server is on this machine: builds it for release and prints a table. With the names of
# parts (policy, krl, flood, commands, bare, lives, claims, waiting, pages) only those run, and two that run only when
# they are named: `hosts`, which takes minutes, and `million`, which stores 10^6 requests first.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

need ssh-keygen=openssh-client ssh-agent=openssh-client
need_rust
# Built before anything is measured: a compiler would take the cores that are measured.
cargo bench --locked --bench spine --no-run
lscpu | sed -n 's/^Model name: */CPU: /p; s/^CPU(s): */cores: /p'
sed -n 's/^MemTotal: */memory: /p' /proc/meminfo
printf 'load before the run: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
cargo bench --locked --quiet --bench spine -- "$@"
