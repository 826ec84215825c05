//! The text of a config file with the place of each key and value, so that a mistake can be reported with line and
//! column.
//!
//! To find more than the first mistake, [`Document::remove_mistake`] removes a mistake from a working copy of the tree
//! and the caller reads the copy again. Error messages refer to the original file, so paths are translated back by the
//! place of each value. `Config::parse` calls this module; it calls `error` for the wording.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{self, Invalid};

/// A parsed file: its text, the tree as written, and the working copy from which mistakes are removed.
pub(super) struct Document<'a> {
    text: &'a str,
    file: &'a Path,
    /// The tree as written.
    root: DeTable<'a>,
    /// The tree without the mistakes found so far; spans are those of `root`.
    rest: Spanned<DeTable<'a>>,
}

/// A mistake: the message for the user, and what to remove from the working copy to find the next one.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) invalid: Invalid,
    /// Path in the working copy.
    path: Vec<Step>,
    /// Name of the key that is missing from the table at `path`.
    missing: Option<String>,
}

/// One step of a path to a value.
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

/// A mistake in what the file means, as opposed to its syntax: which key, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Problem {
    path: Vec<Step>,
    at_key: bool,
    /// Text that follows "`key` in [table]".
    what: String,
}

impl Problem {
    /// A problem with the key itself: `what` follows the key in the message.
    pub(super) fn key(path: Vec<Step>, what: impl Into<String>) -> Self {
        Self {
            path,
            at_key: true,
            what: what.into(),
        }
    }

    /// A problem with the key's value.
    pub(super) fn value(path: Vec<Step>, what: impl Into<String>) -> Self {
        Self {
            path,
            at_key: false,
            what: what.into(),
        }
    }
}

/// The key, if there is one, and what is wrong with it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.path.iter().map(|step| match step {
            Step::Key(key) => key.clone(),
            Step::Index(index) => index.to_string(),
        });
        match keys.collect::<Vec<_>>().join(".").as_str() {
            "" => f.write_str(&self.what),
            keys => write!(f, "`{keys}` {}", self.what),
        }
    }
}

impl<'a> Document<'a> {
    /// Parses the text; if it is not TOML, returns all syntax errors, at most one a line.
    pub(super) fn parse(text: &'a str, file: &'a Path) -> Result<Self, Vec<Invalid>> {
        let (rest, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            let root = rest.get_ref().clone();
            return Ok(Self {
                text,
                file,
                root,
                rest,
            });
        }
        let mut found: Vec<Invalid> = errors
            .iter()
            .map(|error| {
                let at = error.span().unwrap_or(0..0);
                let key = text.get(at.clone()).unwrap_or_default();
                let what = match error.message() {
                    "duplicate key" => format!("`{key}` is written twice; keep one of the two"),
                    message => format!("this is not TOML: {message}"),
                };
                Invalid::new(file, text, at, what)
            })
            .collect();
        found.sort_by_key(|invalid| (invalid.line, invalid.column));
        // Further errors in the same line are mostly artefacts of the parser's recovery.
        found.dedup_by_key(|invalid| invalid.line);
        Err(found)
    }

    /// Line and column of the key at `path`, or else of the nearest table around it. Items of lists are given by their
    /// numbers.
    pub(super) fn place(&self, path: &[&str]) -> Option<(usize, usize)> {
        let is = |(step, wanted): (&Step, &&str)| match step {
            Step::Key(key) => key == wanted,
            Step::Index(index) => wanted.parse() == Ok(*index),
        };
        let places = places(&self.root);
        let fits = |place: &&Place, length: usize| {
            place.path.len() == length && place.path.iter().zip(path).all(is)
        };
        let mut lengths = (1..=path.len()).rev();
        let place = lengths.find_map(|length| places.iter().find(|place| fits(place, length)))?;
        let found = Invalid::new(self.file, self.text, place.key.clone(), String::new());
        Some((found.line, found.column))
    }

