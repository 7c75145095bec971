//! Who stands between clients and the service, and is believed when it says for whom it asks.

use std::net::IpAddr;

use ipnet::IpNet;

/// The proxies of a service.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Those that are believed.
    pub trusted: Vec<IpNet>,
    /// There is one, believed or not: then the peer is never the client.
    pub always: bool,
}

impl Proxies {
    /// Where a call comes from: the peer, or the last address that `X-Forwarded-For` names before the trusted
    /// ones. Further to the left stands what anybody could have sent. `None` when it cannot be told.
    pub fn client(&self, peer: IpAddr, forwarded: &str) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return (!self.always).then_some(peer);
        }
        for named in forwarded.rsplit(',') {
            let address = named.trim().parse::<IpAddr>().ok()?.to_canonical();
            if !self.trusts(address) {
                return Some(address);
            }
        }
        None
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands before a trusted proxy's own word is not believed.
    #[test]
    fn only_a_trusted_proxy_speaks_for_others() {
        let proxies = |trusted: &[&str], always| Proxies {
            trusted: trusted.iter().map(|network| network.parse().unwrap()).collect(),
            always,
        };
        let (none, hidden) = (proxies(&[], false), proxies(&[], true));
        let two = proxies(&["10.0.0.0/8", "2001:db8::/32"], true);
        #[rustfmt::skip]
        let table = [
            (&none, "192.0.2.7", "", Some("192.0.2.7")),
            (&none, "192.0.2.7", "10.1.1.1", Some("192.0.2.7")),
            (&none, "::ffff:192.0.2.7", "", Some("192.0.2.7")),
            (&hidden, "127.0.0.1", "192.0.2.7", None),
            (&two, "10.0.0.1", "192.0.2.7", Some("192.0.2.7")),
            (&two, "10.0.0.1", "10.9.9.9, 192.0.2.7", Some("192.0.2.7")),
            (&two, "10.0.0.1", "192.0.2.7, 10.0.0.2", Some("192.0.2.7")),
            (&two, "10.0.0.1", "1.1.1.1, 192.0.2.7,2001:db8::1", Some("192.0.2.7")),
            (&two, "2001:db8::1", "2001:db9::5", Some("2001:db9::5")),
            (&two, "10.0.0.1", "", None),
            (&two, "10.0.0.1", "unknown", None),
            (&two, "10.0.0.1", "192.0.2.7:80", None),
            (&two, "10.0.0.1", "192.0.2.7, nobody, 10.0.0.3", None),
            (&two, "10.0.0.1", "10.0.0.3", None),
            (&two, "192.0.2.9", "192.0.2.7", None),
        ];
        for (proxies, peer, forwarded, expected) in table {
            let found = proxies.client(peer.parse().unwrap(), forwarded);
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{peer} for {forwarded:?}");
        }
    }
}
