//! What of a stream a viewer gets: the stream itself, a rendition, or JPEGs of another size. Pure.

use super::{encoded::Encoding, jpeg::Look};
use crate::{
    config,
    media::sample::{Codec, Format},
};
use std::{collections::BTreeMap, fmt};

/// Widths that are made when a viewer asks for one, so that viewers share them.
const WIDTHS: [u32; 10] = [160, 240, 320, 480, 640, 800, 960, 1280, 1600, 1920];
/// Qualities that are made are multiples of this.
const QUALITY_STEP: u8 = 10;

/// Which form of a stream is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variant {
    /// Name of the rendition; empty: the stream itself.
    pub rendition: String,
    /// JPEGs of another size or quality than is usual.
    pub ask: Ask,
}

/// What a viewer asks of JPEGs: `?width=&quality=`, already on the steps that are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// Pixels.
    pub width: Option<u32>,
    /// 1 to 100.
    pub quality: Option<u8>,
}

/// What is made of a stream's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// JPEGs; `ad_hoc`: for viewers who asked, so their number is limited.
    Jpeg {
        /// How they are to be.
        look: Look,
        /// Not in the config.
        ad_hoc: bool,
    },
    /// H.264.
    H264(Encoding),
}

impl Ask {
    /// The steps nearest to what is asked for: the next width that is no smaller, the next quality.
    pub fn new(width: Option<u32>, quality: Option<u8>) -> Ask {
        let largest = WIDTHS[WIDTHS.len() - 1];
        Ask {
            width: width.map(|asked| {
                let fitting = WIDTHS.into_iter().find(|width| *width >= asked);
                fitting.unwrap_or(largest)
            }),
            quality: quality.map(|asked| {
                let step = asked
                    .clamp(QUALITY_STEP, 90)
                    .saturating_add(QUALITY_STEP / 2);
                step / QUALITY_STEP * QUALITY_STEP
            }),
        }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Ask::default()
    }
}

/// "", "@mobile", "?width=640&quality=60".
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rendition.is_empty() {
            write!(f, "@{}", self.rendition)?;
        }
        let mut mark = '?';
        if let Some(width) = self.ask.width {
            write!(f, "{mark}width={width}")?;
            mark = '&';
        }
        if let Some(quality) = self.ask.quality {
            write!(f, "{mark}quality={quality}")?;
        }
        Ok(())
    }
}

/// How a stream's pictures are encoded, and its renditions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipes {
    pub encode: config::Encode,
    pub renditions: BTreeMap<String, config::Rendition>,
}

impl Recipes {
    /// What `variant` is, of a stream coded as `codec`, for a transport that takes `formats`, the ones it likes best
    /// first: the format, and what has to be made. `None` if it cannot be had.
    pub fn choose(
        &self,
        variant: &Variant,
        codec: Codec,
        formats: &[Format],
    ) -> Option<(Format, Option<Recipe>)> {
        let rendition = match variant.rendition.as_str() {
            "" => None,
            name => Some(self.renditions.get(name)?),
        };
        let native = formats.iter().find(|format| format.codec() == codec);
        if let Some(native) = native
            && rendition.is_none()
            && (variant.ask.is_empty() || *native != Format::Jpeg)
        {
            return Some((*native, None));
        }
        let format = *formats.first()?;
        let recipe = match format {
            Format::Jpeg => Recipe::Jpeg {
                look: self.look(rendition, variant.ask),
                ad_hoc: !variant.ask.is_empty(),
            },
            Format::H264Avcc | Format::H264AnnexB => Recipe::H264(self.encoding(rendition)),
        };
        Some((format, Some(recipe)))
    }

    fn look(&self, rendition: Option<&config::Rendition>, ask: Ask) -> Look {
        let usual = Look::default();
        let mut look = match rendition {
            None => usual,
            Some(rendition) => {
                let (max_width, max_height) = match (rendition.width, rendition.height) {
                    (None, None) => (usual.max_width, usual.max_height),
                    (width, height) => (width.unwrap_or(u32::MAX), height.unwrap_or(u32::MAX)),
                };
                Look {
                    max_width,
                    max_height,
                    most_per_second: rendition.frame_rate.unwrap_or(usual.most_per_second),
                    ..usual
                }
            }
        };
        if let Some(width) = ask.width {
            (look.max_width, look.max_height) = (width, u32::MAX);
        }
        look.quality = ask.quality.unwrap_or(look.quality);
        look
    }

    fn encoding(&self, rendition: Option<&config::Rendition>) -> Encoding {
        let encode = self.encode;
        match rendition {
            None => Encoding {
                encode,
                max_width: encode.width,
                max_height: encode.height,
                frame_rate: Some(encode.frame_rate),
                keyframe_interval: None,
            },
            Some(rendition) => Encoding {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

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
            ask: Ask::new(width, quality),
        }
    }

    #[test]
    fn what_fits_passes_untouched_and_the_rest_is_made() {
        use Format::{H264AnnexB, Jpeg};
        let recipes = recipes();
        let plain = Variant::default();
        for (codec, format) in [(Codec::H264, H264AnnexB), (Codec::Jpeg, Jpeg)] {
            assert_eq!(
                recipes.choose(&plain, codec, &[format]),
                Some((format, None))
            );
        }
        let made = |variant: &Variant, codec, format| {
            recipes
                .choose(variant, codec, &[format])
                .unwrap()
                .1
                .unwrap()
        };
        let Recipe::H264(encoding) = made(&plain, Codec::Jpeg, H264AnnexB) else {
            panic!("no H.264");
        };
        assert_eq!((encoding.max_width, encoding.frame_rate), (1280, Some(15)));
        let Recipe::Jpeg { look, ad_hoc } = made(&plain, Codec::H264, Jpeg) else {
            panic!("no JPEG");
        };
        assert_eq!((look, ad_hoc), (Look::default(), false));
        let Recipe::Jpeg { look, ad_hoc } =
            made(&variant("mobile", None, Some(43)), Codec::Jpeg, Jpeg)
        else {
            panic!("no JPEG");
        };
        assert_eq!((look.max_width, look.max_height), (640, u32::MAX));
        assert_eq!((look.quality, look.most_per_second, ad_hoc), (40, 5, true));
        let Recipe::H264(encoding) = made(&variant("mobile", None, None), Codec::H264, H264AnnexB)
        else {
            panic!("no H.264");
        };
        assert_eq!((encoding.max_width, encoding.frame_rate), (640, Some(5)));
        let unknown = variant("huge", None, None);
        assert_eq!(recipes.choose(&unknown, Codec::H264, &[Jpeg]), None);
    }

    #[test]
    fn what_is_asked_for_comes_in_steps() {
        for (asked, width) in [(1, 160), (160, 160), (161, 240), (700, 800), (9999, 1920)] {
            assert_eq!(Ask::new(Some(asked), None).width, Some(width));
        }
        for (asked, quality) in [(0, 10), (14, 10), (15, 20), (86, 90), (100, 90)] {
            assert_eq!(Ask::new(None, Some(asked)).quality, Some(quality));
        }
        assert_eq!(variant("mobile", None, None).to_string(), "@mobile");
        assert_eq!(
            variant("", Some(640), Some(60)).to_string(),
            "?width=640&quality=60"
        );
    }
}
