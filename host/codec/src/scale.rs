//! Converts any decoded frame to planar 4:2:0 of a given size and colour space, upright.
//!
//! Work that is not needed is not done: a frame that already fits is returned without a copy. libswscale changes size
//! and layout only; orientation is applied by `media`, and range and matrix by `colour`.

use ffmpeg::format::Pixel;
use ffmpeg::software::scaling;
use ffmpeg_next as ffmpeg;

use super::colour::{self, Colour};
use super::frame::view_of;
use super::{Error, Frame, init};
use sluicegate_media::{
    geometry::Orientation,
    image::{I420Image, I420View, MAX_SIDE},
};

/// Largest number of conversions (pairs of input and output) that a scaler keeps ready, and the largest size of their
/// buffers in bytes. The least recently used one is removed first.
const CACHED: usize = 8;
const CACHED_BYTES: usize = 32 << 20;

/// Scales, rotates and converts frames, and keeps the buffers for the next frame of the same kind.
///
/// Cost at 1280×720: a change of range or matrix of 4:2:0 takes a third of a millisecond, scaling to half size about
/// half a millisecond, rotation about two milliseconds. A frame that already fits costs nothing.
#[derive(Default)]
pub struct Scaler {
    stages: Vec<Stage>,
}

#[derive(PartialEq, Eq)]
struct Kind {
    format: Pixel,
    from: (u32, u32),
    /// Output size before rotation, pixels.
    to: (u32, u32),
    orientation: Orientation,
}

/// Contexts and buffers to convert one kind of frame to one size.
struct Stage {
    kind: Kind,
    /// `None` if size and layout are right already.
    resize: Option<Resize>,
    /// Buffer of the rotated frame, if it is not upright.
    rotated: Option<I420Image>,
    /// Buffer of the converted frame, allocated when first needed.
    recoloured: Option<I420Image>,
}

impl Scaler {
    /// A scaler without any context yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Converts the frame to `width`×`height` pixels (both even), upright, as planar 4:2:0 in `colour`. Nothing is
    /// copied if it is in that form already. A size with the aspect ratio of [`Frame::display_size`] has square pixels.
    pub fn convert<'a>(
        &'a mut self,
        frame: &'a Frame,
        width: u32,
        height: u32,
        colour: Colour,
    ) -> Result<I420View<'a>, Error> {
        let kind = Kind {
            format: frame.format(),
            from: (frame.width(), frame.height()),
            to: match frame.geometry().orientation.is_sideways() {
                true => (height, width),
                false => (width, height),
            },
            orientation: frame.geometry().orientation,
        };
        match self.stages.iter().position(|known| known.kind == kind) {
            Some(index) => self.stages[index..].rotate_left(1),
            None => {
                let stage = Stage::new(frame, kind)?;
                let mut bytes: usize = self.stages.iter().map(Stage::bytes).sum();
                bytes += stage.bytes();
                while !self.stages.is_empty()
                    && (self.stages.len() == CACHED || bytes > CACHED_BYTES)
                {
                    bytes -= self.stages.remove(0).bytes();
                }
                self.stages.push(stage);
            }
        }
        let newest = self.stages.len() - 1;
        self.stages[newest].run(frame, colour)
    }
}

/// The largest size with even sides that keeps the aspect ratio of `width`×`height`, is not larger, and fits into
/// `max_width`×`max_height`. [`u32::MAX`] stands for no limit.
pub fn fit(width: u32, height: u32, max_width: u32, max_height: u32) -> (u32, u32) {
    let even = |side: u32| (side & !1).max(2);
    let (wide, tall) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let (max_width, max_height) = (
        max_width.min(width).min(MAX_SIDE),
        max_height.min(height).min(MAX_SIDE),
    );
    let near = |side: u64, by: u64, most: u32| {
        // To the nearest even number, which may be above an odd limit.
        let halves = (side + by) / (2 * by);
        even(u32::try_from(2 * halves).unwrap_or(most).min(most))
    };
    if u64::from(max_width) * tall <= u64::from(max_height) * wide {
        (
            even(max_width),
            near(u64::from(max_width) * tall, wide, max_height),
        )
    } else {
        (
            near(u64::from(max_height) * wide, tall, max_width),
            even(max_height),
        )
    }
}

