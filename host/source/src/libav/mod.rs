//! Media that libavformat demuxes: containers from files, servers and pipes, and its own network protocols.
//!
//! `input` opens and reads, within limits of memory and time (`budget`, `deadline`); `delivery` turns packets into
//! calls of the sink. Live inputs are delivered as they arrive ([`play`]), everything else is paced ([`play_paced`]).

mod budget;
mod deadline;
mod delivery;
mod input;

use delivery::Delivery;
pub(super) use input::{Input, Media, Packet, Tracks};

use super::{SourceContext, SourceError, http::PlaylistProxy, interleave::Interleave, pace::Pace};
use ffmpeg_next::Dictionary;
use std::io::{Read, Seek};

/// Streams what libavformat opens at `url`, RTSP over TCP. `what` names the source in errors. HTTP goes through
/// `guard`.
pub fn run_url(
    what: &str,
    url: &str,
    guard: Option<&PlaylistProxy>,
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    let mut options = live();
    options.set("rtsp_transport", "tcp");
    if let Some(guard) = guard {
        options.set("http_proxy", &guard.proxy());
        // Each connection of the proxy serves one request.
        options.set("http_persistent", "0");
    }
    let opened = Input::open(what, url, &protocols(url), options, context.stop);
    // A playlist delivers whole segments as fast as the network allows.
    let ended = opened.and_then(|opened| match guard {
        Some(_) => play_once(what, opened, context),
        None => play(what, opened, None, context),
    });
    match (ended, guard.and_then(PlaylistProxy::explain)) {
        (Err(SourceError::Open { what, .. }), Some(reason)) => {
            Err(SourceError::Open { what, reason })
        }
        (Err(SourceError::Read { what, .. }), Some(reason)) => {
            Err(SourceError::Read { what, reason })
        }
        (ended, _) => ended,
    }
}

/// Streams a server's response in one of libavformat's containers. `is_seekable`: the server supports range requests,
/// so it is a file, which arrives faster than real time.
pub fn run_peer<R: Read + Seek + Send + 'static>(
    what: &str,
    (peer, is_seekable): (R, bool),
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    let mut opened = Input::of_peer(what, peer, is_seekable, live(), context.stop)?;
    if is_seekable {
        opened.0.trust_durations();
        return play_once(what, opened, context);
    }
    play(what, opened, None, context)
}

/// Delivers an input as it arrives, or by `pace`, until it is stopped, fails, falls silent or ends. An end is an error,
/// too.
pub fn play(
    what: &str,
    (mut input, tracks): (Input, Tracks),
    mut pace: Option<Pace>,
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    input.watch_video();
    let mut delivery = Delivery::new(what, tracks, context.encode, context.sink)?;
    while let Some(mut packet) = input.next()? {
        if let Some(pace) = &mut pace {
            pace.wait(packet.is_audio, &mut packet.times, context.stop);
        }
        delivery.deliver(packet, context)?;
    }
    if context.stop.is_stopped() {
        return Ok(());
    }
    delivery.finish(context)?;
    Err(SourceError::Ended(what.to_owned()))
}

/// As [`play`], for an input that arrives faster than real time.
fn play_once(
    what: &str,
    mut opened: (Input, Tracks),
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    opened.0.watch_video();
    let mut pace = Pace::default();
    play_paced(what, opened, &mut pace, context)?;
    match context.stop.is_stopped() {
        true => Ok(()),
        false => Err(SourceError::Ended(what.to_owned())),
    }
}

/// Delivers an input in real time, however fast it arrives, with the packets of its tracks in the order of their times.
/// Returns whether the input was empty.
pub fn play_paced(
    what: &str,
    (mut input, tracks): (Input, Tracks),
    pace: &mut Pace,
    context: &mut SourceContext<'_>,
) -> Result<bool, SourceError> {
    let mut waiting = Interleave::new(tracks.video.is_some(), tracks.audio.is_some());
    let mut delivery = Delivery::new(what, tracks, context.encode, context.sink)?;
    let mut is_empty = true;
    loop {
        while waiting.needs_input() {
            match input.next()? {
                Some(mut packet) => {
                    let place = pace.place(packet.is_audio, &mut packet.times);
                    waiting.push(packet.is_audio, place, packet.packet.size(), packet);
                }
                None => waiting.end(),
            }
        }
        let Some((place, packet)) = waiting.pop() else {
            break;
        };
        pace.wait_for(place, context.stop);
        input.resume();
        if context.stop.is_stopped() {
            return Ok(is_empty);
        }
        delivery.deliver(packet, context)?;
        is_empty = false;
    }
    delivery.finish(context)?;
    Ok(is_empty)
}

/// Options for live inputs.
fn live<'a>() -> Dictionary<'a> {
    let mut options = Dictionary::new();
    options.set("analyzeduration", "1500000");
    // Otherwise libavformat waits for twenty frames to guess a rate that the SPS contains. What it reads while opening
    // is kept, because the first keyframe is in it (`nobuffer` would lose it).
    options.set("fpsprobesize", "0");
    options
}

/// The protocols that libavformat needs for a URL of this scheme; no other is allowed, whatever a peer names.
fn protocols(url: &str) -> String {
    let scheme = url.split("://").next().unwrap_or_default();
    let scheme = scheme.to_ascii_lowercase();
    let more = match scheme.as_str() {
        // Playlists and the URLs in them, through the guard, by plain HTTP only. `httpproxy`, which TLS through a proxy
        // would need, connects to any host that a playlist names.
        "http" => "tcp,crypto",
        "rtsp" => "rtp,udp,tcp",
        "rtsps" => "rtp,srtp,udp,tls,tcp",
        _ => "rtp,udp,tls,tcp",
    };
    format!("{scheme},{more}")
}

#[cfg(test)]
mod tests {
    use super::protocols;

    #[test]
    fn no_url_opens_files_or_protocols_of_another_kind() {
        for url in [
            "rtsp://cam/1",
            "RTSPS://cam/1",
            "http://cam/x.m3u8",
            "srt://cam:1",
            "rtmp://cam/1",
        ] {
            let allowed = protocols(url);
            for refused in [
                "file",
                "data",
                "concat",
                "subfile",
                "gopher",
                "pipe",
                "httpproxy",
                "https",
            ] {
                let is_in = allowed.split(',').any(|protocol| protocol == refused);
                assert!(!is_in, "{url}: {allowed}");
            }
        }
        assert!(protocols("rtmp://cam/1").starts_with("rtmp,"));
        assert_eq!(protocols("http://cam/x.m3u8"), "http,tcp,crypto");
    }
}
