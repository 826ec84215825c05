//! A camera under the test's control: it sends one frame at a time, and every frame can be identified by its bytes.
//! Tests use it to state exactly which frames a viewer must receive, and when. [`Camera`] is the source, [`Watcher`]
//! the viewer on the other side of the gateway.

use crate::{
    Feeder, Nal,
    client::is_header,
    media::{cut, encode_pattern, frames, nals_of, with_start_codes},
    within,
};
use bytes::Bytes;
use sluicegate_media::h264::nal;
use std::{collections::HashMap, sync::OnceLock};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

/// Number of frames in the clip. Every [`GROUP`]th is an IDR frame with its parameter sets.
pub const COUNT: usize = 120;
/// Number of frames in a group.
pub const GROUP: usize = 10;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The standard clip.
pub fn clip() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        let arguments = [
            "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "10",
        ];
        let file = encode_pattern("clip.h264", (320, 192), 0, COUNT as u64, &arguments);
        Clip::new(frames(&nals_of(&file)))
    })
}

/// Frames as lists of NAL units, with an index that finds them again.
pub struct Clip {
    pub frames: Vec<Vec<Bytes>>,
    places: HashMap<Vec<Bytes>, usize>,
}

impl Clip {
    /// Builds a clip from frames that all differ.
    pub fn new(frames: Vec<Vec<Bytes>>) -> Clip {
        assert_eq!(frames.len(), COUNT);
        let places: HashMap<_, _> = frames.iter().cloned().zip(0..).collect();
        assert_eq!(places.len(), COUNT, "frames that are alike");
        Clip { frames, places }
    }

    /// The same frames, each followed by this number of bytes of filler data (H.264 7.3.2.7).
    pub fn with_filler(&self, bytes: usize) -> Clip {
        const FILLER: u8 = 12;
        let filler = [&[FILLER][..], &vec![0xff; bytes], &[0x80]].concat();
        let filler = Bytes::from(filler);
        let fat = |frame: &Vec<Bytes>| [frame.as_slice(), std::slice::from_ref(&filler)].concat();
        Clip::new(self.frames.iter().map(fat).collect())
    }

    /// Index of the frame in a message, if the message holds one.
    pub fn find(&self, message: &[u8]) -> Option<usize> {
        let mut nals = cut(message);
        nals.retain(|unit| nal::unit_type(unit) != nal::AUD);
        self.places.get(&nals).copied()
    }

    /// Index of the frame in a message; fails the test if there is none.
    pub fn place(&self, message: &[u8]) -> usize {
        self.find(message).unwrap_or_else(|| {
            let kinds = cut(message).into_iter();
            let kinds: Vec<_> = kinds
                .map(|unit| (nal::unit_type(&unit), unit.len()))
                .collect();
            panic!("not a frame of the clip: (type, length) {kinds:?}")
        })
    }
}

/// A source that sends the frames of a clip in a loop.
pub struct Camera {
    pub feeder: Feeder,
    clip: &'static Clip,
    connection: Option<TcpStream>,
    /// The start code of the next frame has been sent.
    begun: bool,
    next: usize,
}

impl Camera {
    /// Creates a camera that waits for the gateway to connect.
    pub async fn new(clip: &'static Clip) -> Camera {
        Camera {
            feeder: Feeder::bind().await,
            clip,
            connection: None,
            begun: false,
            next: 0,
        }
    }

    /// Config section `[streams.cam]` for this camera.
    pub fn config(&self) -> String {
        format!("[streams.cam]\nsource = \"{}\"\n", self.feeder.source())
    }

    /// Sends the next frame to the connected gateway, waiting for a connection if necessary; returns its number,
    /// counted over all loops. The frame is complete for the gateway after 20 ms without data.
    pub async fn send(&mut self) -> usize {
        self.send_with(&[]).await
    }

