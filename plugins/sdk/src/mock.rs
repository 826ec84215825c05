//! A native host for unit tests: it calls a transport as the gateway does, and shows what a viewer would receive.
//!
//! None of this is part of a component. A violation of the interface by the transport panics with a message that names
//! it. Everything is deterministic: samples and times are made here, and there is no clock.

// Failures of a test harness are assertions.
#![allow(clippy::panic, clippy::expect_used)]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use crate::{
    Buffer, Chunk, Kind, Message, Payload, Profile, Rendition, Reply, Sample, StreamInfo, Track,
    Transport, Video, Viewer,
};

/// Tests that the transport can be replaced at any time (invariant 5 of the architecture). A new instance that is fed
/// as many past groups as its profile's `history` says must emit, sample by sample, the same chunks as one that has run
/// from the beginning, and the same chunks when it is stopped. `samples` must begin with a group.
///
/// # Panics
/// If the output differs; the message names the group that the instance started with, and the sample.
pub fn assert_restartable<T: Transport>(options: &str, info: &StreamInfo, samples: &[Sample]) {
    let run = |from: usize| -> (Vec<Vec<Chunk>>, Vec<Payload>, Vec<Chunk>) {
        let mut muxer = Muxer::<T>::open(options).expect("options");
        let header = muxer.configure(info);
        let chunks = samples[from..]
            .iter()
            .map(|sample| muxer.push(sample.clone()))
            .collect();
        (chunks, header, muxer.stop("end", true))
    };
    let (all, header, end) = run(0);
    let before = Muxer::<T>::open(options).expect("options").profile.history - 1;
    let starts: Vec<usize> = group_starts(samples).collect();
    for (nth, &at) in starts.iter().enumerate() {
        let from = starts[nth.saturating_sub(before as usize)];
        let group = samples[from].group;
        let (again, header_again, end_again) = run(from);
        assert_eq!(
            header, header_again,
            "fed from group {group}: another header"
        );
        for (i, (first, second)) in all[at..].iter().zip(&again[at - from..]).enumerate() {
            assert_eq!(
                first,
                second,
                "fed from group {group}: sample {} differs",
                at + i
            );
        }
        assert_eq!(end, end_again, "fed from group {group}: another end");
    }
}

/// Indices in `samples` at which groups start.
pub fn group_starts(samples: &[Sample]) -> impl Iterator<Item = usize> {
    (0..samples.len()).filter(|&i| i == 0 || samples[i].group > samples[i - 1].group)
}

/// An open transport. Its output is kept, as in the gateway's outlet, for [`Muxer::watch`].
pub struct Muxer<T> {
    transport: T,
    profile: Profile,
    headers: Vec<Vec<Payload>>,
    /// Chunks, each with the number of headers that preceded it.
    ring: Vec<(usize, Chunk)>,
    /// Viewers that have joined.
    viewers: Vec<Viewer>,
}

impl<T: Transport> Muxer<T> {
    /// Opens the transport with its options as JSON.
    ///
    /// # Errors
    /// The transport's message about its options.
    ///
    /// # Panics
    /// If the gateway would reject the profile.
    pub fn open(options: &str) -> Result<Self, String> {
        let (transport, profile) = T::open(options)?;
        assert!(
            !profile.carriers.is_empty(),
            "a profile names at least one carrier"
        );
        assert!(
            !profile.formats.is_empty(),
            "a profile names at least one format"
        );
        assert!(profile.history >= 1, "a profile's history is at least 1");
        Ok(Muxer {
            transport,
            profile,
            headers: vec![],
            ring: vec![],
            viewers: vec![],
        })
    }

