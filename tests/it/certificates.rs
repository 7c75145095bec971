//! What a real sshd makes of certificates: a table of cases. Whatever is refused stands beside what is
//! accepted and differs from it in one thing, for a login that fails proves nothing by itself; and whatever
//! only a CA that errs could have signed stands beside the product's own refusal to sign it.

mod by_hand;
mod product;
mod rows;
mod thief;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use self::product::Product;
use crate::support::openssh::{SshAgent, Sshd, public_line};
use crate::support::{dir, output, run, tool};

/// A host, as the product tells hosts to be, or with one thing changed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Host {
    /// Trusts the user CA and the break-glass CA, and lists its own principals.
    Db1,
    /// The break-glass CA's line is dropped.
    WithoutBreakGlass,
    /// Has a KRL with one serial.
    Revoking,
    /// Trusts somebody's RSA CA too.
    TrustingRsa,
}

/// What sshd has to say.
#[derive(Debug)]
enum Says {
    /// The login succeeds, and its output begins like this.
    Enters(&'static str),
    /// It fails, and sshd's log says why.
    Refuses(&'static str),
    /// It gets that far, and no further: the login succeeds, and what it is for does not; sshd's log says why.
    Stops(&'static str),
    /// OpenSSH's parser, which ssh and sshd share, does not take it: ssh says so and never sends it.
    Unreadable,
}

/// One case.
struct Row {
    name: &'static str,
    /// What the client presents beside the key; a plain key has none.
    certificate: Option<Vec<u8>>,
    /// The private key, or the public one of a key in an agent.
    key: PathBuf,
    agent: Option<PathBuf>,
    env: Option<(&'static str, &'static str)>,
    /// Options of ssh, and the command; empty for none.
    wants: (Vec<String>, String),
    host: Host,
    says: Says,
    /// The row that is accepted and differs in one thing.
    pair: Option<&'static str>,
    /// What the product says when asked for the same (nothing if it does as asked), and what it must say.
    ours: Vec<(Option<String>, String)>,
}

/// What happened.
struct Outcome {
    success: bool,
    stdout: String,
    stderr: String,
    log: String,
}

/// The sshds. Logins to each follow one another, so that a part of its log belongs to one row.
struct Hosts {
    sshds: Vec<(Host, Mutex<Sshd>)>,
}

impl Hosts {
    fn start(dir: &Path, product: &Product) -> Self {
        let all = [Host::Db1, Host::WithoutBreakGlass, Host::Revoking, Host::TrustingRsa];
        let start = |host: Host| {
            let home = dir.join(format!("{host:?}"));
            std::fs::create_dir(&home).expect("a folder for sshd");
            (host, Mutex::new(Sshd::start(&home, &config(host, &home, product))))
        };
        Self { sshds: all.map(start).into() }
    }

    fn judge(&self, row: &Row, scratch: &Path) -> Outcome {
        let (_, sshd) = self.sshds.iter().find(|(host, _)| *host == row.host).expect("every host is started");
        let sshd = sshd.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        row.login(&sshd, scratch)
    }
}

fn config(host: Host, home: &Path, product: &Product) -> String {
    let write = |name: &str, text: &str| {
        let path = home.join(name);
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path.display().to_string()
    };
    let mut trusted = format!("{}\n", product.cas.user_ca.public());
    if host != Host::WithoutBreakGlass {
        writeln!(trusted, "{}", product.cas.break_glass_ca.public()).expect("a string");
    }
    if host == Host::TrustingRsa {
        writeln!(trusted, "{}", public_line(&product.key("rsa-ca"))).expect("a string");
    }
    let principals = write("principals", "db-prod@db1\ndb-prod\n");
    let mut config =
        format!("TrustedUserCAKeys {}\nAuthorizedPrincipalsFile {principals}\n", write("trusted", &trusted));
    if host == Host::Revoking {
        let (krl, spec) = (home.join("krl"), write("spec", &format!("serial: {}\n", rows::REVOKED)));
        let ca = product.key("ca-keys/user-ca.pub");
        run(tool("ssh-keygen").arg("-kqf").arg(&krl).arg("-s").arg(ca).arg(spec));
        writeln!(config, "RevokedKeys {}", krl.display()).expect("a string");
    }
    config
}

impl Row {
    /// One connection, and what sshd logs about it.
    fn login(&self, sshd: &Sshd, scratch: &Path) -> Outcome {
        let before = sshd.log().len();
        let mut ssh = tool("ssh");
        let base = sshd.ssh();
        ssh.args(base.get_args().take_while(|arg| *arg != "jit-test"));
        ssh.arg("-i").arg(&self.key).args(&self.wants.0);
        if let Some(certificate) = &self.certificate {
            let name: String = self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let file = scratch.join(format!("{name}-cert.pub"));
            std::fs::write(&file, by_hand::line(certificate)).expect("a certificate's file");
            ssh.arg("-o").arg(format!("CertificateFile={}", file.display()));
        }
        ssh.arg("jit-test").args(Some(&self.wants.1).filter(|command| !command.is_empty()));
        ssh.envs(self.agent.iter().map(|socket| ("SSH_AUTH_SOCK", socket))).envs(self.env);
        let output = output(&mut ssh);
        Outcome {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            log: log_of_connection(sshd, before),
        }
    }

    /// What is wrong with the outcome, if anything is.
    fn mismatch(&self, outcome: &Outcome) -> Option<String> {
        let accepted = outcome.log.contains("Accepted publickey for");
        let right = match &self.says {
            Says::Enters(stdout) => outcome.success && accepted && outcome.stdout.starts_with(stdout),
            Says::Refuses(why) => !outcome.success && !accepted && outcome.log.contains(why),
            Says::Stops(why) => !outcome.success && accepted && outcome.log.contains(why),
            Says::Unreadable => !outcome.success && !accepted && outcome.stderr.contains("-cert.pub\": invalid format"),
        };
        let Outcome { stdout, stderr, log, .. } = outcome;
        (!right).then(|| format!("expected {:?}\n  stdout: {stdout:?}\n  stderr: {stderr:?}\n  log: {log}", self.says))
    }
}

/// What sshd has logged since `before`, once the connection is over.
fn log_of_connection(sshd: &Sshd, before: usize) -> String {
    let since = || sshd.log().split_off(before);
    let is_over = || {
        let log = since();
        ["Connection closed by", "Disconnected from", "Connection reset by"].iter().any(|end| log.contains(end))
    };
    crate::support::wait_until(is_over, || format!("no end of a connection in {}", since()));
    since()
}

#[test]
fn sshd_and_the_product_agree_row_by_row() {
    let dir = dir();
    let product = Product::new(dir.path());
    let agent = SshAgent::start(dir.path());
    let rows = rows::all(&product, &agent);
    let hosts = Hosts::start(dir.path(), &product);
    let mut report = String::new();
    for row in &rows {
        let problem = row.mismatch(&hosts.judge(row, dir.path()));
        writeln!(report, "{:4} {:60} {:?}", if problem.is_none() { "ok" } else { "BAD" }, row.name, row.says).unwrap();
        report.extend(problem);
        for (made, expected) in &row.ours {
            let told = made.as_deref().unwrap_or("nothing: it does as asked");
            if told != expected {
                writeln!(report, "BAD  {}: the product must say\n  {expected}\nand says\n  {told}", row.name).unwrap();
            }
        }
    }
    eprintln!("{report}");
    assert!(!report.contains("BAD"), "{report}");
}
