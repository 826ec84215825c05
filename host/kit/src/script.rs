//! Sequences of calls: where their groups begin, how they are repeated, and how they are read from a recording.

use sluicegate_plugin::recording::{Call, FORMAT, Kind, Line, Opening, Record, Sample, StreamInfo};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};
use thiserror::Error;

/// Longest line of a recording in bytes: a sample of 16 MiB in Base64, with the chunks that were made of it.
const MAX_LINE: u64 = 96 << 20;

/// Calls that follow a stream, from its `configure` on.
#[derive(Clone, Debug)]
pub struct Script {
    /// What stream it is, for people.
    pub label: String,
    /// `configure`, `push` and `stop`, in order.
    pub calls: Vec<Call>,
}

impl Script {
    /// Indices of the calls with which a group begins.
    pub(crate) fn group_starts(&self) -> Vec<usize> {
        let mut leading = None;
        let mut group = None;
        let mut starts = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            match call {
                Call::Configure(info) => leading = leading_track(info),
                Call::Push(sample)
                    if Some(sample.track) == leading
                        && sample.independent
                        && group != Some(sample.group) =>
                {
                    group = Some(sample.group);
                    starts.push(index);
                }
                _ => {}
            }
        }
        starts
    }

    /// The newest `configure` before the call at `index`.
    pub(crate) fn configure_before(&self, index: usize) -> Option<&Call> {
        let mut before = self.calls.get(..index)?.iter().rev();
        before.find(|call| matches!(call, Call::Configure(_)))
    }

    /// The stream over and over: its complete groups, with times and numbers that go on. `None` if its tracks change or it
    /// has no complete group.
    pub fn endless(&self) -> Option<impl Iterator<Item = Call> + '_> {
        let starts = self.group_starts();
        let (first, last) = (*starts.first()?, *starts.last()?);
        let (before, rest) = self.calls.split_at(first);
        let body = rest.get(..last - first).filter(|body| !body.is_empty())?;
        if !body.iter().all(|call| matches!(call, Call::Push(_))) {
            return None;
        }
        let Some(Call::Configure(info)) = self.configure_before(first) else {
            return None;
        };
        let (Call::Push(from), Call::Push(to)) = (&self.calls[first], &self.calls[last]) else {
            return None;
        };
        let timescales = info.tracks.iter().map(|track| (track.id, track.timescale));
        let step = Step {
            ticks: to.decode_time.checked_sub(from.decode_time)?,
            track: from.track,
            timescales: timescales.collect(),
            groups: to.group.checked_sub(from.group)?,
            us: to.group_started_at.checked_sub(from.group_started_at)?,
        };
        let again = (0..).flat_map(move |turn| {
            let step = step.clone();
            body.iter().map(move |call| match call {
                Call::Push(sample) => Call::Push(step.shift(sample, turn)),
                call => call.clone(),
            })
        });
        Some(before.iter().cloned().chain(again))
    }
}

/// The track with whose samples groups begin.
fn leading_track(info: &StreamInfo) -> Option<u32> {
    let mut tracks = info.tracks.iter();
    let video = tracks.find(|track| matches!(track.kind, Kind::Video(_)));
    video.or(info.tracks.first()).map(|track| track.id)
}

/// How far a repetition of a stream is from the one before.
#[derive(Clone)]
struct Step {
    /// In ticks of `track`.
    ticks: u64,
    track: u32,
    timescales: BTreeMap<u32, u32>,
    groups: u64,
    us: u64,
}

impl Step {
    fn shift(&self, sample: &Sample, turn: u64) -> Sample {
        let scale =
            |track: u32| u64::from(self.timescales.get(&track).copied().unwrap_or(1).max(1));
        let ticks = self.ticks * scale(sample.track) / scale(self.track);
        Sample {
            decode_time: sample.decode_time + turn * ticks,
            group: sample.group + turn * self.groups,
            group_started_at: sample.group_started_at + turn * self.us,
            captured_at: sample.captured_at + turn * self.us,
            ..sample.clone()
        }
    }
}

/// Reason why a recording cannot be read.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        reason: io::Error,
    },
    /// The file is not a recording of this version.
    #[error("{path} is not a recording: {reason}; `sluicegate plugin record` writes one")]
    Other {
        /// Path of the file.
        path: String,
        /// What is wrong with its first line.
        reason: String,
    },
    /// A line is not one of a recording.
    #[error(
        "{path}, line {line}: {reason}; a recording is written by `sluicegate plugin record`, one JSON object per line"
    )]
    Line {
        /// Path of the file.
        path: String,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// A recording that is being read, line by line: it may be larger than memory.
pub struct RecordingFile {
    path: String,
    lines: BufReader<File>,
    /// Number of the newest line, from 1.
    line: usize,
    /// Its first line.
    pub opening: Opening,
    /// Why it ended, once its last line was read; `None` if it is cut off.
    pub end: Option<String>,
}

impl std::fmt::Debug for RecordingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}", self.path, self.line)
    }
}

