//! Directories and files that only the gateway's own user can read and write, for data that is kept between runs.
//!
//! Files with other permissions or owners are not trusted.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `$VARIABLE/sluicegate/NAME`, or `~/FALLBACK/sluicegate/NAME` if the variable is not an absolute path; `None` without
/// a home directory. The variables are those of the XDG Base Directory Specification.
pub fn folder(variable: &str, fallback: &str, name: &str) -> Option<PathBuf> {
    let base = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(fallback)));
    base.map(|base| base.join("sluicegate").join(name))
}

/// Creates the directory if it does not exist.
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
    match found.is_dir() && is_own(&found) {
        true => Ok(()),
        false => Err("it must be a directory that belongs to this user, with mode 0700".into()),
    }
}

/// Reads a file that only this user can read and write; `None` if there is no such file.
pub fn read(path: &Path) -> Option<Vec<u8>> {
    let found = fs::symlink_metadata(path).ok()?;
    if !found.is_file() || !is_own(&found) {
        return None;
    }
    fs::read(path).ok()
}

/// Creates or replaces a file atomically.
///
/// # Errors
/// The system's error.
pub fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    for part in parts {
        file.write_all(part)?;
    }
    drop(file);
    fs::rename(&temporary, path)
}

fn is_own(found: &fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
}
