//! The guest side of the interface `policy`: implements wit-bindgen's traits for any [`Policy`]. The host owns the
//! sessions as resources and drops them when they end.

use super::{
    Policy,
    bindings::exports::sluicegate::gateway::policy::{
        Candidate, Choice, Client, Event, Guest, GuestSession, Session,
    },
};
use crate::export::install_panic_hook;
use std::{cell::RefCell, marker::PhantomData};

/// The component's exports. Each session is a value of type `P`.
pub struct Component<P>(PhantomData<P>);

/// A session resource. Calls come one at a time, so the borrow never fails.
pub struct SessionResource<P>(RefCell<P>);

impl<P: Policy> Guest for Component<P> {
    type Session = SessionResource<P>;

    fn validate(options: String, transports: Vec<String>) -> Result<(), String> {
        install_panic_hook();
        P::validate(&options, &transports)
    }
}

impl<P: Policy> GuestSession for SessionResource<P> {
    fn open(client: Client, options: String) -> Result<Session, String> {
        install_panic_hook();
        P::open(&client, &options).map(|policy| Session::new(SessionResource(RefCell::new(policy))))
    }

    fn choose(&self, at: u64, candidates: Vec<Candidate>, playing: Option<u32>) -> Choice {
        self.0.borrow_mut().choose(at, candidates, playing)
    }

    fn observe(&self, at: u64, event: Event) -> Option<Choice> {
        self.0.borrow_mut().observe(at, event)
    }
}
