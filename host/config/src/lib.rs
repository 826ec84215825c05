//! The configuration: one TOML file, read at start and at each reload.
//!
//! [`Config::load`] reads the file; [`Config::default`] is used without one. Every mistake that can be found from the
//! text alone is found here, all of them in one pass, and reported as `FILE:LINE:COLUMN: message` with the value and
//! what to write instead. Checks that need a component or a socket (opening a source, a transport's own options) are
//! made by the modules that use them. The gateway's `main` calls this crate; it does no I/O but reading the config file
//! and looking at the scrcpy-server that the file names.

mod access;
mod android;
mod base_path;
mod capture;
mod clients;
mod document;
mod encode;
mod encoder;
mod error;
mod fetch;
mod listen;
pub mod machine;
mod net;
pub mod private;
mod secret;
mod source;
mod stream;
mod text;
mod tls;
mod transport;
mod units;
mod unsupported;
mod webtransport;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

pub use access::{
    Access, Grants, HeaderName, Jwks, Jwt, PasswordHash, Pattern, Role, User, check_user_name,
};
pub use android::{Android, AndroidDevice, MAX_SCRCPY_SERVER_BYTES, Mirror, ScrcpyVersion};
pub use base_path::BasePath;
pub use capture::Capture;
pub use clients::{Client, Match, Policy};
use document::{Document, Mistake, Problem, Step};
pub use encode::{Encode, Rendition};
pub use encoder::EncoderName;
pub use error::nearest;
pub use error::{Error, Invalid, Mistakes};
pub use fetch::Fetch;
pub use listen::{Listen, ListenAddress, MAX_ADDRESSES};
pub use net::{HostName, Network, Origin, TrustedProxy};
pub use secret::Secret;
pub use source::Source;
pub use source::{host_and_port, is_scheme, mask};
pub use stream::{Stream, check_stream_name};
pub use tls::Tls;
pub use transport::{Limits, Transport};
pub use units::{BitRate, ByteSize, Span};
pub use webtransport::{Congestion, WebTransport};

/// The largest config file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Largest number of mistakes reported for one file.
const MAX_MISTAKES: usize = 50;

/// The contents of the config file, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a config file"
)]
pub struct Config {
    /// `[server]`: where the gateway listens and which clients it answers.
    #[serde(default)]
    pub server: Server,
    /// `[streams.NAME]`, by name. Default: none.
    #[serde(default)]
    pub streams: BTreeMap<String, Stream>,
    /// `[transports.NAME]`, by name. Default: none. Built-in transports need no entry; an entry without `plugin` sets
    /// the options of the built-in transport of that name.
    #[serde(default)]
    pub transports: BTreeMap<String, Transport>,
    /// `[policy]`. Default: the built-in policy with its defaults.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// `[[clients]]`: rules in the file's order; the first that matches applies. Default: none.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// `[android]`. Default: only devices that a stream names are followed, with the default settings.
    #[serde(default)]
    pub android: Option<Android>,
    /// `[capture]`: still images on request. Default: as [`Capture::default`].
    #[serde(default)]
    pub capture: Capture,
    /// `[users.NAME]`, by name. Default: none; the state file may have more.
    #[serde(default)]
    pub users: BTreeMap<String, User>,
    /// `[groups.NAME]`: rights of the users who are in it, by name. Default: none.
    #[serde(default)]
    pub groups: BTreeMap<String, Grants>,
    /// `[access]`: how long sign-ins last, and whom else the gateway believes. Default: as [`Access::default`].
    #[serde(default)]
    pub access: Access,
    /// The config file, if there is one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Directory of the config file. The paths of plugins, captures, certificates and the scrcpy-server are already
    /// resolved against it; those of sources are not.
    #[serde(skip)]
    pub dir: PathBuf,
    /// The text of the file.
    #[serde(skip)]
    text: Text,
}

/// The text of the config file, to find the place of a mistake that is noticed later. Two configs are equal if they say
/// the same, however it is written.
#[derive(Clone, Default)]
struct Text(Arc<str>);

impl PartialEq for Text {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Without the content, which has secrets.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(…)")
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read or is larger than [`MAX_FILE`], otherwise as [`Config::parse`]; also
    /// [`Error::Invalid`] if `server` under `[android]` names a file that cannot be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let read = |reason| Error::Read {
            file: path.to_owned(),
            reason,
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(read)?;
        if bytes.len() as u64 > MAX_FILE {
            let what = format!("it is larger than {}", ByteSize::from_bytes(MAX_FILE));
            return Err(read(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => {
                let config = Self::parse(text, path)?;
                match config
                    .android
                    .as_ref()
                    .map_or(Ok(()), Android::check_server_file)
                {
                    Ok(()) => Ok(config),
                    Err(problem) => {
                        let document = Document::parse(text, path).map_err(invalid)?;
                        Err(invalid(vec![document.explain(&problem).invalid]))
                    }
                }
            }
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
                let what = format!("line {line} is not UTF-8; save the file as UTF-8");
                Err(read(io::Error::new(io::ErrorKind::InvalidData, what)))
            }
        }
    }

