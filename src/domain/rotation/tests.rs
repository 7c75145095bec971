//! What comes next, and what it waits for.

use super::*;
use crate::domain::host_status::HostStatusTag;
use crate::domain::statement::Version;
use crate::domain::testing::*;
use crate::domain::trust::{NAMESPACE, TrustTag};

fn key(seed: u8) -> PublicKey {
    Key::from_seed(seed).public()
}

fn trust(user_ca: &[PublicKey]) -> Trust {
    Trust {
        v: Version,
        kind: TrustTag::Trust,
        instance: instance(),
        number: 1,
        previous: None,
        user_ca: user_ca.to_vec(),
        break_glass_ca: vec![key(22)],
        host_ca: vec![key(23)],
        krl_key: key(24),
        journal_key: key(25),
        log_key: key(26),
        at: at(0),
    }
}

/// Documents with these user CAs, each signed by the first of the one before.
fn chain(all: &[&[u8]]) -> Chain {
    let mut chain: Option<Chain> = None;
    for (at_, seeds) in (0..).zip(all) {
        let cas: Vec<PublicKey> = seeds.iter().map(|seed| key(*seed)).collect();
        let signer = Key::from_seed(if at_ == 0 { seeds[0] } else { all[at_ - 1][0] });
        let document = match &chain {
            None => trust(&cas),
            Some(chain) => Trust { user_ca: cas, ..chain.newest().next(chain.signed().digest(), at(60)) },
        };
        let signed = signer.sign(NAMESPACE, &serde_json::to_vec(&document).unwrap());
        chain = Some(match chain {
            None => Chain::first_contact(signed).unwrap(),
            Some(chain) => chain.forward(&[signed]).unwrap(),
        });
    }
    chain.unwrap()
}

fn status(host: &str, trust: u64) -> HostStatus {
    let (instance, host) = (instance(), parsed(host));
    HostStatus { v: Version, kind: HostStatusTag::HostStatus, instance, host, trust, krl: 1, at: at(-30) }
}

fn progress(taken: u64, hosts: &[(&str, Option<u64>)], last_end: Option<i64>) -> Progress {
    let said = |(name, trust): &(&str, Option<u64>)| (parsed(name), trust.map(|trust| status(name, trust)));
    Progress { taken, hosts: hosts.iter().map(said).collect(), last_end: last_end.map(at), now: at(0) }
}

/// Killed before any step and after it, the next one is the same: from documents and files alone.
#[test]
fn what_comes_next_is_read_from_documents_and_keys() {
    let (old, new) = (key(1), key(2));
    let next = |cas: &[PublicKey], held: &[PublicKey]| Step::next(&trust(cas), CaRole::User, held);
    let both = [old.clone(), new.clone()];
    let one = |key: &PublicKey| vec![key.clone()];
    assert_eq!(next(&one(&old), &one(&old)), Step::Announce { made: None });
    assert_eq!(next(&one(&old), &both), Step::Announce { made: Some(new.clone()) }, "made, and not announced");
    assert_eq!(next(&both, &both), Step::Activate { next: new.clone() });
    assert_eq!(next(&[new.clone(), old.clone()], &both), Step::Retire { old: one(&old) });
    assert_eq!(next(&one(&new), &both), Step::Announce { made: None }, "retired, and not removed");
    assert_eq!(next(&one(&new), &one(&new)), Step::Announce { made: None });
    // One that is held elsewhere is none of a rotation's.
    let sealed = key(3);
    assert_eq!(next(&[old.clone(), sealed.clone()], &one(&old)), Step::Announce { made: None });
    assert_eq!(next(&[new.clone(), sealed, old.clone()], &both), Step::Retire { old: one(&old) });
    let third = key(4);
    let all = [old.clone(), new.clone(), third];
    assert_eq!(next(&[new, old.clone()], &all), Step::Retire { old: one(&old) }, "one after the other");
}

#[test]
fn a_new_key_signs_when_everybody_knows_it() {
    let announced = chain(&[&[1], &[1, 2]]);
    let step = Step::Activate { next: key(2) };
    let waits =
        |taken, hosts: &[(&str, Option<u64>)]| step.waits(&announced, CaRole::User, &progress(taken, hosts, None));
    let behind = |host: &str, document: Option<u64>| Wait::Host {
        host: parsed(host),
        document,
        heard: document.map(|_| at(-30)),
    };
    assert_eq!(waits(2, &[]), []);
    assert_eq!(waits(2, &[("db1", Some(2)), ("db2", Some(3))]), []);
    assert_eq!(waits(1, &[]), [Wait::Service { document: 2, taken: 1 }]);
    assert_eq!(
        waits(2, &[("db1", Some(1)), ("db2", Some(2)), ("db3", None)]),
        [behind("db1", Some(1)), behind("db3", None)]
    );
    // What else became of the document since does not matter.
    let later = chain(&[&[1], &[1, 2], &[1, 2]]);
    assert_eq!(step.waits(&later, CaRole::User, &progress(2, &[("db1", Some(2))], None)), []);
    assert_eq!(Step::Announce { made: None }.waits(&later, CaRole::User, &progress(1, &[("db1", None)], None)), []);
}

#[test]
fn an_old_key_goes_after_its_last_certificate() {
    let activated = chain(&[&[1], &[1, 2], &[2, 1]]);
    let step = Step::Retire { old: vec![key(1)] };
    let waits = |taken, end| step.waits(&activated, CaRole::User, &progress(taken, &[("db1", Some(2))], end));
    assert_eq!(waits(3, None), [], "a host that is behind trusts the new key, too");
    assert_eq!(waits(3, Some(0)), []);
    assert_eq!(waits(3, Some(1)), [Wait::Certificate { until: at(1) }]);
    assert_eq!(waits(2, None), [Wait::Service { document: 3, taken: 2 }], "it may still sign with the old one");
}
