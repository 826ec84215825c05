//! The forms of a stream that a viewer may choose from, with the figures to choose by: the stream itself and its
//! renditions, best first.
//!
//! A form that does not run is described without starting it: codecs by what the encoder would produce, bandwidth by
//! the config, by the measured peak of the source, or by an estimate. Transports get the list as their variants, the
//! session code makes candidates of it.

use super::{
    info::Info,
    recipe::{Recipe, VideoTranscode},
    variant::{Recipes, Selection, Variant},
};
use sluicegate_codec as codec;
use sluicegate_config as config;
use sluicegate_media::sample::{Audio, Format, Video};

/// Bits per second and channel of AAC that the gateway encodes, or of audio whose rate is unknown.
const AAC_BITRATE_PER_CHANNEL: u32 = 64_000;

/// One form of a stream, as offered to a transport.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Name of the rendition; empty for the stream itself.
    pub rendition: String,
    /// RFC 6381 codecs, separated by commas; JPEG has none.
    pub codecs: String,
    /// Peak bits per second: as configured if the gateway encodes it, otherwise measured or estimated.
    pub bandwidth: u32,
    /// Display width in square pixels, after rotation; 0 without video.
    pub width: u32,
    /// Display height in square pixels, after rotation; 0 without video.
    pub height: u32,
    /// Frames per second; 0 if unknown.
    pub frame_rate: f32,
    /// Whether it includes the stream's audio.
    pub has_audio: bool,
}

impl Offer {
    /// An offer of which only the name is known.
    pub fn unknown(rendition: &str) -> Offer {
        Offer {
            rendition: rendition.to_owned(),
            codecs: String::new(),
            bandwidth: 0,
            width: 0,
            height: 0,
            frame_rate: 0.0,
            has_audio: false,
        }
    }
}

/// Highest bit rates that the tracks of a source had in any second so far; 0 if not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Video, in bits per second.
    pub video: u32,
    /// Audio, in bits per second.
    pub audio: u32,
}

/// Offers of a source with the tracks `info` for a transport that takes `formats`, without those that no encoder can
/// make. Probes the encoders the first time, which may take a moment.
pub(super) fn offers(
    recipes: &Recipes,
    info: &Info,
    formats: &[Format],
    peaks: Peaks,
) -> Vec<Offer> {
    offers_by(recipes, info, formats, peaks, &mut |encode| {
        let settings = codec::Settings::of(encode).ok()?;
        codec::codec_string(settings).ok()
    })
}

/// Like [`offers`] but never blocks: without the codecs of what the gateway encodes, and including forms whose encoder
/// was not probed. The flag says whether all encoders have been probed.
pub(super) fn offers_without_probing(
    recipes: &Recipes,
    info: &Info,
    formats: &[Format],
    peaks: Peaks,
) -> (Vec<Offer>, bool) {
    let mut all_known = true;
    let offers = offers_by(recipes, info, formats, peaks, &mut |encode| {
        let known = codec::is_encodable(encode);
        all_known &= known.is_some();
        known.unwrap_or(true).then(String::new)
    });
    (offers, all_known)
}

/// Returns the codec string of what is encoded with these settings; `None` if no encoder can.
type CodecOf<'a> = &'a mut dyn FnMut(&config::Encode) -> Option<String>;

fn offers_by(
    recipes: &Recipes,
    info: &Info,
    formats: &[Format],
    peaks: Peaks,
    codec_of: CodecOf<'_>,
) -> Vec<Offer> {
    let names = std::iter::once("").chain(recipes.renditions.keys().map(String::as_str));
    let mut offers: Vec<Offer> = names
        .filter_map(|name| {
            let variant = Variant {
                rendition: name.to_owned(),
                ..Variant::default()
            };
            let choice = recipes.choose(&variant, info, formats)?;
            let video_part = match (choice.video, &info.video) {
                (Some(_), Some(video)) => Some(video_part(&choice, video, peaks, codec_of)?),
                _ => None,
            };
            let audio_part = match (choice.audio, &info.audio) {
                (Some(_), Some(audio)) => Some(audio_part(&choice, audio, peaks)),
                _ => None,
            };
            Some(add(name, video_part, audio_part))
        })
        .collect();
    offers.sort_by_key(|offer| {
        let pixels = u64::from(offer.width) * u64::from(offer.height);
        std::cmp::Reverse((pixels, offer.bandwidth))
    });
    offers
}

/// Codec string and bits per second of one track.
type Part = (String, u32);

fn video_part(
    choice: &Selection,
    video: &Video,
    peaks: Peaks,
    codec_of: CodecOf<'_>,
) -> Option<(Part, (u32, u32), f32)> {
    let size = video.display_size();
    let made = match choice.recipe {
        Some(Recipe::Video(made)) => Some(made),
        Some(Recipe::Joined {
            video: video_part, ..
        }) => video_part,
        _ => None,
    };
    Some(match made {
        None => {
            let bits = match peaks.video {
                0 => estimated_bitrate(size, video.frame_rate),
                measured => measured,
            };
            ((video.codec_string.clone(), bits), size, video.frame_rate)
        }
        Some(VideoTranscode::Jpeg { jpeg_settings, .. }) => {
            let size = codec::fit(
                size.0,
                size.1,
                jpeg_settings.max_width,
                jpeg_settings.max_height,
            );
            let most = jpeg_settings.max_per_second as f32;
            let rate = match video.frame_rate {
                rate if rate > 0.0 => rate.min(most),
                _ => most,
            };
            // JPEGs take about one bit per pixel.
            let bits = estimated_bitrate(size, rate).saturating_mul(10);
            ((String::new(), bits), size, rate)
        }
        Some(VideoTranscode::H264(encoding)) => {
            let wanted = encoding.encode_settings(video, size);
            let bits = wanted.bitrate.bits_per_second();
            (
                (codec_of(&wanted)?, u32::try_from(bits).unwrap_or(u32::MAX)),
                (wanted.width, wanted.height),
                wanted.frame_rate as f32,
            )
        }
    })
}

