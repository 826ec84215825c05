//! Puts another config in force while the gateway runs: the same file read again, or the same config with other streams
//! in the state file.
//!
//! A reload first does everything that can fail, and changes nothing until all of it has succeeded. It then changes
//! what differs: viewers of everything else notice nothing. What takes effect at start only keeps its value and is
//! told. One reload at a time, in turn with other changes ([`Changing`](super::Changing)), on a blocking thread, since
//! components may have to be compiled and compared.

use super::{
    CommandLine, Gateway, StartError, announce, built_in, check_clients, devices, streams,
    warn_of_notes,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sluicegate_config::{self as config, Config, machine};
use sluicegate_plugin::{
    policy::Policy,
    transports::{FileSignature, Table, Transport},
};
use sluicegate_source::Spec;
use sluicegate_telemetry::{Chain, contain, events::About};
use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};
use thiserror::Error;
use tokio::task::spawn_blocking;

/// The config as it comes from the file and the command line.
#[derive(Debug)]
pub struct Loaded {
    command_line: CommandLine,
    /// As of the start.
    first: Config,
    /// As of the newest reload.
    pub(super) newest: Config,
    /// What the file was when it was read last, whether or not that was put in force.
    pub(super) read: Option<FileSignature>,
}

impl Loaded {
    /// Loads the config as the command line says.
    ///
    /// # Errors
    /// It cannot be read, or has mistakes.
    pub fn load(command_line: CommandLine) -> Result<Loaded, StartError> {
        // Before it is read: if it changes meanwhile, it is read again.
        let read = command_line.signature();
        let config = command_line.load()?;
        Ok(Loaded {
            read,
            command_line,
            first: config.clone(),
            newest: config,
        })
    }

    /// This config, as if loaded from its file.
    pub fn from_file(config: Config) -> Loaded {
        Loaded {
            read: None,
            command_line: CommandLine {
                config: config.file.clone(),
                ..CommandLine::default()
            },
            first: config.clone(),
            newest: config,
        }
    }
}

/// Names of what a reload has added, changed and removed, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Changed {
    /// What is new.
    pub added: Vec<String>,
    /// What has other settings.
    pub changed: Vec<String>,
    /// What does not exist any more.
    pub removed: Vec<String>,
}

impl Changed {
    fn describe(&self, what: &str) -> Vec<String> {
        let kinds = [
            ("added", &self.added),
            ("changed", &self.changed),
            ("removed", &self.removed),
        ];
        let kinds = kinds.iter().filter(|(_, names)| !names.is_empty());
        kinds
            .map(|(kind, names)| format!("{what} {kind}: {}", shortened(names)))
            .collect()
    }
}

/// The first of many names, for a message.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).map(String::as_str);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What a reload has changed.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Reloaded {
    /// Streams with other settings. Viewers of removed ones were disconnected.
    pub streams: Changed,
    /// Transports with another component or other options.
    pub transports: Changed,
    /// Whether the policy or its options have changed.
    pub policy: bool,
    /// Whether the rules for clients have changed.
    pub clients: bool,
    /// Whether users, groups or other keys about access have changed.
    pub access: bool,
    /// Keys under `[server]` that have changed and took effect.
    pub server: Vec<String>,
    /// What has changed in the file and takes effect only when the gateway is restarted.
    pub needs_restart: Vec<String>,
    /// What else the administrator should know.
    pub notes: Vec<String>,
}

impl Reloaded {
    /// In words, for the log.
    fn describe(&self) -> String {
        let mut parts = self.streams.describe("streams");
        parts.extend(self.transports.describe("transports"));
        let kinds = [
            (self.policy, "the policy"),
            (self.clients, "rules for clients"),
            (self.access, "access"),
        ];
        let kinds = kinds.iter().filter(|(changed, _)| *changed);
        parts.extend(kinds.map(|(_, what)| format!("{what} changed")));
        if !self.server.is_empty() {
            parts.push(format!("[server] changed: {}", self.server.join(", ")));
        }
        if parts.is_empty() {
            parts.push("nothing has changed".into());
        }
        if !self.needs_restart.is_empty() {
            parts.push(format!(
                "to be changed by a restart only: {}",
                self.needs_restart.join(", ")
            ));
        }
        parts.join("; ")
    }
}

/// Why a config is not put in force.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// It has mistakes, or something that it names cannot be used. `Display` has a line for each, with its place.
    #[error("{}", Chain(.0))]
    Mistakes(#[from] StartError),
    /// The gateway runs without a config file.
    #[error("there is no config file to read again: the gateway was started without --config FILE")]
    NoFile,
    /// The file is a pipe, a device or a directory.
    #[error("{} is no regular file", .0.display())]
    NotRegular(PathBuf),
    /// The file is empty, as while it is being written.
    #[error("{} says nothing; to have no streams, write at least [server]", .0.display())]
    Blank(PathBuf),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Draining,
    /// A mistake in the gateway itself.
    #[error("the reload failed by an internal error; the gateway's log tells more")]
    Internal,
}

