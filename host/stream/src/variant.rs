//! Which form of a stream a viewer gets, and what has to be made for that. Pure.
//!
//! A [`Variant`] is what a viewer requests: the stream itself, a rendition, or JPEGs of another size. With the tracks
//! of the source and the formats of the transport, `Recipes::choose` resolves it to a [`Selection`]. What the transport
//! takes passes unchanged; otherwise the selection has a [`Recipe`], which also is the key by which `transcoders` share
//! what they make.

use super::{
    info::Info,
    recipe::{H264Settings, JpegSettings, Recipe, VideoTranscode},
};
use sluicegate_config as config;
use sluicegate_media::{
    h264::{avcc::DecoderConfig, parameter_sets::ParameterSets},
    sample::{Codec, Format, Video},
};
use std::{collections::BTreeMap, fmt};

/// Widths that can be requested, in steps so that viewers share them.
const WIDTHS: [u32; 10] = [160, 240, 320, 480, 640, 800, 960, 1280, 1600, 1920];
/// Step of the qualities that can be requested.
const QUALITY_STEP: u8 = 10;

/// The form of a stream that is requested.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variant {
    /// Name of the rendition; empty for the stream itself.
    pub rendition: String,
    /// Parameters of the request, if it differs from the usual.
    pub options: VariantOptions,
}

/// Query parameters of a viewer: `?width=&quality=` for JPEGs, rounded to the available steps, or `?reorder=0` for
/// H.264.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariantOptions {
    /// Maximum width of JPEGs, in pixels.
    pub width: Option<u32>,
    /// Quality of JPEGs, 1 to 100.
    pub quality: Option<u8>,
    /// For H.264: decoding order must be presentation order, so there are no B-frames.
    pub in_order: bool,
}

/// What a transport gets of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Format of the video; `None` if the transport gets none.
    pub video: Option<Format>,
    /// Format of the audio; `None` if the transport gets none.
    pub audio: Option<Format>,
    /// What has to be made; `None` if everything passes as the source delivers it.
    pub recipe: Option<Recipe>,
}

impl Selection {
    /// The format in which it gets samples of that codec.
    pub fn format(&self, codec: Codec) -> Option<Format> {
        let mut formats = [self.video, self.audio].into_iter().flatten();
        formats.find(|format| format.codec() == codec)
    }
}

impl From<Format> for Selection {
    /// Selects that format alone, as the source delivers it.
    fn from(format: Format) -> Selection {
        Selection {
            video: Some(format).filter(|format| !format.is_audio()),
            audio: Some(format).filter(|format| format.is_audio()),
            recipe: None,
        }
    }
}

impl VariantOptions {
    /// Rounds to the available steps: the next width that is no smaller, the next quality.
    pub fn new(width: Option<u32>, quality: Option<u8>) -> VariantOptions {
        let largest = WIDTHS[WIDTHS.len() - 1];
        VariantOptions {
            width: width.map(|wanted| {
                let fitting = WIDTHS.into_iter().find(|width| *width >= wanted);
                fitting.unwrap_or(largest)
            }),
            quality: quality.map(|wanted| {
                let step = wanted
                    .clamp(QUALITY_STEP, 90)
                    .saturating_add(QUALITY_STEP / 2);
                step / QUALITY_STEP * QUALITY_STEP
            }),
            in_order: false,
        }
    }

    /// Whether it requests another size or quality of JPEGs.
    pub fn is_for_jpeg(&self) -> bool {
        self.width.is_some() || self.quality.is_some()
    }

    /// Whether it requests nothing.
    pub fn is_empty(&self) -> bool {
        *self == VariantOptions::default()
    }
}

