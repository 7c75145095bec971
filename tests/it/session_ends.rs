//! Sessions end when their certificates do, whatever kind they are: on a real sshd, with PAM, as root, for an account
//! that is not root. Beside it the same without the helper, where everything lives on.

pub(crate) mod machine;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ssh_jit::clock::Clock;

use crate::support::{output, run, tool, wait_until};
use machine::{Issue, Machine, Session, Way};

/// So long after the end of a certificate, or its revocation, nothing is left.
const WITHIN: i64 = 5;

fn ssh(config: &Path) -> Command {
    let mut command = tool("ssh");
    command.arg("-F").arg(config);
    command
}

fn until(moment: i64) {
    while Clock::System.now().second().unix() < moment {
        sleep(Duration::from_millis(20));
    }
}

/// A server on this machine that answers each byte with itself, for one connection.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    port
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A connection that runs no command, and the port that it forwards.
fn forward(machine: &Machine, config: &Path) -> (Session, u16) {
    let (local, far) = (free_port(), echo());
    let mut client = ssh(config);
    client.args(["-N", "-L", &format!("{local}:127.0.0.1:{far}"), "jit"]);
    (machine.session("forward", &mut client), local)
}

/// Whether a byte comes back through a forwarded port.
fn carries(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut byte = [0];
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream.write_all(b"x").and_then(|()| stream.read_exact(&mut byte)).is_ok()
}

/// One session of each kind that runs commands, slow enough to last. Their names are those of the table in the manual.
fn sessions(machine: &Machine, config: &Path) -> Vec<Session> {
    let at = |name: &str| machine.path(name).display().to_string();
    let config_text = config.display().to_string();
    // Holes take no room. At 500 kB a second it lasts, and clients never sleep for long.
    fs::File::create(machine.path("big")).and_then(|file| file.set_len(1 << 30)).expect("a large file");
    fs::write(machine.path("batch"), format!("put {} sftp-copy\n", at("big"))).expect("a batch");
    let master = at("mux");
    let mut all = vec![
        machine.session("exec", ssh(config).args(["jit", "echo in; sleep 3600; :"])),
        machine.session("pty", ssh(config).args(["-tt", "jit"])),
        machine.session("mux-master", ssh(config).args(["-M", "-S", &master, "-N", "jit"])),
        machine.session("scp", tool("scp").args(["-F", &config_text, "-l", "4000", &at("big"), "jit:scp-copy"])),
        machine.session("sftp", tool("sftp").args(["-F", &config_text, "-l", "4000", "-b", &at("batch"), "jit"])),
    ];
    wait_until(|| Path::new(&master).exists(), || format!("no master: {}", machine.sshd.log()));
    all.push(machine.session("mux", ssh(config).args(["-S", &master, "jit", "sleep 3600; :"])));
    for (name, program, command) in [
        ("rsync", "rsync", format!("--bwlimit=500 -e 'ssh -F {config_text}' {} jit:rsync-copy", at("big"))),
        ("git", "git", "ls-remote --upload-pack='sleep 3600; :' jit:nothing".to_owned()),
    ] {
        if !tool(program).arg("--version").output().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: {program} is not installed");
            continue;
        }
        let mut shell = tool("sh");
        shell.args(["-c", &format!("exec {program} {command}")]);
        shell.env("GIT_SSH_COMMAND", format!("ssh -F {config_text}"));
        all.push(machine.session(name, &mut shell));
    }
    let wanted = all.len() - 1;
    let begun = || machine.sshd.log().matches("Starting session: ").count();
    wait_until(|| begun() >= wanted, || format!("{} of {wanted} sessions: {}", begun(), machine.sshd.log()));
    all
}

/// Demands that all of them end within five seconds from `moment`, and not before.
fn all_end_at(moment: i64, sessions: &mut [Session]) {
    let now = Clock::System.now().second().unix();
    assert!(now < moment, "this machine is too busy: the sessions took until {} s after the end", now - moment);
    until(moment - 1);
    let early: Vec<&str> = sessions.iter_mut().filter_map(|s| (!s.lives()).then_some(s.name.as_str())).collect();
    assert!(early.is_empty(), "{early:?} ended too early");
    until(moment);
    let begin = Instant::now();
    for session in sessions {
        while session.lives() {
            assert!(begin.elapsed() < Duration::from_secs(WITHIN as u64), "{} still lives", session.name);
            sleep(Duration::from_millis(10));
        }
        eprintln!("{} ended {} ms after the end", session.name, begin.elapsed().as_millis());
    }
}

fn nothing_is_left(machine: &Machine) {
    wait_until(
        || machine.processes().is_empty() && machine.watchers().is_empty(),
        || format!("left: {} watchers {:?}", machine.processes(), machine.watchers()),
    );
}

