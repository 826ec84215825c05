//! One guest in its own `Store`: runs calls under limits of time, memory and output, counts them, and explains
//! failures.
//!
//! The limits themselves are in `guest`; here the store is connected to them before each call. Used by `Instance` and
//! `PolicyInstance`.

use super::{
    Plugin, Requests, Usage,
    engine::TickerGuard,
    guest::{Guest, Name},
    world::World,
};
use sluicegate_config::ByteSize;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use thiserror::Error;
use wasmtime::{AsContextMut, Engine, Store, StoreContextMut};

/// What Rust's standard library says where there is no clock.
const NO_CLOCK: &str = "time not implemented on this platform";

/// A failed call: a trap or an exceeded limit. The instance must not be used again.
#[derive(Debug, Error)]
#[error("{plugin} on stream {stream}: `{call}` failed: {reason}")]
pub struct Failure {
    /// Component, as name@version.
    pub plugin: String,
    /// Name of the stream, or "(check)" or "(sessions)".
    pub stream: String,
    /// Name of the function that was called.
    pub call: &'static str,
    /// The last error that the guest logged, and the limit or trap.
    pub reason: String,
}

/// A `Store` with one instance.
pub struct Sandbox {
    store: Store<Guest>,
    name: Name,
    usage: Arc<Usage>,
    ticking: TickerGuard,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.name.plugin, self.name.stream)
    }
}

impl Sandbox {
    /// Creates a store and instantiates the component in it. `stream` is for messages.
    ///
    /// # Errors
    ///
    /// The instantiation traps or exceeds a limit.
    pub fn new<W: World, G>(
        plugin: &Plugin<W>,
        engine: &Engine,
        stream: &str,
        usage: Arc<Usage>,
        instantiate: impl FnOnce(StoreContextMut<'_, Guest>) -> wasmtime::Result<G>,
    ) -> Result<(Sandbox, G), Failure> {
        let name = Name {
            plugin: plugin.to_string().into(),
            stream: stream.into(),
        };
        let mut store = Store::new(engine, Guest::new(name.clone(), plugin.limits));
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(plugin.limits.hostcall);
        store.epoch_deadline_callback(|mut context| context.data_mut().tick());
        usage.instances.fetch_add(1, Ordering::Relaxed);
        let mut sandbox = Sandbox {
            store,
            name,
            usage,
            ticking: plugin.ticker.run(),
        };
        let guest = sandbox.attempt("instantiate", instantiate)?;
        Ok((sandbox, guest))
    }

    /// Bytes in the buffers that the guest holds.
    pub fn held(&self) -> usize {
        self.store.data().held()
    }

    /// What the last call requested for viewers.
    pub fn requests(&self) -> &Requests {
        self.store.data().requests()
    }

    /// The data of the guest's store.
    pub fn guest(&mut self) -> &mut Guest {
        self.store.data_mut()
    }

    /// Calls and time of this component on this stream.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Calls the guest with the deadline and limits of one call; `name` is the function's name.
    ///
    /// # Errors
    ///
    /// The call traps or exceeds a limit. The guest must not be called again.
    pub fn call<R>(
        &mut self,
        name: &'static str,
        call: impl FnOnce(StoreContextMut<'_, Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        let began = Instant::now();
        let result = self.attempt(name, call);
        self.usage.calls.fetch_add(1, Ordering::Relaxed);
        self.usage.nanos.fetch_add(
            u64::try_from(began.elapsed().as_nanos()).unwrap_or(0),
            Ordering::Relaxed,
        );
        result
    }

    fn attempt<R>(
        &mut self,
        name: &'static str,
        call: impl FnOnce(StoreContextMut<'_, Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        self.store.data_mut().begin_call();
        self.store.set_epoch_deadline(1);
        let store = &mut self.store;
        let result = self.ticking.during(|| call(store.as_context_mut()));
        result.map_err(|error| {
            self.usage.failures.fetch_add(1, Ordering::Relaxed);
            Failure {
                plugin: self.name.plugin.to_string(),
                stream: self.name.stream.to_string(),
                call: name,
                reason: explain(&error, self.store.data_mut()),
            }
        })
    }
}

/// Describes the failure: the limit or trap, and the last error that the guest logged. What a guest says before it ends
/// the call itself comes first, since the trap is only how it does that.
fn explain(error: &wasmtime::Error, guest: &mut Guest) -> String {
    let said = guest.last_error();
    if let Some(needed) = guest.memory_refused() {
        // In whole pages: memories have no other sizes, and tables come on top.
        let needed = ByteSize::from_bytes((needed as u64).next_multiple_of(64 << 10));
        let limit = ByteSize::from_bytes(guest.limits().memory as u64);
        let said = said.map_or_else(String::new, |said| format!("; it logged: {said}"));
        return format!(
            "it needs at least {needed} of memory, and its limit is {limit} (limits.memory){said}"
        );
    }
    let cause = error.root_cause();
    match (said, is_abort(error)) {
        (Some(said), true) if said.contains(NO_CLOCK) => {
            format!("{said} ({cause}): a component has no clock; samples have their times")
        }
        (Some(said), true) => format!("{said} ({cause})"),
        (Some(said), false) => format!("{cause}; it logged: {said}"),
        (None, true) => format!(
            "{cause}; it logged no error that says why, as the SDKs do. In JavaScript: is `transport` exported, and have \
             all values the right types? `npm run check` says so"
        ),
        (None, false) => cause.to_string(),
    }
}

/// Whether the guest ended the call by itself, as languages do after a panic or an exception.
fn is_abort(error: &wasmtime::Error) -> bool {
    matches!(
        error.root_cause().downcast_ref(),
        Some(wasmtime::Trap::UnreachableCodeReached)
    )
}
