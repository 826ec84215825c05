//! What is wrong with a config, said so that it can be put right: the place, the line, the nearest known key.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Config;
use super::document::{Step, describe, header};
use super::source::mask;

/// Why there is no config.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the config {}: {reason}", file.display())]
    Read {
        /// The file, as it was named.
        file: PathBuf,
        /// What the system said, or what is wrong with the file as a whole.
        reason: io::Error,
    },
    /// The file says something that cannot be.
    #[error(transparent)]
    Invalid(Mistakes),
    /// Nothing to show: no stream in the file and none on the command line.
    #[error(
        "{} has no streams; add one, e.g. [streams.porch] with source = \"rtsp://camera.local/stream1\", or name a \
         source on the command line", file.display()
    )]
    NoStreams {
        /// The file, as it was named.
        file: PathBuf,
    },
}

/// Everything that is wrong with a config file. `Display` is one mistake after the other.
#[derive(Debug)]
pub struct Mistakes {
    /// In the file's order; never empty.
    pub found: Vec<Invalid>,
    /// What the file says without them, where more may be found; `None` if that is nothing.
    pub rest: Option<Box<Config>>,
}

impl From<Vec<Invalid>> for Mistakes {
    fn from(found: Vec<Invalid>) -> Self {
        Self { found, rest: None }
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, invalid) in self.found.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{invalid}")?;
        }
        Ok(())
    }
}

/// A mistake and its place. `Display` is `FILE:LINE:COLUMN: message`, then the line with the place underlined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The file, as it was named.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, with what, and what to do; one line.
    pub message: String,
    /// The part of the line around the place; credentials in URLs are starred out.
    excerpt: String,
    /// Where in `excerpt` to underline, in characters.
    mark: Range<usize>,
}

/// The most characters of a line that an error shows.
const EXCERPT: usize = 100;

impl Invalid {
    /// The error `message` at the bytes `at` of `text`.
    pub(super) fn new(file: &Path, text: &str, at: Range<usize>, message: String) -> Self {
        let start = floor(text, at.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let full = text.get(line_start..).unwrap_or_default();
        let full = full.split('\n').next().unwrap_or_default();
        let full = full.trim_end_matches('\r').trim_start_matches('\u{feff}');

        let skipped = text.get(line_start..start).unwrap_or_default();
        let column = skipped.trim_start_matches('\u{feff}').chars().count();
        let marked = text.get(start..floor(text, at.end)).unwrap_or_default();
        let marked = marked.split(['\r', '\n']).next().unwrap_or_default();

        // A window of a long line, with a little of what leads up to the place.
        let length = full.chars().count();
        let first = match length <= EXCERPT {
            true => 0,
            false => column.saturating_sub(20),
        };
        let excerpt: String = mask(full)
            .chars()
            .skip(first)
            .take(EXCERPT)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let mark = column - first;
        let end = (mark + marked.chars().count().max(1)).min(EXCERPT.max(mark + 1));
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            message: mask(&message),
            excerpt,
            mark: mark..end,
        }
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line, column) = (self.file.display(), self.line, self.column);
        writeln!(f, "{file}:{line}:{column}: {}", self.message)?;
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.excerpt)?;
        let indent = " ".repeat(self.mark.start);
        write!(f, "{gutter} | {indent}{}", "^".repeat(self.mark.len()))
    }
}

/// Serde's sentence about the key at `path`, in this program's words.
pub(super) fn reword(message: &str, path: &[Step]) -> String {
    let plain = |expected: &str| match expected {
        "a map" => "a table".to_owned(),
        "a sequence" => "a list in [ ]".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "u8" | "u32" => "a whole number from 0 up".to_owned(),
        other => other.to_owned(),
    };
    if message.starts_with("unknown field ") {
        let (table, key) = match path.split_last() {
            Some((Step::Key(key), table)) => (table, key.as_str()),
            _ => (path, ""),
        };
        let known = message
            .rsplit_once(", expected ")
            .map_or("", |(_, known)| known);
        return unknown_key(
            key,
            table,
            &known.split('`').skip(1).step_by(2).collect::<Vec<_>>(),
        );
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        let example = match field {
            "`source`" => "; write e.g. source = \"rtsp://camera.local/stream1\"",
            _ => "; add it",
        };
        return format!("{field} is missing in {}{example}", header(path));
    }
    let mistyped = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    match mistyped {
        Some((found, expected)) => {
            let expected = plain(expected);
            format!("{}: found {found}, expected {expected}", describe(path))
        }
        None => format!("{}: {message}", describe(path)),
    }
}

fn unknown_key(key: &str, table: &[Step], known: &[&str]) -> String {
    let mut text = format!("unknown key `{}` in {}", key.escape_debug(), header(table));
    if let Some(nearest) = nearest(key, known) {
        text.push_str(&format!("; did you mean `{nearest}`?"));
    } else {
        text.push(';');
    }
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    text.push_str(&format!(" known keys: {}", known.join(", ")));
    text
}

/// The known key that `key` was probably meant to be: at most a third of it mistyped.
pub fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let folded = key.to_lowercase().replace('_', "-");
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, name), *name))
        .filter(|(distance, name)| *distance <= (name.len().max(3) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The last character boundary of `text` at or before `index`.
fn floor(text: &str, index: usize) -> usize {
    text.floor_char_boundary(index)
}
