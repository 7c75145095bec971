#!/usr/bin/env bash
# The whole story on this machine, in seconds and unattended: asking, approving less, getting in with
# plain ssh, being refused, giving back, breaking the glass, and checking the record. Everything lies in a
# temporary folder and listens on loopback only; your ~/.ssh and your ssh-agent are neither read nor changed.
# Every step asserts what it says. With --stay everything keeps running, for you to try.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
# Nobody is asked anything, and a closed standard input is as good as an open one.
exec </dev/null

stay=no
case ${1-} in
'') ;;
--stay) stay=yes ;;
-h | --help)
    echo "usage: scripts/demo.sh [--stay]"
    exit
    ;;
*) die "usage: scripts/demo.sh [--stay]" ;;
esac

bold='' cyan='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
    bold=$'\e[1m' cyan=$'\e[1;36m' plain=$'\e[0m'
fi

# What it starts, and how all of it ends -----------------------------------------------------------------------

demo='' pids=() last=''

cleanup() {
    local status=$? pid
    trap - EXIT
    if [ $status -eq 0 ] && [ $stay = yes ]; then
        return
    fi
    if [ $status -ne 0 ] && [ -n "$demo" ]; then
        tail -n 15 "$demo"/*.log "$demo"/*/sshd.log >&2 2>/dev/null || true
    fi
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    if [ -n "$demo" ]; then
        rm -rf "$demo"
    fi
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# started LOG COMMAND...: in the background, ended by its process id when the demo ends.
started() {
    local log=$1
    shift
    : >"$log"
    "$@" >"$log" 2>&1 &
    last=$!
    pids+=("$last")
}

wrong() {
    printf '\n' >&2
    die "NOT AS IT SHOULD BE: $*"
}

# soon WHAT COMMAND...: waits until the command succeeds, ten seconds at most.
soon() {
    local what=$1 try
    shift
    for try in {1..200}; do
        if "$@"; then
            return
        fi
        sleep 0.05
    done
    wrong "$what: not in ten seconds ($try tries)"
}

# Below the ports that outgoing connections get.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

# How it talks -------------------------------------------------------------------------------------------------

chapter() { printf '\n%s== %s%s\n' "$cyan" "$*" "$plain"; }
tell() { printf '%s\n' "$@"; }
typed() { printf '\n%s%s$ %s%s\n' "$bold" "$1" "$2" "$plain"; }

# What a program said, indented; long lines go on further right.
said() {
    awk '{
        gsub(/\t/, "    "); match($0, /^ */); more = "    " substr($0, 1, RLENGTH) "  "; line = "    " $0
        while (length(line) > 79) {
            cut = 79
            while (cut > length(more) + 24 && substr(line, cut, 1) != " ") cut--
            if (substr(line, cut, 1) != " ") cut = 79
            head = substr(line, 1, cut); sub(/ +$/, "", head); print head
            line = more substr(line, cut + 1)
        }
        print line
    }'
}

# as WHO COMMAND...: with that person's home and agent. Only alice has an agent.
as() {
    local who=$1
    shift
    if [ "$who" = alice ]; then
        env HOME="$demo/alice" SSH_AUTH_SOCK="$demo/alice/agent" "$@"
    else
        env -u SSH_AUTH_SOCK HOME="$demo/$who" "$@"
    fi
}

# play WHO 'COMMAND' [EXIT CODE]: shows what WHO types and what comes of it. The exit code must be that.
play() {
    local code=0
    typed "$1" "$2"
    as "$1" bash -o pipefail -c "$2" >"$demo/out" 2>&1 || code=$?
    said <"$demo/out"
    if [ "$code" -ne "${3-0}" ]; then
        wrong "exit code $code where ${3-0} was expected"
    fi
}

# It must have said this.
has_said() { grep -Eq -e "$1" "$demo/out" || wrong "it does not say: $1"; }

# enters HOST 'SSH ARGUMENTS', refused HOST 'SSH ARGUMENTS' 'WHAT SSHD LOGS': a login, and sshd's own word about it.
enters() {
    begin_log "$1"
    play alice "ssh $2 echo we are in"
    has_said '^we are in$'
    sshd_says "$1" 'Accepted publickey for .* ID '
}

