//! Start, supervision and the order of shutdown.

mod announce;
mod arguments;
mod devices;
mod shared;
mod threads;

pub use shared::Shared;

pub use arguments::add_sources;

use crate::session::{PolicyHandle, Sessions};
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use sluicegate_capture::Captures;
use sluicegate_config as config;
use sluicegate_config::Config;
use sluicegate_net as net;
use sluicegate_net::auth::Peer;
use sluicegate_net::{BoxError, ConnectionLimiter, Drain, Tls, TlsError};
use sluicegate_plugin as plugin;
use sluicegate_plugin::{
    Engine, LoadError,
    muxer::Muxers,
    policy::{Policy, PolicyError},
    transports::{Transport, TransportError},
};
use sluicegate_source::{Fleet, Spec, SpecError};
use sluicegate_stream::{Stream, Streams};
use sluicegate_telemetry::{Chain, Events, Once, contain};
use sluicegate_viewer as viewer;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use thiserror::Error;
use threads::Threads;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout_at,
};

/// From the signal to the end at most.
const DRAIN: Duration = Duration::from_secs(8);
/// How often idle streams are looked for and rates are taken.
const TIDY: Duration = Duration::from_millis(500);
/// Devices that files are kept free for where any may be found.
const MANY_FOUND: usize = 32;
/// Rates are taken over about this long.
const WINDOW: Duration = Duration::from_secs(2);

/// Why the gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A stream's source says nothing.
    #[error("[streams.{stream}]: {reason}")]
    Source {
        /// Its name.
        stream: String,
        /// Why.
        reason: SpecError,
    },
    /// A component does not load.
    #[error(transparent)]
    Engine(#[from] LoadError),
    /// A transport does not open.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The policy does not open.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A rule names something that is not there.
    #[error("item {nth} of [[clients]]: {reason}")]
    Client {
        /// From 1.
        nth: usize,
        /// What, and what there is.
        reason: String,
    },
    /// No certificate.
    #[error("`tls` under [server]: {0}")]
    Tls(#[from] TlsError),
    /// A source on the command line is named as another stream is.
    #[error(
        "there are two streams `{0}`: give the source on the command line another name, as in porch=SOURCE"
    )]
    Twice(String),
    /// A name on the command line that no stream can have.
    #[error("`{name}` {reason}")]
    Name {
        /// As written.
        name: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// Several of these, or one.
    #[error("{}", lines(.0))]
    Several(Vec<StartError>),
    /// No stream to serve.
    #[error(
        "there is no stream: name a source on the command line, or write [streams.NAME] with source = \"test-pattern\" into the config"
    )]
    NoStream,
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {reason}; {}choose another with --listen or `listen` under [server]",
        why_not_listening(reason)
    )]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        reason: std::io::Error,
    },
    /// The system refuses something a gateway needs.
    #[error("cannot {what}: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        reason: std::io::Error,
    },
}

/// One a line.
fn lines(errors: &[StartError]) -> String {
    let lines = errors.iter().map(|error| Chain(error).to_string());
    lines.collect::<Vec<_>>().join("\n")
}

impl StartError {
    /// All of them, if there are any.
    fn any(errors: Vec<StartError>) -> Result<(), StartError> {
        match errors.is_empty() {
            true => Ok(()),
            false => Err(StartError::Several(errors)),
        }
    }

    /// Whether it would be true of the config whatever was put right elsewhere.
    pub fn stands_alone(&self) -> bool {
        let misses = matches!(self, StartError::Client { .. } | StartError::NoStream);
        let no_plugin = TransportError::is_not_built_in;
        !misses && !matches!(self, StartError::Transport(error) if no_plugin(error))
    }

    /// Each by itself.
    pub fn each(self) -> Vec<StartError> {
        match self {
            StartError::Several(errors) => errors,
            error => vec![error],
        }
    }
}

