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
        if !is_plain(last, true) || last.strip_suffix(".toml").is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Policy;

    const FIRST: &str = "include = [\"policy.d/*.toml\"]\n[roles.db]\nprincipals = [\"db\"]\nmax = \"1h\"\n";

    fn file(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    fn refused(whole: &str) -> String {
        Policy::parse(whole).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn files_are_put_together_and_told_apart() {
        let people = "[people.ann]\ngroups = [\"sre\"]";
        let whole = join(FIRST, &[file("policy.d/a.toml", people), file("policy.d/b.toml", "\n# b\n")]).unwrap();
        assert_eq!(whole, format!("{FIRST}#@file policy.d/a.toml\n{people}\n#@file policy.d/b.toml\n\n# b\n"));
        let parts: Vec<_> = split(&whole).into_iter().map(|part| (part.name, part.text, part.start)).collect();
        let (a, b) = (Some("policy.d/a.toml"), Some("policy.d/b.toml"));
        let starts = [0, whole.find("[people").unwrap(), whole.find("\n# b").unwrap()];
        assert_eq!(
            parts,
            [(None, FIRST, starts[0]), (a, &format!("{people}\n"), starts[1]), (b, "\n# b\n", starts[2])]
        );
        let policy = Policy::parse(&whole).unwrap();
        assert_eq!((policy.people().len(), policy.roles().len(), policy.text()), (1, 1, whole.as_str()));
        assert_eq!(join(FIRST, &[]).unwrap(), FIRST, "one file is its file, verbatim");
        let alone = split("");
        assert!(alone.len() == 1 && alone[0].text.is_empty() && alone[0].name.is_none());
    }

    /// Whoever may write one file must not have a part of it taken for another one.
    #[test]
    fn a_file_does_not_pass_for_another() {
        let hostile = "[people.eve]\n#@file policy.d/roles.toml\n[roles.root]\n";
        let said = "a line that begins with #@file would pass for the beginning of another file; write # @file";
        let error = join(FIRST, &[file("policy.d/eve.toml", hostile)]).unwrap_err();
        assert_eq!(error.to_string(), format!("policy.d/eve.toml:2: people.eve: {said}"));
        assert_eq!(join(hostile, &[]).unwrap_err().to_string(), format!("2: people.eve: {said}"));
        assert!(join("#@file x", &[]).is_err() && join("x = 1\r\n#@file x", &[]).is_err());
        for harmless in ["# @file x\n", "  #@file x\n", "x = \"#@file x\"\n", "#@filex\n", "x #@file x\n"] {
            assert!(join(harmless, &[]).is_ok(), "{harmless:?}");
        }
        // Nor does a text that was put together by somebody else.
        assert_eq!(refused("#@file policy.d/x.toml\n"), "policy.d/x.toml:1: the first file does not include this one");
        let other = format!("{FIRST}#@file other.d/x.toml\n");
        assert_eq!(refused(&other), "other.d/x.toml:1: the first file does not include this one");
        let again = format!("{FIRST}#@file policy.d/b.toml\n#@file policy.d/a.toml\n");
        assert_eq!(refused(&again), "policy.d/a.toml:1: it stands behind policy.d/b.toml; files are sorted by name");
        let twice = format!("{FIRST}#@file policy.d/a.toml\n#@file policy.d/a.toml\n");
        assert_eq!(refused(&twice), "policy.d/a.toml:1: it stands behind policy.d/a.toml; files are sorted by name");
        let deeper = format!("{FIRST}#@file policy.d/a.toml\ninclude = [\"x.toml\"]\n");
        assert_eq!(refused(&deeper), "policy.d/a.toml:1: include: only the first file may include others");
        assert_eq!(refused("include = [\"people.toml\"]\n"), "1: include: people.toml is not there");
        assert!(Policy::parse("include = [\"people.d/*.toml\"]\n").is_ok(), "a pattern may match nothing");
    }

    #[test]
    fn errors_name_the_file_and_its_line() {
        let with = |text: &str| refused(&join(FIRST, &[file("policy.d/a.toml", text)]).unwrap());
        assert_eq!(
            with("\n[roles.x]\nmax = 1\n"),
            "policy.d/a.toml:3: roles.x.max: invalid type: integer `1`, expected a string"
        );
        assert_eq!(
            with("[roles.db]\nprincipals = [\"x\"]\nmax = \"1h\"\n"),
            "policy.d/a.toml:1: roles.db: another file has db already"
        );
        assert_eq!(
            with("[roles.x]\nprincipals = [\"x\"]\nmax = \"1h\"\napprovers = [\"eve\"]\n"),
            "policy.d/a.toml:4: roles.x.approvers: eve is neither a person nor a group that somebody is in"
        );
        assert_eq!(with("x"), "policy.d/a.toml:1: key with no value, expected `=`");
        let both = [file("policy.d/a.toml", "[duties]\n"), file("policy.d/b.toml", "\n[duties]\n")];
        assert_eq!(
            refused(&join(FIRST, &both).unwrap()),
            "policy.d/b.toml:2: duties: another file has the table duties already"
        );
        let rule = "[[rules]]\nname = \"x\"\neffect = \"deny\"\n";
        let both = [file("policy.d/a.toml", rule), file("policy.d/b.toml", rule)];
        assert_eq!(refused(&join(FIRST, &both).unwrap()), "policy.d/b.toml:2: rules.name: there is a rule x already");
    }

    #[test]
    fn patterns_stay_below_and_hide_nothing() {
        for bad in [
            "",
            "/etc/x.toml",
            "../x.toml",
            "policy.d/../x.toml",
            "./x.toml",
            "policy.d//x.toml",
            "*/x.toml",
            "policy.d/.x.toml",
            ".d/x.toml",
            "policy.d/",
            "x",
            "x.tom",
            "a\\b.toml",
            "a b.toml",
            "a\n.toml",
            "~/x.toml",
            "$HOME/x.toml",
            "x?.toml",
            "[a].toml",
            "\u{202e}.toml",
            "policy.d/*.toml/x",
        ] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
        let matches = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().matches(name);
        for (pattern, name, expected) in [
            ("policy.d/*.toml", "policy.d/a.toml", true),
            ("policy.d/*.toml", "policy.d/.toml", false),
            ("policy.d/*.toml", "policy.d/.a.toml", false),
            ("policy.d/*.toml", "policy.d/a.toml~", false),
            ("policy.d/*.toml", "policy.d/a.toml.swp", false),
            ("policy.d/*.toml", "policy.d/x/a.toml", false),
            ("policy.d/*.toml", "a.toml", false),
            ("policy.d/*.toml", "policy.d/a\n#@file b.toml", false),
            ("policy.d/*.toml", "policy.d/é.toml", false),
            ("*.toml", "a.toml", true),
            ("people.toml", "people.toml", true),
            ("people.toml", "people-toml", false),
            ("a*b*.toml", "axxbyy.toml", true),
            ("a*b*.toml", "ab.toml", true),
            ("a*b*.toml", "ba.toml", false),
            ("*a.toml", "aaa.toml", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        let listed = |text: &str| includes(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(listed(FIRST).unwrap(), ["policy.d/*.toml"]);
        assert_eq!(listed("\"\\u0069nclude\" = [\"x.toml\"]").unwrap(), ["x.toml"], "however the key is written");
        assert!(listed("# no such key\n[people.x]\n").unwrap().is_empty());
        let error = listed("\ninclude = [\"../x.toml\"]").unwrap_err().to_string();
        assert!(error.starts_with("2: include: file to include \"../x.toml\" is not valid: "), "{error}");
    }
}
