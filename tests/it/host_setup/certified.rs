//! Hosts with certificates of their own, on a real sshd: people know them by the CA alone, and nothing that fails on the
//! way keeps anybody out.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::openssh::user;
use crate::support::world::{As, Ran, World, host_sync};
use crate::support::{output, tool, wait_until};

use super::tree::Tree;

/// A service whose administrator is carol; hosts are certified for so long.
fn world(certified_for: &str) -> World {
    let mut world = World::prepared();
    let text = fs::read_to_string(world.path("ca/ssh-jit.toml")).expect("a configuration");
    world.write("ca/ssh-jit.toml", &format!("host_certificates = \"{certified_for}\"\n{text}"));
    world.write("ca/policy.toml", &world.usual_policy().replace("[duties]", "[duties]\nadmins = [\"carol\"]"));
    world.start();
    world
}

fn host_key(tree: &Tree<'_>) -> String {
    tree.path("/etc/ssh/sshd_host_key").display().to_string()
}

fn invite(carol: &As<'_>, args: &[&str]) -> String {
    carol.run(&[&["host", "invite"], args].concat()).good().stdout.trim().to_owned()
}

fn enrol(world: &World, tree: &Tree<'_>, token: &str) -> Ran {
    ssh_jit::files::write_private(&world.path("token"), token.as_bytes()).expect("a token");
    let (file, key) = (world.path("token").display().to_string(), host_key(tree));
    tree.run(&["enrol", "--token-file", &file, "--host-key", &key])
}

/// A host that is set up and enrolled.
fn enrolled(world: &World) -> Tree<'_> {
    let tree = Tree::new(world);
    tree.setup(&[]).good();
    enrol(world, &tree, &invite(&world.as_("carol"), &["db1"])).good();
    tree
}

fn sync(world: &World, tree: &Tree<'_>) -> Ran {
    world.run(host_sync(&tree.path("/etc/ssh/ssh-jit"), &["--once", "--json"]))
}