/// Everything that requests are answered from.
#[derive(Debug)]
pub struct Gateway {
    /// As read; once it listens, `server.listen` has the port that the system chose.
    pub config: Config,
    engine: Arc<Engine>,
    /// By name.
    pub streams: Streams,
    /// Which Android devices there are.
    pub fleet: Arc<Fleet>,
    /// By name.
    pub transports: BTreeMap<String, Arc<Transport>>,
    /// The running ones.
    pub muxers: Arc<Muxers>,
    /// Who watches, over all transports, and what they are told to play.
    pub sessions: Arc<Sessions>,
    /// Who watches.
    pub viewers: Arc<viewer::Registry>,
    /// Single pictures.
    pub captures: Arc<Captures>,
    /// What happens, for who follows it.
    pub events: Arc<Events>,
    /// What `/api/devices` answers.
    pub devices: Shared,
    /// Requests that were refused for who sent them, as they were told.
    pub refusals: Once,
    /// Held by who has the policy's component read again: one at a time.
    pub reloading: Arc<tokio::sync::Mutex<()>>,
    tls: Option<Arc<Tls>>,
    draining: watch::Sender<bool>,
    rates: Mutex<BTreeMap<String, Rate>>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    at: Instant,
    bytes: u64,
    bits_per_second: u64,
}

impl Gateway {
    /// Does everything that can fail without opening a socket: sources are parsed, the certificate is read or made,
    /// components are loaded and opened.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn prepare(mut config: Config) -> Result<Gateway, StartError> {
        let mut wrong = Vec::new();
        let events = Arc::<Events>::default();
        let fleet = Fleet::new(&config.android);
        let streams = Streams::default();
        for (name, settings) in &config.streams {
            let source = match Spec::parse(settings.source.expose(), &config.dir) {
                Ok(source) => source,
                Err(reason) => {
                    let stream = name.clone();
                    wrong.push(StartError::Source { stream, reason });
                    continue;
                }
            };
            if let Spec::Android(serial) = &source {
                fleet.expect(serial);
            }
            streams.get_or_add(name, || {
                Stream::new(name, Arc::new(source), settings, &events, &fleet)
            });
        }
        if config.streams.is_empty() && !fleet.is_discovering() {
            wrong.push(StartError::NoStream);
        }
        if !config.server.listen.ip().to_canonical().is_loopback() {
            // Who reaches it from elsewhere may call it by the machine's own names, which no page out on the web can have.
            config.server.names.extend(config::machine::names());
        }
        let tls = config.server.tls.as_ref();
        let tls = tls.map(|tls| Tls::open(tls, &config.server).map(Arc::new));
        let tls = tls.transpose().unwrap_or_else(|error| {
            wrong.push(error.into());
            None
        });
        let engine = Engine::new()?;
        let transports = plugin::transports::load(&engine, &config.transports);
        let policy = Policy::load(&engine, config.policy.as_ref());
        let (transports, policy) = match (transports, policy) {
            (Ok(transports), Ok(policy)) => (transports, policy),
            (transports, policy) => {
                let transports = transports.err().into_iter().flatten();
                wrong.extend(transports.map(StartError::from));
                wrong.extend(policy.err().map(StartError::from));
                return Err(StartError::Several(wrong));
            }
        };
        let is_discovering = fleet.is_discovering();
        // Rules may name streams that are wrong themselves.
        if wrong.is_empty() {
            check_clients(
                &config.clients,
                &streams,
                is_discovering,
                &transports,
                &policy,
            )?;
        }
        StartError::any(wrong)?;
        let timeout = config.policy.as_ref().map(|policy| policy.start_timeout);
        let patience = timeout.unwrap_or(config::Policy::START_TIMEOUT).duration();
        let policy_actor = PolicyHandle::start(policy).map_err(|reason| StartError::System {
            what: "start the policy's thread",
            reason,
        })?;
        Ok(Gateway {
            engine,
            streams,
            fleet,
            sessions: Sessions::new(policy_actor, patience, &transports, &events),
            transports,
            muxers: Muxers::new(&events),
            viewers: viewer::Registry::new(&events),
            captures: Captures::new(&config.capture, &events),
            config,
            events,
            devices: Shared::default(),
            refusals: Once::default(),
            reloading: Arc::default(),
            tls,
            draining: watch::Sender::new(false),
            rates: Mutex::default(),
        })
    }

    /// Reads the policy's component again, as configured; from then on it decides. If it cannot, the one before stays. Compiling
    /// may take seconds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn reload_policy(&self) -> Result<(), StartError> {
        let policy = Policy::load(&self.engine, self.config.policy.as_ref())?;
        let Gateway {
            config,
            streams,
            transports,
            ..
        } = self;
        let is_discovering = self.fleet.is_discovering();
        check_clients(
            &config.clients,
            streams,
            is_discovering,
            transports,
            &policy,
        )?;
        self.sessions.policy_actor().replace(policy);
        Ok(())
    }

    /// Tells when the gateway shuts down.
    pub fn drain(&self) -> Drain {
        Drain::new(&self.draining)
    }

    /// Whether it is shutting down.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// What viewers of a stream get, bits a second.
    pub fn bits_out(&self, stream: &str) -> u64 {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.get(stream).map_or(0, |rate| rate.bits_per_second)
    }

    /// Lets go of a stream and all that is kept for it; false if somebody uses it.
    fn forget(&self, stream: &Stream) -> bool {
        let name = &stream.name;
        if !stream.is_inactive() || self.captures.clients(name) > 0 {
            return false;
        }
        self.streams.remove(name);
        self.captures.forget(name);
        self.viewers.forget(name);
        for transport in self.transports.values() {
            transport.usage.forget(name);
        }
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.remove(name);
        tracing::info!("{name} makes room for other Android devices and is no stream any more");
        true
    }

    fn tidy(&self) {
        let now = Instant::now();
        self.sessions.tidy(now);
        self.captures.tidy(now);
        let mut out: BTreeMap<String, u64> = BTreeMap::new();
        for (way, totals) in self.viewers.totals() {
            *out.entry(way.stream).or_default() += totals.bytes;
        }
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in self.streams.list() {
            stream.tidy(now);
            stream.report();
            let bytes = out.get(&stream.name).copied().unwrap_or(0);
            let rate = rates.entry(stream.name.clone()).or_insert(Rate {
                at: now,
                bytes,
                bits_per_second: 0,
            });
            let passed = now - rate.at;
            if passed >= WINDOW {
                let bits = bytes.saturating_sub(rate.bytes) as f64 * 8.0 / passed.as_secs_f64();
                *rate = Rate {
                    at: now,
                    bytes,
                    bits_per_second: bits as u64,
                };
            }
        }
    }
}

