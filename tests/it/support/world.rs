//! A whole installation, as its people see it: the real binary, a service that `ssh-jit init` made, and
//! a home for each person, written by `ssh-jit setup`. Everything ends with the value.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::openssh::{SshAgent, Sshd, keygen, public_line, user};
use super::plain::{Plain, plain};
use super::tls::{Authority, Pair};
use super::{dir, run, tool, wait_until};

const EVERYBODY: [&str; 5] = ["alice", "bob", "carol", "dan", "robot"];

/// The binary that is tested, without the developer's environment.
pub(crate) fn ssh_jit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssh-jit"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("LANG", "C.UTF-8");
    command
}

/// `ssh-jit host sync` on a host's folder.
pub(crate) fn host_sync(folder: &Path, args: &[&str]) -> Command {
    let mut command = ssh_jit();
    let sessions = folder.with_file_name("sessions");
    command.args(["host", "sync", "--folder"]).arg(folder).arg("--sessions").arg(sessions).args(args);
    command
}

/// What a command printed, how it ended, and how long it took.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
    pub(crate) took: Duration,
    plain: Plain,
}

impl Ran {
    /// Demands this exit code and exactly these lines, after everything that differs from run to run was
    /// replaced by a word in capitals.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, stdout: &[&str], stderr: &[&str]) -> &Self {
        let (out, err) = (plain(&self.stdout, &self.plain), plain(&self.stderr, &self.plain));
        let found = (self.code, out.lines().collect::<Vec<_>>(), err.lines().collect::<Vec<_>>());
        assert_eq!(found, (code, stdout.to_vec(), stderr.to_vec()), "\n{}{}", self.stdout, self.stderr);
        self
    }

    /// Demands success, whatever was said on the way.
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, 0, "\n{}{}", self.stdout, self.stderr);
        self
    }

    /// The same without the lines of standard error in which `text` stands.
    pub(crate) fn without(mut self, text: &str) -> Self {
        self.stderr = self.stderr.lines().filter(|line| !line.contains(text)).map(|line| format!("{line}\n")).collect();
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}\n{self:#?}"))
    }
}

/// A command that still runs; killed with the value.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    begun: Instant,
    plain: Plain,
    // Where the two files lie.
    _dir: TempDir,
}

impl Running {
    /// Starts a command with its output in files, so that nobody has to read along.
    pub(crate) fn spawn(command: &mut Command, plain: Plain) -> Self {
        let dir = dir();
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let file = |path: &Path| File::create(path).expect("a file for output");
        command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err));
        let begun = Instant::now();
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, out, err, begun, plain, _dir: dir }
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.err)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said `text` on standard error.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let (child, err) = (&mut self.child, &self.err);
        wait_until(|| read(err).contains(text) || has_ended(child), || format!("no {text:?} in time: {}", read(err)));
        assert!(self.stderr().contains(text), "it ended without {text:?}: {}", self.stderr());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("a signal to a child of ours");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let (child, err) = (&mut self.child, &self.err);
        wait_until(|| has_ended(child), || format!("it does not end: {}", read(err)));
        let took = self.begun.elapsed();
        let code = self.child.wait().expect("its status").code().unwrap_or(-1);
        Ran { stdout: read(&self.out), stderr: read(&self.err), code, took, plain: self.plain.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("UTF-8")
}

fn has_ended(child: &mut Child) -> bool {
    child.try_wait().is_ok_and(|status| status.is_some())
}

/// A service and its people.
pub(crate) struct World {
    dir: TempDir,
    server: Option<Running>,
    port: u16,
    /// Where break-glass alone listens, if it does.
    own_port: Option<u16>,
    /// More lines of `ssh-jit.toml`.
    pub(crate) more: String,
    authority: Option<Authority>,
}

impl World {
    /// A service that runs.
    pub(crate) fn new() -> Self {
        let mut world = Self::prepared();
        world.start();
        world
    }

    /// A service that runs and serves HTTPS by itself.
    pub(crate) fn https() -> Self {
        let mut world = Self::prepared_for_https();
        world.start();
        world
    }

    /// The same, not started.
    pub(crate) fn prepared_for_https() -> Self {
        let mut world = Self::prepared();
        let authority = Authority::new();
        world.write("tls-ca.pem", authority.pem());
        world.certify(&authority.certify(&["localhost", "127.0.0.1"]));
        world.authority = Some(authority);
        world.listen_on(0);
        world
    }

    /// Puts a certificate and its key where the service looks for them.
    pub(crate) fn certify(&self, pair: &Pair) {
        self.write("ca/tls.pem", &pair.certificate);
        ssh_jit::files::write_private(&self.path("ca/tls.key"), pair.key.as_bytes()).expect("a key");
    }