/// Payload of the event `config`.
#[derive(Serialize)]
struct ConfigEvent<'a> {
    /// Who or what has asked for it.
    by: &'a str,
    result: &'static str,
    #[serde(flatten)]
    reloaded: Option<&'a Reloaded>,
    /// Mistakes, a line each, with their places; empty if there are none.
    error: String,
}

/// Longest text of mistakes in an event, in bytes.
const MAX_EVENT_TEXT: usize = 4 << 10;

/// Adds what is not written in the config: the names of this machine, and the streams of the state file. Returns what
/// the administrator should know about it.
pub(super) fn complete(config: &mut Config, stored: BTreeMap<String, Value>) -> Vec<String> {
    let mut notes = Vec::new();
    if config.server.is_reachable() {
        // Clients on the network may use the machine's own names as `Host`. A page on the web cannot have these names,
        // so they open no way for DNS rebinding.
        config.server.names.extend(machine::names());
    }
    for (name, keys) in stored {
        if config.streams.contains_key(&name) {
            notes.push(format!(
                "the stream `{name}` that was added while the gateway ran is not used, since the config has one of that name"
            ));
            continue;
        }
        let stream = config::Stream::from_json(&name, &keys).and_then(|stream| {
            let spec = Spec::parse(stream.source.expose(), &config.dir);
            spec.map(|_| stream).map_err(|reason| reason.to_string())
        });
        match stream {
            Ok(stream) => {
                config.streams.insert(name, stream);
            }
            Err(reason) => notes.push(format!(
                "the stream `{name}` that was added while the gateway ran cannot be used: {reason}"
            )),
        }
    }
    notes
}

