//! The config file: accepted, or refused with file name and line, with the same result each time. Also source URLs.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use libfuzzer_sys::fuzz_target;
use sluicegate_config::Config;
use sluicegate_source::Spec;
use std::path::Path;

fuzz_target!(|input: &[u8]| {
    let text = &*String::from_utf8_lossy(input);
    let file = Path::new("dir/some.toml");
    match Config::parse(text, file) {
        Ok(config) => {
            assert_eq!(Config::parse(text, file).ok().as_ref(), Some(&config));
            for stream in config.streams.values() {
                source(stream.source.expose());
            }
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.starts_with("dir/some.toml:"), "{shown}");
            // At most fifty mistakes are reported.
            assert!(shown.len() < 50_000 + 4 * text.len(), "{shown}");
        }
    }
    source(text);
});

fn source(text: &str) {
    if let Ok(spec) = Spec::parse(text, Path::new("dir")) {
        let (shown, name) = (spec.to_string(), spec.default_name());
        assert!(!shown.is_empty() && !name.is_empty(), "{text:?}");
    }
}
