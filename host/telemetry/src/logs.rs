//! Logs: one line for each failure, on standard error.
//!
//! Fields have the same names everywhere: `stream`, `transport`, `plugin` (name@version), `viewer` (its number).

use super::panics;
use std::{error::Error, fmt, io::IsTerminal};
use tracing_subscriber::EnvFilter;

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line: `timestamp`, `level`, `message`, and the line's fields beside them.
    Json,
}

/// Logs to standard error, at `info` unless `RUST_LOG` says otherwise; panics that nothing catches, too.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written is lost; telling so on standard error would panic.
        .log_internal_errors(false)
        .with_target(false);
    // Only a second call in one process can fail, and then the first one holds.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    panics::log_uncontained();
}

/// An error with what caused it, in one line; a cause that the error's own text ends with is not said twice.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        write!(f, "{said}")?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open {what}")]
    struct Outer {
        what: &'static str,
        source: Middle,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("it failed: {0}")]
    struct Middle(#[source] std::fmt::Error);

    #[test]
    fn a_chain_says_every_cause_once() {
        let error = Outer {
            what: "it",
            source: Middle(std::fmt::Error),
        };
        let cause = std::fmt::Error.to_string();
        assert_eq!(
            Chain(&error).to_string(),
            format!("cannot open it: it failed: {cause}")
        );
    }
}
