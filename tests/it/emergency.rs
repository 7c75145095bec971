//! Breaking the glass: when it opens, when it does not, and that it needs nothing but its journal.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::journal::{Entry, NAMESPACE, Outcome};
use ssh_jit::domain::statement::{Kind, Version};
use ssh_jit::domain::time::Moment;
use ssh_jit::store::journal::{Journal, JournalError};
use ssh_key::Certificate;

use crate::support::service::{Answer, Bench, Key, policy, with};
use crate::support::wait_until;

/// The uses of emergency keys that the database has heard of.
fn imported(bench: &Bench) -> Vec<Value> {
    let found = bench.get("/v1/emergencies", &bench.session("alice")).ok().json();
    found.as_array().expect("a list").clone()
}

fn wait_for_import(bench: &Bench, count: usize) {
    let entries = || {
        let sql = "SELECT coalesce(max(value), '0') FROM meta WHERE name LIKE 'journal-imported-%'";
        bench.sql().query_row(sql, [], |row| row.get::<_, String>(0)).expect("a number")
    };
    // The first tells which keys the policy names.
    let expected = (count + 1).to_string();
    wait_until(|| entries() == expected, || format!("{} of {expected} entries were imported", entries()));
}

/// Demands that it is refused for this reason, gives nothing, and comes to be on record once: by way of the journal
/// if an emergency key tried it, else as any refusal is.
#[track_caller]
fn refuses(bench: &Bench, code: &str, act: impl FnOnce() -> Answer) {
    let (events, mut rows) = (bench.events().len(), bench.rows());
    let answer = act();
    assert!(answer.status >= 400 && answer.code() == code, "{code} expected: {answer:?}");
    let ways = [format!("refused (break-glass: {code})"), format!("break-glass-refused ({code})")];
    let told = || bench.story(events).iter().filter(|event| ways.contains(event)).count();
    wait_until(|| told() > 0, || format!("{code} is not on record: {:?}", bench.story(events)));
    bench.run(bench.service().import_journal()).expect("an import");
    assert_eq!(told(), 1, "{code} is on record once: {:?}", bench.story(events));
    let mut after = bench.rows();
    // How far the journal was read is not what anybody has.
    for rows in [&mut rows, &mut after] {
        rows.remove("meta");
    }
    assert_eq!(after, rows, "{code}: nothing changes");
}

fn parsed(answer: Answer) -> Certificate {
    Certificate::from_openssh(&answer.certificate()).expect("a certificate")
}

#[test]
fn an_emergency_key_certifies_itself() {
    let bench = Bench::new();
    let begun = bench.events().len();
    let statement = with(bench.breaking("alice", "db-prod"), &json!({"hosts": ["db2"]}));
    let certificate = parsed(bench.break_glass(&statement));
    assert_eq!(certificate.public_key(), Key::of("alice safe").public().data());
    assert_eq!(certificate.signature_key(), bench.keys().break_glass_ca.public().data());
    assert_ne!(certificate.signature_key(), bench.keys().user_ca.public().data());
    assert_eq!(certificate.valid_principals(), ["db-prod@db2"]);
    assert_eq!(certificate.valid_before() - certificate.valid_after(), 300, "five minutes unless more is asked for");
    let id = statement["id"].as_str().expect("an id");
    assert!(certificate.key_id().starts_with(&format!("BREAK-GLASS/{id}/alice/db-prod/SHA256:")));
    let extensions: Vec<_> = certificate.extensions().keys().collect();
    assert_eq!(extensions, ["permit-pty"], "forwarding would outlive it");
    wait_for_import(&bench, 1);
    assert_eq!(bench.story(begun), ["break-glass"]);
    let [used] = &imported(&bench)[..] else { panic!("one use") };
    assert_eq!((&used["id"], &used["person"], &used["review_open"]), (&json!(id), &json!("alice"), &json!(true)));
    assert_eq!(used["serial"], certificate.serial().to_string());
    assert_eq!(certificate.serial() >> 48, 2, "serials of the journal are no others' serials");
}

