//! `ssh-jit ensure`: what plain ssh runs before it connects. Access that is here already costs no question to the
//! service; else it is asked for, once, however many ssh start at a time. Nothing goes to standard output.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};

use serde::{Deserialize, Serialize};
use ssh_key::Certificate;

use crate::client::certificate::blob;
use crate::client::state::{KnownRole, Pending, State};
use crate::client::subject::Subject;
use crate::domain::names::{HostName, RoleName};
use crate::domain::text::Reason;
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;
use crate::domain::verify::Signed;
use crate::wire::{RequestView, RoleView, StateView};

use super::asking::{self, Asked, Waiting, Wish};
use super::person::Person;
use super::{Context, Exit, Failure, done, login};

/// What ends sooner than this is as good as over: ssh has to connect yet.
const MOMENT: i64 = 10;
/// So many reasons that are none are enough.
const MOST_TRIES: usize = 3;
/// No reason is longer by far.
const LONGEST_LINE: u64 = 8192;
/// The options of ssh(1) that take a value.
const WITH_VALUE: &[u8] = b"bcDeEFIiJLlmOopBPQRSwW";

/// What `ensure` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The host, as ssh has it in %h
    host: String,
    /// The role, where several that you may ask for cover the host
    #[arg(long, value_name = "ROLE")]
    role: Option<RoleName>,
}

/// How an attempt ended, for those who waited for it.
#[derive(Serialize, Deserialize)]
struct Outcome {
    exit: u8,
    message: String,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    if only_shows_configuration() {
        return Ok(Exit::Done);
    }
    let host: HostName = args.host.to_ascii_lowercase().parse().map_err(Failure::misuse)?;
    if is_open(context, &host, args.role.as_ref())? {
        return Ok(Exit::Done);
    }
    let mut person = Person::open(context)?;
    let role = args.role.clone().map_or_else(|| the_role(&mut person, &host), Ok)?;
    let mut lock = person.service.state.lock_file(&role)?;
    if waited_for_another(context, &lock, &role)? {
        if is_open(context, &host, args.role.as_ref())? {
            return Ok(Exit::Done);
        }
        if let Some(outcome) = read(&mut lock)? {
            context.ui.say(format_args!("{host}: {}", outcome.message));
            return Ok(Exit::Command(outcome.exit));
        }
    }
    lock.set_len(0)?;
    let done = ask(&mut person, &role, &host);
    if let Err(failure) = &done {
        write(&mut lock, &Outcome { exit: failure.exit.code(), message: failure.message.clone() })?;
    }
    done
}

/// Whether ssh was told to print its configuration only (`ssh -G`), which runs this, too. Who started us is asked of
/// the system where it says so (Linux); elsewhere nobody can tell. Between ssh and us stands the person's shell, unless
/// it makes way for its last command, as bash does and dash does not.
fn only_shows_configuration() -> bool {
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    let above = parent.and_then(|pid| parent_of(pid.get()));
    let line = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_g = |pid| has_g(&line(pid).split(|byte| *byte == 0).collect::<Vec<_>>());
    parent.is_some_and(|pid| is_g(pid.get())) || above.is_some_and(is_g)
}

/// A process's parent, by proc_pid_stat(5): `PID (NAME) STATE PPID ...`, where the name may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether this is an `ssh -G`, by the rules of getopt(3): ssh takes options before the host and after it.
fn has_g(line: &[&[u8]]) -> bool {
    let Some((program, rest)) = line.split_first() else { return false };
    if program.rsplit(|byte| *byte == b'/').next() != Some(b"ssh") {
        return false;
    }
    let (mut rest, mut named) = (rest.iter(), false);
    while let Some(word) = rest.next() {
        match word.split_first() {
            Some((b'-', letters)) if !letters.is_empty() => {
                let value = letters.iter().position(|letter| WITH_VALUE.contains(letter));
                if letters[..value.unwrap_or(letters.len())].contains(&b'G') {
                    return true;
                }
                // The value is what is left of the word, or the next one.
                if value == Some(letters.len() - 1) {
                    rest.next();
                }
            }
            _ if named => return false,
            _ => named = true,
        }
    }
    false
}

