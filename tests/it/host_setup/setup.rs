//! Setting a host up, and taking it back.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::openssh::{SshAgent, keygen, public_line, user};
use crate::support::world::{World, ssh_jit};

use super::tree::Tree;

const DROP_IN: &str = "/etc/ssh/sshd_config.d/10-ssh-jit.conf";

/// The whole of it: set up, let in by certificate, taken back byte for byte. Who got in before gets in all along.
#[test]
fn a_host_is_set_up_and_taken_back() {
    let world = World::new();
    let tree = Tree::new(&world);
    let agent = SshAgent::start(world.as_("alice").home());
    world.as_("alice").with(&agent).run(&["login", "db-prod", "--for", "10m", "--reason", "a look at it"]).good();
    let before = tree.picture();
    assert!(tree.admits_standing() && !tree.host.admits(Some(&agent), ""));

    tree.setup(&[]).good();
    assert!(tree.admits_standing() && tree.host.admits(Some(&agent), ""), "{}", tree.host.sshd.log());
    let once = tree.picture();
    tree.setup(&[]).good();
    assert_eq!(tree.picture(), once, "twice is once");

    tree.run(&["setup", "--undo"]).good();
    assert!(tree.admits_standing() && !tree.host.admits(Some(&agent), ""));
    assert_eq!(tree.picture(), before);
}

/// A role of another host opens nothing here.
#[test]
fn a_host_takes_what_is_meant_for_it() {
    let world = World::new();
    let tree = Tree::new(&world);
    let agent = SshAgent::start(world.as_("alice").home());
    world.as_("alice").with(&agent).run(&["login", "db-prod", "--for", "10m", "--reason", "a look at it"]).good();
    tree.setup(&["--name", "db3"]).good();
    assert!(!tree.host.admits(Some(&agent), ""), "db1 and db2 are not db3");
    // Said once, it is known.
    tree.setup(&[]).good();
    let principals = tree.path("/etc/ssh/ssh-jit/principals").join(user());
    assert_eq!(fs::read_to_string(&principals).unwrap(), "db-prod@db3\ndb-prod\n");
    tree.setup(&["--name", "db2", "--account", "other=db-prod,vault"]).good();
    assert!(tree.host.admits(Some(&agent), ""));
    // Accounts that are not named stay.
    tree.setup(&[]).good();
    let other = fs::read_to_string(tree.path("/etc/ssh/ssh-jit/principals/other")).unwrap();
    assert_eq!(other, "db-prod@db2\ndb-prod\nvault@db2\nvault\n");
}

#[test]
fn a_service_has_to_be_named_and_to_answer() {
    let world = World::new();
    let tree = Tree::new(&world);
    tree.run(&["setup"]).is(2, &[], &["ssh-jit: no service is known", "hint: --server URL"]);
    let ran = tree.run(&["setup", "--server", "http://127.0.0.1:1"]);
    assert!(ran.code == 20 && ran.stderr.contains("cannot be reached") && !ran.stderr.contains("hint"), "{ran:?}");
    let ran = tree.run(&["setup", "--server", "ca.example"]);
    assert!(ran.code == 2 && ran.stderr.contains("is no address of a service"), "{ran:?}");
}

#[test]
fn a_dry_run_shows_what_would_be_written() {
    let world = World::new();
    let tree = Tree::new(&world);
    let before = tree.picture();
    let shown = tree.setup(&["--dry-run"]).good().stdout;
    assert_eq!(tree.picture(), before);
    let root = tree.root.display();
    let drop_in = format!(
        "--- /dev/null\n+++ {root}{DROP_IN}\n@@ -0,0 +1,5 @@\n\
         +# Written by ssh-jit host setup; ssh-jit host setup --undo takes it back.\n\
         +TrustedUserCAKeys {root}/etc/ssh/ssh-jit/user-ca.pub\n\
         +RevokedKeys {root}/etc/ssh/ssh-jit/revoked.krl\n\
         +AuthorizedPrincipalsFile {root}/etc/ssh/ssh-jit/principals/%u\n\
         +ExposeAuthInfo yes\n"
    );
    assert!(shown.ends_with(&drop_in), "{shown}");
    tree.setup(&[]).good();
    assert_eq!(tree.setup(&["--dry-run"]).good().stdout, "");
    let (after, shown) = (tree.picture(), tree.run(&["setup", "--undo", "--dry-run"]).good().stdout);
    assert_eq!(tree.picture(), after);
    assert!(shown.starts_with(&format!("--- {root}{DROP_IN}\n+++ /dev/null\n@@ -1,5 +0,0 @@\n-# Written")), "{shown}");
    let json = tree.run(&["setup", "--undo", "--dry-run", "--json"]).good().json();
    assert_eq!(json["changes"][0]["path"], format!("{root}{DROP_IN}"));
}

