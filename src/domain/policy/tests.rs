//! The policy file: what a good one says, and where a bad one is wrong.

use super::*;
use crate::domain::testing::*;

fn names(people: &People) -> BTreeSet<PersonName> {
    people.all().into_iter().cloned().collect()
}

fn line(key: &Key) -> String {
    format!("\"{}\"", key.public())
}

/// A key's line in the file, from its wire form.
fn key_line(algorithm: &str, blob: &[u8]) -> String {
    use base64::Engine as _;
    format!("\"{algorithm} {}\"", base64::engine::general_purpose::STANDARD.encode(blob))
}

/// Runs a table over the sample: what is changed into what, and how the file is then refused.
fn refuses(cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        let refused = Policy::parse(&edit(&policy_text(), from, to)).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(refused, Err((*expected).to_owned()), "{to}");
    }
}

/// Like [`refuses`], where only the end of the answer matters, because the beginning repeats the value.
fn refuses_with(place: &str, from: &str, rule: &str, values: &[&str]) {
    for to in values {
        let refused = Policy::parse(&edit(&policy_text(), from, to)).map(|_| ()).unwrap_err().to_string();
        assert!(refused.starts_with(place) && refused.ends_with(rule), "{to}: {refused}");
    }
}

#[test]
fn the_sample_is_read_as_it_stands() {
    let policy = policy();
    assert_eq!(policy.digest(), Digest::of(policy_text().as_bytes()));
    assert_eq!(policy.text(), policy_text());
    let people = |names: &[&str]| list::<PersonName>(names).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(
        policy.people().keys().cloned().collect::<BTreeSet<_>>(),
        people(&["alice", "bob", "carol", "dan", "robot"])
    );
    assert!(policy.people()[&person("robot")].service && !policy.people()[&person("alice")].service);
    let db = &policy.roles()[&role("db-prod")];
    assert_eq!(names(&db.requesters), people(&["alice", "bob", "carol", "robot"]));
    assert_eq!(names(&db.approvers), people(&["carol", "dan", "robot"]));
    assert_eq!(
        (db.quorum.total(), db.automatic(), db.max, db.default),
        (1, Some(seconds(900)), seconds(14400), seconds(3600))
    );
    assert_eq!((db.decide_within.seconds(), db.claim_within.seconds()), (24 * 3600, 4 * 3600));
    let web = &policy.roles()[&role("web")];
    assert_eq!((web.quorum.total(), web.automatic(), web.default), (1, None, seconds(43200)), "what stands nowhere");
    assert!(web.extensions.is_empty() && web.critical_options.is_empty() && web.hosts.is_empty());
    let vault = &policy.emergency_keys()[1];
    assert!(vault.verify_required && vault.max == seconds(EMERGENCY_LONGEST) && vault.person == person("dan"));
    for (name, duties) in [
        ("alice", &[Duty::Auditors][..]),
        ("bob", &[Duty::Auditors, Duty::Revokers]),
        ("carol", &[Duty::Admins, Duty::Revokers, Duty::Reviewers]),
        ("dan", &[Duty::Revokers, Duty::Reviewers]),
        ("robot", &[]),
    ] {
        for duty in [Duty::Admins, Duty::Auditors, Duty::Revokers, Duty::Reviewers] {
            assert_eq!(policy.has_duty(&person(name), duty), duties.contains(&duty), "{name} {}", duty.as_str());
        }
    }
}

/// R10: absent and empty are "nobody", on every list.
#[test]
fn what_is_absent_or_empty_means_nobody() {
    for text in ["", "[duties]", "[people]", "emergency_keys = []"] {
        let policy = Policy::parse(text).unwrap();
        assert!(policy.people().is_empty() && policy.roles().is_empty() && policy.emergency_keys().is_empty());
        assert!(!policy.has_duty(&person("carol"), Duty::Admins));
        let unknown = Refusal::UnknownPerson { person: person("carol") };
        assert_eq!(policy.signer(&person("carol"), &carol().public()).map(|_| ()), Err(unknown));
        assert!(terms_for(&policy, ("alice", "web"), &[], &[], None).is_err());
    }
    let (approvers, requesters) = ("approvers = [\"dba\", \"robot\"]", "requesters = [\"sre\", \"carol\", \"robot\"]");
    for to in ["", "approvers = []"] {
        let policy = Policy::parse(&edit(&policy_text(), approvers, to)).unwrap();
        assert!(policy.roles()[&role("db-prod")].approvers.is_empty(), "{to:?}");
    }
    for to in ["", "requesters = []"] {
        let policy = Policy::parse(&edit(&policy_text(), requesters, to)).unwrap();
        let refused = terms_for(&policy, ("alice", "db-prod"), &[], &[], None);
        assert_eq!(refused.map_err(|e| e.code()), Err("not-eligible"), "{to:?}");
    }
    for to in ["", "admins = []"] {
        let policy = Policy::parse(&edit(&policy_text(), "admins = [\"carol\"]", to)).unwrap();
        assert!(!policy.has_duty(&person("carol"), Duty::Admins), "{to:?}");
    }
}

