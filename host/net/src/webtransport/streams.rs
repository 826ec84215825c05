//! What a session sends, and in which order: one stream for each group of each lane, one for each message to this
//! viewer alone, and the answers on streams that the client opened.
//!
//! Data is held here until QUIC takes it, which is as little as the path needs (see `session`); what QUIC has, it sends
//! in the order of the lanes. So the order is decided here:
//!
//! - Messages come first, then each lane in the order of the profile.
//! - Of a lane, the newest group comes first; older ones get what is left. A chunk that was begun is completed before
//!   that, since a part of one is worth nothing.
//! - What lags more than the lane's rule allows is given up once a newer group has begun, and so is everything before a
//!   chunk at which the viewer restarts.
//!
//! Pure. `S` is the sending end of an open stream.

use crate::serving::MessageBacklog;
use bytes::{Buf, Bytes};
use sluicegate_media::buffer::Buffer;
use sluicegate_viewer::{Chunk, Content, Encoding, Header, buffers};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// Groups of one session that are not acknowledged yet. Beyond, the oldest that is complete is given up: of others more
/// would come, and begin a stream in the middle of a group.
const MAX_STREAMS: usize = 128;
/// Messages that are not acknowledged yet. A client that lets more wait is no client for them.
const MAX_MESSAGES: usize = 2048;
/// What each of them counts besides its bytes while it waits here, so that these are less than half of that.
const MESSAGE_STREAM: usize = 256;

/// How long the transport may take until it begins an answer on a stream that the client has ended. After that it ends
/// without one, since the client may have only so many.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Content on a stream or in a datagram, as it is. There are no messages of text.
pub(super) struct StreamEncoding;

impl Encoding for StreamEncoding {
    fn encode(content: &Content) -> Vec<Bytes> {
        match content {
            Content::Binary(payload) => buffers(&[], payload),
            Content::Text(_) => Vec::new(),
        }
    }
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message to this viewer alone.
    Message,
    /// Answers on the client's stream of this number.
    Reply(u64),
    /// A group of this lane.
    Group(u8),
}

impl Kind {
    /// Streams with a higher one are sent first by QUIC.
    pub fn priority(self) -> i32 {
        match self {
            Kind::Message | Kind::Reply(_) => 1,
            Kind::Group(lane) => -i32::from(lane),
        }
    }
}

/// A chunk, or the rest of it.
#[derive(Debug)]
struct Queued {
    buffers: VecDeque<Bytes>,
    /// When it was published.
    at: Duration,
    /// The same as [`Chunk::published`].
    published: Option<Instant>,
    /// QUIC has taken a part of it.
    begun: bool,
}

/// A stream that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Stream<S> {
    pub kind: Kind,
    /// Sending end, once it is open.
    pub sender: Option<S>,
    /// QUIC has all of it, and its end.
    pub finished: bool,
    /// What QUIC has not taken.
    queue: VecDeque<Queued>,
    /// QUIC took nothing of it when it was last tried.
    blocked: bool,
    /// Nothing is added any more.
    complete: bool,
    /// The client does not want it.
    cancelled: bool,
    /// The header of its newest chunk.
    header: Option<Arc<Header>>,
    /// When its newest chunk was published.
    newest: Duration,
    /// When it ends if nothing was answered on it by then.
    answer_due: Option<Instant>,
    answered: bool,
}

impl<S> Stream<S> {
    fn new(kind: Kind, sender: Option<S>) -> Stream<S> {
        Stream {
            kind,
            sender,
            finished: false,
            queue: VecDeque::new(),
            blocked: false,
            complete: false,
            cancelled: false,
            header: None,
            newest: Duration::ZERO,
            answer_due: None,
            answered: false,
        }
    }

    /// The first of the buffers that QUIC has not taken, at most `N`, and their number.
    pub fn first_buffers<const N: usize>(&self) -> ([Bytes; N], usize) {
        let mut first = [const { Bytes::new() }; N];
        let mut count = 0;
        for (place, buffer) in first.iter_mut().zip(self.buffers()) {
            place.clone_from(buffer);
            count += 1;
        }
        (first, count)
    }

    fn buffers(&self) -> impl Iterator<Item = &Bytes> {
        self.queue.iter().flat_map(|chunk| &chunk.buffers)
    }

    /// Bytes that QUIC has not taken.
    fn queued(&self) -> usize {
        self.buffers().map(Bytes::len).sum()
    }

