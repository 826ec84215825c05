//! Test media: H.264 and JPEGs made by ffmpeg. Every frame carries its number, in SEI user data or a JPEG comment, so
//! that a viewer can check without decoding that it gets each one once, in order and complete. Frames of the film also
//! carry the time at which the camera sent them.

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes};
use sluicegate_media::h264::{annexb, avcc, nal};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// UUID of the SEI user data that carries a frame's number, 16 bytes.
const MARK: &[u8; 16] = b"sluicegate-bench";
/// An access unit delimiter in Annex B.
const AUD: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];
/// Start code and head of the user data (H.264 D.2.6): 48 bytes of payload.
const SEI: [u8; 7] = [0, 0, 0, 1, 6, 5, 48];
/// Length of the stamp in a message: delimiter, head, mark, number and time in 16 hexadecimal digits each, stop bit.
const STAMP: usize = AUD.len() + SEI.len() + MARK.len() + 32 + 1;
/// The delimiter and the head of the user data in MP4, each after its length.
const SAMPLE_SEI: [u8; 13] = [0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 52, 6, 5, 48];
/// Length of the stamp in MP4.
pub const SAMPLE_STAMP: usize = SAMPLE_SEI.len() + MARK.len() + 32 + 1;
/// Bytes at the front of a message or part that identify its frame.
pub const HEAD: usize = 72;

/// Number of a frame and the time at which it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number, counted over all loops of the film.
    pub number: u64,
    /// Time by [`crate::clock::now`].
    pub sent: u64,
}

/// An H.264 film.
pub struct Film {
    /// Each access unit without its stamp, with a start code of four bytes before every NAL unit.
    bodies: Vec<Bytes>,
    /// The same as in MP4 (ISO/IEC 14496-15 5.3): with a length before every NAL unit.
    samples: Vec<Bytes>,
    /// Frames per second.
    pub rate: u32,
    /// Number of frames from one keyframe to the next.
    pub group: u64,
}

/// Size, frame rate, groups and bit rate of an H.264 film.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Frames per second.
    pub rate: u32,
    /// Number of frames from one keyframe to the next.
    pub group: u32,
    /// Bit rate given to the encoder, in bits per second.
    pub bits: u32,
}

impl Film {
    /// Encodes ten seconds into `dir`, unless the file exists.
    pub fn make(dir: &Path, shape: Shape) -> Result<Film> {
        let Shape {
            size: (width, height),
            rate,
            group,
            bits,
        } = shape;
        let path = dir.join(format!("film-{width}x{height}-{rate}-{group}-{bits}.h264"));
        if !path.exists() {
            let input = format!(
                "testsrc2=size={width}x{height}:rate={rate}:duration=10,noise=alls=14:allf=t"
            );
            let (bits, buffer) = (bits.to_string(), (bits / 2).to_string());
            let group = group.to_string();
            ffmpeg(
                &path,
                &[
                    "-f",
                    "lavfi",
                    "-i",
                    &input,
                    "-pix_fmt",
                    "yuv420p",
                    "-c:v",
                    "libx264",
                    "-preset",
                    "veryfast",
                    "-bf",
                    "0",
                    "-g",
                    &group,
                    "-keyint_min",
                    &group,
                    "-sc_threshold",
                    "0",
                    "-b:v",
                    &bits,
                    "-maxrate",
                    &bits,
                    "-bufsize",
                    &buffer,
                    "-f",
                    "h264",
                ],
            )?;
        }
        let stream = Bytes::from(fs::read(&path)?);
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        let mut complete = true;
        for unit in annexb::split(&stream) {
            let slice = matches!(nal::unit_type(&unit), nal::SLICE | nal::IDR);
            // `first_mb_in_slice` is 0 if its Exp-Golomb code is the single bit 1.
            let top = slice && unit.get(1).is_some_and(|byte| byte & 0x80 != 0);
            if complete && (top || !slice) {
                bodies.push(Vec::new());
                complete = false;
            }
            complete |= slice;
            if let Some(body) = bodies.last_mut() {
                body.extend_from_slice(&[0, 0, 0, 1]);
                body.extend_from_slice(&unit);
            }
        }
        ensure!(
            bodies.len() == 10 * rate as usize,
            "{} has {} frames",
            path.display(),
            bodies.len()
        );
        Ok(Film::new(
            bodies.into_iter().map(Bytes::from).collect(),
            rate,
            group.into(),
        ))
    }