refused() {
    begin_log "$1"
    play alice "ssh $2 echo we are in" 255
    has_said 'Permission denied'
    if [ -n "${3-}" ]; then
        sshd_says "$1" "$3"
    fi
}

begin_log() { log_lines=$(wc -l <"$demo/$1/sshd.log"); }

sshd_says() {
    soon "a line of $1's sshd: $2" found_in_log "$1" "$2"
    printf '  %s, sshd:\n' "$1"
    said <"$demo/found"
}
found_in_log() {
    tail -n +$((log_lines + 1)) "$demo/$1/sshd.log" | grep -E -e "$2" | tail -n 1 | tr -d '\r' >"$demo/found"
    [ -s "$demo/found" ]
}

# What it needs ------------------------------------------------------------------------------------------------

prepare() {
    need ssh=openssh-client ssh-keygen=openssh-client ssh-agent=openssh-client sshd=openssh-server
    need_rust
    account=$(id -un)
    case $(getent passwd "$account" | cut -d: -f7) in
    */nologin | */false) die "$account has no login shell, so no sshd lets it in; try as another user" ;;
    esac
}

# The development profile builds in a third of the release profile's time, and scripts/test.sh shares it.
build() {
    local target quiet=--quiet
    if [ -t 2 ]; then
        quiet=''
    fi
    echo "the first time this takes a few minutes"
    cargo build --locked $quiet
    target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    binary=$target/debug/ssh-jit
    [ -x "$binary" ] || die "cargo built no $binary"
}

step "tools" prepare
step "build" build
begin=$SECONDS

demo=$(mktemp -d "${TMPDIR:-/tmp}/ssh-jit.XXXXXX")
cd "$demo"
mkdir -p bin operator alice/.ssh carol/.ssh db1/principals db2/principals
chmod 700 alice carol alice/.ssh carol/.ssh
ln -s "$binary" bin/ssh-jit
# ssh takes the home folder from the account and not from HOME: without -F it would read yours.
printf '#!/bin/sh\nexec %q -F %q "$@"\n' "$(command -v ssh)" "$demo/ssh_config" >bin/ssh
chmod 755 bin/ssh
PATH=$demo/bin:$PATH
unset XDG_CONFIG_HOME XDG_STATE_HOME XDG_DATA_HOME SSH_ASKPASS SSH_ASKPASS_REQUIRE DISPLAY "${!SSH_JIT_@}"

for key in alice/.ssh/id_ed25519 alice/.ssh/emergency carol/.ssh/id_ed25519; do
    ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$key"
done
started agent.log ssh-agent -D -a "$demo/alice/agent"
soon "alice's ssh-agent" test -S alice/agent

# The service and the hosts ------------------------------------------------------------------------------------

chapter "1. a service, two people, two hosts"
tell "alice keeps the databases running, carol decides. All keys were made just now."
service=$(free_port)
play operator "ssh-jit init --dir ca --listen 127.0.0.1:$service \\
    --url http://localhost:$service"

cat >ca/policy.toml <<POLICY
[people.alice]
groups = ["sre"]
keys = ["$(cat alice/.ssh/id_ed25519.pub)"]

[people.carol]
groups = ["dba"]
keys = ["$(cat carol/.ssh/id_ed25519.pub)"]

[duties]
auditors = ["carol"]
reviewers = ["dba", "sre"]

[roles.db-prod]
hosts = ["db1", "db2"]
principals = ["db-prod"]
requesters = ["sre"]
approvers = ["dba"]
max = "4h"
default = "1h"
extensions = ["permit-pty"]

[roles.db-read]
hosts = ["db1", "db2"]
principals = ["db-read"]
requesters = ["sre"]
approvers = ["dba"]
automatic = { max = "15m" }
max = "1h"
default = "10m"
extensions = ["permit-pty"]

[[emergency_keys]]
person = "alice"
key = "$(cat alice/.ssh/emergency.pub)"
roles = ["db-prod"]
POLICY
tell "" "The policy (its keys are cut off here):"
sed -n '/^\[roles.db-prod\]/,$p' ca/policy.toml | cut -c 1-68 | sed 's/^/    /'
play operator 'ssh-jit policy check ca/policy.toml'