    /// Checks `text`, the contents of `file`. The file itself is not opened: its name is used in messages, and its
    /// directory to resolve relative paths.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all mistakes, at most 50: invalid TOML, an unknown or repeated key, a value of the wrong
    /// type, without a unit or out of range, a name that cannot be a URL path segment, or a key that this version does
    /// not support yet.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        let mut document = Document::parse(text, file).map_err(invalid)?;
        let mut found = Vec::new();
        // Each mistake is removed from the document, and the rest is checked again.
        let config = loop {
            match Self::check_document(&document) {
                Ok(config) => break Some(config),
                Err(mistake) => match document.remove_mistake(&mistake) {
                    Some(false) => {}
                    Some(true) if found.len() + 1 < MAX_MISTAKES => found.push(mistake.invalid),
                    Some(true) | None => {
                        found.push(mistake.invalid);
                        break None;
                    }
                },
            }
        };
        let config = config.map(|config| config.resolve_paths(file));
        let config = config.map(|config| Self {
            text: Text(text.into()),
            ..config
        });
        match config {
            Some(config) if found.is_empty() => Ok(config),
            rest => {
                found.sort_by_key(|invalid| (invalid.line, invalid.column));
                let rest = rest.map(Box::new);
                Err(Error::Invalid(Mistakes { found, rest }))
            }
        }
    }

    fn check_document(document: &Document<'_>) -> Result<Self, Box<Mistake>> {
        let config: Self = document.read()?;
        unsupported::refuse(document)
            .and_then(|()| config.check(document))
            .map_err(|problem| document.explain(&problem))?;
        Ok(config)
    }

    /// Sets the directory of `file` and resolves relative paths against it.
    fn resolve_paths(mut self, file: &Path) -> Self {
        let config = &mut self;
        config.dir = match file.parent() {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        config.file = Some(file.to_owned());
        for transport in config.transports.values_mut() {
            transport.plugin = transport.plugin.take().map(|path| config.dir.join(path));
        }
        if let Some(policy) = &mut config.policy {
            policy.resolve(&config.dir);
        }
        config.capture.resolve(&config.dir);
        if let Some(android) = &mut config.android {
            android.resolve(&config.dir);
        }
        config.access.resolve(&config.dir);
        if let Some(state) = &mut config.server.state {
            *state = config.dir.join(&state);
        }
        if let Some(tls) = &mut config.server.tls {
            tls.resolve(&config.dir);
        }
        for address in &mut config.server.listen {
            address.resolve(&config.dir);
        }
        self
    }

    /// The keys of each `[streams.NAME]` as they are written, and no keys for a stream of the command line, as JSON.
    /// They may have secrets.
    pub fn stream_keys(&self) -> BTreeMap<String, serde_json::Value> {
        let written: toml::Table = self.text.0.parse().unwrap_or_default();
        let written = written.get("streams").and_then(toml::Value::as_table);
        let keys = |name: &String| {
            let keys = written.and_then(|written| written.get(name));
            let keys = keys.and_then(|keys| serde_json::to_value(keys).ok());
            keys.unwrap_or_else(|| serde_json::json!({}))
        };
        let names = self.streams.keys();
        names.map(|name| (name.clone(), keys(name))).collect()
    }

    /// The place of a key in the file, or else of the nearest table around it, as `FILE:LINE:COLUMN`. `path` has the
    /// keys from the top level on, and the number of an item of a list from 0. `None` without a file, and if nothing of
    /// the path is in it.
    pub fn place(&self, path: &[&str]) -> Option<String> {
        let file = self.file.as_ref()?;
        let document = Document::parse(&self.text.0, file).ok()?;
        let (line, column) = document.place(path)?;
        Some(format!("{}:{line}:{column}", file.display()))
    }

    /// Whether the file says nothing at all: it is empty, or has comments only.
    pub fn is_blank(&self) -> bool {
        let lines = self
            .text
            .0
            .lines()
            .map(|line| line.trim_start_matches('\u{feff}').trim());
        let mut said = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        self.file.is_some() && said.next().is_none()
    }

    /// Whether there is nothing to show: no stream, and none that `[android]` may discover.
    pub fn shows_nothing(&self) -> bool {
        let found = self.android.as_ref();
        self.streams.is_empty() && !found.is_some_and(|android| android.discover)
    }

    /// The state file: `state` under `[server]`; else `state.json` in the directory that systemd provides
    /// (`StateDirectory=`); else beside the config file, `NAME.state.json`; else `sluicegate/state.json` in
    /// `$XDG_STATE_HOME` or `~/.local/state`. `None` if there is none of these.
    pub fn state_file(&self) -> Option<PathBuf> {
        let configured = || self.server.state.clone();
        let systemd = || {
            // Several directories are separated by colons; the first one is ours (systemd.exec, `StateDirectory=`).
            let list = std::env::var_os("STATE_DIRECTORY")?;
            let first = std::env::split_paths(&list).next()?;
            first.is_absolute().then(|| first.join("state.json"))
        };
        let beside = || Some(self.file.as_ref()?.with_extension("state.json"));
        let home = || private::folder("XDG_STATE_HOME", ".local/state", "state.json");
        configured().or_else(systemd).or_else(beside).or_else(home)
    }

    fn check(&self, document: &Document<'_>) -> Result<(), Problem> {
        self.server
            .base_path
            .check()
            .map_err(|what| Problem::value(vec!["server".into(), "base-path".into()], what))?;
        for (key, count) in [
            ("connections", self.server.connections),
            (
                "connections-per-address",
                self.server.connections_per_address,
            ),
        ] {
            if !(1..=1_000_000).contains(&count) {
                let what = format!("{count} is out of range; write 1 to 1000000");
                return Err(Problem::value(vec!["server".into(), key.into()], what));
            }
        }
        for (name, stream) in &self.streams {
            let path = vec!["streams".into(), name.into()];
            stream.check(&path, document)?;
            check_stream_name(name).map_err(|what| Problem::key(path, what))?;
        }
        for (name, transport) in &self.transports {
            let path = vec!["transports".into(), name.into()];
            transport.check(&path)?;
            transport::check_name(name).map_err(|what| Problem::key(path, what))?;
        }
        for (name, user) in &self.users {
            user.check(name, &["users".into(), name.into()], &self.groups)?;
        }
        for name in self.groups.keys() {
            let path = vec!["groups".into(), name.into()];
            access::check_group_name(name).map_err(|what| Problem::key(path, what))?;
        }
        self.access.check(&["access".into()], &self.groups)?;
        if let Some(policy) = &self.policy {
            policy.check(&["policy".into()])?;
        }
        self.capture.check(&["capture".into()])?;
        if let Some(android) = &self.android {
            android.check(&["android".into()])?;
        }
        for (index, client) in self.clients.iter().enumerate() {
            client.check(&["clients".into(), Step::Index(index)])?;
        }
        Ok(())
    }
}

