//! The gateway as a whole: start, supervision and the order of shutdown.
//!
//! [`Gateway::prepare`] does everything that can fail without a socket, so `check` reports the same mistakes as
//! `serve`. [`run`] then listens, serves requests with the function it is given (`api::respond`), and every 500 ms
//! looks for idle parts and measures rates. At SIGTERM it first announces the shutdown to all parts, then waits for all
//! of them at once, at most 8 s (`docs/decisions/0038-shutdown-order.md`). `main` calls it; requests get the
//! [`Gateway`].

pub mod built_in;

mod announce;
mod arguments;
mod changes;
mod devices;
mod error;
pub mod jwks;
mod listening;
mod reload;
mod shared;
mod streams;
mod threads;
mod watched_files;

pub use shared::{JsonList, SharedList};

pub use arguments::CommandLine;
pub use changes::{ChangeError, Changing};
pub use error::StartError;
pub use reload::{Changed, Loaded, ReloadError, Reloaded};
pub use streams::{ONLY_ADMINISTRATORS, StreamChangeError, StreamEntry};

use crate::session::{PolicyHandle, Sessions};
use bytes::Bytes;
use devices::Devices;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use parking_lot::{Mutex, RwLock};
use sluicegate_accounts::Accounts;
use sluicegate_capture::Captures;
use sluicegate_config as config;
use sluicegate_config::{Config, ListenAddress, Secret};
use sluicegate_net as net;
use sluicegate_net::auth::Peer;
use sluicegate_net::quic::{self, Certificates};
use sluicegate_net::webtransport::SessionRequest;
use sluicegate_net::{BoxError, ConnectionLimiter, Drain, Guards, Passed, Tls};
use sluicegate_plugin::{
    Engine,
    muxer::Muxers,
    policy::Policy,
    transports::{Table, Transport, Transports},
};
use sluicegate_source::Fleet;
use sluicegate_stream::{Stream, StreamLease, Streams};
use sluicegate_telemetry::{Events, LogOnce, contain};
use sluicegate_viewer as viewer;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use threads::Threads;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout_at,
};

/// Longest time from the signal to the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);
/// How often idle streams are looked for and rates are measured.
const TIDY_INTERVAL: Duration = Duration::from_millis(500);
/// Number of discovered devices for which file descriptors are reserved while discovery is on.
const RESERVED_DEVICES: usize = 32;
/// Largest number of sources that are tried at the same time.
pub const MAX_TRIALS: usize = 4;
/// Shortest time over which a rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// The state that requests are answered from.
#[derive(Debug)]
pub struct Gateway {
    /// The config in force; see [`Gateway::config`].
    config: RwLock<Arc<Config>>,
    /// The config as it was loaded.
    loaded: Mutex<Loaded>,
    engine: Arc<Engine>,
    /// Streams by name.
    pub streams: Streams,
    /// Streams that were removed, and of which something is still counted.
    removed: Mutex<BTreeSet<String>>,
    /// Leases that keep the sources of streams with `always-on` running, by the names of the streams.
    always_on: Mutex<BTreeMap<String, StreamLease>>,
    /// Attached Android devices.
    pub fleet: Arc<Fleet>,
    /// The thread that follows them.
    following: Mutex<Option<Devices>>,
    /// Transports by name.
    pub transports: Arc<Transports>,
    /// Running muxers.
    pub muxers: Arc<Muxers>,
    /// Sessions of players, and the policy.
    pub sessions: Arc<Sessions>,
    /// Connected viewers and their counters.
    pub viewers: Arc<viewer::Registry>,
    /// Captures: workers and clients.
    pub captures: Arc<Captures>,
    /// Ring of events behind `/api/events`.
    pub events: Arc<Events>,
    /// Shared list of `/api/devices`.
    pub devices: SharedList,
    /// Kinds of refused requests that were logged already.
    pub refusals: LogOnce,
    /// Users, sign-ins, tokens, links and tickets.
    pub accounts: Accounts,
    /// Ends what runs for clients that may no longer have it.
    pub guards: Guards,
    /// The turn of changes of components.
    pub changing: Changing,
    /// Permits to try a source, one for each that is being tried.
    pub trials: Arc<Semaphore>,
    /// WebTransport; `None` if the config turns it off, or there is no TCP port.
    pub webtransport: Option<WebTransport>,
    tls: Option<Arc<Tls>>,
    draining: watch::Sender<bool>,
    /// Rates to viewers by stream.
    rates: Mutex<BTreeMap<String, Rate>>,
}

