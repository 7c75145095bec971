//! Somebody who knows the schema: changes a word, and makes every digest and hash in the database right again.

use rusqlite::Connection;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::tree::{Frontier, leaf_hash};

/// Changes one word of a leaf, and mends the log's edge.
pub(super) fn events_mended(connection: &Connection, row: i64) -> bool {
    let leaf: Vec<u8> =
        connection.query_row("SELECT leaf FROM events WHERE seq = ?1", [row], |row| row.get(0)).expect("a leaf");
    let text = String::from_utf8(leaf).expect("JSON");
    // The instant is in every leaf.
    let changed = text.replacen(":0", ":1", 1);
    let changed = if changed == text { text.replacen("\"v\":1,\"seq\"", "\"v\":1, \"seq\"", 1) } else { changed };
    connection.execute("UPDATE events SET leaf = ?1 WHERE seq = ?2", (changed.as_bytes(), row)).expect("a leaf");
    mend_edge(connection);
    changed != text
}

/// Changes one word of a statement, and mends its digest wherever it stands, and the log.
pub(super) fn rehashed(connection: &Connection, row: i64) -> bool {
    let (old, bytes): (Vec<u8>, Vec<u8>) = connection
        .query_row("SELECT sha256, bytes FROM statements WHERE rowid = ?1", [row], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("a statement");
    let text = String::from_utf8(bytes).expect("JSON");
    // The nonce is in every statement, and its last digit as good as another.
    let at = text.find("\"nonce\":\"").expect("a nonce") + 9 + 31;
    let mut changed = text.into_bytes();
    changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
    let new = Digest::of(&changed);
    let digest = |bytes: &[u8]| Digest::from_bytes(bytes.try_into().expect("32 bytes")).to_string();
    let set = |sql: &str| connection.execute(sql, (&old, new.as_bytes())).expect("mended");
    connection
        .execute("UPDATE statements SET bytes = ?2, sha256 = ?3 WHERE sha256 = ?1", (&old, &changed, new.as_bytes()))
        .expect("mended");
    for (table, column) in [
        ("requests", "statement"),
        ("decisions", "statement"),
        ("certificates", "claim"),
        ("emergencies", "statement"),
        ("emergencies", "review"),
        ("passkeys", "enrolment"),
        ("passkeys", "removal"),
    ] {
        set(&format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1"));
    }
    let sql = "UPDATE events SET leaf = CAST(replace(CAST(leaf AS TEXT), ?1, ?2) AS BLOB)";
    connection.execute(sql, [digest(&old), new.to_string()]).expect("mended");
    mend_edge(connection);
    true
}

fn mend_edge(connection: &Connection) {
    let mut statement = connection.prepare("SELECT leaf FROM events ORDER BY seq").expect("SQL");
    let leaves = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("leaves");
    let edge: Frontier = leaves.map(|leaf| leaf_hash(&leaf.expect("a leaf"))).collect();
    let roots: Vec<u8> = edge.roots().iter().flat_map(|root| *root.as_bytes()).collect();
    connection.execute("UPDATE log SET size = ?1, roots = ?2", (edge.size().cast_signed(), roots)).expect("an edge");
}
