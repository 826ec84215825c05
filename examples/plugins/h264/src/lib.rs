//! A transport: H.264 as one endless HTTP body, for anything that reads raw Annex B, and over WebSocket for its half in
//! the browser.
//!
//! The whole transport is the type `H264` below; the gateway does the rest: connections, late and slow viewers, limits,
//! repair. `ffplay -f h264 -probesize 200000 http://127.0.0.1:8080/live/demo/NAME` plays it, with its name in the config,
//! and `curl http://127.0.0.1:8080/live/demo/NAME/info` returns a description. The gateway's own player plays it by
//! `half.js`: http://127.0.0.1:8080/watch/demo?transport=NAME. The SDK is the only dependency.

use sluicegate_sdk::{
    Buffer, Chunk, Lane, Millis, Payload, Profile, Reply, Sample, StreamInfo, Transport, h264, log,
    serde::Deserialize, serde_json::json,
};

/// Options in the config, apart from `plugin` and `limits`, which the gateway uses itself. With `deny_unknown_fields`,
/// a misspelt key is an error at start and in `sluicegate check`.
#[derive(Default, Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields, default)]
struct Options {
    /// A viewer further behind than this jumps to the newest independent frame. Default `"2s"`.
    stale: Option<Millis>,
}

/// State of one instance. There is one instance per stream, shared by all its viewers, and it may be replaced at any
/// time. All state must therefore follow from `configure` and the samples since the newest group began, which is what a
/// new instance receives.
#[derive(Default)]
struct H264 {
    /// Number of the video track, which is the only one in the formats of the profile.
    track: Option<u32>,
    /// Response to `info`.
    about: Option<String>,
}

impl Transport for H264 {
    /// Called first. The profile states what this transport needs: the gateway converts the source to one of `formats`
    /// if necessary, and delivers the output to viewers over one of `carriers`. A new instance gets `history` groups:
    /// here one is enough, and each independent frame starts one.
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let Options { stale } = sluicegate_sdk::options(options)?;
        let profile = Profile {
            carriers: vec!["http".into(), "websocket".into()],
            formats: vec!["h264/annexb".into()],
            lanes: vec![Lane::new(stale.map_or(2000, |stale| stale.0))],
            history: 1,
            latency_ms: 500,
            label: "H.264".into(),
            embeds: vec!["file".into()],
            ..Profile::default()
        };
        Ok((H264::default(), profile))
    }

    /// Called when the tracks become known or change. Returns the header, which each viewer gets before its first
    /// chunk: the parameter sets, without which no decoder can start.
    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        let video = info.video();
        self.track = video.map(|(track, _)| track.id);
        self.about = video.map(|(track, video)| {
            json!({ "codec": track.codec, "width": video.width, "height": video.height })
                .to_string()
        });
        let sets = video.map(|(track, _)| h264::parameter_sets(&track.config));
        if let Some(Err(error)) = &sets {
            log::warn(format!("no parameter sets for the header: {error}"));
        }
        let header = sets.and_then(Result::ok).map(Buffer::from);
        header.map(Payload::from).into_iter().collect()
    }

    /// Called for each frame. `sample.data` is a handle: the bytes stay with the gateway, so returning it unchanged
    /// costs the same for any size. To add bytes before or after it, join them: `Buffer::new([head.into(),
    /// sample.data.slice(0, sample.size)])`.
    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        let is_video = self.track == Some(sample.track);
        is_video.then(|| sample.into()).into_iter().collect()
    }

    /// Called for a GET: of the transport itself (`""`), whose client becomes a viewer, or of a path below it, which is
    /// answered. Called once between two samples, however many clients there are. `Pending`: the stream has not started
    /// yet; the gateway calls again when something has changed.
    fn request(&self, path: &str, _query: &str) -> Reply {
        match (path, &self.about) {
            ("", _) => Reply::Follow("video/h264".into()),
            ("info", Some(about)) => Reply::json(about.clone()),
            ("info", None) => Reply::Pending,
            _ => Reply::not_found(path),
        }
    }
}

// Exports the type above as this component, with the module that plays it in browsers. Without one, it is `export!(H264)`.
sluicegate_sdk::export!(H264, browser: include_str!("half.js"));

#[cfg(test)]
mod tests;
