//! A link with a rate, a delay and loss between two network namespaces, for TCP and UDP alike: packets pass through
//! this program, which delays and drops them, and the kernel's TCP, QUIC and browsers see what they would see on such a
//! path. Over loopback, TCP loses nothing, and a relay of its bytes has no packets that could be lost.
//!
//! Needs root, `/dev/net/tun`, and the programs `unshare` and `ip`.

use anyhow::{Context, Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    ioctl::{Setter, ioctl},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Address of the side with the gateway, and of the side with the viewers.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const DEVICE: &str = "path0";
/// Congestion control of TCP, whatever the machine has: the usual default.
const TCP_CONGESTION: &str = "cubic";
const MTU: usize = 1500;
/// Interval at which a link without packets checks for its end.
const POLL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// What a link does, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// From one end to the other.
    pub delay: Duration,
    /// Share of the packets that are dropped, 0 to 1.
    pub loss: f64,
    /// Bits per second.
    pub rate: f64,
    /// How long a packet may wait for those before it; otherwise it is dropped.
    pub queue: Duration,
}

/// A network namespace that exists as long as its [`Network`].
#[derive(Clone, Debug)]
pub struct Namespace(PathBuf);

impl Namespace {
    /// Path of the namespace.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves the calling thread there, and with it the threads and processes that it starts from now on.
    pub fn enter(&self) -> Result<()> {
        let link = File::open(&self.0)?;
        Ok(move_into_link_name_space(
            link.as_fd(),
            Some(LinkNameSpaceType::Network),
        )?)
    }

    /// Runs a function there.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || {
            self.enter()?;
            act()
        };
        let ended = thread::scope(|scope| scope.spawn(inside).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Two namespaces with a link between them.
pub struct Network {
    /// Where the gateway runs, at [`NEAR`].
    pub near: Namespace,
    /// Where the viewers are.
    pub far: Namespace,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _holders: [Holder; 2],
}

impl Network {
    /// Creates both namespaces and the link.
    pub fn new(conditions: Conditions) -> Result<Network> {
        let holders = [Holder::start()?, Holder::start()?];
        let [near, far] = holders.each_ref().map(Holder::namespace);
        let devices = [
            near.run(|| device(NEAR, FAR))?,
            far.run(|| device(FAR, NEAR))?,
        ];
        let mut network = Network {
            near,
            far,
            stop: Arc::default(),
            threads: Vec::new(),
            _holders: holders,
        };
        for (seed, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
            let (from, to) = (devices[from].try_clone()?, devices[to].try_clone()?);
            network.forward(conditions, seed as u64, from, to)?;
        }
        Ok(network)
    }

    /// Starts the threads of one direction.
    fn forward(
        &mut self,
        conditions: Conditions,
        seed: u64,
        mut from: File,
        mut to: File,
    ) -> Result<()> {
        let stop = self.stop.clone();
        let (pass, passing) = mpsc::channel::<(Instant, Vec<u8>)>();
        let take = move || {
            let (mut random, mut free) = (fastrand::Rng::with_seed(seed), Instant::now());
            let mut packet = vec![0; MTU];
            while !stop.load(Ordering::Relaxed) {
                let mut waiting = [PollFd::new(&from, PollFlags::IN)];
                if poll(&mut waiting, Some(&POLL_INTERVAL)).is_ok_and(|ready| ready == 0) {
                    continue;
                }
                let Ok(length) = from.read(&mut packet) else {
                    return;
                };
                let now = Instant::now();
                free = free.max(now);
                if free - now > conditions.queue {
                    continue;
                }
                free += Duration::from_secs_f64(length as f64 * 8.0 / conditions.rate);
                if random.f64() < conditions.loss {
                    continue;
                }
                let bytes = packet.get(..length).unwrap_or_default().to_vec();
                if pass.send((free + conditions.delay, bytes)).is_err() {
                    return;
                }
            }
        };
        let give = move || {
            for (due, packet) in passing {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                // A packet that the other side does not take is lost.
                let _ = to.write(&packet);
            }
        };
        for work in [Box::new(take) as Box<dyn FnOnce() + Send>, Box::new(give)] {
            let thread = thread::Builder::new().name("link".into()).spawn(work)?;
            self.threads.push(thread);
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A process that does nothing but keep a namespace alive; ends when its input is closed.
struct Holder {
    child: Child,
    input: Option<ChildStdin>,
}

impl Holder {
    fn start() -> Result<Holder> {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo there; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let (input, mut line) = (child.stdin.take(), String::new());
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        ensure!(
            line == "there\n",
            "cannot create a network namespace: this needs root"
        );
        Ok(Holder { child, input })
    }

    fn namespace(&self) -> Namespace {
        Namespace(format!("/proc/{}/ns/net", self.child.id()).into())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// One end of the link in the namespace of the calling thread.
fn device(own: Ipv4Addr, other: Ipv4Addr) -> Result<File> {
    let path = "/dev/net/tun";
    let mut options = OpenOptions::new();
    let device = options.read(true).write(true).open(path).context(path)?;
    attach(&device).with_context(|| format!("{path}: cannot create a device"))?;
    let (own, other) = (own.to_string(), other.to_string());
    let mtu = MTU.to_string();
    for arguments in [
        &["link", "set", "dev", "lo", "up"][..],
        &["address", "add", &own, "peer", &other, "dev", DEVICE],
        &[
            "link",
            "set",
            DEVICE,
            "mtu",
            &mtu,
            "txqueuelen",
            "1000",
            "up",
        ],
        &[
            "route",
            "replace",
            &other,
            "dev",
            DEVICE,
            "src",
            &own,
            "congctl",
            TCP_CONGESTION,
        ],
    ] {
        let status = Command::new("ip").args(arguments).status();
        let status = status.context("cannot run ip")?;
        ensure!(status.success(), "ip {}: {status}", arguments.join(" "));
    }
    Ok(device)
}

/// Makes the file a device for IP packets (`TUNSETIFF` of linux/if_tun.h).
#[allow(unsafe_code)]
fn attach(file: &File) -> rustix::io::Result<()> {
    const TUNSETIFF: u32 = 0x4004_54ca;
    const NAME: usize = 16;
    /// `IFF_TUN | IFF_NO_PI`.
    const FLAGS: u16 = 0x1001;
    let mut request = [0; 40];
    request[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    request[NAME..NAME + 2].copy_from_slice(&FLAGS.to_ne_bytes());
    // SAFETY: the request reads a `struct ifreq`, which has 40 bytes: a name of 16, ended by zeros, then the flags.
    unsafe { ioctl(file, Setter::<TUNSETIFF, [u8; 40]>::new(request)) }
}
