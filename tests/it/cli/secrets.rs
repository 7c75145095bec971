//! Secrets: nobody finds them anywhere but in their place, whatever happened to the processes that have them; and
//! no planted link leads a write elsewhere.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustix::process::Signal;
use ssh_jit::domain::digest::Digest;
use ssh_key::PrivateKey;

use crate::support::world::{Ran, World, ssh_jit};
use crate::support::{dir, run, tool, wait_until};

/// Longer than what freeing memory writes over.
const PASSPHRASE: &str = "canary horse battery staple, and so on until it fills a line: 0123456789";
const PROVIDER_SECRET: &str = "canary-of-the-provider";
const WEBHOOK_SECRET: &str = "whsec_NWVjcmV0IHRoYXQgb25seSB0aGUgcGFnZXIgaGFz";
const TRACKER_SECRET: &str = "5ecret-that-only-the-tracker-knows";
/// What lies in files that `ssh-jit.toml` names.
const OUTSIDE: &str = "[sources.pager]\nsecret_file = \"pager-secret\"\n\
                       [ticket_checks.tracker]\nheader_file = \"tracker-header\"\n";
/// A source, and a check at a place where nobody answers.
const ASKS_OUTSIDE: &str = r#"
[sources.pager]
facts = ["oncall:*"]

[ticket_checks.tracker]
url = "http://127.0.0.1:1/{ticket}"
expect = { status = 200 }

[roles.ticketed]
principals = ["ticketed"]
requesters = ["sre"]
approvers = ["dba"]
max = "1h"
when = { ticket = "OPS-[0-9]+", ticket_check = "tracker" }
"#;

/// Something that must not be found, in each form that it could be found in.
struct Canary {
    name: &'static str,
    forms: Vec<Vec<u8>>,
    /// The only files that may hold it.
    places: Vec<PathBuf>,
}

impl Canary {
    fn text(name: &'static str, text: &str, places: &[PathBuf]) -> Self {
        assert!(text.len() >= 16, "{name}: too short to be searched for");
        Self { name, forms: encodings(text.as_bytes()), places: places.to_vec() }
    }

    /// The seed of an Ed25519 key, and the file it lies in, line by line.
    fn key(name: &'static str, file: &Path, passphrase: &str) -> Self {
        let text = fs::read_to_string(file).expect("a key");
        let mut key = PrivateKey::from_openssh(&text).expect("a key");
        if key.is_encrypted() {
            key = key.decrypt(passphrase).expect("its passphrase");
        }
        let mut forms = encodings(key.key_data().ed25519().expect("an Ed25519 key").private.as_ref());
        // The first two lines hold what is public.
        forms.extend(text.lines().skip(3).filter(|line| line.len() > 60).map(|line| line.as_bytes().to_vec()));
        Self { name, forms, places: vec![file.to_owned()] }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    }
}

/// Raw, in hex, and in base64 wherever it may begin in what was encoded.
fn encodings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for before in 0..3 {
        let shifted = [&vec![0; before], secret].concat();
        for text in [STANDARD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            // Without the ends, which depend on what stands beside it.
            let end = text.trim_end_matches('=').len() - 2;
            forms.push(text.as_bytes()[4..end].to_vec());
        }
    }
    forms
}

#[track_caller]
fn nothing_in(canaries: &[Canary], what: &str, bytes: &[u8]) {
    for canary in canaries {
        assert!(!canary.is_in(bytes), "the {} is in {what}: {}", canary.name, String::from_utf8_lossy(bytes));
    }
}

/// Every file below, with its content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push((entry.path(), fs::read(entry.path()).expect("a file")));
        }
    }
    found
}