impl Gateway {
    /// Reads the config file again and puts it in force. `by` says who or what asks for it. The result is also logged
    /// and published.
    ///
    /// # Errors
    /// It cannot be read, or has mistakes; nothing has changed then.
    pub async fn reload(self: &Arc<Gateway>, by: &str) -> Result<Reloaded, ReloadError> {
        let _turn = self.changing.wait(format!("{by} reloads the config")).await;
        let gateway = self.clone();
        let reloaded = self.off_thread(move || {
            let command_line = gateway.loaded.lock().command_line.clone();
            // Before it is read: if it changes meanwhile, it is read again.
            let read = command_line.signature();
            gateway.loaded.lock().read = read;
            let Some(file) = &command_line.config else {
                return Err(ReloadError::NoFile);
            };
            // Opening a pipe waits for somebody who writes to it.
            if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
                return Err(ReloadError::NotRegular(file.clone()));
            }
            let config = command_line.load()?;
            if config.is_blank() {
                return Err(ReloadError::Blank(file.clone()));
            }
            gateway.put_in_force(config, gateway.accounts.streams())
        });
        let reloaded = reloaded.await;
        match &reloaded {
            Ok(reloaded) => tracing::info!("{by} reloaded the config: {}", reloaded.describe()),
            Err(reason) => {
                tracing::error!("{by} reloads the config: {reason}; nothing was changed")
            }
        }
        let error = reloaded.as_ref().err().map(ToString::to_string);
        let mut error = error.unwrap_or_default();
        error.truncate(error.floor_char_boundary(MAX_EVENT_TEXT));
        let event = ConfigEvent {
            by,
            result: if reloaded.is_ok() {
                "reloaded"
            } else {
                "refused"
            },
            reloaded: reloaded.as_ref().ok(),
            error,
        };
        self.events.publish_about("config", About::Config, &event);
        reloaded
    }

    /// What the config file was when it was read last.
    pub(super) fn config_signature(&self) -> Option<FileSignature> {
        self.loaded.lock().read
    }

    /// Puts the newest config in force again, with these streams of the state file. Whoever calls it has the turn.
    ///
    /// # Errors
    /// The gateway is shutting down, or the config does not go with these streams; nothing has changed then.
    pub(super) async fn put_stored_in_force(
        self: &Arc<Gateway>,
        stored: BTreeMap<String, Value>,
    ) -> Result<Reloaded, ReloadError> {
        let gateway = self.clone();
        let changed = self.off_thread(move || {
            let newest = gateway.loaded.lock().newest.clone();
            gateway.put_in_force(newest, stored)
        });
        changed.await
    }

    /// Makes a change on a thread that may block.
    async fn off_thread(
        &self,
        change: impl FnOnce() -> Result<Reloaded, ReloadError> + Send + 'static,
    ) -> Result<Reloaded, ReloadError> {
        if self.is_draining() {
            return Err(ReloadError::Draining);
        }
        match spawn_blocking(move || contain(change)).await {
            Ok(Ok(changed)) => changed,
            Ok(Err(panicked)) => {
                tracing::error!("reloading the config {panicked}");
                Err(ReloadError::Internal)
            }
            Err(_) => Err(ReloadError::Internal),
        }
    }

    /// Puts a config in force, as it comes from the file, with these streams of the state file. Blocks; compiling and
    /// comparing components may take seconds.
    fn put_in_force(
        self: &Arc<Gateway>,
        loaded: Config,
        stored: BTreeMap<String, Value>,
    ) -> Result<Reloaded, ReloadError> {
        let old = self.config();
        let mut new = loaded.clone();
        let needs_restart = keep(&mut new, &old, &self.loaded.lock().first);
        let mut notes = complete(&mut new, stored);
        let mut mistakes = Vec::new();
        let transports = self.other_transports(&old, &new, &mut mistakes);
        let table = transports.table(&self.transports.all());
        let names: Vec<String> = table.keys().cloned().collect();
        let policy = (old.policy != new.policy).then(|| {
            Policy::load(
                &self.engine,
                built_in::POLICIES,
                new.policy.as_ref(),
                &names,
            )
        });
        let policy = policy
            .transpose()
            .unwrap_or_else(|wrong| {
                mistakes.push(wrong.into());
                None
            })
            .map(Arc::new);
        if mistakes.is_empty() {
            let current = self.sessions.policy_actor().policy();
            let policy = policy.as_ref().unwrap_or(&current);
            mistakes.extend(check_clients(&new, &table, policy));
        }
        let settings = self.accounts.read(&new);
        let settings = settings.map_err(|wrong| mistakes.push(wrong.into())).ok();
        let sources = streams::sources(&new, &self.fleet);
        let sources = sources.map_err(|wrong| mistakes.extend(wrong)).ok();
        StartError::any(mistakes, &new)?;
        // Without mistakes, both are there.
        let (Some(settings), Some(sources)) = (settings, sources) else {
            return Err(ReloadError::Internal);
        };
        // The last step that can fail; it takes back what it has done.
        let disconnected = transports.exchange(self)?;
        notes.extend(disconnected);
        let reloaded = Reloaded {
            transports: transports.changed(),
            policy: policy.is_some(),
            clients: old.clients != new.clients,
            access: (&old.users, &old.groups, &old.access)
                != (&new.users, &new.groups, &new.access),
            server: other_keys(&old, &new),
            needs_restart,
            ..Reloaded::default()
        };
        transports.finish(self);
        self.accounts.take_over(settings);
        let streams = self.change_streams(&old, &new, sources);
        // After a panic before this, the next reload finds the same differences again.
        *self.config.write() = Arc::new(new.clone());
        if let Some(policy) = policy {
            self.sessions.policy_actor().replace(policy);
            let timeout = new.policy.as_ref().map(|policy| policy.start_timeout);
            let timeout = timeout.unwrap_or(config::Policy::START_TIMEOUT);
            self.sessions.set_move_timeout(timeout.duration());
        }
        if reloaded.policy || reloaded.clients {
            let policy = self.sessions.policy_actor().policy();
            self.sessions.apply_rules(&new.clients, &policy);
        }
        if let Err(reason) = devices::follow(self) {
            notes.push(format!("Android devices are not followed: {reason}"));
        }
        match self.first_password() {
            Ok(None) => {}
            Ok(Some(password)) => announce::admit_admin(&password, new.file.as_deref()),
            Err(error) => notes.push(error.to_string()),
        }
        self.loaded.lock().newest = loaded;
        Ok(Reloaded {
            streams,
            notes,
            ..reloaded
        })
    }

    /// The transports of `new` that differ from those of `old`, loaded.
    fn other_transports(
        &self,
        old: &Config,
        new: &Config,
        mistakes: &mut Vec<StartError>,
    ) -> OtherTransports {
        let mut others = OtherTransports::default();
        let names = old.transports.keys().chain(new.transports.keys());
        for name in names {
            let (before, after) = (old.transports.get(name), new.transports.get(name));
            if before == after || others.settings.contains_key(name) {
                continue;
            }
            others.settings.insert(name.clone(), after.cloned());
            let is_known = self.transports.get(name).is_some();
            if after.is_none() && !self.transports.is_built_in(name) {
                others.removed.extend(is_known.then(|| name.clone()));
                continue;
            }
            // Whether its file is watched is nothing that the component notices.
            let is_watched_only = |before: &config::Transport, after: &config::Transport| {
                let watch = before.watch;
                let after = after.clone();
                *before == config::Transport { watch, ..after }
            };
            if is_known
                && before
                    .zip(after)
                    .is_some_and(|(a, b)| is_watched_only(a, b))
            {
                continue;
            }
            match self.transports.load_with(name, after) {
                Ok(loaded) => {
                    warn_of_notes(&loaded);
                    let all = if is_known {
                        &mut others.changed
                    } else {
                        &mut others.added
                    };
                    all.push(loaded);
                }
                Err(wrong) => mistakes.push(wrong.into()),
            }
        }
        others
    }
}

