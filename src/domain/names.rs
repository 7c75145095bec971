//! Names: every identifier is parsed once, at the edge, into a closed ASCII alphabet. A name that
//! does not fit is refused, never cleaned, so that no comma, wildcard, quote, space or look-alike
//! letter ever reaches a certificate, a host's configuration or a log line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that does not parse. Says what was wrong and what would work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {shown} is not valid: {rule}")]
pub struct Invalid {
    what: &'static str,
    shown: String,
    rule: &'static str,
}

impl Invalid {
    /// `value` is shown quoted, with control and non-ASCII characters escaped, cut to 60 characters.
    pub fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        let mut shown: String = value.chars().take(60).collect::<String>().escape_default().to_string();
        if value.chars().count() > 60 {
            shown.push_str("...");
        }
        Self { what, shown: format!("\"{shown}\""), rule }
    }
}

/// Gives a type with `FromStr` and `Display` its JSON and TOML form: that string.
macro_rules! as_string {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_string;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $valid:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                if $valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Invalid::new($what, text, $rule))
                }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        as_string!($type);
    };
}

name!(
    /// A person, or a machine of `kind = "service"`.
    PersonName, "person", is_name, "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// A role, the thing that is asked for.
    RoleName, "role", is_name, "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// A group or a person, wherever the policy takes either.
    GroupName, "group or person", is_name, "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// A principal as configured: what `AuthorizedPrincipalsFile` lists, without a host.
    PrincipalName, "principal", is_name, "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// A host as the policy and the hosts themselves name it: a lower-case DNS name.
    HostName, "host", is_host, "use a lower-case host name of a-z 0-9 . -, 253 characters at most"
);
name!(
    /// An account of a host, such as `postgres`: the name of its AuthorizedPrincipalsFile, too.
    AccountName, "account", is_account, "use 1 to 32 of A-Z a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// A ticket or incident id.
    Ticket, "ticket", is_ticket, "use 1 to 64 of A-Z a-z 0-9 . _ / # - and begin with a letter or digit"
);
name!(
    /// A rule of the policy.
    RuleName, "rule", is_name, "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// What a fact is about: `oncall:dba:primary`.
    FactName, "fact", is_fact_name, "use 1 to 200 of A-Z a-z 0-9 . _ / # - : and begin with a letter or digit"
);
name!(
    /// What a fact says: `alice`, `open`.
    FactValue, "value", is_fact_value, "use 1 to 64 of A-Z a-z 0-9 . _ / # -"
);
name!(
    /// Who states facts, from outside.
    SourceName, "source", is_name, "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// A place outside where tickets are looked up.
    CheckName, "ticket check", is_name, "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// The id of a webhook: its sender's name for it, the same at each attempt. Without a dot, which ends it in what
    /// is signed.
    WebhookId, "webhook-id", is_webhook_id, "use 1 to 128 of A-Z a-z 0-9 _ : -"
);
name!(
    /// A certificate extension or critical option, such as `permit-pty`.
    OptionName, "option", is_option, "use 1 to 64 of A-Z a-z 0-9 . @ -"
);
name!(
    /// A request's id: ten characters of Crockford's base 32, written `7F3K-9QPX-M2`.
    RequestId, "request", is_request_id, "a request id looks like 7F3K-9QPX-M2"
);
name!(
    /// A way to tell people: one `[[notify]]` table of the service's file.
    ChannelName, "channel", is_name, "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
);
name!(
    /// Where a person gets mail: one address in plain ASCII, so that it is neither two nor a header.
    MailAddress, "email", is_mail_address, "use one plain address such as carol@example.org"
);
name!(
    /// 128 random bits in lower-case hex: the audience of every statement, made once per service.
    InstanceId, "instance", is_hex_128, "use 32 lower-case hex digits"
);
name!(
    /// 128 random bits in lower-case hex: makes every statement, and so its hash, unguessable.
    Nonce, "nonce", is_hex_128, "use 32 lower-case hex digits"
);

