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
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};
use ssh_jit::clock::Clock;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::time::Timestamp;

use self::product::{Change, Product, request};
use crate::support::openssh::{SshAgent, Sshd, keygen, public_line, ssh_keygen_fingerprint, user};
use crate::support::{dir, output, run, tool, wait_until};

/// Two reasons that sshd keeps for debugging otherwise: a CA that is not trusted, a signature that is wrong.
const VERBOSE: &str = "LogVerbose *:user_cert_trusted_ca():*,*:mm_answer_keyverify():*";
/// A cheap key exchange, for a hundred logins take long enough; and security keys in software.
const CLIENT: [&str; 2] = ["-oKexAlgorithms=curve25519-sha256", "-oSecurityKeyProvider=$SSH_SK_PROVIDER"];

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
    /// The login succeeds, and prints this.
    Enters(&'static str),
    /// It fails, and sshd's log says why.
    Refuses(&'static str),
    /// The login succeeds, and what it is for does not; sshd's log or ssh says why.
    Stops(&'static str),
    /// OpenSSH's parser, which ssh-keygen, ssh and sshd share, does not take it: ssh-keygen says so, and ssh
    /// never sends it, so that sshd sees a plain key.
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
    /// `ssh-keygen -L` cannot show the certificate.
    unreadable: bool,
}

/// The sshds. Logins to each follow one another, so that a part of its log belongs to one row.
struct Hosts {
    sshds: Vec<(Host, Mutex<Sshd>)>,
}

impl Hosts {
    fn start(dir: &Path, product: &Product) -> Self {
        // Two workers, so two of the host that most rows are about.
        let all = [Host::Db1, Host::Db1, Host::WithoutBreakGlass, Host::Revoking, Host::TrustingRsa];
        let start = |(i, host): (usize, &Host)| {
            let home = dir.join(format!("host{i}"));
            std::fs::create_dir(&home).expect("a folder for sshd");
            (*host, Mutex::new(Sshd::start(&home, &config(*host, &home, product))))
        };
        Self { sshds: all.iter().enumerate().map(start).collect() }
    }

    fn judge(&self, row: &Row, scratch: &Path) -> Outcome {
        let mut sshds = self.sshds.iter().filter(|(host, _)| *host == row.host).map(|(_, sshd)| sshd);
        let free = sshds.clone().find_map(|sshd| sshd.try_lock().ok());
        let sshd = free.unwrap_or_else(|| sshds.next().expect("a host").lock().expect("no worker panicked"));
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
        writeln!(trusted, "{}", public_line(&product.key(rows::RSA))).expect("a string");
    }
    let principals = write("principals", "db-prod@db1\ndb-prod\n");
    let mut config =
        format!("{VERBOSE}\nTrustedUserCAKeys {}\nAuthorizedPrincipalsFile {principals}\n", write("trusted", &trusted));
    if host == Host::Revoking {
        let (krl, spec) = (home.join("krl"), write("spec", &format!("serial: {}\n", rows::REVOKED)));
        let ca = product.key("ca-keys/user-ca.pub");
        run(tool("ssh-keygen").arg("-kqf").arg(&krl).arg("-s").arg(ca).arg(spec));
        writeln!(config, "RevokedKeys {}", krl.display()).expect("a string");
    }
    config
}

impl Row {
    /// A login at db1 with the subject key, and no certificate.
    fn new(name: &'static str, product: &Product) -> Self {
        Self {
            name,
            certificate: None,
            key: product.key("subject"),
            agent: None,
            env: None,
            wants: (Vec::new(), "echo in".to_owned()),
            host: Host::Db1,
            says: Says::Enters("in\n"),
            pair: None,
            ours: Vec::new(),
        }
    }

    /// One connection, and what sshd logs about it.
    fn login(&self, sshd: &Sshd, scratch: &Path) -> Outcome {
        let before = sshd.log().len();
        let mut ssh = tool("ssh");
        let base = sshd.ssh();
        for arg in base.get_args().take_while(|arg| *arg != "jit-test") {
            // ssh counts a certificate that is only in the agent as somebody else's key.
            let in_agent = self.certificate.is_none() && self.agent.is_some() && arg == "IdentitiesOnly=yes";
            ssh.arg(if in_agent { "IdentitiesOnly=no".as_ref() } else { arg });
        }
        ssh.arg("-i").arg(&self.key).args(CLIENT).args(&self.wants.0);
        let mut unreadable = false;
        if let Some(certificate) = &self.certificate {
            let file = by_hand::write(scratch, self.name, certificate);
            unreadable = matches!(self.says, Says::Unreadable)
                && !output(tool("ssh-keygen").arg("-Lf").arg(&file)).status.success();
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
            unreadable,
        }
    }

    /// What is wrong with the outcome, if anything is.
    fn mismatch(&self, outcome: &Outcome) -> Option<String> {
        let accepted = outcome.log.contains("Accepted publickey for");
        let right = match &self.says {
            Says::Enters(stdout) => outcome.success && accepted && outcome.stdout == *stdout,
            Says::Refuses(why) => !outcome.success && !accepted && outcome.log.contains(why),
            Says::Stops(why) => {
                !outcome.success && accepted && (outcome.log.contains(why) || outcome.stderr.contains(why))
            }
            Says::Unreadable => !outcome.success && outcome.unreadable && !outcome.log.contains("-CERT SHA256:"),
        };
        let Outcome { stdout, stderr, log, unreadable, .. } = outcome;
        (!right).then(|| format!("     stdout {stdout:?}, stderr {stderr:?}, unreadable: {unreadable}, log:\n{log}"))
    }
}

/// What sshd has logged since `before`, once the connection is over.
fn log_of_connection(sshd: &Sshd, before: usize) -> String {
    let since = || sshd.log().split_off(before);
    let is_over = || {
        let log = since();
        ["Connection closed by", "Disconnected from", "Connection reset by"].iter().any(|end| log.contains(end))
    };
    wait_until(is_over, || format!("no end of a connection in {}", since()));
    since()
}

#[test]
fn sshd_and_the_product_agree_row_by_row() {
    let dir = dir();
    let product = Product::new(dir.path());
    let agent = SshAgent::start(dir.path());
    keygen(dir.path(), rows::RSA, "rsa -b 3072");
    let rows = rows::all(&product, &agent);
    let hosts = Hosts::start(dir.path(), &product);
    let next = AtomicUsize::new(0);
    let judge_some = || {
        let mut judged = Vec::new();
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            judged.push((row, row.mismatch(&hosts.judge(row, dir.path()))));
        }
        judged
    };
    let judged = std::thread::scope(|scope| {
        let workers = [scope.spawn(judge_some), scope.spawn(judge_some)];
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect::<Vec<_>>()
    });
    report(&judged);
}

/// Holds each row against its pair and the product's answers, and prints the table if anything is wrong.
fn report(judged: &[(&Row, Option<String>)]) {
    let mut report = String::new();
    for (row, problem) in judged {
        let mark = if problem.is_some() { "BAD" } else { "ok" };
        writeln!(report, "{mark:4} {:70} {:?}", row.name, row.says).expect("a string");
        report.extend(problem.as_deref());
        let is_pair = |(other, problem): &&(&Row, Option<String>)| {
            Some(other.name) == row.pair && matches!(other.says, Says::Enters(_)) && problem.is_none()
        };
        if !matches!(row.says, Says::Enters(_)) && judged.iter().filter(is_pair).count() != 1 {
            writeln!(report, "BAD  its pair {:?} must be accepted", row.pair).expect("a string");
        }
        for (made, expected) in &row.ours {
            let told = made.as_deref().unwrap_or("nothing: it does as asked");
            if told != expected {
                writeln!(report, "BAD  the product must say\n{expected}\n     and says\n{told}").expect("a string");
            }
        }
    }
    assert!(!report.contains("BAD") && judged.len() >= 30, "{report}");
}

/// Every line that `ssh-keygen -L` prints of a product's certificate, and sshd's log line of the login: what joins
/// a login to the request, the people and the texts behind it.
#[test]
fn a_certificate_holds_what_was_approved_and_nothing_else() {
    let dir = dir();
    let product = Product::new(dir.path());
    let (grant, texts) = product.grant(&[]).unwrap();
    let certificate = product.certify(grant).unwrap();
    let mut digests =
        texts.map(|text| Sha256::digest(text).iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}")) + "\n");
    digests.sort();
    let evidence = Digest::from_bytes(Sha256::digest(digests.concat()).into());
    let id = format!("ssh-jit/7F3K-9QPX-M2/alice/db-prod/{evidence}");
    let serial = (1u64 << 48) + 1;
    let subject = ssh_keygen_fingerprint(&product.key("subject"));
    let ca = ssh_keygen_fingerprint(&product.key("ca-keys/user-ca"));
    let local = |time: Timestamp| time.to_string().trim_end_matches('Z').to_owned();
    let (after, before) = (product.now.plus(-5), product.now.plus(3595));

    let file = by_hand::write(dir.path(), "product", certificate.blob());
    let shown = run(tool("ssh-keygen").arg("-Lf").arg(&file).env("TZ", "UTC"));
    let lines: Vec<&str> = shown.lines().skip(1).map(str::trim).collect();
    let expected = [
        "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
        &format!("Public key: ED25519-CERT {subject}"),
        &format!("Signing CA: ED25519 {ca} (using ssh-ed25519)"),
        &format!("Key ID: \"{id}\""),
        &format!("Serial: {serial}"),
        &format!("Valid: from {} to {}", local(after), local(before)),
        "Principals:",
        "db-prod@db1",
        "Critical Options: (none)",
        "Extensions:",
        "permit-pty",
    ];
    assert_eq!(lines, expected);

    let home = dir.path().join("host");
    std::fs::create_dir(&home).unwrap();
    let sshd = Sshd::start(&home, &config(Host::Db1, &home, &product));
    let mut ssh = sshd.ssh();
    ssh.arg("-i").arg(product.key("subject")).arg("-o").arg(format!("CertificateFile={}", file.display()));
    run(ssh.arg("echo in"));
    let line = format!("ED25519-CERT {subject} ID {id} (serial {serial}) CA ED25519 {ca}\n");
    let log = sshd.log();
    let accepted = |line_of_log: &str| line_of_log.starts_with(&format!("Accepted publickey for {}", user()));
    assert!(log.lines().any(|l| accepted(l) && l.ends_with(line.trim_end())), "{log}");
}

/// The window is what was approved, to the second, however short; and sshd keeps to it: it lets in during the
/// last second, and nobody from `valid_before` on.
#[test]
fn a_window_is_exact_to_the_second() {
    let dir = dir();
    let product = Product::new(dir.path());
    for (seconds, skew) in [(1, 5), (3, 5), (4, 5), (19, 5), (20, 5), (3600, 5), (4 * 3600, 0), (3600, 90)] {
        let made = product.access(&[request("seconds", seconds), Change::Skew(skew)]).unwrap();
        let early = i64::from(skew).min(seconds / 4);
        let (after, before) = window(&by_hand::write(dir.path(), "window", made.blob()));
        assert_eq!((before.since(after), product.now.since(after)), (seconds, early), "{seconds} s, skew {skew} s");
    }
    std::thread::scope(|scope| {
        for (name, edge) in [("begin", Edge::Begin), ("end", Edge::End)] {
            let (product, home) = (&product, dir.path().join(name));
            scope.spawn(move || {
                std::fs::create_dir(&home).unwrap();
                let sshd = Sshd::start(&home, &config(Host::Db1, &home, product));
                // A login that takes longer than its second proves nothing, and is tried again.
                let proved = (0..5).any(|_| edge.is_exact(product, &sshd, &home));
                assert!(proved, "no login fitted into a second: this machine is too busy");
            });
        }
    });
}

/// `valid_after` and `valid_before`, as ssh-keygen reads them.
fn window(certificate: &Path) -> (Timestamp, Timestamp) {
    let shown = run(tool("ssh-keygen").arg("-Lf").arg(certificate).env("TZ", "UTC"));
    let valid = shown.lines().find_map(|line| line.trim().strip_prefix("Valid: from ")).expect("a window");
    let time = |text: &str| format!("{text}Z").parse().expect("a time");
    valid.split_once(" to ").map(|(after, before)| (time(after), time(before))).expect("two times")
}

/// Which end of a window is tried.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Begin,
    End,
}

