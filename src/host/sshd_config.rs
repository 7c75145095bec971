//! The lines of sshd_config(5) as they stand, to say where a setting comes from. What is in force says sshd itself.

use std::fs;
use std::path::{Path, PathBuf};

use super::layout::Layout;

/// Files that include each other in a circle end here; sshd stops at the same depth.
const DEEPEST: usize = 16;

/// A line that sets something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// `FILE:LINE`.
    pub(super) at: String,
    /// In lower case.
    pub(super) keyword: String,
    /// What follows it.
    pub(super) value: String,
    /// Whether it holds for some connections only.
    pub(super) in_match: bool,
}

/// All lines, those of included files where they are included. What cannot be read is left out.
pub(super) fn lines(layout: &Layout) -> Vec<Line> {
    let mut found = Vec::new();
    read(layout, &layout.sshd_config(), false, DEEPEST, &mut found);
    found
}

/// Where a setting comes from: the first line wins.
pub(super) fn first(lines: &[Line], keyword: &str) -> Option<String> {
    let keyword = keyword.to_ascii_lowercase();
    lines.iter().find(|line| line.keyword == keyword && !line.in_match).map(|line| line.at.clone())
}

/// Whether one of the lines has everybody's sshd read this file.
pub(super) fn lead_to(lines: &[Line], layout: &Layout, path: &Path) -> bool {
    let includes = lines.iter().filter(|line| line.keyword == "include" && !line.in_match);
    let mut patterns = includes.flat_map(|line| patterns(layout, &line.value));
    patterns.any(|pattern| {
        let names = (pattern.file_name(), path.file_name());
        let (Some(pattern_name), Some(name)) = names else { return false };
        pattern.parent() == path.parent() && is_match(pattern_name.as_encoded_bytes(), name.as_encoded_bytes())
    })
}

fn patterns(layout: &Layout, value: &str) -> Vec<PathBuf> {
    let words = value.split_whitespace().map(|word| word.trim_matches('"'));
    words.map(|word| layout.at(Path::new("/etc/ssh").join(word))).collect()
}

fn read(layout: &Layout, path: &Path, in_match: bool, depth: usize, found: &mut Vec<Line>) {
    let Ok(text) = fs::read_to_string(path) else { return };
    let mut in_match = in_match;
    for (number, line) in text.lines().enumerate() {
        let Some((keyword, value)) = split(line) else { continue };
        in_match |= keyword == "match";
        if keyword == "include" && depth > 0 {
            for file in patterns(layout, &value).iter().flat_map(|pattern| matching(pattern)) {
                read(layout, &file, in_match, depth - 1, found);
            }
        }
        found.push(Line { at: format!("{}:{}", path.display(), number + 1), keyword, value, in_match });
    }
}

/// Keyword and arguments: separated by white space, or by one `=`.
fn split(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let value = line[end..].trim_start();
    let value = value.strip_prefix('=').unwrap_or(value).trim_start();
    Some((line[..end].to_ascii_lowercase(), value.to_owned()))
}

/// The files that a pattern matches, in order; `*` and `?` in the last part only, which is where they are used.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    if !name.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let matching = names.filter(|file| !file.starts_with('.') && is_match(name.as_bytes(), file.as_bytes()));
    let mut files: Vec<PathBuf> = matching.map(|file| folder.join(file)).collect();
    files.sort();
    files
}

fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| is_match(rest, &name[skipped..])),
        (Some((b'?', pattern)), Some((_, name))) => is_match(pattern, name),
        (Some((a, pattern)), Some((b, name))) => a == b && is_match(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_where_sshd_takes_it_from() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path()).unwrap();
        fs::create_dir_all(layout.at("/etc/ssh/sshd_config.d")).unwrap();
        let write = |path: &str, text: &str| fs::write(layout.at(path), text).unwrap();
        write("/etc/ssh/sshd_config", "# Port 1\n\nInclude sshd_config.d/*.conf\nport=22\nMatch User x\n UsePAM no\n");
        write("/etc/ssh/sshd_config.d/b.conf", "PORT = 24\nMatch User y\nExposeAuthInfo yes\n");
        write("/etc/ssh/sshd_config.d/a.conf", "X11Forwarding no\nInclude /etc/ssh/other\n");
        write("/etc/ssh/other", "PrintMotd no\n");
        write("/etc/ssh/sshd_config.d/.hidden.conf", "Port 25\n");
        write("/etc/ssh/sshd_config.d/a.conf.old", "Port 26\n");
        let lines = lines(&layout);
        let at = |keyword| first(&lines, keyword).map(|at| at.rsplit('/').next().unwrap().to_owned());
        assert_eq!(at("X11Forwarding").as_deref(), Some("a.conf:1"));
        assert_eq!(at("PrintMotd").as_deref(), Some("other:1"));
        assert_eq!(at("Port").as_deref(), Some("b.conf:1"), "{lines:#?}");
        assert_eq!((at("UsePAM"), at("ExposeAuthInfo")), (None, None), "for some connections only");
        assert!(lines.iter().any(|line| line.keyword == "usepam" && line.value == "no" && line.in_match));
    }
}
