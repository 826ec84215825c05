//! One decoded picture.

use ffmpeg::color::{Range as AvRange, Space};
use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::colour::{Colour, Matrix, Range};
use sluicegate_media::{
    geometry::{Geometry, PixelAspect},
    picture::View,
};

/// Pictures of more lines than this are HD, and HD that names no matrix is taken for BT.709, as browsers do.
const SD_LINES: u32 = 576;

/// A decoded picture: owned, counted by libav, cheap to move, safe to share behind an `Arc`.
pub struct Frame {
    video: ffmpeg::frame::Video,
    geometry: Geometry,
}

impl Frame {
    /// Pixels across, as coded.
    pub fn width(&self) -> u32 {
        self.video.width()
    }

    /// Pixels down, as coded.
    pub fn height(&self) -> u32 {
        self.video.height()
    }

    /// The memory of its samples.
    pub fn bytes(&self) -> usize {
        (0..self.video.planes())
            .map(|plane| self.video.data(plane).len())
            .sum()
    }

    /// The same picture, to be shown so: for who knows more than the coded picture says.
    pub fn shown(self, geometry: Geometry) -> Frame {
        Frame { geometry, ..self }
    }

    /// How it is to be shown: unless told otherwise upright, with pixels of the shape that the coded picture says.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Width and height in square pixels, upright: what [`super::Scaler`] makes no other shape of.
    pub fn display_size(&self) -> (u32, u32) {
        self.geometry.display_size(self.width(), self.height())
    }

    /// The time given with its access unit, 90 kHz; libavcodec's best guess where only decode times were given.
    pub fn pts(&self) -> Option<i64> {
        self.video.timestamp().or(self.video.pts())
    }

    /// Whether it was coded without reference to others.
    pub fn is_key(&self) -> bool {
        self.video.is_key()
    }

    /// Whether parts of it were lost or guessed.
    pub fn is_corrupt(&self) -> bool {
        self.video.is_corrupt() || self.video.has_decode_errors()
    }

    /// libav's pixel format.
    pub fn format(&self) -> Pixel {
        self.video.format()
    }

    /// What its samples mean. A picture that does not say is taken as limited range; as BT.709 above 576 lines and
    /// BT.601 below.
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

    /// Its planes, if it is planar 4:2:0 with 8 bits and even sides; others go through [`super::Scaler`].
    pub fn view(&self) -> Option<View<'_>> {
        view_of(&self.video)
    }

    /// The picture as libav has it.
    pub(super) fn video(&self) -> &ffmpeg::frame::Video {
        &self.video
    }
}

impl From<ffmpeg::frame::Video> for Frame {
    /// Takes over a picture that came from a decoder or a raw source.
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

/// The planes of a picture, if it is planar 4:2:0 with 8 bits and even sides.
pub(super) fn view_of(video: &ffmpeg::frame::Video) -> Option<View<'_>> {
    if !matches!(video.format(), Pixel::YUV420P | Pixel::YUVJ420P) || video.planes() < 3 {
        return None;
    }
    let planes = [video.data(0), video.data(1), video.data(2)];
    View::new(
        video.width(),
        video.height(),
        planes,
        [video.stride(0), video.stride(1), video.stride(2)],
    )
    .ok()
}

/// Copies a plane of a picture into libav's own, of the same size.
pub(super) fn fill_plane(into: &mut ffmpeg::frame::Video, plane: usize, from: &View<'_>) {
    let stride = into.stride(plane);
    let rows = into.data_mut(plane).chunks_mut(stride);
    for (from, to) in from.rows(plane).zip(rows) {
        to[..from.len()].copy_from_slice(from);
    }
}
