//! What a carrier gets for one viewer, in order.
//!
//! A carrier moves items to a client and knows nothing of transports: it takes the next items, encodes them by its own
//! [`Encoding`](super::Encoding) and writes them. A carrier with one byte stream writes chunk after chunk. One that has
//! several, such as QUIC, opens a stream where a chunk [starts a group](Chunk::starts_group), gives it a priority by
//! its [lane](Chunk::lane) and time, and resets it when a later chunk of the lane [restarts](Chunk::restarts) or is
//! further ahead of it than the [rule of the lane](LaneRule) allows: the unsent rest of the older group is useless
//! then.

use super::{
    outlet::{Header, LaneRule},
    piece::{Content, Encoding, Piece},
};
use bytes::Bytes;
use sluicegate_media::buffer::Buffer;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The means by which items are sent to a client. Its name is the one in `wit/gateway.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// The body of an HTTP response.
    Http,
    /// Messages of a WebSocket.
    WebSocket,
    /// Streams and datagrams of a WebTransport session.
    WebTransport,
}

impl Carrier {
    /// All carriers of this gateway.
    pub const ALL: [Carrier; 3] = [Carrier::Http, Carrier::WebSocket, Carrier::WebTransport];

    /// The carrier of that name, if this gateway has it.
    pub fn from_name(name: &str) -> Option<Carrier> {
        let mut all = Carrier::ALL.into_iter();
        all.find(|carrier| carrier.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Carrier::Http => "http",
            Carrier::WebSocket => "websocket",
            Carrier::WebTransport => "webtransport",
        }
    }
}

/// The next thing for a viewer.
#[derive(Debug)]
pub enum Item {
    /// A chunk that all viewers of the muxer share.
    Chunk(Chunk),
    /// A message to this viewer alone.
    Message(Content),
    /// Bytes that come before everything else on each stream that the carrier opens from now on for this lane. Only for
    /// carriers that open a stream for each group.
    StreamHead {
        /// Index into the lanes of the transport's profile.
        lane: u8,
        /// The bytes.
        bytes: Bytes,
    },
    /// Data on a stream that the client has opened. Only for carriers with such streams.
    Reply {
        /// Which stream.
        stream: u64,
        /// What to send.
        data: Buffer,
        /// Whether it ends the stream.
        last: bool,
    },
    /// The end; nothing follows.
    Close(Closing),
}

/// A chunk as one viewer gets it.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Index into the lanes of the transport's profile. Lanes are independent of each other.
    pub lane: u8,
    /// How chunks of that lane are delivered.
    pub rule: LaneRule,
    /// When it was published, since the muxer started. Lag is the difference of two of these.
    pub at: Duration,
    /// The same as a time of the process; absent where that was before the viewer arrived.
    pub published: Option<Instant>,
    /// A viewer may start here.
    pub starts_group: bool,
    /// The viewer starts here, or starts again because it was too far behind: chunks of the lane before this one were
    /// skipped.
    pub restarts: bool,
    /// The sample that the transport was given when it emitted this; absent where it emitted it for another reason.
    pub sample: Option<SampleTime>,
    /// The header that the chunk was made under. A carrier that opens a stream per group sends it first in each.
    pub header: Arc<Header>,
    /// The viewer has not received that header yet: a carrier with one byte stream sends it before the chunk.
    pub is_new_header: bool,
    /// The payload.
    pub piece: Arc<Piece>,
}

impl Chunk {
    /// What has to be written for it, as `E` encodes it: the header, if the viewer lacks it, and the payload.
    pub fn encoded<E: Encoding>(&self) -> impl Iterator<Item = &Bytes> {
        let header = self.is_new_header.then(|| self.header.pieces());
        let pieces = header.into_iter().flatten().chain([&*self.piece]);
        pieces.flat_map(|piece| piece.encoded::<E>())
    }
}

/// Track and time of a sample, in units of 1/90,000 s on the stream's timeline: for RTP timestamps, for priorities, and
/// for datagrams that expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleTime {
    /// The track that the sample belongs to.
    pub track: Track,
    /// When it is decoded.
    pub decode: u64,
    /// When it is presented.
    pub presentation: u64,
}

/// A track of a stream; it has one of each kind at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// Video.
    Video,
    /// Audio.
    Audio,
}

/// Why a viewer gets nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The transport closes this viewer, for that reason.
    Requested(String),
    /// The muxer dropped this viewer, because it failed to keep up with messages.
    Dropped,
    /// The muxer has ended, for that reason.
    Ended(Arc<str>),
}

#[cfg(test)]
mod tests {
    //! A carrier with a stream for each group of each lane, as one over QUIC would be, in memory.
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::{Access, Cursor, Encoding, Next, Outlet, buffers};
    use bytes::Bytes;
    use std::{
        collections::{BTreeMap, VecDeque},
        task::{Context, Poll, Waker},
        time::Duration,
    };

    struct Plain;

    impl Encoding for Plain {
        fn encode(content: &Content) -> Vec<Bytes> {
            match content {
                Content::Binary(payload) => buffers(&[], payload),
                Content::Text(_) => Vec::new(),
            }
        }
    }

    /// One group of one lane.
    #[derive(Debug, Default, PartialEq)]
    struct Stream {
        text: String,
        /// Streams with a higher priority are sent first: newer groups before older ones, audio before video.
        priority: (u64, bool),
        reset: bool,
    }

    /// Streams in the order in which they were opened.
    #[derive(Default)]
    struct Streams {
        all: Vec<Stream>,
        open: BTreeMap<u8, usize>,
        /// What each new stream of a lane begins with.
        heads: BTreeMap<u8, Bytes>,
    }

    impl Streams {
        fn take(&mut self, outlet: &Outlet, cursor: &mut Cursor) {
            let mut items = VecDeque::new();
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(Next::TakenChunks(_)) =
                outlet.poll_take(&mut context, cursor, usize::MAX, &mut items)
            {}
            items.into_iter().for_each(|item| self.item(item));
        }

        fn item(&mut self, item: Item) {
            match item {
                Item::Chunk(chunk) => self.chunk(&chunk),
                Item::StreamHead { lane, bytes } => {
                    self.heads.insert(lane, bytes);
                }
                other => panic!("{other:?}"),
            }
        }

        fn chunk(&mut self, chunk: &Chunk) {
            let mut is_new = false;
            if chunk.restarts
                && let Some(older) = self.open.remove(&chunk.lane)
            {
                self.all[older].reset = true;
            }
            if chunk.starts_group || !self.open.contains_key(&chunk.lane) {
                let sample = chunk.sample.unwrap();
                self.open.insert(chunk.lane, self.all.len());
                self.all.push(Stream {
                    priority: (sample.presentation, sample.track == Track::Audio),
                    ..Stream::default()
                });
                is_new = true;
            }
            let stream = &mut self.all[self.open[&chunk.lane]];
            if is_new && let Some(head) = self.heads.get(&chunk.lane) {
                stream.text.push_str(str::from_utf8(head).unwrap());
            }
            let header = is_new.then(|| chunk.header.pieces());
            for piece in header.into_iter().flatten().chain([&*chunk.piece]) {
                for bytes in piece.encoded::<Plain>() {
                    stream.text.push_str(str::from_utf8(bytes).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_carrier_can_open_prioritise_and_reset_a_stream_per_lane_and_group() {
        let outlet = Outlet::default();
        outlet.set_lanes(vec![LaneRule::new(Duration::from_secs(1)); 2]);
        let content = |text: &str| Content::Binary(Bytes::copy_from_slice(text.as_bytes()).into());
        outlet.set_header(Header::new(vec![content("<h>")]));
        let publish = |text: &str, lane: u8, access: Access, ms: u64| {
            let track = if lane == 1 {
                Track::Audio
            } else {
                Track::Video
            };
            let (decode, presentation) = (ms * 90, ms * 90 + 9);
            let sample = SampleTime {
                track,
                decode,
                presentation,
            };
            outlet.publish(
                [(content(text), lane, access)],
                Duration::from_millis(ms),
                Some(sample),
            );
        };
        let (mut streams, mut cursor) = (Streams::default(), Cursor::new());
        publish("A", 0, Access::Start, 0);
        publish("s", 1, Access::Start, 0);
        publish("b", 0, Access::Ordinary, 40);
        streams.take(&outlet, &mut cursor);
        streams.item(Item::StreamHead {
            lane: 0,
            bytes: Bytes::from_static(b"[me]"),
        });
        publish("C", 0, Access::Start, 80);
        streams.take(&outlet, &mut cursor);
        // The viewer takes nothing for longer than its lag bound, so the rest of that group is skipped.
        publish("d", 0, Access::Ordinary, 120);
        publish("E", 0, Access::Start, 2000);
        streams.take(&outlet, &mut cursor);
        let stream = |text: &str, ms: u64, audio, reset| Stream {
            text: text.into(),
            priority: (ms * 90 + 9, audio),
            reset,
        };
        let expected = [
            stream("<h>Ab", 0, false, false),
            stream("<h>s", 0, true, false),
            stream("[me]<h>C", 80, false, true),
            stream("[me]<h>E", 2000, false, false),
        ];
        assert_eq!(streams.all, expected);
    }
}