    /// The CA of the service's certificate.
    pub(crate) fn authority(&self) -> &Authority {
        self.authority.as_ref().expect("a world with HTTPS")
    }

    /// What `ssh-jit init` made, with a policy and keys for everybody; not started.
    pub(crate) fn prepared() -> Self {
        let dir = dir();
        fs::create_dir(dir.path().join("keys")).expect("a folder");
        for name in EVERYBODY.iter().chain(&["emergency", "other"]) {
            keygen(&dir.path().join("keys"), name, "ed25519");
        }
        let world = Self { dir, server: None, port: 0, own_port: None, more: String::new(), authority: None };
        world.init().good();
        world.write("ca/policy.toml", &world.usual_policy());
        world.listen_on(0);
        world
    }

    fn init(&self) -> Ran {
        let mut command = ssh_jit();
        command.args(["init", "--dir"]).arg(self.path("ca"));
        self.run(command)
    }

    /// Writes `ssh-jit.toml` anew for this port; 0 has the system choose.
    pub(crate) fn listen_on(&self, port: u16) {
        let scheme = self.scheme();
        let tls = if self.authority.is_some() { "tls_cert = \"tls.pem\"\ntls_key = \"tls.key\"\n" } else { "" };
        let text = format!(
            "url = \"{scheme}://localhost:{port}\"\nlisten = \"127.0.0.1:{port}\"\nca_keys = \"ca-keys\"\n\
             policy = \"policy.toml\"\ndatabase = \"sqlite:ssh-jit.db\"\njournal = \"break-glass.journal\"\n{tls}"
        );
        let own = self.own_port.map(|port| format!("break_glass_listen = \"127.0.0.1:{port}\"\n")).unwrap_or_default();
        let text = text + &own + &self.more;
        self.write("ca/ssh-jit.toml", &text);
    }

    /// Gives break-glass a listener of its own, from the next start on; not started.
    pub(crate) fn prepared_with_own_listener() -> Self {
        let mut world = Self::prepared();
        world.own_port = Some(0);
        world.listen_on(0);
        world
    }

