//! Whoever can write the database can deny service, but issue nothing: each row that is changed has a
//! twin that is not, and the twin's claim goes through.

mod every_cell;
mod mending;

use rusqlite::Connection;
use serde_json::json;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::sshsig::SshSig;
use ssh_jit::domain::statement::Kind;

use crate::support::service::{Asked, Bench, Key, with};

/// Two requests of the same kind; the bench will not be whole at the end.
fn twins(person: &str, role: &str) -> (Bench, Asked, Asked) {
    let mut bench = Bench::new();
    bench.tamper();
    let (victim, twin) = (bench.ask(person, role, &json!({})), bench.ask(person, role, &json!({})));
    (bench, victim, twin)
}

/// Writes with every constraint switched off that can be.
fn write(bench: &Bench, sql: &str, values: impl rusqlite::Params) {
    let connection = bench.sql();
    connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").expect("pragmas");
    let changed = connection.execute(sql, values).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert!(changed > 0, "{sql}");
}

fn certificates(bench: &Bench) -> i64 {
    bench.sql().query_row("SELECT count(*) FROM certificates", [], |row| row.get(0)).expect("a number")
}

/// No certificate, whatever the answer is called.
#[track_caller]
fn claim_fails(bench: &Bench, asked: &Asked, codes: &[&str]) {
    let before = certificates(bench);
    let answer = bench.claim(asked);
    assert!(answer.status >= 400 && codes.contains(&answer.code().as_str()), "{codes:?} expected: {answer:?}");
    assert_eq!(certificates(bench), before);
}

/// Puts a statement into the store as if it had been accepted.
fn plant(connection: &Connection, kind: Kind, key: &Key, text: &str) -> Digest {
    let digest = Digest::of(text.as_bytes());
    let signature = SshSig::from_armor(&key.sign(kind.namespace(), text.as_bytes())).expect("a signature");
    let sql = "INSERT INTO statements (sha256, kind, bytes, signature) VALUES (?1, ?2, ?3, ?4)";
    let values = (digest.as_bytes(), kind.as_str(), text.as_bytes(), signature.blob());
    connection.execute(sql, values).expect("planted");
    digest
}

#[test]
fn the_word_approved_is_no_approval() {
    let (bench, victim, twin) = twins("alice", "web");
    let sql = "UPDATE requests SET state = 'approved', claim_by = 9999999999 WHERE id = ?1";
    write(&bench, sql, [&victim.id]);
    claim_fails(&bench, &victim, &["not-enough-approvals"]);
    bench.approve("carol", &twin).ok();
    bench.claim(&twin).ok();
}

#[test]
fn erased_approvals_are_missing() {
    let (bench, victim, twin) = twins("alice", "web");
    for asked in [&victim, &twin] {
        bench.approve("carol", asked).ok();
    }
    write(&bench, "DELETE FROM decisions WHERE request = ?1", [&victim.id]);
    claim_fails(&bench, &victim, &["not-enough-approvals"]);
    bench.claim(&twin).ok();
}

#[test]
fn approvals_of_others_do_not_help() {
    let (bench, victim, twin) = twins("alice", "web");
    bench.approve("carol", &twin).ok();
    write(&bench, "UPDATE requests SET state = 'approved', claim_by = 9999999999 WHERE id = ?1", [&victim.id]);
    // The twin's approval, shown as the victim's.
    let connection = bench.sql();
    connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    let sql = "UPDATE decisions SET request = ?1 WHERE request = ?2";
    connection.execute(sql, [&victim.id, &twin.id]).unwrap();
    claim_fails(&bench, &victim, &["other-request"]);
    connection.execute(sql, [&twin.id, &victim.id]).unwrap();
    bench.claim(&twin).ok();
}

