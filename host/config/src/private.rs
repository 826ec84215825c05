//! Directories and files that only the gateway's own user can read and write, for data that is kept between runs.
//!
//! Files with other permissions or owners are not trusted.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Extension of files that are being written.
const UNFINISHED: &str = "tmp";

/// `$VARIABLE/sluicegate/NAME`, or `~/FALLBACK/sluicegate/NAME` if the variable is not an absolute path; `None` without
/// a home directory, which must be an absolute path, too. The variables are those of the XDG Base Directory
/// Specification.
pub fn folder(variable: &str, fallback: &str, name: &str) -> Option<PathBuf> {
    let absolute = |variable: &str| {
        let path = std::env::var_os(variable).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let base = absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(fallback)));
    base.map(|base| base.join("sluicegate").join(name))
}

/// Creates the directory if it does not exist, and deletes what a process that ended while it wrote left there.
///
/// # Errors
/// Message for the user: the directory cannot be created, or others can access it.
pub fn make(dir: &Path) -> Result<(), String> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.to_string()),
    }
    let found = fs::symlink_metadata(dir).map_err(|error| error.to_string())?;
    if !found.is_dir() || !is_own(&found) {
        return Err("it must be a directory that belongs to this user, with mode 0700".into());
    }
    delete_unfinished(dir).map_err(|error| error.to_string())
}

/// Deletes the files that [`write`] did not finish. Those that are being written are locked.
fn delete_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_unfinished = path.extension().is_some_and(|known| known == UNFINISHED);
        // Another process may have deleted it meanwhile.
        if is_unfinished
            && let Ok(file) = fs::OpenOptions::new().write(true).open(&path)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Reads a file that only this user can read and write; `None` if there is no such file.
pub fn read(path: &Path) -> Option<Vec<u8>> {
    let found = fs::symlink_metadata(path).ok()?;
    if !found.is_file() || !is_own(&found) {
        return None;
    }
    fs::read(path).ok()
}

/// Creates or replaces a file atomically. If that fails, nothing is left of it.
///
/// # Errors
/// The system's error.
pub fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    replace(path, parts, false)
}

/// As [`write()`], and returns when it would survive a loss of power.
///
/// # Errors
/// The system's error.
pub fn write_durably(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    replace(path, parts, true)?;
    match path.parent() {
        Some(dir) if dir != Path::new("") => fs::File::open(dir)?.sync_all(),
        _ => fs::File::open(".")?.sync_all(),
    }
}

fn replace(path: &Path, parts: &[&[u8]], durably: bool) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.{UNFINISHED}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    // For `delete_unfinished`. Where files cannot be locked, that may delete this one, no more.
    let _ = file.try_lock();
    let written = parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| match durably {
            true => file.sync_all(),
            false => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Whether a file or directory belongs to this user and is closed to others.
pub fn is_own(found: &fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Names of the files in `dir`, in order.
    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_left_of_a_file_that_cannot_be_written() {
        let dir = std::env::temp_dir().join(format!("sluicegate-private-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        make(&dir).unwrap();
        // A directory cannot be replaced by a file.
        fs::create_dir(dir.join("taken")).unwrap();
        assert!(write(&dir.join("taken"), &[b"text"]).is_err());
        assert_eq!(names(&dir), ["taken"]);
        write_durably(&dir.join("good"), &[b"te", b"xt"]).unwrap();
        assert_eq!(read(&dir.join("good")).unwrap(), b"text");
        // A process that still runs has locked what it writes.
        fs::write(dir.join("left.1.tmp"), "te").unwrap();
        let written = fs::File::create(dir.join("written.2.tmp")).unwrap();
        written.lock().unwrap();
        make(&dir).unwrap();
        assert_eq!(names(&dir), ["good", "taken", "written.2.tmp"]);
        drop(written);
        make(&dir).unwrap();
        assert_eq!(names(&dir), ["good", "taken"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
