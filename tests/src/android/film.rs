//! Screen content of a fake device, upright and turned, encoded once; and a `nal` viewer that identifies each frame it
//! receives by comparing bytes.

use crate::{
    Gateway, Nal,
    camera::COUNT,
    media::{cut, encode_pattern, frames, nals_of},
    within,
};
use bytes::Bytes;
use sluicegate_media::h264::nal;
use std::{collections::HashMap, sync::OnceLock};

/// Encoded frames in the form that a device's encoder outputs: parameter sets separately, then slices.
pub struct Film {
    pub size: (u32, u32),
    /// SPS and PPS.
    pub sets: Vec<Bytes>,
    /// Slices of each frame; only the first frame is an IDR frame.
    pub frames: Vec<Vec<Bytes>>,
}

/// A frame that a viewer received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// Whether it belongs to the turned film.
    pub turned: bool,
    /// Index in the film.
    pub place: usize,
}

impl Film {
    /// The film of the upright or turned screen.
    pub fn get(turned: bool) -> &'static Film {
        static FILMS: OnceLock<[Film; 2]> = OnceLock::new();
        let films = FILMS.get_or_init(|| [Film::new((320, 192)), Film::new((192, 320))]);
        &films[usize::from(turned)]
    }

    fn new(size: (u32, u32)) -> Film {
        // Only the first frame is a keyframe: more are sent only on request.
        let arguments = [
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-bf",
            "0",
            "-g",
            "1000",
            "-sc_threshold",
            "0",
        ];
        let file = encode_pattern("screen.h264", size, 0, COUNT as u64, &arguments);
        let nals = nals_of(&file);
        let of =
            |wanted: &'static [u8]| move |unit: &&Bytes| wanted.contains(&nal::unit_type(unit));
        let sets: Vec<Bytes> = nals
            .iter()
            .take(4)
            .filter(of(&[nal::SPS, nal::PPS]))
            .cloned()
            .collect();
        assert_eq!(sets.len(), 2);
        let slices = |frame: Vec<Bytes>| {
            frame
                .iter()
                .filter(of(&[nal::SLICE, nal::IDR]))
                .cloned()
                .collect()
        };
        let frames: Vec<Vec<Bytes>> = frames(&nals).into_iter().map(slices).collect();
        assert_eq!(frames.len(), COUNT);
        Film { size, sets, frames }
    }

    /// Finds the frame of either film that has exactly these NAL units.
    pub fn find(nals: &[Bytes]) -> Option<ReceivedFrame> {
        static PLACES: OnceLock<HashMap<Vec<Bytes>, ReceivedFrame>> = OnceLock::new();
        let places = PLACES.get_or_init(|| {
            let both = [false, true].into_iter();
            let all = both.flat_map(|turned| {
                let frames = Film::get(turned).frames.iter().enumerate();
                frames.map(move |(place, frame)| (frame.clone(), ReceivedFrame { turned, place }))
            });
            all.collect()
        });
        assert_eq!(places.len(), 2 * COUNT, "frames that are alike");
        let slices = nals
            .iter()
            .filter(|unit| matches!(nal::unit_type(unit), nal::SLICE | nal::IDR));
        places.get(&slices.cloned().collect::<Vec<_>>()).copied()
    }
}

/// A viewer of `nal` that identifies the frames it receives.
pub struct FilmViewer(Nal);

impl FilmViewer {
    /// Connects to a stream, given in path form.
    pub async fn open(gateway: &Gateway, stream: &str) -> FilmViewer {
        let viewer = within("connect", Nal::connect(gateway.address, stream)).await;
        FilmViewer(viewer.unwrap())
    }

    /// Waits for the next frame.
    pub async fn next(&mut self) -> ReceivedFrame {
        loop {
            let message = within("a frame", self.0.next()).await.unwrap();
            let nals = cut(&message);
            if let Some(seen) = Film::find(&nals) {
                return seen;
            }
            let kinds: Vec<u8> = nals.iter().map(|unit| nal::unit_type(unit)).collect();
            let is_frame = kinds
                .iter()
                .any(|kind| matches!(*kind, nal::SLICE | nal::IDR));
            assert!(!is_frame, "not a frame of the films: {kinds:?}");
        }
    }
}
