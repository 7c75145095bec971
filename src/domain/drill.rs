//! Drills: what each took, and whether that was good enough.

use serde::{Deserialize, Serialize};

use super::statement::{Dependency, Drill};
use super::time::Seconds;

/// Alerts go out within so many milliseconds of the certificate.
const ALERT_WITHIN: u32 = 60_000;
/// Somebody says within so many milliseconds of the first alert that they heard it.
const ACKNOWLEDGED_WITHIN: u32 = 300_000;

/// One step of a drill, and what it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// A word for people.
    pub name: String,
    /// Milliseconds since the command; none where it did not happen.
    pub took_ms: Option<u32>,
    /// The most that it may take; none where the drill went without it on purpose, so that it proves nothing.
    pub most_ms: Option<u32>,
    /// Whether it did not take more.
    pub passed: bool,
}

impl Control {
    fn new(name: &str, took_ms: Option<u32>, most_ms: Option<u32>) -> Self {
        let passed = most_ms.is_none_or(|most| took_ms.is_some_and(|took| took <= most));
        Self { name: name.to_owned(), took_ms, most_ms, passed }
    }
}

/// The steps of a drill that went without some things, held against what the policy allows from command to shell.
pub fn controls(said: &Drill, without: &[Dependency], within: Seconds) -> Vec<Control> {
    let within = within.get().saturating_mul(1000);
    let unless = |missing: &[Dependency], most: u32| (!missing.iter().any(|one| without.contains(one))).then_some(most);
    let alert = unless(&[Dependency::MailDown], said.certificate_ms.saturating_add(ALERT_WITHIN));
    let first = said.alert_ms.unwrap_or(said.certificate_ms);
    let heard = unless(&[Dependency::MailDown, Dependency::ApproversAway], first.saturating_add(ACKNOWLEDGED_WITHIN));
    vec![
        Control::new("reason", Some(said.reason_ms), Some(within)),
        Control::new("certificate", Some(said.certificate_ms), Some(within)),
        Control::new("shell", said.shell_ms, Some(within)),
        Control::new("first alert", said.alert_ms, alert),
        Control::new("acknowledgement", said.acknowledgement_ms, heard),
    ]
}

/// Whether all of them passed.
pub fn passed(controls: &[Control]) -> bool {
    controls.iter().all(|control| control.passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::statement::{Is, Version};
    use crate::domain::testing::*;

    fn drill() -> Drill {
        Drill {
            v: Version,
            kind: Is,
            instance: instance(),
            person: person("alice"),
            break_glass: Digest::of(b"statement"),
            id: request_id(),
            reason_ms: 10,
            certificate_ms: 400,
            shell_ms: Some(900),
            alert_ms: Some(1200),
            acknowledgement_ms: Some(40_000),
            nonce: nonce(5),
            at: at(60),
        }
    }

    fn failed(said: &Drill, without: &[Dependency]) -> Vec<String> {
        let all = controls(said, without, Seconds::new(60).unwrap());
        assert_eq!(passed(&all), all.iter().all(|control| control.passed));
        all.into_iter().filter(|control| !control.passed).map(|control| control.name).collect()
    }

    #[test]
    fn every_step_must_be_there_in_time() {
        assert_eq!(failed(&drill(), &[]), [""; 0]);
        let good = drill();
        assert_eq!(failed(&Drill { shell_ms: Some(60_000), ..good.clone() }, &[]), [""; 0]);
        assert_eq!(failed(&Drill { shell_ms: Some(60_001), ..good.clone() }, &[]), ["shell"]);
        assert_eq!(failed(&Drill { shell_ms: None, ..good.clone() }, &[]), ["shell"]);
        assert_eq!(failed(&Drill { reason_ms: 60_001, ..good.clone() }, &[]), ["reason"]);
        assert_eq!(failed(&Drill { certificate_ms: 60_001, ..good.clone() }, &[]), ["certificate"]);
        assert_eq!(failed(&Drill { alert_ms: Some(60_401), ..good.clone() }, &[]), ["first alert"]);
        let nobody = Drill { alert_ms: None, acknowledgement_ms: None, ..good.clone() };
        assert_eq!(failed(&nobody, &[]), ["first alert", "acknowledgement"]);
        assert_eq!(failed(&Drill { acknowledgement_ms: Some(301_201), ..good }, &[]), ["acknowledgement"]);
    }

    /// What was failed on purpose is not held against a drill; everything else still is.
    #[test]
    fn what_it_went_without_is_not_asked_for() {
        let nobody = Drill { alert_ms: None, acknowledgement_ms: None, ..drill() };
        assert_eq!(failed(&nobody, &[Dependency::MailDown]), [""; 0]);
        assert_eq!(failed(&nobody, &[Dependency::ApproversAway]), ["first alert"]);
        assert_eq!(failed(&nobody, &[Dependency::DbReadonly]), ["first alert", "acknowledgement"]);
        assert_eq!(failed(&Drill { shell_ms: None, ..nobody }, &[Dependency::MailDown]), ["shell"]);
    }
}