/// Approvals that nobody entitled signed, in the place of ones that somebody did.
#[test]
fn planted_approvals_are_not_entitled() {
    let forged = |by: &str, key: &str| {
        let (bench, victim, twin) = twins("carol", "web");
        let text = bench.approval(by, &victim).to_string();
        let connection = bench.sql();
        let digest = plant(&connection, Kind::Approval, &Key::of(key), &text);
        let sql = "INSERT INTO decisions (request, person, decision, statement) VALUES (?1, ?2, 'approve', ?3)";
        connection.execute(sql, (&victim.id, "dan", digest.as_bytes())).unwrap();
        write(&bench, "UPDATE requests SET state = 'approved', claim_by = 9999999999 WHERE id = ?1", [&victim.id]);
        bench.approve("dan", &twin).ok();
        bench.claim(&twin).ok();
        (bench, victim)
    };
    for (code, by, key) in [
        ("self-approval", "carol", "carol"),
        ("self-approval", "carol", "carol 2"),
        ("not-approver", "alice", "alice"),
        ("not-approver", "erin", "erin"),
        ("not-their-key", "dan", "carol"),
        ("unknown-key", "dan", "mallory"),
        ("service-decides", "robot", "robot"),
        ("unknown-person", "mallory", "mallory"),
    ] {
        let (bench, victim) = forged(by, key);
        claim_fails(&bench, &victim, &[code]);
    }
    let (bench, victim) = forged("dan", "dan");
    // Signed by Dan himself: that is an approval, wherever it lay.
    bench.claim(&victim).ok();
}

#[test]
fn one_approval_shown_twice_is_one() {
    let (bench, victim, twin) = twins("alice", "vault");
    for asked in [&victim, &twin] {
        bench.approve("carol", asked).ok();
    }
    let connection = bench.sql();
    let second = with(bench.approval("carol", &victim), &json!({"comment": "again"})).to_string();
    let digest = plant(&connection, Kind::Approval, &Key::of("carol 2"), &second);
    let sql = "INSERT INTO decisions (request, person, decision, statement) VALUES (?1, 'dan', 'approve', ?2)";
    connection.execute(sql, (&victim.id, digest.as_bytes())).unwrap();
    write(&bench, "UPDATE requests SET state = 'approved', claim_by = 9999999999 WHERE id = ?1", [&victim.id]);
    claim_fails(&bench, &victim, &["not-enough-approvals"]);
    bench.approve("dan", &twin).ok();
    bench.claim(&twin).ok();
}

/// Another statement in the place of the request: an older one of the same person, or a new one.
#[test]
fn swapped_requests_are_found_out() {
    let (bench, victim, twin) = twins("alice", "web");
    for asked in [&victim, &twin] {
        bench.approve("carol", asked).ok();
    }
    let connection = bench.sql();
    let wider = |changes: &serde_json::Value| with(bench.request("alice", "web").0, changes).to_string();
    let key = victim.subject.line();
    for (codes, text) in [
        (["store"], wider(&json!({"key": key}))),
        (["other-request"], wider(&json!({"key": key, "id": victim.id, "seconds": 14400}))),
        (["other-request"], wider(&json!({"key": key, "id": victim.id, "principals": ["www"]}))),
    ] {
        let digest = plant(&connection, Kind::Request, &Key::of("alice"), &text);
        write(&bench, "UPDATE requests SET statement = ?2 WHERE id = ?1", (&victim.id, digest.as_bytes()));
        // By the claim of the new bytes, too.
        claim_fails(&bench, &victim, &codes);
        let claim = with(bench.claiming(&victim), &json!({"request": digest}));
        let answer = bench.send(Kind::Claim, &victim.subject, &claim);
        assert!(codes.contains(&answer.code().as_str()), "{answer:?}");
    }
    // A request that Alice did not sign.
    let text = wider(&json!({"key": key, "id": victim.id}));
    let digest = plant(&connection, Kind::Request, &Key::of("mallory"), &text);
    write(&bench, "UPDATE requests SET statement = ?2 WHERE id = ?1", (&victim.id, digest.as_bytes()));
    claim_fails(&bench, &victim, &["unknown-key"]);
    bench.claim(&twin).ok();
}

