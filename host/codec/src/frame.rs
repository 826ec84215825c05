//! One decoded frame: libav's buffer with its geometry and colour space.

use ffmpeg::color::{Range as AvRange, Space};
use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::colour::{Colour, Matrix, Range};
use sluicegate_media::{
    geometry::{Geometry, PixelAspect},
    image::I420View,
};

/// Frames with more lines are HD; HD without a signalled matrix is treated as BT.709, as browsers do.
const SD_LINES: u32 = 576;

/// A decoded frame: owned, reference-counted by libav, cheap to move, safe to share behind an `Arc`.
pub struct Frame {
    video: ffmpeg::frame::Video,
    geometry: Geometry,
}

impl Frame {
    /// Coded width in pixels.
    pub fn width(&self) -> u32 {
        self.video.width()
    }

    /// Coded height in pixels.
    pub fn height(&self) -> u32 {
        self.video.height()
    }

    /// Size of its sample buffers in bytes.
    pub fn bytes(&self) -> usize {
        (0..self.video.planes())
            .map(|plane| self.video.data(plane).len())
            .sum()
    }

    /// The same frame with another geometry, for callers that know more than the coded frame contains, such as a
    /// container's rotation.
    pub fn with_geometry(self, geometry: Geometry) -> Frame {
        Frame { geometry, ..self }
    }

    /// How to display it. Default: upright, with the pixel aspect ratio of the coded frame.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Width and height in square pixels, upright: the shape that [`super::Scaler`] preserves.
    pub fn display_size(&self) -> (u32, u32) {
        self.geometry.display_size(self.width(), self.height())
    }

    /// Presentation time given with its access unit, 90 kHz; libavcodec's best guess if only decode times were given.
    pub fn pts(&self) -> Option<i64> {
        self.video.timestamp().or(self.video.pts())
    }

    /// Whether it was coded without reference to other frames.
    pub fn is_key(&self) -> bool {
        self.video.is_key()
    }

    /// Whether parts of it were lost or concealed.
    pub fn is_corrupt(&self) -> bool {
        self.video.is_corrupt() || self.video.has_decode_errors()
    }

    /// Pixel format of libav.
    pub fn format(&self) -> Pixel {
        self.video.format()
    }

    /// Colour space of its samples. Without signalling, limited range is assumed, and BT.709 above 576 lines, BT.601
    /// otherwise.
    pub fn colour(&self) -> Colour {
        use Pixel::{YUVJ411P, YUVJ420P, YUVJ422P, YUVJ440P, YUVJ444P};
        let range = match (self.video.color_range(), self.format()) {
            (AvRange::JPEG, _) => Range::Full,
            (_, YUVJ411P | YUVJ420P | YUVJ422P | YUVJ440P | YUVJ444P) => Range::Full,
            (AvRange::Unspecified, Pixel::GRAY8) => Range::Full,
            _ => Range::Limited,
        };
        let matrix = match self.video.color_space() {
            Space::BT709 => Matrix::Bt709,
            Space::BT470BG | Space::SMPTE170M => Matrix::Bt601,
            Space::BT2020NCL | Space::BT2020CL => Matrix::Bt2020,
            _ if self.height() > SD_LINES => Matrix::Bt709,
            _ => Matrix::Bt601,
        };
        Colour { range, matrix }
    }

    /// Its planes, if it is 8-bit planar 4:2:0 with even sides; other frames go through [`super::Scaler`].
    pub fn view(&self) -> Option<I420View<'_>> {
        view_of(&self.video)
    }

    /// The frame in libav's type.
    pub(super) fn video(&self) -> &ffmpeg::frame::Video {
        &self.video
    }
}

impl From<ffmpeg::frame::Video> for Frame {
    /// Wraps a frame that came from a decoder or a raw source.
    fn from(video: ffmpeg::frame::Video) -> Self {
        let told = video.aspect_ratio();
        let side = |side: i32| u32::try_from(side).unwrap_or(0);
        let pixel_aspect = PixelAspect::new(side(told.numerator()), side(told.denominator()));
        let geometry = Geometry {
            pixel_aspect: pixel_aspect.unwrap_or_default(),
            ..Geometry::default()
        };
        Self { video, geometry }
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("width", &self.width())
            .field("height", &self.height())
            .field("geometry", &self.geometry)
            .field("format", &self.format())
            .field("pts", &self.pts())
            .field("corrupt", &self.is_corrupt())
            .finish_non_exhaustive()
    }
}

/// The planes of a frame, if it is 8-bit planar 4:2:0 with even sides.
pub(super) fn view_of(video: &ffmpeg::frame::Video) -> Option<I420View<'_>> {
    if !matches!(video.format(), Pixel::YUV420P | Pixel::YUVJ420P) || video.planes() < 3 {
        return None;
    }
    let planes = [video.data(0), video.data(1), video.data(2)];
    I420View::new(
        video.width(),
        video.height(),
        planes,
        [video.stride(0), video.stride(1), video.stride(2)],
    )
    .ok()
}

/// Copies a plane into a libav frame of the same size.
pub(super) fn fill_plane(into: &mut ffmpeg::frame::Video, plane: usize, from: &I420View<'_>) {
    let stride = into.stride(plane);
    let rows = into.data_mut(plane).chunks_mut(stride);
    for (from, to) in from.rows(plane).zip(rows) {
        to[..from.len()].copy_from_slice(from);
    }
}
