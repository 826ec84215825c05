//! The transports of this gateway: those in the binary, and those that the config replaces or adds.
//!
//! Each is loaded once and opened once with its options, which validates the options and gives its profile; muxers then
//! open instances of their own. [`Transports`] is the table of them by name. It can change while the gateway runs:
//! [`Transports::load_again`] reads a component's file again, and the muxers put it in force; transports can be added
//! and removed. Made at start and by `check`; which components the binary contains is up to its builder.

use super::{
    BrowserError, BrowserModule, BuiltIn, Embed, Engine, Instance, Limits, LoadError, OpenError,
    Plugin, Profile, Usages, muxer::SwapState,
};
use parking_lot::{Mutex, RwLock};
use sluicegate_config as config;
use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use thiserror::Error;

/// Most transports. Each keeps a file descriptor and memory for its code.
const MAX_TRANSPORTS: usize = 64;
/// How long a component that was replaced may be put back.
const ROLL_BACK_TIMEOUT: Duration = Duration::from_secs(600);

/// A loaded transport.
#[derive(Debug)]
pub struct Transport {
    /// Name in paths: `/live/{stream}/{name}`.
    pub name: String,
    /// The component.
    pub plugin: Arc<Plugin>,
    /// Options, as JSON for `open`.
    pub options: String,
    /// Whether the component is built into the binary.
    pub built_in: bool,
    /// `trusted` of its config: its pages, and its half in the browser, may run scripts in the gateway's origin.
    pub trusted: bool,
    /// Advice about an option that may be a misspelled key of the gateway, although the component accepts it.
    misspelled: Option<String>,
    /// Its half that runs in the browser, if it has one.
    pub browser: Option<BrowserModule>,
    /// Profile that `open` returned with these options.
    pub profile: Profile,
    /// Calls and time of all its instances, also of those of components that had its name before.
    pub usage: Arc<Usages>,
    /// What its file was when it was read, if it has one.
    file: Option<FileSignature>,
    /// Why it failed before it was in use: then it is not taken into use.
    pub(super) failure: OnceLock<String>,
}

/// What tells that a file has changed without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSignature {
    inode: u64,
    size: u64,
    /// Times of modification and of the change of metadata, which nobody can set back.
    times: [(i64, i64); 2],
}

impl FileSignature {
    /// Of the file at `path`; `None` if it cannot be looked at.
    pub fn of(path: &Path) -> Option<FileSignature> {
        let found = std::fs::metadata(path).ok()?;
        Some(FileSignature {
            inode: found.ino(),
            size: found.size(),
            times: [
                (found.mtime(), found.mtime_nsec()),
                (found.ctime(), found.ctime_nsec()),
            ],
        })
    }

    /// Of a file of that size that was written then, in seconds.
    #[doc(hidden)]
    pub fn for_tests(written: i64, size: u64) -> FileSignature {
        FileSignature {
            inode: 1,
            size,
            times: [(written, 0); 2],
        }
    }
}

/// A component's file that is to be reloaded when it changes.
#[derive(Debug)]
pub struct WatchedFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it was when it was read last, whether or not that component was taken into use.
    pub read: Option<FileSignature>,
}

impl Transport {
    /// Its name for people.
    pub fn label(&self) -> &str {
        match self.profile.label.as_str() {
            "" => &self.name,
            label => label,
        }
    }

    /// What to tell the user about it: the parts of its profile that this host ignores, unless it comes with the host,
    /// and an option that may be a misspelled key.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let name = &self.name;
        let ignored = self.profile.ignored.join(", ");
        let ignored = (!ignored.is_empty() && !self.built_in).then(|| {
            format!(
                "the profile of [transports.{name}] has values that this gateway ignores: {ignored}"
            )
        });
        let misspelled = self.misspelled.as_ref().map(|advice| {
            format!("the component of [transports.{name}] got an unusual option: {advice}")
        });
        ignored.into_iter().chain(misspelled)
    }

    /// Path of its entry below the stream: `hls/index.m3u8`.
    pub fn entry(&self) -> String {
        let name = config::path_segment(&self.name);
        if self.profile.entry.is_empty() {
            return name;
        }
        let segments = self.profile.entry.split('/').map(config::path_segment);
        segments.fold(name, |path, segment| format!("{path}/{segment}"))
    }
}