#[test]
fn a_table_has_its_fields_and_no_others() {
    let role_fields = "expected one of `description`, `hosts`, `principals`, `requesters`, `approvers`, `approvals`, \
        `agree`, `automatic`, `sensitive`, `when`, `daily_max`, `max`, `default`, `extensions`, `critical_options`, `verify_required`, `decide_within`, `claim_within`, \
        `remind_after`, `escalate_after`, `escalate_to`";
    let automatic = "automatic = { max = \"15m\" }";
    let misspelt = format!("33: roles.db-prod.approval: unknown field `approval`, {role_fields}");
    refuses(&[
        (
            "[duties]",
            "[duty]",
            "21: duty: unknown field `duty`, expected one of `include`, `people`, `duties`, `oidc`, `roles`, `sources`, `hosts`, `ticket_checks`, `rules`, `break_glass`, `emergency_keys`, `reviews`, `drill`, `revoked_keys`",
        ),
        (
            "admins =",
            "owners =",
            "22: duties.owners: unknown field `owners`, expected one of `admins`, `auditors`, `revokers`, `reviewers`",
        ),
        (
            "kind = \"service\"",
            "kind = \"machine\"",
            "18: people.robot.kind: unknown variant `machine`, expected `human` or `service`",
        ),
        (
            "kind = \"service\"",
            "key = \"x\"",
            "18: people.robot.key: unknown field `key`, expected one of `groups`, `keys`, `kind`, `email`",
        ),
        ("approvals = 1", "approval = 1", &misspelt),
        ("approvals = 1", "approvals = 1\napprovals = 2", "34: roles.db-prod.approvals: duplicate key"),
        ("[people.bob]", "[people.alice]", "5: people.alice: duplicate key"),
        ("[people.alice]", "[people.alice", "1: people.alice: unclosed table, expected `]`"),
        ("max = \"4h\"", "", "27: roles.db-prod: missing field `max`"),
        ("principals = [\"db-prod\"]", "", "27: roles.db-prod: missing field `principals`"),
        ("person = \"alice\"", "", "55: emergency_keys: missing field `person`"),
        ("roles = [\"db-prod\", \"web\"]", "", "55: emergency_keys: missing field `roles`"),
        (automatic, "automatic = {}", "34: roles.db-prod.automatic: missing field `max`"),
        (
            automatic,
            "automatic = { max = \"15m\", min = \"1m\" }",
            "34: roles.db-prod.automatic: unknown field `min`, expected one of `max`, `people`, `hosts`, `when`",
        ),
        ("[duties]", "[[revoked_keys]]", "21: revoked_keys: invalid type: map, expected a string"),
    ]);
}

#[test]
fn a_value_is_of_its_type() {
    refuses(&[
        ("approvals = 1", "approvals = \"1\"", "33: roles.db-prod.approvals: invalid type: string \"1\", expected i64"),
        (
            "approvals = 1",
            "verify_required = 1",
            "33: roles.db-prod.verify_required: invalid type: integer `1`, expected a boolean",
        ),
        (
            "[\"dba\", \"robot\"]",
            "\"dba\"",
            "32: roles.db-prod.approvers: invalid type: string \"dba\", expected a sequence",
        ),
        ("[\"dba\", \"robot\"]", "[1]", "32: roles.db-prod.approvers: invalid type: integer `1`, expected a string"),
        ("max = \"4h\"", "max = 14400", "35: roles.db-prod.max: invalid type: integer `14400`, expected a string"),
        (
            "source-address = \"10.0.0.0/8\"",
            "force-command = 1",
            "53: roles.vault.critical_options: invalid type: integer `1`, expected a string",
        ),
        (
            "[people.alice]",
            "revoked_keys = \"all\"\n[people.alice]",
            "1: revoked_keys: invalid type: string \"all\", expected a sequence",
        ),
    ]);
}