    /// Deserializes the working copy.
    pub(super) fn read<T: Deserialize<'a>>(&self) -> Result<T, Box<Mistake>> {
        T::deserialize(toml::Deserializer::from(self.rest.clone()))
            .map_err(|error| self.explain_serde(&error))
    }

    /// Removes the mistake from the working copy, or inserts what is missing, so that checking can continue. Returns
    /// true if the mistake is in the file itself, false if it only follows from an earlier removal, and `None` if
    /// nothing could be removed.
    pub(super) fn remove_mistake(&mut self, mistake: &Mistake) -> Option<bool> {
        let Mistake { path, missing, .. } = mistake;
        let mut own = true;
        if let Some(key) = missing {
            // A key that was removed as a mistake is now reported as missing.
            let original = self.original(path).unwrap_or_else(|| path.clone());
            own = !self.is_reported(&original, path, key);
            if key == SOURCE && insert_source(self.rest.get_mut(), path) {
                return Some(own);
            }
        }
        // A mistake in a default value is removed with the table that has the default.
        let removed = (1..=path.len())
            .rev()
            .any(|length| remove(self.rest.get_mut(), &path[..length]));
        removed.then_some(own)
    }

    /// Whether the working copy has something at `path`.
    pub(super) fn has(&self, path: &[Step]) -> bool {
        has(self.rest.get_ref(), path)
    }

    /// The path of the first key in the file that matches one of `patterns`; `*` matches any key.
    pub(super) fn first_of(&self, patterns: &[&[&str]]) -> Option<Vec<Step>> {
        let fits = |pattern: &[&str], path: &[Step]| {
            pattern.len() == path.len()
                && pattern.iter().zip(path).all(|(want, step)| match step {
                    Step::Key(key) => *want == "*" || want == key,
                    Step::Index(_) => false,
                })
        };
        places(self.rest.get_ref())
            .into_iter()
            .filter(|place| patterns.iter().any(|pattern| fits(pattern, &place.path)))
            .min_by_key(|place| place.key.start)
            .map(|place| place.path)
    }

    /// Whether the file has the key that is reported missing at `path`, or one that looks like a misspelling of it, and
    /// that key was removed before. Then the real mistake has been reported already.
    fn is_reported(&self, original: &[Step], path: &[Step], key: &str) -> bool {
        let left = places(self.rest.get_ref());
        let keys = places(&self.root).into_iter().filter_map(|place| {
            let Some((Step::Key(last), table)) = place.path.split_last() else {
                return None;
            };
            (table == original).then(|| last.clone())
        });
        keys.into_iter().any(|written| {
            let here = [path, &[Step::from(&written)]].concat();
            let left_out = !left.iter().any(|place| place.path == here);
            left_out && (written == key || error::nearest(&written, &[key]).is_some())
        })
    }

    /// The mistake for a problem in what the file means.
    pub(super) fn explain(&self, problem: &Problem) -> Box<Mistake> {
        // A value that is not in the file is a default; then the nearest enclosing table is marked.
        let places = places(self.rest.get_ref());
        let place = (1..=problem.path.len()).rev().find_map(|length| {
            let path = problem.path.get(..length)?;
            places.iter().find(|place| place.path == path)
        });
        let at = match place {
            Some(place) if problem.at_key => place.key.clone(),
            Some(place) => place.value.clone(),
            None => 0..0,
        };
        // "`quality`: 200 is out of range" but "`wasi` is not supported in this version".
        let colon = match problem.at_key || problem.what.starts_with("is ") {
            true => "",
            false => ":",
        };
        let path = self.original(&problem.path);
        let path = path.as_deref().unwrap_or(&problem.path);
        let what = format!("{}{colon} {}", describe(path), problem.what);
        Box::new(Mistake {
            invalid: Invalid::new(self.file, self.text, at, what),
            path: problem.path.clone(),
            missing: None,
        })
    }

    /// The mistake for a serde error: its message, reworded for the key that it refers to.
    fn explain_serde(&self, error: &toml::de::Error) -> Box<Mistake> {
        let at = error.span().unwrap_or(0..0);
        let within = |table: &DeTable<'_>| {
            let mut path = path_at(table, &at);
            // `[[streams]]`: the list and its first table have the same span, and the list is meant.
            if error.message().starts_with("invalid type: sequence")
                && matches!(path.last(), Some(Step::Index(_)))
            {
                path.pop();
            }
            path
        };
        let what = error::reword(error.message(), &within(&self.root));
        let missing = error.message().strip_prefix("missing field ");
        Box::new(Mistake {
            path: within(self.rest.get_ref()),
            missing: missing.map(|field| field.trim_matches('`').to_owned()),
            invalid: Invalid::new(self.file, self.text, at, what),
        })
    }

    /// Translates a path of the working copy to the original file: list items before it may have been removed.
    fn original(&self, path: &[Step]) -> Option<Vec<Step>> {
        let left = places(self.rest.get_ref());
        let place = left.into_iter().find(|place| place.path == path)?;
        let all = places(&self.root).into_iter();
        // A list and its first table may have the same span, but not the same depth.
        let mut same = all.filter(|other| other.key == place.key && other.value == place.value);
        same.find(|other| other.path.len() == path.len())
            .map(|place| place.path)
    }
}

