//! The settings of a stream as they are at one moment, and which of them an attempt to run the source depends on.

use super::variant::Recipes;
use sluicegate_config as config;
use sluicegate_source::{EncodeSettings, Source, Stop};
use std::{sync::Arc, time::Duration};

/// What the config says of a stream. Never changes: another config makes another one.
#[derive(Debug)]
pub(super) struct Settings {
    pub source: Arc<dyn Source>,
    /// The source as the config has it.
    written: config::Source,
    pub fetch: config::Fetch,
    pub idle: Duration,
    pub always_on: bool,
    pub recipes: Recipes,
    /// Number of changes of `recipes` so far.
    pub changes: u64,
}

impl Settings {
    pub fn new(source: Arc<dyn Source>, config: &config::Stream, changes: u64) -> Settings {
        Settings {
            source,
            written: config.source.clone(),
            fetch: config.fetch(),
            idle: config.idle.duration(),
            always_on: config.always_on,
            recipes: Recipes {
                encode: config.encode,
                renditions: config.renditions.clone(),
            },
            changes,
        }
    }
}

/// An attempt to run the source: until it is stopped, fails, or is to be replaced.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub settings: Arc<Settings>,
    pub stop: Stop,
    pub encode: Arc<EncodeSettings>,
}

impl Attempt {
    pub fn new(settings: Arc<Settings>) -> Attempt {
        let stop = Stop::default();
        Attempt {
            encode: Arc::new(EncodeSettings::new(settings.recipes.encode, stop.clone())),
            stop,
            settings,
        }
    }

    /// Ends it if these settings come into effect by another attempt only.
    pub fn take_over(&self, new: &Settings) {
        let old = &self.settings;
        if old.written != new.written || old.fetch != new.fetch {
            self.stop.stop();
        }
        if old.recipes.encode != new.recipes.encode {
            self.encode.outdate();
        }
    }
}
