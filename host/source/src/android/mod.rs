//! Android devices through an adb server: which are attached (`fleet`), and mirroring of their screens with the user's
//! scrcpy-server (`run`).

mod adb;
mod device;
mod fleet;
mod list;
mod name;
mod run;
pub mod scrcpy;
pub mod shell;

pub use fleet::{DeviceObserver, Fleet};
pub use list::{AttachedDevice, Presence, parse as parse_list};
pub use name::stream_name;
pub use run::run;
