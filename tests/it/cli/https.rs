//! HTTPS from end to end: what the service shows and reloads, what people's clients believe, and how many slow
//! connections it bears.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustls::version::{TLS12, TLS13};

use crate::support::tls::{Authority, Pair, ask, handshake, secured, shown};
use crate::support::tool;
use crate::support::wait_until;
use crate::support::world::{World, ssh_jit};

fn address(world: &World) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, world.port()).into()
}

#[test]
fn people_use_it_without_a_proxy() {
    let world = World::https();
    let alice = world.as_("alice");
    let config = fs::read_to_string(alice.home().join(".config/ssh-jit/config.toml")).unwrap();
    assert!(config.contains(&format!("tls_ca = {:?}\n", world.path("tls-ca.pem"))), "{config}");
    alice.run(&["login", "db-prod", "--for", "10m", "--reason", "replica lag after failover"]).good();
    let id = alice.ask(&["vault", "--reason", "rotate the root token"]);
    // Nor with one that the environment names: what this reads of the environment is in README.md.
    let nobody = "http://127.0.0.1:1";
    let carol = world.as_("carol").env("https_proxy", nobody).env("HTTPS_PROXY", nobody).env("ALL_PROXY", nobody);
    carol.run(&["approve", &id]).good();
    assert!(alice.run(&["doctor"]).stdout.contains(&format!("ok   service   {} answers", world.url())));
}

#[test]
fn answers_say_that_it_is_https_for_a_year() {
    let (https, http) = (World::https(), World::new());
    let answer = ask(&mut secured(address(&https), https.authority()).unwrap(), "/v1/now").unwrap();
    assert!(answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{answer}");
    let answer = ask(&mut TcpStream::connect(address(&http)).unwrap(), "/v1/now").unwrap();
    assert!(!answer.contains("strict-transport-security"), "{answer}");
}

#[test]
fn only_the_newest_tls_and_the_one_protocol() {
    let world = World::https();
    let try_it = |version, protocol| handshake(address(&world), world.authority(), version, protocol).map(|_| ());
    try_it(&TLS13, "http/1.1").unwrap();
    let refused = try_it(&TLS12, "http/1.1").unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    let refused = try_it(&TLS13, "h2").unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

/// Nothing is sent to whoever shows a certificate that nobody has to believe.
#[test]
fn a_certificate_is_believed_for_a_reason() {
    let mut world = World::https();
    let alice = world.as_("alice");
    world.write("other-ca.pem", Authority::new().pem());
    let other = world.path("other-ca.pem").display().to_string();
    let untrusted = |why: &str| format!("ssh-jit: URL: its certificate is not trusted: {why}");
    let hint = "hint: if the service has a CA of its own, name its file: --tls-ca FILE";
    let unknown = untrusted("no CA that is believed here signed it");
    alice.run(&["--tls-ca", &other, "roles"]).is(1, &[], &[&unknown, hint]);
    alice.clone().env("SSH_JIT_TLS_CA", &other).run(&["roles"]).is(1, &[], &[&unknown, hint]);
    let doctor = alice.run(&["--tls-ca", &other, "doctor"]);
    assert!(doctor.stdout.contains("its certificate is not trusted"), "{doctor:?}");

    // Without a word about it, this machine's CAs count.
    let config = alice.home().join(".config/ssh-jit/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let without: String = text.lines().filter(|l| !l.starts_with("tls_ca")).map(|l| format!("{l}\n")).collect();
    fs::write(&config, without).unwrap();
    alice.clone().env("SSL_CERT_FILE", &other).run(&["roles"]).is(1, &[], &[&unknown, hint]);
    alice.clone().env("SSL_CERT_FILE", world.path("tls-ca.pem")).run(&["roles"]).good();
    fs::write(&config, text).unwrap();

    for (pair, why) in [
        (world.authority().certify(&["localhost"]), "it is for another name"),
        (world.authority().certify_long_ago(&["localhost", "127.0.0.1"]), "it has expired"),
    ] {
        world.certify(&pair);
        reload(&mut world, "certificate loaded");
        world.as_("alice").run(&["roles"]).is(1, &[], &[&untrusted(why), hint]);
    }
}

#[test]
fn a_file_of_cas_that_holds_none_is_named() {
    let world = World::https();
    let alice = world.as_("alice");
    let names = |file: &str, said: &str| {
        let path = world.path(file).display().to_string();
        alice.run(&["--tls-ca", &path, "roles"]).is(1, &[], &[&format!("ssh-jit: DIR/{file}: tls_ca: {said}")]);
    };
    names("nothing", "No such file or directory (os error 2)");
    world.write("empty", "");
    names("empty", "it holds no certificate in PEM");
    names("ca/tls.key", "it holds something else than certificates");
}

/// Sends a SIGHUP and waits until the service says so once more.
fn reload(world: &mut World, says: &str) {
    let server = world.server();
    let before = server.stderr().matches(says).count();
    server.signal(Signal::HUP);
    wait_until(|| server.stderr().matches(says).count() > before, || format!("no {says:?}: {}", server.stderr()));
}

#[test]
fn a_hangup_loads_the_certificate() {
    let mut world = World::https();
    let first = shown(&secured(address(&world), world.authority()).unwrap());
    let mut open = secured(address(&world), world.authority()).unwrap();
    ask(&mut open, "/v1/now").unwrap();

    let next = world.authority().certify(&["localhost", "127.0.0.1"]);
    world.certify(&next);
    // One has nothing to do with the other.
    let good = world.usual_policy();
    world.write("ca/policy.toml", &good.replace("[roles.quick]", "[roles.quick"));
    reload(&mut world, "certificate loaded");
    world.server().wait_for("the policy was refused");
    let served = |world: &World| shown(&secured(address(world), world.authority()).unwrap());
    assert_eq!(served(&world), next.der());
    assert_ne!(next.der(), first);
    ask(&mut open, "/v1/now").expect("what was open before goes on");
    assert_eq!(shown(&open), first);

    let refused = "the certificate was refused; the running one stays";
    let other = world.authority().certify(&["localhost"]);
    world.write("ca/tls.pem", &other.certificate);
    world.load_policy(&good.replace("[roles.quick]", "[roles.slow]"));
    world.server().wait_for(refused);
    assert!(world.server().stderr().contains("tls.key: tls_key: it is not the key of this certificate"));
    world.certify(&other);
    fs::set_permissions(world.path("ca/tls.key"), fs::Permissions::from_mode(0o640)).unwrap();
    reload(&mut world, refused);
    world.certify(&world.authority().certify(&["ca.example"]));
    reload(&mut world, refused);
    assert_eq!(served(&world), next.der());
    world.as_("alice").run(&["roles"]).good();
}

#[test]
fn what_it_cannot_serve_with_is_named() {
    let world = World::prepared_for_https();
    let good = world.authority().certify(&["localhost"]);
    let refuses = |file: &str, field: &str, said: &str| {
        let said = format!("ssh-jit: DIR/ca/{file}: {field}: {said}");
        world.run(world.serve()).is(1, &[], &[&said]);
        world.certify(&good);
    };
    let (cert, key) = (world.path("ca/tls.pem"), world.path("ca/tls.key"));
    fs::remove_file(&cert).unwrap();
    refuses("tls.pem", "tls_cert", "No such file or directory (os error 2)");
    fs::write(&cert, "garbage").unwrap();
    refuses("tls.pem", "tls_cert", "it holds no certificate in PEM");
    fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    refuses("tls.pem", "tls_cert", "its first certificate cannot be read");
    fs::write(&cert, world.authority().certify(&["ca.example"]).certificate).unwrap();
    refuses("tls.pem", "tls_cert", "its first certificate is not for localhost, the host of url");
    fs::remove_file(&key).unwrap();
    refuses("tls.key", "tls_key", "No such file or directory (os error 2)");
    fs::write(&key, "garbage").unwrap();
    refuses("tls.key", "tls_key", "it holds no unencrypted private key in PEM");
    let Pair { key: other, .. } = world.authority().certify(&["localhost"]);
    fs::write(&key, other).unwrap();
    refuses("tls.key", "tls_key", "it is not the key of this certificate");
    for mode in [0o640, 0o604] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        refuses("tls.key", "tls_key", &format!("others may use it (mode {mode:o}); chmod 600 it"));
    }
}

/// HTTPS may be served anywhere.
#[test]
fn any_address_is_its_own() {
    let world = World::prepared_for_https();
    let text = fs::read_to_string(world.path("ca/ssh-jit.toml")).unwrap();
    world.write("ca/ssh-jit.toml", &text.replace("127.0.0.1:0", "0.0.0.0:0"));
    let mut server = world.spawn(world.serve());
    server.wait_for("listening on 0.0.0.0:");
}

#[test]
fn addresses_are_counted_where_they_are_clients() {
    let proxy = "behind_proxy = true\n";
    let https = World::prepared_for_https;
    for (mut world, more, expected) in [(https(), "", 1), (https(), proxy, 3), (World::prepared(), "", 3)] {
        let text = fs::read_to_string(world.path("ca/ssh-jit.toml")).unwrap();
        world.write("ca/ssh-jit.toml", &(text + "connections_per_address = 1\n" + more));
        world.start();
        let taken = |stream: &TcpStream| {
            stream.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
            // Waiting for something, and not hanging up.
            stream.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
        };
        let open: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address(&world)).unwrap()).collect();
        assert_eq!(open.iter().filter(|stream| taken(stream)).count(), expected);
    }
}

