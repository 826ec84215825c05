//! The worlds of `wit/gateway.wit` that a component can implement, transport and policy, and the versions of that file.
//!
//! `Engine::load` checks a component against its [`Kind`], which gives better messages than the linker. A component may
//! have been built for an older version of the same interface, see the beginning of `wit/gateway.wit`.

use super::{
    bindings::{PolicyPluginPre, TransportPluginPre},
    engine::{LoadError, quoted},
    guest::Guest,
};
use std::fmt;
use wasmtime::component::InstancePre;

/// Name of the package of all interfaces between host and guests, with the separator that follows.
const PACKAGE: &str = "sluicegate:gateway/";

/// Version of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes with every incompatible change, together with `minor`.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
    /// Changes with every addition.
    pub patch: u32,
}

impl Version {
    /// The version that this host has.
    pub const HOST: Version = Version {
        major: 0,
        minor: 2,
        patch: if cfg!(feature = "next-interface") {
            1
        } else {
            0
        },
    };

    /// Whether a host of this version can run a component that was built for `other`.
    pub fn runs(self, other: Version) -> bool {
        self.is_compatible(other) && other <= self
    }

    /// Whether both differ in additions only.
    pub fn is_compatible(self, other: Version) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }

    fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        let version = Version {
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next()??,
        };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The interface and its version in a full name such as `sluicegate:gateway/media@0.2.0`; `None` if it is not one of
/// this package.
pub(super) fn interface(name: &str) -> Option<(&str, Version)> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    Some((interface, Version::parse(version)?))
}

/// Full name of an interface of this package, in the host's version.
pub fn full_name(interface: &str) -> String {
    format!("{PACKAGE}{interface}@{}", Version::HOST)
}

/// Names that identify a kind of component.
#[derive(Debug)]
pub struct Kind {
    /// Name of the kind in messages, such as "transport".
    pub name: &'static str,
    /// Name of the world in `wit/gateway.wit`.
    pub world: &'static str,
    /// Name of the interface that it exports, without package and version.
    pub interface: &'static str,
    /// Name of the SDK's macro that exports it.
    pub export_macro: &'static str,
    /// Names of the functions in that interface.
    pub functions: &'static [&'static str],
}

impl Kind {
    /// Checks the names of a component's imports and exports; `origin` names the component in messages.
    ///
    /// # Errors
    ///
    /// It needs another version of the interface, is of another kind, or imports what the host does not provide.
    pub(super) fn check_names(
        &'static self,
        origin: &str,
        imports: &[String],
        exports: &[String],
    ) -> Result<(), LoadError> {
        let path = || origin.to_owned();
        let versions = imports.iter().chain(exports);
        let mut versions = versions.filter_map(|name| interface(name).map(|(_, version)| version));
        if let Some(needed) = versions.find(|version| !Version::HOST.runs(*version)) {
            return Err(LoadError::Version {
                path: path(),
                needed,
            });
        }
        let of = |name: &String| interface(name).map(|(interface, _)| interface.to_owned());
        if !exports
            .iter()
            .any(|name| of(name).as_deref() == Some(self.interface))
        {
            return Err(LoadError::OtherWorld {
                path: path(),
                kind: self,
                found: match exports {
                    [] => "nothing".into(),
                    exports => quoted(exports),
                },
            });
        }
        let foreign = imports.iter().filter(|name| of(name).is_none());
        let foreign: Vec<String> = foreign.cloned().collect();
        match foreign.is_empty() {
            true => Ok(()),
            false => Err(LoadError::Imports {
                path: path(),
                imports: quoted(&foreign),
            }),
        }
    }
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
        interface: "transport",
        export_macro: "export",
        functions: &[
            "open",
            "configure",
            "push",
            "stop",
            "request",
            "join",
            "received",
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
        interface: "policy",
        export_macro: "export_policy",
        functions: &[
            "[static]session.open",
            "[method]session.choose",
            "[method]session.observe",
            "validate",
        ],
    };

    fn find(instance: InstancePre<Guest>) -> wasmtime::Result<Self> {
        Self::new(instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or(Version {
            major: 9,
            minor: 9,
            patch: 9,
        })
    }

    #[test]
    fn names_are_taken_apart() {
        let name = "sluicegate:gateway/media@0.2.10";
        assert_eq!(interface(name), Some(("media", version("0.2.10"))));
        for foreign in [
            "wasi:io/poll@0.2.0",
            "sluicegate:gateway/media",
            "sluicegate:gateway/media@0.2",
            "sluicegate:gateway/media@0.2.0.1",
            "sluicegate:gateway/media@0.2.x",
            "media",
        ] {
            assert_eq!(interface(foreign), None, "{foreign}");
        }
        assert_eq!(interface(&full_name("log")), Some(("log", Version::HOST)));
    }

    #[test]
    fn a_host_runs_what_was_built_for_its_version_or_an_older_compatible_one() {
        let host = version("0.2.1");
        for (other, runs) in [
            ("0.2.0", true),
            ("0.2.1", true),
            ("0.2.2", false),
            ("0.1.9", false),
            ("0.3.0", false),
            ("1.2.0", false),
        ] {
            assert_eq!(host.runs(version(other)), runs, "{other}");
        }
    }
}
