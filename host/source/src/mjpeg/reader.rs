//! Finds the JPEGs in the output of MJPEG cameras: `multipart/x-mixed-replace` in all its variants, or concatenated
//! JPEGs.
//!
//! A JPEG itself shows where it ends ([`jpeg::Scan`]), so neither boundaries nor `Content-Length` have to be right;
//! they are used only if a JPEG lacks its EOI marker. A JPEG is returned as soon as its last byte has arrived, without
//! trailing data. The result does not depend on how the bytes are split. No I/O, no clock.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memmem};
use sluicegate_media::jpeg::{self, Extent, Scan};
use thiserror::Error;

/// Largest JPEG that is accepted, in bytes.
pub const MAX_FRAME_BYTES: usize = 32 << 20;
/// Longest line that is parsed as a part's header, in bytes.
const MAX_LINE_LEN: usize = 4 << 10;
/// Longest boundary (RFC 2046 5.1.1).
const MAX_BOUNDARY_LEN: usize = 70;
/// Largest number of dashes before a boundary: the delimiter's two, and those that the boundary itself may start with.
const MAX_DASHES: usize = 40;
/// Number of bytes from which a delimiter is recognised: line break, dashes, boundary, line break, name of a header
/// field.
const DELIMITER: usize = 256;

const SOI: [u8; 3] = [0xff, 0xd8, 0xff];

/// Output of a [`Reader`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderEvent {
    /// One JPEG, from SOI to EOI.
    Frame(Bytes),
    /// A damaged JPEG was dropped.
    Damaged(Damage),
}

/// Why a JPEG was dropped.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Damage {
    /// It exceeds the limit, in bytes.
    #[error("dropped a JPEG of more than {0} bytes")]
    TooLarge(usize),
    /// The header of the JPEG is damaged.
    #[error("dropped a JPEG with a damaged header")]
    Header,
}

/// Splits a byte stream into JPEGs. Buffers one JPEG of at most [`MAX_FRAME_BYTES`] bytes, unless another limit is set.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    place: ReaderState,
    max_bytes: usize,
    /// Boundary between parts, without surrounding dashes; empty if unknown.
    boundary: Vec<u8>,
    /// Set if the last JPEG lacked its EOI marker and was as long as its `Content-Length`.
    trusts_length: bool,
}

#[derive(Debug)]
enum ReaderState {
    /// In headers or anything else that is not a JPEG.
    Between(Head),
    /// The buffer starts with a JPEG.
    Frame {
        scan: Scan,
        length: Option<usize>,
        /// No delimiter starts before this offset.
        searched: usize,
    },
    /// After a JPEG: skips what `Content-Length` counts beyond it, unless a delimiter shows that the length is wrong.
    Rest { left: usize, fresh: bool },
}

/// Header of a part.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<usize>,
    /// Whether the part is text or audio.
    is_foreign: bool,
    /// Whether the start of the line was too long and has been discarded.
    is_cut: bool,
}

enum Step {
    Again,
    Wait,
    ReaderEvent(ReaderEvent),
}

impl Reader {
    /// A reader for a stream whose `Content-Type` has this boundary, if any.
    pub fn new(boundary: Option<&str>) -> Reader {
        let mut reader = Reader {
            buffer: BytesMut::new(),
            place: ReaderState::Between(Head::default()),
            max_bytes: MAX_FRAME_BYTES,
            boundary: Vec::new(),
            trusts_length: false,
        };
        reader.learn(boundary.unwrap_or_default().as_bytes());
        reader
    }

    /// Sets the largest JPEG that is accepted, in bytes.
    pub fn with_limit(mut self, max_bytes: usize) -> Reader {
        self.max_bytes = max_bytes;
        self
    }

    /// Adds received bytes; call [`Reader::take`] afterwards until it returns `None`.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next JPEG, if it is complete.
    pub fn take(&mut self) -> Option<ReaderEvent> {
        self.next(false)
    }

