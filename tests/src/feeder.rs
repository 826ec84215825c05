//! The peer of a raw Annex B source: a TCP server to which the gateway connects.

use crate::within;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server that sends the gateway a byte stream. Its port is free again when it is dropped.
pub struct Feeder {
    listener: TcpListener,
}

impl Feeder {
    /// Listens on a port chosen by the system.
    pub async fn bind() -> Feeder {
        Feeder::bind_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Listens on a port that another feeder used before.
    pub async fn bind_at(address: SocketAddr) -> Feeder {
        let listener = TcpListener::bind(address).await.unwrap();
        Feeder { listener }
    }

    /// Address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// URL of the feeder as a source.
    pub fn source(&self) -> String {
        format!("annexb:tcp://{}", self.address())
    }

    /// Accepts the gateway's next connection.
    pub async fn accept(&self) -> TcpStream {
        let accepted = within("the gateway connects to its source", self.listener.accept());
        let (connection, _) = accepted.await.unwrap();
        connection.set_nodelay(true).unwrap();
        connection
    }
}

/// Writes all bytes in chunks of irregular but reproducible size, from 1 byte to a few thousand.
pub async fn write_in_chunks(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let mut random = 0x9e37_79b9u32;
    let mut rest = bytes;
    while !rest.is_empty() {
        // xorshift32: mostly small chunks, sometimes large ones.
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let most = if random & 0x300 == 0 { 30 } else { 5000 };
        let (chunk, more) = rest.split_at((1 + random as usize % most).min(rest.len()));
        to.write_all(chunk).await.unwrap();
        rest = more;
    }
    to.flush().await.unwrap();
}

/// Waits until the gateway has closed the connection.
pub async fn gone(mut connection: TcpStream) {
    let mut byte = [0];
    let end = within("the gateway closes its source", connection.read(&mut byte)).await;
    assert!(
        matches!(end, Ok(0) | Err(_)),
        "the gateway wrote to its source"
    );
}

/// A port on which nothing listens at the moment.
pub async fn free_port() -> u16 {
    Feeder::bind().await.address().port()
}
