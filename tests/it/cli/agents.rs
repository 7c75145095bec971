//! Where keys lie: in an agent, in files where there is none, on a security key.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::support::between::post;
use crate::support::openssh::{SshAgent, keygen, public_line, signing};
use crate::support::world::{World, held};
use crate::support::{run, run_with, tool, wait_until};

const AUTOMATIC: [&str; 6] = ["login", "db-prod", "--for", "10m", "--reason", "look at the lag"];

fn modes(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut found: Vec<_> = entries
        .map(|e| {
            (e.file_name().to_string_lossy().into_owned(), e.metadata().expect("facts").permissions().mode() & 0o7777)
        })
        .collect();
    found.sort();
    found
}

/// Key and certificate lie in files of their owner's, and ssh finds them through the generated configuration.
#[test]
fn files_where_there_is_no_agent() {
    let world = World::new();
    let alice = world.as_("alice");
    alice.run(&AUTOMATIC).is(
        0,
        &[],
        &[
            "ssh-jit: db-prod for 10m: until WHEN, if it begins now",
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: ssh finds it through DIR/alice/.config/ssh-jit/ssh_config",
        ],
    );
    let requests = alice.state().join("requests");
    let found = modes(&requests);
    let id = found[0].0.clone();
    assert_eq!(found, [(id.clone(), 0o600), (format!("{id}-cert.pub"), 0o600), (format!("{id}.json"), 0o600)]);
    for folder in [requests.as_path(), &alice.state(), &alice.home().join(".config/ssh-jit")] {
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o7777, 0o700, "{}", folder.display());
    }
    let host = world.host("db1", &["db-prod@db1"]);
    assert!(!host.admits(None, ""));
    let include = super::include(&alice);
    assert!(host.admits(None, &include), "{}", host.sshd.log());

    alice.run(&["done"]).is(
        0,
        &[],
        &["ssh-jit: db-prod is given back; the key and its certificate are gone from here"],
    );
    assert_eq!(modes(&requests), []);
    assert!(!host.admits(None, &include));
}

/// A socket that nobody listens on is no agent.
#[test]
fn files_where_the_agent_is_gone() {
    let world = World::new();
    let alice = world.as_("alice").env("SSH_AUTH_SOCK", world.path("nobody"));
    let ran = alice.run(&AUTOMATIC).good();
    assert!(ran.stderr.contains("ssh finds it through"), "{ran:?}");
}

/// Some agents refuse to hold a key for a time (`ADD_ID_CONSTRAINED`): a key that would stay is not given to them.
#[test]
fn files_where_the_agent_takes_no_lifetimes() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let socket = unwilling(&agent, &world.path("unwilling"));
    let alice = world.as_("alice").env("SSH_AUTH_SOCK", socket);
    alice.run(&AUTOMATIC).is(
        0,
        &[],
        &[
            "ssh-jit: db-prod for 10m: until WHEN, if it begins now",
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: ssh finds it through DIR/alice/.config/ssh-jit/ssh_config",
        ],
    );
    assert_eq!(held(&agent), Vec::<String>::new());
    let include = super::include(&alice);
    assert!(world.host("db1", &["db-prod@db1"]).admits(None, &include));
}

/// An agent that passes everything on but SSH_AGENTC_ADD_ID_CONSTRAINED (25), which it fails. It ends with the test's
/// process.
fn unwilling(agent: &SshAgent, socket: &Path) -> PathBuf {
    let (listener, real) = (UnixListener::bind(socket).expect("a socket"), agent.socket().to_owned());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let behind = UnixStream::connect(&real).expect("the agent behind");
            while exchange(&client, &behind).is_ok() {}
        }
    });
    socket.to_owned()
}

fn exchange(client: &UnixStream, behind: &UnixStream) -> std::io::Result<()> {
    let question = frame(client)?;
    let answer = if question[4] == 25 {
        vec![0, 0, 0, 1, 5]
    } else {
        let mut behind = behind;
        behind.write_all(&question)?;
        frame(behind)?
    };
    let mut client = client;
    client.write_all(&answer)
}

fn frame(mut from: &UnixStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut rest = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut rest)?;
    Ok([&length[..], &rest].concat())
}

/// When the certificate has ended, nothing of it is left, and nobody gets in.
#[test]
fn the_agent_forgets_when_time_is_up() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let host = world.host("any", &["quick"]);
    world.as_("alice").with(&agent).run(&["login", "quick", "--for", "4s", "--reason", "for a moment"]).good();
    let line = held(&agent).remove(0);
    assert!(host.admits(Some(&agent), ""), "{}", host.sshd.log());
    let (from, to) = super::window(&line);
    assert_eq!(to - from, 4);
    wait_until(|| held(&agent).is_empty(), || "the agent still holds it".to_owned());
    assert!(!host.admits(Some(&agent), ""));
}