/// What the colleague's tools and sshd read: exactly these files, readable by all, whatever the umask.
#[test]
fn the_files_are_readable_whatever_the_umask() {
    let world = World::https();
    let tree = Tree::new(&world);
    let tls_ca = world.path("tls-ca.pem").display().to_string();
    let mut command = std::process::Command::new("/bin/sh");
    let (url, program) = (world.url(), env!("CARGO_BIN_EXE_ssh-jit"));
    let line = format!(
        "umask 077; exec {program} host setup --root {} --server {url} --tls-ca {tls_ca} --account a=vault",
        tree.root.display()
    );
    command.args(["-c", &line]);
    world.run(command).good();
    let folder = tree.path("/etc/ssh/ssh-jit");
    let host = fs::read_to_string(folder.join("host.toml")).unwrap().parse::<toml::Table>().unwrap();
    assert_eq!(host.keys().collect::<Vec<_>>(), ["ca_certificate", "instance", "name", "server"]);
    assert_eq!(host["server"].as_str(), Some(url.as_str()));
    assert_eq!(fs::read(host["ca_certificate"].as_str().unwrap()).unwrap(), fs::read(tls_ca).unwrap());
    for (path, (kind, mode, _)) in tree.picture().into_iter().filter(|(path, _)| path.starts_with(&folder)) {
        let runs = kind.contains("dir: true") || path.ends_with("session");
        assert_eq!(mode, if runs { 0o755 } else { 0o644 }, "{} {kind}", path.display());
    }
    // What was said once need not be said again.
    let before = tree.picture();
    tree.run(&["setup"]).good();
    assert_eq!(tree.picture(), before);
    let cas = fs::read_to_string(folder.join("user-ca.pub")).unwrap();
    let comments: Vec<&str> = cas.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(comments, ["ssh-jit-user-ca", "ssh-jit-break-glass-ca"]);
}

/// sshd takes the first of each setting, and one file for each of these: somebody else's stays.
#[test]
fn a_setting_of_somebody_elses_is_named_and_stays() {
    let world = World::new();
    let elsewhere = [
        ("TrustedUserCAKeys", "/etc/ssh/theirs"),
        ("RevokedKeys", "/etc/ssh/theirs"),
        ("AuthorizedPrincipalsFile", "/etc/ssh/theirs"),
    ];
    for (keyword, value) in elsewhere {
        let tree = Tree::with(&world, &format!("{keyword} {value}\nInclude @/etc/ssh/sshd_config.d/*.conf"));
        let before = tree.picture();
        let said = format!(
            "ssh-jit: {keyword} is set to {value} already, by DIR/tree/etc/ssh/sshd_config:1\n\
             hint: sshd takes one {keyword} only: take that out, or do by hand what README.md says"
        );
        let ran = tree.setup(&[]).without("first contact");
        ran.is(1, &[], &said.lines().collect::<Vec<_>>());
        assert_eq!(tree.picture(), before);
        fs::remove_dir_all(&tree.root).unwrap();
        fs::remove_dir_all(world.path("tree-clients")).unwrap();
    }
}

