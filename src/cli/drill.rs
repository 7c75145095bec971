//! `ssh-jit drill`: breaking the glass for practice, by the same statement and the same path as in an emergency, of the
//! one role that is there for it; with the time that each step takes, signed, as evidence.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::domain::drill::Control;
use crate::domain::grant::DRILL;
use crate::domain::markdown::quoted;
use crate::domain::names::RequestId;
use crate::domain::statement::{BreakGlass, Category, Dependency, Drill, Is, Version};
use crate::domain::text::{Reason, visible};
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::usage::summary;
use crate::domain::verify::Signed;
use crate::random;
use crate::wire::{AftermathView, DrillView, EmergencyView, ProofView, Scored};

use super::break_glass::{self, Broken};
use super::person::{Person, request_id};
use super::ui::{Ui, millis, time};
use super::{Context, Exit, Failure};

/// How often the service is asked whether somebody was told, and has heard.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What can be done about drills.
#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Break the glass of the canary role, log in to its host, and report what each step took
    Run(Run),
    /// The drills there were, and whether emergency keys are proven
    List,
    /// What one drill showed
    Report {
        /// The drill
        id: String,
        /// As Markdown
        #[arg(long)]
        markdown: bool,
    },
}

/// What `drill run` takes.
#[derive(clap::Args)]
pub(super) struct Run {
    /// What you would say is broken, in 20 characters or more; asked for where it is not given
    #[arg(long, value_name = "TEXT")]
    reason: Option<Reason>,
    /// What it does without: approvers-away, mail-down, db-readonly, service-down (several with commas)
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    simulate: Vec<Dependency>,
    /// How long to wait until somebody says that they heard
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    wait: Seconds,
    /// Your emergency key, either half [config: emergency_identity, environment: SSH_JIT_EMERGENCY_IDENTITY]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// What ssh gets besides, as in -- -l canary -p 2222
    #[arg(last = true, value_name = "SSH OPTION")]
    ssh: Vec<String>,
}

pub(super) fn run(context: &Context, verb: &Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Run(args) => practise(context, args),
        Verb::List => list(context),
        Verb::Report { id, markdown } => report(context, id, *markdown),
    }
}

/// What was measured so far: milliseconds since the command.
struct Watch(Instant);

impl Watch {
    fn read(&self) -> u32 {
        u32::try_from(self.0.elapsed().as_millis()).unwrap_or(u32::MAX)
    }
}

fn practise(context: &Context, args: &Run) -> Result<Exit, Failure> {
    if args.simulate.contains(&Dependency::ServiceDown) {
        return Err(Failure::new("service-down: without the service the glass cannot be broken yet")
            .hint("--simulate approvers-away,mail-down,db-readonly"));
    }
    let mut person = Person::open(context)?;
    // Signs in, where that is needed: in an emergency nobody reads anything first.
    let plan = person.read::<AftermathView>("/v1/aftermath")?.proof;
    let plan = plan.ok_or_else(|| Failure::new("the policy has no [drill], so there is nothing to practise on"))?;
    let key = break_glass::emergency_key(context, args.key.as_deref())?;
    let watch = Watch(Instant::now());
    context.ui.say(format_args!("DRILL: breaking the glass of {} on {}; nothing is wrong", plan.role, plan.host));
    let reason = args.reason.clone().map_or_else(ask_reason, Ok)?;
    reason.fits_emergency().map_err(|e| Failure::new(e).exit(Exit::BreakGlassRefused))?;
    let reason_ms = watch.read();
    let said = statement(&person, &plan, reason, &args.simulate)?;
    // By the way that emergencies take, whichever that is.
    let broken = break_glass::obtain(&Person::open_for_emergency(context)?, &key, said, None)?;
    let certificate_ms = watch.read();
    only_the_canary(&broken, &plan)?;
    let shell_ms = log_in(&person, &broken, &plan, &args.ssh)?.then(|| watch.read());
    let (alert_ms, acknowledgement_ms) = heard(&mut person, &broken.statement.id, &watch, args)?;
    let (instance, name, nonce, at) = person.preamble()?;
    let said = Drill {
        v: Version,
        kind: Is,
        instance,
        person: name,
        break_glass: Signed::try_from(&broken.signed)?.digest(),
        id: broken.statement.id.clone(),
        reason_ms,
        certificate_ms,
        shell_ms,
        alert_ms,
        acknowledgement_ms,
        nonce,
        at,
    };
    let signed = person.sign(&said)?;
    let scored: Scored = person.service.api.post("/v1/drills", &signed)?;
    let view: DrillView = person.read(&format!("/v1/drills/{}", said.id))?;
    show(&context.ui, &view, person.now()?);
    Ok(if scored.passed { Exit::Done } else { Exit::Failed })
}