impl RequestId {
    /// From 50 random bits: the id is public, uniqueness is the store's business.
    pub fn from_bits(bits: u64) -> Self {
        let symbol = |i: u64| CROCKFORD[usize::from((bits >> (5 * i)) as u8 & 31)];
        let mut id = String::with_capacity(12);
        for i in 0..10 {
            if i == 4 || i == 8 {
                id.push('-');
            }
            id.push(char::from(symbol(i)));
        }
        Self(id)
    }

    /// What a person typed: lower case and missing dashes are forgiven here, and nowhere else.
    pub fn from_typed(text: &str) -> Result<Self, Invalid> {
        let bare: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_uppercase();
        match (bare.get(..4), bare.get(4..8), bare.get(8..)) {
            (Some(a), Some(b), Some(c)) => format!("{a}-{b}-{c}").parse(),
            _ => text.parse(),
        }
    }
}

impl Nonce {
    /// 16 random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }
}

impl InstanceId {
    /// 16 random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }
}

/// A principal as a certificate carries it: `P@H` for a role that has hosts, else plain `P`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    name: PrincipalName,
    host: Option<HostName>,
}

impl Principal {
    /// `host` is absent only where the role is not bound to hosts.
    pub fn new(name: PrincipalName, host: Option<HostName>) -> Self {
        Self { name, host }
    }

    /// The host that this principal is bound to.
    pub fn host(&self) -> Option<&HostName> {
        self.host.as_ref()
    }
}

impl FromStr for Principal {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once('@') {
            None => Ok(Self { name: text.parse()?, host: None }),
            Some((name, host)) => Ok(Self { name: name.parse()?, host: Some(host.parse()?) }),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => self.name.fmt(f),
            Some(host) => write!(f, "{}@{host}", self.name),
        }
    }
}
as_string!(Principal);

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn all(text: &str, most: usize, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.len() <= most && text.bytes().all(allowed)
}

