//! Files that must survive a crash and must not be somebody else's: written whole or not at all, read
//! only when nobody else could have changed them, never through a symbolic link.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// No file that is read whole is larger.
const LONGEST: u64 = 16 * 1024 * 1024;

/// No secret line is longer.
const LONGEST_LINE: u64 = 4096;

/// Makes a folder of mode 0700, and what is missing above it.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file of mode 0600 by temporary file, fsync, rename and fsync of the folder: after a crash
/// either the old content is there or the new.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, 0o600)
}

/// The same with mode 0644, for what everybody may read.
pub fn write_public(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, 0o644)
}

/// The same with exactly this mode, whatever the umask says.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    let temporary = folder.join(format!("{}{}.new", temporary_prefix(path)?, std::process::id()));
    let written = (|| {
        // A leftover of a process that died; create_new then refuses a link planted in its place.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        sync(&file)?;
        fs::rename(&temporary, path)?;
        sync_folder(folder)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn temporary_prefix(path: &Path) -> io::Result<String> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(format!(".{}.", name.to_string_lossy()))
}

/// What writers of this file left beside it who were killed on the way.
pub fn leftovers(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = temporary_prefix(path)?;
    let is_leftover = |name: &str| {
        let id = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".new"));
        id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder_of(path))? {
        let entry = entry?;
        if is_leftover(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Makes a file's existence durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    sync(&File::open(folder)?)
}

/// Makes a file durable. Not `sync_all`, which tries again when it was interrupted: a sync that failed is never
/// tried again.
pub fn sync(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fsync(file)?)
}

/// The folder a file lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a file, not through a link.
pub fn open_no_link(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// Reads a secret: a regular file of ours that nobody else can read or write, not a link.
pub fn read_private(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = open_no_link(path, OpenOptions::new().read(true))?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    owned_and_closed(&facts, 0o077, "chmod 600")?;
    let mut content = Zeroizing::new(Vec::with_capacity(facts.len().min(LONGEST) as usize));
    file.take(LONGEST).read_to_end(&mut content)?;
    Ok(content)
}

/// Reads a line that is secret out of whatever the path leads to, a pipe for one. Other than in `read_private`, who
/// may write there is for whoever names the path.
pub fn read_secret_line(path: &Path) -> io::Result<Zeroizing<String>> {
    // Room for all that is taken, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_LINE as usize + 1));
    File::open(path)?.take(LONGEST_LINE).read_to_string(&mut text)?;
    let length = text.trim_end_matches('\n').len();
    text.truncate(length);
    Ok(text)
}

/// Reads what decides over others: a file that only its owner can write, and that is ours or root's.
pub fn read_trusted(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    ours_or_roots(&file.metadata()?)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Refuses a folder from which others than us and root can take files. A link is followed, as to files: it lies in a
/// folder that is asked about, too.
pub fn check_trusted_folder(path: &Path) -> io::Result<()> {
    let facts = fs::metadata(path)?;
    if facts.is_dir() { ours_or_roots(&facts) } else { Err(io::Error::other("it is not a folder")) }
}

/// Refuses a folder that is a link, somebody else's, or that others may write: what is put there could be
/// exchanged.
pub fn check_own_folder(path: &Path) -> io::Result<()> {
    folder_facts(path).and_then(|facts| owned_and_closed(&facts, 0o022, "chmod go-w"))
}

/// Refuses a folder that is a link, somebody else's, or open to others.
pub fn check_private_folder(path: &Path) -> io::Result<()> {
    folder_facts(path).and_then(|facts| owned_and_closed(&facts, 0o077, "chmod 700"))
}

fn folder_facts(path: &Path) -> io::Result<fs::Metadata> {
    let facts = fs::symlink_metadata(path)?;
    if facts.is_dir() {
        return Ok(facts);
    }
    Err(io::Error::other("it is not a folder (a symbolic link is not followed)"))
}

fn owned_and_closed(facts: &fs::Metadata, forbidden: u32, remedy: &str) -> io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    if facts.uid() != me {
        return Err(io::Error::other(format!("it belongs to user {}, not to {me}; chown it", facts.uid())));
    }
    if facts.mode() & forbidden != 0 { Err(open_to_others(facts, remedy)) } else { Ok(()) }
}

fn ours_or_roots(facts: &fs::Metadata) -> io::Result<()> {
    match (facts.uid(), facts.mode() & 0o022) {
        (0, 0) => Ok(()),
        (0, _) => Err(open_to_others(facts, "chmod go-w")),
        _ => owned_and_closed(facts, 0o022, "chmod go-w"),
    }
}

fn open_to_others(facts: &fs::Metadata, remedy: &str) -> io::Error {
    io::Error::other(format!("others may use it (mode {:o}); {remedy} it", facts.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_only_when_nobody_else_could() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"secret").unwrap();
        assert_eq!(read_private(&path).unwrap().as_slice(), b"secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_private(&link).is_err());
        for mode in [0o640, 0o604, 0o620, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_private(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        assert!(read_private(dir.path()).is_err(), "a folder is no secret");
    }

    /// S01: a link planted where a file is to be written is replaced, never followed.
    #[test]
    fn writing_replaces_a_link_and_leaves_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("file"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    }

    /// S01: nor is one that was planted where the temporary file will be, whose name can be guessed.
    #[test]
    fn a_link_in_place_of_the_temporary_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("file"));
        fs::write(&target, "old").unwrap();
        let temporary = dir.path().join(format!(".file.{}.new", std::process::id()));
        std::os::unix::fs::symlink(&target, &temporary).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn leftovers_are_those_of_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let leftovers_of = ["file", ".file.new", ".file.x1.new", ".other.1.new", ".file.1.new.conf", ".file.20.new"];
        for name in leftovers_of {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(leftovers(&dir.path().join("file")).unwrap(), [dir.path().join(".file.20.new")]);
    }

    #[test]
    fn what_decides_over_others_is_written_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy");
        write_public(&path, b"text").unwrap();
        assert_eq!(read_trusted(&path).unwrap(), "text");
        for mode in [0o664, 0o646, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_trusted(&path).unwrap_err().to_string();
            assert!(error.contains("chmod go-w"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(65_534), None).is_ok() {
            assert!(read_trusted(&path).unwrap_err().to_string().contains("chown"));
        }
    }

    #[test]
    fn a_secret_line_ends_where_its_line_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        for (text, secret) in [("", ""), ("a b \n", "a b "), ("a\n\n", "a"), ("\u{e9}", "\u{e9}")] {
            fs::write(&path, text).unwrap();
            let read = read_secret_line(&path).unwrap();
            assert_eq!(read.as_str(), secret);
            assert!(read.capacity() > 4000, "it never had to grow");
        }
    }

    #[test]
    fn private_folders_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        make_private_folder(&folder).unwrap();
        check_private_folder(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(check_private_folder(&folder).unwrap_err().to_string().contains("chmod 700"));
        check_own_folder(&folder).unwrap();
        for mode in [0o770, 0o707, 0o1777] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            assert!(check_own_folder(&folder).unwrap_err().to_string().contains("chmod go-w"), "{mode:o}");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(check_own_folder(&link).is_err() && check_private_folder(&link).is_err());
    }
}