/// An agent forgets everything when it ends, or when it is told to: what is lost is asked for anew.
#[test]
fn a_certificate_that_the_agent_lost_is_asked_for_anew() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    alice.run(&AUTOMATIC).good();
    run(tool("ssh-add").arg("-qD").env("SSH_AUTH_SOCK", agent.socket()));
    let ran = alice.run(&AUTOMATIC).good();
    assert!(ran.stderr.contains("plain ssh works for"), "{ran:?}");
    assert!(world.host("db1", &["db-prod@db1"]).admits(Some(&agent), ""));
}

/// The person's own key may lie in the agent alone.
#[test]
fn an_identity_in_the_agent() {
    let world = World::new();
    let alice = world.as_("alice");
    let agent = SshAgent::start(alice.home());
    fs::rename(world.key("alice"), world.key("hidden")).unwrap();
    let public = world.key("alice.pub").display().to_string();
    let args = [&["--identity", &public], &AUTOMATIC[..]].concat();
    let echo = "ssh-jit: db-prod for 10m: until WHEN, if it begins now";
    let gone = "ssh-jit: your agent does not hold SHA256, and DIR/keys/alice.pub is only its public half; try: ssh-add";
    alice.clone().with(&agent).run(&args).is(1, &[], &[echo, gone]);
    alice.run(&AUTOMATIC).is(1, &[], &[echo, gone]);
    agent.add(&world.key("hidden"));
    alice.with(&agent).run(&args).good();
    assert_eq!(held(&agent).len(), 2);
}

/// A world whose alice has a FIDO key, and her agent.
fn with_security_key() -> (World, SshAgent) {
    let mut world = World::new();
    let key = keygen(&world.path("keys"), "alice-sk", "ed25519-sk");
    let policy = world.usual_policy().replace(&public_line(&world.key("alice")), &public_line(&key));
    world.load_policy(&policy);
    let agent = SshAgent::start(world.as_("alice").home());
    agent.add(&key);
    (world, agent)
}

/// One touch is a whole login: request, waiting and claim.
#[test]
fn one_touch_is_a_whole_login() {
    let (world, agent) = with_security_key();
    let alice = world.as_("alice").with(&agent);
    let key = world.key("alice-sk.pub").display().to_string();
    let sk = |args: &[&'static str]| [&["--identity"], args].concat();
    let args: Vec<&str> = sk(&[]).into_iter().chain([key.as_str()]).chain(AUTOMATIC).collect();
    alice.run(&args).is(
        0,
        &[],
        &[
            "ssh-jit: db-prod for 10m: until WHEN, if it begins now",
            "ssh-jit: touch your security key",
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: plain ssh works for LENGTH; ssh-jit done gives it back",
        ],
    );
    assert_eq!(agent.touches(), 1);
    assert!(world.host("db1", &["db-prod@db1"]).admits(Some(&agent), ""));
    alice.run(&["done"]).good();
    assert_eq!(agent.touches(), 1, "giving back is signed by the subject key");

    let asked: Vec<&str> = ["--identity", &key, "vault", "--reason", "rotate the root token"].to_vec();
    let id = alice.ask(&asked);
    for approver in ["carol", "dan"] {
        world.as_(approver).run(&["approve", &id]).good();
    }
    alice.run(&["login", &id]).good();
    assert_eq!(agent.touches(), 2, "one for the second request, none for its claim");
}

/// The service looks at the flags: whoever could use the key without its owner has nothing.
#[test]
fn an_untouched_key_signs_nothing() {
    let (world, _agent) = with_security_key();
    let instance = fs::read_to_string(world.as_("alice").home().join(".config/ssh-jit/config.toml")).unwrap();
    let instance = instance.split("instance = \"").nth(1).and_then(|rest| rest.get(..32)).unwrap().to_owned();
    let nothing = crate::support::between::get(world.port(), "/v1/now");
    let at = format!("{}Z", &nothing["now"].as_str().unwrap()[..19]);
    let text = serde_json::json!({
        "v": 1, "kind": "session", "instance": instance, "person": "alice", "nonce": "0123456789abcdef0123456789abcdef",
        "at": at,
    })
    .to_string();
    let mut command = signing(&world.key("alice-sk"), "session@ssh-jit");
    let touched = run_with(&mut command, text.as_bytes());
    let untouched = run_with(command.env("SK_NO_TOUCH", "1"), text.as_bytes());
    let send = |signature: &str| {
        post(world.port(), "/v1/sessions", &serde_json::json!({ "text": text, "signature": signature }))
    };
    let (status, problem) = send(&untouched);
    assert_eq!(status, "HTTP/1.1 403 Forbidden");
    assert_eq!(
        problem,
        serde_json::json!({ "code": "bad-signature", "message": "signature: nobody touched the security key" })
    );
    assert_eq!(send(&touched).0, "HTTP/1.1 200 OK");
}