/// Two thousand who never finish their headers do not keep a decision from anybody, although the service began
/// with fewer descriptors than that.
#[test]
fn a_decision_gets_through_a_crowd() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let crowd = usize::try_from(most.unwrap_or(u64::MAX).saturating_sub(1000).min(2000)).unwrap();
    let mut world = World::prepared();
    let mut command = tool("sh");
    command.env_clear().args(["-c", "ulimit -Sn 256 && exec \"$@\"", "sh"]).arg(ssh_jit().get_program());
    command.args(["serve", "--config"]).arg(world.path("ca/ssh-jit.toml"));
    world.start_by(command);
    let id = world.as_("alice").ask(&["db-prod", "--for", "1h", "--reason", "replica lag after failover"]);
    world.as_("carol").run(&["roles"]).good();

    let open: Vec<TcpStream> = (0..crowd)
        .map(|_| {
            let mut stream = TcpStream::connect(address(&world)).unwrap();
            stream.write_all(b"GET /v1/now HTTP/1.1\r\nHost: x").unwrap();
            stream
        })
        .collect();
    let files = format!("/proc/{}/fd", world.server().id());
    // It shows its files to root only. On a busy machine the first may be cut off before the last have come.
    let there = || fs::read_dir(&files).map_or(crowd, Iterator::count) > crowd / 4 * 3;
    wait_until(there, || "they are not all there".to_owned());
    let ran = world.as_("carol").run(&["approve", &id]).good();
    assert!(ran.took < std::time::Duration::from_secs(5), "{:?}", ran.took);
    drop(open);
}