    /// Where break-glass alone listens.
    pub(crate) fn own_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.own_port.expect("a listener of its own"))
    }

    /// Starts the service, and waits until it listens. The port stays the same from then on.
    pub(crate) fn start(&mut self) {
        self.start_by(self.serve());
    }

    /// The same by another command.
    pub(crate) fn start_by(&mut self, command: Command) {
        let mut server = self.spawn(command);
        server.wait_for("listening on ");
        if self.own_port.is_some() {
            server.wait_for("to itself");
        }
        if self.port == 0 {
            let said = server.stderr();
            let port = |before: &str, after: char| {
                let address = said.split(before).nth(1).and_then(|rest| rest.split(after).next());
                address.and_then(|port| port.parse().ok())
            };
            self.port = port("listening on 127.0.0.1:", ',').expect("the port it listens on");
            self.own_port = self.own_port.map(|_| port("break-glass has 127.0.0.1:", ' ').expect("its own port"));
            self.listen_on(self.port);
        }
        self.server = Some(server);
    }

    /// Asks the service to end, and waits until it has.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Ran {
        let server = self.server.take().expect("a service that runs");
        server.signal(Signal::TERM);
        server.end()
    }

    pub(crate) fn server(&mut self) -> &mut Running {
        self.server.as_mut().expect("a service that runs")
    }

    /// `ssh-jit serve` on this world's configuration.
    pub(crate) fn serve(&self) -> Command {
        let mut command = ssh_jit();
        command.args(["serve", "--config"]).arg(self.path("ca/ssh-jit.toml"));
        command
    }

    /// Runs a command to its end, with what differs from run to run known.
    pub(crate) fn run(&self, command: Command) -> Ran {
        self.spawn(command).end()
    }

    pub(crate) fn spawn(&self, mut command: Command) -> Running {
        Running::spawn(&mut command, self.plain())
    }

    /// What is replaced in output, beside everything that can be told by its form.
    fn plain(&self) -> Plain {
        let named = |text: String, name| (text, name);
        vec![
            named(self.dir.path().display().to_string(), "DIR"),
            named(self.url(), "URL"),
            named(format!("127.0.0.1_{}", self.port), "SERVICE"),
        ]
    }

    fn scheme(&self) -> &'static str {
        if self.authority.is_some() { "https" } else { "http" }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.dir.path().join("keys").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Puts a policy into force while the service runs.
    pub(crate) fn load_policy(&mut self, text: &str) {
        self.write("ca/policy.toml", text);
        let before = self.server().stderr().matches("policy loaded").count();
        self.server().signal(Signal::HUP);
        let server = self.server();
        wait_until(|| server.stderr().matches("policy loaded").count() > before, || "no new policy".to_owned());
    }

    /// alice and bob ask, carol and dan decide, the robot asks, alice has an emergency key.
    pub(crate) fn usual_policy(&self) -> String {
        let mut text = String::new();
        let groups = ["sre", "sre", "dba", "dba", "machines"];
        for (name, group) in EVERYBODY.iter().zip(groups) {
            let kind = if *name == "robot" { "kind = \"service\"\n" } else { "" };
            let key = public_line(&self.key(name));
            writeln!(text, "[people.{name}]\ngroups = [\"{group}\"]\nkeys = [\"{key}\"]\n{kind}").expect("text");
        }
        let emergency = public_line(&self.key("emergency"));
        text + ROLES
            + &format!("[[emergency_keys]]\nperson = \"alice\"\nkey = \"{emergency}\"\nroles = [\"db-prod\"]\n")
            + "[break_glass]\ncool_off = \"none\"\nper_key = 100\nextend_alone = 100\n"
    }

    /// A person at their terminal: their own home, their key in a file, no agent.
    pub(crate) fn as_(&self, name: &str) -> As<'_> {
        let home = self.path(name);
        let person = As { world: self, home: home.clone(), environment: Vec::new() };
        if fs::DirBuilder::new().mode(0o700).create(&home).is_ok() {
            let key = self.key(name).display().to_string();
            let emergency = self.key("emergency").display().to_string();
            let url = self.url();
            let authority = self.path("tls-ca.pem").display().to_string();
            let mut args = vec!["setup", "--no-ensure", "--server", &url, "--user", name, "--identity", &key];
            if self.authority.is_some() {
                args.extend(["--tls-ca", &authority]);
            }
            if name == "alice" {
                args.extend(["--emergency-identity", &emergency]);
            }
            person.run(&args).good();
        }
        person
    }

    /// A host that keeps itself in step with this service by `ssh-jit host sync`, and was once. It accepts these
    /// principals for the account that runs the tests. Gives its folder, too.
    pub(crate) fn synced_host(&self, name: &str, principals: &[&str]) -> (Host, PathBuf) {
        let dir = self.path(&format!("host-{name}"));
        let folder = dir.join("ssh-jit");
        fs::create_dir_all(&folder).expect("a folder");
        let trust = self.as_("alice").run(&["ca", "show", "--json"]).good().stdout;
        let trust: serde_json::Value = serde_json::from_str(&trust).expect("JSON");
        let key = dir.join("sshd_host_key");
        let mut text = format!(
            "server = {:?}\ninstance = {}\nname = {name:?}\nhost_key = \"{}\"\n",
            self.url(),
            trust["instance"],
            key.display()
        );
        if self.authority.is_some() {
            writeln!(text, "ca_certificate = \"{}\"", self.path("tls-ca.pem").display()).expect("text");
        }
        fs::write(folder.join("host.toml"), text).expect("host.toml");
        self.run(host_sync(&folder, &["--once"])).good();
        fs::write(dir.join(user()), principals.join("\n") + "\n").expect("principals");
        let (shown, synced) = (dir.display(), folder.display());
        let config = format!(
            "TrustedUserCAKeys {synced}/user-ca.pub\nRevokedKeys {synced}/revoked.krl\n\
             AuthorizedPrincipalsFile {shown}/%u\nPerSourceMaxStartups none"
        );
        (Host::start(&dir, dir.clone(), &config), folder)
    }

    /// A host that trusts this service, configured by what `ssh-jit ca show --sshd` prints. It accepts these
    /// principals for the account that runs the tests.
    pub(crate) fn host(&self, name: &str, principals: &[&str]) -> Host {
        let dir = self.path(&format!("host-{name}"));
        fs::create_dir(&dir).expect("a folder");
        let printed = self.as_("alice").run(&["ca", "show", "--sshd"]).good().stdout;
        fs::write(dir.join("ssh-jit-ca.pub"), printed).expect("CA file");
        fs::write(dir.join(user()), principals.join("\n") + "\n").expect("principals");
        let shown = dir.display();
        let config = format!(
            "TrustedUserCAKeys {shown}/ssh-jit-ca.pub\nAuthorizedPrincipalsFile {shown}/%u\nPerSourceMaxStartups none"
        );
        Host::start(&dir, dir.clone(), &config)
    }
}

const ROLES: &str = r#"
[duties]
auditors = ["carol"]
reviewers = ["dba", "alice"]

