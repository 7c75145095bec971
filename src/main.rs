//! The `ssh-jit` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// The threads of the service hand memory to one another, and wait for one another in the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Keys pass through this process: nobody may trace it or find them in a core, and what it writes is
    // its owner's. Where a sandbox forbids to say so, the defaults stand.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    // One implementation of cryptography for all TLS. It was installed already only if somebody else did, and
    // there is nobody else.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ssh_jit::cli::run()
}
