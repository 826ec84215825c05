//! Viewers: cursors over what a muxer gave out, and the list of who is watching.

mod outlet;
mod registry;
mod wire;

pub use outlet::{Access, Cursor, Header, Next, Outlet, Taken};
pub use registry::{
    Counter, Delays, Entry, Meter, MetricKey, Place, Registry, RequestClient, STAYS, Totals,
    unguessable,
};
pub use wire::{Carrier, Content, Piece, frame_head};
