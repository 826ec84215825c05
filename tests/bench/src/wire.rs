//! Splits what a viewer reads into messages: WebSocket frames, parts of a multipart body, chunked or not, or records of
//! `webcodecs`.
//!
//! Only the first bytes of a message are kept, as many as requested; the rest is counted and discarded. Pure.

use anyhow::{Context, Result, bail, ensure};

/// Limit of a head in bytes; a longer one is an error.
const MAX_HEAD_BYTES: usize = 4096;
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// Kind of connection requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WebSocket.
    WebSocket,
    /// A multipart body.
    Multipart,
    /// A stream of WebTransport with records of `webcodecs`. There is no response.
    Records,
}

/// Splits the bytes read by one viewer.
pub struct Cutter {
    kind: Kind,
    /// Number of bytes kept of each message.
    keep: usize,
    state: State,
    /// Bytes read of the head of a response, frame or part; then the kept bytes of the message.
    head: Vec<u8>,
    /// Bytes of the message that are still to come, and its total length.
    left: usize,
    length: usize,
    chunks: Option<Chunks>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Response,
    Head,
    Message,
}

impl Cutter {
    /// Starts before the first byte of the response. Keeps `keep` bytes of each message.
    pub fn new(kind: Kind, keep: usize) -> Cutter {
        Cutter {
            kind,
            keep,
            state: match kind {
                Kind::WebSocket | Kind::Multipart => State::Response,
                Kind::Records => State::Head,
            },
            head: Vec::new(),
            left: 0,
            length: 0,
            chunks: None,
        }
    }

    /// Takes bytes that were read; calls `message` with the first bytes and the length of each message completed by
    /// them.
    ///
    /// # Errors
    ///
    /// If they do not match the request.
    pub fn take(&mut self, mut bytes: &[u8], message: &mut impl FnMut(&[u8], usize)) -> Result<()> {
        if self.state == State::Response {
            if !self.gather(&mut bytes)? {
                return Ok(());
            }
            let head = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
            match (self.kind, head.split(' ').nth(1)) {
                (Kind::WebSocket, Some("101")) | (Kind::Multipart, Some("200")) => {}
                _ => bail!("not the requested response: {head}"),
            }
            if head.contains("transfer-encoding: chunked") {
                self.chunks = Some(Chunks::default());
            }
            self.head.clear();
            self.state = State::Head;
        }
        let Some(mut chunks) = self.chunks.take() else {
            return self.cut(bytes, message);
        };
        let cut = chunks.take(bytes, &mut |content| self.cut(content, message));
        self.chunks = Some(chunks);
        cut
    }

    /// Whether the head of the response has been read and was valid.
    pub fn is_open(&self) -> bool {
        self.state != State::Response
    }

    /// Whether a message has begun whose kept bytes satisfy `wanted`.
    pub fn inside_of(&self, wanted: impl Fn(&[u8]) -> bool) -> bool {
        self.state == State::Message && !self.head.is_empty() && wanted(&self.head)
    }

    fn cut(&mut self, mut bytes: &[u8], message: &mut impl FnMut(&[u8], usize)) -> Result<()> {
        loop {
            if self.state == State::Head {
                let length = match self.kind {
                    Kind::WebSocket => self.frame(&mut bytes)?,
                    Kind::Multipart => self.part(&mut bytes)?,
                    Kind::Records => self.record(&mut bytes)?,
                };
                let Some(length) = length else {
                    return Ok(());
                };
                // Of a record, the length is a part.
                if self.kind != Kind::Records {
                    self.head.clear();
                }
                self.length = self.head.len() + length;
                (self.left, self.state) = (length, State::Message);
            }
            let (now, later) = bytes.split_at(self.left.min(bytes.len()));
            let kept = self.keep.saturating_sub(self.head.len()).min(now.len());
            self.head.extend_from_slice(&now[..kept]);
            self.left -= now.len();
            bytes = later;
            if self.left > 0 {
                return Ok(());
            }
            message(&self.head, self.length);
            self.head.clear();
            self.state = State::Head;
        }
    }

    /// Length stated by the head of a frame (RFC 6455 5.2), once complete.
    fn frame(&mut self, bytes: &mut &[u8]) -> Result<Option<usize>> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.head.push(*byte);
            let length = match *self.head {
                [head, ..] if head != BINARY && head != TEXT => {
                    bail!("a fragmented or control frame: {head:#x}")
                }
                [_, short @ 0..126] => u64::from(short),
                [_, 126, a, b] => u64::from(u16::from_be_bytes([a, b])),
                [_, 127, a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                [_, long, ..] if long >= 128 => bail!("a masked frame"),
                _ => continue,
            };
            return Ok(Some(usize::try_from(length)?));
        }
        Ok(None)
    }

    /// Length stated by the head of a part, once complete. The delimiter before it counts as part of the head.
    fn part(&mut self, bytes: &mut &[u8]) -> Result<Option<usize>> {
        if !self.gather(bytes)? {
            return Ok(None);
        }
        let head = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        ensure!(
            head.trim_start().starts_with("--"),
            "a part without a delimiter before it: {head:?}"
        );
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length:"));
        let length = length.with_context(|| format!("a part without length: {head:?}"))?;
        Ok(Some(length.trim().parse()?))
    }

    /// Length stated by the first four bytes of a record, once complete.
    fn record(&mut self, bytes: &mut &[u8]) -> Result<Option<usize>> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.head.push(*byte);
            if let [a, b, c, d] = *self.head {
                return Ok(Some(u32::from_be_bytes([a, b, c, d]).try_into()?));
            }
        }
        Ok(None)
    }

    /// Whether the head is complete up to its empty line.
    fn gather(&mut self, bytes: &mut &[u8]) -> Result<bool> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.head.push(*byte);
            if self.head.ends_with(b"\r\n\r\n") {
                return Ok(true);
            }
            ensure!(
                self.head.len() < MAX_HEAD_BYTES,
                "a response head longer than the limit"
            );
        }
        Ok(false)
    }
}

