//! Reads what a transport emits as a player would, by libavformat and libavcodec.

use bytes::Bytes;
use ffmpeg::{
    codec,
    format::{self, context::StreamIo},
    frame, media,
};
use ffmpeg_next as ffmpeg;
use std::io::Cursor;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// libavformat's name of the container.
    pub format: String,
    /// Packets of video, and frames that were decoded of them.
    pub packets: usize,
    pub frames: usize,
    /// Whether the first packet of video is a keyframe.
    pub starts_with_key: bool,
    /// Packets of audio.
    pub audio: usize,
}

/// File name that tells libavformat what to expect of a media type; its content decides otherwise.
pub(crate) fn file_name(content_type: &str) -> Option<&'static str> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    Some(match kind {
        "video/mp4" | "audio/mp4" => "a.mp4",
        "video/h264" => "a.h264",
        "video/mp2t" => "a.ts",
        "video/x-flv" => "a.flv",
        "video/webm" | "video/x-matroska" | "video/matroska" => "a.mkv",
        "video/x-mjpeg" | "image/jpeg" => "a.mjpeg",
        "multipart/x-mixed-replace" => "a.mpjpeg",
        "audio/aac" | "audio/aacp" => "a.aac",
        "audio/mpeg" => "a.mp3",
        "audio/ogg" | "video/ogg" | "application/ogg" => "a.ogg",
        _ => return None,
    })
}

/// Reads and decodes all of it.
///
/// # Errors
/// libav's reason.
pub(crate) fn read(bytes: Bytes, file_name: &str) -> Result<Read, String> {
    ffmpeg::init().map_err(|error| error.to_string())?;
    // Damage is what is looked for here, not what is logged.
    ffmpeg::log::set_level(ffmpeg::log::Level::Fatal);
    let shown = |error: ffmpeg::Error| error.to_string();
    let stream = StreamIo::from_read_seek(Cursor::new(bytes)).map_err(shown)?;
    let mut input = format::input_from_stream(stream, Some(file_name), None).map_err(shown)?;
    let mut read = Read {
        format: input.format().name().to_owned(),
        ..Read::default()
    };
    let mut decoder = match input.streams().best(media::Type::Video) {
        Some(stream) => {
            let context = codec::Context::from_parameters(stream.parameters()).map_err(shown)?;
            let decoder = context.decoder().video().map_err(shown)?;
            Some((stream.index(), decoder))
        }
        None => None,
    };
    let mut frame = frame::Video::empty();
    for (stream, packet) in input.packets() {
        match &mut decoder {
            Some((video, decoder)) if *video == stream.index() => {
                if read.packets == 0 {
                    read.starts_with_key = packet.is_key();
                }
                read.packets += 1;
                decoder
                    .send_packet(&packet)
                    .map_err(|error| format!("packet {}: {error}", read.packets))?;
                while decoder.receive_frame(&mut frame).is_ok() {
                    read.frames += 1;
                }
            }
            _ => read.audio += 1,
        }
    }
    if let Some((_, decoder)) = &mut decoder {
        decoder.send_eof().map_err(shown)?;
        while decoder.receive_frame(&mut frame).is_ok() {
            read.frames += 1;
        }
    }
    Ok(read)
}
