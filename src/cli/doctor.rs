//! `ssh-jit doctor`: what works from here, and what to do about the rest.

use crate::client::api::Api;
use crate::client::identity::Identity;
use crate::domain::alarm::Alarm;
use crate::domain::text::visible;
use crate::domain::time::Timestamp;
use crate::wire::{AftermathView, ChannelView, HostView, Now, OpenReviewView, ProofView, RoleView};

use super::host::list::lags;
use super::person::{Person, Service};
use super::ui::{ask_passphrase, millis, time};
use super::{Context, Exit, Failure};

/// One thing that was looked at.
#[derive(serde::Serialize)]
struct Finding {
    what: &'static str,
    well: bool,
    /// It works, and should not be left so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warning: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub(super) fn run(context: &Context) -> Exit {
    let mut findings = vec![service(context), pin(context), clock(context), agent(context), identity(context)];
    // Without an agent keys lie in files, and sign as well.
    if findings.iter().all(|f| f.well || f.what == "ssh-agent") {
        findings.push(policy(context));
        findings.push(emergency_keys(context));
        findings.extend(channels(context));
        findings.extend(alarms(context));
        findings.extend(hosts(context));
        findings.extend(aftermath(context));
    }
    let well = findings.iter().all(|f| f.well);
    if context.ui.json {
        context.ui.data(&findings);
    } else {
        for finding in &findings {
            let mark = match (finding.well, finding.warning) {
                (true, false) => "ok ",
                (true, true) => "!  ",
                (false, _) => "NOT",
            };
            context.ui.out(format_args!("{mark}  {:<9} {}", finding.what, visible(&finding.found)));
            if let Some(hint) = &finding.hint {
                context.ui.out(format_args!("               -> {hint}"));
            }
        }
    }
    if well { Exit::Done } else { Exit::Failed }
}

fn finding(what: &'static str, outcome: Result<String, Failure>) -> Finding {
    match outcome {
        Ok(found) => Finding { what, well: true, warning: false, found, hint: None },
        Err(failure) => Finding { what, well: false, warning: false, found: failure.message, hint: failure.hint },
    }
}

fn service(context: &Context) -> Finding {
    let look = || {
        let url = context.config.server.as_deref();
        let url = url.ok_or_else(|| Failure::new("no service is known").hint("ssh-jit setup --server URL"))?;
        let now: Now = Api::new(url, context.config.tls_ca.as_deref())?.get("/v1/now")?;
        Ok(format!("{url} answers, version {}", now.version))
    };
    finding("service", look())
}

fn pin(context: &Context) -> Finding {
    finding(
        "trust",
        Service::open(context).map(|s| format!("instance {}, trust document {}", s.trust.instance, s.trust.number)),
    )
}

fn clock(context: &Context) -> Finding {
    let look =
        || {
            let ahead = Service::open(context)?.ahead();
            match ahead.abs() {
                0..=5 => Ok(format!("within {} s of the service's", ahead.abs())),
                _ => Err(Failure::new(format!("{} s off the service's", ahead.abs()))
                    .hint("set the clock, by NTP for instance")),
            }
        };
    finding("clock", look())
}

fn agent(context: &Context) -> Finding {
    let look = || {
        let path = context.environment.agent.as_deref();
        let path = path.ok_or_else(|| {
            Failure::new("SSH_AUTH_SOCK is not set").hint("eval $(ssh-agent); without one, keys lie in files")
        })?;
        let held = crate::client::agent::Agent::connect(path)?.identities()?.len();
        if held > 5 {
            return Err(Failure::new(format!("{held} keys: sshd gives up after six tries"))
                .hint("ssh-add -D, or IdentitiesOnly yes"));
        }
        Ok(format!("{} holds {held} keys", path.display()))
    };
    finding("ssh-agent", look())
}

fn identity(context: &Context) -> Finding {
    let look = || {
        let unknown = || Failure::new("your key is not known").hint("ssh-jit setup --identity FILE");
        let path = context.config.identity.clone().ok_or_else(unknown)?;
        let key = Identity::open(&path, context.agent(), &ask_passphrase)?.public_key().clone();
        Ok(format!("{} {} is at hand", key.algorithm(), key.fingerprint()))
    };
    finding("identity", look())
}

/// Signing in shows that the policy knows name and key.
fn policy(context: &Context) -> Finding {
    let look = || {
        let mut person = Person::open(context)?;
        let roles: Vec<RoleView> = person.read("/v1/roles")?;
        let ask = roles.iter().filter(|r| r.may_request).count();
        let decide = roles.iter().filter(|r| r.may_decide).count();
        Ok(format!("knows {} and this key: {ask} roles to ask for, {decide} to decide on", person.name))
    };
    finding("policy", look())
}

/// Whether somebody could break the glass: one key may be where nobody gets at it.
fn emergency_keys(context: &Context) -> Finding {
    let look = || {
        let roles: Vec<RoleView> = Person::open(context)?.read("/v1/roles")?;
        let none = || {
            Failure::new("no emergency key opens any role that you see")
                .hint("register two in the policy, [[emergency_keys]], and keep them apart")
        };
        let most = roles.iter().map(|role| role.emergency_keys).max().filter(|most| *most > 0).ok_or_else(none)?;
        let lone: Vec<&str> =
            roles.iter().filter(|role| role.emergency_keys == 1).map(|role| role.name.as_str()).collect();
        Ok((most, lone.join(", ")))
    };
    match look() {
        Ok((_, lone)) if !lone.is_empty() => Finding {
            warning: true,
            hint: Some("register a second one, which lies elsewhere".to_owned()),
            ..finding("emergency", Ok(format!("one emergency key only opens {lone}")))
        },
        outcome => finding("emergency", outcome.map(|(most, _)| format!("up to {most} keys open a role"))),
    }
}

