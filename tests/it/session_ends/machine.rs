//! A machine with accounts and PAM, without touching this one: a mount namespace in which `/etc` is a copy, and
//! `/home`, `/run`, `/var/lib` and `/var/log` are empty. Its sshd is Debian's, run as root.

use std::fs::{self, File, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use ssh_jit::clock::Clock;
use ssh_jit::host::session::{WITHOUT_PAM, WRAPPER, pam_line, wrapper};
use ssh_key::certificate::Builder;
use ssh_key::{PrivateKey, PublicKey};
use tempfile::TempDir;

use crate::support::openssh::{Sshd, keygen, public_line};
use crate::support::{dir, output, run, tool};

/// Makes the machine's files visible as its own, and becomes what the other arguments say. Its account has no password,
/// which is not the same as being locked.
const ENTER: &str = r#"#!/bin/sh
set -e
dir=$1 program=$2 uid=$3 login=$4
shift 4
[ "$login" = none ] || echo "$login" >/proc/self/loginuid || true
mount --bind "$dir/etc" /etc
mkdir -p "$dir/lib"
mount --bind "$dir/lib" /var/lib
for empty in /run /var/log /home; do mount -t tmpfs -o mode=755 tmpfs "$empty"; done
mkdir -m 755 /run/sshd
touch /run/ssh-jit
mount --bind "$program" /run/ssh-jit
id jit >/dev/null 2>&1 || useradd -u "$uid" -m -s /bin/bash -p '*' jit
exec "$@"
"#;

/// How many machines this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// How sshd learns that it should run the helper.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// By PAM.
    Pam,
    /// By PAM without pam_loginuid, in an sshd that somebody started in their own login.
    PamByHand,
    /// Not at all.
    Unwatched,
    /// By a ForceCommand, with PAM off.
    ForceCommand,
}

pub(crate) struct Machine {
    pub(crate) sshd: Sshd,
    dir: TempDir,
    uid: u32,
}

/// What a certificate holds that matters here.
pub(crate) struct Issue<'a> {
    pub(crate) ca: &'a str,
    pub(crate) serial: u64,
    pub(crate) key_id: &'a str,
    /// Seconds from now.
    pub(crate) window: (i64, i64),
}

impl Default for Issue<'_> {
    fn default() -> Self {
        Self { ca: "ca", serial: 1, key_id: "ssh-jit/7F3K-9QPX-M2/alice/db-prod/SHA256:x", window: (-5, 3600) }
    }
}

