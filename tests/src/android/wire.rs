//! Bytes that scrcpy's server writes, by version. They are read from `tests/fixtures/scrcpy-wire.txt`, where each line
//! names its source upstream.

use std::{collections::HashMap, sync::OnceLock};

/// Fixture lines of one version.
#[derive(Debug)]
pub struct Wire {
    pub version: String,
    values: HashMap<String, String>,
}

/// Values for the placeholders of a template.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    pub size: (u32, u32),
    pub bytes: usize,
    pub time: u64,
}

impl Wire {
    /// All versions in the fixtures, oldest first.
    pub fn all() -> &'static [Wire] {
        static ALL: OnceLock<Vec<Wire>> = OnceLock::new();
        ALL.get_or_init(|| read(include_str!("../../fixtures/scrcpy-wire.txt")))
    }

    /// Fixtures of one version.
    pub fn of(version: &str) -> Option<&'static Wire> {
        Wire::all().iter().find(|wire| wire.version == version)
    }

    /// Text of a fixture line, if this version has it.
    pub fn get(&self, what: &str) -> Option<&str> {
        self.values.get(what).map(String::as_str)
    }

    /// Bytes of a template with its placeholders filled in; empty if this version does not write it.
    pub fn bytes(&self, what: &str, numbers: Numbers) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in self.get(what).unwrap_or_default().split_whitespace() {
            match word {
                "width" => bytes.extend(numbers.size.0.to_be_bytes()),
                "height" => bytes.extend(numbers.size.1.to_be_bytes()),
                "size" => bytes.extend(u32::try_from(numbers.bytes).unwrap().to_be_bytes()),
                "time" => bytes.extend(numbers.time.to_be_bytes()),
                word => match word.strip_prefix("time|") {
                    Some(bits) => {
                        let bits = u64::from_str_radix(bits, 16).unwrap();
                        bytes.extend((numbers.time | bits).to_be_bytes());
                    }
                    None => {
                        let two = (0..word.len()).step_by(2).map(|at| &word[at..at + 2]);
                        bytes.extend(two.map(|two| u8::from_str_radix(two, 16).unwrap()));
                    }
                },
            }
        }
        bytes
    }
}

fn read(text: &str) -> Vec<Wire> {
    let mut all: Vec<Wire> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (line, source) = line
            .split_once("  # ")
            .expect("a fixture line without its source");
        assert!(source.contains(".java:"), "{source}");
        let (key, value) = line.split_once(": ").unwrap();
        let (version, what) = key.split_once(' ').unwrap();
        if all.last().is_none_or(|last| last.version != version) {
            all.push(Wire {
                version: version.to_owned(),
                values: HashMap::new(),
            });
        }
        let last = all.last_mut().unwrap();
        last.values.insert(what.to_owned(), value.to_owned());
    }
    all
}
