//! The text of a config file and where in it each key and value stands, to turn a mistake into a place.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{self, Error, Invalid};

/// A parsed file. What is kept beside the tree is what messages need.
pub(super) struct Document<'a> {
    text: &'a str,
    file: &'a Path,
    root: DeTable<'a>,
}

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for Step {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

/// A mistake in what a file means, as opposed to how it is written: which key, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Problem {
    path: Vec<Step>,
    at_key: bool,
    /// Goes on from "`key` in [table]".
    what: String,
}

impl Problem {
    /// `what` is wrong with the key itself.
    pub(super) fn key(path: Vec<Step>, what: impl Into<String>) -> Self {
        Self {
            path,
            at_key: true,
            what: what.into(),
        }
    }

    /// `what` is wrong with its value.
    pub(super) fn value(path: Vec<Step>, what: impl Into<String>) -> Self {
        Self {
            path,
            at_key: false,
            what: what.into(),
        }
    }
}

impl<'a> Document<'a> {
    pub(super) fn parse(text: &'a str, file: &'a Path) -> Result<Self, Error> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Self {
                text,
                file,
                root: root.into_inner(),
            }),
            Err(error) => {
                let at = error.span().unwrap_or(0..0);
                let key = text.get(at.clone()).unwrap_or_default();
                let what = match error.message() {
                    "duplicate key" => format!("`{key}` is written twice; keep one of the two"),
                    message => format!("this is not TOML: {message}"),
                };
                Err(Error::Invalid(Invalid::new(file, text, at, what)))
            }
        }
    }

    /// Whether the file has something at `path`.
    pub(super) fn has(&self, path: &[Step]) -> bool {
        self.places().iter().any(|place| place.path == path)
    }

    /// The path of what stands first in the file among those that one of `patterns` describes; `*` is any key.
    pub(super) fn first_of(&self, patterns: &[&[&str]]) -> Option<Vec<Step>> {
        let fits = |pattern: &[&str], path: &[Step]| {
            pattern.len() == path.len()
                && pattern.iter().zip(path).all(|(want, step)| match step {
                    Step::Key(key) => *want == "*" || want == key,
                    Step::Index(_) => false,
                })
        };
        self.places()
            .into_iter()
            .filter(|place| patterns.iter().any(|pattern| fits(pattern, &place.path)))
            .min_by_key(|place| place.key.start)
            .map(|place| place.path)
    }

    /// The error for a mistake in what the file means.
    pub(super) fn explain(&self, problem: &Problem) -> Error {
        // A value that is not in the file is a default, and its table is the nearest thing to point at.
        let places = self.places();
        let place = (1..=problem.path.len()).rev().find_map(|length| {
            let path = problem.path.get(..length)?;
            places.iter().find(|place| place.path == path)
        });
        let at = match place {
            Some(place) if problem.at_key => place.key.clone(),
            Some(place) => place.value.clone(),
            None => 0..0,
        };
        // "`quality`: 200 is out of range" but "`tls` is not in this version".
        let colon = match problem.at_key || problem.what.starts_with("is ") {
            true => "",
            false => ":",
        };
        let what = format!("{}{colon} {}", describe(&problem.path), problem.what);
        Error::Invalid(Invalid::new(self.file, self.text, at, what))
    }

    /// The error for one that serde found: its message, said about the key it stands at.
    pub(super) fn explain_serde(&self, error: &toml::de::Error) -> Error {
        let at = error.span().unwrap_or(0..0);
        let mut path = self.path_at(&at);
        // `[[streams]]`: the list and its first table stand at the same place, and the list is meant.
        if error.message().starts_with("invalid type: sequence")
            && matches!(path.last(), Some(Step::Index(_)))
        {
            path.pop();
        }
        let what = error::reword(error.message(), &path);
        Error::Invalid(Invalid::new(self.file, self.text, at, what))
    }

    /// The path of the key or value at `span`: the deepest that fits exactly, else the smallest around its start.
    fn path_at(&self, span: &Range<usize>) -> Vec<Step> {
        let places = self.places();
        let exact = places
            .iter()
            .filter(|place| place.value == *span || place.key == *span)
            .max_by_key(|place| place.path.len());
        let around = || {
            places
                .iter()
                .filter(|place| place.value.contains(&span.start))
                .min_by_key(|place| place.value.len())
        };
        exact
            .or_else(around)
            .map(|place| place.path.clone())
            .unwrap_or_default()
    }

    /// Every key and value. Built anew each time: it is asked for on the way to an error, and the file is small.
    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        collect(&self.root, &mut Vec::new(), &mut places);
        places
    }
}

struct Place {
    path: Vec<Step>,
    key: Range<usize>,
    value: Range<usize>,
}

fn collect(table: &DeTable<'_>, path: &mut Vec<Step>, places: &mut Vec<Place>) {
    for (key, value) in table {
        path.push(Step::Key(key.get_ref().to_string()));
        collect_value(key.span(), value.span(), value.get_ref(), path, places);
        path.pop();
    }
}

fn collect_value(
    key: Range<usize>,
    value: Range<usize>,
    content: &DeValue<'_>,
    path: &mut Vec<Step>,
    places: &mut Vec<Place>,
) {
    places.push(Place {
        path: path.clone(),
        key,
        value,
    });
    match content {
        DeValue::Table(table) => collect(table, path, places),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Index(index));
                collect_value(item.span(), item.span(), item.get_ref(), path, places);
                path.pop();
            }
        }
        _ => {}
    }
}

/// "`listen` in [server]", "`streams`", "item 2 of `origins` in [server]".
pub(super) fn describe(path: &[Step]) -> String {
    let Some((last, table)) = path.split_last() else {
        return "the file".into();
    };
    match last {
        Step::Index(index) => format!("item {} of {}", index + 1, describe(table)),
        Step::Key(key) if table.is_empty() => format!("`{}`", key.escape_debug()),
        Step::Key(key) => format!("`{}` in {}", key.escape_debug(), header(table)),
    }
}

/// `[streams.porch.encode]`, with quotes where TOML needs them; "the top level" for the root.
pub(super) fn header(path: &[Step]) -> String {
    if path.is_empty() {
        return "the top level".into();
    }
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                let dot = if text.is_empty() { "" } else { "." };
                // Writing to a String cannot fail.
                let _ = match !key.is_empty() && key.chars().all(bare) {
                    true => write!(text, "{dot}{key}"),
                    false => write!(text, "{dot}\"{}\"", key.escape_debug()),
                };
            }
            Step::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
        }
    }
    format!("[{text}]")
}
