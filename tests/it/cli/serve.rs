//! `ssh-jit serve`: what it refuses to start on, and how it reloads and ends.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::world::{Ran, World, ssh_jit};
use crate::support::{run, tool};

fn serve(world: &World) -> Ran {
    world.run(world.serve())
}

fn chmod(world: &World, name: &str, mode: u32) {
    fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
}

/// S01: a key that others could have read or put there signs nothing.
#[test]
fn keys_of_others_are_refused() {
    let world = World::prepared();
    let loose =
        |what: &str, mode, remedy| format!("ssh-jit: DIR/ca/{what}: others may use it (mode {mode}); {remedy} it");
    for mode in [0o640, 0o604, 0o620] {
        chmod(&world, "ca/ca-keys/user-ca", mode);
        serve(&world).is(1, &[], &[&loose("ca-keys/user-ca", format!("{mode:o}"), "chmod 600")]);
    }
    chmod(&world, "ca/ca-keys/user-ca", 0o600);
    chmod(&world, "ca/ca-keys", 0o750);
    serve(&world).is(1, &[], &[&loose("ca-keys", "750".to_owned(), "chmod 700")]);
    chmod(&world, "ca/ca-keys", 0o700);

    fs::rename(world.path("ca/ca-keys/log"), world.path("log")).unwrap();
    symlink(world.path("log"), world.path("ca/ca-keys/log")).unwrap();
    serve(&world).is(1, &[], &["ssh-jit: DIR/ca/ca-keys/log: Too many levels of symbolic links (os error 40)"]);
    fs::remove_file(world.path("ca/ca-keys/log")).unwrap();
    serve(&world).is(1, &[], &["ssh-jit: DIR/ca/ca-keys/log: No such file or directory (os error 2)"]);
    fs::copy(world.path("ca/ca-keys/krl"), world.path("ca/ca-keys/log")).unwrap();
    serve(&world).is(
        1,
        &[],
        &["ssh-jit: DIR/ca/ca-keys/krl: it holds the same key as another file of the folder; each needs its own"],
    );
    fs::write(world.path("ca/ca-keys/log"), "key").unwrap();
    serve(&world).is(1, &[], &["ssh-jit: DIR/ca/ca-keys/log: it is not an Ed25519 private key in OpenSSH's format"]);
}

/// Keys that were replaced behind the trust document's back are another CA.
#[test]
fn keys_that_nobody_vouches_for_are_refused() {
    let world = World::prepared();
    fs::copy(world.key("other"), world.path("ca/ca-keys/user-ca")).unwrap();
    serve(&world).is(
        1,
        &[],
        &["ssh-jit: trust.json names other keys than ca-keys holds; put back what belongs together"],
    );
}

#[test]
fn encrypted_keys_need_their_passphrase() {
    let world = World::prepared();
    for key in ["break-glass-ca", "host-ca", "journal", "krl", "log", "user-ca"] {
        let file = world.path(&format!("ca/ca-keys/{key}"));
        run(tool("ssh-keygen").args(["-q", "-p", "-P", "", "-N", "correct horse", "-a", "1", "-f"]).arg(file));
    }
    // None of its keys sorts before this one.
    let first = "DIR/ca/ca-keys/user-ca";
    serve(&world).is(
        1,
        &[],
        &[&format!(
            "ssh-jit: {first}: the keys are encrypted; give the passphrase by --passphrase-fd, the credential \
             ca-passphrase, or a terminal"
        )],
    );
    let with = |passphrase: &str| {
        world.write("passphrase", passphrase);
        let mut command = tool("sh");
        command.args(["-c", "exec \"$@\" 3<\"$0\""]).arg(world.path("passphrase"));
        command.arg(env!("CARGO_BIN_EXE_ssh-jit")).args(["serve", "--passphrase-fd", "3", "--config"]);
        command.arg(world.path("ca/ssh-jit.toml"));
        command
    };
    for wrong in ["", "correct", "correct horse "] {
        let refused = format!("ssh-jit: {first}: the key is encrypted, and the passphrase is missing or wrong");
        world.run(with(wrong)).is(1, &[], &[&refused]);
    }
    for right in ["correct horse", "correct horse\n"] {
        let mut server = world.spawn(with(right));
        server.wait_for("listening on ");
        server.signal(Signal::TERM);
        server.end().good();
    }
    // As systemd hands it over.
    world.write("ca-passphrase", "correct horse\n");
    let mut command = world.serve();
    command.env("CREDENTIALS_DIRECTORY", world.path(""));
    let mut server = world.spawn(command);
    server.wait_for("listening on ");
    drop(server);
    world.write("ca-passphrase", "wrong horse\n");
    let mut command = world.serve();
    command.env("CREDENTIALS_DIRECTORY", world.path(""));
    assert_eq!(world.run(command).code, 1);
    fs::remove_file(world.path("ca-passphrase")).unwrap();
    let mut command = world.serve();
    command.args(["--passphrase-fd", "9"]);
    world.run(command).is(
        1,
        &[],
        &[&format!("ssh-jit: {first}: passphrase from /proc/self/fd/9: No such file or directory (os error 2)")],
    );
}

