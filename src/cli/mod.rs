//! The command line: results on standard output, everything else on standard error as `ssh-jit: ...`;
//! an error is one line of fact and at most one hint; exit codes say what became of a request.

mod ack;
mod approve;
mod asking;
mod audit;
mod break_glass;
mod ca;
mod doctor;
mod done;
mod drill;
mod ensure;
mod extend;
mod facts;
mod failure;
mod host;
mod incident;
mod init;
mod login;
mod passkey;
mod past;
mod person;
mod policy;
mod policy_files;
mod receipt;
mod report;
mod requests;
mod review;
mod revoke;
mod roles;
mod run;
mod serve;
mod setup;
mod show;
mod ssh_config;
mod start;
mod status;
mod ui;
mod verify;
mod withdraw;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand};

use crate::config::{ClientConfig, Environment};
use crate::domain::names::{InstanceId, PersonName};
use crate::domain::text::visible;

pub use failure::{Exit, Failure};
pub use ui::Ui;

/// Just-in-time access over SSH: ask for a role, have it approved, and log in with plain ssh until it ends.
#[derive(Parser)]
#[command(name = "ssh-jit", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Who is asking, and whom.
#[derive(Args, Clone, Default)]
struct Global {
    /// The service's address [config: server, environment: SSH_JIT_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Your name in the policy [config: user, environment: SSH_JIT_USER]
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<PersonName>,
    /// Your key, either half [config: identity, environment: SSH_JIT_IDENTITY]
    #[arg(long, global = true, value_name = "FILE")]
    identity: Option<std::path::PathBuf>,
    /// The only CAs to believe, for a service with a CA of its own [config: tls_ca, environment: SSH_JIT_TLS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<std::path::PathBuf>,
    /// The instance that must answer [config: instance, environment: SSH_JIT_INSTANCE]
    #[arg(long, global = true, value_name = "HEX")]
    instance: Option<InstanceId>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a new service: keys, database, configuration, a policy to begin with
    Init(init::Args),
    /// Run the service
    Serve(serve::Args),
    /// Write your configuration and pin the service
    Setup(setup::Args),
    /// Ask for a role, wait for the decision, and have plain ssh work
    Login(login::Args),
    /// Have access to a host, or ask for it: what plain ssh runs before it connects
    Ensure(ensure::Args),
    /// Ask for a role for one command: access ends with it
    Run(run::Args),
    /// Your open requests and certificates
    Status,
    /// The roles that you may ask for or decide on
    Roles,
    /// What signed messages from outside say is so now: who is on call, which incident is open
    Facts,
    /// Requests that you may see
    Requests(requests::Args),
    /// One request and everything that happened to it
    Show(show::Args),
    /// Approve a request, or less of it
    Approve(approve::Approve),
    /// Refuse a request
    Deny(approve::Deny),
    /// Take a request of yours back
    Withdraw(withdraw::Args),
    /// Ask for more time before access ends: a new decision, and until then the old certificate
    Extend(extend::Args),
    /// Give access back before it ends
    Done(done::Args),
    /// End access that others have, and what they could still get
    Revoke(revoke::Args),
    /// Get in when nobody can approve: a very short certificate for your emergency key
    #[command(name = "break-glass")]
    BreakGlass(break_glass::Args),
    /// Say that you have heard of a break-glass, so that nobody is told again
    Ack(ack::Args),
    /// Close the review of a break-glass
    Review(review::Args),
    /// Practise breaking the glass on the canary, and show that it works
    #[command(subcommand)]
    Drill(drill::Verb),
    /// The story of a broken glass as Markdown, for the post-mortem
    Incident(incident::Args),
    /// Bind a passkey to you, so that you can decide in a browser
    #[command(subcommand)]
    Passkey(passkey::Verb),
    /// Check, explain, test and replay policies
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Read and verify the log
    #[command(subcommand)]
    Audit(audit::Verb),
    /// How roles were used, what was not, and what people came to be allowed
    Report(report::Args),
    /// Everything that proves one request, as one file
    Receipt(receipt::Args),
    /// Check a receipt, without any service
    Verify(verify::Args),
    /// The service's public keys
    #[command(subcommand)]
    Ca(ca::Verb),
    /// What runs on a host that people log in to
    #[command(subcommand)]
    Host(host::Host),
    /// What works here, and what to do about the rest
    Doctor,
}