/// What does not come into force is found out by asking sshd, and taken back.
#[test]
fn settings_that_would_not_hold_are_taken_back() {
    let world = World::new();
    let account = user();
    let cases = [
        (
            "ExposeAuthInfo no\nInclude @/etc/ssh/sshd_config.d/*.conf".to_owned(),
            "ExposeAuthInfo",
            "no",
            "sshd_config:1",
        ),
        (
            format!("Include @/etc/ssh/sshd_config.d/*.conf\nMatch User {account}\nExposeAuthInfo no\nMatch all"),
            "ExposeAuthInfo",
            "no",
            "Match for",
        ),
    ];
    for (lines, keyword, value, at) in cases {
        let tree = Tree::with(&world, &lines);
        let before = tree.picture();
        let ran = tree.setup(&[]);
        assert_eq!(ran.code, 1, "{ran:?}");
        let said = format!("{keyword} of {}{DROP_IN} is not in force: it is {value}, by ", tree.root.display());
        assert!(ran.stderr.contains(&said) && ran.stderr.contains(at), "{}", ran.stderr);
        assert_eq!(tree.picture(), before);
        assert!(tree.admits_standing());
        fs::remove_dir_all(&tree.root).unwrap();
        fs::remove_dir_all(world.path("tree-clients")).unwrap();
    }
}

#[test]
fn an_include_is_added_when_it_is_wanted() {
    let world = World::new();
    let tree = Tree::with(&world, "# no drop-ins here");
    let before = tree.picture();
    let ran = tree.setup(&[]).without("first contact");
    ran.is(
        1,
        &[],
        &[
            "ssh-jit: sshd does not read DIR/tree/etc/ssh/sshd_config.d/10-ssh-jit.conf: no Include in \
             DIR/tree/etc/ssh/sshd_config leads to it",
            "hint: put this at the top of DIR/tree/etc/ssh/sshd_config, or say --include: Include \
             DIR/tree/etc/ssh/sshd_config.d/10-ssh-jit.conf",
        ],
    );
    assert_eq!(tree.picture(), before);
    tree.setup(&["--include"]).good();
    tree.setup(&[]).good();
    let config = fs::read_to_string(tree.path("/etc/ssh/sshd_config")).unwrap();
    let line = format!("Include {}{DROP_IN}\n", tree.root.display());
    assert!(config.starts_with(&line) && config.matches(&line).count() == 1, "{config}");
    tree.run(&["setup", "--undo"]).good();
    assert_eq!(tree.picture(), before);
    assert!(tree.admits_standing());
}

/// S01: what lies where a file of ours is to be is somebody else's. A link is not followed, and not replaced.
#[test]
fn nothing_of_somebody_elses_is_replaced() {
    let world = World::new();
    let tree = Tree::new(&world);
    let target = world.path("target");
    fs::write(&target, "theirs\n").unwrap();
    let folder = tree.path("/etc/ssh/ssh-jit");
    let principals = format!("/etc/ssh/ssh-jit/principals/{}", user());
    let names = ["manifest.json", "host.toml", "trust.json", "user-ca.pub", "revoked.krl", "session"];
    let mut paths: Vec<String> = names.iter().map(|name| format!("/etc/ssh/ssh-jit/{name}")).collect();
    paths.extend([principals, DROP_IN.to_owned()]);
    fs::create_dir_all(folder.join("principals")).unwrap();
    let refused = |path: &str, said: &str| {
        let before = tree.picture();
        let ran = tree.setup(&[]);
        assert_eq!(ran.code, 1, "{path}: {ran:?}");
        assert!(ran.stderr.contains(said) && ran.stderr.contains(path), "{path}: {}", ran.stderr);
        assert_eq!(tree.picture(), before, "{path}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs\n", "{path}");
    };
    for path in &paths {
        symlink(&target, tree.path(path)).unwrap();
        refused(path, "");
        fs::remove_file(tree.path(path)).unwrap();
        if path != DROP_IN && !path.ends_with("manifest.json") && !path.ends_with("trust.json") {
            fs::write(tree.path(path), "theirs\n").unwrap();
            refused(path, "is there already, and host setup did not write it");
            fs::remove_file(tree.path(path)).unwrap();
        }
    }
    // The folders above lead nowhere else, and nobody else writes there.
    fs::remove_dir_all(&folder).unwrap();
    let elsewhere = world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &folder).unwrap();
    refused("/etc/ssh/ssh-jit", "it is not a folder (a symbolic link is not followed)");
    fs::remove_file(&folder).unwrap();
    let drop_ins = tree.path("/etc/ssh/sshd_config.d");
    fs::set_permissions(&drop_ins, fs::Permissions::from_mode(0o777)).unwrap();
    refused("/etc/ssh/sshd_config.d", "others may use it (mode 777)");
    fs::set_permissions(&drop_ins, fs::Permissions::from_mode(0o755)).unwrap();
    tree.setup(&[]).good();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