#[test]
fn what_does_not_break_the_glass() {
    let bench = Bench::new();
    let last = with(bench.breaking("alice", "db-prod"), &json!({"reason": "The primary is down, nobody answers"}));
    bench.break_glass(&last).ok();
    wait_for_import(&bench, 1);
    refuses(&bench, "replayed", || bench.break_glass(&last));
    let text = last.to_string();
    let again = Key::of("alice safe").sign_differently("break-glass@ssh-jit", text.as_bytes());
    refuses(&bench, "replayed", || bench.post("/v1/break-glass", &text, &again));
    let id = last["id"].clone();
    for (code, changes) in [
        ("id-taken", json!({"id": id})),
        ("reason-repeated", json!({"reason": "The primary is down, nobody answers"})),
        ("reason-repeated", json!({"reason": "the  PRIMARY is down, nobody answers"})),
        ("invalid-field", json!({"reason": "primary is down"})),
        ("invalid-field", json!({"reason": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"})),
        ("invalid-field", json!({"reason": "asap asap ASAP asap asap asap asap"})),
        ("malformed", json!({"reason": ""})),
        ("malformed", json!({"reason": "                        "})),
        ("malformed", json!({"reason": "the primary is down \u{202e} nobody answers"})),
        ("malformed", json!({"category": "boredom"})),
        ("too-long", json!({"seconds": 601})),
        ("too-long", json!({"seconds": 901})),
        ("malformed", json!({"seconds": 0})),
        ("unknown-host", json!({"hosts": ["vault1"]})),
        ("unknown-principal", json!({"principals": ["root@db1"]})),
        ("not-emergency-key", json!({"role": "web"})),
        ("not-emergency-key", json!({"role": "nothing-like-it"})),
        ("not-emergency-key", json!({"role": "vault"})),
        ("not-emergency-key", json!({"person": "carol"})),
        ("not-the-last", json!({"extends": bench.id()})),
        ("invalid-field", json!({"reason": "I need access, please, now, ASAP!"})),
        ("stale", json!({"at": bench.at(-61)})),
        ("future", json!({"at": bench.at(6)})),
        ("other-instance", json!({"instance": "00000000000000000000000000000000"})),
    ] {
        let statement = with(bench.breaking("alice", "db-prod"), &changes).to_string();
        refuses(&bench, code, || bench.send_text(Kind::BreakGlass, &Key::of("alice safe"), &statement));
    }
    for key in ["alice", "bob", "carol safe", "mallory"] {
        let statement = bench.breaking("alice", "db-prod");
        refuses(&bench, "not-emergency-key", || bench.send(Kind::BreakGlass, &Key::of(key), &statement));
    }
    let text = bench.breaking("alice", "db-prod").to_string();
    let other = Key::of("alice safe").sign("break-glass@ssh-jit", format!("{text} ").as_bytes());
    refuses(&bench, "bad-signature", || bench.post("/v1/break-glass", &text, &other));
    // An emergency key does nothing else.
    let request = bench.request("alice", "web").0;
    bench.refuses("unknown-key", || bench.send(Kind::Request, &Key::of("alice safe"), &request));
    bench.load_policy(&format!("revoked_keys = [{:?}]\n{}", Key::of("alice safe").line(), policy()));
    refuses(&bench, "not-emergency-key", || bench.break_glass(&bench.breaking("alice", "db-prod")));
    bench.load_policy(&policy());
    bench.break_glass(&with(bench.breaking("alice", "db-prod"), &json!({"seconds": 600}))).ok();
}

/// Who has no emergency key cannot make the journal grow, which must have room when it is needed.
#[test]
fn strangers_write_nothing_into_the_journal() {
    let bench = Bench::new();
    let length = || fs::metadata(bench.journal()).expect("the journal").len();
    let before = length();
    for key in ["alice", "carol safe", "mallory"] {
        let statement = bench.breaking("alice", "db-prod");
        refuses(&bench, "not-emergency-key", || bench.send(Kind::BreakGlass, &Key::of(key), &statement));
        assert_eq!(length(), before, "{key}");
    }
    let statement = with(bench.breaking("alice", "db-prod"), &json!({"seconds": 601}));
    refuses(&bench, "too-long", || bench.break_glass(&statement));
    assert!(length() > before, "what a registered key tries is there");
}

/// And who has one cannot fill it with what is refused: the log takes the rest, which is bounded by the minute.
#[test]
fn refusals_do_not_fill_the_journal() {
    let mut bench = Bench::new();
    let too_long = |bench: &Bench| with(bench.breaking("alice", "db-prod"), &json!({"seconds": 601}));
    let statement = too_long(&bench).to_string();
    let signature = Key::of("alice safe").sign("break-glass@ssh-jit", statement.as_bytes());
    bench.stop();
    let (keys, path) = (bench.keys(), bench.journal());
    let mut journal = Journal::open(&path, keys.journal.public()).expect("a journal");
    for _ in 0..999 {
        let (seq, prev) = journal.replay().next();
        let (statement, signature, policy) = (statement.clone(), signature.clone(), Digest::of(b""));
        let (at, outcome) = (Moment::from_unix_millis(0), Outcome::Refused { code: "too-long".to_owned() });
        let (second, from) = (None, None);
        let entry = Entry { v: Version, epoch: 2, seq, prev, at, statement, signature, second, from, policy, outcome };
        let signed = keys.journal.sign(NAMESPACE, entry.to_bytes()).expect("a signature");
        journal.append(&signed, keys.journal.public()).expect("an entry");
    }
    drop(journal);
    bench.start(&policy()).expect("a start");
    let length = || fs::metadata(&path).expect("the journal").len();
    let mut lengths = vec![length()];
    for _ in 0..2 {
        refuses(&bench, "too-long", || bench.break_glass(&too_long(&bench)));
        lengths.push(length());
    }
    assert!(lengths[0] < lengths[1] && lengths[1] == lengths[2], "the thousandth is the last: {lengths:?}");
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    refuses(&bench, "too-long", || bench.break_glass(&too_long(&bench)));
    assert!(length() > lengths[2], "after a use they are written again");
}

/// The last reason and what was used are known after a restart, too: the journal says so.
#[test]
fn the_journal_remembers() {
    let mut bench = Bench::new();
    let first = bench.breaking("alice", "db-prod");
    let serial = parsed(bench.break_glass(&first)).serial();
    bench.restart();
    refuses(&bench, "replayed", || bench.break_glass(&first));
    let same_reason = with(bench.breaking("alice", "db-prod"), &json!({"reason": first["reason"]}));
    refuses(&bench, "reason-repeated", || bench.break_glass(&same_reason));
    assert_eq!(parsed(bench.break_glass(&bench.breaking("alice", "db-prod"))).serial(), serial + 1);
    assert_eq!(parsed(bench.break_glass(&bench.breaking("carol", "vault"))).serial(), serial + 2);
    bench.run(bench.service().import_journal()).expect("an import");
    assert_eq!(imported(&bench).len(), 3);
}

#[test]
fn somebody_else_closes_the_review() {
    let bench = Bench::new();
    let used = [bench.breaking("carol", "vault"), bench.breaking("alice", "db-prod")];
    for statement in &used {
        bench.break_glass(statement).ok();
    }
    wait_for_import(&bench, 2);
    let digest = |statement: &Value| Digest::of(statement.to_string().as_bytes());
    let review = |person: &str, statement: &Value, changes: &Value| {
        let fields = json!({"break_glass": digest(statement), "id": statement["id"], "outcome": "justified",
            "comment": "the incident report is INC-412"});
        bench.send(Kind::Review, &Key::of(person), &with(with(bench.draft(Kind::Review, person), &fields), changes))
    };
    let none = json!({});
    for person in ["alice", "bob", "erin", "robot"] {
        bench.refuses("no-duty", || review(person, &used[0], &none));
    }
    bench.refuses("self-approval", || review("carol", &used[0], &none));
    bench.refuses("other-request", || review("dan", &used[0], &json!({"break_glass": digest(&used[1])})));
    bench.refuses("unknown-request", || review("dan", &used[0], &json!({"id": bench.id()})));
    bench.refuses("malformed", || review("dan", &used[0], &json!({"comment": ""})));
    bench.refuses("malformed", || review("dan", &used[0], &json!({"outcome": "fine"})));
    let begun = bench.events().len();
    assert_eq!(review("dan", &used[0], &none).ok().status, 204);
    assert_eq!(review("carol", &used[1], &json!({"outcome": "misuse"})).ok().status, 204);
    assert_eq!(bench.story(begun), ["reviewed (justified)", "reviewed (misuse)"]);
    bench.refuses("not-pending", || review("dan", &used[0], &none));
    bench.refuses("not-pending", || review("frank", &used[0], &json!({"outcome": "misuse"})));
    assert!(imported(&bench).iter().all(|used| used["review_open"] == false));
    let open = bench.get("/v1/emergencies?open=true", &bench.session("bob")).ok().json();
    assert_eq!(open, json!([]));
}

/// The file descriptor of the open journal.
fn descriptor(journal: &Path) -> i32 {
    let open = fs::read_dir("/proc/self/fd").expect("open files").flatten();
    let mut journals = open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == journal));
    let found = journals.next().expect("the journal is open");
    found.file_name().to_string_lossy().parse().expect("a number")
}

/// Makes every further write to an open file fail, as on a disk that is full.
fn fill_disk_under(journal: &Path) {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    #[expect(unsafe_code, reason = "only dup2 changes what an open descriptor leads to; both are open here")]
    // SAFETY: both descriptors are open, and the journal's owner goes on to own its own.
    let outcome = unsafe { libc::dup2(full.as_raw_fd(), descriptor(journal)) };
    assert!(outcome >= 0);
}

/// Rule 5: if the reason cannot be made durable, there is no certificate.
#[test]
fn without_a_journal_no_glass_breaks() {
    let mut bench = Bench::new();
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    wait_for_import(&bench, 1);
    let (before, rows) = (fs::read(bench.journal()).unwrap(), bench.rows());
    fill_disk_under(&bench.journal());
    for _ in 0..2 {
        let answer = bench.break_glass(&bench.breaking("alice", "db-prod"));
        assert_eq!((answer.status, answer.code().as_str()), (503, "journal"));
        assert!(!answer.body.contains("cert"), "{answer:?}");
    }
    // A refusal of a registered key is journaled as well, or it is not answered.
    let answer = bench.break_glass(&with(bench.breaking("alice", "db-prod"), &json!({"seconds": 601})));
    assert_eq!(answer.code(), "journal");
    assert_eq!((fs::read(bench.journal()).unwrap(), bench.rows()), (before, rows));
    // The ordinary path does not depend on it.
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 60}));
    bench.claim(&asked).ok();
    bench.restart();
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
}