/// The form as a suffix of the stream's name: "", "@mobile", "?width=640&quality=60".
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rendition.is_empty() {
            write!(f, "@{}", self.rendition)?;
        }
        let mut mark = '?';
        if let Some(width) = self.options.width {
            write!(f, "{mark}width={width}")?;
            mark = '&';
        }
        if let Some(quality) = self.options.quality {
            write!(f, "{mark}quality={quality}")?;
            mark = '&';
        }
        if self.options.in_order {
            write!(f, "{mark}reorder=0")?;
        }
        Ok(())
    }
}

/// The encoder settings and renditions of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipes {
    pub encode: config::Encode,
    pub renditions: BTreeMap<String, config::Rendition>,
}

impl Recipes {
    /// Resolves `variant`, of a stream with the tracks `info`, for a transport that takes `formats`. For video and for
    /// audio it selects the first format that needs no transcoding, or else the first. `None` if the variant is not
    /// available.
    pub fn choose(&self, variant: &Variant, info: &Info, formats: &[Format]) -> Option<Selection> {
        let (audio_formats, video_formats): (Vec<Format>, Vec<Format>) =
            formats.iter().partition(|format| format.is_audio());
        let rendition = match variant.rendition.as_str() {
            "" => None,
            name => Some(self.renditions.get(name)?),
        };
        let (video, transcode) = match (&info.video, video_formats.first()) {
            (Some(video), Some(first)) => {
                let native = video_formats
                    .iter()
                    .find(|format| format.codec() == video.codec)
                    // A JPEG by itself cannot carry a pixel aspect or orientation.
                    .filter(|native| {
                        let wanted = match **native {
                            Format::Jpeg => {
                                variant.options.is_for_jpeg() || !video.geometry.is_identity()
                            }
                            h264 => {
                                let in_order = variant.options.in_order || h264.is_in_order();
                                in_order && reorders(video)
                            }
                        };
                        rendition.is_none() && !wanted
                    });
                match native {
                    Some(native) => (Some(*native), None),
                    None => (
                        Some(*first),
                        Some(self.video_transcode(*first, video.codec, rendition, variant.options)),
                    ),
                }
            }
            _ => (None, None),
        };
        let audio = info.audio.as_ref().and(audio_formats.first().copied());
        let aac = info
            .audio
            .as_ref()
            .is_some_and(|audio| audio.codec != Codec::Aac);
        let recipe = match (video, transcode, audio) {
            (None, _, None) => return None,
            (_, Some(transcode), None) => Some(Recipe::Video(transcode)),
            (None, _, Some(_)) if aac => Some(Recipe::Aac),
            (Some(_), transcode, Some(_)) if aac || transcode.is_some() => Some(Recipe::Joined {
                video: transcode,
                aac,
            }),
            _ => None,
        };
        Some(Selection {
            video,
            audio,
            recipe,
        })
    }

    fn video_transcode(
        &self,
        format: Format,
        native: Codec,
        rendition: Option<&config::Rendition>,
        options: VariantOptions,
    ) -> VideoTranscode {
        match format {
            Format::Jpeg => VideoTranscode::Jpeg {
                jpeg_settings: self.jpeg_settings(rendition, options),
                ad_hoc: options.is_for_jpeg(),
            },
            // The encoder makes no B-frames. H.264 keeps its size and rate.
            _ if (options.in_order || format.is_in_order())
                && rendition.is_none()
                && native == Codec::H264 =>
            {
                VideoTranscode::H264(H264Settings {
                    encode: self.encode,
                    max_width: u32::MAX,
                    max_height: u32::MAX,
                    frame_rate: None,
                    keyframe_interval: None,
                })
            }
            _ => VideoTranscode::H264(self.encoding(rendition)),
        }
    }

