//! Compares what viewers decode with what the source decodes to, frame by frame. The MD5 of every decoded frame must
//! match on each transport.

use crate::{
    Gateway, Nal,
    client::is_header,
    hls::player::{self, playlist},
    media::{cut, ffmpeg, with_start_codes},
    mp4::{self, Part},
    mse::{Mse, Received},
    scratch, within,
};
use bytes::Bytes;
use std::{net::SocketAddr, path::Path};

/// MD5 of each frame that these NAL units decode to, in display order, computed by the ffmpeg program.
pub fn decoded(nals: &[Bytes]) -> Vec<String> {
    let folder = scratch("exact");
    let (stream, sums) = (folder.join("stream.h264"), folder.join("sums"));
    std::fs::write(&stream, with_start_codes(nals, |_| 4)).unwrap();
    decoded_file(&stream, &sums)
}

fn decoded_file(stream: &Path, sums: &Path) -> Vec<String> {
    ffmpeg(|command| {
        command
            .args(["-f", "h264", "-i"])
            .arg(stream)
            .args(["-fps_mode", "passthrough", "-f", "framemd5"])
            .arg(sums)
    });
    let text = std::fs::read_to_string(sums).unwrap();
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    let sum = |line: &str| line.rsplit(',').next().unwrap().trim().to_owned();
    frames.map(sum).collect()
}

/// Samples received over one transport.
#[derive(Debug, Default)]
pub struct Got {
    /// Parameter sets, followed by the NAL units of all samples.
    pub nals: Vec<Bytes>,
    /// Number of samples received.
    pub samples: usize,
    /// Presentation and decode time of each sample in ticks; MP4 only.
    pub times: Vec<(u64, u64)>,
    /// Number of configurations (headers or init segments) received.
    pub headers: usize,
    /// MIME type of the first configuration.
    pub codec: String,
    /// Level in the decoder configuration.
    pub level: u8,
}

/// Receives the first `count` samples over `nal`.
pub async fn by_nal(address: SocketAddr, stream: &str, count: usize) -> Got {
    let mut viewer = within("connect", Nal::connect(address, stream))
        .await
        .unwrap();
    let mut got = Got::default();
    got.more_nal(&mut viewer, count).await;
    got
}

/// Receives the first `count` samples over `mse`.
pub async fn by_mse(address: SocketAddr, stream: &str, count: usize) -> Got {
    let mut viewer = Mse::connect(address, stream).await;
    let mut got = Got::default();
    got.more_mse(&mut viewer, count).await;
    got
}

/// Receives the samples of all listed segments as soon as these have `count` samples.
pub async fn by_hls(address: SocketAddr, stream: &str, count: usize) -> Got {
    let base = format!("/live/{stream}/hls/");
    let path = format!("{base}media.m3u8");
    loop {
        let (list, text) = within("a playlist", playlist(address, &path)).await;
        let mut got = Got::default();
        let mut map = None;
        for segment in list.segments.iter().chain([&list.open]) {
            let uris = match segment.uri.as_str() {
                "" => segment.parts.iter().map(|part| part.uri.clone()).collect(),
                whole => vec![whole.to_owned()],
            };
            if segment.map.is_some() && segment.map != map {
                map = segment.map.clone();
                let uri = map.as_ref().map(|map| map.uri.clone()).unwrap();
                let (_, moov) = mp4::init(&fetch(address, &base, &uri).await);
                got.configure(&moov);
            }
            for uri in uris {
                let bytes = fetch(address, &base, &uri).await;
                for part in mp4::read(&bytes).0 {
                    if let Part::Fragment(fragment) = part {
                        got.take(&fragment.samples);
                    }
                }
            }
        }
        if got.samples >= count {
            return got;
        }
        // The request for the next part returns when that part exists.
        let next = player::hint(&list).unwrap_or_else(|| panic!("no hint: {text}"));
        fetch(address, &base, &next).await;
    }
}

async fn fetch(address: SocketAddr, base: &str, uri: &str) -> Vec<u8> {
    let path = player::resolve(base, uri);
    let (status, _, body) = within(&path, player::get(address, &path)).await;
    assert_eq!(status, 200, "{path}");
    body
}

impl Got {
    /// Receives from a `nal` viewer until there are `count` samples.
    pub async fn more_nal(&mut self, viewer: &mut Nal, count: usize) {
        while self.samples < count {
            let message = within("a frame over nal", viewer.next()).await.unwrap();
            let nals = cut(&message);
            match is_header(&nals) {
                true => self.headers += 1,
                false => self.samples += 1,
            }
            self.nals.extend(nals);
        }
    }

    /// Receives from an `mse` viewer until there are `count` samples.
    pub async fn more_mse(&mut self, viewer: &mut Mse, count: usize) {
        while self.samples < count {
            match within("a fragment", viewer.next()).await.unwrap() {
                Received::Type(mime) if self.headers == 0 => self.codec = mime,
                Received::Type(_) => {}
                Received::Part(Part::Init(_, moov)) => self.configure(&moov),
                Received::Part(Part::Fragment(fragment)) => self.take(&fragment.samples),
            }
        }
    }

    fn configure(&mut self, moov: &mp4_atom::Moov) {
        let entry = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0];
        let avcc = match entry {
            mp4_atom::Codec::Avc1(entry) => &entry.avcc,
            mp4_atom::Codec::Avc3(entry) => &entry.avcc,
            other => panic!("no H.264: {other:?}"),
        };
        self.headers += 1;
        self.level = avcc.avc_level_indication;
        let (sps, pps) = (&avcc.sequence_parameter_sets, &avcc.picture_parameter_sets);
        let sets = sps.iter().chain(pps);
        self.nals
            .extend(sets.map(|nal| Bytes::copy_from_slice(nal)));
    }

    fn take(&mut self, samples: &[mp4::Sample]) {
        for sample in samples {
            self.samples += 1;
            self.times
                .push((sample.presentation_time(), sample.decode_time));
            self.nals.extend(nals_in(&sample.data));
        }
    }
}

/// NAL units of a sample in which each follows its length.
pub fn nals_in(mut data: &[u8]) -> Vec<Bytes> {
    let mut nals = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        nals.push(Bytes::copy_from_slice(nal));
        data = rest;
    }
    assert!(data.is_empty());
    nals
}

/// Plays `file` on each transport, each on its own stream so that each starts with the file, and compares the frames of
/// the first `count` samples with `expected`. Returns what arrived over `nal`, `mse` and `hls`.
pub async fn on_every_transport(file: &Path, count: usize, expected: &[String]) -> [Got; 3] {
    let stream = |name: &str| format!("[streams.{name}]\nsource = \"file:{}\"\n", file.display());
    let config: String = ["nal", "mse", "hls"].map(stream).concat();
    let gateway = Gateway::with_config(&config).await;
    let (nal, mse, hls) = tokio::join!(
        by_nal(gateway.address, "nal", count),
        by_mse(gateway.address, "mse", count),
        by_hls(gateway.address, "hls", count),
    );
    let all = [nal, mse, hls];
    for (got, transport) in all.iter().zip(["nal", "mse", "hls"]) {
        let frames = decoded(&got.nals);
        let same = frames
            .iter()
            .zip(expected)
            .take_while(|(one, other)| one == other);
        assert!(
            same.count() >= expected.len(),
            "{transport}, {}: {} frames of {}, {frames:?}, not {expected:?}",
            file.display(),
            frames.len(),
            expected.len(),
        );
    }
    all
}
