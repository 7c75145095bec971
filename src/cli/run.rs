//! `ssh-jit run`: access for one command. The key lives in this process, behind an agent of its own, and is given back
//! when the command ends, however it does.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::client::own_agent::OwnAgent;
use crate::domain::names::{HostName, RoleName, Ticket};
use crate::domain::text::Reason;
use crate::domain::time::Seconds;
use crate::random;
use crate::wire::{RequestView, StateView};

use super::asking::{self, Asked, Waiting, Wish};
use super::person::Person;
use super::ui::{length, time};
use super::{Context, Exit, Failure, done, withdraw};

/// What `run` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The role to ask for
    role: RoleName,
    /// For how long at most, as in 90m or 1h30m; the role's default where it is not given
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<Seconds>,
    /// Why: whoever decides reads this
    #[arg(long, value_name = "TEXT")]
    reason: Reason,
    /// The ticket or incident it is for
    #[arg(long)]
    ticket: Option<Ticket>,
    /// Only for this host of the role (may be given several times)
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// The command, and what it takes
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// So long before access ends it is said, in seconds.
const WARNINGS: [u64; 2] = [600, 120];

/// What there is to react to.
enum Event {
    Signal(Signal),
    /// Access ends in so many seconds.
    Ending(u64),
    Settled(Box<Result<RequestView, Failure>>),
    /// The command has ended, and is still there to be asked how.
    Ended,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let wish = Wish {
        role: args.role.clone(),
        seconds: args.length,
        hosts: args.hosts.clone(),
        ticket: args.ticket.clone(),
        reason: args.reason.clone(),
        start: None,
        extends: None,
    };
    let mut asked = asking::ask(&mut person, wish)?;
    // Not sooner: until here there is nothing to give back, and Ctrl-C ends a prompt.
    let (events, happened) = channel();
    catch_signals(events.clone())?;
    asking::announce(&person, &asked.view)?;
    let view = match settled(&person, &asked, events.clone(), &happened) {
        Ok(view) => view?,
        Err(signal) => return Ok(interrupted(&mut person, &asked, signal)),
    };
    if !matches!(view.state, StateView::Approved { .. } | StateView::Active { .. }) {
        let hint = "the command was not started";
        return Err(asking::ended(&view).hint(hint));
    }
    let (issued, checked) = asking::claim(&person, &asked.pending, &mut asked.subject, &view)?;
    let (role, now) = (&asked.pending.role, person.now()?);
    let until = time(checked.valid_before, now);
    context.ui.good(format_args!("{role} until {until}: {}", checked.principals.join(" ")));
    warn_before(checked.valid_before.since(now), events.clone());
    let exit = serve(context, &asked, &checked.blob, &args.command, (events, &happened));
    give_back(&person, &mut asked, issued.serial);
    exit
}

/// Waits for the decision, or for a signal, whichever comes first.
fn settled(
    person: &Person<'_>,
    asked: &Asked,
    events: Sender<Event>,
    happened: &Receiver<Event>,
) -> Result<Result<RequestView, Failure>, Signal> {
    let (waiting, view) = (Waiting::of(person, &asked.pending), asked.view.clone());
    thread::spawn(move || {
        // Nobody hears it who was interrupted.
        let _ = events.send(Event::Settled(Box::new(waiting.decided(view))));
    });
    loop {
        match happened.recv() {
            Ok(Event::Settled(view)) => return Ok(*view),
            Ok(Event::Signal(signal)) => return Err(signal),
            Ok(Event::Ended | Event::Ending(_)) => {}
            Err(_) => return Ok(Err(Failure::new("nobody waits any more"))),
        }
    }
}

/// Nobody but this process could claim it: it is taken back, so that no approver is asked in vain.
fn interrupted(person: &mut Person<'_>, asked: &Asked, signal: Signal) -> Exit {
    let (id, ui) = (&asked.pending.id, person.context.ui);
    let touch = person.public_key().map_or(true, |key| key.application().is_some());
    let withdrawn = !touch && withdraw::withdraw(person, id, asked.pending.digest).is_ok();
    if withdrawn {
        ui.say(format_args!("interrupted; request {id} is withdrawn"));
    } else {
        ui.say(format_args!("interrupted; request {id} is of no use any more: ssh-jit withdraw {id}"));
    }
    by_signal(signal)
}