typed operator 'ssh-jit serve --config ca/ssh-jit.toml &'
started service.log ssh-jit serve --config "$demo/ca/ssh-jit.toml"
soon "the service" grep -q 'listening on' service.log
grep 'listening on' service.log | said

for person in alice carol; do
    extra=''
    if [ $person = alice ]; then
        extra=$' \\\n    --emergency-identity alice/.ssh/emergency'
    fi
    play $person "ssh-jit setup --no-ensure --server http://localhost:$service --user $person$extra"
done

# host NAME: a stock sshd of this user's own, which believes the CAs and knows its own principals.
host() {
    local name=$1 port
    port=$(free_port)
    ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$name/host_key"
    cp ca.pub "$name/ca.pub"
    printf '%s\n' "db-prod@$name" db-prod "db-read@$name" db-read >"$name/principals/$account"
    cat >"$name/sshd_config" <<SSHD
ListenAddress 127.0.0.1:$port
HostKey $demo/$name/host_key
TrustedUserCAKeys $demo/$name/ca.pub
AuthorizedPrincipalsFile $demo/$name/principals/%u
AuthorizedKeysFile none
AuthenticationMethods publickey
UsePAM no
# The folder is below /tmp, which everybody may write to; the folder itself is mode 0700.
StrictModes no
PermitUserRC no
PrintMotd no
PidFile none
SSHD
    # sshd 9.8 and later refuse whoever fails often, and failing is part of this.
    if "$sshd" -t -f "$name/sshd_config" -o PerSourcePenalties=no 2>/dev/null; then
        echo "PerSourcePenalties no" >>"$name/sshd_config"
    fi
    # sshd by itself refuses accounts with a locked password, which root's often is; PAM does not.
    if [ "$(id -u)" -eq 0 ] && [[ $(getent shadow "$account" | cut -d: -f2) == '!'* ]]; then
        sed -i 's/^UsePAM no/UsePAM yes/' "$name/sshd_config"
    fi
    started "$name/sshd.log" "$sshd" -D -e -f "$demo/$name/sshd_config"
    soon "$name's sshd" grep -q 'Server listening' "$name/sshd.log"
    printf '%s %s\n' "$name" "$(cut -d' ' -f1,2 "$name/host_key.pub")" >>known_hosts
    cat >>ssh_config <<SSH
Host $name
  HostName 127.0.0.1
  Port $port
  HostKeyAlias $name
SSH
}

typed operator "SSH_JIT_SERVER=http://localhost:$service ssh-jit ca show --sshd >ca.pub"
as operator env SSH_JIT_SERVER="http://localhost:$service" ssh-jit ca show --sshd >ca.pub 2>out
said <out
sshd=$(command -v sshd)
if [ "$(id -u)" -eq 0 ]; then
    mkdir -p /run/sshd
fi
printf 'Include "%s"\n' "$demo/alice/.config/ssh-jit/ssh_config" >ssh_config
host db1
host db2
cat >>ssh_config <<SSH
Host *
  User $account
  UserKnownHostsFile $demo/known_hosts
  GlobalKnownHostsFile none
  IdentityFile none
  BatchMode yes
SSH
tell "" "db1 and db2 are stock sshd on 127.0.0.1, with this and no authorized_keys:"
grep -E '^(Trusted|AuthorizedP)' db1/sshd_config | sed "s,$demo,...," | said
tell "    db1/principals/$account holds: $(paste -sd' ' "db1/principals/$account")"
tell "Nothing opens them yet:"
refused db1 db1

chapter "2. alice asks, and waits"
typed alice 'ssh-jit login db-prod --for 2h --reason "replica lag after failover" \
    --ticket INC-412'
started login.out as alice ssh-jit login db-prod --for 2h --reason "replica lag after failover" --ticket INC-412
login=$last
soon "alice's request" grep -q 'waiting' login.out
shown=$(wc -l <login.out)
said <login.out
request=$(sed -n 's/.*: request \([0-9A-Z-]*\)$/\1/p' login.out)
[ -n "$request" ] || wrong "the login names no request"

