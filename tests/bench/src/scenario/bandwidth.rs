//! The same scene as JPEGs and as H.264 at several bit rates: bytes needed for equal similarity to the original, and
//! the network traffic of each transport.

use crate::{
    bench::Bench,
    client::Client,
    hls::{Player, ResponseKind},
    load::request,
    report::Table,
    scene::{Scene, bytes_at},
    wire::{Cutter, Kind},
};
use anyhow::{Context, Result, anyhow, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Bit rates given to the encoder for the renditions, in bits per second.
const RATES: [u32; 5] = [500_000, 1_000_000, 1_500_000, 2_500_000, 4_000_000];
/// Target ratio of MJPEG's bytes to those of HLS.
const AIM: f64 = 5.0;

/// Time for encoders to reach their rate, viewers to pass their initial burst, and playlists to reach their full
/// length.
const SETTLED: Duration = Duration::from_secs(25);

/// Records all of them at the same time, from one gateway.
pub fn run(bench: &Bench) -> Result<[Table; 2]> {
    let settled = bench.pick(Duration::from_secs(3), SETTLED);
    let frames = bench.pick(40, Scene::COUNT - 20);
    let rates = bench.pick(&RATES[..3], &RATES);
    let scene = Scene::make(&bench.dir)?;
    let mut config = format!(
        "[streams.scene]\nsource = \"file:{}\"\n",
        scene.file.display()
    );
    for rate in rates {
        let name = rendition(*rate);
        config += &format!("renditions.{name} = {{ bitrate = \"{}k\" }}\n", rate / 1000);
    }
    let gateway = bench.serve(&config)?;
    let address = gateway.address;
    let place = |name: &str| bench.dir.join("bytes").join(name);
    fs::create_dir_all(place(""))?;

    let (jpegs, films) = thread::scope(|scope| -> Result<_> {
        let jpegs = scope.spawn(|| record_jpegs(address, &place("scene.mjpeg"), settled, frames));
        let films: Vec<_> = rates
            .iter()
            .map(|rate| {
                let path = place(&format!("{}.mp4", rendition(*rate)));
                scope.spawn(move || record_hls(address, *rate, path, settled, frames))
            })
            .collect();
        let films: Result<Vec<Recording>> = films.into_iter().map(joined).collect();
        Ok((joined(jpegs)?, films?))
    })?;

    let mut table = Table::new(
        "bytes",
        &[
            "<stream",
            "SSIM",
            "KB per frame",
            "Mbit/s",
            "media only, Mbit/s",
            "frames",
        ],
    );
    let jpegs_alike = jpegs.judge(&scene, &mut table)?;
    let mut alike = Vec::new();
    for film in &films {
        alike.push((film, film.judge(&scene, &mut table)?));
    }
    let points = |bytes: fn(&Recording) -> f64| -> Vec<(f64, f64)> {
        alike
            .iter()
            .map(|(film, ssim)| (bytes(film), *ssim))
            .collect()
    };
    let [equal, equal_media] = [
        Recording::each as fn(&Recording) -> f64,
        Recording::media_each,
    ]
    .map(|bytes| bytes_at(&points(bytes), jpegs_alike));
    match (equal, equal_media) {
        (Some(equal), Some(media)) => {
            table.note(format!(
                "At MJPEG's SSIM, interpolated between renditions, HLS takes {:.1} KB per frame with playlists and headers and {:.1} without: \
                 MJPEG takes {:.1} and {:.1} times as much.",
                equal / 1e3,
                media / 1e3,
                jpegs.each() / equal,
                jpegs.media_each() / media,
            ));
            // The target is a minimum, but `aim` checks a maximum, so both are inverted.
            table.aim(
                "bytes of HLS relative to MJPEG at MJPEG's SSIM",
                equal / jpegs.each(),
                1.0 / AIM,
                |part| format!("{part:.3}"),
            );
        }
        _ => table.note(format!(
            "Target **missed**: MJPEG's SSIM of {jpegs_alike:.4} is not within the range of the renditions."
        )),
    }

    // The rendition whose similarity is nearest to MJPEG's, also over the other transports.
    let distance = |ssim: f64| (ssim - jpegs_alike).abs();
    let nearest = alike
        .iter()
        .min_by(|one, other| distance(one.1).total_cmp(&distance(other.1)));
    let (nearest, ssim) = nearest.context("no renditions")?;
    let mut methods = Table::new(
        "methods",
        &["<transport", "SSIM", "Mbit/s", "media only, Mbit/s"],
    );
    for transport in ["nal", "mse"] {
        let (bytes, media) = receive(address, &nearest.name, transport, settled, frames)?;
        let mbit = |bytes: u64| format!("{:.2}", megabits(bytes as f64 / frames as f64));
        methods.row([
            transport.to_owned(),
            format!("{ssim:.4}"),
            mbit(bytes),
            mbit(media),
        ]);
    }
    for (name, recording, ssim) in [("hls", *nearest, *ssim), ("mjpeg", &jpegs, jpegs_alike)] {
        methods.row([
            name.to_owned(),
            format!("{ssim:.4}"),
            format!("{:.2}", megabits(recording.each())),
            format!("{:.2}", megabits(recording.media_each())),
        ]);
    }
    methods.note(format!("H.264 is the rendition {}.", nearest.name));
    Ok([table, methods])
}

fn rendition(rate: u32) -> String {
    format!("k{}", rate / 1000)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a recorder failed"))?
}

/// Mbit/s at the scene's frame rate.
fn megabits(bytes_per_frame: f64) -> f64 {
    bytes_per_frame * 8.0 * Scene::RATE as f64 / 1e6
}

/// What one viewer received, as a file.
struct Recording {
    name: String,
    path: PathBuf,
    /// All bytes received for these frames.
    bytes: u64,
    /// Bytes of the parts' bodies, or of the JPEGs.
    media: u64,
    frames: u64,
}

impl Recording {
    /// Bytes received per frame.
    fn each(&self) -> f64 {
        self.bytes as f64 / self.frames.max(1) as f64
    }

    /// Media bytes per frame.
    fn media_each(&self) -> f64 {
        self.media as f64 / self.frames.max(1) as f64
    }

    /// Adds a row to the table; returns the similarity to the scene.
    fn judge(&self, scene: &Scene, table: &mut Table) -> Result<f64> {
        let (similarity, shown) = scene.similarity(&self.path)?;
        ensure!(
            shown == self.frames,
            "{}: {shown} of {} frames can be decoded",
            self.name,
            self.frames
        );
        table.row([
            self.name.clone(),
            format!("{similarity:.4}"),
            format!("{:.1}", self.each() / 1e3),
            format!("{:.2}", megabits(self.each())),
            format!("{:.2}", megabits(self.media_each())),
            self.frames.to_string(),
        ]);
        Ok(similarity)
    }
}

/// JPEGs of the base stream, without `?quality=`.
fn record_jpegs(
    address: SocketAddr,
    path: &Path,
    settled: Duration,
    frames: u64,
) -> Result<Recording> {
    let mut jpegs = Vec::new();
    let bytes = watch(
        address,
        "/live/scene/mjpeg",
        Kind::Multipart,
        settled,
        frames,
        &mut |jpeg| {
            jpegs.extend_from_slice(jpeg);
        },
    )?;
    fs::write(path, &jpegs)?;
    Ok(Recording {
        name: "mjpeg".to_owned(),
        path: path.to_owned(),
        bytes,
        media: jpegs.len() as u64,
        frames,
    })
}

/// Bytes received and bytes of H.264 for a number of frames of a rendition over WebSocket.
fn receive(
    address: SocketAddr,
    rendition: &str,
    transport: &str,
    settled: Duration,
    frames: u64,
) -> Result<(u64, u64)> {
    let path = format!("/live/scene@{rendition}/{transport}");
    let mut media = 0;
    let bytes = watch(
        address,
        &path,
        Kind::WebSocket,
        settled,
        frames,
        &mut |message| {
            media += message.len() as u64;
        },
    )?;
    Ok((bytes, media))
}

/// Watches `frames` frames after `settled`; returns the bytes received for them. Between two frames nothing is in
/// transit, so a read never ends inside a frame.
fn watch(
    address: SocketAddr,
    path: &str,
    kind: Kind,
    settled: Duration,
    frames: u64,
    message: &mut dyn FnMut(&[u8]),
) -> Result<u64> {
    let mut client = Client::connect(address)?;
    client.write(request(kind, address, path).as_bytes())?;
    let (mut cutter, mut began, mut seen) = (Cutter::new(kind, usize::MAX), None, 0);
    let start = Instant::now();
    while seen < frames {
        let read = client.read()?.to_vec();
        let mut ended = false;
        cutter.take(&read, &mut |whole, _| {
            ended = true;
            if began.is_some() && seen < frames {
                message(whole);
                seen += 1;
            }
        })?;
        if ended && start.elapsed() > settled {
            began.get_or_insert(client.received);
        }
    }
    Ok(client.received - began.unwrap_or_default())
}

/// Records a rendition as a low-latency player receives it, from the first segment that starts after `settled`.
fn record_hls(
    address: SocketAddr,
    rate: u32,
    path: PathBuf,
    settled: Duration,
    frames: u64,
) -> Result<Recording> {
    let name = rendition(rate);
    let folder = format!("/live/scene@{name}/hls/");
    let (mut client, mut player) = (Client::connect(address)?, Player::with_init());
    let (mut file, mut media, mut began, mut seen) = (Vec::new(), 0, None, 0);
    let start = Instant::now();
    while seen < frames {
        let (uri, _) = player.ask()?;
        let before = client.received;
        let (status, body) = client.get(&format!("{folder}{uri}"))?;
        match player.answered(status, &body)? {
            ResponseKind::Init => file.extend_from_slice(&body),
            ResponseKind::Part(place)
                if began.is_some() || (place.part == 0 && start.elapsed() > settled) =>
            {
                began.get_or_insert(before);
                seen += samples(&body).with_context(|| format!("{place:?}"))?;
                media += body.len() as u64;
                file.extend_from_slice(&body);
            }
            ResponseKind::Part(_) | ResponseKind::Playlist => {}
        }
    }
    fs::write(&path, &file)?;
    Ok(Recording {
        name,
        path,
        bytes: client.received - began.unwrap_or_default(),
        media,
        frames: seen,
    })
}

/// Number of samples in a fragment: `sample_count` of `trun` (8.8.8).
fn samples(fragment: &[u8]) -> Result<u64> {
    let trun = fragment.windows(4).position(|kind| kind == b"trun");
    let trun = trun.context("no `trun`")?;
    let count = fragment.get(trun + 8..trun + 12).context("a cut `trun`")?;
    Ok(count
        .iter()
        .fold(0, |count, byte| count << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::film::{Stamp, tests::film};

    #[test]
    fn samples_of_a_fragment_are_counted() {
        let film = film(&[b"\0\0\0\x01\x65a", b"\0\0\0\x01\x41b"]);
        for count in [1, 2, 6] {
            let fragment = film.fragment(Stamp { number: 0, sent: 1 }, count).unwrap();
            assert_eq!(samples(&fragment).unwrap(), count);
        }
        assert!(samples(b"moof").is_err());
    }
}
