//! Converts core modules, as wit-bindgen leaves them, to components.
//!
//! A core module carries its component type in custom sections. [`check_world`] reads them first and rejects packages
//! other than the gateway's own, because the encoder does not terminate on packages that depend on each other in a
//! circle. Called by `Engine::load` and, in the child process, by `compile`.
//!
//! The reader of component types calls itself for each type within a type. So types may only be so large, and are read
//! on a thread whose stack suffices for as many of them as they can have.

use super::{
    engine::{LoadError, quoted, shown_text},
    world::{Kind, interface},
};
use sluicegate_telemetry::contain;
use std::thread;
use wasmparser::{
    ComponentExternName, ComponentType, ComponentTypeDeclaration, ComponentTypeRef,
    InstanceTypeDeclaration, Parser, Payload,
};

/// Most bytes of component types in a module. Those for the gateway's interface have 6 KB.
const MAX_TYPE_BYTES: usize = 32 << 10;
/// Stack for reading them: a type within a type has at least three bytes, and takes 1 KiB, or several times as much in a
/// build without optimization.
const STACK: usize = 1 << 20;
const STACK_PER_BYTE: usize = (16 << 10) / 3;

/// Converts a core module with an embedded component type to a component. The module must have passed [`check_world`],
/// or this may not terminate.
///
/// # Errors
///
/// Message of the encoder.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| format!("{error:#}"))
}

/// Checks that a core module can be converted to a component of that kind; `origin` names it in messages.
///
/// # Errors
///
/// It has no readable component type, belongs to another world, or imports or exports foreign interfaces.
pub fn check_world(origin: &str, module: &[u8], kind: &'static Kind) -> Result<(), LoadError> {
    let path = || origin.to_owned();
    let cannot = |reason| LoadError::Encode {
        path: path(),
        reason,
    };
    let WorldNames { imports, exports } = named(module).map_err(cannot)?;
    kind.check_names(origin, &imports, &exports)?;
    let foreign = exports.iter().filter(|name| interface(name).is_none());
    let foreign: Vec<String> = foreign.cloned().collect();
    if !foreign.is_empty() {
        return Err(cannot(format!(
            "it exports {} besides `{}`",
            quoted(&foreign),
            kind.interface
        )));
    }
    // wit-parser follows dependencies between packages recursively, without end if they form a circle. With only one
    // package there is no circle, and a component needs no other. Two versions would be two packages.
    let names = imports.iter().chain(&exports);
    let mut versions = names.filter_map(|name| interface(name).map(|(_, version)| version));
    let first = versions.next();
    if let Some(other) = versions.find(|version| Some(*version) != first) {
        return Err(cannot(format!(
            "it mixes version {other} of the gateway's interface with another one"
        )));
    }
    Ok(())
}

/// Names in the worlds of a module's component types.
#[derive(Default)]
struct WorldNames {
    imports: Vec<String>,
    exports: Vec<String>,
}

/// Names in the component types of a module.
fn named(module: &[u8]) -> Result<WorldNames, String> {
    let types = component_types(module)?;
    let size: usize = types.iter().map(|data| data.len()).sum();
    if size > MAX_TYPE_BYTES {
        return Err(format!(
            "its component types have more than {MAX_TYPE_BYTES} bytes"
        ));
    }
    let read = || {
        let mut named = WorldNames::default();
        let mut types = types.iter();
        let read = types.try_for_each(|data| named.read(data));
        read.map(|()| named)
            .map_err(|error| shown_text(&format!("its component type cannot be read: {error}")))
    };
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("component type".into());
        let reader = reader.stack_size(STACK + size * STACK_PER_BYTE);
        let reading = reader.spawn_scoped(scope, || contain(read));
        let reading = reading.map_err(|error| format!("no thread can be started: {error}"))?;
        match reading.join() {
            Ok(Ok(named)) => named,
            Ok(Err(panicked)) => Err(format!("the reader {panicked}")),
            Err(_) => Err("the reader panicked".into()),
        }
    })
}

/// The custom sections with component types. Without one the encoder makes a component that imports and exports nothing.
fn component_types(module: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut types = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload {
            Ok(Payload::CustomSection(section)) if section.name().starts_with("component-type") => {
                types.push(section.data());
            }
            Ok(_) => {}
            Err(error) => return Err(format!("it is truncated or damaged: {error}")),
        }
    }
    match types[..] {
        [] => Err("it has no embedded component type".to_owned()),
        _ => Ok(types),
    }
}

impl WorldNames {
    /// Collects the names of every component type that is defined in a component type, at any depth.
    fn read(&mut self, component: &[u8]) -> wasmparser::Result<()> {
        for payload in Parser::new(0).parse_all(component) {
            if let Payload::ComponentTypeSection(types) = payload? {
                let mut types = types.into_iter().collect::<Result<Vec<_>, _>>()?;
                while let Some(next) = types.pop() {
                    self.add(next, &mut types);
                }
            }
        }
        Ok(())
    }

