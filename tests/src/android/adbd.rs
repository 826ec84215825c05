//! The device side of the adb protocol (AOSP, `packages/modules/adb/protocol.txt`) over TCP, as `adb connect` expects
//! it. Tests plug fake devices of this kind into a real adb server.
//!
//! The model relies on three properties of real Android: a stream is closed on both sides with CLSE; the end of the
//! connection ends all of its streams; a shell whose stream ends gets SIGHUP and dies (AOSP,
//! `adb/daemon/shell_service.cpp`: "protocol FD died, sending SIGHUP").

use super::scrcpy;
use crate::{PATIENCE, within};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};

const CNXN: u32 = u32::from_le_bytes(*b"CNXN");
const AUTH: u32 = u32::from_le_bytes(*b"AUTH");
const OPEN: u32 = u32::from_le_bytes(*b"OPEN");
const OKAY: u32 = u32::from_le_bytes(*b"OKAY");
const WRTE: u32 = u32::from_le_bytes(*b"WRTE");
const CLSE: u32 = u32::from_le_bytes(*b"CLSE");
/// First protocol version in which neither side verifies checksums.
const VERSION: u32 = 0x0100_0001;
const MAX_PAYLOAD: u32 = 256 << 10;

/// A fake device that listens for an adb server. Its screen shows the frames of a [`super::Film`].
#[derive(Clone)]
pub struct Device {
    /// Serial number, as `adb connect` takes it and the adb server lists it.
    pub serial: String,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Epoch of the device's clock, which stamps its frames.
    pub(super) since: Instant,
    accepting: Mutex<Option<JoinHandle<()>>>,
    address: SocketAddr,
    /// Changed to close all open connections.
    unplugged: watch::Sender<u64>,
}

/// State of a device that tests change and inspect.
#[derive(Default)]
pub struct State {
    /// Services of adb's open streams, by stream number.
    pub streams: BTreeMap<u32, String>,
    /// Abstract sockets that something on the device listens on, by name.
    pub sockets: BTreeMap<String, mpsc::UnboundedSender<Pipe>>,
    /// Running scrcpy servers, by process number.
    pub processes: BTreeMap<u32, mpsc::UnboundedSender<scrcpy::Command>>,
    pub files: BTreeMap<String, Vec<u8>>,
    /// Command lines that started a scrcpy server, oldest first.
    pub started: Vec<String>,
    /// Times at which a scrcpy server was asked for a keyframe.
    pub resets: Vec<Instant>,
    /// Number of scrcpy servers that turned the screen on.
    pub wakes: usize,
    /// Protocol violations: things that no client of scrcpy does.
    pub complaints: Vec<String>,
    /// The computer has not been authorized on the device yet.
    pub locked: bool,
    /// The shell behaves as before Android 7, without the shell protocol.
    pub is_old: bool,
    /// Keyframe requests are ignored.
    pub is_deaf: bool,
    /// Bytes of filler data after each frame.
    pub filler: usize,
    /// Error text with which every new server fails at once.
    pub fails: Option<String>,
    /// API level of the device's Android.
    pub sdk: u32,
    next: u32,
    /// Connections that wait for the user's authorization.
    asking: Vec<mpsc::UnboundedSender<Vec<u8>>>,
}

impl State {
    /// Whether nothing started or opened by a gateway is left on the device.
    pub fn is_clean(&self) -> bool {
        self.streams.is_empty()
            && self.sockets.is_empty()
            && self.processes.is_empty()
            && self.files.is_empty()
    }
}

impl Device {
    /// Creates a device that is plugged in, on 127.0.0.1.
    pub async fn new() -> Device {
        Device::at("127.0.0.1").await
    }

