//! The two ways to a certificate, and every way in which they must be closed. Each case of a table
//! changes one thing of a story that ends well.

use proptest::prelude::*;

use super::*;
use crate::domain::names::Invalid;
use crate::domain::policy::Overdue;
use crate::domain::statement::{Category, Decision};
use crate::domain::testing::*;

/// A story: who asks, who decides, who claims, and under which policy.
struct Story {
    policy: String,
    request: Request,
    requester: Key,
    approvals: Vec<(Key, Approval)>,
    claim: Claim,
    claimant: Key,
    skew: u32,
}

impl Story {
    /// alice asks for 2 h on db1 and db2, carol approves 1 h on db1.
    fn one_approval() -> Self {
        Self {
            policy: policy_text(),
            request: request(),
            requester: alice(),
            approvals: vec![(carol(), approval("carol"))],
            claim: claim(),
            claimant: subject(),
            skew: 5,
        }
    }

    /// alice asks for 15 minutes, for which the policy asks nobody.
    fn automatic() -> Self {
        let request = Request { seconds: Some(seconds(900)), ..request() };
        Self { request, approvals: vec![], ..Self::one_approval() }
    }

    /// alice asks for vault, which takes two: bob and carol.
    fn two_approvals() -> Self {
        let asked = Request { role: role("vault"), seconds: None, ..request() };
        let approve = |name| Approval {
            role: role("vault"),
            principals: list(&["vault@vault1", "vault@vault2"]),
            hosts: list(&["vault1", "vault2"]),
            critical_options: options(&[("source-address", "10.0.0.0/8")]),
            ..approval(name)
        };
        let approvals = vec![(bob(), approve("bob")), (carol(), approve("carol"))];
        Self { request: asked, approvals, ..Self::one_approval() }
    }

    fn edit_policy(&mut self, from: &str, to: &str) {
        self.policy = edit(&self.policy, from, to);
    }

    fn approval(&mut self) -> &mut Approval {
        &mut self.approvals[0].1
    }

    fn second(&mut self) -> &mut Approval {
        &mut self.approvals[1].1
    }

    fn grant(&self) -> Result<Grant, Refusal> {
        self.grant_around(&unknown())
    }

    fn grant_around(&self, around: &Circumstances<'_>) -> Result<Grant, Refusal> {
        let request = self.requester.verified(&self.request);
        let bound = |digest: Digest| if digest == this_request() { request.digest() } else { digest };
        let approvals: Vec<_> = self
            .approvals
            .iter()
            .map(|(key, approval)| key.verified(&Approval { request: bound(approval.request), ..approval.clone() }))
            .collect();
        let claim = self.claimant.verified(&Claim { request: bound(self.claim.request), ..self.claim.clone() });
        Grant::access(&Policy::parse(&self.policy).unwrap(), &request, &approvals, &claim, around, self.skew)
    }
}

