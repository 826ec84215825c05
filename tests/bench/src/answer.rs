//! Responses on a persistent HTTP/1.1 connection (RFC 9112), one after the other. Pure.

use anyhow::{Context, Result, ensure};

/// Limit of a response's head; a longer one is an error.
const MAX_HEAD_BYTES: usize = 4096;
/// Limit of a response's body; a longer one is an error.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The bytes read of one response.
#[derive(Default)]
pub struct Answer {
    bytes: Vec<u8>,
    /// Status, and start and end of the body.
    head: Option<(u16, usize, usize)>,
}

impl Answer {
    /// Appends bytes read from the connection.
    pub fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Status and body, once the response is complete.
    ///
    /// # Errors
    ///
    /// If it is not a response with a length, or is followed by bytes that were not requested.
    pub fn whole(&mut self) -> Result<Option<(u16, &[u8])>> {
        let (status, begin, end) = match self.head {
            Some(head) => head,
            None => match self.read_head()? {
                Some(head) => *self.head.insert(head),
                None => return Ok(None),
            },
        };
        ensure!(
            self.bytes.len() <= end,
            "bytes after the requested response"
        );
        Ok((self.bytes.len() == end)
            .then(|| self.bytes.get(begin..end))
            .flatten()
            .map(|body| (status, body)))
    }

    /// Prepares for the next response.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.head = None;
    }

    fn read_head(&self) -> Result<Option<(u16, usize, usize)>> {
        let searched = self.bytes.get(..MAX_HEAD_BYTES).unwrap_or(&self.bytes);
        let Some(end) = searched.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(
                self.bytes.len() < MAX_HEAD_BYTES,
                "a response head longer than the limit"
            );
            return Ok(None);
        };
        let head = String::from_utf8_lossy(searched.get(..end).unwrap_or_default());
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .with_context(|| format!("not an HTTP response: {first:?}"))?;
        let length: usize = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.trim().parse().ok())
            .with_context(|| format!("a response without Content-Length: {head}"))?;
        ensure!(
            length <= MAX_BODY_BYTES,
            "a response of {length} bytes exceeds the limit"
        );
        Ok(Some((status, end + 4, end + 4 + length)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_are_whole_wherever_reads_end() {
        let stream = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nA: b\r\n\r\nhello";
        for at_a_time in [1, 3, 20, stream.len()] {
            let mut answer = Answer::default();
            for _ in 0..2 {
                for (nth, bytes) in stream.chunks(at_a_time).enumerate() {
                    assert_eq!(answer.whole().unwrap(), None, "{nth}");
                    answer.take(bytes);
                }
                assert_eq!(answer.whole().unwrap(), Some((200, &b"hello"[..])));
                answer.clear();
            }
        }
        let mut answer = Answer::default();
        answer.take(b"HTTP/1.1 404 Not Found\r\nContent-Length:0\r\n\r\n");
        assert_eq!(answer.whole().unwrap(), Some((404, &b""[..])));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for stream in [
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            &"a".repeat(MAX_HEAD_BYTES),
        ] {
            let mut answer = Answer::default();
            answer.take(stream.as_bytes());
            assert!(answer.whole().is_err(), "{stream:?}");
        }
    }
}