    /// Profile that `open` returned.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The transport itself, for inspection by tests.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Calls `configure` and returns the header.
    pub fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        let header = self.transport.configure(info);
        self.headers.push(header.clone());
        header
    }

    /// Calls `push` and returns the chunks.
    ///
    /// # Panics
    /// If `configure` was not called before, or if a chunk is on a lane that the profile does not have.
    pub fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        assert!(!self.headers.is_empty(), "`configure` comes before `push`");
        let chunks = self.transport.push(sample);
        self.keep(chunks)
    }

    /// Calls `stop` and returns the chunks that were held back.
    ///
    /// # Panics
    /// If a chunk is on a lane that the profile does not have.
    pub fn stop(&mut self, reason: &str, last: bool) -> Vec<Chunk> {
        let chunks = self.transport.stop(reason, last);
        self.keep(chunks)
    }

    /// Calls `request`: a GET below the transport's path.
    pub fn request(&self, path: &str, query: &str) -> Reply {
        self.transport.request(path, query)
    }

    /// Calls `join` for a new viewer; returns what the transport requested for it.
    ///
    /// # Errors
    /// Reason why the transport refuses the viewer.
    ///
    /// # Panics
    /// If a viewer with that id is connected.
    pub fn join(&mut self, connection: Connection) -> Result<Vec<Request>, String> {
        let viewer = connect(connection);
        if let Err(refusal) = self.transport.join(viewer.clone()) {
            disconnect(viewer.id());
            return Err(refusal);
        }
        self.viewers.push(viewer.clone());
        Ok(viewer.0.take_requests())
    }

    /// Calls `received` with something that a viewer sent; returns what the transport requested for that viewer.
    ///
    /// # Panics
    /// If no viewer with that id has joined.
    pub fn received(&mut self, viewer: u64, message: Message) -> Vec<Request> {
        let viewer = find(viewer).expect("a viewer that has joined");
        self.transport.received(&viewer, message);
        viewer.0.take_requests()
    }

    /// What the transport requested for a viewer since it was looked at last.
    ///
    /// # Panics
    /// If no viewer with that id has joined.
    pub fn requests(&self, viewer: u64) -> Vec<Request> {
        let viewer = find(viewer).expect("a viewer that has joined");
        viewer.0.take_requests()
    }

    /// Calls `leave` for a viewer that disconnected.
    pub fn leave(&mut self, viewer: u64) {
        disconnect(viewer);
        self.viewers.retain(|known| known.id() != viewer);
        self.transport.leave(viewer);
    }

    /// What a viewer receives that connects with `join` (carrier, path, query) and then takes those kept chunks for
    /// whose index `keeps_up` returns true. It starts at an independent chunk, and resumes at one after each gap. A
    /// header precedes the chunks if the viewer does not have it yet. Covers one lane; a viewer of several lanes is
    /// several of these.
    ///
    /// # Errors
    /// Reason why the transport refuses the viewer.
    pub fn watch(
        &mut self,
        lane: u8,
        join: (&str, &str, &str),
        keeps_up: impl Fn(usize) -> bool,
    ) -> Result<Vec<Payload>, String> {
        let (carrier, path, query) = join;
        let id = u64::MAX - self.viewers.len() as u64;
        let mut got = vec![];
        for request in self.join(Connection::new(id, carrier, path, query))? {
            if let Request::Send(payload) = request {
                got.push(payload);
            }
        }
        let mut header = 0;
        let mut in_step = false;
        // True if the viewer started at the newest independent chunk. Viewers that were connected before have the
        // frames that leading chunks refer to.
        let mut started_at_newest = false;
        for (i, (headers, chunk)) in self.ring.iter().enumerate() {
            if chunk.lane != lane {
                continue;
            }
            let before = in_step;
            in_step = keeps_up(i) && (in_step || chunk.independent);
            if chunk.independent {
                started_at_newest = !before;
            }
            if in_step && !(started_at_newest && chunk.leading) {
                if *headers != header {
                    got.extend(self.headers[headers - 1].iter().cloned());
                    header = *headers;
                }
                got.push(chunk.payload.clone());
            }
        }
        Ok(got)
    }

    fn keep(&mut self, chunks: Vec<Chunk>) -> Vec<Chunk> {
        for chunk in &chunks {
            let lanes = self.profile.lanes.len();
            assert!(
                usize::from(chunk.lane) < lanes,
                "a chunk on lane {}, of {lanes}",
                chunk.lane
            );
            self.ring.push((self.headers.len(), chunk.clone()));
        }
        chunks
    }
}

impl<T> Drop for Muxer<T> {
    fn drop(&mut self) {
        self.viewers
            .iter()
            .for_each(|viewer| disconnect(viewer.id()));
    }
}

