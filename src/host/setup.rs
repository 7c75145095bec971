//! Setting a host up: the files that sshd is to believe first, then the few lines that have it read them. Until those
//! lines are there nothing has changed for anybody, and all ways in that there were stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::domain::names::{AccountName, HostName, Principal, PrincipalName};
use crate::domain::trust::Trust;

use super::change;
use super::config::{Certified, HostConfig};
use super::first_line::{FirstLine, check_pam, pam_runs};
use super::layout::plain;
use super::manifest::{Manifest, digest};
use super::session::wrapper;
use super::sshd::{ended, last_line, systemctl};
use super::sync::user_ca;
use super::{sshd_config, version};

pub use super::change::{Change, Node};
pub use super::error::HostError;
pub use super::layout::Layout;
pub use super::sshd::{Reloaded, Sshd};
pub use super::undo::Undo;

/// What a host is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The service's address.
    pub server: String,
    /// The PEM of the only CA that is believed to certify it, where it has its own.
    pub tls_ca: Option<Vec<u8>>,
    /// The trust document as the service sent it.
    pub trust_json: Vec<u8>,
    /// The same, verified.
    pub trust: Trust,
    /// What the policy calls this host; what was said before, or else its own name, where it is not given.
    pub name: Option<HostName>,
    /// What the host is certified as; its certificate is there then.
    pub certificate: Option<Certified>,
    /// Who is let into which account. Those that were opened before stay.
    pub accounts: BTreeMap<AccountName, BTreeSet<PrincipalName>>,
    /// Put an Include into sshd_config where none leads to the drop-in.
    pub include: bool,
    /// Have PAM end sessions with their certificates.
    pub pam: bool,
    /// Replace files of ours that somebody changed.
    pub force: bool,
    /// The whole path of `ssh-jit`, for systemd.
    pub program: PathBuf,
}

/// What is to be changed on a host. Nothing is yet.
#[derive(Debug)]
pub struct Setup {
    layout: Layout,
    sshd: Sshd,
    /// What the policy calls this host.
    pub name: HostName,
    accounts: Vec<AccountName>,
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// What was in force before and stays: other ways in.
    pub left: Vec<String>,
    /// What this sshd lacks.
    pub lacks: Vec<String>,
}

/// What became of the daemons.
#[derive(Debug)]
pub struct Done {
    /// None where that was not wanted.
    pub reloaded: Option<Reloaded>,
    /// What systemd said about `host sync`; none where it does not run.
    pub sync: Option<Result<(), HostError>>,
}

