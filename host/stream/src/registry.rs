//! Registry of all streams by name: those of config and state file, and those of devices as they are discovered. The
//! gateway fills it, the API looks streams up.

use super::Stream;
use parking_lot::RwLock;
use std::{collections::BTreeMap, sync::Arc};

/// All streams, by name.
#[derive(Debug, Default)]
pub struct Streams {
    all: RwLock<BTreeMap<String, Arc<Stream>>>,
}

impl Streams {
    /// The stream `name`, if it exists.
    pub fn get(&self, name: &str) -> Option<Arc<Stream>> {
        let all = self.all.read();
        all.get(name).cloned()
    }

    /// All streams, in order of their names.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        let all = self.all.read();
        all.values().cloned().collect()
    }

    /// Names of all streams, in order.
    pub fn names(&self) -> Vec<String> {
        let all = self.all.read();
        all.keys().cloned().collect()
    }

    /// The stream `name`; `make` creates it if it does not exist.
    pub fn get_or_add(&self, name: &str, make: impl FnOnce() -> Arc<Stream>) -> Arc<Stream> {
        let mut all = self.all.write();
        all.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// Adds a stream, in the place of one with its name.
    pub fn put(&self, stream: Arc<Stream>) {
        let mut all = self.all.write();
        all.insert(stream.name.clone(), stream);
    }

    /// Removes the stream `name`. Whoever holds it keeps it.
    pub fn remove(&self, name: &str) {
        let mut all = self.all.write();
        all.remove(name);
    }
}
