use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use ssh_key::certificate::Builder;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Certificate, PrivateKey};

use super::*;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

fn line(key: &PrivateKey) -> String {
    let line = key.public_key().to_openssh().unwrap();
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The user CA, and that of broken glass.
fn authorities() -> Authorities {
    let text = format!("# Two\n\n{} ssh-jit-user-ca\n{} ssh-jit-break-glass-ca\n", line(&key(1)), line(&key(2)));
    Authorities::parse(&text).unwrap()
}

struct Made {
    ca: PrivateKey,
    key_id: &'static str,
    kind: CertType,
    /// From 1000 on.
    seconds: u64,
}

impl Default for Made {
    fn default() -> Self {
        Self { ca: key(1), key_id: "ssh-jit/7F3K-9QPX-M2/alice/db-prod/x", kind: CertType::User, seconds: 600 }
    }
}

impl Made {
    fn certificate(self) -> Certificate {
        let key = key(9).public_key().clone();
        let mut builder = Builder::new(vec![7; 16], key, 1000, 1000 + self.seconds).unwrap();
        builder.cert_type(self.kind).unwrap().key_id(self.key_id).unwrap().valid_principal("db-prod").unwrap();
        builder.sign(&self.ca).unwrap()
    }

    /// As sshd tells it.
    fn told(self) -> String {
        format!("publickey {}\n", self.certificate().to_openssh().unwrap().trim_end())
    }
}

fn ends(auth_info: &str) -> Option<i64> {
    authorities().admit(auth_info).unwrap().map(|admitted| admitted.ends.unix())
}

fn refused(auth_info: &str) -> String {
    authorities().admit(auth_info).unwrap_err().to_string()
}

#[test]
fn a_certificate_of_ours_is_found_among_what_was_shown() {
    let ours = Made::default().told();
    assert_eq!(ends(&ours), Some(1600));
    assert_eq!(ends(&format!("keyboard-interactive/pam\n{ours}")), Some(1600));
    assert_eq!(ends(&format!("publickey {}\npassword\n", line(&key(1)))), None);
    assert_eq!(ends(""), None);
    let admitted = authorities().admit(&ours).unwrap().unwrap();
    assert_eq!(format!("publickey {}\n", admitted.certificate), ours);
}

/// Whoever shows two certificates loses the connection with the first that ends.
#[test]
fn of_two_certificates_the_first_end_counts() {
    let told = |seconds| Made { seconds, ..Made::default() }.told();
    for (first, second) in [(60, 600), (600, 60)] {
        assert_eq!(ends(&(told(first) + &told(second))), Some(1060));
    }
}

/// Another CA of the host's is none of our business.
#[test]
fn certificates_of_others_go_on() {
    assert_eq!(ends(&Made { ca: key(3), seconds: 1_000_000, ..Made::default() }.told()), None);
    assert_eq!(ends(&(Made { ca: key(3), ..Made::default() }.told() + &Made::default().told())), Some(1600));
}

#[test]
fn a_certificate_that_its_ca_did_not_sign_is_refused() {
    let mut blob = Made::default().certificate().to_bytes().unwrap();
    let at = blob.windows(5).position(|five| five == b"alice").unwrap();
    blob[at] = b'm';
    let changed = Certificate::from_bytes(&blob).unwrap().to_openssh().unwrap();
    assert_eq!(refused(&format!("publickey {changed}")), "the certificate is not signed by its CA");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let said = refused("publickey ssh-ed25519-cert-v01@openssh.com AAAA\n");
    assert!(said.starts_with("the certificate cannot be read: "), "{said}");
    assert_eq!(refused(&Made { kind: CertType::Host, ..Made::default() }.told()), "the certificate is not a person's");
}

/// The service signs nothing that is longer, so nothing that is longer is its.
#[test]
fn lengths_have_a_limit_for_each_path() {
    let usual = Made::default().key_id;
    let broken = "BREAK-GLASS/7F3K-9QPX-M2/alice/db-prod/x";
    for (ca, key_id, longest) in [(1, usual, 12 * 3600), (2, broken, 900), (2, usual, 900), (1, broken, 900)] {
        let told = |seconds| Made { ca: key(ca), key_id, seconds, ..Made::default() }.told();
        assert_eq!(ends(&told(longest)), Some(1000 + longest.cast_signed()));
        let said = format!("the certificate is valid for {} s, and {longest} s is the most", longest + 1);
        assert_eq!(refused(&told(longest + 1)), said);
    }
}

#[test]
fn the_list_of_cas_is_its_owners_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Authorities::load(dir.path()).map(|_| ()).map_err(|e| e.to_string());
    assert!(load().unwrap_err().contains("user-ca.pub: "));
    let path = dir.path().join(CA_FILE);
    fs::write(&path, line(&key(1))).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    load().unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert!(load().unwrap_err().contains("chmod go-w"));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, format!("{}\nssh-ed25519 AAAA\n", line(&key(1)))).unwrap();
    assert!(load().unwrap_err().contains("user-ca.pub: line 2: "));
}

#[test]
fn no_path_becomes_more_than_a_word_of_the_script() {
    let text = wrapper(Path::new("/usr/local/bin/ssh-jit")).unwrap();
    assert!(text.contains("\nprogram=/usr/local/bin/ssh-jit\n") && !text.contains("@PROGRAM@"));
    for path in ["ssh-jit", "/opt/my programs/ssh-jit", "/opt/$(id)", "/opt/a;b", "/opt/a\nb", ""] {
        assert!(wrapper(Path::new(path)).is_err(), "{path}");
    }
}