/// Has it said that access ends, where it lasts for longer than that.
fn warn_before(left: i64, events: Sender<Event>) {
    thread::spawn(move || {
        let mut left = u64::try_from(left).unwrap_or(0);
        for warning in WARNINGS {
            let Some(wait) = left.checked_sub(warning).filter(|wait| *wait > 0) else { continue };
            thread::sleep(Duration::from_secs(wait));
            left = warning;
            if events.send(Event::Ending(left)).is_err() {
                return;
            }
        }
    });
}

/// Runs the command with an agent of its own.
fn serve(
    context: &Context,
    asked: &Asked,
    certificate: &[u8],
    command: &[OsString],
    (events, happened): (Sender<Event>, &Receiver<Event>),
) -> Result<Exit, Failure> {
    let name = random::nonce().to_string();
    let comment = format!("ssh-jit {} {}", asked.pending.id, asked.pending.role);
    let agent = OwnAgent::start(&context.environment.runtime, &name, &asked.subject, certificate, &comment)
        .map_err(|e| Failure::new(format!("{}: {e}", context.environment.runtime.display())))?
        .ok_or_else(|| Failure::new("the request's key is not here"))?;
    let Some((program, args)) = command.split_first() else { return Ok(Exit::Misuse) };
    let spawned = Command::new(program).args(args).env("SSH_AUTH_SOCK", agent.socket()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            context.ui.say(format_args!("{}: {error}", program.display()));
            // As shells have it.
            return Ok(Exit::Command(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }));
        }
    };
    Ok(watch(context, &asked.pending.role, &mut child, (events, happened))?)
}

/// Passes signals on until the command ends, and says when access does.
fn watch(
    context: &Context,
    role: &RoleName,
    child: &mut Child,
    (events, happened): (Sender<Event>, &Receiver<Event>),
) -> io::Result<Exit> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    thread::spawn(move || {
        // It stays a zombie, so that no signal reaches another process of its number.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(pid), ended), Err(rustix::io::Errno::INTR)) {}
        let _ = events.send(Event::Ended);
    });
    loop {
        match happened.recv() {
            Ok(Event::Signal(signal)) if !has_it_already(signal) => {
                // It may be ending at this moment.
                let _ = rustix::process::kill_process(pid, signal);
            }
            Ok(Event::Ending(left)) => {
                context.ui.say(format_args!("{role} ends in {}; no new login works after that", length(left)));
            }
            Ok(Event::Signal(_) | Event::Settled(_)) => {}
            Ok(Event::Ended) | Err(_) => return child.wait().map(how),
        }
    }
}

/// What a terminal's keys send goes to the command, too: it is in our process group. A second one would have it end
/// without tidying up.
fn has_it_already(signal: Signal) -> bool {
    let terminal = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
    terminal && [Signal::INT, Signal::QUIT].contains(&signal)
}

fn how(status: ExitStatus) -> Exit {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok());
    Exit::Command(code.unwrap_or(Exit::Failed.code()))
}

fn by_signal(signal: Signal) -> Exit {
    Exit::Command(u8::try_from(128 + signal.as_raw()).unwrap_or(Exit::Failed.code()))
}

/// Whatever becomes of this, the command's exit code stays.
fn give_back(person: &Person<'_>, asked: &mut Asked, serial: crate::domain::statement::Serial) {
    let (pending, ui) = (&asked.pending, person.context.ui);
    match done::give_back(person, pending, serial, &mut asked.subject) {
        Ok(Some(_)) => ui.say(format_args!("{} is given back", pending.role)),
        Ok(None) => ui.say(format_args!("{} was over already", pending.role)),
        Err(failure) => ui.say(format_args!(
            "the key of {} is gone, but the service could not be told: {}",
            pending.id, failure.message
        )),
    }
}

/// Has the signals that end programs sent as events from now on.
fn catch_signals(events: Sender<Event>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (mut hangup, mut quit) = (signal(SignalKind::hangup())?, signal(SignalKind::quit())?);
    drop(inside);
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::INT,
                    _ = terminate.recv() => Signal::TERM,
                    _ = hangup.recv() => Signal::HUP,
                    _ = quit.recv() => Signal::QUIT,
                };
                if events.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
        });
    });
    Ok(())
}
