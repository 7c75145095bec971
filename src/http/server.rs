//! The listener: plain or HTTPS, within the limits, with a graceful end, and the work that runs beside.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::middleware::AddExtension;
use axum::{Extension, Router};
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::service::Service;

use super::limits::{LONGEST_HEAD, Limiting, Limits, MOST_HEADERS};
use super::routes::router;
use super::tls::Tls;

/// What time has ended is written down this often; nobody waits for it.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How many connections may wait to be taken; the system may allow fewer.
const WAITING: i32 = 4096;
/// How long an end waits for those who are being served.
const GRACE: Duration = Duration::from_secs(3);

/// A bound listener.
pub struct Listening {
    listener: TcpListener,
    pub(super) limits: Limits,
    tls: Option<Tls>,
    /// Where it listens, with the port that the system chose when 0 was asked for.
    pub address: SocketAddr,
}

/// Binds the address, for HTTPS where there is something to serve it with.
pub fn bind(address: SocketAddr, limits: Limits, tls: Option<Tls>) -> io::Result<Listening> {
    let listener = TcpListener::bind(address)?;
    // Bound with room for 128 that were not taken yet. When they are there, the system drops who comes next, who
    // tries again after seconds.
    rustix::net::listen(&listener, WAITING)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Listening { listener, limits, tls, address })
}

/// Serves until `end` is ready.
pub async fn serve(
    listening: Listening,
    service: Arc<Service>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let sweeping = tokio::spawn(sweep(Arc::clone(&service)));
    let telling = tokio::spawn(Arc::clone(&service).deliver());
    let following = tokio::spawn(Arc::clone(&service).follow_glass());
    let routes = router(&service).layer(Extension(listening.limits));
    let served = listen(listening, routes, end).await;
    for beside in [sweeping, telling, following] {
        beside.abort();
    }
    served
}

/// Serves these routes until `end` is ready.
pub(super) async fn listen(
    listening: Listening,
    routes: Router,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let Listening { listener, limits, tls, .. } = listening;
    let handle = Handle::new();
    let server = axum_server::from_tcp(listener)?.handle(handle.clone());
    tokio::spawn(async move {
        end.await;
        handle.graceful_shutdown(Some(GRACE));
    });
    let limiting = Limiting::new(limits);
    match tls {
        None => run(server.acceptor(limiting), limits, routes).await,
        Some(tls) => {
            // Counted first: whoever is over a limit costs no cryptography.
            let secured = RustlsAcceptor::new(tls.config()).handshake_timeout(limits.handshake_within);
            run(server.acceptor(secured.acceptor(limiting)), limits, routes).await
        }
    }
}

/// The routes, for one connection.
type Routes = AddExtension<Router, ConnectInfo<SocketAddr>>;

async fn run<A>(server: Server<SocketAddr, A>, limits: Limits, routes: Router) -> io::Result<()>
where
    A: Accept<TcpStream, Routes, Service = Routes> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Future: Send,
{
    // Last of what makes a server: another acceptor would have it guess the protocol again, and hyper waits for
    // ever for the bytes to guess by.
    let mut server = server.http1_only();
    let mut builder = server.http_builder().http1();
    // The buffer holds line and headers, and limits them. Without a timer hyper waits for ever.
    builder.max_buf_size(LONGEST_HEAD).max_headers(MOST_HEADERS);
    builder.timer(TokioTimer::new()).header_read_timeout(limits.headers_within);
    server.serve(routes.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn sweep(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        loop {
            match service.sweep().await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "what has ended could not be written down; it will be tried again");
                    break;
                }
            }
        }
    }
}