    /// At the end of the stream: the remaining JPEG, if it lacks only its EOI marker.
    pub fn finish(&mut self) -> Option<ReaderEvent> {
        self.next(true)
    }

    fn next(&mut self, is_end: bool) -> Option<ReaderEvent> {
        loop {
            let step = match self.place {
                ReaderState::Between(head) => self.read_headers(head),
                ReaderState::Frame { .. } => self.frame(is_end),
                ReaderState::Rest { left, fresh } => self.rest(left, fresh, is_end),
            };
            match step {
                Step::Again => {}
                Step::Wait => return None,
                Step::ReaderEvent(found) => return Some(found),
            }
        }
    }

    /// Reads header lines up to the next SOI marker.
    fn read_headers(&mut self, mut head: Head) -> Step {
        let found = memmem::find(&self.buffer, &SOI);
        let text = found.unwrap_or(self.buffer.len());
        let mut at = 0;
        while let Some(end) = memchr(b'\n', &self.buffer[at..text]) {
            let line = self.buffer[at..at + end].to_vec();
            self.line(&mut head, &line);
            at += end + 1;
        }
        let Some(soi) = found else {
            self.buffer.advance(at);
            if self.buffer.len() > MAX_LINE_LEN {
                // The start of an SOI marker is kept.
                self.buffer.advance(self.buffer.len() - (SOI.len() - 1));
                head.is_cut = true;
            }
            self.place = ReaderState::Between(head);
            return Step::Wait;
        };
        if head.is_foreign {
            self.buffer.advance(soi + SOI.len() - 1);
            self.place = ReaderState::Between(head);
            return Step::Again;
        }
        self.buffer.advance(soi);
        self.place = ReaderState::Frame {
            scan: Scan::default(),
            length: head.length,
            searched: 0,
        };
        Step::Again
    }

    fn line(&mut self, head: &mut Head, line: &[u8]) {
        if std::mem::take(&mut head.is_cut) || line.len() > MAX_LINE_LEN {
            return;
        }
        let line = line.trim_ascii();
        if line.starts_with(b"--") && line.iter().all(u8::is_ascii_graphic) {
            self.learn(line);
            *head = Head::default();
        } else if !self.boundary.is_empty() && line == self.boundary {
            *head = Head::default();
        } else if let Some(value) = field(line, b"content-length") {
            let value = str::from_utf8(value).ok();
            let length = value.and_then(|value| value.parse().ok());
            head.length = length.filter(|length| (1..=self.max_bytes).contains(length));
        } else if let Some(value) = field(line, b"content-type") {
            let is = |kind: &[u8]| {
                let start = value.get(..kind.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(kind))
            };
            head.is_foreign = is(b"text/") || is(b"audio/");
            if is(b"multipart/")
                && let Some(boundary) = boundary(&String::from_utf8_lossy(value))
            {
                self.learn(boundary.as_bytes());
            }
        }
    }

    fn learn(&mut self, boundary: &[u8]) {
        let name = trim_dashes(boundary.trim_ascii());
        if (1..=MAX_BOUNDARY_LEN).contains(&name.len()) {
            self.boundary = name.to_vec();
        }
    }

