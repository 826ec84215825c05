//! Any file named as a plugin: loaded or refused, and what loads can be opened.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use libfuzzer_sys::fuzz_target;
use sluicegate_plugin::{Engine, Instance, Limits};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

fuzz_target!(|bytes: &[u8]| {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Engine::new().expect("an engine"));
    let limits = Limits {
        memory: 2 << 20,
        call: Duration::from_millis(5),
        ..Limits::default()
    };
    match engine.load("dir/some.wasm", bytes, limits) {
        Ok(plugin) => {
            let _ = Instance::open(&plugin, "stream", "{}", Arc::default());
        }
        Err(error) => assert!(error.to_string().contains("some.wasm"), "{error}"),
    }
});