chapter "3. carol approves less"
play carol 'ssh-jit requests --pending'
has_said "$request"
tell "" "Two hours on both hosts were asked for; carol signs half an hour on db1."
play carol "ssh-jit approve $request --for 30m --host db1 \\
    --comment \"db1 is enough\""
has_said "$request is approved"
tell "" "alice's login, still waiting, goes on by itself:"
wait "$login" || wrong "alice's login ended with $?"
tail -n +$((shown + 1)) login.out | said
grep -q 'db-prod until .* db-prod@db1$' login.out || wrong "the login did not end in a certificate for db1 alone"

chapter "4. plain ssh"
enters db1 db1
tell "" "The certificate, as stock OpenSSH reads it:"
play alice 'ssh-add -L | ssh-keygen -L -f -'
has_said "Key ID: \"ssh-jit/$request/alice/db-prod/SHA256:"
has_said '^ +db-prod@db1$'
if grep -q 'db-prod@db2' out; then
    wrong "the certificate names db2"
fi
from=$(sed -n 's/.*Valid: from \(.*\) to .*/\1/p' out) to=$(sed -n 's/.*Valid: from .* to \(.*\)/\1/p' out)
length=$(($(date -d "$to" +%s) - $(date -d "$from" +%s)))
[ "$length" -eq 1800 ] || wrong "the certificate lasts $length s"
tell "" "From $from to $to:" \
    "$length seconds, exactly what carol signed."

chapter "5. and nowhere else"
tell "db2 believes the same CA, but carol left it out:"
refused db2 db2 'does not contain an authorized principal'

chapter "6. alice gives it back"
play alice 'ssh-jit done'
play alice 'ssh-add -l' 1
refused db1 db1
tell "" "Key and certificate are gone from alice's side. Hosts are not told yet: whoever" \
    "had copied both out of her agent could use them until the certificate ends."

chapter "7. access ends by itself"
tell "Up to 15 minutes of db-read need nobody's approval. Without an agent, key and" \
    "certificate stay in files, so that it is sshd alone that must refuse them."
play alice 'SSH_AUTH_SOCK= ssh-jit login db-read --for 5s --reason "look at the lag"'
has_said 'db-read until'
certificate=$(sed -n 's/^CertificateFile "\(.*\)"$/\1/p' alice/.config/ssh-jit/certificates)
[ -f "$certificate" ] || wrong "no certificate is named"
enters db1 db1
end=$(date -d "$(ssh-keygen -L -f "$certificate" | sed -n 's/.*Valid: from .* to \(.*\)/\1/p')" +%s)
printf '\nit ends at %s:' "$(date -d "@$end" +%T)"
while left=$((end - $(date +%s))) && [ $left -gt 0 ]; do
    printf ' %s' "$left"
    sleep 1
done
printf ' over\n'
[ -f "$certificate" ] || wrong "the certificate is gone"
refused db1 db1 'Certificate invalid: expired'

chapter "8. the glass"
tell "Nobody answers, the primary is down. alice has a key for that in the safe."
play alice 'ssh-jit break-glass db-prod --category outage --reason "it is down"' 30
play alice 'ssh-jit break-glass db-prod --category outage \
    --reason "the primary is down and nobody on call answers"'
has_said 'db-prod@db1 db-prod@db2'
enters db1 db1
grep -q 'ID BREAK-GLASS/' found || wrong "the log does not say that it was broken glass"
play carol 'ssh-jit review'
glass=$(sed -n 's/^\([0-9A-Z-]*\)  alice .*/\1/p' out)
[ -n "$glass" ] || wrong "no review is open"
tell "" "alice may review too, but not her own:"
play alice "ssh-jit review $glass --outcome justified \\
    --comment \"all good, really\"" 1
play carol "ssh-jit review $glass --outcome justified \\
    --comment \"it was down, the pager log agrees\""
play carol 'ssh-jit review'
has_said 'no review is open'

chapter "9. the record"
play carol 'ssh-jit audit list --from 3'
play carol 'ssh-jit audit verify'
has_said 'the log is whole'
tell "" "Every act above is an SSH signature. Stock ssh-keygen checks carol's approval:"
play carol 'ssh-jit audit export export'
approval=$(cd export && ls -- *-approval.json)
approval=${approval%.json}
verify="ssh-keygen -Y verify -f export/allowed_signers -I carol \\
    -n approval@ssh-jit -s export/$approval.sig \\
   "
