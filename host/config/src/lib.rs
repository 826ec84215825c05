//! The configuration: one TOML file, read once at start.
//!
//! [`Config::load`] reads it, [`Config::default`] is what runs without one. Whatever is wrong in a file is found
//! here and told as `FILE:LINE:COLUMN: what, with what, what to do`; what needs a component or a socket to be
//! judged (a source, a transport's own options) is left to the modules that have one.

mod android;
mod capture;
mod clients;
mod document;
mod encode;
mod encoder;
mod error;
mod fetch;
mod later;
pub mod machine;
mod net;
pub mod private;
mod source;
mod text;
mod tls;
mod transport;
mod units;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use android::{Android, AndroidDevice, MAX_SERVER, Mirror, ScrcpyVersion};
pub use capture::Capture;
pub use clients::{Client, Match, Policy};
use document::{Document, Mistake, Problem, Step};
pub use encode::{Encode, Rendition};
pub use encoder::EncoderName;
pub use error::nearest;
pub use error::{Error, Invalid, Mistakes};
pub use fetch::Fetch;
pub use net::{HostName, Listen, Network, Origin};
pub use source::Source;
pub use source::{host_and_port, is_scheme};
pub use tls::Tls;
pub use transport::{Limits, Transport};
pub use units::{BitRate, ByteSize, Span};

/// The largest config file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// So many mistakes are told at once.
const MAX_MISTAKES: usize = 50;

/// Everything the config file says, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a config file"
)]
pub struct Config {
    /// `[server]`: where the gateway listens and to whom it answers.
    #[serde(default)]
    pub server: Server,
    /// `[streams.NAME]`, by name. Empty if the file has none; see [`Config::require_streams`].
    #[serde(default)]
    pub streams: BTreeMap<String, Stream>,
    /// `[transports.NAME]`, by name. Built-in transports need no entry; one without `plugin` sets their options.
    #[serde(default)]
    pub transports: BTreeMap<String, Transport>,
    /// `[policy]`. Absent: the built-in one with its defaults.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// `[[clients]]`, first match first.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// `[android]`. Absent: devices are followed only where a stream names one, with the defaults.
    #[serde(default)]
    pub android: Option<Android>,
    /// `[capture]`.
    #[serde(default)]
    pub capture: Capture,
    /// The folder of the config file. Plugin paths are already resolved against it.
    #[serde(skip)]
    pub dir: PathBuf,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read or is larger than [`MAX_FILE`], else as [`Config::parse`]; and
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
                match config.android.as_ref().map_or(Ok(()), Android::look) {
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

    /// Checks `text`, the contents of `file`. The file itself is not touched: its name is for messages, its folder
    /// is what relative paths are resolved against.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all mistakes, 50 at most: bad TOML, an unknown or repeated key, a value of the wrong type,
    /// without a unit or out of range, a name that cannot be a URL path, a `listen` that needs `open = true`, or a
    /// part of the config that this version lacks.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        let mut document = Document::parse(text, file).map_err(invalid)?;
        let mut found = Vec::new();
        // What is wrong is left out of the file, and the rest is looked at again.
        let config = loop {
            match Self::judge(&document) {
                Ok(config) => break Some(config),
                Err(mistake) => match document.leave_out(&mistake) {
                    Some(false) => {}
                    Some(true) if found.len() + 1 < MAX_MISTAKES => found.push(mistake.invalid),
                    Some(true) | None => {
                        found.push(mistake.invalid);
                        break None;
                    }
                },
            }
        };
        let config = config.map(|config| config.placed(file));
        match config {
            Some(config) if found.is_empty() => Ok(config),
            rest => {
                found.sort_by_key(|invalid| (invalid.line, invalid.column));
                let rest = rest.map(Box::new);
                Err(Error::Invalid(Mistakes { found, rest }))
            }
        }
    }

    fn judge(document: &Document<'_>) -> Result<Self, Box<Mistake>> {
        let config: Self = document.read()?;
        later::refuse(document)
            .and_then(|()| config.check(document))
            .map_err(|problem| document.explain(&problem))?;
        Ok(config)
    }

