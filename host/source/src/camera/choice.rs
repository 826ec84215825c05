//! Which of a camera's formats is taken. Pure.

use sluicegate_config::Encode;
use std::fmt;

/// What a camera gives pictures as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Passes to the viewers as it is.
    H264,
    /// As JPEGs, which pass as they are.
    Mjpeg,
    /// Raw, by libavdevice's name of the layout; scaled and encoded here.
    Raw(&'static str),
}

impl Format {
    /// Of a V4L2 pixel format (FourCC), if libavdevice takes it.
    pub fn of_fourcc(fourcc: [u8; 4]) -> Option<Format> {
        Some(match &fourcc {
            b"H264" => Format::H264,
            b"MJPG" | b"JPEG" => Format::Mjpeg,
            b"YUYV" => Format::Raw("yuyv422"),
            b"UYVY" => Format::Raw("uyvy422"),
            b"YVYU" => Format::Raw("yvyu422"),
            b"NV12" => Format::Raw("nv12"),
            b"YU12" => Format::Raw("yuv420p"),
            b"422P" => Format::Raw("yuv422p"),
            b"RGB3" => Format::Raw("rgb24"),
            b"BGR3" => Format::Raw("bgr24"),
            b"BGR4" => Format::Raw("bgr0"),
            b"GREY" => Format::Raw("gray"),
            _ => return None,
        })
    }

    /// libavdevice's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Format::H264 => "h264",
            Format::Mjpeg => "mjpeg",
            Format::Raw(layout) => layout,
        }
    }
}

/// Sizes a format comes in, pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// One.
    One(u32, u32),
    /// All from the least to the most, in steps.
    Range {
        /// Width and height.
        least: (u32, u32),
        /// Width and height.
        most: (u32, u32),
        /// Across and down.
        step: (u32, u32),
    },
}

/// Rates a format and size comes in, pictures a second.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// These.
    Some(Vec<f64>),
    /// All up to this.
    UpTo(f64),
    /// The driver does not say.
    Unknown,
}

/// One format in one size, or range of sizes, as a driver lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Capability {
    /// How pictures are laid out.
    pub format: Format,
    /// How large they may be.
    pub sizes: Sizes,
    /// How many a second there may be.
    pub rates: Rates,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sizes {
            Sizes::One(width, height) => write!(f, "{width}x{height}")?,
            Sizes::Range { least, most, .. } => {
                write!(f, "{}x{} to {}x{}", least.0, least.1, most.0, most.1)?;
            }
        }
        match &self.rates {
            Rates::Some(rates) => {
                let rates: Vec<String> = rates.iter().map(|rate| round(*rate)).collect();
                write!(f, " at {}/s", rates.join(", "))
            }
            Rates::UpTo(most) => write!(f, " at up to {}/s", round(*most)),
            Rates::Unknown => Ok(()),
        }
    }
}

/// 30, 29.97, 7.5
fn round(rate: f64) -> String {
    let text = format!("{rate:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What a camera is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaptureMode {
    /// How pictures are laid out.
    pub format: Format,
    /// Pixels across and down.
    pub size: (u32, u32),
    /// Pictures a second; the driver's own if absent.
    pub rate: Option<f64>,
}

impl fmt::Display for CaptureMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, (width, height)) = (self.format.name(), self.size);
        write!(f, "{name} {width}x{height}")?;
        match self.rate {
            Some(rate) => write!(f, " at {}/s", round(rate)),
            None => Ok(()),
        }
    }
}

/// The best of `capabilities` for pictures of the size and rate of `encode`; `None` if there are none.
///
/// What passes untouched is preferred, H.264 to JPEG to raw, where it is about as large as wanted, not larger, and comes as
/// often. Raw may be larger, as it is scaled. Where nothing is good in that sense, what comes nearest is taken.
pub fn choose(capabilities: &[Capability], encode: &Encode) -> Option<CaptureMode> {
    let wanted = (encode.width, encode.height);
    let offers: Vec<Offer> = capabilities
        .iter()
        .map(|capability| Offer::new(capability, encode))
        .collect();
    // Of equals the first listed: drivers begin with what they do best.
    let best = |offers: &mut dyn Iterator<Item = &Offer>| {
        offers
            .reduce(|best, next| if next.beats(best, wanted) { next } else { best })
            .map(|offer| offer.choice)
    };
    [0, 1, 2]
        .into_iter()
        .find_map(|rank| {
            let of_rank = |offer: &&Offer| offer.rank() == rank && offer.is_good(wanted);
            best(&mut offers.iter().filter(of_rank))
        })
        .or_else(|| best(&mut offers.iter()))
}

struct Offer {
    choice: CaptureMode,
    often_enough: bool,
}

impl Offer {
    fn new(capability: &Capability, encode: &Encode) -> Offer {
        let wanted = f64::from(encode.frame_rate);
        // 29.97 is as good as 30.
        let enough = |rate: f64| rate >= wanted * 0.99;
        let rate = match &capability.rates {
            Rates::Unknown => None,
            Rates::UpTo(most) => Some(most.min(wanted)),
            Rates::Some(rates) => {
                let least_enough = rates.iter().copied().filter(|rate| enough(*rate));
                let least_enough = least_enough.min_by(f64::total_cmp);
                least_enough.or(rates.iter().copied().max_by(f64::total_cmp))
            }
        };
        let size = match capability.sizes {
            Sizes::One(width, height) => (width, height),
            Sizes::Range { least, most, step } => (
                step_to(encode.width, least.0, most.0, step.0),
                step_to(encode.height, least.1, most.1, step.1),
            ),
        };
        Offer {
            choice: CaptureMode {
                format: capability.format,
                size,
                rate,
            },
            often_enough: rate.is_none_or(enough),
        }
    }

    fn rank(&self) -> u8 {
        match self.choice.format {
            Format::H264 => 0,
            Format::Mjpeg => 1,
            Format::Raw(_) => 2,
        }
    }

    fn is_good(&self, wanted: (u32, u32)) -> bool {
        let (width, height) = self.choice.size;
        let scaled = matches!(self.choice.format, Format::Raw(_));
        let about_as_large = 2 * area(self.choice.size) >= area(wanted);
        let not_larger = width <= wanted.0 && height <= wanted.1;
        self.often_enough && about_as_large && (not_larger || scaled)
    }

    fn beats(&self, other: &Offer, wanted: (u32, u32)) -> bool {
        let merit = |offer: &Offer| {
            let distance = area(offer.choice.size).abs_diff(area(wanted));
            (!offer.often_enough, distance)
        };
        merit(self) < merit(other)
    }
}

fn area((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

/// The largest step that is no more than `wanted`, or the least there is.
fn step_to(wanted: u32, least: u32, most: u32, step: u32) -> u32 {
    let wanted = wanted.clamp(least, most.max(least));
    wanted - (wanted - least) % step.max(1)
}

#[cfg(test)]
mod tests;