    /// Creates a device that is plugged in and listens on `host`, which is also written in its serial.
    pub async fn at(host: &str) -> Device {
        let bind = if host.contains("::1") {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        let listener = TcpListener::bind(bind).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                sdk: 34,
                ..State::default()
            }),
            changed: watch::Sender::new(()),
            since: Instant::now(),
            accepting: Mutex::default(),
            address,
            unplugged: watch::Sender::new(0),
        });
        let device = Device {
            serial: format!("{host}:{}", address.port()),
            shared,
        };
        device.accept(listener);
        device
    }

    /// Cuts the link; further connections are refused.
    pub fn unplug(&self) {
        if let Some(accepting) = self.shared.accepting.lock().unwrap().take() {
            accepting.abort();
        }
        self.shared.unplugged.send_modify(|times| *times += 1);
    }

    /// Accepts connections again after [`Device::unplug`].
    pub async fn plug_in(&self) {
        let began = Instant::now();
        loop {
            match TcpListener::bind(self.shared.address).await {
                Ok(listener) => return self.accept(listener),
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Changes or reads the state under its lock.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.shared.change(change)
    }

    /// Authorizes all computers that wait for it, as a user does on the screen.
    pub fn allow(&self) {
        let asking = self.change(|state| {
            state.locked = false;
            std::mem::take(&mut state.asking)
        });
        for out in asking {
            let _ = out.send(self.shared.banner());
        }
    }

    /// Waits until `look` returns a value; fails the test with `what` after [`crate::PATIENCE`].
    pub async fn until<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = look(&self.shared.lock()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => {
                let state = self.shared.lock();
                panic!(
                    "timed out after {PATIENCE:?}: {what}; streams {:?}, sockets {:?}, {} processes, files {:?}, complaints {:?}",
                    state.streams,
                    state.sockets.keys(),
                    state.processes.len(),
                    state.files.keys(),
                    state.complaints
                )
            }
        }
    }

    /// Waits until nothing that a gateway started or opened is left on the device.
    pub async fn is_clean(&self) {
        self.until("nothing is left", |state| state.is_clean().then_some(()))
            .await;
    }

    /// Shows the next frame on the screen as soon as a client is watching; returns its place in the film.
    pub async fn show(&self) -> usize {
        let (to, place) = oneshot::channel();
        let process = self.until("scrcpy runs", |state| {
            state.processes.values().next().cloned()
        });
        let _ = process.await.send(scrcpy::Command::Show(to));
        within("a frame is encoded", place)
            .await
            .expect("scrcpy ended")
    }

    /// Turns the device from upright to lying or back.
    pub async fn turn(&self) {
        self.command(scrcpy::Command::Turn).await;
    }

    /// Makes the scrcpy server print `words` and die.
    pub async fn crash(&self, words: &str) {
        self.command(scrcpy::Command::Die(words.to_owned())).await;
    }

    async fn command(&self, command: scrcpy::Command) {
        let process = self.until("scrcpy runs", |state| {
            state.processes.values().next().cloned()
        });
        process
            .await
            .send(command)
            .unwrap_or_else(|_| panic!("scrcpy ended"));
    }

    fn accept(&self, listener: TcpListener) {
        let shared = self.shared.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let mut unplugged = shared.unplugged.subscribe();
                let shared = shared.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(&shared, socket) => {}
                        _ = unplugged.changed() => {}
                    }
                });
            }
        });
        *self.shared.accepting.lock().unwrap() = Some(accepting);
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    fn banner(&self) -> Vec<u8> {
        let features = if self.lock().is_old {
            ""
        } else {
            "features=shell_v2,cmd"
        };
        let text = format!(
            "device::ro.product.name=fake;ro.product.model=Fake_{};{features}",
            self.address.port()
        );
        message(CNXN, VERSION, MAX_PAYLOAD, text.as_bytes())
    }
}

fn message(command: u32, arg0: u32, arg1: u32, data: &[u8]) -> Vec<u8> {
    let sum = data
        .iter()
        .fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    let words = [command, arg0, arg1, data.len() as u32, sum, !command];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(data);
    bytes
}

/// Device side of one adb stream, for the service behind it.
pub struct Pipe {
    id: u32,
    remote: u32,
    out: mpsc::UnboundedSender<Vec<u8>>,
    /// Payloads from the other side; ends when the other side closes.
    pub input: mpsc::UnboundedReceiver<Bytes>,
    /// Flow control: the other side takes one message at a time.
    credit: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Pipe {
    /// Writes all bytes; returns false if the other side has closed.
    pub async fn write(&self, bytes: &[u8]) -> bool {
        for part in bytes.chunks(MAX_PAYLOAD as usize) {
            match self.credit.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return false,
            }
            if self
                .out
                .send(message(WRTE, self.id, self.remote, part))
                .is_err()
            {
                return false;
            }
        }
        true
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.out.send(message(CLSE, self.id, self.remote, &[]));
        self.shared.change(|state| state.streams.remove(&self.id));
    }
}

struct Open {
    input: mpsc::UnboundedSender<Bytes>,
    credit: Arc<Semaphore>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.credit.close();
    }
}

