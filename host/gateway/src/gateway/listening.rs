//! Opens the sockets: TCP and Unix sockets as configured or as passed by another process, and for each TCP address a
//! UDP port for WebTransport. Called by `run` in [`super`].

use super::{StartError, WebTransport};
use sluicegate_config::{self as config, ListenAddress, Server};
use sluicegate_net::quic::{Port, Quic};
use sluicegate_net::{Listener, Passed};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// Ports of the system's choice that are tried until one is free for TCP and UDP.
const MAX_PORTS: u32 = 64;

/// The sockets of a gateway.
#[derive(Debug)]
pub(super) struct Sockets {
    pub listeners: Vec<Listener>,
    /// UDP ports, each with the TCP port of the pages that it belongs to.
    pub udp: Vec<(Quic, u16)>,
}

/// Takes the listeners that were passed to this process, with their addresses if there are any: these replace `listen`.
///
/// # Errors
/// They cannot be used.
pub(super) fn take_passed(
    passed: &mut Passed,
) -> Result<(Vec<Listener>, Option<Vec<ListenAddress>>), StartError> {
    let refused = |reason| StartError::System {
        what: "use a socket that was passed to this process",
        reason,
    };
    let listeners = passed.listeners().map_err(refused)?;
    let addresses = listeners.iter().map(Listener::address);
    let addresses = addresses.collect::<io::Result<Vec<_>>>().map_err(refused)?;
    let addresses = Some(addresses).filter(|addresses| !addresses.is_empty());
    Ok((listeners, addresses))
}

/// Opens the sockets, except for the `listeners` that there are, and notes their ports if the system chose them.
///
/// # Errors
/// An address is in use, does not belong to this machine, or is not permitted.
pub(super) fn open(
    server: &mut Server,
    webtransport: Option<&WebTransport>,
    listeners: Vec<Listener>,
    passed: &mut Passed,
) -> Result<Sockets, StartError> {
    let mut sockets = Sockets {
        listeners,
        udp: Vec::new(),
    };
    let are_passed = !sockets.listeners.is_empty();
    let configured = server.listen.clone();
    for (at, address) in configured.iter().enumerate() {
        let refused = |reason| StartError::Listen {
            address: address.clone(),
            reason,
        };
        let only_v6 = has_v4_beside(address, &configured);
        let mut attempts = 0;
        loop {
            let listener = match are_passed {
                true => None,
                false => Some(Listener::open(address, only_v6).map_err(refused)?),
            };
            let local = match listener.as_ref().map(Listener::address) {
                Some(local) => local.map_err(refused)?,
                None => address.clone(),
            };
            let udp = match (webtransport, &local) {
                (Some(webtransport), ListenAddress::Tcp(tcp)) => {
                    udp_address(*tcp, webtransport, &sockets.udp, &configured)
                }
                _ => None,
            };
            let opened = udp.zip(webtransport).map(|(address, webtransport)| {
                let port = Port {
                    address,
                    // On a port of its own it is beside the ports of all addresses.
                    only_v6: only_v6 || (webtransport.port.is_some() && has_v4(&configured)),
                    passed: passed.udp(address),
                };
                let certificates = webtransport.certificates.clone();
                Quic::open(port, certificates, server.congestion)
                    .map_err(|reason| (address, reason))
            });
            match opened.transpose() {
                Ok(quic) => {
                    let page = local.tcp().map_or(0, |tcp| tcp.port());
                    sockets.udp.extend(quic.map(|quic| (quic, page)));
                    sockets.listeners.extend(listener);
                    if let Some(own) = server.listen.get_mut(at) {
                        *own = local;
                    }
                    break;
                }
                // The port that the system chose for TCP need not be free for UDP.
                Err((_, reason))
                    if address.tcp().is_some_and(|tcp| tcp.port() == 0)
                        && webtransport.is_some_and(|own| own.port.is_none())
                        && reason.kind() == io::ErrorKind::AddrInUse
                        && attempts < MAX_PORTS =>
                {
                    attempts += 1;
                }
                Err((address, reason)) => return Err(StartError::ListenUdp { address, reason }),
            }
        }
    }
    Ok(sockets)
}

/// Whether the address is one of IPv6, and there is one of IPv4 with the same port, which a socket for both would take.
fn has_v4_beside(address: &ListenAddress, all: &[ListenAddress]) -> bool {
    let is_beside = |own: SocketAddr, other: SocketAddr| {
        own.is_ipv6() && other.is_ipv4() && own.port() == other.port()
    };
    let mut others = all.iter().filter_map(ListenAddress::tcp);
    address
        .tcp()
        .is_some_and(|own| others.any(|other| is_beside(own, other)))
}

/// Whether there is an address of IPv4.
fn has_v4(all: &[ListenAddress]) -> bool {
    let mut addresses = all.iter().filter_map(ListenAddress::tcp);
    addresses.any(|address| address.is_ipv4())
}

