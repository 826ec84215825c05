//! `[streams.NAME]`: a source and how it is run and encoded, and which names streams may have.

use super::document::{Document, Problem, Step};
use super::transport::path_of_null;
use super::{Config, Encode, Error, Fetch, HostName, Rendition, Source, Span};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Most hosts that a source may redirect to.
const MAX_REDIRECTS: usize = 32;
/// Most renditions of a stream.
const MAX_RENDITIONS: usize = 32;

/// `[streams.NAME]`: a source and how it is run and encoded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { source = \"rtsp://camera.local/stream1\" }"
)]
pub struct Stream {
    /// Where the media comes from, as written; the `source` crate interprets it. String, required.
    pub source: Source,
    /// Duration: how long the source keeps running after its last user. Default 10 s.
    #[serde(default = "idle")]
    pub idle: Span,
    /// Boolean: whether the source runs from start to shutdown, even without users. Excludes `idle`. Default `false`.
    #[serde(default)]
    pub always_on: bool,
    /// Duration: interval at which a URL that returns a single JPEG is requested again, 20 ms to 1 h. Default 500 ms.
    #[serde(default = "every")]
    pub every: Span,
    /// List of other hosts that the URL may redirect to; its own host needs no entry. Default: none.
    #[serde(default)]
    pub redirects: Vec<HostName>,
    /// Encoder settings for media that has to be encoded; H.264 that arrives as H.264 passes unchanged. Default: as
    /// [`Encode::default`].
    #[serde(default)]
    pub encode: Encode,
    /// `renditions.NAME`: the stream at other settings, by name. Default: none.
    #[serde(default)]
    pub renditions: BTreeMap<String, Rendition>,
}

/// A stream that shows the test pattern.
impl Default for Stream {
    fn default() -> Self {
        Self {
            source: "test-pattern".into(),
            idle: Self::IDLE,
            always_on: false,
            every: Fetch::EVERY,
            redirects: Vec::new(),
            encode: Encode::default(),
            renditions: BTreeMap::new(),
        }
    }
}

impl Stream {
    /// Default of `idle`: 10 s.
    pub const IDLE: Span = Span::from_duration(Duration::from_secs(10));

    /// Reads the settings of a stream from the keys of a `[streams.NAME]` as JSON.
    ///
    /// # Errors
    /// The message for the user: what is wrong with the name or with keys, one line each.
    pub fn from_json(name: &str, keys: &serde_json::Value) -> Result<Self, String> {
        check_stream_name(name).map_err(|what| format!("`{name}` {what}"))?;
        if let Some(path) = path_of_null(keys) {
            let what = "is null, which no key can be; leave it out";
            return Err(Problem::value(path, what).to_string());
        }
        // As a file, so that there is one set of checks and messages.
        let text = toml::to_string(&serde_json::json!({ "streams": { name: keys } }))
            .map_err(|error| error.to_string())?;
        match Config::parse(&text, Path::new("")) {
            Ok(mut config) => config
                .streams
                .remove(name)
                .ok_or_else(|| "the settings must be an object".to_owned()),
            Err(Error::Invalid(mistakes)) => {
                let messages = mistakes.found.into_iter();
                let messages: Vec<String> = messages.map(|invalid| invalid.message).collect();
                Err(messages.join("\n"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// How the source's URL is fetched, if the source is a URL.
    pub fn fetch(&self) -> Fetch {
        Fetch {
            every: self.every.duration(),
            redirects: self.redirects.clone(),
        }
    }

    pub(super) fn check(&self, path: &[Step], document: &Document<'_>) -> Result<(), Problem> {
        let at = |key: &str| [path, &[key.into()]].concat();
        let (least, most) = Fetch::RANGE;
        if !(least..=most).contains(&self.every) {
            let what = format!(
                "{} is out of range; write \"{least}\" to \"{most}\"",
                self.every
            );
            return Err(Problem::value(at("every"), what));
        }
        if self.source.expose().is_empty() {
            let what =
                "is empty; write e.g. source = \"test-pattern\" or \"rtsp://camera.local/stream1\"";
            return Err(Problem::value(at("source"), what));
        }
        if self.always_on && document.has(&at("idle")) {
            let what = "has no effect with always-on = true; remove one of the two";
            return Err(Problem::key(at("idle"), what));
        }
        if self.redirects.len() > MAX_REDIRECTS {
            let what = format!("there are more than {MAX_REDIRECTS}; remove some");
            return Err(Problem::value(at("redirects"), what));
        }
        if self.renditions.len() > MAX_RENDITIONS {
            let what = format!("there are more than {MAX_RENDITIONS}; remove some");
            return Err(Problem::value(at("renditions"), what));
        }
        self.encode.check(&at("encode"))?;
        for (name, rendition) in &self.renditions {
            let path = [path, &["renditions".into(), name.into()]].concat();
            rendition.check(&path)?;
            // Checked last: a mistake in a name removes everything below that name.
            check_rendition_name(name).map_err(|what| Problem::key(path, what))?;
        }
        Ok(())
    }
}

/// As [`check_stream_name`], for a rendition. The player's attribute `rendition` means the stream itself by `-`.
fn check_rendition_name(name: &str) -> Result<(), String> {
    if name == "-" {
        return Err(
            "means the stream itself where players choose a rendition; choose another name".into(),
        );
    }
    check_stream_name(name).map_err(|what| what.replace("stream name", "rendition name"))
}

fn idle() -> Span {
    Stream::IDLE
}

fn every() -> Span {
    Fetch::EVERY
}

/// Checks that `name` can name a stream. It becomes one segment of URL paths: 1 to 128 bytes, no character with a
/// meaning in URLs (`/ \ ? # % @`), no invisible or bidirectional control character, no space at either end, not `.` or
/// `..`, no leading `~` (tickets start with it).
///
/// # Errors
/// A phrase to be appended to the name: what is wrong and what to do.
pub fn check_stream_name(name: &str) -> Result<(), String> {
    // Characters without width, bidirectional controls, line separators and the byte order mark. They are not control
    // characters by Unicode's category, but such a name hides or reorders its text in a log or a page.
    let hidden = |c: char| matches!(u32::from(c), 0x200b..=0x200f | 0x2028..=0x202e | 0x2066..=0x2069 | 0xfeff);
    let odd = |c: char| c.is_control() || hidden(c) || "/\\?#%@".contains(c);
    if name.is_empty() {
        return Err("is not a valid stream name: it is empty".into());
    }
    if name.len() > 128 {
        return Err("is not a valid stream name: it is longer than 128 bytes".into());
    }
    if name == "." || name == ".." {
        return Err(
            "is not a valid stream name: in a URL it means a directory; choose another".into(),
        );
    }
    if name.starts_with('~') {
        return Err("is not a valid stream name: it must not start with `~`".into());
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err("is not a valid stream name: it starts or ends with a space; remove it".into());
    }
    match name.chars().find(|c| odd(*c)) {
        Some(c) => Err(format!(
            "is not a valid stream name: it contains `{}`; use letters, digits, `-`, `_` and `.`",
            c.escape_debug()
        )),
        None => Ok(()),
    }
}
