//! What people are told, over real TCP, and what they are told when servers hang, drop, lie or are not there.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ipnet::IpNet;
use serde_json::{Value, json};
use sha2::Sha256;
use ssh_jit::config::{ChannelConfig, Secret, SmtpTls, Via};
use ureq::tls::Certificate;

use crate::aftermath::{drill, with_canary};
use crate::support::service::{Bench, policy};
use crate::support::sinks::{Arrived, BAD_MOODS, Mood, Secure, Sink};
use crate::support::tls::Authority;
use crate::support::wait_until;
use crate::uses::{active, ca, hosts, read, says, signed, stated_of};
use crate::web::Browser;

const KEY: &[u8; 24] = b"a key for webhooks only.";
/// How long a server may take in these tests.
const WITHIN: Duration = Duration::from_millis(400);

fn channel(name: &str, via: Via) -> ChannelConfig {
    let allow = vec!["127.0.0.0/8".parse::<IpNet>().expect("a network")];
    ChannelConfig { name: name.parse().expect("a name"), via, allow, authorities: None, within: WITHIN }
}

fn webhook(sink: &Sink) -> ChannelConfig {
    channel("hook", Via::Webhook { url: format!("http://{}/in", sink.address), key: Secret::new(KEY.to_vec()) })
}

fn slack(sink: &Sink) -> ChannelConfig {
    channel("room", Via::Slack { url: Secret::new(format!("http://{}/T0/xyzzy", sink.address)) })
}

fn mail(sink: &Sink, tls: SmtpTls) -> ChannelConfig {
    let from = "jit@ca.example".parse().expect("an address");
    let (host, port) = (sink.address.ip().to_string(), sink.address.port());
    channel("mail", Via::Smtp { host, port, tls, from, login: None })
}

/// The three kinds, and a service that uses them.
struct Told {
    hook: Sink,
    room: Sink,
    mail: Sink,
    bench: Bench,
}

/// The sample policy, where everybody but bob and frank has an address.
fn with_addresses() -> String {
    ["alice", "carol", "dan", "erin"].iter().fold(policy(), |text, name| {
        text.replace(&format!("[people.{name}]\n"), &format!("[people.{name}]\nemail = \"{name}@example.org\"\n"))
    })
}

impl Told {
    fn new() -> Self {
        Self::with(&with_addresses())
    }

    fn with(policy: &str) -> Self {
        let (hook, room, mail_sink) = (Sink::web(), Sink::web(), Sink::mail());
        let mut bench = Bench::unstarted();
        bench.settings.notify = vec![webhook(&hook), slack(&room), mail(&mail_sink, SmtpTls::None)];
        bench.start(policy).expect("a service that starts");
        bench.deliver();
        Self { hook, room, mail: mail_sink, bench }
    }

    fn restart(&mut self, policy: &str) {
        self.bench.stop();
        self.bench.start(policy).expect("a service that starts");
        self.bench.deliver();
    }
}

fn to(arrived: &[Arrived], name: &str) -> Vec<Arrived> {
    arrived.iter().filter(|mail| mail.head.starts_with(&format!("RCPT TO:<{name}@"))).cloned().collect()
}

fn topics(hook: &Sink) -> Vec<String> {
    hook.arrived().iter().map(|arrived| arrived.json()["type"].as_str().expect("a type").to_owned()).collect()
}

/// The health of a channel, as administrators read it.
fn health(bench: &Bench, name: &str) -> Value {
    let channels = bench.get("/v1/channels", &bench.session("erin")).ok().json();
    channels.as_array().expect("channels").iter().find(|channel| channel["name"] == name).expect("it").clone()
}

#[track_caller]
fn wait_for_health(bench: &Bench, name: &str, well: impl Fn(&Value) -> bool) -> Value {
    wait_until(|| well(&health(bench, name)), || health(bench, name).to_string());
    health(bench, name)
}

fn waiting(bench: &Bench) -> i64 {
    bench.sql().query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).expect("a number")
}

