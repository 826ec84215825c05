//! Source of the transports, unchanged from the components, compiled into this program.

#[path = "../../../plugins/mjpeg/src/lib.rs"]
mod mjpeg;
#[path = "../../../plugins/nal/src/lib.rs"]
mod nal;

pub use mjpeg::Mjpeg;
pub use nal::Nal;