/// What every verb of a person's gets.
#[derive(Clone)]
struct Context {
    ui: Ui,
    environment: Environment,
    config: ClientConfig,
    clock: crate::clock::Clock,
}

/// Runs the command line; the only caller is `main`.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    let json = cli.global.json;
    match Environment::read().map_err(Failure::from).and_then(|environment| dispatch(cli, environment)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            Ui::new(json, true).failure(&failure);
            failure.exit.into()
        }
    }
}

/// Help and version are results; everything else is misuse. What was typed is repeated with its hidden
/// characters escaped: it may come from a script that was given somebody else's text.
fn usage(mut error: clap::Error) -> ExitCode {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand] {
        if let Some(ContextValue::String(typed)) = error.get(kind) {
            let typed = visible(typed);
            error.insert(kind, ContextValue::String(typed));
        }
    }
    // Nobody may be there to read it.
    let _ = error.print();
    if error.use_stderr() { Exit::Misuse.into() } else { Exit::Done.into() }
}

fn dispatch(cli: Cli, environment: Environment) -> Result<Exit, Failure> {
    let ui = Ui::new(cli.global.json, environment.no_color);
    match cli.verb {
        Verb::Init(args) => init::run(&ui, &args),
        Verb::Serve(args) => serve::run(&ui, &environment, &args),
        Verb::Host(host::Host::Session(args)) => host::session::run(&args),
        Verb::Policy(verb) if !matches!(verb, policy::Verb::Replay(_)) => policy::run(&ui, &verb),
        verb => {
            let flags = ClientConfig {
                server: cli.global.server,
                user: cli.global.user,
                identity: cli.global.identity,
                emergency_identity: None,
                break_glass_server: None,
                tls_ca: cli.global.tls_ca,
                instance: cli.global.instance,
            };
            let config = flags.or(environment.client.clone());
            let context = Context { ui, environment, config, clock: crate::clock::Clock::System };
            // What root is as a person says nothing about root's host.
            if let Verb::Host(verb) = &verb
                && !verb.is_a_persons()
            {
                return host::run(&context, verb);
            }
            let file = ClientConfig::load(&context.environment.config.join("config.toml"))?;
            as_person(&Context { config: context.config.clone().or(file), ..context }, verb)
        }
    }
}

fn as_person(context: &Context, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Setup(args) => setup::run(context, &args),
        Verb::Login(args) => login::run(context, &args),
        Verb::Ensure(args) => ensure::run(context, &args),
        Verb::Run(args) => run::run(context, &args),
        Verb::Status => status::run(context),
        Verb::Roles => roles::run(context),
        Verb::Facts => facts::run(context),
        Verb::Requests(args) => requests::run(context, &args),
        Verb::Show(args) => show::run(context, &args),
        Verb::Approve(args) => approve::approve(context, &args),
        Verb::Deny(args) => approve::deny(context, &args),
        Verb::Withdraw(args) => withdraw::run(context, &args),
        Verb::Extend(args) => extend::run(context, &args),
        Verb::Done(args) => done::run(context, &args),
        Verb::Revoke(args) => revoke::run(context, &args),
        Verb::BreakGlass(args) => break_glass::run(context, &args),
        Verb::Ack(args) => ack::run(context, &args),
        Verb::Review(args) => review::run(context, &args),
        Verb::Drill(verb) => drill::run(context, &verb),
        Verb::Incident(args) => incident::run(context, &args),
        Verb::Passkey(verb) => passkey::run(context, &verb),
        Verb::Audit(verb) => audit::run(context, &verb),
        Verb::Report(args) => report::run(context, &args),
        Verb::Receipt(args) => receipt::run(context, &args),
        Verb::Verify(args) => verify::run(context, &args),
        Verb::Ca(verb) => ca::run(context, &verb),
        Verb::Host(verb) => host::run(context, &verb),
        Verb::Doctor => Ok(doctor::run(context)),
        Verb::Policy(policy::Verb::Replay(args)) => policy::replay::run(context, &args),
        Verb::Init(_) | Verb::Serve(_) | Verb::Policy(_) => Ok(Exit::Misuse),
    }
}
