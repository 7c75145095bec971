#!/usr/bin/env bash
# Telling people, on this machine and unattended: a real service with three channels, a real mail server and a real
# receiver of webhooks, and a room that hangs throughout. Prints what arrives, and checks that the dead channel holds
# up nothing and shows. Everything lies in a temporary folder and listens on loopback; under a minute once it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
exec </dev/null

need python3=python3 ssh-keygen=openssh-client
need_rust
cargo build --locked --quiet
jit=$(built)

play='' pids=()
cleanup() {
    local status=$? pid
    trap - EXIT
    if [ $status -ne 0 ] && [ -n "$play" ]; then
        tail -n 15 "$play"/*.log >&2 || true
    fi
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [ -n "$play" ]; then
        rm -rf "$play"
    fi
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
play=$(mktemp -d)

# soon WHAT COMMAND...: waits until the command succeeds, twenty seconds at most.
soon() {
    local what=$1 try
    shift
    for try in {1..400}; do
        if "$@" >/dev/null 2>&1; then
            return
        fi
        sleep 0.05
    done
    die "NOT AS IT SHOULD BE: $what (tried $try times)"
}

as() {
    local who=$1
    shift
    env -u SSH_AUTH_SOCK HOME="$play/$who" "$jit" "$@"
}

arrived() { [ "$(grep -c "^=== $1" "$play/sinks.log")" -ge "$2" ]; }
# It ends with 1 where something is not well.
doctor() { as carol doctor || true; }
lists() { doctor | grep "$1"; }

printf '\n== A mail server, a receiver of webhooks, and a room that never answers\n'
python3 scripts/notify_sinks.py "$play" >"$play/sinks.log" 2>&1 &
pids+=($!)
soon 'the sinks listen' test -s "$play/ports"
read -r mail hook room <"$play/ports"

"$jit" init --dir "$play/ca" >"$play/init.log" 2>&1
printf 'whsec_%s\n' "$(head -c 32 /dev/urandom | base64 -w0)" >"$play/ca/hook-secret"
printf 'http://127.0.0.1:%s/services/T0/B0/secret\n' "$room" >"$play/ca/room-url"
chmod 600 "$play/ca/hook-secret" "$play/ca/room-url"
port=$((20000 + RANDOM % 10000))
cat >"$play/ca/ssh-jit.toml" <<END
url      = "http://localhost:$port"
listen   = "127.0.0.1:$port"
ca_keys  = "ca-keys"
policy   = "policy.toml"
database = "sqlite:ssh-jit.db"
journal  = "break-glass.journal"

[[notify]]
name = "ops-hook"
kind = "webhook"
url = "http://127.0.0.1:$hook/ssh-jit"
secret_file = "hook-secret"
allow = ["127.0.0.0/8"]

[[notify]]
name = "ops-room"
kind = "slack"
url_file = "room-url"
allow = ["127.0.0.0/8"]

[[notify]]
name = "ops-mail"
kind = "smtp"
server = "127.0.0.1:$mail"
tls = "none"
from = "ssh-jit@ca.example"
allow = ["127.0.0.0/8"]
END
for who in alice carol dan safe; do
    mkdir -m 700 "$play/$who"
    ssh-keygen -q -t ed25519 -N '' -C "$who" -f "$play/$who/key"
done
{
    for who in alice carol dan; do
        printf '[people.%s]\nemail = "%s@example.org"\nkeys = ["%s"]\n' "$who" "$who" "$(cat "$play/$who/key.pub")"
    done
    printf '[duties]\nadmins = ["carol"]\nreviewers = ["carol"]\n'
    printf '[roles.db]\nhosts = ["db1"]\nprincipals = ["db"]\nrequesters = ["alice"]\n'
    printf 'approvers = ["carol", "dan"]\nmax = "2h"\n'
    printf '[[emergency_keys]]\nperson = "alice"\nkey = "%s"\nroles = ["db"]\n' "$(cat "$play/safe/key.pub")"
} >"$play/ca/policy.toml"
"$jit" serve --config "$play/ca/ssh-jit.toml" >"$play/serve.log" 2>&1 &
pids+=($!)
soon 'the service listens' grep -q 'listening on' "$play/serve.log"
for who in alice carol dan; do
    as "$who" setup --server "http://localhost:$port" --user "$who" --identity "$play/$who/key" >>"$play/setup.log" 2>&1
done

printf '\n== alice asks; carol and dan are told, and alice is told who they are\n'
reason='replica lag <!channel> *now* <https://evil.example|ok>'
request=$(as alice login db --for 1h --reason "$reason" --no-wait --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["request"])') || true
[ -n "$request" ] || die 'NOT AS IT SHOULD BE: no request'
soon 'three mails' arrived MAIL 3
soon 'one webhook' arrived WEBHOOK 1

printf '== carol approves while the room hangs\n'
begin=$(date +%s%N)
as carol approve "$request" --comment 'enough for the slot' >"$play/approve.log" 2>&1
printf '   it took her %d ms, start of the program included\n' $((($(date +%s%N) - begin) / 1000000))
soon 'five mails' arrived MAIL 5
soon 'two webhooks' arrived WEBHOOK 2

printf '== alice breaks the glass while the room hangs\n'
begin=$(date +%s%N)
SSH_JIT_EMERGENCY_IDENTITY=$play/safe/key as alice break-glass db --category outage --reason 'the primary is down and nobody answers' >"$play/glass.log" 2>&1
printf '   it took her %d ms\n' $((($(date +%s%N) - begin) / 1000000))
soon 'seven mails' arrived MAIL 7
soon 'three webhooks' arrived WEBHOOK 3

printf '\n== What arrived\n'
cat "$play/sinks.log"
if grep -q 'ROOM' "$play/sinks.log" || grep -q 'WRONG' "$play/sinks.log"; then
    die 'NOT AS IT SHOULD BE: see above'
fi

printf '\n== What carol, an administrator, sees of it\n'
soon 'doctor shows the room' lists 'NOT  channel   ops-room'
doctor | grep -A1 channel
if doctor | grep 'B0/secret' || grep -q 'B0/secret' "$play/serve.log"; then
    die 'NOT AS IT SHOULD BE: the URL of the room is shown'
fi
printf '\nAll as it should be.\n'
