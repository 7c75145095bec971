//! Requests and the decisions on them. Columns are for finding and for comparing-and-swapping; what a
//! request says is read from its statement.

use std::net::IpAddr;

use crate::domain::digest::Digest;
use crate::domain::names::{PersonName, RequestId, RoleName};
use crate::domain::request::State;
use crate::domain::statement::Serial;
use crate::domain::time::Timestamp;
use crate::domain::verify::Signed;

use super::{Row, StoreError, Tx, Value, statements};

/// A request as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its id.
    pub id: RequestId,
    /// The request's statement.
    pub signed: Signed,
    /// The decisions so far, oldest first.
    pub decisions: Vec<Signed>,
    /// SHA-256 of the capability that waits on it.
    pub waiter: Digest,
    /// Where it is in its life, by the store's last word; apply `at(now)`.
    pub state: State,
    /// Where it came from, as far as that is known.
    pub peer: Option<IpAddr>,
}

/// What a new request needs beside its statement.
#[derive(Debug)]
pub struct New<'a> {
    /// Its id.
    pub id: &'a RequestId,
    /// Who asks.
    pub person: &'a PersonName,
    /// For what.
    pub role: &'a RoleName,
    /// The subject key's fingerprint.
    pub subject_key: Digest,
    /// SHA-256 of the capability that waits on it.
    pub waiter: Digest,
    /// When it came.
    pub created: Timestamp,
    /// Where it came from.
    pub peer: Option<IpAddr>,
    /// Requested or approved.
    pub state: &'a State,
    /// The last moment to decide.
    pub decide_by: Timestamp,
}

/// Which requests to list. The oldest come first where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Waiting for a decision.
    Pending,
    /// Waiting for the decision of this person, who may decide on these roles.
    ToDecide(PersonName, Vec<RoleName>),
    /// Giving access.
    Active,
    /// Waiting, approved or active.
    Open,
    /// Waiting, approved or active, of one person.
    OpenOf(PersonName),
    /// Over, of one person; the newest first.
    EndedOf(PersonName),
    /// Whatever became of them; the newest first.
    Newest,
}

/// The requests that somebody may see: their own, and those for some roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Whose own.
    pub person: PersonName,
    /// For which roles.
    pub roles: Vec<RoleName>,
}

/// Keeps a new request. Its statement was spent in the same transaction.
pub fn insert(tx: &mut Tx<'_>, signed: &Signed, new: &New<'_>) -> Result<(), StoreError> {
    let sql = "INSERT INTO requests (id, statement, subject_key, waiter, person, role, created, state, decide_by, claim_by, \
               peer) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let claim_by = match new.state {
        State::Approved { claim_by } => Some(claim_by.unix()),
        _ => None,
    };
    let (statement, peer) = (signed.digest(), new.peer.map(|peer| peer.to_string()));
    let values: [Value<'_>; 11] = [
        new.id.as_str().into(),
        (&statement).into(),
        (&new.subject_key).into(),
        (&new.waiter).into(),
        new.person.as_str().into(),
        new.role.as_str().into(),
        new.created.unix().into(),
        new.state.name().into(),
        new.decide_by.unix().into(),
        claim_by.into(),
        peer.as_deref().into(),
    ];
    tx.execute(sql, &values).map(|_| ())
}

/// Records what a person decided: each once. The statement was spent in the same transaction.
pub fn decide(
    tx: &mut Tx<'_>,
    id: &RequestId,
    person: &PersonName,
    decision: &str,
    signed: &Signed,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO decisions (request, person, decision, statement) VALUES (?1, ?2, ?3, ?4)";
    let digest = signed.digest();
    tx.execute(sql, &[id.as_str().into(), person.as_str().into(), decision.into(), (&digest).into()]).map(|_| ())
}

/// How many requests of a person wait or are approved.
pub fn count_waiting(tx: &mut Tx<'_>, person: &PersonName) -> Result<i64, StoreError> {
    let sql = format!("SELECT count(*) FROM requests r WHERE {OPEN} AND r.state <> 'active' AND r.person = ?1");
    Ok(tx.first(&sql, &[person.as_str().into()], |row| row.int(0))?.unwrap_or(0))
}