/// `ssh-jit init --encrypt` on a terminal, where somebody types the passphrase. What the terminal showed is taken away:
/// between the prompt and the end of echoing is a moment in which a machine can type.
fn init_encrypted(world: &World) {
    fs::remove_dir_all(world.path("ca")).expect("what was made without one");
    let shown = world.path("shown");
    let binary = env!("CARGO_BIN_EXE_ssh-jit");
    let line = format!("{binary} init --encrypt --dir {}", world.path("ca").display());
    let mut command = tool("script");
    command.args(["-qfec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(File::create(&shown).expect("a file"));
    let mut child = command.spawn().expect("script (Debian: bsdutils)");
    let mut keyboard = child.stdin.take().expect("a keyboard");
    for prompt in ["new passphrase", "once more"] {
        let screen = || fs::read_to_string(&shown).unwrap_or_default();
        wait_until(|| screen().contains(prompt), || format!("no {prompt:?}: {}", screen()));
        writeln!(keyboard, "{PASSPHRASE}").expect("typing");
    }
    assert!(child.wait().expect("its end").success(), "{}", fs::read_to_string(&shown).unwrap_or_default());
    // Once more with fewer rounds: each start of a test's own build would take seconds.
    for key in ["break-glass-ca", "host-ca", "journal", "krl", "log", "user-ca"] {
        let file = world.path(&format!("ca/ca-keys/{key}"));
        run(tool("ssh-keygen").args(["-q", "-p", "-P", PASSPHRASE, "-N", PASSPHRASE, "-a", "1", "-f"]).arg(file));
    }
    world.write("ca/policy.toml", &(world.usual_policy() + "[oidc]\ngroups = [\"dba\"]\n"));
    fs::remove_file(&shown).expect("what was shown");
}

/// The command under a shell that first does `before`.
fn under(before: &str, command: &Command) -> Command {
    let mut shell = ssh_jit_env("sh");
    shell.args(["-c", &format!("{before}; exec \"$@\""), "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
}

fn ssh_jit_env(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("LANG", "C.UTF-8");
    command
}

/// `serve`, with a passphrase on descriptor 3 that lies in no file afterwards.
fn serve_with(world: &World, passphrase: &str) -> Command {
    let file = world.path("typed");
    fs::write(&file, passphrase).expect("a file");
    let mut serve = world.serve();
    serve.args(["--passphrase-fd", "3"]);
    under(&format!("exec 3<'{0}'; rm '{0}'", file.display()), &serve)
}

/// An identity provider that refuses every code, and repeats the secret that it was shown.
fn provider() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let issuer = format!("http://{}", listener.local_addr().expect("an address"));
    let (tell, told) = std::sync::mpsc::channel();
    let name = issuer.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever hangs up early is not answered.
            let _ = provide(&stream, &name, &tell);
        }
    });
    (issuer, told)
}

fn provide(mut stream: &TcpStream, issuer: &str, tell: &std::sync::mpsc::Sender<String>) -> io::Result<()> {
    let mut from = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let (status, answer) = if head.starts_with("POST /token") {
        let shown = format!("{head}{}", String::from_utf8_lossy(&body));
        let basic = head.lines().find_map(|line| line.split_once("Basic ")).map_or("", |(_, rest)| rest.trim());
        let secret = String::from_utf8(STANDARD.decode(basic).unwrap_or_default()).unwrap_or_default();
        // The test may be over.
        let _ = tell.send(shown.clone() + &secret);
        (401, serde_json::json!({ "error": "invalid_client", "error_description": format!("{secret} {shown}") }))
    } else if head.starts_with("GET /keys") {
        (200, serde_json::json!({ "keys": [] }))
    } else {
        let answer = serde_json::json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        (200, answer)
    };
    let answer = answer.to_string();
    write!(stream, "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close\r\n")?;
    write!(stream, "Content-Length: {}\r\n\r\n{answer}", answer.len())
}

