//! The bare path, to compare with: the same HTTP server and the same group commit, one row a call, and
//! nothing that a CA does.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use ssh_jit::domain::digest::Digest;
use ssh_jit::store::{self, Store, StoreError, Value};
use ssh_jit::wire::SignedText;

use crate::load::{self, Call, Outcome};
use crate::server::Server;

/// How this program is told to be that server.
pub(crate) const WORD: &str = "bare-server";
const DATABASE: &str = "sqlite:bare.db";

/// Such a server in another process.
pub(crate) fn spawn(dir: &Path) -> Server {
    store::create(DATABASE, dir).expect("a database");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(WORD).arg(dir);
    Server::spawn(command)
}

/// Sends it as many different statements.
pub(crate) fn run(server: &Server, in_flight: usize, count: usize) -> Outcome {
    let unique = || format!("{:?} {}", ssh_jit::random::nonce(), "x".repeat(500));
    let body = || SignedText { text: unique(), signature: "x".repeat(330) };
    let call = |_| -> Vec<Call> { vec![load::post("/", &body())] };
    load::run(server.address, in_flight, (0..count).map(call).collect())
}

/// That server.
pub(crate) fn serve(dir: &Path) {
    let store = Arc::new(Store::open(DATABASE, dir).expect("a database"));
    let router = Router::new().route("/", post(keep)).route("/v1/now", get(async || "")).with_state(store);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = std::net::TcpListener::bind(any).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a port");
        eprintln!("listening on {address}, instance {}", "0".repeat(32));
        let server = axum_server::from_tcp(listener).expect("a listener").http1_only();
        server.serve(router.into_make_service()).await.expect("it serves");
    });
}

async fn keep(State(store): State<Arc<Store>>, Json(signed): Json<SignedText>) -> Json<SignedText> {
    let (kept, digest) = (signed.clone(), Digest::of(signed.text.as_bytes()));
    let insert = move |tx: &mut store::Tx<'_>| {
        let sql = "INSERT INTO statements (sha256, kind, bytes, signature) VALUES (?1, 'bare', ?2, ?3)";
        let values = [(&digest).into(), Value::Blob(kept.text.as_bytes()), Value::Blob(kept.signature.as_bytes())];
        tx.execute(sql, &values)
    };
    store.write::<_, StoreError>(insert).await.expect("a commit");
    Json(signed)
}
