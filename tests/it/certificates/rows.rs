//! The table, by what is attacked. Where a row's certificate is written by hand, the product was asked for
//! the same and its refusal stands below.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use ssh_jit::ca::Keys;
use ssh_jit::domain::certificate::{Certificate, ToBeSigned};
use ssh_jit::domain::statement::Serial;
use ssh_key::private::{KeypairData, SkEd25519};
use ssh_key::{LineEnding, PrivateKey};

use super::by_hand::{self, ByHand, HOST, flag, option};
use super::product::{Change, Made, Product, Text, approval, emergency, policy, request, told};
use super::{Host, Row, Says, thief};
use crate::support::openssh::{SshAgent, public_line};
use crate::support::{run, tool, wire};

/// The serial in the KRL of [`Host::Revoking`].
pub(super) const REVOKED: u64 = (1 << 48) + 1_000_000;

/// One RSA key for everything, because making one takes long: emergency key, subject key, somebody's CA.
pub(super) const RSA: &str = "rsa-emergency";
const PRODUCT: &str = "the product's certificate";
const BY_HAND: &str = "the same, laid out by hand";
const NOT_LISTED: &str = "does not contain an authorized principal";
const NOT_TRUSTED: &str = "is not listed in";
const BREAK_GLASS: &str = "break-glass";
const PRINCIPALS: &str = r#"principals = ["db-prod"]"#;
const OPTIONS: &str = "critical_options = {}";

const LENGTHS: &str = "malformed: statement: seconds: from 1 to 43200 (12h) is possible";
const NO_TYPE: &str = "malformed: statement: unknown field `type`, expected one of `v`, `kind`, `instance`, `person`, \
    `id`, `role`, `principals`, `hosts`, `key`, `seconds`, `start`, `extends`, `ticket`, `reason`, `nonce`, `at`";

const NO_EXTENSIONS: &str = "malformed: statement: unknown field `extensions`, expected one of `v`, `kind`, \
    `instance`, `person`, `id`, `role`, `principals`, `hosts`, `seconds`, `extends`, `category`, `reason`, `clock_off`, `drill`, \
    `nonce`, `at`";

pub(super) fn all(product: &Product, agent: &SshAgent) -> Vec<Row> {
    let access = product.access(&[]).expect("a certificate");
    let emergency = product.break_glass("plain-emergency", &[]).expect("a certificate");
    let table = Table { product, agent, access, emergency };
    let parts = [
        table.acceptances(),
        table.principals(),
        table.windows(),
        table.serials_and_key_ids(),
        table.forms(),
        table.options(),
        table.addresses(),
        table.extensions(),
        table.terminals(),
        table.subject_keys(),
        table.cas(),
        table.emergencies(),
        table.security_keys(),
    ];
    parts.into_iter().flatten().collect()
}

struct Table<'a> {
    product: &'a Product,
    agent: &'a SshAgent,
    access: Certificate,
    emergency: Certificate,
}