#[test]
fn lengths_and_counts_have_bounds() {
    let approvals = "33: roles.db-prod.approvals: from 1 to 100 approvals are possible; for none, use automatic = { max = \"15m\" }";
    let automatic = "automatic = { max = \"15m\" }";
    refuses(&[
        ("approvals = 1", "approvals = 0", approvals),
        ("approvals = 1", "approvals = -1", approvals),
        ("approvals = 1", "approvals = 101", approvals),
        ("approvals = 1", "approvals = 4294967297", approvals),
        (
            "max = \"4h\"",
            "max = \"13h\"",
            "35: roles.db-prod.max: duration \"13h\" is not valid: from 1s to 12h is possible",
        ),
        (
            "max = \"4h\"",
            "max = \"0s\"",
            "35: roles.db-prod.max: duration \"0s\" is not valid: from 1s to 12h is possible",
        ),
        (
            "max = \"4h\"",
            "max = \"90\"",
            "35: roles.db-prod.max: duration \"90\" is not valid: add a unit, as in 90m, 2h or 1h30m",
        ),
        ("max = \"4h\"", "max = \"59m\"", "36: roles.db-prod.default: 1h is more than the role's max, 59m"),
        ("default = \"1h\"", "default = \"4h1s\"", "36: roles.db-prod.default: 4h1s is more than the role's max, 4h"),
        (
            automatic,
            "automatic = { max = \"4h1s\" }",
            "34: roles.db-prod.automatic: 4h1s is more than the role's max, 4h",
        ),
        (
            "default = \"1h\"",
            "decide_within = \"59s\"",
            "36: roles.db-prod.decide_within: duration \"59s\" is not valid: from 1m to 720h is possible",
        ),
        (
            "default = \"1h\"",
            "claim_within = \"721h\"",
            "36: roles.db-prod.claim_within: duration \"721h\" is not valid: from 1m to 720h is possible",
        ),
        (
            "max = \"10m\"",
            "max = \"15m1s\"",
            "59: emergency_keys.max: 15m1s is more than what break-glass may last, 15m",
        ),
    ]);
    for (from, to) in [
        ("approvals = 1", "approvals = 100"),
        ("max = \"4h\"", "max = \"1h\""),
        (automatic, "automatic = { max = \"4h\" }"),
    ] {
        assert!(Policy::parse(&edit(&policy_text(), from, to)).is_ok(), "{to}");
    }
}

#[test]
fn names_stand_for_something() {
    refuses(&[
        (
            "[\"dba\", \"robot\"]",
            "[\"dbas\"]",
            "32: roles.db-prod.approvers: dbas is neither a person nor a group that somebody is in",
        ),
        (
            "[\"alice\"]",
            "[\"alice\", \"eve\"]",
            "48: roles.vault.requesters: eve is neither a person nor a group that somebody is in",
        ),
        (
            "auditors = [\"sre\"]",
            "auditors = [\"nobody\"]",
            "23: duties.auditors: nobody is neither a person nor a group that somebody is in",
        ),
        ("[people.robot]", "[people.dba]", "24: duties.revokers: dba is both a person and a group; rename one"),
        ("person = \"alice\"", "person = \"eve\"", "56: emergency_keys.person: there is no person eve"),
        ("[\"db-prod\", \"web\"]", "[\"db-prod\", \"dev\"]", "58: emergency_keys.roles: there is no role dev"),
        (
            "[\"db-prod\", \"web\"]",
            "[]",
            "57: emergency_keys.key: roles is empty, so this key could never break the glass",
        ),
        ("[\"db1\", \"db2\"]", "[\"db1\", \"db1\"]", "29: roles.db-prod.hosts: db1 stands there twice"),
        ("[\"db-prod\"]", "[\"db\", \"db\"]", "30: roles.db-prod.principals: db stands there twice"),
        ("\"permit-port-forwarding\"", "\"permit-pty\"", "37: roles.db-prod.extensions: permit-pty stands there twice"),
    ]);
}