    fn frame(&mut self, is_end: bool) -> Step {
        let ReaderState::Frame {
            scan,
            length,
            searched,
        } = &mut self.place
        else {
            return Step::Wait;
        };
        let (length, searched) = (*length, *searched);
        let extent = scan.advance(&self.buffer);
        let known = match extent {
            Extent::Open => self.buffer.len(),
            Extent::Complete(at) | Extent::Followed(at) | Extent::Broken(at) => at,
        };
        let coded = scan.coded_from().filter(|coded| *coded <= known);
        // Only bytes that had arrived when the length was reached may show that the length is wrong.
        let trusted = length.filter(|_| self.trusts_length);
        let told = trusted.map_or(known, |length| length.min(known));
        let delimiter = coded.and_then(|coded| self.delimiter(coded.max(searched), told));
        let coded = coded.unwrap_or(usize::MAX);
        if let Some(at) = delimiter.filter(|at| *at <= self.max_bytes) {
            // The boundary comes before an EOI marker.
            let bare = trim_break(&self.buffer[..at]).len();
            let is_right = length.is_some_and(|length| (bare..=at).contains(&length));
            self.trusts_length = is_right;
            let end = length.filter(|_| is_right).unwrap_or(bare).max(coded);
            return self.emit(end, None);
        }
        if let Some(length) = trusted
            && (coded..=known).contains(&length)
            && extent != Extent::Complete(length)
        {
            return self.emit(length, None);
        }
        // An unfinished JPEG may still end within the limit.
        let is_open = extent == Extent::Open && delimiter.is_none() && !is_end;
        let slack = if is_open { DELIMITER } else { 0 };
        if delimiter.unwrap_or(known) > self.max_bytes + slack {
            return self.discard(self.max_bytes + 1, Damage::TooLarge(self.max_bytes));
        }
        match extent {
            Extent::Complete(end) => {
                self.trusts_length = false;
                self.emit(end, length)
            }
            Extent::Followed(end) => {
                self.trusts_length = false;
                let end = self.trim_header(coded, end);
                self.emit(end, None)
            }
            Extent::Broken(at) => self.discard(at, Damage::Header),
            Extent::Open if is_end && coded < known => {
                let end = trim_break(&self.buffer[..known]).len().max(coded);
                self.emit(end, None)
            }
            Extent::Open => {
                if let ReaderState::Frame { searched, .. } = &mut self.place {
                    *searched = known.saturating_sub(DELIMITER);
                }
                Step::Wait
            }
        }
    }

    /// Returns the JPEG that ends at `end`; `length` is the part's declared length if more of the part may follow.
    fn emit(&mut self, end: usize, length: Option<usize>) -> Step {
        let data = &self.buffer[..end];
        // Copied, so that a JPEG in use does not keep the whole buffer alive.
        let frame = if data.ends_with(&jpeg::EOI) {
            Bytes::copy_from_slice(data)
        } else {
            Bytes::from([data, &jpeg::EOI].concat())
        };
        self.buffer.advance(end);
        self.place = ReaderState::Rest {
            left: length.map_or(0, |length| length.saturating_sub(end)),
            fresh: true,
        };
        Step::ReaderEvent(ReaderEvent::Frame(frame))
    }

    fn discard(&mut self, bytes: usize, damage: Damage) -> Step {
        self.buffer.advance(bytes.min(self.buffer.len()));
        self.place = ReaderState::Between(Head::default());
        Step::ReaderEvent(ReaderEvent::Damaged(damage))
    }

    fn rest(&mut self, left: usize, fresh: bool, is_end: bool) -> Step {
        let end = self.buffer.len().min(left.saturating_add(DELIMITER));
        let starts = fresh && self.is_delimiter(0, end) == Some(true);
        let found = if starts {
            Some(0)
        } else {
            self.delimiter(0, end)
        };
        let (bytes, is_over) = match found {
            Some(at) => (at.min(left), true),
            None if is_end || left == 0 || end == left.saturating_add(DELIMITER) => {
                (left.min(end), true)
            }
            // A delimiter may have started.
            None => (end.saturating_sub(DELIMITER).min(left), false),
        };
        self.buffer.advance(bytes);
        if is_over {
            self.place = ReaderState::Between(Head::default());
            return Step::Again;
        }
        self.place = ReaderState::Rest {
            left: left - bytes,
            fresh: fresh && bytes == 0,
        };
        Step::Wait
    }

    /// Start of the line of a delimiter between these offsets, as far as it can be recognised yet.
    fn delimiter(&self, from: usize, to: usize) -> Option<usize> {
        let first = from.saturating_sub(1).min(to);
        memchr_iter(b'\n', &self.buffer[first..to])
            .map(|at| first + at + 1)
            .find(|at| self.is_delimiter(*at, to) == Some(true))
    }

