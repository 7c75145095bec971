use proptest::prelude::*;

use super::*;
use crate::domain::testing::{NOW, instance, stranger, user_ca};

fn serial(number: u64) -> Serial {
    Serial::from_number(number).unwrap()
}

/// Serials of the first epoch, by their counters.
fn counters(counters: impl IntoIterator<Item = u64>) -> BTreeSet<Serial> {
    counters.into_iter().map(|counter| Serial::new(1, counter).unwrap()).collect()
}

fn krl(serials: BTreeSet<Serial>) -> Krl {
    let of_ca = OfCa { ca: user_ca().public(), serials, key_ids: BTreeSet::new() };
    let generated = Timestamp::from_unix(NOW);
    Krl { number: 7, generated, instance: instance(), certificates: vec![of_ca], keys: BTreeSet::new() }
}

/// What a list of one CA says, read by the letter of PROTOCOL.krl: its serials, and the kinds of its sections.
fn decoded(bytes: &[u8]) -> (BTreeSet<u64>, Vec<u8>) {
    let mut rest = &bytes[8 + 4 + 8 + 8 + 8..];
    take_string(&mut rest).unwrap();
    take_string(&mut rest).unwrap();
    let (mut serials, mut kinds) = (BTreeSet::new(), Vec::new());
    while !rest.is_empty() {
        let [kind] = take(&mut rest).unwrap();
        assert_eq!(kind, CERTIFICATES);
        let mut inner = take_string(&mut rest).unwrap();
        take_string(&mut inner).unwrap();
        take_string(&mut inner).unwrap();
        while !inner.is_empty() {
            let [kind] = take(&mut inner).unwrap();
            let mut content = take_string(&mut inner).unwrap();
            kinds.push(kind);
            serials.extend(serials_of(kind, &mut content));
        }
    }
    (serials, kinds)
}

fn serials_of(kind: u8, content: &mut &[u8]) -> Vec<u64> {
    let number = |content: &mut &[u8]| u64::from_be_bytes(take(content).unwrap());
    match kind {
        SERIAL_LIST => std::iter::from_fn(|| (!content.is_empty()).then(|| number(content))).collect(),
        SERIAL_RANGE => (number(content)..=number(content)).collect(),
        SERIAL_BITMAP => {
            let offset = number(content);
            let bits = take_string(content).unwrap();
            assert!(bits[0] < 0x80, "an mpint that is positive");
            assert!(bits[0] > 0 || bits[1] >= 0x80, "and no longer than it must be");
            let bit = |n: u64| bits[bits.len() - 1 - (n / 8) as usize] >> (n % 8) & 1 == 1;
            (0..8 * bits.len() as u64).filter(|n| bit(*n)).map(|n| offset + n).collect()
        }
        other => panic!("{other}"),
    }
}

proptest! {
    /// Exactly the serials that went in come out, and never at a greater length than a plain list has.
    #[test]
    fn every_serial_is_revoked_and_no_other(
        dense in proptest::collection::btree_set(1..3_000u64, 0..400),
        scattered in proptest::collection::btree_set(1..1u64 << 48, 0..40),
        (low, length) in (1..1u64 << 40, 0..2_000u64),
    ) {
        let all = dense.into_iter().chain(scattered).chain(low..low + length);
        let serials = counters(all);
        let bytes = krl(serials.clone()).to_bytes();
        let wanted: BTreeSet<u64> = serials.iter().map(|serial| serial.number()).collect();
        prop_assert!(bytes.len() <= krl(BTreeSet::new()).to_bytes().len() + 100 + 8 * wanted.len());
        prop_assert_eq!(decoded(&bytes).0, wanted);
        prop_assert!(Header::read(&bytes).is_ok());
    }

    /// Nothing that was cut off or added passes for a list, and nothing makes the reader panic.
    #[test]
    fn what_is_not_whole_is_no_list(at in 0..10_000usize, flip in any::<u8>(), more in proptest::collection::vec(any::<u8>(), 1..4)) {
        let bytes = krl(counters((1..40).map(|n| n * n))).to_bytes();
        let cut = at % bytes.len();
        // Between two sections it could end: that is for the signature to tell.
        prop_assert_eq!(Header::read(&bytes[..cut]).is_ok(), cut == empty_length());
        prop_assert!(Header::read(&[&bytes[..], &more].concat()).is_err());
        let mut changed = bytes.clone();
        changed[cut] ^= flip;
        let _ = Header::read(&changed);
    }
}

