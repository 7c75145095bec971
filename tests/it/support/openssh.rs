//! OpenSSH's programs: ssh-keygen, ssh-agent, sshd. Daemons end with their values.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ssh_jit::domain::key::PublicKey;

use super::{dir, output, output_of, run, run_with, tool, wait_until};

const SSHD: &str = "/usr/sbin/sshd";

/// Makes a key without a passphrase. `kind` is what follows `ssh-keygen -t`: `ed25519`, `rsa -b 3072`, or for FIDO
/// keys `ed25519-sk`, `ecdsa-sk -O verify-required`.
pub(crate) fn keygen(dir: &Path, name: &str, kind: &str) -> PathBuf {
    let path = dir.join(name);
    run(tool("ssh-keygen").args(["-q", "-N", "", "-C", name, "-t"]).args(kind.split(' ')).arg("-f").arg(&path));
    path
}

/// The line in the `.pub` file beside a private key.
pub(crate) fn public_line(key: &Path) -> String {
    let path = key.with_extension("pub");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

/// The same as the domain has it.
pub(crate) fn public_key(key: &Path) -> PublicKey {
    public_line(key).parse().expect("a key that ssh-keygen made")
}

/// `ssh-keygen -Y sign`, which takes the statement as input and prints the signature; to be given
/// further options or environment.
pub(crate) fn signing(key: &Path, namespace: &str) -> Command {
    let mut command = tool("ssh-keygen");
    command.args(["-Y", "sign", "-n", namespace, "-f"]).arg(key);
    // A PIN, where one is asked for: nobody is there to type it, and the authenticator takes any.
    command.env("SSH_ASKPASS", "/bin/true").env("SSH_ASKPASS_REQUIRE", "force");
    command
}

/// Signs as people do: the armored signature by a key in a file.
pub(crate) fn ssh_keygen_sign(key: &Path, namespace: &str, bytes: &[u8]) -> String {
    run_with(&mut signing(key, namespace), bytes)
}

/// Whether stock OpenSSH takes `armored` for a signature over `bytes` by the key of `key_line`.
pub(crate) fn ssh_keygen_verify(key_line: &str, namespace: &str, bytes: &[u8], armored: &str) -> bool {
    let dir = dir();
    let (allowed, signature) = (dir.path().join("allowed_signers"), dir.path().join("signature"));
    std::fs::write(&allowed, format!("carol namespaces=\"{namespace}\" {key_line}\n")).expect("allowed_signers");
    std::fs::write(&signature, armored).expect("signature");
    let mut command = tool("ssh-keygen");
    command.args(["-Y", "verify", "-I", "carol", "-n", namespace]);
    command.arg("-f").arg(allowed).arg("-s").arg(signature);
    output_of(&mut command, bytes).status.success()
}

/// The SHA-256 fingerprint that stock OpenSSH shows for a key in a file.
pub(crate) fn ssh_keygen_fingerprint(key: &Path) -> String {
    let line = run(tool("ssh-keygen").arg("-lf").arg(key));
    line.split(' ').nth(1).expect("bits, fingerprint, comment").to_owned()
}

/// The name of the user who runs the tests: an unprivileged sshd lets nobody else in.
pub(crate) fn user() -> String {
    run(tool("id").arg("-un")).trim().to_owned()
}

/// A real ssh-agent that may load the software authenticator. Ends on drop.
pub(crate) struct SshAgent {
    child: Child,
    socket: PathBuf,
    touches: PathBuf,
}

impl SshAgent {
    pub(crate) fn start(dir: &Path) -> Self {
        let (socket, touches) = (dir.join("agent.sock"), dir.join("agent.touches"));
        let mut command = tool("ssh-agent");
        command.args(["-D", "-P", "*", "-a"]).arg(&socket).env("SK_TOUCH_LOG", &touches);
        let child = daemon(&mut command, &dir.join("agent.log"));
        let mut agent = Self { child, socket, touches };
        wait_until(
            || UnixStream::connect(&agent.socket).is_ok() || has_ended(&mut agent.child),
            || "ssh-agent did not start".to_owned(),
        );
        agent
    }

    /// What belongs into `SSH_AUTH_SOCK`.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Gives it a key from a file.
    pub(crate) fn add(&self, key: &Path) {
        run(tool("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket));
    }

    /// How often somebody would have had to touch a FIDO key in this agent.
    pub(crate) fn touches(&self) -> usize {
        std::fs::read_to_string(&self.touches).unwrap_or_default().lines().count()
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A real sshd on a port of its own at 127.0.0.1. Ends on drop.
pub(crate) struct Sshd {
    child: Child,
    pub(crate) port: u16,
    dir: PathBuf,
}

impl Sshd {
    /// Starts it with `config` (lines of `sshd_config`) ahead of the defaults here, so that `config` wins. Its
    /// files go into `dir` under names that begin with `sshd`.
    pub(crate) fn start(dir: &Path, config: &str) -> Self {
        Self::start_within(&[], dir, config)
    }

    /// The same by a program, with its arguments, that becomes the command which follows them.
    pub(crate) fn start_within(program: &[&str], dir: &Path, config: &str) -> Self {
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").expect("sshd's privilege separation folder");
        }
        keygen(dir, "sshd_host_key", "ed25519");
        // Another program may take the port between the probe and sshd: then try the next.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
            std::fs::write(dir.join("sshd_config"), sshd_config(dir, port, config)).expect("sshd_config");
            let child = daemon(&mut within(program, &sshd(dir, "-D")), &dir.join("sshd.log"));
            let mut sshd = Self { child, port, dir: dir.to_owned() };
            let listens = |sshd: &Self| {
                sshd.log().contains("Server listening") && TcpStream::connect(("127.0.0.1", port)).is_ok()
            };
            wait_until(|| listens(&sshd) || has_ended(&mut sshd.child), || format!("no sshd: {}", sshd_log(dir)));
            if !has_ended(&mut sshd.child) {
                return sshd;
            }
            assert!(sshd.log().contains("Address already in use"), "no sshd: {}", sshd.log());
        }
        panic!("no free port for sshd");
    }

    /// Everything that it has logged, at level VERBOSE.
    pub(crate) fn log(&self) -> String {
        sshd_log(&self.dir)
    }

    /// An `ssh` to this server and no other configuration, as the user who runs the tests. It has no keys: give it
    /// options (`-i`, `-o`) first, and a remote command last.
    pub(crate) fn ssh(&self) -> Command {
        let mut command = tool("ssh");
        command.args(["-F", "none", "-p", &self.port.to_string(), "-l", &user()]);
        for option in ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "HostName=127.0.0.1"] {
            command.args(["-o", option]);
        }
        let known_hosts = self.dir.join("sshd_known_hosts");
        let host_key = public_line(&self.dir.join("sshd_host_key"));
        std::fs::write(&known_hosts, format!("jit-test {host_key}\n")).expect("known_hosts");
        command.args(["-o", "HostKeyAlias=jit-test", "-o"]);
        command.arg(format!("UserKnownHostsFile={}", known_hosts.display()));
        command.arg("jit-test");
        command
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn sshd_config(dir: &Path, port: u16, config: &str) -> String {
    let dir = dir.display();
    format!(
        "{config}\n\
         ListenAddress 127.0.0.1:{port}\n\
         HostKey {dir}/sshd_host_key\n\
         PidFile none\n\
         AuthorizedKeysFile none\n\
         PermitRootLogin yes\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         UsePAM no\n\
         StrictModes no\n\
         LogLevel VERBOSE\n"
    )
}

/// An sshd command on the configuration in `dir`; from 9.8 on told not to punish a test's many refusals.
fn sshd(dir: &Path, mode: &str) -> Command {
    let command = |mode: &str, penalties: bool| {
        let mut command = tool(SSHD);
        command.args([mode, "-e", "-f"]).arg(dir.join("sshd_config"));
        if penalties {
            command.args(["-o", "PerSourcePenalties=no"]);
        }
        command
    };
    command(mode, output(&mut command("-t", true)).status.success())
}

/// The same command, run by a program that becomes what its arguments end with.
fn within(program: &[&str], command: &Command) -> Command {
    let mut words = program.iter().map(std::ffi::OsStr::new).chain([command.get_program()]).chain(command.get_args());
    let mut whole = tool(&words.next().expect("a program").to_string_lossy());
    whole.args(words);
    whole
}

fn sshd_log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("sshd.log")).unwrap_or_default()
}

fn daemon(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::create(log).expect("a log file");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn has_ended(child: &mut Child) -> bool {
    child.try_wait().is_ok_and(|status| status.is_some())
}

/// Its own child only; when it has ended already, there is nothing left to do.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
