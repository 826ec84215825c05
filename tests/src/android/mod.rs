//! Android without Android: a real adb server, and devices of our own behind it that speak adbd's protocol and, as the processes on
//! them, scrcpy's server of any version.

mod adbd;
mod film;
mod scrcpy;
mod server;
mod wire;

pub use adbd::{Device, State};
pub use film::{Film, Seen, Watching};
pub use server::Adb;
pub use wire::Wire;

use crate::scratch;
use std::path::PathBuf;

/// A file that devices of ours take for scrcpy's server of that version, named as upstream names it.
pub fn jar(version: &str) -> PathBuf {
    let file = scratch("jar").join(format!("scrcpy-server-v{version}"));
    std::fs::write(&file, format!("scrcpy-server {version}\n").repeat(9000)).unwrap();
    file
}
