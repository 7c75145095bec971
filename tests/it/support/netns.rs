//! A network namespace: a machine's own network, with nothing in it but loopback, and one way out to a port of this
//! machine's loopback that can be cut.

use std::fs::File;
use std::io::copy;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{run, tool, wait_until};

/// Ends with the value.
pub(crate) struct Netns {
    holder: Child,
}

impl Netns {
    /// In which `port` of loopback leads to the same port of this machine's. `dir` is for the way between.
    /// `None`, and a line that says why, where there are no namespaces.
    pub(crate) fn with_way_to(port: u16, dir: &Path) -> Option<Self> {
        let may = Command::new("unshare").args(["-n", "ip", "link", "set", "lo", "up"]).output();
        if !may.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: hosts with a network of their own: no network namespace can be made");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "ip link set lo up; exec sleep 3600"]).stdin(Stdio::null());
        let holder = command.spawn().expect("a namespace");
        let this = Self { holder };
        wait_until(|| this.is_up(), || "loopback does not come up".to_owned());
        let between = dir.join("way");
        outside(&between, port);
        inside(this.path(), between, port);
        Some(this)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// A command with this network.
    pub(crate) fn enter(&self, command: &Command) -> Command {
        let mut entering = tool("nsenter");
        entering.arg(format!("--net={}", self.path().display())).arg(command.get_program()).args(command.get_args());
        entering
    }

    fn is_up(&self) -> bool {
        let own = std::fs::read_link("/proc/self/ns/net").ok();
        let shown = self.enter(tool("ip").args(["link", "show", "lo"])).output();
        std::fs::read_link(self.path()).ok() != own
            && shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).contains("UP"))
    }

    /// Cuts the network off, or has it back.
    pub(crate) fn connect(&self, connected: bool) {
        run(&mut self.enter(tool("ip").args(["link", "set", "lo", if connected { "up" } else { "down" }])));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A socket among the files: namespaces of networks do not part those.
fn outside(between: &Path, port: u16) {
    let listener = UnixListener::bind(between).expect("a socket");
    thread::spawn(move || {
        while let Ok((inner, _)) = listener.accept() {
            let Ok(outer) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            join((inner.try_clone(), outer.try_clone()), (inner, outer));
        }
    });
}

/// Both directions, each until its reader ends.
fn join(there: (std::io::Result<UnixStream>, std::io::Result<TcpStream>), back: (UnixStream, TcpStream)) {
    if let (Ok(mut from), Ok(mut to)) = there {
        thread::spawn(move || {
            // Whoever hung up ended it.
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
    let (mut to, mut from) = back;
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

fn inside(namespace: PathBuf, between: PathBuf, port: u16) {
    let (ready, listens) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // This thread alone; what it listens on stays there.
        let file = File::open(namespace).expect("the namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port that nobody has there");
        ready.send(()).expect("somebody waits");
        while let Ok((inner, _)) = listener.accept() {
            let Ok(outer) = UnixStream::connect(&between) else { continue };
            join((outer.try_clone(), inner.try_clone()), (outer, inner));
        }
    });
    listens.recv().expect("it listens");
}