/// Something that a transport requested for one viewer, see the methods of [`Viewer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`Viewer::send`].
    Send(Payload),
    /// [`Viewer::choose`].
    Choose(Vec<u8>),
    /// [`Viewer::stream_head`]: the lane and the bytes.
    StreamHead(u8, Vec<u8>),
    /// [`Viewer::reply`]: the stream, the data, and whether it ends the stream.
    Reply(u64, Buffer, bool),
    /// [`Viewer::talk`]: the format and the frame.
    Talk(String, Buffer),
    /// [`Viewer::close`].
    Close(String),
}

/// A viewer's connection: what the transport can learn about it, and what it has requested for it.
#[derive(Debug, Default)]
pub struct Connection {
    id: u64,
    carrier: String,
    path: String,
    query: String,
    protocol: Option<String>,
    roles: Vec<String>,
    requests: RefCell<Vec<Request>>,
}

impl Connection {
    /// A connection over `carrier` at `path` below the transport, which may only view.
    pub fn new(id: u64, carrier: &str, path: &str, query: &str) -> Self {
        Connection {
            id,
            carrier: carrier.into(),
            path: path.into(),
            query: query.into(),
            roles: vec!["view".into()],
            ..Connection::default()
        }
    }

    /// The same connection with a subprotocol that was agreed on.
    pub fn with_protocol(mut self, protocol: &str) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// The same connection, which may do this, too.
    pub fn with_role(mut self, role: &str) -> Self {
        self.roles.push(role.into());
        self
    }

    fn take_requests(&self) -> Vec<Request> {
        self.requests.take()
    }

    fn request(&self, request: Request) {
        self.requests.borrow_mut().push(request);
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn carrier(&self) -> String {
        self.carrier.clone()
    }

    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    pub(crate) fn query(&self) -> String {
        self.query.clone()
    }

    pub(crate) fn protocol(&self) -> Option<String> {
        self.protocol.clone()
    }

    pub(crate) fn may(&self, role: &str) -> bool {
        self.roles.iter().any(|known| known == role)
    }

    pub(crate) fn send(&self, content: Payload) {
        self.request(Request::Send(content));
    }

    pub(crate) fn choose(&self, lanes: &[u8]) {
        self.request(Request::Choose(lanes.into()));
    }

    pub(crate) fn stream_head(&self, lane: u8, bytes: &[u8]) {
        self.request(Request::StreamHead(lane, bytes.into()));
    }

    pub(crate) fn reply(&self, client_stream: u64, data: crate::buffer::Inner, last: bool) {
        self.request(Request::Reply(client_stream, Buffer(data), last));
    }

    pub(crate) fn talk(&self, format: &str, frame: crate::buffer::Inner) -> Result<(), String> {
        if !self.may("talk") {
            return Err("this viewer may not talk".into());
        }
        self.request(Request::Talk(format.into(), Buffer(frame)));
        Ok(())
    }

    pub(crate) fn close(&self, reason: &str) {
        self.request(Request::Close(reason.into()));
    }
}

thread_local! {
    /// Viewers that have joined a muxer of this thread.
    static VIEWERS: RefCell<BTreeMap<u64, Viewer>> = const { RefCell::new(BTreeMap::new()) };
    static KEYFRAMES: Cell<u32> = const { Cell::new(0) };
}

/// Connects a viewer, for tests that call a transport's methods themselves. [`Muxer::join`] does it by itself.
///
/// # Panics
/// If a viewer with that id is connected.
pub fn connect(connection: Connection) -> Viewer {
    let viewer = Viewer(Rc::new(connection));
    let before = VIEWERS.with_borrow_mut(|viewers| viewers.insert(viewer.id(), viewer.clone()));
    assert!(
        before.is_none(),
        "viewer {} has joined already",
        viewer.id()
    );
    viewer
}

/// Disconnects a viewer that [`connect`] has connected.
pub fn disconnect(viewer: u64) {
    VIEWERS.with_borrow_mut(|viewers| viewers.remove(&viewer));
}

pub(crate) fn find(viewer: u64) -> Option<Viewer> {
    VIEWERS.with_borrow(|viewers| viewers.get(&viewer).cloned())
}

pub(crate) fn request_keyframe() {
    KEYFRAMES.set(KEYFRAMES.get() + 1);
}

/// How often transports on this thread requested a keyframe since the last call.
pub fn take_keyframe_requests() -> u32 {
    KEYFRAMES.take()
}

/// Concatenated bytes of what a viewer received; text counts as UTF-8.
pub fn bytes<'a>(payloads: impl IntoIterator<Item = &'a Payload>) -> Vec<u8> {
    payloads.into_iter().flat_map(Payload::to_vec).collect()
}

