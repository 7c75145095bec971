//! ca-keys.example: what people copy starts a real server, and nothing in it opens anything.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ssh_jit::ca::{Keys, Passphrase};
use ssh_jit::config::ServiceConfig;
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::policy::Policy;

use crate::support::{dir, run};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ca-keys.example")
}

/// As its owner's: a clone may lie there for a whole group to write.
fn copy(name: &str, to: &Path) {
    std::fs::copy(example().join(name), to).expect("a copy");
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

fn ssh_jit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssh-jit"));
    for name in ["SSH_JIT_SERVER", "SSH_JIT_USER", "SSH_JIT_IDENTITY", "CREDENTIALS_DIRECTORY"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn the_sample_policy_is_a_policy_without_doubts() {
    let text = std::fs::read_to_string(example().join("policy.toml")).unwrap();
    let policy = Policy::parse(&text).unwrap();
    assert_eq!((policy.people().len(), policy.roles().len(), policy.emergency_keys().len()), (5, 5, 2));
    assert_eq!(policy.rules().len(), 2);
    assert!(policy.findings().is_empty(), "{:?}", policy.findings());
}

/// What the sample says are the defaults are the defaults.
#[test]
fn the_sample_configuration_is_what_init_writes() {
    let dir = dir();
    run(ssh_jit().arg("init").arg("--dir").arg(dir.path().join("made")));
    let sample = dir.path().join("made/sample.toml");
    copy("ssh-jit.toml", &sample);
    let made = ServiceConfig::load(&dir.path().join("made/ssh-jit.toml")).unwrap();
    assert_eq!(format!("{made:?}"), format!("{:?}", ServiceConfig::load(&sample).unwrap()));
}

/// As ca-keys.example/README.md tells people to. Only the port is another: somebody may have 7022.
#[test]
fn a_server_starts_on_the_samples() {
    let dir = dir();
    let service = dir.path().join("service");
    run(ssh_jit().arg("init").arg("--dir").arg(&service));
    copy("policy.toml", &service.join("policy.toml"));
    let text = std::fs::read_to_string(example().join("ssh-jit.toml")).unwrap();
    assert!(text.contains("\"127.0.0.1:7022\""));
    std::fs::write(service.join("ssh-jit.toml"), text.replace("\"127.0.0.1:7022\"", "\"127.0.0.1:0\"")).unwrap();

    let mut serve = ssh_jit();
    serve.arg("serve").arg("--config").arg(service.join("ssh-jit.toml"));
    let mut child = serve.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.split("listening on ").nth(1).and_then(|rest| rest.split(',').next()).map(str::to_owned);
    let answer = address.map(|address| {
        let mut ask = ssh_jit();
        ask.env("HOME", dir.path()).env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME");
        run(ask.args(["--server", &format!("http://{address}"), "ca", "show"]))
    });
    child.kill().unwrap();
    child.wait().unwrap();

    let answer = answer.unwrap_or_else(|| panic!("{said}"));
    let user_ca = std::fs::read_to_string(service.join("ca-keys/user-ca.pub")).unwrap();
    let key = user_ca.split(' ').nth(1).unwrap();
    assert!(answer.lines().any(|line| line.starts_with("user CA") && line.contains(key)), "{answer}");
}

/// Nobody finds a key here; and whoever puts one here whose public half is listed, cannot serve with it.
#[test]
fn no_private_key_stands_there() {
    let mut listed = 0;
    for entry in std::fs::read_dir(example()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("PRIVATE KEY"), "{}", path.display());
        if path.ends_with("public-keys") {
            listed = text.lines().filter(|line| line.parse::<PublicKey>().is_ok()).count();
        }
    }
    assert_eq!(listed, 6, "one for each file that init makes");
}

/// The layout that ca-keys.example/README.md shows is the one that `init` makes.
#[test]
fn the_layout_is_what_init_makes() {
    let dir = dir();
    run(ssh_jit().arg("init").arg("--dir").arg(dir.path().join("service")));
    let keys = dir.path().join("service/ca-keys");
    let readme = std::fs::read_to_string(example().join("README.md")).unwrap();
    for entry in std::fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let public = path.extension().is_some_and(|extension| extension == "pub");
        assert!(public || readme.contains(&format!("`{name}`")), "README.md does not name {name}");
    }
    Keys::load(&keys, || Ok(Passphrase::default())).map(|_| ()).unwrap();
}
