//! A small web server with a few files, for sources to fetch.

use crate::mjpeg::read_head;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Content of a path.
#[derive(Clone)]
pub enum Page {
    /// A file with this content type, whole or by ranges (RFC 9110 14).
    File(&'static str, Vec<u8>),
    /// A redirect.
    Moved(String),
    /// Header fields and bytes, followed by one filler byte repeated for as long as the client reads.
    Endless(&'static str, Vec<u8>, u8),
}

/// A running server; stops when dropped.
pub struct Web {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    task: JoinHandle<()>,
}

impl Web {
    /// Listens on `host` and a port chosen by the system.
    pub async fn serve(host: &str) -> Web {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let pages = Arc::<Mutex<HashMap<String, Page>>>::default();
        let (count, all) = (connections.clone(), pages.clone());
        let task = tokio::spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                clients.spawn(serve(client, all.clone()));
            }
        });
        Web {
            address,
            connections,
            pages,
            task,
        }
    }

    /// Sets the content of a path.
    pub fn put(&self, path: &str, page: Page) {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    pages: Arc<Mutex<HashMap<String, Page>>>,
) -> std::io::Result<()> {
    loop {
        let request = read_head(&mut client).await?;
        let path = request.split(' ').nth(1).unwrap_or_default();
        let page = pages.lock().unwrap().get(path).cloned();
        match page {
            None => {
                client
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    .await?;
            }
            Some(Page::Moved(to)) => {
                let head =
                    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
                client.write_all(head.as_bytes()).await?;
            }
            Some(Page::File(kind, bytes)) => {
                let range = request.lines().find_map(|line| {
                    let (name, value) = line.split_once(": bytes=")?;
                    let from = value.trim().split('-').next()?;
                    name.eq_ignore_ascii_case("range")
                        .then(|| from.parse().ok())?
                });
                let from: usize = range.unwrap_or(0).min(bytes.len());
                let status = match range {
                    Some(_) => format!(
                        "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                        bytes.len() - 1,
                        bytes.len()
                    ),
                    None => "200 OK".into(),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\r\n",
                    bytes.len() - from
                );
                client
                    .write_all(&[head.as_bytes(), &bytes[from..]].concat())
                    .await?;
            }
            Some(Page::Endless(fields, bytes, filler)) => {
                let head = format!("HTTP/1.0 200 OK\r\n{fields}\r\n");
                client
                    .write_all(&[head.as_bytes(), &bytes].concat())
                    .await?;
                let chunk = vec![filler; 1 << 20];
                loop {
                    client.write_all(&chunk).await?;
                }
            }
        }
    }
}