/// Concatenated bytes of chunks.
pub fn chunk_bytes(chunks: &[Chunk]) -> Vec<u8> {
    bytes(chunks.iter().map(|chunk| &chunk.payload))
}

impl Payload {
    /// The bytes, or the text as UTF-8.
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Payload::Binary(buffer) => buffer.to_vec(),
            Payload::Text(text) => text.clone().into_bytes(),
        }
    }
}

/// A stream with one video track: 640×360 at 30 frames per second, timescale 90,000.
pub fn video(format: &str, codec: &str, config: &[u8]) -> StreamInfo {
    let (width, height, frame_rate) = (640, 360, 30.0);
    let video = Video {
        width,
        height,
        pixel_aspect: (1, 1),
        rotation: 0,
        mirrored: false,
        frame_rate,
        keyframe_ms: 2000,
    };
    StreamInfo {
        started_at: 1_700_000_000_000_000,
        epoch: 0,
        tracks: vec![Track {
            id: 1,
            format: format.into(),
            codec: codec.into(),
            config: config.into(),
            timescale: 90_000,
            kind: Kind::Video(video),
            more: vec![],
        }],
        renditions: vec![Rendition {
            name: String::new(),
            base: String::new(),
            codecs: codec.into(),
            bandwidth: 1_000_000,
            width,
            height,
            frame_rate,
            more: vec![],
        }],
        longest_group_ms: 0,
        more: vec![],
    }
}

/// Makes samples for [`video`] from frames, each given as its independence and its data. Groups are numbered as the
/// host does for `group_ms`.
pub fn samples(group_ms: u32, frames: impl IntoIterator<Item = (bool, Vec<u8>)>) -> Vec<Sample> {
    const DURATION: u32 = 3000;
    let mut group = 1_700_000_000;
    let mut group_began = None;
    let mut samples = vec![];
    for (i, (independent, data)) in (0..).zip(frames) {
        let decode_time = i * u64::from(DURATION);
        match group_began {
            None => group_began = Some(decode_time),
            Some(began) if independent && (decode_time - began) >= u64::from(group_ms) * 90 => {
                group += 1;
                group_began = Some(decode_time);
            }
            Some(_) => {}
        }
        let data = Buffer::from(data);
        samples.push(Sample {
            track: 1,
            group,
            decode_time,
            composition_offset: 0,
            duration: DURATION,
            independent,
            leading: false,
            repeated: false,
            captured_at: 1_700_000_000_000_000 + decode_time * 100 / 9,
            group_started_at: 1_700_000_000_000_000,
            size: data.size(),
            data,
        });
    }
    samples
}

thread_local! {
    static LOGS: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
}

pub(crate) fn log(line: String) {
    LOGS.with(|logs| logs.borrow_mut().push(line));
}

