//! Transport `webcodecs`: coded frames with their times, in the form that WebCodecs takes, over WebTransport
//! (`/live/{stream}/webcodecs`) or a WebSocket at the same path. Both carry the same bytes.
//!
//! They are a sequence of records: a catalogue, which describes the tracks, then frames. `docs/reference/http.md`
//! describes them byte by byte, for authors of clients. A WebSocket message is one record. On WebTransport, each group
//! of a track is a unidirectional stream of its own: a catalogue, then frames.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use sluicegate_sdk::serde::Deserialize;
use sluicegate_sdk::{
    Buffer, Chunk, Kind, Lane, Message, Millis, Payload, Piece, Profile, Reply, Sample, StreamInfo,
    Track, Transport, Viewer, request_keyframe,
};

const CATALOGUE: u8 = 0;
const FRAME: u8 = 1;
/// What a client sends whose decoder has lost its state: a record of kind 2 without content.
const KEYFRAME_REQUEST: [u8; 5] = [0, 0, 0, 1, 2];
/// Bytes of a frame's record in front of the frame.
const FRAME_HEADER: u32 = 24;
/// Bytes of the length field, which does not count itself.
const LENGTH_FIELD: u32 = 4;

const INDEPENDENT: u8 = 1;
const LEADING: u8 = 2;
const REPEATED: u8 = 4;

/// Minimum length of a group in milliseconds. Where every frame is decodable by itself, a stream for each would cost
/// more than it gains.
const GROUP: u32 = 200;
/// Lanes: sound is more important, and lasts while pictures are skipped.
const AUDIO: u8 = 0;
const VIDEO: u8 = 1;

#[derive(Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields, default)]
struct Options {
    /// A viewer further behind than this jumps to the newest group. Default `"500ms"`.
    stale: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Options { stale: Millis(500) }
    }
}

/// A muxer that forwards frames behind a header.
pub struct WebCodecs {
    tracks: Vec<Sent>,
}

/// A track that is sent; its index is the one in the catalogue.
struct Sent {
    id: u32,
    lane: u8,
    /// Group of its newest frame.
    group: Option<u64>,
}

impl Transport for WebCodecs {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let Options { stale } = sluicegate_sdk::options(options)?;
        let profile = Profile {
            carriers: vec!["webtransport".into(), "websocket".into()],
            formats: vec!["h264/avcc".into(), "opus".into(), "aac".into()],
            lanes: vec![Lane::new(stale.0), Lane::new(stale.0)],
            group_ms: GROUP,
            latency_ms: 60,
            label: "WebCodecs".into(),
            output: "webcodecs/1".into(),
            ..Profile::default()
        };
        Ok((WebCodecs { tracks: vec![] }, profile))
    }

    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        let described: Vec<(Sent, Value)> = info.tracks.iter().filter_map(describe).collect();
        let (tracks, catalogue): (Vec<Sent>, Vec<Value>) = described.into_iter().unzip();
        self.tracks = tracks;
        let catalogue = json!({
            "version": 1,
            "startedAt": info.started_at,
            "epoch": info.epoch,
            "tracks": catalogue,
        });
        let text = catalogue.to_string().into_bytes();
        let length = u32::try_from(1 + text.len()).unwrap_or(u32::MAX);
        let mut record = length.to_be_bytes().to_vec();
        record.push(CATALOGUE);
        record.extend(text);
        vec![Buffer::from(record).into()]
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        let position = self.tracks.iter().position(|sent| sent.id == sample.track);
        let Some(index) = position else {
            return vec![];
        };
        let sent = &mut self.tracks[index];
        let begins = sample.independent && sent.group != Some(sample.group);
        sent.group = Some(sample.group);
        let header = frame_header(index as u8, &sample);
        let pieces = [Piece::Bytes(header), sample.data.slice(0, sample.size)];
        vec![Chunk {
            lane: sent.lane,
            leading: sample.leading,
            ..Chunk::new(Buffer::new(pieces), begins)
        }]
    }

    fn received(&mut self, _viewer: &Viewer, message: Message) {
        let record = match &message {
            Message::Binary(data) | Message::Datagram(data) => data,
            Message::ClientStream(stream) => &stream.data,
            Message::Text(_) => return,
        };
        if record.read(0, KEYFRAME_REQUEST.len() as u32 + 1) == KEYFRAME_REQUEST {
            request_keyframe();
        }
    }

    fn request(&self, path: &str, _query: &str) -> Reply {
        match path {
            "" => Reply::text(
                426,
                "Connect with WebTransport or a WebSocket; docs/reference/http.md describes the format.\n",
            ),
            _ => Reply::not_found(path),
        }
    }
}