/// For how many seconds a person was given a role since a moment, but for one request.
pub fn held(
    tx: &mut Tx<'_>,
    (person, role): (&PersonName, &RoleName),
    since: Timestamp,
    but: &RequestId,
) -> Result<u64, StoreError> {
    let sql = "SELECT sum(r.ends - CASE WHEN c.valid_after > ?3 THEN c.valid_after ELSE ?3 END) FROM requests r \
               JOIN certificates c ON c.serial = r.serial \
               WHERE r.person = ?1 AND r.role = ?2 AND r.ends > ?3 AND r.id <> ?4";
    let values = [person.as_str().into(), role.as_str().into(), since.unix().into(), but.as_str().into()];
    Ok(tx.first(sql, &values, |row| row.opt_int(0))?.flatten().unwrap_or(0).unsigned_abs())
}

/// Moves a request from one state to another. Gives whether it still was where it was thought to be.
pub fn change(tx: &mut Tx<'_>, id: &RequestId, from: &State, to: &State) -> Result<bool, StoreError> {
    let sql = "UPDATE requests SET state = ?3, claim_by = coalesce(?4, claim_by), serial = coalesce(?5, serial), \
               ends = coalesce(?6, ends) WHERE id = ?1 AND state = ?2";
    let claim_by = match to {
        State::Approved { claim_by } => Some(claim_by.unix()),
        _ => None,
    };
    let ends = match to {
        State::Active { ends, .. } => Some(ends.unix()),
        _ => None,
    };
    let serial = to.serial().map(|serial| serial.number().cast_signed());
    let values: [Value<'_>; 6] =
        [id.as_str().into(), from.name().into(), to.name().into(), claim_by.into(), serial.into(), ends.into()];
    Ok(tx.execute(sql, &values)? == 1)
}

/// The condition of the partial index, in its very words: SQLite uses the index for these only.
const OPEN: &str = "r.state IN ('requested', 'approved', 'active')";
const COLUMNS: &str =
    "r.id, r.statement, s.bytes, s.signature, r.waiter, r.state, r.decide_by, r.claim_by, r.serial, r.ends, r.peer";

/// A request by its id.
pub fn load(tx: &mut Tx<'_>, id: &RequestId) -> Result<Option<Stored>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM requests r JOIN statements s ON s.sha256 = r.statement WHERE r.id = ?1");
    let found = tx.first(&sql, &[id.as_str().into()], stored)?;
    found.map(|request| with_decisions(tx, request)).transpose()
}

/// Where the request that this statement asked for is; `None` where there is none.
pub fn state_of(tx: &mut Tx<'_>, id: &RequestId, statement: &Digest) -> Result<Option<State>, StoreError> {
    let sql = "SELECT id, NULL, NULL, NULL, NULL, state, decide_by, claim_by, serial, ends \
               FROM requests WHERE id = ?1 AND statement = ?2";
    tx.first(sql, &[id.as_str().into(), statement.into()], state)
}

/// Requests that a filter names, within what somebody may see (`None`: all): `most` of them behind the first `skip`.
pub fn list(
    tx: &mut Tx<'_>,
    filter: &Filter,
    scope: Option<&Scope>,
    (skip, most): (u32, u32),
) -> Result<Vec<Stored>, StoreError> {
    let mut values = Vec::new();
    let condition = condition(filter, scope, &mut values);
    let order = if matches!(filter, Filter::EndedOf(_) | Filter::Newest) { "DESC" } else { "ASC" };
    values.extend([most, skip].map(|number| Value::Int(i64::from(number))));
    // Which they are is found first: sorting would otherwise carry every statement along.
    let sql = format!(
        "SELECT {COLUMNS} FROM (SELECT r.id AS wanted FROM requests r WHERE {condition} \
         ORDER BY r.created {order}, r.id LIMIT ?{} OFFSET ?{}) JOIN requests r ON r.id = wanted \
         JOIN statements s ON s.sha256 = r.statement ORDER BY r.created {order}, r.id",
        values.len() - 1,
        values.len()
    );
    let found = tx.query(&sql, &values, |row| Ok::<_, StoreError>(stored(row)))?;
    let whole = found.into_iter().map(|request| with_decisions(tx, request?));
    Ok(whole.collect::<Vec<_>>().into_iter().filter_map(sound).collect())
}

/// How many requests a filter names, within what somebody may see.
pub fn count(tx: &mut Tx<'_>, filter: &Filter, scope: Option<&Scope>) -> Result<u64, StoreError> {
    let mut values = Vec::new();
    let condition = condition(filter, scope, &mut values);
    let sql = format!("SELECT count(*) FROM requests r WHERE {condition}");
    Ok(tx.first(&sql, &values, |row| row.int(0))?.unwrap_or(0).unsigned_abs())
}

/// The condition in SQL; what it binds is appended to `values`.
fn condition<'a>(filter: &'a Filter, scope: Option<&'a Scope>, values: &mut Vec<Value<'a>>) -> String {
    let condition = match filter {
        Filter::Pending => format!("{OPEN} AND r.state = 'requested'"),
        Filter::Active => format!("{OPEN} AND r.state = 'active'"),
        Filter::ToDecide(person, roles) => {
            let (person, roles) = (bind(values, person.as_str()), any_of(values, roles));
            format!(
                "{OPEN} AND r.state = 'requested' AND r.person <> {person} AND r.role IN ({roles}) AND NOT EXISTS \
                 (SELECT 1 FROM decisions d WHERE d.request = r.id AND d.person = {person})"
            )
        }
        Filter::Open => OPEN.to_owned(),
        Filter::OpenOf(person) => format!("{OPEN} AND r.person = {}", bind(values, person.as_str())),
        Filter::EndedOf(person) => format!("NOT ({OPEN}) AND r.person = {}", bind(values, person.as_str())),
        Filter::Newest => "1 = 1".to_owned(),
    };
    let Some(Scope { person, roles }) = scope else { return condition };
    let (person, roles) = (bind(values, person.as_str()), any_of(values, roles));
    format!("{condition} AND (r.person = {person} OR r.role IN ({roles}))")
}