#[test]
fn the_database_is_the_one_that_was_made() {
    let mut world = World::new();
    let mut second = world.spawn(world.serve());
    second.wait_for("another");
    second.end().is(1, &[], &["ssh-jit: DIR/ca/ssh-jit.lock: another ssh-jit has this database open"]);
    world.stop().good();

    let database = rusqlite::Connection::open(world.path("ca/ssh-jit.db")).unwrap();
    database.execute("INSERT INTO migrations VALUES (99, 'x')", []).unwrap();
    let newer = "ssh-jit: the database has schema 99, and this version knows 8; run a newer ssh-jit";
    serve(&world).is(1, &[], &[newer]);
    database.execute("DELETE FROM migrations WHERE number = 99", []).unwrap();
    database.execute("UPDATE migrations SET sha256 = 'x'", []).unwrap();
    serve(&world).is(1, &[], &["ssh-jit: migration 1 is not the one that made this database"]);
    drop(database);

    world.write("ca/ssh-jit.db", "this is no database, but some text that is long enough to be looked at");
    serve(&world).is(1, &[], &["ssh-jit: DIR/ca/ssh-jit.db: file is not a database"]);
    fs::remove_file(world.path("ca/ssh-jit.db")).unwrap();
    let missing = "ssh-jit: DIR/ca/ssh-jit.db: there is no database; run ssh-jit init, or put the backup back: an empty \
                   database would issue serials twice";
    serve(&world).is(1, &[], &[missing]);
    assert!(!world.path("ca/ssh-jit.db").exists(), "none was made");
}

/// Each with the line and the field, so that nobody has to guess.
#[test]
fn its_file_is_whole_and_safe() {
    let world = World::prepared();
    let good = fs::read_to_string(world.path("ca/ssh-jit.toml")).unwrap();
    let file = "ssh-jit: DIR/ca/ssh-jit.toml";
    let refuses = |text: &str, said: &str| {
        world.write("ca/ssh-jit.toml", text);
        serve(&world).is(1, &[], &[&format!("{file}:{said}")]);
    };
    refuses("", "1: missing field `url`");
    refuses("gar bage", "1: key with no value, expected `=`");
    refuses(
        &good.replace("journal", "jurnal"),
        "6: jurnal: unknown field `jurnal`, expected one of `url`, `listen`, `ca_keys`, `policy`, `database`, `journal`, `tls_cert`, `tls_key`, `connections_per_address`, `behind_proxy`, `trusted_proxies`, `clock_skew`, `remembered`, `oidc`, `sources`, `ticket_checks`, `notify`",
    );
    refuses(&good.replace("127.0.0.1:0", "localhost"), "2: listen: invalid socket address syntax");
    refuses(
        &good.replace("127.0.0.1:0", "0.0.0.0:0"),
        " listen: plain HTTP is served on loopback only; set tls_cert and tls_key, or put a proxy with TLS before it and \
         set behind_proxy = true",
    );
    refuses(&good.replace("http:", "gopher:"), " url: write http://... or https://...");
    refuses(&format!("{good}clock_skew = 61\n"), " clock_skew: at most 60 seconds");
    let oidc = |rest: &str| format!("{good}[oidc]\nclient_id = \"x\"\n{rest}\n");
    refuses(&oidc(""), "7: missing field `issuer`");
    refuses(
        &oidc("issuer = \"http://id.example\""),
        " oidc.issuer: write https://... (http:// on loopback only), and nothing behind the path",
    );
    world.write("ca/secret", "s3cret");
    fs::set_permissions(world.path("ca/secret"), fs::Permissions::from_mode(0o640)).unwrap();
    refuses(
        &oidc("issuer = \"https://id.example\"\nclient_secret_file = \"secret\""),
        " oidc.client_secret_file: secret: others may use it (mode 640); chmod 600 it",
    );
    refuses(&format!("{good}connections_per_address = 0\n"), " connections_per_address: at least 1");
    refuses(&format!("{good}tls_cert = \"x\"\n"), " tls_key: it is missing, and tls_cert needs it");
    refuses(&format!("{good}tls_key = \"x\"\n"), " tls_cert: it is missing, and tls_key needs it");
    let both = "tls_cert = \"x\"\ntls_key = \"x\"\n";
    refuses(&format!("{good}{both}"), " url: with tls_cert it is served as https://...");
    refuses(&format!("{good}listen = \"127.0.0.1:1\"\n"), "7: listen: duplicate key");
    world.write("ca/ssh-jit.toml", &good.replace("sqlite:", "mysql:"));
    serve(&world).is(1, &[], &["ssh-jit: database: \"mysql:ssh-jit.db\" is not known; write sqlite:FILE"]);
    fs::remove_file(world.path("ca/ssh-jit.toml")).unwrap();
    serve(&world).is(
        1,
        &[],
        &[&format!("{file}: No such file or directory (os error 2); run ssh-jit init to make one")],
    );

    world.write("ca/ssh-jit.toml", &(good.replace("127.0.0.1:0", "0.0.0.0:0") + "behind_proxy = true\n"));
    let mut server = world.spawn(world.serve());
    server.wait_for("listening on 0.0.0.0:");
}

