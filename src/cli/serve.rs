//! `ssh-jit serve`: opens everything, refuses to start on anything doubtful, and runs the service.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::ca::{self, Keys, Passphrase};
use crate::clock::Clock;
use crate::config::{Environment, ServiceConfig};
use crate::files;
use crate::http::{self, Limits, Listening, Tls, TlsError};
use crate::service::{self, Glass, GlassParts, Service, Settings};
use crate::store::{Store, StoreError};

use super::{Exit, Failure, Ui, policy_files, ui};

/// A database that cannot be used is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// So many connections of one address to break-glass alone.
const OWN_PER_ADDRESS: usize = 16;

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
    let opened = Store::open(&config.database, &config.base);
    // Without a listener of its own, break-glass alone would be nowhere.
    let opened = if config.break_glass_listen.is_none() { Ok(opened?) } else { opened };
    let mut settings = settings(&config);
    let tls = load_tls(&config, settings.relying_party())?;
    let (limits, own_limits) = limits(&config);
    let own = config.break_glass_listen.map(|address| bind("break_glass_listen", address, own_limits, tls.clone()));
    let own = own.transpose()?;
    settings.break_glass_url = own.as_ref().and_then(|own| config.break_glass_url(own.address.port()));
    let glass = Glass::new(GlassParts {
        trusts: ca::read_trusts(&config.ca_keys)?,
        journal: service::open_journal(&config.journal, &keys)?,
        policy: policy_files::load(&config.policy)?,
        clock: Clock::System,
        settings,
        keys,
    })?;
    let (ending, ended) = watch::channel(false);
    let own_address = own.as_ref().map(|own| own.address);
    let apart = emergencies(own, Arc::clone(&glass), ended)?;
    let (environment, passphrase_fd) = (environment.clone(), args.passphrase_fd);
    let server = Server { ui: *ui, environment, passphrase_fd, config, tls, limits, glass, service: OnceLock::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(Arc::new(server).run(opened, own_address));
    // Whatever ended this ends what runs apart.
    let _ = ending.send(true);
    let _ = apart.join();
    outcome
}

/// What the file says that the service itself needs to know.
fn settings(config: &ServiceConfig) -> Settings {
    Settings {
        clock_skew: config.clock_skew,
        host_certificates: config.host_certificates,
        remembered: config.remembered,
        origin: config.url.trim_end_matches('/').to_ascii_lowercase(),
        oidc: config.oidc.clone(),
        sources: config.sources.iter().map(|(name, source)| (name.clone(), source.secrets.clone())).collect(),
        ticket_checks: config.ticket_checks.clone(),
        proxies: config.proxies(),
        notify: config.notify.clone(),
        break_glass_url: None,
    }
}

fn bind(field: &str, address: SocketAddr, limits: Limits, tls: Option<Tls>) -> Result<Listening, Failure> {
    http::bind(address, limits, tls).map_err(|e| Failure::new(format!("{field}: {address}: {e}")))
}

/// What runs apart from everything else: the alerts, and break-glass where it has a listener of its own.
fn emergencies(
    own: Option<Listening>,
    glass: Arc<Glass>,
    mut ended: watch::Receiver<bool>,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = http::emergency_runtime()?;
    let work = async move {
        tokio::spawn(Arc::clone(&glass).alert());
        let end = async move { drop(ended.wait_for(|ended| *ended).await) };
        match own {
            None => end.await,
            Some(own) => {
                if let Err(error) = http::serve_emergencies(own, glass, end).await {
                    tracing::error!(%error, "break-glass has no listener of its own any more");
                }
            }
        }
    };
    thread::Builder::new().name("break-glass".to_owned()).spawn(move || {
        runtime.block_on(work);
        runtime.shutdown_background();
    })
}

/// Everything that the service runs on.
struct Server {
    ui: Ui,
    environment: Environment,
    passphrase_fd: Option<u32>,
    config: ServiceConfig,
    tls: Option<Tls>,
    limits: Limits,
    glass: Arc<Glass>,
    /// Everything but break-glass, once the database can be used.
    service: OnceLock<Arc<Service>>,
}

impl Server {
    async fn run(self: Arc<Self>, opened: Result<Store, StoreError>, own: Option<SocketAddr>) -> Result<Exit, Failure> {
        let mut end = Box::pin(asked_to_end()?);
        tokio::spawn(reload_on_hangup(Arc::clone(&self), signal(SignalKind::hangup())?));
        let started = tokio::select! {
            started = self.start(opened, own) => started?,
            () = &mut end => return Ok(Exit::Done),
        };
        let (service, listening) = started;
        let _ = self.service.set(Arc::clone(&service));
        // Printed when connections and signals are taken: whoever waits for this line need not try.
        self.ui.say(format_args!("listening on {}, instance {}", listening.address, service.trust().instance));
        if let Some(own) = own {
            self.ui.say(format_args!("break-glass has {own} to itself"));
        }
        http::serve(listening, service, end).await?;
        Ok(Exit::Done)
    }