fn bind<'a>(values: &mut Vec<Value<'a>>, text: &'a str) -> String {
    values.push(text.into());
    format!("?{}", values.len())
}

fn any_of<'a>(values: &mut Vec<Value<'a>>, roles: &'a [RoleName]) -> String {
    roles.iter().map(|role| bind(values, role.as_str())).collect::<Vec<_>>().join(", ")
}

/// One row that makes no sense must not hide the others: it is left out, and the operator told.
fn sound(row: Result<Stored, StoreError>) -> Option<Stored> {
    row.inspect_err(|error| tracing::error!(%error, "a request is left out")).ok()
}

/// Open requests that time has ended, at most `limit`. Looks at all that are open: no work for the writer.
pub fn ended(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Result<Vec<Stored>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM requests r JOIN statements s ON s.sha256 = r.statement \
         WHERE {OPEN} AND ((r.state = 'requested' AND r.decide_by < ?1) OR (r.state = 'approved' AND r.claim_by < ?1) \
         OR (r.state = 'active' AND r.ends <= ?1)) LIMIT ?2"
    );
    let values = [now.unix().into(), i64::from(limit).into()];
    let found = tx.query(&sql, &values, |row| Ok::<_, StoreError>(stored(row)))?;
    Ok(found.into_iter().filter_map(sound).collect())
}