impl Stage {
    fn new(frame: &Frame, kind: Kind) -> Result<Self, Error> {
        let resize = if kind.from == kind.to && frame.view().is_some() {
            None
        } else {
            Some(Resize::new(&kind)?)
        };
        let rotated = match kind.orientation {
            Orientation::UPRIGHT => None,
            _ => Some(kind.upright_image()?),
        };
        Ok(Self {
            kind,
            resize,
            rotated,
            recoloured: None,
        })
    }

    /// Size of its buffers in bytes once they are allocated.
    fn bytes(&self) -> usize {
        let (width, height) = self.kind.to;
        width as usize * height as usize * 3
    }

    fn run<'a>(&'a mut self, frame: &'a Frame, to: Colour) -> Result<I420View<'a>, Error> {
        let (view, from) = match &mut self.resize {
            Some(resize) => resize.run(frame, &self.kind)?,
            None => (frame.view(), frame.colour()),
        };
        let (width, height) = self.kind.to;
        let mut view = view.ok_or(Error::Memory { width, height })?;
        if let Some(rotated) = &mut self.rotated {
            rotated.rotate_from(view, self.kind.orientation)?;
            view = rotated.view();
        }
        if from == to {
            return Ok(view);
        }
        let image = match &mut self.recoloured {
            Some(image) => image,
            empty => empty.insert(self.kind.upright_image()?),
        };
        colour::convert(view, from, to, image);
        Ok(image.view())
    }
}

/// A libswscale context for one kind of frame. It changes size and layout and leaves range and matrix alone, except for
/// RGB frames, which it converts to full range BT.601.
struct Resize {
    context: scaling::Context,
    scaled: ffmpeg::frame::Video,
    has_matrix: bool,
}

impl Resize {
    fn new(kind: &Kind) -> Result<Self, Error> {
        init();
        let ((from_width, from_height), (width, height)) = (kind.from, kind.to);
        // Sizes that the following steps cannot represent are rejected before libav allocates memory.
        let _ = I420Image::new(width, height)?;
        let nature = FormatClass::of(kind.format);
        // Input and output of the same nature; otherwise libswscale would change the range as well.
        let layout = if nature == FormatClass::Limited {
            Pixel::YUV420P
        } else {
            Pixel::YUVJ420P
        };
        let context = scaling::Context::get(
            kind.format,
            from_width,
            from_height,
            layout,
            width,
            height,
            scaling::Flags::BILINEAR,
        )
        .map_err(|source| kind.error(source))?;
        let scaled = ffmpeg::frame::Video::new(layout, width, height);
        if scaled.planes() < 3 {
            return Err(Error::Memory { width, height });
        }
        Ok(Self {
            context,
            scaled,
            has_matrix: nature != FormatClass::Rgb,
        })
    }

    fn run<'a>(
        &'a mut self,
        frame: &Frame,
        kind: &Kind,
    ) -> Result<(Option<I420View<'a>>, Colour), Error> {
        self.context
            .run(frame.video(), &mut self.scaled)
            .map_err(|source| kind.error(source))?;
        let colour = if self.has_matrix {
            frame.colour()
        } else {
            Colour::JPEG
        };
        Ok((view_of(&self.scaled), colour))
    }
}

impl Kind {
    fn upright_image(&self) -> Result<I420Image, Error> {
        let (width, height) = self.to;
        Ok(match self.orientation.is_sideways() {
            true => I420Image::new(height, width)?,
            false => I420Image::new(width, height)?,
        })
    }

    fn error(&self, source: ffmpeg::Error) -> Error {
        Error::Scale {
            width: self.from.0,
            height: self.from.1,
            format: format!("{:?}", self.format),
            source,
        }
    }
}

/// How libswscale interprets a pixel format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FormatClass {
    Limited,
    Full,
    Rgb,
}