/// Whether the host opens with what is here: in the agent that ssh will ask, or in files. Nobody else is asked.
fn is_open(context: &Context, host: &HostName, role: Option<&RoleName>) -> Result<bool, Failure> {
    let Some(url) = &context.config.server else { return Ok(false) };
    let state = State::open(&context.environment.state, url)?;
    let Some(trust) = state.trust()? else { return Ok(false) };
    let trust = Trust::first_contact(&Signed::try_from(&trust)?)?;
    let now = context.clock.now().second();
    let opens = |blob: &[u8]| opens(blob, &trust, host, role, now);
    let held = context.agent().and_then(|mut agent| agent.identities().ok()).unwrap_or_default();
    if held.iter().any(|identity| opens(&identity.blob)) {
        return Ok(true);
    }
    let in_files = state.all_pending()?.into_iter().filter_map(|pending| {
        let certificate = pending.certificate.filter(|held| !held.in_agent)?;
        blob(&certificate.certificate).filter(|_| state.certificate_path(&pending.id).exists())
    });
    Ok(in_files.into_iter().any(|blob| opens(&blob)))
}

/// Whether a certificate of this service's opens a host for a while yet.
fn opens(blob: &[u8], trust: &Trust, host: &HostName, role: Option<&RoleName>, now: Timestamp) -> bool {
    let Ok(certificate) = Certificate::from_bytes(blob) else { return false };
    let mut cas = trust.user_ca.iter().chain(&trust.break_glass_ca);
    let lives = u64::try_from(now.unix()).is_ok_and(|now| certificate.valid_after() <= now)
        && u64::try_from(now.plus(MOMENT).unix()).is_ok_and(|soon| soon < certificate.valid_before());
    let here = |principal: &String| principal.split_once('@').is_some_and(|(_, at)| at == host.as_str());
    // `ssh-jit/<request>/<person>/<role>/<evidence>`
    let for_role = |role: &RoleName| certificate.key_id().split('/').nth(3) == Some(role.as_str());
    lives
        && cas.any(|ca| ca.data() == certificate.signature_key())
        && certificate.valid_principals().iter().any(here)
        && role.is_none_or(for_role)
}

/// Asks the service for the roles that the person may ask for, and remembers them.
pub(super) fn learn_roles(person: &mut Person<'_>) -> Result<Vec<KnownRole>, Failure> {
    let listed: Vec<RoleView> = person.read("/v1/roles")?;
    let mine = listed.into_iter().filter(|role| role.may_request && !role.hosts.is_empty());
    let roles: Vec<KnownRole> = mine.map(|role| KnownRole { name: role.name, hosts: role.hosts }).collect();
    person.service.state.set_roles(&roles)?;
    Ok(roles)
}

/// The role for this host: the only one, or the one that was used last.
fn the_role(person: &mut Person<'_>, host: &HostName) -> Result<RoleName, Failure> {
    let covering = |roles: Vec<KnownRole>| -> Vec<RoleName> {
        roles.into_iter().filter(|role| role.hosts.contains(host)).map(|role| role.name).collect()
    };
    let mut found = covering(person.service.state.roles()?);
    if found.is_empty() {
        found = covering(learn_roles(person)?);
    }
    let used = person.service.state.used()?;
    let last = found.iter().filter_map(|role| used.get(role).map(|at| (*at, role))).max().map(|(_, role)| role.clone());
    let names = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (last, found.as_slice()) {
        (_, []) => Err(Failure::new(format!("no role that you may ask for covers {host}"))
            .exit(Exit::NotEligible)
            .hint("ssh-jit roles lists what you may ask for")),
        (_, [only]) => Ok(only.clone()),
        (Some(last), _) => Ok(last),
        (None, _) => Err(Failure::misuse(format!("several roles cover {host}: {names}"))
            .hint("ssh-jit login ROLE --reason \"...\"; from then on ssh takes the one that you used last")),
    }
}

/// Takes the lock. Gives whether somebody else had it first.
fn waited_for_another(context: &Context, lock: &File, role: &RoleName) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            context.ui.say(format_args!("{role} is being asked for already; waiting for that"));
            lock.lock()?;
            Ok(true)
        }
    }
}

fn read(lock: &mut File) -> io::Result<Option<Outcome>> {
    let mut text = String::new();
    lock.rewind()?;
    lock.take(LONGEST_LINE).read_to_string(&mut text)?;
    // Whoever was killed wrote nothing, or half of it.
    Ok(serde_json::from_str(&text).ok())
}

fn write(lock: &mut File, outcome: &Outcome) -> io::Result<()> {
    lock.rewind()?;
    lock.write_all(&serde_json::to_vec(outcome)?)
}

