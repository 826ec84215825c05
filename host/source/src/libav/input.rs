//! An opened input of libavformat, read packet by packet: the best video track and the best audio track.
//!
//! libavformat blocks and trusts its input, so every call is watched: [`Deadline`] interrupts it when no data arrives,
//! when the source is stopped, or when the process's memory grows too much; [`Budget`] bounds reads that pass through
//! our own streams.

use super::{
    budget::{Budget, BudgetedReader},
    deadline::Deadline,
};
use crate::{DATA_TIMEOUT, POLL_INTERVAL, Presentation, SourceError, SourceTimes, Stop, readable};
use bytes::Bytes;
use ffmpeg_next::{
    self as ffmpeg, Dictionary, Stream, codec,
    format::{self, context::StreamIo, stream::Disposition},
    media, packet,
};
use sluicegate_media::{geometry::Orientation, time::rescale};
use std::{
    fs::File,
    io::{self, Read, Seek},
    os::fd::AsFd,
    path::Path,
    process::ChildStdout,
    sync::Arc,
    time::Instant,
};

/// Largest packet that is accepted, in bytes.
pub(super) const MAX_PACKET_BYTES: usize = 64 << 20;
/// Divisor for the largest index of a long file: MP4 needs some 16 bytes for a sample. The file is the operator's own,
/// but its content may be wrong.
const INDEX_SHARE: u64 = 32;
/// Formats without timestamps, for which libavformat assumes 25 frames per second.
const UNTIMED: [&str; 4] = ["mpjpeg", "mjpeg", "h264", "hevc"];
/// Protocol list for inputs that are read through our own streams: they may open nothing else.
const NO_PROTOCOLS: &str = "none";

/// An input that libavformat has opened.
pub struct Input {
    what: String,
    context: format::context::Input,
    video_track: Option<Track>,
    audio_track: Option<Track>,
    /// Number of streams when it was opened; higher indices appeared later.
    known: usize,
    timed: bool,
    /// Whether packets without times get libavformat's durations.
    trusts_durations: bool,
    deadline: Arc<Deadline>,
    /// Set if the bytes pass through one of our own streams.
    budget: Option<Arc<Budget>>,
    /// Arrival of the newest video packet, if video must not stop while audio continues.
    newest_video: Option<Instant>,
}

/// A track of an input.
struct Track {
    index: usize,
    time_base: ffmpeg::Rational,
    codec: codec::Id,
}

/// The tracks of an input, at least one.
pub struct Tracks {
    /// The best video track.
    pub video: Option<Media>,
    /// The best audio track, and its language.
    pub audio: Option<(codec::Parameters, String)>,
}

/// What is known of the video track before its first packet.
pub struct Media {
    /// Codec and its parameters.
    pub parameters: codec::Parameters,
    /// Nominal frame rate, frames per second; 0 if unknown.
    pub rate: f64,
    /// Whether packets have timestamps; if not, arrival times must be used.
    pub timed: bool,
    /// How to display the frames.
    pub presentation: Presentation,
}

/// One packet of a track.
pub struct Packet {
    /// Whether it is audio.
    pub is_audio: bool,
    /// The libav packet, with its times in 90 kHz.
    pub packet: packet::Packet,
    /// Empty if the format has no timestamps, except for durations if those are trusted.
    pub times: SourceTimes,
    /// New extradata, valid from this packet on.
    pub new_extradata: Option<Bytes>,
}

impl Packet {
    /// A copy of its bytes.
    pub fn data(&self) -> Bytes {
        Bytes::copy_from_slice(self.packet.data().unwrap_or_default())
    }
}

