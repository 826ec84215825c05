//! Programs that take runs of bytes from one connection and write each to all viewers, in several ways. The baseline is
//! the lower bound with which the gateway is compared; the others show which way to write to many sockets costs least
//! (scenario `fanout`). They run as processes of their own: `bench serve`.

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use clap::ValueEnum;
use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    task::{Poll, Waker},
    thread,
};
use tokio::{io::AsyncWriteExt, sync::Notify};

/// How runs reach the viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FanOut {
    /// The baseline: the thread that has the run writes it to each socket in turn, and a viewer whose socket is full
    /// misses what does not fit. It does nothing else, and less work is not possible.
    Bare,
    /// A tokio task per viewer, woken for each run, on as many threads as there are processors.
    Tasks,
    /// The same on one thread.
    TasksOnOneThread,
    /// The thread that has the run tries to write it to each tokio socket in turn; a task per viewer takes over while
    /// its socket is full.
    Pass,
    /// The same in a tokio task that is woken for each run, so that the thread that has the run writes to no socket.
    PassInATask,
    /// Like `Pass`, with the viewers divided between two threads.
    TwoPasses,
}

/// Serves until killed: prints its address on standard output and takes runs from `source`.
pub fn serve(way: FanOut, source: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening on http://{}", listener.local_addr()?);
    serve_on(listener, way, source)
}

/// Serves clients of `listener` until `source` ends.
pub fn serve_on(listener: TcpListener, way: FanOut, source: SocketAddr) -> Result<()> {
    let runs = Runs(TcpStream::connect(source)?);
    match way {
        FanOut::Bare => bare(listener, runs),
        FanOut::Tasks => tasks(listener, runs, 0),
        FanOut::TasksOnOneThread => tasks(listener, runs, 1),
        FanOut::Pass => passes(listener, runs, 1, false),
        FanOut::PassInATask => passes(listener, runs, 1, true),
        FanOut::TwoPasses => passes(listener, runs, 2, false),
    }
}

/// Runs of bytes, each after its length.
pub struct Runs(pub TcpStream);

impl Iterator for Runs {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut run = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut run).ok()?;
        Some(run.into())
    }
}

/// Answers any request of a viewer as the gateway would.
fn answer_upgrade(socket: &mut TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let (mut request, mut byte) = (Vec::new(), [0; 1024]);
    while !request.ends_with(b"\r\n\r\n") {
        let size = socket.read(&mut byte)?;
        request.extend_from_slice(
            byte.get(..size)
                .filter(|read| !read.is_empty())
                .context("no request")?,
        );
    }
    let answer: &[u8] = if String::from_utf8_lossy(&request).contains("websocket") {
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\
          Transfer-Encoding: chunked\r\n\r\n9\r\n--frame\r\n\r\n"
    };
    socket.write_all(answer)?;
    socket.set_nonblocking(true)?;
    Ok(())
}

/// Accepts viewers on a thread of its own and passes each to `take`.
fn accept(listener: TcpListener, mut take: impl FnMut(TcpStream) + Send + 'static) -> Result<()> {
    thread::Builder::new()
        .name("accept".into())
        .spawn(move || {
            for mut socket in listener.incoming().flatten() {
                if answer_upgrade(&mut socket).is_ok() {
                    take(socket);
                }
            }
        })?;
    Ok(())
}

fn bare(listener: TcpListener, runs: Runs) -> Result<()> {
    let (arrive, arrived) = mpsc::channel();
    accept(listener, move |socket| {
        drop(arrive.send((socket, Bytes::new())))
    })?;
    let mut viewers: Vec<(TcpStream, Bytes)> = Vec::new();
    for run in runs {
        viewers.extend(arrived.try_iter());
        viewers.retain_mut(|(socket, rest)| {
            // The rest of the previous run goes first; a viewer that cannot take it misses this one.
            if !rest.is_empty() && !push(socket, rest) {
                return false;
            }
            if !rest.is_empty() {
                return true;
            }
            *rest = run.clone();
            push(socket, rest)
        });
    }
    Ok(())
}

