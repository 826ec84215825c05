//! The kinds of components that there are.

use super::{
    bindings::{PolicyPluginPre, TransportPluginPre},
    guest::Guest,
};
use wasmtime::component::InstancePre;

/// How the interfaces between host and guests begin and end.
pub(super) const INTERFACE: (&str, &str) = ("sluicegate:gateway/", "0.1.0");

/// What tells one kind from the others.
#[derive(Debug)]
pub struct Kind {
    /// "transport".
    pub name: &'static str,
    /// The world in `wit/gateway.wit`.
    pub world: &'static str,
    /// The interface that it exports.
    pub interface: &'static str,
    /// What is in that.
    pub functions: &'static [&'static str],
}

/// A component of one kind, ready to be instantiated.
pub trait World: Sized {
    /// Which.
    const KIND: Kind;

    /// Finds the exports.
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
