//! To the gateway's log, where each line carries the plugin's name and version and the stream.
//!
//! Natively the lines go to [`mock::take_logs`](crate::mock::take_logs).

/// Something failed that somebody has to mend.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}

/// Something is off, and the transport goes on.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// Something worth knowing happened; not once per sample.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// For whoever writes the transport.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

use crate::bindings::sluicegate::gateway::log::Level;

#[cfg(target_arch = "wasm32")]
fn write(level: Level, message: &str) {
    crate::bindings::sluicegate::gateway::log::write(level, message);
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, message: &str) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    crate::mock::log(format!("{level}: {message}"));
}
