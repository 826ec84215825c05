//! Logging to standard error, with one line per failure.
//!
//! Structured fields have the same names everywhere: `stream`, `transport`, `plugin` (name@version), `viewer` (its
//! number). [`init`] is called once by `main`; [`Chain`] formats an error with its causes where it is logged.

use super::panics;
use std::{
    error::Error,
    fmt,
    io::{self, IsTerminal, Write},
};
use tracing_subscriber::EnvFilter;

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable text.
    #[default]
    Text,
    /// One JSON object per line: `timestamp`, `level`, `message`, and the line's fields beside them.
    Json,
}

/// What is logged unless `RUST_LOG` says otherwise. The h2 crate warns of each client that breaks the protocol, which a
/// client could use to fill the log, and quinn's of each packet that a firewall does not let out.
const DEFAULT_FILTER: &str = "info,h2=error,quinn_udp=error";

/// Starts logging to standard error, filtered by `RUST_LOG` or, without it, as above. Uncaught panics are logged, too.
pub fn init(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines(std::io::stderr()))
        // A line that cannot be written is lost; reporting that on standard error would panic.
        .log_internal_errors(false)
        .with_target(false);
    // Fails only on a second call in one process; the first one stays in effect.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    panics::log_uncontained();
}

/// Writes each event as one line: a text from outside, such as a component's name, cannot begin another one.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    /// Writes a whole event, which ends with a line feed.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
        match line.iter().any(breaks) {
            true => {
                let mut all = event.to_vec();
                for byte in &mut all[..line.len()] {
                    *byte = if breaks(byte) { b' ' } else { *byte };
                }
                self.0.write_all(&all)?;
            }
            false => self.0.write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Formats an error with its chain of causes in one line. A cause that the previous text already ends with is not
/// repeated.
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
    fn an_event_is_one_line() {
        for (event, line) in [
            ("12:00 INFO fine\n", "12:00 INFO fine\n"),
            (
                "12:00 INFO a\n12:01 ERROR b\r\n",
                "12:00 INFO a 12:01 ERROR b \n",
            ),
        ] {
            let mut lines = Lines(Vec::new());
            lines.write_all(event.as_bytes()).ok();
            assert_eq!(lines.0, line.as_bytes());
        }
    }

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