/// Transports with other settings than before.
#[derive(Default)]
struct OtherTransports {
    added: Vec<Arc<Transport>>,
    changed: Vec<Arc<Transport>>,
    removed: Vec<String>,
    /// What the config says of each of them.
    settings: BTreeMap<String, Option<config::Transport>>,
}

impl OtherTransports {
    /// The table with them.
    fn table(&self, current: &Table) -> Table {
        let mut table = current.clone();
        table.retain(|name, _| !self.removed.contains(name));
        let loaded = self.added.iter().chain(&self.changed);
        table.extend(loaded.map(|loaded| (loaded.name.clone(), loaded.clone())));
        table
    }

    /// Exchanges the components of those that have changed. Viewers stay where the two can be compared; where the new
    /// one takes other samples, they are disconnected, and come back to it. Returns of which that is so.
    ///
    /// # Errors
    /// One does worse than the one in use. All of them are then as before.
    fn exchange(&self, gateway: &Gateway) -> Result<Vec<String>, StartError> {
        let (mut exchanged, mut notes) = (Vec::new(), Vec::new());
        let mut differing = Vec::new();
        for candidate in &self.changed {
            let Some(current) = gateway.transports.get(&candidate.name) else {
                continue;
            };
            if !candidate.profile.differences(&current.profile).is_empty() {
                differing.push(candidate);
                continue;
            }
            match gateway.muxers.swap(candidate, false) {
                Ok(_) => exchanged.push(current),
                Err(reason) => {
                    for previous in exchanged {
                        // What was in use a moment ago is fit for use; viewers stay if it can be compared once more.
                        if gateway.muxers.swap(&previous, false).is_err() {
                            let _ = gateway.muxers.swap(&previous, true);
                        }
                    }
                    return Err(StartError::Refused {
                        name: candidate.name.clone(),
                        component: candidate.plugin.to_string(),
                        reason,
                    });
                }
            }
        }
        // Cannot be refused.
        for candidate in differing {
            if gateway.muxers.swap(candidate, true).is_ok() {
                notes.push(format!(
                    "viewers of the transport `{}`, if it had any, were disconnected, since it takes other samples now",
                    candidate.name
                ));
            }
        }
        Ok(notes)
    }

    /// Adds and removes, and notes the settings.
    fn finish(self, gateway: &Gateway) {
        for name in &self.removed {
            gateway.remove_transport(name);
        }
        for (name, settings) in self.settings {
            gateway.transports.set_config(&name, settings);
        }
        for loaded in self.added {
            gateway.transports.insert(loaded);
        }
    }

    fn changed(&self) -> Changed {
        let names = |all: &[Arc<Transport>]| all.iter().map(|one| one.name.clone()).collect();
        Changed {
            added: names(&self.added),
            changed: names(&self.changed),
            removed: self.removed.clone(),
        }
    }
}

/// Gives `new` the values that are in force of what takes effect at start only. Returns what of it differs from the
/// config at start.
fn keep(new: &mut Config, old: &Config, first: &Config) -> Vec<String> {
    let mut needs_restart = Vec::new();
    let mut differs = |place: &str, differs: bool| {
        if differs {
            needs_restart.push(place.to_owned());
        }
    };
    let (server, at_start, in_force) = (&mut new.server, &first.server, &old.server);
    macro_rules! keep {
        ($($key:ident $name:literal,)*) => {
            $(
                differs(concat!("`", $name, "` in [server]"), server.$key != at_start.$key);
                server.$key.clone_from(&in_force.$key);
            )*
        };
    }
    keep!(
        listen "listen",
        base_path "base-path",
        tls "tls",
        webtransport "webtransport",
        congestion "congestion",
        state "state",
        connections "connections",
        connections_per_address "connections-per-address",
        trusted_proxies "trusted-proxies",
    );
    differs("[android]", new.android != first.android);
    new.android.clone_from(&old.android);
    differs("[capture]", new.capture != first.capture);
    new.capture.clone_from(&old.capture);
    needs_restart
}

/// Keys under `[server]` that differ and take effect at once.
fn other_keys(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (&old.server, &new.server);
    let keys = [
        ("names", old.names != new.names),
        ("origins", old.origins != new.origins),
        ("open", old.open != new.open),
        ("watch", old.watch != new.watch),
    ];
    let keys = keys.iter().filter(|(_, differs)| *differs);
    keys.map(|(key, _)| (*key).to_owned()).collect()
}