/// P01, P02, P04: a principal is one plain name, there is at least one, and no more than sshd takes.
#[test]
fn principals_are_plain_names() {
    let rule = "is not valid: use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _";
    let hostile = [
        "",
        " ",
        "root@db1",
        "a,root",
        "*",
        "?",
        "!root",
        "a b",
        "a\\nroot",
        "a\\troot",
        "a\\u0000",
        "\u{440}oot",
        "Root",
        "-x",
        "../x",
        "{{x}}",
        "a'",
        "a\\\"",
        "a\\\\",
        "%u",
        "$x",
        "a:b",
        "a\u{200b}",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ];
    let values: Vec<String> = hostile.iter().map(|name| format!("[\"db\", \"{name}\"]")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    refuses_with("30: roles.db-prod.principals: principal ", "[\"db-prod\"]", rule, &values);
    let hosts = |n: usize| format!("[{}]", (0..n).map(|i| format!("\"h{i}\"")).collect::<Vec<_>>().join(", "));
    refuses(&[
        ("[\"db-prod\"]", "[]", "27: roles.db-prod: principals times hosts make 0; from 1 to 256 are possible"),
        (
            "[\"db1\", \"db2\"]",
            &hosts(257),
            "27: roles.db-prod: principals times hosts make 257; from 1 to 256 are possible",
        ),
        (
            "[\"web\", \"web-ro\"]",
            &hosts(257),
            "39: roles.web: principals times hosts make 257; from 1 to 256 are possible",
        ),
    ]);
    let most = Policy::parse(&edit(&policy_text(), "[\"db1\", \"db2\"]", &hosts(256))).unwrap();
    assert_eq!(terms_for(&most, ("alice", "db-prod"), &[], &[], None).map(|t| t.principals.len()), Ok(256));
}

/// R8: no pattern stands for many hosts.
#[test]
fn a_host_is_one_host() {
    let rule = "is not valid: use a lower-case host name of a-z 0-9 . -, 253 characters at most";
    let values = ["[\"*\"]", "[\"db1\", \"db*\"]", "[\"db?\"]", "[\"!db1\"]", "[\"db1,db2\"]", "[\"\"]", "[\"DB1\"]"];
    refuses_with("29: roles.db-prod.hosts: host ", "[\"db1\", \"db2\"]", rule, &values);
}

/// O01: what hosts would ignore or refuse is refused here.
#[test]
fn options_are_what_hosts_honour() {
    let extensions = "use permit-pty, permit-port-forwarding, permit-agent-forwarding, permit-X11-forwarding or \
        permit-user-rc; restrictions belong in critical_options";
    let values = ["\"force-command\"", "\"no-touch-required\"", "\"Permit-pty\"", "\"evidence@ssh-jit\""];
    refuses_with("37: roles.db-prod.extensions: extension ", "\"permit-port-forwarding\"", extensions, &values);
    let option = "source-address = \"10.0.0.0/8\"";
    let networks = "write networks as 10.0.0.0/8,2001:db8::/32: no host bits, no spaces, not the whole internet";
    let values = ["source-address = \"10.0.0.1/8\"", "source-address = \"\"", "source-address = \"0.0.0.0/0\""];
    refuses_with("53: roles.vault.critical_options: source-address ", option, networks, &values);
    let command = "write one line of 1 to 1000 visible characters";
    let values = ["force-command = \" \"", "force-command = \"\"", "force-command = \"ls\\nrm\""];
    refuses_with("53: roles.vault.critical_options: force-command ", option, command, &values);
    let values = ["no-pty = \"\"", "verify-required = \"\"", "Force-Command = \"ls\""];
    let known = "use force-command or source-address";
    refuses_with("53: roles.vault.critical_options: critical option ", option, known, &values);
    let described = "28: roles.db-prod.description: write one line of at most 200 visible characters";
    let long = format!("\"{}\"", "x".repeat(201));
    let values = ["\"a\\u001bb\"", "\"a\\nb\"", "\"a\u{202e}b\"", &long];
    refuses_with(described, "\"PostgreSQL, production\"", "visible characters", &values);
}

/// K02: what cannot be trusted to mean one holder is no key.
#[test]
fn keys_are_strong_and_belong_to_one_person() {
    let bob = line(&bob());
    let certificate = format!("\"{}\"", include_str!("../certificate/golden-cert.pub").trim());
    let point = |first: u8| key_line("ssh-ed25519", &wire(&[b"ssh-ed25519", &[&[first][..], &[0; 31]].concat()]));
    let rsa = |bits| key_line("ssh-rsa", &rsa_blob(bits));
    let dss = key_line("ssh-dss", &wire(&[b"ssh-dss", &[1], &[1], &[1], &[1]]));
    let mislabelled = line(&stranger()).replace("ssh-ed25519 ", "ssh-rsa ");
    for (to, rule) in [
        (certificate.as_str(), "this is a certificate; give the plain public key"),
        (&certificate.replace("-cert-v01@openssh.com", ""), "and no certificate"),
        (&rsa(1024), "an RSA key must have 3072 to 8192 bits"),
        (&rsa(3064), "an RSA key must have 3072 to 8192 bits"),
        (&rsa(8200), "an RSA key must have 3072 to 8192 bits"),
        (&point(0), "the Ed25519 point is weak or not on the curve"),
        (&point(1), "the Ed25519 point is weak or not on the curve"),
        (&point(2), "the Ed25519 point is weak or not on the curve"),
        (&dss, "and no certificate"),
        (&mislabelled, "write it as in id_ed25519.pub: algorithm, then base64"),
        ("\"bob\"", "write it as in id_ed25519.pub: algorithm, then base64"),
        ("\"\"", "write it as in id_ed25519.pub: algorithm, then base64"),
    ] {
        refuses_with("7: people.bob.keys: key ", &bob, rule, &[to]);
    }
    for key in [rsa(3072), rsa(8192), format!("\"{}\"", ecdsa_key()), line(&Key::fido(9, 1, 0))] {
        assert!(Policy::parse(&edit(&policy_text(), &bob, &key)).is_ok(), "{key}");
    }
    let (everyday, emergency) = (line(&alices_other_key()), line(&alices_emergency_key()));
    refuses(&[
        (&bob, &everyday, "7: people.bob.keys: this key stands at alice already; a key belongs to one person, once"),
        (
            &bob,
            &format!("{bob}, {bob}"),
            "7: people.bob.keys: this key stands at bob already; a key belongs to one person, once",
        ),
        (&bob, &emergency, "57: emergency_keys.key: this is an everyday key; an emergency key must be another"),
        (&emergency, &bob, "57: emergency_keys.key: this is an everyday key; an emergency key must be another"),
        (&emergency, &line(&dans_emergency_key()), "63: emergency_keys.key: this emergency key stands there twice"),
        (
            "max = \"10m\"",
            "verify_required = true",
            "57: emergency_keys.key: verify_required needs a FIDO key (sk-...), and this is none; it could never break \
             the glass",
        ),
    ]);
    let digest = "[people.alice]";
    refuses_with(
        "1: revoked_keys: digest ",
        digest,
        "write SHA256: and 43 characters of base64",
        &["revoked_keys = [\"SHA256:x\"]\n[people.alice]"],
    );
    refuses_with("1: revoked_keys: key ", digest, "algorithm, then base64", &["revoked_keys = [\"\"]\n[people.alice]"]);
}

/// The field is that of the table above the line, however its header is written.
#[test]
fn an_error_names_its_own_table() {
    let commented = edit(&policy_text(), "[roles.db-prod]", "[ roles.db-prod ] # PostgreSQL");
    let error = Policy::parse(&edit(&commented, "approvals = 1", "approvals = 0 # = none")).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("33: roles.db-prod.approvals: "), "{error}");
    refuses_with("5: people.\"bob,root\": person ", "[people.bob]", "", &["[people.\"bob,root\"]"]);
    let hosts = "hosts = [\"db1\", \"db2\"]";
    refuses(&[(hosts, "hosts = [\n  \"db1\",\n  \"db1\",\n]", "31: roles.db-prod: db1 stands there twice")]);
}