/// One request, byte by byte, and everything that is answered.
fn say(port: u16, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a service");
    let host = format!("Host: localhost:{port}\r\nConnection: close\r\nContent-Length: {}", body.len());
    let (first, rest) = head.split_once("\r\n").unwrap_or((head, "X-Nothing: 1"));
    // In one piece: whoever refuses the first line hangs up on what comes later.
    let request = format!("{first}\r\n{host}\r\n{rest}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    // Whoever refuses early may hang up on the rest.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn field(file: &Path, name: &str) -> String {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    json[name].as_str().expect("text").to_owned()
}

fn form_token(bearer: &str) -> String {
    URL_SAFE_NO_PAD.encode(Digest::of_parts(&[b"ssh-jit form token", bearer.as_bytes()]).as_bytes())
}

/// What the system shows of a process to whoever may look: arguments, environment, memory map, open files.
fn shown_of(pid: u32) -> Vec<(String, Vec<u8>)> {
    let mut shown = Vec::new();
    for name in ["cmdline", "environ", "status", "maps", "comm"] {
        match fs::read(format!("/proc/{pid}/{name}")) {
            Ok(bytes) => shown.push((name.to_owned(), bytes)),
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{name}: {e}"),
        }
    }
    shown
}

/// A whole life, from `init` to broken glass, with everything provoked that puts words into logs and answers; then
/// every secret of it is looked for in everything that was said and written.
#[test]
#[expect(clippy::too_many_lines, reason = "it is one story")]
fn secrets_are_nowhere_but_in_their_place() {
    let mut world = World::prepared();
    init_encrypted(&world);
    let mut said = Vec::new();
    let (issuer, shown_to_provider) = provider();
    ssh_jit::files::write_private(&world.path("ca/secret"), PROVIDER_SECRET.as_bytes()).unwrap();
    let oidc = format!("[oidc]\nissuer = \"{issuer}\"\nclient_id = \"jit\"\nclient_secret_file = \"secret\"\n");
    ssh_jit::files::write_private(&world.path("ca/pager-secret"), WEBHOOK_SECRET.as_bytes()).unwrap();
    let header = format!("Authorization: Bearer {TRACKER_SECRET}\n");
    ssh_jit::files::write_private(&world.path("ca/tracker-header"), header.as_bytes()).unwrap();
    let oidc = oidc + OUTSIDE;
    world.write("ca/policy.toml", &(fs::read_to_string(world.path("ca/policy.toml")).unwrap() + ASKS_OUTSIDE));
    let configure = |world: &World, port| {
        world.listen_on(port);
        let plain = fs::read_to_string(world.path("ca/ssh-jit.toml")).unwrap();
        world.write("ca/ssh-jit.toml", &(plain + &oidc));
    };
    configure(&world, 0);
    let mut note = |what: &str, ran: Ran| {
        said.push((what.to_owned(), ran.stdout.clone() + &ran.stderr));
        ran
    };
    // The right passphrase but for its end, and no passphrase at all.
    for wrong in [format!("{PASSPHRASE}!"), String::new()] {
        assert_eq!(note("serve, refused", world.run(serve_with(&world, &wrong))).code, 1);
    }
    world.start_by(serve_with(&world, PASSPHRASE));
    note("serve", world.stop().good());
    // Under the address that browsers ask for.
    let port = world.port();
    configure(&world, port);
    world.start_by(serve_with(&world, PASSPHRASE));

    // People's ways, good and bad.
    let server = world.server().id();
    let (alice, carol) = (world.as_("alice"), world.as_("carol"));
    let id = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    let state = alice.state();
    let (waiting, subject) = (state.join(format!("requests/{id}.json")), state.join(format!("requests/{id}")));
    alice.run(&["roles"]).good();
    carol.run(&["roles"]).good();
    let session = state.join("session-alice.json");
    let (bearer, waiter) = (field(&session, "bearer"), field(&waiting, "waiter"));
    let carols = field(&carol.state().join("session-carol.json"), "bearer");
    let mut canaries = vec![
        Canary::text("passphrase", PASSPHRASE, &[]),
        Canary::text("provider's secret", PROVIDER_SECRET, &[world.path("ca/secret")]),
        Canary::text("webhooks' secret", WEBHOOK_SECRET, &[world.path("ca/pager-secret")]),
        Canary::text("tracker's secret", TRACKER_SECRET, &[world.path("ca/tracker-header")]),
        Canary::text("bearer", &bearer, &[session]),
        Canary::text("capability", &waiter, &[waiting]),
        Canary::text("approver's bearer", &carols, &[carol.state().join("session-carol.json")]),
        Canary::text("form token", &form_token(&bearer), &[]),
        Canary::key("subject key", &subject, ""),
    ];
    for (name, file) in [("user CA", "user-ca"), ("break-glass CA", "break-glass-ca"), ("log key", "log")] {
        canaries.push(Canary::key(name, &world.path(&format!("ca/ca-keys/{file}")), PASSPHRASE));
    }
    for (name, file) in [("alice's key", "alice"), ("carol's key", "carol"), ("emergency key", "emergency")] {
        canaries.push(Canary::key(name, &world.key(file), ""));
    }
    let mut login = alice.spawn(&["login", &id]);
    login.wait_for("waiting (");
    for (what, bytes) in shown_of(server).into_iter().chain(shown_of(login.id())) {
        nothing_in(&canaries, &what, &bytes);
    }
    note("approve", carol.run(&["approve", &id, "--for", "30m"]).good());
    note("login", login.end().good());
    let other = alice.ask(&["vault", "--reason", "rotate the root token"]);
    note("approve by the requester", alice.run(&["approve", &other]));
    note("deny", carol.run(&["deny", &other, "--reason", "not today"]).good());
    note("login, denied", alice.run(&["login", &other]));
    let ticket = ["login", "ticketed", "--ticket", "OPS-1", "--reason", "a ticket that nobody can look up"];
    note("a ticket check that fails", alice.run(&ticket));
    let glass =
        ["break-glass", "db-prod", "--category", "outage", "--reason", "the primary is down and nobody answers"];
    note("break-glass", alice.run(&glass).good());
    note("the same again", alice.run(&glass));
    note("show", alice.run(&["show", &id, "--json"]).good());
    note("status", alice.run(&["status", "--json"]).good());
    note("receipt", alice.run(&["receipt", &id]).good());
    note("export", carol.run(&["audit", "export", &world.path("evidence").display().to_string()]).good());
    // Files of the person's that were damaged, and keys where other things belong.
    let key = world.key("alice");
    for args in [["verify", key.to_str().unwrap()], ["policy", "check"]] {
        let args = if args[0] == "policy" { vec!["policy", "check", key.to_str().unwrap()] } else { args.to_vec() };
        assert_eq!(note("a key for a file", alice.run(&args)).code, 1);
    }

    // Secrets where none belongs, in requests that are refused, and in one that is answered.
    let cookie = format!("Cookie: __Host-session={bearer}");
    let token = form_token(&bearer);
    let mut answers = Vec::new();
    for secret in [&bearer, &waiter, &token] {
        let statement =
            serde_json::json!({ "text": format!("{{\"v\":1,\"nonce\":\"{secret}\"}}"), "signature": secret });
        for (head, body) in [
            (format!("GET /v1/requests/{secret} HTTP/1.1"), String::new()),
            (
                format!("GET /v1/requests/{id}/wait?seconds=0&bearer={secret} HTTP/1.1\r\nAuthorization: Bearer x"),
                String::new(),
            ),
            (format!("GET /v1/roles HTTP/1.1\r\nAuthorization: Bearer {secret}x"), String::new()),
            (format!("GET /v1/roles HTTP/1.1\r\nAuthorization: Basic {secret}"), String::new()),
            (format!("GET /nowhere/{secret} HTTP/1.1\r\n{cookie}"), String::new()),
            (format!("BREW /v1/roles HTTP/1.1\r\nX-{secret}: {secret}"), String::new()),
            (format!("GET /{secret} HTTP/9.9"), String::new()),
            ("POST /v1/requests HTTP/1.1\r\nContent-Type: application/json".to_owned(), statement.to_string()),
            ("POST /v1/decisions HTTP/1.1\r\nContent-Type: application/json".to_owned(), secret.clone()),
            (format!("POST /web/drafts/decision HTTP/1.1\r\n{cookie}\r\nX-Form-Token: {secret}"), "{}".to_owned()),
        ] {
            answers.push(say(port, &head, &body));
        }
        // Told to who sent it, that there is no such field; and to nobody else.
        let odd = "POST /v1/claims HTTP/1.1\r\nContent-Type: application/json";
        assert!(say(port, odd, &format!("{{\"{secret}\":1}}")).contains(secret.as_str()));
    }
    // The page repeats the form token to its session: that is its place.
    let page = say(port, &format!("GET /mine HTTP/1.1\r\n{cookie}"), "");
    assert!(page.contains(&token), "{page}");
    let hook =
        "POST /v1/facts/pager HTTP/1.1\r\nWebhook-Id: msg_1\r\nWebhook-Timestamp: 1\r\nWebhook-Signature: v1,AAAA";
    answers.push(say(port, hook, "{}"));
    let begun = say(port, "GET /sign-in/oidc HTTP/1.1", "");
    let part =
        |name: &str| begun.split_once(name).and_then(|(_, rest)| rest.split([';', '&', '\r']).next()).expect(name);
    let (browser, way) = (part("__Host-oidc="), part("&state="));
    let back = format!("GET /sign-in/oidc/back?code=x&state={way} HTTP/1.1\r\nCookie: __Host-oidc={browser}");
    answers.push(say(port, &back, ""));
    let shown = shown_to_provider.try_recv().expect("the provider was asked for a token");
    assert!(shown.contains(PROVIDER_SECRET), "{shown}");

    // A reload that is refused, and one that is not.
    let good = fs::read_to_string(world.path("ca/policy.toml")).unwrap();
    world.write("ca/policy.toml", &format!("{good}[roles.x]\nhosts = {PASSPHRASE}\n"));
    world.server().signal(Signal::HUP);
    world.server().wait_for("the policy was refused");
    world.load_policy(&good);
    said.push(("the log".to_owned(), world.server().stderr()));

    for (what, text) in &said {
        nothing_in(&canaries, what, text.as_bytes());
    }
    for answer in &answers {
        nothing_in(&canaries, "an answer", answer.as_bytes());
    }
    let everything = files(&world.path(""));
    assert!(everything.iter().any(|(path, _)| path.ends_with("ssh-jit.db-wal")), "the database is open");
    for canary in &canaries {
        let found: Vec<&Path> =
            everything.iter().filter(|(_, bytes)| canary.is_in(bytes)).map(|(path, _)| path.as_path()).collect();
        assert_eq!(found, canary.places.iter().map(PathBuf::as_path).collect::<Vec<_>>(), "{}", canary.name);
    }
    // Access that was given back leaves nothing of its own.
    world.as_("alice").run(&["done", &id]).good();
    let left = files(&world.path(""));
    for name in ["subject key", "capability"] {
        let canary = canaries.iter().find(|canary| canary.name == name).unwrap();
        assert!(left.iter().all(|(_, bytes)| !canary.is_in(bytes)), "{name}");
    }
    let log = world.stop().good();
    nothing_in(&canaries, "the log", (log.stdout + &log.stderr).as_bytes());
}

/// A number of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).trim().to_owned()
}

