//! Host names and addresses under which other machines reach this one. The system is asked each time, because a laptop
//! changes networks.
//!
//! Used to accept `Host` headers and to print URLs at start.

use super::HostName;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// Largest number of addresses reported: more than real machines have.
const MAX_ADDRESSES: usize = 16;

/// The host name and, if it has no domain, also its multicast DNS name (RFC 6762) with `.local`. Empty for `localhost`.
pub fn names() -> Vec<HostName> {
    let told = rustix::system::uname();
    names_of(&told.nodename().to_string_lossy())
}

/// The addresses at which other machines reach a socket that listens at `listen`, the one of the default route first.
/// Empty if `listen` is a loopback address.
pub fn addresses(listen: IpAddr) -> Vec<IpAddr> {
    let listen = listen.to_canonical();
    if !listen.is_unspecified() {
        return reachable(listen, &[]);
    }
    let found = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!("cannot list this machine's network addresses: {error}");
        Vec::new()
    });
    let routed = default_route().into_iter();
    let all: Vec<IpAddr> = routed
        .chain(found.iter().map(if_addrs::Interface::ip))
        .collect();
    reachable(listen, &all)
}

fn names_of(host: &str) -> Vec<HostName> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let Ok(name) = host.parse::<HostName>() else {
        return Vec::new();
    };
    if host == "localhost" || host.starts_with("localhost.") {
        return Vec::new();
    }
    let local = match host.contains('.') {
        true => None,
        false => format!("{host}.local").parse().ok(),
    };
    [name].into_iter().chain(local).collect()
}

/// Those of the machine's addresses that reach a socket bound to `listen`. Link-local addresses are left out: they need
/// the name of an interface, which browsers do not accept.
fn reachable(listen: IpAddr, all: &[IpAddr]) -> Vec<IpAddr> {
    let useful = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    };
    let candidates = match listen.is_unspecified() {
        true => all,
        false => &[listen],
    };
    let mut reached: Vec<IpAddr> = Vec::new();
    for address in candidates.iter().filter(|address| useful(address)) {
        let through = !listen.is_ipv4() || address.is_ipv4();
        if through && !reached.contains(address) && reached.len() < MAX_ADDRESSES {
            reached.push(*address);
        }
    }
    reached
}

/// Source address of packets to other networks. Nothing is sent: connecting a UDP socket only looks up the route.
fn default_route() -> Option<IpAddr> {
    const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_machine_is_found_by_its_name_and_in_its_network_by_multicast_dns() {
        for (host, names) in [
            ("Attic", &["attic", "attic.local"][..]),
            ("attic.home.example", &["attic.home.example"]),
            ("attic.home.example.", &["attic.home.example"]),
            ("localhost", &[]),
            ("localhost.localdomain", &[]),
            ("", &[]),
            ("two words", &[]),
        ] {
            let found = names_of(host);
            let found: Vec<&str> = found.iter().map(HostName::as_str).collect();
            assert_eq!(found, names, "{host}");
        }
    }

    #[test]
    fn only_addresses_that_others_can_use_are_listed() {
        let all = [
            "192.168.0.7",
            "127.0.0.1",
            "192.168.0.7",
            "169.254.3.4",
            "10.1.2.3",
            "::1",
            "fe80::1",
            "fd00::7",
        ]
        .map(|text| text.parse().unwrap());
        for (listen, told) in [
            ("0.0.0.0", &["192.168.0.7", "10.1.2.3"][..]),
            ("::", &["192.168.0.7", "10.1.2.3", "fd00::7"]),
            ("127.0.0.1", &[]),
            ("::1", &[]),
            ("10.1.2.3", &["10.1.2.3"]),
        ] {
            let found = reachable(listen.parse().unwrap(), &all);
            let found: Vec<String> = found.iter().map(IpAddr::to_string).collect();
            assert_eq!(found, told, "{listen}");
        }
    }
}