    async fn send_with(&mut self, behind: &[u8]) -> usize {
        let frame = &self.clip.frames[self.next % COUNT];
        let mut bytes = with_start_codes(frame, |_| 4);
        bytes.extend_from_slice(behind);
        if self.connection.is_none() {
            self.connection = Some(self.feeder.accept().await);
            self.begun = false;
        }
        let from = if self.begun { START_CODE.len() } else { 0 };
        self.begun = !behind.is_empty();
        let connection = self.connection.as_mut().unwrap();
        within("the gateway reads", connection.write_all(&bytes[from..]))
            .await
            .unwrap();
        self.next += 1;
        self.next - 1
    }

    /// Calls [`Camera::send`] and waits until the viewer has received this frame, which must be its next one.
    pub async fn show(&mut self, to: &mut Watcher) -> usize {
        let sent = self.send().await;
        self.arrives(sent, to).await
    }

    /// Like [`Camera::show`], but the frame ends at once: the start of the next one is sent with it.
    pub async fn show_at_once(&mut self, to: &mut Watcher) -> usize {
        let sent = self.send_at_once().await;
        self.arrives(sent, to).await
    }

    /// Like [`Camera::send`], but the frame ends at once: the start of the next one is sent with it.
    pub async fn send_at_once(&mut self) -> usize {
        // An access unit delimiter (H.264 7.3.2.4) ends the frame, and a start code ends the delimiter.
        let next = [&START_CODE[..], &[nal::AUD, 0xf0], &START_CODE].concat();
        self.send_with(&next).await
    }

    async fn arrives(&self, sent: usize, to: &mut Watcher) -> usize {
        let (place, _) = within(&format!("frame {sent}"), to.next()).await;
        assert_eq!(place, sent % COUNT, "a gap");
        sent
    }

    /// Continues on a connection that the test accepted itself.
    pub fn take_over(&mut self, connection: TcpStream) {
        self.connection = Some(connection);
        self.begun = false;
    }

    /// Index in the clip of the frame sent last.
    pub fn newest(&self) -> usize {
        (self.next - 1) % COUNT
    }

    /// Closes the connection; the next group starts when the gateway reconnects.
    pub fn hang_up(&mut self) {
        self.connection = None;
        self.next = self.next.next_multiple_of(GROUP);
    }
}

/// A viewer whose messages are read as fast as they arrive.
pub struct Watcher {
    arrived: mpsc::UnboundedReceiver<(usize, Bytes)>,
    outgoing: mpsc::UnboundedSender<String>,
}

impl Watcher {
    /// Connects to a WebSocket path that delivers the clip's frames.
    pub async fn open(address: std::net::SocketAddr, path: &str, clip: &'static Clip) -> Watcher {
        let viewer = within(&format!("open {path}"), Nal::open(address, path)).await;
        Watcher::new(viewer.unwrap(), path.to_owned(), clip)
    }

    /// Wraps a viewer that is connected already.
    pub fn new<S>(mut viewer: Nal<S>, path: String, clip: &'static Clip) -> Watcher
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (to, arrived) = mpsc::unbounded_channel();
        let (outgoing, mut from) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    message = viewer.next() => {
                        let message = message.unwrap_or_else(|error| panic!("{path}: {error:#}"));
                        if !is_header(&cut(&message)) && to.send((clip.place(&message), message)).is_err() {
                            return;
                        }
                    }
                    text = from.recv() => match text {
                        Some(text) => viewer.say(text).await.unwrap(),
                        None => return,
                    }
                }
            }
        });
        Watcher { arrived, outgoing }
    }

    /// Waits for the next frame; returns its index in the clip and its message.
    pub async fn next(&mut self) -> (usize, Bytes) {
        self.arrived.recv().await.expect("the viewer was cut off")
    }

    /// Like [`Watcher::next`], but returns `None` if no frame has arrived yet.
    pub fn ready(&mut self) -> Option<(usize, Bytes)> {
        match self.arrived.try_recv() {
            Ok(next) => Some(next),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(_) => panic!("the viewer was cut off"),
        }
    }

    /// Sends a text message to the gateway.
    pub fn say(&self, text: &str) {
        self.outgoing.send(text.to_owned()).unwrap();
    }
}
