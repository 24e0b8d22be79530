//! Pure: which address a client has when proxies stand before the gateway, and which addresses count as one client.
//!
//! Each proxy appends the address that it was called from to `X-Forwarded-For`. Behind `hops` proxies that we trust, the client
//! is therefore the entry `hops` places from the right; what stands left of it came from the client itself and proves nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The client's address: the peer's without trusted proxies, else the entry `hops` places from the right of all
/// `X-Forwarded-For` lines, in the order in which they came. A list that is shorter came past fewer proxies: its first entry
/// counts. Without a readable entry the peer counts, so that limits hit the proxy rather than nobody.
pub fn client_address<'a>(
    peer: IpAddr,
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    hops: u8,
) -> IpAddr {
    if hops == 0 {
        return peer.to_canonical();
    }
    let entries = lines
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','));
    entries
        .take(hops.into())
        .last()
        .and_then(entry)
        .unwrap_or(peer)
        .to_canonical()
}

/// An entry is an address, as some proxies write it with a port, and IPv6 then in brackets.
fn entry(bytes: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// What limits count as one client: an IPv4 address, or the /64 that an IPv6 client gets to choose its addresses from
/// (RFC 6177 gives every site at least one).
pub fn client_block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn of(lines: &[&str], hops: u8) -> String {
        let peer = "10.0.0.1".parse().unwrap();
        client_address(peer, lines.iter().map(|line| line.as_bytes()), hops).to_string()
    }

    #[test]
    fn without_trusted_proxies_the_header_means_nothing() {
        assert_eq!(of(&["192.0.2.7"], 0), "10.0.0.1");
        assert_eq!(of(&[], 0), "10.0.0.1");
    }

    #[test]
    fn the_client_is_counted_from_the_right() {
        let forged = "198.51.100.9, 192.0.2.7, 10.0.0.2";
        assert_eq!(of(&[forged], 1), "10.0.0.2");
        assert_eq!(of(&[forged], 2), "192.0.2.7");
        assert_eq!(of(&["198.51.100.9", "192.0.2.7,10.0.0.2"], 2), "192.0.2.7");
        assert_eq!(
            of(&["192.0.2.7"], 5),
            "192.0.2.7",
            "fewer proxies than trusted"
        );
    }

    #[test]
    fn proxies_write_addresses_in_several_ways() {
        for (written, address) in [
            ("192.0.2.7:4711", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("\t192.0.2.7 ", "192.0.2.7"),
        ] {
            assert_eq!(of(&[written], 1), address, "{written}");
        }
    }

    #[test]
    fn what_cannot_be_read_counts_for_the_peer() {
        for nonsense in [
            "",
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.7, ",
            "[",
            "[]:1",
        ] {
            assert_eq!(of(&[nonsense], 1), "10.0.0.1", "{nonsense}");
        }
        assert_eq!(of(&["192.0.2.7, unknown"], 1), "10.0.0.1");
    }

    #[test]
    fn one_ipv6_site_is_one_client() {
        let block = |text: &str| client_block(text.parse().unwrap());
        assert_eq!(block("2001:db8:0:1::1"), block("2001:db8:0:1:ffff::2"));
        assert_ne!(block("2001:db8:0:1::1"), block("2001:db8:0:2::1"));
        assert_eq!(block("::ffff:192.0.2.7"), block("192.0.2.7"));
        assert_ne!(block("192.0.2.7"), block("192.0.2.8"));
    }

    proptest! {
        #[test]
        fn any_header_gives_some_address(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4), hops: u8) {
            let peer: IpAddr = "10.0.0.1".parse().unwrap();
            let lines = lines.iter().map(Vec::as_slice);
            client_block(client_address(peer, lines, hops));
        }

        #[test]
        fn a_client_behind_trusted_proxies_cannot_choose_its_address(
            claimed in "[0-9a-fx:., ]{0,60}",
            client: [u8; 4],
            proxies in proptest::collection::vec(any::<[u8; 4]>(), 0..4),
        ) {
            let client = IpAddr::from(client);
            let proxied = proxies.iter().map(|proxy| IpAddr::from(*proxy).to_string());
            let line = [format!("{claimed},{client}")].into_iter().chain(proxied).collect::<Vec<_>>().join(", ");
            let hops = proxies.len() as u8 + 1;
            prop_assert_eq!(client_address("10.0.0.1".parse().unwrap(), std::iter::once(line.as_bytes()), hops), client);
        }
    }
}
