//! Viewers of `webcodecs`, strict readers of its records: [`Groups`] over WebTransport, and [`Twin`] over a WebSocket,
//! where nothing is left out.

use crate::{Gateway, Nal, webtransport::Session, within};
use bytes::{Buf, Bytes, BytesMut};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use wtransport::{Connection, RecvStream};

/// Kinds of records.
const CATALOGUE: u8 = 0;
const FRAME: u8 = 1;
/// Bytes of a frame's record behind its length and in front of the frame.
const FRAME_HEADER: usize = 20;

/// A frame of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub track: u8,
    pub independent: bool,
    pub group: u64,
    pub time: i64,
    pub data: Bytes,
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Catalogue(serde_json::Value),
    Frame(Frame),
}

impl Record {
    /// Takes the first record off the data; `None` if it is not there entirely.
    pub fn take(data: &mut BytesMut) -> Option<Record> {
        let length = u32::from_be_bytes(data.get(..4)?.try_into().unwrap()) as usize;
        data.get(..4 + length)?;
        data.advance(4);
        let mut record = data.split_to(length).freeze();
        Some(match record.get_u8() {
            CATALOGUE => {
                let catalogue: serde_json::Value = serde_json::from_slice(&record).unwrap();
                assert_eq!(catalogue["version"], 1);
                Record::Catalogue(catalogue)
            }
            FRAME => {
                assert!(length >= FRAME_HEADER, "{length} bytes");
                let (track, flags, zero) = (record.get_u8(), record.get_u8(), record.get_u8());
                assert!(flags < 8 && zero == 0, "{flags} {zero}");
                Record::Frame(Frame {
                    track,
                    independent: flags & 1 != 0,
                    group: record.get_u64(),
                    time: record.get_i64(),
                    data: record,
                })
            }
            kind => panic!("a record of kind {kind}"),
        })
    }

    /// The only record in the data.
    pub fn only(data: &[u8]) -> Record {
        let mut data = data.into();
        let record = Record::take(&mut data).expect("a whole record");
        assert!(data.is_empty(), "{} bytes more", data.len());
        record
    }
}

/// What arrived of a group.
pub struct Group {
    pub number: u64,
    /// Its whole frames, and when each had arrived.
    pub frames: Vec<(Instant, Frame)>,
    /// Everything.
    pub bytes: Vec<u8>,
    /// It was not reset.
    pub whole: bool,
}

impl Group {
    /// All of a group, which has arrived now.
    pub fn whole(bytes: Vec<u8>) -> Group {
        let (mut frames, mut left) = (Vec::new(), bytes.as_slice().into());
        take_frames(&mut left, &mut frames);
        assert!(left.is_empty(), "a group ends within a record");
        Group {
            number: number(&frames).expect("a frame"),
            frames,
            bytes,
            whole: true,
        }
    }
}

/// Takes the whole frames off the data.
fn take_frames(data: &mut BytesMut, frames: &mut Vec<(Instant, Frame)>) {
    while let Some(record) = Record::take(data) {
        if let Record::Frame(frame) = record {
            frames.push((Instant::now(), frame));
        }
    }
}

/// Number of the group that the frames are of, which must be the same; `None` without frames.
fn number(frames: &[(Instant, Frame)]) -> Option<u64> {
    let number = frames.first()?.1.group;
    for (_, frame) in frames {
        assert_eq!(frame.group, number, "two groups on a stream");
    }
    Some(number)
}

/// Groups from a session, whose streams are read as fast as they arrive.
pub struct Groups {
    connection: Connection,
    arrived: mpsc::UnboundedReceiver<Group>,
    reading: AbortHandle,
}