/// Whoever starts it may be careless: it closes itself. And it gains no rights, whatever it may be made to start.
#[test]
fn the_service_closes_itself() {
    let world = World::prepared();
    let mut server = world.spawn(under("umask 000; ulimit -S -c unlimited 2>/dev/null || :", &world.serve()));
    server.wait_for("listening on ");
    assert_eq!(status(server.id(), "Umask"), "0077");
    assert_eq!(status(server.id(), "NoNewPrivs"), "1");
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id()));
    let core = limits.unwrap().lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    for (name, modes) in [("ssh-jit.db-wal", 0o600), ("ssh-jit.lock", 0o600), ("break-glass.journal", 0o600)] {
        let facts = fs::metadata(world.path("ca").join(name)).unwrap();
        assert_eq!(facts.permissions().mode() & 0o7777, modes, "{name}");
    }
    server.signal(Signal::ABORT);
    let pid = server.id();
    let ended = server.end();
    assert_eq!(ended.code, -1, "{ended:?}");
    let left: Vec<_> = fs::read_dir(".").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name == "core" || name.to_string_lossy() == format!("core.{pid}")), "{left:?}");
}

/// What runs for somebody cannot be looked into by others of their processes: the system gives its files to root.
#[test]
fn nobody_looks_into_a_process_with_keys() {
    let dir = dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (fifo, binary) = (dir.path().join("fifo"), dir.path().join("ssh-jit"));
    run(tool("mkfifo").args(["-m", "644"]).arg(&fifo));
    fs::copy(env!("CARGO_BIN_EXE_ssh-jit"), &binary).unwrap();
    // Root looks into everything, so for root it is somebody else's process.
    let me = rustix::process::geteuid();
    let owner = if me.is_root() { 65_534 } else { me.as_raw() };
    // Both wait for what nobody writes.
    let start = |program: &Path, args: &[&str]| {
        let mut command = ssh_jit_env(program.to_str().unwrap());
        command.args(args).arg(&fifo).current_dir("/").env("HOME", "/").stdin(Stdio::null());
        if me.is_root() {
            command.uid(owner).gid(owner);
        }
        command.spawn().unwrap()
    };
    let (mut ours, mut another) = (start(&binary, &["verify"]), start(Path::new("/bin/cat"), &[]));
    let opened = |pid: u32| status(pid, "State").starts_with('S');
    wait_until(|| opened(ours.id()) && opened(another.id()), || "they do not wait".to_owned());
    let owner_of = |pid: u32| fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    let found = (owner_of(ours.id()), owner_of(another.id()));
    for child in [&mut ours, &mut another] {
        child.kill().unwrap();
        assert!(!child.wait().unwrap().core_dumped());
    }
    assert_eq!(found, (0, owner));
}

