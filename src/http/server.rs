//! The listener: limits on slow clients, a graceful end, and the work that runs beside.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use hyper_util::rt::TokioTimer;

use crate::service::Service;

use super::routes::router;

/// A client that has not sent its headers by then is cut off (without a timer hyper waits for ever).
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// What time has ended is written down this often; nobody waits for it.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How long an end waits for those who are being served.
const GRACE: Duration = Duration::from_secs(3);

/// A bound listener.
pub struct Listening {
    listener: TcpListener,
    /// Where it listens, with the port that the system chose when 0 was asked for.
    pub address: SocketAddr,
}

/// Binds the address.
pub fn bind(address: SocketAddr) -> io::Result<Listening> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Listening { listener, address })
}

/// Serves until `end` is ready.
pub async fn serve(
    listening: Listening,
    service: Arc<Service>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listening.listener)?.http1_only().handle(handle.clone());
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    tokio::spawn(async move {
        end.await;
        handle.graceful_shutdown(Some(GRACE));
    });
    let sweeping = tokio::spawn(sweep(Arc::clone(&service)));
    let served = server.serve(router(&service).into_make_service()).await;
    sweeping.abort();
    served
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
