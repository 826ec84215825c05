//! A scene as a camera in a room or a yard sees it, to measure bytes and quality: a still background with detail, two
//! moving objects, a little sensor noise. Each frame shows its number in a form that survives any encoder.

use crate::film::ffmpeg;
use anyhow::{Context, Result, bail, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A scene at 1280×720.
pub struct Scene {
    /// The original: H.264 without visible loss.
    pub file: PathBuf,
}

/// Number of bits of a frame's number, each shown as a black or white square.
const BITS: u64 = 8;
const SQUARE: u64 = 32;

impl Scene {
    /// Frames per second.
    pub const RATE: u64 = 10;
    /// Number of frames before the scene repeats.
    pub const COUNT: u64 = 200;

    /// Encodes the scene into `dir`, unless the file exists.
    pub fn make(dir: &Path) -> Result<Scene> {
        let file = dir.join("scene.mkv");
        if !file.exists() {
            let graph = graph();
            ffmpeg(
                &file,
                &[
                    "-filter_complex",
                    &graph,
                    "-map",
                    "[scene]",
                    "-frames:v",
                    &Scene::COUNT.to_string(),
                    "-c:v",
                    "libx264",
                    "-preset",
                    "veryfast",
                    "-qp",
                    "8",
                    "-bf",
                    "0",
                    "-g",
                    "20",
                    "-color_range",
                    "tv",
                    "-colorspace",
                    "smpte170m",
                    "-f",
                    "matroska",
                ],
            )?;
        }
        Ok(Scene { file })
    }

    /// Structural similarity (SSIM) of a recording to the original, 0 to 1, over all planes with ffmpeg's weights; and
    /// the number of frames in the recording. Each frame is compared with the one it shows; repeated frames count once.
    ///
    /// # Errors
    ///
    /// If frames are out of order, or more than a few are missing.
    pub fn similarity(&self, recording: &Path) -> Result<(f64, u64)> {
        let numbers = numbers(recording)?;
        let kept = once(&numbers);
        let different: Vec<u64> = kept.iter().map(|(_, number)| *number).collect();
        let places: Vec<u64> = kept.iter().map(|(place, _)| *place as u64).collect();
        let runs = |of: &[u64]| -> Result<String> {
            let runs = runs_of(of).with_context(|| recording.display().to_string())?;
            let between = |(first, last): &(u64, u64)| format!("between(n\\,{first}\\,{last})");
            Ok(runs.iter().map(between).collect::<Vec<_>>().join("+"))
        };
        let (places, same, count) = (runs(&places)?, runs(&different)?, numbers.len() as u64);
        let rate = Scene::RATE;
        // JPEGs use the full range of values, the original does not.
        let graph = format!(
            "[0:v]select={places},setpts=N/{rate}/TB,scale=out_range=tv,format=yuv420p[a];\
             [1:v]select={same},setpts=N/{rate}/TB,format=yuv420p[b];[a][b]ssim"
        );
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-nostats", "-i"])
            .arg(recording)
            .args(["-stream_loop", "1", "-i"])
            .arg(&self.file)
            .args(["-lavfi", &graph, "-f", "null", "-"])
            .output()
            .context("cannot run ffmpeg")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let similarity = said
            .lines()
            .rev()
            .filter(|line| line.contains("SSIM"))
            .find_map(|line| {
                let all = line.split("All:").nth(1)?;
                all.split_whitespace().next()?.parse().ok()
            });
        let similarity = similarity.with_context(|| format!("ffmpeg printed no SSIM: {said}"))?;
        Ok((similarity, count))
    }
}

/// The filter graph that draws the scene.
fn graph() -> String {
    let rate = Scene::RATE;
    // Detail at several scales, stronger at larger ones, as in natural images.
    let grain = |width: u32, height: u32, seed: u32| {
        format!(
            "color=c=0x808080:s={width}x{height}:r={rate},format=yuv420p,noise=c0s=100:c0f=u:c1s=60:c1f=u:c2s=60:c2f=u:all_seed={seed},\
             scale=1280:720:flags=bicubic"
        )
    };
    let mut graph = String::new();
    for (nth, (width, height)) in [(640, 360), (160, 90), (40, 22), (10, 6)]
        .iter()
        .enumerate()
    {
        graph += &format!("{}[g{nth}];", grain(*width, *height, nth as u32 + 1));
    }
    graph += "[g0][g1]blend=all_mode=average[h1];[h1][g2]blend=all_mode=average[h2];[h2][g3]blend=all_mode=average,eq=contrast=1.6,";
    // Edges: a window, a door, a shelf.
    for (x, y, w, h, colour) in [
        (700, 80, 260, 200, "0xc8d8e8@0.8"),
        (824, 80, 12, 200, "0x403020"),
        (120, 180, 170, 440, "0x604830@0.7"),
        (268, 400, 12, 24, "0xe0d0a0"),
        (1020, 360, 220, 14, "0x302418"),
        (1020, 480, 220, 14, "0x302418"),
    ] {
        graph += &format!("drawbox=x={x}:y={y}:w={w}:h={h}:color={colour}:t=fill,");
    }
    graph.truncate(graph.len() - 1);
    graph += "[room];";
    // A person walks through, and something smaller moves the other way.
    graph += &format!("{},crop=110:280:200:200[one];", grain(80, 45, 11));
    graph += &format!("{},crop=160:70:600:300,negate[two];", grain(120, 68, 12));
    graph += "[room][one]overlay=x='mod(t*150\\,1400)-110':y='330+12*sin(t*6)':shortest=0[walked];";
    graph += "[walked][two]overlay=x='1280-mod(t*90\\,1440)':y=620,";
    graph += "noise=c0s=3:c0f=t:c1s=2:c1f=t:c2s=2:c2f=t,";
    graph += &format!(
        "drawbox=x=0:y=0:w={}:h={SQUARE}:color=black:t=fill",
        BITS * SQUARE
    );
    for bit in 0..BITS {
        let (half, whole) = (1 << bit, 2 << bit);
        graph += &format!(
            ",drawbox=x={}:y=0:w={SQUARE}:h={SQUARE}:color=white:t=fill:enable='gte(mod(n\\,{whole})\\,{half})'",
            bit * SQUARE
        );
    }
    graph + "[scene]"
}

/// Numbers of a recording's frames.
fn numbers(recording: &Path) -> Result<Vec<u64>> {
    let strip = format!(
        "crop={}:{SQUARE}:0:0,scale={BITS}:1:flags=area,format=gray",
        BITS * SQUARE
    );
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i"])
        .arg(recording)
        .args([
            "-vf",
            &strip,
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-",
        ])
        .output()
        .context("cannot run ffmpeg")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let strips = output.stdout.chunks_exact(BITS as usize);
    Ok(strips.map(number).collect())
}

/// The number shown by a strip of squares, lowest bit first.
fn number(squares: &[u8]) -> u64 {
    let bits = squares.iter().map(|grey| u64::from(*grey > 127));
    bits.rev().fold(0, |number, bit| number << 1 | bit)
}

/// Index and number of each frame except repeats, which occur when a source is silent.
fn once(numbers: &[u64]) -> Vec<(usize, u64)> {
    let before = [None].into_iter().chain(numbers.iter().map(Some));
    let places = numbers.iter().zip(before).enumerate();
    places
        .filter(|(_, (number, before))| *before != Some(*number))
        .map(|(place, (number, _))| (place, *number))
        .collect()
}

/// The numbers as ranges of consecutive frames, counted on over the scene's repetition. A viewer whose requested
/// maximum rate equals the scene's rate may miss some.
fn runs_of(numbers: &[u64]) -> Result<Vec<(u64, u64)>> {
    let first = *numbers.first().context("no frames")?;
    let mut runs = vec![(first, first)];
    for pair in numbers.windows(2) {
        let [before, found] = pair else { continue };
        let step = (found + Scene::COUNT - before) % Scene::COUNT;
        ensure!(
            (1..=Scene::RATE).contains(&step),
            "frame {found} of the scene comes after {before}"
        );
        if let Some((_, last)) = runs.last_mut() {
            let next = *last + step;
            if step == 1 {
                *last = next;
            } else {
                runs.push((next, next));
            }
        }
    }
    let end = runs.last().map_or(first, |(_, last)| *last);
    let all = end + 1 - first;
    ensure!(
        all <= Scene::COUNT && numbers.len() as u64 * 10 >= all * 8,
        "{} of {all} frames",
        numbers.len()
    );
    Ok(runs)
}

/// Number of bytes at which the curve through the points `(bytes, similarity)` reaches a similarity. Interpolates
/// between the neighbouring points, linearly in the logarithms of the bytes and of the missing similarity; `None`
/// outside the points.
pub fn bytes_at(points: &[(f64, f64)], similarity: f64) -> Option<f64> {
    let decibels = |similarity: f64| -10.0 * (1.0 - similarity).log10();
    let mut points = points.to_vec();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points.windows(2).find_map(|pair| {
        let [low, high] = pair else { return None };
        let inside = low.1 <= similarity && similarity <= high.1 && low.1 < high.1;
        let (from, to) = (decibels(low.1), decibels(high.1));
        let part = (decibels(similarity) - from) / (to - from);
        inside.then(|| low.0 * (high.0 / low.0).powf(part))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_strip_of_squares_is_a_number() {
        assert_eq!(number(&[0; 8]), 0);
        assert_eq!(number(&[250, 10, 128, 0, 0, 0, 0, 127]), 5);
        assert_eq!(number(&[255; 8]), 255);
    }

    #[test]
    fn a_repeated_frame_is_counted_once() {
        assert_eq!(once(&[4, 5, 5, 5, 6]), [(0, 4), (1, 5), (4, 6)]);
        assert!(once(&[]).is_empty());
    }

    #[test]
    fn a_recording_goes_on_over_the_scenes_end_and_misses_few() {
        assert_eq!(runs_of(&[198, 199, 0, 1]).unwrap(), [(198, 201)]);
        let missing: Vec<u64> = (190..200).chain(1..10).collect();
        assert_eq!(runs_of(&missing).unwrap(), [(190, 199), (201, 209)]);
        for wrong in [&[][..], &[1, 3], &[1, 1], &[5, 4], &[0, 50]] {
            assert!(runs_of(wrong).is_err(), "{wrong:?}");
        }
        let twice: Vec<u64> = (0..400).map(|number| number % 200).collect();
        assert!(runs_of(&twice).is_err());
    }

    #[test]
    fn bytes_are_found_between_neighbours() {
        let points = [(400.0, 0.99), (100.0, 0.9), (1600.0, 0.999)];
        assert_eq!(bytes_at(&points, 0.99).map(f64::round), Some(400.0));
        // Half-way from 10 to 20 dB.
        let half = 1.0 - 10f64.powf(-1.5);
        assert_eq!(bytes_at(&points, half).map(f64::round), Some(200.0));
        for beyond in [0.8, 0.9999] {
            assert_eq!(bytes_at(&points, beyond), None);
        }
        assert_eq!(bytes_at(&[], 0.9), None);
    }
}