    /// Starts everything that takes the database. Where break-glass can go on without, it does so while the database
    /// cannot be used, and that is tried again.
    async fn start(
        &self,
        mut opened: Result<Store, StoreError>,
        own: Option<SocketAddr>,
    ) -> Result<(Arc<Service>, Listening), Failure> {
        loop {
            let error = match opened {
                Err(error) => error,
                Ok(store) => {
                    let listening = bind("listen", self.config.listen, self.limits, self.tls.clone())?;
                    match Service::start(store, Arc::clone(&self.glass)).await {
                        Ok(service) => return Ok((service, listening)),
                        Err(service::Error::Store(error)) => error,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            let Some(own) = own else { return Err(error.into()) };
            self.ui.say(format_args!(
                "BREAK-GLASS ONLY, on {own}: {error}; nothing else is served, and it is tried again every {} s",
                TRY_AGAIN.as_secs()
            ));
            tokio::time::sleep(TRY_AGAIN).await;
            let (database, base) = (self.config.database.clone(), self.config.base.clone());
            let opening = tokio::task::spawn_blocking(move || Store::open(&database, &base));
            opened = opening.await.unwrap_or(Err(StoreError::Closed));
        }
    }

    /// Gives whether there is a trust document that the service does not have yet. Without one no key is read again, nor
    /// a passphrase asked for.
    async fn reload_keys(&self) -> Result<bool, String> {
        let folder = &self.config.ca_keys;
        let documents = ca::read_trusts(folder).map_err(|e| e.to_string())?;
        if documents.last().is_some_and(|newest| newest.digest() == self.glass.signed_trust().digest()) {
            return Ok(false);
        }
        let ask = || passphrase(&self.environment, self.passphrase_fd);
        let keys = Keys::load(folder, ask).map_err(|e| format!("{e}; or restart the service"))?;
        let taken = match self.service.get() {
            Some(service) => service.take_authority(keys, documents).await,
            None => self.glass.take_authority(keys, documents),
        };
        taken.map(|()| true).map_err(|e| e.to_string())
    }

    async fn reload_policy(&self) -> Result<(), String> {
        let policy = policy_files::load(&self.config.policy).map_err(|failure| failure.message)?;
        if let Some(service) = self.service.get() {
            return service.load_policy(policy).await.map_err(|e| e.to_string());
        }
        self.glass.set_policy(Arc::new(policy));
        Ok(())
    }
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

/// The limits of connections, after this process was allowed as many files as it may have: of all, and of break-glass
/// alone, for which descriptors are kept. Where a sandbox forbids that, the limits are lower.
fn limits(config: &ServiceConfig) -> (Limits, Limits) {
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    let sees_clients = config.tls().is_some() && !config.behind_proxy;
    let own = http::emergency_limits(sees_clients.then_some(OWN_PER_ADDRESS));
    let kept = if config.break_glass_listen.is_some() { own.connections as u64 } else { 0 };
    let per_address = sees_clients.then_some(config.connections_per_address);
    let limits = Limits { per_address, ..Limits::default() };
    // None is without limit.
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limits.with_descriptors(descriptors.saturating_sub(kept)), own)
}

/// SIGHUP: the new policy, whole, or the old one stays; and so with the CA keys and their trust documents, and with the
/// certificate, whatever became of the others.
async fn reload_on_hangup(server: Arc<Server>, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        match server.reload_keys().await {
            Ok(true) => tracing::info!(document = server.glass.trust().number, "trust document loaded"),
            Ok(false) => {}
            Err(error) => tracing::error!(error, "the CA keys were refused; the running ones stay"),
        }
        match server.reload_policy().await {
            Ok(()) => tracing::info!(policy = %server.glass.policy().digest(), "policy loaded"),
            Err(error) => tracing::error!(error, "the policy was refused; the running one stays"),
        }
        match server.tls.as_ref().zip(server.config.tls()).map(|(tls, files)| reload_tls(tls, files)) {
            Some(Ok(())) => tracing::info!("certificate loaded"),
            Some(Err(failure)) => {
                tracing::error!(error = failure.message, "the certificate was refused; the running one stays");
            }
            None => {}
        }
    }
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