    fn add<'a>(&mut self, next: ComponentType<'a>, inner: &mut Vec<ComponentType<'a>>) {
        let names = |name: ComponentExternName<'_>| name.implements.unwrap_or(name.name).to_owned();
        match next {
            ComponentType::Component(declarations) => {
                for declaration in declarations {
                    match declaration {
                        ComponentTypeDeclaration::Type(inside) => inner.push(inside),
                        ComponentTypeDeclaration::Import(import)
                            if matches!(import.ty, ComponentTypeRef::Instance(_)) =>
                        {
                            self.imports.push(names(import.name));
                        }
                        ComponentTypeDeclaration::Export {
                            name,
                            ty: ComponentTypeRef::Instance(_),
                        } => self.exports.push(names(name)),
                        _ => {}
                    }
                }
            }
            ComponentType::Instance(declarations) => {
                for declaration in declarations {
                    if let InstanceTypeDeclaration::Type(inside) = declaration {
                        inner.push(inside);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::{
        bindings::TransportPluginPre,
        guest::Guest,
        world::{World, full_name},
    };

    const KIND: &Kind = &<TransportPluginPre<Guest> as World>::KIND;

    /// A core module whose world imports and exports interfaces, each of which uses a type of the previous one.
    fn module(interfaces: &[&str]) -> Vec<u8> {
        let mut world =
            r#"(type $t (instance (type (record (field "f" u32))) (export "t" (type (eq 0)))))
            (import "sluicegate:gateway/media@0.2.0" (instance $i0 (type $t)))"#
                .to_owned();
        for (nth, interface) in interfaces.iter().enumerate() {
            world += &format!(
                r#"(alias export $i{nth} "t" (type $u{nth}))
                   (type $t{nth} (instance (alias outer 1 $u{nth} (type $u)) (export "t" (type (eq $u)))))
                   (import "{interface}" (instance $i{} (type $t{nth})))"#,
                nth + 1
            );
        }
        let component = wat::parse_str(format!(
            r#"(component
                (@custom "wit-component-encoding" "\04\00")
                (type $w (component
                    (type $w (component {world}
                        (type $e (instance))
                        (export "{}" (instance (type $e)))))
                    (export "a:a/w" (component (type $w)))))
                (export "w" (type $w)))"#,
            full_name(KIND.interface)
        ));
        let bytes = component.unwrap();
        let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        wat::parse_str(format!(r#"(module (@custom "component-type" "{bytes}"))"#)).unwrap()
    }

    #[test]
    fn a_module_of_our_package_is_made_a_component() {
        let fine = module(&["sluicegate:gateway/log@0.2.0"]);
        check_world("some.wasm", &fine, KIND).unwrap();
        encode(&fine).unwrap();
    }

    #[test]
    fn a_module_of_packages_that_need_each_other_is_refused() {
        for foreign in ["b:b/two", "two"] {
            let circle = module(&[foreign, "sluicegate:gateway/three@0.2.0"]);
            let text = check_world("some.wasm", &circle, KIND)
                .unwrap_err()
                .to_string();
            let expected = format!("some.wasm imports `{foreign}`, which the gateway");
            assert!(text.starts_with(&expected), "{text}");
        }
    }

    /// A module whose component type has this many types within each other; `kind` is 0x41 for components, 0x42 for
    /// instances.
    fn nested(kind: u8, depth: usize) -> Vec<u8> {
        let number = |number: usize| {
            let low = |shift: u32| ((number >> shift) & 0x7f) as u8;
            [low(0) | 0x80, low(7) | 0x80, low(14)]
        };
        let types = [[kind, 1, 1].repeat(depth), vec![kind, 0]].concat();
        let head = b"\0asm\x0d\0\x01\0\x07";
        let component = [&head[..], &number(types.len() + 1), &[1], &types].concat();
        let name = b"\x0ecomponent-type";
        let size = number(name.len() + component.len());
        [&b"\0asm\x01\0\0\0\0"[..], &size, name, &component].concat()
    }

    #[test]
    fn types_within_types_do_not_end_the_process() {
        for kind in [0x41, 0x42] {
            for depth in [10, 2000, MAX_TYPE_BYTES / 3 - 10, MAX_TYPE_BYTES] {
                let module = nested(kind, depth);
                // A test has a small stack.
                let error = check_world("some.wasm", &module, KIND).unwrap_err();
                let is_large = error.to_string().contains("more than 32768 bytes");
                assert_eq!(is_large, depth == MAX_TYPE_BYTES, "{error}");
            }
        }
    }

    #[test]
    fn names_in_messages_are_short_and_in_one_line() {
        let names: Vec<String> = (0..100_000).map(|nth| format!("a\n\x1b{nth}")).collect();
        assert!(quoted(&names).ends_with("`a  7`, 99992 more"));
        let text = shown_text(&"x".repeat(10 << 20));
        assert_eq!(text.chars().count(), 1001);
    }

    #[test]
    fn a_module_for_another_version_is_refused_by_the_version() {
        for (version, advice) in [("0.1.0", "build it with"), ("0.2.9", "update the gateway")] {
            let other = module(&[&format!("sluicegate:gateway/two@{version}")]);
            let error = check_world("some.wasm", &other, KIND).unwrap_err();
            let text = error.to_string();
            let expected = format!("some.wasm needs version {version} of the interface");
            assert!(text.starts_with(&expected), "{text}");
            assert!(text.contains(advice), "{text}");
        }
    }
}