impl Groups {
    pub fn of(session: Session) -> Groups {
        let (to, arrived) = mpsc::unbounded_channel();
        let connection = session.connection.clone();
        let reading = tokio::spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok(stream) = session.connection.accept_uni().await {
                let to = to.clone();
                streams.spawn(async move {
                    if let Some(group) = read(stream).await {
                        // The test may have seen enough.
                        let _ = to.send(group);
                    }
                });
            }
            streams.join_all().await;
        });
        Groups {
            connection,
            arrived,
            reading: reading.abort_handle(),
        }
    }

    /// Sends an empty stream. A client that gets nothing, because its address has changed, has nothing else to send.
    pub async fn poke(&self) {
        let opening = self.connection.open_uni().await.unwrap();
        opening.await.unwrap().finish().await.unwrap();
    }

    /// The next group of which something has arrived and no more will; `None` if the session has ended.
    pub async fn next(&mut self) -> Option<Group> {
        within("a group", self.arrived.recv()).await
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Reads a stream to its end; `None` if it was reset before its first frame.
async fn read(mut stream: RecvStream) -> Option<Group> {
    let (mut frames, mut bytes, mut left) = (Vec::new(), Vec::new(), BytesMut::new());
    let mut buffer = vec![0; 64 << 10];
    let whole = loop {
        match stream.read(&mut buffer).await {
            Ok(Some(read)) => {
                bytes.extend_from_slice(&buffer[..read]);
                left.extend_from_slice(&buffer[..read]);
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
        take_frames(&mut left, &mut frames);
    };
    assert!(!whole || left.is_empty(), "a group ends within a record");
    Some(Group {
        number: number(&frames)?,
        frames,
        bytes,
        whole,
    })
}

/// A group as it has to arrive, as far as it is known.
struct Expected {
    bytes: Vec<u8>,
    frames: usize,
}

/// What a WebSocket gets, as the groups that a session has to get.
pub struct Twin {
    groups: Arc<Mutex<BTreeMap<u64, Expected>>>,
    reading: AbortHandle,
}

impl Twin {
    /// Watches the stream, which must have one track.
    pub async fn open(gateway: &Gateway, stream: &str) -> Twin {
        let path = format!("/live/{stream}/webcodecs");
        let mut viewer = Nal::open(gateway.address, &path).await.unwrap();
        let groups = Arc::new(Mutex::new(BTreeMap::<u64, Expected>::new()));
        let all = groups.clone();
        let reading = tokio::spawn(async move {
            let header = viewer.next().await.unwrap();
            assert!(matches!(Record::only(&header), Record::Catalogue(_)));
            while let Ok(message) = viewer.next().await {
                let Record::Frame(frame) = Record::only(&message) else {
                    panic!("another catalogue");
                };
                let mut all = all.lock().unwrap();
                let newest = all.last_key_value().map(|(newest, _)| *newest);
                assert!(newest <= Some(frame.group), "{newest:?} {}", frame.group);
                let group = all.entry(frame.group).or_insert_with(|| Expected {
                    bytes: header.to_vec(),
                    frames: 0,
                });
                group.bytes.extend_from_slice(&message);
                group.frames += 1;
            }
        });
        Twin {
            groups,
            reading: reading.abort_handle(),
        }
    }

    /// Number of frames in the groups before this one.
    pub fn frames_before(&self, group: u64) -> usize {
        let groups = self.groups.lock().unwrap();
        groups.range(..group).map(|(_, before)| before.frames).sum()
    }

    /// Number of the newest group.
    pub fn newest(&self) -> Option<u64> {
        let groups = self.groups.lock().unwrap();
        groups.last_key_value().map(|(newest, _)| *newest)
    }

    /// Fails the test unless this is the group, or the beginning of it if it is not whole. Waits until the next group
    /// begins.
    pub async fn assert_same(&self, group: &Group) {
        let ended = async {
            while self.newest() <= Some(group.number) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the next group of the twin", ended).await;
        let groups = self.groups.lock().unwrap();
        let expected = &groups[&group.number].bytes;
        let expected = match group.whole {
            true => expected.as_slice(),
            false => &expected[..group.bytes.len().min(expected.len())],
        };
        assert!(group.bytes == expected, "group {} is another", group.number);
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
