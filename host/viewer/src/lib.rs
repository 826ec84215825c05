//! Viewers: cursors over what a muxer gave out, and the list of who is watching.

mod outlet;
mod registry;
mod wire;

pub use outlet::{Access, Cursor, Header, Next, Outlet, Taken};
pub use registry::{
    Asker, Counter, Delays, Entry, Meter, Place, Registry, STAYS, Totals, Way, unguessable,
};
pub use wire::{Carrier, Content, Piece, frame_head};