    pub(super) fn jpeg_settings(
        &self,
        rendition: Option<&config::Rendition>,
        options: VariantOptions,
    ) -> JpegSettings {
        let usual = JpegSettings::default();
        let mut jpeg_settings = match rendition {
            None => usual,
            Some(rendition) => {
                let (max_width, max_height) = match (rendition.width, rendition.height) {
                    (None, None) => (usual.max_width, usual.max_height),
                    (width, height) => (width.unwrap_or(u32::MAX), height.unwrap_or(u32::MAX)),
                };
                JpegSettings {
                    max_width,
                    max_height,
                    max_per_second: rendition.frame_rate.unwrap_or(usual.max_per_second),
                    ..usual
                }
            }
        };
        if let Some(width) = options.width {
            (jpeg_settings.max_width, jpeg_settings.max_height) = (width, u32::MAX);
        }
        jpeg_settings.quality = options.quality.unwrap_or(jpeg_settings.quality);
        jpeg_settings
    }

    pub(super) fn encoding(&self, rendition: Option<&config::Rendition>) -> H264Settings {
        let encode = self.encode;
        match rendition {
            None => H264Settings {
                encode,
                max_width: encode.width,
                max_height: encode.height,
                frame_rate: Some(encode.frame_rate),
                keyframe_interval: None,
            },
            Some(rendition) => H264Settings {
                encode: config::Encode {
                    bitrate: rendition.bitrate.unwrap_or(encode.bitrate),
                    ..encode
                },
                max_width: rendition.width.unwrap_or(u32::MAX),
                max_height: rendition.height.unwrap_or(u32::MAX),
                frame_rate: rendition.frame_rate,
                keyframe_interval: rendition.keyframe_interval,
            },
        }
    }
}

