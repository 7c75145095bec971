//! Text that people write: reasons and comments. Kept exactly as signed, so it is refused rather
//! than cleaned when it holds anything that could deceive a reader or forge a log line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::names::{Invalid, as_string};

/// The longest reason or comment, in characters.
pub const LONGEST: usize = 1000;
/// The shortest reason for a request, in characters.
pub const SHORTEST_REASON: usize = 4;
/// The shortest reason for breaking the glass, in characters.
pub const SHORTEST_EMERGENCY_REASON: usize = 20;
/// Words that say that somebody wants in, and not what is broken.
const SAY_NOTHING: [&str; 24] = [
    "a",
    "access",
    "asap",
    "emergency",
    "fix",
    "for",
    "help",
    "i",
    "immediately",
    "in",
    "it",
    "login",
    "me",
    "need",
    "needed",
    "now",
    "please",
    "quick",
    "root",
    "test",
    "testing",
    "the",
    "to",
    "urgent",
];

/// Why somebody does something: 4 to 1,000 characters of one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason(String);

impl Reason {
    /// The text, verbatim.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the reason is enough to break the glass: 20 characters or more, and at least two different words
    /// beside those that say nothing. Whether it merely repeats the last one is the journal's to say.
    pub fn fits_emergency(&self) -> Result<(), Invalid> {
        let bare = |word: &str| word.trim_matches(|c: char| c.is_ascii_punctuation()).to_lowercase();
        let mut words: Vec<String> = self.0.split_whitespace().map(bare).collect();
        words.retain(|word| !word.is_empty() && !SAY_NOTHING.contains(&word.as_str()));
        words.sort();
        words.dedup();
        if self.0.chars().count() < SHORTEST_EMERGENCY_REASON || words.len() < 2 {
            return Err(Invalid::new(
                "reason",
                &self.0,
                "say in 20 characters or more, not one word repeated, what is broken",
            ));
        }
        Ok(())
    }

    /// The same words, whatever the case and spacing.
    pub fn says_the_same_as(&self, other: &str) -> bool {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        plain(&self.0) == plain(other)
    }
}

impl FromStr for Reason {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let count = text.chars().count();
        if !(SHORTEST_REASON..=LONGEST).contains(&count) {
            return Err(Invalid::new("reason", text, "write 4 to 1000 characters"));
        }
        plain_line("reason", text)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
as_string!(Reason);

/// A remark that may be empty: up to 1,000 characters of one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Comment(String);

impl Comment {
    /// The text, verbatim.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Comment {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.chars().count() > LONGEST {
            return Err(Invalid::new("comment", text, "write at most 1000 characters"));
        }
        if !text.is_empty() {
            plain_line("comment", text)?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
as_string!(Comment);

fn plain_line(what: &'static str, text: &str) -> Result<(), Invalid> {
    if text.trim() != text || text.is_empty() {
        return Err(Invalid::new(what, text, "leave no space at its ends"));
    }
    if text.chars().any(deceives) {
        return Err(Invalid::new(what, text, "use one line without control, bidirectional or invisible characters"));
    }
    Ok(())
}

/// Characters that break lines, reorder text or cannot be seen (Unicode bidi controls, zero-width
/// and filler characters, tags, variation selectors, soft hyphen, private use, non-characters).
pub fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}'
            | '\u{f0000}'..='\u{10ffff}')
        || (u32::from(c) & 0xfffe) == 0xfffe
}

/// Text of other people's, with whatever could deceive a reader or drive a terminal made visible.
pub fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if deceives(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_honest_line() {
        for text in [
            "",
            "   ",
            "abc",
            " lag",
            "lag ",
            "two\nlines",
            "esc\u{1b}[2J",
            "bidi \u{202e}txt",
            "zero\u{200b}width",
            "tag\u{e0041}x",
            "bom\u{feff}x",
            "nul\0x",
            "c1\u{85}x",
        ] {
            assert!(text.parse::<Reason>().is_err(), "{text:?} must be refused");
        }
        assert!("x".repeat(10_000_000).parse::<Reason>().is_err());
        assert!("x".repeat(1001).parse::<Reason>().is_err());
        for text in ["replica lag after failover", "Ersatz für Köln", "副本延迟", "<script>alert(1)</script>"] {
            assert_eq!(text.parse::<Reason>().map(|r| r.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_comment_may_be_empty_but_is_as_honest() {
        for text in ["", "x", "副本延迟"] {
            assert_eq!(text.parse::<Comment>().map(|comment| comment.to_string()), Ok(text.to_owned()));
        }
        let long = "x".repeat(LONGEST + 1);
        for text in [" ", " lag", "lag ", "two\nlines", "bidi \u{202e}txt", "zero\u{200b}width", &long] {
            assert!(text.parse::<Comment>().is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn an_emergency_needs_a_real_reason() {
        let fits = |text: &str| text.parse::<Reason>().is_ok_and(|r| r.fits_emergency().is_ok());
        assert!(fits("primary is down, nobody answers"));
        assert!(!fits("primary is down"), "15 characters");
        assert!(!fits("asap asap ASAP asap asap asap"), "one word repeated");
        assert!(!fits("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "one word");
        for text in
            ["I need access, please, ASAP!", "test test - please login now", "Need urgent root access immediately"]
        {
            assert!(!fits(text), "{text:?} says nothing");
        }
        assert!(fits("need access to fix the broken replica"), "what is broken is in it");
    }

    #[test]
    fn the_same_reason_in_other_clothes() {
        let reason: Reason = "Primary  is DOWN again".parse().unwrap();
        assert!(reason.says_the_same_as("primary is down  again"));
        assert!(!reason.says_the_same_as("primary is down"));
    }
}
