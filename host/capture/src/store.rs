//! Saved captures: a file `DIR/STREAM/TIME-ID.jpg` for each, and a line of JSON in `DIR/captures.jsonl`.
//!
//! A file gets its name only when it is complete on the disk: it is written under a temporary name in the same folder,
//! synced and renamed. Temporary files that a killed gateway left behind are deleted after an hour. Everything here
//! blocks, so `Captures` calls it on blocking threads.

use parking_lot::Mutex;
use serde::Serialize;
use sluicegate_config as config;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

/// Suffix of a temporary file.
const TEMPORARY_SUFFIX: &str = ".part";
/// Age at which a temporary file counts as abandoned.
const PARTIAL_MAX_AGE: Duration = Duration::from_secs(3600);
const JOURNAL: &str = "captures.jsonl";
/// The previous journal.
const PREVIOUS_JOURNAL: &str = "captures.1.jsonl";
/// Size at which the journal is rotated.
const MAX_JOURNAL_BYTES: u64 = 16 << 20;

/// The folder with saved captures, and how long and how much it keeps.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    keep: Duration,
    keep_bytes: u64,
    /// Serializes writes to the journal.
    journal: Mutex<()>,
}

/// A line of the journal, and the payload of the event `capture`.
#[derive(Debug, Serialize)]
pub struct JournalEntry<'a> {
    /// When it was saved: RFC 3339, UTC, with milliseconds.
    pub time: &'a str,
    /// Name of the stream.
    pub serial: &'a str,
    /// Identifier of the capture.
    pub capture_id: &'a str,
    /// Path of the file, relative to `capture.dir`.
    pub path: &'a str,
    /// Size of the file in bytes.
    pub bytes: usize,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// When the frame arrived from the source: RFC 3339, UTC, with milliseconds.
    pub captured_at: &'a str,
}

impl Store {
    /// Creates a store from the config. The folder is created with the first file.
    pub fn new(config: &config::Capture) -> Store {
        Store {
            dir: config.dir.clone(),
            keep: config.keep.duration(),
            keep_bytes: config.keep_bytes.bytes(),
            journal: Mutex::default(),
        }
    }

    /// Saves an image of `stream` that was taken at `captured_at` (Unix microseconds). Returns its path relative to the
    /// folder.
    ///
    /// # Errors
    /// It cannot be written. Nothing is left of the image then.
    pub fn save(
        &self,
        stream: &str,
        captured_at: u64,
        id: &str,
        ending: &str,
        data: &[u8],
    ) -> io::Result<String> {
        let folder = config::path_segment(stream);
        let path = format!("{folder}/{}-{id}.{ending}", stamp(captured_at));
        let folder = self.dir.join(folder);
        fs::create_dir_all(&folder)?;
        let name = self.dir.join(&path);
        let unfinished = folder.join(format!(".{id}{TEMPORARY_SUFFIX}"));
        let written = write(&unfinished, data).and_then(|()| fs::rename(&unfinished, &name));
        if let Err(error) = written {
            // A partial file would occupy space.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        // Makes the new name survive a power failure, too.
        File::open(&folder)?.sync_all()?;
        Ok(path)
    }

    /// Appends a line to the journal.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append_journal(&self, line: &JournalEntry<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let _one = self.journal.lock();
        let path = self.dir.join(JOURNAL);
        if fs::metadata(&path).is_ok_and(|found| found.len() >= MAX_JOURNAL_BYTES) {
            fs::rename(&path, self.dir.join(PREVIOUS_JOURNAL))?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        // In one write, so that lines of several gateways do not interleave.
        file.write_all(&text)
    }

    /// Deletes what is older than `keep`, then the oldest files beyond `keep_bytes`, and abandoned temporary files.
    /// Only files whose name has the form that [`Store::save`] gives are touched. Returns the number of deleted images.
    pub fn sweep(&self, now: SystemTime) -> usize {
        let mut kept = Vec::new();
        let mut gone = 0;
        for folder in entries(&self.dir) {
            for file in entries(&folder) {
                let Ok(found) = fs::symlink_metadata(&file) else {
                    continue;
                };
                if !found.is_file() {
                    continue;
                }
                let age = |since: SystemTime| now.duration_since(since).unwrap_or_default();
                let name = file
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                if name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX) {
                    if found
                        .modified()
                        .is_ok_and(|since| age(since) > PARTIAL_MAX_AGE)
                    {
                        let _ = fs::remove_file(&file);
                    }
                } else if let Some(capture_time) = capture_time(name) {
                    if age(capture_time) > self.keep {
                        gone += usize::from(fs::remove_file(&file).is_ok());
                    } else {
                        kept.push((name.to_owned(), file, found.len()));
                    }
                }
            }
        }
        let mut bytes: u64 = kept.iter().map(|(_, _, bytes)| bytes).sum();
        // Names begin with the time.
        kept.sort();
        for (_, file, size) in kept {
            if bytes <= self.keep_bytes {
                break;
            }
            if fs::remove_file(&file).is_ok() {
                bytes -= size;
                gone += 1;
            }
        }
        gone
    }
}

fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(data)?;
    file.sync_all()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect()
}