/// Address of the UDP port that belongs to this TCP address; `None` if one that is open, or that another address of
/// `all` opens, receives for it as well.
fn udp_address(
    tcp: SocketAddr,
    webtransport: &WebTransport,
    open: &[(Quic, u16)],
    all: &[ListenAddress],
) -> Option<SocketAddr> {
    let Some(port) = webtransport.port else {
        return Some(tcp);
    };
    let stands_for = |own: IpAddr| own.is_unspecified() && own.is_ipv4() == tcp.ip().is_ipv4();
    let mut others = all.iter().filter_map(ListenAddress::tcp);
    let is_covered = !tcp.ip().is_unspecified() && others.any(|other| stands_for(other.ip()));
    let address = SocketAddr::new(tcp.ip(), port);
    let is_open = open.iter().any(|(quic, _)| quic.address() == address);
    (!is_covered && !is_open).then_some(address)
}

/// The UDP port that the config names for WebTransport, if it is another one than that of the pages. `None` without
/// WebTransport: it is off, or there is no TCP address to have it beside.
pub(super) fn own_port(server: &Server) -> Option<Option<u16>> {
    let mut pages = server
        .tcp_addresses()
        .map(|address| address.port())
        .peekable();
    pages.peek()?;
    match server.webtransport {
        config::WebTransport::Off => None,
        config::WebTransport::SamePort => Some(None),
        config::WebTransport::Port(port) => Some(pages.any(|page| page != port).then_some(port)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use sluicegate_net::quic::Certificates;
    use std::sync::Arc;

    fn server(listen: &[&str], webtransport: config::WebTransport) -> Server {
        Server {
            listen: listen.iter().map(|at| at.parse().unwrap()).collect(),
            webtransport,
            ..Server::default()
        }
    }

    /// Opens the sockets; returns the TCP addresses and the UDP ports with the ports of their pages.
    fn opened(server: &mut Server) -> (Vec<SocketAddr>, Vec<(SocketAddr, u16)>) {
        let webtransport = own_port(server).map(|port| WebTransport {
            port,
            certificates: Arc::new(Certificates::new(None).unwrap()),
        });
        let passed = &mut Passed::default();
        let sockets = open(server, webtransport.as_ref(), Vec::new(), passed).unwrap();
        assert_eq!(sockets.listeners.len(), server.listen.len());
        let udp = sockets.udp.iter();
        let udp = udp.map(|(quic, page)| (quic.address(), *page)).collect();
        (server.tcp_addresses().collect(), udp)
    }

    #[tokio::test]
    async fn each_tcp_address_has_its_udp_port() {
        let same = config::WebTransport::SamePort;
        let mut both = server(&["127.0.0.1:0", "[::1]:0"], same);
        let (tcp, udp) = opened(&mut both);
        let pages: Vec<_> = tcp.iter().map(|at| (*at, at.port())).collect();
        assert_eq!(udp, pages);
        assert!(tcp.iter().all(|at| at.port() > 0));
    }

    #[tokio::test]
    async fn all_addresses_of_both_protocols_share_a_port() {
        // Free for both, though another one may take it meanwhile.
        let free = std::net::TcpListener::bind("[::]:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let listen = [format!("[::]:{port}"), format!("0.0.0.0:{port}")];
        let listen = listen.each_ref().map(String::as_str);
        let mut all = server(&listen, config::WebTransport::SamePort);
        let (tcp, udp) = opened(&mut all);
        assert_eq!((tcp.len(), udp.len()), (2, 2));
    }

    #[tokio::test]
    async fn a_port_of_its_own_is_opened_once_for_an_address() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let own = config::WebTransport::Port(port);
        let mut several = server(&["127.0.0.1:0", "127.0.0.1:0", "[::1]:0"], own);
        let (tcp, udp) = opened(&mut several);
        let first = ([127, 0, 0, 1], port).into();
        let other = (std::net::Ipv6Addr::LOCALHOST, port).into();
        assert_eq!(udp, [(first, tcp[0].port()), (other, tcp[2].port())]);
        let unspecified = server(&["127.0.0.1:1", "0.0.0.0:2"], own);
        let webtransport = WebTransport {
            port: Some(9),
            certificates: Arc::new(Certificates::new(None).unwrap()),
        };
        let udp = |tcp: &str| {
            let all = &unspecified.listen;
            udp_address(tcp.parse().unwrap(), &webtransport, &[], all)
        };
        assert_eq!(udp("127.0.0.1:1"), None);
        assert_eq!(udp("0.0.0.0:2"), Some(([0, 0, 0, 0], 9).into()));
    }

    #[test]
    fn webtransport_needs_a_tcp_port() {
        let same = config::WebTransport::SamePort;
        assert_eq!(own_port(&server(&["unix:/x"], same)), None);
        assert_eq!(
            own_port(&server(&["unix:/x", "127.0.0.1:1"], same)),
            Some(None)
        );
        let own = config::WebTransport::Port(1);
        assert_eq!(own_port(&server(&["127.0.0.1:1"], own)), Some(None));
        assert_eq!(
            own_port(&server(&["127.0.0.1:1", "127.0.0.1:2"], own)),
            Some(Some(1))
        );
        assert_eq!(
            own_port(&server(&["127.0.0.1:1"], config::WebTransport::Off)),
            None
        );
    }
}
