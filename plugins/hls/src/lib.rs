//! Transport `hls`: `GET /live/{stream}/hls/index.m3u8`, HLS and Low-Latency HLS in fragmented MP4
//! (draft-pantos-hls-rfc8216bis; section numbers in this crate are its).
//!
//! | path below the transport | content |
//! |---|---|
//! | `index.m3u8` | multivariant playlist: every rendition of the stream |
//! | `media.m3u8` | media playlist, with `_HLS_msn`, `_HLS_part`, `_HLS_skip` |
//! | `init-RUN-EPOCH.mp4` | initialization segment |
//! | `RUN-MSN.m4s`, `RUN-MSN.PART.m4s` | segment, part |
//!
//! The transport has no lanes and only answers requests. `push` fills a `Window` of segments, and `request` reads it: a
//! part that does not exist yet is answered `pending`, one that is no longer available with 404, one too far in the
//! future with 400. A group of the host is a segment and the group's number is its media sequence number, so renditions
//! and restarted instances agree.

mod directives;
mod options;
mod playlist;
mod time;
mod window;

use directives::Directives;
use options::Settings;
use playlist::{MEDIA, Name, Resource};
use sluicegate_sdk::{
    Buffer, Chunk, Payload, Profile, Reply, Response, Sample, StreamInfo, Transport, log,
};
use time::SECOND;
use window::{Segment, Window};

/// Silence in milliseconds after which the last frame is repeated. Network jitter is shorter, and players tolerate that
/// much.
const REPEAT_MS: u32 = 1000;
/// While the first segment is shorter than this, requests for the first playlist wait. The host's limit for pending
/// requests is only a little longer.
const MAX_FIRST_SEGMENT_WAIT: time::Time = 10 * SECOND;
/// Seconds after which a client may request the playlist again.
const RETRY_AFTER_SECONDS: u32 = 5;
const PLAYLIST: &str = "application/vnd.apple.mpegurl";

/// A muxer that serves one rendition as HLS.
pub struct Hls {
    settings: Settings,
    /// The newest tracks, and the window of their segments.
    stream: Option<(StreamInfo, Window)>,
    /// Reason why these tracks cannot be served.
    track_error: Option<String>,
}

impl Transport for Hls {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let settings = Settings::read(options)?;
        let ms = |time| u32::try_from(time / time::MILLISECOND).unwrap_or(u32::MAX);
        let profile = Profile {
            carriers: vec!["http".into()],
            formats: vec!["h264/avcc".into(), "aac".into()],
            group_ms: settings.group_ms(),
            history: settings.held() as u32 + 1,
            repeat_ms: REPEAT_MS,
            latency_ms: ms(settings.part.map_or(5 * settings.segment, |part| 4 * part)),
            entry: "index.m3u8".into(),
            label: "HLS".into(),
            embeds: vec!["playlist".into()],
            output: "hls/1".into(),
            ..Profile::default()
        };
        let hls = Hls {
            settings,
            stream: None,
            track_error: None,
        };
        Ok((hls, profile))
    }

    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        let window = self.stream.take().map(|(_, window)| window);
        let mut window = window
            .filter(|window| window.run == info.started_at)
            .unwrap_or_else(|| Window::new(self.settings, info.started_at));
        self.track_error = window.configure(info).err();
        if let Some(track_error) = &self.track_error {
            log::error(track_error);
        }
        self.stream = Some((info.clone(), window));
        vec![]
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        if let (Some((_, window)), None) = (&mut self.stream, &self.track_error) {
            window.push(sample);
        }
        vec![]
    }

    fn stop(&mut self, _reason: &str, last: bool) -> Vec<Chunk> {
        if let Some((_, window)) = &mut self.stream {
            window.stop(last);
        }
        vec![]
    }

    fn request(&self, path: &str, query: &str) -> Reply {
        let name = Name::parse(path);
        if name.is_none() && path != MEDIA && path != "index.m3u8" {
            return Reply::text(
                404,
                format!("HLS has no file \"{path}\"; its playlist is index.m3u8.\n"),
            );
        }
        if let Some(track_error) = &self.track_error {
            return Reply::text(503, format!("{track_error}.\n"));
        }
        let Some((info, window)) = &self.stream else {
            return Reply::Pending;
        };
        match name {
            Some(name) => media_file(window, name),
            None if path == MEDIA => media_playlist(info, window, query),
            None => match playlist::multivariant(info, window) {
                Some(text) => playlist_answer(text, window.target_duration() / SECOND / 2),
                None => no_segment_yet(window),
            },
        }
    }
}

/// Response while no segment is complete. It waits only for keyframes that can be expected soon.
fn no_segment_yet(window: &Window) -> Reply {
    if window.ended {
        return Reply::text(
            404,
            "The stream ended before its first segment was complete.\n",
        );
    }
    let Some(takes) = window
        .first_segment_duration()
        .filter(|takes| *takes >= MAX_FIRST_SEGMENT_WAIT)
    else {
        return Reply::Pending;
    };
    let text = format!(
        "HLS cannot start yet: the first segment ends at the next keyframe, and this stream has had none for {} s. Try again \
         later, or set a shorter keyframe interval at the source. Other transports of this stream play at once.\n",
        takes / SECOND
    );
    let content_type = "text/plain; charset=utf-8";
    let body = text.into_bytes();
    Reply::Done(Response::new(503, content_type, RETRY_AFTER_SECONDS, body))
}