impl FormatClass {
    fn of(format: Pixel) -> Self {
        let name = format
            .descriptor()
            .map_or("", |descriptor| descriptor.name());
        let is = |part: &&str| name.contains(*part);
        if ["rgb", "bgr", "gbr", "pal8", "mono", "bayer", "xyz"]
            .iter()
            .any(is)
        {
            Self::Rgb
        } else if ["yuvj", "gray", "ya8", "ya16"].iter().any(is) {
            Self::Full
        } else {
            Self::Limited
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::Matrix;
    use proptest::prelude::*;
    use sluicegate_media::geometry::Geometry;

    fn frame(format: Pixel, width: u32, height: u32, fill: impl Fn(usize, usize) -> u8) -> Frame {
        let mut video = ffmpeg::frame::Video::new(format, width, height);
        for plane in 0..video.planes() {
            for (at, byte) in video.data_mut(plane).iter_mut().enumerate() {
                *byte = fill(plane, at);
            }
        }
        Frame::from(video)
    }

    fn flat(view: I420View<'_>) -> [u8; 3] {
        std::array::from_fn(|plane| {
            let first = view.plane(plane)[0];
            assert!(
                view.rows(plane).flatten().all(|sample| *sample == first),
                "plane {plane} is not even"
            );
            first
        })
    }

    #[test]
    fn a_frame_that_needs_no_conversion_is_not_copied() {
        let frame = frame(Pixel::YUVJ420P, 64, 48, |_, _| 9);
        let mut scaler = Scaler::new();
        let view = scaler.convert(&frame, 64, 48, Colour::JPEG).unwrap();
        assert_eq!(
            view.plane(0).as_ptr(),
            frame.view().unwrap().plane(0).as_ptr()
        );
    }

    #[test]
    fn white_is_white_from_every_layout() {
        let mut scaler = Scaler::new();
        for (format, levels) in [
            (Pixel::YUV420P, [235, 128, 128]),
            (Pixel::YUVJ420P, [255, 128, 128]),
            (Pixel::YUV422P, [235, 128, 128]),
            (Pixel::YUVJ444P, [255, 128, 128]),
            (Pixel::NV12, [235, 128, 128]),
            (Pixel::GRAY8, [255, 0, 0]),
            (Pixel::RGB24, [255, 0, 0]),
            (Pixel::BGRA, [255, 0, 0]),
        ] {
            let frame = frame(format, 66, 50, |plane, _| levels[plane]);
            for (width, height) in [(66, 50), (32, 24), (132, 100)] {
                let [y, u, v] = flat(scaler.convert(&frame, width, height, Colour::JPEG).unwrap());
                assert!(
                    y >= 253 && u.abs_diff(128) <= 1 && v.abs_diff(128) <= 1,
                    "{format:?} {width}: {y} {u} {v}"
                );
                let [y, ..] = flat(
                    scaler
                        .convert(&frame, width, height, Colour::VIDEO)
                        .unwrap(),
                );
                assert!(y.abs_diff(235) <= 2, "{format:?} {width}: {y}");
            }
        }
        assert_eq!(scaler.stages.len(), CACHED);
    }

    #[test]
    fn packed_yuv_and_odd_sizes_are_taken() {
        let mut scaler = Scaler::new();
        let packed = frame(
            Pixel::YUYV422,
            64,
            48,
            |_, at| if at % 2 == 0 { 235 } else { 128 },
        );
        assert_eq!(
            flat(scaler.convert(&packed, 64, 48, Colour::JPEG).unwrap()),
            [255, 128, 128]
        );
        let odd = frame(Pixel::YUV420P, 65, 49, |plane, _| [16, 128, 128][plane]);
        assert!(odd.view().is_none());
        assert_eq!(
            flat(scaler.convert(&odd, 64, 48, Colour::JPEG).unwrap()),
            [0, 128, 128]
        );
    }

    #[test]
    fn red_stays_red_from_video_to_jpeg() {
        let mut scaler = Scaler::new();
        let mut red = frame(Pixel::YUV420P, 64, 48, |plane, _| [63, 102, 240][plane]);
        assert_eq!(red.colour().matrix, Matrix::Bt601);
        let mut video = ffmpeg::frame::Video::new(Pixel::YUV420P, 64, 48);
        video.clone_from(red.video());
        video.set_color_space(ffmpeg::color::Space::BT709);
        red = Frame::from(video);
        let [y, u, v] = flat(scaler.convert(&red, 64, 48, Colour::JPEG).unwrap());
        assert!(
            y.abs_diff(76) <= 2 && u.abs_diff(85) <= 2 && v >= 253,
            "{y} {u} {v}"
        );
    }

    #[test]
    fn a_frame_is_upright_whichever_way_it_was_coded() {
        // Dark on the left, light on the right.
        let shade = |x: usize| if x < 32 { 16 } else { 235 };
        let mut scaler = Scaler::new();
        for (degrees, size, dark, light) in [
            (0, (64, 16), (1, 1), (62, 14)),
            (90, (16, 64), (1, 1), (14, 62)),
            (180, (64, 16), (62, 1), (1, 14)),
            (270, (16, 64), (1, 62), (14, 1)),
            // Half of that size.
            (90, (8, 32), (1, 1), (6, 30)),
        ] {
            let frame = frame(Pixel::YUV420P, 64, 16, |plane, at| match plane {
                0 => shade(at % 64),
                _ => 128,
            });
            assert_eq!(frame.video().stride(0), 64, "rows without padding");
            let frame = frame.with_geometry(Geometry {
                orientation: Orientation::new(degrees, false),
                ..Geometry::default()
            });
            for colour in [frame.colour(), Colour::JPEG] {
                let view = scaler.convert(&frame, size.0, size.1, colour).unwrap();
                assert_eq!((view.width(), view.height()), size);
                let at = |(x, y): (usize, usize)| view.plane(0)[y * view.stride(0) + x];
                let told = (at(dark), at(light));
                assert!(
                    told.0 <= 20 && told.1 >= 230,
                    "{degrees} {size:?}: {told:?}"
                );
            }
        }
    }

    #[test]
    fn a_size_no_frame_can_have_is_refused() {
        let frame = frame(Pixel::YUV420P, 64, 48, |_, _| 16);
        for (width, height) in [(0, 0), (63, 48), (64, MAX_SIDE + 2)] {
            assert!(matches!(
                Scaler::new().convert(&frame, width, height, Colour::JPEG),
                Err(Error::ImageSize(_))
            ));
        }
    }

    #[test]
    fn sizes_fit_the_limits() {
        for ((width, height, max_width, max_height), fitted) in [
            ((1280, 720, u32::MAX, u32::MAX), (1280, 720)),
            ((1280, 720, 320, u32::MAX), (320, 180)),
            ((1280, 720, u32::MAX, 360), (640, 360)),
            ((1280, 720, 500, 500), (500, 282)),
            ((720, 1280, 640, 640), (360, 640)),
            ((641, 361, 2000, 2000), (640, 360)),
            ((1280, 720, 0, 0), (2, 2)),
            ((0, 0, 100, 100), (2, 2)),
            ((1280, 720, 321, 999), (320, 180)),
        ] {
            assert_eq!(
                fit(width, height, max_width, max_height),
                fitted,
                "{width}x{height} in {max_width}x{max_height}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn fitted_sizes_are_even_small_enough_and_of_the_same_aspect(
            width in 2u32..10_000, height in 2u32..10_000, max_width in 2u32..10_000, max_height in 2u32..10_000,
        ) {
            let (w, h) = fit(width, height, max_width, max_height);
            prop_assert!(w % 2 == 0 && h % 2 == 0);
            prop_assert!(w <= max_width.min(width) && h <= max_height.min(height));
            prop_assert!(w == 2 || h == 2 || (f64::from(w) / f64::from(width) - f64::from(h) / f64::from(height)).abs()
                <= 3.0 / f64::from(width.min(height)));
            prop_assert!(w <= MAX_SIDE && h <= MAX_SIDE);
        }
    }
}
