//! What the sequences are about: people, roles, and policies that differ in every condition; and the text of such a
//! policy, for the service.

use std::net::SocketAddr;

use crate::support::pager::Pager;
use crate::support::service::{Key, policy};

pub(super) const PEOPLE: [&str; 7] = ["alice", "bob", "carol", "dan", "frank", "erin", "robot"];
/// The second is for more people than the others, and bound to no host.
pub(super) const ROLES: [&str; 3] = ["db-prod", "web", "vault"];
/// The only ticket that there is.
pub(super) const TICKET: &str = "OPS-12";
/// Whoever it is is on call.
pub(super) const ON_CALL: &str = "oncall:dba";
pub(super) const PAGER: Pager = Pager("pager");

/// What must be so: to come from inside, by day, with a ticket that is open, while on call.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each may be asked for or not, whatever the others are")]
pub(super) struct When {
    pub(super) inside: bool,
    pub(super) by_day: bool,
    pub(super) ticket: bool,
    pub(super) on_call: bool,
}

/// Who must approve.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Quorum {
    #[default]
    One,
    Two,
    /// One of the group, and frank or erin.
    Agree,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Role {
    pub(super) when: When,
    /// Nobody is asked up to 15 minutes, unless it is sensitive.
    pub(super) automatic: Option<When>,
    pub(super) deny: Option<When>,
    pub(super) quorum: Quorum,
    pub(super) sensitive: bool,
    /// Two hours a day.
    pub(super) capped: bool,
    /// Half an hour at most instead of four.
    pub(super) short: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Policy {
    pub(super) carol_left: bool,
    pub(super) alice_left: bool,
    pub(super) dan_revoked: bool,
    /// Nobody is asked up to an hour, for any role that is not sensitive.
    pub(super) automatic: Option<When>,
    pub(super) roles: [Role; 3],
}

/// What is asked for, with a start so many seconds ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) person: &'static str,
    pub(super) role: usize,
    pub(super) seconds: i64,
    pub(super) start: i64,
    pub(super) extends: Option<usize>,
    pub(super) ticket: Option<&'static str>,
}

impl Policy {
    /// As a file: the people and emergency keys of the sample policy, and these rules.
    pub(super) fn text(&self, tracker: SocketAddr) -> String {
        let sample = policy();
        let (people, roles) = sample.split_once("[roles.").expect("roles");
        let emergency = &roles[roles.find("[[emergency_keys]]").expect("keys")..];
        let mut people = people.to_owned();
        for (left, name, group) in [(self.carol_left, "carol", "dba"), (self.alice_left, "alice", "sre")] {
            let (from, to) =
                (format!("[people.{name}]\ngroups = [\"{group}\"]"), format!("[people.{name}]\ngroups = []"));
            assert_eq!(people.matches(&from).count(), 1, "{from}");
            people = if left { people.replace(&from, &to) } else { people };
        }
        let revoked =
            if self.dan_revoked { format!("revoked_keys = [{:?}]\n", Key::of("dan").line()) } else { String::new() };
        let roles: String = ROLES.iter().zip(&self.roles).map(|(name, role)| role.text(name)).collect();
        let denials = ROLES.iter().zip(&self.roles).filter_map(|(name, role)| {
            role.deny.map(|when| rule(&format!("no-{name}"), &format!("effect = \"deny\"\nroles = [\"{name}\"]"), when))
        });
        let rules: String = denials
            .chain(self.automatic.map(|when| rule("any", "effect = \"automatic\"\nmax = \"1h\"", when)))
            .collect();
        let asked = format!(
            "[sources.pager]\nkey = {:?}\nfacts = [\"oncall:*\"]\n\n[ticket_checks.tracker]\n\
             url = \"http://{tracker}/api/{{ticket}}\"\nexpect = {{ field = \"/status/name\", value = [\"Open\"] }}\n",
            PAGER.public()
        );
        [revoked, people, asked, roles, rules, emergency.to_owned()].concat()
    }
}

impl Role {
    fn text(&self, name: &str) -> String {
        let (hosts, more) = match name {
            "db-prod" => (r#""db1", "db2""#, ""),
            "web" => ("", r#", "dba", "erin""#),
            _ => (r#""vault1""#, ""),
        };
        let quorum = match self.quorum {
            Quorum::One => "approvers = [\"dba\"]",
            Quorum::Two => "approvers = [\"dba\"]\napprovals = 2",
            Quorum::Agree => "agree = [{ of = [\"dba\"] }, { of = [\"frank\", \"erin\"] }]",
        };
        let automatic = self.automatic.filter(|_| !self.sensitive);
        let automatic = automatic.map(|when| format!("automatic = {{ max = \"15m\", when = {} }}\n", when.text()));
        format!(
            "\n[roles.{name}]\nhosts = [{hosts}]\nprincipals = [\"{name}\"]\nrequesters = [\"sre\"{more}]\n{quorum}\n\
             sensitive = {}\nmax = \"{}\"\nwhen = {}\n{}{}",
            self.sensitive,
            if self.short { "30m" } else { "4h" },
            self.when.text(),
            if self.capped { "daily_max = \"2h\"\n" } else { "" },
            automatic.unwrap_or_default()
        )
    }
}

impl When {
    fn text(self) -> String {
        let conditions = [
            (self.inside, r#"from = ["10.0.0.0/8"]"#),
            (self.by_day, r#"hours = [{ days = ["mon-sun"], from = "08:00", to = "20:00", zone = "UTC" }]"#),
            (self.ticket, r#"ticket = "OPS-[0-9]+", ticket_check = "tracker""#),
            (self.on_call, r#"facts = ["oncall:dba = {person}"]"#),
        ];
        let asked: Vec<&str> = conditions.iter().filter(|(asked, _)| *asked).map(|(_, text)| *text).collect();
        format!("{{ {} }}", asked.join(", "))
    }
}

fn rule(name: &str, does: &str, when: When) -> String {
    format!("\n[[rules]]\nname = {name:?}\n{does}\nwhen = {}\n", when.text())
}