    /// Whether QUIC has to be told that it ends.
    pub fn is_to_finish(&self) -> bool {
        self.queue.is_empty() && self.complete && !self.finished
    }

    fn is_to_send(&self) -> bool {
        !self.cancelled && (!self.queue.is_empty() || self.is_to_finish())
    }

    /// Whether a chunk was begun and not completed.
    fn is_amid_chunk(&self) -> bool {
        self.queue.front().is_some_and(|chunk| chunk.begun)
    }

    /// Whether it is given up, as its lane has this newer chunk. What QUIC has entirely is on its way, and may need
    /// `under_way` for that.
    fn is_stale(&self, chunk: &Chunk, under_way: Duration) -> bool {
        let oldest = self.queue.front().map_or(self.newest, |oldest| oldest.at);
        let lag = chunk.at.saturating_sub(oldest);
        let max_lag = chunk.rule.max_lag;
        match self.queue.len() {
            0 => lag > max_lag + under_way,
            // Its last chunk. Where only the newest counts, none would ever arrive on a slow path if each gave way.
            1 if self.is_amid_chunk() && max_lag.is_zero() => false,
            _ => chunk.restarts || chunk.rule.is_stale(lag),
        }
    }
}

/// All streams of a session, in the order in which they were made.
#[derive(Debug)]
pub(super) struct Streams<S> {
    all: VecDeque<Stream<S>>,
    /// What the protocol requires first on each stream of ours.
    prefix: Bytes,
    /// What the transport sends first on each stream of a lane.
    heads: BTreeMap<u8, Bytes>,
    queued: usize,
    /// Streams that have to be reset.
    given_up: Vec<Stream<S>>,
    jumps: u32,
}

impl<S> Streams<S> {
    /// No streams; each of ours begins with `prefix`.
    pub fn new(prefix: Bytes) -> Streams<S> {
        Streams {
            all: VecDeque::new(),
            prefix,
            heads: BTreeMap::new(),
            queued: 0,
            given_up: Vec::new(),
            jumps: 0,
        }
    }

    /// Bytes that QUIC has not taken.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Messages and answers that QUIC has not taken.
    pub fn messages(&self) -> MessageBacklog {
        let all = self.all.iter();
        let all = all.filter(|stream| !matches!(stream.kind, Kind::Group(_)));
        let mut messages = MessageBacklog::default();
        for message in all.flat_map(|stream| &stream.queue) {
            let bytes = message.buffers.iter().map(Bytes::len).sum::<usize>();
            messages.add(MESSAGE_STREAM + bytes);
        }
        messages
    }

    /// Whether QUIC has everything, also the ends of streams.
    pub fn is_idle(&self) -> bool {
        !self.all.iter().any(Stream::is_to_send)
    }

    /// Adds a chunk: to the newest stream of its lane, or on a new one if it starts a group. Older groups may be given
    /// up by that. `under_way` is how long QUIC may need for what it has.
    pub fn add_chunk(&mut self, chunk: &Chunk, under_way: Duration) {
        let kind = Kind::Group(chunk.lane);
        // What does not fit into a datagram has a stream of its own.
        if chunk.starts_group || chunk.rule.datagrams {
            self.complete(kind);
            let before = self.given_up.len();
            self.give_up(|stream| {
                stream.kind == kind && stream.complete && stream.is_stale(chunk, under_way)
            });
            let mut given_up = self.given_up.iter().skip(before);
            let is_cut = given_up.any(|stream| !stream.finished && !stream.cancelled);
            // Where the viewer restarts, the outlet has counted that.
            self.jumps += u32::from(is_cut && !chunk.restarts);
        }
        let is_open = |stream: &Stream<S>| stream.kind == kind && !stream.complete;
        if !self.all.iter().any(is_open) {
            self.open_group(kind);
        }
        let Some(stream) = self.all.iter_mut().rev().find(|stream| is_open(stream)) else {
            return;
        };
        let mut buffers = VecDeque::new();
        if stream.header.is_none() {
            buffers.push_back(self.prefix.clone());
            buffers.extend(self.heads.get(&chunk.lane).cloned());
        }
        let is_known = |header: &Arc<Header>| Arc::ptr_eq(header, &chunk.header);
        if !stream.header.as_ref().is_some_and(is_known) {
            let pieces = chunk.header.pieces().iter();
            let encoded = pieces.flat_map(|piece| piece.encoded::<StreamEncoding>());
            buffers.extend(encoded.cloned());
            stream.header = Some(chunk.header.clone());
        }
        buffers.extend(chunk.piece.encoded::<StreamEncoding>().iter().cloned());
        stream.newest = chunk.at;
        stream.complete = chunk.rule.datagrams;
        if !stream.cancelled {
            self.queued += buffers.iter().map(Bytes::len).sum::<usize>();
            stream.queue.push_back(Queued {
                buffers,
                at: chunk.at,
                published: chunk.published,
                begun: false,
            });
        }
    }