fn media_playlist(info: &StreamInfo, window: &Window, query: &str) -> Reply {
    let directives = match Directives::read(query) {
        Ok(directives) => directives,
        Err(error) => return Reply::text(400, format!("{error}\n")),
    };
    let Some(last) = window.last() else {
        return no_segment_yet(window);
    };
    let target = window.target_duration() / SECOND;
    // Directives do not apply to plain HLS, nor after the end (6.2.5).
    let blocking = window.settings.part.is_some() && !window.ended;
    if let Some(msn) = directives.msn.filter(|_| blocking) {
        match availability(window, last, msn, directives.part) {
            Availability::Available => {}
            Availability::Upcoming => return Reply::Pending,
            Availability::TooFar => return too_far(window),
        }
    }
    let Some(text) = playlist::media(window, &info.renditions, directives.skip) else {
        return Reply::Pending;
    };
    // Cache lifetimes as recommended in appendix B.
    let max_age = match directives.msn.filter(|_| blocking) {
        Some(_) => 6 * target,
        None => target / 2,
    };
    playlist_answer(text, max_age)
}

fn media_file(window: &Window, name: Name) -> Reply {
    let gone = || Reply::text(404, "This segment is no longer available.\n");
    if name.run != window.run {
        return gone();
    }
    let (msn, part) = match name.resource {
        Resource::Init(epoch) => {
            return match window.epoch_of(epoch) {
                Some(epoch) => immutable("video/mp4", epoch.init.share()),
                None => gone(),
            };
        }
        Resource::Segment(msn) => (msn, None),
        Resource::Part(msn, part) => (msn, Some(part)),
    };
    let complete = window.last().filter(|last| msn <= last.msn);
    let bytes = window.segment(msn).and_then(|segment| match part {
        Some(part) => segment.parts.get(part).map(|part| part.bytes.share()),
        None => complete.and_then(|_| join_parts(segment)),
    });
    if let Some(bytes) = bytes {
        return immutable("video/iso.segment", bytes);
    }
    let Some(last) = window
        .last()
        .filter(|_| !window.ended && complete.is_none())
    else {
        // Before the first segment is complete, later ones are unknown.
        return match window.last() {
            None if !window.ended => Reply::Pending,
            _ => gone(),
        };
    };
    match availability(window, last, msn, part.map(|part| part as u64)) {
        Availability::TooFar => too_far(window),
        _ => Reply::Pending,
    }
}

/// A complete segment: the concatenation of its parts. `None` for a gap.
fn join_parts(segment: &Segment) -> Option<Buffer> {
    let parts = segment.parts.iter().map(|part| (&part.bytes).into());
    (!segment.parts.is_empty()).then(|| Buffer::new(parts))
}

enum Availability {
    Available,
    Upcoming,
    TooFar,
}

/// Whether the playlist contains segment `msn`, or that part of it (6.2.5.2).
fn availability(window: &Window, last: &Segment, msn: u64, part: Option<u64>) -> Availability {
    let Some(part) = part else {
        return match msn {
            there if there <= last.msn => Availability::Available,
            soon if soon <= last.msn + 2 => Availability::Upcoming,
            _ => Availability::TooFar,
        };
    };
    // A part number beyond the last part of a complete segment means the first part of the next segment.
    let parts = |segment: &Segment| segment.parts.len() as u64;
    let (msn, part) = match window.segment(msn) {
        Some(complete) if msn <= last.msn && part >= parts(complete) => (msn + 1, 0),
        _ => (msn, part),
    };
    if msn <= last.msn {
        return Availability::Available;
    }
    let open = window
        .open()
        .filter(|open| open.msn == msn)
        .map_or(0, parts);
    // "The Advance Part Limit is three divided by the Part Target Duration, or three if that is a second or more."
    let target = match window.part_targets() {
        (0, _) => SECOND,
        (part, _) => part,
    };
    let limit = (3 * SECOND).div_ceil(target.min(SECOND));
    match part {
        there if there < open => Availability::Available,
        soon if msn <= last.msn + 2 && soon < open + limit => Availability::Upcoming,
        _ => Availability::TooFar,
    }
}

fn too_far(window: &Window) -> Reply {
    let next = window.next_part().map_or(String::new(), |(msn, part)| {
        format!("; the next part is part {part} of segment {msn}")
    });
    Reply::text(400, format!("This is too far in the future{next}.\n"))
}

fn immutable(content_type: &str, body: Buffer) -> Reply {
    Reply::Done(Response::new(200, content_type, Response::FOREVER, body))
}

fn playlist_answer(text: String, max_age: u64) -> Reply {
    let max_age = u32::try_from(max_age).unwrap_or(1).max(1);
    Reply::Done(Response::new(200, PLAYLIST, max_age, text.into_bytes()))
}

sluicegate_sdk::export!(Hls);

#[cfg(test)]
mod tests;
