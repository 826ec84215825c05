//! Clients of captures over WebSocket: each request is answered by a description and then the image.

use crate::{
    load::request,
    wire::{Cutter, Kind},
};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A request as a WebSocket frame, masked with zeros, because clients must mask (RFC 6455 5.3).
pub const CAPTURE_REQUEST: [u8; 24] = *b"\x81\x92\0\0\0\0{\"type\":\"capture\"}";
/// Longer than the gateway holds an answer back.
const PATIENCE: Duration = Duration::from_secs(20);
/// Limit of an answer's text in bytes.
const TEXT: usize = 2048;
const READ: usize = 256 << 10;
/// Receive buffer in bytes of a client that does not read.
const SMALL_BUFFER: u32 = 16 << 10;

/// A client that waits for the answer to each request.
pub struct CaptureClient {
    /// Connection of the client.
    pub socket: TcpStream,
    /// Parser of the answers.
    pub parser: AnswerParser,
    buffer: Vec<u8>,
}

impl CaptureClient {
    /// Connects; the stream's decoder then starts.
    pub fn connect(address: SocketAddr, stream: &str) -> Result<CaptureClient> {
        CaptureClient::on(TcpStream::connect(address)?, address, stream)
    }

    /// Connects a client that will not read, with a small buffer, so that the gateway soon notices.
    pub fn connect_stalled(address: SocketAddr, stream: &str) -> Result<CaptureClient> {
        // The standard library cannot limit the receive buffer before connecting.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let socket = runtime.enable_io().build()?.block_on(async {
            let socket = match address {
                SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
                SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
            };
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
            socket.connect(address).await?.into_std()
        })?;
        socket.set_nonblocking(false)?;
        CaptureClient::on(socket, address, stream)
    }

    fn on(mut socket: TcpStream, address: SocketAddr, stream: &str) -> Result<CaptureClient> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let path = format!("/api/ws/capture/{stream}");
        socket.write_all(request(Kind::WebSocket, address, &path).as_bytes())?;
        let mut shots = CaptureClient {
            socket,
            parser: AnswerParser::default(),
            buffer: vec![0; READ],
        };
        while !shots.parser.is_open() {
            shots.read()?;
        }
        Ok(shots)
    }

    /// Requests a capture and waits for its last byte.
    ///
    /// # Errors
    ///
    /// If the request fails.
    pub fn take(&mut self) -> Result<Image> {
        self.socket.write_all(&CAPTURE_REQUEST)?;
        loop {
            match self.read()? {
                Some(CaptureOutcome::Image(image)) => return Ok(image),
                Some(CaptureOutcome::Refused { code, message }) => {
                    bail!("the capture failed: {code}, {message}")
                }
                None => {}
            }
        }
    }

    fn read(&mut self) -> Result<Option<CaptureOutcome>> {
        let size = self.socket.read(&mut self.buffer)?;
        ensure!(size > 0, "the gateway hung up");
        let mut got = None;
        let bytes = self.buffer.get(..size).unwrap_or_default();
        self.parser.take(bytes, &mut |one| got = Some(one))?;
        Ok(got)
    }
}

/// Result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureOutcome {
    /// A complete capture.
    Image(Image),
    /// The request failed.
    Refused {
        /// Error code.
        code: String,
        /// Error message.
        message: String,
    },
}

/// Description of a capture.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Image {
    /// Time at which the frame arrived from the source: RFC 3339 with milliseconds.
    pub captured_at: String,
    /// Length in bytes.
    pub bytes: usize,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum CaptureMessage {
    CaptureResult(Image),
    Error { code: String, message: String },
}

/// Parser of answers that may be split anywhere. Pure.
pub struct AnswerParser {
    cutter: Cutter,
    /// Description of the image that comes next.
    pending: Option<Image>,
}

impl Default for AnswerParser {
    fn default() -> AnswerParser {
        AnswerParser {
            cutter: Cutter::new(Kind::WebSocket, TEXT),
            pending: None,
        }
    }
}

impl AnswerParser {
    /// Whether the WebSocket is open.
    pub fn is_open(&self) -> bool {
        self.cutter.is_open()
    }

