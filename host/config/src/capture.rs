//! `[capture]`: still images on request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::document::{Problem, Step};
use super::{ByteSize, Span};

/// `[capture]`: still images on request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct Capture {
    /// Directory for saved images, with a subdirectory for each stream; relative to the config file. Default
    /// `captures`.
    pub dir: PathBuf,
    /// JPEG quality if a request gives none: an integer, 1 to 100. Default 80.
    pub quality: u8,
    /// Duration that a request waits for a frame, 100 ms to 1 min. Default 5 s.
    pub timeout: Span,
    /// Boolean: whether a decoder may be started for captures. Default `true`.
    pub decoder: bool,
    /// Duration after which saved images are deleted, at least 1 min. Default 30 d.
    pub keep: Span,
    /// Total size of saved images above which the oldest are deleted, at least 1 MiB. Default 1 GiB.
    pub keep_bytes: ByteSize,
}

impl Capture {
    pub(super) fn check(&self, path: &[Step]) -> Result<(), Problem> {
        let fail =
            |key: &str, what: String| Err(Problem::value([path, &[key.into()]].concat(), what));
        if self.dir.as_os_str().is_empty() {
            return fail("dir", "is empty; name a folder".into());
        }
        if !(1..=100).contains(&self.quality) {
            let what = format!("{} is out of range; write 1 to 100", self.quality);
            return fail("quality", what);
        }
        let timeout = self.timeout;
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&timeout.duration()) {
            let what = format!("{timeout} is out of range; write \"100ms\" to \"1m\"");
            return fail("timeout", what);
        }
        let keep = self.keep;
        if keep.duration() < Duration::from_secs(60) {
            return fail(
                "keep",
                format!("{keep} is out of range; write \"1m\" or more"),
            );
        }
        let bytes = self.keep_bytes;
        if bytes.bytes() < 1 << 20 {
            let what = format!("{bytes} is out of range; write \"1MiB\" or more");
            return fail("keep-bytes", what);
        }
        Ok(())
    }

    /// Resolves a relative `dir` key against `dir`.
    pub(super) fn resolve(&mut self, dir: &Path) {
        self.dir = dir.join(&self.dir);
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            dir: "captures".into(),
            quality: 80,
            timeout: Span::from_duration(Duration::from_secs(5)),
            decoder: true,
            keep: Span::from_duration(Duration::from_secs(30 * 86_400)),
            keep_bytes: ByteSize::from_bytes(1 << 30),
        }
    }
}