/// Every kind of session, and the forward that runs no command, end with the certificate, and so does the
/// connection.
#[test]
fn every_kind_of_session_ends_with_its_certificate() {
    let Some(machine) = Machine::start(Way::Pam) else { return };
    let (config, end) = machine.issue("short", &Issue { window: (-5, 14), ..Issue::default() });
    let (mut forward, local) = forward(&machine, &config);
    let mut all = sessions(&machine, &config);
    assert!(forward.is_up(local) && carries(local), "no forward: {}", forward.said());
    all.push(forward);
    all_end_at(end, &mut all);
    assert!(!carries(local), "the forward still carries data");
    let pty = all.iter().find(|s| s.name == "pty").expect("the pty's session").said();
    assert!(pty.contains("ssh-jit: access ended: the certificate's time is over"), "{pty}");
    for other in all.iter().filter(|s| s.name != "pty") {
        assert!(!other.said().contains("ssh-jit: "), "{} was told on its data: {}", other.name, other.said());
    }
    nothing_is_left(&machine);
}

/// The same without the helper: what stock OpenSSH does.
#[test]
fn without_the_helper_sessions_live_on() {
    let Some(machine) = Machine::start(Way::Unwatched) else { return };
    let (config, end) = machine.issue("short", &Issue { window: (-5, 12), ..Issue::default() });
    let (mut forward, local) = forward(&machine, &config);
    let mut all = sessions(&machine, &config);
    assert!(forward.is_up(local) && carries(local), "no forward: {}", forward.said());
    all.push(forward);
    until(end + WITHIN);
    let ended: Vec<&str> = all.iter_mut().filter_map(|s| (!s.lives()).then_some(s.name.as_str())).collect();
    assert!(ended.is_empty(), "{ended:?} ended by themselves");
    assert!(carries(local));
}

/// Where PAM is off, the same for everything that runs a command; forwarding is refused there.
#[test]
fn without_pam_a_forced_command_ends_sessions() {
    let Some(machine) = Machine::start(Way::ForceCommand) else { return };
    let (config, end) = machine.issue("short", &Issue { window: (-5, 14), ..Issue::default() });
    let (mut forward, local) = forward(&machine, &config);
    let mut all = sessions(&machine, &config);
    assert!(!forward.is_up(local) || !carries(local), "a forward without a watcher carries data");
    drop(forward);
    all_end_at(end, &mut all);
}

/// A session that detached itself, and left the tree of its sshd, ends with the login; another login of the same
/// account stays.
#[test]
fn what_detached_itself_ends_and_another_login_stays() {
    let Some(machine) = Machine::start(Way::Pam) else { return };
    let plain = machine.allow_plain_key();
    let mut other = machine.session("other", ssh(&plain).args(["jit", "setsid -f sleep 4712; echo in; sleep 3600; :"]));
    other.wait_for("in");
    let (config, end) = machine.issue("short", &Issue { window: (-5, 6), ..Issue::default() });
    // It hears nothing of what asks it to end.
    let deaf = "setsid -f sh -c 'trap \"\" HUP TERM; sleep 4711; :'";
    let detach = format!("{deaf}; echo in; cat /proc/self/sessionid; echo .; sleep 3600; :");
    let mut session = machine.session("exec", ssh(&config).args(["jit", &detach]));
    session.wait_for(".");
    if session.said().contains(&u32::MAX.to_string()) {
        eprintln!("SKIPPED: this kernel gives logins no audit session");
        return;
    }
    assert!(machine.processes().contains("sleep 4711"));
    all_end_at(end, std::slice::from_mut(&mut session));
    wait_until(|| !machine.processes().contains("sleep 4711"), || machine.processes());
    assert!(machine.processes().contains("sleep 4712") && other.lives(), "{}", machine.processes());
}

/// Where logins get no audit session of their own, all of them are in that of whoever started sshd. They stay.
#[test]
fn an_audit_session_of_others_is_not_ended() {
    let Some(machine) = Machine::start(Way::PamByHand) else { return };
    let (config, end) = machine.issue("short", &Issue { window: (-5, 6), ..Issue::default() });
    let plain = machine.allow_plain_key();
    let mut other =
        machine.session("other", ssh(&plain).args(["jit", "cat /proc/self/sessionid; echo .; sleep 3600; :"]));
    other.wait_for(".");
    if other.said().contains(&u32::MAX.to_string()) {
        eprintln!("SKIPPED: this kernel has no audit sessions");
        return;
    }
    let mut session = machine.session("exec", ssh(&config).args(["jit", "echo in; sleep 3600; :"]));
    session.wait_for("in");
    all_end_at(end, std::slice::from_mut(&mut session));
    wait_until(|| machine.watchers().is_empty(), || "the watcher stays".to_owned());
    assert!(other.lives(), "another login was ended");
    assert!(output(ssh(&plain).args(["jit", "true"])).status.success(), "sshd was ended");
}