    /// Adds a message to this viewer alone, on a stream of its own. Returns false if too many are not acknowledged.
    #[must_use]
    pub fn add_message(&mut self, content: &Content) -> bool {
        let buffers = StreamEncoding::encode(content);
        if buffers.is_empty() {
            return true;
        }
        let all = self.all.iter();
        if all.filter(|stream| stream.kind == Kind::Message).count() >= MAX_MESSAGES {
            return false;
        }
        self.all.push_back(Stream::new(Kind::Message, None));
        let prefix = self.prefix.clone();
        self.push(
            Kind::Message,
            std::iter::once(prefix).chain(buffers).collect(),
        );
        self.complete(Kind::Message);
        true
    }

    /// Sets what comes first on each stream that is opened for the lane from now on.
    pub fn set_head(&mut self, lane: u8, bytes: Bytes) {
        self.heads.insert(lane, bytes);
    }

    /// Adds a stream that the client opened and that can be answered.
    pub fn add_client_stream(&mut self, id: u64, sender: S) {
        self.all
            .push_back(Stream::new(Kind::Reply(id), Some(sender)));
    }

    /// Notes that the client has sent everything on that stream, which the transport has to answer now.
    pub fn client_finished(&mut self, id: u64, now: Instant) {
        let mut all = self.all.iter_mut();
        if let Some(stream) = all.find(|stream| stream.kind == Kind::Reply(id)) {
            stream.answer_due = Some(now + ANSWER_TIMEOUT);
        }
    }

    /// Completes streams that were not answered in time.
    pub fn finish_unanswered(&mut self, now: Instant) {
        for stream in &mut self.all {
            let is_late = stream.answer_due.is_some_and(|due| due <= now);
            stream.complete |= is_late && !stream.answered;
        }
    }

    /// Gives up that stream, which the client has reset.
    pub fn abandon_client_stream(&mut self, id: u64) {
        self.give_up(|stream| stream.kind == Kind::Reply(id));
    }

    /// Answers on the client's stream; ignored if it is not open.
    pub fn add_reply(&mut self, id: u64, data: &Buffer, last: bool) {
        let kind = Kind::Reply(id);
        if let Some(stream) = self.all.iter_mut().find(|stream| stream.kind == kind) {
            stream.answered = true;
        }
        self.push(kind, buffers(&[], data).into());
        if last {
            self.complete(kind);
        }
    }

    /// Completes all streams.
    pub fn end(&mut self) {
        self.all
            .iter_mut()
            .for_each(|stream| stream.complete = true);
    }

    /// The stream to send next, with its place among all, except those that are blocked, and, unless `may_open`, those
    /// that are not open yet.
    pub fn next(&mut self, may_open: bool) -> Option<(usize, &mut Stream<S>)> {
        let mut has_newer = [false; 256];
        let candidates = self.all.iter().enumerate().rev();
        let ranked = candidates.filter_map(|(at, stream)| {
            let newer = match stream.kind {
                Kind::Group(lane) => has_newer.get_mut(usize::from(lane)),
                Kind::Message | Kind::Reply(_) => None,
            };
            let is_newest = newer.is_none_or(|newer| !std::mem::replace(newer, true));
            if !stream.is_to_send() || stream.blocked || !may_open && stream.sender.is_none() {
                return None;
            }
            let rank = match stream.kind {
                _ if stream.is_to_finish() => (0, at, 0),
                Kind::Message | Kind::Reply(_) => (0, at, 0),
                Kind::Group(lane) if stream.is_amid_chunk() => (1, lane.into(), 0),
                Kind::Group(lane) if is_newest => (1, lane.into(), 1),
                Kind::Group(_) => (2, self.all.len() - at, 0),
            };
            Some((rank, at))
        });
        let (_, at) = ranked.min()?;
        Some((at, self.all.get_mut(at)?))
    }

    /// Leaves out the stream at this place, since QUIC takes nothing of it now, until [`Streams::unblock`].
    pub fn block(&mut self, at: usize) {
        if let Some(stream) = self.all.get_mut(at) {
            stream.blocked = true;
        }
    }

