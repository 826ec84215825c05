//! A camera with its own RTSP server (RFC 2326, over TCP) that stamps its frames as the test wants, including wrongly.

use crate::{camera::clip, within};
use bytes::Bytes;
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Frames per second.
pub const RATE: u32 = 15;
/// Largest payload of an RTP packet, in bytes.
const PAYLOAD: usize = 1400;

/// Maps the number of a frame to its RTP time stamp at 90 kHz.
pub type Stamp = fn(u32) -> u32;

/// Sends the clip in a loop to every client; stops when dropped.
pub struct Clockless {
    port: u16,
    serving: JoinHandle<()>,
}

impl Clockless {
    /// Starts the server on a port chosen by the system.
    pub async fn serve(stamp: Stamp) -> Clockless {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, stamp));
            }
        });
        Clockless { port, serving }
    }

    /// URL of the camera as a source.
    pub fn source(&self) -> String {
        format!("rtsp://127.0.0.1:{}/stream", self.port)
    }
}

impl Drop for Clockless {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one connection until the gateway closes it.
async fn serve(mut connection: TcpStream, stamp: Stamp) {
    connection.set_nodelay(true).unwrap();
    let (input, mut output) = connection.split();
    let mut input = BufReader::new(input);
    loop {
        let Some((method, sequence)) = request(&mut input).await else {
            return;
        };
        let (headers, body) = match method.as_str() {
            "OPTIONS" => ("Public: DESCRIBE, SETUP, PLAY\r\n", ""),
            "DESCRIBE" => ("Content-Type: application/sdp\r\n", DESCRIPTION),
            "SETUP" => (
                "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
                "",
            ),
            _ => ("Session: 1\r\n", ""),
        };
        let length = body.len();
        let answer = format!(
            "RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        if output.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if method == "PLAY" {
            break;
        }
    }
    let mut ticker = tokio::time::interval(Duration::from_secs(1) / RATE);
    let frames = clip().frames.iter().cycle().zip(0..);
    let mut sequence = 0;
    for (frame, nth) in frames {
        ticker.tick().await;
        let packets = packets(frame, stamp(nth), &mut sequence);
        if output.write_all(&packets).await.is_err() {
            return;
        }
    }
}

/// Method and CSeq of the next request.
async fn request(input: &mut (impl AsyncBufReadExt + Unpin)) -> Option<(String, String)> {
    let (mut method, mut sequence, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if within("a request", input.read_line(&mut line)).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() && !method.is_empty() {
            break;
        }
        if method.is_empty() {
            method = line.split(' ').next()?.to_owned();
        }
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("CSeq") => {
                value.trim().clone_into(&mut sequence)
            }
            Some((name, value)) if name.eq_ignore_ascii_case("Content-Length") => {
                length = value.trim().parse().ok()?;
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).await.ok()?;
    Some((method, sequence))
}

/// Session description (RFC 4566). The parameter sets are sent in band.
const DESCRIPTION: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:trackID=0\r\n";

/// RTP packets of one frame (RFC 6184 5.6, 5.8), interleaved with RTSP (RFC 2326 10.12).
fn packets(frame: &[Bytes], stamp: u32, sequence: &mut u16) -> Vec<u8> {
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    for unit in frame {
        if unit.len() <= PAYLOAD {
            payloads.push(unit.to_vec());
            continue;
        }
        let (head, rest) = (unit[0], &unit[1..]);
        let count = rest.chunks(PAYLOAD).count();
        for (nth, chunk) in rest.chunks(PAYLOAD).enumerate() {
            let (first, last) = (u8::from(nth == 0) << 7, u8::from(nth + 1 == count) << 6);
            payloads.push([&[head & 0xe0 | 28, first | last | head & 0x1f], chunk].concat());
        }
    }
    let mut out = Vec::new();
    let last = payloads.len() - 1;
    for (nth, payload) in payloads.iter().enumerate() {
        let marker = u8::from(nth == last) << 7;
        let length = u16::try_from(12 + payload.len()).unwrap();
        out.extend([b'$', 0]);
        out.extend(length.to_be_bytes());
        out.extend([0x80, marker | 96]);
        out.extend(sequence.to_be_bytes());
        out.extend(stamp.to_be_bytes());
        out.extend(1u32.to_be_bytes());
        out.extend(payload);
        *sequence = sequence.wrapping_add(1);
    }
    out
}