/// Design, 4: it depends on nothing that can be down when it is needed.
#[test]
fn the_database_may_be_stuck() {
    let bench = Bench::new();
    let other = bench.sql();
    other.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    let start = Instant::now();
    let certificate = parsed(bench.break_glass(&bench.breaking("alice", "db-prod")));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(certificate.key_id().starts_with("BREAK-GLASS/"));
    let answer = bench.break_glass(&with(bench.breaking("alice", "db-prod"), &json!({"seconds": 601})));
    assert_eq!(answer.code(), "too-long");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    other.execute_batch("ROLLBACK").expect("no lock");
    wait_for_import(&bench, 2);
    assert_eq!(imported(&bench).len(), 1);
}

/// What was journaled while the database was away is imported by the next start.
#[test]
fn the_database_catches_up() {
    let mut bench = Bench::new();
    bench.stop();
    let elsewhere = Bench::new();
    drop(elsewhere);
    bench.start(&policy()).expect("a start");
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    wait_for_import(&bench, 1);
    bench.stop();
    let undo = "DELETE FROM emergencies; DELETE FROM meta WHERE name LIKE 'journal-imported-%';
        DELETE FROM statements WHERE kind = 'break-glass'";
    bench.tamper();
    bench.sql().execute_batch(undo).expect("as if never imported");
    bench.start(&policy()).expect("a start");
    assert_eq!(imported(&bench).len(), 1);
}