fn empty_length() -> usize {
    krl(BTreeSet::new()).to_bytes().len()
}

#[test]
fn each_run_has_its_shortest_form() {
    let kinds = |serials: BTreeSet<Serial>| decoded(&krl(serials).to_bytes()).1;
    assert_eq!(kinds(counters([5])), [SERIAL_LIST]);
    assert_eq!(kinds(counters([5, 900, 1 << 40])), [SERIAL_LIST]);
    assert_eq!(kinds(counters(5..90_000)), [SERIAL_RANGE]);
    assert_eq!(kinds(counters((0..100).map(|n| 3 * n + 1))), [SERIAL_BITMAP]);
    // 16,384 bits and no more.
    assert_eq!(kinds(counters((0..20_000).map(|n| 2 * n + 1))), [SERIAL_BITMAP; 3]);
    let mixed = (5..90_000).chain((0..100).map(|n| 200_000 + 3 * n)).chain([1 << 40]);
    assert_eq!(kinds(counters(mixed)), [SERIAL_RANGE, SERIAL_BITMAP, SERIAL_LIST]);
    assert_eq!(kinds(BTreeSet::from([serial((1 << 63) - 1)])), [SERIAL_LIST], "the last serial there is");
}

#[test]
fn a_header_says_what_the_list_is() {
    let header = Header::read(&krl(counters([1, 2, 3])).to_bytes()).unwrap();
    let generated = Timestamp::from_unix(NOW);
    assert_eq!(header, Header { number: 7, generated, comment: instance().to_string() });
    let mut with_all = krl(counters(1..4));
    with_all.certificates[0].key_ids = BTreeSet::from(["ssh-jit/A/b/c".to_owned()]);
    with_all.keys = BTreeSet::from([stranger().public().fingerprint()]);
    assert!(Header::read(&with_all.to_bytes()).is_ok());
}

#[test]
fn what_is_no_list_is_told_apart() {
    let good = krl(counters([1])).to_bytes();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Header::read(&bytes)
    };
    assert_eq!(Header::read(b""), Err(BadKrl::Empty));
    assert_eq!(Header::read(b"SSHKRL"), Err(BadKrl::NotAKrl));
    assert_eq!(changed(0, b's'), Err(BadKrl::NotAKrl));
    assert_eq!(changed(11, 2), Err(BadKrl::Version));
    assert_eq!(changed(empty_length(), 4), Err(BadKrl::NotAKrl), "a section that sshd refuses");
    assert_eq!(changed(good.len() - 13, 0x39), Err(BadKrl::NotAKrl), "an extension that sshd may refuse");
    assert_eq!(Header::read(&good[..good.len() - 1]), Err(BadKrl::NotWhole));
    assert_eq!(Header::read(&[&good[..], &[0]].concat()), Err(BadKrl::NotWhole));
}

/// 100,000 serials as far apart as can be take less than a megabyte.
#[test]
fn a_large_list_stays_small() {
    let bytes = krl(counters((0..100_000).map(|n| 1_000 * n + 1))).to_bytes();
    assert!(bytes.len() < 1_000_000, "{}", bytes.len());
    let bytes = krl(counters((0..100_000).map(|n| 5 * n + 1))).to_bytes();
    assert!(bytes.len() < 80_000, "{}", bytes.len());
}
