//! A folder that stands for the `/` of a host, with an sshd that reads its configuration there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::openssh::{keygen, public_line, user};
use crate::support::world::{Host, Ran, World, ssh_jit};

/// What lies in a tree: type, mode and content of everything, by its path.
pub(crate) type Picture = BTreeMap<PathBuf, (String, u32, Vec<u8>)>;

pub(crate) struct Tree<'w> {
    world: &'w World,
    pub(crate) root: PathBuf,
    pub(crate) host: Host,
    /// A key that this host lets in by its authorized keys.
    pub(crate) standing: PathBuf,
}

impl<'w> Tree<'w> {
    /// A host whose sshd_config begins as Debian's does.
    pub(crate) fn new(world: &'w World) -> Self {
        Self::with(world, "Include @/etc/ssh/sshd_config.d/*.conf")
    }

    /// A host whose sshd_config begins with these lines; `@` in them is the tree.
    pub(crate) fn with(world: &'w World, lines: &str) -> Self {
        let root = world.path("tree");
        let (etc, dir) = (root.join("etc/ssh"), world.path("tree-clients"));
        for folder in [&etc.join("sshd_config.d"), &dir] {
            fs::create_dir_all(folder).expect("a folder");
        }
        fs::write(root.join("etc/hostname"), "db1\n").expect("a name");
        let standing = keygen(&dir, "standing", "ed25519");
        fs::write(etc.join("authorized"), public_line(&standing) + "\n").expect("keys");
        let shown = root.display().to_string();
        let lines = lines.replace('@', &shown);
        let config = format!("{lines}\nAuthorizedKeysFile {shown}/etc/ssh/authorized\nPerSourceMaxStartups none");
        let host = Host::start(&etc, dir, &config);
        Self { world, root, host, standing }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = ssh_jit();
        command.args(["host", args[0], "--root"]).arg(&self.root).args(&args[1..]);
        command
    }

    /// `ssh-jit host ARGS` on this tree.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.world.run(self.command(args))
    }

    /// `host setup` as most would run it: the account of whoever runs the tests is for db-prod.
    pub(crate) fn setup(&self, args: &[&str]) -> Ran {
        let (url, account) = (self.world.url(), format!("{}=db-prod", user()));
        self.run(&[&["setup", "--server", &url, "--account", &account], args].concat())
    }

    /// Whether those still get in who have always got in.
    pub(crate) fn admits_standing(&self) -> bool {
        self.host.admits(None, &format!("IdentityFile {}\nIdentitiesOnly yes", self.standing.display()))
    }

    /// Everything in the tree, but for what sshd logs.
    pub(crate) fn picture(&self) -> Picture {
        let mut picture = Picture::new();
        look(&self.root, &mut picture);
        picture.retain(|path, _| !path.ends_with("sshd.log"));
        picture
    }
}

fn look(path: &Path, picture: &mut Picture) {
    let facts = fs::symlink_metadata(path).expect("its facts");
    let content = match facts.file_type() {
        kind if kind.is_symlink() => fs::read_link(path).expect("a link").into_os_string().into_encoded_bytes(),
        kind if kind.is_file() => fs::read(path).expect("a file"),
        _ => Vec::new(),
    };
    let kind = format!("{:?}", facts.file_type());
    picture.insert(path.to_owned(), (kind, facts.permissions().mode() & 0o7777, content));
    if facts.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            look(&entry.expect("an entry").path(), picture);
        }
    }
}
