use super::*;
use crate::domain::names::MailAddress;
use crate::domain::testing::*;

const ORIGIN: &str = "https://ca.example";

fn about(news: News) -> Notice {
    Notice::of(&request(), None, news, at(0))
}

fn waiting() -> Waiting {
    Waiting { decide_by: at(24 * 3600), needed: 1, deciders: list(&["carol", "dan"]) }
}

fn approved(claim_by: Option<Timestamp>) -> News {
    News::Approved { by: person("carol"), comment: parsed("enough"), have: 1, needed: 2, claim_by }
}

/// Each kind of news in its words; all of them name who and what, and lead to the page.
#[test]
fn news_has_its_words() {
    let denied = News::Denied { by: person("carol"), comment: parsed("not now") };
    let (who, instead) = ("alice".to_owned(), "ask for it".to_owned());
    let overuse = News::Overuse(Overuse { who, uses: 3, days: 7, instead });
    let revoked = News::Revoked { by: person("carol"), why: parsed("the laptop was stolen") };
    #[rustfmt::skip]
    let table = [
        (News::Requested(waiting()), "request.requested", "alice asks for db-prod on db1, db2 for 2h", "Can decide: carol, dan. It takes 1."),
        (News::Reminded(waiting()), "request.reminded", "Still waiting: alice asks for db-prod on db1, db2 for 2h", "(in 24h) if nobody does."),
        (News::Escalated(waiting()), "request.escalated", "Nobody has decided: alice asks for db-prod on db1, db2 for 2h", "Decide: "),
        (approved(None), "request.approved-in-part", "carol approved alice's request for db-prod (1 of 2)", "carol said: enough"),
        (approved(Some(at(3600))), "request.approved", "carol approved alice's request for db-prod", "It can be started for 2h until"),
        (denied, "request.denied", "carol denied alice's request for db-prod", "carol said: not now"),
        (revoked, "request.revoked", "carol revoked db-prod of alice", "carol said: the laptop was stolen"),
        (News::Withdrawn, "request.withdrawn", "alice withdrew the request for db-prod", "Reason: "),
        (News::Lapsed { approved: false }, "request.lapsed", "alice's request for db-prod lapsed: nobody decided in time", ""),
        (News::Lapsed { approved: true }, "request.lapsed", "alice's request for db-prod lapsed: nobody started it in time", ""),
        (News::BreakGlass { category: Category::Outage, again: 0, second: None, clock_off: None, drill: false }, "break-glass.opened", "BREAK-GLASS: alice opened db-prod on db1, db2 for 2h", "Category: outage"),
        (News::BreakGlass { category: Category::Outage, again: 1, second: Some(person("dan")), clock_off: Some(-400), drill: false }, "break-glass.unheard", "BREAK-GLASS, nobody has heard: alice opened db-prod on db1, db2 for 2h", "Together with: dan\nThe clocks were -400 s apart"),
        (News::BreakGlassTried { key: Digest::of(b"") }, "break-glass.refused", "BREAK-GLASS REFUSED: in alice's name for db-prod, by a key that may not", "Nothing was signed"),
        (News::BreakGlass { category: Category::Other, again: 0, second: None, clock_off: None, drill: true }, "break-glass.drill", "DRILL: alice practises on db-prod on db1, db2 for 2h", "for practice: nothing is wrong"),
        (News::ReviewOverdue { due: at(0) }, "break-glass.review-overdue", "Overdue: nobody has reviewed how alice broke the glass for db-prod", "Close it: ssh-jit review"),
        (overuse, "break-glass.overuse", "Too often: alice broke the glass 3 times in 7 days", "What would have done: ask"),
        (News::DrillOverdue { last: None }, "break-glass.drill-overdue", "Overdue: nobody has shown that alice's emergency key works", "Last shown: never"),
    ];
    for (news, topic, subject, words) in table {
        let mut notice = about(news);
        notice.hosts = list(&["db1", "db2"]);
        notice.seconds = Some(seconds(7200));
        assert_eq!((notice.topic(), notice.subject().as_str()), (topic, subject));
        let text = notice.text(ORIGIN, at(0));
        assert!(text.starts_with(subject) && text.contains(words) && text.contains(&notice.link(ORIGIN)), "{text}");
        let json = serde_json::to_string(&notice).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notice, "it survives the outbox");
    }
    assert_eq!(about(News::ApprovedAutomatically).text(ORIGIN, at(0)).lines().count(), 2);
    assert!(about(approved(Some(at(60)))).to(Reader::Requester).text(ORIGIN, at(0)).contains("ssh-jit login"));
    assert!(!about(News::Requested(waiting())).to(Reader::Requester).text(ORIGIN, at(0)).contains("Decide"));
}

/// W02: what somebody wrote is cut, and what would deceive is shown as what it is; a subject has none of it.
#[test]
fn what_people_write_is_inert() {
    assert_eq!(cut("a\u{202e}b\nc\u{1b}[2J"), "a\\u{202e}b\\nc\\u{1b}[2J");
    let long = "\u{526f}".repeat(10_000);
    assert_eq!(cut(&long).chars().count(), MOST_OF_A_TEXT + 1);
    assert!(cut(&long).ends_with('…'));
    let mut notice = about(News::Denied { by: person("carol"), comment: parsed("<b>&\"</b>") });
    notice.reason = parsed("Subject: approved <!channel>");
    assert!(!notice.subject().contains("approved") && !notice.subject().contains('<'));
    let text = notice.text(ORIGIN, at(0));
    assert!(text.contains("carol said: <b>&\"</b>\n") && text.contains("Reason: Subject: approved <!channel>\n"));
}

/// An entry of the outbox that somebody wrote by hand holds what a statement could hold, or is none.
#[test]
fn a_notice_is_strict() {
    let json = serde_json::to_string(&about(News::Withdrawn)).unwrap();
    for (from, to) in [
        ("\"person\":\"alice\"", "\"person\":\"alice\\nX\""),
        ("\"reason\":\"", "\"reason\":\"\\u202e"),
        ("\"reason\":\"", "\"reason\":\"\\r\\n"),
        ("\"news\":", "\"more\":1,\"news\":"),
        ("\"withdrawn\"", "\"gone\""),
    ] {
        let bad = json.replacen(from, to, 1);
        assert_ne!(bad, json);
        assert!(serde_json::from_str::<Notice>(&bad).is_err(), "{bad}");
    }
}

#[test]
fn long_lists_are_counted_and_times_are_said_twice() {
    let hosts: Vec<HostName> = (0..25).map(|n| parsed(&format!("db{n}"))).collect();
    assert!(listed(&hosts).ends_with("db19 and 5 more"));
    assert_eq!(listed::<MailAddress>(&[]), "nobody");
    let base = Timestamp::from_unix(1_795_341_600);
    assert_eq!(when(base.plus(5400), base), "2026-11-22 11:30 UTC (in 1h30m)");
    assert_eq!(when(base.plus(-300), base), "2026-11-22 09:55 UTC (5m ago)");
    assert_eq!(when(base.plus(-59), base), "2026-11-22 09:59 UTC (now)");
}
