//! The policy: the component that chooses what each session plays.
//!
//! [`Policy`] is the loaded component with its options. [`PolicyInstance`] is an instance of it, with any number of
//! [`PolicySession`]s, as resources of the guest. Which instance decides, on which thread and with which timeout, is up
//! to the gateway (`PolicyActor`). If a call fails, the whole instance must be replaced.

use super::{
    BuiltIn, Engine, Guest, Limits, LoadError, Plugin, Usage,
    bindings::{PolicyPlugin, PolicyPluginPre, policy},
    sandbox::{Failure, Sandbox},
    transports::limits,
};
use sluicegate_config as config;
use std::{path::Path, sync::Arc};
use thiserror::Error;
use wasmtime::component::ResourceAny;

pub use policy::{Candidate, Choice, Client, Event, Report};

/// Longest reason in characters; the rest is cut off.
const MAX_REASON_LEN: usize = 300;

/// The loaded policy.
#[derive(Debug)]
pub struct Policy {
    /// Name of the built-in policy, or from the component's metadata.
    pub name: String,
    /// The component.
    pub plugin: Arc<Plugin<PolicyPluginPre<Guest>>>,
    /// Default options of its sessions, as a JSON object.
    pub options: serde_json::Value,
    /// Whether the component is built into the binary.
    pub built_in: bool,
    /// Calls and time of all its instances.
    pub usage: Arc<Usage>,
}

/// Reason why a policy cannot be used.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The component cannot be loaded.
    #[error("[policy]: {0}")]
    Load(#[from] LoadError),
    /// No built-in policy has the configured name.
    #[error(
        "[policy]: no policy `{name}` is built in; built in are: {built_in}; the path of a file ends in .wasm"
    )]
    NotBuiltIn {
        /// Name from the config.
        name: String,
        /// Names of the built-in policies, separated by commas.
        built_in: String,
    },
    /// The component failed when its options were validated.
    #[error("[policy]: {0}")]
    Failed(#[from] Failure),
    /// The component rejects its options.
    #[error("{place}: {plugin} rejected its options: {message}")]
    Refused {
        /// Where the options are in the config.
        place: String,
        /// Component, as name@version.
        plugin: String,
        /// Message of the component.
        message: String,
    },
}

impl Policy {
    /// Loads the policy that the config names, or else the first built-in one, and validates its options for a gateway
    /// with these transports.
    ///
    /// # Errors
    ///
    /// The component cannot be loaded, fails, or rejects its options.
    pub fn load(
        engine: &Engine,
        built_in: BuiltIn,
        config: Option<&config::Policy>,
        transports: &[String],
    ) -> Result<Policy, PolicyError> {
        let limits = config.map_or_else(Limits::default, |config| limits(&config.limits));
        let default = built_in.names().next().unwrap_or_default();
        let name = config.map_or(default, |config| config.plugin.as_str());
        let bytes = built_in.find(name);
        let plugin = match bytes {
            Some(bytes) => engine.load(name, bytes, limits)?,
            None if name.contains(['.', '/']) => engine.load_file(Path::new(name), limits)?,
            None => {
                return Err(PolicyError::NotBuiltIn {
                    name: name.to_owned(),
                    built_in: built_in.list(),
                });
            }
        };
        let policy = Policy {
            name: bytes.map_or_else(|| plugin.name.clone(), |_| name.to_owned()),
            plugin,
            options: config.map_or_else(
                || serde_json::Value::Object(serde_json::Map::new()),
                |config| config.options.clone(),
            ),
            built_in: bytes.is_some(),
            usage: Arc::<Usage>::default(),
        };
        policy.check_options("[policy]", &policy.options, transports)?;
        Ok(policy)
    }

    /// Validates options for a gateway with these transports; `place` names the options in messages.
    ///
    /// # Errors
    ///
    /// The component fails or rejects the options.
    pub fn check_options(
        &self,
        place: &str,
        options: &serde_json::Value,
        transports: &[String],
    ) -> Result<(), PolicyError> {
        let mut instance = PolicyInstance::new(self)?;
        let validated = instance.validate(&options.to_string(), transports)?;
        validated.map_err(|message| PolicyError::Refused {
            place: place.to_owned(),
            plugin: self.plugin.to_string(),
            message,
        })
    }

