//! Sockets that another process has opened and passed to this one: socket activation
//! (<https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>).

use crate::Listener;
use listenfd::ListenFd;
use socket2::SockRef;
use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixListener,
};
use thiserror::Error;

/// The sockets that were passed to this process. Children inherit none of them.
#[derive(Debug, Default)]
pub struct Passed {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
    udp: Vec<UdpSocket>,
}

/// Why a passed socket cannot be used.
#[derive(Debug, Error)]
#[error(
    "the socket number {nth} that was passed to this process (LISTEN_FDS) is {what}; pass listening TCP or Unix sockets \
     (ListenStream=, without Accept=yes) and, for WebTransport, UDP sockets (ListenDatagram=)"
)]
pub struct PassedError {
    nth: usize,
    what: &'static str,
}

impl Passed {
    /// Takes the sockets that the environment tells of. Call it before there are threads, since it also removes that
    /// from the environment.
    ///
    /// # Errors
    /// One of them is of no use here.
    pub fn take() -> Result<Passed, PassedError> {
        let mut descriptors = ListenFd::from_env();
        let mut passed = Passed::default();
        for at in 0..descriptors.len() {
            let refuse = |what| PassedError { nth: at + 1, what };
            let not_listening = || refuse("a connection");
            // Each refuses sockets of other kinds.
            if let Ok(Some(socket)) = descriptors.take_tcp_listener(at) {
                if !SockRef::from(&socket).is_listener().unwrap_or(false) {
                    return Err(not_listening());
                }
                passed.tcp.push(socket);
            } else if let Ok(Some(socket)) = descriptors.take_unix_listener(at) {
                if !SockRef::from(&socket).is_listener().unwrap_or(false) {
                    return Err(not_listening());
                }
                passed.unix.push(socket);
            } else if let Ok(Some(socket)) = descriptors.take_udp_socket(at) {
                passed.udp.push(socket);
            } else {
                return Err(refuse("none that the gateway can use"));
            }
        }
        Ok(passed)
    }

    /// Takes those to accept connections on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listeners(&mut self) -> io::Result<Vec<Listener>> {
        let tcp = self.tcp.drain(..).map(Listener::tcp);
        let unix = self.unix.drain(..).map(Listener::unix);
        tcp.chain(unix).collect()
    }

    /// Takes the UDP socket with this address, if one was passed.
    pub fn udp(&mut self, address: SocketAddr) -> Option<UdpSocket> {
        let is_wanted = |socket: &UdpSocket| socket.local_addr().ok() == Some(address);
        let at = self.udp.iter().position(is_wanted)?;
        Some(self.udp.swap_remove(at))
    }
}
