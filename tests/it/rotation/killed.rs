//! Killed at each call by which a step changes something: what is there then is a service that starts, and the next run
//! goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ssh_jit::ca::{Keys, read_trusts};
use ssh_jit::domain::trust::{Chain, Trust};

use crate::support::output;
use crate::support::world::{World, ssh_jit};

/// What changes a folder, or makes a change last.
const CALLS: &str = "write,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat";

fn rotate(world: &World) -> Command {
    let mut command = ssh_jit();
    command.args(["ca", "rotate", "user", "--force", "--config"]).arg(world.path("ca/ssh-jit.toml"));
    command
}

/// The same, killed at the `number`th of these calls. Gives whether it came to its end.
fn killed(world: &World, number: u32) -> bool {
    let plain = rotate(world);
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={CALLS}"), "-e"]);
    command.arg(format!("inject={CALLS}:signal=KILL:when={number}")).arg(plain.get_program()).args(plain.get_args());
    command.env_clear().env("PATH", "/usr/bin:/bin");
    output(&mut command).status.success()
}

/// The newest document, of a folder that a service would start on.
fn document(world: &World) -> Trust {
    let folder = world.path("ca/ca-keys");
    let documents = read_trusts(&folder).expect("documents");
    let chain = Chain::first_contact(documents[0].clone()).and_then(|chain| chain.forward(&documents[1..]));
    let trust = chain.expect("each follows").newest().clone();
    let keys = Keys::load(&folder, || Err(std::io::ErrorKind::Unsupported.into())).expect("keys");
    assert!(keys.spoken_for_by(&trust).is_some(), "the document speaks for the keys");
    trust
}

/// The private halves of user CAs.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_key = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.starts_with("user-ca") && Path::new(&name).extension().is_none_or(|e| e != "pub")
    };
    paths.filter(is_key).collect()
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    crate::support::run(Command::new("cp").arg("-a").arg(from).arg(to));
}

#[test]
fn whoever_is_killed_goes_on() {
    let world = World::prepared();
    let (folder, before) = (world.path("ca/ca-keys"), world.path("before"));
    let mut runs = 0;
    for step in 1..=3 {
        copy(&folder, &before);
        for number in 1.. {
            copy(&before, &folder);
            let ended = killed(&world, number);
            runs += 1;
            let reached = document(&world).number;
            assert!(reached == step || reached == step + 1, "step {step}, call {number}");
            if ended {
                assert_eq!(reached, step + 1);
                break;
            }
            assert!(number < 200, "it never comes to its end");
            crate::support::run(&mut rotate(&world));
            let after = document(&world);
            assert_eq!(after.number, reached + 1, "step {step}, call {number}");
            assert_eq!(files(&folder).len(), after.user_ca.len(), "step {step}, call {number}");
        }
    }
    assert!(runs > 30, "{runs}");
    assert_eq!(document(&world).user_ca.len(), 1);
}

/// Two at once would make two documents of one number.
#[test]
fn one_changes_the_folder_at_a_time() {
    let world = World::prepared();
    let lock = ssh_jit::ca::lock(&world.path("ca/ca-keys")).expect("a lock");
    let ran = world.run(rotate(&world));
    ran.is(1, &[], &["ssh-jit: DIR/ca/ca-keys: another ssh-jit changes it just now"]);
    drop(lock);
    world.run(rotate(&world)).good();
}