/// Names are parsed before anything is asked or written.
#[test]
fn names_lead_nowhere_else() {
    let world = World::new();
    let tree = Tree::new(&world);
    let before = tree.picture();
    let url = world.url();
    let accounts =
        ["../x=db-prod", "a/b=db-prod", "..=db-prod", "-f=db-prod", "a\nb=db-prod", "=db-prod", "a b=db-prod", "%u=x"];
    let principals = ["a=../x", "a=", "a=db\nroot", "a=-x", "a=x,,y", "a=x@db1", "a=*", "a"];
    for account in accounts.iter().chain(&principals) {
        let ran = tree.run(&["setup", "--server", &url, &format!("--account={account}")]);
        assert_eq!(ran.code, 2, "{account:?}: {ran:?}");
        assert!(ran.stderr.contains("is not valid: "), "{account:?}: {}", ran.stderr);
    }
    for name in ["../db1", "db1/x", "db1\nroot", "-db1", "DB1", "", "db1@db2", "*"] {
        let ran = tree.run(&["setup", "--server", &url, &format!("--name={name}")]);
        assert_eq!(ran.code, 2, "{name:?}: {ran:?}");
    }
    fs::write(tree.path("/etc/hostname"), "Db1.example\n").unwrap();
    let ran = tree.setup(&[]);
    assert!(ran.code == 1 && ran.stderr.contains("/etc/hostname: host \"Db1.example\" is not valid"), "{ran:?}");
    fs::write(tree.path("/etc/hostname"), "db1\n").unwrap();
    assert_eq!(tree.picture(), before);
}

/// Nor do paths that sshd would expand or split.
#[test]
fn a_root_is_a_plain_path() {
    let world = World::new();
    for name in ["a b", "a%u", "a\"b", "a\nb", "a*", "a#b"] {
        let root = world.path(name);
        fs::create_dir(&root).unwrap();
        let mut command = ssh_jit();
        command.args(["host", "scan", "--root"]).arg(&root);
        let ran = world.run(command);
        assert!(ran.code == 1 && ran.stderr.contains("configuration files give a meaning to"), "{name:?}: {ran:?}");
    }
}

