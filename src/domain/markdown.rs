//! Text of other people's in Markdown. It is shown as it was written and does nothing: no heading, link, image, tag,
//! mention or table comes of it.

use super::text::visible;

/// A code span that holds a text, and nothing besides. In a code span nothing is markup (CommonMark, "Code spans"): it
/// ends at as many backticks as it began with, so it begins with more than the text has in a row.
pub fn quoted(text: &str) -> String {
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // One space at each end is not shown.
    format!("{fence} {text} {fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_own_quotation() {
        for (text, expected) in [
            ("the primary is down", "` the primary is down `"),
            ("`", "`` ` ``"),
            ("a ``` b ` c", "```` a ``` b ` c ````"),
            (
                "[x](javascript:alert(1)) <img src=x> @all #1 | b",
                "` [x](javascript:alert(1)) <img src=x> @all #1 | b `",
            ),
            ("one\n# two", "` one\\n# two `"),
            ("a\u{202e}b", "` a\\u{202e}b `"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    proptest::proptest! {
        /// The fence stands at both ends and nowhere between, and no line ends in it.
        #[test]
        fn the_fence_is_longer_than_any_run(text in "[`ab \\n<*_]{0,40}") {
            let quoted = quoted(&text);
            let fence: String = quoted.chars().take_while(|c| *c == '`').collect();
            let inner = &quoted[fence.len()..quoted.len() - fence.len()];
            proptest::prop_assert!(!inner.contains(&fence) && !quoted.contains('\n') && quoted.ends_with(&fence));
        }
    }
}
