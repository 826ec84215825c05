//! Errors of a config file, worded so that the user can correct them: position, an excerpt of the line, the nearest
//! known key.
//!
//! `document` finds the position; this module words the message, rewrites serde's, and masks credentials in everything
//! that is shown (`mask` in `source`).

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Config;
use super::document::{Step, describe, header};
use super::source::mask;

/// Why no configuration could be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the config {}: {reason}", file.display())]
    Read {
        /// Path of the file, as given.
        file: PathBuf,
        /// The system's error, or what is wrong with the file as a whole.
        reason: io::Error,
    },
    /// The file contains mistakes.
    #[error(transparent)]
    Invalid(Mistakes),
}

/// All mistakes of a config file. `Display` writes them one after the other.
#[derive(Debug)]
pub struct Mistakes {
    /// In the file's order; never empty.
    pub found: Vec<Invalid>,
    /// The configuration without the mistakes, in which the caller may find more; `None` if nothing usable is left.
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

/// A mistake and its position. `Display` writes `FILE:LINE:COLUMN: message`, then the line with the position
/// underlined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the file, as given.
    pub file: PathBuf,
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, with which value, and what to do; one line.
    pub message: String,
    /// The part of the line around the position; credentials in URLs are replaced by stars.
    excerpt: String,
    /// Range of `excerpt` to underline, in characters.
    mark: Range<usize>,
}

/// Largest number of characters of a line that an error shows.
const EXCERPT: usize = 100;

impl Invalid {
    /// The error `message` at the byte range `at` of `text`.
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

        // A window into a long line, with some text before the position.
        let length = full.chars().count();
        let first = match length <= EXCERPT {
            true => 0,
            false => column.saturating_sub(20),
        };
        let excerpt: String = mask(&hide_secrets(full))
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

/// Replaces what is written behind the name of a key for a secret, or one that looks like it, by stars.
fn hide_secrets(line: &str) -> String {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let assigned = line.match_indices('=').find(|(at, _)| {
        let before = line[..*at].trim_end_matches(|c: char| c.is_whitespace() || "'\"".contains(c));
        let key = before.rsplit(|c| !name(c)).next().unwrap_or_default();
        nearest(key, &["password", "proxy-secret"]).is_some()
    });
    match assigned {
        Some((at, _)) => {
            let (shown, hidden) = line.split_at(at + 1);
            let stars = |c: char| if c.is_whitespace() { c } else { '*' };
            shown.chars().chain(hidden.chars().map(stars)).collect()
        }
        None => line.to_owned(),
    }
}

/// Rewords a serde message about the key at `path`.
pub(super) fn reword(message: &str, path: &[Step]) -> String {
    let plain = |expected: &str| match expected {
        "a map" => "a table".to_owned(),
        "a sequence" => "a list in [ ]".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "path string" => "a string".to_owned(),
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
    let unknown = message.strip_prefix("unknown variant ");
    if let Some((found, expected)) = unknown.and_then(|rest| rest.split_once(", expected ")) {
        let known = expected.split('`').skip(1).step_by(2);
        let known: Vec<String> = known.map(|name| format!("\"{name}\"")).collect();
        return format!(
            "{}: {found} is not known; write one of {}",
            describe(path),
            known.join(", ")
        );
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

/// The known key that `key` was probably meant to be: the edit distance is at most a third of the known key's length.
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
