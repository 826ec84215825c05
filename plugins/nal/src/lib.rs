//! Transport `nal`: `WS /live/{stream}/nal` sends one H.264 access unit in Annex B per binary message, after the
//! parameter sets. WebCodecs accepts these without a `description`.
//!
//! A viewer starts at the newest independent access unit and receives everything since, so its first frame is available
//! at once. Access units are forwarded unchanged, every NAL unit once and in order.
//!
//! If frames must be displayed otherwise than coded, a text message follows the parameter sets and applies until the
//! next parameter sets that come without an access unit: `{"pixelAspect":[16,11],"rotation":90,"mirrored":false}`. It
//! has the width and height of a coded pixel, the clockwise rotation in degrees, and whether left and right are
//! exchanged before it.

use sluicegate_sdk::serde::Deserialize;
use sluicegate_sdk::{
    Buffer, Chunk, Lane, Millis, Payload, Profile, Reply, Sample, StreamInfo, Transport, Video,
    h264, log,
};

#[derive(Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields, default)]
struct Options {
    /// A viewer further behind than this jumps to the newest independent access unit. Default `"1s"`.
    stale: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            stale: Millis(1000),
        }
    }
}

/// A muxer that forwards H.264 access units unchanged.
pub struct Nal {
    /// Id of the video track.
    video: Option<u32>,
}

impl Transport for Nal {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let Options { stale } = sluicegate_sdk::options(options)?;
        let profile = Profile {
            carriers: vec!["websocket".into()],
            formats: vec!["h264/annexb".into()],
            lanes: vec![Lane::new(stale.0)],
            latency_ms: 80,
            label: "H.264".into(),
            embeds: vec!["access-units".into()],
            output: "nal/1".into(),
            ..Profile::default()
        };
        Ok((Nal { video: None }, profile))
    }

    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        self.video = info.video().map(|(track, _)| track.id);
        let Some((track, video)) = info.video() else {
            return vec![];
        };
        let mut header = match h264::parameter_sets(&track.config) {
            Ok(sets) if sets.is_empty() => vec![],
            Ok(sets) => vec![Buffer::from(sets).into()],
            // The parameter sets may be in the stream itself.
            Err(error) => {
                log::warn(format!(
                    "track {} has no parameter sets in its configuration: {error}; viewers depend on those in the stream",
                    track.id
                ));
                vec![]
            }
        };
        header.extend(geometry(video).map(Payload::Text));
        header
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        if self.video != Some(sample.track) {
            return vec![];
        }
        vec![sample.into()]
    }

    fn request(&self, path: &str, _query: &str) -> Reply {
        match path {
            "" => Reply::text(
                426,
                "Connect with a WebSocket: each binary message is one H.264 access unit in Annex B.\n",
            ),
            _ => Reply::not_found(path),
        }
    }
}