async fn connection(shared: &Arc<Shared>, socket: TcpStream) {
    let (mut from, mut to) = socket.into_split();
    let (out, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
    let writing = tokio::spawn(async move {
        while let Some(bytes) = queue.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    // Dropped when this function ends or is cancelled.
    let _ends = AbortOnDrop(writing);
    let mut open: HashMap<u32, Open> = HashMap::new();
    loop {
        let mut head = [0; 24];
        if from.read_exact(&mut head).await.is_err() {
            return;
        }
        let word = |at: usize| u32::from_le_bytes(head[at * 4..at * 4 + 4].try_into().unwrap());
        let (command, remote, local) = (word(0), word(1), word(2));
        let mut data = vec![0; word(3) as usize];
        if from.read_exact(&mut data).await.is_err() {
            return;
        }
        match command {
            CNXN | AUTH if shared.lock().locked => {
                // A public key goes to the user for authorization; anything else is answered with another token to
                // sign.
                if (command, remote) == (AUTH, 3) {
                    shared.change(|state| state.asking.push(out.clone()));
                } else {
                    let _ = out.send(message(AUTH, 1, 0, &[7; 20]));
                }
            }
            CNXN | AUTH => drop(out.send(shared.banner())),
            OPEN => {
                let service = String::from_utf8_lossy(&data);
                let service = service.trim_end_matches('\0').to_owned();
                let (input, incoming) = mpsc::unbounded_channel();
                let credit = Arc::new(Semaphore::new(1));
                let id = shared.change(|state| {
                    state.next += 1;
                    state.streams.insert(state.next, service.clone());
                    state.next
                });
                let pipe = Pipe {
                    id,
                    remote,
                    out: out.clone(),
                    input: incoming,
                    credit: credit.clone(),
                    shared: shared.clone(),
                };
                if is_known(shared, &service) {
                    let _ = out.send(message(OKAY, id, remote, &[]));
                    open.insert(id, Open { input, credit });
                    serve(shared, &service, pipe);
                } else {
                    let _ = out.send(message(CLSE, 0, remote, &[]));
                }
            }
            OKAY => {
                if let Some(open) = open.get(&local) {
                    open.credit.add_permits(1);
                }
            }
            WRTE => {
                let taken = open
                    .get(&local)
                    .is_some_and(|open| open.input.send(data.into()).is_ok());
                let answer = if taken { OKAY } else { CLSE };
                let _ = out.send(message(answer, local, remote, &[]));
            }
            CLSE => drop(open.remove(&local)),
            other => shared.change(|state| state.complaints.push(format!("adb command {other:x}"))),
        }
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn is_known(shared: &Shared, service: &str) -> bool {
    let state = shared.lock();
    match service.split_once(':') {
        Some(("localabstract", name)) => state.sockets.contains_key(name),
        Some(("shell,v2,raw", _)) => !state.is_old,
        Some(("shell" | "sync", _)) => true,
        _ => false,
    }
}

fn serve(shared: &Arc<Shared>, service: &str, pipe: Pipe) {
    let (kind, rest) = service.split_once(':').unwrap();
    let (shared, rest) = (shared.clone(), rest.to_owned());
    match kind {
        "localabstract" => {
            let listener = shared.lock().sockets.get(&rest).cloned();
            let _ = listener.map(|listener| listener.send(pipe));
        }
        "sync" => drop(tokio::spawn(async move { sync(&shared, pipe).await })),
        kind => {
            let packets = kind != "shell";
            tokio::spawn(async move { scrcpy::shell(&shared, rest, pipe, packets).await });
        }
    }
}

/// The file-writing subset of the sync service (AOSP, `adb/SYNC.TXT`).
async fn sync(shared: &Shared, mut pipe: Pipe) {
    let mut came: Vec<u8> = Vec::new();
    let mut file: Option<(String, Vec<u8>)> = None;
    while let Some(bytes) = pipe.input.recv().await {
        came.extend_from_slice(&bytes);
        while let Some((head, rest)) = came.split_first_chunk::<8>() {
            let length = u32::from_le_bytes(head[4..].try_into().unwrap()) as usize;
            let id: [u8; 4] = head[..4].try_into().unwrap();
            let has_data = &id != b"DONE";
            if has_data && rest.len() < length {
                break;
            }
            let data: Vec<u8> = if has_data {
                rest[..length].to_vec()
            } else {
                Vec::new()
            };
            came.drain(..8 + data.len());
            match (&id, &mut file) {
                (b"SEND", _) => {
                    let text = String::from_utf8(data).unwrap();
                    let (path, mode) = text.rsplit_once(',').unwrap();
                    assert_eq!(mode, "33188", "a regular file that all may read");
                    file = Some((path.to_owned(), Vec::new()));
                }
                (b"DATA", Some((_, content))) => content.extend_from_slice(&data),
                (b"DONE", Some(_)) => {
                    let (path, content) = file.take().unwrap();
                    shared.change(|state| state.files.insert(path, content));
                    pipe.write(b"OKAY\0\0\0\0").await;
                }
                (b"QUIT", _) => return,
                _ => shared.change(|state| state.complaints.push(format!("sync {id:?}"))),
            }
        }
    }
}