/// The settings of the drop-in. sshd takes the first value of each.
pub(super) fn settings(layout: &Layout) -> [(&'static str, String); 4] {
    [
        ("TrustedUserCAKeys", layout.user_ca().display().to_string()),
        ("RevokedKeys", layout.krl().display().to_string()),
        ("AuthorizedPrincipalsFile", layout.principals().join("%u").display().to_string()),
        ("ExposeAuthInfo", "yes".to_owned()),
    ]
}

impl Setup {
    /// Finds out what has to be changed. Refuses where anything would be lost or not come into force.
    pub fn plan(layout: &Layout, sshd: &Sshd, wanted: &Wanted) -> Result<Self, HostError> {
        sshd.test()?;
        let known = Manifest::load(layout)?;
        let recorded = known.iter().flat_map(|known| known.accounts(layout));
        let accounts: BTreeSet<AccountName> = recorded.chain(wanted.accounts.keys().cloned()).collect();
        let accounts: Vec<AccountName> = accounts.into_iter().collect();
        let before = sshd.settings(None)?;
        let lines = sshd_config::lines(layout);
        for account in [None].into_iter().chain(accounts.iter().map(Some)) {
            conflict(layout, &sshd.settings(account)?, &lines)?;
        }
        let name = match (&wanted.name, &known) {
            (Some(name), _) => name.clone(),
            (None, Some(known)) => known.name.clone(),
            (None, None) => own_name(layout)?,
        };
        let is_read = sshd_config::lead_to(&lines, layout, &layout.drop_in());
        let include = known.as_ref().is_some_and(|known| known.include) || wanted.include && !is_read;
        if !include && !is_read {
            return Err(HostError::NotIncluded { drop_in: layout.drop_in(), config: layout.sshd_config() });
        }
        let pam = known.as_ref().is_some_and(|known| known.pam) || wanted.pam && !pam_runs(layout, &layout.session());
        if pam {
            check_pam(layout, before.yes("UsePAM"))?;
        }
        let mut changes = Plan { layout, known: known.as_ref(), force: wanted.force, files: Vec::new() };
        changes.files(wanted, &name)?;
        let changes = changes.changes(name.clone(), include, pam)?;
        let lacks = version::lacks(&sshd.version()?);
        let left = left(&before);
        Ok(Self { layout: layout.clone(), sshd: sshd.clone(), name, accounts, changes, left, lacks })
    }

    /// Makes the changes, sees that sshd takes them, and has it read them. At the first thing that fails all of it is
    /// taken back.
    pub fn apply(&self, reload: bool) -> Result<Done, HostError> {
        let (others, pam): (Vec<_>, Vec<_>) =
            self.changes.iter().cloned().partition(|change| change.path != self.layout.pam());
        change::apply(&others)?;
        self.in_force().map_err(|error| change::back(&self.changes, error))?;
        if !pam.is_empty() {
            let put = self.keeps_nobody_out().and_then(|()| change::apply(&pam));
            put.map_err(|error| change::back(&self.changes, error))?;
        }
        let reloaded = self.reload(reload).map_err(|error| {
            let error = change::back(&self.changes, error);
            // It may have read what is gone again, and without its RevokedKeys it would take no key at all.
            let _ = self.reload(true);
            error
        })?;
        let sync = self.layout.is_this_machine() && self.layout.has_systemd();
        Ok(Done { reloaded, sync: sync.then(start_sync) })
    }

    fn reload(&self, wanted: bool) -> Result<Option<Reloaded>, HostError> {
        if !wanted {
            return Ok(None);
        }
        self.sshd.reload(&self.layout, &self.sshd.settings(None)?).map(Some)
    }

    /// What PAM is to run admits those who come without a certificate: before anybody's login depends on it.
    fn keeps_nobody_out(&self) -> Result<(), HostError> {
        let program = self.layout.session();
        let failed = |said| HostError::Program { program: program.display().to_string(), said };
        let output = ended(Command::new(&program).env_clear().env("PAM_TYPE", "open_session"));
        let output = output.map_err(|e| failed(e.to_string()))?;
        if output.status.success() { Ok(()) } else { Err(failed(last_line(&output))) }
    }

    /// Sees that sshd would start, and that what it makes of its configuration is ours, for each account.
    fn in_force(&self) -> Result<(), HostError> {
        self.sshd.test()?;
        for account in [None].into_iter().chain(self.accounts.iter().map(Some)) {
            let found = self.sshd.settings(account)?;
            if let Some((keyword, _)) = settings(&self.layout).iter().find(|(keyword, ours)| found.one(keyword) != ours)
            {
                let lines = sshd_config::lines(&self.layout);
                let at = match account {
                    None => sshd_config::first(&lines, keyword),
                    // What holds for everybody was right.
                    Some(account) => Some(format!("a Match for {account}")),
                };
                let value = found.one(keyword).to_owned();
                return Err(HostError::NotInForce { keyword, value, at, drop_in: self.layout.drop_in() });
            }
        }
        Ok(())
    }
}

fn start_sync() -> Result<(), HostError> {
    systemctl(&["daemon-reload"])?;
    systemctl(&["restart", super::layout::UNIT])
}

/// Refuses to take the place of somebody else's setting: what they trust would be trusted no more.
fn conflict(layout: &Layout, found: &super::sshd::Settings, lines: &[sshd_config::Line]) -> Result<(), HostError> {
    for (keyword, ours) in settings(layout).into_iter().filter(|(_, ours)| ours != "yes") {
        let value = found.one(keyword);
        if value != "none" && value != ours {
            let at = sshd_config::first(lines, keyword);
            return Err(HostError::Conflict { keyword, value: value.to_owned(), at });
        }
    }
    Ok(())
}

/// Other ways in, none of which is touched.
fn left(found: &super::sshd::Settings) -> Vec<String> {
    let mut left = Vec::new();
    for keyword in ["AuthorizedKeysFile", "AuthorizedKeysCommand", "AuthorizedPrincipalsCommand", "PermitRootLogin"] {
        if !matches!(found.one(keyword), "none" | "no") {
            left.push(format!("{keyword} {}", found.one(keyword)));
        }
    }
    for keyword in ["PasswordAuthentication", "KbdInteractiveAuthentication", "HostbasedAuthentication"] {
        if found.yes(keyword) {
            left.push(format!("{keyword} yes"));
        }
    }
    left
}

/// What the policy calls a host that is set up.
pub fn name_of(layout: &Layout) -> Result<HostName, HostError> {
    let known = Manifest::load(layout)?;
    known.map(|known| known.name).ok_or_else(|| HostError::NotSetUp(layout.manifest()))
}

fn own_name(layout: &Layout) -> Result<HostName, HostError> {
    let path = layout.at("/etc/hostname");
    let text = fs::read_to_string(&path).map_err(|e| HostError::file("read", &path, e))?;
    let bad = |e: crate::domain::names::Invalid| HostError::Content { path: path.clone(), why: e.to_string() };
    text.trim().parse().map_err(bad)
}

/// The files as they are to be, and those of them that are not so yet.
struct Plan<'a> {
    layout: &'a Layout,
    known: Option<&'a Manifest>,
    force: bool,
    files: Vec<(PathBuf, Node)>,
}

