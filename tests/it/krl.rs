//! Lists of revoked certificates, as stock OpenSSH reads them: each kind of section, in `ssh-keygen -Q` and in a real
//! sshd.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ssh_jit::domain::krl::{Krl, OfCa};
use ssh_jit::domain::names::InstanceId;
use ssh_jit::domain::statement::Serial;
use ssh_jit::domain::time::Timestamp;

use crate::support::openssh::{Sshd, keygen, public_key, user};
use crate::support::{dir, output, run, tool};

/// A CA, a key, and what certifies it under any serial.
struct Product {
    dir: PathBuf,
    ca: PathBuf,
    key: PathBuf,
}

impl Product {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), ca: keygen(dir, "ca", "ed25519"), key: keygen(dir, "id", "ed25519") }
    }

    /// The certificate of this serial; its key id is `ID-SERIAL`.
    fn certificate(&self, serial: u64) -> PathBuf {
        let path = self.dir.join(format!("id-{serial}.pub"));
        std::fs::copy(self.key.with_extension("pub"), &path).expect("a copy");
        let mut command = tool("ssh-keygen");
        command.args(["-q", "-s"]).arg(&self.ca).args(["-I", &format!("ID-{serial}"), "-n", "jit"]);
        run(command.args(["-V", "-1m:+1h", "-z", &serial.to_string()]).arg(&path));
        self.dir.join(format!("id-{serial}-cert.pub"))
    }

    fn krl(&self, serials: impl IntoIterator<Item = u64>, key_ids: &[&str]) -> Krl {
        let of_ca = OfCa {
            ca: public_key(&self.ca),
            serials: serials.into_iter().map(|n| Serial::from_number(n).expect("a serial")).collect(),
            key_ids: key_ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        Krl {
            number: 1_795_341_718,
            generated: Timestamp::from_unix(1_795_341_718),
            instance: InstanceId::from_bytes([7; 16]),
            certificates: vec![of_ca],
            keys: BTreeSet::new(),
        }
    }

    fn write(&self, krl: &Krl) -> PathBuf {
        let path = self.dir.join("revoked.krl");
        ssh_jit::files::write_public(&path, &krl.to_bytes()).expect("a file");
        path
    }
}

/// A list, a serial on it, and one that is not.
fn each_kind(product: &Product) -> Vec<(&'static str, Krl, u64, u64)> {
    let base = 1 << 48;
    let mut by_key = product.krl([], &[]);
    by_key.keys.insert(public_key(&product.key).fingerprint());
    vec![
        ("list", product.krl([base + 7, base + 900_000], &[]), base + 7, base + 8),
        ("range", product.krl(base + 10..base + 20_000, &[]), base + 19_999, base + 20_000),
        ("bitmap", product.krl((0..8_192).map(|n| base + 2 * n + 1), &[]), base + 16_383, base + 16_382),
        ("last serial", product.krl([(1 << 63) - 1], &[]), (1 << 63) - 1, (1 << 63) - 2),
        ("key id", product.krl([], &[&format!("ID-{}", base + 3)]), base + 3, base + 4),
        ("key", by_key, base + 5, 0),
        ("nothing", product.krl([], &[]), 0, base + 6),
    ]
}

#[test]
fn ssh_keygen_reads_every_kind_of_section() {
    let dir = dir();
    let product = Product::new(dir.path());
    for (kind, krl, revoked, other) in each_kind(&product) {
        let path = product.write(&krl);
        let asked = |serial| {
            let mut command = tool("ssh-keygen");
            let answer = output(command.arg("-Qf").arg(&path).arg(product.certificate(serial)));
            String::from_utf8(answer.stdout).expect("UTF-8").trim().rsplit(": ").next().expect("a word").to_owned()
        };
        if revoked > 0 {
            assert_eq!(asked(revoked), "REVOKED", "{kind}");
        }
        if other > 0 {
            assert_eq!(asked(other), "ok", "{kind}");
        }
    }
}

/// Thousands of serials of every density: what stock OpenSSH says is revoked is exactly what went in.
#[test]
fn ssh_keygen_lists_the_very_serials() {
    let dir = dir();
    let product = Product::new(dir.path());
    let mut random = 1u64;
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % end
    };
    for step in [1, 2, 5, 40, 130, 5_000, 1 << 30] {
        let mut serial = 1 << 48;
        let serials: BTreeSet<u64> = (0..1_500)
            .map(|_| {
                serial += 1 + below(step);
                serial
            })
            .collect();
        let path = product.write(&product.krl(serials.clone(), &[]));
        let listed = run(tool("ssh-keygen").arg("-Qlf").arg(path));
        let found: BTreeSet<u64> =
            listed.lines().filter_map(|line| line.strip_prefix("serial: ")).flat_map(range).collect();
        assert_eq!(found, serials, "{step}");
    }
}

/// `7` or `7-9`
fn range(text: &str) -> std::ops::RangeInclusive<u64> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    low.parse().expect("a serial")..=high.parse().expect("a serial")
}

/// And sshd keeps out exactly those, from the next login on.
#[test]
fn sshd_refuses_every_kind_of_section() {
    let dir = dir();
    let product = Product::new(dir.path());
    let principals = dir.path().join("principals");
    std::fs::write(&principals, "jit\n").expect("principals");
    let path = product.write(&product.krl([], &[]));
    let ca = product.ca.with_extension("pub");
    let sshd = Sshd::start(
        dir.path(),
        &format!(
            "TrustedUserCAKeys {}\nAuthorizedPrincipalsFile {}\nRevokedKeys {}\nPerSourceMaxStartups none",
            ca.display(),
            principals.display(),
            path.display()
        ),
    );
    let admits = |serial| {
        let mut ssh = sshd.ssh();
        let certificate = format!("CertificateFile={}", product.certificate(serial).display());
        let mut whole = tool("ssh");
        let all: Vec<_> = ssh.arg("true").get_args().map(ToOwned::to_owned).collect();
        whole.arg("-i").arg(&product.key).args(["-o", &certificate]).args(all);
        output(&mut whole).status.success()
    };
    for (kind, krl, revoked, other) in each_kind(&product) {
        product.write(&krl);
        assert!(revoked == 0 || !admits(revoked), "{kind}: {} gets in", user());
        assert!(other == 0 || admits(other), "{kind}: {}", sshd.log());
    }
}
