//! `ssh-jit serve`: opens everything, refuses to start on anything doubtful, and runs the service.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use crate::ca::{self, Keys, Passphrase};
use crate::clock::Clock;
use crate::config::{Environment, ServiceConfig};
use crate::files;
use crate::http::{self, Limits, Tls, TlsError};
use crate::service::{self, Parts, Service, Settings};
use crate::store::Store;

use super::{Exit, Failure, Ui, policy_files, ui};

/// What `serve` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The service's file
    #[arg(long, value_name = "FILE", default_value = "ssh-jit.toml")]
    config: PathBuf,
    /// Read the CA keys' passphrase from this file descriptor
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

pub(super) fn run(ui: &Ui, environment: &Environment, args: &Args) -> Result<Exit, Failure> {
    // Nothing that this process might ever be made to start gains more rights than it has. Before any thread is.
    rustix::thread::set_no_new_privs(true).map_err(io::Error::from)?;
    log_to_stderr();
    let config = ServiceConfig::load(&args.config)?;
    let keys = Keys::load(&config.ca_keys, || passphrase(environment, args.passphrase_fd))?;
    let settings = Settings {
        clock_skew: config.clock_skew,
        host_certificates: config.host_certificates,
        remembered: config.remembered,
        origin: config.url.trim_end_matches('/').to_ascii_lowercase(),
        oidc: config.oidc.clone(),
        sources: config.sources.iter().map(|(name, source)| (name.clone(), source.secrets.clone())).collect(),
        ticket_checks: config.ticket_checks.clone(),
        proxies: config.proxies(),
        notify: config.notify.clone(),
    };
    let tls = load_tls(&config, settings.relying_party())?;
    let limits = limits(&config);
    let parts = Parts {
        store: Store::open(&config.database, &config.base)?,
        trusts: ca::read_trusts(&config.ca_keys)?,
        journal: service::open_journal(&config.journal, &keys)?,
        policy: policy_files::load(&config.policy)?,
        clock: Clock::System,
        settings,
        keys,
    };
    let listening = http::bind(config.listen, limits, tls.clone())
        .map_err(|e| Failure::new(format!("listen: {}: {e}", config.listen)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let service = Service::start(parts).await?;
        let end = asked_to_end()?;
        let (environment, descriptor) = (environment.clone(), args.passphrase_fd);
        let ask = move || passphrase(&environment, descriptor);
        tokio::spawn(reload_on_hangup(Arc::clone(&service), config, (tls, ask), signal(SignalKind::hangup())?));
        // Printed when connections and signals are taken: whoever waits for this line need not try.
        ui.say(format_args!("listening on {}, instance {}", listening.address, service.trust().instance));
        http::serve(listening, service, end).await?;
        Ok(Exit::Done)
    })
}

/// What HTTPS is served with, if it is.
fn load_tls(config: &ServiceConfig, host: &str) -> Result<Option<Tls>, Failure> {
    let Some(files) = config.tls() else { return Ok(None) };
    let (certificate, key) = read_pair(files)?;
    Tls::new(host, &certificate, &key).map(Some).map_err(|e| blame(files, e))
}

/// Reads a certificate, and a key that nobody else can read. The error begins with file and field.
fn read_pair((certificate, key): (&Path, &Path)) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), Failure> {
    let unread = |path: &Path, field, e| Failure::new(format!("{}: {field}: {e}", path.display()));
    Ok((
        fs::read(certificate).map_err(|e| unread(certificate, "tls_cert", e))?,
        files::read_private(key).map_err(|e| unread(key, "tls_key", e))?,
    ))
}

fn blame((certificate, key): (&Path, &Path), error: TlsError) -> Failure {
    match error {
        TlsError::Certificate(what) => Failure::new(format!("{}: tls_cert: {what}", certificate.display())),
        TlsError::Key(what) => Failure::new(format!("{}: tls_key: {what}", key.display())),
    }
}

