//! What authors of components need besides their language's own tools.
//!
//! [`test_component`] runs a finished transport in the engine of the gateway, on streams that [`Film`] generates and on
//! recordings, and reports what viewers would notice; [`try_component`] is the short form. [`replay`] repeats a recording of a running muxer
//! (`sluicegate_plugin::recording`) and finds the first difference. [`project`] writes a new project. Called by the
//! commands `sluicegate plugin test`, `check`, `replay` and `new`; nothing here needs a running gateway.

mod checks;
mod compare;
mod demux;
mod encode;
mod film;
mod players;
pub mod project;
mod replay;
mod script;

pub use checks::{Finding, Report, TestError, Verdict, test_component, try_component};
pub use film::{Film, FilmError};
pub use replay::{Difference, ReplayError, Replayed, replay};
pub use script::{RecordingError, RecordingFile, Script};
