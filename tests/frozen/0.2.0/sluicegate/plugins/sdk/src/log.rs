//! Writes to the gateway's log, where each line carries the component's name and version and the stream.
//!
//! The host limits lines to 2,000 characters and to 32 in 10 s. In native tests,
//! [`mock::take_logs`](crate::mock::take_logs) returns the lines.

/// Logs a failure that needs attention. If the call then traps, the last such line becomes part of the reported reason;
/// otherwise it appears at debug level.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}

/// Logs a problem that the transport can work around.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// Logs a noteworthy event. Not for something that happens with every sample.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// Logs details for the transport's author.
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
