//! Why the gateway does not start, in words for the user who has to correct it.
//!
//! `prepare` in [`super`] collects all mistakes that it finds, so that `check` and `serve` tell them at once instead of
//! one for each attempt; a [`StartError`] is one of them or several. Every message names the place in the config or the
//! argument, and what to do. `main` prints them together with those of the config itself, and leaves out those that may
//! only follow from a mistake there.

use sluicegate_accounts::{ChangeError, StateError};
use sluicegate_config::{Config, ListenAddress};
use sluicegate_net::TlsError;
use sluicegate_plugin::{LoadError, policy::PolicyError, transports::TransportError};
use sluicegate_source::SpecError;
use sluicegate_telemetry::Chain;
use std::{io, net::SocketAddr};
use thiserror::Error;

/// Most errors that are told at once.
const MAX_MISTAKES: usize = 50;

/// Why the gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A stream's source is invalid.
    #[error("[streams.{stream}]: {reason}")]
    Source {
        /// Name of the stream.
        stream: String,
        /// What is wrong with the source.
        reason: SpecError,
    },
    /// The engine for components does not start.
    #[error(transparent)]
    Engine(#[from] LoadError),
    /// A transport cannot be loaded or opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The policy cannot be loaded or opened.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A component was refused because it does worse than the one in use.
    #[error("[transports.{name}]: {component} is refused: {reason}")]
    Refused {
        /// Name of the transport.
        name: String,
        /// Component, as name@version.
        component: String,
        /// What a muxer found.
        reason: String,
    },
    /// A rule names a stream, transport or rendition that does not exist.
    #[error("item {nth} of [[clients]]: {reason}")]
    Client {
        /// Number of the rule in the config, from 1.
        nth: usize,
        /// The unknown name, and the known ones.
        reason: String,
    },
    /// The policy rejects the options of a rule.
    #[error("{reason}")]
    ClientPolicy {
        /// Number of the rule in the config, from 1.
        nth: usize,
        /// Why it rejects them.
        reason: PolicyError,
    },
    /// The certificate cannot be read or made.
    #[error("`tls` under [server]: {0}")]
    Tls(#[from] TlsError),
    /// The state file, or a file that `[access]` names, cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The first administrator cannot be created.
    #[error("cannot create the first administrator: {0}")]
    Admin(#[from] ChangeError),
    /// A source on the command line has the name of another stream.
    #[error(
        "there are two streams `{0}`: give the source on the command line another name, as in porch=SOURCE"
    )]
    DuplicateName(String),
    /// A name on the command line is not a valid stream name.
    #[error("`{name}` {reason}")]
    Name {
        /// The name as written, without secrets.
        name: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The config cannot be read, or has mistakes.
    #[error(transparent)]
    Config(#[from] sluicegate_config::Error),
    /// Another error, with its place in the config file.
    #[error("{place}: {error}")]
    At {
        /// As `FILE:LINE:COLUMN`.
        place: String,
        /// The error.
        error: Box<StartError>,
    },
    /// One or more errors.
    #[error("{}", lines(.0))]
    Multiple(Vec<StartError>),
    /// The gateway cannot listen on the address.
    #[error(
        "cannot listen on {address}: {reason}; {}choose another with --listen {free} or `listen` under [server]",
        explain_listen_error(address, reason),
        free = another_address(address)
    )]
    Listen {
        /// The address as configured.
        address: ListenAddress,
        /// The system's error.
        reason: io::Error,
    },
    /// The gateway cannot listen on the UDP port of WebTransport.
    #[error(
        "cannot listen on UDP port {} of {} for WebTransport: {reason}; {}set another port with `webtransport = {free}` under [server], or turn it off with `webtransport = false`",
        address.port(), address.ip(),
        explain_listen_error(&ListenAddress::Tcp(*address), reason),
        free = another_port(address.port())
    )]
    ListenUdp {
        /// The address as configured.
        address: SocketAddr,
        /// The system's error.
        reason: io::Error,
    },
    /// The system refuses something that the gateway needs.
    #[error("cannot {what}: {reason}")]
    System {
        /// What was being done, as in "catch SIGTERM".
        what: &'static str,
        /// The system's error.
        reason: io::Error,
    },
}

/// The errors with their causes, one per line.
fn lines(errors: &[StartError]) -> String {
    let lines = errors.iter().map(|error| Chain(error).to_string());
    lines.collect::<Vec<_>>().join("\n")
}

impl StartError {
    /// `Err` with all errors, and their places in the config file, if there are any.
    pub(super) fn any(errors: Vec<StartError>, config: &Config) -> Result<(), StartError> {
        let errors = errors.into_iter().flat_map(StartError::into_errors);
        // As many as of mistakes in the text; the place of each takes a pass over the file.
        let errors = errors.take(MAX_MISTAKES);
        let errors: Vec<_> = errors.map(|error| error.located(config)).collect();
        match errors.is_empty() {
            true => Ok(()),
            false => Err(StartError::Multiple(errors)),
        }
    }

    /// The error with its place in the config file, if it is about something there.
    fn located(self, config: &Config) -> StartError {
        let nth;
        let path: &[&str] = match &self {
            StartError::Source { stream, .. } => &["streams", stream, "source"],
            StartError::Transport(error) => match error.transport() {
                Some(name) => &["transports", name],
                None => &["transports"],
            },
            StartError::Policy(_) => &["policy"],
            StartError::Client { nth: of, .. } | StartError::ClientPolicy { nth: of, .. } => {
                nth = of.saturating_sub(1).to_string();
                &["clients", &nth]
            }
            StartError::Tls(_) => &["server", "tls"],
            _ => &[],
        };
        match config.place(path) {
            Some(place) => StartError::At {
                place,
                error: self.into(),
            },
            None => self,
        }
    }

    /// Whether the error stays true whatever else is corrected in the config. An unknown name, for example, may be
    /// defined in a part that could not be read.
    pub fn is_independent(&self) -> bool {
        if let StartError::At { error, .. } = self {
            return error.is_independent();
        }
        let misses = matches!(self, StartError::Client { .. });
        let no_plugin = TransportError::is_not_built_in;
        !misses && !matches!(self, StartError::Transport(error) if no_plugin(error))
    }

    /// The single errors.
    pub fn into_errors(self) -> Vec<StartError> {
        match self {
            StartError::Multiple(errors) => errors,
            error => vec![error],
        }
    }
}

/// A port for an example, different from this one.
fn another_port(port: u16) -> u16 {
    if port == 8081 { 8082 } else { 8081 }
}

/// An address for an example, different from this one.
fn another_address(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(tcp) => another_port(tcp.port()).to_string(),
        ListenAddress::Unix(_) => "unix:PATH".into(),
    }
}

/// Explains an error of the system to the user, as the beginning of a sentence.
fn explain_listen_error(address: &ListenAddress, reason: &io::Error) -> &'static str {
    let is_unix = matches!(address, ListenAddress::Unix(_));
    match reason.kind() {
        io::ErrorKind::AddrInUse => "another program is using it; ",
        io::ErrorKind::PermissionDenied if is_unix => {
            "the gateway must be permitted to write into its directory; "
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need root or CAP_NET_BIND_SERVICE; ",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; ",
        io::ErrorKind::NotFound if is_unix => "create its directory; ",
        _ => "",
    }
}