/// The transports of a gateway by name.
#[derive(Debug)]
pub struct Transports {
    engine: Arc<Engine>,
    built_in: BuiltIn,
    config: RwLock<BTreeMap<String, config::Transport>>,
    table: RwLock<Arc<Table>>,
    /// What the transports in the table took the place of, and how the newest exchange of each went.
    swaps: Mutex<BTreeMap<String, Swap>>,
}

/// The newest exchange of one transport.
#[derive(Debug, Default)]
struct Swap {
    /// What was in use before, and until when it may be put back.
    previous: Option<(Arc<Transport>, Instant)>,
    state: Option<SwapState>,
    /// What the file was when it was read for it.
    read: Option<FileSignature>,
}

/// Transports by name.
pub type Table = BTreeMap<String, Arc<Transport>>;

impl Transports {
    /// Loads every built-in and configured transport, and opens each once with its options.
    ///
    /// # Errors
    /// One error for each transport that cannot be used.
    pub fn load(
        engine: &Arc<Engine>,
        built_in: BuiltIn,
        config: &BTreeMap<String, config::Transport>,
    ) -> Result<Transports, Vec<TransportError>> {
        let mut table = Table::new();
        let mut failures = Vec::new();
        for name in Transports::names(built_in, config) {
            match load(engine, built_in, &name, config.get(&name), Arc::default()) {
                Ok(transport) => {
                    table.insert(name, Arc::new(transport));
                }
                Err(failure) => failures.push(failure),
            }
        }
        if !failures.is_empty() {
            return Err(failures);
        }
        Ok(Transports {
            engine: engine.clone(),
            built_in,
            config: RwLock::new(config.clone()),
            table: RwLock::new(Arc::new(table)),
            swaps: Mutex::default(),
        })
    }

    /// Names of the built-in and the configured transports, whether or not they can be used.
    pub fn names(built_in: BuiltIn, config: &BTreeMap<String, config::Transport>) -> Vec<String> {
        let added = config.keys();
        let added = added.filter(|name| built_in.find(name).is_none());
        let all = built_in.names().map(str::to_owned);
        all.chain(added.cloned()).collect()
    }

    /// A snapshot of the table.
    pub fn all(&self) -> Arc<Table> {
        self.table.read().clone()
    }

    /// The transport that has this name now.
    pub fn get(&self, name: &str) -> Option<Arc<Transport>> {
        self.table.read().get(name).cloned()
    }

    /// Names of the transports whose entry can be used as `embed`, the built-in ones first.
    pub fn names_that_embed(&self, embed: Embed) -> Vec<String> {
        let table = self.all();
        let mut found: Vec<&Arc<Transport>> = table
            .values()
            .filter(|transport| transport.profile.embeds.contains(&embed))
            .collect();
        found.sort_by_key(|transport| !transport.built_in);
        found
            .into_iter()
            .map(|transport| transport.name.clone())
            .collect()
    }

    /// Loads the component of the transport `name` again; `None` if nothing about it has changed. The table stays as it
    /// is: see [`super::muxer::Muxers::swap`]. Blocks; compiling may take seconds.
    ///
    /// # Errors
    /// The component cannot be used.
    pub fn load_again(&self, name: &str) -> Result<Option<Arc<Transport>>, TransportError> {
        let current = self.get(name);
        let usage = current.as_ref().map(|current| current.usage.clone());
        let settings = self.config.read().get(name).cloned();
        let file = settings.as_ref().and_then(|of| of.plugin.as_deref());
        let read = file.and_then(|file| FileSignature::of(Path::new(file)));
        self.swaps.lock().entry(name.to_owned()).or_default().read = read;
        let loaded = load(
            &self.engine,
            self.built_in,
            name,
            settings.as_ref(),
            usage.unwrap_or_default(),
        )?;
        let is_same = current.is_some_and(|current| current.plugin.hash == loaded.plugin.hash);
        Ok((!is_same).then(|| Arc::new(loaded)))
    }

    /// Loads the transport `name` with other settings, or with those of the built-in one; the table stays as it is.
    /// Blocks; compiling may take seconds.
    ///
    /// # Errors
    /// The component cannot be used.
    pub fn load_with(
        &self,
        name: &str,
        settings: Option<&config::Transport>,
    ) -> Result<Arc<Transport>, TransportError> {
        let current = self.get(name);
        let usage = current.map(|current| current.usage.clone());
        let loaded = load(
            &self.engine,
            self.built_in,
            name,
            settings,
            usage.unwrap_or_default(),
        )?;
        Ok(Arc::new(loaded))
    }