impl Machine {
    /// `None`, and a line that says why, where such a machine cannot be had.
    pub(crate) fn start(way: Way) -> Option<Self> {
        if let Some(lack) = lack() {
            eprintln!("SKIPPED: sessions on a machine with accounts and PAM: {lack}");
            return None;
        }
        let dir = dir();
        // The account goes through it, and what is secret in it has its own permissions.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permissions");
        for key in ["ca", "break-glass", "other", "subject"] {
            keygen(dir.path(), key, "ed25519");
        }
        run(tool("cp").args(["-a", "/etc"]).arg(dir.path()));
        // So that the processes of one machine are not taken for another's, of another test run included.
        let uid = 100_000 + std::process::id() * 16 + MADE.fetch_add(1, Ordering::Relaxed);
        configure(dir.path(), way);
        let enter = dir.path().join("enter");
        write(&enter, ENTER, 0o755);
        let text = |path: &Path| path.display().to_string();
        let program = env!("CARGO_BIN_EXE_ssh-jit");
        let login = if way == Way::PamByHand { "0" } else { "none" };
        let words = ["unshare", "-m", &text(&enter), &text(dir.path()), program, &uid.to_string(), login];
        let sshd = Sshd::start_within(&words, dir.path(), &sshd_config(way));
        Some(Self { sshd, dir, uid })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file in the folder that ssh-jit has on a host.
    pub(crate) fn host_file(&self, name: &str) -> PathBuf {
        self.path("etc/ssh/ssh-jit").join(name)
    }

    /// Writes a certificate, and an ssh_config that shows it; gives the configuration and the certificate's last
    /// moment.
    pub(crate) fn issue(&self, name: &str, issue: &Issue<'_>) -> (PathBuf, i64) {
        let now = Clock::System.now().second().unix();
        let (after, before) = (now + issue.window.0, now + issue.window.1);
        let key = PublicKey::read_openssh_file(self.path("subject.pub")).expect("a public key");
        let nonce = issue.serial.to_be_bytes().repeat(2);
        let mut builder =
            Builder::new(nonce, key, after.cast_unsigned(), before.cast_unsigned()).expect("a certificate");
        builder.serial(issue.serial).expect("a serial");
        builder.key_id(issue.key_id).expect("a key id");
        builder.valid_principal("db-prod").expect("a principal");
        for extension in ["permit-pty", "permit-port-forwarding"] {
            builder.extension(extension, "").expect("an extension");
        }
        let ca = PrivateKey::read_openssh_file(self.path(issue.ca)).expect("a CA key");
        let certificate = self.path(&format!("{name}-cert.pub"));
        fs::write(&certificate, builder.sign(&ca).expect("a signature").to_openssh().expect("a line")).expect("a file");
        (self.client(name, &format!("CertificateFile {}", certificate.display())), before)
    }

    /// An ssh_config for the host `jit`.
    pub(crate) fn client(&self, name: &str, line: &str) -> PathBuf {
        let (port, dir) = (self.sshd.port, self.dir.path().display());
        let host_key = public_line(&self.path("sshd_host_key"));
        fs::write(self.path("known_hosts"), format!("jit-test {host_key}\n")).expect("known hosts");
        let text = format!(
            "Host jit\nHostName 127.0.0.1\nPort {port}\nUser jit\nHostKeyAlias jit-test\nIdentityFile {dir}/subject\n\
             IdentitiesOnly yes\nUserKnownHostsFile {dir}/known_hosts\nBatchMode yes\nControlPath none\n{line}\n"
        );
        let path = self.path(&format!("{name}.conf"));
        fs::write(&path, text).expect("ssh_config");
        path
    }

    /// Lets the subject key in without a certificate.
    pub(crate) fn allow_plain_key(&self) -> PathBuf {
        fs::copy(self.path("subject.pub"), self.path("etc/ssh/plain")).expect("authorized keys");
        self.client("plain", "")
    }

    /// A command that goes on, with its output in a file.
    pub(crate) fn session(&self, name: &str, command: &mut Command) -> Session {
        let out = self.path(&format!("{name}.out"));
        let file = File::create(&out).expect("a file for output");
        let errors = file.try_clone().expect("the same file");
        command.stdin(Stdio::piped()).stdout(file).stderr(errors);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Session { name: name.to_owned(), child, out }
    }

    /// Processes of the account, as `ps` shows them.
    pub(crate) fn processes(&self) -> String {
        let shown = output(tool("ps").args(["-o", "pid,args", "--no-headers", "-u", &self.uid.to_string()]));
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// The numbers of the watchers over this machine's connections.
    pub(crate) fn watchers(&self) -> Vec<u32> {
        let exe = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let path = entry.path();
            let arguments = fs::read_to_string(path.join("cmdline")).ok()?;
            let own =
                fs::metadata(path.join("root/etc/ssh")).ok()?.ino() == fs::metadata(self.path("etc/ssh")).ok()?.ino();
            (own && arguments.contains("host\0session\0")).then_some(pid)
        };
        fs::read_dir("/proc").expect("/proc").filter_map(|entry| exe(entry.ok()?)).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What was left running by sessions that nobody watched.
        for line in self.processes().lines() {
            let pid = line.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // It may have ended already.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// A client that runs. Ends with the value.
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) child: Child,
    out: PathBuf,
}

impl Session {
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).expect("its output")).into_owned()
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        self.wait_until(|session| session.said().contains(text));
        assert!(self.said().contains(text), "{}: it ended without {text:?}: {}", self.name, self.said());
    }

    /// Whether the port of a forward is open, once that is decided.
    pub(crate) fn is_up(&mut self, port: u16) -> bool {
        let open = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        self.wait_until(|_| open());
        open()
    }

    #[track_caller]
    fn wait_until(&mut self, ready: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !ready(self) && self.lives() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{}: {}", self.name, self.said());
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is missing here for a machine of that kind.
fn lack() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("the tests do not run as root");
    }
    if !Path::new("/etc/pam.d/sshd").exists() {
        return Some("there is no /etc/pam.d/sshd");
    }
    let mount = "mount -t tmpfs tmpfs /run && mount --bind /etc /etc";
    let may = Command::new("unshare").args(["-m", "sh", "-c", mount]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return Some("no mount namespace can be made");
    }
    None
}

fn configure(dir: &Path, way: Way) {
    let folder = dir.join("etc/ssh/ssh-jit");
    fs::create_dir_all(folder.join("principals")).expect("a folder");
    let line = |key: &str| public_line(&dir.join(key)).split(' ').take(2).collect::<Vec<_>>().join(" ");
    let cas = format!(
        "# Printed by ssh-jit ca show --sshd\n{} ssh-jit-user-ca\n{} ssh-jit-break-glass-ca\n",
        line("ca"),
        line("break-glass")
    );
    write(&folder.join("user-ca.pub"), &cas, 0o644);
    write(&folder.join("all-ca.pub"), &format!("{cas}{}\n", line("other")), 0o644);
    write(&folder.join("principals/jit"), "db-prod\n", 0o644);
    write(&folder.join("session"), &wrapper(Path::new("/run/ssh-jit")).expect("a wrapper"), 0o755);
    run(tool("ssh-keygen").args(["-q", "-k", "-f"]).arg(folder.join("revoked.krl")));
    if matches!(way, Way::Pam | Way::PamByHand) {
        let pam = dir.join("etc/pam.d/sshd");
        let mut lines = fs::read_to_string(&pam).expect("PAM's file for sshd");
        if way == Way::PamByHand {
            lines =
                lines.lines().filter(|line| !line.contains("pam_loginuid")).map(|line| format!("{line}\n")).collect();
        }
        fs::write(&pam, format!("{}\n{lines}", pam_line(Path::new(WRAPPER)))).expect("PAM's file for sshd");
    }
}

fn sshd_config(way: Way) -> String {
    let own = match way {
        Way::Pam | Way::PamByHand | Way::Unwatched => "UsePAM yes\n",
        Way::ForceCommand => WITHOUT_PAM,
    };
    format!(
        "{own}TrustedUserCAKeys /etc/ssh/ssh-jit/all-ca.pub\nAuthorizedPrincipalsFile /etc/ssh/ssh-jit/principals/%u\n\
         RevokedKeys /etc/ssh/ssh-jit/revoked.krl\nAuthorizedKeysFile /etc/ssh/plain\nMaxStartups 100\n\
         PerSourceMaxStartups none\nSubsystem sftp internal-sftp"
    )
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
}