/// Undone in the wrong order, or halfway, nobody could log in by key any more.
#[test]
fn undo_leaves_nobody_outside() {
    let world = World::new();
    let tree = Tree::new(&world);
    tree.run(&["setup", "--undo"]).is(
        1,
        &[],
        &[
            "ssh-jit: DIR/tree/etc/ssh/ssh-jit/manifest.json is not there: this host is not set up",
            "hint: ssh-jit host setup --server URL --account ACCOUNT=PRINCIPAL",
        ],
    );
    let before = tree.picture();
    tree.setup(&[]).good();

    // Somebody wrote into our files.
    let host = tree.path("/etc/ssh/ssh-jit/host.toml");
    let drop_in = tree.path(DROP_IN);
    let ours = [&host, &drop_in].map(|path| fs::read_to_string(path).unwrap());
    for (path, text) in [&host, &drop_in].into_iter().zip(&ours) {
        fs::write(path, format!("{text}# by hand\n")).unwrap();
    }
    let changed = tree.picture();
    for args in [&["setup", "--undo"][..], &["setup", "--server", &world.url()]] {
        let ran = tree.run(args);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains("changed since host setup wrote them: "), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("host.toml") && ran.stderr.contains("hint: look at them; --force"),
            "{}",
            ran.stderr
        );
        assert_eq!(tree.picture(), changed);
    }
    tree.setup(&["--force"]).good();
    assert_eq!(fs::read_to_string(&host).unwrap(), ours[0]);

    // Somebody copied our lines to where they stay.
    let config = tree.path("/etc/ssh/sshd_config");
    let text = fs::read_to_string(&config).unwrap();
    let copied = format!("RevokedKeys {}/etc/ssh/ssh-jit/revoked.krl\n{text}", tree.root.display());
    fs::write(&config, copied).unwrap();
    let copied = tree.picture();
    let ran = tree.run(&["setup", "--undo"]);
    assert!(ran.code == 1 && ran.stderr.contains("sshd still uses"), "{ran:?}");
    assert_eq!(tree.picture(), copied);
    assert!(tree.admits_standing());
    fs::write(&config, text).unwrap();

    // What sync replaced goes, and what is somebody else's stays.
    let krl = tree.path("/etc/ssh/ssh-jit/revoked.krl");
    fs::write(&krl, fs::read(&krl).unwrap().repeat(2)).unwrap();
    let theirs = tree.path("/etc/ssh/ssh-jit/notes.txt");
    fs::write(&theirs, "theirs\n").unwrap();
    let ran = tree.run(&["setup", "--undo"]).good();
    assert!(ran.stderr.contains("/etc/ssh/ssh-jit: something else lies there\n"), "{}", ran.stderr);
    fs::remove_file(theirs).unwrap();
    fs::remove_dir(tree.path("/etc/ssh/ssh-jit")).unwrap();
    assert_eq!(tree.picture(), before);
    assert!(tree.admits_standing());
}

/// Somebody who answers in the service's place is not believed, at first contact or later.
#[test]
fn another_service_is_not_trusted() {
    let (world, other) = (World::new(), World::new());
    let tree = Tree::new(&world);
    let before = tree.picture();
    let ran = tree.setup(&["--instance", "0123456789abcdef0123456789abcdef"]);
    assert!(ran.code == 1 && ran.stderr.contains("another service answers at"), "{ran:?}");
    assert_eq!(tree.picture(), before);
    tree.setup(&[]).good();
    let after = tree.picture();
    let ran = tree.run(&["setup", "--server", &other.url()]);
    assert!(ran.code == 1 && ran.stderr.contains("another service answers at"), "{ran:?}");
    assert_eq!(tree.picture(), after);
}

/// What is removed is what set-up writes, whatever the manifest says.
#[test]
fn undo_removes_nothing_of_somebody_elses() {
    let world = World::new();
    let tree = Tree::new(&world);
    tree.setup(&[]).good();
    let manifest = tree.path("/etc/ssh/ssh-jit/manifest.json");
    let good = fs::read_to_string(&manifest).unwrap();
    for theirs in
        ["etc/hostname", "etc/ssh/sshd_config", "etc/ssh/ssh-jit/principals/../../sshd_config", "etc/ssh/ssh-jit/x"]
    {
        let named = format!("\"files\": {{\n    \"{}/{theirs}\": [],", tree.root.display());
        fs::write(&manifest, good.replacen("\"files\": {", &named, 1)).unwrap();
        let before = tree.picture();
        let ran = tree.run(&["setup", "--undo", "--force"]);
        assert!(ran.code == 1 && ran.stderr.contains("which host setup never writes"), "{theirs}: {ran:?}");
        assert_eq!(tree.picture(), before);
    }
}

/// A pid file may be older than the process that has its number now.
#[test]
fn only_an_sshd_is_told_to_read_anew() {
    let world = World::new();
    let tree = Tree::with(&world, "Include @/etc/ssh/sshd_config.d/*.conf\nPidFile @/pid");
    let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("another program");
    fs::write(tree.path("/pid"), format!("{}\n", other.id())).unwrap();
    let ran = tree.setup(&[]).good();
    assert!(ran.stderr.contains("ssh-jit: reloaded process "), "{}", ran.stderr);
    // It may have been started to ignore SIGHUP.
    assert!(!ran.stderr.contains(&format!("process {}\n", other.id())), "{}", ran.stderr);
    let alive = other.try_wait().expect("its status").is_none();
    let _ = other.kill();
    let _ = other.wait();
    assert!(alive, "{}", ran.stderr);
    fs::remove_file(tree.path("/pid")).unwrap();
}