#[test]
fn altered_bytes_are_found_out() {
    let (mut bench, victim, twin) = twins("alice", "web");
    for asked in [&victim, &twin] {
        bench.approve("carol", asked).ok();
    }
    let of = |table: &str, column: &str| format!("SELECT statement FROM {table} WHERE {column} = '{}'", victim.id);
    let saved: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = {
        let connection = bench.sql();
        let sql = format!(
            "SELECT sha256, bytes, signature FROM statements WHERE sha256 IN ({} UNION {})",
            of("requests", "id"),
            of("decisions", "request")
        );
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(saved.len(), 2);
    let restore = "UPDATE statements SET bytes = ?2, signature = ?3 WHERE sha256 = ?1";
    for (sha256, bytes, signature) in &saved {
        let mut other = bytes.clone();
        let last = other.len() - 2;
        other[last] ^= 1;
        write(&bench, restore, (sha256, &other, signature));
        claim_fails(&bench, &victim, &["store"]);
        let mut other = signature.clone();
        let last = other.len() - 1;
        other[last] ^= 1;
        write(&bench, restore, (sha256, bytes, &other));
        bench.restart();
        claim_fails(&bench, &victim, &["bad-signature", "store"]);
        write(&bench, restore, (sha256, bytes, signature));
    }
    bench.claim(&twin).ok();
    bench.claim(&victim).ok();
}

/// The columns say when it can be claimed; the statements say so, too, and count.
#[test]
fn columns_do_not_give_time() {
    let (bench, victim, twin) = twins("alice", "web");
    for asked in [&victim, &twin] {
        bench.decide("carol", asked, &json!({"claim_by": bench.at(600)})).ok();
    }
    write(&bench, "UPDATE requests SET claim_by = 9999999999, decide_by = 9999999999 WHERE id = ?1", [&victim.id]);
    bench.advance(600);
    bench.claim(&twin).ok();
    bench.advance(1);
    claim_fails(&bench, &victim, &["lapsed"]);
}

/// Stored bytes are never signed as they stand.
#[test]
fn planted_certificates_are_not_signed() {
    let (bench, victim, twin) = twins("alice", "web");
    for asked in [&victim, &twin] {
        bench.approve("carol", asked).ok();
    }
    let certificate = bench.claim(&victim).certificate();
    bench.claim(&twin).ok();
    let tbs: Vec<u8> = bench
        .sql()
        .query_row("SELECT tbs FROM certificates WHERE request = ?1", [&victim.id], |row| row.get(0))
        .unwrap();
    let update = "UPDATE certificates SET tbs = ?2 WHERE request = ?1";
    // A bit in every part; the nonce says nothing about anybody, but the log names these bytes.
    for place in (0..tbs.len()).step_by(23) {
        let mut other = tbs.clone();
        other[place] ^= 1;
        write(&bench, update, (&victim.id, &other));
        // What is left of the key of its CA is nobody's.
        claim_fails(&bench, &victim, &["store", "not-supported"]);
    }
    for other in [&tbs[..0], &tbs[..10], &tbs[..tbs.len() - 1], &[&tbs[..], b"x"].concat()] {
        write(&bench, update, (&victim.id, other));
        claim_fails(&bench, &victim, &["store", "not-supported"]);
    }
    write(&bench, update, (&victim.id, &tbs));
    for (sql, value) in [
        ("UPDATE certificates SET serial = ?2 WHERE request = ?1", 281_474_976_719_999_i64),
        ("UPDATE certificates SET serial = ?2 WHERE request = ?1", 1),
    ] {
        write(&bench, sql, (&victim.id, value));
        claim_fails(&bench, &victim, &["store"]);
    }
    // Row and bytes agree on another serial: one that nobody revoked.
    let place = tbs.windows(8).position(|eight| eight == 281_474_976_710_657_i64.to_be_bytes()).expect("the serial");
    let mut other = tbs.clone();
    other[place..place + 8].copy_from_slice(&281_474_976_719_999_i64.to_be_bytes());
    let both = "UPDATE certificates SET tbs = ?2, serial = ?3 WHERE request = ?1";
    write(&bench, both, (&victim.id, &other, 281_474_976_719_999_i64));
    claim_fails(&bench, &victim, &["store"]);
    write(&bench, both, (&victim.id, &tbs, 281_474_976_710_657_i64));
    assert_eq!(bench.claim(&victim).certificate(), certificate);
    write(&bench, "DELETE FROM certificates WHERE request = ?1", [&victim.id]);
    claim_fails(&bench, &victim, &["store"]);
    bench.claim(&twin).ok();
}

/// Nor where the log was rewritten with them: what is signed is made from the statements.
#[test]
fn a_log_that_agrees_signs_nothing() {
    let (bench, victim, twin) = twins("alice", "web");
    for asked in [&victim, &twin] {
        bench.approve("carol", asked).ok();
        bench.claim(asked).ok();
    }
    let row = |sql: &str, value: &dyn rusqlite::ToSql| -> Vec<u8> {
        bench.sql().query_row(sql, [value], |row| row.get(0)).expect("a row")
    };
    let tbs = row("SELECT tbs FROM certificates WHERE request = ?1", &victim.id);
    let leaf = row("SELECT leaf FROM events WHERE request = ?1 AND instr(leaf, CAST('claimed' AS BLOB))", &victim.id);
    let leaf = String::from_utf8(leaf).expect("JSON");
    let named = Digest::of(&tbs).to_string();
    assert!(leaf.contains(&named), "{leaf}");
    let put = |bytes: &[u8]| {
        write(&bench, "UPDATE certificates SET tbs = ?2 WHERE request = ?1", (&victim.id, bytes));
        let other = leaf.replace(&named, &Digest::of(bytes).to_string());
        let sql = "UPDATE events SET leaf = ?2 WHERE request = ?1 AND instr(leaf, CAST('claimed' AS BLOB))";
        write(&bench, sql, (&victim.id, other.as_bytes()));
    };
    let place = tbs.windows(3).position(|three| three == b"www").expect("the principal");
    // The principal, and the end of the window, which follows it and its beginning.
    for place in [place, place + 3 + 8 + 7] {
        let mut other = tbs.clone();
        other[place] ^= 1;
        put(&other);
        claim_fails(&bench, &victim, &["store"]);
    }
    put(&tbs);
    bench.claim(&victim).ok();
    bench.claim(&twin).ok();
}

/// The database's copy of a policy is for readers: nothing is decided by it.
#[test]
fn stored_policies_decide_nothing() {
    let (bench, victim, twin) = twins("alice", "web");
    let evil = crate::support::service::policy().replace("approvals  = 2", "approvals  = 1");
    write(&bench, "UPDATE policies SET text = ?1", [&evil]);
    let asked = bench.ask("alice", "vault", &json!({}));
    bench.approve("carol", &asked).ok();
    let approved = "UPDATE requests SET state = 'approved', claim_by = decide_by WHERE id = ?1";
    write(&bench, approved, [&asked.id]);
    claim_fails(&bench, &asked, &["not-enough-approvals"]);
    bench.approve("carol", &twin).ok();
    bench.claim(&twin).ok();
    write(&bench, approved, [&victim.id]);
    claim_fails(&bench, &victim, &["not-enough-approvals"]);
}

/// A row that makes no sense is an error of its own, and ends nobody else's access later than it should.
#[test]
fn a_broken_row_harms_no_other_claim() {
    let (bench, victim, twin) = twins("alice", "web");
    bench.approve("carol", &twin).ok();
    write(&bench, "UPDATE requests SET state = 'approved' WHERE id = ?1", [&victim.id]);
    claim_fails(&bench, &victim, &["store"]);
    bench.claim(&twin).ok();
    bench.advance(24 * 3600 + 1);
    assert_eq!(bench.sweep(), 1, "the twin's certificate ran out, and that is on record");
}