/// Asks, or goes on with what was asked for before, and waits for what becomes of it.
fn ask(person: &mut Person<'_>, role: &RoleName, host: &HostName) -> Result<Exit, Failure> {
    let asked =
        if let Some(asked) = open_request(person, role, host)? { asked } else { new_request(person, role, host)? };
    let Asked { mut pending, mut subject, view } = asked;
    asking::announce(person, &view)?;
    let waiting = Waiting::of(person, &pending);
    let view = waiting.decided(view)?;
    if waiting.begins_later(&view) {
        let later = format!("{role} is approved, and does not begin yet");
        return Err(Failure::new(later).exit(Exit::Pending).hint(format!("ssh-jit login {}", pending.id)));
    }
    if !matches!(view.state, StateView::Approved { .. } | StateView::Active { .. }) {
        done::clear_away(person.context, person, &pending)?;
        return Err(asking::ended(&view).hint(format!("ssh goes on without access, and {host} will refuse it")));
    }
    let (issued, checked) = asking::claim(person, &pending, &mut subject, &view)?;
    login::take(person, &mut pending, &subject, issued, &checked)
}

/// Asks for the role, for its default length and on all of its hosts: the next ssh may be to another of them.
fn new_request(person: &mut Person<'_>, role: &RoleName, host: &HostName) -> Result<Asked, Failure> {
    let reason = ask_reason(role, host)?;
    let role = role.clone();
    let (seconds, hosts, ticket, start, extends) = (None, Vec::new(), None, None, None);
    let asked = asking::ask(person, Wish { role, seconds, hosts, ticket, reason, start, extends })?;
    asking::keep(person, &asked)?;
    Ok(asked)
}

/// A request for this role and host that is open still, and whose key is at hand: Ctrl-C in an ssh keeps it.
fn open_request(person: &Person<'_>, role: &RoleName, host: &HostName) -> Result<Option<Asked>, Failure> {
    let fits = |p: &Pending| {
        let open = p.certificate.is_none() && p.emergency.is_none() && p.extends.is_none();
        open && p.person == person.name && p.role == *role && (p.hosts.is_empty() || p.hosts.contains(host))
    };
    for pending in person.service.state.all_pending()?.into_iter().filter(fits) {
        let file = person.service.state.key_path(&pending.id);
        let path = format!("/v1/requests/{}/wait?seconds=0", pending.id);
        let view: Result<RequestView, _> = person.service.api.get_as(&path, &pending.waiter);
        let Ok(view) = view else { continue };
        let open = matches!(view.state, StateView::Requested { .. } | StateView::Approved { .. });
        if let Ok(subject) = Subject::find(&pending.key, &file, person.agent(), None)
            && open
        {
            return Ok(Some(Asked { pending, subject, view }));
        }
    }
    Ok(None)
}

/// Asks the person, on their terminal: standard input and output are ssh's.
fn ask_reason(role: &RoleName, host: &HostName) -> Result<Reason, Failure> {
    let hint = format!("ssh-jit login {role} --reason \"...\", then ssh {host}");
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| {
        Failure::misuse(format!("{role} is needed for {host}, with a reason, and there is no terminal to ask for it"))
            .hint(&hint)
    })?;
    let mut lines = BufReader::new(&terminal);
    for _ in 0..MOST_TRIES {
        // In one piece: other commands may be writing here.
        (&terminal).write_all(format!("ssh-jit: why do you need {role} on {host}? ").as_bytes())?;
        let mut line = String::new();
        if (&mut lines).take(LONGEST_LINE).read_line(&mut line)? == 0 {
            break;
        }
        match line.trim().parse() {
            Ok(reason) => return Ok(reason),
            Err(error) => writeln!(&terminal, "ssh-jit: {error}")?,
        }
    }
    Err(Failure::misuse("a reason is needed: whoever decides reads it").hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_that_only_shows_its_configuration_is_told_by_its_options() {
        let table = [
            ("ssh -G db1", true),
            ("/usr/bin/ssh -vG db1", true),
            ("ssh db1 -G", true),
            ("ssh -p 22 -G db1", true),
            ("ssh -oUser=G -4G db1", true),
            ("ssh db1", false),
            ("ssh -l G db1", false),
            ("ssh -lG db1", false),
            ("ssh -o G db1", false),
            ("ssh db1 grep -G x", false),
            ("ssh -v -p 22 alice@db1 ls -G", false),
            ("scp -G db1", false),
            ("", false),
        ];
        for (line, expected) in table {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            assert_eq!(has_g(&words), expected, "{line}");
        }
    }
}
