//! The streams of the gateway while it runs: those of the config, those that were added by the API, and those of
//! discovered devices. A reload adds, changes and removes them; what it does not concern notices nothing.

use super::{Changed, Gateway, ReloadError, StartError};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use sluicegate_accounts::ChangeError;
use sluicegate_config::{self as config, Config};
use sluicegate_source::{ConfiguredSource, Fleet, Presence, Source, Spec};
use sluicegate_stream::Stream;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use thiserror::Error;

/// Why viewers of a stream that was removed are disconnected.
const REMOVED: &str = "the stream was removed";
/// How long a change waits for the sources of removed streams, so that others may use the same devices and ports.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it looks whether they have ended.
const END_POLL: Duration = Duration::from_millis(5);

/// A stream and where it is kept.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "StreamEntry")]
pub struct StreamEntry {
    /// Name of the stream.
    pub name: String,
    /// "config" if the config file or the command line names it, "state" if it was added while the gateway ran, or
    /// "device" if it is a discovered Android device. Only those in "state" can be changed and removed here.
    pub kept: &'static str,
    /// The source, without user names, passwords and other secrets.
    pub source: String,
    /// Keys as under `[streams.NAME]`, without `source`.
    pub settings: Value,
}

/// Why a stream is not added, changed or removed by the API. `Display` says what to do.
#[derive(Debug, Error)]
pub enum StreamChangeError {
    /// The name or a key is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The source is of a kind that only the config can have.
    #[error("{0}")]
    NotPermitted(String),
    /// There is no such stream.
    #[error("{0}")]
    NotFound(String),
    /// There is one already, and it was to be new.
    #[error("there is a stream `{0}` already; change that one, or choose another name")]
    Exists(String),
    /// The stream is not one of those that the API adds.
    #[error("{0}")]
    Elsewhere(String),
    /// It cannot be stored.
    #[error(transparent)]
    Store(#[from] ChangeError),
    /// It cannot be put in force.
    #[error(transparent)]
    Reload(#[from] ReloadError),
}

/// The sources of all streams of a config.
pub(super) struct Sources<'a> {
    /// With their settings, by the names of the streams.
    pub all: BTreeMap<&'a str, (Arc<dyn Source>, &'a config::Stream)>,
    /// Serials of the Android devices among them.
    pub serials: BTreeSet<String>,
}