/// What of a process's memory was written to, as far as we may read it.
fn memory(pid: u32) -> io::Result<Vec<u8>> {
    const PAGE: usize = 4096;
    let mut memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut found = Vec::new();
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("a range");
        let (from, to) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16));
        let (mut at, to) = (from.expect("an address"), to.expect("an address"));
        let mut page = [0; PAGE];
        while at < to {
            memory.seek(SeekFrom::Start(at))?;
            // Some pages are nobody's to read.
            if memory.read_exact(&mut page).is_ok() && page != [0; PAGE] {
                found.extend(page);
            }
            at += PAGE as u64;
        }
    }
    Ok(found)
}

/// Once the keys are open, their passphrase is wiped, and so is what it was read into. The keys themselves are
/// there, or this would look in the wrong place.
#[test]
fn a_passphrase_is_forgotten() {
    let world = World::prepared();
    init_encrypted(&world);
    world.listen_on(0);
    let mut server = world.spawn(serve_with(&world, PASSPHRASE));
    server.wait_for("listening on ");
    let memory = match memory(server.id()) {
        // Then others cannot read it either, which is what `nobody_looks_into_a_process_with_keys` is about.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return,
        memory => memory.unwrap(),
    };
    let key = fs::read(world.path("ca/ca-keys/user-ca")).unwrap();
    let key = PrivateKey::from_openssh(&key).unwrap().decrypt(PASSPHRASE).unwrap();
    let seed = key.key_data().ed25519().unwrap().private.as_ref().to_vec();
    let holds = |secret: &[u8]| memory.windows(secret.len()).any(|window| window == secret);
    assert!(holds(&seed), "a key is where it is used");
    assert!(!holds(&PASSPHRASE.as_bytes()[PASSPHRASE.len() - 16..]), "the passphrase is still there");
}

