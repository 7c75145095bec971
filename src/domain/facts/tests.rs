use super::*;
use crate::domain::testing::{NOW, at, parsed};

fn message(body: &str) -> Result<Message, Refusal> {
    let sent = NOW.to_string();
    Message::read(&Delivery::new(parsed("pager"), "msg_1", &sent, "", body.as_bytes().to_vec()).unwrap())
}

/// A message that became so so many seconds after the beginning, and was sent then or later.
fn said(became: i64, sent: i64, facts: &str) -> Message {
    let body = format!(r#"{{"type":"facts","timestamp":"{}","data":{{"facts":[{facts}]}}}}"#, at(became));
    let sent = (NOW + sent).to_string();
    let delivery = Delivery::new(parsed("pager"), "msg_1", &sent, "", body.into_bytes()).unwrap();
    Message::read(&delivery).unwrap()
}

fn open(seconds: i64) -> String {
    format!(r#"{{"name":"incident:INC-7","value":"open","until":"{}"}}"#, at(seconds))
}

const OVER: &str = r#"{"name":"incident:INC-7","value":null}"#;

fn name() -> FactName {
    parsed("incident:INC-7")
}

#[test]
fn a_message_says_what_it_says_and_nothing_else() {
    let whole = |facts: &str| format!(r#"{{"type":"facts","timestamp":"{}","data":{{"facts":[{facts}]}}}}"#, at(0));
    let line = open(60);
    assert!(message(&whole(&line)).is_ok());
    assert!(message(&whole(OVER)).is_ok());
    let zoned = line.replace(&at(60).to_string(), "2026-11-22T11:02:58.250+01:00");
    assert_eq!(message(&whole(&zoned)).unwrap().says(&name()).unwrap().unwrap().until, at(60));
    let many: Vec<String> = (0..101).map(|i| line.replace("INC-7", &format!("INC-{i}"))).collect();
    assert!(message(&whole(&many[..100].join(","))).is_ok());
    for facts in [
        String::new(),
        many.join(","),
        format!("{line},{line}"),
        line.replace(r#""value":"open","#, ""),
        line.replace(r#""open""#, "null"),
        line.replace(r#""open""#, r#""""#),
        line.replace(r#""open""#, r#""a\u202eb""#),
        line.replace(r#""open""#, "true"),
        line.replace("incident", "inc ident"),
        line.replace(r#""value""#, r#""note":"x","value""#),
        line.replace(r#""value":"open""#, r#""value":"closed","value":"open""#),
        format!(r#"{{"name":"a","value":"open","until":"{}"}}"#, at(0)),
        format!(r#"{{"name":"a","value":"open","until":"{}"}}"#, at(LONGEST + 1)),
        r#"{"name":"a","value":"open","until":"tomorrow"}"#.to_owned(),
        r#"{"name":"a","value":"open"}"#.to_owned(),
        r#"{"name":"a"}"#.to_owned(),
    ] {
        let refused = message(&whole(&facts));
        assert_eq!(refused.as_ref().map_err(Refusal::code), Err("malformed-facts"), "{facts}: {refused:?}");
    }
    let good = whole(&line);
    for body in [
        String::new(),
        "[]".to_owned(),
        format!("{good}{good}"),
        good.replace(r#""type":"facts""#, r#""type":"fact""#),
        good.replace(r#""type":"facts","#, ""),
        good.replace(r#""data""#, r#""more":1,"data""#),
        good.replace(&at(0).to_string(), "1969-12-31T23:59:59Z"),
        format!("{good}{}", " ".repeat(webhook::LONGEST_BODY)),
    ] {
        assert_eq!(message(&body).map_err(|e| e.code()), Err("malformed-facts"), "{body}");
    }
    let ahead = good.replace(&at(0).to_string(), &at(6).to_string());
    assert_eq!(message(&ahead), Err(Refusal::WebhookFuture { seconds: 6 }));
}

/// What became so later counts, in whichever order the words arrive, and however often one is sent again.
#[test]
fn the_later_word_counts() {
    let (first, over, again) = (said(0, 0, &open(600)), said(60, 60, OVER), said(0, 120, &open(600)));
    for order in [[&first, &over, &again], [&over, &first, &again], [&again, &over, &first], [&over, &again, &first]] {
        let mut facts = Facts::default();
        for message in order {
            facts.hear(message);
        }
        assert_eq!(facts.at(&name(), at(130)), None);
        assert_eq!(facts.order(&name()), Some(over.order));
    }
    let mut facts = Facts::default();
    facts.hear(&over);
    facts.hear(&said(61, 61, &open(600)));
    assert!(facts.at(&name(), at(61)).is_some(), "opened again");
}

/// Read again from the newest to the oldest it is the same.
#[test]
fn what_is_recalled_is_what_was_heard() {
    let messages = [said(0, 0, &open(600)), said(60, 60, OVER), said(61, 61, &open(900)), said(62, 62, &open(800))];
    for count in 0..=messages.len() {
        let (mut heard, mut recalled) = (Facts::default(), Facts::default());
        messages[..count].iter().for_each(|message| heard.hear(message));
        messages[..count].iter().rev().for_each(|message| recalled.recall(message));
        assert_eq!(heard, recalled);
    }
}

/// It counts for what was signed a minute before, and in no second after its end.
#[test]
fn a_fact_has_a_beginning_and_an_end() {
    let mut facts = Facts::default();
    facts.hear(&said(0, 0, &open(600)));
    let holds = |seconds| facts.at(&name(), at(seconds)).is_some();
    assert!(!holds(-61) && holds(-60) && holds(599) && !holds(600));
    assert!(facts.standing(at(599)).at(&name(), at(-10_000)).is_some());
    assert!(facts.standing(at(600)).at(&name(), at(0)).is_none());
    assert_eq!(facts.all_at(at(0)).count(), 1);
}

#[test]
fn a_source_speaks_of_its_own_names() {
    let fits = |pattern: &str, name: &str| parsed::<NamePattern>(pattern).fits(&parsed(name));
    assert!(fits("oncall:*", "oncall:dba:primary") && fits("incident:INC-7", "incident:INC-7"));
    assert!(!fits("oncall:*", "oncal:x") && !fits("incident:INC-7", "incident:INC-71") && !fits("oncall:*", "on"));
    for pattern in ["", "*", "a*b", "**", "*:a", "a b", "-a"] {
        assert!(pattern.parse::<NamePattern>().is_err(), "{pattern:?}");
    }
}
