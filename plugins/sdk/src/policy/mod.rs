//! Write a Sluicegate policy: a WebAssembly component that picks transport and rendition for a session and moves it later.
//!
//! A policy is a type that implements [`Policy`], one value for each session, made into a component by
//! [`export_policy!`](crate::export_policy). It sees no clock: times come with the calls. What it answers may depend only on
//! what it was told, so that a recorded session can be played again.
//!
//! ```
//! use sluicegate_sdk::policy::{Candidate, Choice, Client, Event, Policy};
//!
//! /// The first that can be had.
//! struct First;
//!
//! impl Policy for First {
//!     fn open(_: &Client, options: &str) -> Result<Self, String> {
//!         sluicegate_sdk::options::<sluicegate_sdk::NoOptions>(options)?;
//!         Ok(First)
//!     }
//!
//!     fn choose(&mut self, _: u64, _: Vec<Candidate>, playing: Option<u32>) -> Choice {
//!         Choice { candidate: playing.unwrap_or(0), reason: "it is the first".into() }
//!     }
//!
//!     fn observe(&mut self, _: u64, _: Event) -> Option<Choice> {
//!         None
//!     }
//! }
//!
//! sluicegate_sdk::export_policy!(First);
//! ```

#[doc(hidden)]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
mod guest;

#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub use guest::Component;

pub use bindings::exports::sluicegate::gateway::policy::{
    Candidate, Choice, Client, Event, Report,
};

/// One session's choices: `resource session` of `interface policy` in `wit/gateway.wit`.
pub trait Policy: Sized + 'static {
    /// Somebody begins to watch. `options` is the policy's part of the config as JSON; [`options()`](crate::options()) reads it.
    ///
    /// # Errors
    /// What is wrong with the options and what to write: shown by `sluicegate check` and at start.
    fn open(client: &Client, options: &str) -> Result<Self, String>;

    /// What to play, at the start and whenever the candidates change; there is at least one. `playing`: what plays already.
    fn choose(&mut self, at: u64, candidates: Vec<Candidate>, playing: Option<u32>) -> Choice;

    /// Something happened; a choice moves the session.
    fn observe(&mut self, at: u64, event: Event) -> Option<Choice>;
}

/// Makes a type that implements [`Policy`] into this crate's component; once in a crate, in a `cdylib`. On targets
/// other than wasm32 it exports nothing. As [`export!`](crate::export) does it for transports.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        // What is exported is in use, also where it is only compiled for its tests.
        const _: fn(
            &$crate::policy::Client,
            &str,
        ) -> ::std::result::Result<$policy, ::std::string::String> =
            <$policy as $crate::policy::Policy>::open;

        // As in `export!`.
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Component = $crate::policy::Component<$policy>;
    $crate::policy::bindings::export!(Component with_types_in $crate::policy::bindings);
            $crate::name_component!();
        };
    };
}
