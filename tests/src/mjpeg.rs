//! MJPEG cameras, each with its own variant of the protocol.

use bytes::Bytes;
use md5::{Digest, Md5};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Time between two frames.
const STEP: Duration = Duration::from_millis(40);
const MULTIPART: &str = "Content-Type: multipart/x-mixed-replace; boundary=cam\r\n";
const IMAGE: &str = "Content-Type: image/jpeg\r\n";

/// A variant of MJPEG over HTTP.
#[derive(Clone, Copy)]
pub struct Way {
    /// Name of the variant; its path is `/` followed by this.
    pub name: &'static str,
    /// Header fields of the response.
    head: &'static str,
    /// The JPEG as this camera sends it.
    pub sent: fn(&[u8]) -> Vec<u8>,
    /// The part of the multipart body around a JPEG.
    part: fn(&[u8]) -> Vec<u8>,
    /// The response contains a single frame.
    once: bool,
}

/// A plain variant, from which the others are derived.
const fn way(name: &'static str, head: &'static str, part: fn(&[u8]) -> Vec<u8>) -> Way {
    Way {
        name,
        head,
        sent: |jpeg| jpeg.to_vec(),
        part,
        once: false,
    }
}

const fn once(name: &'static str, head: &'static str, part: fn(&[u8]) -> Vec<u8>) -> Way {
    Way {
        once: true,
        ..way(name, head, part)
    }
}

const fn sending(way: Way, sent: fn(&[u8]) -> Vec<u8>) -> Way {
    Way { sent, ..way }
}

fn with_length(jpeg: &[u8], length: usize) -> Vec<u8> {
    let head = format!("--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), jpeg, b"\r\n"].concat()
}

fn right(jpeg: &[u8]) -> Vec<u8> {
    with_length(jpeg, jpeg.len())
}

fn behind(head: &'static str) -> impl Fn(&[u8]) -> Vec<u8> {
    move |jpeg| [head.as_bytes(), jpeg, b"\r\n"].concat()
}

fn without_end(jpeg: &[u8]) -> Vec<u8> {
    jpeg[..jpeg.len() - 2].to_vec()
}

/// Adds thumbnails in an APP1 and a COM segment, the second cut off.
fn with_thumbnails(jpeg: &[u8]) -> Vec<u8> {
    let segment = |kind: u8, body: &[u8]| {
        let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
        [&[0xff, kind], &length[..], body].concat()
    };
    let small = &jpeg[..jpeg.len().min(30_000)];
    let thumbnail = [small, &[0xff, 0xd9]].concat();
    let (app, com) = (segment(0xe1, &thumbnail), segment(0xfe, &small[..500]));
    [&jpeg[..2], &app, &com, &jpeg[2..]].concat()
}

/// Removes the Huffman tables, as in AVI1.
pub fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let (mut bare, mut at) = (jpeg[..2].to_vec(), 2);
    while jpeg[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xc4 {
            bare.extend_from_slice(&jpeg[at..end]);
        }
        at = end;
    }
    bare.extend_from_slice(&jpeg[at..]);
    bare
}