/// The sources of all streams of the config.
///
/// # Errors
/// An error for each source that is not valid.
pub(super) fn sources<'a>(
    config: &'a Config,
    fleet: &Arc<Fleet>,
) -> Result<Sources<'a>, Vec<StartError>> {
    let (mut specs, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (name, settings) in &config.streams {
        match Spec::parse(settings.source.expose(), &config.dir) {
            Ok(spec) => {
                specs.insert(name.as_str(), (spec, settings));
            }
            Err(reason) => mistakes.push(StartError::Source {
                stream: name.clone(),
                reason,
            }),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let serials = specs.values().filter_map(|(spec, _)| match spec {
        Spec::Android(serial) => Some(serial.clone()),
        _ => None,
    });
    let serials = serials.collect();
    let source = |spec| -> Arc<dyn Source> { Arc::new(ConfiguredSource::new(spec, fleet)) };
    let specs = specs.into_iter();
    let all = specs.map(|(name, (spec, settings))| (name, (source(spec), settings)));
    let all = all.collect();
    Ok(Sources { all, serials })
}

impl Gateway {
    /// All streams with where they are kept, by name; also those of the state file that are not in force.
    pub fn stream_entries(&self) -> Vec<StreamEntry> {
        let newest = self.loaded.lock().newest.clone();
        let mut written = newest.stream_keys();
        let mut stored = self.accounts.streams();
        let streams = self.streams.list();
        let in_force = streams.iter().map(|stream| {
            let written = written.remove(&stream.name);
            let stored = stored.remove(&stream.name);
            let (kept, settings) = match (written, stored) {
                (Some(keys), _) => ("config", keys),
                (None, Some(keys)) => ("state", keys),
                (None, None) => ("device", Value::Object(Map::new())),
            };
            entry(&stream.name, kept, stream.source().to_string(), settings)
        });
        let mut entries: Vec<StreamEntry> = in_force.collect();
        let unused = stored.into_iter();
        entries.extend(unused.map(|(name, keys)| stored_entry(&name, keys)));
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        entries
    }

    /// Adds a stream to those of the state file, or gives one of them other settings, with keys as under
    /// `[streams.NAME]`. Devices are for `administrators` of the gateway. Returns the stream, and whether it is new.
    ///
    /// # Errors
    /// A key is not valid, the stream is not in the state file, or the change cannot be made; nothing has changed then.
    pub async fn put_stream(
        self: &Arc<Gateway>,
        name: &str,
        mut keys: Map<String, Value>,
        must_be_new: bool,
        administers: bool,
    ) -> Result<(StreamEntry, bool), StreamChangeError> {
        let what = format!("a request changes the stream `{name}`");
        let _turn = self.changing.wait(what).await;
        let before = self.accounts.streams();
        let known = before.get(name);
        if self.loaded.lock().newest.streams.contains_key(name) {
            return Err(in_config(name));
        }
        if self.streams.get(name).is_some() && known.is_none() {
            return Err(is_device(name));
        }
        if must_be_new && known.is_some() {
            return Err(StreamChangeError::Exists(name.to_owned()));
        }
        if !keys.contains_key(SOURCE)
            && let Some(source) = known.and_then(|known| known.get(SOURCE))
        {
            keys.insert(SOURCE.into(), source.clone());
        }
        let keys = Value::Object(keys);
        let settings =
            config::Stream::from_json(name, &keys).map_err(StreamChangeError::Invalid)?;
        let spec = Spec::parse(settings.source.expose(), &self.config().dir);
        let spec = spec.map_err(|reason| StreamChangeError::Invalid(reason.to_string()))?;
        spec.allowed_remotely()
            .map_err(|reason| StreamChangeError::NotPermitted(reason.to_string()))?;
        if spec.is_device() && !administers {
            return Err(StreamChangeError::NotPermitted(ONLY_ADMINISTRATORS.into()));
        }
        let mut after = before.clone();
        after.insert(name.to_owned(), keys.clone());
        self.put_stored_in_force(after).await?;
        if let Err(reason) = self.accounts.put_stream(name.to_owned(), keys).await {
            // What is in force is what is stored.
            self.put_stored_in_force(before).await?;
            return Err(reason.into());
        }
        let is_new = known.is_none();
        let what = if is_new { "added" } else { "changed" };
        tracing::info!(stream = name, "the stream was {what} over the API");
        Ok((self.entry_of(name)?, is_new))
    }

    /// Removes a stream from those of the state file. Returns what it was.
    ///
    /// # Errors
    /// The stream is not in the state file, or the change cannot be made; nothing has changed then.
    pub async fn delete_stream(
        self: &Arc<Gateway>,
        name: &str,
    ) -> Result<StreamEntry, StreamChangeError> {
        let what = format!("a request removes the stream `{name}`");
        let _turn = self.changing.wait(what).await;
        let before = self.accounts.streams();
        let Some(keys) = before.get(name) else {
            return Err(match self.streams.get(name) {
                Some(_) if self.loaded.lock().newest.streams.contains_key(name) => in_config(name),
                Some(_) => is_device(name),
                None => {
                    let text = config::unknown("stream", name, before.keys());
                    StreamChangeError::NotFound(text)
                }
            });
        };
        let removed = stored_entry(name, keys.clone());
        let mut after = before.clone();
        after.remove(name);
        self.put_stored_in_force(after).await?;
        if let Err(reason) = self.accounts.remove_stream(name.to_owned()).await {
            self.put_stored_in_force(before).await?;
            return Err(reason.into());
        }
        tracing::info!(stream = name, "the stream was removed over the API");
        Ok(removed)
    }

    fn entry_of(&self, name: &str) -> Result<StreamEntry, ReloadError> {
        let mut entries = self.stream_entries().into_iter();
        let entry = entries.find(|entry| entry.name == name);
        entry.ok_or(ReloadError::Internal)
    }

    /// Makes the streams those of `new`, where they differ from those of `old`. Blocks until the sources of removed
    /// streams have ended, at most 2 s.
    pub(super) fn change_streams(
        &self,
        old: &Config,
        new: &Config,
        sources: Sources<'_>,
    ) -> Changed {
        let mut changed = Changed::default();
        let mut ending = Vec::new();
        // Those that no stream names any more are released at the end, when they may become streams of their own.
        self.fleet.expect_also(&sources.serials);
        let serials = sources.serials.clone();
        for name in old.streams.keys() {
            if !new.streams.contains_key(name)
                && let Some(stream) = self.streams.get(name)
            {
                ending.extend(self.remove_stream(&stream));
                changed.removed.push(name.clone());
            }
        }
        let (differing, added): (Vec<_>, Vec<_>) = sources
            .all
            .into_iter()
            .filter(|(name, (_, settings))| old.streams.get(*name) != Some(*settings))
            .partition(|(name, _)| self.streams.get(name).is_some());
        for (name, (source, settings)) in differing {
            if let Some(stream) = self.streams.get(name) {
                self.change_stream(&stream, source, settings);
                changed.changed.push(name.to_owned());
            }
        }
        // A device that was discovered, and that a stream of the config shows now.
        let named: BTreeSet<_> = added
            .iter()
            .filter_map(|(_, (source, _))| source.android_serial())
            .collect();
        for stream in self.streams.list() {
            let source = stream.source();
            let serial = source.android_serial();
            if !new.streams.contains_key(&stream.name)
                && serial.is_some_and(|serial| named.contains(serial))
            {
                ending.extend(self.remove_stream(&stream));
            }
        }
        wait_for(&ending);
        for (name, (source, settings)) in added {
            let serial = source.android_serial().map(str::to_owned);
            let stream = Stream::new(name, source, settings, &self.events);
            self.removed.lock().remove(name);
            self.streams.put(stream.clone());
            if let Some(presence) = serial.and_then(|serial| self.fleet.presence(&serial)) {
                stream.present(&presence);
            }
            changed.added.push(name.to_owned());
        }
        self.fleet.expect(&serials);
        self.hold_always_on();
        changed
    }

    /// Gives a stream other settings. Viewers of a rendition that does not exist any more are disconnected.
    fn change_stream(
        &self,
        stream: &Arc<Stream>,
        source: Arc<dyn Source>,
        settings: &config::Stream,
    ) {
        // First, so that their muxers end for this reason, and not because they find nothing to follow.
        for rendition in stream.renditions() {
            if !settings.renditions.contains_key(&rendition) {
                let reason = "the rendition was removed";
                self.muxers.end_of(&stream.name, Some(&rendition), reason);
            }
        }
        // What was said of an earlier device is not true of this source.
        let presence = source
            .android_serial()
            .map(|serial| self.fleet.presence(serial));
        let presence = presence.map_or(Some(Presence::Ready), |presence| presence);
        stream.change(source, settings);
        if let Some(presence) = presence {
            stream.present(&presence);
        }
    }

    /// Removes a stream with all that uses it. Returns the thread of its source, which may not have ended yet.
    fn remove_stream(&self, stream: &Arc<Stream>) -> Option<JoinHandle<()>> {
        let name = &stream.name;
        self.streams.remove(name);
        self.always_on.lock().remove(name);
        let thread = stream.remove();
        self.muxers.end_of(name, None, REMOVED);
        self.sessions.end_of(stream);
        self.captures.forget(name, REMOVED);
        self.removed.lock().insert(name.clone());
        thread
    }

    /// Removes a discovered stream and everything kept for it; false if it is in use.
    pub(super) fn forget(&self, stream: &Arc<Stream>) -> bool {
        if !stream.is_inactive() || self.captures.clients(&stream.name) > 0 {
            return false;
        }
        self.remove_stream(stream);
        self.forget_counts(&stream.name);
        tracing::info!(
            "the stream {} was removed to make room for other Android devices",
            stream.name
        );
        true
    }

    /// Forgets what was counted for streams that were removed, once nobody in `watched` is left.
    pub(super) fn forget_removed(&self, watched: &BTreeSet<String>) {
        let removed = self.removed.lock();
        let gone: Vec<String> = removed.difference(watched).cloned().collect();
        drop(removed);
        for name in gone {
            self.forget_counts(&name);
        }
    }

    /// Forgets what was counted for a stream that was removed.
    fn forget_counts(&self, name: &str) {
        self.removed.lock().remove(name);
        self.viewers.forget(name);
        for transport in self.transports.all().values() {
            transport.usage.forget(name);
        }
        self.rates.lock().remove(name);
    }

    /// Keeps the sources of streams with `always-on` running, and no others.
    pub(super) fn hold_always_on(&self) {
        let mut held = self.always_on.lock();
        for stream in self.streams.list() {
            match stream.always_on() && !self.is_draining() {
                true if !held.contains_key(&stream.name) => {
                    held.insert(stream.name.clone(), stream.enter());
                }
                true => {}
                false => {
                    held.remove(&stream.name);
                }
            }
        }
    }
}

/// The key of a stream's settings that may have secrets.
const SOURCE: &str = "source";

/// Why somebody may not use a device.
pub const ONLY_ADMINISTRATORS: &str = "cameras of the gateway's machine and Android devices are for administrators of the gateway, since other streams may show them, too";

fn in_config(name: &str) -> StreamChangeError {
    StreamChangeError::Elsewhere(format!(
        "the stream `{name}` is in the config, so it is changed there; then reload the config"
    ))
}

fn is_device(name: &str) -> StreamChangeError {
    StreamChangeError::Elsewhere(format!(
        "`{name}` is a discovered Android device; choose another name"
    ))
}

fn entry(name: &str, kept: &'static str, source: String, mut settings: Value) -> StreamEntry {
    if let Some(keys) = settings.as_object_mut() {
        keys.remove(SOURCE);
    }
    StreamEntry {
        name: name.to_owned(),
        kept,
        source,
        settings,
    }
}

/// A stream as it is in the state file.
fn stored_entry(name: &str, keys: Value) -> StreamEntry {
    let source = keys.get(SOURCE).and_then(Value::as_str).unwrap_or_default();
    // `Display` hides secrets.
    let source = config::Source::from(source).to_string();
    entry(name, "state", source, keys)
}

/// Waits until these threads have ended, at most [`END_TIMEOUT`].
fn wait_for(threads: &[JoinHandle<()>]) {
    let deadline = Instant::now() + END_TIMEOUT;
    while Instant::now() < deadline && threads.iter().any(|thread| !thread.is_finished()) {
        thread::sleep(END_POLL);
    }
}
