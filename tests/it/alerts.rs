//! Who hears of broken glass, and when: at once, by every channel that works, again until somebody says that they
//! heard, whatever the database does.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Value, json};
use ssh_jit::config::{ChannelConfig, Secret, SmtpTls, SyslogTo, Via};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::statement::Kind;

use crate::support::service::{Answer, Bench, Key, policy, with};
use crate::support::sinks::{Mood, Sink};
use crate::support::wait_until;

fn channel(name: &str, via: Via) -> ChannelConfig {
    let allow = vec!["127.0.0.0/8".parse::<IpNet>().expect("a network")];
    let within = Duration::from_millis(400);
    ChannelConfig { name: name.parse().expect("a name"), via, allow, authorities: None, within }
}

fn webhook(name: &str, sink: &Sink) -> ChannelConfig {
    let key = Secret::new(b"a key for webhooks only.".to_vec());
    channel(name, Via::Webhook { url: format!("http://{}/in", sink.address), key })
}

fn mail(sink: &Sink) -> ChannelConfig {
    let (host, port) = (sink.address.ip().to_string(), sink.address.port());
    let from = "jit@ca.example".parse().expect("an address");
    channel("mail", Via::Smtp { host, port, tls: SmtpTls::None, from, login: None })
}

fn with_addresses() -> String {
    ["alice", "carol", "dan", "erin", "olga"].iter().fold(policy(), |text, name| {
        text.replace(&format!("[people.{name}]\n"), &format!("[people.{name}]\nemail = \"{name}@example.org\"\n"))
    })
}

fn bench(channels: Vec<ChannelConfig>) -> Bench {
    let mut bench = Bench::unstarted();
    bench.settings.notify = channels;
    bench.start(&with_addresses()).expect("a service that starts");
    bench.deliver();
    bench
}

fn told(bench: &Bench, id: &Value) -> Value {
    let all = bench.get("/v1/emergencies", &bench.session("carol")).ok().json();
    all.as_array().expect("a list").iter().find(|used| used["id"] == *id).cloned().unwrap_or_default()
}

fn acknowledge(bench: &Bench, person: &str, statement: &Value) -> Answer {
    let digest = Digest::of(statement.to_string().as_bytes());
    let fields = json!({"break_glass": digest, "id": statement["id"], "comment": ""});
    bench.send(Kind::Acknowledgement, &Key::of(person), &with(bench.draft(Kind::Acknowledgement, person), &fields))
}

/// Writes down what came of the attempts.
fn caught_up(bench: &Bench) {
    bench.sweep();
}

/// BG-09, BG-10: a channel that hangs for ever holds up no other, and each attempt is on record.
#[test]
fn a_channel_that_hangs_holds_up_no_other() {
    let (hung, good, letters) = (Sink::web(), Sink::web(), Sink::mail());
    hung.be(Mood::Hang);
    let bench = bench(vec![webhook("hung", &hung), webhook("good", &good), mail(&letters)]);
    // The ordinary queue of the good channels is full of something else.
    for _ in 0..20 {
        bench.ask("alice", "vault", &json!({}));
    }
    let (broken, start) = (bench.breaking("alice", "db-prod"), Instant::now());
    bench.break_glass(&broken).ok();
    let urgent = |sink: &Sink| sink.arrived().iter().filter(|arrived| arrived.body.contains("BREAK-GLASS")).count();
    wait_until(|| urgent(&good) == 1 && urgent(&letters) >= 2, || format!("{:?}", letters.arrived()));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let id = broken["id"].as_str().expect("an id");
    for arrived in
        good.arrived().iter().chain(&letters.arrived()).filter(|arrived| arrived.body.contains("BREAK-GLASS"))
    {
        for word in ["alice", "db-prod", "db1", "until ", "Category: outage", "Reason: the primary is down", id] {
            assert!(arrived.body.contains(word), "{word}: {arrived:?}");
        }
        assert!(
            arrived.body.contains(&format!("ssh-jit revoke {id}")) && arrived.body.contains("ssh-jit ack"),
            "{arrived:?}"
        );
    }
    assert!(
        letters
            .arrived()
            .iter()
            .all(|mail| !mail.head.starts_with("RCPT TO:<alice@") || !mail.body.contains("BREAK-GLASS"))
    );
    wait_until(
        || {
            caught_up(&bench);
            let story = bench.story(0);
            ["alerted (good)", "alerted (mail)", "unalerted (hung)"]
                .iter()
                .all(|event| story.iter().any(|e| e == event))
        },
        || format!("{:?}", bench.story(0)),
    );
    assert!(told(&bench, &broken["id"])["alerted"].is_string());
}

