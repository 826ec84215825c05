//! Screen content of a fake device, upright and turned, encoded once; and a `nal` viewer that identifies each picture
//! it receives by comparing bytes.

use crate::{
    Gateway, Nal,
    camera::COUNT,
    media::{cut, encode_pattern, nals_of, pictures},
    within,
};
use bytes::Bytes;
use sluicegate_media::h264::nal;
use std::{collections::HashMap, sync::OnceLock};

/// Encoded pictures in the form that a device's encoder outputs: parameter sets separately, then slices.
pub struct Film {
    pub size: (u32, u32),
    /// SPS and PPS.
    pub sets: Vec<Bytes>,
    /// Slices of each picture; only the first picture is an IDR picture.
    pub pictures: Vec<Vec<Bytes>>,
}

/// A picture that a viewer received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
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
        // Only the first picture is a keyframe: more are sent only on request.
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
        let slices = |picture: Vec<Bytes>| {
            picture
                .iter()
                .filter(of(&[nal::SLICE, nal::IDR]))
                .cloned()
                .collect()
        };
        let pictures: Vec<Vec<Bytes>> = pictures(&nals).into_iter().map(slices).collect();
        assert_eq!(pictures.len(), COUNT);
        Film {
            size,
            sets,
            pictures,
        }
    }

    /// Finds the picture of either film that has exactly these NAL units.
    pub fn find(nals: &[Bytes]) -> Option<Seen> {
        static PLACES: OnceLock<HashMap<Vec<Bytes>, Seen>> = OnceLock::new();
        let places = PLACES.get_or_init(|| {
            let both = [false, true].into_iter();
            let all = both.flat_map(|turned| {
                let pictures = Film::get(turned).pictures.iter().enumerate();
                pictures.map(move |(place, picture)| (picture.clone(), Seen { turned, place }))
            });
            all.collect()
        });
        assert_eq!(places.len(), 2 * COUNT, "pictures that are alike");
        let slices = nals
            .iter()
            .filter(|unit| matches!(nal::unit_type(unit), nal::SLICE | nal::IDR));
        places.get(&slices.cloned().collect::<Vec<_>>()).copied()
    }
}

/// A viewer of `nal` that identifies the pictures it receives.
pub struct Watching(Nal);

impl Watching {
    /// Connects to a stream, given in path form.
    pub async fn open(gateway: &Gateway, stream: &str) -> Watching {
        let viewer = within("connect", Nal::connect(gateway.address, stream)).await;
        Watching(viewer.unwrap())
    }

    /// Waits for the next picture.
    pub async fn next(&mut self) -> Seen {
        loop {
            let message = within("a picture", self.0.next()).await.unwrap();
            let nals = cut(&message);
            if let Some(seen) = Film::find(&nals) {
                return seen;
            }
            let kinds: Vec<u8> = nals.iter().map(|unit| nal::unit_type(unit)).collect();
            let is_picture = kinds
                .iter()
                .any(|kind| matches!(*kind, nal::SLICE | nal::IDR));
            assert!(!is_picture, "not a picture of the films: {kinds:?}");
        }
    }
}