/// The track as it is sent, and its entry in the catalogue. None for a kind that has no entry.
fn describe(track: &Track) -> Option<(Sent, Value)> {
    let (kind, lane, more) = match &track.kind {
        Kind::Video(video) => {
            let more = json!({
                "width": video.width,
                "height": video.height,
                "pixelAspect": [video.pixel_aspect.0, video.pixel_aspect.1],
                "rotation": video.rotation,
                "mirrored": video.mirrored,
                "frameRate": video.frame_rate,
            });
            ("video", VIDEO, more)
        }
        Kind::Audio(audio) => {
            let more = json!({
                "sampleRate": audio.sample_rate,
                "channels": audio.channels,
                "language": audio.language,
            });
            ("audio", AUDIO, more)
        }
        Kind::Data => return None,
    };
    let mut entry = json!({
        "kind": kind,
        "format": track.format,
        "codec": track.codec,
        "config": BASE64_STANDARD.encode(&track.config),
        "timescale": track.timescale,
    });
    if let (Value::Object(entry), Value::Object(more)) = (&mut entry, more) {
        entry.extend(more);
    }
    let sent = Sent {
        id: track.id,
        lane,
        group: None,
    };
    Some((sent, entry))
}

fn frame_header(index: u8, sample: &Sample) -> Vec<u8> {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(sample.independent, INDEPENDENT)
        | flag(sample.leading, LEADING)
        | flag(sample.repeated, REPEATED);
    let length = sample.size.saturating_add(FRAME_HEADER - LENGTH_FIELD);
    let presented = (sample.decode_time as i64).saturating_add(sample.composition_offset.into());
    let mut header = Vec::with_capacity(FRAME_HEADER as usize);
    header.extend(length.to_be_bytes());
    header.extend([FRAME, index, flags, 0]);
    header.extend(sample.group.to_be_bytes());
    header.extend(presented.to_be_bytes());
    header
}

