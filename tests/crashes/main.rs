//! Crashes and faults at every call by which the real server makes something last or sends it, and a checker that
//! looks at what is there afterwards. `scripts/crashes.sh` runs the whole sweep; without arguments, as `cargo test`
//! starts it, the checker itself is tested. docs/crashes.md has the figures.

mod cast;
mod check;
mod flows;
mod planted;
mod server;
mod sweep;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::process::{ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use flows::{Flow, Kind, flows};
use server::{Server, Strace};
use sweep::{Fault, Injection, Series};
use tempfile::TempDir;

/// The calls at which processes are killed: what makes things last, and what sends.
const DEADLY: [&str; 10] =
    ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "mkdir", "writev", "sendto"];
const ERRORS: [&str; 2] = ["EIO", "ENOSPC"];
/// So many searches run at once.
const JOBS: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let dir = memory();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--sweep", "full", ref only @ ..] => swept(&dir, true, only),
        ["--sweep", "short", ref only @ ..] => swept(&dir, false, only),
        _ => tested(&dir),
    }
}

/// Files in memory where there is such a thing: a kill is not a loss of power, and nobody has to wait for a disk.
fn memory() -> TempDir {
    let builder = || tempfile::Builder::new().prefix("ssh-jit-crashes-").tempdir_in("/dev/shm");
    builder().or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn tested(dir: &TempDir) -> ExitCode {
    let (count, missed) = planted::planted(dir.path());
    for what in &missed {
        println!("{what}");
    }
    println!("crashes: {count} planted, {} missed (the sweep itself: scripts/crashes.sh)", missed.len());
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn swept(dir: &TempDir, full: bool, only: &[&str]) -> ExitCode {
    let begun = Instant::now();
    let (cast, flows) = flows(dir.path());
    if let Err(why) = can_trace(&flows[0]) {
        println!("crashes: SKIPPED, strace cannot inject here: {}", why.trim());
        return if full { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let wanted = |series: &Series| only.is_empty() || only.contains(&flows[series.flow].name);
    let all = if full { everything(&flows) } else { a_few(&flows) };
    let queue: VecDeque<Series> = all.into_iter().filter(wanted).collect();
    let (queue, table) = (Mutex::new(queue), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for job in 0..JOBS {
            let (queue, table, flows, cast) = (&queue, &table, &flows, &cast);
            let scratch = dir.path().join(format!("job-{job}"));
            std::fs::create_dir(&scratch).expect("a folder");
            scope.spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(series) = next() {
                    let found = series.run(cast, &flows[series.flow], &scratch);
                    if found.points > 0 {
                        eprintln!("{} {:?}: {} points", flows[series.flow].name, series.first, found.points);
                    }
                    found.wrong.iter().for_each(|wrong| println!("VIOLATION {wrong}"));
                    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                    tally(&mut table, &series, &found);
                }
            });
        }
    });
    let table = table.into_inner().unwrap_or_else(PoisonError::into_inner);
    let wrong = report(&flows, &table);
    println!("crashes: {:.0} s", begun.elapsed().as_secs_f64());
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Kills, errors, violations.
type Table = BTreeMap<(usize, &'static str), [u32; 3]>;

fn tally(table: &mut Table, series: &Series, found: &sweep::Found) {
    let row = table.entry((series.flow, series.first.syscall)).or_default();
    row[usize::from(series.first.fault != Fault::Kill)] += found.points;
    row[2] += u32::try_from(found.wrong.len()).expect("not that many");
}

fn report(flows: &[Flow], table: &Table) -> u32 {
    println!("| flow | call | kills | errors | violations |\n| --- | --- | ---: | ---: | ---: |");
    let mut sum = [0; 3];
    for ((flow, syscall), row) in table.iter().filter(|(_, row)| **row != [0; 3]) {
        println!("| {} | `{syscall}` | {} | {} | {} |", flows[*flow].name, row[0], row[1], row[2]);
        sum = [sum[0] + row[0], sum[1] + row[1], sum[2] + row[2]];
    }
    println!("| all | | {} | {} | {} |", sum[0], sum[1], sum[2]);
    sum[2]
}

/// Whether strace is there, and may look into a process that asked not to be looked into.
fn can_trace(flow: &Flow) -> Result<(), String> {
    let log = File::open("/dev/null").map_err(|e| e.to_string())?;
    let found = std::process::Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(log).status();
    found.map_err(|e| format!("strace: {e}"))?;
    let never = Injection { syscall: "fsync", file: None, fault: Fault::Kill, n: 60_000 };
    let server = Server::serve(&flow.template.folder);
    let traced = Strace::attach(&server, &never, &flow.template.folder).map(Strace::detach);
    server.stop();
    traced.map(|_| ())
}

fn series(flow: usize, syscall: &'static str, file: Option<&'static str>, fault: Fault) -> Series {
    Series { flow, first: Injection { syscall, file, fault, n: 1 }, stride: 1 }
}

fn everything(flows: &[Flow]) -> Vec<Series> {
    let mut all = Vec::new();
    for (number, flow) in flows.iter().enumerate() {
        for syscall in DEADLY.into_iter().filter(|syscall| occurs(syscall, flow.kind)) {
            all.push(series(number, syscall, None, Fault::Kill));
        }
        // strace counts for each thread, and the main thread's first calls hide those of others.
        for file in files(flow.kind) {
            for syscall in ["pwrite64", "fsync"] {
                all.push(series(number, syscall, Some(file), Fault::Kill));
            }
        }
        if flow.name != "life" {
            all.extend(errors(number, flow));
        }
        // The pages of a whole WAL: one in so many shows what they all do.
        let long = |series: &&mut Series| (series.flow, series.first.syscall) == (number, "pwrite64");
        if flow.name == "checkpoint" {
            all.iter_mut().filter(long).for_each(|series| series.stride = 7);
        }
    }
    all
}

/// Only `init` makes names; what is not listed may occur anywhere.
fn occurs(syscall: &str, kind: Kind) -> bool {
    !matches!(syscall, "rename" | "mkdir") || kind == Kind::Init
}

fn files(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Start => &["ssh-jit.db-wal", "ssh-jit.db", "break-glass.journal"],
        _ => &[],
    }
}

fn errors(number: usize, flow: &Flow) -> Vec<Series> {
    let mut all = Vec::new();
    let mut add = |syscall, file, name, sticky| all.push(series(number, syscall, file, Fault::Error { name, sticky }));
    for sticky in [false, true] {
        for name in ERRORS {
            let all = ["pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "mkdir"];
            for syscall in all.into_iter().filter(|syscall| occurs(syscall, flow.kind)) {
                add(syscall, None, name, sticky);
            }
            for file in files(flow.kind) {
                add("pwrite64", Some(file), name, sticky);
                add("fsync", Some(file), name, sticky);
            }
            // Other files are threads' way to wake each other, which does not fail.
            let file = if flow.kind == Kind::Init { None } else { Some("break-glass.journal") };
            add("write", file, name, sticky);
        }
        let opens = if matches!(flow.kind, Kind::Start | Kind::Init) { "openat" } else { "accept4" };
        add(opens, None, "EMFILE", sticky);
        add("fsync", None, "EINTR", sticky);
    }
    // Whoever is interrupted for ever tries for ever; only a sync is not tried again.
    for syscall in ["pwrite64", "write", "ftruncate"] {
        let file = (syscall == "write").then_some("break-glass.journal");
        add(syscall, file, "EINTR", false);
    }
    all
}

/// One or a few of each kind.
fn a_few(flows: &[Flow]) -> Vec<Series> {
    let number = |name: &str| flows.iter().position(|flow| flow.name == name).expect("a flow");
    let once = |name| Fault::Error { name, sticky: false };
    let mut all = vec![
        Series { stride: 5, ..series(number("claim"), "pwrite64", None, Fault::Kill) },
        series(number("claim"), "fsync", None, Fault::Kill),
        series(number("claim"), "writev", None, Fault::Kill),
        series(number("deny"), "fsync", None, Fault::Kill),
        series(number("break-glass"), "fsync", None, Fault::Kill),
        Series { stride: 5, ..series(number("start"), "pwrite64", Some("ssh-jit.db-wal"), Fault::Kill) },
        Series { stride: 7, ..series(number("init"), "fsync", None, Fault::Kill) },
        series(number("deny"), "fsync", None, once("EIO")),
        Series { stride: 9, ..series(number("claim"), "pwrite64", None, once("ENOSPC")) },
        series(number("break-glass"), "write", Some("break-glass.journal"), once("ENOSPC")),
    ];
    all.push(Series { stride: 7, ..series(number("break-glass"), "pwrite64", None, once("EIO")) });
    all
}