/// Lines that transports logged on this thread since the last call, as `level: message`.
pub fn take_logs() -> Vec<String> {
    LOGS.with(RefCell::take)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{Lane, log};

    /// Numbers each frame within its group or, in violation of the rule, since the instance began.
    struct Counter {
        for_ever: bool,
        group: u64,
        count: u8,
    }

    impl Transport for Counter {
        fn open(options: &str) -> Result<(Self, Profile), String> {
            let profile = Profile {
                carriers: vec!["http".into()],
                formats: vec!["jpeg".into()],
                lanes: vec![Lane::new(0)],
                ..Profile::default()
            };
            Ok((
                Counter {
                    for_ever: options == "for ever",
                    group: 0,
                    count: 0,
                },
                profile,
            ))
        }

        fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
            log::info(format!("epoch {}", info.epoch));
            vec![Payload::Text(format!("<{}>", info.epoch))]
        }

        fn push(&mut self, sample: Sample) -> Vec<Chunk> {
            if sample.group != self.group && !self.for_ever {
                self.count = 0;
            }
            self.group = sample.group;
            self.count += 1;
            let payload = Payload::Text(format!("{}", self.count));
            vec![Chunk {
                payload,
                lane: 0,
                independent: sample.independent,
                leading: sample.leading,
                time: None,
            }]
        }
    }

    /// Answers each message in capitals, and refuses viewers that may not talk.
    struct Echo;

    impl Transport for Echo {
        fn open(options: &str) -> Result<(Self, Profile), String> {
            let (_, profile) = Counter::open(options)?;
            Ok((Echo, profile))
        }

        fn configure(&mut self, _: &StreamInfo) -> Vec<Payload> {
            vec![]
        }

        fn push(&mut self, _: Sample) -> Vec<Chunk> {
            vec![]
        }

        fn join(&mut self, viewer: Viewer) -> Result<(), String> {
            if !viewer.may("talk") {
                return Err("you may not talk".into());
            }
            viewer.choose(&[0]);
            viewer.send(Payload::Text(format!("{:?}", viewer.protocol())));
            Ok(())
        }

        fn received(&mut self, viewer: &Viewer, message: Message) {
            let Message::Text(text) = message else {
                return viewer.close("text only");
            };
            crate::request_keyframe();
            viewer.send(Payload::Text(text.to_uppercase()));
        }
    }

    #[test]
    fn what_is_requested_for_a_viewer_is_seen_until_it_leaves() {
        let mut muxer = Muxer::<Echo>::open("").unwrap();
        let connection = || Connection::new(7, "websocket", "", "");
        let refused = muxer.join(connection());
        assert_eq!(refused, Err("you may not talk".into()));
        let talker = connection().with_role("talk").with_protocol("v2");
        let expected = [
            Request::Choose(vec![0]),
            Request::Send(Payload::Text("Some(\"v2\")".into())),
        ];
        assert_eq!(muxer.join(talker).unwrap(), expected);
        let heard = muxer.received(7, Message::Text("hello".into()));
        assert_eq!(heard, [Request::Send(Payload::Text("HELLO".into()))]);
        assert_eq!(take_keyframe_requests(), 1);
        let heard = muxer.received(7, Message::Binary(vec![1].into()));
        assert_eq!(heard, [Request::Close("text only".into())]);
        muxer.leave(7);
        assert!(Viewer::find(7).is_none());
    }

    fn frames(kinds: &str) -> Vec<Sample> {
        samples(0, kinds.chars().map(|kind| (kind == 'I', vec![kind as u8])))
    }

    #[test]
    fn what_depends_on_its_group_only_is_restartable() {
        assert_restartable::<Counter>("", &video("jpeg", "", &[]), &frames("IppIpIIpp"));
    }

    #[test]
    #[should_panic(expected = "fed from group 1700000001: sample 2 differs")]
    fn a_transport_with_longer_memory_is_detected() {
        assert_restartable::<Counter>("for ever", &video("jpeg", "", &[]), &frames("IpIp"));
    }

    #[test]
    fn a_viewer_starts_at_an_independent_chunk_and_gets_a_changed_header_again() {
        let mut muxer = Muxer::<Counter>::open("").unwrap();
        let mut info = video("jpeg", "", &[]);
        muxer.configure(&info);
        let samples = frames("IppIpIpp");
        for (i, sample) in samples.into_iter().enumerate() {
            if i == 5 {
                info.epoch = 1;
                muxer.configure(&info);
            }
            muxer.push(sample);
        }
        let mut watch = |keeps_up: fn(usize) -> bool| {
            let got = muxer.watch(0, ("http", "", ""), keeps_up).unwrap();
            String::from_utf8(bytes(&got)).unwrap()
        };
        assert_eq!(watch(|_| true), "<0>12312<1>123");
        assert_eq!(watch(|i| i > 0), "<0>12<1>123");
        assert_eq!(watch(|i| i != 1), "<0>112<1>123");
        assert_eq!(watch(|i| i > 4), "<1>123");
        assert_eq!(take_logs(), ["info: epoch 0", "info: epoch 1"]);
    }

    #[test]
    fn groups_last_at_least_their_time() {
        let of = |group_ms| -> Vec<usize> {
            let all = samples(group_ms, "IpIIpI".chars().map(|kind| (kind == 'I', vec![])));
            group_starts(&all).collect()
        };
        assert_eq!(of(0), [0, 2, 3, 5]);
        assert_eq!(of(66), [0, 2, 5]);
        assert_eq!(of(100), [0, 3]);
    }
}
