//! Repeats a recording with a component, and finds the first call that it answers differently.

use crate::{
    compare::difference,
    script::{RecordingError, RecordingFile},
};
use sluicegate_plugin::{
    Instance, OpenError, Plugin,
    recording::{Answer, Call},
};
use std::{path::Path, sync::Arc};
use thiserror::Error;

/// Reason why a recording cannot be repeated.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The component does not open with the recorded options.
    #[error("it does not open with the options of the recording, {options}: {reason}")]
    Open {
        /// The options.
        options: String,
        /// Why not.
        reason: OpenError,
    },
    /// The recording has samples in a format that the component does not take.
    #[error(
        "the recording has samples in {recorded}, and the component takes {taken}; record its own transport instead"
    )]
    Format {
        /// Format in the recording.
        recorded: String,
        /// Formats of the component.
        taken: String,
    },
}

/// What a replay has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Calls that were made.
    pub calls: usize,
    /// Calls whose answers were compared.
    pub compared: usize,
    /// The recorded component as name@version, and its hash.
    pub recorded: (String, String),
    /// Why the recording ended; `None` if it was cut off.
    pub end: Option<String>,
    /// The first difference, if there is one.
    pub difference: Option<Difference>,
}

/// The first difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Line of the recording.
    pub line: usize,
    /// The call, for people.
    pub call: String,
    /// What differs.
    pub what: String,
}

/// Repeats the recording at `path` with the component.
///
/// # Errors
/// The recording cannot be read, or the component cannot take it.
pub fn replay(path: &Path, plugin: &Arc<Plugin>) -> Result<Replayed, ReplayError> {
    let mut recording = RecordingFile::open(path)?;
    let opening = recording.opening.clone();
    let opened = Instance::open(plugin, "(replay)", &opening.options, Arc::default());
    let (mut instance, profile) = opened.map_err(|reason| ReplayError::Open {
        options: opening.options.clone(),
        reason,
    })?;
    let mut replayed = Replayed {
        calls: 0,
        compared: 0,
        recorded: (opening.component, opening.sha256),
        end: None,
        difference: None,
    };
    while let Some(recorded) = recording.next_record()? {
        if let Call::Configure(info) = &recorded.call {
            let taken: Vec<&str> = profile.formats.iter().map(|format| format.name()).collect();
            let mut tracks = info.tracks.iter();
            if let Some(track) = tracks.find(|track| !taken.contains(&track.format.as_str())) {
                return Err(ReplayError::Format {
                    recorded: track.format.clone(),
                    taken: taken.join(", "),
                });
            }
        }
        let shown = shown(&recorded.call);
        let made = instance.make(recorded.call.clone());
        replayed.calls += 1;
        let what = match (&recorded.answer, &made.answer) {
            // What came before the recording was answered, or the recording would have ended.
            (None, Some(Answer::Failed(reason))) => Some(format!("it fails: {reason}")),
            (None, _) => None,
            (Some(_), _) => {
                replayed.compared += 1;
                difference(&recorded, &made)
            }
        };
        let has_failed = matches!(made.answer, Some(Answer::Failed(_)));
        if what.is_some() || has_failed {
            let line = recording.line();
            replayed.difference = what.map(|what| Difference {
                line,
                call: shown,
                what,
            });
            break;
        }
    }
    replayed.end = recording.end;
    Ok(replayed)
}

/// A call, for people.
pub(crate) fn shown(call: &Call) -> String {
    match call {
        Call::Push(sample) => format!(
            "`push` of a sample of track {}, group {}, decode time {}, {} bytes",
            sample.track,
            sample.group,
            sample.decode_time,
            sample.data.len()
        ),
        Call::Request { path, query } if query.is_empty() => format!("`request` for \"{path}\""),
        Call::Request { path, query } => format!("`request` for \"{path}?{query}\""),
        Call::Join(viewer) => format!("`join` over {}, path \"{}\"", viewer.carrier, viewer.path),
        call => format!("`{}`", call.name()),
    }
}