fn is_name(text: &str) -> bool {
    all(text, 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
}

fn is_account(text: &str) -> bool {
    all(text, 32, |b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn is_host(text: &str) -> bool {
    all(text, 253, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
        && text
            .split('.')
            .all(|label| !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'))
}

fn is_ticket(text: &str) -> bool {
    all(text, 64, |b| b.is_ascii_alphanumeric() || b"._/#-".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_fact_name(text: &str) -> bool {
    all(text, 200, |b| b.is_ascii_alphanumeric() || b"._/#-:".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_fact_value(text: &str) -> bool {
    all(text, 64, |b| b.is_ascii_alphanumeric() || b"._/#-".contains(&b))
}

fn is_webhook_id(text: &str) -> bool {
    all(text, 128, |b| b.is_ascii_alphanumeric() || b"_:-".contains(&b))
}

fn is_mail_address(text: &str) -> bool {
    // RFC 5321, 4.5.3.1: 64 characters before the @, and 254 in all. Quoted forms are left out.
    let local = |part: &str| {
        all(part, 64, |b| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_{|}~-".contains(&b))
            && part.split('.').all(|atom| !atom.is_empty())
    };
    text.len() <= 254 && text.split_once('@').is_some_and(|(name, host)| local(name) && is_host(host))
}

fn is_option(text: &str) -> bool {
    all(text, 64, |b| b.is_ascii_alphanumeric() || b".@-".contains(&b))
}

fn is_request_id(text: &str) -> bool {
    text.len() == 12
        && text.bytes().enumerate().all(|(i, b)| match i {
            4 | 9 => b == b'-',
            _ => CROCKFORD.contains(&b),
        })
}

fn is_hex_128(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts refuse a whole certificate for a critical option that they do not know, such as one without a name.
    #[test]
    fn an_option_has_a_name() {
        assert!("".parse::<OptionName>().is_err());
        assert!("permit-pty".parse::<OptionName>().is_ok());
    }

    /// W02: an address is one address; it can end neither its line nor its list.
    #[test]
    fn a_mail_address_is_one_address() {
        for text in ["carol@example.org", "c.d+jit@mail.example.org", "o'neill@x", "a@localhost"] {
            assert!(text.parse::<MailAddress>().is_ok(), "{text:?}");
        }
        for text in [
            "",
            "carol",
            "@example.org",
            "carol@",
            "a@b@c",
            "a@b,c@d",
            "a@b c@d",
            "Carol <a@b>",
            "a@b\r\nBcc: x@y",
            "a@b\n",
            "a\u{202e}@b",
            "\"a b\"@c",
            "a..b@c",
            ".a@c",
            "a@b;c",
            "a@[127.0.0.1]",
            "a@Example.org",
            &format!("{}@b", "a".repeat(65)),
        ] {
            assert!(text.parse::<MailAddress>().is_err(), "{text:?} must be refused");
        }
    }

    /// P02, P04: no identity ever becomes two principals, a wildcard or a look-alike.
    #[test]
    fn hostile_principals_are_refused() {
        for text in [
            "",
            " ",
            "a,root",
            "*",
            "?",
            "!root",
            "+",
            "../x",
            "{{x}}",
            "a b",
            "a\nroot",
            "a\0",
            "Root",
            "ROOT",
            "ro\u{17f}t",
            "root ",
            "\u{440}oot",
            "-x",
            "1x",
            "a@",
            "@h",
            "a@@h",
            "a@h,b",
            "a@H",
            "a@-h",
            "a@h..x",
            "a\"",
            "a'",
            "a\\",
            "a@h ",
            "a\u{200b}",
        ] {
            assert!(text.parse::<Principal>().is_err(), "{text:?} must be refused");
        }
        for text in ["root", "db-prod", "_x", "db-prod@db1", "db@db1.example.org"] {
            assert_eq!(text.parse::<Principal>().map(|p| p.to_string()), Ok(text.to_owned()));
        }
        assert!("a".repeat(32).parse::<PrincipalName>().is_ok());
        assert!("a".repeat(33).parse::<PrincipalName>().is_err());
    }

    /// S01, H01: an account's name becomes a file's: it leads nowhere else, and is no line or option.
    #[test]
    fn an_account_is_the_name_of_one_file() {
        for text in
            ["", ".", "..", "../root", "a/b", "/etc/passwd", "-f", "a\nb", "a b", "a\0", "%u", "a=b", ".hidden", "1"]
        {
            assert!(text.parse::<AccountName>().is_err(), "{text:?} must be refused");
        }
        for text in ["root", "_apt", "www-data", "Debian-exim", "a.b"] {
            assert!(text.parse::<AccountName>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn configured_principals_have_no_host() {
        assert!("db@db1".parse::<PrincipalName>().is_err());
    }

    #[test]
    fn request_ids_round_trip_and_forgive_typing() {
        let id = RequestId::from_bits(0x1234_5678_9abc);
        assert_eq!(id.as_str().parse::<RequestId>(), Ok(id.clone()));
        assert_eq!(RequestId::from_typed(&id.as_str().to_lowercase().replace('-', "")), Ok(id));
        assert!("7f3k-9qpx-m2".parse::<RequestId>().is_err());
        assert!(RequestId::from_typed("7F3K-9QPX-MU").is_err(), "U is not in the alphabet");
    }

    #[test]
    fn an_error_shows_hostile_text_escaped_and_short() {
        let error = "\u{202e}\u{1b}[31m".parse::<RoleName>().map_err(|e| e.to_string());
        assert_eq!(
            error.err().as_deref(),
            Some(
                r#"role "\u{202e}\u{1b}[31m" is not valid: use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"#
            )
        );
        assert!("x".repeat(10_000_000).parse::<RoleName>().err().is_some_and(|e| e.to_string().len() < 200));
    }
}
