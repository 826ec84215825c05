//! `webtransport` and `congestion` under `[server]`: the UDP port, and how fast it sends.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// `webtransport` of the server: the UDP port that it listens on for WebTransport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WebTransport {
    /// `false`: none.
    Off,
    /// `true`: the one with the number of the TCP port.
    #[default]
    SamePort,
    /// A number: this one.
    Port(u16),
}

impl<'de> Deserialize<'de> for WebTransport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = WebTransport;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or the number of a UDP port, from 1 to 65535")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<WebTransport, E> {
                Ok(match on {
                    true => WebTransport::SamePort,
                    false => WebTransport::Off,
                })
            }

            fn visit_i64<E: Error>(self, port: i64) -> Result<WebTransport, E> {
                match u16::try_from(port) {
                    Ok(port @ 1..) => Ok(WebTransport::Port(port)),
                    _ => Err(E::custom(format!(
                        "{port} is not a UDP port; write a number from 1 to 65535, true for the port of `listen`, or false"
                    ))),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// `congestion` of the server: the congestion controller of QUIC connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Congestion {
    /// CUBIC that takes losses for congestion only if packets had to wait in a queue, too, or more than a tenth is lost.
    #[default]
    LossTolerant,
    /// CUBIC (RFC 9438): backs off when packets are lost.
    Cubic,
    /// BBR, version 1: sends at the bandwidth that it measures.
    Bbr,
}