fn ask_reason() -> Result<Reason, Failure> {
    write!(io::stderr().lock(), "ssh-jit: what would you say is broken? ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().parse()?)
}

fn statement(
    person: &Person<'_>,
    plan: &ProofView,
    reason: Reason,
    simulate: &[Dependency],
) -> Result<BreakGlass, Failure> {
    let (instance, name, nonce, at) = person.preamble()?;
    Ok(BreakGlass {
        v: Version,
        kind: Is,
        instance,
        person: name,
        id: random::request_id(),
        role: plan.role.clone(),
        principals: Vec::new(),
        hosts: vec![plan.host.clone()],
        seconds: None,
        extends: None,
        category: Category::Other,
        reason,
        clock_off: None,
        drill: Some(simulate.to_vec()),
        nonce,
        at,
    })
}

/// A certificate that opened anything else would be no drill's. That its principals are the host's was checked already.
fn only_the_canary(broken: &Broken, plan: &ProofView) -> Result<(), Failure> {
    let certificate = ssh_key::Certificate::from_bytes(&broken.checked.blob).map_err(Failure::new)?;
    let said = &broken.statement;
    let prefix = format!("BREAK-GLASS/{}/{}/{}/{DRILL}", said.id, said.person, plan.role);
    if certificate.key_id().starts_with(&prefix) {
        return Ok(());
    }
    Err(Failure::new("the certificate is not used: it is not marked as a drill's"))
}

/// Logs in with plain ssh, as people do. Gives whether a shell answered.
fn log_in(person: &Person<'_>, broken: &Broken, plan: &ProofView, more: &[String]) -> Result<bool, Failure> {
    let file = person.service.state.certificate_path(&broken.statement.id);
    crate::files::write_private(&file, format!("{}\n", broken.issued.certificate).as_bytes())?;
    let answered = shell_answers(&broken.private, &file, plan, more, broken.statement.id.as_str());
    // It is for this login alone.
    fs::remove_file(&file)?;
    let answered = answered?;
    if !answered {
        person.context.ui.say(format_args!("no shell on {}: ssh says why", plan.host));
    }
    Ok(answered)
}

fn shell_answers(private: &Path, file: &Path, plan: &ProofView, more: &[String], word: &str) -> io::Result<bool> {
    let output = Command::new("ssh")
        .args(more)
        .arg("-i")
        .arg(private)
        .arg("-o")
        .arg(format!("CertificateFile=\"{}\"", file.display()))
        .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"])
        .arg("-o")
        .arg(format!("ConnectTimeout={}", plan.within.get()))
        .arg(plan.host.as_str())
        .arg(format!("echo {word}"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    Ok(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(word))
}

/// When the first alert was out, and when somebody had heard: as the service's log says, seen from here.
fn heard(
    person: &mut Person<'_>,
    id: &RequestId,
    watch: &Watch,
    args: &Run,
) -> Result<(Option<u32>, Option<u32>), Failure> {
    let nobody = [Dependency::MailDown, Dependency::ApproversAway].iter().any(|away| args.simulate.contains(away));
    let end = Instant::now() + Duration::from_secs(args.wait.get().into());
    let (mut alert, mut heard) = (None, None);
    if !nobody {
        person.context.ui.say(format_args!("waiting until somebody says that they heard: ssh-jit ack {id}"));
    }
    loop {
        let seen = match person.read::<EmergencyView>(&format!("/v1/emergencies/{id}")) {
            Ok(view) => view.events,
            // The database hears of it from the journal, a moment later.
            Err(failure) if failure.code == "unknown-request" => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let told = |kind: &str| seen.iter().any(|event| event.kind.to_string() == kind);
        alert = alert.or_else(|| told("alerted").then(|| watch.read()));
        heard = heard.or_else(|| told("acknowledged").then(|| watch.read()));
        let done = alert.is_some() && (heard.is_some() || nobody);
        let without_mail = args.simulate.contains(&Dependency::MailDown) && !seen.is_empty();
        if done || without_mail || Instant::now() >= end {
            return Ok((alert, heard));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let drills: Vec<DrillView> = person.read("/v1/drills")?;
    if context.ui.json {
        context.ui.data(&drills);
        return Ok(Exit::Done);
    }
    let now = person.now()?;
    let row = |view: &DrillView| {
        let shell = view.controls.iter().find(|control| control.name == "shell").and_then(|control| control.took_ms);
        vec![
            view.id.to_string(),
            view.person.to_string(),
            time(view.at, now),
            verdict(view).to_owned(),
            shell.map(millis).unwrap_or_default(),
            without(view),
        ]
    };
    if drills.is_empty() {
        context.ui.say("there was no drill yet: ssh-jit drill run");
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = drills.iter().map(row).collect();
    context.ui.table(&["DRILL", "WHO", "WHEN", "OUTCOME", "TO A SHELL", "WITHOUT"], &rows);
    Ok(Exit::Done)
}

fn verdict(view: &DrillView) -> &'static str {
    match view.passed {
        Some(true) => "passed",
        Some(false) => "failed",
        None => "not reported",
    }
}

fn without(view: &DrillView) -> String {
    view.without.iter().map(|dependency| dependency.as_str()).collect::<Vec<_>>().join(",")
}

fn report(context: &Context, typed: &str, markdown: bool) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let view: DrillView = person.read(&format!("/v1/drills/{}", request_id(typed)?))?;
    if markdown && !context.ui.json {
        context.ui.out(as_markdown(&view));
    } else {
        show(&context.ui, &view, person.now()?);
    }
    Ok(Exit::Done)
}

fn show(ui: &Ui, view: &DrillView, now: Timestamp) {
    if ui.json {
        return ui.data(view);
    }
    ui.out(format_args!("DRILL {} by {} on {}: {}", view.id, view.person, view.role, verdict(view)));
    ui.out(format_args!("  when       {}", time(view.at, now)));
    ui.out(format_args!("  why        \"{}\"", visible(view.reason.as_str())));
    if !view.without.is_empty() {
        ui.out(format_args!("  without    {}", without(view)));
    }
    let row = |control: &Control| {
        let took = control.took_ms.map_or_else(|| "did not happen".to_owned(), millis);
        vec![
            control.name.clone(),
            took,
            control.most_ms.map_or_else(|| "-".to_owned(), millis),
            outcome(control).into(),
        ]
    };
    ui.table(&["STEP", "TOOK", "AT MOST", "OUTCOME"], &view.controls.iter().map(row).collect::<Vec<_>>());
    ui.out(format_args!("  the certificate was {}, as hosts say", summary(&view.uses, now)));
}

fn outcome(control: &Control) -> &'static str {
    match (control.most_ms, control.passed) {
        (None, _) => "not asked for",
        (Some(_), true) => "passed",
        (Some(_), false) => "FAILED",
    }
}

fn as_markdown(view: &DrillView) -> String {
    let mut lines = vec![
        format!("# DRILL {}: {}", view.id, verdict(view)),
        String::new(),
        format!("- who: {}", view.person),
        format!("- when: {}", view.at),
        format!("- role: {}", view.role),
        format!("- reason: {}", quoted(view.reason.as_str())),
        format!("- without: {}", if view.without.is_empty() { "nothing".to_owned() } else { without(view) }),
        String::new(),
        "| step | took | at most | outcome |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    lines.extend(view.controls.iter().map(|control| {
        let took = control.took_ms.map_or_else(|| "did not happen".to_owned(), millis);
        let most = control.most_ms.map_or_else(|| "-".to_owned(), millis);
        format!("| {} | {took} | {most} | {} |", control.name, outcome(control))
    }));
    if let Some(report) = &view.report {
        let (text, signature) = (quoted(&report.text), report.signature.replace('\n', " "));
        lines.extend([String::new(), format!("Signed: {text}"), String::new(), quoted(signature.trim())]);
    }
    lines.join("\n")
}
