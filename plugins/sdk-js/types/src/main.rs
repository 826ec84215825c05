//! Writes TypeScript declarations of the interfaces in `wit/gateway.wit`, as componentize-qjs binds them to JavaScript:
//!
//! ```sh
//! cargo run --package sluicegate-sdk-js-types >plugins/sdk-js/gateway.d.ts
//! ```
//!
//! A test compares that file with the contract. Each interface becomes a module that is named as components import it.
//! What a component exports becomes an interface that it implements.

use std::{fmt::Write as _, process::ExitCode};
use wit_parser::{
    Docs, Function, FunctionKind, Handle, Interface, InterfaceId, Resolve, Type, TypeDef,
    TypeDefKind, TypeId, TypeOwner, WorldItem,
};

const WIT: &str = include_str!("../../../../wit/gateway.wit");

/// Longest line of a generated comment's text.
const COLUMNS: usize = 116;

/// Method of each resource that the host implements.
const DISPOSE: &str =
    "    /** Frees the handle now. Otherwise it is freed once nothing refers to the object. */
    [Symbol.dispose](): void;
";

fn main() -> ExitCode {
    match declarations(WIT) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("sluicegate-sdk-js-types: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Declarations of all interfaces of a package.
///
/// # Errors
/// The contract is not valid WIT, or uses a type that has no mapping here.
fn declarations(wit: &str) -> Result<String, String> {
    let mut resolve = Resolve::default();
    let package = resolve
        .push_source("gateway.wit", wit)
        .map_err(|error| format!("{error:#}"))?;
    let mut text =
        "// Generated from wit/gateway.wit by plugins/sdk-js/types; do not edit.\n".to_owned();
    for (name, id) in &resolve.packages[package].interfaces {
        let writer = Writer {
            resolve: &resolve,
            interface: *id,
        };
        text += &writer.module(name)?;
    }
    Ok(text)
}

/// Writes one interface.
struct Writer<'a> {
    resolve: &'a Resolve,
    interface: InterfaceId,
}

impl Writer<'_> {
    fn module(&self, name: &str) -> Result<String, String> {
        let interface = &self.resolve.interfaces[self.interface];
        let mut text = "\n".to_owned();
        if !self.is_exported() {
            text += &comment(&interface.docs, "", None);
        }
        let _ = writeln!(text, "declare module \"sluicegate:gateway/{name}\" {{");
        for (module, names) in self.imports(interface) {
            let names = names.join(", ");
            let _ = writeln!(
                text,
                "  import type {{ {names} }} from \"sluicegate:gateway/{module}\";"
            );
        }
        for (name, id) in &interface.types {
            let ty = &self.resolve.types[*id];
            if !matches!(&ty.kind, TypeDefKind::Type(_)) {
                text += &comment(&ty.docs, "  ", None);
                text += &self.declaration(name, *id, ty)?;
            }
        }
        let functions = interface.functions.values();
        let free: Vec<&Function> = functions
            .filter(|function| matches!(function.kind, FunctionKind::Freestanding))
            .collect();
        if self.is_exported() {
            text += &comment(&interface.docs, "  ", None);
            let _ = writeln!(text, "  export interface {} {{", pascal(name));
            for (name, id) in &interface.types {
                if matches!(self.resolve.types[*id].kind, TypeDefKind::Resource) {
                    let _ = writeln!(text, "    {}: {}Class;", pascal(name), pascal(name));
                }
            }
            for function in free {
                text += &self.function("    ", "", function)?;
            }
            text += "  }\n";
        } else {
            for function in free {
                text += &self.function("  ", "export function ", function)?;
            }
        }
        Ok(text + "}\n")
    }

    /// Whether components export this interface.
    fn is_exported(&self) -> bool {
        let mut exports =
            (self.resolve.worlds.iter()).flat_map(|(_, world)| world.exports.values());
        exports.any(|item| matches!(item, WorldItem::Interface { id, .. } if *id == self.interface))
    }

    /// Names of other interfaces that this one uses, by interface.
    fn imports(&self, interface: &Interface) -> Vec<(String, Vec<String>)> {
        let mut imports: Vec<(String, Vec<String>)> = Vec::new();
        for (name, id) in &interface.types {
            let TypeDefKind::Type(Type::Id(source)) = self.resolve.types[*id].kind else {
                continue;
            };
            let TypeOwner::Interface(owner) = self.resolve.types[source].owner else {
                continue;
            };
            let module = self.resolve.interfaces[owner].name.clone();
            let module = module.unwrap_or_default();
            match imports.iter_mut().find(|(known, _)| *known == module) {
                Some((_, names)) => names.push(pascal(name)),
                None => imports.push((module, vec![pascal(name)])),
            }
        }
        imports
    }

    fn declaration(&self, name: &str, id: TypeId, ty: &TypeDef) -> Result<String, String> {
        let name = pascal(name);
        let mut text = String::new();
        match &ty.kind {
            TypeDefKind::Record(record) => {
                let _ = writeln!(text, "  export interface {name} {{");
                for field in &record.fields {
                    text += &comment(&field.docs, "    ", None);
                    let ty = self.ty(&field.ty)?;
                    let _ = writeln!(text, "    {}: {ty};", camel(&field.name));
                }
                text += "  }\n";
            }
            TypeDefKind::Variant(variant) => {
                let _ = writeln!(text, "  export type {name} =");
                for case in &variant.cases {
                    text += &comment(&case.docs, "    ", None);
                    let value = match &case.ty {
                        Some(ty) => format!("; val: {}", self.ty(ty)?),
                        None => String::new(),
                    };
                    let _ = writeln!(text, "    | {{ tag: \"{}\"{value} }}", case.name);
                }
                text.insert(text.trim_end().len(), ';');
            }
            TypeDefKind::Enum(cases) => {
                let cases = cases.cases.iter().map(|case| format!("\"{}\"", case.name));
                let cases = cases.collect::<Vec<_>>().join(" | ");
                let _ = writeln!(text, "  export type {name} = {cases};");
            }
            TypeDefKind::Resource => text += &self.resource(&name, id)?,
            other => return Err(unmapped(other)),
        }
        Ok(text)
    }

    /// A resource is a class. One that the component exports is an interface of its objects, and one of its class, which
    /// has the static functions.
    fn resource(&self, name: &str, id: TypeId) -> Result<String, String> {
        let (kind, dispose) = match self.is_exported() {
            true => ("interface", ""),
            false => ("class", DISPOSE),
        };
        let mut text = format!("  export {kind} {name} {{\n");
        let mut statics = String::new();
        for function in self.resolve.interfaces[self.interface].functions.values() {
            match function.kind {
                FunctionKind::Constructor(of) | FunctionKind::Method(of) if of == id => {
                    text += &self.function("    ", "", function)?;
                }
                FunctionKind::Static(of) if of == id => {
                    statics += &self.function("    ", "", function)?;
                }
                _ => {}
            }
        }
        text += dispose;
        text += "  }\n";
        if self.is_exported() {
            let _ = writeln!(text, "  export interface {name}Class {{\n{statics}  }}");
        }
        Ok(text)
    }

    /// A function or method. A `result` is returned or thrown.
    fn function(&self, indent: &str, head: &str, function: &Function) -> Result<String, String> {
        let is_method = matches!(function.kind, FunctionKind::Method(_));
        let parameters = function.params.iter().skip(usize::from(is_method));
        let parameters = parameters
            .map(|parameter| {
                Ok(format!(
                    "{}: {}",
                    camel(&parameter.name),
                    self.ty(&parameter.ty)?
                ))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let (returned, thrown) = match function.result {
            Some(Type::Id(id)) => match &self.resolve.types[id].kind {
                TypeDefKind::Result(result) => (result.ok, result.err),
                _ => (function.result, None),
            },
            other => (other, None),
        };
        let returned = match (returned, &function.kind) {
            (_, FunctionKind::Constructor(_)) => String::new(),
            (Some(ty), _) => format!(": {}", self.ty(&ty)?),
            (None, _) => ": void".to_owned(),
        };
        let thrown = thrown.map(|ty| self.ty(&ty)).transpose()?;
        Ok(format!(
            "{}{indent}{head}{}({}){returned};\n",
            comment(&function.docs, indent, thrown.as_deref()),
            camel(function.item_name()),
            parameters.join(", "),
        ))
    }

    fn ty(&self, ty: &Type) -> Result<String, String> {
        Ok(match ty {
            Type::Bool => "boolean".to_owned(),
            Type::String | Type::Char => "string".to_owned(),
            Type::ErrorContext => return Err("`error-context` has no mapping".to_owned()),
            Type::Id(id) => return self.named(*id),
            _ => "number".to_owned(),
        })
    }

    fn named(&self, id: TypeId) -> Result<String, String> {
        let ty = &self.resolve.types[id];
        Ok(match (&ty.name, &ty.kind) {
            (Some(name), _) => pascal(name),
            (None, TypeDefKind::Handle(Handle::Own(of) | Handle::Borrow(of))) => self.named(*of)?,
            (None, TypeDefKind::List(Type::U8)) => "Uint8Array".to_owned(),
            (None, TypeDefKind::List(of)) => format!("{}[]", self.ty(of)?),
            (None, TypeDefKind::Option(of)) => format!("{} | null", self.ty(of)?),
            (None, TypeDefKind::Tuple(of)) => {
                let types = of.types.iter().map(|ty| self.ty(ty));
                format!("[{}]", types.collect::<Result<Vec<_>, _>>()?.join(", "))
            }
            (None, other) => return Err(unmapped(other)),
        })
    }
}

fn unmapped(kind: &TypeDefKind) -> String {
    format!("a {} has no mapping to TypeScript", kind.as_str())
}

/// A documentation comment, wrapped anew, or nothing.
fn comment(docs: &Docs, indent: &str, thrown: Option<&str>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in docs.contents.as_deref().unwrap_or("").split("\n\n") {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent.len() + 3 + line.len() + 1 + word.len() > COLUMNS {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines.extend(thrown.map(|ty| format!("@throws {{{ty}}}")));
    match lines.as_slice() {
        [] => String::new(),
        [line] => format!("{indent}/** {line} */\n"),
        _ => {
            let lines = lines
                .iter()
                .map(|line| format!("{indent} * {line}").trim_end().to_owned() + "\n");
            format!("{indent}/**\n{}{indent} */\n", lines.collect::<String>())
        }
    }
}

/// `pixel-aspect` as `pixelAspect`.
fn camel(name: &str) -> String {
    let pascal = pascal(name);
    pascal[..1].to_lowercase() + &pascal[1..]
}

/// `stream-info` as `StreamInfo`.
fn pascal(name: &str) -> String {
    let words = name.split('-').filter(|word| !word.is_empty());
    words
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_are_those_of_the_contract() {
        let kept = include_str!("../../gateway.d.ts");
        assert!(
            declarations(WIT).as_deref() == Ok(kept),
            "type `cargo run --package sluicegate-sdk-js-types >plugins/sdk-js/gateway.d.ts`"
        );
    }

    #[test]
    fn what_has_no_mapping_is_named() {
        let wit = "package a:b; interface i { flags f { x, y } }";
        assert_eq!(
            declarations(wit).unwrap_err(),
            "a flags has no mapping to TypeScript"
        );
    }
}