/// WebTransport of the gateway.
#[derive(Debug)]
pub struct WebTransport {
    /// UDP port; `None` if it is that of the pages.
    pub port: Option<u16>,
    /// Its certificates.
    pub certificates: Arc<Certificates>,
}

/// Rate at which a stream is sent to its viewers, and the count of bytes at the last measurement.
#[derive(Clone, Copy, Debug)]
struct Rate {
    at: Instant,
    bytes: u64,
    bits_per_second: u64,
}

impl Gateway {
    /// Does everything that can fail without opening a socket: parses sources, reads or makes the certificate, loads
    /// and opens components, and checks rules. `compiling` is told how many components have to be compiled first, which
    /// takes seconds.
    ///
    /// # Errors
    /// All mistakes that were found.
    pub fn prepare(
        loaded: Loaded,
        passed: Option<Vec<ListenAddress>>,
        compiling: impl FnOnce(usize),
    ) -> Result<Gateway, StartError> {
        let mut mistakes = Vec::new();
        let mut config = loaded.newest.clone();
        if let Some(addresses) = passed {
            config.server.listen = addresses;
        }
        let events = Arc::<Events>::default();
        let accounts = Accounts::open(&config, config.state_file());
        let accounts = accounts.map_err(|error| mistakes.push(error.into())).ok();
        let stored = accounts.as_ref().map(Accounts::streams);
        for note in reload::complete(&mut config, stored.unwrap_or_default()) {
            tracing::warn!("{note}");
        }
        let fleet = Fleet::new(&config.android);
        let streams = Streams::default();
        match streams::sources(&config, &fleet) {
            Ok(sources) => {
                fleet.expect(&sources.serials);
                for (name, (source, settings)) in sources.all {
                    streams.get_or_add(name, || Stream::new(name, source, settings, &events));
                }
            }
            Err(wrong) => mistakes.extend(wrong),
        }
        let tls = config.server.tls.as_ref();
        let tls = tls.map(|tls| Tls::open(tls, &config.server).map(Arc::new));
        let tls = tls.transpose().unwrap_or_else(|error| {
            mistakes.push(error.into());
            None
        });
        let certificates = listening::own_port(&config.server).map(|port| {
            Certificates::new(tls.as_ref()).map(|certificates| WebTransport {
                port,
                certificates: Arc::new(certificates),
            })
        });
        let webtransport = certificates.transpose().unwrap_or_else(|error| {
            mistakes.push(error.into());
            None
        });
        let engine = Engine::new()?;
        compiling(uncompiled(&engine, &config));
        let transports = Transports::load(&engine, built_in::TRANSPORTS, &config.transports);
        let mut names = Transports::names(built_in::TRANSPORTS, &config.transports);
        names.sort();
        let policy = Policy::load(&engine, built_in::POLICIES, config.policy.as_ref(), &names);
        if let (Ok(transports), Ok(policy)) = (&transports, &policy) {
            mistakes.extend(check_clients(&config, &transports.all(), policy));
        }
        let transports = transports.map_err(|wrong| {
            mistakes.extend(wrong.into_iter().map(StartError::from));
        });
        let policy = policy.map_err(|wrong| mistakes.push(wrong.into()));
        StartError::any(mistakes, &config)?;
        // Without mistakes, all of them are there.
        let (Some(accounts), Ok(transports), Ok(policy)) = (accounts, transports, policy) else {
            return Err(StartError::Multiple(Vec::new()));
        };
        let transports = Arc::new(transports);
        let timeout = config.policy.as_ref().map(|policy| policy.start_timeout);
        let move_timeout = timeout.unwrap_or(config::Policy::START_TIMEOUT).duration();
        let policy_actor = PolicyHandle::start(policy).map_err(|reason| StartError::System {
            what: "start the policy's thread",
            reason,
        })?;
        Ok(Gateway {
            engine,
            streams,
            removed: Mutex::default(),
            always_on: Mutex::default(),
            fleet,
            following: Mutex::default(),
            sessions: Sessions::new(policy_actor, move_timeout, &transports, &events),
            muxers: Muxers::new(&transports, &events),
            transports,
            viewers: viewer::Registry::new(&events),
            captures: Captures::new(&config.capture, &events),
            config: RwLock::new(Arc::new(config)),
            loaded: Mutex::new(loaded),
            events,
            devices: SharedList::default(),
            refusals: LogOnce::default(),
            guards: Guards::new(accounts.clone()),
            accounts,
            changing: Changing::default(),
            trials: Arc::new(Semaphore::new(MAX_TRIALS)),
            webtransport,
            tls,
            draining: watch::Sender::new(false),
            rates: Mutex::default(),
        })
    }

