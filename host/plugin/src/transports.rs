//! The transports of this gateway: built in, replaced or added by the config.

use super::{Embed, Engine, Instance, Limits, LoadError, OpenError, Plugin, Profile, Usages};
use sluicegate_config as config;
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use thiserror::Error;

/// The components in the binary, by name.
const BUILT_IN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/plugins.rs"));

/// A transport by its name in paths.
#[derive(Debug)]
pub struct Transport {
    /// As in `/live/{stream}/{name}`.
    pub name: String,
    /// The component.
    pub plugin: Arc<Plugin>,
    /// JSON for `open`.
    pub options: String,
    /// Whether the component is in the binary.
    pub built_in: bool,
    /// As `trusted` of its config: its pages may run script.
    pub trusted: bool,
    /// As its `open` said with these options.
    pub profile: Profile,
    /// Calls of all its instances.
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

/// Why a transport cannot be used.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The component cannot be loaded.
    #[error("[transports.{name}]: {reason}")]
    Load {
        /// Of the transport.
        name: String,
        /// Why.
        reason: LoadError,
    },
    /// Nothing of that name is built in.
    #[error(
        "[transports.{name}] has no `plugin`, and no transport of that name is built in; built in are: {built_in}"
    )]
    NotBuiltIn {
        /// Of the transport.
        name: String,
        /// Names.
        built_in: String,
    },
    /// It does not open.
    #[error("[transports.{name}]: {reason}")]
    Open {
        /// Of the transport.
        name: String,
        /// Why.
        reason: OpenError,
    },
}

impl TransportError {
    /// Whether it says that a plugin is not named.
    pub fn is_not_built_in(&self) -> bool {
        matches!(self, TransportError::NotBuiltIn { .. })
    }
}

/// The names of the built-in transports.
pub fn built_in<'a>() -> impl Iterator<Item = &'a str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// Loads every transport and lets each judge its options.
///
/// # Errors
/// What is wrong with each that cannot be used.
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

/// As configured.
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
