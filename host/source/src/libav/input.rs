//! One opened input: its video track and its audio track, packet by packet.

use super::budget::{Budget, Counted};
use crate::{LOOK, Presentation, SILENCE, SourceError, SourceTimes, Stop, readable};
use bytes::Bytes;
use ffmpeg_next::{
    self as ffmpeg, Dictionary, Stream, codec,
    format::{self, context::StreamIo, stream::Disposition},
    media, packet,
};
use sluicegate_media::{geometry::Orientation, time::rescale};
use sluicegate_telemetry as telemetry;
use std::{
    fs::File,
    io::{self, Read, Seek},
    os::fd::AsFd,
    path::Path,
    process::ChildStdout,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Largest packet that is believed.
const MAX_PACKET_BYTES: usize = 64 << 20;
/// The process may grow by so much between two packets of what libavformat reads itself: a few of the largest.
const MAX_MEMORY: u64 = 4 * MAX_PACKET_BYTES as u64;
/// An index is no larger a part of a long file than one in so many: MP4 takes some 16 bytes for a sample. What is written into
/// a file of the operator's may be wrong all the same.
const INDEX_SHARE: u64 = 32;
/// Formats that carry no times, for which libavformat makes up 25 pictures a second.
const UNTIMED: [&str; 4] = ["mpjpeg", "mjpeg", "h264", "hevc"];
/// What is read through a stream of ours may open nothing else.
const NOTHING: &str = "none";

/// What libavformat or libavdevice has opened.
pub struct Input {
    what: String,
    context: format::context::Input,
    pictures: Option<Place>,
    sound: Option<Place>,
    /// Streams beyond so many appeared after it was opened.
    known: usize,
    timed: bool,
    /// Where there are no times, each packet lasts as long as libavformat thinks.
    believes: bool,
    deadline: Arc<Deadline>,
    /// Where the bytes come through a stream of ours.
    budget: Option<Arc<Budget>>,
    /// When the newest picture came, where those may not stop while sound goes on.
    newest_picture: Option<Instant>,
}

/// A track within an input.
struct Place {
    index: usize,
    time_base: ffmpeg::Rational,
    codec: codec::Id,
}

/// What an input has; one of them at least.
pub struct Tracks {
    /// The best of its video tracks.
    pub video: Option<Media>,
    /// The best of its audio tracks, and its language.
    pub audio: Option<(codec::Parameters, String)>,
}

/// What is known of the video track before its first packet.
pub struct Media {
    /// The codec and its parameters.
    pub parameters: codec::Parameters,
    /// Pictures a second, as claimed; 0: unknown.
    pub rate: f64,
    /// Its times are in the packets: if not, the time when a packet comes is all there is.
    pub timed: bool,
    /// How its pictures are to be shown.
    pub presentation: Presentation,
}

/// One packet of a track.
pub struct Packet {
    /// It is sound.
    pub is_audio: bool,
    /// As libav has it, its times in 90 kHz.
    pub packet: packet::Packet,
    /// Empty where the format has none, but for durations where those are believed.
    pub times: SourceTimes,
    /// A configuration that is good from here on.
    pub renewed: Option<Bytes>,
}

impl Packet {
    /// A copy of its bytes.
    pub fn data(&self) -> Bytes {
        Bytes::copy_from_slice(self.packet.data().unwrap_or_default())
    }
}

impl Input {
    /// Opens a URL by libavformat's own protocols, of which it may use `protocols` (separated by commas). `what` names it
    /// in errors. Gives up after [`SILENCE`], or when told to stop.
    pub fn open(
        what: &str,
        url: &str,
        protocols: &str,
        mut options: Dictionary,
        stop: &Stop,
    ) -> Result<(Input, Tracks), SourceError> {
        sluicegate_codec::init();
        set_always(&mut options, protocols);
        let deadline = Arc::new(Deadline::new());
        if url.contains('\0') {
            return Err(cannot_open(what, "there is a NUL in its name".into()));
        }
        let context =
            format::input_with_interrupt_and_dictionary(url, deadline.watch(stop), options)
                .map_err(|error| cannot_open(what, deadline.explain(&error)))?;
        let timed = !UNTIMED.contains(&context.format().name());
        Input::new(what, context, timed, deadline, None)
    }

    /// Opens a file, which may name other files.
    pub fn of_file(
        what: &str,
        path: &Path,
        file: File,
        stop: &Stop,
    ) -> Result<(Input, Tracks), SourceError> {
        let found = file.metadata();
        let length = found.as_ref().map_or(0, std::fs::Metadata::len);
        let is_seekable = found.is_ok_and(|found| found.is_file());
        let opening = most_to_open(length);
        let budget = Arc::new(Budget::with_opening(opening, MAX_PACKET_BYTES));
        let stream = match is_seekable {
            true => StreamIo::from_read_seek(Counted::new(file, &budget)),
            false => StreamIo::from_read(Counted::new(Pipe(file), &budget)),
        };
        let name = path.to_string_lossy();
        let mut options = Dictionary::new();
        set_always(&mut options, "file,crypto,data");
        Input::of_stream(what, stream, Some(&name), options, budget, stop)
    }

    /// Opens what comes from a server, in whatever format. `is_seekable`: parts of it may be asked for.
    pub fn of_peer<R: Read + Seek + Send + 'static>(
        what: &str,
        peer: R,
        is_seekable: bool,
        mut options: Dictionary,
        stop: &Stop,
    ) -> Result<(Input, Tracks), SourceError> {
        let budget = Arc::new(Budget::new(MAX_PACKET_BYTES));
        let bytes = Counted::new(peer, &budget);
        let stream = match is_seekable {
            true => StreamIo::from_read_seek(bytes),
            false => StreamIo::from_read(bytes),
        };
        set_always(&mut options, NOTHING);
        Input::of_stream(what, stream, None, options, budget, stop)
    }

    /// Opens what comes through a pipe.
    pub fn of_pipe(
        what: &str,
        pipe: ChildStdout,
        stop: &Stop,
    ) -> Result<(Input, Tracks), SourceError> {
        let budget = Arc::new(Budget::new(MAX_PACKET_BYTES));
        let stream = StreamIo::from_read(Counted::new(Pipe(pipe), &budget));
        let mut options = Dictionary::new();
        options.set("fpsprobesize", "0");
        set_always(&mut options, NOTHING);
        Input::of_stream(what, stream, None, options, budget, stop)
    }

    fn of_stream(
        what: &str,
        stream: Result<StreamIo, ffmpeg::Error>,
        name: Option<&str>,
        options: Dictionary,
        budget: Arc<Budget>,
        stop: &Stop,
    ) -> Result<(Input, Tracks), SourceError> {
        sluicegate_codec::init();
        let deadline = Arc::new(Deadline::new());
        let context = stream
            .and_then(|stream| {
                let watch = deadline.watch(stop);
                format::input_from_stream_with_interrupt(stream, name, Some(options), watch)
            })
            .map_err(|error| {
                let explained = budget.explain();
                cannot_open(what, explained.unwrap_or_else(|| deadline.explain(&error)))
            })?;
        let timed = !UNTIMED.contains(&context.format().name());
        Input::new(what, context, timed, deadline, Some(budget))
    }

    fn new(
        what: &str,
        context: format::context::Input,
        timed: bool,
        deadline: Arc<Deadline>,
        budget: Option<Arc<Budget>>,
    ) -> Result<(Input, Tracks), SourceError> {
        let cover = Disposition::ATTACHED_PIC;
        let video = context.streams().best(media::Type::Video);
        let video = video.filter(|stream| !stream.disposition().contains(cover));
        let audio = context.streams().best(media::Type::Audio);
        if video.is_none() && audio.is_none() {
            let reason = "it has neither a video track nor an audio track";
            return Err(cannot_open(what, reason.into()));
        }
        let (pictures, sound) = (video.as_ref().map(Place::of), audio.as_ref().map(Place::of));
        let known = context.streams().len();
        let tracks = Tracks {
            video: video.map(|stream| Media {
                parameters: stream.parameters(),
                rate: if timed {
                    f64::from(stream.avg_frame_rate())
                } else {
                    0.0
                },
                timed,
                presentation: presentation(&stream),
            }),
            audio: audio.map(|stream| {
                let metadata = stream.metadata();
                let language = metadata.get("language").unwrap_or("und");
                (stream.parameters(), language.to_owned())
            }),
        };
        deadline.extend();
        let input = Input {
            what: what.to_owned(),
            context,
            pictures,
            sound,
            known,
            timed,
            believes: false,
            deadline,
            budget,
            newest_picture: None,
        };
        Ok((input, tracks))
    }

    /// From here on it is lost if its pictures stop for [`SILENCE`], though its sound goes on.
    pub fn watch_pictures(&mut self) {
        self.newest_picture = self.pictures.is_some().then(Instant::now);
    }

    /// The time since the newest packet was spent elsewhere: it counts from here on.
    pub fn resume(&self) {
        self.deadline.extend();
    }

    /// What has no times is shown at the rate that its parameter sets tell, else at 25 a second.
    pub fn believe_durations(&mut self) {
        self.believes = true;
    }

    /// The next packet; `None` at the end or when told to stop.
    pub fn next(&mut self) -> Result<Option<Packet>, SourceError> {
        loop {
            let mut packet = packet::Packet::empty();
            if let Some(budget) = &self.budget {
                budget.renew();
            }
            match packet.read(&mut self.context) {
                Ok(()) => {}
                Err(error) => {
                    if let Some(reason) = self.budget.as_ref().and_then(|budget| budget.explain()) {
                        return Err(self.failed(reason));
                    }
                    let is_end = matches!(error, ffmpeg::Error::Eof | ffmpeg::Error::Exit);
                    if is_end && !self.deadline.gave_up() {
                        return Ok(None);
                    }
                    return Err(self.failed(self.deadline.explain(&error)));
                }
            }
            let size = packet.data().map_or(0, <[u8]>::len);
            if packet.stream() >= self.known {
                self.go_over_to(packet.stream())?;
            }
            let of = |place: &&Place| place.index == packet.stream();
            let pictures = self.pictures.as_ref().filter(of);
            let Some(place) = pictures.or(self.sound.as_ref().filter(of)) else {
                continue;
            };
            if size == 0 {
                continue;
            }
            let is_audio = pictures.is_none();
            // What libavformat held back comes out when it is told to give up: no sign of life.
            if !self.deadline.passed() {
                self.deadline.extend();
            }
            if let Some(newest) = &mut self.newest_picture {
                if !is_audio {
                    *newest = Instant::now();
                } else if newest.elapsed() > SILENCE {
                    let reason = format!("no picture came for {} s", SILENCE.as_secs());
                    return Err(self.failed(reason));
                }
            }
            if size > MAX_PACKET_BYTES {
                return Err(
                    self.failed(format!("a packet of {size} bytes is more than is believed"))
                );
            }
            let base = (place.time_base.numerator(), place.time_base.denominator());
            let ticks = |value: i64| rescale(value, base.0, base.1);
            let mut times = SourceTimes::default();
            if self.timed {
                times.decode = packet.dts().map(ticks);
                times.presentation = packet.pts().map(ticks);
            }
            if self.timed || self.believes {
                times.duration = u32::try_from(ticks(packet.duration())).unwrap_or(0);
            }
            packet.set_dts(times.decode);
            packet.set_pts(times.presentation);
            let renewed = packet
                .side_data()
                .find(|side| side.kind() == packet::side_data::Type::NewExtraData)
                .map(|side| Bytes::copy_from_slice(side.data()));
            return Ok(Some(Packet {
                is_audio,
                packet,
                times,
                renewed,
            }));
        }
    }

    /// A stream that appeared after the input was opened takes the place of the track of its kind: a program of an MPEG-TS whose
    /// map changed goes on under other PIDs (ISO/IEC 13818-1 2.4.4.8), and nothing comes under the old ones any more.
    ///
    /// # Errors
    /// Its pictures are in another codec, so that the source has to be opened anew.
    fn go_over_to(&mut self, index: usize) -> Result<(), SourceError> {
        let Some(stream) = self.context.stream(index) else {
            return Ok(());
        };
        let next = Place::of(&stream);
        let is_picture = match stream.parameters().medium() {
            media::Type::Video => true,
            media::Type::Audio => false,
            _ => return Ok(()),
        };
        let place = match is_picture {
            true => &mut self.pictures,
            false => &mut self.sound,
        };
        let Some(now) = place.as_mut().filter(|now| now.index < next.index) else {
            return Ok(());
        };
        if now.codec == next.codec {
            *now = next;
        } else if is_picture && self.newest_picture.is_some() {
            // A file is read to its end; what is live would be waited for in vain.
            let name = next.codec.name();
            return Err(self.failed(format!("its pictures change to {name}")));
        }
        Ok(())
    }

    fn failed(&self, reason: String) -> SourceError {
        SourceError::Read {
            what: self.what.clone(),
            reason,
        }
    }
}