/// What arrived is taken out of the outbox right after.
fn delivered(bench: &Bench) {
    let end = Instant::now() + Duration::from_secs(20);
    while waiting(bench) > 0 {
        assert!(Instant::now() < end, "{} entries wait", waiting(bench));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who, principal, hosts, how long, why, until when it lapses, a link: to those who can approve. Who can approve: to
/// the requester. And how it ended, with its reason, to everybody.
#[test]
fn everybody_hears_what_concerns_them() {
    let told = Told::new();
    let bench = &told.bench;
    let asked = bench.ask("alice", "vault", &json!({"ticket": "INC-412"}));
    let link = format!("http://localhost:7022/requests/{}", asked.id);
    let mails = told.mail.wait(3);
    let carols = &to(&mails, "carol")[0];
    assert_eq!(carols.header("subject"), "[ssh-jit] alice asks for vault on vault1 for 1h");
    assert_eq!(carols.header("auto-submitted"), "auto-generated");
    assert_eq!(
        carols.body.trim_end(),
        format!(
            "alice asks for vault on vault1 for 1h.\nPrincipals: audit@vault1, vault@vault1\n\
             Reason: replica lag after failover\nTicket: INC-412\nCan decide: carol, dan, frank. It takes 2.\n\
             It lapses 2026-11-23 10:00 UTC (in 24h) if nobody does.\nDecide: {link} or ssh-jit approve {}",
            asked.id
        )
    );
    let alices = &to(&mails, "alice")[0];
    assert!(alices.body.contains("Can decide: carol, dan, frank. It takes 2.") && alices.body.contains(&link));
    assert_eq!(to(&mails, "dan").len(), 1, "frank has no address, and bob may not decide: {mails:?}");

    bench.approve("carol", &asked).ok();
    assert!(to(&told.mail.wait(4), "alice")[1].body.contains("carol approved alice's request for vault (1 of 2)"));
    bench.decide("dan", &asked, &json!({"comment": "enough for the slot", "seconds": 1800})).ok();
    let mails = told.mail.wait(6);
    assert!(to(&mails, "carol")[1].body.starts_with("dan approved alice's request for vault."));
    let outcome = &to(&mails, "alice")[2].body;
    assert!(
        outcome.contains("dan said: enough for the slot") && outcome.contains("started for 30m until"),
        "{outcome}"
    );
    let denied = bench.ask("alice", "web", &json!({}));
    bench.deny("carol", &denied).ok();
    let mails = told.mail.wait(11);
    assert!(to(&mails, "alice")[4].body.contains("carol said: not during the freeze"));
    assert_eq!(
        to(&mails, "dan").last().expect("one").header("subject"),
        "[ssh-jit] carol denied alice's request for web"
    );
    let automatic = bench.ask("alice", "db-prod", &json!({"seconds": 600}));
    told.hook.wait(6);
    told.room.wait(6);
    let expected = ["requested", "approved-in-part", "approved", "requested", "denied", "approved-automatically"];
    assert_eq!(topics(&told.hook), expected.map(|topic| format!("request.{topic}")));
    assert_eq!(
        told.room.arrived()[5].json()["text"],
        format!(
            "The policy approved db-prod on db1, db2 for 10m for alice by itself.\n\
             http://localhost:7022/requests/{}",
            automatic.id
        )
    );
    assert_eq!(told.mail.arrived().len(), 11, "people are not told of what the policy approves by itself");
    wait_until(|| waiting(bench) == 0, || "the outbox is not empty".to_owned());
}

/// Standard Webhooks: whoever has the key can tell that it is ours, and that it was sent just now.
#[test]
fn webhooks_are_signed() {
    let told = Told::new();
    told.bench.ask("alice", "web", &json!({}));
    let arrived = &told.hook.wait(1)[0];
    let signed = |body: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("a key");
        mac.update(
            format!("{}.{}.{body}", arrived.header("webhook-id"), arrived.header("webhook-timestamp")).as_bytes(),
        );
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    assert_eq!(arrived.header("webhook-signature"), signed(&arrived.body));
    assert_ne!(arrived.header("webhook-signature"), signed(&arrived.body.replace("alice", "mallory")));
    let json = arrived.json();
    assert_eq!((&json["type"], &json["timestamp"]), (&json!("request.requested"), &json!(told.bench.at(0))));
    assert_eq!(json["data"]["notice"]["person"], "alice");
}

/// A channel in any bad mood, throughout: decisions are as quick as ever, the others hear, and it shows.
#[test]
fn a_dead_channel_blocks_nothing() {
    for mood in BAD_MOODS {
        for bad in ["hook", "mail"] {
            let told = Told::new();
            let (sink, good) = if bad == "hook" { (&told.hook, &told.room) } else { (&told.mail, &told.hook) };
            sink.be(mood);
            let asked = told.bench.ask("alice", "web", &json!({}));
            let start = Instant::now();
            let state = told.bench.approve("carol", &asked).state();
            let took = start.elapsed();
            assert_eq!(state, "approved");
            assert!(took < Duration::from_secs(2), "{bad} {mood:?}: {took:?}");
            told.bench.claim(&asked).certificate();
            good.wait(2);
            let ill = wait_for_health(&told.bench, bad, |health| health["failures"].as_u64() > Some(0));
            assert!(ill["waiting"].as_u64() > Some(0) && ill["since"].is_string(), "{ill}");
            let error = ill["error"].as_str().expect("a reason");
            assert!(!error.contains('\u{1b}') && error.len() < 300, "{error:?}");
            // Well again: what waits is delivered, each under the id that it had.
            sink.be(Mood::Good);
            wait_until(
                || {
                    told.bench.advance(60);
                    told.bench.sweep();
                    health(&told.bench, bad)["waiting"] == 0
                },
                || health(&told.bench, bad).to_string(),
            );
            assert_eq!(health(&told.bench, bad)["failures"], 0);
        }
    }
}

/// A receiver can drop a repeat: the id stays. And attempts become rarer.
#[test]
fn a_repeat_has_the_same_id() {
    let told = Told::new();
    told.hook.be(Mood::Broken);
    told.bench.ask("alice", "web", &json!({}));
    for (seconds, tries) in [(0, 1), (4, 1), (1, 2), (9, 2), (1, 3), (19, 3), (1, 4)] {
        told.bench.advance(seconds);
        told.bench.sweep();
        told.hook.wait(tries);
        wait_for_health(&told.bench, "hook", |health| health["failures"] == tries);
    }
    let mut ids: Vec<String> = told.hook.arrived().iter().map(|a| a.header("webhook-id")).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(ids[0].starts_with("msg_"));
}

/// After a day nobody tries any more, and that is on record.
#[test]
fn after_a_day_it_is_given_up() {
    let told = Told::new();
    told.hook.be(Mood::Refuse);
    told.bench.ask("alice", "web", &json!({}));
    wait_for_health(&told.bench, "hook", |health| health["failures"] == 1);
    told.bench.advance(24 * 3600);
    told.bench.sweep();
    let ill = wait_for_health(&told.bench, "hook", |health| health["waiting"] == 0 || health["given_up"] == 1);
    assert_eq!(ill["given_up"], 1, "{ill}");
    assert!(told.bench.story(0).contains(&"undelivered (hook)".to_owned()), "{:?}", told.bench.story(0));
}

/// What was written before a crash is delivered after it; what was told before is not told again.
#[test]
fn a_crash_loses_nothing() {
    let mut told = Told::new();
    told.hook.be(Mood::Hang);
    told.bench.ask("alice", "web", &json!({}));
    told.room.wait(1);
    wait_until(|| told.hook.connections() > 0, || "nobody came".to_owned());
    told.restart(&with_addresses());
    told.hook.be(Mood::Good);
    told.bench.advance(60);
    told.bench.sweep();
    let arrived = told.hook.wait(1);
    assert_eq!(arrived[0].json()["type"], "request.requested");
    wait_until(|| waiting(&told.bench) == 0, || "something waits".to_owned());
    assert_eq!(told.room.arrived().len(), 1);
}

/// R27: again after 5 minutes, those who stand behind after 15, each once, also over a restart; then it lapses.
#[test]
fn reminders_and_escalation_come_once_each() {
    let policy = with_addresses()
        .replace(
            "[people.erin]\nemail = \"erin@example.org\"\ngroups = []",
            "[people.erin]\nemail = \"erin@example.org\"\ngroups = [\"managers\"]",
        )
        .replace("[roles.web]\n", "[roles.web]\nescalate_to = [\"managers\"]\ndecide_within = \"1h\"\n");
    assert!(policy.contains("managers\"]\nkeys"));
    let mut told = Told::with(&policy);
    let before = told.bench.story(0).len();
    let asked = told.bench.ask("alice", "web", &json!({}));
    assert!(to(&told.mail.wait(3), "erin").is_empty(), "not before it escalates");
    for (seconds, mails) in [(299, 3), (1, 5), (0, 5)] {
        told.bench.advance(seconds);
        told.bench.sweep();
        told.mail.wait(mails);
    }
    // What arrived and is not noted yet would be told again.
    wait_until(|| waiting(&told.bench) == 0, || "something waits".to_owned());
    told.restart(&policy);
    for (seconds, mails) in [(0, 5), (599, 5), (1, 6), (60, 6)] {
        told.bench.advance(seconds);
        told.bench.sweep();
        told.mail.wait(mails);
    }
    wait_until(|| waiting(&told.bench) == 0, || "something waits".to_owned());
    let mails = told.mail.arrived();
    assert_eq!(mails.len(), 6, "{mails:#?}");
    let subject = |name: &str, at: usize| to(&mails, name)[at].header("subject");
    assert_eq!(subject("carol", 1), "[ssh-jit] Still waiting: alice asks for web for 1h");
    assert_eq!(subject("dan", 1), subject("carol", 1));
    assert_eq!(subject("erin", 0), "[ssh-jit] Nobody has decided: alice asks for web for 1h");
    told.bench.advance(3600);
    told.bench.sweep();
    assert!(to(&told.mail.wait(7), "alice")[1].body.starts_with("alice's request for web lapsed: nobody decided"));
    let story: Vec<_> = told.bench.story(before).into_iter().filter(|event| !event.contains('-')).collect();
    assert_eq!(story, ["requested", "reminded", "escalated", "lapsed"]);
    told.bench.refuses("lapsed", || told.bench.approve("erin", &asked));
}

/// Those who stand behind may decide from the start, and what is decided is not brought up again.
#[test]
fn what_is_decided_is_not_brought_up_again() {
    let policy =
        with_addresses().replace("[roles.web]\n", "[roles.web]\nescalate_to = [\"olga\"]\nremind_after = \"1m\"\n");
    let told = Told::with(&policy);
    let asked = told.bench.ask("alice", "web", &json!({}));
    assert_eq!(told.bench.approve("olga", &asked).state(), "approved");
    let withdrawn = told.bench.ask("alice", "web", &json!({}));
    told.bench.withdraw(&withdrawn).ok();
    let revoked = told.bench.ask("alice", "web", &json!({}));
    crate::revocations::revoke(&told.bench, "carol", json!({"request": revoked.id})).ok();
    told.hook.wait(6);
    told.bench.advance(1800);
    told.bench.sweep();
    wait_until(|| waiting(&told.bench) == 0, || "something waits".to_owned());
    let all = ["requested", "approved", "requested", "withdrawn", "requested", "revoked"];
    assert_eq!(topics(&told.hook), all.map(|topic| format!("request.{topic}")));
    let mail = to(&told.mail.wait(1), "alice");
    assert!(mail.iter().any(|mail| format!("{mail:?}").contains("carol revoked web of alice")), "{mail:?}");
    let left: i64 = told.bench.sql().query_row("SELECT count(*) FROM reminders", [], |row| row.get(0)).expect("SQL");
    assert_eq!(left, 0);
}

/// BG-10: everybody hears of a broken glass, and nobody has to for it to break.
#[test]
fn everybody_hears_of_a_broken_glass() {
    let told = Told::new();
    for sink in [&told.hook, &told.room, &told.mail] {
        sink.be(Mood::Hang);
    }
    let start = Instant::now();
    told.bench.break_glass(&told.bench.breaking("alice", "db-prod")).certificate();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    for sink in [&told.hook, &told.room, &told.mail] {
        sink.be(Mood::Good);
    }
    wait_until(
        || told.mail.arrived().len() >= 2 && !told.hook.arrived().is_empty() && !told.room.arrived().is_empty(),
        || format!("{:#?}", told.mail.arrived()),
    );
    let mails = told.mail.arrived();
    let carols = &to(&mails, "carol")[0];
    assert_eq!(carols.header("subject"), "[ssh-jit] BREAK-GLASS: alice opened db-prod on db1, db2 for 5m");
    assert!(carols.body.contains("Reason: the primary is down") && carols.body.contains("/emergencies"), "{carols:?}");
    assert!(to(&mails, "alice").is_empty(), "others hear of it");
    assert_eq!(topics(&told.hook), ["break-glass.opened"]);
}

/// W02: what somebody writes arrives as text, and commands nothing; what would deceive is refused where it comes in.
#[test]
fn hostile_text_is_text() {
    let told = Told::new();
    let hostile = [
        "<!channel> <https://evil.example|the queue> &amp; *bold*",
        "<script>alert(1)</script> <b>approve</b>",
        "Subject: approved =?utf-8?q?x?= . \\r\\nBcc: all@example.org",
        "{{7*7}} ${jndi:ldap://x} %0d%0aX: y \"quoted\" \\\"",
        "副本延迟 Ersatz für Köln",
    ];
    for (count, text) in hostile.iter().enumerate() {
        told.bench.ask("bob", "web", &json!({"reason": text}));
        let mail = told.mail.wait(2 * count + 2).swap_remove(2 * count + 1);
        assert!(mail.body.contains(&format!("\nReason: {text}\n")), "{mail:?}");
        assert_eq!(mail.header("content-type"), "text/plain; charset=utf-8");
        let names: Vec<&str> =
            mail.head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(n, _)| n).collect();
        assert!(!names.contains(&"Bcc") && !mail.header("subject").contains("approved"), "{names:?}");
        assert_eq!(told.hook.wait(count + 1)[count].json()["data"]["notice"]["reason"], *text);
        let room = told.room.wait(count + 1)[count].json();
        let shown = room["text"].as_str().expect("text");
        assert!(!shown.contains(['<', '>']), "{shown}");
        let back = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        assert!(back.contains(text), "{back}");
    }
    delivered(&told.bench);
    for text in ["two\nlines", "bidi \u{202e}txt", "esc \u{1b}[2J", "zero\u{200b}width", &"x".repeat(10_000)] {
        told.bench.refuses("malformed", || {
            let (request, _) = told.bench.request("bob", "web");
            let request = crate::support::service::with(request, &json!({"reason": text}));
            told.bench.send(
                ssh_jit::domain::statement::Kind::Request,
                &crate::support::service::Key::of("bob"),
                &request,
            )
        });
    }
    assert_eq!(waiting(&told.bench), 0);
    let long = "x".repeat(999);
    told.bench.ask("bob", "web", &json!({"reason": long}));
    let mail = told.mail.wait(2 * hostile.len() + 2).pop().expect("a mail");
    assert!(mail.body.contains(&("x".repeat(500) + "…\n")) && !mail.body.contains(&"x".repeat(501)));
}

/// Whoever writes into the outbox's rows can say something, and can neither stop the others nor be two recipients.
#[test]
fn planted_entries_harm_no_others() {
    let told = Told::new();
    for sink in [&told.hook, &told.mail] {
        sink.be(Mood::Broken);
    }
    told.bench.ask("alice", "web", &json!({}));
    wait_for_health(&told.bench, "mail", |health| health["failures"].as_u64() > Some(0));
    wait_for_health(&told.bench, "hook", |health| health["failures"].as_u64() > Some(0));
    let sql = told.bench.sql();
    for (number, channel, to, notice) in
        [(901, "hook", "", "{}"), (902, "mail", "a@b\r\nRCPT TO:<c@d>", "SAME"), (903, "mail", "a@b", "x")]
    {
        let insert = "INSERT INTO outbox (seq, id, channel, recipient, notice, created, due, attempts) SELECT ?1, \
                      'msg_' || ?1, ?2, ?3, CASE ?4 WHEN 'SAME' THEN notice ELSE ?4 END, created - 90000, 0, 0 FROM outbox LIMIT 1";
        sql.execute(insert, rusqlite::params![number, channel, to, notice]).expect("SQL");
    }
    for sink in [&told.hook, &told.mail] {
        sink.be(Mood::Good);
    }
    wait_until(
        || {
            told.bench.advance(60);
            told.bench.sweep();
            let sql = "SELECT count(*) FROM outbox WHERE failed IS NULL";
            let left: i64 = told.bench.sql().query_row(sql, [], |row| row.get(0)).expect("a number");
            left == 0
        },
        || format!("{:#?}", told.bench.rows()["outbox"]),
    );
    // Time went on, and so there were reminders.
    let mails = told.mail.arrived();
    let first = mails.iter().filter(|mail| !mail.header("subject").contains("Still waiting")).count();
    assert_eq!(first, 3, "carol, dan and alice: {mails:#?}");
    assert_eq!(told.bench.story(0).iter().filter(|event| event.starts_with("undelivered")).count(), 3);
}

/// A certificate that the log does not know is told of where people look, once for each connection; one that it knows
/// is not.
#[test]
fn an_alarm_goes_out() {
    let told = Told::with(&(with_addresses() + &hosts()));
    let (_, certificate) = active(&told.bench);
    delivered(&told.bench);
    says(&told.bench, "db1", &stated_of(&told.bench, &certificate, 1)).ok();
    let real = read(&certificate);
    let forged = signed(&real, &ca(&told.bench, "user-ca"), 4711, "root");
    for _ in 0..2 {
        says(&told.bench, "db1", &stated_of(&told.bench, &forged, 2)).ok();
    }
    delivered(&told.bench);
    let alarms = |sink: &Sink| {
        let all = sink.arrived().into_iter();
        all.filter(|one| format!("{}{}", one.head, one.body).contains("not in the log")).collect::<Vec<_>>()
    };
    let (hook, room, mail) = (alarms(&told.hook), alarms(&told.room), alarms(&told.mail));
    assert_eq!((hook.len(), room.len(), mail.len()), (1, 1, 1), "{mail:#?}");
    let hook = hook[0].json();
    assert_eq!((&hook["type"], &hook["data"]["notice"]["serial"]), (&json!("certificate.unknown"), &json!("4711")));
    assert!(to(&mail, "erin").len() == 1, "the administrator, and nobody else: {mail:#?}");
}

/// W06: nothing is sent to addresses inside unless they were allowed, by whatever name; no redirect is followed.
#[test]
fn servers_inside_are_not_reached() {
    let (hook, room, mail_sink) = (Sink::web(), Sink::web(), Sink::mail());
    let mut bench = Bench::unstarted();
    let mut hidden = [webhook(&hook), slack(&room), mail(&mail_sink, SmtpTls::None)];
    for config in &mut hidden {
        config.allow = vec!["10.0.0.0/8".parse().expect("a network")];
    }
    if let Via::Slack { url } = &mut hidden[1].via {
        *url = Secret::new(format!("http://localhost:{}/T0/xyzzy", room.address.port()));
    }
    bench.settings.notify = hidden.to_vec();
    bench.start(&with_addresses()).expect("a service that starts");
    bench.deliver();
    bench.ask("alice", "web", &json!({}));
    for name in ["hook", "room", "mail"] {
        let ill = wait_for_health(&bench, name, |health| health["failures"].as_u64() > Some(0));
        let error = ill["error"].as_str().expect("a reason");
        assert!(error.contains("not a public one") && !error.contains("xyzzy"), "{error}");
    }
    assert_eq!((hook.connections(), room.connections(), mail_sink.connections()), (0, 0, 0));

    let told = Told::new();
    told.hook.be(Mood::Redirect);
    told.bench.ask("alice", "web", &json!({}));
    let ill = wait_for_health(&told.bench, "hook", |health| health["failures"].as_u64() > Some(0));
    assert!(ill["error"].as_str().expect("a reason").contains("redirect"), "{ill}");
    assert!(told.hook.arrived().iter().all(|arrived| arrived.head.starts_with("POST /in ")));
    told.hook.be(Mood::Endless);
    told.bench.advance(60);
    told.bench.sweep();
    wait_for_health(&told.bench, "hook", |health| health["error"].as_str().is_some_and(|e| e.contains("too long")));
}

fn refusing(secure: Secure) -> Sink {
    let sink = Sink::secure_mail(secure);
    sink.be(Mood::Refuse);
    sink
}

/// K03: mail goes over TLS with the server that it is for, or not at all; a password over nothing else.
#[test]
fn mail_is_sent_in_confidence() {
    let (ours, other) = (Authority::new(), Authority::new());
    let pair = ours.certify(&["127.0.0.1"]);
    let roots = |authority: &Authority| Some(vec![Certificate::from_pem(authority.pem().as_bytes()).expect("a CA")]);
    let rows = [
        (SmtpTls::Starttls, Sink::secure_mail(Secure::new(&pair, false)), roots(&ours), None),
        (SmtpTls::Implicit, Sink::secure_mail(Secure::new(&pair, true)), roots(&ours), None),
        (SmtpTls::Starttls, Sink::secure_mail(Secure::new(&pair, false)), roots(&other), Some("certificate")),
        (SmtpTls::Implicit, Sink::secure_mail(Secure::new(&pair, true)), roots(&other), Some("certificate")),
        (
            SmtpTls::Implicit,
            Sink::secure_mail(Secure::new(&ours.certify(&["evil.example"]), true)),
            roots(&ours),
            Some("certificate"),
        ),
        // What it answers after a password was sent is not shown: it might repeat that.
        (SmtpTls::Implicit, refusing(Secure::new(&pair, true)), roots(&ours), Some("it answered 550")),
        // Somebody on the way took the offer out.
        (SmtpTls::Starttls, Sink::mail(), roots(&ours), Some("")),
    ];
    for (tls, sink, authorities, problem) in rows {
        let mut config = ChannelConfig { authorities, ..mail(&sink, tls) };
        if let Via::Smtp { login, .. } = &mut config.via {
            *login = Some(("jit".to_owned(), Secret::new("pa55word".to_owned())));
        }
        config.within = Duration::from_secs(5);
        let mut bench = Bench::unstarted();
        bench.settings.notify = vec![config];
        bench.start(&with_addresses()).expect("a service that starts");
        bench.deliver();
        bench.ask("bob", "web", &json!({}));
        match problem {
            None => {
                sink.wait(2);
                assert!(sink.logins()[0].contains(&STANDARD.encode("\0jit\0pa55word")), "{:?}", sink.logins());
            }
            Some(words) => {
                let ill = wait_for_health(&bench, "mail", |health| health["failures"].as_u64() > Some(0));
                let error = ill["error"].as_str().expect("a reason");
                assert!(error.contains(words) && !error.contains("no such person"), "{ill}");
                assert!(sink.arrived().is_empty(), "{:?}", sink.arrived());
                assert!(sink.logins().is_empty() || words.contains("550"), "{:?}", sink.logins());
            }
        }
    }
}

/// Without a channel nothing is written for any, and nothing costs anything.
#[test]
fn without_channels_nothing_is_written() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    bench.advance(1000);
    assert_eq!(bench.sweep(), 0);
    bench.approve("carol", &asked).ok();
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    let rows = bench.rows();
    assert!(["outbox", "channels", "reminders"].iter().all(|table| rows[*table].is_empty()), "{rows:?}");
    assert_eq!(bench.get("/v1/channels", &bench.session("erin")).ok().json(), json!([]));
}

