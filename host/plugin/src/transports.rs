//! The transports of this gateway: those in the binary, and those that the config replaces or adds.
//!
//! Each is loaded once and opened once with its options, which validates the options and gives its profile; muxers then
//! open instances of their own. Called at start, by `check` and on reload.

use super::{Embed, Engine, Instance, Limits, LoadError, OpenError, Plugin, Profile, Usages};
use sluicegate_config as config;
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use thiserror::Error;

/// Built-in components, as name and bytes.
const BUILT_IN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/plugins.rs"));

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
    /// `trusted` of its config: its pages may run scripts in the gateway's origin.
    pub trusted: bool,
    /// Profile that `open` returned with these options.
    pub profile: Profile,
    /// Calls and time of all its instances.
    pub usage: Usages,
}

impl Transport {
    /// Its name for people.
    pub fn label(&self) -> &str {
        match self.profile.label.as_str() {
            "" => &self.name,
            label => label,
        }
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

/// Names of the transports whose entry can be used as `embed`, the built-in ones first.
pub fn that_embed(transports: &BTreeMap<String, Arc<Transport>>, embed: Embed) -> Vec<String> {
    let mut found: Vec<&Arc<Transport>> = transports
        .values()
        .filter(|transport| transport.profile.embeds.contains(&embed))
        .collect();
    found.sort_by_key(|transport| !transport.built_in);
    found
        .into_iter()
        .map(|transport| transport.name.clone())
        .collect()
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
    /// The config names no component, and no built-in one has that name.
    #[error(
        "[transports.{name}] has no `plugin`, and no transport of that name is built in; built in are: {built_in}"
    )]
    NotBuiltIn {
        /// Name of the transport.
        name: String,
        /// Names of the built-in transports, separated by commas.
        built_in: String,
    },
    /// The component cannot be opened with its options.
    #[error("[transports.{name}]: {reason}")]
    Open {
        /// Name of the transport.
        name: String,
        /// Cause.
        reason: OpenError,
    },
}

impl TransportError {
    /// Whether the cause is a `[transports.NAME]` without `plugin` for a name that is not built in.
    pub fn is_not_built_in(&self) -> bool {
        matches!(self, TransportError::NotBuiltIn { .. })
    }
}

/// Names of the built-in transports.
pub fn built_in<'a>() -> impl Iterator<Item = &'a str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// Loads every built-in and configured transport, and opens each once with its options.
///
/// # Errors
/// One error for each transport that cannot be used.
pub fn load(
    engine: &Engine,
    config: &BTreeMap<String, config::Transport>,
) -> Result<BTreeMap<String, Arc<Transport>>, Vec<TransportError>> {
    let mut transports = BTreeMap::new();
    let mut failures = Vec::new();
    let added = config.keys().map(String::as_str);
    let added = added.filter(|name| !built_in().any(|built_in| built_in == *name));
    for name in built_in().chain(added) {
        match load_one(engine, name, config.get(name)) {
            Ok(transport) => {
                transports.insert(name.to_owned(), transport);
            }
            Err(failure) => failures.push(failure),
        }
    }
    match failures.is_empty() {
        true => Ok(transports),
        false => Err(failures),
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

fn load_one(
    engine: &Engine,
    name: &str,
    config: Option<&config::Transport>,
) -> Result<Arc<Transport>, TransportError> {
    let limits = config.map_or_else(Limits::default, |config| limits(&config.limits));
    let file = config.and_then(|config| config.plugin.as_deref());
    let bytes = BUILT_IN
        .iter()
        .find(|(built_in, _)| *built_in == name)
        .map(|(_, bytes)| *bytes);
    let plugin = match (file, bytes) {
        (Some(path), _) => engine.load_file(Path::new(path), limits),
        (None, Some(bytes)) => engine.load(name, bytes, limits),
        (None, None) => {
            return Err(TransportError::NotBuiltIn {
                name: name.to_owned(),
                built_in: built_in().collect::<Vec<_>>().join(", "),
            });
        }
    };
    let plugin = plugin.map_err(|reason| TransportError::Load {
        name: name.to_owned(),
        reason,
    })?;
    let options = config.map_or_else(|| "{}".to_owned(), |config| config.options.to_string());
    let usage = Usages::default();
    let (_, profile) =
        Instance::open(&plugin, "(check)", &options, usage.check.clone()).map_err(|reason| {
            TransportError::Open {
                name: name.to_owned(),
                reason,
            }
        })?;
    Ok(Arc::new(Transport {
        name: name.to_owned(),
        plugin,
        options,
        built_in: file.is_none(),
        trusted: config.is_some_and(|config| config.trusted),
        profile,
        usage,
    }))
}
