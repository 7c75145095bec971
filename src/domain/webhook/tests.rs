use super::*;
use crate::domain::testing::{at, parsed};

/// The standard's own example (its `v1`), and the same signed with a key by OpenSSL (`v1a`).
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TAG: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
const KEY: &str = "whpk_/RckOFqgx1tk+3jNYC+h2ZH96/drE8WO1wLqyDXp9hg=";
const SIGNATURE: &str = "v1a,03gkYlpahhMthGAtTTwC9vW82McpsIzzNS9N5imrCEcYptblB7WvlENSVkuUt+RsZKw2gHLjjOk9DTtiAg0gDA==";

fn delivery(signature: &str) -> Delivery {
    let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#.to_vec());
    Delivery::new(parsed("pager"), id, "1614265330", signature, body).unwrap()
}

fn holds(delivery: &Delivery, key: Option<&str>, secrets: &[&str]) -> bool {
    let key = key.map(parsed::<WebhookKey>);
    let secrets: Vec<_> = secrets.iter().map(|secret| WebhookSecret::parse(secret).unwrap()).collect();
    let seen = VerifiedSet::new(10);
    let first = delivery.check(key.as_ref(), &secrets, &seen);
    assert_eq!(first, delivery.check(key.as_ref(), &secrets, &seen), "what is remembered changes no answer");
    assert!(first.is_ok() || first == Err(Refusal::WebhookUnsigned));
    first.is_ok()
}

#[test]
fn signatures_are_those_of_standard_webhooks() {
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert!(holds(&delivery(TAG), None, &[SECRET]));
    assert!(holds(&delivery(TAG), None, &[other, SECRET]), "a sender that changes its secret");
    assert!(holds(&delivery(SIGNATURE), Some(KEY), &[]));
    assert!(holds(&delivery(&format!("v9,x {SIGNATURE} {TAG}")), Some(KEY), &[]));
    assert!(holds(&delivery(&format!("v1,AAAA {TAG}")), None, &[SECRET]));
    for (signature, key, secrets) in [
        ("", Some(KEY), &[SECRET][..]),
        (TAG, Some(KEY), &[]),
        (TAG, None, &[other]),
        (SIGNATURE, None, &[SECRET]),
        // A public key is no secret: nobody can sign with it.
        (&TAG.replacen("v1,", "v1a,", 1), Some(KEY), &[SECRET]),
        (&SIGNATURE.replacen("v1a,", "v1,", 1), Some(KEY), &[SECRET]),
        (&TAG[3..], None, &[SECRET]),
        ("v1,", None, &[SECRET]),
        (&format!("v1,{}", &TAG[4..]), None, &[SECRET]),
        (&format!("{}{TAG}", "v1,AAAA ".repeat(MOST_SIGNATURES)), None, &[SECRET]),
    ] {
        assert!(!holds(&delivery(signature), key, secrets), "{signature:?} with {key:?}");
    }
}

/// Each part of what was signed counts, and is part of what the message is called.
#[test]
fn another_part_is_another_message() {
    let good = delivery(&format!("{TAG} {SIGNATURE}"));
    let changed = [
        Delivery { id: parsed("msg_p5jXN8AQM9LWM0D4loKWxJel"), ..good.clone() },
        Delivery { sent: good.sent.plus(1), ..good.clone() },
        Delivery { body: br#"{"test": 2432232315}"#.to_vec(), ..good.clone() },
    ];
    for other in changed {
        assert!(!holds(&other, Some(KEY), &[SECRET]), "{other:?}");
        assert_ne!(other.digest(), good.digest());
    }
    let elsewhere = Delivery { from: parsed("other"), ..good.clone() };
    assert_ne!(elsewhere.digest(), good.digest());
    assert_eq!(Delivery { signature: String::new(), ..good.clone() }.digest(), good.digest());
}

#[test]
fn headers_have_one_form() {
    let new = |id: &str, sent: &str| Delivery::new(parsed("pager"), id, sent, "", Vec::new()).map(|_| ());
    assert_eq!(new("msg_1", "1614265330"), Ok(()));
    for id in ["", "a.b", "a b", "ä", "a\n", &"x".repeat(129)] {
        assert_eq!(new(id, "1614265330"), Err(Refusal::WebhookHeader { name: "webhook-id" }), "{id:?}");
    }
    for sent in ["", "-1", "+1", "01", "1.0", "1e3", "99999999999999999999", "9999999999999", " 1"] {
        assert_eq!(new("msg_1", sent), Err(Refusal::WebhookHeader { name: "webhook-timestamp" }), "{sent:?}");
    }
}

#[test]
fn it_counts_for_five_minutes() {
    let sent = Delivery { sent: at(0), ..delivery("") };
    assert_eq!(sent.fresh(at(-5)), Ok(()));
    assert_eq!(sent.fresh(at(-6)), Err(Refusal::WebhookFuture { seconds: 6 }));
    assert_eq!(sent.fresh(at(300)), Ok(()));
    assert_eq!(sent.fresh(at(301)), Err(Refusal::WebhookStale { seconds: 301 }));
}

#[test]
fn keys_and_secrets_are_whole() {
    for text in ["", "whpk_", "whpk_AAAA", "whsec_/RckOFqgx1tk+3jNYC+h2ZH96/drE8WO1wLqyDXp9hg=", &KEY[5..]] {
        assert!(text.parse::<WebhookKey>().is_err(), "{text:?}");
    }
    // A point of small order, with which everybody's signature holds.
    let weak = format!("whpk_{}", STANDARD.encode([&[1][..], &[0; 31]].concat()));
    assert!(weak.parse::<WebhookKey>().is_err());
    for text in ["", "whsec_", "whsec_AAAA", &SECRET[6..], &format!("whsec_{}", STANDARD.encode([7; 65]))] {
        assert!(WebhookSecret::parse(text).is_err(), "{text:?}");
    }
    assert_eq!(format!("{:?}", WebhookSecret::parse(SECRET).unwrap()), "WebhookSecret");
}