/// The rows.
impl Table<'_> {
    fn acceptances(&self) -> Vec<Row> {
        let p = self.product;
        let without_hosts = [
            policy(r#"hosts = ["db1", "db2"]"#, "hosts = []"),
            request("hosts", json!([])),
            approval("principals", json!(["db-prod"])),
        ];
        vec![
            self.product(PRODUCT, p.access(&[])),
            self.by_hand(BY_HAND, |_| {}),
            self.row("no certificate at all").refused("Failed publickey", PRODUCT),
            self.product("a role without hosts: plain db-prod", p.access(&without_hosts)),
        ]
    }

    fn principals(&self) -> Vec<Row> {
        let p = self.product;
        let asked = |principal: &str| p.access(&[request("principals", json!([principal]))]);
        let only = |principal: &'static str| move |c: &mut ByHand| c.principals = vec![principal.to_owned()];
        let elsewhere = [request("hosts", json!(["db2"])), approval("principals", json!(["db-prod@db2"]))];
        let other_role = [policy(PRINCIPALS, r#"principals = ["web"]"#), approval("principals", json!(["web@db1"]))];
        let many: Vec<String> = (0..255).map(|i| format!("p{i}")).chain(["db-prod".to_owned()]).collect();
        let on_db1: Vec<String> = many.iter().map(|p| format!("{p}@db1")).collect();
        let hosts = policy(r#"hosts = ["db1", "db2"]"#, r#"hosts = ["db1"]"#);
        let list = |more: &[&str]| {
            let all = many.iter().map(String::as_str).chain(more.iter().copied());
            policy(PRINCIPALS, format!("principals = {}", json!(all.collect::<Vec<_>>())))
        };
        vec![
            self.product("for another host", p.access(&elsewhere)).refused(NOT_LISTED, PRODUCT),
            self.product("of another role", p.access(&other_role)).refused(NOT_LISTED, PRODUCT),
            self.by_hand("principal root", only("root"))
                .refused(NOT_LISTED, BY_HAND)
                .unless(asked("root"), not_given("root")),
            self.by_hand("principal of a host that the role lacks", only("db-prod@db3"))
                .refused(NOT_LISTED, BY_HAND)
                .unless(asked("db-prod@db3"), not_given("db-prod@db3"))
                .unless(p.access(&[approval("principals", json!(["db-prod@db3"]))]), wider("principals")),
            self.by_hand("principal without the role's host", only("db-prod"))
                .enters("in\n")
                .unless(asked("db-prod"), not_given("db-prod")),
            self.by_hand("principal in capitals", only("Db-Prod@db1"))
                .refused(NOT_LISTED, BY_HAND)
                .unless(asked("Db-Prod@db1"), not_a_name("Db-Prod")),
            self.by_hand("principal with a space at its end", only("db-prod@db1 "))
                .refused(NOT_LISTED, BY_HAND)
                .unless(asked("db-prod@db1 "), not_a_host("db1 ")),
            self.by_hand("two principals in one", only("db-prod@db1,x"))
                .refused(NOT_LISTED, BY_HAND)
                .unless(asked("db-prod@db1,x"), not_a_host("db1,x")),
            self.by_hand("principal *", only("*")).refused(NOT_LISTED, BY_HAND).unless(asked("*"), not_a_name("*")),
            self.by_hand("principal db-prod@*", only("db-prod@*"))
                .refused(NOT_LISTED, BY_HAND)
                .unless(asked("db-prod@*"), not_a_host("*")),
            self.by_hand("principal with a NUL", only("db-prod@db1\0x"))
                .unreadable(BY_HAND)
                .unless(asked("db-prod@db1\0x"), not_a_host("db1\\u{0}x")),
            self.by_hand("principal with a NUL at its end, dropped", only("db-prod@db1\0"))
                .enters("in\n")
                .unless(asked("db-prod@db1\0"), not_a_host("db1\\u{0}")),
            self.by_hand("no principals", |c| c.principals.clear())
                .refused(NOT_LISTED, BY_HAND)
                .unless(
                    p.access(&[policy(PRINCIPALS, "principals = []")]),
                    "4: roles.db-prod: principals times hosts make 0; from 1 to 256 are possible",
                )
                .unless(
                    p.access(&[approval("principals", json!([]))]),
                    "nothing-left: principals: the approvals have nothing in common here",
                ),
            self.by_hand("a principal twice", |c| c.principals.push("db-prod@db1".to_owned())).enters("in\n").unless(
                p.access(&[approval("principals", json!(["db-prod@db1", "db-prod@db1"]))]),
                "duplicate: principals: something stands there twice",
            ),
            self.product("256 principals", p.access(&[hosts, list(&[]), approval("principals", json!(on_db1))])),
            self.by_hand("257 principals", |c| {
                c.principals = on_db1.iter().cloned().chain(["x@db1".to_owned()]).collect();
            })
            .unreadable("256 principals")
            .unless(
                p.access(&[policy(r#"["db1", "db2"]"#, r#"["db1"]"#), list(&["x"])]),
                "4: roles.db-prod: principals times hosts make 257; from 1 to 256 are possible",
            ),
        ]
    }

    fn windows(&self) -> Vec<Row> {
        let p = self.product;
        let now = p.now.unix().cast_unsigned();
        let expired = [Change::At(p.now.plus(-3601)), Change::Skew(0)];
        let claimed = Change::Field(Text::Claim, "at", json!(p.now.plus(2)));
        let late = [approval("claim_by", json!(p.now.plus(1))), claimed];
        let future = [Change::At(p.now.plus(600)), Change::Skew(0)];
        let over = |seconds: Value| p.access(&[request("seconds", seconds)]);
        vec![
            self.product("expired", p.access(&expired))
                .refused("Certificate invalid: expired", PRODUCT)
                .unless(p.access(&[approval("claim_by", json!(p.now.plus(-1)))]), wider("claim_by"))
                .unless(p.access(&late), format!("lapsed: request: it lapsed at {}", p.now.plus(1))),
            self.product("not yet valid", p.access(&future))
                .refused("Certificate invalid: not yet valid", PRODUCT)
                .unless(
                    p.access(&[request("start", json!(p.now.plus(600)))]),
                    format!("too-early: start: it begins at {}", p.now.plus(600)),
                ),
            self.by_hand("begins after its end", |c| (c.valid_after, c.valid_before) = (now + 600, now - 600))
                .refused("Certificate invalid: not yet valid", BY_HAND)
                .unless(over(json!(-1200)), "malformed: statement: invalid value: integer `-1200`, expected u64"),
            self.by_hand("of no length", |c| c.valid_before = c.valid_after)
                .refused("Certificate invalid: expired", BY_HAND)
                .unless(over(json!(0)), LENGTHS),
            self.by_hand("for ever", |c| (c.valid_after, c.valid_before) = (0, u64::MAX))
                .enters("in\n")
                .unless(over(json!(u64::MAX)), LENGTHS)
                .unless(
                    p.access(&[policy("max = \"4h\"", "max = \"forever\"")]),
                    r#"9: roles.db-prod.max: duration "forever" is not valid: write it as 90m, 2h or 1h30m"#,
                ),
            self.by_hand("until 2^63", |c| c.valid_before = 1 << 63)
                .enters("in\n")
                .unless(over(json!(1u64 << 63)), LENGTHS),
            self.by_hand("a second longer than approved", |c| c.valid_before += 1)
                .enters("in\n")
                .unless(p.access(&[approval("seconds", json!(3601))]), wider("seconds")),
            self.by_hand("longer than the role's max", |c| c.valid_before = c.valid_after + 4 * 3600 + 1)
                .enters("in\n")
                .unless(
                    over(json!(4 * 3600 + 1)),
                    "too-long: seconds: 4h1s asked, and db-prod allows 4h at most; try --for 4h",
                ),
            self.by_hand("for a day", |c| c.valid_before = c.valid_after + 24 * 3600)
                .enters("in\n")
                .unless(over(json!(24 * 3600)), LENGTHS)
                .unless(
                    p.access(&[policy("max = \"4h\"", "max = \"24h\"")]),
                    r#"9: roles.db-prod.max: duration "24h" is not valid: from 1s to 12h is possible"#,
                ),
        ]
    }

    fn serials_and_key_ids(&self) -> Vec<Row> {
        let p = self.product;
        let id = |id: &str| p.access(&[request("id", id)]);
        let key_id = |id: &'static [u8]| move |c: &mut ByHand| c.key_id = id.to_vec();
        let serial = |text: &str| text.parse::<Serial>().map_err(|e| e.to_string());
        let long = "x".repeat(60_000);
        vec![
            self.by_hand("serial revoked", |c| c.serial = REVOKED)
                .at(Host::Revoking)
                .refused("revoked by file", "serial next to the revoked one"),
            self.by_hand("serial next to the revoked one", |c| c.serial = REVOKED + 1).at(Host::Revoking),
            self.by_hand("serial revoked, at a host without the KRL", |c| c.serial = REVOKED),
            self.by_hand("serial 0, which no KRL can revoke", |c| c.serial = 0)
                .enters("in\n")
                .unless(serial("0"), r#"serial "0" is not valid: a serial is a decimal number below 2^63"#),
            self.by_hand("serial 2^64-1", |c| c.serial = u64::MAX).enters("in\n").unless(
                serial("18446744073709551615"),
                r#"serial "18446744073709551615" is not valid: a serial is a decimal number below 2^63"#,
            ),
            self.by_hand("key id empty", key_id(b"")).enters("in\n").unless(id(""), not_an_id("")),
            self.by_hand("key id that forges a log line", key_id(b"x\nAccepted publickey for root"))
                .enters("in\n")
                .unless(id("7F3K-9QPX-M\n"), not_an_id("7F3K-9QPX-M\\n")),
            self.by_hand("key id with a NUL", key_id(b"ssh-jit\0/"))
                .unreadable("key id with a NUL at its end, dropped")
                .unless(id("7F3K-9QPX-M\0"), not_an_id("7F3K-9QPX-M\\u{0}")),
            self.by_hand("key id with a NUL at its end, dropped", key_id(b"ssh-jit/\0")).enters("in\n"),
            self.by_hand("key id of 60 kB", |c| c.key_id = long.clone().into())
                .enters("in\n")
                .unless(id(&long), "malformed: statement: 60384 bytes are more than the 49152 allowed"),
        ]
    }

    fn forms(&self) -> Vec<Row> {
        let p = self.product;
        let unknown = |field: &'static str, value: Value| p.access(&[request(field, value)]);
        let mut altered = self.by_hand("a byte changed after signing", |_| {});
        let key_id = altered.certificate.iter_mut().find_map(|blob| blob.windows(4).position(|w| w == b"7F3K"));
        altered.certificate.iter_mut().zip(key_id).for_each(|(blob, at)| blob[at] = b'8');
        vec![
            self.offered("of type user, offered by an agent", |_| {}),
            self.offered("of type host, offered by an agent", |c| c.kind = HOST)
                .refused("not a user certificate", "of type user, offered by an agent")
                .unless(unknown("type", json!(2)), NO_TYPE),
            self.by_hand("of type 3", |c| c.kind = 3).unreadable(BY_HAND).unless(unknown("type", json!(3)), NO_TYPE),
            self.by_hand("a byte after its end", |c| c.trailing.push(0)).unreadable(BY_HAND),
            self.by_hand("no nonce", |c| c.nonce.clear()).enters("in\n").unless(
                unknown("nonce", json!("")),
                r#"malformed: statement: nonce "" is not valid: use 32 lower-case hex digits"#,
            ),
            altered.unreadable(BY_HAND).unless(
                self.to_be_signed().finish(&[0; 64]).map_err(|e| told(&e)),
                "certificate: certificate: is not signed by the CA",
            ),
        ]
    }

    fn options(&self) -> Vec<Row> {
        let p = self.product;
        let forced_role = r#"critical_options = { force-command = "echo forced" }"#;
        let other_command = approval("critical_options", json!({ "force-command": "echo mine" }));
        let forced =
            [policy(OPTIONS, forced_role), approval("critical_options", json!({ "force-command": "echo forced" }))];
        let twice = Change::Words(
            Text::Approval,
            r#""critical_options":{}"#.to_owned(),
            r#""critical_options":{"source-address":"10.0.0.0/8","source-address":"127.0.0.0/8"}"#.to_owned(),
        );
        let critical = |option: &str| p.access(&[policy(OPTIONS, format!("critical_options = {{ {option} }}"))]);
        let here = || option("source-address", "127.0.0.0/8");
        vec![
            self.product("force-command as a critical option", p.access(&forced))
                .enters("forced\n")
                .unless(p.access(&[policy(OPTIONS, forced_role), other_command]), wider("critical_options")),
            self.by_hand("force-command as an extension: ignored", |c| {
                c.extensions.insert(0, option("force-command", "echo forced"));
            })
            .enters("in\n")
            .unless(
                p.access(&[policy(r#"["permit-pty"]"#, r#"["force-command"]"#)]),
                not_an_extension("force-command"),
            ),
            self.by_hand("force-command twice", |c| {
                c.critical = vec![option("force-command", "echo forced"), option("force-command", "echo in")];
            })
            .refused("multiple force-command options", "force-command as a critical option")
            .unless(
                critical(r#"force-command = "echo forced", force-command = "echo in""#),
                in_policy("duplicate key"),
            ),
            self.by_hand("force-command, empty", |c| c.critical = vec![option("force-command", "")]).enters("").unless(
                critical(r#"force-command = """#),
                in_policy(r#"force-command "" is not valid: write one line of 1 to 1000 visible characters"#),
            ),
            self.by_hand("unknown critical option", |c| c.critical = vec![option("x@y", "z")])
                .refused("critical option \"x@y\" is not supported", "unknown extension")
                .unless(critical(r#""x@y" = "z""#), in_policy(&not_an_option("x@y")))
                .unless(
                    p.access(&[approval("critical_options", json!({ "x@y": "z" }))]),
                    format!("invalid-field: {}", not_an_option("x@y")),
                ),
            self.by_hand("unknown extension", |c| c.extensions.push(option("x@y", "z")))
                .enters("in\n")
                .unless(p.access(&[policy(r#"["permit-pty"]"#, r#"["permit-pty", "x@y"]"#)]), not_an_extension("x@y")),
            self.by_hand("verify-required on a key that cannot: ignored", |c| {
                c.critical = vec![flag("verify-required")];
            })
            .enters("in\n")
            .unless(critical(r#"verify-required = """#), in_policy(&not_an_option("verify-required"))),
            self.by_hand("source-address twice", |c| c.critical = vec![here(), here()])
                .refused("multiple source-address options", "source-address")
                .unless(p.access(&[twice]), "malformed: statement: critical_options: an option stands there twice"),
            self.by_hand("an option's value is not a string in a string", |c| {
                c.critical = vec![("source-address".to_owned(), b"127.0.0.0/8".to_vec())];
            })
            .refused("Unable to parse", "source-address"),
        ]
    }

    fn addresses(&self) -> Vec<Row> {
        let p = self.product;
        let role = |list: &str| {
            [
                policy(OPTIONS, format!("critical_options = {{ source-address = \"{list}\" }}")),
                approval("critical_options", json!({ "source-address": list })),
            ]
        };
        let asked = |list: &str| p.access(&role(list));
        let from = |list: &'static str| move |c: &mut ByHand| c.critical = vec![option("source-address", list)];
        let elsewhere = "not from a permitted source address";
        let (home, bad) = ("source-address", "source-address contents invalid");
        vec![
            self.product(home, asked("127.0.0.0/8")).enters("in\n"),
            self.product("source-address of two networks", asked("10.0.0.0/8,127.0.0.1/32")).enters("in\n"),
            self.product("source-address of elsewhere", asked("10.0.0.0/8")).refused(elsewhere, home),
            self.by_hand("source-address with host bits", from("127.0.0.1/8"))
                .refused(bad, home)
                .unless(asked("127.0.0.1/8"), networks("127.0.0.1/8"))
                .unless(
                    p.access(&[approval("critical_options", json!({ "source-address": "127.0.0.1/8" }))]),
                    format!("invalid-field: {}", not_networks("127.0.0.1/8")),
                ),
            self.by_hand("source-address empty", from("")).refused(bad, home).unless(asked(""), networks("")),
            self.by_hand("source-address with a space", from("127.0.0.0/8, 10.0.0.0/8"))
                .refused(bad, "source-address of two networks")
                .unless(asked("127.0.0.0/8, 10.0.0.0/8"), networks("127.0.0.0/8, 10.0.0.0/8")),
            self.by_hand("source-address with a comma at its end", from("127.0.0.0/8,"))
                .refused(bad, home)
                .unless(asked("127.0.0.0/8,"), networks("127.0.0.0/8,")),
            self.by_hand("source-address negated", from("!127.0.0.0/8"))
                .refused(bad, home)
                .unless(asked("!127.0.0.0/8"), networks("!127.0.0.0/8")),
            self.by_hand("source-address by name", from("localhost"))
                .refused(bad, home)
                .unless(asked("localhost"), networks("localhost")),
            // Never matches: sshd writes such peers as IPv4.
            self.by_hand("source-address, an IPv4 address as IPv6", from("::ffff:127.0.0.1/128"))
                .refused(elsewhere, home)
                .unless(asked("::ffff:127.0.0.1/128"), networks("::ffff:127.0.0.1/128")),
            self.by_hand("source-address of everywhere", from("0.0.0.0/0"))
                .enters("in\n")
                .unless(asked("0.0.0.0/0"), networks("0.0.0.0/0")),
        ]
    }

    fn extensions(&self) -> Vec<Row> {
        let p = self.product;
        let target = format!("127.0.0.1:{}", greeter());
        let wants_forwarding = |row: Row| row.wanting(&["-W", &target], "");
        let forwarding = |extensions: Value| {
            let both = r#"["permit-port-forwarding", "permit-pty"]"#;
            p.access(&[policy(r#"["permit-pty"]"#, both), approval("extensions", extensions)])
        };
        let forward = "a forwarded port";
        vec![
            wants_forwarding(self.product(forward, forwarding(json!(["permit-port-forwarding"]))))
                .enters("greetings\n"),
            wants_forwarding(self.product("a forwarded port, not approved", forwarding(json!(["permit-pty"]))))
                .stopped("refused local port forward", forward)
                .unless(p.access(&[approval("extensions", json!(["permit-port-forwarding"]))]), wider("extensions")),
            self.by_hand("an extension twice", |c| c.extensions.push(flag("permit-pty"))).enters("in\n").unless(
                p.access(&[approval("extensions", json!(["permit-pty", "permit-pty"]))]),
                "duplicate: extensions: something stands there twice",
            ),
            self.by_hand("no-touch-required", |c| c.extensions.insert(0, flag("no-touch-required")))
                .enters("in\n")
                .unless(
                    p.access(&[policy(r#"["permit-pty"]"#, r#"["no-touch-required"]"#)]),
                    not_an_extension("no-touch-required"),
                ),
        ]
    }

    /// Only root's sshd can hand over a terminal: it gives the device to its user.
    fn terminals(&self) -> Vec<Row> {
        if !rustix::process::geteuid().is_root() {
            return Vec::new();
        }
        let wants_tty = |row: Row| row.wanting(&["-tt"], "test -t 0 && echo a terminal");
        let narrowed = self.product.access(&[approval("extensions", json!([]))]);
        vec![
            wants_tty(self.product("a terminal", self.product.access(&[]))).enters("a terminal\r\n"),
            wants_tty(self.product("no terminal, as approved", narrowed))
                .stopped("PTY allocation request failed", "a terminal"),
        ]
    }

    fn subject_keys(&self) -> Vec<Row> {
        let p = self.product;
        let line = |name: &str| public_line(&p.key(name));
        let asked = |key: &str| p.access(&[request("key", line(key)), Change::ClaimedBy("subject")]);
        let public = p.key("subject.pub");
        let subject = || wire::blob(&public_line(&p.key("subject")));
        let agent = |name: &str, used: &str| thief::start(&p.key(name), subject(), &p.key(used));
        let (owner, thief) = (agent("owner.sock", "subject"), agent("thief.sock", "other"));
        let of = |key: &str| {
            let blob = wire::blob(&line(key));
            move |c: &mut ByHand| c.key = blob
        };
        vec![
            self.product("an agent that has the key", p.access(&[])).with_key(public.clone()).with_agent(&owner),
            self.product("an agent that has the certificate, and another key", p.access(&[]))
                .with_key(public)
                .with_agent(&thief)
                .refused("incorrect signature", "an agent that has the key")
                .unless(p.access(&[Change::ClaimedBy("other")]), "not-yours: person: only the requester may do this"),
            self.product("a key file that the certificate is not for", p.access(&[]))
                .with_key(p.key("other"))
                .refused("Failed publickey", PRODUCT),
            self.by_hand("for somebody's everyday key", of("alice")).with_key(p.key("alice")).enters("in\n").unless(
                asked("alice"),
                "subject-key-taken: key: the policy names this key; make a fresh one for each request",
            ),
            self.by_hand("for an RSA key", of(RSA))
                .with_key(p.key(RSA))
                .enters("in\n")
                .unless(asked(RSA), "subject-key-kind: key: a subject key must be ssh-ed25519"),
            self.by_hand("for the CA's own key", of("ca-keys/user-ca"))
                .with_key(p.key("ca-keys/user-ca"))
                .enters("in\n")
                .unless(
                    p.access(&[request("key", line("ca-keys/user-ca")), Change::ClaimedBy("ca-keys/user-ca")]),
                    "certificate: certificate: certifies the CA's own key",
                ),
        ]
    }

    fn cas(&self) -> Vec<Row> {
        let p = self.product;
        let other = PrivateKey::read_openssh_file(p.key("other")).expect("a key");
        let host_ca = p.ca("host-ca");
        let rsa = p.key(RSA);
        vec![
            self.by_hand("of somebody else's CA", |c| c.ca = other).refused(NOT_TRUSTED, BY_HAND).unless(
                p.cas.host_ca.certify(&self.to_be_signed()).map_err(|e| told(&e)),
                "certificate: certificate: is not signed by the CA",
            ),
            self.by_hand("of our host CA", |c| c.ca = host_ca).refused(NOT_TRUSTED, BY_HAND),
            self.by_ssh_keygen("of an RSA CA, SHA-512", &rsa, "rsa-sha2-512").at(Host::TrustingRsa).enters("in\n"),
            self.by_ssh_keygen("of an RSA CA, SHA-1", &rsa, "ssh-rsa")
                .at(Host::TrustingRsa)
                .refused("signature algorithm", "of an RSA CA, SHA-512")
                .unless(load_rsa_ca(p, &rsa), "ca-keys/user-ca: it is not an Ed25519 private key in OpenSSH's format"),
            self.by_ssh_keygen("of an RSA CA, not trusted", &rsa, "rsa-sha2-512")
                .refused(NOT_TRUSTED, "of an RSA CA, SHA-512"),
        ]
    }

    fn emergencies(&self) -> Vec<Row> {
        let p = self.product;
        let broken = |changes: &[Change]| p.break_glass("plain-emergency", changes);
        let with = |key: &str, row: Row| row.with_key(p.key(key));
        let plain = |row: Row| with("plain-emergency", row);
        let alice = wire::blob(&public_line(&p.key("alice")));
        let forwarding = flag("permit-port-forwarding");
        vec![
            plain(self.product(BREAK_GLASS, broken(&[]))),
            plain(self.product("break-glass, its CA dropped", broken(&[])))
                .at(Host::WithoutBreakGlass)
                .refused(NOT_TRUSTED, BREAK_GLASS),
            self.product("everyday access, the break-glass CA dropped", p.access(&[])).at(Host::WithoutBreakGlass),
            plain(self.product("break-glass for another host", broken(&[emergency("hosts", json!(["db2"]))])))
                .refused(NOT_LISTED, BREAK_GLASS)
                .unless(
                    broken(&[emergency("hosts", json!(["db3"]))]),
                    "unknown-host: hosts: db-prod does not cover db3",
                ),
            plain(self.emergency_by_hand("break-glass for too long", |c| c.valid_before = c.valid_after + 901))
                .unless(
                    broken(&[emergency("seconds", 901)]),
                    "too-long: seconds: 15m1s asked, and db-prod allows 15m at most; try --for 15m",
                )
                .unless(
                    broken(&[policy("verify_required = false", "max = \"15m1s\"")]),
                    "16: emergency_keys.max: 15m1s is more than what break-glass may last, 15m",
                ),
            with("alice", self.emergency_by_hand("break-glass by an everyday key", |c| c.key = alice))
                .unless(p.break_glass("alice", &[]), "not-emergency-key: key: this key may not break the glass here"),
            plain(self.emergency_by_hand("break-glass that forwards", |c| c.extensions.insert(0, forwarding)))
                .unless(broken(&[emergency("extensions", json!(["permit-port-forwarding"]))]), NO_EXTENSIONS),
            with(RSA, self.product("break-glass with an RSA key", p.break_glass(RSA, &[]))),
            with("ecdsa-emergency", self.product("break-glass with P-384", p.break_glass("ecdsa-emergency", &[]))),
        ]
    }

    fn security_keys(&self) -> Vec<Row> {
        let p = self.product;
        for key in ["sk-emergency", "uv-emergency"] {
            self.agent.add(&p.key(key));
        }
        let no_touch = ("SK_NO_TOUCH", "1");
        let row = |name, key: &str| self.product(name, p.break_glass(key, &[])).with_key(p.key(key));
        let touched = "security key, touched";
        let (pin, no_pin) = ("security key, PIN given", "uv-emergency-without-pin");
        forget_pin(&p.key("uv-emergency"), &p.key(no_pin));
        vec![
            row("security key in the agent", "sk-emergency").with_agent(self.agent.socket()),
            row(pin, "uv-emergency").with_agent(self.agent.socket()),
            row(touched, "sk-emergency"),
            Row { env: Some(no_touch), ..row("security key, not touched", "sk-emergency") }
                .refused("user presence", touched)
                .unless(
                    p.break_glass_in("sk-emergency", &[no_touch], &[]),
                    "bad-signature: signature: nobody touched the security key",
                ),
            row("security key, no PIN given", "uv-emergency")
                .with_key(p.key(no_pin))
                .refused("user verification", pin)
                .unless(
                    p.break_glass(no_pin, &[]),
                    "bad-signature: signature: the security key did not verify its user (PIN or finger)",
                ),
        ]
    }
}

/// How rows come about.
impl Table<'_> {
    fn row(&self, name: &'static str) -> Row {
        Row::new(name, self.product)
    }

    fn product(&self, name: &'static str, made: Made) -> Row {
        let certificate = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        Row { certificate: Some(certificate.blob().to_vec()), ..self.row(name) }
    }

    fn by_hand(&self, name: &'static str, change: impl FnOnce(&mut ByHand)) -> Row {
        self.changed(name, &self.access, "user-ca", change)
    }

    fn emergency_by_hand(&self, name: &'static str, change: impl FnOnce(&mut ByHand)) -> Row {
        self.changed(name, &self.emergency, "break-glass-ca", change)
    }

    fn changed(&self, name: &'static str, product: &Certificate, ca: &str, change: impl FnOnce(&mut ByHand)) -> Row {
        let mut certificate = by_hand::copy(product, &self.product.ca(ca));
        assert_eq!(certificate.blob(), product.blob(), "two writers of one format");
        change(&mut certificate);
        Row { certificate: Some(certificate.blob()), ..self.row(name) }
    }

    /// In an agent, from which ssh takes certificates of any type.
    fn offered(&self, name: &'static str, change: impl FnOnce(&mut ByHand)) -> Row {
        let row = self.by_hand(name, change);
        let certificate = row.certificate.clone().unwrap_or_default();
        let file = by_hand::write(&self.product.key(""), name, &certificate);
        let agent = thief::start(&file.with_extension("sock"), certificate, &self.product.key("subject"));
        Row { certificate: None, ..row }.with_key(file).with_agent(&agent)
    }

    /// A certificate by stock ssh-keygen and an RSA key, of a signature algorithm.
    fn by_ssh_keygen(&self, name: &'static str, ca: &Path, algorithm: &str) -> Row {
        let public = self.product.key(&format!("{algorithm}.pub"));
        std::fs::copy(self.product.key("subject.pub"), &public).expect("a copy");
        let mut command = tool("ssh-keygen");
        command.args(["-q", "-z", "7", "-I", "id", "-n", "db-prod@db1", "-V", "-5m:+5m", "-t", algorithm, "-s"]);
        run(command.arg(ca).arg(&public));
        let certificate = self.product.key(&format!("{algorithm}-cert.pub"));
        let line = std::fs::read_to_string(certificate).expect("a certificate");
        Row { certificate: Some(wire::blob(&line)), ..self.row(name) }
    }

    fn to_be_signed(&self) -> ToBeSigned {
        let (grant, _) = self.product.grant(&[]).expect("a grant");
        let serial = Serial::new(1, 1).expect("a serial");
        ToBeSigned::new(grant, serial, [0; 32], self.product.cas.user_ca.public())
    }
}

/// What the product says more than once.
fn wider(field: &str) -> String {
    format!("wider: {field}: an approval may give less than was asked, never more or something else")
}
fn not_given(principal: &str) -> String {
    format!("unknown-principal: principals: the role does not give {principal} on the hosts asked for")
}
fn not_a_name(text: &str) -> String {
    format!(
        "malformed: statement: principal \"{text}\" is not valid: \
         use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _"
    )
}
fn not_a_host(text: &str) -> String {
    format!(
        "malformed: statement: host \"{text}\" is not valid: \
         use a lower-case host name of a-z 0-9 . -, 253 characters at most"
    )
}
fn not_an_id(text: &str) -> String {
    format!("malformed: statement: request \"{text}\" is not valid: a request id looks like 7F3K-9QPX-M2")
}
fn not_an_extension(name: &str) -> String {
    format!(
        "10: roles.db-prod.extensions: extension \"{name}\" is not valid: use permit-pty, permit-port-forwarding, \
         permit-agent-forwarding, permit-X11-forwarding or permit-user-rc; restrictions belong in critical_options"
    )
}
fn not_an_option(name: &str) -> String {
    format!("critical option \"{name}\" is not valid: use force-command or source-address")
}
fn in_policy(what: &str) -> String {
    format!("11: roles.db-prod.critical_options: {what}")
}
fn networks(list: &str) -> String {
    in_policy(&not_networks(list))
}
fn not_networks(list: &str) -> String {
    format!(
        "source-address \"{list}\" is not valid: write networks as 10.0.0.0/8,2001:db8::/32: no host bits, no spaces, \
         not the whole internet"
    )
}

/// What a row goes on to say.
impl Row {
    fn enters(self, stdout: &'static str) -> Self {
        Self { says: Says::Enters(stdout), ..self }
    }
    fn refused(self, why: &'static str, pair: &'static str) -> Self {
        Self { says: Says::Refuses(why), pair: Some(pair), ..self }
    }
    fn stopped(self, why: &'static str, pair: &'static str) -> Self {
        Self { says: Says::Stops(why), pair: Some(pair), ..self }
    }
    fn unreadable(self, pair: &'static str) -> Self {
        Self { says: Says::Unreadable, pair: Some(pair), ..self }
    }
    fn at(self, host: Host) -> Self {
        Self { host, ..self }
    }
    fn with_key(self, key: PathBuf) -> Self {
        Self { key, ..self }
    }
    fn with_agent(self, socket: &Path) -> Self {
        Self { agent: Some(socket.to_owned()), ..self }
    }
    fn wanting(self, options: &[&str], command: &str) -> Self {
        Self { wants: (options.iter().map(ToString::to_string).collect(), command.to_owned()), ..self }
    }
    /// The product, asked for the same, must say no, and exactly this.
    fn unless<T>(mut self, made: Result<T, String>, told: impl Into<String>) -> Self {
        self.ours.push((made.err(), told.into()));
        self
    }
}

/// A port where everybody who connects is greeted, until the test ends.
fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever hangs up first is not greeted.
            let _ = stream.and_then(|mut stream| stream.write_all(b"greetings\n"));
        }
    });
    port
}

/// The same security key, asked for a touch only: whether a PIN is asked for stands in the key file.
fn forget_pin(key: &Path, other: &Path) {
    let private = PrivateKey::read_openssh_file(key).expect("a key");
    let KeypairData::SkEd25519(sk) = private.key_data() else { panic!("not a security key") };
    // sk-api.h, "Flags": SSH_SK_USER_PRESENCE_REQD.
    let touch_only = SkEd25519::new(sk.public().clone(), 0x01, sk.key_handle()).expect("a security key");
    let private = PrivateKey::new(KeypairData::SkEd25519(touch_only), "").expect("a private key");
    private.write_openssh_file(other, LineEnding::LF).expect("a key file");
    std::fs::copy(key.with_extension("pub"), other.with_extension("pub")).expect("a copy");
}

/// What the product says about a `ca-keys` folder whose user CA is an RSA key.
fn load_rsa_ca(product: &Product, rsa: &Path) -> Result<(), String> {
    let folder = product.key("rsa-folder");
    Keys::create(&folder, None).expect("a key folder");
    std::fs::copy(rsa, folder.join("user-ca")).expect("a copy");
    let loaded = Keys::load(&folder, || Err(std::io::ErrorKind::Unsupported.into()));
    loaded.map(|_| ()).map_err(|e| e.to_string().replace(&folder.display().to_string(), "ca-keys"))
}