sluicegate_sdk::export!(WebCodecs);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;
    use sluicegate_sdk::{
        Audio, ClientStream,
        mock::{self, Connection, Muxer},
    };

    const AVCC: [u8; 7] = [1, 0x64, 0, 0x1f, 0xff, 0xe0, 0];

    /// A stream with video (track 1) and audio (track 5).
    fn info() -> StreamInfo {
        let mut info = mock::video("h264/avcc", "avc1.64001f", &AVCC);
        info.tracks.push(Track {
            id: 5,
            format: "aac".into(),
            codec: "mp4a.40.2".into(),
            config: vec![0x11, 0x90],
            timescale: 48_000,
            kind: Kind::Audio(Audio {
                sample_rate: 48_000,
                channels: 2,
                language: "und".into(),
            }),
            more: vec![],
        });
        info
    }

    fn muxer() -> Muxer<WebCodecs> {
        Muxer::open("{}").unwrap()
    }

    fn sample(track: u32, group: u64, independent: bool) -> Sample {
        let mut sample = mock::samples(0, [(independent, b"data".to_vec())]).remove(0);
        (sample.track, sample.group) = (track, group);
        sample
    }

    #[test]
    fn the_catalogue_describes_both_tracks() {
        let header = mock::bytes(&muxer().configure(&info()));
        let length = u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
        assert_eq!((length, header[4]), (header.len() - 4, CATALOGUE));
        let catalogue: Value = serde_json::from_slice(&header[5..]).unwrap();
        let expected = json!({
            "version": 1, "startedAt": 1_700_000_000_000_000_u64, "epoch": 0, "tracks": [
                {"kind": "video", "format": "h264/avcc", "codec": "avc1.64001f", "config": "AWQAH//gAA==",
                 "timescale": 90_000, "width": 640, "height": 360, "pixelAspect": [1, 1], "rotation": 0,
                 "mirrored": false, "frameRate": 30.0},
                {"kind": "audio", "format": "aac", "codec": "mp4a.40.2", "config": "EZA=", "timescale": 48_000,
                 "sampleRate": 48_000, "channels": 2, "language": "und"},
            ],
        });
        assert_eq!(catalogue, expected);
    }

    #[test]
    fn a_frame_has_its_index_flags_group_and_presentation_time() {
        let mut muxer = muxer();
        muxer.configure(&info());
        let mut first = sample(1, 0x0102_0304_0506_0708, true);
        (first.decode_time, first.composition_offset) = (3000, -6000);
        (first.leading, first.repeated) = (true, true);
        let chunk = muxer.push(first).remove(0);
        let expected = [
            &[0, 0, 0, 24, FRAME, 0, INDEPENDENT | LEADING | REPEATED, 0][..],
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &(-3000_i64).to_be_bytes(),
            b"data",
        ]
        .concat();
        assert_eq!(chunk.payload.to_vec(), expected);
        assert_eq!((chunk.lane, chunk.leading), (VIDEO, true));
    }

    #[test]
    fn a_viewer_starts_with_a_group_in_each_lane() {
        let mut muxer = muxer();
        muxer.configure(&info());
        let pushed = [
            (1, 1, true, VIDEO, true),
            (5, 1, true, AUDIO, true),
            (1, 1, false, VIDEO, false),
            // Sound is always decodable, and so may be pictures; a stream for each would be too many.
            (5, 1, true, AUDIO, false),
            (1, 1, true, VIDEO, false),
            (1, 2, true, VIDEO, true),
            (5, 2, true, AUDIO, true),
        ];
        for (track, group, independent, lane, starts) in pushed {
            let chunk = muxer.push(sample(track, group, independent)).remove(0);
            assert_eq!((chunk.lane, chunk.independent), (lane, starts));
        }
    }

    #[test]
    fn tracks_that_are_not_in_the_catalogue_are_passed_over() {
        let mut muxer = muxer();
        let mut info = info();
        info.tracks[0].kind = Kind::Data;
        muxer.configure(&info);
        assert!(muxer.push(sample(1, 1, true)).is_empty());
        let chunk = muxer.push(sample(5, 1, true)).remove(0);
        assert_eq!(chunk.payload.to_vec()[5], 0, "the index in the catalogue");
    }

    #[test]
    fn a_viewer_may_ask_for_a_keyframe() {
        let mut muxer = muxer();
        muxer.join(Connection::new(1, "websocket", "", "")).unwrap();
        let stream = |data: &[u8]| {
            Message::ClientStream(ClientStream {
                id: 2,
                bidirectional: false,
                data: data.to_vec().into(),
                last: true,
            })
        };
        let asked = KEYFRAME_REQUEST.to_vec();
        for (message, expected) in [
            (Message::Binary(asked.clone().into()), 1),
            (Message::Datagram(asked.clone().into()), 1),
            (stream(&asked), 1),
            (stream(&asked[..4]), 0),
            (Message::Binary([&asked[..], &[0]].concat().into()), 0),
            (Message::Binary(vec![0, 0, 0, 1, 3].into()), 0),
            (Message::Binary(vec![].into()), 0),
            (Message::Text("keyframe".into()), 0),
        ] {
            assert_eq!(muxer.received(1, message.clone()), []);
            assert_eq!(mock::take_keyframe_requests(), expected, "{message:?}");
        }
    }

    #[test]
    fn plain_get_is_refused_with_advice() {
        let mut muxer = muxer();
        for (path, status) in [("", 426), ("x", 404)] {
            let Reply::Done(response) = muxer.request(path, "") else {
                panic!("an answer")
            };
            assert_eq!(response.status, status);
        }
        for carrier in ["websocket", "webtransport"] {
            assert!(muxer.join(Connection::new(1, carrier, "", "")).is_ok());
            muxer.leave(1);
        }
    }

    proptest! {
        #[test]
        fn restarts_from_any_group(
            frames in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..30),
        ) {
            let mut frames = frames;
            frames[0].0 = true;
            mock::assert_restartable::<WebCodecs>("{}", &info(), &mock::samples(GROUP, frames));
        }
    }
}