impl Edge {
    /// One login in the last second on one side of the edge, one in the first second on the other. `false`
    /// when one of them took too long to tell.
    fn is_exact(self, product: &Product, sshd: &Sshd, scratch: &Path) -> bool {
        let now = Clock::System.now().second();
        let edge = now.plus(2);
        let signed = if matches!(self, Self::Begin) { edge } else { edge.plus(-2) };
        let made =
            product.access(&[request("seconds", 2), Change::At(signed), Change::Skew(0)]).expect("a certificate");
        let row = |says| Row { certificate: Some(made.blob().to_vec()), says, ..Row::new("edge", product) };
        let (before, after) = match self {
            Self::Begin => (Says::Refuses("Certificate invalid: not yet valid"), Says::Enters("in\n")),
            Self::End => (Says::Enters("in\n"), Says::Refuses("Certificate invalid: expired")),
        };
        [(edge.plus(-1), row(before)), (edge, row(after))].into_iter().all(|(second, row)| {
            wait_until(|| Clock::System.now().second() >= second, || "time stands still".to_owned());
            let outcome = row.login(sshd, scratch);
            let in_time = Clock::System.now().second() == second;
            let problem = row.mismatch(&outcome).filter(|_| in_time);
            assert_eq!(problem, None, "{self:?}");
            in_time
        })
    }
}