/// A host certificate that lies beside its key is shown to clients.
#[test]
fn a_host_certificate_is_used_where_there_is_one() {
    let world = World::new();
    let tree = Tree::new(&world);
    let etc = tree.path("/etc/ssh");
    let key = keygen(&etc, "ssh_host_ed25519_key", "ed25519");
    let ca = keygen(&world.path(""), "host-ca", "ed25519");
    crate::support::run(
        crate::support::tool("ssh-keygen")
            .args(["-q", "-s"])
            .arg(ca)
            .args(["-h", "-I", "db1"])
            .arg(key.with_extension("pub")),
    );
    assert!(public_line(&key).starts_with("ssh-ed25519 "));
    // sshd shows certificates of keys that it has.
    let config = tree.path("/etc/ssh/sshd_config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}HostKey {}\n", key.display())).unwrap();
    tree.setup(&[]).good();
    let line = format!("HostCertificate {}-cert.pub\n", key.display());
    assert!(fs::read_to_string(tree.path(DROP_IN)).unwrap().ends_with(&line));
}

/// Where systemd runs, it is to start host sync.
#[test]
fn systemd_is_told_to_run_sync() {
    let world = World::new();
    let tree = Tree::new(&world);
    fs::create_dir_all(tree.path("/run/systemd/system")).unwrap();
    fs::create_dir_all(tree.path("/etc/systemd/system")).unwrap();
    let before = tree.picture();
    tree.setup(&[]).good();
    let unit = tree.path("/etc/systemd/system/ssh-jit-host-sync.service");
    let link = tree.path("/etc/systemd/system/multi-user.target.wants/ssh-jit-host-sync.service");
    assert_eq!(fs::read_link(&link).unwrap(), unit);
    let text = fs::read_to_string(&unit).unwrap();
    let folder = tree.path("/etc/ssh/ssh-jit");
    let start = format!("\nExecStart={} host sync --folder {}\n", env!("CARGO_BIN_EXE_ssh-jit"), folder.display());
    assert!(text.contains(&start), "{text}");
    tree.run(&["setup", "--undo"]).good();
    assert_eq!(tree.picture(), before);
}

/// PAM's file gets one line, at its top, and is what it was without it.
#[test]
fn pam_runs_what_ends_sessions_until_it_is_taken_back() {
    let world = World::new();
    let tree = with_pam(&world, "yes");
    let (before, pam) = (tree.picture(), tree.path("/etc/pam.d/sshd"));
    for _ in 0..2 {
        tree.setup(&["--pam"]).good();
        let program = tree.path("/etc/ssh/ssh-jit/session").canonicalize().unwrap();
        let line = format!("session required pam_exec.so quiet stdout {}\n", program.display());
        assert_eq!(fs::read_to_string(&pam).unwrap(), format!("{line}{PAM}"));
    }
    let check = tree.run(&["check"]);
    assert!(check.stdout.contains("PAM runs it when a session opens"), "{check:?}");
    // Moved by hand, it stands in the way: without its program nobody could log in.
    let text = fs::read_to_string(&pam).unwrap();
    let (line, rest) = text.split_once('\n').unwrap();
    fs::write(&pam, format!("{rest}\n{line} \n")).unwrap();
    let moved = tree.picture();
    let ran = tree.run(&["setup", "--undo"]);
    assert!(ran.code == 1 && ran.stderr.contains("still runs"), "{ran:?}");
    assert_eq!(tree.picture(), moved);
    fs::write(&pam, text).unwrap();
    tree.run(&["setup", "--undo"]).good();
    assert_eq!(tree.picture(), before);
}