#[test]
fn a_role_exists_for_those_who_may_ask_or_decide() {
    let policy = policy();
    for (name, asked, may) in [
        ("alice", "db-prod", true),
        ("dan", "db-prod", true),
        ("robot", "db-prod", true),
        ("dan", "web", false),
        ("robot", "vault", false),
        ("alice", "no-role", false),
        ("eve", "db-prod", false),
    ] {
        let expected = if may { Ok(()) } else { Err(Refusal::NotEligible { person: person(name), role: role(asked) }) };
        assert_eq!(policy.role_for(&person(name), &role(asked)).map(|_| ()), expected, "{name} {asked}");
    }
}

#[test]
fn a_signer_has_the_key_now() {
    let check = |text: &str, name: &str, key: &Key| {
        Policy::parse(text).unwrap().signer(&person(name), &key.public()).map(|_| ())
    };
    let sample = policy_text();
    let revoked = format!("revoked_keys = [{}]\n{sample}", line(&alice()));
    let by_fingerprint = format!("revoked_keys = [\"{}\"]\n{sample}", alice().public().fingerprint());
    assert_eq!(check(&sample, "alice", &alice()), Ok(()));
    assert_eq!(check(&sample, "alice", &alices_other_key()), Ok(()));
    assert_eq!(check(&sample, "alice", &bob()), Err(Refusal::NotTheirKey { person: person("alice") }));
    assert_eq!(check(&sample, "alice", &stranger()), Err(Refusal::UnknownKey));
    assert_eq!(check(&sample, "alice", &alices_emergency_key()), Err(Refusal::UnknownKey));
    assert_eq!(check(&sample, "eve", &alice()), Err(Refusal::UnknownPerson { person: person("eve") }));
    assert_eq!(check(&revoked, "alice", &alice()), Err(Refusal::RevokedKey), "though it stands at alice");
    assert_eq!(check(&by_fingerprint, "alice", &alice()), Err(Refusal::RevokedKey));
    assert_eq!(check(&revoked, "alice", &alices_other_key()), Ok(()));
}

#[test]
fn terms_leave_nothing_to_default() {
    let policy = policy();
    let ask = |hosts: &[&str], principals: &[&str], length: Option<u64>| {
        terms_for(&policy, ("alice", "db-prod"), hosts, principals, length.map(seconds))
    };
    let brief = |t: Terms| {
        (
            t.principals.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            t.hosts.len(),
            t.seconds.get(),
            t.approvals(),
        )
    };
    let both = "db-prod@db1 db-prod@db2".to_owned();
    let one = "db-prod@db2".to_owned();
    assert_eq!(ask(&[], &[], None).map(brief), Ok((both.clone(), 2, 3600, 1)));
    assert_eq!(ask(&["db2", "db1"], &[], Some(14400)).map(brief), Ok((both.clone(), 2, 14400, 1)), "sorted");
    assert_eq!(ask(&["db2"], &[], None).map(brief), Ok((one.clone(), 1, 3600, 1)));
    assert_eq!(ask(&[], &["db-prod@db2"], None).map(brief), Ok((one, 2, 3600, 1)));
    assert_eq!(ask(&[], &[], Some(900)).map(brief), Ok((both.clone(), 2, 900, 0)), "automatic up to here");
    assert_eq!(ask(&[], &[], Some(901)).map(brief), Ok((both, 2, 901, 1)), "and not a second longer");
    let too_long = Refusal::TooLong { asked: seconds(14401), most: seconds(14400), role: role("db-prod") };
    assert_eq!(ask(&[], &[], Some(14401)), Err(too_long));
    let unknown = Refusal::UnknownHost { host: parsed("db3"), role: role("db-prod") };
    assert_eq!(ask(&["db1", "db3"], &[], None), Err(unknown));
    let unknown = |principal: &str| Err(Refusal::UnknownPrincipal { principal: principal.to_owned() });
    assert_eq!(ask(&[], &["db-prod@db1", "root"], None), unknown("root"));
    assert_eq!(ask(&[], &["db-prod"], None), unknown("db-prod"), "without its host");
    assert_eq!(ask(&["db1"], &["db-prod@db2"], None), unknown("db-prod@db2"), "on another host");
    assert_eq!(ask(&["db1", "db1"], &[], None), Err(Refusal::Duplicate { field: "hosts" }));
    let twice = ask(&[], &["db-prod@db1", "db-prod@db1"], None);
    assert_eq!(twice, Err(Refusal::Duplicate { field: "principals" }));
    let web = terms_for(&policy, ("bob", "web"), &[], &[], None).map(brief);
    assert_eq!(web, Ok(("web web-ro".to_owned(), 0, 43200, 1)));
    let web = terms_for(&policy, ("bob", "web"), &["db1"], &[], None);
    assert_eq!(web, Err(Refusal::UnknownHost { host: parsed("db1"), role: role("web") }));
}