impl RecordingFile {
    /// Opens a recording and reads its first line.
    ///
    /// # Errors
    /// It cannot be read, or does not begin like a recording of this version.
    pub fn open(path: &Path) -> Result<RecordingFile, RecordingError> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(|reason| RecordingError::Read {
            path: shown.clone(),
            reason,
        })?;
        let mut lines = BufReader::new(file);
        let wrong = |reason: String| RecordingError::Other {
            path: shown.clone(),
            reason,
        };
        let text = read_line(&mut lines).map_err(|error| wrong(error.to_string()))?;
        if text.is_empty() {
            return Err(wrong("it is empty".into()));
        }
        let opening = match Line::parse(&text) {
            Ok(Line::Opening(opening)) if opening.recording == FORMAT => opening,
            Ok(Line::Opening(opening)) => {
                return Err(wrong(format!(
                    "it has version {} of the format, and this program reads {FORMAT}",
                    opening.recording
                )));
            }
            Ok(Line::End(end)) => {
                return Err(wrong(format!("it has no calls: {}", end.end)));
            }
            Ok(Line::Record(_)) => return Err(wrong("its first line has no `recording`".into())),
            Err(error) => {
                return Err(wrong(format!(
                    "its first line is not that of a recording: {error}"
                )));
            }
        };
        Ok(RecordingFile {
            path: shown,
            lines,
            line: 1,
            opening,
            end: None,
        })
    }

    /// Number of the line that was read last, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Its calls as a script, for at most so many bytes of samples.
    ///
    /// # Errors
    /// A line cannot be read.
    pub fn script(mut self, most: usize) -> Result<Script, RecordingError> {
        let Opening {
            stream, transport, ..
        } = &self.opening;
        let label = format!("{} ({stream} over {transport})", self.path);
        let mut calls = Vec::new();
        let mut bytes = 0;
        while bytes < most
            && let Some(record) = self.next_record()?
        {
            if let Call::Push(sample) = &record.call {
                bytes += sample.data.len();
            }
            if matches!(
                record.call,
                Call::Configure(_) | Call::Push(_) | Call::Stop { .. }
            ) {
                calls.push(record.call);
            }
        }
        Ok(Script { label, calls })
    }

    /// The next call; `None` at the end.
    ///
    /// # Errors
    /// The line cannot be read.
    pub fn next_record(&mut self) -> Result<Option<Record>, RecordingError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let wrong = |line, reason| RecordingError::Line {
            path: self.path.clone(),
            line,
            reason,
        };
        let line = self.line + 1;
        let text = read_line(&mut self.lines).map_err(|error| wrong(line, error.to_string()))?;
        // A line without an end was being written when the recording was cut off.
        if !text.ends_with('\n') {
            return Ok(None);
        }
        self.line = line;
        match Line::parse(&text) {
            Ok(Line::Record(record)) => Ok(Some(*record)),
            Ok(Line::End(end)) => {
                self.end = Some(end.end);
                Ok(None)
            }
            Ok(Line::Opening(_)) => Err(wrong(line, "a second recording begins here".into())),
            Err(error) => Err(wrong(line, error.to_string())),
        }
    }
}

/// The next line with its end; empty at the end of the file.
fn read_line(lines: &mut BufReader<File>) -> io::Result<String> {
    let mut text = String::new();
    lines.take(MAX_LINE).read_line(&mut text)?;
    match text.len() as u64 >= MAX_LINE {
        true => Err(io::Error::other("the line is too long")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sluicegate_plugin::recording::{Track, Video};

    fn script() -> Script {
        let track = |id, timescale, kind| Track {
            id,
            format: String::new(),
            codec: String::new(),
            config: Default::default(),
            timescale,
            kind,
            more: Vec::new(),
        };
        let video = Kind::Video(Video {
            width: 2,
            height: 2,
            pixel_aspect: (1, 1),
            rotation: 0,
            mirrored: false,
            frame_rate: 1.0,
            keyframe_ms: 0,
        });
        let sample = |track, group, decode_time, independent| {
            Call::Push(Sample {
                track,
                group,
                decode_time,
                composition_offset: 0,
                duration: 0,
                independent,
                leading: false,
                repeated: false,
                captured_at: 10 * group,
                group_started_at: 10 * group,
                data: Default::default(),
            })
        };
        let info = StreamInfo {
            started_at: 0,
            epoch: 0,
            tracks: vec![track(1, 90, video), track(2, 48, Kind::Data)],
            renditions: Vec::new(),
            longest_group_ms: 0,
            more: Vec::new(),
        };
        Script {
            label: String::new(),
            calls: vec![
                Call::Configure(info),
                sample(1, 7, 90, true),
                sample(2, 7, 48, true),
                sample(1, 7, 135, false),
                sample(1, 9, 180, true),
                sample(1, 9, 200, true),
            ],
        }
    }

    #[test]
    fn groups_begin_with_independent_video() {
        assert_eq!(script().group_starts(), [1, 4]);
    }

    #[test]
    fn repetitions_go_on_in_times_and_numbers() {
        let script = script();
        let calls: Vec<Call> = script.endless().unwrap().take(7).collect();
        let times: Vec<(u32, u64, u64, u64)> = calls
            .iter()
            .filter_map(|call| match call {
                Call::Push(sample) => Some((
                    sample.track,
                    sample.group,
                    sample.decode_time,
                    sample.captured_at,
                )),
                _ => None,
            })
            .collect();
        assert_eq!(
            times,
            [
                (1, 7, 90, 70),
                (2, 7, 48, 70),
                (1, 7, 135, 70),
                (1, 9, 180, 90),
                (2, 9, 96, 90),
                (1, 9, 225, 90),
            ]
        );
    }
}