/// S01: where a client writes, a planted link is replaced or refused; what it leads to stays as it was.
#[test]
fn clients_follow_no_planted_link() {
    let world = World::new();
    let alice = world.as_("alice");
    let target = world.path("target");
    fs::write(&target, "untouched").unwrap();
    let plant = |path: &Path| {
        let _ = fs::remove_file(path);
        symlink(&target, path).unwrap();
    };
    let untouched = |path: &Path| {
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched", "{}", path.display());
    };
    let replaced = |path: &Path| {
        untouched(path);
        assert!(!fs::symlink_metadata(path).unwrap().is_symlink(), "{}", path.display());
    };
    let config = alice.home().join(".config/ssh-jit");
    let id = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    world.as_("carol").run(&["approve", &id]).good();
    let certificate = alice.state().join(format!("requests/{id}-cert.pub"));
    plant(&certificate);
    plant(&config.join("certificates"));
    alice.run(&["login", &id]).good();
    replaced(&certificate);
    replaced(&config.join("certificates"));

    // Files that are read before they are written: nobody takes somebody else's word for them.
    let waiting = format!("requests/{id}.json");
    let args: [(&str, &[&str]); 3] =
        [("trust.json", &["roles"]), ("session-alice.json", &["roles"]), (&waiting, &["login", &id])];
    for (name, args) in args {
        let path = alice.state().join(name);
        let kept = fs::read(&path).ok();
        plant(&path);
        let ran = alice.run(args);
        assert!(ran.code == 1 && ran.stderr.contains("symbolic links"), "{name}: {ran:?}");
        untouched(&path);
        fs::remove_file(&path).unwrap();
        if let Some(kept) = kept {
            ssh_jit::files::write_private(&path, &kept).unwrap();
        }
    }
    let carol = world.as_("carol");
    plant(&carol.state().join("head.json"));
    assert_eq!(carol.run(&["audit", "verify"]).code, 1);
    untouched(&carol.state());

    plant(&config.join("config.toml"));
    let key = world.key("alice").display().to_string();
    fs::write(&target, "").unwrap();
    alice.run(&["setup", "--server", &world.url(), "--user", "alice", "--identity", &key]).good();
    assert_eq!(fs::read_to_string(&target).unwrap(), "");
    assert!(!fs::symlink_metadata(config.join("config.toml")).unwrap().is_symlink());

    // The folder itself, before it was made.
    let inner = world.path("state");
    fs::create_dir_all(world.path("elsewhere/requests")).unwrap();
    fs::create_dir_all(inner.join("ssh-jit")).unwrap();
    symlink(world.path("elsewhere"), inner.join("ssh-jit").join(alice.state().file_name().unwrap())).unwrap();
    let ran = alice.clone().env("XDG_STATE_HOME", &inner).run(&["roles"]);
    assert!(ran.code == 1 && ran.stderr.contains("a symbolic link is not followed"), "{ran:?}");
    assert_eq!(files(&world.path("elsewhere")), []);
}

