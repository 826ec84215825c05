//! Chooses a camera's mode from its capabilities. Pure.

use sluicegate_config::Encode;
use std::fmt;

/// Format of a camera's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// H.264, passed to viewers unchanged.
    H264,
    /// JPEGs, passed to viewers unchanged.
    Mjpeg,
    /// Raw frames, by libavdevice's name of the layout; scaled and encoded here.
    Raw(&'static str),
}

impl Format {
    /// The format of a V4L2 FourCC, if libavdevice supports it.
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

    /// libavdevice's name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Format::H264 => "h264",
            Format::Mjpeg => "mjpeg",
            Format::Raw(layout) => layout,
        }
    }
}

/// Sizes of a format, pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// One size: width and height.
    One(u32, u32),
    /// All sizes from `least` to `most` in steps of `step`.
    Range {
        /// Smallest width and height.
        least: (u32, u32),
        /// Largest width and height.
        most: (u32, u32),
        /// Horizontal and vertical step.
        step: (u32, u32),
    },
}

/// Frame rates of a format and size, frames per second.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// Only these rates.
    Some(Vec<f64>),
    /// All rates up to this one.
    UpTo(f64),
    /// The driver does not list rates.
    Unknown,
}

/// One format in one size, or range of sizes, as a driver lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Capability {
    /// Format of the frames.
    pub format: Format,
    /// Sizes of the frames.
    pub sizes: Sizes,
    /// Rates of the frames.
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

/// Formats a rate: 30, 29.97, 7.5.
fn round(rate: f64) -> String {
    let text = format!("{rate:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The mode in which a camera is opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaptureMode {
    /// Format of the frames.
    pub format: Format,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Frames per second; the driver's default if absent.
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

/// The best of `capabilities` for the size and rate of `encode`; `None` if there are none.
///
/// Formats that pass unchanged are preferred, H.264 to JPEG to raw, if the size is close to the requested one but not
/// larger and the rate is sufficient. Raw frames may be larger, since they are scaled. If no mode qualifies, the
/// nearest one is chosen.
pub fn choose(capabilities: &[Capability], encode: &Encode) -> Option<CaptureMode> {
    let wanted = (encode.width, encode.height);
    let offers: Vec<Candidate> = capabilities
        .iter()
        .map(|capability| Candidate::new(capability, encode))
        .collect();
    // Of equal modes the first is chosen: drivers list their best modes first.
    let best = |offers: &mut dyn Iterator<Item = &Candidate>| {
        offers
            .reduce(|best, next| {
                if next.is_better_than(best, wanted) {
                    next
                } else {
                    best
                }
            })
            .map(|offer| offer.choice)
    };
    [0, 1, 2]
        .into_iter()
        .find_map(|rank| {
            let of_rank = |offer: &&Candidate| offer.rank() == rank && offer.is_good(wanted);
            best(&mut offers.iter().filter(of_rank))
        })
        .or_else(|| best(&mut offers.iter()))
}

struct Candidate {
    choice: CaptureMode,
    is_rate_sufficient: bool,
}

impl Candidate {
    fn new(capability: &Capability, encode: &Encode) -> Candidate {
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
        Candidate {
            choice: CaptureMode {
                format: capability.format,
                size,
                rate,
            },
            is_rate_sufficient: rate.is_none_or(enough),
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
        self.is_rate_sufficient && about_as_large && (not_larger || scaled)
    }

    fn is_better_than(&self, other: &Candidate, wanted: (u32, u32)) -> bool {
        let merit = |offer: &Candidate| {
            let distance = area(offer.choice.size).abs_diff(area(wanted));
            (!offer.is_rate_sufficient, distance)
        };
        merit(self) < merit(other)
    }
}

fn area((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

/// The largest step that is not above `wanted`, or the smallest one.
fn step_to(wanted: u32, least: u32, most: u32, step: u32) -> u32 {
    let wanted = wanted.clamp(least, most.max(least));
    wanted - (wanted - least) % step.max(1)
}

#[cfg(test)]
mod tests;
