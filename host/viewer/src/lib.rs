//! Delivery to viewers, and the list of connected viewers.
//!
//! A muxer publishes chunks to its [`Outlet`], one ring that all of its viewers share; a viewer is a [`Cursor`] over
//! it, so a slow viewer costs no memory and jumps to a newer start point. Wire bytes are made once per carrier and
//! shared ([`Piece`]). Carriers get all of it as one [`Delivery`]. The [`Registry`] counts what each viewer gets. No
//! I/O; called by the muxers and by the carriers in `host/net`.

mod delivery;
mod item;
mod outlet;
mod piece;
mod registry;

pub use delivery::{ClientStreamData, Delivery, FromClient, Want};
pub use item::{Carrier, Chunk, Closing, Item, SampleTime, Track};
pub use outlet::{Access, Cursor, Header, LaneRule, Next, Outlet, TakenChunks};
pub use piece::{Content, Encoding, Piece, buffers};
pub use registry::{
    Counter, Delays, Entry, Meter, MetricKey, REQUEST_CLIENT_TIMEOUT, Registration, Registry,
    RequestClient, Totals, random_id,
};