/// A certificate on a list that was replaced ends what it opened, and the person is told; others stay.
#[test]
fn a_revoked_certificate_ends_what_it_opened() {
    let Some(machine) = Machine::start(Way::Pam) else { return };
    let (config, _) = machine.issue("revoked", &Issue { serial: 7, ..Issue::default() });
    let (good, _) = machine.issue("good", &Issue { serial: 8, ..Issue::default() });
    let mut ending = [
        machine.session("exec", ssh(&config).args(["jit", "echo in; sleep 3600; :"])),
        machine.session("pty", ssh(&config).args(["-tt", "jit"])),
    ];
    let mut other = machine.session("other", ssh(&good).args(["jit", "echo in; sleep 3600; :"]));
    ending[0].wait_for("in");
    ending[1].wait_for("$");
    other.wait_for("in");
    let (list, new) = (machine.host_file("revoked.krl"), machine.path("new.krl"));
    // A list that nobody can read ends nothing, and one that names others neither.
    fs::write(&new, "no list").expect("a file");
    fs::rename(&new, &list).expect("a new list");
    sleep(Duration::from_millis(2500));
    assert!(ending[0].lives() && other.lives());
    let specification = machine.path("revoked.txt");
    for (serial, ends) in [(9, false), (7, true)] {
        fs::write(&specification, format!("serial: {serial}\n")).expect("what is revoked");
        let mut keygen = tool("ssh-keygen");
        keygen.args(["-q", "-k", "-s"]).arg(machine.path("ca.pub")).arg("-f").arg(&new).arg(&specification);
        run(&mut keygen);
        fs::rename(&new, &list).expect("a new list");
        if ends {
            let begin = Instant::now();
            while ending.iter_mut().any(Session::lives) {
                assert!(begin.elapsed() < Duration::from_secs(WITHIN as u64), "what was revoked still lives");
                sleep(Duration::from_millis(10));
            }
        } else {
            sleep(Duration::from_millis(2500));
            assert!(ending.iter_mut().all(Session::lives), "a session ended that nobody revoked");
        }
    }
    assert!(ending[1].said().contains("ssh-jit: access ended: the certificate was revoked"), "{}", ending[1].said());
    assert!(other.lives(), "a certificate that is not on the list lost its session");
}

/// The person is told before the end, on the terminal.
#[test]
fn the_person_is_told_before_the_end() {
    let Some(machine) = Machine::start(Way::Pam) else { return };
    let (config, _) = machine.issue("two-minutes", &Issue { window: (-5, 123), ..Issue::default() });
    let mut pty = machine.session("pty", ssh(&config).args(["-tt", "jit"]));
    pty.wait_for("ssh-jit: this connection ends with its certificate in 2 min, at ");
    assert!(pty.lives());
}

/// Without its helper a certificate opens nothing; whoever comes without a certificate, or with another CA's, gets
/// in all the same.
#[test]
fn without_its_helper_a_certificate_opens_nothing() {
    let Some(machine) = Machine::start(Way::Pam) else { return };
    let (config, _) = machine.issue("long", &Issue::default());
    let (other, _) = machine.issue("other", &Issue { ca: "other", window: (-5, 7 * 86_400), ..Issue::default() });
    let plain = machine.allow_plain_key();
    let admits = |config: &Path| output(ssh(config).args(["jit", "true"])).status.success();
    assert!(admits(&config) && admits(&other) && admits(&plain));
    let session = machine.host_file("session");
    let wrapper = fs::read_to_string(&session).expect("the wrapper");
    for helper in ["/nowhere/ssh-jit", "/bin/false", "/etc/ssh/ssh-jit/crash"] {
        fs::write(&session, wrapper.replace("/run/ssh-jit", helper)).expect("the wrapper");
        let crash = machine.host_file("crash");
        fs::write(&crash, "#!/bin/sh\nkill -SEGV $$\n").expect("a helper");
        fs::set_permissions(&crash, fs::Permissions::from_mode(0o755)).expect("permissions");
        assert!(!admits(&config), "{helper}: a certificate opened a session that nobody watches");
        assert!(admits(&plain), "{helper}: whoever has no certificate is locked out");
        let (mut forward, local) = forward(&machine, &config);
        assert!(!forward.is_up(local) || !carries(local), "{helper}: a forward that nobody watches carries data");
    }
    fs::write(&session, &wrapper).expect("the wrapper");
    assert!(admits(&config));
    fs::remove_file(machine.host_file("user-ca.pub")).expect("the CAs");
    assert!(!admits(&config) && admits(&plain), "without its CAs the helper knows no certificate of ours");
}

/// What the service never signs opens nothing, whoever signed it.
#[test]
fn what_is_longer_than_the_service_signs_opens_nothing() {
    let Some(machine) = Machine::start(Way::Pam) else { return };
    let broken = "BREAK-GLASS/7F3K-9QPX-M2/alice/db-prod/SHA256:x";
    let usual = Issue::default().key_id;
    for (ca, key_id, length, enters) in [
        ("break-glass", broken, 900, true),
        ("break-glass", broken, 901, false),
        ("break-glass", usual, 901, false),
        ("ca", broken, 901, false),
        ("ca", usual, 12 * 3600, true),
        ("ca", usual, 12 * 3600 + 1, false),
    ] {
        let (config, _) = machine.issue("row", &Issue { ca, key_id, window: (-5, length - 5), ..Issue::default() });
        let ran = output(ssh(&config).args(["jit", "true"]));
        let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        assert_eq!(ran.status.success(), enters, "{ca} {key_id} {length}: {said}");
        let told = format!("ssh-jit: this login is refused: the certificate is valid for {length} s");
        assert!(enters || said.contains(&told), "{said}");
    }
}