    /// As the config of this file, against whose folder relative paths are resolved.
    fn placed(mut self, file: &Path) -> Self {
        let config = &mut self;
        config.dir = match file.parent() {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        };
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
        if let Some(tls) = &mut config.server.tls {
            tls.resolve(&config.dir);
        }
        self
    }

    /// Says what to write where neither the config nor the command line names a stream. For the caller who has
    /// added the command line's sources; `file` is the config file, for the message.
    ///
    /// # Errors
    /// [`Error::NoStreams`] if there is no stream, and none may be found.
    pub fn require_streams(&self, file: &Path) -> Result<(), Error> {
        let found = self.android.as_ref();
        let found = found.is_some_and(|android| android.discover);
        match self.streams.is_empty() && !found {
            false => Ok(()),
            true => Err(Error::NoStreams {
                file: file.to_owned(),
            }),
        }
    }

    fn check(&self, document: &Document<'_>) -> Result<(), Problem> {
        self.server
            .check_listen()
            .map_err(|what| Problem::value(vec!["server".into(), "listen".into()], what))?;
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

/// What runs with no config file: one stream `demo`, the test pattern, on 127.0.0.1:8080.
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
            dir: PathBuf::from("."),
        }
    }
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct Server {
    /// The address and port to listen on; port 0 lets the system choose. Default `127.0.0.1:8080`.
    #[serde(deserialize_with = "net::listen")]
    pub listen: SocketAddr,
    /// Host names it answers to, beside the loopback ones. Default none.
    pub names: Vec<HostName>,
    /// Foreign pages that may embed it, as browsers write them in `Origin`. Default none.
    pub origins: Vec<Origin>,
    /// Whether anybody who reaches a non-loopback address may watch. Default false.
    pub open: bool,
    /// Where TLS gets its certificate. Absent: plain HTTP.
    pub tls: Option<Tls>,
    /// Proxies whose word is taken for whom they ask (`Forwarded`, `X-Forwarded-For`). Default none.
    pub trusted_proxies: Vec<Network>,
    /// The most connections at a time, 1 to 1,000,000; fewer where the system lets the process open fewer files.
    /// Default 16,384.
    pub connections: u32,
    /// The most of them from one address, or one IPv6 /64; loopback and trusted proxies are free. Default 256.
    pub connections_per_address: u32,
}

impl Server {
    /// Takes over what the command line says: where to listen, and that others may reach it. An address of this machine alone
    /// becomes all addresses if the gateway is to be open and no other is named.
    ///
    /// # Errors
    /// As [`Server::check_listen`].
    pub fn listen_at(&mut self, listen: Option<Listen>, open: bool) -> Result<(), String> {
        let Listen { address, port } = listen.unwrap_or_default();
        self.open |= open;
        let own = self.listen.ip();
        let address = address.unwrap_or(match open && own.to_canonical().is_loopback() {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => own,
        });
        self.listen = (address, port.unwrap_or(self.listen.port())).into();
        self.check_listen()
    }

    /// Whether `listen` may be used: there are no accounts yet, so an address that others can reach takes a
    /// deliberate `open = true`.
    ///
    /// # Errors
    /// A sentence that says why not and what to write.
    pub fn check_listen(&self) -> Result<(), String> {
        if self.open || self.listen.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let (listen, port) = (self.listen, self.listen.port());
        Err(format!(
            "{listen} can be reached from other machines and there are no accounts yet, so anybody there could \
             watch; allow that with open = true or --open, or keep to this machine with listen = \"127.0.0.1:{port}\""
        ))
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            names: Vec::new(),
            origins: Vec::new(),
            open: false,
            tls: None,
            trusted_proxies: Vec::new(),
            connections: 16_384,
            connections_per_address: 256,
        }
    }
}

/// `[streams.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { source = \"rtsp://camera.local/stream1\" }"
)]
pub struct Stream {
    /// Where the pictures come from, as written; the source module judges it.
    pub source: Source,
    /// How long the source goes on after its last user. Default 10 s.
    #[serde(default = "idle")]
    pub idle: Span,
    /// Whether the source runs without users, from start to end. Default false; excludes `idle`.
    #[serde(default)]
    pub always_on: bool,
    /// How often a URL that gives a single JPEG is asked for the next, 20 ms to 1 h. Default 500 ms.
    #[serde(default = "every")]
    pub every: Span,
    /// Other hosts that its URL may redirect to; its own may be redirected to without being named. Default none.
    #[serde(default)]
    pub redirects: Vec<HostName>,
    /// The settings for what has to be encoded. H.264 that arrives as H.264 passes untouched.
    #[serde(default)]
    pub encode: Encode,
    /// The stream at other settings, by name.
    #[serde(default)]
    pub renditions: BTreeMap<String, Rendition>,
}

