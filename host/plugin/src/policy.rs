//! The policy: one component, in one instance, for all sessions.

use super::{
    Engine, Guest, Limits, LoadError, Plugin, Usage,
    bindings::{PolicyPlugin, PolicyPluginPre, policy},
    sandbox::{Failure, Sandbox},
    transports::limits,
};
use sluicegate_config as config;
use std::{path::Path, sync::Arc};
use thiserror::Error;
use wasmtime::component::ResourceAny;

pub use policy::{Candidate, Choice, Client, Event, Report};

/// The policies in the binary, by name.
const BUILT_IN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/policies.rs"));
/// What decides where the config names nothing else.
pub const DEFAULT: &str = "auto";
/// Characters of a reason that are kept.
const REASON: usize = 300;

/// The policy of this gateway.
#[derive(Debug)]
pub struct Policy {
    /// As the config says.
    pub name: String,
    /// The component.
    pub plugin: Arc<Plugin<PolicyPluginPre<Guest>>>,
    /// JSON for its sessions.
    pub options: serde_json::Value,
    /// Whether the component is in the binary.
    pub built_in: bool,
    /// Calls of all its instances.
    pub usage: Arc<Usage>,
}

/// Why a policy cannot be used.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The component cannot be loaded.
    #[error("[policy]: {0}")]
    Load(#[from] LoadError),
    /// Nothing of that name is built in.
    #[error(
        "[policy]: no policy `{name}` is built in; built in are: {built_in}; a file ends in .wasm"
    )]
    NotBuiltIn {
        /// As configured.
        name: String,
        /// Names.
        built_in: String,
    },
    /// It fails when it is tried.
    #[error("[policy]: {0}")]
    Failed(#[from] Failure),
    /// It does not like its options.
    #[error("{place}: {plugin} refuses its options: {message}")]
    Refused {
        /// Where they are in the config.
        place: String,
        /// name@version.
        plugin: String,
        /// As it says.
        message: String,
    },
}

impl Policy {
    /// Loads the policy that the config names, and lets it judge its options.
    pub fn load(engine: &Engine, config: Option<&config::Policy>) -> Result<Policy, PolicyError> {
        let limits = config.map_or_else(Limits::default, |config| limits(&config.limits));
        let name = config.map_or(DEFAULT, |config| config.plugin.as_str());
        let built_in = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
        let plugin = match built_in {
            Some((_, bytes)) => engine.load(name, bytes, limits)?,
            None if name.contains(['.', '/']) => engine.load_file(Path::new(name), limits)?,
            None => {
                let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                return Err(PolicyError::NotBuiltIn {
                    name: name.to_owned(),
                    built_in: names.join(", "),
                });
            }
        };
        let policy = Policy {
            name: name.to_owned(),
            plugin,
            options: config.map_or_else(
                || serde_json::Value::Object(serde_json::Map::new()),
                |config| config.options.clone(),
            ),
            built_in: built_in.is_some(),
            usage: Arc::<Usage>::default(),
        };
        policy.check_options("[policy]", &policy.options)?;
        Ok(policy)
    }

    /// Whether it takes these options, which stand at `place` in the config.
    pub fn check_options(
        &self,
        place: &str,
        options: &serde_json::Value,
    ) -> Result<(), PolicyError> {
        let nobody = Client {
            address: "127.0.0.1".into(),
            user_agent: String::new(),
            save_data: false,
            network: None,
            listening: false,
        };
        let mut instance = PolicyInstance::new(self)?;
        let session = instance.open(&nobody, &options.to_string())?;
        session.map(drop).map_err(|message| PolicyError::Refused {
            place: place.to_owned(),
            plugin: self.plugin.to_string(),
            message,
        })
    }

    /// Its options with others laid over them.
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

/// An instance, with any number of sessions in it.
pub struct PolicyInstance {
    sandbox: Sandbox,
    guest: PolicyPlugin,
}

impl std::fmt::Debug for PolicyInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Judge({:?})", self.sandbox)
    }
}

/// A session in a [`PolicyInstance`].
#[derive(Clone, Copy, Debug)]
pub struct PolicySession(ResourceAny);

impl PolicyInstance {
    /// A new instance.
    pub fn new(policy: &Policy) -> Result<PolicyInstance, Failure> {
        let pre = &policy.plugin.pre;
        let usage = policy.usage.clone();
        let (sandbox, guest) =
            Sandbox::new(&policy.plugin, pre.engine(), "(sessions)", usage, |store| {
                pre.instantiate(store)
            })?;
        Ok(PolicyInstance { sandbox, guest })
    }

    /// A session begins; the error is what is wrong with its options.
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

    /// What it is to play.
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
        choice.map(tidy)
    }

    /// What happened, and where it is to move.
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
        choice.map(|choice| choice.map(tidy))
    }

    /// A session is over.
    pub fn close(&mut self, session: PolicySession) -> Result<(), Failure> {
        self.sandbox
            .call("session.drop", |store| session.0.resource_drop(store))
    }
}

/// A reason is shown to people and logged: one line of bounded length.
fn tidy(mut choice: Choice) -> Choice {
    choice.reason = choice
        .reason
        .chars()
        .filter(|c| !c.is_control())
        .take(REASON)
        .collect();
    choice
}
