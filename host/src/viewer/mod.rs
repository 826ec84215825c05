//! Viewers: cursors over what a muxer gave out, and the list of who is watching.

mod outlet;
mod registry;

pub use outlet::{Carrier, Content, Cursor, Header, Next, Outlet, Piece, Taken};
pub use registry::{Counter, Entry, Place, Registry};