/// Variants met in real cameras, and a few more.
pub static VARIANTS: [Way; 36] = [
    way("right", MULTIPART, right),
    way("line-feeds", MULTIPART, |jpeg| {
        let head = format!(
            "--cam\nContent-Type: image/jpeg\nContent-Length: {}\n\n",
            jpeg.len()
        );
        [head.as_bytes(), jpeg, b"\n"].concat()
    }),
    way("no-length", MULTIPART, |jpeg| {
        behind("--cam\r\nContent-Type: image/jpeg\r\n\r\n")(jpeg)
    }),
    way("no-type", MULTIPART, |jpeg| behind("--cam\r\n\r\n")(jpeg)),
    way("image-jpg", MULTIPART, |jpeg| {
        behind("--cam\r\nContent-Type: image/jpg\r\n\r\n")(jpeg)
    }),
    way("type-with-size", MULTIPART, |jpeg| {
        let head = format!(
            "--cam\r\nContent-Type: image/jpeg;size={}\r\n\r\n",
            jpeg.len()
        );
        [head.as_bytes(), jpeg, b"\r\n"].concat()
    }),
    way("no-boundary-at-all", MULTIPART, |jpeg| {
        behind("Content-Type: image/jpeg\r\n\r\n")(jpeg)
    }),
    way("boundary-behind", MULTIPART, |jpeg| {
        [b"Content-Type: image/jpeg\r\n\r\n", jpeg, b"\r\n--cam\r\n"].concat()
    }),
    way("closed-after-each", MULTIPART, |jpeg| {
        [&right(jpeg)[..], b"--cam--\r\n"].concat()
    }),
    way("too-short", MULTIPART, |jpeg| {
        with_length(jpeg, jpeg.len() - 500)
    }),
    way("too-long", MULTIPART, |jpeg| {
        with_length(jpeg, jpeg.len() + 2000)
    }),
    way("far-too-long", MULTIPART, |jpeg| {
        with_length(jpeg, 2_000_000_000)
    }),
    way("negative", MULTIPART, |jpeg| {
        behind("--cam\r\nContent-Type: image/jpeg\r\nContent-Length: -1\r\n\r\n")(jpeg)
    }),
    way("blank-lines", MULTIPART, |jpeg| {
        behind("\r\n\r\n--cam\r\nContent-Type: image/jpeg\r\n\r\n\r\n")(jpeg)
    }),
    way("text-between", MULTIPART, |jpeg| {
        let text = b"--cam\r\nContent-Type: text/plain\r\n\r\nmotion: none\r\n";
        [&text[..], &right(jpeg)].concat()
    }),
    way("padded", MULTIPART, |jpeg| {
        let padded = [jpeg, &[0; 512]].concat();
        right(&padded)
    }),
    way("trailer", MULTIPART, |jpeg| {
        let more = [jpeg, b"\xff\xd8 serial=17 \xff\xd9"].concat();
        right(&more)
    }),
    way(
        "declared-with-dashes",
        "Content-Type: multipart/x-mixed-replace;boundary=--cam\r\n",
        right,
    ),
    way(
        "quoted",
        "Content-Type: multipart/x-mixed-replace; boundary=\"cam\"\r\n",
        right,
    ),
    way(
        "not-declared",
        "Content-Type: multipart/x-mixed-replace\r\n",
        right,
    ),
    way(
        "other-declared",
        "Content-Type: multipart/x-mixed-replace; boundary=frame\r\n",
        right,
    ),
    way(
        "lower-case",
        "content-type : multipart/x-mixed-replace; boundary=cam\r\n",
        |jpeg| behind("--cam\r\ncontent-type: image/jpeg\r\n\r\n")(jpeg),
    ),
    way(
        "octets",
        "Content-Type: application/octet-stream\r\n",
        right,
    ),
    way("nothing-said", "", right),
    way("bare", IMAGE, <[u8]>::to_vec),
    way(
        "bare-octets",
        "Content-Type: application/octet-stream\r\n",
        <[u8]>::to_vec,
    ),
    way(
        "chunked",
        "Content-Type: multipart/x-mixed-replace; boundary=cam\r\nTransfer-Encoding: chunked\r\n",
        |jpeg| {
            let part = right(jpeg);
            let pieces = part.chunks(1000);
            let pieces = pieces.map(|piece| {
                [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
            });
            pieces.flatten().collect()
        },
    ),
    sending(way("no-end", MULTIPART, right), without_end),
    sending(
        way("no-end-no-length", MULTIPART, |jpeg| {
            behind("--cam\r\nContent-Type: image/jpeg\r\n\r\n")(jpeg)
        }),
        without_end,
    ),
    sending(way("no-end-bare", IMAGE, <[u8]>::to_vec), without_end),
    sending(way("no-tables", MULTIPART, right), without_tables),
    sending(way("thumbnails", MULTIPART, right), with_thumbnails),
    sending(
        way("thumbnails-bare", IMAGE, <[u8]>::to_vec),
        with_thumbnails,
    ),
    once("one", IMAGE, <[u8]>::to_vec),
    once("one-part", MULTIPART, right),
    sending(
        once("one-no-end", "Content-Type: image/jpg\r\n", <[u8]>::to_vec),
        without_end,
    ),
];

/// A server that sends the same frames repeatedly in all variants. Further paths: `/basic` and `/digest` require the
/// login `viewer`, `pass:word`; `/moved/WAY` redirects to the variant; `/moved-to/HOST:PORT/WAY` redirects to another
/// server.
pub struct MjpegCamera {
    /// Address on which it listens.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl MjpegCamera {
    /// Listens on `host` and a port chosen by the system.
    pub async fn serve(host: &str, frames: Vec<Bytes>) -> MjpegCamera {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let frames: Arc<[Bytes]> = frames.into();
        let task = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                clients.spawn(serve(client, frames.clone()));
            }
        });
        MjpegCamera { address, task }
    }
}