fn audio_part(choice: &Selection, audio: &Audio, peaks: Peaks) -> Part {
    let made = match choice.recipe {
        Some(Recipe::Joined { aac, .. }) => aac,
        Some(Recipe::Aac) => true,
        _ => false,
    };
    let usual = AAC_BITRATE_PER_CHANNEL * u32::from(audio.channels.clamp(1, 2));
    match (made, peaks.audio) {
        (true, _) => (codec::AAC_LC_CODEC.to_owned(), usual),
        (false, 0) => (audio.codec_string.clone(), usual),
        (false, measured) => (audio.codec_string.clone(), measured),
    }
}

fn add(name: &str, video_part: Option<(Part, (u32, u32), f32)>, audio_part: Option<Part>) -> Offer {
    let (size, frame_rate) = video_part
        .as_ref()
        .map_or(((0, 0), 0.0), |(_, size, rate)| (*size, *rate));
    let has_audio = audio_part.is_some();
    let parts: Vec<Part> = video_part
        .map(|(part, ..)| part)
        .into_iter()
        .chain(audio_part)
        .collect();
    let codecs = parts.iter().map(|(codec, _)| codec.as_str());
    Offer {
        rendition: name.to_owned(),
        codecs: codecs
            .filter(|codec| !codec.is_empty())
            .collect::<Vec<_>>()
            .join(","),
        bandwidth: parts
            .iter()
            .fold(0, |sum: u32, (_, bits)| sum.saturating_add(*bits)),
        width: size.0,
        height: size.1,
        frame_rate,
        has_audio,
    }
}

/// Estimated bits per second of H.264: a tenth of a bit per pixel.
fn estimated_bitrate(size: (u32, u32), rate: f32) -> u32 {
    let rate = if rate > 0.0 { f64::from(rate) } else { 25.0 };
    (f64::from(size.0) * f64::from(size.1) * rate / 10.0) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use bytes::Bytes;
    use sluicegate_config as config;
    use sluicegate_media::{geometry::Geometry, sample::Codec};
    use std::collections::BTreeMap;

    #[test]
    fn renditions_are_offered_best_first_with_the_codecs_that_they_will_have() {
        let rendition = |width, bitrate| config::Rendition {
            width: Some(width),
            bitrate: Some(config::BitRate::from_bits_per_second(bitrate)),
            ..config::Rendition::default()
        };
        let recipes = Recipes {
            encode: config::Encode::default(),
            renditions: BTreeMap::from([
                ("a-tiny".to_owned(), rendition(160, 64_000)),
                ("mobile".to_owned(), rendition(640, 500_000)),
                ("wide".to_owned(), rendition(1920, 4_000_000)),
            ]),
        };
        let info = Info {
            started_at: 0,
            epoch: 0,
            video: Some(Video {
                codec: Codec::H264,
                codec_string: "avc1.640028".into(),
                config: Bytes::new(),
                width: 1280,
                height: 720,
                geometry: Geometry::default(),
                frame_rate: 30.0,
                keyframe_ms: 0,
            }),
            audio: Some(Audio {
                codec: Codec::OtherAudio,
                name: "pcm_alaw".into(),
                codec_string: String::new(),
                config: Bytes::new(),
                timescale: 8000,
                sample_rate: 8000,
                channels: 1,
                language: "und".into(),
            }),
            coding: None,
        };
        let peaks = Peaks {
            video: 3_000_000,
            audio: 64_000,
        };
        let formats = [Format::H264Avcc, Format::Aac];
        let offers = offers(&recipes, &info, &formats, peaks);
        assert!(offers.iter().all(|offer| offer.has_audio));
        let told: Vec<_> = offers
            .iter()
            .map(|offer| {
                let (name, codecs) = (offer.rendition.as_str(), offer.codecs.as_str());
                (name, codecs, offer.bandwidth, offer.width, offer.height)
            })
            .collect();
        // Nothing is scaled up. The levels are those that libx264 chooses for these sizes at 30 frames per second.
        assert_eq!(
            told,
            [
                ("wide", "avc1.64001f,mp4a.40.2", 4_064_000, 1280, 720),
                ("", "avc1.640028,mp4a.40.2", 3_064_000, 1280, 720),
                ("mobile", "avc1.64001e,mp4a.40.2", 564_000, 640, 360),
                ("a-tiny", "avc1.64000b,mp4a.40.2", 128_000, 160, 90),
            ]
        );
        // A transport without audio gets offers without audio.
        let silent = super::offers(&recipes, &info, &formats[..1], peaks);
        assert_eq!(silent.len(), 4);
        assert!(silent.iter().all(|offer| !offer.has_audio));
    }
}
