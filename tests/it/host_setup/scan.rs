//! Standing access on a tree that stands for a host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::openssh::{keygen, public_line, ssh_keygen_fingerprint};
use crate::support::world::{World, ssh_jit};
use crate::support::{dir, output, run, tool};

use super::tree::Tree;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new(lines: &str) -> Self {
        let fixture = Self { dir: dir() };
        fs::create_dir_all(fixture.path("/etc/ssh")).expect("a folder");
        let key = keygen(&fixture.path("/etc/ssh"), "host_key", "ed25519");
        let lines = lines.replace('@', &fixture.root());
        fixture.write("/etc/ssh/sshd_config", &format!("HostKey {}\n{lines}\n", key.display()));
        fixture
    }

    fn root(&self) -> String {
        self.dir.path().canonicalize().expect("a path").display().to_string()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        run(tool("touch").args(["-d", "10 days ago"]).arg(path));
    }

    /// The findings, without the tree's path.
    fn scan(&self) -> Vec<Value> {
        let output = output(ssh_jit().args(["host", "scan", "--json", "--root"]).arg(self.dir.path()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8").replace(&self.root(), "");
        serde_json::from_str(&text).expect("findings")
    }
}

#[test]
fn a_tree_yields_exactly_these_findings() {
    let keys = dir();
    let key = |name: &str| {
        let path = keygen(keys.path(), name, "ed25519");
        (public_line(&path), ssh_keygen_fingerprint(&path))
    };
    let (root, alice, bob, theirs, lone) = (key("root@desk"), key("alice"), key("bob"), key("theirs"), key("lone"));
    let fixture = Fixture::new(
        "PermitRootLogin yes\nPasswordAuthentication yes\nUsePAM yes\nKbdInteractiveAuthentication no\n\
         TrustedUserCAKeys @/etc/ssh/theirs.pub\nAuthorizedKeysFile .ssh/authorized_keys @/etc/ssh/keys/%u\n\
         Match User bob\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\nAuthorizedKeysFile /keys/%u",
    );
    fixture.write(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n\
         alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\nnonsense\n",
    );
    fixture.write("/etc/shadow", "root:*:1::::::\nalice:$y$x:1::::::\nbob:!$y$x:1::::::\n");
    fixture.write("/etc/ssh/theirs.pub", &format!("# a CA\n{}\n", theirs.0));
    fixture.write("/root/.ssh/authorized_keys", &format!("{}\n", root.0));
    let options = "restrict,command=\"echo a, b\"";
    fixture.write("/home/alice/.ssh/authorized_keys", &format!("# desk\n\n{options} {}\nrubbish\n", alice.0));
    fixture.write("/etc/ssh/keys/alice", &format!("cert-authority {}\n", lone.0));
    fixture.write("/home/bob/.ssh/authorized_keys", "not read\n");
    fixture.write("/keys/bob", &format!("cert-authority,principals=\"bob-jit\" {}\n", bob.0));

    let shown = |(_, fingerprint): &(String, String), comment: &str, options: &str| {
        format!("ssh-ed25519 {fingerprint} ({comment}){options}, 10 days old or more:")
    };
    let facts = |account: &str, (_, fingerprint): &(String, String), comment: &str, options: &[&str]| {
        json!({ "account": account, "algorithm": "ssh-ed25519", "fingerprint": fingerprint, "comment": comment,
                "options": options, "days": 10 })
    };
    let role = "give the account to a role, then take the line out";
    let demanded = "and no principals are demanded";
    let expected = [
        json!({ "level": "warning", "what": "passwords", "where": "/etc/ssh/sshd_config:3",
                "found": "PasswordAuthentication yes; accounts with a password: alice",
                "mend": "PasswordAuthentication no" }),
        json!({ "level": "error", "what": "root", "where": "/etc/ssh/sshd_config:2", "found": "PermitRootLogin yes",
                "mend": "PermitRootLogin prohibit-password, or no where no role opens root" }),
        json!({ "level": "error", "what": "ca", "where": "/etc/ssh/theirs.pub:2",
                "found": format!("{} signs certificates for everybody, {demanded}", shown(&theirs, "theirs", "")),
                "mend": "take TrustedUserCAKeys out; ssh-jit host setup trusts the service",
                "key": facts("everybody", &theirs, "theirs", &[]) }),
        json!({ "level": "error", "what": "key", "where": "/root/.ssh/authorized_keys:1",
                "found": format!("{} opens root", shown(&root, "root@desk", "")), "mend": role,
                "key": facts("root", &root, "root@desk", &[]) }),
        json!({ "level": "warning", "what": "key", "where": "/home/alice/.ssh/authorized_keys:3",
                "found": format!("{} opens alice", shown(&alice, "alice", &format!(", {options}"))), "mend": role,
                "key": facts("alice", &alice, "alice", &["restrict", "command=\"echo a, b\""]) }),
        json!({ "level": "error", "what": "ca", "where": "/etc/ssh/keys/alice:1",
                "found": format!("{} signs certificates for alice, {demanded}", shown(&lone, "lone", ", cert-authority")),
                "mend": "take the line out, or write principals=\"...\" before it",
                "key": facts("alice", &lone, "lone", &["cert-authority"]) }),
        json!({ "level": "warning", "what": "passwords", "where": "a Match for bob",
                "found": "KbdInteractiveAuthentication yes; accounts with a password: alice",
                "mend": "KbdInteractiveAuthentication no" }),
        json!({ "level": "warning", "what": "ca", "where": "/keys/bob:1",
                "found": format!("{} signs certificates for bob",
                                 shown(&bob, "bob", ", cert-authority,principals=\"bob-jit\"")),
                "mend": role, "key": facts("bob", &bob, "bob", &["cert-authority", "principals=\"bob-jit\""]) }),
    ];
    let found = fixture.scan();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// A host where nothing stands: nothing but what root's own setting is.
#[test]
fn a_clean_tree_yields_nothing_to_do() {
    let fixture = Fixture::new("PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin no");
    fixture.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    assert_eq!(fixture.scan(), Vec::<Value>::new());
}

/// The service's own CA is no standing access.
#[test]
fn what_set_up_brought_is_not_told_of() {
    let world = World::new();
    let tree = Tree::new(&world);
    fs::write(tree.path("/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    let named = |tree: &Tree<'_>| {
        let found = tree.run(&["scan", "--json"]).good().json();
        let found = found.as_array().expect("findings").iter();
        found.map(|finding| finding["what"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let before = named(&tree);
    assert!(before.contains(&"key".to_owned()), "{before:?}");
    tree.setup(&[]).good();
    assert_eq!(named(&tree), before);
}

/// S01, D04: what people put into their own homes holds nothing up, and nothing of it is shown that is no key.
#[test]
fn what_people_put_into_their_homes_is_only_looked_at() {
    let fixture = Fixture::new("PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin no");
    let homes = ["fifo", "folder", "secret", "nul", "long"];
    let lines = homes.iter().zip(1000..).map(|(home, uid)| format!("{home}:x:{uid}:{uid}::/home/{home}:/bin/sh\n"));
    fixture.write("/etc/passwd", &lines.collect::<String>());
    for home in homes {
        fs::create_dir_all(fixture.path(&format!("/home/{home}/.ssh"))).unwrap();
    }
    let keys = |home: &str| fixture.path(&format!("/home/{home}/.ssh/authorized_keys"));
    run(tool("mkfifo").arg(keys("fifo")));
    fs::create_dir(keys("folder")).unwrap();
    fixture.write("/etc/shadow", "root:$y$secret:1::::::\n");
    symlink(fixture.path("/etc/shadow"), keys("secret")).unwrap();
    fs::write(keys("nul"), b"ssh-ed25519 \0\x1b[2J\xff\n\n#\n\"\\\n").unwrap();
    fs::write(keys("long"), "x".repeat(5 * 1024 * 1024)).unwrap();
    let found = fixture.scan();
    let told: Vec<String> = found.iter().map(|found| found["found"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(told, ["cannot be read: it is not a regular file"; 2], "{found:#?}");
}