/// The test pattern.
impl Default for Stream {
    fn default() -> Self {
        Self {
            source: "test-pattern".into(),
            idle: Self::IDLE,
            always_on: false,
            every: Fetch::EVERY,
            redirects: Vec::new(),
            encode: Encode::default(),
            renditions: BTreeMap::new(),
        }
    }
}

impl Stream {
    /// The default of `idle`: 10 s.
    pub const IDLE: Span = Span::from_duration(Duration::from_secs(10));

    /// How its URL is fetched, where the source is one.
    pub fn fetch(&self) -> Fetch {
        Fetch {
            every: self.every.duration(),
            redirects: self.redirects.clone(),
        }
    }

    fn check(&self, path: &[Step], document: &Document<'_>) -> Result<(), Problem> {
        let at = |key: &str| [path, &[key.into()]].concat();
        let (least, most) = Fetch::RANGE;
        if !(least..=most).contains(&self.every) {
            let what = format!(
                "{} is out of range; write \"{least}\" to \"{most}\"",
                self.every
            );
            return Err(Problem::value(at("every"), what));
        }
        if self.source.expose().is_empty() {
            let what =
                "is empty; write e.g. source = \"test-pattern\" or \"rtsp://camera.local/stream1\"";
            return Err(Problem::value(at("source"), what));
        }
        if self.always_on && document.has(&at("idle")) {
            let what = "means nothing with always-on = true; keep one of the two";
            return Err(Problem::key(at("idle"), what));
        }
        self.encode.check(&at("encode"))?;
        for (name, rendition) in &self.renditions {
            let path = [path, &["renditions".into(), name.into()]].concat();
            rendition.check(&path)?;
            // Last, as a name takes with it all that is in it.
            check_stream_name(name).map_err(|what| {
                Problem::key(path, what.replace("stream name", "rendition name"))
            })?;
        }
        Ok(())
    }
}

fn idle() -> Span {
    Stream::IDLE
}

fn every() -> Span {
    Fetch::EVERY
}

/// "there is no stream `poch`; did you mean `porch`?"
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
            format!("there is no {kind} `{shown}`, nor any other")
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

/// A name as one segment of a path (RFC 3986 3.3).
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

/// Whether `name` can name a stream. It becomes one segment of URL paths: 1 to 128 bytes, no character that means
/// something there (`/ \ ? # % @`), none that is invisible or turns text around, no space at an end, not `.` or `..`,
/// no `~` in front (that is where a ticket goes).
///
/// # Errors
/// A phrase that goes on from the name: what is wrong with it and what to do.
pub fn check_stream_name(name: &str) -> Result<(), String> {
    // Bidirectional controls, line separators and the byte order mark: not control characters by Unicode's
    // category, but a name that hides or reorders its text in a log or a page.
    let hidden = |c: char| matches!(u32::from(c), 0x200e..=0x200f | 0x2028..=0x202e | 0x2066..=0x2069 | 0xfeff);
    let odd = |c: char| c.is_control() || hidden(c) || "/\\?#%@".contains(c);
    if name.is_empty() {
        return Err("is no stream name: it is empty".into());
    }
    if name.len() > 128 {
        return Err("is no stream name: it is longer than 128 bytes".into());
    }
    if name == "." || name == ".." {
        return Err("is no stream name: in a URL it means a folder; choose another".into());
    }
    if name.starts_with('~') {
        return Err("is no stream name: it must not start with `~`".into());
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err("is no stream name: it has a space at an end; remove it".into());
    }
    match name.chars().find(|c| odd(*c)) {
        Some(c) => Err(format!(
            "is no stream name: it contains `{}`; use letters, digits, `-`, `_` and `.`",
            c.escape_debug()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
