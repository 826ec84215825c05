//! The transports' source as it is in the components, compiled into this program.

#[path = "../../../plugins/mjpeg/src/lib.rs"]
mod mjpeg;
#[path = "../../../plugins/nal/src/lib.rs"]
mod nal;

pub use mjpeg::Mjpeg;
pub use nal::Nal;