/// What the container says of a track beside its samples: phones turn the picture by a matrix (ISO/IEC 14496-12 8.3.2).
fn presentation(stream: &Stream<'_>) -> Presentation {
    let matrix = stream
        .side_data()
        .find(|side| side.kind() == packet::side_data::Type::DisplayMatrix)
        .and_then(|side| {
            let mut numbers = side.data().chunks_exact(4).map(|bytes| {
                let bytes = bytes.first_chunk().copied();
                bytes.map_or(0, i32::from_ne_bytes)
            });
            let mut matrix = [0; 9];
            for number in &mut matrix {
                *number = numbers.next()?;
            }
            Some(matrix)
        });
    Presentation {
        pixel_aspect: None,
        orientation: matrix
            .and_then(|matrix| Orientation::from_matrix(&matrix))
            .unwrap_or_default(),
    }
}

impl Place {
    fn of(stream: &Stream<'_>) -> Place {
        Place {
            index: stream.index(),
            time_base: stream.time_base(),
            codec: stream.parameters().id(),
        }
    }
}

/// What holds for every input: a packet that the demuxer knows to be damaged is a loss, which shows by the gap that it leaves,
/// and no protocols are used but these.
fn set_always(options: &mut Dictionary, protocols: &str) {
    options.set("fflags", "discardcorrupt");
    options.set("protocol_whitelist", protocols);
}

