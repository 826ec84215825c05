//! Example of a third-party transport: H.264 as one endless HTTP body, for anything that reads raw Annex B.
//!
//! The whole transport is the type `H264` below; the gateway does the rest: connections, late and slow viewers, limits,
//! repair. Build it and name it in the config:
//!
//! ```toml
//! [transports.h264]
//! plugin = "target/plugins/h264.wasm"
//! stale = "2s"
//! ```
//!
//! Then `ffplay http://127.0.0.1:8080/live/demo/h264` plays it, and `curl http://127.0.0.1:8080/live/demo/h264/info`
//! returns a description. The SDK is the only dependency.

use sluicegate_sdk::serde::Deserialize;
use sluicegate_sdk::{
    Buffer, Chunk, Lane, Millis, Payload, Profile, Reply, Sample, StreamInfo, Transport, h264, log,
    serde_json,
};

/// Options in the config, apart from `plugin` and `limits`, which the gateway uses itself. With `deny_unknown_fields`,
/// a misspelt key is an error at start and in `sluicegate check`.
#[derive(Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields, default)]
struct Options {
    /// A viewer further behind than this jumps to the newest independent frame. Default `"2s"`.
    stale: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            stale: Millis(2000),
        }
    }
}

/// State of one instance. There is one instance per stream, shared by all its viewers, and it may be replaced at any
/// time. All state must therefore follow from `configure` and the samples since the newest group began, which is what a
/// new instance receives.
struct H264 {
    track: Option<u32>,
    /// Response to `info`, except for the two numbers below.
    about: serde_json::Value,
    group: u64,
    /// Frames so far in this group.
    frames: u32,
}

impl Transport for H264 {
    /// Called first. The profile states what this transport needs: the gateway converts the source to one of `formats`
    /// if necessary, and delivers the output to viewers over one of `carriers`.
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let Options { stale } = sluicegate_sdk::options(options)?;
        let profile = Profile {
            carriers: vec!["http".into()],
            formats: vec!["h264/annexb".into()],
            lanes: vec![Lane::new(stale.0)],
            // Each independent frame starts a group...
            group_ms: 0,
            // ...and one group is all that a new instance needs.
            history: 1,
            latency_ms: 500,
            label: "H.264".into(),
            embeds: vec!["file".into()],
            ..Profile::default()
        };
        let h264 = H264 {
            track: None,
            about: serde_json::Value::Null,
            group: 0,
            frames: 0,
        };
        Ok((h264, profile))
    }

    /// Called when the tracks become known or change. Returns the header, which each viewer gets before its first
    /// chunk: the parameter sets, without which no decoder can start.
    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        self.track = None;
        self.about = serde_json::Value::Null;
        let Some((track, video)) = info.video() else {
            return vec![];
        };
        self.track = Some(track.id);
        self.about = serde_json::json!({
            "codec": track.codec,
            "width": video.width,
            "height": video.height,
            "frame_rate": video.frame_rate,
            "epoch": info.epoch,
        });
        match h264::parameter_sets(&track.config) {
            Ok(sets) => vec![Buffer::from(sets).into()],
            Err(error) => {
                log::warn(format!("no parameter sets for the header: {error}"));
                vec![]
            }
        }
    }

    /// Called for each frame. `sample.data` is a handle: the bytes stay with the gateway, so returning it unchanged
    /// costs the same for any size. To add bytes before or after it, join them: `Buffer::new([head.into(),
    /// sample.data.slice(0, sample.size)])`.
    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        if self.track != Some(sample.track) {
            return vec![];
        }
        if sample.group != self.group {
            self.group = sample.group;
            self.frames = 0;
        }
        self.frames += 1;
        vec![sample.into()]
    }

    /// Called for a GET: of the transport itself (`""`), whose client becomes a viewer, or of a path below it, which is
    /// answered. Called once between two samples, however many clients there are.
    fn request(&self, path: &str, _query: &str) -> Reply {
        match path {
            "" => Reply::Follow("video/h264".into()),
            // The stream has not started yet. The gateway calls again when something has changed.
            "info" if self.about.is_null() => Reply::Pending,
            "info" => {
                let mut about = self.about.clone();
                about["group"] = self.group.into();
                about["frames"] = self.frames.into();
                Reply::json(about.to_string())
            }
            _ => Reply::not_found(path),
        }
    }
}

// Exports the type above as this component.
sluicegate_sdk::export!(H264);

/// `cargo test` runs these natively; the mock takes the gateway's place.
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use sluicegate_sdk::mock::{self, Muxer};

    const AVCC: [u8; 16] = [
        1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
    ];
    const SETS: [u8; 13] = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0, 0, 0, 1, 0x68, 0xce];

    fn info() -> StreamInfo {
        mock::video("h264/annexb", "avc1.42c01e", &AVCC)
    }

    fn samples() -> Vec<Sample> {
        let frames = [(true, b"I0"), (false, b"p1"), (true, b"I2"), (false, b"p3")];
        mock::samples(
            0,
            frames.map(|(independent, bytes)| (independent, bytes.to_vec())),
        )
    }

    fn running() -> Muxer<H264> {
        let mut muxer = Muxer::open("").unwrap();
        muxer.configure(&info());
        for sample in samples() {
            muxer.push(sample);
        }
        muxer
    }

    #[test]
    fn viewer_reads_one_annex_b_stream() {
        let got = running().watch(0, ("http", "", ""), |i| i >= 2).unwrap();
        assert_eq!(mock::bytes(&got), [&SETS[..], b"I2p3"].concat());
    }

    #[test]
    fn info_describes_the_stream() {
        let Reply::Done(response) = running().request("info", "") else {
            panic!("an answer")
        };
        let about: serde_json::Value = serde_json::from_slice(&response.body.to_vec()).unwrap();
        assert_eq!(about["codec"], "avc1.42c01e");
        assert_eq!(
            (&about["width"], &about["height"]),
            (&640.into(), &360.into())
        );
        assert_eq!(about["frames"], 2);
    }

    #[test]
    fn info_waits_for_the_stream() {
        let muxer = Muxer::<H264>::open("").unwrap();
        assert_eq!(muxer.request("info", ""), Reply::Pending);
    }

    #[test]
    fn new_instance_goes_on_where_the_old_one_was() {
        mock::assert_restartable::<H264>("", &info(), &samples());
    }

    #[test]
    fn mistake_in_the_config_is_named() {
        let Err(error) = Muxer::<H264>::open(r#"{"stale": "2 parsecs"}"#) else {
            panic!("taken")
        };
        assert_eq!(
            error,
            "option `stale`: `2 parsecs` is not a valid duration; write for example \"200ms\" or \"2s\""
        );
    }
}