fn invalid(found: Vec<Invalid>) -> Error {
    Error::Invalid(found.into())
}

/// The configuration without a file: one stream `demo`, the test pattern, on 127.0.0.1:8080.
impl Default for Config {
    fn default() -> Self {
        let demo = Stream {
            encode: Encode {
                frame_rate: 30,
                bitrate: BitRate::from_bits_per_second(2_500_000),
                ..Encode::default()
            },
            ..Stream::default()
        };
        Self {
            server: Server::default(),
            streams: BTreeMap::from([("demo".into(), demo)]),
            transports: BTreeMap::new(),
            policy: None,
            clients: Vec::new(),
            android: None,
            capture: Capture::default(),
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            access: Access::default(),
            file: None,
            dir: PathBuf::from("."),
            text: Text::default(),
        }
    }
}

/// `[server]`: where the gateway listens and which clients it answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct Server {
    /// Addresses and ports, or `unix:PATH`, to listen on, at least one; port 0 lets the system choose one. Default
    /// `127.0.0.1:8080`.
    #[serde(deserialize_with = "listen::addresses")]
    pub listen: Vec<ListenAddress>,
    /// The path below which a proxy shows the gateway, such as `/cams`. Default: none, the root.
    pub base_path: BasePath,
    /// List of host names that the gateway answers to, in addition to the loopback ones. Default: none.
    pub names: Vec<HostName>,
    /// List of origins, as browsers send them in `Origin`, whose pages may embed streams (CORS). Default: none.
    pub origins: Vec<Origin>,
    /// Boolean: everybody who can connect may watch and take captures without signing in. Default `false`.
    pub open: bool,
    /// Where the TLS certificate comes from. Default: none, plain HTTP.
    pub tls: Option<Tls>,
    /// UDP port for WebTransport: `true`, the one with the number of the TCP port; another number; or `false`, none.
    /// Default `true`.
    pub webtransport: WebTransport,
    /// Congestion controller of WebTransport: `"loss-tolerant"`, `"cubic"` or `"bbr"`. Default `"loss-tolerant"`.
    pub congestion: Congestion,
    /// List of proxies that are believed what they tell of the client: its address, scheme, and the path below which it
    /// sees the gateway. Default: none.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Boolean: the config file is read again when it changes. Default `false`.
    pub watch: bool,
    /// Path of the file for users that the command line adds, sign-ins, tokens and links, relative to the config file.
    /// Default: see [`Config::state_file`].
    pub state: Option<PathBuf>,
    /// Largest number of simultaneous connections, 1 to 1,000,000; lower if the process may open fewer files. Default
    /// 16,384.
    pub connections: u32,
    /// Largest number of simultaneous connections from one IPv4 address or one IPv6 /64, 1 to 1,000,000; loopback and
    /// trusted proxies are exempt. Default 256.
    pub connections_per_address: u32,
}

