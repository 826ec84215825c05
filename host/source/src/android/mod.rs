//! Android devices by way of an adb server: which there are, and their screens by the user's scrcpy-server.

mod adb;
mod device;
mod fleet;
mod list;
mod name;
mod run;
pub mod scrcpy;
pub mod shell;

pub use fleet::{Audience, Fleet};
pub use list::{Attached, Presence, parse as parse_list};
pub use name::stream_name;
pub use run::run;
