//! Lines of authorized_keys, as sshd(8) describes them: options, key, comment. Read more leniently than sshd does:
//! what it may take is shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::digest::Digest;

/// A key that may log in, or sign certificates that may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Each as it stands: `command="..."`.
    pub(super) options: Vec<String>,
    pub(super) algorithm: String,
    pub(super) fingerprint: Digest,
    pub(super) comment: String,
}

impl Entry {
    /// Nothing for an empty line, a comment, and what holds no key.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        Self::key(line, Vec::new()).or_else(|| {
            let (options, rest) = line.split_at(end_of_word(line));
            Self::key(rest.trim_start(), split_options(options))
        })
    }

    fn key(text: &str, options: Vec<String>) -> Option<Self> {
        let mut words = text.splitn(3, [' ', '\t']);
        let (algorithm, base64) = (words.next()?, words.next()?);
        let blob = STANDARD.decode(base64).ok()?;
        // RFC 4253, section 6.6: the blob begins with the name of its algorithm, as a string.
        let name = blob.get(4..)?.get(..algorithm.len())?;
        let length = u32::try_from(algorithm.len()).ok()?.to_be_bytes();
        if name != algorithm.as_bytes() || blob.get(..4)? != length {
            return None;
        }
        let comment = words.next().unwrap_or_default().trim().to_owned();
        Some(Self { options, algorithm: algorithm.to_owned(), fingerprint: Digest::of(&blob), comment })
    }
}

/// Where the first word ends: at white space that stands in no quotes.
fn end_of_word(text: &str) -> usize {
    outside_quotes(text).find(|(_, letter)| matches!(letter, ' ' | '\t')).map_or(text.len(), |(at, _)| at)
}

fn split_options(text: &str) -> Vec<String> {
    let commas = outside_quotes(text).filter(|(_, letter)| *letter == ',').map(|(at, _)| at);
    let mut options = Vec::new();
    let mut begin = 0;
    for end in commas.chain([text.len()]) {
        options.push(text[begin..end].to_owned());
        begin = (end + 1).min(text.len());
    }
    options
}

/// The letters that stand in no quotes. `\"` ends none.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, letter)| {
        let quote = *letter == '"' && !escaped;
        escaped = *letter == '\\' && !escaped;
        quoted ^= quote;
        !quoted && !quote
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    #[test]
    fn options_end_at_white_space_outside_of_quotes() {
        let parse = |text: &str| Entry::parse(text).map(|entry| (entry.options, entry.comment));
        let options = |options: &[&str]| options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse(&format!("{KEY} alice at home")), Some((options(&[]), "alice at home".to_owned())));
        let quoted = r#"command="a \"b, c\" ssh-ed25519 d",NO-pty"#;
        let split = options(&[r#"command="a \"b, c\" ssh-ed25519 d""#, "NO-pty"]);
        assert_eq!(parse(&format!("  {quoted}\t {KEY}")), Some((split, String::new())));
        for text in
            ["", "# comment", "ssh-ed25519", "ssh-ed25519 !", "root:$6$x:1:0:9:7:::", &KEY.replace("ssh-e", "ssh-f")]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
