//! Reads fragmented MP4 with a third-party library, as a check that is independent of our writer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use mp4_atom::{Any, DecodeMaybe, Ftyp, Moof, Moov, Prft};

/// A unit of a fragmented MP4 stream.
#[derive(Debug)]
pub enum Part {
    Init(Ftyp, Box<Moov>),
    Fragment(Fragment),
}

/// A `moof` with its `mdat` and the boxes before it.
#[derive(Debug, Default)]
pub struct Fragment {
    pub segment_starts: bool,
    pub reference: Option<Prft>,
    pub moof: Moof,
    pub samples: Vec<Sample>,
}

/// A sample as a player would read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub track: u32,
    pub decode_time: u64,
    pub offset: i32,
    pub duration: u32,
    pub independent: bool,
    pub data: Vec<u8>,
}

impl Sample {
    pub fn presentation_time(&self) -> u64 {
        self.decode_time
            .checked_add_signed(self.offset.into())
            .unwrap()
    }
}

/// Parses the complete units in `bytes`; also returns the offset of the rest.
pub fn read(bytes: &[u8]) -> (Vec<Part>, usize) {
    let (mut parts, mut rest, mut whole) = (Vec::new(), bytes, 0);
    let (mut ftyp, mut fragment) = (None, Fragment::default());
    let mut moof_at = 0;
    loop {
        let at = bytes.len() - rest.len();
        let Some(atom) = Any::decode_maybe(&mut rest).expect("a box") else {
            return (parts, whole);
        };
        let end = bytes.len() - rest.len();
        match atom {
            Any::Ftyp(atom) => ftyp = Some(atom),
            Any::Moov(moov) => {
                parts.push(Part::Init(
                    ftyp.take().expect("`ftyp` before `moov`"),
                    Box::new(moov),
                ));
                whole = end;
            }
            Any::Styp(_) => fragment.segment_starts = true,
            Any::Prft(atom) => fragment.reference = Some(atom),
            Any::Moof(moof) => (moof_at, fragment.moof) = (at, moof),
            Any::Mdat(mdat) => {
                let head = end - mdat.data.len() - moof_at;
                fragment.samples = samples(&fragment.moof, head, &mdat.data);
                parts.push(Part::Fragment(std::mem::take(&mut fragment)));
                whole = end;
            }
            other => panic!("an unexpected box: {:?}", other.kind()),
        }
    }
}

/// Parses `bytes` as exactly one fragment.
pub fn fragment(bytes: &[u8]) -> Fragment {
    let (mut parts, end) = read(bytes);
    assert_eq!((parts.len(), end), (1, bytes.len()));
    match parts.remove(0) {
        Part::Fragment(fragment) => fragment,
        Part::Init(..) => panic!("an init segment"),
    }
}

/// Parses `bytes` as exactly one init segment.
pub fn init(bytes: &[u8]) -> (Ftyp, Box<Moov>) {
    let (mut parts, end) = read(bytes);
    assert_eq!((parts.len(), end), (1, bytes.len()));
    match parts.remove(0) {
        Part::Init(ftyp, moov) => (ftyp, moov),
        Part::Fragment(_) => panic!("a fragment"),
    }
}

/// Samples of a fragment. Its payload `data` begins `head` bytes after the start of its `moof`; every byte must belong
/// to exactly one sample.
fn samples(moof: &Moof, head: usize, data: &[u8]) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut used = 0;
    for traf in &moof.traf {
        assert!(
            traf.tfhd.default_base_is_moof,
            "offsets count from the `moof`"
        );
        let mut decode_time = traf.tfdt.as_ref().unwrap().base_media_decode_time;
        for trun in &traf.trun {
            let mut at = usize::try_from(trun.data_offset.unwrap()).unwrap() - head;
            for entry in trun.samples.iter() {
                let (size, flags) = (entry.size.unwrap() as usize, entry.flags.unwrap());
                let independent = flags == 0x0200_0000;
                // Samples after an independent one may lead it.
                let known = [0x0101_0000, 0x0501_0000].contains(&flags);
                assert!(independent || known, "{flags:08x}");
                let duration = entry.duration.unwrap();
                samples.push(Sample {
                    track: traf.tfhd.track_id,
                    decode_time,
                    offset: entry.cts.unwrap().try_into().unwrap(),
                    duration,
                    independent,
                    data: data[at..at + size].to_vec(),
                });
                assert_eq!(at, used, "payload is used in order");
                at += size;
                used = at;
                decode_time += u64::from(duration);
            }
        }
    }
    assert_eq!(used, data.len(), "payload that no sample uses");
    samples
}
