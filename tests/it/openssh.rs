//! The test bench itself: logins through a real sshd, agent and software authenticator.

use crate::support::openssh::{SshAgent, Sshd, keygen, public_line};
use crate::support::{dir, output, run};

/// A FIDO key in the agent logs in, with one touch for each login; a key that nobody allowed does not.
#[test]
fn a_security_key_logs_in_with_one_touch() {
    let dir = dir();
    let (key, stranger) = (keygen(dir.path(), "id", "ed25519-sk"), keygen(dir.path(), "stranger", "ed25519"));
    let allowed = dir.path().join("authorized_keys");
    std::fs::write(&allowed, public_line(&key)).unwrap();
    let sshd = Sshd::start(dir.path(), &format!("AuthorizedKeysFile {}", allowed.display()));
    let agent = SshAgent::start(dir.path());
    agent.add(&key);

    for touches in 1..=2 {
        let mut ssh = sshd.ssh();
        ssh.arg("-i").arg(&key).arg("echo in").env("SSH_AUTH_SOCK", agent.socket());
        assert_eq!((run(&mut ssh).as_str(), agent.touches()), ("in\n", touches));
    }
    let refused = output(sshd.ssh().arg("-i").arg(&stranger).arg("echo in"));
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(sshd.log().contains("Accepted publickey for"), "{}", sshd.log());
}