    /// Takes bytes that were read; calls `got` for each answer completed by them.
    ///
    /// # Errors
    ///
    /// If they are not a valid answer.
    pub fn take(&mut self, bytes: &[u8], got: &mut impl FnMut(CaptureOutcome)) -> Result<()> {
        let AnswerParser { cutter, pending } = self;
        let mut understood = Ok(());
        cutter.take(bytes, &mut |head, length| {
            if understood.is_ok() {
                understood = parse_message(pending, head, length)
                    .map(|one| one.into_iter().for_each(&mut *got));
            }
        })?;
        understood
    }
}

/// Interprets one message: a text that begins with `head`, or the announced image.
fn parse_message(
    pending: &mut Option<Image>,
    head: &[u8],
    length: usize,
) -> Result<Option<CaptureOutcome>> {
    if let Some(image) = pending.take() {
        ensure!(
            image.bytes == length && head.starts_with(&[0xff, 0xd8, 0xff]),
            "{length} bytes that are not the announced JPEG of {}",
            image.bytes
        );
        return Ok(Some(CaptureOutcome::Image(image)));
    }
    let read: CaptureMessage = serde_json::from_slice(head)
        .with_context(|| format!("not an answer: {:?}", String::from_utf8_lossy(head)))?;
    Ok(match read {
        CaptureMessage::CaptureResult(image) => {
            *pending = Some(image);
            None
        }
        CaptureMessage::Error { code, message } => Some(CaptureOutcome::Refused { code, message }),
    })
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OPEN: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    const JPEG: &[u8] = &[0xff, 0xd8, 0xff, 0xe0, 1, 2, 3];

    fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[head, 126][..], &length, payload].concat()
    }

    /// An answer of the gateway: a text and the image.
    pub fn answer(captured_at: &str, jpeg: &[u8]) -> Vec<u8> {
        let text = format!(
            "{{\"type\":\"capture_result\",\"capture_id\":\"1\",\"captured_at\":\"{captured_at}\",\"bytes\":{}}}",
            jpeg.len()
        );
        [frame(0x81, text.as_bytes()), frame(0x82, jpeg)].concat()
    }

    fn refusal() -> Vec<u8> {
        let text = r#"{"type":"error","code":"CAPTURE_BUSY","message":"later","capture_id":"2"}"#;
        frame(0x81, text.as_bytes())
    }

    fn parse(stream: &[u8], at_a_time: usize) -> Result<Vec<CaptureOutcome>> {
        let (mut parser, mut all) = (AnswerParser::default(), Vec::new());
        for bytes in stream.chunks(at_a_time) {
            parser.take(bytes, &mut |got| all.push(got))?;
        }
        assert!(parser.is_open());
        Ok(all)
    }

    #[test]
    fn answers_are_understood_wherever_reads_end() {
        let stream = [OPEN, &answer("a", JPEG), &refusal(), &answer("b", JPEG)].concat();
        let image = |captured_at: &str| {
            CaptureOutcome::Image(Image {
                captured_at: captured_at.into(),
                bytes: JPEG.len(),
            })
        };
        let refused = CaptureOutcome::Refused {
            code: "CAPTURE_BUSY".into(),
            message: "later".into(),
        };
        let wanted = [image("a"), refused, image("b")];
        for at_a_time in [1, 3, 50, stream.len()] {
            assert_eq!(parse(&stream, at_a_time).unwrap(), wanted, "{at_a_time}");
        }
        assert!(!AnswerParser::default().is_open());
    }

    #[test]
    fn an_image_that_differs_from_its_description_is_an_error() {
        let cut = answer("a", JPEG)[..answer("a", JPEG).len() - JPEG.len() - 4].to_vec();
        for wrong in [
            [OPEN, &frame(0x82, JPEG)].concat(),
            [OPEN, &cut, &frame(0x82, &JPEG[..5])].concat(),
            [OPEN, &cut, &refusal()].concat(),
            [OPEN, &answer("a", b"no JPEG")].concat(),
            b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(),
        ] {
            assert!(parse(&wrong, 7).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_request_is_a_whole_masked_text() {
        let text = CAPTURE_REQUEST.get(6..).unwrap();
        assert_eq!(
            (CAPTURE_REQUEST[0], CAPTURE_REQUEST[1]),
            (0x81, 0x80 | u8::try_from(text.len()).unwrap())
        );
        assert_eq!(text, b"{\"type\":\"capture\"}");
    }
}
