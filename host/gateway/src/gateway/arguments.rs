//! The command line of `serve`: the config file, and what is said beside it, such as sources, `SOURCE` or
//! `NAME=SOURCE`.
//!
//! Sources contain `=` themselves, so an argument is a source as a whole if it can be read as one, and only otherwise
//! split at its first `=`. Errors hide passwords. [`CommandLine::load`] is
//! called at start and at each reload.

use super::StartError;
use sluicegate_config as config;
use sluicegate_config::{Config, Listen};
use sluicegate_plugin::transports::FileSignature;
use sluicegate_source::{Spec, SpecError};
use std::path::PathBuf;

/// The arguments of `serve`.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// The config file.
    pub config: Option<PathBuf>,
    /// Addresses that replace those of the config.
    pub listen: Vec<Listen>,
    /// Whether other machines may connect, and everybody may watch.
    pub open: bool,
    /// Sources, `SOURCE` or `NAME=SOURCE`.
    pub sources: Vec<String>,
}

impl CommandLine {
    /// Reads the config file, and adds what the other arguments say.
    ///
    /// # Errors
    /// The file cannot be read or has mistakes, or a source is not valid.
    pub fn load(&self) -> Result<Config, StartError> {
        let mut config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        if self.config.is_none() && !self.sources.is_empty() {
            // Instead of the demo.
            config.streams.clear();
        }
        if !self.listen.is_empty() || self.open {
            config.server.listen_at(&self.listen, self.open);
        }
        add_sources(&mut config, &self.sources)?;
        Ok(config)
    }

    /// What the config file is now.
    pub(super) fn signature(&self) -> Option<FileSignature> {
        FileSignature::of(self.config.as_ref()?)
    }
}

/// Adds the streams of the command line, `SOURCE` or `NAME=SOURCE`, to those of the config. A stream without a name is
/// named after its source.
///
/// # Errors
/// An argument is not a valid source, or its name is invalid or taken.
fn add_sources(config: &mut Config, sources: &[String]) -> Result<(), StartError> {
    for text in sources {
        let (name, text, spec) = read(text)?;
        let name = match name {
            Some(name) if config.streams.contains_key(name) => {
                return Err(StartError::DuplicateName(name.to_owned()));
            }
            Some(name) => name.to_owned(),
            None => free_name(config, spec.default_name()),
        };
        let source = match &spec {
            Spec::File(path) => format!(
                "file:{}",
                std::path::absolute(path)
                    .unwrap_or_else(|_| path.clone())
                    .display()
            ),
            _ => text.to_owned(),
        };
        config.streams.insert(
            name,
            config::Stream {
                source: source.into(),
                ..config::Stream::default()
            },
        );
    }
    Ok(())
}

/// Splits an argument into name, source as text, and parsed source. An argument that is a source as a whole has no
/// name: `lavfi:testsrc=size=640x360`, a URL with a query, a file with `=` in its name.
fn read(text: &str) -> Result<(Option<&str>, &str, Spec), StartError> {
    let wrong = |reason| StartError::Source {
        stream: config::Source::from(text).to_string(),
        reason,
    };
    let whole = match Spec::parse_argument(text) {
        Ok(spec) => return Ok((None, text, spec)),
        Err(reason) => reason,
    };
    let named = text.split_once('=');
    let named = named.filter(|_| matches!(whole, SpecError::NoFile(_)));
    let Some((name, rest)) = named else {
        return Err(wrong(whole));
    };
    let checked = config::check_stream_name(name);
    let spec = match (Spec::parse_argument(rest), &checked) {
        (Ok(spec), _) => spec,
        (Err(reason), Ok(())) => {
            let stream = name.to_owned();
            return Err(StartError::Source { stream, reason });
        }
        // The `=` does not separate a name, and what follows it may be a password.
        (Err(_), Err(_)) => return Err(wrong(whole)),
    };
    match checked {
        Ok(()) => Ok((Some(name), rest, spec)),
        Err(reason) => Err(StartError::Name {
            // May be the beginning of a mistyped URL, with a password in it.
            name: config::Source::from(name).to_string(),
            reason,
        }),
    }
}

/// `base`, or `base-2`, `base-3` and so on if the name is taken.
fn free_name(config: &Config, base: String) -> String {
    let numbered = (2..).map(|nth| format!("{base}-{nth}"));
    std::iter::once(base.clone())
        .chain(numbered)
        .find(|name| !config.streams.contains_key(name))
        .unwrap_or(base)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn streams(sources: &[&str]) -> Result<Vec<(String, String)>, String> {
        let mut config = Config::default();
        config.streams.clear();
        let sources: Vec<String> = sources.iter().map(|text| (*text).to_owned()).collect();
        add_sources(&mut config, &sources).map_err(|error| error.to_string())?;
        let streams = config.streams.into_iter();
        Ok(streams
            .map(|(name, stream)| (name, stream.source.expose().to_owned()))
            .collect())
    }

    #[test]
    fn a_source_is_named_after_itself_or_as_given() {
        for (sources, expected) in [
            (&["test-pattern"][..], &[("demo", "test-pattern")][..]),
            (
                &["test-pattern", "test-pattern"],
                &[("demo", "test-pattern"), ("demo-2", "test-pattern")],
            ),
            (
                &["porch=rtsp://cam.local/1?a=b"],
                &[("porch", "rtsp://cam.local/1?a=b")],
            ),
            (
                &["rtsp://cam.local/1?a=b"],
                &[("cam.local", "rtsp://cam.local/1?a=b")],
            ),
            (
                &["lavfi:testsrc=size=640x360"],
                &[("lavfi", "lavfi:testsrc=size=640x360")],
            ),
            (
                &["screen::0?size=640x360"],
                &[("screen", "screen::0?size=640x360")],
            ),
            (
                &["sc=screen::0?size=640x360"],
                &[("sc", "screen::0?size=640x360")],
            ),
            (&["a=annexb:listen:5000"], &[("a", "annexb:listen:5000")]),
            (&["hall=test-pattern"], &[("hall", "test-pattern")]),
        ] {
            let found = streams(sources).unwrap();
            let found: Vec<(&str, &str)> = found
                .iter()
                .map(|(name, source)| (name.as_str(), source.as_str()))
                .collect();
            assert_eq!(found, expected, "{sources:?}");
        }
    }

    #[test]
    fn invalid_arguments_are_refused_with_advice() {
        for (sources, parts) in [
            (
                &["porch=nothing.mp4"][..],
                &["[streams.porch]: ", "no file `nothing.mp4`"][..],
            ),
            (
                &["a/b=test-pattern"],
                &["`a/b` is not a valid stream name", "`/`"],
            ),
            (&["=test-pattern"], &["it is empty"]),
            (
                &["a=test-pattern", "a=test-pattern"],
                &["two streams `a`", "another name"],
            ),
        ] {
            let error = streams(sources).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }
}