/// S01: what an auditor writes out could be exchanged in a folder that others write to.
#[test]
fn nothing_is_exported_into_the_folders_of_others() {
    let world = World::new();
    let carol = world.as_("carol");
    let (open, link) = (world.path("open"), world.path("link"));
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    symlink(carol.home(), &link).unwrap();
    for (folder, why) in [
        (&open, "DIR/open: others may use it (mode 777); chmod go-w it"),
        (&link, "DIR/link: it is not a folder (a symbolic link is not followed)"),
    ] {
        let ran = carol.run(&["audit", "export", folder.to_str().unwrap()]);
        ran.is(1, &[], &[&format!("ssh-jit: {why}")]);
    }
    assert_eq!(files(&open), []);
}

/// S01: the same for the service's files; and `init` makes no CA where others could put a policy of theirs.
#[test]
fn the_service_follows_no_planted_link() {
    let world = World::prepared();
    let target = world.path("target");
    for name in ["ssh-jit.lock", "ssh-jit.db-wal", "ssh-jit.db-shm", "break-glass.journal"] {
        fs::write(&target, "untouched").unwrap();
        let path = world.path("ca").join(name);
        let _ = fs::remove_file(&path);
        symlink(&target, &path).unwrap();
        let ran = world.run(world.serve());
        assert_eq!(ran.code, 1, "{name}: {ran:?}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched", "{name}");
        fs::remove_file(&path).unwrap();
    }
    let (database, moved) = (world.path("ca/ssh-jit.db"), world.path("moved.db"));
    fs::rename(&database, &moved).unwrap();
    symlink(&moved, &database).unwrap();
    assert_eq!(world.run(world.serve()).code, 1);

    let made = |folder: &Path| {
        let mut command = ssh_jit();
        command.args(["init", "--dir"]).arg(folder);
        world.run(command)
    };
    let (open, link) = (world.path("open"), world.path("link"));
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(world.path("empty")).unwrap();
    symlink(world.path("empty"), &link).unwrap();
    made(&open).is(1, &[], &["ssh-jit: DIR/open: others may use it (mode 777); chmod go-w it"]);
    made(&link).is(1, &[], &["ssh-jit: DIR/link: it is not a folder (a symbolic link is not followed)"]);
    assert!(files(&open).is_empty() && files(&world.path("empty")).is_empty());
    symlink(world.path("nowhere"), world.path("dangling")).unwrap();
    assert_eq!(made(&world.path("dangling")).code, 1);
    assert!(!world.path("nowhere").exists());
}

/// The policy says who may do what, and the service's file where the policy is: whoever may write them is the CA.
#[test]
fn a_policy_that_others_may_write_rules_nobody() {
    let mut world = World::prepared();
    for file in ["policy.toml", "ssh-jit.toml"] {
        let path = world.path("ca").join(file);
        for mode in [0o664, 0o646] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = format!("ssh-jit: DIR/ca/{file}: others may use it (mode {mode:o}); chmod go-w it");
            world.run(world.serve()).is(1, &[], &[&refused]);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    world.start();
    fs::set_permissions(world.path("ca/policy.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    world.server().signal(Signal::HUP);
    world.server().wait_for("the policy was refused; the running one stays");
    let mut check = ssh_jit();
    check.args(["policy", "check"]).arg(world.path("ca/policy.toml"));
    world.run(check).good();
}