/// Groups that a provider may claim: they need no member here, show more, and make nobody an approver.
#[test]
fn groups_that_can_be_claimed() {
    let with = |from: &str, to: &str, oidc: &str| Policy::parse(&(edit(&policy_text(), from, to) + oidc));
    let same = ("max = \"4h\"", "max = \"4h\"");
    let group = |name: &str| BTreeSet::from([name.parse::<GroupName>().unwrap()]);
    let without = with(same.0, same.1, "").unwrap();
    assert!(without.claimable().is_none() && !without.may_read_on_word(&person("alice")));
    let empty = with(same.0, same.1, "\n[oidc]\n").unwrap();
    assert!(empty.claimable().unwrap().is_empty() && empty.may_read_on_word(&person("alice")));
    assert!(!empty.may_read_on_word(&person("robot")) && !empty.may_read_on_word(&person("eve")));
    assert!(!empty.may_claim(&"dba".parse().unwrap()));

    let auditors = ("auditors = [\"sre\"]", "auditors = [\"sre\", \"audit\"]");
    let policy = with(auditors.0, auditors.1, "\n[oidc]\ngroups = [\"audit\", \"dba\"]\n").unwrap();
    assert!(policy.may_claim(&"audit".parse().unwrap()) && !policy.may_claim(&"sre".parse().unwrap()));
    assert!(
        policy.group_has_duty(&group("audit"), Duty::Auditors) && !policy.group_has_duty(&group("audit"), Duty::Admins)
    );
    let db = &policy.roles()[&role("db-prod")];
    assert_eq!(db.approvers.groups().cloned().collect::<BTreeSet<_>>(), group("dba"), "robot is no group");
    assert_eq!(db.approvers, with(same.0, same.1, "").unwrap().roles()[&role("db-prod")].approvers);
    assert!(policy.findings().iter().all(|finding| !finding.field.starts_with("oidc")));
    let unused = with(same.0, same.1, "\n[oidc]\ngroups = [\"audit\"]\n").unwrap();
    assert!(unused.findings().iter().any(|finding| finding.code == "idle-claim"));

    let refused = |oidc: &str| with(same.0, same.1, oidc).map(|_| ()).unwrap_err().to_string();
    let line = policy_text().matches('\n').count() + 3;
    for (oidc, expected) in [
        ("groups = [\"alice\"]", "oidc.groups: alice is a person; only groups can be claimed"),
        ("groups = [\"dba\", \"dba\"]", "oidc.groups: dba stands there twice"),
        ("groups = \"dba\"", "oidc.groups: invalid type: string \"dba\", expected a sequence"),
        ("issuer = \"https://x\"", "oidc.issuer: unknown field `issuer`, expected `groups`"),
    ] {
        assert_eq!(refused(&format!("\n[oidc]\n{oidc}\n")), format!("{line}: {expected}"));
    }
    let refused = refused("\n[oidc]\ngroups = [\"D B\"]\n");
    assert!(refused.starts_with(&format!("{line}: oidc.groups: group or person \"D B\" is not valid")), "{refused}");
}

/// R01: whatever is missing or written wrong, it is said in one line, or is a policy; nothing panics.
#[test]
fn damaged_policies_are_refused_in_words() {
    let text = policy_text();
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for (number, at) in places.into_iter().enumerate() {
        let (before, rest) = text.split_at(at);
        let behind = &rest[rest.chars().next().map_or(0, char::len_utf8)..];
        let damage = ["", "\"", "[", "\u{202e}", "\0", "9999999999999999999999", "\n"][number % 7];
        for damaged in [format!("{before}{damage}{behind}"), before.to_owned()] {
            if let Err(error) = Policy::parse(&damaged) {
                let error = error.to_string();
                assert!(error.starts_with(|c: char| c.is_ascii_digit()), "{error}");
                assert!(!error.contains(['\n', '\u{202e}', '\0']) && error.len() < 2000, "{error}");
            }
        }
    }
}

