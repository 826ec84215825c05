//! Viewers: cursors over what a muxer gave out, and the list of who is watching.

mod item;
mod outlet;
mod piece;
mod registry;

pub use item::{Carrier, Chunk, Closing, Item, SampleTime, Track};
pub use outlet::{Access, Cursor, Header, Next, Outlet, Taken};
pub use piece::{Content, Encoding, Piece, buffers};
pub use registry::{
    Counter, Delays, Entry, Meter, MetricKey, Place, Registry, RequestClient, STAYS, Totals,
    unguessable,
};
