//! Changes while the gateway runs, one at a time ([`Changing`]), and those of components: a transport's component or
//! the policy's is read again, a transport is added or removed. Those of the config and of streams are in
//! [`reload`](super::reload) and [`streams`](super::streams).
//!
//! The API (`api::plugins`) and [`watched_files`](super::watched_files) make them. How muxers exchange a component
//! while viewers stay is up to `sluicegate_plugin::muxer`.

use super::{Gateway, StartError, built_in, check_clients, known_transports, warn_of_notes};
use parking_lot::Mutex;
use sluicegate_config as config;
use sluicegate_plugin::{
    muxer::Swapped,
    policy::{Policy, PolicyError},
    transports::{Transport, TransportError},
};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Most requests that wait for the turn of their change.
const MAX_WAITING: usize = 16;

/// The turn of the changes, which are made one at a time.
#[derive(Debug)]
pub struct Changing {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Places for requests that wait for it.
    places: Arc<Semaphore>,
    /// What the newest change is, for people.
    now: Mutex<String>,
}

impl Default for Changing {
    fn default() -> Changing {
        Changing {
            turn: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
            now: Mutex::default(),
        }
    }
}

impl Changing {
    /// A place for a request that waits for its turn; `None` if too many wait.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Waits for the turn of a change, `what` in words.
    pub(super) async fn wait(&self, what: String) -> OwnedMutexGuard<()> {
        let turn = self.turn.clone().lock_owned().await;
        *self.now.lock() = what;
        turn
    }

    /// Takes the turn for a change, `what` in words.
    ///
    /// # Errors
    /// Another change has it: what that is.
    pub fn take(&self, what: String) -> Result<OwnedMutexGuard<()>, String> {
        let mut now = self.now.lock();
        let turn = self.turn.clone().try_lock_owned();
        let turn = turn.map_err(|_| now.clone())?;
        *now = what;
        Ok(turn)
    }
}

/// Why a component is not taken into use while the gateway runs.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// A transport cannot be loaded or opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A transport was refused because it does worse than the one in use.
    #[error("[transports.{name}]: {component} is refused: {reason}")]
    Refused {
        /// Name of the transport.
        name: String,
        /// Component, as name@version.
        component: String,
        /// What a muxer found.
        reason: String,
    },
    /// The policy cannot be loaded or opened.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The rules of the config do not go with the policy.
    #[error(transparent)]
    Clients(StartError),
    /// A component that was to be reloaded cannot be used, for this reason.
    #[error("{0}; the component in use stays")]
    Reload(Box<ChangeError>),
}

impl Gateway {
    /// Reads the component of the transport `name` again and, if it has changed, puts it in the place of the current
    /// one, once all muxers have compared the two. Viewers stay, unless the reload is forced: then nothing is compared.
    /// Blocks; compiling may take seconds, and comparing another ten.
    ///
    /// # Errors
    /// The component cannot be used, or a muxer refuses it. The current one then stays.
    pub fn reload_transport(&self, name: &str, is_forced: bool) -> Result<(), ChangeError> {
        let reloaded = self.exchange_transport(name, is_forced);
        reloaded.map_err(|reason| ChangeError::Reload(reason.into()))
    }

    fn exchange_transport(&self, name: &str, is_forced: bool) -> Result<(), ChangeError> {
        let Some(candidate) = self.transports.load_again(name)? else {
            tracing::info!(
                transport = name,
                "the component has not changed and stays in use"
            );
            self.muxers.unchanged(name);
            return Ok(());
        };
        warn_of_notes(&candidate);
        match self.muxers.swap(&candidate, is_forced) {
            Ok(Swapped::Beside(muxers)) => {
                tracing::info!(transport = name, plugin = %candidate.plugin, muxers, "the transport was replaced");
            }
            Ok(Swapped::Restarted) => tracing::info!(
                transport = name,
                plugin = %candidate.plugin,
                "the transport was replaced; its viewers were disconnected"
            ),
            Err(reason) => {
                return Err(ChangeError::Refused {
                    name: name.to_owned(),
                    component: candidate.plugin.to_string(),
                    reason,
                });
            }
        }
        Ok(())
    }

    /// Adds a transport, for streams that are watched from now on. Blocks; compiling may take seconds.
    ///
    /// # Errors
    /// The component cannot be used, or the name is taken.
    pub fn add_transport(
        &self,
        name: &str,
        settings: config::Transport,
    ) -> Result<Arc<Transport>, ChangeError> {
        let added = self.transports.add(name, settings)?;
        warn_of_notes(&added);
        tracing::info!(transport = name, plugin = %added.plugin, "the transport was added");
        Ok(added)
    }

    /// Removes a transport. Its viewers get what is left and are then disconnected with a reason; sessions move to
    /// another transport by the policy.
    pub fn remove_transport(&self, name: &str) {
        self.muxers
            .remove_transport(name, "the transport was removed");
        tracing::info!(transport = name, "the transport was removed");
    }

    /// Reads the policy's component again and puts it in force. Blocks; compiling may take seconds.
    ///
    /// # Errors
    /// The component cannot be used, or refuses the options of a rule. The current policy then stays in use.
    pub fn reload_policy(&self) -> Result<(), ChangeError> {
        let reloaded = self.exchange_policy();
        reloaded.map_err(|reason| ChangeError::Reload(reason.into()))
    }

    fn exchange_policy(&self) -> Result<(), ChangeError> {
        let config = self.config();
        let names = known_transports(&config, &self.transports.all());
        let policy = Policy::load(
            &self.engine,
            built_in::POLICIES,
            config.policy.as_ref(),
            &names,
        )?;
        let mistakes = check_clients(&config, &self.transports.all(), &policy);
        StartError::any(mistakes, &config).map_err(ChangeError::Clients)?;
        self.sessions.policy_actor().replace(Arc::new(policy));
        Ok(())
    }
}
