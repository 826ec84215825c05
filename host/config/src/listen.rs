//! `listen` under `[server]` and `--listen`: TCP addresses and Unix sockets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{Error, SeqAccess, Visitor};

/// Largest number of addresses in `listen`.
pub const MAX_ADDRESSES: usize = 16;

/// Begins the address of a Unix socket.
const UNIX: &str = "unix:";
/// Longest path of a Unix socket in bytes, as the system has room for it.
const MAX_SOCKET_PATH: usize = 107;
const EXAMPLE: &str = "write an IP address and a port, e.g. \"127.0.0.1:8080\" or \"[::1]:8080\", or a Unix socket, \
                       e.g. \"unix:/run/sluicegate/http.sock\"";

/// Where the gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// Address and port; port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return socket_path(path).map(Self::Unix);
        }
        let address = text.parse().map(Self::Tcp);
        address.map_err(|_| format!("`{text}` is not a valid address to listen on; {EXAMPLE}"))
    }
}

impl ListenAddress {
    /// The TCP address; `None` for a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Resolves a relative path against `dir`.
    pub(super) fn resolve(&mut self, dir: &Path) {
        if let Self::Unix(path) = self {
            *path = dir.join(&path);
        }
    }
}

fn socket_path(path: &str) -> Result<PathBuf, String> {
    let what = match path {
        "" => "names no file",
        // Anybody may connect to an abstract socket, which has no permissions.
        _ if path.starts_with('@') => "is an abstract socket, which has no permissions",
        _ if path.ends_with('/') => "names a directory",
        _ if path.contains('\0') => "has a NUL character",
        _ if path.len() > MAX_SOCKET_PATH => "has a path of more than 107 bytes",
        _ => return Ok(PathBuf::from(path)),
    };
    Err(format!(
        "`{UNIX}{}` {what}; write the path of a file, e.g. \"unix:/run/sluicegate/http.sock\"",
        path.escape_default()
    ))
}

/// Deserializes `listen`: one address, or a list of them.
pub(super) fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ListenAddress>, D::Error> {
    struct OneOrMore;

    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<ListenAddress>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an address or a list of addresses; {EXAMPLE}")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            let address = text.parse().map_err(E::custom)?;
            Ok(vec![address])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some(text) = items.next_element::<String>()? {
                let address = text.parse().map_err(A::Error::custom)?;
                // The system chooses another port for each 0.
                let is_chosen = matches!(&address, ListenAddress::Tcp(tcp) if tcp.port() == 0);
                if !is_chosen && found.contains(&address) {
                    let what = format!("`{text}` is listed twice; remove one");
                    return Err(A::Error::custom(what));
                }
                if found.len() == MAX_ADDRESSES {
                    let what = format!("more than {MAX_ADDRESSES} addresses; list fewer");
                    return Err(A::Error::custom(what));
                }
                found.push(address);
            }
            match found.is_empty() {
                true => Err(A::Error::custom(format!("the list is empty; {EXAMPLE}"))),
                false => Ok(found),
            }
        }
    }

    deserializer.deserialize_any(OneOrMore)
}

/// Value of `--listen` on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address, a port, or both. A missing part is taken from the config.
    Tcp {
        /// Address; `None` if not given.
        address: Option<IpAddr>,
        /// Port; `None` if not given.
        port: Option<u16>,
    },
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = |text: &str| match text {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            _ => text.trim_matches(['[', ']']).parse::<IpAddr>().ok(),
        };
        if let Some(path) = text.strip_prefix(UNIX) {
            return socket_path(path).map(Self::Unix);
        }
        if let Ok(port) = text.parse() {
            return Ok(Self::Tcp {
                address: None,
                port: Some(port),
            });
        }
        if let Some(address) = address(text) {
            return Ok(Self::Tcp {
                address: Some(address),
                port: None,
            });
        }
        let both = text.rsplit_once(':');
        match both.map(|(host, port)| (address(host), port.parse())) {
            Some((Some(address), Ok(port))) => Ok(Self::Tcp {
                address: Some(address),
                port: Some(port),
            }),
            _ => Err(
                "write a port, an IP address, or both, e.g. 8080, 192.168.0.10, 127.0.0.1:8080 or [::1]:8080; or a Unix \
                 socket, e.g. unix:/run/sluicegate/http.sock"
                    .into(),
            ),
        }
    }
}
