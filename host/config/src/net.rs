//! Host names, origins, networks and trusted proxies as the config writes them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::text;

/// A host name or IP address that a `Host` header may carry, in lower case, without port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name; an IPv6 address has no brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An address has several spellings; the canonical one (RFC 5952) is compared.
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        if is_name(text) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(format!(
            "`{text}` is not a valid host name; write the name alone, e.g. \"cam.home.example\""
        ))
    }
}

/// A web origin (RFC 6454 section 6.2) as browsers send it: `https://host` or `http://host:8081`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

impl Origin {
    /// The origin, to be compared byte by byte with an `Origin` header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| {
            Err(format!(
                "`{text}` is not a valid origin: {why}; write scheme and host as browsers do, e.g. \"https://home.example\" \
                 or \"http://192.168.0.2:8123\""
            ))
        };
        let lower = text.to_ascii_lowercase();
        let Some((scheme, authority)) = lower.split_once("://") else {
            return refuse("it has no scheme");
        };
        let usual_port = match scheme {
            "https" => "443",
            "http" => "80",
            _ => return refuse("the scheme must be http or https"),
        };
        if authority.ends_with('/') {
            return refuse("it ends in a slash; remove it");
        }
        if authority.contains(['/', '?', '#', '@']) {
            return refuse("it has more than a host and a port");
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host_is_good = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        if !host_is_good {
            return refuse(
                "the host is neither a name nor an address (write a non-ASCII name in its xn--… form)",
            );
        }
        match port {
            Some(port) if port == usual_port => {
                refuse("browsers omit the scheme's default port; remove it")
            }
            // Browsers write a port without leading zeros or sign, and only what they write can match.
            Some(port)
                if port.parse::<u16>().map(|n| n.to_string()).ok().as_deref() != Some(port) =>
            {
                refuse("the port is not a number from 0 to 65535")
            }
            _ => Ok(Self(lower)),
        }
    }
}

/// An IP network, `192.168.0.0/16` or `fd00::/8`; a bare address is the network of that address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` is in the network. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "`{text}` is not a valid network; write e.g. \"192.168.0.0/16\", \"fd00::/8\" or one address"
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| refuse())?,
            None => bits,
        };
        match prefix <= bits {
            true => Ok(Self { address, prefix }),
            false => Err(refuse()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Whose headers about the client are believed: an item of `trusted-proxies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrustedProxy {
    /// Connections from this network.
    Network(Network),
    /// Connections over a Unix socket, `"unix"`.
    Unix,
}

impl TrustedProxy {
    /// The network; `None` for Unix sockets.
    pub fn network(&self) -> Option<Network> {
        match self {
            Self::Network(network) => Some(*network),
            Self::Unix => None,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unix" => Ok(Self::Unix),
            _ => match text.parse() {
                Ok(network) => Ok(Self::Network(network)),
                Err(why) => Err(format!(
                    "{why}; \"unix\" is for whoever connects over a Unix socket"
                )),
            },
        }
    }
}

/// Labels of 1 to 63 letters, digits and `-`, at most 253 characters in all (RFC 1123 section 2.1); also `_`, which is
/// used in home networks.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

macro_rules! deserialize_from_str {
    ($type:ty, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text::parse(deserializer, $expecting, str::parse)
            }
        }
    };
}

deserialize_from_str!(HostName, "a host name such as \"cam.home.example\"");
deserialize_from_str!(Origin, "an origin such as \"https://home.example\"");
deserialize_from_str!(Network, "a network such as \"192.168.0.0/16\"");
deserialize_from_str!(
    TrustedProxy,
    "a network such as \"192.168.0.2\", or \"unix\""
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn an_origin_is_exactly_what_a_browser_sends() {
        for (text, origin) in [
            ("https://home.example", "https://home.example"),
            ("HTTPS://Home.Example", "https://home.example"),
            ("http://192.168.0.2:8123", "http://192.168.0.2:8123"),
            ("http://[fd00::1]", "http://[fd00::1]"),
            ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), origin);
        }
        for (text, why) in [
            ("*", "no scheme"),
            ("null", "no scheme"),
            ("home.example", "no scheme"),
            ("ftp://home.example", "http or https"),
            ("https://home.example/", "slash"),
            ("https://home.example/page", "more than a host"),
            ("https://me@home.example", "more than a host"),
            ("https://home.example:443", "default port"),
            ("https://home.example:", "port is not a number"),
            ("https://home.example:99999", "port is not a number"),
            ("https://home.example:080", "port is not a number"),
            ("https://*.example", "neither a name nor an address"),
            ("https://", "neither a name nor an address"),
            ("https://bücher.example", "xn--"),
            ("https://[fd00::1", "neither a name nor an address"),
        ] {
            let error = text.parse::<Origin>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_host_name_has_no_scheme_port_or_wildcard() {
        for (text, name) in [
            ("Cam.Home.example", "cam.home.example"),
            ("nas_1", "nas_1"),
            ("192.168.0.2", "192.168.0.2"),
            ("FD00::1", "fd00::1"),
            ("fd00:0::7", "fd00::7"),
        ] {
            assert_eq!(text.parse::<HostName>().unwrap().as_str(), name);
        }
        for text in [
            "", "a:80", "http://a", "*.a", "a.", "a..b", "-a", "a b", "[::1]",
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
        assert!("a".repeat(64).parse::<HostName>().is_err());
    }

    #[test]
    fn a_network_contains_its_own_addresses_only() {
        for (network, inside, outside) in [
            ("192.168.0.0/16", "192.168.255.1", "192.169.0.1"),
            ("192.168.0.0/16", "::ffff:192.168.0.1", "::1"),
            ("10.0.0.7", "10.0.0.7", "10.0.0.6"),
            ("0.0.0.0/0", "255.255.255.255", "fd00::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "fe80::1", "10.0.0.1"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(
                parsed.contains(inside.parse().unwrap()),
                "{network} {inside}"
            );
            assert!(
                !parsed.contains(outside.parse().unwrap()),
                "{network} {outside}"
            );
        }
        for text in [
            "",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "host/8",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