/// How much of a file of this length may be read to open it: the index of a recording of a day has more than a packet may.
fn most_to_open(length: u64) -> usize {
    usize::try_from(length / INDEX_SHARE)
        .map_or(MAX_PACKET_BYTES, |most| most.max(MAX_PACKET_BYTES))
}

fn cannot_open(what: &str, reason: String) -> SourceError {
    SourceError::Open {
        what: what.to_owned(),
        reason,
    }
}

/// Reads that come back now and then, so that libavformat looks whether it is to give up.
struct Pipe<P>(P);

impl<P: Read + AsFd> Read for Pipe<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if readable(&self.0, LOOK)? {
            self.0.read(buffer)
        } else {
            Err(io::ErrorKind::Interrupted.into())
        }
    }
}

/// When a blocking call in libavformat is given up: nothing came for too long, or too much for one packet. What libavformat reads
/// itself nobody counts, so it is known by what the process takes, whoever that is for.
struct Deadline {
    start: Instant,
    at_ms: AtomicU64,
    /// Bytes in memory when the newest packet had come; 0: not looked at since.
    memory: AtomicU64,
    is_greedy: AtomicBool,
}

impl Deadline {
    fn new() -> Deadline {
        let deadline = Deadline {
            start: Instant::now(),
            at_ms: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            is_greedy: AtomicBool::new(false),
        };
        deadline.extend();
        deadline
    }