impl Plan<'_> {
    fn files(&mut self, wanted: &Wanted, name: &HostName) -> Result<(), HostError> {
        let layout = self.layout;
        self.wants(layout.host_toml(), Node::public(host_toml(layout, wanted, name)?));
        if let Some(pem) = &wanted.tls_ca {
            self.wants(layout.tls_ca(), Node::public(pem.clone()));
        }
        self.wants(layout.trust(), Node::public(wanted.trust_json.clone()));
        self.wants(layout.user_ca(), Node::public(user_ca(&wanted.trust)));
        // sshd that finds none lets nobody in by key.
        let krl = match Node::at(&layout.krl())? {
            Some(krl) if self.known.is_some_and(|known| known.knows(layout, &layout.krl(), &krl)) => krl,
            _ => Node::public(empty_krl()?),
        };
        self.wants(layout.krl(), krl);
        for (account, principals) in &wanted.accounts {
            let lines = principals.iter().flat_map(|principal| {
                [Some(name.clone()), None].map(|host| format!("{}\n", Principal::new(principal.clone(), host)))
            });
            self.wants(layout.principals_of(account), Node::public(lines.collect::<String>()));
        }
        let wrapper = wrapper(&wanted.program).map_err(|_| HostError::Special(wanted.program.clone()))?;
        self.wants(layout.session(), Node::program(wrapper));
        if layout.has_systemd() {
            plain(&wanted.program)?;
            self.wants(layout.unit(), Node::public(unit(layout, &wanted.program)));
            self.wants(layout.unit_link(), Node::Link(layout.unit()));
        }
        if wanted.certificate.is_some() {
            let path = layout.host_certificate();
            let held = Node::at(&path)?.ok_or_else(|| HostError::Uncertified(path.clone()))?;
            self.wants(path, held);
        }
        self.wants(layout.drop_in(), Node::public(drop_in(layout, wanted.certificate.is_some())));
        Ok(())
    }

    fn wants(&mut self, path: PathBuf, node: Node) {
        self.files.push((path, node));
    }

    /// Folders, manifest, files, and last what has sshd read them.
    fn changes(&self, name: HostName, include: bool, pam: bool) -> Result<Vec<Change>, HostError> {
        let layout = self.layout;
        let mut manifest = self.known.cloned().unwrap_or_else(|| Manifest {
            name: name.clone(),
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            include,
            pam,
        });
        (manifest.name, manifest.include, manifest.pam) = (name, include, pam);
        for (path, node) in &self.files {
            self.record(&mut manifest, path, node)?;
        }
        let mut wanted = vec![(layout.folder(), Node::folder()), (layout.manifest(), manifest.node())];
        for (path, node) in &self.files {
            let above = path.ancestors().skip(1).filter(|folder| manifest.folders.contains(*folder));
            let mut missing: Vec<(PathBuf, Node)> = above.map(|folder| (folder.to_owned(), Node::folder())).collect();
            missing.reverse();
            wanted.extend(missing.into_iter().filter(|folder| !wanted.contains(folder)).collect::<Vec<_>>());
            wanted.push((path.clone(), node.clone()));
        }
        for (ours, wants) in [(FirstLine::include(layout), include), (FirstLine::pam(layout), pam)] {
            wanted.extend(wants.then(|| ours.added(layout)).transpose()?);
        }
        let changes = wanted.into_iter().map(|(path, node)| Change::to(path, Some(node)));
        changes.filter_map(Result::transpose).collect()
    }

    /// Notes that a file is to be written, unless what is there is somebody else's.
    fn record(&self, manifest: &mut Manifest, path: &Path, node: &Node) -> Result<(), HostError> {
        self.layout.check_folders(path)?;
        let now = Node::at(path)?;
        let known = now.as_ref().filter(|now| self.known.is_some_and(|known| known.knows(self.layout, path, now)));
        match &now {
            Some(now) if known.is_none() && now != node => {
                let ours = self.known.is_some_and(|known| known.files.contains_key(path));
                if !matches!((ours, self.force, now), (true, true, Node::File { .. })) {
                    let path = path.to_owned();
                    return Err(if ours { HostError::Changed(vec![path]) } else { HostError::Foreign(path) });
                }
            }
            _ => {}
        }
        let digests = known.into_iter().chain([node]).map(digest);
        let kept = self.layout.is_kept_by_sync(path);
        manifest.files.insert(path.to_owned(), if kept { BTreeSet::new() } else { digests.collect() });
        let missing = path.ancestors().skip(1).take_while(|folder| !folder.exists());
        manifest.folders.extend(missing.map(Path::to_owned));
        // These are ours by name, whoever made them; they are removed only when nothing is left in them.
        manifest.folders.extend([self.layout.folder(), self.layout.principals()]);
        Ok(())
    }
}