#[test]
fn its_policy_is_whole() {
    let world = World::prepared();
    let good = fs::read_to_string(world.path("ca/policy.toml")).unwrap();
    world.write("ca/policy.toml", &good.replace("max = \"2h\"", "max = \"2 hours\""));
    let line = good.lines().position(|line| line == "max = \"2h\"").unwrap() + 1;
    let wrong = format!(
        "ssh-jit: DIR/ca/policy.toml:{line}: roles.vault.max: duration \"2 hours\" is not valid: write it as 90m, 2h or 1h30m"
    );
    serve(&world).is(1, &[], &[&wrong]);
    fs::remove_file(world.path("ca/policy.toml")).unwrap();
    serve(&world).is(1, &[], &["ssh-jit: DIR/ca/policy.toml: No such file or directory (os error 2)"]);
}

#[test]
fn its_journal_is_whole() {
    let world = World::prepared();
    world.write("ca/break-glass.journal", "{\"entry\":\"x\",\"signature\":\"y\"}\n");
    serve(&world).is(
        1,
        &[],
        &["ssh-jit: journal DIR/ca/break-glass.journal, line 1: signature: it is not an SSH signature of an accepted \
           kind; keep the file as evidence, and set journal to a new one"],
    );
}

#[test]
fn a_taken_port_is_named() {
    let world = World::new();
    let other = World::prepared();
    other.listen_on(world.port());
    serve(&other).is(1, &[], &["ssh-jit: listen: 127.0.0.1:PORT: Address already in use (os error 98)"]);
}

/// SIGHUP: the new policy, whole, or the old one stays.
#[test]
fn a_hangup_loads_the_policy() {
    let mut world = World::new();
    let roles = |world: &World| {
        let roles = world.as_("alice").run(&["roles", "--json"]).good().json();
        roles.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(roles(&world), ["db-prod", "quick", "vault"]);
    let good = world.usual_policy();
    world.write("ca/policy.toml", &good.replace("[roles.quick]", "[roles.quick"));
    world.server().signal(Signal::HUP);
    world.server().wait_for("the policy was refused; the running one stays");
    assert!(world.server().stderr().contains("policy.toml:"), "{}", world.server().stderr());
    assert_eq!(roles(&world), ["db-prod", "quick", "vault"]);
    world.load_policy(&good.replace("[roles.quick]", "[roles.slow]"));
    assert_eq!(roles(&world), ["db-prod", "slow", "vault"]);
}

#[test]
fn it_ends_when_asked() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::prepared();
        let mut server = world.spawn(world.serve());
        server.wait_for("listening on ");
        server.signal(signal);
        let ended = server.end().good();
        ended.is(0, &[], &["ssh-jit: listening on 127.0.0.1:PORT, instance INSTANCE"]);
    }
}

/// Somebody who waits for a decision does not hold up the end, and goes on waiting for the next start.
#[test]
fn who_waits_outlives_a_restart() {
    let mut world = World::new();
    let mut login = world.as_("alice").spawn(&["login", "vault", "--reason", "rotate the root token"]);
    login.wait_for("waiting (");
    let begun = Instant::now();
    world.stop().good();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    login.wait_for("the service does not answer; the request is kept, and asked about again");
    world.start();
    let pending = world.as_("carol").run(&["requests", "--pending", "--json"]).good().json();
    let id = pending[0]["id"].as_str().unwrap();
    for approver in ["carol", "dan"] {
        world.as_(approver).run(&["approve", id]).good();
    }
    login.end().good();
}

#[test]
fn a_second_run_needs_nothing_from_the_first() {
    let mut world = World::new();
    let id = world.as_("alice").ask(&["vault", "--reason", "rotate the root token"]);
    world.stop().good();
    world.start();
    world.as_("carol").run(&["approve", &id]).good();
    world.as_("dan").run(&["approve", &id]).good();
    world.as_("alice").run(&["login", &id]).good();
    let mut version = ssh_jit();
    version.arg("--version");
    world.run(version).is(0, &[concat!("ssh-jit ", env!("CARGO_PKG_VERSION"))], &[]);
}

/// A06: what stands in a file is told in one line, of JSON where a machine reads it, and drives no terminal.
#[test]
fn no_text_forges_a_line_of_the_log() {
    let mut world = World::new();
    let good = world.usual_policy();
    let forged = "\\u001b]0;x\\u0007\\u202e\\u2028\\nssh-jit: all is well";
    world.write("ca/policy.toml", &format!("{good}\n[\"{forged}\"]\nx = 1\n"));
    world.server().signal(Signal::HUP);
    world.server().wait_for("the policy was refused");
    let said = world.server().stderr();
    let (first, rest) = said.split_once('\n').unwrap();
    assert!(first.starts_with("ssh-jit: listening on "), "{said}");
    for line in rest.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    assert!(rest.contains("unknown field") && !said.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{2028}']), "{said:?}");
    world.stop();
    let refused = serve(&world);
    assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{refused:?}");
    assert!(!refused.stderr.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{2028}']), "{refused:?}");
}