/// A journal of the policy's keys, three uses and one refusal.
fn journal() -> (Bench, PathBuf, String) {
    let mut bench = Bench::new();
    for person in ["alice", "carol", "alice"] {
        let role = if person == "alice" { "db-prod" } else { "vault" };
        bench.break_glass(&bench.breaking(person, role)).ok();
    }
    let refused = with(bench.breaking("alice", "db-prod"), &json!({"seconds": 601}));
    assert_eq!(bench.break_glass(&refused).code(), "too-long");
    wait_for_import(&bench, 4);
    bench.stop();
    let path = bench.journal();
    let text = fs::read_to_string(&path).expect("the journal");
    assert_eq!(text.lines().count(), 5);
    (bench, path, text)
}

fn damaged_at(bench: &Bench) -> Option<usize> {
    match Journal::open(&bench.journal(), bench.keys().journal.public()) {
        Ok(_) => None,
        Err(JournalError::Damaged { line, .. }) => Some(line),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_damaged_journal_names_its_line() {
    let (bench, path, text) = journal();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(damaged_at(&bench), None);
    let flipped = |line: usize, old: &str, new: &str| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        assert!(lines[line].contains(old), "{old}");
        lines[line] = lines[line].replacen(old, new, 1);
        lines.concat()
    };
    let table = [
        (1, flipped(0, "carol", "carom")),
        (2, flipped(1, "primary", "Primary")),
        (4, flipped(3, "alice", "alicf")),
        (3, flipped(2, "SHA256:", "SHA256;")),
        (5, flipped(4, "too-long", "too-lonf")),
        (5, flipped(4, "SSH SIGNATURE", "SSH SIGNATURF")),
        (3, [lines[0], lines[1], lines[3], lines[4]].concat()),
        (1, lines[1..].concat()),
        (3, [lines[0], lines[1], lines[3], lines[2], lines[4]].concat()),
        (1, [lines[1], lines[0], lines[2], lines[3]].concat()),
        (3, [lines[0], lines[1], lines[1], lines[2]].concat()),
        (6, text.clone() + lines[4]),
        (6, text.clone() + "{}\n"),
        (6, text.clone() + "\n"),
        (3, [lines[0], lines[1], "\n", lines[2]].concat()),
        (4, [lines[0], lines[1], lines[2], &lines[3][..lines[3].len() / 2], "\n", lines[4]].concat()),
    ];
    for (line, content) in table {
        fs::write(&path, &content).unwrap();
        assert_eq!(damaged_at(&bench), Some(line), "{content}");
    }
    // Another service's journal is not ours.
    let (other, _, _) = journal();
    fs::copy(other.journal(), &path).unwrap();
    assert_eq!(damaged_at(&bench), Some(1));
}

/// A last line that a crash cut off was never acted on.
#[test]
fn an_unfinished_line_is_cut_away() {
    let (mut bench, path, text) = journal();
    let last = text.trim_end().rfind('\n').expect("lines") + 1;
    for cut in [1, 10, (text.len() - last) / 2, text.len() - last] {
        fs::write(&path, text.clone() + &text[last..][..cut - usize::from(cut == text.len() - last)]).unwrap();
        assert_eq!(damaged_at(&bench), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{cut} bytes more");
    }
    bench.start(&policy()).expect("a start");
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    wait_for_import(&bench, 5);
}

/// I12: a journal that lost its end, which the database remembers, would give its serials twice.
#[test]
fn a_journal_that_lost_its_end_is_refused() {
    let (mut bench, path, text) = journal();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for kept in 1..5 {
        fs::write(&path, lines[..kept].concat()).unwrap();
        let error = bench.start(&policy()).expect_err("entries are missing").to_string();
        assert!(error.contains(&format!("ends at entry {kept}")) && error.contains("entry 5"), "{error}");
    }
    fs::write(&path, &text).unwrap();
    bench.start(&policy()).expect("a start");
}

/// After a damaged journal there must be a way on: a new one, with serials of its own. The old one is
/// evidence then, and not written any more.
#[test]
fn a_new_journal_gives_other_serials() {
    let (mut bench, path, text) = journal();
    fs::write(&path, "").unwrap();
    bench.start(&policy()).expect("a start");
    let certificate = parsed(bench.break_glass(&bench.breaking("alice", "db-prod")));
    assert_eq!(certificate.serial(), 3 << 48 | 1);
    let imported = || bench.events().iter().any(|event| event.serial.is_some_and(|s| s.number() == 3 << 48 | 1));
    wait_until(imported, || "the new journal's entry was not imported".to_owned());
    bench.stop();
    fs::write(&path, &text).unwrap();
    let error = bench.start(&policy()).expect_err("a newer one was begun").to_string();
    assert!(error.contains("journal is number 2, and a newer one was begun"), "{error}");
}

#[test]
fn a_journal_is_a_file_of_ones_own() {
    let (bench, path, text) = journal();
    let key = bench.keys();
    let elsewhere = bench.folder().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(Journal::open(&path, key.journal.public()).is_err(), "a link is not followed");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(Journal::open(&path, key.journal.public()).is_err(), "a folder is no journal");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), text);
}
