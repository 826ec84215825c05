//! Initialization segments (`ftyp` + `moov`) and MIME types of live files.
//!
//! Every duration is 0 and all sample tables are empty, because the samples are in fragments. Tracks come from a source
//! and are untrusted: what cannot be described is an error. Section numbers without a name are those of ISO/IEC
//! 14496-12.

use crate::{
    Audio, Error, Kind, Track, Video,
    boxes::Boxes,
    language,
    shape::{self, IDENTITY},
};

/// A live stream with more tracks is a mistake.
const MAX_TRACKS: usize = 64;
/// Longest decoder configuration in bytes: more than any real one has, and short enough for every length field here.
const MAX_CONFIG: usize = 1 << 16;

/// Checks whether [`init`] can describe this track.
///
/// # Errors
/// The format is not h264/avcc, aac or opus, the timescale is 0, or the decoder configuration is missing or not that of
/// the format.
pub fn check(track: &Track) -> Result<(), Error> {
    describe(track).map(|_| ())
}

/// Codec strings of the tracks as in RFC 6381, "avc1.64001f,mp4a.40.2". Tracks without a codec string are omitted.
pub fn codecs(tracks: &[Track]) -> String {
    let named = tracks.iter().map(|track| track.codec.as_str());
    named
        .filter(|codec| !codec.is_empty())
        .collect::<Vec<_>>()
        .join(",")
}

/// MIME type for these tracks: `video/mp4; codecs="avc1.64001f,mp4a.40.2"`, or `audio/mp4` without video.
pub fn mime(tracks: &[Track]) -> String {
    let video = tracks
        .iter()
        .any(|track| matches!(track.kind, Kind::Video(_)));
    let kind = if video { "video" } else { "audio" };
    format!("{kind}/mp4; codecs=\"{}\"", codecs(tracks))
}

/// `ftyp` + `moov` for a live file with these tracks.
///
/// # Errors
/// There are no tracks or too many, the ids are 0 or not distinct, or [`check`] rejects a track.
pub fn init(tracks: &[Track]) -> Result<Vec<u8>, Error> {
    let ids: Vec<u32> = tracks.iter().map(|track| track.id).collect();
    let repeated = |(at, id): (usize, &u32)| *id == 0 || ids[..at].contains(id);
    if ids.is_empty() || ids.len() > MAX_TRACKS || ids.iter().enumerate().any(repeated) {
        return Err(Error::Tracks(ids));
    }
    let entries = tracks.iter().map(describe).collect::<Result<Vec<_>, _>>()?;

    let mut boxes = Boxes(Vec::with_capacity(512 * (1 + tracks.len())));
    boxes.put_box(b"ftyp", |boxes| {
        boxes.bytes(b"iso5").u32(0).bytes(b"iso5iso6mp41");
    });
    boxes.put_box(b"moov", |boxes| {
        mvhd(
            boxes,
            ids.iter().max().map_or(1, |most| most.saturating_add(1)),
        );
        for (track, entry) in tracks.iter().zip(entries) {
            trak(boxes, track, entry);
        }
        boxes.put_box(b"mvex", |boxes| {
            for id in ids {
                boxes.put_full_box(b"trex", 0, 0, |boxes| {
                    const FIRST_DESCRIPTION: u32 = 1;
                    boxes.u32(id).u32(FIRST_DESCRIPTION).zeros(12);
                });
            }
        });
    });
    Ok(boxes.0)
}