/// Whether the rules name what there is, or what may be found, and the policy takes their options.
fn check_clients(
    clients: &[config::Client],
    streams: &Streams,
    is_discovering: bool,
    transports: &BTreeMap<String, Arc<Transport>>,
    policy: &Policy,
) -> Result<(), StartError> {
    let all = streams.list();
    let mut wrong = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        let nth = index + 1;
        let mut refuse = |reason| wrong.push(StartError::Client { nth, reason });
        let known = |kind, name: &String, known: &mut dyn Iterator<Item = &String>| {
            let known: Vec<&String> = known.collect();
            match known.contains(&name) {
                true => Ok(()),
                false => Err(config::unknown(kind, name, known.into_iter())),
            }
        };
        if let Some(stream) = &client.r#match.stream
            && !is_discovering
            && let Err(reason) = known("stream", stream, &mut streams.names().iter())
        {
            refuse(reason);
        }
        for name in client.transport.iter().flatten() {
            if let Err(reason) = known("transport", name, &mut transports.keys()) {
                refuse(reason);
            }
        }
        let meant = |stream: &&Arc<Stream>| {
            let wanted = client.r#match.stream.as_ref();
            wanted.is_none_or(|wanted| *wanted == stream.name)
        };
        for name in client.rendition.iter().flatten() {
            let there = all.iter().filter(meant);
            let mut there = there.flat_map(|stream| stream.renditions());
            if !name.is_empty()
                && let Err(reason) = known("rendition", name, &mut there)
            {
                refuse(reason);
            }
        }
        if client.policy.is_some() {
            let options = policy.options_with(client.policy.as_ref());
            let judged =
                policy.check_options(&format!("item {nth} of [[clients]]: `policy`"), &options);
            wrong.extend(judged.err().map(StartError::from));
        }
    }
    StartError::any(wrong)
}

