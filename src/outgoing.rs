//! How this service asks others over HTTP: no redirects, no proxy of the environment, bounded in time. Where an
//! operator's text names the address, it is resolved once, refused unless it is public or was allowed, and that
//! very address is connected to: a name that changes its mind (DNS rebinding) gains nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// For servers that the operator trusts to be where they are. Only `roots` vouch for them where there are some.
pub fn agent(roots: Option<Vec<Certificate<'static>>>, within: Duration) -> ureq::Agent {
    config(roots, within).into()
}

/// For servers outside: reaches public addresses, and what lies in the networks of `allow`.
pub fn guarded_agent(roots: Option<Vec<Certificate<'static>>>, within: Duration, allow: Arc<[IpNet]>) -> ureq::Agent {
    ureq::Agent::with_parts(config(roots, within), DefaultConnector::default(), Guarded { allow })
}

fn config(roots: Option<Vec<Certificate<'static>>>, within: Duration) -> Config {
    let roots = roots.map_or(RootCerts::PlatformVerifier, |roots| RootCerts::Specific(Arc::new(roots)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        // A redirect could lead secrets elsewhere, and around the check of addresses.
        .max_redirects(0)
        // The environment names no proxies here: nothing but `config` reads it.
        .proxy(None)
        .timeout_global(Some(within))
        .tls_config(tls)
        .user_agent(concat!("ssh-jit/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Finds addresses as the system does, and leaves out those that may not be reached.
#[derive(Debug)]
struct Guarded {
    allow: Arc<[IpNet]>,
}

impl Resolver for Guarded {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut reachable = self.empty();
        for address in found.iter().filter(|address| may_reach(address.ip(), &self.allow)) {
            reachable.push(*address);
        }
        if reachable.is_empty() { Err(ureq::Error::Io(not_outside())) } else { Ok(reachable) }
    }
}

/// Those of the addresses of a name that may be reached; an error when there are none.
pub fn reachable(found: impl Iterator<Item = SocketAddr>, allow: &[IpNet]) -> io::Result<Vec<SocketAddr>> {
    let reachable: Vec<SocketAddr> = found.filter(|address| may_reach(address.ip(), allow)).collect();
    if reachable.is_empty() { Err(not_outside()) } else { Ok(reachable) }
}

fn not_outside() -> io::Error {
    io::Error::other("its address is not a public one; name its network in `allow` if it is meant")
}

/// Whether an address may be connected to.
pub fn may_reach(address: IpAddr, allow: &[IpNet]) -> bool {
    is_public(address) || allow.iter().any(|network| network.contains(&address))
}

/// Whether an address lies outside: in none of the special networks of RFC 6890, nor where clouds keep metadata.
/// IPv6 forms that carry an IPv4 address are refused whole, since that address could be any.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        // With 169.254.169.254, the metadata of most clouds.
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Carrier-grade NAT, and Alibaba's metadata.
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && (b == 18 || b == 19))
        // Azure's metadata and agents, in a public network.
        || address == Ipv4Addr::new(168, 63, 129, 16);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Global unicast is 2000::/3 alone: that leaves out loopback, fc00::/7, fe80::/10, ff00::/8, ::ffff:0:0/96 and
    // 64:ff9b::/96.
    let global = a & 0xe000 == 0x2000;
    // Teredo, 6to4, documentation and protocol assignments lie within it.
    let special = (a == 0x2001 && (b < 0x200 || b == 0xdb8)) || a == 0x2002 || (a == 0x3fff && b < 0x1000);
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W06: the service reaches nothing that only it can reach.
    #[test]
    fn addresses_inside_are_refused() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.9.9.9",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a9fe:a9fe",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for text in refused {
            let address: IpAddr = text.parse().unwrap();
            assert!(!may_reach(address, &[]), "{text}");
            assert!(may_reach(address, &[IpNet::from(address)]), "{text} can be allowed by name");
        }
        for text in ["8.8.8.8", "1.1.1.1", "100.63.0.1", "172.32.0.1", "2606:4700::1", "2a00:1450::1"] {
            assert!(may_reach(text.parse().unwrap(), &[]), "{text}");
        }
    }

    #[test]
    fn allowing_one_network_allows_no_other() {
        let allow: [IpNet; 1] = ["10.1.2.0/24".parse().unwrap()];
        let may = |text: &str| may_reach(text.parse().unwrap(), &allow);
        assert!(may("10.1.2.9") && !may("10.1.3.9") && !may("127.0.0.1") && !may("::ffff:10.1.2.9"));
        let found = ["10.1.3.1:25", "10.1.2.1:25"].map(|text| text.parse().unwrap());
        assert_eq!(reachable(found.into_iter(), &allow).unwrap(), ["10.1.2.1:25".parse().unwrap()]);
        assert!(reachable(found.into_iter(), &[]).unwrap_err().to_string().contains("not a public one"));
    }
}