/// Editors know each key that is read, and no other. What is read says an error that lists it.
#[test]
fn the_schema_has_the_keys_that_are_read() {
    let text = include_str!("../../../docs/policy.schema.json");
    let schema: serde_json::Value = serde_json::from_str(text).unwrap();
    let role = "[roles.x]\nprincipals = [\"x\"]\nmax = \"1h\"\n";
    let tables = [
        ("", "zz = 1\n".to_owned()),
        ("person", "[people.x]\nzz = 1\n".to_owned()),
        ("duties", "[duties]\nzz = 1\n".to_owned()),
        ("role", format!("{role}zz = 1\n")),
        ("automatic", format!("{role}automatic = {{ max = \"1h\", zz = 1 }}\n")),
        ("part", format!("{role}agree = [{{ of = [], zz = 1 }}]\n")),
        ("when", format!("{role}when = {{ zz = 1 }}\n")),
        ("hours", format!("{role}when = {{ hours = [{{ zz = 1 }}] }}\n")),
        ("rule", "[[rules]]\nzz = 1\n".to_owned()),
        ("break_glass", "[break_glass]\nzz = 1\n".to_owned()),
        ("emergency_key", "[[emergency_keys]]\nzz = 1\n".to_owned()),
    ];
    for (table, text) in tables {
        let error = Policy::parse(&text).map(|_| ()).unwrap_err().to_string();
        let (_, read) = error.split_once("expected ").unwrap_or_else(|| panic!("{table}: {error}"));
        let read: BTreeSet<&str> = read.split('`').skip(1).step_by(2).collect();
        let known = if table.is_empty() { &schema["properties"] } else { &schema["$defs"][table]["properties"] };
        let known: BTreeSet<&str> = known.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(known, read, "docs/policy.schema.json: {table}");
    }
    assert_eq!(schema["$defs"]["oidc"]["properties"].as_object().unwrap().keys().collect::<Vec<_>>(), ["groups"]);
}

/// All of no hosts are among those of a rule; that must not open a role without hosts.
#[test]
fn a_rule_for_hosts_opens_no_role_without() {
    let rule = "[[rules]]\nname = \"lab\"\neffect = \"automatic\"\nmax = \"1h\"\nhosts = [\"db1\"]\n";
    let policy = Policy::parse(&(policy_text() + rule)).unwrap();
    let by = |asked: &str, hosts: &[&str]| {
        let terms = terms_for(&policy, ("alice", asked), hosts, &[], Some(seconds(3600)));
        terms.unwrap().by.map(|rule| rule.to_string())
    };
    assert_eq!(by("db-prod", &["db1"]).as_deref(), Some("lab"));
    assert_eq!((by("db-prod", &["db1", "db2"]), by("db-prod", &[]), by("web", &[])), (None, None, None));
}

/// Whatever is said to pass without asking passes, when the length is all that is missing.
#[test]
fn what_would_pass_passes() {
    let policy = policy();
    let (alice, db) = (person("alice"), role("db-prod"));
    for length in [901, 3600, 14_400, 14_401, 43_200] {
        let asked = Asked {
            person: &alice,
            role: &db,
            hosts: &[],
            principals: &[],
            seconds: Some(seconds(length)),
            ticket: None,
        };
        assert_eq!(policy.explain(&asked, at(0), &unknown()).would, ["with --for 15m"], "{length}");
        let shorter = Asked { seconds: Some(seconds(900)), ..asked };
        let passes = policy.explain(&shorter, at(0), &unknown());
        assert!(passes.would.is_empty() && passes.outcome.is_ok_and(|terms| terms.by.is_some()));
    }
    let denied = Policy::parse(&(policy_text() + "[[rules]]\nname = \"no\"\neffect = \"deny\"\n")).unwrap();
    for length in [3600, 43_200] {
        let asked = Asked {
            person: &alice,
            role: &db,
            hosts: &[],
            principals: &[],
            seconds: Some(seconds(length)),
            ticket: None,
        };
        assert!(denied.explain(&asked, at(0), &unknown()).would.is_empty(), "a denial stands in the way");
    }
}

