//! The streams there are, by name: those of the config from the start, those of devices as they are seen.

use super::Stream;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// Every stream.
#[derive(Debug, Default)]
pub struct Streams {
    all: RwLock<BTreeMap<String, Arc<Stream>>>,
}

impl Streams {
    /// The stream of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Stream>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned()
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.keys().cloned().collect()
    }

    /// The stream of that name, made by `make` if there is none.
    pub fn get_or_add(&self, name: &str, make: impl FnOnce() -> Arc<Stream>) -> Arc<Stream> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// From here on there is none of that name. Who has it keeps it.
    pub fn remove(&self, name: &str) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(name);
    }
}