    /// Sets what the config says of the transport `name`, for when its component is read again.
    pub fn set_config(&self, name: &str, settings: Option<config::Transport>) {
        let mut config = self.config.write();
        match settings {
            Some(settings) => config.insert(name.to_owned(), settings),
            None => config.remove(name),
        };
    }

    /// Whether the binary contains a transport of that name.
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.find(name).is_some()
    }

    /// Files of the components that are to be reloaded when they change, by the names of their transports.
    pub fn watched(&self) -> BTreeMap<String, WatchedFile> {
        let (config, table, swaps) = (self.config.read(), self.all(), self.swaps.lock());
        let watched = config.iter().filter(|(_, transport)| transport.watch);
        watched
            .filter_map(|(name, transport)| {
                let path = transport.plugin.clone()?;
                let read = swaps.get(name).and_then(|swap| swap.read);
                let read = read.or_else(|| table.get(name)?.file);
                Some((name.clone(), WatchedFile { path, read }))
            })
            .collect()
    }

    /// Loads a transport and adds it to the table. Blocks; compiling may take seconds.
    ///
    /// # Errors
    /// The component cannot be used.
    pub fn add(
        &self,
        name: &str,
        settings: config::Transport,
    ) -> Result<Arc<Transport>, TransportError> {
        if self.get(name).is_some() {
            return Err(TransportError::Taken {
                name: name.to_owned(),
            });
        }
        if self.table.read().len() >= MAX_TRANSPORTS {
            return Err(TransportError::TooMany);
        }
        let loaded = self.load_with(name, Some(&settings))?;
        self.set_config(name, Some(settings));
        self.put(loaded.clone(), None);
        Ok(loaded)
    }

    /// Puts a transport that was loaded, and whose name is new, into the table.
    pub fn insert(&self, loaded: Arc<Transport>) {
        self.put(loaded, None);
    }

    /// Removes a transport from the table. Its muxers go on.
    pub(super) fn remove(&self, name: &str) {
        self.config.write().remove(name);
        self.swaps.lock().remove(name);
        Arc::make_mut(&mut self.table.write()).remove(name);
    }

    /// Puts a transport into the table, in the place of `previous` if that may have to be put back.
    pub(super) fn put(&self, transport: Arc<Transport>, previous: Option<Arc<Transport>>) {
        let name = transport.name.clone();
        let until = Instant::now() + ROLL_BACK_TIMEOUT;
        let previous = previous.map(|previous| (previous, until));
        self.swaps.lock().entry(name.clone()).or_default().previous = previous;
        Arc::make_mut(&mut self.table.write()).insert(name, transport);
    }

    /// What `transport` took the place of, if it is in the table and may be put back.
    pub(super) fn previous(&self, transport: &Arc<Transport>) -> Option<Arc<Transport>> {
        let current = self.get(&transport.name)?;
        if !Arc::ptr_eq(&current, transport) {
            return None;
        }
        let mut swaps = self.swaps.lock();
        let previous = &mut swaps.get_mut(&transport.name)?.previous;
        let _ = previous.take_if(|(_, until)| *until < Instant::now());
        previous.as_ref().map(|(previous, _)| previous.clone())
    }

    /// Lets go of components that are too old to be put back.
    pub fn tidy(&self, now: Instant) {
        for swap in self.swaps.lock().values_mut() {
            let _ = swap.previous.take_if(|(_, until)| *until < now);
        }
    }

    /// How the newest exchange of the transport `name` went; `None` if there was none.
    pub fn swap_state(&self, name: &str) -> Option<SwapState> {
        self.swaps.lock().get(name)?.state.clone()
    }

    /// Records how an exchange goes; returns whether that is new.
    pub(super) fn set_swap_state(&self, name: &str, state: &SwapState) -> bool {
        let mut swaps = self.swaps.lock();
        let known = &mut swaps.entry(name.to_owned()).or_default().state;
        let is_new = known.as_ref() != Some(state);
        *known = Some(state.clone());
        is_new
    }
}