/// What happens when nobody acts is shown while it waits: who is told, and when.
#[test]
fn what_comes_if_nobody_decides_is_shown() {
    let policy = with_addresses().replace("[roles.web]\n", "[roles.web]\nescalate_to = [\"olga\"]\n");
    let told = Told::with(&policy);
    let asked = told.bench.ask("alice", "web", &json!({}));
    let (bearer, path) = (told.bench.session("alice"), format!("/v1/requests/{}", asked.id));
    let ahead = || told.bench.get(&path, &bearer).ok().json()["ahead"].clone();
    let again = json!({ "at": told.bench.at(300), "again": true, "people": ["carol", "dan", "frank"] });
    let behind = json!({ "at": told.bench.at(900), "again": false, "people": ["olga"] });
    assert_eq!(ahead(), json!([again, behind]));
    let mut carol = Browser::new(1);
    carol.enrols(&told.bench, "carol", &json!({})).ok();
    carol.signs_in(&told.bench, "carol").ok();
    let page = carol.opens(&told.bench, &format!("/requests/{}", asked.id)).ok().body;
    for words in ["If nobody does, it is told again to carol, dan and frank ", "If nobody does, it is told to olga "] {
        assert!(page.contains(words), "{page}");
    }
    told.bench.advance(300);
    told.bench.sweep();
    assert_eq!(ahead(), json!([behind]));
    told.bench.approve("dan", &asked).ok();
    assert_eq!(ahead(), json!(null), "it waits no longer");
}