[roles.db-prod]
description = "PostgreSQL, production"
hosts = ["db1", "db2"]
principals = ["db-prod"]
requesters = ["sre", "machines"]
approvers = ["dba", "alice"]
automatic = { max = "15m" }
max = "4h"
default = "1h"
extensions = ["permit-pty"]

[roles.vault]
description = "The vault"
principals = ["vault"]
requesters = ["sre"]
approvers = ["dba"]
approvals = 2
max = "2h"

[roles.quick]
description = "Seconds"
principals = ["quick"]
requesters = ["sre"]
approvers = ["dba"]
automatic = { max = "1m" }
max = "1h"
"#;

/// A person at their terminal.
#[derive(Clone)]
pub(crate) struct As<'w> {
    world: &'w World,
    home: PathBuf,
    environment: Vec<(String, String)>,
}

impl As<'_> {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().display().to_string()));
        self
    }

    /// With this agent.
    pub(crate) fn with(self, agent: &SshAgent) -> Self {
        let socket = agent.socket().to_owned();
        self.env("SSH_AUTH_SOCK", socket)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = ssh_jit();
        command.args(args).env("HOME", &self.home).envs(self.environment.iter().map(|(n, v)| (n, v)));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.world.run(self.command(args))
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        self.world.spawn(self.command(args))
    }

    /// Asks and does not wait; gives the request's id.
    #[track_caller]
    pub(crate) fn ask(&self, args: &[&str]) -> String {
        let ran = self.run(&[&["login"], args, &["--no-wait"]].concat());
        assert_eq!(ran.code, 10, "{ran:#?}");
        ran.stdout.trim().to_owned()
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Where the state of this service lies.
    pub(crate) fn state(&self) -> PathBuf {
        self.home.join(format!(".local/state/ssh-jit/127.0.0.1_{}", self.world.port))
    }
}

/// A real sshd that trusts a world's CA.
pub(crate) struct Host {
    pub(crate) sshd: Sshd,
    dir: PathBuf,
}

impl Host {
    /// An sshd whose own files lie in `etc`, configured by `config`; what its clients need lies in `dir`.
    pub(crate) fn start(etc: &Path, dir: PathBuf, config: &str) -> Self {
        let sshd = Sshd::start(etc, config);
        let known = format!("[127.0.0.1]:{} {}\n", sshd.port, public_line(&etc.join("sshd_host_key")));
        fs::write(dir.join("known_hosts"), known).expect("known hosts");
        Self { sshd, dir }
    }

    /// Whether plain `ssh -p PORT user@127.0.0.1 true` gets in, with what this person's agent holds and what
    /// `lines` (of ssh_config) add.
    pub(crate) fn admits(&self, agent: Option<&SshAgent>, lines: &str) -> bool {
        let args = self.ssh(lines, &format!("{}@127.0.0.1", user()));
        let mut command = tool("ssh");
        command.args(&args[1..]).arg("true");
        if let Some(agent) = agent {
            command.env("SSH_AUTH_SOCK", agent.socket());
        }
        super::output(&mut command).status.success()
    }

    /// `ssh` and its arguments up to the name of a host, which is this one whatever it is called: `lines` come first
    /// in its ssh_config.
    pub(crate) fn ssh(&self, lines: &str, to: &str) -> Vec<String> {
        let (config, known) = (self.dir.join("client_config"), self.dir.join("known_hosts"));
        let port = self.sshd.port;
        let text = format!(
            "{lines}\nHost *\nHostName 127.0.0.1\nPort {port}\nUser {}\nHostKeyAlias [127.0.0.1]:{port}\n\
             UserKnownHostsFile {}\nStrictHostKeyChecking yes\nBatchMode yes\n",
            user(),
            known.display()
        );
        fs::write(&config, text).expect("ssh_config");
        ["ssh", "-F", &config.display().to_string(), to].map(str::to_owned).to_vec()
    }
}

/// The agent's identities, a line each, as `ssh-add -L` shows them.
pub(crate) fn held(agent: &SshAgent) -> Vec<String> {
    let output = super::output(tool("ssh-add").arg("-L").env("SSH_AUTH_SOCK", agent.socket()));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter(|line| !line.starts_with("The agent has no")).map(str::to_owned).collect()
}

/// What `ssh-keygen -L` says about a certificate.
pub(crate) fn inspected(line: &str) -> String {
    let dir = dir();
    let file = dir.path().join("id-cert.pub");
    fs::write(&file, format!("{line}\n")).expect("a certificate");
    run(tool("ssh-keygen").arg("-Lf").arg(file))
}