/// Reason why a transport cannot be used.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The component cannot be loaded.
    #[error("[transports.{name}]: {reason}")]
    Load {
        /// Name of the transport.
        name: String,
        /// Cause.
        reason: LoadError,
    },
    /// A transport that was to be added has the name of another one.
    #[error("there is a transport `{name}` already; reload or remove it instead")]
    Taken {
        /// The name.
        name: String,
    },
    /// There are as many transports as possible.
    #[error("there are {MAX_TRANSPORTS} transports, the most that are possible; remove one first")]
    TooMany,
    /// The config names no component, and no built-in one has that name.
    #[error(
        "[transports.{name}] has no `plugin`, and no transport of that name is built in; built in are: {built_in}{hint}"
    )]
    NotBuiltIn {
        /// Name of the transport.
        name: String,
        /// Advice about a key that may be misspelled, after a semicolon; or nothing.
        hint: String,
        /// Names of the built-in transports, separated by commas.
        built_in: String,
    },
    /// The component cannot be opened with its options.
    #[error("[transports.{name}]: {reason}{hint}")]
    Open {
        /// Name of the transport.
        name: String,
        /// Advice about a key that may be misspelled, after a semicolon; or nothing.
        hint: String,
        /// Cause.
        reason: Box<OpenError>,
    },
    /// The half of the component that runs in the browser cannot be used.
    #[error("[transports.{name}]: {reason}")]
    Browser {
        /// Name of the transport.
        name: String,
        /// Cause.
        reason: BrowserError,
    },
}

impl TransportError {
    /// Name of the transport that it is about.
    pub fn transport(&self) -> Option<&str> {
        match self {
            TransportError::Load { name, .. }
            | TransportError::Taken { name }
            | TransportError::NotBuiltIn { name, .. }
            | TransportError::Open { name, .. }
            | TransportError::Browser { name, .. } => Some(name),
            TransportError::TooMany => None,
        }
    }

    /// Whether the cause is a `[transports.NAME]` without `plugin` for a name that is not built in.
    pub fn is_not_built_in(&self) -> bool {
        matches!(self, TransportError::NotBuiltIn { .. })
    }
}

/// Limits from the config.
pub(super) fn limits(config: &config::Limits) -> Limits {
    Limits {
        memory: usize::try_from(config.memory.bytes()).unwrap_or(usize::MAX),
        call: config.call.duration().max(Duration::from_millis(1)),
        ..Limits::default()
    }
}

/// Loads one transport, and opens it once with its options.
fn load(
    engine: &Engine,
    built_in: BuiltIn,
    name: &str,
    config: Option<&config::Transport>,
    usage: Arc<Usages>,
) -> Result<Transport, TransportError> {
    let limits = config.map_or_else(Limits::default, |config| limits(&config.limits));
    let hint = || {
        let advice = config.and_then(config::Transport::misspelled);
        advice.map_or_else(String::new, |advice| format!("; {advice}"))
    };
    let file = config.and_then(|config| config.plugin.as_deref());
    // Before it is read: a change in between is found later.
    let signature = file.and_then(|file| FileSignature::of(Path::new(file)));
    let plugin = match (file, built_in.find(name)) {
        (Some(path), _) => engine.load_file(Path::new(path), limits),
        (None, Some(bytes)) => engine.load(name, bytes, limits),
        (None, None) => {
            return Err(TransportError::NotBuiltIn {
                name: name.to_owned(),
                hint: hint(),
                built_in: built_in.list(),
            });
        }
    };
    let plugin = plugin.map_err(|reason| TransportError::Load {
        name: name.to_owned(),
        reason,
    })?;
    let options = config.map_or_else(|| "{}".to_owned(), |config| config.options.to_string());
    let (_, profile) =
        Instance::open(&plugin, "(check)", &options, usage.check.clone()).map_err(|reason| {
            TransportError::Open {
                name: name.to_owned(),
                hint: hint(),
                reason: reason.into(),
            }
        })?;
    let browser = BrowserModule::of(&plugin, usage.check.clone()).map_err(|reason| {
        TransportError::Browser {
            name: name.to_owned(),
            reason,
        }
    })?;
    Ok(Transport {
        name: name.to_owned(),
        plugin,
        options,
        built_in: file.is_none(),
        trusted: config.is_some_and(|config| config.trusted),
        misspelled: config.and_then(config::Transport::misspelled),
        browser,
        profile,
        usage,
        file: signature,
        failure: OnceLock::new(),
    })
}
