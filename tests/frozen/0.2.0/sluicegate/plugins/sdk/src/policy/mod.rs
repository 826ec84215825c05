//! SDK for Sluicegate policies: a WebAssembly component that chooses transport and rendition of a session, and moves
//! the session later.
//!
//! A policy is a type that implements [`Policy`], one value per session, exported as a component by
//! [`export_policy!`](crate::export_policy). It has no clock; times come with the calls. Its answers may depend only on
//! its earlier calls, so that a recorded session can be replayed.
//!
//! ```
//! use sluicegate_sdk::policy::{Candidate, Choice, Client, Event, Policy};
//!
//! /// Always the first candidate.
//! struct First;
//!
//! impl Policy for First {
//!     fn open(_: &Client, options: &str) -> Result<Self, String> {
//!         sluicegate_sdk::options::<sluicegate_sdk::NoOptions>(options)?;
//!         Ok(First)
//!     }
//!
//!     fn choose(&mut self, _: u64, _: Vec<Candidate>, playing: Option<u32>) -> Choice {
//!         Choice { candidate: playing.unwrap_or(0), reason: "it is the first candidate".into() }
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

/// Decisions for one session: `resource session` of `interface policy` in `wit/gateway.wit`, which documents units and
/// order of calls in full.
pub trait Policy: Sized + 'static {
    /// Opens a session. `options` is the policy's section of the config as JSON; [`options()`](crate::options()) parses
    /// it. `validate` has accepted it.
    ///
    /// # Errors
    /// States what is wrong with the options.
    fn open(client: &Client, options: &str) -> Result<Self, String>;

    /// Checks options for a gateway with these transports. By default it opens a session of nobody.
    ///
    /// # Errors
    /// States what is wrong with the options and what to write instead; shown by `sluicegate check` and at start.
    fn validate(options: &str, transports: &[String]) -> Result<(), String> {
        let _ = transports;
        let nobody = Client {
            address: "127.0.0.1".into(),
            user_agent: String::new(),
            save_data: false,
            network: None,
            listening: false,
            more: vec![],
        };
        Self::open(&nobody, options).map(drop)
    }

    /// Chooses among the candidates, of which there is at least one, at the start and whenever they change. `at` is in
    /// milliseconds on a monotonic clock. `playing` is the index of the candidate that plays already; if there is one,
    /// the answer does not move the session.
    fn choose(&mut self, at: u64, candidates: Vec<Candidate>, playing: Option<u32>) -> Choice;

    /// Handles an event at `at` milliseconds. A choice moves the session; `None` changes nothing.
    fn observe(&mut self, at: u64, event: Event) -> Option<Choice>;
}

/// Exports a type that implements [`Policy`] as this crate's component, as [`export!`](crate::export) does for
/// transports. Use it once per crate, in a `cdylib`. On targets other than wasm32 it exports nothing.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        // Keeps the type in use on targets where nothing is exported, so that native test builds have no dead-code
        // warnings.
        const _: fn(
            &$crate::policy::Client,
            &str,
        ) -> ::std::result::Result<$policy, ::std::string::String> =
            <$policy as $crate::policy::Policy>::open;

        // Unsafe for the same reason as in `export!`.
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Component = $crate::policy::Component<$policy>;
    $crate::policy::bindings::export!(Component with_types_in $crate::policy::bindings);
            $crate::name_component!();
        };
    };
}