/// Text message that says how frames are displayed; `None` if that is as coded.
fn geometry(video: &Video) -> Option<String> {
    let ((wide, tall), rotation, mirrored) = (video.pixel_aspect, video.rotation, video.mirrored);
    (wide != tall || rotation != 0 || mirrored).then(|| {
        format!(r#"{{"pixelAspect":[{wide},{tall}],"rotation":{rotation},"mirrored":{mirrored}}}"#)
    })
}

sluicegate_sdk::export!(Nal);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;
    use sluicegate_sdk::{
        Kind,
        mock::{self, Connection, Muxer},
    };

    const AVCC: [u8; 16] = [
        1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
    ];
    const SETS: [u8; 13] = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0, 0, 0, 1, 0x68, 0xce];

    fn info() -> StreamInfo {
        mock::video("h264/annexb", "avc1.42c01e", &AVCC)
    }

    #[test]
    fn late_viewer_gets_the_parameter_sets_and_all_since_the_newest_idr() {
        let mut muxer = Muxer::<Nal>::open("{}").unwrap();
        assert_eq!(mock::bytes(&muxer.configure(&info())), SETS);
        let frames = [(true, b"I0"), (false, b"p1"), (true, b"I2"), (false, b"p3")];
        for sample in mock::samples(0, frames.map(|(key, bytes)| (key, bytes.to_vec()))) {
            muxer.push(sample);
        }
        let got = muxer.watch(0, ("websocket", "", ""), |i| i > 0).unwrap();
        let got: Vec<Vec<u8>> = got.iter().map(Payload::to_vec).collect();
        assert_eq!(got, [SETS.to_vec(), b"I2".to_vec(), b"p3".to_vec()]);
    }

    #[test]
    fn track_without_parameter_sets_is_served_from_the_stream_alone() {
        for (config, logged) in [
            (vec![], 1),
            (vec![1, 2], 1),
            (vec![1, 66, 0, 30, 255, 224, 0], 0),
        ] {
            let mut muxer = Muxer::<Nal>::open("{}").unwrap();
            assert!(
                muxer
                    .configure(&mock::video("h264/annexb", "", &config))
                    .is_empty()
            );
            assert_eq!(mock::take_logs().len(), logged);
            assert_eq!(
                muxer
                    .push(mock::samples(0, [(true, vec![9])]).remove(0))
                    .len(),
                1
            );
        }
    }

    #[test]
    fn a_text_states_the_display_geometry_if_it_is_not_as_coded() {
        let mut info = info();
        let Kind::Video(video) = &mut info.tracks[0].kind else {
            panic!("a frame")
        };
        (video.pixel_aspect, video.rotation, video.mirrored) = ((16, 11), 90, true);
        let mut muxer = Muxer::<Nal>::open("{}").unwrap();
        let header = muxer.configure(&info);
        assert_eq!(header[0].to_vec(), SETS);
        let told = r#"{"pixelAspect":[16,11],"rotation":90,"mirrored":true}"#;
        assert_eq!(header[1..], [Payload::Text(told.into())]);
    }

    #[test]
    fn other_tracks_are_passed_over() {
        let mut muxer = Muxer::<Nal>::open("{}").unwrap();
        let mut info = info();
        info.tracks.clear();
        assert!(muxer.configure(&info).is_empty());
        assert!(
            muxer
                .push(mock::samples(0, [(true, vec![9])]).remove(0))
                .is_empty()
        );
    }

    #[test]
    fn plain_get_is_refused_with_the_advice_to_use_a_websocket() {
        let mut muxer = Muxer::<Nal>::open("").unwrap();
        for (path, status) in [("", 426), ("x", 404)] {
            let Reply::Done(response) = muxer.request(path, "") else {
                panic!("an answer")
            };
            assert_eq!(response.status, status);
        }
        let connection = |id, path| Connection::new(id, "websocket", path, "client=phone");
        assert!(muxer.join(connection(1, "")).is_ok());
        assert!(muxer.join(connection(2, "x")).is_err());
    }

    #[test]
    fn stale_is_an_option() {
        let stale =
            |options| Muxer::<Nal>::open(options).map(|muxer| muxer.profile().lanes[0].stale_ms);
        assert_eq!(stale(""), Ok(1000));
        assert_eq!(stale(r#"{"stale": "2.5s"}"#), Ok(2500));
        assert_eq!(
            stale(r#"{"stael": "2s"}"#),
            Err("unknown option `stael`; known: `stale`".into())
        );
    }

    proptest! {
        #[test]
        fn restarts_from_any_group_and_passes_every_byte(
            frames in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..30),
        ) {
            let mut frames = frames;
            frames[0].0 = true;
            let all: Vec<u8> = frames.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let samples = mock::samples(0, frames);
            mock::assert_restartable::<Nal>("{}", &info(), &samples);

            let mut muxer = Muxer::<Nal>::open("{}").unwrap();
            muxer.configure(&info());
            let chunks: Vec<Chunk> = samples.into_iter().flat_map(|sample| muxer.push(sample)).collect();
            prop_assert_eq!(mock::chunk_bytes(&chunks), all);
        }
    }
}
