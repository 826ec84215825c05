//! What the kernel knows of a TCP connection (`TCP_INFO`), found by the connection's two addresses through netlink's
//! sock_diag (sock_diag(7)).
//!
//! The socket itself is not needed; it is inside TLS, HTTP or a WebSocket where it cannot be reached.
//! `host/gateway/src/session` asks about the connection that carries a session's video, to estimate its link. Linux
//! only; elsewhere [`TcpProbe::open`] fails.

#[cfg(target_os = "linux")]
pub use linux::TcpProbe;
#[cfg(not(target_os = "linux"))]
pub use other::TcpProbe;

use std::net::SocketAddr;

/// Addresses of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketPair {
    /// Address at the gateway.
    pub local: SocketAddr,
    /// Address of the peer.
    pub peer: SocketAddr,
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::PathInfo;
    use netlink_packet_core::{
        ErrorBuffer, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
        Parseable,
    };
    use netlink_packet_sock_diag::{
        AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY, SockDiagMessage,
        inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
    };
    use netlink_sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_SOCK_DIAG};
    use std::{
        io,
        net::{IpAddr, SocketAddr},
        time::Duration,
    };

    /// Size of the buffer for an answer, which has about 400 bytes.
    const BUFFER: usize = 4 << 10;

    /// Byte offsets of fields in `struct tcp_info` (linux/tcp.h), which only ever grows at its end. The crate's own
    /// parser requires all fields of Linux 5.4, while some boards run older kernels; these fields exist since 4.9.
    const FLAGS: usize = 7;
    const RTT: usize = 68;
    const NOTSENT_BYTES: usize = 144;
    const MIN_RTT: usize = 148;
    const DELIVERY_RATE: usize = 160;

    /// Flag that the delivery rate is limited by the application: the first bit-field bit, by the machine's byte order.
    const APP_LIMITED: u8 = if cfg!(target_endian = "big") {
        1 << 7
    } else {
        1
    };

    /// Handle for queries to the kernel: one netlink socket that is kept open.
    #[derive(Debug)]
    pub struct TcpProbe {
        socket: Socket,
        /// Sequence number of the last query, which its answer repeats.
        sequence: u32,
        buffer: Vec<u8>,
    }

    impl TcpProbe {
        /// Opens the socket in the network namespace of the calling thread. Needs no privilege.
        pub fn open() -> io::Result<TcpProbe> {
            let socket = Socket::new(NETLINK_SOCK_DIAG)?;
            // Port 0 is the kernel, so that no other process can answer.
            socket.connect(&NetlinkAddress::new(0, 0))?;
            socket.set_non_blocking(true)?;
            Ok(TcpProbe {
                socket,
                sequence: 0,
                buffer: Vec::with_capacity(BUFFER),
            })
        }

        /// Queries the connection between these addresses. Takes a few microseconds and does not block. `None` if there
        /// is no such connection (any more), or if the kernel was built without sock_diag for TCP. Either address may
        /// be IPv4 mapped to IPv6.
        pub fn query(
            &mut self,
            local: SocketAddr,
            peer: SocketAddr,
        ) -> io::Result<Option<PathInfo>> {
            let queried = Endpoints::new(local, peer);
            self.sequence = self.sequence.wrapping_add(1);
            self.socket.send(&request(queried, self.sequence), 0)?;
            // The kernel has answered when `send` returns. Earlier messages in the socket are answers to queries that
            // failed.
            loop {
                self.buffer.clear();
                self.socket.recv(&mut self.buffer, 0)?;
                if let Answer::Is(info) = read(&self.buffer, queried, self.sequence)? {
                    return Ok(info);
                }
            }
        }
    }

    /// The two ends of a connection, with mapped IPv4 addresses as IPv4.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Endpoints {
        local: (IpAddr, u16),
        peer: (IpAddr, u16),
        /// Interface of a link-local address; 0 for all others.
        interface: u32,
    }

    impl Endpoints {
        fn new(local: SocketAddr, peer: SocketAddr) -> Endpoints {
            Endpoints {
                local: (local.ip().to_canonical(), local.port()),
                peer: (peer.ip().to_canonical(), peer.port()),
                interface: match peer {
                    SocketAddr::V4(_) => 0,
                    SocketAddr::V6(peer) => peer.scope_id(),
                },
            }
        }

        fn is(&self, id: &SocketId) -> bool {
            self.local == (id.source_address.to_canonical(), id.source_port)
                && self.peer == (id.destination_address.to_canonical(), id.destination_port)
        }
    }

    fn request(queried: Endpoints, sequence: u32) -> Vec<u8> {
        let inet = InetRequest {
            // The kernel finds IPv6 sockets that are connected over IPv4 under either family.
            family: match queried.peer.0 {
                IpAddr::V4(_) => AF_INET,
                IpAddr::V6(_) => AF_INET6,
            },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::all(),
            socket_id: SocketId {
                source_address: queried.local.0,
                source_port: queried.local.1,
                destination_address: queried.peer.0,
                destination_port: queried.peer.1,
                interface_id: queried.interface,
                // Any socket with these addresses (INET_DIAG_NOCOOKIE).
                cookie: [0xff; 8],
            },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(inet).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Answer {
        Is(Option<PathInfo>),
        /// The message answers another query.
        Other,
    }

    fn read(bytes: &[u8], queried: Endpoints, sequence: u32) -> io::Result<Answer> {
        let message = NetlinkBuffer::new_checked(bytes).map_err(malformed)?;
        if message.sequence_number() != sequence {
            return Ok(Answer::Other);
        }
        match message.message_type() {
            SOCK_DIAG_BY_FAMILY => {
                let found = InetResponse::parse(message.payload()).map_err(malformed)?;
                info(&found, queried).map(Answer::Is)
            }
            NLMSG_ERROR => {
                let error = ErrorBuffer::new_checked(message.payload()).map_err(malformed)?;
                let code = error.code().map_or(0, |code| code.get().saturating_neg());
                let error = io::Error::from_raw_os_error(code);
                match error.kind() {
                    io::ErrorKind::NotFound => Ok(Answer::Is(None)),
                    _ => Err(error),
                }
            }
            kind => Err(malformed(format!("a message of type {kind}"))),
        }
    }

    fn info(found: &InetResponse, queried: Endpoints) -> io::Result<Option<PathInfo>> {
        // If the connection is gone, the kernel returns the listening socket of that address.
        if !queried.is(&found.header.socket_id) {
            return Ok(None);
        }
        let raw = found.nlas.iter().find_map(|attribute| match attribute {
            Nla::TcpInfo(raw) => Some(raw),
            _ => None,
        });
        // A connection that only waits for its last packets has no TCP_INFO.
        let Some(raw) = raw else {
            return Ok(None);
        };
        // In a connection, the send queue is everything written that is not acknowledged.
        let written = found.header.send_queue;
        let info = fields(raw, written).ok_or_else(|| malformed("TCP_INFO is too short"))?;
        Ok(Some(info))
    }

    fn fields(raw: &[u8], written: u32) -> Option<PathInfo> {
        let [flags] = at(raw, FLAGS)?;
        let round_trip = u32::from_ne_bytes(at(raw, RTT)?);
        let shortest = u32::from_ne_bytes(at(raw, MIN_RTT)?);
        let unsent = u32::from_ne_bytes(at(raw, NOTSENT_BYTES)?);
        let rate = u64::from_ne_bytes(at(raw, DELIVERY_RATE)?);
        let micros = |micros: u32| Duration::from_micros(micros.into());
        Some(PathInfo {
            round_trip: micros(round_trip),
            // All bits are set before the first measurement.
            min_rtt: micros(match shortest {
                u32::MAX => round_trip,
                shortest => shortest,
            }),
            unsent,
            under_way: Some(written.saturating_sub(unsent)),
            delivered: (rate > 0 && flags & APP_LIMITED == 0).then(|| rate.saturating_mul(8)),
            packets: None,
        })
    }

    fn at<const N: usize>(raw: &[u8], offset: usize) -> Option<[u8; N]> {
        raw.get(offset..)?.first_chunk().copied()
    }

    fn malformed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used)]
        use super::*;
        use proptest::prelude::*;
        use socket2::{Domain, SockRef, Type};
        use std::{
            io::{ErrorKind, Read, Write},
            net::{Shutdown, TcpListener, TcpStream},
        };

        /// A listener, a client connected to it, and the accepted socket.
        fn connect(listener: TcpListener, address: &str) -> (TcpListener, TcpStream, TcpStream) {
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((address, port)).unwrap();
            let (server, _) = listener.accept().unwrap();
            (listener, client, server)
        }

        fn ends(socket: &TcpStream) -> (SocketAddr, SocketAddr) {
            (socket.local_addr().unwrap(), socket.peer_addr().unwrap())
        }

        fn query((local, peer): (SocketAddr, SocketAddr)) -> Option<PathInfo> {
            TcpProbe::open().unwrap().query(local, peer).unwrap()
        }

        /// A listener for both IPv4 and IPv6.
        fn dual() -> TcpListener {
            let socket = socket2::Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
            socket.set_only_v6(false).unwrap();
            let address: SocketAddr = "[::]:0".parse().unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(1).unwrap();
            socket.into()
        }

        #[test]
        fn both_ends_are_found_over_ipv4_ipv6_and_ipv4_mapped_to_it() {
            let bind = |address| TcpListener::bind((address, 0)).unwrap();
            let mut probe = TcpProbe::open().unwrap();
            for (listener, address) in [
                (bind("127.0.0.1"), "127.0.0.1"),
                (bind("::1"), "::1"),
                (dual(), "127.0.0.1"),
                (dual(), "::1"),
                (dual(), "::ffff:127.0.0.1"),
            ] {
                let (_listener, client, server) = connect(listener, address);
                for socket in [client, server] {
                    let (local, peer) = ends(&socket);
                    let info = probe.query(local, peer).unwrap().unwrap();
                    assert!(info.min_rtt > Duration::ZERO, "{local} {info:?}");
                    assert!(info.round_trip < Duration::from_secs(5), "{local} {info:?}");
                    assert_eq!((info.unsent, info.under_way), (0, Some(0)), "{local}");
                    // In whatever form the addresses are given.
                    let plain = |end: SocketAddr| (end.ip().to_canonical(), end.port()).into();
                    assert!(probe.query(plain(local), peer).unwrap().is_some());
                    assert!(probe.query(local, plain(peer)).unwrap().is_some());
                }
            }
        }

        #[test]
        fn what_a_peer_does_not_read_is_unsent_until_it_does() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (_listener, mut client, mut server) = connect(listener, "127.0.0.1");
            server.set_nonblocking(true).unwrap();
            let mut written = 0;
            let full = loop {
                match server.write(&[7; 64 << 10]) {
                    Ok(more) => written += more,
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
            let info = query(ends(&server)).unwrap();
            assert!(info.unsent > 0, "{info:?}");
            assert!(
                (info.unsent + info.under_way.unwrap()) as usize <= written,
                "{info:?}"
            );
            client.read_exact(&mut vec![0; written]).unwrap();
            assert_eq!(query(ends(&server)).unwrap().unsent, 0);
        }

        #[test]
        fn a_connection_that_is_closed_is_none_though_its_listener_is_there() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (listener, client, server) = connect(listener, "127.0.0.1");
            let gone = ends(&server);
            assert!(query(gone).is_some());
            // Reset the connection without waiting for the peer.
            let linger = Some(Duration::ZERO);
            SockRef::from(&server).set_linger(linger).unwrap();
            drop(server);
            assert_eq!(query(gone), None);
            drop((client, listener));
            assert_eq!(query(gone), None);
        }

        #[test]
        fn a_connection_that_waits_for_its_last_packets_is_none() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (_listener, mut client, mut server) = connect(listener, "127.0.0.1");
            let gone = ends(&server);
            server.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
            assert_eq!(query(gone), None);
        }

        #[test]
        fn addresses_that_no_connection_has_are_none() {
            let v4 = "192.0.2.1:9".parse().unwrap();
            let v6 = "[2001:db8::1]:9".parse().unwrap();
            for ends in [(v4, v4), (v6, v6), (v4, v6), (v6, v4)] {
                assert_eq!(query(ends), None);
            }
        }

        #[test]
        fn an_answer_to_an_earlier_question_is_skipped() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (_listener, client, _server) = connect(listener, "127.0.0.1");
            let (local, peer) = ends(&client);
            let mut probe = TcpProbe::open().unwrap();
            let none = "192.0.2.1:9".parse().unwrap();
            let earlier = request(Endpoints::new(none, none), u32::MAX);
            probe.socket.send(&earlier, 0).unwrap();
            assert!(probe.query(local, peer).unwrap().is_some());
        }

        /// An answer of the kernel with sequence number 1, and its query.
        fn answer() -> (Vec<u8>, Endpoints) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (_listener, client, _server) = connect(listener, "127.0.0.1");
            let (local, peer) = ends(&client);
            let mut probe = TcpProbe::open().unwrap();
            probe.query(local, peer).unwrap().unwrap();
            (probe.buffer, Endpoints::new(local, peer))
        }

        #[test]
        fn no_part_of_an_answer_panics() {
            let (bytes, queried) = answer();
            assert!(matches!(read(&bytes, queried, 1), Ok(Answer::Is(Some(_)))));
            for end in 0..bytes.len() {
                let mut part = bytes[..end].to_vec();
                assert!(read(&part, queried, 1).is_err(), "{end}");
                // As if the message had been sent with this length.
                if let Some(length) = part.first_chunk_mut() {
                    *length = (end as u32).to_ne_bytes();
                    let _ = read(&part, queried, 1);
                }
            }
        }

        #[test]
        fn no_part_of_the_fields_is_taken_for_them() {
            let whole = [0; DELIVERY_RATE + 8];
            assert!(fields(&whole, 0).is_some());
            for end in 0..whole.len() {
                assert_eq!(fields(&whole[..end], 0), None, "{end}");
            }
        }

        #[test]
        fn a_delivery_rate_is_given_only_where_it_is_the_networks() {
            let mut raw = [0; 232];
            let mut set = |at: usize, value: &[u8]| {
                raw[at..at + value.len()].copy_from_slice(value);
                fields(&raw, 5000).unwrap()
            };
            set(RTT, &40_000_u32.to_ne_bytes());
            set(NOTSENT_BYTES, &3000_u32.to_ne_bytes());
            let early = set(MIN_RTT, &u32::MAX.to_ne_bytes());
            assert_eq!(early.delivered, None);
            assert_eq!(early.min_rtt, early.round_trip);
            set(MIN_RTT, &30_000_u32.to_ne_bytes());
            let told = PathInfo {
                round_trip: Duration::from_millis(40),
                min_rtt: Duration::from_millis(30),
                unsent: 3000,
                under_way: Some(2000),
                delivered: Some(1_000_000),
                packets: None,
            };
            assert_eq!(set(DELIVERY_RATE, &125_000_u64.to_ne_bytes()), told);
            assert_eq!(set(FLAGS, &[!APP_LIMITED]), told);
            assert_eq!(set(FLAGS, &[APP_LIMITED]).delivered, None);
        }

        proptest! {
            #[test]
            fn nothing_that_comes_panics(
                kind in prop_oneof![Just(SOCK_DIAG_BY_FAMILY), Just(NLMSG_ERROR), any::<u16>()],
                payload in proptest::collection::vec(any::<u8>(), 0..600),
                family in prop_oneof![Just(AF_INET), Just(AF_INET6), any::<u8>()],
            ) {
                let length = 16 + payload.len() as u32;
                let mut bytes = length.to_ne_bytes().to_vec();
                bytes.extend(kind.to_ne_bytes());
                bytes.extend([0; 2]);
                bytes.extend(1_u32.to_ne_bytes());
                bytes.extend([0; 4]);
                bytes.extend(payload);
                if let Some(first) = bytes.get_mut(16) {
                    *first = family;
                }
                let none = "192.0.2.1:9".parse().unwrap();
                let _ = read(&bytes, Endpoints::new(none, none), 1);
            }

            #[test]
            fn no_damage_to_an_answer_panics(
                damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            ) {
                static ANSWER: std::sync::LazyLock<(Vec<u8>, Endpoints)> = std::sync::LazyLock::new(answer);
                let mut bytes = ANSWER.0.clone();
                for (place, value) in damage {
                    *place.get_mut(&mut bytes) = value;
                }
                let _ = read(&bytes, ANSWER.1, 1);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use crate::PathInfo;
    use std::{io, net::SocketAddr};

    /// Handle for queries to the kernel, which only Linux supports.
    #[derive(Debug)]
    pub enum TcpProbe {}

    impl TcpProbe {
        /// Always fails with `Unsupported`.
        pub fn open() -> io::Result<TcpProbe> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Cannot be called: there is no value of this type.
        pub fn query(&mut self, _: SocketAddr, _: SocketAddr) -> io::Result<Option<PathInfo>> {
            match *self {}
        }
    }
}