/// `ssh NAME` that knows hosts by this file alone, and takes no unknown one: what it said, as far as host keys go.
fn knows(tree: &Tree<'_>, name: &str, known_hosts: &str) -> Result<String, String> {
    let file = tree.path("/known");
    fs::write(&file, known_hosts).expect("a file");
    let mut command = tool("ssh");
    command.args(["-v", "-F", "none", "-p", &tree.host.sshd.port.to_string(), "-l", &user()]);
    for option in ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "HostName=127.0.0.1"] {
        command.args(["-o", option]);
    }
    command.args(["-o", &format!("UserKnownHostsFile={}", file.display()), "-o", "GlobalKnownHostsFile=/dev/null"]);
    command.args(["-o", &format!("HostKeyAlias={name}"), "-i"]).arg(&tree.standing).args([name, "true"]);
    let output = output(&mut command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The serial of the certificate that sshd shows.
fn shown(tree: &Tree<'_>, known_hosts: &str) -> u64 {
    let said = knows(tree, "db1", known_hosts).expect("a host that is known");
    let line = said.lines().find(|line| line.contains("Server host certificate:")).expect("a certificate");
    let serial = line.split("serial ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a serial");
    serial.parse().expect("a number")
}

fn certificate(tree: &Tree<'_>) -> PathBuf {
    tree.path("/etc/ssh/ssh-jit/host-cert.pub")
}

fn ca_line(world: &World, pattern: &str) -> String {
    world.as_("alice").run(&["ca", "show", "--known-hosts", pattern]).good().stdout
}

/// From the token to a login by a person who has nothing but the CA's line.
#[test]
fn a_host_is_known_by_the_ca_alone() {
    let world = world("720h");
    let (tree, carol) = (Tree::new(&world), world.as_("carol"));
    tree.setup(&[]).good();
    let line = ca_line(&world, "db1,db1.example.org,db2");
    assert!(knows(&tree, "db1", &line).unwrap_err().contains("Host key verification failed"));
    let token = invite(&carol, &["db1", "--alias", "db1.example.org", "--for", "10m"]);
    let ran = enrol(&world, &tree, &token).good();
    assert!(ran.stderr.contains("this host is certified as db1, db1.example.org until "), "{ran:?}");
    for name in ["db1", "db1.example.org"] {
        knows(&tree, name, &line).expect(name);
    }
    assert!(knows(&tree, "db2", &line).unwrap_err().contains("Certificate invalid: name is not a listed principal"));
    let listed = carol.run(&["host", "list"]).good().stdout;
    assert!(listed.contains("db1   db1.example.org  carol  "), "{listed}");
    assert_eq!(sync(&world, &tree).good().json()["renewed"], false);
    // With the token once more, on a host of the same name with another key.
    let thief = crate::support::openssh::keygen(&world.path(""), "thief", "ed25519").display().to_string();
    let file = world.path("token").display().to_string();
    let again = tree.run(&["enrol", "--token-file", &file, "--host-key", &thief]);
    assert!(again.code == 1 && again.stderr.contains("these bytes were used before"), "{again:?}");
    knows(&tree, "db1", &line).expect("as before");
}

/// What `login` writes is all that plain ssh needs, and the person's own files are left alone.
#[test]
fn login_keeps_known_hosts() {
    let world = world("720h");
    let (tree, alice) = (enrolled(&world), world.as_("alice"));
    let config = alice.home().join(".config/ssh-jit");
    assert!(!config.join("known_hosts").exists(), "no host is known yet");
    alice.run(&["login", "db-prod", "--for", "10m", "--host", "db1", "--reason", "look at the lag"]).good();
    let known = fs::read_to_string(config.join("known_hosts")).expect("a file");
    assert!(known.starts_with("@cert-authority db1 ssh-ed25519 "), "{known}");
    let ssh = |name: &str| {
        let lines = format!(
            "Include {}\nHost *\nHostName 127.0.0.1\nPort {}\nUser {}\nHostKeyAlias {name}\nBatchMode yes\n\
             StrictHostKeyChecking yes\nUserKnownHostsFile {}\n",
            config.join("ssh_config").display(),
            tree.host.sshd.port,
            user(),
            alice.home().join("own_known_hosts").display(),
        );
        fs::write(alice.home().join("config"), lines).expect("a file");
        output(tool("ssh").arg("-F").arg(alice.home().join("config")).args([name, "true"])).status.success()
    };
    assert!(ssh("db1"), "{}", tree.host.sshd.log());
    assert!(!ssh("db2"), "the CA is believed about the hosts of the roles only");
    assert!(!alice.home().join("own_known_hosts").exists());
    // The keys of the CA as of now: a file that somebody changed, or that is older, is written anew.
    fs::write(config.join("known_hosts"), "").expect("a file");
    alice.run(&["done"]).good();
    alice.run(&["login", "db-prod", "--for", "10m", "--host", "db1", "--reason", "look at the lag"]).good();
    assert_eq!(fs::read_to_string(config.join("known_hosts")).expect("a file"), known);
}

/// Renewed before its end, and sshd shows the new one; it is told only when there is one.
#[test]
fn a_certificate_is_renewed_before_it_ends() {
    // An hour before now until a minute from now: less than a third is left at once.
    let world = world("1m");
    let tree = enrolled(&world);
    let line = ca_line(&world, "db1");
    let (first, told) = (shown(&tree, &line), hangups(&tree));
    let ran = sync(&world, &tree).good();
    // An sshd that starts itself anew for each connection reads the file by itself; later ones do not.
    assert_eq!(hangups(&tree), told + 1, "sshd is told, and once");
    assert_eq!(ran.json()["renewed"], true, "{ran:?}");
    assert_eq!(shown(&tree, &line), first + 1);
    assert!(!tree.path("/etc/ssh/ssh-jit/host-cert.unread").exists());
    let checked = tree.run(&["check", "--json"]).json();
    let found = checked.as_array().unwrap().iter().find(|finding| finding["what"] == "certificate").cloned().unwrap();
    assert_eq!(found["level"], "warning", "{found}");
}

fn hangups(tree: &Tree<'_>) -> usize {
    tree.host.sshd.log().matches("Received SIGHUP").count()
}

/// Killed between any two steps, a renewal leaves a host that lets in who it let in, and is made good by the next.
#[test]
fn a_renewal_that_was_killed_is_made_good() {
    let world = world("720h");
    let tree = enrolled(&world);
    let line = ca_line(&world, "db1");
    let (path, unread) = (certificate(&tree), tree.path("/etc/ssh/ssh-jit/host-cert.unread"));
    let good = fs::read(&path).expect("a certificate");
    // Before anything was written, but for half a temporary file.
    fs::write(path.with_file_name(".host-cert.pub.4711.new"), "half a fi").expect("a file");
    assert_eq!(sync(&world, &tree).good().json()["renewed"], false);
    // Before and after the certificate was written, and sshd does not know of it.
    fs::write(&unread, "").expect("a file");
    let before = hangups(&tree);
    sync(&world, &tree).good();
    assert!(!unread.exists());
    wait_until(|| hangups(&tree) > before, || "sshd was not told".to_owned());
    let told = hangups(&tree);
    sync(&world, &tree).good();
    assert_eq!(hangups(&tree), told, "not again without need");
    // Whatever lies there instead of a certificate, sshd starts on it, and a new one takes its place.
    for damaged in [&b""[..], b"nonsense\n", &good[..good.len() / 2]] {
        fs::write(&path, damaged).expect("a file");
        assert!(tree.admits_standing(), "{}", tree.host.sshd.log());
        assert_eq!(sync(&world, &tree).good().json()["renewed"], true);
        knows(&tree, "db1", &line).expect("known again");
    }
}

/// While the service is away everything stays as it is.
#[test]
fn without_the_service_the_certificate_stays() {
    let world = world("1m");
    let tree = enrolled(&world);
    let before = fs::read(certificate(&tree)).expect("a certificate");
    let (host, line) = (tree.path("/etc/ssh/ssh-jit/host.toml"), ca_line(&world, "db1"));
    let text = fs::read_to_string(&host).expect("host.toml");
    // Nobody answers there.
    fs::write(&host, text.replace(&world.url(), "http://127.0.0.1:1")).expect("a file");
    let ran = sync(&world, &tree);
    assert!(ran.code != 0 && ran.stderr.contains("cannot be reached"), "{ran:?}");
    assert!(tree.admits_standing());
    knows(&tree, "db1", &line).expect("it counts until its end");
    assert_eq!(fs::read(certificate(&tree)).expect("a certificate"), before);
    fs::write(&host, text).expect("a file");
    assert_eq!(sync(&world, &tree).good().json()["renewed"], true);
}

/// What would be refused is not sent, and what stands in the way is found before the token is spent.
#[test]
fn a_token_is_not_wasted() {
    let world = world("720h");
    let (tree, carol) = (Tree::new(&world), world.as_("carol"));
    let token = invite(&carol, &["db1"]);
    let ran = enrol(&world, &tree, &token);
    assert!(ran.code == 1 && ran.stderr.contains("this host is not set up"), "{ran:?}");
    tree.setup(&[]).good();
    let ran = enrol(&world, &tree, &invite(&carol, &["db2"]));
    assert!(ran.code == 1 && ran.stderr.contains("the token is for db2, and this host is db1"), "{ran:?}");
    for nonsense in ["", "nonsense", &token[..token.len() - 9], "e30"] {
        let ran = enrol(&world, &tree, nonsense);
        assert!(ran.code == 1 && ran.stderr.contains("the token cannot be read"), "{nonsense}: {ran:?}");
    }
    let beside = tree.path("/etc/ssh/sshd_host_key-cert.pub");
    fs::write(&beside, "somebody else's").expect("a file");
    let ran = enrol(&world, &tree, &token);
    assert!(ran.code == 1 && ran.stderr.contains("sshd shows one certificate for a key"), "{ran:?}");
    fs::remove_file(beside).expect("gone");
    let config = tree.path("/etc/ssh/sshd_config");
    let text = fs::read_to_string(&config).expect("a file");
    fs::write(&config, format!("Nonsense yes\n{text}")).expect("a file");
    assert_eq!(enrol(&world, &tree, &token).code, 1);
    fs::write(&config, text).expect("a file");
    assert_eq!(carol.run(&["host", "list", "--json"]).good().json(), serde_json::json!([]), "nothing was redeemed");
    let ran = enrol(&world, &tree, &token).good();
    assert!(!ran.stdout.contains(&token) && !ran.stderr.contains(&token));
    // By standard input, and by the host's key where it is known: a claim must be later than the last, by the second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let key = host_key(&tree);
    tree.run(&["enrol", "--host-key", &key, "--json"]).good();
    let undone = tree.run(&["setup", "--undo"]).good();
    assert!(!tree.path("/etc/ssh/ssh-jit").exists(), "{undone:?}");
}

/// An administrator who has the host's key signs for that key.
#[test]
fn an_invitation_for_a_key_is_no_secret() {
    let world = world("720h");
    let (tree, carol) = (Tree::new(&world), world.as_("carol"));
    tree.setup(&[]).good();
    let public = format!("{}.pub", host_key(&tree));
    let said: Value = carol.run(&["host", "invite", "db1", "--key", &public, "--json"]).good().json();
    assert_eq!((&said["secret"], &said["host"]), (&Value::Bool(false), &Value::from("db1")));
    let token = said["token"].as_str().expect("a token").to_owned();
    let mut command: Command = tree.command(&["enrol", "--host-key", &host_key(&tree), "--token-file", "-"]);
    let run = crate::support::output_of(&mut command, token.as_bytes());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    knows(&tree, "db1", &ca_line(&world, "db1")).expect("known");
    let bob = world.as_("bob").run(&["host", "invite", "db1", "--key", &host_key(&tree)]);
    assert!(bob.code == 1 && bob.stderr.contains("give the .pub file"), "{bob:?}");
    carol.run(&["host", "remove", "db1", "--reason", "it is taken out of service"]).good();
    let ran = world.run(host_sync(&tree.path("/etc/ssh/ssh-jit"), &["--once"]));
    assert_eq!(ran.code, 0, "nothing is due: {ran:?}");
    let key = host_key(&tree);
    let refused = tree.run(&["enrol", "--host-key", &key]);
    assert!(refused.code == 1 && refused.stderr.contains("db1 is not enrolled"), "{refused:?}");
}
