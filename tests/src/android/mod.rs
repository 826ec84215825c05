//! Android without Android: a real adb server, with fake devices behind it. A fake device speaks adbd's protocol
//! (`adbd`) and runs a fake scrcpy server (`scrcpy`) of any version that the fixtures describe (`wire`).

mod adbd;
mod film;
mod scrcpy;
mod server;
mod wire;

pub use adbd::{Device, State};
pub use film::{Film, FilmViewer, ReceivedFrame};
pub use server::Adb;
pub use wire::Wire;

use crate::scratch;
use std::path::PathBuf;

/// Creates a file that the fake devices accept as scrcpy's server of this version, with upstream's file name.
pub fn jar(version: &str) -> PathBuf {
    let file = scratch("jar").join(format!("scrcpy-server-v{version}"));
    std::fs::write(&file, format!("scrcpy-server {version}\n").repeat(9000)).unwrap();
    file
}