    fn new(bodies: Vec<Bytes>, rate: u32, group: u64) -> Film {
        let in_mp4 = |body| avcc::join(&annexb::split(body));
        let samples = bodies.iter().map(in_mp4).collect();
        Film {
            bodies,
            samples,
            rate,
            group,
        }
    }

    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.bodies.len()
    }

    /// Whether decoding may start at this frame.
    pub fn is_key(&self, number: u64) -> bool {
        number.is_multiple_of(self.group)
    }

    fn body(&self, number: u64) -> &[u8] {
        nth(&self.bodies, number)
    }

    /// Bytes that a viewer receives for a frame.
    pub fn message(&self, stamp: Stamp) -> Vec<u8> {
        let body = self.body(stamp.number);
        let mut message = Vec::with_capacity(STAMP + body.len());
        message.extend_from_slice(&AUD);
        message.extend_from_slice(&SEI);
        stamp.write(&mut message);
        message.extend_from_slice(body);
        message
    }

    /// Bytes of a frame in MP4.
    pub fn sample(&self, stamp: Stamp) -> Vec<u8> {
        let body = nth(&self.samples, stamp.number);
        let mut sample = Vec::with_capacity(SAMPLE_STAMP + body.len());
        sample.extend_from_slice(&SAMPLE_SEI);
        stamp.write(&mut sample);
        sample.extend_from_slice(body);
        sample
    }

    /// Length of a frame in MP4, in bytes.
    pub fn sample_length(&self, number: u64) -> usize {
        SAMPLE_STAMP + nth(&self.samples, number).len()
    }

    /// Reads the stamp of a frame in MP4.
    pub fn stamp_in_sample(sample: &[u8]) -> Option<Stamp> {
        Stamp::read(sample.strip_prefix(&SAMPLE_SEI)?)
    }

    /// Bytes that a camera sends: the frame, followed by the delimiter of the next one and a start code, which show
    /// that the frame is complete. [`Film::opening`] goes before the first one.
    pub fn camera(&self, stamp: Stamp) -> Vec<u8> {
        let mut bytes = self.message(stamp).split_off(AUD.len() + 4);
        bytes.extend_from_slice(&Film::opening());
        bytes
    }

    /// First bytes that a camera sends: a delimiter and a start code.
    pub fn opening() -> [u8; AUD.len() + 4] {
        [0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1]
    }

    /// Identifies a message by its length and its first bytes `head`; `None` if it is not a frame of this film.
    pub fn recognise(&self, head: &[u8], length: usize) -> Option<Stamp> {
        let stamp = Stamp::read(head.strip_prefix(&AUD)?.strip_prefix(&SEI)?)?;
        (length == STAMP + self.body(stamp.number).len()).then_some(stamp)
    }
}

impl Stamp {
    /// Writes mark, number, time and stop bit.
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(MARK);
        bytes.extend_from_slice(format!("{:016x}{:016x}", self.number, self.sent).as_bytes());
        bytes.push(0x80);
    }

    /// Reads what [`Stamp::write`] wrote.
    fn read(bytes: &[u8]) -> Option<Stamp> {
        let rest = bytes.strip_prefix(MARK)?;
        Some(Stamp {
            number: hexadecimal(rest.get(..16)?)?,
            sent: hexadecimal(rest.get(16..32)?)?,
        })
    }
}

/// Picture of a looped film by its number.
fn nth(frames: &[Bytes], number: u64) -> &[u8] {
    let nth = usize::try_from(number).unwrap_or(0) % frames.len().max(1);
    frames.get(nth).map_or(&[], |frame| frame)
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// JPEGs that all have the same size in bytes.
pub struct Album {
    /// The JPEGs, each with its index in a comment segment (ISO/IEC 10918-1 B.2.4.5) at the front.
    pub jpegs: Vec<Bytes>,
    /// The same JPEGs as a file for libavformat, at [`Album::RATE`].
    pub file: PathBuf,
}

impl Album {
    /// Frames per second.
    pub const RATE: u32 = 10;
    const COUNT: usize = 50;
    const SIZE: usize = 40_000;

    /// Encodes five seconds at 1280×720 into `dir`, unless the files exist.
    pub fn make(dir: &Path) -> Result<Album> {
        let (raw, list, file) = (
            dir.join("album.mjpeg"),
            dir.join("album-numbered.mjpeg"),
            dir.join("album.mkv"),
        );
        if !raw.exists() {
            let input = format!("testsrc2=size=1280x720:rate={}:duration=5", Album::RATE);
            ffmpeg(
                &raw,
                &[
                    "-f", "lavfi", "-i", &input, "-pix_fmt", "yuvj420p", "-c:v", "mjpeg", "-q:v",
                    "9", "-f", "mjpeg",
                ],
            )?;
        }
        let mut jpegs = Vec::new();
        for frame in cut_jpegs(&fs::read(&raw)?) {
            ensure!(
                frame.len() + 64 <= Album::SIZE,
                "a frame of {} bytes does not fit into {}",
                frame.len(),
                Album::SIZE
            );
            jpegs.push(numbered(frame, jpegs.len(), Album::SIZE));
        }
        ensure!(
            jpegs.len() == Album::COUNT,
            "{} has {} frames",
            raw.display(),
            jpegs.len()
        );
        if !file.exists() {
            fs::write(&list, jpegs.concat())?;
            let (rate, list) = (Album::RATE.to_string(), list.to_string_lossy().into_owned());
            ffmpeg(
                &file,
                &[
                    "-f",
                    "mjpeg",
                    "-framerate",
                    &rate,
                    "-i",
                    &list,
                    "-c:v",
                    "copy",
                    "-f",
                    "matroska",
                ],
            )?;
        }
        Ok(Album { jpegs, file })
    }

    /// Identifies a JPEG by its length and its first bytes `head`; `None` if it is none of the album.
    pub fn recognise(&self, head: &[u8], length: usize) -> Option<usize> {
        let rest = head.strip_prefix(&[0xff, 0xd8, 0xff, 0xfe])?.get(2..)?;
        let place = usize::try_from(hexadecimal(rest.strip_prefix(MARK)?.get(..16)?)?).ok()?;
        (self.jpegs.get(place)?.len() == length).then_some(place)
    }
}

/// Adds a comment segment after the first marker of a JPEG: its index, padded with dots to `size` bytes in total.
fn numbered(frame: &[u8], place: usize, size: usize) -> Bytes {
    let mut text = [MARK.as_slice(), format!("{place:016x}").as_bytes()].concat();
    text.resize(text.len().max(size.saturating_sub(frame.len() + 4)), b'.');
    let mut out = Vec::with_capacity(size);
    out.put_slice(&[0xff, 0xd8, 0xff, 0xfe]);
    out.put_u16(u16::try_from(text.len() + 2).unwrap_or(u16::MAX));
    out.put_slice(&text);
    out.put_slice(frame.get(2..).unwrap_or_default());
    out.into()
}

/// Splits at each JPEG's first marker.
fn cut_jpegs(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = stream
        .windows(3)
        .enumerate()
        .filter(|(_, three)| *three == [0xff, 0xd8, 0xff])
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(start, end)| stream.get(*start..end))
        .collect()
}

