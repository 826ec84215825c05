//! Reads what a transport emits as players do: the stream from each of its start points, or the segments of its
//! playlist. What the format is, its media type and profile say; libav (`demux`) reads it.

use crate::{checks::count, demux, script::Script};
use bytes::{Bytes, BytesMut};
use sluicegate_plugin::{
    Embed, Instance, Profile,
    recording::{Answer, Call, Payload, Record},
};

/// Segments of a playlist that are fetched.
const MAX_SEGMENTS: usize = 64;

/// Reads what viewers get of a stream, with a new instance to ask for playlists and the media type, and with the records
/// of another one that ran on it. Returns what there is, or what is wrong with it; `None` if the format is not one that
/// libav knows.
pub(crate) fn read(
    instance: &mut Instance,
    profile: &Profile,
    script: &Script,
    records: &[Record],
) -> Option<Result<String, String>> {
    if profile.embeds.contains(&Embed::Playlist) {
        for call in &script.calls {
            let _ = instance.make(call.clone());
        }
        return Some(read_playlist(instance, &profile.entry));
    }
    let name = match profile.embeds.contains(&Embed::AccessUnits) {
        true => "a.h264",
        false => demux::file_name(&content_type(instance, &profile.entry, script)?)?,
    };
    let texts = records.iter().map(|record| match &record.answer {
        Some(Answer::Chunks(chunks)) => chunks
            .iter()
            .filter(|chunk| is_text(&chunk.payload))
            .count(),
        Some(Answer::Header(header)) => header.iter().filter(|payload| is_text(payload)).count(),
        _ => 0,
    });
    let read = starts_are_readable(records, name);
    Some(read.map_err(|reason| match texts.sum::<usize>() {
        0 => reason,
        texts => format!(
            "{reason}; {} of it {} text, which HTTP bodies leave out: send bytes",
            count(texts, "payload"),
            if texts == 1 { "is" } else { "are" }
        ),
    }))
}

/// Media type of the stream, if the entry has one.
fn content_type(instance: &mut Instance, entry: &str, script: &Script) -> Option<String> {
    let _ = instance.make(script.calls.first()?.clone());
    let asked = instance.make(Call::Request {
        path: entry.to_owned(),
        query: String::new(),
    });
    match asked.answer {
        Some(Answer::Follow(content_type)) => Some(content_type),
        _ => None,
    }
}

/// Reads the stream of a viewer from each start point of the first lane to the next one.
fn starts_are_readable(records: &[Record], file_name: &str) -> Result<String, String> {
    let mut header: Vec<Payload> = Vec::new();
    let mut streams: Vec<BytesMut> = Vec::new();
    for record in records {
        match &record.answer {
            Some(Answer::Header(newest)) => header = newest.clone(),
            Some(Answer::Chunks(chunks)) => {
                for chunk in chunks {
                    if chunk.independent && chunk.lane == 0 {
                        streams.push(binary(&header));
                    }
                    // A viewer that starts here does without leading chunks.
                    if let Some(stream) = streams.last_mut().filter(|_| !chunk.leading) {
                        stream.extend_from_slice(&binary(std::slice::from_ref(&chunk.payload)));
                    }
                }
            }
            _ => {}
        }
    }
    let mut sum = demux::Read::default();
    let starts = streams.len();
    for (nth, stream) in streams.into_iter().enumerate() {
        let read = demux::read(stream.freeze(), file_name);
        let read = read.map_err(|reason| format!("start point {nth}: {reason}"))?;
        if read.frames == 0 && read.audio == 0 {
            return Err(format!(
                "start point {nth}: {} packets of {} and none of them can be decoded",
                read.packets, read.format
            ));
        }
        if read.packets > 0 && !read.starts_with_key {
            return Err(format!("start point {nth} does not begin with a keyframe"));
        }
        sum.format = read.format;
        sum.frames += read.frames;
        sum.audio += read.audio;
    }
    Ok(format!(
        ": {} frames of video and {} packets of audio from {starts} start points, as {}",
        sum.frames, sum.audio, sum.format
    ))
}

fn is_text(payload: &Payload) -> bool {
    matches!(payload, Payload::Text(_))
}

/// Binary payloads, as a carrier without text messages sends them.
fn binary(payloads: &[Payload]) -> BytesMut {
    let mut all = BytesMut::new();
    for payload in payloads {
        if let Payload::Base64(bytes) = payload {
            all.extend_from_slice(&bytes.0.to_bytes());
        }
    }
    all
}

/// Requests `path` of an instance that is not asked by anybody else.
fn fetch(instance: &mut Instance, url: &str) -> Result<Bytes, String> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let asked = instance.make(Call::Request {
        path: path.to_owned(),
        query: query.to_owned(),
    });
    match asked.answer {
        Some(Answer::Response(response)) if response.status == 200 => {
            Ok(response.body.0.to_bytes())
        }
        Some(Answer::Response(response)) => Err(format!("\"{url}\" gives {}", response.status)),
        Some(Answer::Pending) => Err(format!("\"{url}\" is pending")),
        Some(Answer::Failed(reason)) => Err(format!("a request for \"{url}\" fails: {reason}")),
        _ => Err(format!("\"{url}\" gives no response")),
    }
}

/// URL of `reference` in a playlist at `base`, both relative to the transport (RFC 3986 section 5.2).
fn resolve(base: &str, reference: &str) -> String {
    let folder = base.split('?').next().unwrap_or_default();
    let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
    match folder {
        "" => reference.to_owned(),
        folder => format!("{folder}/{reference}"),
    }
}

fn read_playlist(instance: &mut Instance, entry: &str) -> Result<String, String> {
    let mut url = entry.to_owned();
    let mut text = String::new();
    // A multivariant playlist, then the media playlist.
    for _ in 0..2 {
        let body = fetch(instance, &url)?;
        text = String::from_utf8_lossy(&body).into_owned();
        if !text.starts_with("#EXTM3U") {
            return Err(format!("\"{url}\" does not begin with #EXTM3U"));
        }
        let mut lines = text
            .lines()
            .skip_while(|line| !line.starts_with("#EXT-X-STREAM-INF"));
        match lines.nth(1) {
            Some(variant) => url = resolve(&url, variant),
            None => break,
        }
    }
    let mut init = Bytes::new();
    let mut stream = BytesMut::new();
    let mut segments = 0;
    for line in text.lines() {
        if let Some(map) = line.strip_prefix("#EXT-X-MAP:") {
            let uri = map
                .split("URI=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            let uri = uri.ok_or("#EXT-X-MAP has no URI")?;
            init = fetch(instance, &resolve(&url, uri))?;
        } else if !line.starts_with('#') && !line.is_empty() && segments < MAX_SEGMENTS {
            if stream.is_empty() {
                stream.extend_from_slice(&init);
            }
            stream.extend_from_slice(&fetch(instance, &resolve(&url, line))?);
            segments += 1;
        }
    }
    if segments == 0 {
        return Err(format!("the playlist \"{url}\" has no segments"));
    }
    let name = if init.is_empty() { "a.ts" } else { "a.mp4" };
    let read = demux::read(stream.freeze(), name)?;
    match read.frames + read.audio {
        0 => Err(format!(
            "{segments} segments, and nothing in them can be decoded"
        )),
        _ => Ok(format!(
            ": {} frames of video and {} packets of audio in {segments} segments, as {}",
            read.frames, read.audio, read.format
        )),
    }
}