impl Drop for MjpegCamera {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one client until it disconnects.
async fn serve(mut client: TcpStream, frames: Arc<[Bytes]>) -> std::io::Result<()> {
    let mut next = 0;
    loop {
        let request = read_head(&mut client).await?;
        let path = request.split(' ').nth(1).unwrap_or_default();
        let asked = path
            .trim_start_matches('/')
            .split('?')
            .next()
            .unwrap_or_default();
        let name = match asked {
            "basic" | "digest" => {
                if !is_let_in(&request, asked, path) {
                    let challenge = match asked {
                        "basic" => "Basic realm=\"cam\"",
                        _ => "Digest realm=\"cam\", nonce=\"0123\", qop=\"auth\", algorithm=MD5",
                    };
                    let head = format!(
                        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 2\r\n\r\nno"
                    );
                    client.write_all(head.as_bytes()).await?;
                    continue;
                }
                "right"
            }
            other => other,
        };
        let to = match (name.strip_prefix("moved-to/"), name.strip_prefix("moved/")) {
            (Some(to), _) => Some(format!("http://{to}")),
            (_, Some(to)) => Some(format!("/{to}")),
            _ => None,
        };
        if let Some(to) = to {
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            client.write_all(head.as_bytes()).await?;
            continue;
        }
        let Some(way) = VARIANTS.iter().find(|way| way.name == name) else {
            client
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await?;
            continue;
        };
        if way.once {
            let frame = &frames[next % frames.len()];
            next += 1;
            let body = (way.part)(&(way.sent)(frame));
            let head = format!(
                "HTTP/1.1 200 OK\r\n{}Content-Length: {}\r\n\r\n",
                way.head,
                body.len()
            );
            client.write_all(&[head.as_bytes(), &body].concat()).await?;
            continue;
        }
        let version = if way.head.contains("chunked") {
            "1.1"
        } else {
            "1.0"
        };
        let head = format!("HTTP/{version} 200 OK\r\n{}\r\n", way.head);
        client.write_all(head.as_bytes()).await?;
        let mut ticks = tokio::time::interval(STEP);
        loop {
            ticks.tick().await;
            let frame = &frames[next % frames.len()];
            next += 1;
            client.write_all(&(way.part)(&(way.sent)(frame))).await?;
        }
    }
}

/// Reads the head of a request; an error if the client has disconnected.
pub async fn read_head(client: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn is_let_in(request: &str, scheme: &str, path: &str) -> bool {
    let line = request
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("authorization:"));
    let Some((_, value)) = line.and_then(|line| line.split_once(": ")) else {
        return false;
    };
    if scheme == "basic" {
        // viewer:pass:word
        return value == "Basic dmlld2VyOnBhc3M6d29yZA==";
    }
    let field = |name: &str| {
        let (_, rest) = value.split_once(&format!("{name}="))?;
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        Some(rest[..end].trim_matches('"').to_owned())
    };
    let hash = |text: String| {
        let bytes = Md5::digest(text.as_bytes());
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let told = || {
        let (nc, cnonce) = (field("nc")?, field("cnonce")?);
        let (one, two) = (
            hash("viewer:cam:pass:word".into()),
            hash(format!("GET:{path}")),
        );
        let expected = hash(format!("{one}:0123:{nc}:{cnonce}:auth:{two}"));
        Some(field("response")? == expected && field("uri")? == path)
    };
    told() == Some(true)
}