/// Writes what the socket takes; returns whether the connection is still open.
fn push(mut socket: &TcpStream, rest: &mut Bytes) -> bool {
    while !rest.is_empty() {
        match socket.write(rest) {
            Ok(0) => return false,
            Ok(size) => rest.advance(size),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

/// Runs that tasks read at their own positions, as in the gateway's outlet.
#[derive(Default)]
struct Ring {
    state: Mutex<RingState>,
}

#[derive(Default)]
struct RingState {
    runs: VecDeque<Bytes>,
    first: u64,
    waiting: HashMap<u64, Waker>,
}

impl Ring {
    const KEPT: usize = 90;

    fn lock(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, run: Bytes) {
        let mut state = self.lock();
        state.runs.push_back(run);
        if state.runs.len() > Ring::KEPT {
            state.runs.pop_front();
            state.first += 1;
        }
        let wake: Vec<Waker> = state.waiting.drain().map(|(_, waker)| waker).collect();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    fn end(&self) -> u64 {
        let state = self.lock();
        state.first + state.runs.len() as u64
    }

    async fn next(&self, id: u64, place: &mut u64) -> Bytes {
        poll_fn(|context| {
            let mut state = self.lock();
            *place = (*place).max(state.first);
            let nth = usize::try_from(*place - state.first).unwrap_or(usize::MAX);
            if let Some(run) = state.runs.get(nth) {
                *place += 1;
                return Poll::Ready(run.clone());
            }
            match state.waiting.get_mut(&id) {
                Some(waker) => waker.clone_from(context.waker()),
                None => drop(state.waiting.insert(id, context.waker().clone())),
            }
            Poll::Pending
        })
        .await
    }
}

/// Number of threads; 0 for as many as there are processors.
fn tasks(listener: TcpListener, runs: Runs, threads: usize) -> Result<()> {
    let runtime = runtime(threads)?;
    let (ring, ids, handle) = (
        Arc::new(Ring::default()),
        AtomicU64::new(0),
        runtime.handle().clone(),
    );
    let shared = ring.clone();
    accept(listener, move |socket| {
        let (ring, id) = (shared.clone(), ids.fetch_add(1, Ordering::Relaxed));
        handle.spawn(async move {
            let mut socket = tokio::net::TcpStream::from_std(socket)?;
            let mut place = ring.end();
            loop {
                let run = ring.next(id, &mut place).await;
                socket.write_all(&run).await?;
            }
            #[allow(unreachable_code)]
            std::io::Result::Ok(())
        });
    })?;
    runs.for_each(|run| ring.publish(run));
    Ok(())
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    Ok(builder.enable_all().build()?)
}

/// A viewer that is written to by the thread that has the run, and by its own task while its socket is full.
struct Shared {
    socket: tokio::net::TcpStream,
    rest: Mutex<Bytes>,
    full: Notify,
}

impl Shared {
    /// Writes what the socket takes; returns whether the connection is still open.
    fn push(&self, run: &Bytes) -> bool {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if !rest.is_empty() {
            return true;
        }
        *rest = run.clone();
        let there = self.write(&mut rest);
        if !rest.is_empty() {
            self.full.notify_one();
        }
        there
    }

    fn write(&self, rest: &mut Bytes) -> bool {
        while !rest.is_empty() {
            match self.socket.try_write(rest) {
                Ok(0) => return false,
                Ok(size) => rest.advance(size),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Continues writing whenever the pass could not finish.
    async fn follow(&self) -> std::io::Result<()> {
        loop {
            self.full.notified().await;
            loop {
                self.socket.writable().await?;
                let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
                if !self.write(&mut rest) {
                    return Ok(());
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
    }
}

fn passes(listener: TcpListener, runs: Runs, count: usize, in_a_task: bool) -> Result<()> {
    let runtime = runtime(0)?;
    let handle = runtime.handle().clone();
    let viewers: Vec<Arc<Mutex<Vec<Arc<Shared>>>>> = (0..count).map(|_| Arc::default()).collect();
    let mut helpers = Vec::new();
    for others in viewers.iter().skip(1) {
        let viewers = others.clone();
        let (hand, handed) = mpsc::channel::<Bytes>();
        helpers.push(hand);
        thread::Builder::new()
            .name("pass".into())
            .spawn(move || handed.iter().for_each(|run| pass(&viewers, &run)))?;
    }
    let (all, mut nth) = (viewers.clone(), 0);
    accept(listener, move |socket| {
        let _inside = handle.enter();
        let Ok(socket) = tokio::net::TcpStream::from_std(socket) else {
            return;
        };
        let viewer = Arc::new(Shared {
            socket,
            rest: Mutex::default(),
            full: Notify::new(),
        });
        let following = viewer.clone();
        handle.spawn(async move { following.follow().await });
        nth += 1;
        if let Some(viewers) = all.get(nth % count) {
            viewers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(viewer);
        }
    })?;
    let first = viewers.first().cloned().unwrap_or_default();
    if in_a_task {
        let (hand, mut handed) = tokio::sync::mpsc::unbounded_channel();
        runtime.spawn(async move {
            while let Some(run) = handed.recv().await {
                pass(&first, &run);
            }
        });
        runs.for_each(|run| drop(hand.send(run)));
        return Ok(());
    }
    for run in runs {
        for helper in &helpers {
            helper.send(run.clone())?;
        }
        pass(&first, &run);
    }
    Ok(())
}

fn pass(viewers: &Mutex<Vec<Arc<Shared>>>, run: &Bytes) {
    viewers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|viewer| viewer.push(run));
}