/// What the system's reason means to a user.
fn why_not_listening(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => "another program is using it; ",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for root, or for who has CAP_NET_BIND_SERVICE; "
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; ",
        _ => "",
    }
}

/// Serves until SIGTERM, SIGINT or SIGHUP (its terminal was closed), each request by `answer`; a second signal ends the process at once.
pub async fn run<A, F, B>(config: Config, answer: A) -> Result<(), StartError>
where
    A: Fn(Arc<Gateway>, Peer, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let mut gateway = Gateway::prepare(config)?;
    let address = gateway.config.server.listen;
    let listener = net::listen(address).map_err(|reason| StartError::Listen { address, reason })?;
    let system = |what| move |reason| StartError::System { what, reason };
    let local = listener
        .local_addr()
        .map_err(system("read the address listened on"))?;
    gateway.config.server.listen = local;
    let gateway = Arc::new(gateway);
    let mut terminate = signal(SignalKind::terminate()).map_err(system("catch SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("catch SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system("catch SIGHUP"))?;
    let devices = devices::follow(&gateway).map_err(system("start the thread for devices"))?;
    // Kept so that streams that are always on have a user.
    let always_on: Vec<_> = gateway
        .streams
        .list()
        .iter()
        .filter(|stream| stream.always_on())
        .map(Stream::enter)
        .collect();
    let scheme = match &gateway.tls {
        Some(tls) => {
            tracing::info!("certificate in use: SHA-256 {}", tls.fingerprint());
            tokio::spawn(tls.clone().watch());
            "https"
        }
        None => "http",
    };
    announce::announce(scheme, local);
    let mut server = tokio::spawn({
        let found = if gateway.fleet.is_discovering() {
            MANY_FOUND
        } else {
            0
        };
        let streams = gateway.streams.names().len() + found;
        let limiter = ConnectionLimiter::new(&gateway.config.server, streams);
        let (served, tls, drain) = (gateway.clone(), gateway.tls.clone(), gateway.drain());
        net::serve(listener, limiter, tls, drain, move |peer, request| {
            answer(served.clone(), peer, request)
        })
    });
    let mut tick = tokio::time::interval(TIDY);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if let Err(panicked) = contain(|| gateway.tidy()) {
                    tracing::error!("looking for what is idle {panicked}");
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => break,
            // It ends at the word of the drain only.
            _ = &mut server => {
                let reason = std::io::Error::other("the task that accepts them ended; the log says why");
                return Err(StartError::System { what: "go on accepting connections", reason });
            }
        }
    }
    tracing::info!("shutting down; a second signal ends at once");
    let deadline = Instant::now() + DRAIN;
    // First, so that no muxer starts behind the ones that are told to end.
    gateway.draining.send_replace(true);
    gateway.muxers.shut_down("the gateway is shutting down");
    gateway.captures.shut_down();
    drop(always_on);
    // All are told before any is waited for, and connections and threads are waited for at the same time.
    let threads = Threads::default();
    if let Some(devices) = devices {
        threads.add("Android devices", devices.stop());
    }
    for stream in gateway.streams.list() {
        threads.add(&stream.name, stream.shut_down());
    }
    let ended = async {
        if timeout_at(deadline.into(), server).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
        }
    };
    let ended = async { tokio::join!(ended, threads.join(deadline)) };
    tokio::select! {
        _ = ended => {}
        _ = terminate.recv() => exit_at_once(),
        _ = interrupt.recv() => exit_at_once(),
    }
    Ok(())
}

fn exit_at_once() {
    std::process::exit(143);
}