fn host_toml(layout: &Layout, wanted: &Wanted, name: &HostName) -> Result<String, HostError> {
    let text = HostConfig {
        server: wanted.server.clone(),
        instance: wanted.trust.instance.clone(),
        ca_certificate: wanted.tls_ca.as_ref().map(|_| layout.tls_ca()),
        name: Some(name.clone()),
        host_key: host_key(layout),
        certificate: wanted.certificate.clone(),
    };
    let bad = |e: toml::ser::Error| HostError::Content { path: layout.host_toml(), why: e.to_string() };
    toml::to_string(&text).map_err(bad)
}

fn empty_krl() -> Result<Vec<u8>, HostError> {
    let program = "ssh-keygen -k";
    let output = ended(Command::new("ssh-keygen").args(["-q", "-k", "-f", "/dev/stdout"]));
    let failed = |said| HostError::Program { program: program.to_owned(), said };
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() && !output.stdout.is_empty() {
        Ok(output.stdout)
    } else {
        Err(failed(last_line(&output)))
    }
}

fn drop_in(layout: &Layout, certified: bool) -> String {
    let mut text = String::from("# Written by ssh-jit host setup; ssh-jit host setup --undo takes it back.\n");
    text.extend(settings(layout).iter().map(|(keyword, value)| format!("{keyword} {value}\n")));
    let ours = certified.then(|| layout.host_certificate());
    let certificates = host_certificates(layout).into_iter().chain(ours);
    text.extend(certificates.map(|path| format!("HostCertificate {}\n", path.display())));
    text
}

/// The host key that says what certificates were used for.
fn host_key(layout: &Layout) -> Option<PathBuf> {
    let paths = ["ed25519", "ecdsa", "rsa"].map(|kind| layout.at(format!("/etc/ssh/ssh_host_{kind}_key")));
    paths.into_iter().find(|path| path.is_file())
}

/// Those that lie beside the host's keys, as OpenSSH names them.
fn host_certificates(layout: &Layout) -> Vec<PathBuf> {
    let kinds = ["rsa", "ecdsa", "ed25519"];
    let paths = kinds.map(|kind| layout.at(format!("/etc/ssh/ssh_host_{kind}_key-cert.pub")));
    paths.into_iter().filter(|path| path.is_file()).collect()
}

fn unit(layout: &Layout, program: &Path) -> String {
    let (program, folder) = (program.display(), layout.folder().display().to_string());
    format!(
        "# Written by ssh-jit host setup; ssh-jit host setup --undo takes it back.\n\
         [Unit]\nDescription=ssh-jit: trusted CAs and revoked certificates\n\
         Wants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nExecStart={program} host sync --folder {folder}\nRestart=always\nRestartSec=5\n\
         NoNewPrivileges=yes\nPrivateTmp=yes\nProtectHome=yes\nProtectSystem=strict\nReadWritePaths={folder}\n\
         StateDirectory=ssh-jit\nStateDirectoryMode=0700\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}
