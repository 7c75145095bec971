//! Extensions: a request that goes on from access that its person has. The policy decides on it anew, and it
//! gives a certificate of its own; what stands here keeps `extends` true, which is what approvers go by.

use super::grant;
use super::names::{HostName, Principal};
use super::refusal::Refusal;
use super::request::State;
use super::statement::{Claim, Request};
use super::verify::Verified;

/// Whether a request may extend another of this state when it is made: only while that one gives access.
pub fn may_begin(extended: &State) -> Result<(), Refusal> {
    match extended {
        State::Active { .. } => Ok(()),
        other => Err(Refusal::NotExtendable { state: other.name() }),
    }
}

/// Whether it may still when it is claimed: the other may have run out meanwhile, as deciding takes its time; but
/// whoever gave it back, or took it away, ended what was to be extended.
pub fn may_stand(extended: &State) -> Result<(), Refusal> {
    match extended {
        State::Active { .. } | State::Expired { .. } => Ok(()),
        other => Err(Refusal::NotExtendable { state: other.name() }),
    }
}

/// Whether a request extends what it says, by what was signed: the same person's request for the same role, which was
/// claimed before, and no more hosts or principals than that one named.
pub fn follows(
    request: &Verified<Request>,
    extended: &Verified<Request>,
    claim: &Verified<Claim>,
) -> Result<(), Refusal> {
    let (new, old) = (request.get(), extended.get());
    let other = |field| Err(Refusal::ExtendsOther { field });
    grant::claimed_by_subject(extended, claim)?;
    if new.person != old.person {
        // The same answer as for one that does not exist.
        return Err(Refusal::UnknownRequest);
    }
    if new.role != old.role {
        return other("role");
    }
    if new.at < claim.get().at {
        return Err(Refusal::OutOfOrder);
    }
    if !within::<HostName>(&new.hosts, &old.hosts) {
        return other("hosts");
    }
    if !within::<Principal>(&new.principals, &old.principals) {
        return other("principals");
    }
    Ok(())
}

/// Whether `new` names no more than `old`. An empty list stands for all that the role has.
fn within<T: PartialEq>(new: &[T], old: &[T]) -> bool {
    old.is_empty() || (!new.is_empty() && new.iter().all(|item| old.contains(item)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::statement::Serial;
    use crate::domain::testing::*;

    type Edit = fn(&mut Request, &mut Request);

    fn answer(edit: Edit) -> Result<(), Refusal> {
        let (mut old, mut new) = (request(), request());
        (new.id, new.extends) = ("7F3K-9QPX-M3".parse().unwrap(), Some(old.id.clone()));
        new.at = at(100);
        edit(&mut new, &mut old);
        let extended = alice().verified(&old);
        let claim = subject().verified(&Claim { request: extended.digest(), at: at(20), ..claim() });
        follows(&alice().verified(&new), &extended, &claim)
    }

    #[test]
    fn an_extension_goes_on_from_what_it_names() {
        let other = |field| Err(Refusal::ExtendsOther { field });
        let table: [(&str, Result<(), Refusal>, Edit); 11] = [
            ("as it is", Ok(()), |_, _| {}),
            ("all hosts of all", Ok(()), |new, old| (new.hosts, old.hosts) = (vec![], vec![])),
            ("some of all", Ok(()), |new, old| (new.hosts, old.hosts) = (list(&["db1"]), vec![])),
            ("fewer hosts", Ok(()), |new, old| (new.hosts, old.hosts) = (list(&["db1"]), list(&["db1", "db2"]))),
            ("more hosts", other("hosts"), |new, old| (new.hosts, old.hosts) = (list(&["db1", "db2"]), list(&["db1"]))),
            ("all instead of one", other("hosts"), |new, old| (new.hosts, old.hosts) = (vec![], list(&["db1"]))),
            ("more principals", other("principals"), |new, old| {
                (new.principals, old.principals) = (vec![], list(&["db-prod@db1"]));
            }),
            ("another role", other("role"), |new, _| new.role = role("vault")),
            ("somebody else's", Err(Refusal::UnknownRequest), |new, _| new.person = person("bob")),
            ("before it was claimed", Err(Refusal::OutOfOrder), |new, _| new.at = at(19)),
            ("when it was claimed", Ok(()), |new, _| new.at = at(20)),
        ];
        for (case, expected, edit) in table {
            assert_eq!(answer(edit), expected, "{case}");
        }
    }

    /// Another's claim does not make a request one that was claimed.
    #[test]
    fn what_was_never_claimed_is_not_extended() {
        let extended = alice().verified(&request());
        let elsewhere = subject().verified(&claim());
        let answer = follows(&alice().verified(&request()), &extended, &elsewhere);
        assert_eq!(answer, Err(Refusal::OtherRequest));
    }

    #[test]
    fn only_access_is_extended() {
        let serial = Serial::new(1, 1).unwrap();
        let table = [
            (State::Requested { decide_by: at(9), approved_by: vec![] }, false, false),
            (State::Approved { claim_by: at(9) }, false, false),
            (State::Active { serial, ends: at(9) }, true, true),
            (State::Denied, false, false),
            (State::Withdrawn, false, false),
            (State::Lapsed { at: at(9) }, false, false),
            (State::Expired { serial, at: at(9) }, false, true),
            (State::Returned { serial }, false, false),
            (State::Revoked { serial: Some(serial) }, false, false),
            (State::Revoked { serial: None }, false, false),
        ];
        for (state, begins, stands) in table {
            assert_eq!((may_begin(&state).is_ok(), may_stand(&state).is_ok()), (begins, stands), "{state:?}");
        }
    }
}