/// Decoder of a chunked body (RFC 9112 7.1).
#[derive(Debug, Default)]
struct Chunks {
    /// Bytes read of the line with the chunk size, including the end of the previous chunk.
    line: Vec<u8>,
    /// Bytes of the chunk that are still to come.
    left: usize,
}

impl Chunks {
    fn take(
        &mut self,
        mut bytes: &[u8],
        content: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let Some((byte, rest)) = bytes.split_first() else {
                    break;
                };
                bytes = rest;
                self.line.push(*byte);
                ensure!(
                    self.line.len() < 64,
                    "a chunk size line longer than the limit"
                );
                let line = self.line.strip_prefix(b"\r\n").unwrap_or(&self.line);
                if let Some(digits) = line.strip_suffix(b"\r\n")
                    && !digits.is_empty()
                {
                    self.left = usize::from_str_radix(std::str::from_utf8(digits)?, 16)
                        .context("not a chunk size")?;
                    ensure!(self.left > 0, "the body ended");
                    self.line.clear();
                }
                continue;
            }
            let (now, later) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= now.len();
            bytes = later;
            content(now)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cut(kind: Kind, stream: &[u8], at_a_time: usize) -> Result<Vec<(String, usize)>> {
        let (mut cutter, mut got) = (Cutter::new(kind, 4), Vec::new());
        for bytes in stream.chunks(at_a_time) {
            cutter.take(bytes, &mut |head, length| {
                got.push((String::from_utf8(head.to_vec()).unwrap(), length));
            })?;
        }
        Ok(got)
    }

    #[test]
    fn messages_of_any_length_are_cut_wherever_reads_end() {
        let mut stream = b"HTTP/1.1 101 Switching\r\nA: b\r\n\r\n\x81\x03abc\x82\x00".to_vec();
        for length in [300usize, 70_000] {
            match u16::try_from(length) {
                Ok(short) => stream.extend([&[0x82, 126][..], &short.to_be_bytes()].concat()),
                Err(_) => {
                    stream.extend([&[0x82, 127][..], &(length as u64).to_be_bytes()].concat())
                }
            }
            stream.extend(vec![b'x'; length]);
        }
        let wanted = [("abc", 3), ("", 0), ("xxxx", 300), ("xxxx", 70_000)]
            .map(|(head, length)| (head.to_owned(), length));
        for at_a_time in [1, 2, 3, 7, 1000, usize::MAX] {
            assert_eq!(cut(Kind::WebSocket, &stream, at_a_time).unwrap(), wanted);
        }
    }

    #[test]
    fn parts_are_cut_chunked_or_not() {
        let parts = "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 6\r\n\r\nabcdef\r\n--frame\r\ncontent-length: 2\r\n\r\nxy\r\n";
        let wanted = [("abcd".to_owned(), 6), ("xy".to_owned(), 2)];
        let plain = format!("HTTP/1.1 200 OK\r\n\r\n{parts}");
        let (one, two) = parts.split_at(70);
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:X}\r\n{two}\r\n",
            one.len(),
            two.len()
        );
        for at_a_time in [1, 2, 5, 90, usize::MAX] {
            for stream in [&plain, &chunked] {
                assert_eq!(
                    cut(Kind::Multipart, stream.as_bytes(), at_a_time).unwrap(),
                    wanted
                );
            }
        }
    }

    #[test]
    fn what_was_not_asked_for_is_an_error() {
        for (kind, stream) in [
            (Kind::WebSocket, "HTTP/1.1 404 Not Found\r\n\r\n"),
            (Kind::WebSocket, "HTTP/1.1 101 S\r\n\r\n\u{1}\u{1}a"),
            (Kind::Multipart, "HTTP/1.1 101 S\r\n\r\n"),
            (
                Kind::Multipart,
                "HTTP/1.1 200 OK\r\n\r\n--x\r\nContent-Type: a\r\n\r\n",
            ),
            (
                Kind::Multipart,
                "HTTP/1.1 200 OK\r\n\r\nContent-Length: 1\r\n\r\n",
            ),
            (
                Kind::Multipart,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ] {
            assert!(cut(kind, stream.as_bytes(), 5).is_err(), "{stream:?}");
        }
    }
}
