//! A policy of several files as one text: each included file stands behind a line with its name. That text is what
//! is parsed, stored and named by its SHA-256; a policy of one file is its file, verbatim.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use super::names::Invalid;
use super::policy_file::Written;

pub use super::policy_file::PolicyError;

/// Stands before each file that the first one includes, and is followed by its name.
const INCLUDED: &str = "#@file ";

/// One of the files that make a policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'t> {
    /// Its name, where it is not the first.
    pub(super) name: Option<&'t str>,
    /// Where it begins in the whole text, in bytes.
    pub(super) start: usize,
    pub(super) text: &'t str,
}

/// The files that a whole text is made of: at least the first.
pub(super) fn split(whole: &str) -> Vec<Part<'_>> {
    let marks: Vec<usize> = marks(whole).collect();
    let ends = marks.iter().skip(1).copied().chain([whole.len()]);
    let first = Part { name: None, start: 0, text: &whole[..marks.first().copied().unwrap_or(whole.len())] };
    let included = marks.iter().zip(ends).map(|(&mark, end)| {
        let line = whole[mark..end].split_inclusive('\n').next().unwrap_or_default();
        let start = mark + line.len();
        Part { name: Some(line[INCLUDED.len()..].trim_end_matches('\n')), start, text: &whole[start..end] }
    });
    std::iter::once(first).chain(included).collect()
}

/// Where lines begin that name a file.
fn marks(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices(INCLUDED).map(|(at, _)| at).filter(|&at| at == 0 || text.as_bytes()[at - 1] == b'\n')
}

/// Puts files together: the first, and those that it includes, by name. Whoever writes one of them could otherwise
/// pass a part of it off as another file, so none may hold a line that names one.
pub fn join(first: &str, included: &[(String, String)]) -> Result<String, PolicyError> {
    let mut whole =
        String::with_capacity(first.len() + included.iter().map(|(_, text)| text.len() + 64).sum::<usize>());
    unmarked(None, first)?;
    whole.push_str(first);
    for (name, text) in included {
        unmarked(Some(name), text)?;
        if !whole.is_empty() && !whole.ends_with('\n') {
            whole.push('\n');
        }
        whole.push_str(INCLUDED);
        whole.push_str(name);
        whole.push('\n');
        whole.push_str(text);
    }
    Ok(whole)
}

fn unmarked(name: Option<&str>, text: &str) -> Result<(), PolicyError> {
    let rule = "a line that begins with #@file would pass for the beginning of another file; write # @file";
    marks(text).next().map_or(Ok(()), |at| Err(PolicyError::at(name, text, &(at..at), rule)))
}

/// What the first file of a policy includes.
pub fn includes(first: &str) -> Result<Vec<Pattern>, PolicyError> {
    // The whole file is parsed again later; one that cannot have the key is not parsed twice.
    if !first.contains("include") && !first.contains('\\') {
        return Ok(Vec::new());
    }
    let fail = |e: toml::de::Error| PolicyError::at(None, first, &e.span().unwrap_or(0..0), e.message());
    let head: Head = toml::from_str(first).map_err(fail)?;
    Ok(head.include.into_iter().map(|pattern| pattern.into_inner().0).collect())
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    include: Vec<Spanned<Written<Pattern>>>,
}

/// Which files are included: `policy.d/*.toml`, relative to the first file. A `*` stands for any part of the last
/// name that does not begin with a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The folder, empty for that of the first file.
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether it may match nothing, or more than one file.
    pub fn is_wild(&self) -> bool {
        self.0.contains('*')
    }

    /// The pattern as it is written; the file's name when it is not wild.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a file of this name, its folder included, is one of them.
    pub fn matches(&self, name: &str) -> bool {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let wanted = self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, last)| last);
        folder == self.folder() && is_plain(file, false) && fits(wanted, file)
    }
}

impl FromStr for Pattern {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fail = |rule| Err(Invalid::new("file to include", text, rule));
        let (folder, last) = text.rsplit_once('/').map_or((None, text), |(folder, last)| (Some(folder), last));
        if text.len() > 200 || folder.is_some_and(|folder| !folder.split('/').all(|part| is_plain(part, false))) {
            return fail("write a path below this file's folder, as in policy.d/*.toml, without . and ..");
        }
        if !is_plain(last, true) || !last.ends_with(".toml") {
            return fail("write the name of a file, as in people.toml or *.toml: A-Z a-z 0-9 . _ - and *");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that hides nothing and leads nowhere else.
fn is_plain(name: &str, wild: bool) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b) || wild && b == b'*';
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.bytes().all(plain)
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, rest)) => name
            .strip_prefix(before)
            .is_some_and(|name| (0..=name.len()).any(|at| name.is_char_boundary(at) && fits(rest, &name[at..]))),
    }
}