    /// Whether the line at `at` is a delimiter; `None` if that depends on bytes after `to`.
    fn is_delimiter(&self, at: usize, to: usize) -> Option<bool> {
        let bytes = self.buffer.get(at..to).unwrap_or_default();
        let dashes = bytes.iter().take_while(|byte| **byte == b'-').count();
        if dashes > MAX_DASHES {
            return Some(false);
        }
        let name = &bytes[dashes..];
        let known = &self.boundary[..];
        // A short boundary alone on a line may be a coincidence.
        if !known.is_empty() && (dashes >= 2 || known.len() >= 8) {
            if let Some(behind) = name.strip_prefix(known) {
                let behind = behind.strip_prefix(b"--").unwrap_or(behind);
                return behind.first().map(|next| next.is_ascii_whitespace());
            }
            if known.starts_with(name) {
                return None;
            }
        }
        if dashes < 2 {
            return (dashes < bytes.len()).then_some(false);
        }
        // An unannounced boundary is accepted if a header follows.
        let printable = name.iter().take_while(|byte| byte.is_ascii_graphic());
        let printable = printable.count();
        if printable > MAX_BOUNDARY_LEN {
            return Some(false);
        }
        let behind = &name[printable..];
        let behind = behind.strip_prefix(b"\r").unwrap_or(behind);
        let Some(head) = behind.strip_prefix(b"\n") else {
            return (!behind.is_empty()).then_some(false);
        };
        const FIELD: &[u8] = b"content-";
        let start = &head[..head.len().min(FIELD.len())];
        let fits = start.eq_ignore_ascii_case(&FIELD[..start.len()]);
        (!fits || start.len() == FIELD.len()).then_some(fits)
    }

    /// End of a JPEG without EOI marker that another one follows at `end`, with a header but no boundary between them.
    fn trim_header(&self, coded: usize, end: usize) -> usize {
        let from = end.saturating_sub(2 * DELIMITER).max(coded).min(end);
        let tail = self.buffer[from..end].to_ascii_lowercase();
        match memmem::find(&tail, b"\ncontent-") {
            Some(at) => trim_break(&self.buffer[..from + at + 1]).len().max(coded),
            None => end,
        }
    }
}

/// The boundary parameter of a `Content-Type` (RFC 2046 5.1.1), quoted or not.
pub fn boundary(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty()).then_some(value)
    })
}

/// Whether a stream with this `Content-Type` and these first bytes is read by [`Reader`].
pub fn is_mjpeg(content_type: Option<&str>, start: &[u8]) -> bool {
    let kind = content_type.and_then(|value| value.split(';').next());
    let kind = kind.unwrap_or_default().trim().to_ascii_lowercase();
    if kind.starts_with("multipart/") {
        return true;
    }
    let known = [
        "image/jpeg",
        "image/jpg",
        "image/pjpeg",
        "video/x-motion-jpeg",
        "video/x-mjpeg",
        "video/mjpeg",
    ];
    if known.contains(&kind.as_str()) || start.starts_with(&SOI) {
        return true;
    }
    let start = start.trim_ascii_start();
    let head = start[..start.len().min(1 << 10)].to_ascii_lowercase();
    let has = |text: &[u8]| memmem::find(&head, text).is_some();
    (head.starts_with(b"--") && has(b"content-type: image/j"))
        || (head.starts_with(b"http/1.") && has(b"multipart/x-mixed-replace"))
}

/// The value of the header field `name` (in lower case), if the line is that field.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let colon = memchr(b':', line)?;
    let (found, value) = (line[..colon].trim_ascii(), &line[colon + 1..]);
    found
        .eq_ignore_ascii_case(name)
        .then_some(value.trim_ascii())
}

fn trim_dashes(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"-") {
        bytes = rest;
    }
    while let Some(rest) = bytes.strip_suffix(b"-") {
        bytes = rest;
    }
    bytes
}

/// Removes one trailing line break.
fn trim_break(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests;