/// Where its line would do nothing, or keep everybody out, it is not written.
#[test]
fn pam_that_would_keep_people_out_is_left_alone() {
    let world = World::new();
    let tree = with_pam(&world, "no");
    let before = tree.picture();
    let ran = tree.setup(&["--pam"]);
    assert!(ran.code == 1 && ran.stderr.contains("UsePAM is no"), "{ran:?}");
    let config = tree.path("/etc/ssh/sshd_config");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("UsePAM no", "UsePAM yes")).unwrap();
    let yes = tree.picture();
    // A disk from which no program runs.
    let root = tree.root.display().to_string();
    let (url, account) = (world.url(), format!("{}=db-prod", user()));
    let script = format!("mount --bind {root} {root} && mount -o remount,bind,noexec {root} && exec \"$@\"");
    let setup = tree.command(&["setup", "--server", &url, "--account", &account, "--pam"]);
    let mut command = crate::support::tool("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(setup.get_program()).args(setup.get_args());
    let ran = world.run(command);
    assert!(ran.code == 1 && ran.stderr.contains("session: "), "{ran:?}");
    assert_eq!(tree.picture(), yes);
    // A module that is missing.
    let script = "for d in /lib/*/security /usr/lib/*/security; do mount -t tmpfs tmpfs $d; done; exec \"$@\"";
    let mut command = crate::support::tool("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(setup.get_program()).args(setup.get_args());
    let ran = world.run(command);
    assert!(ran.code == 1 && ran.stderr.contains("pam_exec.so is not installed"), "{ran:?}");
    assert_eq!(tree.picture(), yes);
    let (pam, aside) = (tree.path("/etc/pam.d/sshd"), tree.path("/etc/pam.d/other"));
    fs::rename(&pam, &aside).unwrap();
    symlink(&aside, &pam).unwrap();
    let ran = tree.setup(&["--pam"]);
    assert!(ran.code == 1 && ran.stderr.contains("is there already"), "nothing is written through a link: {ran:?}");
    assert_eq!(fs::read_to_string(&aside).unwrap(), PAM);
    fs::remove_dir_all(tree.path("/etc/pam.d")).unwrap();
    let ran = tree.setup(&["--pam"]);
    assert!(ran.code == 1 && ran.stderr.contains("there is no "), "{ran:?}");
    assert_ne!(before, yes);
}

/// A disk on which nothing can be written, or not all of it: what is there stays, and is said to.
#[test]
fn a_disk_that_takes_nothing_stays_as_it_is() {
    let world = World::new();
    let tree = Tree::new(&world);
    let ssh = tree.path("/etc/ssh").display().to_string();
    let (url, account) = (world.url(), format!("{}=db-prod", user()));
    let setup = tree.command(&["setup", "--server", &url, "--account", &account]);
    let before = tree.picture();
    let full = "cp -a $1 $1.copy; mount -t tmpfs -o size=48k,mode=755 tmpfs $1; cp -a $1.copy/. $1; rm -r $1.copy
        dd if=/dev/zero of=$1/fill bs=4k 2>/dev/null; ls -A $1 >$1/../before; shift; \"$@\"; code=$?
        ls -A $0 | cmp - $0/../before || code=9; rm $0/../before; exit $code";
    let read_only = "mount --bind $1 $1; mount -o remount,bind,ro $1; shift; exec \"$@\"";
    for (script, said) in [(read_only, "Read-only file system"), (full, "No space left on device")] {
        let mut command = crate::support::tool("unshare");
        command.args(["-m", "sh", "-c", script, &ssh, &ssh]).arg(setup.get_program()).args(setup.get_args());
        let ran = world.run(command);
        assert!(ran.code == 1 && ran.stderr.contains(said) && ran.stderr.contains("nothing was changed"), "{ran:?}");
        assert_eq!(tree.picture(), before, "{said}");
    }
    assert!(tree.admits_standing());
}

const PAM: &str = "# PAM configuration\n@include common-auth\nsession optional pam_motd.so\nno end";

fn with_pam<'w>(world: &'w World, uses: &str) -> Tree<'w> {
    let tree = Tree::with(world, &format!("Include @/etc/ssh/sshd_config.d/*.conf\nUsePAM {uses}"));
    fs::create_dir(tree.path("/etc/pam.d")).expect("a folder");
    fs::write(tree.path("/etc/pam.d/sshd"), PAM).expect("a file");
    tree
}