impl Server {
    /// The TCP addresses of `listen`.
    pub fn tcp_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.listen.iter().filter_map(ListenAddress::tcp)
    }

    /// Whether other machines can connect: a TCP address is beyond loopback.
    pub fn is_reachable(&self) -> bool {
        self.tcp_addresses().any(is_beyond_loopback)
    }

    /// Whether connections from this address come from a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let mut networks = self
            .trusted_proxies
            .iter()
            .filter_map(TrustedProxy::network);
        networks.any(|network| network.contains(address))
    }

    /// Whether connections over a Unix socket come from a trusted proxy.
    pub fn trusts_unix(&self) -> bool {
        self.trusted_proxies.contains(&TrustedProxy::Unix)
    }

    /// Applies `--listen` and `--open` of the command line: its addresses replace those of the config. What one of them
    /// leaves out is taken from the config's first TCP address. With `--open` and no address given, a loopback address
    /// becomes the unspecified one, `0.0.0.0`.
    pub fn listen_at(&mut self, listen: &[Listen], open: bool) {
        self.open |= open;
        let own = self.tcp_addresses().next();
        let own = own.unwrap_or(Self::LISTEN);
        let opened = |address: SocketAddr| match open && !is_beyond_loopback(address) {
            true => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()),
            false => address,
        };
        let complete = |listen: &Listen| match listen {
            Listen::Unix(path) => ListenAddress::Unix(path.clone()),
            Listen::Tcp { address, port } => {
                let port = port.unwrap_or(own.port());
                ListenAddress::Tcp(match address {
                    Some(address) => SocketAddr::new(*address, port),
                    None => opened(SocketAddr::new(own.ip(), port)),
                })
            }
        };
        if !listen.is_empty() {
            self.listen = listen.iter().map(complete).collect();
        } else {
            for address in &mut self.listen {
                if let ListenAddress::Tcp(tcp) = address {
                    *tcp = opened(*tcp);
                }
            }
            // Both loopback addresses become the same one.
            let mut seen = Vec::new();
            self.listen.retain(|address| {
                let is_new = !seen.contains(address);
                seen.push(address.clone());
                is_new
            });
        }
    }

    /// Where the gateway listens by default.
    const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
}

fn is_beyond_loopback(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp(Self::LISTEN)],
            base_path: BasePath::default(),
            names: Vec::new(),
            origins: Vec::new(),
            open: false,
            tls: None,
            webtransport: WebTransport::default(),
            congestion: Congestion::default(),
            trusted_proxies: Vec::new(),
            watch: false,
            state: None,
            connections: 16_384,
            connections_per_address: 256,
        }
    }
}

/// The message for an unknown name, such as "there is no stream `poch`; did you mean `porch`?". Names are suggested up
/// to an edit distance of 2; otherwise up to 20 known names are listed.
pub fn unknown<'a>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a String> + Clone,
) -> String {
    let shown: String = name.chars().take(64).collect();
    let nearest = known
        .clone()
        .map(|known| (strsim::damerau_levenshtein(&shown, known), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match nearest {
        Some((_, nearest)) => format!("there is no {kind} `{shown}`; did you mean `{nearest}`?"),
        None if known.clone().next().is_none() => {
            format!("there is no {kind} `{shown}`; no {kind} is configured")
        }
        None => {
            let names: Vec<&str> = known.map(String::as_str).take(20).collect();
            format!(
                "there is no {kind} `{shown}`; there are: {}",
                names.join(", ")
            )
        }
    }
}

/// Percent-encodes a name as one path segment (RFC 3986 section 3.3).
pub fn path_segment(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