/// Formats Unix microseconds as `20260126T123456.789Z`.
fn stamp(unix_us: u64) -> String {
    let (time, ms) = utc(unix_us);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}.{ms:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Capture time in a file name; `None` if the name does not have the form of a saved capture.
fn capture_time(name: &str) -> Option<SystemTime> {
    let (stamp, rest) = name.split_once('-')?;
    let (id, ending) = rest.split_once('.')?;
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if stamp.len() != 20 || !hex(id) || !matches!(ending, "jpg" | "png" | "webp") {
        return None;
    }
    let digits = |from: usize, to: usize| stamp.get(from..to)?.parse::<u16>().ok();
    let small = |from: usize, to: usize| u8::try_from(digits(from, to)?).ok();
    if stamp.get(8..9)? != "T" || stamp.get(15..16)? != "." || stamp.get(19..)? != "Z" {
        return None;
    }
    let month = time::Month::try_from(small(4, 6)?).ok()?;
    let date = time::Date::from_calendar_date(digits(0, 4)?.into(), month, small(6, 8)?).ok()?;
    let time = date.with_hms_milli(
        small(9, 11)?,
        small(11, 13)?,
        small(13, 15)?,
        digits(16, 19)?,
    );
    Some(time.ok()?.assume_utc().into())
}

/// Formats Unix microseconds as `2026-01-26T12:34:56.789Z` (RFC 3339).
pub fn rfc3339(unix_us: u64) -> String {
    let (time, ms) = utc(unix_us);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Splits Unix microseconds into the second and its milliseconds.
fn utc(unix_us: u64) -> (OffsetDateTime, u64) {
    let seconds = i64::try_from(unix_us / 1_000_000).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds);
    (
        time.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        unix_us / 1000 % 1000,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sluicegate_config::{ByteSize, Span};

    const DAY: u64 = 86_400_000_000;

    struct TestStore {
        store: Store,
        _dir: Folder,
    }

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn kept(name: &str, days: u64, bytes: u64) -> TestStore {
        let dir = std::env::temp_dir().join(format!("sluicegate-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let store = Store::new(&config::Capture {
            dir: dir.clone(),
            keep: Span::from_duration(Duration::from_micros(days * DAY)),
            keep_bytes: ByteSize::from_bytes(bytes),
            ..config::Capture::default()
        });
        TestStore {
            store,
            _dir: Folder(dir),
        }
    }

    #[test]
    fn a_saved_image_is_at_its_path_and_its_name_has_its_time() {
        let kept = kept("where", 1, 1 << 30);
        let at = 1_769_430_896_789_000;
        let path = kept
            .store
            .save("a:1", at, "0badcafe", "jpg", b"image")
            .unwrap();
        assert_eq!(path, "a%3A1/20260126T123456.789Z-0badcafe.jpg");
        assert_eq!(fs::read(kept.store.dir.join(&path)).unwrap(), b"image");
        assert_eq!(entries(&kept.store.dir.join("a%3A1")).len(), 1);
        let (_, name) = path.split_once('/').unwrap();
        let since = capture_time(name)
            .unwrap()
            .duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(since.unwrap(), Duration::from_micros(at));
        assert_eq!(rfc3339(at), "2026-01-26T12:34:56.789Z");
    }

    #[test]
    fn names_that_are_not_of_this_making_are_left_alone() {
        for name in [
            "holiday.jpg",
            "20260126T123456.789Z-zz.jpg",
            "20260126T123456.789Z-ab.exe",
            "20261326T123456.789Z-ab.jpg",
            "20260126T123456.789Z.jpg",
            "2026012\u{e9}T12345.789Z-ab.jpg",
            "",
        ] {
            assert_eq!(capture_time(name), None, "{name}");
        }
        assert!(capture_time("20260126T123456.789Z-ab.webp").is_some());
    }

    #[test]
    fn the_old_go_then_the_oldest_of_what_is_too_much() {
        let kept = kept("sweep", 2, 25);
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(20_000 * DAY);
        for (days, id) in [(1, "a1"), (3, "a3"), (0, "a0")] {
            for stream in ["x", "y"] {
                let at = (20_000 - days) * DAY;
                kept.store
                    .save(stream, at, id, "png", b"ten bytes.")
                    .unwrap();
            }
        }
        fs::write(kept.store.dir.join("x/mine.txt"), "mine").unwrap();
        assert_eq!(kept.store.sweep(now), 2 + 2);
        let mut left: Vec<String> = ["x", "y"]
            .iter()
            .flat_map(|stream| entries(&kept.store.dir.join(stream)))
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        left.sort();
        let newest = format!("{}-a0.png", stamp(20_000 * DAY));
        assert_eq!(left, [newest.clone(), newest, "mine.txt".into()]);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let kept = kept("fails", 1, 1 << 30);
        fs::create_dir_all(&kept.store.dir).unwrap();
        // A folder with that name makes the rename fail.
        let at = 1_769_430_896_789_000;
        fs::create_dir_all(kept.store.dir.join("s/20260126T123456.789Z-ab.jpg/full")).unwrap();
        assert!(kept.store.save("s", at, "ab", "jpg", b"image").is_err());
        assert_eq!(entries(&kept.store.dir.join("s")).len(), 1);
    }
}