/// Kind of a track's sample entry.
#[derive(Clone, Copy)]
enum Entry<'a> {
    Avc(&'a Video),
    Aac(&'a Audio),
    Opus(&'a Audio),
}

fn describe(track: &Track) -> Result<Entry<'_>, Error> {
    let refuse = |reason| {
        Err(Error::Track {
            id: track.id,
            format: track.format.clone(),
            reason,
        })
    };
    let entry = match (track.format.as_str(), &track.kind) {
        ("h264/avcc", Kind::Video(video)) => Entry::Avc(video),
        ("aac", Kind::Audio(audio)) => Entry::Aac(audio),
        ("opus", Kind::Audio(audio)) => Entry::Opus(audio),
        _ => return refuse("the formats are h264/avcc for video, aac and opus for audio"),
    };
    if track.timescale == 0 {
        return refuse("its timescale is 0");
    }
    if track.config.len() > MAX_CONFIG {
        return refuse("its decoder configuration is longer than 64 KiB");
    }
    match (entry, track.config.as_slice()) {
        // Version 1, and 4-byte lengths in front of NAL units, as the format requires.
        (Entry::Avc(_), [1, _, _, _, lengths, _, ..]) if lengths & 3 == 3 => Ok(entry),
        (Entry::Avc(_), _) => refuse("its configuration is not an avcC record with 4-byte lengths"),
        (Entry::Aac(_), [_, _, ..]) => Ok(entry),
        (Entry::Aac(_), _) => refuse("its configuration is not an AudioSpecificConfig"),
        (Entry::Opus(_), [0, rest @ ..]) if rest.len() >= 10 => Ok(entry),
        (Entry::Opus(_), _) => refuse("its configuration is not a dOps box of version 0"),
    }
}

fn matrix(boxes: &mut Boxes, numbers: [i32; 9]) {
    for number in numbers {
        boxes.bytes(&number.to_be_bytes());
    }
}

/// Movie header (8.2.2). Browsers recognise a live stream by a duration of 0 without `mehd`.
fn mvhd(boxes: &mut Boxes, next_track: u32) {
    const NORMAL_SPEED: u32 = 1 << 16;
    boxes.put_full_box(b"mvhd", 0, 0, |boxes| {
        boxes.zeros(8).u32(1000).u32(0);
        boxes.u32(NORMAL_SPEED).u16(0x0100).zeros(10);
        matrix(boxes, IDENTITY);
        boxes.zeros(24).u32(next_track);
    });
}

fn trak(boxes: &mut Boxes, track: &Track, entry: Entry<'_>) {
    let language = match &track.kind {
        Kind::Audio(audio) => language::pack(&audio.language),
        _ => language::pack(""),
    };
    boxes.put_box(b"trak", |boxes| {
        tkhd(boxes, track);
        boxes.put_box(b"mdia", |boxes| {
            boxes.put_full_box(b"mdhd", 0, 0, |boxes| {
                boxes
                    .zeros(8)
                    .u32(track.timescale)
                    .u32(0)
                    .u16(language)
                    .u16(0);
            });
            let (handler, name) = match entry {
                Entry::Avc(_) => (b"vide", "Video"),
                Entry::Aac(_) | Entry::Opus(_) => (b"soun", "Audio"),
            };
            boxes.put_full_box(b"hdlr", 0, 0, |boxes| {
                boxes
                    .u32(0)
                    .bytes(handler)
                    .zeros(12)
                    .bytes(name.as_bytes())
                    .u8(0);
            });
            boxes.put_box(b"minf", |boxes| {
                match entry {
                    Entry::Avc(_) => boxes.put_full_box(b"vmhd", 0, 1, |boxes| {
                        boxes.zeros(8);
                    }),
                    Entry::Aac(_) | Entry::Opus(_) => boxes.put_full_box(b"smhd", 0, 0, |boxes| {
                        boxes.zeros(4);
                    }),
                }
                dinf(boxes);
                boxes.put_box(b"stbl", |boxes| {
                    boxes.put_full_box(b"stsd", 0, 0, |boxes| {
                        boxes.u32(1);
                        sample_entry(boxes, entry, track);
                    });
                    // Empty sample tables: all samples are in fragments.
                    for kind in [b"stts", b"stsc", b"stco"] {
                        boxes.put_full_box(kind, 0, 0, |boxes| {
                            boxes.u32(0);
                        });
                    }
                    boxes.put_full_box(b"stsz", 0, 0, |boxes| {
                        boxes.u32(0).u32(0);
                    });
                });
            });
        });
    });
}

/// Track header (8.3.2).
fn tkhd(boxes: &mut Boxes, track: &Track) {
    const ENABLED_IN_MOVIE_IN_PREVIEW: u32 = 7;
    let (volume, (width, height), shown) = match &track.kind {
        Kind::Video(video) => (0, shape::display_size(video), shape::matrix(video)),
        _ => (0x0100, (0, 0), IDENTITY),
    };
    boxes.put_full_box(b"tkhd", 0, ENABLED_IN_MOVIE_IN_PREVIEW, |boxes| {
        boxes.zeros(8).u32(track.id).u32(0).u32(0).zeros(8);
        boxes.u16(0).u16(0).u16(volume).u16(0);
        matrix(boxes, shown);
        for side in [width, height] {
            boxes.u16(pixels(side)).u16(0);
        }
    });
}

/// Data information (8.7.1): the media is in the same file.
fn dinf(boxes: &mut Boxes) {
    const SELF_CONTAINED: u32 = 1;
    boxes.put_box(b"dinf", |boxes| {
        boxes.put_full_box(b"dref", 0, 0, |boxes| {
            boxes.u32(1);
            boxes.put_full_box(b"url ", 0, SELF_CONTAINED, |_| {});
        });
    });
}

fn sample_entry(boxes: &mut Boxes, entry: Entry<'_>, track: &Track) {
    let config = &track.config;
    match entry {
        // ISO/IEC 14496-15, 5.4.2.1: `avc3` if the samples may contain parameter sets.
        Entry::Avc(video) => {
            boxes.put_box(if in_band(track) { b"avc3" } else { b"avc1" }, |boxes| {
                const DPI_72: u32 = 72 << 16;
                const DEPTH: u16 = 24;
                boxes.zeros(6).u16(1).zeros(16);
                boxes.u16(pixels(video.width)).u16(pixels(video.height));
                boxes.u32(DPI_72).u32(DPI_72).u32(0).u16(1);
                boxes.zeros(32).u16(DEPTH).u16(u16::MAX);
                boxes.put_box(b"avcC", |boxes| {
                    boxes.bytes(config);
                });
                // Pixel aspect ratio (ISO/IEC 14496-12, 12.1.4.2).
                let (wide, tall) = video.pixel_aspect;
                if wide != tall && wide > 0 && tall > 0 {
                    boxes.put_box(b"pasp", |boxes| {
                        boxes.u32(wide).u32(tall);
                    });
                }
            })
        }
        // ISO/IEC 14496-14, 6.7.2.
        Entry::Aac(audio) => boxes.put_box(b"mp4a", |boxes| {
            audio_entry(boxes, audio.channels, audio.sample_rate);
            esds(boxes, audio.channels, config);
        }),
        // "Encapsulation of Opus in ISO Base Media File Format", 4.3.1: the rate is always 48 kHz.
        Entry::Opus(audio) => boxes.put_box(b"Opus", |boxes| {
            audio_entry(boxes, audio.channels, 48_000);
            boxes.put_box(b"dOps", |boxes| {
                boxes.bytes(config);
            });
        }),
    }
}

/// Whether the codec string says that samples may contain parameter sets.
fn in_band(track: &Track) -> bool {
    track.codec.starts_with("avc3")
}

fn audio_entry(boxes: &mut Boxes, channels: u8, rate: u32) {
    const BITS: u16 = 16;
    boxes.zeros(6).u16(1).zeros(8);
    boxes.u16(channels.into()).u16(BITS).u32(0);
    // The integer part has 16 bits. A higher rate is written as 0, since the decoder configuration has it.
    boxes.u16(u16::try_from(rate).unwrap_or(0)).u16(0);
}

/// Elementary stream descriptor (ISO/IEC 14496-1, 7.2.6.5). Safari rejects one with bit rates of 0, so the maximum of
/// an AAC stream with that many channels is written.
fn esds(boxes: &mut Boxes, channels: u8, config: &[u8]) {
    const ES: u8 = 3;
    const DECODER_CONFIG: u8 = 4;
    const DECODER_SPECIFIC: u8 = 5;
    const SYNC_LAYER: u8 = 6;
    const MPEG4_AUDIO: u8 = 0x40;
    const AUDIO_STREAM: u8 = 5 << 2 | 1;
    const SYNC_LAYER_OF_MP4: u8 = 2;
    const DESCRIPTOR_HEADER: usize = 5;
    let channels = u32::from(channels.max(1));
    let (buffer, peak, average) = (768 * channels, 288_000 * channels, 64_000 * channels);
    let decoder_config = 13 + DESCRIPTOR_HEADER + config.len();
    boxes.put_full_box(b"esds", 0, 0, |boxes| {
        descriptor(
            boxes,
            ES,
            3 + DESCRIPTOR_HEADER + decoder_config + DESCRIPTOR_HEADER + 1,
        );
        boxes.u16(0).u8(0);
        descriptor(boxes, DECODER_CONFIG, decoder_config);
        boxes.u8(MPEG4_AUDIO).u8(AUDIO_STREAM);
        boxes
            .bytes(&buffer.to_be_bytes()[1..])
            .u32(peak)
            .u32(average);
        descriptor(boxes, DECODER_SPECIFIC, config.len());
        boxes.bytes(config);
        descriptor(boxes, SYNC_LAYER, 1);
        boxes.u8(SYNC_LAYER_OF_MP4);
    });
}

/// Tag of a descriptor, and its length as four groups of seven bits.
fn descriptor(boxes: &mut Boxes, tag: u8, length: usize) {
    boxes.u8(tag);
    for shift in [21, 14, 7, 0] {
        let more = if shift == 0 { 0 } else { 0x80 };
        boxes.u8((length >> shift & 0x7f) as u8 | more);
    }
}

/// Width and height have 16 bits. Larger values are clamped, since the decoder configuration has the real ones.
fn pixels(side: u32) -> u16 {
    u16::try_from(side).unwrap_or(u16::MAX)
}
