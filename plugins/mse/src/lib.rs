//! Transport `mse`: fragmented MP4 for Media Source Extensions. `WS /live/{stream}/mse` sends a text message with the
//! MIME type, a binary one with the initialization segment, then fragments. `GET` on the same path returns the same MP4
//! as one endless `video/mp4`.
//!
//! - Each sample is a fragment of its own and is sent at once. With the option `fragment`, a fragment has that much
//!   media of all tracks.
//! - A viewer starts at the newest independent video frame, or, without video, at any audio frame. If the tracks
//!   change, another text and initialization segment follow, which a player passes to `SourceBuffer.changeType`.
//! - Times are the stream's, counted from the start of the run: a player seeks to where its buffer starts.
//! - Leading frames of open GOPs are in fragments of their own, which viewers that start at that GOP do not get.
//! - The fragment that starts a group has a `prft` box in front, with the capture time of its frame.

mod pace;

use pace::TrackTiming;
use sluicegate_sdk::serde::Deserialize;
use sluicegate_sdk::{
    Buffer, Chunk, Lane, Millis, Payload, Profile, Reply, Sample, StreamInfo, Track, Transport,
    fmp4, log,
};

const CONTENT_TYPE: &str = "video/mp4";
/// Longest value of the option `fragment`.
const MAX_FRAGMENT: Millis = Millis(10_000);
/// Most samples in a fragment, however short they claim to be. Each is a handle that counts against the instance's
/// limit.
const MAX_SAMPLES: usize = 1024;

#[derive(Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields, default)]
struct Options {
    /// A viewer further behind than this jumps to the newest independent frame. Default `"3s"`.
    stale: Millis,
    /// Media duration of a fragment. Longer ones cost fewer bytes and arrive later. Default `"0ms"`: one sample each.
    fragment: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            stale: Millis(3000),
            fragment: Millis(0),
        }
    }
}

/// A muxer for fragmented MP4.
pub struct Mse {
    fragment: Millis,
    /// Timing of the tracks that are sent.
    tracks: Vec<TrackTiming>,
    group: u64,
    /// Sequence number of the next fragment. It starts, in each group, at the first decode time in milliseconds, and
    /// then counts up, so that a new instance continues with the same numbers.
    sequence: u32,
    /// Samples of the incomplete fragment.
    pending: Vec<Sample>,
}

impl Transport for Mse {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let Options { stale, fragment } = sluicegate_sdk::options(options)?;
        if fragment > MAX_FRAGMENT {
            return Err(format!(
                "option `fragment`: \"{}s\" is too long, since viewers wait for a complete fragment; write at most \"{}s\"",
                fragment.0 / 1000,
                MAX_FRAGMENT.0 / 1000
            ));
        }
        let profile = Profile {
            carriers: vec!["websocket".into(), "http".into()],
            formats: vec!["h264/avcc".into(), "aac".into()],
            lanes: vec![Lane::new(stale.0)],
            // At the start of a group, samples of the group before may still be pending. A new instance must know
            // those, so its history is two groups then.
            group_ms: fragment.0,
            history: if fragment.0 > 0 { 2 } else { 1 },
            latency_ms: 150 + fragment.0,
            label: "MSE".into(),
            embeds: vec!["file".into()],
            output: "mse/1".into(),
            ..Profile::default()
        };
        let mse = Mse {
            fragment,
            tracks: vec![],
            group: 0,
            sequence: 0,
            pending: vec![],
        };
        Ok((mse, profile))
    }

    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        self.pending.clear();
        self.group = 0;
        self.tracks.clear();
        let fit = |track: &&Track| match fmp4::check(track) {
            Ok(()) => true,
            Err(error) => {
                log::warn(format!("{error}; the track is omitted"));
                false
            }
        };
        let tracks: Vec<Track> = info.tracks.iter().filter(fit).cloned().collect();
        match fmp4::init(&tracks) {
            Ok(init) => {
                self.tracks = tracks.iter().map(TrackTiming::new).collect();
                vec![
                    Payload::Text(fmp4::mime(&tracks)),
                    Buffer::from(init).into(),
                ]
            }
            Err(error) => {
                log::error(format!(
                    "nothing is sent, since there is no initialization segment: {error}"
                ));
                vec![]
            }
        }
    }

    fn push(&mut self, mut sample: Sample) -> Vec<Chunk> {
        let Some(index) = self
            .tracks
            .iter()
            .position(|track| track.id == sample.track)
        else {
            return vec![];
        };
        let mut chunks = vec![];
        if sample.group > self.group {
            chunks.extend(self.flush());
            self.group = sample.group;
            self.tracks.iter_mut().for_each(TrackTiming::begin_group);
            self.sequence = self.tracks[index].millis(sample.decode_time) as u32;
        }
        let track = &mut self.tracks[index];
        track.adjust(&mut sample);
        let end = sample.decode_time.saturating_add(sample.duration.into());
        // Leading samples go only to some viewers, so they do not share a fragment with others.
        let first = self.pending.first();
        if first.is_some_and(|first| first.leading != sample.leading) {
            chunks.extend(self.flush());
        }
        let track = &self.tracks[index];
        self.pending.push(sample);
        let first = self.pending.iter().find(|first| first.track == track.id);
        let lasts = end.saturating_sub(first.map_or(end, |first| first.decode_time));
        if track.millis(lasts) >= self.fragment.0.into() || self.pending.len() >= MAX_SAMPLES {
            chunks.extend(self.flush());
        }
        chunks
    }

    fn stop(&mut self, _reason: &str, _last: bool) -> Vec<Chunk> {
        self.flush().into_iter().collect()
    }

    fn request(&self, path: &str, _query: &str) -> Reply {
        match path {
            "" => Reply::Follow(CONTENT_TYPE.into()),
            _ => Reply::not_found(path),
        }
    }
}

impl Mse {
    /// Completes the current fragment, if it has samples.
    fn flush(&mut self) -> Option<Chunk> {
        let first = self.pending.first()?;
        let video = |id| {
            self.tracks
                .iter()
                .any(|track| track.video && track.id == id)
        };
        let frame = video(first.track);
        let only_audio = !self.tracks.iter().any(|track| track.video);
        let independent = first.independent && (frame || only_audio);
        let leading = first.leading;
        let before = if frame && independent {
            fmp4::prft(first)
        } else {
            vec![]
        };
        let written = fmp4::fragment(before, self.sequence, &self.pending);
        self.sequence = self.sequence.wrapping_add(1);
        self.pending.clear();
        match written {
            Ok(fragment) => Some(Chunk {
                leading,
                ..Chunk::new(fragment, independent)
            }),
            Err(error) => {
                log::error(format!("a fragment is dropped: {error}"));
                None
            }
        }
    }
}

sluicegate_sdk::export!(Mse);

#[cfg(test)]
mod tests;