/// The key that every stream needs, and the value inserted for it while looking for further mistakes.
const SOURCE: &str = "source";
const PLACEHOLDER_SOURCE: &str = "test-pattern";

/// Inserts a source into the table at `path`; returns false if there is no such table.
fn insert_source(root: &mut DeTable<'_>, path: &[Step]) -> bool {
    let Some(DeValue::Table(table)) = find(root, path) else {
        return false;
    };
    table.insert(
        Spanned::new(0..0, Cow::Borrowed(SOURCE)),
        Spanned::new(0..0, DeValue::String(Cow::Borrowed(PLACEHOLDER_SOURCE))),
    );
    true
}

/// Removes the value at `path`; returns false if there is none.
fn remove(root: &mut DeTable<'_>, path: &[Step]) -> bool {
    match path {
        [] => false,
        [Step::Key(key)] => root.remove(key.as_str()).is_some(),
        [parents @ .., last] => match (find(root, parents), last) {
            (Some(DeValue::Table(table)), Step::Key(key)) => table.remove(key.as_str()).is_some(),
            (Some(DeValue::Array(items)), Step::Index(index)) if *index < items.len() => {
                let all = std::mem::replace(items, DeArray::new());
                let all = all.into_iter().enumerate();
                let others = all.filter(|(at, _)| at != index);
                *items = others.map(|(_, item)| item).collect();
                true
            }
            _ => false,
        },
    }
}

fn find<'t, 'a>(root: &'t mut DeTable<'a>, path: &[Step]) -> Option<&'t mut DeValue<'a>> {
    let (first, more) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    let mut value = root.get_mut(key.as_str())?.get_mut();
    for step in more {
        value = match (value, step) {
            (DeValue::Table(table), Step::Key(key)) => table.get_mut(key.as_str())?.get_mut(),
            (DeValue::Array(items), Step::Index(index)) => items.get_mut(*index)?.get_mut(),
            _ => return None,
        };
    }
    Some(value)
}

fn has(root: &DeTable<'_>, path: &[Step]) -> bool {
    places(root).iter().any(|place| place.path == path)
}

/// The path of the key or value at `span`: the deepest exact match, otherwise the smallest value around its start.
fn path_at(root: &DeTable<'_>, span: &Range<usize>) -> Vec<Step> {
    let places = places(root);
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

/// All keys and values with their spans. Computed each time: it is needed only for errors, and the file is small.
fn places(root: &DeTable<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    collect(root, &mut Vec::new(), &mut places);
    places
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

/// A path in words: "`listen` in [server]", "`streams`", "item 2 of `origins` in [server]".
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

/// A table's header, such as `[streams.porch.encode]`, with quotes where TOML needs them; "the top level" for the root.
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