play carol "$verify <export/$approval.json"
has_said 'Good "approval@ssh-jit" signature for carol'
tell "" "One byte changed, 1800 seconds to 9800:"
sed 's/"seconds":1800/"seconds":9800/' "export/$approval.json" >changed.json
[ "$(cmp -l changed.json "export/$approval.json" | wc -l)" -eq 1 ] || wrong "not one byte was changed"
play carol "$verify <changed.json" 255
has_said 'incorrect signature'

tell "" "A receipt is everything about one request. Somebody who has nothing else but" \
    "the trust document checks it, without the service:"
play alice "ssh-jit receipt $request >receipt.json"
play stranger 'ssh-jit verify receipt.json --trust ca/ca-keys/trust.json'
has_said 'proven by'
sed 's/seconds\\":1800/seconds\\":9800/' receipt.json >changed.json
if cmp -s receipt.json changed.json; then
    wrong "the receipt was not changed"
fi
tell "" "The same with the approval changed:"
play stranger 'ssh-jit verify changed.json --trust ca/ca-keys/trust.json' 1
has_said 'proves nothing'

printf '\n%s== all of it held%s: %d s\n' "$cyan" "$plain" $((SECONDS - begin))

# --stay -------------------------------------------------------------------------------------------------------

if [ $stay = no ]; then
    tell "Try it by hand: scripts/demo.sh --stay"
    exit
fi
for person in alice carol; do
    agent='unset SSH_AUTH_SOCK'
    if [ $person = alice ]; then
        agent="export SSH_AUTH_SOCK=$(printf %q "$demo/alice/agent")"
    fi
    cat >"$person.env" <<ENV
# For sh: be $person in this terminal, until you close it.
export HOME=$(printf %q "$demo/$person") PATH=$(printf %q "$demo/bin"):\$PATH
$agent
unset XDG_CONFIG_HOME XDG_STATE_HOME
unset SSH_JIT_SERVER SSH_JIT_USER SSH_JIT_IDENTITY SSH_JIT_EMERGENCY_IDENTITY SSH_JIT_INSTANCE
cd
ENV
    cat >"as-$person" <<AS
#!/bin/sh
# One command as $person, from any shell.
. $(printf %q "$demo/$person.env")
exec "\$@"
AS
    chmod 755 "as-$person"
done
# A process id may be another program's by then; what was started here has the folder in its arguments.
cat >stop <<STOP
#!/bin/sh
demo=$(printf %q "$demo")
for pid in ${pids[*]}; do
    if tr '\\0' ' ' 2>/dev/null <"/proc/\$pid/cmdline" | grep -qF "\$demo/"; then
        kill "\$pid"
    fi
done
rm -rf "\$demo"
STOP
chmod 755 stop
cat <<HOW

It keeps running, for you to try.

IN A BROWSER, by this name: passkeys do not work on 127.0.0.1. If your browser
is on another machine, ssh -L $service:localhost:$service brings it here.

    http://localhost:$service

1. Make a passkey for carol. This prints an address: open it, make the passkey
   there, compare the two fingerprints, and confirm with y.

    $demo/as-carol ssh-jit passkey add

2. Sign in at http://localhost:$service as carol. Nothing waits for her yet.

3. In another terminal alice asks, and waits. It appears on carol's page.

    $demo/as-alice ssh-jit login db-prod --for 1h --reason "to see how it feels"

4. Approve it on the page, or less of it, or deny it: alice's terminal goes on.
   Once it is approved, this lets her in:

    $demo/as-alice ssh db1

OR IN TERMINALS: in one be alice, in another carol.

    . $demo/alice.env
    ssh-jit roles
    ssh-jit login db-prod --for 1h --reason "to see how it feels"
    ssh db1

    . $demo/carol.env
    ssh-jit requests --pending
    ssh-jit approve REQUEST --for 10m
    ssh-jit audit list

Stop all of it and remove the folder:

    $demo/stop
HOW