impl Input {
    /// Opens a URL with libavformat's own protocols, restricted to `protocols` (separated by commas). `what` names the
    /// source in errors. Fails after [`DATA_TIMEOUT`] without data, or when stopped.
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
            return Err(cannot_open(
                what,
                "its name contains a NUL character".into(),
            ));
        }
        let context =
            format::input_with_interrupt_and_dictionary(url, deadline.watch(stop), options)
                .map_err(|error| cannot_open(what, deadline.explain(&error)))?;
        let timed = !UNTIMED.contains(&context.format().name());
        Input::new(what, context, timed, deadline, None)
    }

    /// Opens a file, which may refer to other files.
    pub fn of_file(
        what: &str,
        path: &Path,
        file: File,
        stop: &Stop,
    ) -> Result<(Input, Tracks), SourceError> {
        let found = file.metadata();
        let length = found.as_ref().map_or(0, std::fs::Metadata::len);
        let is_seekable = found.is_ok_and(|found| found.is_file());
        let opening = max_opening_bytes(length);
        let budget = Arc::new(Budget::with_opening(opening, MAX_PACKET_BYTES));
        let stream = match is_seekable {
            true => StreamIo::from_read_seek(BudgetedReader::new(file, &budget)),
            false => StreamIo::from_read(BudgetedReader::new(Pipe(file), &budget)),
        };
        let name = path.to_string_lossy();
        let mut options = Dictionary::new();
        set_always(&mut options, "file,crypto,data");
        Input::of_stream(what, stream, Some(&name), options, budget, stop)
    }

    /// Opens a server's response in any format. `is_seekable`: the server supports range requests.
    pub fn of_peer<R: Read + Seek + Send + 'static>(
        what: &str,
        peer: R,
        is_seekable: bool,
        mut options: Dictionary,
        stop: &Stop,
    ) -> Result<(Input, Tracks), SourceError> {
        let budget = Arc::new(Budget::new(MAX_PACKET_BYTES));
        let bytes = BudgetedReader::new(peer, &budget);
        let stream = match is_seekable {
            true => StreamIo::from_read_seek(bytes),
            false => StreamIo::from_read(bytes),
        };
        set_always(&mut options, NO_PROTOCOLS);
        Input::of_stream(what, stream, None, options, budget, stop)
    }

    /// Opens the output of a child process.
    pub fn of_pipe(
        what: &str,
        pipe: ChildStdout,
        stop: &Stop,
    ) -> Result<(Input, Tracks), SourceError> {
        let budget = Arc::new(Budget::new(MAX_PACKET_BYTES));
        let stream = StreamIo::from_read(BudgetedReader::new(Pipe(pipe), &budget));
        let mut options = Dictionary::new();
        options.set("fpsprobesize", "0");
        set_always(&mut options, NO_PROTOCOLS);
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
        let (video_track, audio_track) =
            (video.as_ref().map(Track::of), audio.as_ref().map(Track::of));
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
            video_track,
            audio_track,
            known,
            timed,
            trusts_durations: false,
            deadline,
            budget,
            newest_video: None,
        };
        Ok((input, tracks))
    }

    /// From now on the input fails if its video stops for [`DATA_TIMEOUT`], even if its audio continues.
    pub fn watch_video(&mut self) {
        self.newest_video = self.video_track.is_some().then(Instant::now);
    }

    /// Restarts the deadline, after time spent elsewhere than in reading.
    pub fn resume(&self) {
        self.deadline.extend();
    }

    /// Packets without times get the duration of a frame according to the parameter sets, or 1/25 s.
    pub fn trust_durations(&mut self) {
        self.trusts_durations = true;
    }

    /// The next packet; `None` at the end or when stopped.
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
                    if is_end && !self.deadline.is_over() {
                        return Ok(None);
                    }
                    return Err(self.failed(self.deadline.explain(&error)));
                }
            }
            let size = packet.data().map_or(0, <[u8]>::len);
            if packet.stream() >= self.known {
                self.switch_track(packet.stream())?;
            }
            let of = |place: &&Track| place.index == packet.stream();
            let video_track = self.video_track.as_ref().filter(of);
            let Some(place) = video_track.or(self.audio_track.as_ref().filter(of)) else {
                continue;
            };
            if size == 0 {
                continue;
            }
            let is_audio = video_track.is_none();
            // When libavformat is interrupted it returns the packets that it had buffered; they are not a sign of life.
            if !self.deadline.timed_out() {
                self.deadline.extend();
            }
            if let Some(newest) = &mut self.newest_video {
                if !is_audio {
                    *newest = Instant::now();
                } else if newest.elapsed() > DATA_TIMEOUT {
                    let reason = format!("no video for {} s", DATA_TIMEOUT.as_secs());
                    return Err(self.failed(reason));
                }
            }
            if size > MAX_PACKET_BYTES {
                return Err(self.failed(format!("a packet of {size} bytes exceeds the limit")));
            }
            let base = (place.time_base.numerator(), place.time_base.denominator());
            let ticks = |value: i64| rescale(value, base.0, base.1);
            let mut times = SourceTimes::default();
            if self.timed {
                times.decode = packet.dts().map(ticks);
                times.presentation = packet.pts().map(ticks);
            }
            if self.timed || self.trusts_durations {
                times.duration = u32::try_from(ticks(packet.duration())).unwrap_or(0);
            }
            packet.set_dts(times.decode);
            packet.set_pts(times.presentation);
            let new_extradata = packet
                .side_data()
                .find(|side| side.kind() == packet::side_data::Type::NewExtraData)
                .map(|side| Bytes::copy_from_slice(side.data()));
            return Ok(Some(Packet {
                is_audio,
                packet,
                times,
                new_extradata,
            }));
        }
    }

    /// A stream that appears after the input was opened replaces the track of its kind: a program of an MPEG-TS whose
    /// map changed continues under other PIDs (ISO/IEC 13818-1 2.4.4.8), and nothing arrives under the old ones.
    ///
    /// # Errors
    /// Its video has another codec, so the source must be reopened.
    fn switch_track(&mut self, index: usize) -> Result<(), SourceError> {
        let Some(stream) = self.context.stream(index) else {
            return Ok(());
        };
        let next = Track::of(&stream);
        let is_video = match stream.parameters().medium() {
            media::Type::Video => true,
            media::Type::Audio => false,
            _ => return Ok(()),
        };
        let place = match is_video {
            true => &mut self.video_track,
            false => &mut self.audio_track,
        };
        let Some(now) = place.as_mut().filter(|now| now.index < next.index) else {
            return Ok(());
        };
        if now.codec == next.codec {
            *now = next;
        } else if is_video && self.newest_video.is_some() {
            // A file is read to its end; a live input would wait for the old track until it times out.
            let name = next.codec.name();
            return Err(self.failed(format!("its video codec changed to {name}")));
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

/// Display properties of a track in the container: phones store rotation as a matrix (ISO/IEC 14496-12 8.3.2).
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

impl Track {
    fn of(stream: &Stream<'_>) -> Track {
        Track {
            index: stream.index(),
            time_base: stream.time_base(),
            codec: stream.parameters().id(),
        }
    }
}

/// Options for every input: packets that the demuxer knows to be damaged are discarded, which leaves a gap, and only
/// these protocols are allowed.
fn set_always(options: &mut Dictionary, protocols: &str) {
    options.set("fflags", "discardcorrupt");
    options.set("protocol_whitelist", protocols);
}

/// Largest number of bytes that may be read to open a file of this length: the index of a day's recording is larger
/// than a packet.
fn max_opening_bytes(length: u64) -> usize {
    usize::try_from(length / INDEX_SHARE)
        .map_or(MAX_PACKET_BYTES, |most| most.max(MAX_PACKET_BYTES))
}

fn cannot_open(what: &str, reason: String) -> SourceError {
    SourceError::Open {
        what: what.to_owned(),
        reason,
    }
}

/// A reader that returns regularly, so that libavformat checks whether it should give up.
struct Pipe<P>(P);

impl<P: Read + AsFd> Read for Pipe<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if readable(&self.0, POLL_INTERVAL)? {
            self.0.read(buffer)
        } else {
            Err(io::ErrorKind::Interrupted.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_long_recording_fits_and_what_a_short_file_boasts_of_does_not() {
        assert_eq!(max_opening_bytes(0), MAX_PACKET_BYTES);
        assert_eq!(max_opening_bytes(2 << 30), MAX_PACKET_BYTES);
        assert_eq!(max_opening_bytes(32 << 30), 1 << 30);
    }
}