/// The pages say who cannot have heard.
#[test]
fn the_pages_say_that_nobody_was_told() {
    let told = Told::new();
    let mut carol = Browser::new(1);
    carol.enrols(&told.bench, "carol", &json!({})).ok();
    carol.signs_in(&told.bench, "carol").ok();
    let page = |path: &str| carol.opens(&told.bench, path).ok().body;
    let asked = told.bench.ask("alice", "web", &json!({}));
    told.mail.wait(3);
    told.hook.wait(1);
    told.room.wait(1);
    assert!(!page("/").contains("was told"));
    told.mail.be(Mood::Drop);
    told.bench.ask("alice", "web", &json!({}));
    wait_for_health(&told.bench, "mail", |health| health["failures"].as_u64() > Some(0));
    for path in ["/".to_owned(), format!("/requests/{}", asked.id)] {
        let text = page(&path);
        assert!(text.contains("Not everybody was told: the channel mail has failed since"), "{text}");
    }
    told.hook.be(Mood::Drop);
    told.room.be(Mood::Drop);
    told.bench.ask("alice", "web", &json!({}));
    for name in ["hook", "room"] {
        wait_for_health(&told.bench, name, |health| health["failures"].as_u64() > Some(0));
    }
    assert!(page("/").contains("Nobody was told: the channels hook, room and mail have failed since"), "{}", page("/"));
}

