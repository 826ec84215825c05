//! Name and version of a component, from its custom sections.

use wasmparser::{Parser, Payload};

/// Name and version, from the standard `version` section and from `sluicegate:name`, which the SDK writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Name of the crate or package.
    pub name: Option<String>,
    /// Version of the crate or package.
    pub version: Option<String>,
}

impl Metadata {
    /// Reads the sections of a module or component and of the modules inside it. The outermost section of each kind
    /// counts. Only the first 64 printable ASCII characters are kept.
    pub fn read(wasm: &[u8]) -> Metadata {
        let mut metadata = Metadata::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let Ok(Payload::CustomSection(section)) = payload else {
                if payload.is_err() {
                    break;
                }
                continue;
            };
            let field = match section.name() {
                "version" => &mut metadata.version,
                "sluicegate:name" => &mut metadata.name,
                _ => continue,
            };
            let text: String = String::from_utf8_lossy(section.data())
                .chars()
                .filter(|c| c.is_ascii_graphic())
                .take(64)
                .collect();
            if field.is_none() && !text.is_empty() {
                *field = Some(text);
            }
        }
        metadata
    }
}