/// The ways in which the service tells people, where this person may see them.
fn channels(context: &Context) -> Vec<Finding> {
    let read = || {
        let mut person = Person::open(context)?;
        let channels = person.read::<Vec<ChannelView>>("/v1/channels")?;
        Ok::<_, Failure>((channels, person.now()?))
    };
    match read() {
        Ok((channels, now)) => channels.iter().map(|view| finding("channel", channel(view, now))).collect(),
        Err(failure) if failure.code == "no-duty" => Vec::new(),
        Err(failure) => vec![finding("channel", Err(failure))],
    }
}

/// Certificates that were made behind the service's back, where this person may hear of them.
fn alarms(context: &Context) -> Vec<Finding> {
    let read = || {
        let mut person = Person::open(context)?;
        Ok::<_, Failure>((person.read::<Vec<Alarm>>("/v1/alarms")?, person.now()?))
    };
    let told = |alarm: &Alarm, now| {
        let Alarm { used, serial, key_id } = alarm;
        Failure::new(format!(
            "a certificate that is not in the log opened {} as {} {}: serial {serial}, {key_id}",
            used.host,
            used.account,
            time(used.began, now)
        ))
        .hint("somebody else signs with a CA key: take it from the hosts, and look into ca-keys")
    };
    match read() {
        Ok((alarms, now)) => alarms.iter().map(|alarm| finding("ALARM", Err(told(alarm, now)))).collect(),
        Err(failure) if failure.code == "no-duty" => Vec::new(),
        Err(failure) => vec![finding("alarms", Err(failure))],
    }
}

/// Hosts that do not follow, where this person may know; how many do.
fn hosts(context: &Context) -> Vec<Finding> {
    let read = || {
        let mut person = Person::open(context)?;
        Ok::<_, Failure>((person.read::<Vec<HostView>>("/v1/hosts")?, person.service.trust.number, person.now()?))
    };
    let (hosts, newest, now) = match read() {
        Ok(found) => found,
        Err(failure) if failure.code == "no-duty" => return Vec::new(),
        Err(failure) => return vec![finding("hosts", Err(failure))],
    };
    let behind = |host: &HostView| {
        let why = lags(host, newest, now)?;
        let hint = "ssh-jit host sync there, with name in its host.toml; ssh-jit host check says more";
        Some(finding("host", Err(Failure::new(format!("{}: {why}", host.host)).hint(hint))))
    };
    let mut found: Vec<Finding> = hosts.iter().filter_map(behind).collect();
    if found.len() < hosts.len() {
        found.push(finding("hosts", Ok(format!("{} follow", hosts.len() - found.len()))));
    }
    found
}

/// What stays wrong after broken glass, and whether it was shown to work.
fn aftermath(context: &Context) -> Vec<Finding> {
    let read = || {
        let mut person = Person::open(context)?;
        Ok::<_, Failure>((person.read::<AftermathView>("/v1/aftermath")?, person.now()?))
    };
    let (found, now) = match read() {
        Ok(found) => found,
        Err(failure) => return vec![finding("reviews", Err(failure))],
    };
    let overdue = found.reviews.iter().filter(|open| open.overdue).map(|open| {
        let OpenReviewView { id, person, role, due, .. } = open;
        Failure::new(format!("how {person} broke the glass for {role} was to be reviewed {}", time(*due, now)))
            .hint(format!("ssh-jit review {id}; until then nothing is approved by itself for the groups of {person}"))
    });
    let overused = found.overuse.iter().map(|overuse| Failure::new(overuse).hint(&overuse.instead));
    overdue
        .map(|failure| finding("reviews", Err(failure)))
        .chain(overused.map(|failure| finding("overuse", Err(failure))))
        .chain(found.proof.iter().map(|proof| finding("drills", drills(proof, now))))
        .collect()
}

fn drills(proof: &ProofView, now: Timestamp) -> Result<String, Failure> {
    let last = match (proof.last, proof.shell_ms) {
        (Some(last), Some(shell)) => format!("break-glass was last proven {}, in {}", time(last, now), millis(shell)),
        _ => "no drill has shown yet that break-glass works".to_owned(),
    };
    if proof.unproven.is_empty() {
        return Ok(last);
    }
    let whose: Vec<_> = proof.unproven.iter().map(|key| format!("{} {}", key.person, key.key)).collect();
    Err(Failure::new(format!("{last}; not proven in time: {}", whose.join(", "))).hint("ssh-jit drill run"))
}

fn channel(view: &ChannelView, now: Timestamp) -> Result<String, Failure> {
    let ChannelView { name, kind, waiting, given_up, .. } = view;
    let last = view.succeeded.map_or_else(|| "told nobody yet".to_owned(), |at| format!("last told {}", time(at, now)));
    let lost = if *given_up > 0 { format!(", {given_up} given up") } else { String::new() };
    let facts = format!("{name} ({kind}): {last}; {waiting} waiting{lost}");
    match (view.since, &view.error) {
        (Some(since), Some(error)) => {
            let failed = format!("{facts}; failed {} times since {}: {error}", view.failures, time(since, now));
            Err(Failure::new(failed).hint(format!("look at [[notify]] {name} of ssh-jit.toml, and at its server")))
        }
        _ => Ok(facts),
    }
}