/// What a drill goes without, it alone goes without: others are told at once, and it is told of in the end.
#[test]
fn a_drill_goes_without_approvers_or_mail() {
    let policy = with_canary().replace("[people.carol]\n", "[people.carol]\nemail = \"carol@example.org\"\n");
    let told = Told::with(&policy);
    let bench = &told.bench;
    bench.break_glass(&drill(bench, &json!(["approvers-away"]))).ok();
    let first = &told.hook.wait(1)[0];
    assert_eq!(first.json()["type"], "break-glass.drill");
    delivered(bench);
    assert_eq!(told.mail.arrived().len(), 0, "carol decides on the canary, and is away");
    bench.break_glass(&drill(bench, &json!(["mail-down"]))).ok();
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    told.hook.wait(2);
    told.mail.wait(1);
    assert_eq!(topics(&told.hook), ["break-glass.drill", "break-glass.opened"], "what is real is told meanwhile");
    bench.advance(60);
    bench.sweep();
    assert_eq!(told.hook.wait(3)[2].json()["type"], "break-glass.drill");
    // Mail arrives in any order: the other use is told again meanwhile.
    let drilled = || told.mail.arrived().iter().any(|m| m.head.contains("DRILL: alice practises on canary on canary1"));
    crate::support::wait_until(drilled, || format!("{:?}", told.mail.arrived()));
}