/// Whether frames of `video` may be decoded in another order than they are presented: H.264 whose SPS does not rule
/// that out.
fn reorders(video: &Video) -> bool {
    let reorder = DecoderConfig::parse(&video.config)
        .ok()
        .and_then(|config| ParameterSets::new(&config.sps, &config.pps).ok())
        .and_then(|sets| sets.picture.reorder);
    video.codec == Codec::H264 && reorder != Some(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use bytes::Bytes;
    use sluicegate_media::{
        geometry::{Geometry, Orientation},
        h264::testing::{PpsOptions, SpsOptions},
        sample::Audio,
    };

    fn recipes() -> Recipes {
        let mobile = config::Rendition {
            width: Some(640),
            frame_rate: Some(5),
            ..config::Rendition::default()
        };
        Recipes {
            encode: config::Encode::default(),
            renditions: BTreeMap::from([("mobile".into(), mobile)]),
        }
    }

    fn variant(rendition: &str, width: Option<u32>, quality: Option<u8>) -> Variant {
        Variant {
            rendition: rendition.into(),
            options: VariantOptions::new(width, quality),
        }
    }

    fn info(video: Option<Codec>, audio: Option<Codec>) -> Info {
        Info {
            started_at: 0,
            epoch: 0,
            video: video.map(|codec| Video {
                codec,
                codec_string: String::new(),
                config: Bytes::new(),
                width: 1920,
                height: 1080,
                geometry: Geometry::default(),
                frame_rate: 25.0,
                keyframe_ms: 0,
            }),
            audio: audio.map(|codec| Audio {
                codec,
                name: String::new(),
                codec_string: String::new(),
                config: Bytes::new(),
                timescale: 48_000,
                sample_rate: 48_000,
                channels: 2,
                language: "und".into(),
            }),
            coding: None,
        }
    }

    #[test]
    fn what_fits_passes_untouched_and_the_rest_is_made() {
        use Format::{H264AnnexB, Jpeg};
        let recipes = recipes();
        let plain = Variant::default();
        for (codec, format) in [(Codec::H264, H264AnnexB), (Codec::Jpeg, Jpeg)] {
            let choice = recipes.choose(&plain, &info(Some(codec), None), &[format]);
            assert_eq!(choice, Some(Selection::from(format)));
        }
        let made = |variant: &Variant, codec, format| {
            let choice = recipes.choose(variant, &info(Some(codec), None), &[format]);
            match choice.unwrap().recipe {
                Some(Recipe::Video(transcode)) => transcode,
                other => panic!("{other:?}"),
            }
        };
        let VideoTranscode::H264(encoding) = made(&plain, Codec::Jpeg, H264AnnexB) else {
            panic!("no H.264");
        };
        assert_eq!((encoding.max_width, encoding.frame_rate), (1280, Some(15)));
        let VideoTranscode::Jpeg {
            jpeg_settings,
            ad_hoc,
        } = made(&plain, Codec::H264, Jpeg)
        else {
            panic!("no JPEG");
        };
        assert_eq!((jpeg_settings, ad_hoc), (JpegSettings::default(), false));
        let VideoTranscode::Jpeg {
            jpeg_settings,
            ad_hoc,
        } = made(&variant("mobile", None, Some(43)), Codec::Jpeg, Jpeg)
        else {
            panic!("no JPEG");
        };
        assert_eq!(
            (jpeg_settings.max_width, jpeg_settings.max_height),
            (640, u32::MAX)
        );
        assert_eq!(
            (jpeg_settings.quality, jpeg_settings.max_per_second, ad_hoc),
            (40, 5, true)
        );
        let VideoTranscode::H264(encoding) =
            made(&variant("mobile", None, None), Codec::H264, H264AnnexB)
        else {
            panic!("no H.264");
        };
        assert_eq!((encoding.max_width, encoding.frame_rate), (640, Some(5)));
        let unknown = variant("huge", None, None);
        let known = info(Some(Codec::H264), None);
        assert_eq!(recipes.choose(&unknown, &known, &[Jpeg]), None);
    }

    #[test]
    fn audio_is_passed_unchanged_or_transcoded_to_aac_where_supported() {
        use Codec::{H264, OtherAudio};
        use Format::{Aac, H264Avcc};
        let recipes = recipes();
        let both = &[H264Avcc, Aac][..];
        let (plain, mobile) = (Variant::default(), variant("mobile", None, None));
        // The source's tracks and the transport's formats, then: has video, has audio, and what is joined of what is
        // transcoded.
        for (variant, video, audio, formats, expected) in [
            (
                &plain,
                Some(H264),
                Some(Codec::Aac),
                both,
                Some((true, true, None)),
            ),
            (&plain, Some(H264), None, both, Some((true, false, None))),
            (
                &plain,
                None,
                Some(Codec::Aac),
                both,
                Some((false, true, None)),
            ),
            (
                &plain,
                Some(H264),
                Some(Codec::Aac),
                &both[..1],
                Some((true, false, None)),
            ),
            (
                &plain,
                Some(H264),
                Some(Codec::Aac),
                &both[1..],
                Some((false, true, None)),
            ),
            (
                &plain,
                Some(H264),
                Some(OtherAudio),
                both,
                Some((true, true, Some((false, true)))),
            ),
            (
                &mobile,
                Some(H264),
                Some(OtherAudio),
                both,
                Some((true, true, Some((true, true)))),
            ),
            (
                &mobile,
                Some(H264),
                Some(Codec::Aac),
                both,
                Some((true, true, Some((true, false)))),
            ),
            (
                &plain,
                Some(Codec::Jpeg),
                Some(Codec::Aac),
                both,
                Some((true, true, Some((true, false)))),
            ),
            (&plain, None, Some(Codec::Aac), &both[..1], None),
            (&plain, Some(H264), None, &both[1..], None),
        ] {
            let choice = recipes.choose(variant, &info(video, audio), formats);
            let told = choice.map(|choice| {
                let joined = choice.recipe.map(|recipe| match recipe {
                    Recipe::Joined {
                        video: transcode,
                        aac,
                    } => (transcode.is_some(), aac),
                    other => panic!("{other:?}"),
                });
                (choice.video.is_some(), choice.audio.is_some(), joined)
            });
            assert_eq!(told, expected, "{variant} {video:?} {audio:?} {formats:?}");
        }
        let radio = recipes.choose(&plain, &info(None, Some(OtherAudio)), both);
        assert_eq!(radio.and_then(|choice| choice.recipe), Some(Recipe::Aac));
        assert_eq!(
            radio.and_then(|choice| choice.format(Codec::Aac)),
            Some(Aac)
        );
    }

    #[test]
    fn jpegs_that_are_not_upright_are_transcoded_and_h264_passes_with_metadata() {
        use Format::{H264AnnexB, Jpeg};
        let recipes = recipes();
        for (codec, format, passes) in [(Codec::H264, H264AnnexB, true), (Codec::Jpeg, Jpeg, false)]
        {
            let mut turned = info(Some(codec), None);
            if let Some(video) = &mut turned.video {
                video.geometry.orientation = Orientation::new(90, false);
            }
            let choice = recipes.choose(&Variant::default(), &turned, &[format]);
            let choice = choice.unwrap();
            assert_eq!(choice.recipe.is_none(), passes, "{codec}");
            assert_eq!(choice.video, Some(format));
        }
    }

    #[test]
    fn without_reordering_h264_is_transcoded_unless_it_has_no_b_frames() {
        let recipes = recipes();
        let in_order = VariantOptions {
            in_order: true,
            ..VariantOptions::default()
        };
        let wanted = |rendition: &str| Variant {
            rendition: rendition.into(),
            options: in_order,
        };
        let made_as = |format, variant: &Variant, config: Bytes| {
            let mut info = info(Some(Codec::H264), None);
            info.video = info.video.map(|video| Video { config, ..video });
            let choice = recipes.choose(variant, &info, &[format]);
            choice.unwrap().recipe
        };
        let made = |variant: &Variant, config| made_as(Format::H264AnnexB, variant, config);
        let config = |profile| {
            let sps = SpsOptions {
                profile,
                ..SpsOptions::default()
            };
            let sets = ParameterSets::new(&[sps.nal()], &[PpsOptions::default().nal()]);
            sets.unwrap().decoder_config()
        };
        // Constrained baseline has no B-frames. Main may have them, and so may a configuration that cannot be parsed.
        assert_eq!(made(&wanted(""), config(66)), None);
        for config in [config(77), Bytes::new()] {
            assert_eq!(made(&Variant::default(), config.clone()), None);
            let in_order = made(&wanted(""), config.clone());
            // A transport that demands it gets the same as a viewer that does.
            let format = Format::H264AvccInOrder;
            assert_eq!(made_as(format, &Variant::default(), config), in_order);
            let Some(Recipe::Video(VideoTranscode::H264(encoding))) = in_order else {
                panic!("no H.264");
            };
            // At the source's size and rate.
            let H264Settings {
                max_width,
                max_height,
                frame_rate,
                ..
            } = encoding;
            let whole = (max_width, max_height, frame_rate);
            assert_eq!(whole, (u32::MAX, u32::MAX, None));
        }
        // Renditions have no B-frames anyway: the recipe is the same, so that it is made once.
        let mobile = made(&variant("mobile", None, None), config(77));
        assert_eq!(made(&wanted("mobile"), config(77)), mobile);
        assert_eq!(wanted("").to_string(), "?reorder=0");
    }

    #[test]
    fn requested_sizes_and_qualities_are_rounded_to_steps() {
        for (wanted, width) in [(1, 160), (160, 160), (161, 240), (700, 800), (9999, 1920)] {
            assert_eq!(VariantOptions::new(Some(wanted), None).width, Some(width));
        }
        for (wanted, quality) in [(0, 10), (14, 10), (15, 20), (86, 90), (100, 90)] {
            assert_eq!(
                VariantOptions::new(None, Some(wanted)).quality,
                Some(quality)
            );
        }
        assert_eq!(variant("mobile", None, None).to_string(), "@mobile");
        assert_eq!(
            variant("", Some(640), Some(60)).to_string(),
            "?width=640&quality=60"
        );
    }
}