/// The limits of connections, after this process was allowed as many files as it may have. Where a sandbox
/// forbids that, the limits are lower.
fn limits(config: &ServiceConfig) -> Limits {
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    let sees_clients = config.tls().is_some() && !config.behind_proxy;
    let per_address = sees_clients.then_some(config.connections_per_address);
    let limits = Limits { per_address, ..Limits::default() };
    // None is without limit.
    limits.with_descriptors(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// SIGHUP: the new policy, whole, or the old one stays; and so with the CA keys and their trust documents, and with the
/// certificate, whatever became of the others.
async fn reload_on_hangup(
    service: Arc<Service>,
    config: ServiceConfig,
    (tls, ask): (Option<Tls>, impl Fn() -> io::Result<Passphrase>),
    mut hangups: Signal,
) {
    while hangups.recv().await.is_some() {
        match reload_keys(&service, &config.ca_keys, &ask).await {
            Ok(true) => tracing::info!(document = service.trust().number, "trust document loaded"),
            Ok(false) => {}
            Err(error) => tracing::error!(error, "the CA keys were refused; the running ones stay"),
        }
        match reload_policy(&service, &config.policy).await {
            Ok(()) => tracing::info!(policy = %service.policy().digest(), "policy loaded"),
            Err(error) => tracing::error!(error, "the policy was refused; the running one stays"),
        }
        match tls.as_ref().zip(config.tls()).map(|(tls, files)| reload_tls(tls, files)) {
            Some(Ok(())) => tracing::info!("certificate loaded"),
            Some(Err(failure)) => {
                tracing::error!(error = failure.message, "the certificate was refused; the running one stays");
            }
            None => {}
        }
    }
}

/// Gives whether there is a trust document that the service does not have yet. Without one no key is read again, nor a
/// passphrase asked for.
async fn reload_keys(
    service: &Service,
    folder: &Path,
    ask: impl FnOnce() -> io::Result<Passphrase>,
) -> Result<bool, String> {
    let documents = ca::read_trusts(folder).map_err(|e| e.to_string())?;
    if documents.last().is_some_and(|newest| newest.digest() == service.signed_trust().digest()) {
        return Ok(false);
    }
    let keys = Keys::load(folder, ask).map_err(|e| format!("{e}; or restart the service"))?;
    service.take_authority(keys, documents).await.map(|()| true).map_err(|e| e.to_string())
}

async fn reload_policy(service: &Service, path: &Path) -> Result<(), String> {
    let policy = policy_files::load(path).map_err(|failure| failure.message)?;
    service.load_policy(policy, false).await.map_err(|e| e.to_string())
}

fn reload_tls(tls: &Tls, files: (&Path, &Path)) -> Result<(), Failure> {
    let (certificate, key) = read_pair(files)?;
    tls.reload(&certificate, &key).map_err(|e| blame(files, e))
}

fn asked_to_end() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// From the descriptor, systemd's credential, or the terminal. Never from arguments or the environment,
/// which others can read.
pub(super) fn passphrase(environment: &Environment, descriptor: Option<u32>) -> io::Result<Passphrase> {
    let credential = environment.credentials.as_ref().map(|folder| folder.join("ca-passphrase"));
    let file = match descriptor {
        Some(number) => Some(PathBuf::from(format!("/proc/self/fd/{number}"))),
        None => credential.filter(|path| path.exists()),
    };
    match file {
        Some(path) => {
            let text = files::read_secret_line(&path);
            text.map_err(|e| io::Error::other(format!("passphrase from {}: {e}", path.display())))
        }
        None if io::stdin().is_terminal() => ui::ask_passphrase("passphrase of the CA keys"),
        None => {
            let message = "the keys are encrypted; give the passphrase by --passphrase-fd, the credential ca-passphrase, or a terminal";
            Err(io::Error::other(message))
        }
    }
}

/// JSON where nobody reads along, so that no text can forge a line.
fn log_to_stderr() {
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(tracing::Level::INFO);
    if io::stderr().is_terminal() { builder.with_target(false).init() } else { builder.json().init() }
}

impl From<service::Error> for Failure {
    fn from(error: service::Error) -> Self {
        Self::new(error)
    }
}