    /// The config in force. After listening, `server.listen` has the ports that the system chose. A reload puts another
    /// one in its place.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().clone()
    }

    /// The password of the user `admin`, who is created if other machines can connect, not everybody may watch, and
    /// nobody could sign in.
    fn first_password(&self) -> Result<Option<Secret>, StartError> {
        let server = &self.config().server;
        match server.open || !server.is_reachable() {
            true => Ok(None),
            false => Ok(self.accounts.create_first_admin()?),
        }
    }

    /// A receiver that resolves when the gateway shuts down.
    pub fn drain(&self) -> Drain {
        Drain::new(&self.draining)
    }

    /// Whether the gateway is shutting down.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Bits per second that a stream's viewers are sent.
    pub fn bits_out(&self, stream: &str) -> u64 {
        let rates = self.rates.lock();
        rates.get(stream).map_or(0, |rate| rate.bits_per_second)
    }

    /// Removes idle sessions, captures and sources, and measures rates. Runs every [`TIDY_INTERVAL`].
    fn tidy(&self) {
        let now = Instant::now();
        self.sessions.tidy(now);
        self.captures.tidy(now);
        self.transports.tidy(now);
        let (mut out, mut watched) = (BTreeMap::<String, u64>::new(), BTreeSet::new());
        for (key, totals) in self.viewers.totals() {
            if totals.viewers > 0 {
                watched.insert(key.stream.clone());
            }
            *out.entry(key.stream).or_default() += totals.bytes;
        }
        self.forget_removed(&watched);
        let mut rates = self.rates.lock();
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
            if passed >= RATE_WINDOW {
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

/// Number of components that were not compiled yet.
fn uncompiled(engine: &Engine, config: &Config) -> usize {
    let policy = config.policy.as_ref().map(|policy| policy.plugin.as_str());
    let policy = policy.or(built_in::POLICIES.names().next()).into_iter();
    let policy = policy.map(|name| match built_in::POLICIES.find(name) {
        Some(bytes) => engine.has_compiled(bytes),
        None => engine.has_compiled_file(Path::new(name)),
    });
    let transports = Transports::names(built_in::TRANSPORTS, &config.transports);
    let transports = transports.iter().map(|name| {
        let file = config
            .transports
            .get(name)
            .and_then(|of| of.plugin.as_deref());
        match (file, built_in::TRANSPORTS.find(name)) {
            (Some(file), _) => engine.has_compiled_file(Path::new(file)),
            (None, bytes) => bytes.is_none_or(|bytes| engine.has_compiled(bytes)),
        }
    });
    policy
        .chain(transports)
        .filter(|is_compiled| !is_compiled)
        .count()
}

fn warn_of_notes(transport: &Transport) {
    for note in transport.notes() {
        tracing::warn!("{note}");
    }
}

/// Names of the transports, and of those that the config has and that were removed meanwhile: rules may name them.
fn known_transports(config: &Config, transports: &Table) -> Vec<String> {
    let mut names = Transports::names(built_in::TRANSPORTS, &config.transports);
    let added = transports.keys().filter(|name| !names.contains(name));
    let added: Vec<String> = added.cloned().collect();
    names.extend(added);
    names.sort();
    names
}

/// Checks that the rules name existing streams, transports and renditions, and that the policy accepts their options.
/// Names of streams are not checked while devices may be discovered.
fn check_clients(config: &Config, transports: &Table, policy: &Policy) -> Vec<StartError> {
    let is_discovering = config.android.as_ref();
    let is_discovering = is_discovering.is_some_and(|android| android.discover);
    let names = known_transports(config, transports);
    let mut mistakes = Vec::new();
    for (index, client) in config.clients.iter().enumerate() {
        let nth = index + 1;
        let mut refuse = |reason| mistakes.push(StartError::Client { nth, reason });
        let known = |kind, name: &String, known: &mut dyn Iterator<Item = &String>| {
            let known: Vec<&String> = known.collect();
            match known.contains(&name) {
                true => Ok(()),
                false => Err(config::unknown(kind, name, known.into_iter())),
            }
        };
        let wanted = client.r#match.stream.as_ref();
        if let Some(stream) = wanted
            && !is_discovering
            && let Err(reason) = known("stream", stream, &mut config.streams.keys())
        {
            refuse(reason);
        }
        for name in client.transport.iter().flatten() {
            if let Err(reason) = known("transport", name, &mut names.iter()) {
                refuse(reason);
            }
        }
        let matched = config.streams.iter();
        let matched = matched.filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
        let renditions = matched.flat_map(|(_, stream)| stream.renditions.keys());
        let renditions: Vec<&String> = renditions.collect();
        for name in client.rendition.iter().flatten() {
            if !name.is_empty()
                && let Err(reason) = known("rendition", name, &mut renditions.iter().copied())
            {
                refuse(reason);
            }
        }
        if client.policy.is_some() {
            let options = policy.options_with(client.policy.as_ref());
            let place = format!("item {nth} of [[clients]]: `policy`");
            let checked = policy.check_options(&place, &options, &names);
            let refused = |reason| StartError::ClientPolicy { nth, reason };
            mistakes.extend(checked.err().map(refused));
        }
    }
    mistakes
}

/// Serves each request with `answer`, and each WebTransport session with `connect`, until SIGTERM, SIGINT, or SIGHUP in
/// a terminal; a second SIGTERM or SIGINT ends the process at once. `passed` are the sockets that another process
/// passed.
///
/// # Errors
/// The gateway cannot be prepared or cannot listen, or accepting connections failed later.
pub async fn run<A, F, B, C, S>(
    command_line: CommandLine,
    mut passed: Passed,
    answer: A,
    connect: C,
) -> Result<(), StartError>
where
    A: Fn(Arc<Gateway>, Peer, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    C: Fn(Arc<Gateway>, Peer, SessionRequest) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let loaded = Loaded::load(command_line)?;
    let (listeners, addresses) = listening::take_passed(&mut passed)?;
    let mut gateway = Gateway::prepare(loaded, addresses, |count| match count {
        0 => {}
        1 => tracing::info!("compiling 1 component for this machine, once"),
        count => tracing::info!("compiling {count} components for this machine, once"),
    })?;
    let sockets = listening::open(
        &mut Arc::make_mut(gateway.config.get_mut()).server,
        gateway.webtransport.as_ref(),
        listeners,
        &mut passed,
    )?;
    let first_password = gateway.first_password()?;
    let config = gateway.config();
    let system = |what| move |reason| StartError::System { what, reason };
    let gateway = Arc::new(gateway);
    let mut terminate = signal(SignalKind::terminate()).map_err(system("catch SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("catch SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system("catch SIGHUP"))?;
    // In a terminal, SIGHUP means that it was closed, and can no longer be asked; a service is told to reload by it.
    let is_in_terminal =
        io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
    devices::follow(&gateway).map_err(system("start the thread for devices"))?;
    gateway.hold_always_on();
    let scheme = match &gateway.tls {
        Some(tls) => {
            tracing::info!("certificate in use: SHA-256 {}", tls.fingerprint());
            tokio::spawn(tls.clone().watch());
            "https"
        }
        None => "http",
    };
    for transport in gateway.transports.all().values() {
        warn_of_notes(transport);
    }
    let _accounts = gateway
        .accounts
        .watch()
        .map_err(system("start the thread for accounts"))?;
    tokio::spawn(gateway.guards.clone().watch());
    tokio::spawn(jwks::follow(gateway.accounts.clone()));
    announce::announce(scheme, &config.server);
    if config.shows_nothing() {
        tracing::warn!(
            "there is no stream yet: add one on the page /streams, name a source on the command line, or write [streams.NAME] \
             with source = \"test-pattern\" into the config"
        );
    }
    if let Some(password) = first_password {
        announce::admit_admin(&password, config.file.as_deref());
    }
    tokio::spawn(watched_files::watch(gateway.clone()));
    let mut server = tokio::spawn({
        let found = if gateway.fleet.is_discovering() {
            RESERVED_DEVICES
        } else {
            0
        };
        let streams = gateway.streams.names().len() + found;
        let limiter = ConnectionLimiter::new(&config.server, streams);
        // Each has a task of its own.
        let (mut accepting, mut sessions) = (JoinSet::new(), JoinSet::new());
        for (quic, port) in sockets.udp {
            let page = quic::Page {
                port,
                tls: gateway.tls.is_some(),
            };
            let (served, drain, connect) = (gateway.clone(), gateway.drain(), connect.clone());
            let limiter = limiter.clone();
            let serve = quic::serve(quic, limiter, page, drain, move |peer, request| {
                connect(served.clone(), peer, request)
            });
            sessions.spawn(serve);
        }
        for listener in sockets.listeners {
            let (served, tls, drain) = (gateway.clone(), gateway.tls.clone(), gateway.drain());
            let (limiter, answer) = (limiter.clone(), answer.clone());
            let serve = net::serve(listener, limiter, tls, drain, move |peer, request| {
                answer(served.clone(), peer, request)
            });
            accepting.spawn(serve);
        }
        async move {
            while let Some(ended) = accepting.join_next().await {
                if ended.is_err() {
                    return;
                }
            }
            while sessions.join_next().await.is_some() {}
        }
    });
    let mut tick = tokio::time::interval(TIDY_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if let Err(panicked) = contain(|| gateway.tidy()) {
                    tracing::error!("removing idle sessions and sources {panicked}");
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if is_in_terminal {
                    break;
                }
                let reloading = gateway.clone();
                // The result is logged.
                tokio::spawn(async move { reloading.reload("SIGHUP").await.map(drop) });
            }
            // The server ends only after the shutdown began, so this is a failure.
            _ = &mut server => {
                let reason = std::io::Error::other("the task that accepts them ended; the log says why");
                return Err(StartError::System { what: "accept further connections", reason });
            }
        }
    }
    tracing::info!("shutting down; a second signal ends the process at once");
    let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
    // First, so that no new muxer starts after the running ones were asked to end.
    gateway.draining.send_replace(true);
    gateway.muxers.shut_down("the gateway is shutting down");
    gateway.captures.shut_down();
    gateway.always_on.lock().clear();
    // All are asked to end before any is waited for, and connections and threads are waited for at the same time.
    let threads = Threads::default();
    if let Some(devices) = gateway.following.lock().take() {
        threads.add("Android devices", devices.stop());
    }
    for stream in gateway.streams.list() {
        threads.add(&stream.name, stream.shut_down());
    }
    let ended = async {
        if timeout_at(deadline.into(), server).await.is_err() {
            tracing::warn!("some connections did not end in time and are closed");
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