/// BG-11: again after five minutes, to more people, until somebody has heard; and that is for others to say.
#[test]
fn it_is_told_again_until_somebody_has_heard() {
    let (good, letters) = (Sink::web(), Sink::mail());
    let mut bench = bench(vec![webhook("good", &good), mail(&letters)]);
    let broken = bench.breaking("alice", "db-prod");
    bench.break_glass(&broken).ok();
    good.wait(1);
    letters.wait(2);
    let to = |name: &str| {
        letters.arrived().iter().filter(|mail| mail.head.starts_with(&format!("RCPT TO:<{name}@"))).count()
    };
    assert_eq!((to("carol"), to("dan"), to("erin"), to("olga")), (1, 1, 0, 0));
    bench.advance(299);
    bench.sweep();
    bench.advance(1);
    bench.sweep();
    good.wait(2);
    assert_eq!(good.arrived()[1].json()["type"], "break-glass.unheard");
    wait_until(|| to("erin") == 1 && to("olga") == 1 && to("carol") == 2, || format!("{:?}", letters.arrived()));
    for (person, code) in [("alice", "self-approval"), ("bob", "not-approver"), ("robot", "not-approver")] {
        assert_eq!(acknowledge(&bench, person, &broken).code(), code, "{person}");
    }
    let other = with(broken.clone(), &json!({"reason": "something else altogether is broken"}));
    assert_eq!(acknowledge(&bench, "carol", &other).code(), "other-request");
    // Where it began again nobody is known to have heard.
    bench.stop();
    bench.start(&with_addresses()).expect("a start");
    bench.deliver();
    good.wait(3);
    assert_eq!(acknowledge(&bench, "carol", &broken).ok().status, 204);
    assert_eq!(acknowledge(&bench, "dan", &broken).code(), "not-pending");
    assert_eq!(told(&bench, &broken["id"])["heard"], "carol");
    let count = good.arrived().len();
    bench.stop();
    bench.start(&with_addresses()).expect("a start");
    bench.deliver();
    for _ in 0..3 {
        bench.advance(3600);
        bench.sweep();
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(good.arrived().len(), count, "nobody is told again, after a restart neither");
}

/// Whoever writes the database cannot have people not told: a row says nothing, and what it names is read.
#[test]
fn a_row_silences_nothing() {
    let good = Sink::web();
    let mut bench = bench(vec![webhook("good", &good)]);
    let (first, second) = (bench.breaking("alice", "db-prod"), bench.breaking("carol", "vault"));
    bench.break_glass(&first).ok();
    bench.break_glass(&second).ok();
    good.wait(2);
    acknowledge(&bench, "dan", &second).ok();
    bench.stop();
    bench.tamper();
    let sql =
        "INSERT INTO acknowledged_emergencies SELECT e.id, (SELECT max(acknowledgement) FROM acknowledged_emergencies)
        FROM emergencies e WHERE e.id NOT IN (SELECT id FROM acknowledged_emergencies)";
    bench.sql().execute_batch(sql).expect("SQL");
    bench.start(&with_addresses()).expect("a start");
    bench.deliver();
    let told = good.wait(3);
    assert!(told[2].body.contains(first["id"].as_str().expect("an id")), "{told:?}");
}

/// BG-12: while the database is away people are told all the same; what came of it is written down later.
#[test]
fn the_database_may_be_away() {
    let good = Sink::web();
    let bench = bench(vec![webhook("good", &good)]);
    let other = bench.sql();
    other.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    let (broken, start) = (bench.breaking("alice", "db-prod"), Instant::now());
    bench.break_glass(&broken).ok();
    good.wait(1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    other.execute_batch("ROLLBACK").expect("no lock");
    wait_until(
        || {
            caught_up(&bench);
            bench.story(0).iter().any(|event| event == "alerted (good)")
        },
        || format!("{:?}", bench.story(0)),
    );
}

/// BG-04: a key that may not is heard of at once, a few times an hour, without a word of what it wrote.
#[test]
fn a_key_that_may_not_raises_an_alarm() {
    let (good, letters) = (Sink::web(), Sink::mail());
    let bench = bench(vec![webhook("good", &good), mail(&letters)]);
    for _ in 0..9 {
        let words = json!({"reason": "open https://evil.example at once, all of you"});
        bench.send(Kind::BreakGlass, &Key::of("mallory"), &with(bench.breaking("olga", "db-prod"), &words));
    }
    let alarms = good.wait(5);
    assert_eq!(alarms[0].json()["type"], "break-glass.refused");
    letters.wait(1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(good.arrived().len(), 5, "five in an hour");
    assert!(
        letters.arrived().iter().any(|mail| mail.head.starts_with("RCPT TO:<olga@")),
        "whose name it was hears, too"
    );
    for alarm in letters.arrived() {
        assert!(!alarm.body.contains("evil.example"), "{alarm:?}");
        assert!(alarm.body.contains(&Key::of("mallory").fingerprint().to_string()), "{alarm:?}");
    }
}

/// RFC 5424, to a socket and by UDP.
#[test]
fn syslog_hears() {
    let dir = crate::support::dir();
    let path = dir.path().join("log");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let remote = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let to = SyslogTo::Udp(remote.local_addr().expect("an address"));
    let channels =
        vec![channel("here", Via::Syslog { to: SyslogTo::Unix(path) }), channel("there", Via::Syslog { to })];
    let bench = bench(channels);
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    remote.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    let mut buffer = [0; 4096];
    for length in [socket.recv(&mut buffer).expect("a message"), remote.recv(&mut buffer).expect("a message")] {
        let text = String::from_utf8(buffer[..length].to_vec()).expect("UTF-8");
        let head =
            "<82>1 2026-11-22T10:00:00Z - ssh-jit - break-glass.opened - \u{feff}BREAK-GLASS: alice opened db-prod";
        assert!(text.starts_with(head) && text.contains("Reason: the primary is down"), "{text}");
    }
}
