//! Encodes still images as files: JPEG by libjpeg-turbo, PNG and WebP by libav if the build has them. Used by captures.

use bytes::Bytes;
use ffmpeg::codec::{self, Id};
use ffmpeg::format::Pixel;
use ffmpeg::software::scaling;
use ffmpeg::{Dictionary, Rational};
use ffmpeg_next as ffmpeg;

use super::frame::fill_plane;
use super::{Colour, Counts, Error, Frame, JpegEncoder, Matrix, Range, Scaler, fit, init};
use sluicegate_media::image::I420View;
use std::sync::Arc;

/// File format of a still image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StillFormat {
    /// Baseline JPEG.
    Jpeg,
    /// PNG, lossless relative to the decoded frame.
    Png,
    /// Lossy WebP.
    Webp,
}

impl StillFormat {
    /// All formats.
    pub const ALL: [StillFormat; 3] = [StillFormat::Jpeg, StillFormat::Png, StillFormat::Webp];

    /// Name in requests and in the API.
    pub fn name(self) -> &'static str {
        match self {
            StillFormat::Jpeg => "jpeg",
            StillFormat::Png => "png",
            StillFormat::Webp => "webp",
        }
    }

    /// File name extension.
    pub fn ending(self) -> &'static str {
        match self {
            StillFormat::Jpeg => "jpg",
            StillFormat::Png => "png",
            StillFormat::Webp => "webp",
        }
    }

    /// Media type (MIME).
    pub fn content_type(self) -> &'static str {
        match self {
            StillFormat::Jpeg => "image/jpeg",
            StillFormat::Png => "image/png",
            StillFormat::Webp => "image/webp",
        }
    }

    /// Whether this build can encode the format.
    pub fn is_supported(self) -> bool {
        init();
        match self {
            StillFormat::Jpeg => true,
            StillFormat::Png => codec::encoder::find(Id::PNG).is_some(),
            StillFormat::Webp => codec::encoder::find_by_name("libwebp").is_some(),
        }
    }
}

/// An encoded image and its size.
#[derive(Clone, Debug)]
pub struct EncodedStill {
    /// Contents of the file.
    pub data: Bytes,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Encodes still images, one at a time.
pub struct StillImageEncoder {
    jpeg: JpegEncoder,
    scaler: Scaler,
}

impl StillImageEncoder {
    /// An encoder whose JPEGs are counted in `counts`.
    ///
    /// # Errors
    /// libjpeg-turbo could not be initialised.
    pub fn new(counts: &Arc<Counts>) -> Result<StillImageEncoder, Error> {
        Ok(StillImageEncoder {
            jpeg: JpegEncoder::new()?.counted(counts),
            scaler: Scaler::new(),
        })
    }

    /// Encodes the frame upright, with square pixels and its aspect ratio, at most `max_width` pixels wide. `quality`
    /// is 1 to 100 and applies to lossy formats.
    ///
    /// # Errors
    /// The build has no such codec, or the codec rejected the frame.
    pub fn encode(
        &mut self,
        frame: &Frame,
        format: StillFormat,
        quality: u8,
        max_width: u32,
    ) -> Result<EncodedStill, Error> {
        let (width, height) = frame.display_size();
        let (width, height) = fit(width, height, max_width, u32::MAX);
        let data = match format {
            StillFormat::Jpeg => self.jpeg.encode(frame, quality, max_width, u32::MAX)?,
            StillFormat::Png => {
                let view = self.scaler.convert(frame, width, height, Colour::JPEG)?;
                let full = copy_to_frame(&view, width, height, Pixel::YUVJ420P);
                let rgb = to_rgb(&full)?;
                encode_one(Id::PNG.name(), codec::encoder::find(Id::PNG), &rgb, &[])?
            }
            StillFormat::Webp => {
                // Colour space of the format: limited range, BT.601 (RFC 9649 2.5).
                let colour = Colour {
                    range: Range::Limited,
                    matrix: Matrix::Bt601,
                };
                let view = self.scaler.convert(frame, width, height, colour)?;
                let image = copy_to_frame(&view, width, height, Pixel::YUV420P);
                let webp = codec::encoder::find_by_name("libwebp");
                let quality = quality.to_string();
                encode_one("libwebp", webp, &image, &[("quality", &quality)])?
            }
        };
        Ok(EncodedStill {
            data,
            width,
            height,
        })
    }
}

/// Copies planes into a libav frame.
fn copy_to_frame(
    view: &I420View<'_>,
    width: u32,
    height: u32,
    format: Pixel,
) -> ffmpeg::frame::Video {
    let mut image = ffmpeg::frame::Video::new(format, width, height);
    for plane in 0..3 {
        fill_plane(&mut image, plane, view);
    }
    image
}

fn to_rgb(image: &ffmpeg::frame::Video) -> Result<ffmpeg::frame::Video, Error> {
    let (width, height) = (image.width(), image.height());
    let failed = |source| Error::Scale {
        width,
        height,
        format: "yuvj420p".into(),
        source,
    };
    let mut rgb = ffmpeg::frame::Video::empty();
    scaling::Context::get(
        image.format(),
        width,
        height,
        Pixel::RGB24,
        width,
        height,
        scaling::Flags::BILINEAR,
    )
    .and_then(|mut context| context.run(image, &mut rgb))
    .map_err(failed)?;
    Ok(rgb)
}

fn encode_one(
    name: &'static str,
    found: Option<ffmpeg::Codec>,
    image: &ffmpeg::frame::Video,
    options: &[(&str, &str)],
) -> Result<Bytes, Error> {
    let found = found.ok_or(Error::Missing { what: name })?;
    let open = |source| Error::Open {
        what: format!("{name} encoder"),
        source,
    };
    let mut encoder = codec::Context::new_with_codec(found)
        .encoder()
        .video()
        .map_err(open)?;
    encoder.set_width(image.width());
    encoder.set_height(image.height());
    encoder.set_format(image.format());
    encoder.set_time_base(Rational(1, 25));
    let options: Dictionary<'_> = options.iter().copied().collect();
    let mut encoder = encoder.open_as_with(found, options).map_err(open)?;
    let failed = |source| Error::Encode { pts: 0, source };
    let mut packet = codec::packet::Packet::empty();
    encoder.send_frame(image).map_err(failed)?;
    encoder.send_eof().map_err(failed)?;
    encoder.receive_packet(&mut packet).map_err(failed)?;
    Ok(Bytes::copy_from_slice(packet.data().unwrap_or_default()))
}