    fn extend(&self) {
        let at = self.start.elapsed() + SILENCE;
        self.at_ms.store(
            u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.memory.store(0, Ordering::Relaxed);
    }

    /// Whether a blocking call is to be given up.
    fn watch(self: &Arc<Deadline>, stop: &Stop) -> impl FnMut() -> bool + Send + 'static {
        let (deadline, stop) = (self.clone(), stop.clone());
        let mut looked = Instant::now();
        move || {
            if looked.elapsed() >= LOOK / 4 {
                looked = Instant::now();
                deadline.look_at_memory();
            }
            stop.is_stopped() || deadline.gave_up()
        }
    }

    fn look_at_memory(&self) {
        let Some(now) = telemetry::resident_memory() else {
            return;
        };
        let before = match self.memory.load(Ordering::Relaxed) {
            0 => {
                self.memory.store(now, Ordering::Relaxed);
                now
            }
            before => before,
        };
        if now > before + MAX_MEMORY {
            self.is_greedy.store(true, Ordering::Relaxed);
        }
    }

    fn gave_up(&self) -> bool {
        self.passed() || self.is_greedy.load(Ordering::Relaxed)
    }

    fn passed(&self) -> bool {
        self.start.elapsed().as_millis() >= u128::from(self.at_ms.load(Ordering::Relaxed))
    }

    fn explain(&self, error: &ffmpeg::Error) -> String {
        if self.is_greedy.load(Ordering::Relaxed) {
            let most = MAX_MEMORY >> 20;
            format!(
                "{most} MiB of memory went before a picture or sound came, and more is not believed"
            )
        } else if self.passed() {
            format!("nothing came for {} s", SILENCE.as_secs())
        } else {
            error.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_long_recording_fits_and_what_a_short_file_boasts_of_does_not() {
        assert_eq!(most_to_open(0), MAX_PACKET_BYTES);
        assert_eq!(most_to_open(2 << 30), MAX_PACKET_BYTES);
        assert_eq!(most_to_open(32 << 30), 1 << 30);
    }
}
