//! Output without what differs from run to run: times, ids, fingerprints become words in capitals, so
//! that everything else can be compared to the letter.

/// Texts that are known to differ, and the words for them.
pub(crate) type Plain = Vec<(String, &'static str)>;

/// `9` stands for a digit, `X` for a symbol of a request's id, `h` for a hex digit, `b` for base64, the rest for
/// itself.
const FORMS: &[(&str, &str)] = &[
    ("9999-99-99T99:99:99.999Z", "WHEN"),
    ("9999-99-99T99:99:99Z", "WHEN"),
    ("9999-99-99 99:99:99", "WHEN"),
    ("99:99:99", "WHEN"),
    ("XXXX-XXXX-XX", "REQUEST"),
    ("SHA256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "SHA256"),
    ("hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh", "INSTANCE"),
];

/// Replaces them.
pub(crate) fn plain(text: &str, known: &Plain) -> String {
    let text = known.iter().fold(text.to_owned(), |text, (what, word)| text.replace(what, word));
    let bytes = text.as_bytes();
    let (mut out, mut at, mut inside) = (String::with_capacity(text.len()), 0, false);
    while at < text.len() {
        let rest = &text[at..];
        // In the middle of a word nothing begins.
        if !inside {
            if let Some(after) = rest.strip_prefix("127.0.0.1:") {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                out.push_str("127.0.0.1:PORT");
                at += rest.len() - after.len() + digits;
                continue;
            }
            if let Some((form, word)) = FORMS.iter().find(|(form, _)| stands(form, rest)) {
                out.push_str(word);
                at += form.len();
                if *word == "WHEN" {
                    at += distance(&text[at..]);
                }
                continue;
            }
            let length = length(rest);
            if length > 0 {
                out.push_str("LENGTH");
                at += length;
                continue;
            }
        }
        let c = rest.chars().next().unwrap_or_default();
        inside = c.is_ascii_alphanumeric() && !(c == 'T' && bytes.get(at + 1) == Some(&b':'));
        out.push(c);
        at += c.len_utf8();
    }
    out
}

fn stands(form: &str, text: &str) -> bool {
    let fits = |(form, c): (u8, u8)| match form {
        b'9' => c.is_ascii_digit(),
        b'X' => c.is_ascii_digit() || c.is_ascii_uppercase(),
        b'h' => c.is_ascii_digit() || (b'a'..=b'f').contains(&c),
        b'b' => c.is_ascii_alphanumeric() || c == b'+' || c == b'/',
        other => c == other,
    };
    text.len() >= form.len()
        && form.bytes().zip(text.bytes()).all(fits)
        && !text[form.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// ` (in 4m55s)`, ` (now)` or ` (1s ago)` behind a time.
fn distance(text: &str) -> usize {
    let end = text.find(')').map_or(0, |end| end + 1);
    let told = text.get(..end).unwrap_or_default();
    if told.starts_with(" (in ") || told == " (now)" || (told.starts_with(" (") && told.ends_with(" ago)")) {
        end
    } else {
        0
    }
}

/// `4m55s`, `59s`: what is left of something; whole minutes and hours are what somebody asked for.
fn length(text: &str) -> usize {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let word = &text[..end];
    let units = word.trim_matches(|c: char| c.is_ascii_digit() || "hm".contains(c)) == "s";
    if units && word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with('s') { end } else { 0 }
}