impl Grant {
    /// The sample grant, of another key.
    pub(crate) fn of(key: PublicKey) -> Self {
        Self { key, ..grant() }
    }
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<OptionName, String> {
    pairs.iter().map(|(name, value)| (parsed(name), (*value).to_owned())).collect()
}

fn shown<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

fn line(key: &Key) -> String {
    format!("\"{}\"", key.public())
}

/// What is changed, what must come of it, and how it is changed.
type Case<T> = (&'static str, Refusal, fn(&mut T));

/// Runs a table: each case changes one thing of `story`, which ends well by itself.
fn refuses(story: fn() -> Story, cases: &[Case<Story>]) {
    assert!(story().grant().is_ok(), "the story without a change ends well");
    for (name, expected, change) in cases {
        let mut story = story();
        change(&mut story);
        assert_eq!(story.grant().as_ref(), Err(expected), "{name}");
    }
}

fn some_of(have: u32, need: u32, would: &str) -> Refusal {
    Refusal::NotEnoughApprovals { have, need, would: would.to_owned() }
}

fn wider(field: &'static str) -> Refusal {
    Refusal::Wider { field }
}

#[test]
fn an_approval_grants_what_it_says() {
    let story = Story::one_approval();
    let grant = story.grant().unwrap();
    assert_eq!(grant.path(), Path::Access);
    assert_eq!((grant.person(), grant.role(), grant.key()), (&person("alice"), &role("db-prod"), &subject().public()));
    assert_eq!(shown(grant.principals()), ["db-prod@db1"]);
    assert_eq!(grant.seconds().get(), 3600);
    assert_eq!((grant.valid_after(), grant.valid_before()), (at(15), at(3615)));
    assert_eq!(shown(grant.extensions()), ["permit-pty"]);
    assert!(grant.critical_options().is_empty());
}

#[test]
fn the_policy_may_approve_by_itself() {
    let grant = Story::automatic().grant().unwrap();
    assert_eq!(shown(grant.principals()), ["db-prod@db1", "db-prod@db2"]);
    assert_eq!(grant.seconds().get(), 900);
    assert_eq!(shown(grant.extensions()), ["permit-port-forwarding", "permit-pty"]);
}

/// The least of all approvals, in each field by its own rule.
#[test]
fn two_approvals_grant_what_they_have_in_common() {
    let mut story = Story::two_approvals();
    story.edit_policy("extensions = [\"permit-pty\"]", "extensions = [\"permit-pty\", \"permit-user-rc\"]");
    story.approval().seconds = seconds(1800);
    story.second().principals = list(&["vault@vault2"]);
    story.approval().extensions = list(&["permit-pty", "permit-user-rc"]);
    story.second().critical_options.insert(parsed("force-command"), "/bin/true".to_owned());
    let grant = story.grant().unwrap();
    assert_eq!(grant.seconds().get(), 1800);
    assert_eq!(shown(grant.principals()), ["vault@vault2"]);
    assert_eq!(shown(grant.extensions()), ["permit-pty"]);
    let both = options(&[("force-command", "/bin/true"), ("source-address", "10.0.0.0/8")]);
    assert_eq!(grant.critical_options(), &both);
    story.approvals.swap(0, 1);
    let swapped = story.grant().unwrap();
    assert_eq!(swapped, grant, "the order of approvals does not matter");
    let third = Approval { person: person("dan"), seconds: seconds(60), ..story.second().clone() };
    story.approvals.push((dan(), third));
    assert_eq!(story.grant().unwrap().seconds().get(), 60, "approvals beyond the quorum narrow too");
}

/// `printf '%s\n' ... | sort | sha256sum` over request, approval, claim and policy, as the design has it.
#[test]
fn the_key_id_names_the_evidence() {
    let request = alice().verified(&request());
    let approval = carol().verified(&Approval { request: request.digest(), ..approval("carol") });
    let claim = subject().verified(&Claim { request: request.digest(), ..claim() });
    let mut lines = [request.digest(), approval.digest(), claim.digest(), policy().digest()].map(|d| d.hex() + "\n");
    lines.sort();
    let expected = format!("ssh-jit/7F3K-9QPX-M2/alice/db-prod/{}", Digest::of(lines.concat().as_bytes()));
    assert_eq!(grant().key_id(), expected);
    let emergency = alices_emergency_key().verified(&break_glass());
    let mut lines = [emergency.digest(), policy().digest()].map(|d| d.hex() + "\n");
    lines.sort();
    let expected = format!("BREAK-GLASS/7F3K-9QPX-M2/alice/db-prod/{}", Digest::of(lines.concat().as_bytes()));
    assert_eq!(Grant::break_glass(&policy(), &emergency, None, None, 0).unwrap().key_id(), expected);
}

/// R05: nobody decides for themselves, whatever else they are; R09: and nobody counts twice.
#[test]
fn who_decides_is_another_person_who_may() {
    let not_approver = |name| Refusal::NotApprover { person: person(name), role: role("db-prod") };
    refuses(
        Story::one_approval,
        &[
            ("own request, other key", Refusal::SelfApproval, |s| {
                s.approvals = vec![(alices_other_key(), approval("alice"))];
            }),
            ("own request, as admin and member of the approvers' group", Refusal::SelfApproval, |s| {
                (s.requester, s.request.person, s.claim.person) = (carol(), person("carol"), person("carol"));
                s.approval().requester = person("carol");
            }),
            ("own request, beside somebody else's approval", Refusal::SelfApproval, |s| {
                s.approvals.push((alice(), approval("alice")));
            }),
            ("a service", Refusal::ServicesCannotDecide { person: person("robot") }, |s| {
                s.approvals = vec![(robot(), approval("robot"))];
            }),
            ("no approver", not_approver("bob"), |s| s.approvals = vec![(bob(), approval("bob"))]),
            ("nobody we know", Refusal::UnknownPerson { person: person("eve") }, |s| {
                s.approvals = vec![(stranger(), approval("eve"))];
            }),
            ("in another's name", Refusal::NotTheirKey { person: person("carol") }, |s| s.approvals[0].0 = dan()),
            ("by a key nobody has", Refusal::UnknownKey, |s| s.approvals[0].0 = stranger()),
            ("by an emergency key", Refusal::UnknownKey, |s| s.approvals[0].0 = dans_emergency_key()),
            ("nobody at all", some_of(0, 1, "; would pass with --for 15m"), |s| s.approvals.clear()),
        ],
    );
    let one_of_two = || some_of(1, 2, "");
    refuses(
        Story::two_approvals,
        &[
            ("one of two", one_of_two(), |s| s.approvals.truncate(1)),
            ("the same approval twice", one_of_two(), |s| s.approvals[1] = s.approvals[0].clone()),
            ("the same person twice", one_of_two(), |s| {
                let again = Approval { at: at(11), ..s.second().clone() };
                s.approvals[0] = (carol(), again);
            }),
            ("the same person with two keys", one_of_two(), |s| {
                s.edit_policy(&line(&carol()), &format!("{}, {}", line(&carol()), line(&stranger())));
                s.approvals[0] = (stranger(), s.second().clone());
            }),
        ],
    );
    refuses(
        Story::automatic,
        &[("a second longer than automatic", some_of(0, 1, "; would pass with --for 15m"), |s| {
            s.request.seconds = Some(seconds(901));
        })],
    );
}

/// R07: the policy of the moment of the claim decides, not that of the approval.
#[test]
fn approvers_who_lost_their_office_before_the_claim_count_no_more() {
    refuses(
        Story::one_approval,
        &[
            ("approver's key revoked", Refusal::RevokedKey, |s| {
                s.policy = format!("revoked_keys = [{}]\n{}", line(&carol()), s.policy);
            }),
            ("approver's key revoked by fingerprint", Refusal::RevokedKey, |s| {
                s.policy = format!("revoked_keys = [\"{}\"]\n{}", carol().public().fingerprint(), s.policy);
            }),
            ("approver's key taken away", Refusal::UnknownKey, |s| s.edit_policy(&line(&carol()), "")),
            ("approver's key at somebody else", Refusal::NotTheirKey { person: person("carol") }, |s| {
                s.edit_policy(&line(&carol()), "");
                s.edit_policy(&line(&dan()), &format!("{}, {}", line(&dan()), line(&carol())));
            }),
            ("approver removed", Refusal::UnknownPerson { person: person("carol") }, |s| {
                s.edit_policy("[people.carol]", "[people.carla]");
                s.edit_policy("admins = [\"carol\"]", "");
                s.edit_policy("\"sre\", \"carol\", ", "\"sre\", ");
            }),
            ("approver left the group", Refusal::NotApprover { person: person("carol"), role: role("db-prod") }, |s| {
                s.edit_policy("[people.carol]\ngroups = [\"dba\"]", "[people.carol]");
            }),
            ("approver became a service", Refusal::ServicesCannotDecide { person: person("carol") }, |s| {
                s.edit_policy("[people.carol]", "[people.carol]\nkind = \"service\"");
            }),
            ("one approval more is needed", some_of(1, 2, "; would pass with --for 15m"), |s| {
                s.edit_policy("approvals = 1", "approvals = 2");
            }),
        ],
    );
}

/// R07, the other half: nor what the requester was, or the role gave.
#[test]
fn what_the_requester_or_the_role_lost_is_not_granted() {
    let not_eligible = || Refusal::NotEligible { person: person("alice"), role: role("db-prod") };
    refuses(
        Story::one_approval,
        &[
            ("requester's key revoked", Refusal::RevokedKey, |s| {
                s.policy = format!("revoked_keys = [{}]\n{}", line(&alice()), s.policy);
            }),
            ("requester's key taken away", Refusal::UnknownKey, |s| {
                s.edit_policy(&format!("\"{} alice@laptop\", ", alice().public()), "");
            }),
            ("requester's key at somebody else", Refusal::NotTheirKey { person: person("alice") }, |s| {
                s.edit_policy(&format!("\"{} alice@laptop\", ", alice().public()), "");
                s.edit_policy(&line(&bob()), &format!("{}, {}", line(&bob()), line(&alice())));
            }),
            ("requester removed", Refusal::UnknownPerson { person: person("alice") }, |s| {
                s.edit_policy("[people.alice]", "[people.alan]");
                s.edit_policy("requesters = [\"alice\"]", "");
                s.edit_policy("person = \"alice\"", "person = \"alan\"");
            }),
            ("requester left the group", not_eligible(), |s| {
                s.edit_policy("[people.alice]\ngroups = [\"sre\"]", "[people.alice]");
            }),
            ("role removed", not_eligible(), |s| {
                s.edit_policy("[roles.db-prod]", "[roles.db-old]");
                s.edit_policy("\"db-prod\", \"web\"", "\"web\"");
            }),
            (
                "role shortened",
                Refusal::TooLong { asked: seconds(7200), most: seconds(7199), role: role("db-prod") },
                |s| s.edit_policy("max = \"4h\"", "max = \"1h59m59s\""),
            ),
            ("host taken from the role", wider("hosts"), |s| s.edit_policy("[\"db1\", \"db2\"]", "[\"db2\"]")),
            ("principal taken from the role", wider("principals"), |s| {
                s.edit_policy("principals = [\"db-prod\"]", "principals = [\"db-ro\"]");
            }),
            ("extension taken from the role", wider("extensions"), |s| {
                s.edit_policy("[\"permit-pty\", \"permit-port-forwarding\"]", "[]");
            }),
            ("restriction added to the role", wider("critical_options"), |s| {
                let with = "description = \"PostgreSQL, production\"\ncritical_options = { force-command = \"true\" }";
                s.edit_policy("description = \"PostgreSQL, production\"", with);
            }),
            ("claims must come sooner", wider("claim_by"), |s| {
                s.edit_policy("default = \"1h\"", "default = \"1h\"\nclaim_within = \"59m\"");
            }),
        ],
    );
    refuses(
        Story::automatic,
        &[
            ("nothing is automatic any more", some_of(0, 1, ""), |s| {
                s.edit_policy("automatic = { max = \"15m\" }", "");
            }),
            ("requester left the group", not_eligible(), |s| {
                s.edit_policy("[people.alice]\ngroups = [\"sre\"]", "[people.alice]");
            }),
        ],
    );
}

/// An approval repeats the request or narrows it; whatever it adds or changes is refused.
#[test]
fn an_approval_never_widens() {
    let twice = |field| Refusal::Duplicate { field };
    refuses(
        Story::one_approval,
        &[
            ("a second more than asked", wider("seconds"), |s| s.approval().seconds = seconds(7201)),
            ("a second more than the default", wider("seconds"), |s| {
                s.request.seconds = None;
                s.approval().seconds = seconds(3601);
            }),
            ("a host of no role", wider("hosts"), |s| s.approval().hosts = list(&["db1", "db3"])),
            ("a host not asked for", wider("hosts"), |s| {
                s.request.hosts = list(&["db1"]);
                s.approval().hosts = list(&["db1", "db2"]);
            }),
            ("a principal on a host not approved", wider("principals"), |s| s.approval().hosts = list(&["db2"])),
            ("a principal on no host", wider("principals"), |s| s.approval().principals = list(&["db-prod"])),
            ("a principal not asked for", wider("principals"), |s| {
                s.request.principals = list(&["db-prod@db2"]);
                s.approval().hosts = list(&["db1", "db2"]);
            }),
            ("an extension the role lacks", wider("extensions"), |s| {
                s.approval().extensions = list(&["permit-pty", "permit-X11-forwarding"]);
            }),
            ("another key", wider("key"), |s| s.approval().key = stranger().public().fingerprint()),
            ("another requester", wider("requester"), |s| s.approval().requester = person("bob")),
            ("another role", wider("role"), |s| s.approval().role = role("web")),
            ("a start", wider("start"), |s| s.approval().start = Some(at(0))),
            ("no start", wider("start"), |s| s.request.start = Some(at(5))),
            ("a second more to claim", wider("claim_by"), |s| s.approval().claim_by = at(10 + 4 * 3600 + 1)),
            ("claimed before it was approved", wider("claim_by"), |s| s.approval().claim_by = at(9)),
            ("a principal twice", twice("principals"), |s| {
                s.approval().principals = list(&["db-prod@db1", "db-prod@db1"]);
            }),
            ("a host twice", twice("hosts"), |s| s.approval().hosts = list(&["db1", "db1"])),
            ("an extension twice", twice("extensions"), |s| {
                s.approval().extensions = list(&["permit-pty", "permit-pty"]);
            }),
            ("no principal", Refusal::NothingLeft { field: "principals" }, |s| s.approval().principals.clear()),
            ("a denial", Refusal::Denied, |s| s.approval().decision = Decision::Deny),
            ("a denial beside an approval", Refusal::Denied, |s| {
                s.approvals.push((dan(), Approval { decision: Decision::Deny, ..approval("dan") }));
            }),
        ],
    );
    let bad = |name: &str, rule| Refusal::Field { invalid: Invalid::new("critical option", name, rule) };
    refuses(
        Story::two_approvals,
        &[
            ("a restriction left out", wider("critical_options"), |s| s.approval().critical_options.clear()),
            ("a restriction changed", wider("critical_options"), |s| {
                s.approval().critical_options = options(&[("source-address", "11.0.0.0/8")]);
            }),
            ("a restriction nobody honours", bad("no-pty", "use force-command or source-address"), |s| {
                s.approval().critical_options.insert(parsed("no-pty"), String::new());
            }),
            ("two commands", Refusal::Conflict { option: "force-command".to_owned() }, |s| {
                s.approval().critical_options.insert(parsed("force-command"), "ls".to_owned());
                s.second().critical_options.insert(parsed("force-command"), "rm".to_owned());
            }),
            ("no principal in common", Refusal::NothingLeft { field: "principals" }, |s| {
                s.approval().principals = list(&["vault@vault1"]);
                s.second().principals = list(&["vault@vault2"]);
            }),
            ("the second widens", wider("seconds"), |s| s.second().seconds = seconds(7201)),
        ],
    );
}

/// Asked when the approval arrives, before there is a claim.
#[test]
fn an_approval_of_nothing_is_refused_when_it_arrives() {
    let policy = policy();
    let asked = request();
    let terms = policy.terms(&(&asked).into(), at(0), &unknown()).unwrap();
    let within = |given: &Approval| approval::stays_within(&policy.roles()[&asked.role], &terms, &asked, given);
    assert_eq!(within(&approval("carol")), Ok(()));
    let nothing = Approval { principals: vec![], ..approval("carol") };
    assert_eq!(within(&nothing), Err(Refusal::NothingLeft { field: "principals" }));
}

/// P03: each element of a list is looked at, wherever the bad one stands.
#[test]
fn one_bad_principal_among_many_is_found_at_each_place() {
    let names: Vec<String> = (0..16).map(|i| format!("p{i}")).collect();
    let mut story = Story::one_approval();
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    story.edit_policy("[\"web\", \"web-ro\"]", &format!("[{}]", quoted.join(", ")));
    story.request.role = role("web");
    story.approvals[0].0 = bob();
    let approve = |principals: &[&str]| Approval {
        role: role("web"),
        principals: list(principals),
        hosts: vec![],
        extensions: vec![],
        ..approval("bob")
    };
    for n in 1..=names.len() {
        let good: Vec<&str> = names[..n].iter().map(String::as_str).collect();
        (story.request.principals, *story.approval()) = (list(&good), approve(&good));
        assert_eq!(story.grant().map(|grant| grant.principals().len()), Ok(n));
        for i in 0..n {
            let mut bad = good.clone();
            bad[i] = "root";
            (story.request.principals, *story.approval()) = (list(&good), approve(&bad));
            assert_eq!(story.grant(), Err(wider("principals")), "approval, {i} of {n}");
            (story.request.principals, *story.approval()) = (list(&bad), approve(&good));
            let unknown = Refusal::UnknownPrincipal { principal: "root".to_owned() };
            assert_eq!(story.grant(), Err(unknown), "request, {i} of {n}");
        }
    }
}

/// Each statement is about this request, and the subject key claims it.
#[test]
fn statements_about_something_else_do_not_count() {
    refuses(
        Story::one_approval,
        &[
            ("approval of other bytes", Refusal::OtherRequest, |s| s.approval().request = Digest::of(b"x")),
            ("approval of another id", Refusal::OtherRequest, |s| s.approval().id = parsed("0000-0000-00")),
            ("claim of other bytes", Refusal::OtherRequest, |s| s.claim.request = Digest::of(b"x")),
            ("claim of another id", Refusal::OtherRequest, |s| s.claim.id = parsed("0000-0000-00")),
            ("claim by another key", Refusal::NotYours, |s| s.claimant = stranger()),
            ("claim by the requester's own key", Refusal::NotYours, |s| s.claimant = alice()),
            ("claim by another person", Refusal::NotYours, |s| s.claim.person = person("bob")),
            ("claim for another key", Refusal::NotYours, |s| s.claim.key = stranger().public().fingerprint()),
            ("request in another's name", Refusal::NotTheirKey { person: person("alice") }, |s| s.requester = bob()),
            ("request by an emergency key", Refusal::UnknownKey, |s| s.requester = alices_emergency_key()),
            ("request by the subject key", Refusal::UnknownKey, |s| s.requester = subject()),
        ],
    );
}

#[test]
fn the_policy_bounds_what_is_asked() {
    refuses(
        Story::automatic,
        &[
            ("a role of others", Refusal::NotEligible { person: person("bob"), role: role("vault") }, |s| {
                (s.requester, s.request.person, s.request.role) = (bob(), person("bob"), role("vault"));
            }),
            (
                "a role one may only decide on",
                Refusal::NotEligible { person: person("dan"), role: role("db-prod") },
                |s| {
                    (s.requester, s.request.person) = (dan(), person("dan"));
                },
            ),
            (
                "a second too long",
                Refusal::TooLong { asked: seconds(14401), most: seconds(14400), role: role("db-prod") },
                |s| s.request.seconds = Some(seconds(14401)),
            ),
            ("another role's host", Refusal::UnknownHost { host: parsed("vault1"), role: role("db-prod") }, |s| {
                s.request.hosts = list(&["db1", "vault1"]);
            }),
            ("a host twice", Refusal::Duplicate { field: "hosts" }, |s| s.request.hosts = list(&["db1", "db1"])),
        ],
    );
}

/// A subject key serves one request, and is no key that the policy names (K02).
#[test]
fn the_subject_key_is_fresh() {
    let taken = || Refusal::SubjectKeyTaken { why: "the policy names this key" };
    refuses(
        Story::one_approval,
        &[
            ("the requester's everyday key", taken(), |s| s.request.key = alices_other_key().public()),
            ("somebody else's everyday key", taken(), |s| s.request.key = dan().public()),
            ("an emergency key", taken(), |s| s.request.key = alices_emergency_key().public()),
            ("a revoked key", taken(), |s| {
                s.policy = format!("revoked_keys = [{}]\n{}", line(&subject()), s.policy);
            }),
            ("ECDSA", Refusal::SubjectKeyKind, |s| s.request.key = ecdsa_key()),
            ("RSA", Refusal::SubjectKeyKind, |s| s.request.key = PublicKey::from_blob(&rsa_blob(3072)).unwrap()),
            ("FIDO", Refusal::SubjectKeyKind, |s| s.request.key = Key::fido(9, 1, 0).public()),
        ],
    );
}

#[test]
fn time_runs_forward_and_out() {
    refuses(
        Story::one_approval,
        &[
            ("approved before it was asked", Refusal::OutOfOrder, |s| s.approval().at = at(-1)),
            ("claimed before it was approved", Refusal::OutOfOrder, |s| s.claim.at = at(9)),
            ("approved a second too late", Refusal::Lapsed { at: at(24 * 3600) }, |s| {
                (s.approval().at, s.claim.at) = (at(24 * 3600 + 1), at(24 * 3600 + 2));
                s.approval().claim_by = at(25 * 3600);
            }),
            ("a second after claim_by", Refusal::Lapsed { at: at(3610) }, |s| s.claim.at = at(3611)),
            ("a second before its start", Refusal::TooEarly { start: at(21) }, |s| {
                (s.request.start, s.approval().start) = (Some(at(21)), Some(at(21)));
            }),
            ("a start that is over", Refusal::StartOutOfReach, |s| {
                (s.request.start, s.approval().start) = (Some(at(-1)), Some(at(-1)));
            }),
            ("a start further than 30 days ahead", Refusal::StartOutOfReach, |s| {
                let start = Some(at(30 * 86_400 + 1));
                (s.request.start, s.approval().start) = (start, start);
                (s.approval().claim_by, s.claim.at) = (at(30 * 86_400 + 2), at(30 * 86_400 + 1));
            }),
            ("a second more to claim after its start", Refusal::Wider { field: "claim_by" }, |s| {
                (s.request.start, s.approval().start) = (Some(at(50)), Some(at(50)));
                (s.approval().claim_by, s.claim.at) = (at(50 + 4 * 3600 + 1), at(50));
            }),
        ],
    );
    refuses(
        Story::automatic,
        &[
            ("claimed before it was asked", Refusal::OutOfOrder, |s| s.claim.at = at(-1)),
            ("a second after claim_within", Refusal::Lapsed { at: at(4 * 3600) }, |s| s.claim.at = at(4 * 3600 + 1)),
            ("a second before its start", Refusal::TooEarly { start: at(21) }, |s| s.request.start = Some(at(21))),
            ("a second after claim_within from its start", Refusal::Lapsed { at: at(50 + 4 * 3600) }, |s| {
                (s.request.start, s.claim.at) = (Some(at(50)), at(50 + 4 * 3600 + 1));
            }),
        ],
    );
    refuses(
        Story::two_approvals,
        &[
            ("one of them lapsed", Refusal::Lapsed { at: at(19) }, |s| s.second().claim_by = at(19)),
            ("one of them is of tomorrow", Refusal::OutOfOrder, |s| {
                (s.second().at, s.second().claim_by) = (at(21), at(22));
            }),
        ],
    );
    // The last moments, which still count.
    let mut story = Story::one_approval();
    story.approval().claim_by = at(10 + 4 * 3600);
    for (asked, approved, claimed) in [(0, 24 * 3600, 28 * 3600), (0, 0, 0), (10, 10, 10), (0, 10, 10 + 4 * 3600)] {
        (story.request.at, story.approval().at, story.claim.at) = (at(asked), at(approved), at(claimed));
        story.approval().claim_by = at(approved + 4 * 3600);
        assert!(story.grant().is_ok(), "{asked} {approved} {claimed}");
    }
    (story.request.start, story.approval().start, story.claim.at) = (Some(at(50)), Some(at(50)), at(50));
    assert!(story.grant().is_ok(), "at its start");
    story.approval().claim_by = at(50 + 4 * 3600);
    story.claim.at = at(50 + 4 * 3600);
    assert!(story.grant().is_ok(), "as long after its start as after an approval");
    let month = Some(at(30 * 86_400));
    (story.request.start, story.approval().start) = (month, month);
    (story.approval().claim_by, story.claim.at) = (at(30 * 86_400), at(30 * 86_400));
    assert!(story.grant().is_ok(), "a month ahead");
    let automatic = Request { start: Some(at(50)), ..Story::automatic().request };
    let automatic =
        Story { request: automatic, claim: Claim { at: at(50 + 4 * 3600), ..claim() }, ..Story::automatic() };
    assert!(automatic.grant().is_ok(), "the same where nobody is asked");
    let automatic = Story { claim: Claim { at: at(4 * 3600), ..claim() }, ..Story::automatic() };
    assert!(automatic.grant().is_ok());
}

#[test]
fn a_role_may_demand_pin_or_finger_of_its_approvers() {
    let with_flags = |flags| {
        let key = Key::fido(4, flags, 1);
        let mut story = Story::one_approval();
        story.edit_policy(&line(&carol()), &line(&key));
        story.edit_policy("default = \"1h\"", "default = \"1h\"\nverify_required = true");
        story.approvals[0].0 = key;
        story.grant()
    };
    let not_verified = Refusal::Signature { why: BadSignature::NotVerified };
    assert_eq!(with_flags(1), Err(not_verified.clone()), "touched only");
    assert!(with_flags(5).is_ok());
    let mut story = Story::one_approval();
    story.edit_policy("default = \"1h\"", "default = \"1h\"\nverify_required = true");
    assert_eq!(story.grant(), Err(not_verified), "a plain key cannot");
}

/// A break-glass statement, who signs it, and under which policy.
struct Emergency {
    policy: String,
    key: Key,
    statement: BreakGlass,
}

impl Emergency {
    fn of_alice() -> Self {
        Self { policy: policy_text(), key: alices_emergency_key(), statement: break_glass() }
    }

    /// dan's FIDO key opens vault, with PIN.
    fn of_dan() -> Self {
        let statement = BreakGlass { person: person("dan"), role: role("vault"), ..break_glass() };
        Self { key: dans_emergency_key(), statement, ..Self::of_alice() }
    }

    fn grant(&self) -> Result<Grant, Refusal> {
        let verified = self.key.verified(&self.statement);
        Grant::break_glass(&Policy::parse(&self.policy).unwrap(), &verified, None, None, 5)
    }
}

#[test]
fn a_registered_key_breaks_the_glass() {
    let grant = Emergency::of_alice().grant().unwrap();
    assert_eq!(grant.path(), Path::BreakGlass);
    assert_eq!(grant.key(), &alices_emergency_key().public(), "certifies itself");
    assert_eq!(grant.seconds().get(), 300);
    assert_eq!((grant.valid_after(), grant.valid_before()), (at(-5), at(295)));
    assert_eq!(shown(grant.principals()), ["db-prod@db1", "db-prod@db2"]);
    assert_eq!(shown(grant.extensions()), ["permit-pty"], "no forwarding, which outlives the certificate");
    assert!(grant.key_id().starts_with("BREAK-GLASS/7F3K-9QPX-M2/alice/db-prod/SHA256:"));
    assert!(grant.critical_options().is_empty());
    let grant = Emergency::of_dan().grant().unwrap();
    let both = options(&[("source-address", "10.0.0.0/8"), ("verify-required", "")]);
    assert_eq!(grant.critical_options(), &both, "the role's restrictions hold in an emergency too");
    let mut short = Emergency::of_alice();
    short.policy = short.policy.replace("max = \"10m\"", "max = \"2m\"");
    assert_eq!(short.grant().unwrap().seconds().get(), 120, "the default is not above the key's max");
}

/// The policy with a canary role that alice's emergency key opens, too.
fn with_canary(policy: &str) -> String {
    let canary = "\n[roles.canary]\nhosts = [\"canary1\"]\nprincipals = [\"canary\"]\nrequesters = [\"sre\"]\n\
                  approvers = [\"dba\"]\nmax = \"1h\"\n\n[drill]\nrole = \"canary\"\nhost = \"canary1\"\n";
    edit(policy, "roles = [\"db-prod\", \"web\"]", "roles = [\"db-prod\", \"web\", \"canary\"]") + canary
}

/// A drill says so in its key id, and opens the canary alone. Whoever opens the canary without saying that it is a
/// drill means it.
#[test]
fn a_drill_is_marked_and_opens_the_canary() {
    let mut drill = Emergency::of_alice();
    drill.policy = with_canary(&drill.policy);
    (drill.statement.role, drill.statement.drill) = (role("canary"), Some(vec![]));
    let grant = drill.grant().unwrap();
    assert!(grant.key_id().starts_with("BREAK-GLASS/7F3K-9QPX-M2/alice/canary/DRILL/SHA256:"), "{}", grant.key_id());
    assert_eq!(shown(grant.principals()), ["canary@canary1"]);
    drill.statement.drill = None;
    let grant = drill.grant().unwrap();
    assert!(grant.key_id().starts_with("BREAK-GLASS/7F3K-9QPX-M2/alice/canary/SHA256:"), "{}", grant.key_id());
}

/// While a review is overdue in the team nobody gets a certificate that no person approved; what people approve counts.
#[test]
fn an_overdue_review_takes_the_policy_its_own_approval() {
    let overdue = Overdue { id: request_id(), person: person("bob"), due: at(-60) };
    let around = Circumstances { overdue: Some(&overdue), ..unknown() };
    let refusal = Refusal::ReviewOverdue { role: role("db-prod"), overdue: overdue.clone() };
    assert_eq!(Story::automatic().grant_around(&around), Err(refusal.clone()));
    assert!(refusal.to_string().contains("7F3K-9QPX-M2"), "it names the review: {refusal}");
    assert!(Story::automatic().grant().is_ok(), "otherwise it is had without asking");
    assert!(Story::one_approval().grant_around(&around).is_ok(), "people decide as ever");
}

#[test]
fn nothing_else_breaks_the_glass() {
    let denied = |rule: &str| {
        let because = String::new();
        Refusal::DeniedByRule { role: role("db-prod"), rule: parsed(rule), because }
    };
    let reason = |text: &str| {
        let rule = "say in 20 characters or more, not one word repeated, what is broken";
        Refusal::Field { invalid: Invalid::new("reason", text, rule) }
    };
    let cases: &[Case<Emergency>] = &[
        ("a key nobody knows", Refusal::NotEmergencyKey, |e| e.key = stranger()),
        ("the person's everyday key", Refusal::NotEmergencyKey, |e| e.key = alice()),
        ("somebody else's emergency key", Refusal::NotEmergencyKey, |e| e.key = dans_emergency_key()),
        ("in somebody else's name", Refusal::NotEmergencyKey, |e| e.statement.person = person("bob")),
        ("a revoked key", Refusal::NotEmergencyKey, |e| {
            e.policy = format!("revoked_keys = [{}]\n{}", line(&alices_emergency_key()), e.policy);
        }),
        ("a role outside the key's", Refusal::NotEmergencyKey, |e| e.statement.role = role("vault")),
        ("a role that is gone", Refusal::NotEmergencyKey, |e| e.statement.role = role("db-old")),
        (
            "a second over its max",
            Refusal::TooLong { asked: seconds(601), most: seconds(600), role: role("db-prod") },
            |e| e.statement.seconds = Some(seconds(601)),
        ),
        ("19 characters", reason("primary is down, he"), |e| e.statement.reason = parsed("primary is down, he")),
        ("one word", reason("down down down down down"), |e| e.statement.reason = parsed("down down down down down")),
        ("another role's host", Refusal::UnknownHost { host: parsed("vault1"), role: role("db-prod") }, |e| {
            e.statement.hosts = list(&["vault1"]);
        }),
        ("a wider principal", Refusal::UnknownPrincipal { principal: "root".to_owned() }, |e| {
            e.statement.principals = list(&["root"]);
        }),
        ("a kind that the policy does not take", Refusal::CategoryNotTaken { taken: "outage".to_owned() }, |e| {
            e.policy = format!("{}[break_glass]\ncategories = [\"outage\"]\n", e.policy);
            e.statement.category = Category::Other;
        }),
        ("what a rule denies", denied("freeze"), |e| {
            e.policy = format!("{}[[rules]]\nname = \"freeze\"\neffect = \"deny\"\n", e.policy);
        }),
        ("a host that a rule denies", denied("audit"), |e| {
            let rule = "[[rules]]\nname = \"audit\"\neffect = \"deny\"\nhosts = [\"db2\"]\n";
            e.policy = format!("{}{rule}", e.policy);
        }),
        ("a drill of a real role", Refusal::NotADrill { role: role("db-prod") }, |e| e.statement.drill = Some(vec![])),
        ("a drill of another role than the canary", Refusal::NotADrill { role: role("db-prod") }, |e| {
            e.policy = with_canary(&e.policy);
            e.statement.drill = Some(vec![]);
        }),
    ];
    for (name, expected, change) in cases {
        let mut emergency = Emergency::of_alice();
        change(&mut emergency);
        assert_eq!(emergency.grant().as_ref(), Err(expected), "{name}");
    }
    let mut longest = Emergency::of_alice();
    longest.statement.seconds = Some(seconds(600));
    longest.statement.reason = parsed("primary is down, hel");
    assert!(longest.grant().is_ok(), "20 characters and the whole 10 minutes");
    let no_pin = Emergency { key: Key::fido(8, 1, 1), ..Emergency::of_dan() };
    assert_eq!(no_pin.grant(), Err(Refusal::Signature { why: BadSignature::NotVerified }));
}

/// Every length that there is: what stands in the certificate's bytes is exactly that long.
#[test]
fn no_length_is_stretched() {
    let granted = Story::automatic().grant().unwrap();
    let (ca, serial) = (Key::from_seed(99).public(), crate::domain::statement::Serial::new(1, 1).unwrap());
    for length in 1..=43200 {
        let seconds = Seconds::new(length).unwrap();
        let grant = Grant { seconds, valid_after: shifted(at(0), seconds, length as u32 % 61), ..granted.clone() };
        let tbs = crate::domain::certificate::ToBeSigned::new(grant.clone(), serial, [0; 32], &ca);
        let window = [grant.valid_after(), grant.valid_before()].map(|t| t.unix().cast_unsigned().to_be_bytes());
        let stands = tbs.bytes().windows(16).any(|bytes| bytes == window.concat());
        assert!(stands && grant.valid_before().since(grant.valid_after()).unsigned_abs() == length, "{length} s");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// V02: the window is exactly as long as approved, on every path, and skew moves it without
    /// stretching it.
    #[test]
    fn the_window_is_exact_to_the_second(length in 1..=43200u32, skew in 0..=60u32, wait in 0..=3590i64) {
        let mut story = Story::one_approval();
        story.edit_policy("max = \"4h\"", "max = \"12h\"");
        story.skew = skew;
        story.request.seconds = Some(seconds(43200));
        story.approval().seconds = seconds(u64::from(length));
        story.claim.at = at(20 + wait);
        let mut automatic = Story { skew, claim: story.claim.clone(), ..Story::automatic() };
        automatic.edit_policy("max = \"15m\" }\nmax = \"4h\"", "max = \"12h\" }\nmax = \"12h\"");
        automatic.request.seconds = Some(seconds(u64::from(length)));
        let emergency = BreakGlass { seconds: Some(seconds(u64::from(length % 600 + 1))), ..break_glass() };
        let emergency = Grant::break_glass(&policy(), &alices_emergency_key().verified(&emergency), None, None, skew);
        for (grant, length, begin) in [
            (story.grant(), length, story.claim.at),
            (automatic.grant(), length, story.claim.at),
            (emergency, length % 600 + 1, at(0)),
        ] {
            let grant = grant.unwrap();
            prop_assert_eq!(grant.seconds().get(), length);
            prop_assert_eq!(grant.valid_before().since(grant.valid_after()), i64::from(length));
            prop_assert_eq!(begin.since(grant.valid_after()), i64::from(skew.min(length / 4)));
        }
    }
}