/// Runs ffmpeg; the file appears under its name only when it is complete.
pub fn ffmpeg(path: &Path, arguments: &[&str]) -> Result<()> {
    let making = path.with_extension("making");
    let done = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(arguments)
        .arg(&making)
        .status()
        .context("cannot run ffmpeg to encode the test media; install it with .ci/setup test")?;
    if !done.success() {
        bail!("ffmpeg could not make {}", path.display());
    }
    Ok(fs::rename(&making, path)?)
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    impl Film {
        /// The same film at another frame rate.
        pub fn at_rate(self, rate: u32) -> Film {
            Film {
                rate,
                group: 2 * u64::from(rate),
                ..self
            }
        }
    }

    /// A film with arbitrary bytes as frames, one per second.
    pub fn film(bodies: &[&[u8]]) -> Film {
        let bodies = bodies.iter().map(|body| Bytes::copy_from_slice(body));
        Film::new(bodies.collect(), 1, 2)
    }

    #[test]
    fn a_frame_is_recognised_by_its_stamp_and_its_length() {
        let film = film(&[b"one", b"three", b"five"]);
        let stamp = Stamp {
            number: 4,
            sent: 77,
        };
        let message = film.message(stamp);
        assert!(message.ends_with(b"three"));
        assert_eq!(
            film.recognise(&message[..HEAD.min(message.len())], message.len()),
            Some(stamp)
        );
        assert_eq!(film.recognise(&message, message.len() - 1), None);
        assert_eq!(film.recognise(&message[1..], message.len()), None);
    }

    #[test]
    fn what_the_camera_sends_is_the_messages_and_the_next_ones_start() {
        let film = film(&[b"\0\0\0\x01\x65a", b"\0\0\0\x01\x41b"]);
        let stamps = [0, 1].map(|number| Stamp { number, sent: 5 });
        let sent = [
            Film::opening().to_vec(),
            film.camera(stamps[0]),
            film.camera(stamps[1]),
        ]
        .concat();
        let seen = [
            film.message(stamps[0]),
            film.message(stamps[1]),
            Film::opening().to_vec(),
        ]
        .concat();
        assert_eq!(sent, seen);
    }

    #[test]
    fn a_numbered_jpeg_has_its_size_and_is_recognised() {
        let frame = [&[0xff, 0xd8, 0xff, 0xdb][..], &[7; 500], &[0xff, 0xd9]].concat();
        let jpegs: Vec<Bytes> = (0..3).map(|place| numbered(&frame, place, 1000)).collect();
        let album = Album {
            jpegs: jpegs.clone(),
            file: PathBuf::new(),
        };
        for (place, jpeg) in jpegs.iter().enumerate() {
            assert_eq!(jpeg.len(), 1000);
            assert_eq!(album.recognise(&jpeg[..HEAD], 1000), Some(place));
            assert!(jpeg.ends_with(&frame[2..]));
        }
        assert_eq!(album.recognise(&jpegs[1][..HEAD], 999), None);
        assert_eq!(album.recognise(&frame, frame.len()), None);
        assert_eq!(cut_jpegs(&jpegs.concat()), jpegs);
    }
}