/// R08: however a rule comes to a sensitive role, the role is refused or the rule left out.
#[test]
fn a_sensitive_role_is_never_automatic() {
    let vault = edit(&policy_text(), "[roles.vault]\n", "[roles.vault]\nsensitive = true\n");
    let said = |text: &str| Policy::parse(text).map(|_| ()).unwrap_err().to_string();
    let never = "a sensitive role is never approved automatically";
    let own = edit(&vault, "[roles.vault]\n", "[roles.vault]\nautomatic = { max = \"1m\" }\n");
    assert!(said(&own).ends_with(never), "{}", said(&own));
    let rule = |roles: &str| format!("{vault}[[rules]]\nname = \"x\"\neffect = \"automatic\"\nmax = \"1m\"\n{roles}\n");
    assert!(said(&rule("roles = [\"vault\"]")).ends_with(never));
    let general = Policy::parse(&rule("")).unwrap();
    let approvals =
        |asked: &str| terms_for(&general, ("alice", asked), &[], &[], Some(seconds(60))).unwrap().approvals();
    assert_eq!((approvals("web"), approvals("vault")), (0, 2));
    let denied = Policy::parse(&format!("{vault}[[rules]]\nname = \"x\"\neffect = \"deny\"\n")).unwrap();
    let refused = terms_for(&denied, ("alice", "vault"), &[], &[], None).map_err(|e| e.code());
    assert_eq!(refused.map(|_| ()), Err("denied-by-rule"), "denials are over sensitive roles, too");
}
/// R27: those who stand behind may decide as well, but are told later, unless nobody else could decide.
#[test]
fn who_is_told_when() {
    let people = "[people.carol]\n";
    let text = edit(&policy_text(), people, &format!("{people}email = \"carol@example.org\"\n"));
    let with = |lines: &str| {
        Policy::parse(&edit(&text, "[roles.db-prod]\n", &format!("[roles.db-prod]\n{lines}\n")))
            .map_err(|e| e.to_string())
    };
    let (name, alice) = (role("db-prod"), person("alice"));
    let plain = with("").unwrap();
    assert_eq!(plain.people()[&person("carol")].email, Some(parsed("carol@example.org")));
    let (first, behind) = plain.deciders(&name, &alice);
    assert!(first.contains(&person("carol")) && !first.contains(&alice) && behind.is_empty());
    let waits = |policy: &Policy| {
        let role = &policy.roles()[&name];
        (role.remind_after.seconds(), role.escalate_after.seconds())
    };
    assert_eq!(waits(&plain), (300, 900));

    let policy = with("remind_after = \"10m\"\nescalate_after = \"1h\"\nescalate_to = [\"bob\", \"carol\"]").unwrap();
    assert_eq!(waits(&policy), (600, 3600));
    assert_eq!(policy.deciders(&name, &alice), (first.clone(), list(&["bob"])), "carol decides already");
    assert!(policy.roles()[&name].approvers.contains(&person("bob")));
    assert!(!policy.deciders(&name, &person("bob")).1.contains(&person("bob")), "nobody decides for themselves");

    let approvers = policy_text().lines().find(|line| line.starts_with("approvers")).unwrap().to_owned();
    let text = edit(&policy_text(), &approvers, "approvers = []\nescalate_to = [\"dba\"]");
    let alone = Policy::parse(&text).unwrap();
    assert_eq!(alone.deciders(&name, &alice), (first, vec![]), "where nobody else can, they are told at once");

    for (lines, problem) in [
        ("escalate_to = [\"nobody\"]", "roles.db-prod.escalate_to: nobody is neither"),
        ("remind_after = \"5\"", "roles.db-prod.remind_after: "),
        ("escalate_after = \"5s\"", "roles.db-prod.escalate_after: "),
    ] {
        let error = with(lines).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    for address in ["carol", "a@b, c@d", "a@b\\nBcc: c@d"] {
        let text = edit(&policy_text(), people, &format!("{people}email = \"{address}\"\n"));
        let error = Policy::parse(&text).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("email") && error.contains("one plain address"), "{error}");
    }
}

/// How the glass may be broken: what it says, and what it cannot say.
#[test]
fn the_rules_of_breaking_the_glass() {
    let with =
        |lines: &str| Policy::parse(&format!("{}[break_glass]\n{lines}\n", policy_text())).map_err(|e| e.to_string());
    let usual = policy();
    let rules = usual.emergency_rules();
    assert_eq!((rules.cool_off, rules.per_key, rules.in_all, rules.extend_alone), (86_400, 3, 10, 1));
    assert_eq!(rules.categories.len(), 5);
    let said =
        with("cool_off = \"none\"\nper_key = 0\nin_all = 2\nextend_alone = 0\ncategories = [\"outage\"]").unwrap();
    let rules = said.emergency_rules();
    assert_eq!((rules.cool_off, rules.per_key, rules.in_all, rules.extend_alone), (0, 0, 2, 0));
    assert_eq!(rules.categories.iter().map(|category| category.as_str()).collect::<Vec<_>>(), ["outage"]);
    for (lines, problem) in [
        ("cool_off = \"0\"", "break_glass.cool_off: "),
        ("cool_off = \"5s\"", "break_glass.cool_off: "),
        ("per_key = -1", "break_glass.per_key: from 0 to 10000 is possible"),
        ("in_all = 10001", "break_glass.in_all: from 0 to 10000 is possible"),
        ("categories = []", "break_glass.categories is empty"),
        ("categories = [\"boredom\"]", "break_glass.categories: "),
        ("verify_required = true", "emergency_keys.key: verify_required needs a FIDO key"),
    ] {
        let error = with(lines).map(|_| ()).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}