    /// Its options, with those in `over` replacing the ones of the same name.
    pub fn options_with(&self, over: Option<&serde_json::Value>) -> serde_json::Value {
        let mut options = self.options.clone();
        if let (Some(options), Some(over)) = (
            options.as_object_mut(),
            over.and_then(serde_json::Value::as_object),
        ) {
            options.extend(over.clone());
        }
        options
    }
}

/// An instance of the policy, with any number of sessions.
pub struct PolicyInstance {
    sandbox: Sandbox,
    guest: PolicyPlugin,
}

impl std::fmt::Debug for PolicyInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PolicyInstance({:?})", self.sandbox)
    }
}

/// A session in a [`PolicyInstance`].
#[derive(Clone, Copy, Debug)]
pub struct PolicySession(ResourceAny);

impl PolicyInstance {
    /// Creates an instance without sessions.
    ///
    /// # Errors
    ///
    /// The component traps or exceeds a limit.
    pub fn new(policy: &Policy) -> Result<PolicyInstance, Failure> {
        let pre = &policy.plugin.pre;
        let usage = policy.usage.clone();
        let (sandbox, guest) =
            Sandbox::new(&policy.plugin, pre.engine(), "(sessions)", usage, |store| {
                pre.instantiate(store)
            })?;
        Ok(PolicyInstance { sandbox, guest })
    }

    /// Validates options (JSON) for a gateway with these transports. The inner error says what is wrong with them.
    ///
    /// # Errors
    ///
    /// As for [`PolicyInstance::open`].
    pub fn validate(
        &mut self,
        options: &str,
        transports: &[String],
    ) -> Result<Result<(), String>, Failure> {
        let guest = self.guest.sluicegate_gateway_policy();
        self.sandbox.call("validate", |store| {
            guest.call_validate(store, options, transports)
        })
    }

    /// Opens a session with `options` (JSON). The inner error says what is wrong with the options.
    ///
    /// # Errors
    ///
    /// The component traps or exceeds a limit; the instance must not be used again.
    pub fn open(
        &mut self,
        client: &Client,
        options: &str,
    ) -> Result<Result<PolicySession, String>, Failure> {
        let guest = self.guest.sluicegate_gateway_policy();
        self.sandbox.call("session.open", |store| {
            let opened = guest.session().call_open(store, client, options)?;
            Ok(opened.map(PolicySession))
        })
    }

    /// Chooses what the session is to play. `at` is in milliseconds on the gateway's monotonic clock, `playing` the
    /// index of the candidate that it plays.
    ///
    /// # Errors
    ///
    /// As for [`PolicyInstance::open`].
    pub fn choose(
        &mut self,
        session: PolicySession,
        at: u64,
        candidates: &[Candidate],
        playing: Option<u32>,
    ) -> Result<Choice, Failure> {
        let guest = self.guest.sluicegate_gateway_policy();
        let choice = self.sandbox.call("session.choose", |store| {
            guest
                .session()
                .call_choose(store, session.0, at, candidates, playing)
        });
        choice.map(sanitize)
    }

    /// Passes an event to the session; returns a choice if the session is to move.
    ///
    /// # Errors
    ///
    /// As for [`PolicyInstance::open`].
    pub fn observe(
        &mut self,
        session: PolicySession,
        at: u64,
        event: &Event,
    ) -> Result<Option<Choice>, Failure> {
        let guest = self.guest.sluicegate_gateway_policy();
        let choice = self.sandbox.call("session.observe", |store| {
            guest.session().call_observe(store, session.0, at, event)
        });
        choice.map(|choice| choice.map(sanitize))
    }

    /// Closes the session.
    ///
    /// # Errors
    ///
    /// As for [`PolicyInstance::open`].
    pub fn close(&mut self, session: PolicySession) -> Result<(), Failure> {
        self.sandbox
            .call("session.drop", |store| session.0.resource_drop(store))
    }
}

/// Cleans the reason of a choice, which is shown to users and logged: one line of bounded length.
fn sanitize(mut choice: Choice) -> Choice {
    choice.reason = choice
        .reason
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_REASON_LEN)
        .collect();
    choice
}