    /// Tries all streams again.
    pub fn unblock(&mut self) {
        self.all
            .iter_mut()
            .for_each(|stream| stream.blocked = false);
    }

    /// When the oldest of the chunks was published of which QUIC has not taken everything.
    pub fn waits_since(&self) -> Option<Instant> {
        let oldest = |stream: &Stream<S>| stream.queue.iter().find_map(|chunk| chunk.published);
        self.all.iter().filter_map(oldest).min()
    }

    /// Notes that QUIC has taken so many bytes of the stream at this place. Returns when the oldest of the chunks was
    /// published that it has entirely by that.
    pub fn taken(&mut self, at: usize, mut bytes: usize) -> Option<Instant> {
        let stream = self.all.get_mut(at)?;
        let mut completed = None;
        self.queued = self.queued.saturating_sub(bytes);
        while let Some(chunk) = stream.queue.front_mut() {
            chunk.begun |= bytes > 0;
            while let Some(front) = chunk.buffers.front_mut() {
                if bytes < front.len() {
                    front.advance(bytes);
                    return completed;
                }
                bytes -= front.len();
                chunk.buffers.pop_front();
            }
            completed = completed.or(chunk.published);
            stream.queue.pop_front();
        }
        completed
    }

    /// Notes that the client does not want the stream at this place. What is added to it later is left out.
    pub fn cancel(&mut self, at: usize) {
        if let Some(stream) = self.all.get_mut(at) {
            self.queued = self.queued.saturating_sub(stream.queued());
            stream.queue.clear();
            stream.cancelled = true;
            // Of a group, more would come, and not begin a stream.
            stream.complete |= !matches!(stream.kind, Kind::Group(_));
        }
    }

    /// Removes what is over: cancelled, or acknowledged as `is_acknowledged` says of what QUIC has entirely.
    pub fn remove_done(&mut self, is_acknowledged: impl Fn(&mut S) -> bool) {
        self.all.retain_mut(|stream| {
            let Stream { sender, .. } = stream;
            let is_over =
                stream.cancelled || stream.finished && sender.as_mut().is_none_or(&is_acknowledged);
            !(stream.complete && is_over)
        });
    }

    /// Streams that have to be reset.
    pub fn take_given_up(&mut self) -> Vec<Stream<S>> {
        std::mem::take(&mut self.given_up)
    }

    /// Number of jumps since this was last called: chunks because of which unfinished groups were given up.
    pub fn take_jumps(&mut self) -> u32 {
        std::mem::take(&mut self.jumps)
    }

    /// Sending ends of the streams that are open.
    pub fn senders(&mut self) -> impl Iterator<Item = &mut S> {
        let all = self.all.iter_mut();
        all.filter_map(|stream| stream.sender.as_mut())
    }

    fn open_group(&mut self, kind: Kind) {
        let is_group = |stream: &&Stream<S>| matches!(stream.kind, Kind::Group(_));
        let mut all = self.all.iter();
        if self.all.iter().filter(is_group).count() >= MAX_STREAMS
            && let Some(oldest) = all.position(|stream| is_group(&stream) && stream.complete)
        {
            self.give_up_at(oldest);
            self.jumps += 1;
        }
        self.all.push_back(Stream::new(kind, None));
    }

    /// Completes the streams of this kind.
    fn complete(&mut self, kind: Kind) {
        let those = self.all.iter_mut().filter(|stream| stream.kind == kind);
        those.for_each(|stream| stream.complete = true);
    }

    /// Adds data to the stream of this kind that is not complete, if there is one.
    fn push(&mut self, kind: Kind, buffers: VecDeque<Bytes>) {
        let mut all = self.all.iter_mut().rev();
        if let Some(stream) = all.find(|stream| stream.kind == kind && !stream.complete)
            && !buffers.is_empty()
        {
            self.queued += buffers.iter().map(Bytes::len).sum::<usize>();
            stream.queue.push_back(Queued {
                buffers,
                at: Duration::ZERO,
                published: None,
                begun: false,
            });
        }
    }

    fn give_up(&mut self, is_given_up: impl Fn(&Stream<S>) -> bool) {
        while let Some(at) = self.all.iter().position(&is_given_up) {
            self.give_up_at(at);
        }
    }

    fn give_up_at(&mut self, at: usize) {
        if let Some(stream) = self.all.remove(at) {
            self.queued = self.queued.saturating_sub(stream.queued());
            self.given_up.push(stream);
        }
    }
}

#[cfg(test)]
mod tests;
