//! The worlds of `wit/gateway.wit` that a component can implement: transport and policy.
//!
//! `Engine::load` checks a component against its [`Kind`], which gives better messages than the linker.

use super::{
    bindings::{PolicyPluginPre, TransportPluginPre},
    guest::Guest,
};
use wasmtime::component::InstancePre;

/// Prefix and version of the names of all interfaces between host and guests.
pub(super) const INTERFACE: (&str, &str) = ("sluicegate:gateway/", "0.1.0");

/// Names that identify a kind of component.
#[derive(Debug)]
pub struct Kind {
    /// Name of the kind in messages, such as "transport".
    pub name: &'static str,
    /// Name of the world in `wit/gateway.wit`.
    pub world: &'static str,
    /// Name of the interface that it exports.
    pub interface: &'static str,
    /// Names of the functions in that interface.
    pub functions: &'static [&'static str],
}

/// A component of one kind, compiled, linked and ready to be instantiated.
pub trait World: Sized {
    /// The kind.
    const KIND: Kind;

    /// Looks up the exports.
    ///
    /// # Errors
    ///
    /// The types of the exports do not match.
    fn find(instance: InstancePre<Guest>) -> wasmtime::Result<Self>;
}

impl World for TransportPluginPre<Guest> {
    const KIND: Kind = Kind {
        name: "transport",
        world: "transport-plugin",
        interface: "sluicegate:gateway/transport@0.1.0",
        functions: &[
            "open",
            "configure",
            "push",
            "stop",
            "request",
            "join",
            "message",
            "leave",
        ],
    };

    fn find(instance: InstancePre<Guest>) -> wasmtime::Result<Self> {
        Self::new(instance)
    }
}

impl World for PolicyPluginPre<Guest> {
    const KIND: Kind = Kind {
        name: "policy",
        world: "policy-plugin",
        interface: "sluicegate:gateway/policy@0.1.0",
        functions: &[
            "[static]session.open",
            "[method]session.choose",
            "[method]session.observe",
        ],
    };

    fn find(instance: InstancePre<Guest>) -> wasmtime::Result<Self> {
        Self::new(instance)
    }
}
