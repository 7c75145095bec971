//! A set-up that is stopped at any of its steps: killed, or refused by the system.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ssh_jit::ca::read_trust;
use ssh_jit::domain::names::{AccountName, PrincipalName};
use ssh_jit::domain::trust::Trust;
use ssh_jit::host::setup::{Change, Layout, Node, Reloaded, Setup, Sshd, Undo, Wanted};
use ssh_jit::wire::SignedText;

use crate::support::openssh::user;
use crate::support::world::World;

use super::tree::Tree;

fn wanted(world: &World) -> Wanted {
    let signed = read_trust(&world.path("ca/ca-keys")).expect("a trust document");
    let account: AccountName = user().parse().expect("an account");
    let principal: PrincipalName = "db-prod".parse().expect("a principal");
    Wanted {
        server: world.url(),
        tls_ca: Some(b"-----BEGIN CERTIFICATE-----\n".to_vec()),
        trust_json: serde_json::to_vec(&SignedText::from(&signed)).expect("JSON"),
        trust: Trust::first_contact(&signed).expect("it vouches for itself"),
        name: None,
        certificate: None,
        accounts: BTreeMap::from([(account, [principal].into())]),
        include: true,
        pam: true,
        force: false,
        program: "/usr/bin/ssh-jit".into(),
    }
}

/// Without an Include, with systemd: every kind of step there is.
fn tree(world: &World) -> Tree<'_> {
    let tree = Tree::with(world, "# no drop-ins here\nUsePAM yes");
    fs::remove_dir(tree.path("/etc/ssh/sshd_config.d")).expect("an empty folder");
    for folder in ["/run/systemd/system", "/etc/systemd/system", "/etc/pam.d"] {
        fs::create_dir_all(tree.path(folder)).expect("a folder");
    }
    fs::write(tree.path("/etc/pam.d/sshd"), "session optional pam_motd.so\n").expect("PAM's file");
    tree
}

fn is_file(change: &Change) -> bool {
    matches!(change.after, Some(Node::File { .. }))
}

#[test]
fn killed_at_any_step_a_host_lets_in_who_it_let_in() {
    let world = World::new();
    let tree = tree(&world);
    let (before, wanted) = (tree.picture(), wanted(&world));
    let layout = Layout::below(&tree.root).unwrap();
    let sshd = Sshd::find(&layout, None).unwrap();
    let plan = || Setup::plan(&layout, &sshd, &wanted).unwrap();
    let steps = plan().changes.len();
    assert!(steps >= 15, "{steps} steps");
    for killed_at in 0..=steps {
        let setup = plan();
        for change in &setup.changes[..killed_at] {
            change.apply().unwrap();
        }
        // It was writing the next one.
        if let Some(change) = setup.changes.get(killed_at).filter(|change| is_file(change)) {
            let name = change.path.file_name().unwrap().to_string_lossy().into_owned();
            fs::write(change.path.with_file_name(format!(".{name}.4711.new")), "half a fi").unwrap();
        }
        sshd.test().unwrap();
        let told = sshd.reload(&layout, &sshd.settings(None).unwrap()).unwrap();
        assert!(matches!(told, Reloaded::Told(_)), "{told:?}");
        assert!(tree.admits_standing(), "killed at step {killed_at}: {}", tree.host.sshd.log());
        // Every other time it is run again first.
        if killed_at % 2 == 0 || !layout.manifest().exists() {
            plan().apply(true).unwrap();
        }
        Undo::plan(&layout, &sshd, false).unwrap().apply().unwrap();
        assert_eq!(tree.picture(), before, "killed at step {killed_at}");
    }
}

#[test]
fn refused_at_any_step_everything_is_as_before() {
    let world = World::new();
    let tree = tree(&world);
    let (before, wanted) = (tree.picture(), wanted(&world));
    let layout = Layout::below(&tree.root).unwrap();
    let sshd = Sshd::find(&layout, None).unwrap();
    let steps = Setup::plan(&layout, &sshd, &wanted).unwrap().changes.len();
    for refused_at in 0..steps {
        let setup = Setup::plan(&layout, &sshd, &wanted).unwrap();
        let change = &setup.changes[refused_at];
        let (path, kept) = (&change.path, fs::read(&change.path).ok());
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
        if missing.is_empty() {
            // A folder in the place of a file can be neither replaced nor made.
            let _ = fs::remove_file(path);
            if is_file(change) { fs::create_dir(path).unwrap() } else { fs::write(path, "in the way").unwrap() }
        } else {
            fs::write(missing[missing.len() - 1], "in the way").unwrap();
        }
        setup.apply(false).unwrap_err();
        for obstacle in missing.last().copied().into_iter().chain([path.as_path()]) {
            let _ = fs::remove_file(obstacle).or_else(|_| fs::remove_dir(obstacle));
        }
        if let Some(content) = kept {
            fs::write(path, content).unwrap();
        }
        assert_eq!(tree.picture(), before, "refused at step {refused_at}");
    }
}

/// An sshd that does not take its configuration, or does not come back, leaves everything as it was.
#[test]
fn what_sshd_does_not_take_is_taken_back() {
    let world = World::new();
    let tree = Tree::new(&world);
    let before = tree.picture();
    let real = Sshd::find(&Layout::below(&tree.root).unwrap(), None).unwrap();
    // Good until our drop-in is there.
    let script = world.path("sshd");
    let drop_in = tree.path("/etc/ssh/sshd_config.d/10-ssh-jit.conf");
    let text = format!(
        "#!/bin/sh\nif [ -e {} ] && [ \"$1\" = -t ]; then echo 'line 1: Bad configuration option' >&2; exit 255; fi\n\
         exec {} \"$@\"\n",
        drop_in.display(),
        real.program().display()
    );
    fs::write(&script, text).unwrap();
    crate::support::run(std::process::Command::new("chmod").arg("755").arg(&script));
    let shown = script.display().to_string();
    let ran = tree.setup(&["--sshd", &shown]);
    assert!(ran.code == 1 && ran.stderr.contains("sshd -t: line 1: Bad configuration option"), "{ran:?}");
    assert_eq!(tree.picture(), before);
    // One that is broken before is not touched.
    let config = tree.path("/etc/ssh/sshd_config");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("Nonsense yes\n{good}")).unwrap();
    let broken = tree.picture();
    let ran = tree.setup(&[]);
    assert!(ran.code == 1 && ran.stderr.contains("sshd -t: "), "{ran:?}");
    assert_eq!(tree.picture(), broken);
}