/// The statements of a person's requests for a role since a moment, newest first, at most `limit`.
pub fn history(
    tx: &mut Tx<'_>,
    person: &PersonName,
    role: &RoleName,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<Signed>, StoreError> {
    let sql = "SELECT s.bytes, s.signature, r.statement FROM requests r JOIN statements s ON s.sha256 = r.statement \
               WHERE r.person = ?1 AND r.role = ?2 AND r.created >= ?3 ORDER BY r.created DESC LIMIT ?4";
    let values = [person.as_str().into(), role.as_str().into(), since.unix().into(), i64::from(limit).into()];
    tx.query(sql, &values, |row| statements::signed(row, 0, &row.digest(2)?))
}

/// How often each person asked for each role since a moment, and when last. Reads an index, and no request.
pub fn usage(tx: &mut Tx<'_>, since: Timestamp) -> Result<Vec<(RoleName, PersonName, u64, Timestamp)>, StoreError> {
    let sql = "SELECT role, person, count(*), max(created) FROM requests WHERE created >= ?1 GROUP BY role, person";
    tx.query(sql, &[since.unix().into()], |row| {
        let (role, person) = (row.text(0)?, row.text(1)?);
        let nonsense = |column| StoreError::nonsense("requests", &role, column);
        let parsed = (role.parse().map_err(|_| nonsense("role"))?, person.parse().map_err(|_| nonsense("person"))?);
        Ok::<_, StoreError>((parsed.0, parsed.1, row.int(2)?.unsigned_abs(), Timestamp::from_unix(row.int(3)?)))
    })
}

fn with_decisions(tx: &mut Tx<'_>, mut request: Stored) -> Result<Stored, StoreError> {
    let sql = "SELECT d.statement, s.bytes, s.signature, d.person, d.decision FROM decisions d \
               JOIN statements s ON s.sha256 = d.statement WHERE d.request = ?1 ORDER BY d.person";
    let id = request.id.clone();
    let rows = tx.query(sql, &[id.as_str().into()], |row| {
        let signed = statements::signed(row, 1, &row.digest(0)?)?;
        let person: PersonName = row.text(3)?.parse().map_err(|_| StoreError::nonsense("decisions", &id, "person"))?;
        Ok::<_, StoreError>((signed, person, row.text(4)?))
    })?;
    for (signed, person, decision) in rows {
        if let (State::Requested { approved_by, .. }, "approve") = (&mut request.state, decision.as_str()) {
            approved_by.push(person);
        }
        request.decisions.push(signed);
    }
    Ok(request)
}

fn stored(row: &Row<'_>) -> Result<Stored, StoreError> {
    let name = row.text(0)?;
    let nonsense = |column| StoreError::nonsense("requests", &name, column);
    let id: RequestId = name.parse().map_err(|_| nonsense("id"))?;
    let digest = row.digest(1)?;
    let signed = statements::signed(row, 2, &digest)?;
    let peer = row.opt_text(10)?.map(|peer| peer.parse().map_err(|_| nonsense("peer"))).transpose()?;
    Ok(Stored { id, signed, decisions: Vec::new(), waiter: row.digest(4)?, state: state(row)?, peer })
}

/// One `match` over what may be NULL: anything else is nonsense.
fn state(row: &Row<'_>) -> Result<State, StoreError> {
    let nonsense = |column| row.text(0).map_or_else(|e| e, |name| StoreError::nonsense("requests", &name, column));
    let serial = row
        .opt_int(8)?
        .map(|n| Serial::from_number(n.cast_unsigned()).ok_or_else(|| nonsense("serial")))
        .transpose()?;
    let time = |column| Ok::<_, StoreError>(row.opt_int(column)?.map(Timestamp::from_unix));
    let decide_by = Timestamp::from_unix(row.int(6)?);
    let (claim_by, ends) = (time(7)?, time(9)?);
    Ok(match (row.text(5)?.as_str(), claim_by, serial, ends) {
        ("requested", None, None, None) => State::Requested { decide_by, approved_by: Vec::new() },
        ("approved", Some(claim_by), None, None) => State::Approved { claim_by },
        ("active", Some(_), Some(serial), Some(ends)) => State::Active { serial, ends },
        ("denied", None, None, None) => State::Denied,
        ("withdrawn", _, None, None) => State::Withdrawn,
        ("lapsed", claim_by, None, None) => State::Lapsed { at: claim_by.unwrap_or(decide_by) },
        ("expired", Some(_), Some(serial), Some(at)) => State::Expired { serial, at },
        ("returned", Some(_), Some(serial), Some(_)) => State::Returned { serial },
        ("revoked", Some(_), Some(serial), Some(_)) => State::Revoked { serial: Some(serial) },
        ("revoked", _, None, None) => State::Revoked { serial: None },
        _ => return Err(nonsense("state")),
    })
}
