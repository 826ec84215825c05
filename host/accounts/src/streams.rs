//! Streams in the state file: those that were added while the gateway runs. What their settings mean is up to the
//! caller.

use super::accounts::{Accounts, ChangeError, Effect};
use super::state::{MAX_STREAM_BYTES, MAX_STREAMS, StoredStream};
use std::collections::BTreeMap;

impl Accounts {
    /// Settings of the streams by name, as keys of `[streams.NAME]`.
    pub fn streams(&self) -> BTreeMap<String, serde_json::Value> {
        let view = self.inner.view();
        let streams = view.state.streams.iter();
        streams
            .map(|(name, stored)| (name.clone(), stored.0.clone()))
            .collect()
    }

    /// Stores the settings of a stream in the place of those of the same name, if there are any.
    ///
    /// # Errors
    /// They are too long, there are too many, or they cannot be stored.
    pub async fn put_stream(
        &self,
        name: String,
        settings: serde_json::Value,
    ) -> Result<(), ChangeError> {
        if settings.to_string().len() > MAX_STREAM_BYTES {
            return Err(ChangeError::Invalid(format!(
                "the settings of a stream have at most {} KiB",
                MAX_STREAM_BYTES >> 10
            )));
        }
        self.change(move |state, _| {
            if !state.streams.contains_key(&name) && state.streams.len() >= MAX_STREAMS {
                return Err(ChangeError::Full(format!(
                    "there are {MAX_STREAMS} streams besides those of the config, the most that are possible; remove one first"
                )));
            }
            state.streams.insert(name, StoredStream(settings));
            Ok(((), Effect::Adds))
        })
        .await
    }

    /// Removes the settings of a stream.
    ///
    /// # Errors
    /// There is none of that name, or the change cannot be stored.
    pub async fn remove_stream(&self, name: String) -> Result<(), ChangeError> {
        self.change(move |state, _| match state.streams.remove(&name) {
            Some(_) => Ok(((), Effect::Adds)),
            None => Err(ChangeError::NotFound(format!(
                "there is no stream `{name}` besides those of the config"
            ))),
        })
        .await
    }
}
