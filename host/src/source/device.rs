//! Cameras, screens and generated pictures through libavdevice.
//!
//! Its calls block in drivers and cannot be interrupted, so they are made on a thread beside the source's. A device that says
//! nothing is given up together with that thread, and is not opened again while the thread is stuck.

use super::{
    Keyframes, Sink, SourceError, Stop, camera,
    libav::{Delivery, Input, Media, Pace, Packet, SILENCE},
    spec::Screen,
};
use crate::config;
use ffmpeg_next::{Dictionary, Format, device, format};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

/// Packets between the two threads. When it is full the device waits, and drops what it cannot keep.
const UNDER_WAY: usize = 4;
/// How often a waiting source looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);
/// How long a device may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// Streams a camera in the format that suits `encode` best.
pub fn run_camera(
    path: &Path,
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let what = format!("v4l2:{}", path.display());
    let (path, wanted, name) = (path.to_owned(), *encode, what.clone());
    let open = move |stop: &Stop| camera::open(&name, &path, &wanted, stop);
    run(&what, open, None, encode, sink, stop, keyframes)
}

/// Streams a screen, or a part of it.
pub fn run_screen(
    screen: &Screen,
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let what = format!("screen:{screen}");
    let fail = |reason: String| SourceError::Open {
        what: what.clone(),
        reason,
    };
    let display = match &screen.display {
        Some(display) => display.clone(),
        None => std::env::var("DISPLAY").map_err(|_| {
            fail("DISPLAY is not set; start the gateway in the session whose screen it is to show, or name the display, e.g. screen::0".into())
        })?,
    };
    let (x, y) = screen.offset;
    let mut options = vec![
        ("framerate", encode.frame_rate.to_string()),
        ("grab_x", x.to_string()),
        ("grab_y", y.to_string()),
    ];
    if let Some((width, height)) = screen.size {
        options.push(("video_size", format!("{width}x{height}")));
    }
    let name = what.clone();
    let open = move |_: &Stop| {
        open_named(&name, "x11grab", &display, &options, |error| match error {
            ffmpeg_next::Error::Other { errno } if *errno == EIO => format!(
                "there is no X display `{display}`, or this user may not see it; check DISPLAY and XAUTHORITY, or allow it with `xhost +si:localuser:$USER`"
            ),
            ffmpeg_next::Error::Other { errno } if *errno == EINVAL => {
                "that part lies outside of the screen; write e.g. screen::0+100,200?size=640x360"
                    .into()
            }
            other => other.to_string(),
        })
    };
    run(&what, open, None, encode, sink, stop, keyframes)
}

/// Streams what a filter graph generates, in real time.
pub fn run_lavfi(
    graph: &str,
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let what = format!("lavfi:{graph}");
    let (name, graph) = (what.clone(), graph.to_owned());
    let open = move |_: &Stop| {
        open_named(&name, "lavfi", &graph, &[], |error| {
            format!("{error}; `ffplay -f lavfi` tells what is wrong with a graph")
        })
    };
    let pace = Some(Pace::default());
    run(&what, open, pace, encode, sink, stop, keyframes)
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();

/// Opens a device of one of libavdevice's formats.
fn open_named(
    what: &str,
    kind: &str,
    name: &str,
    options: &[(&str, String)],
    explain: impl Fn(&ffmpeg_next::Error) -> String,
) -> Result<(Input, Media), SourceError> {
    let fail = |reason: String| SourceError::Open {
        what: what.to_owned(),
        reason,
    };
    init();
    if name.contains('\0') {
        return Err(fail("there is a NUL in its name".into()));
    }
    let format = device::input::video()
        .find(|format| matches!(format, Format::Input(input) if input.name().split(',').any(|known| known == kind)))
        .ok_or_else(|| fail(format!("libavdevice here has no {kind}: install a build of FFmpeg that has it")))?;
    let options: Dictionary<'_> = options
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    match format::open_with(name, &format, options) {
        Ok(format::Context::Input(context)) => Input::of_device(what, context),
        Ok(_) => Err(fail(format!("{kind} is no input"))),
        Err(error) => Err(fail(explain(&error))),
    }
}

/// Prepares libavdevice, once.
pub(super) fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    crate::codec::init();
    ONCE.call_once(device::register_all);
}

enum Event {
    Opened(Media),
    Packet(Packet),
    Ended(SourceError),
}

/// Runs a device until told to stop, or until it fails or falls silent.
fn run(
    what: &str,
    open: impl FnOnce(&Stop) -> Result<(Input, Media), SourceError> + Send + 'static,
    mut pace: Option<Pace>,
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let fail = |reason: String| SourceError::Read {
        what: what.to_owned(),
        reason,
    };
    if is_stuck(what) {
        return Err(fail(
            "it is still stuck in its driver since it was given up; unplug it, or restart what serves it".into(),
        ));
    }
    let (to, from) = mpsc::sync_channel(UNDER_WAY);
    let reader = Reader::start(what, open, to)?;
    let mut delivery: Option<Delivery> = None;
    let mut heard = Instant::now();
    let ended = loop {
        if stop.is_stopped() {
            break Ok(());
        }
        match from.recv_timeout(LOOK) {
            Ok(Event::Opened(media)) => match Delivery::new(what, media, encode, sink) {
                Ok(made) => delivery = Some(made),
                Err(error) => break Err(error),
            },
            Ok(Event::Packet(packet)) => {
                if let Some(pace) = &mut pace {
                    pace.wait(&packet.times, stop);
                }
                if let Some(delivery) = &mut delivery
                    && let Err(error) = delivery.deliver(packet, sink, keyframes)
                {
                    break Err(error);
                }
            }
            Ok(Event::Ended(error)) => break Err(error),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() < SILENCE => continue,
            Err(RecvTimeoutError::Timeout) => {
                break Err(fail(format!("nothing came for {} s", SILENCE.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => {
                break Err(fail("reading it broke off; see the log".into()));
            }
        }
        heard = Instant::now();
    };
    reader.end(what, from);
    ended
}

/// The thread that waits for the device.
struct Reader {
    stop: Stop,
    /// Closed when the device is.
    closed: Receiver<()>,
    alive: Weak<()>,
}

impl Reader {
    fn start(
        what: &str,
        open: impl FnOnce(&Stop) -> Result<(Input, Media), SourceError> + Send + 'static,
        to: SyncSender<Event>,
    ) -> Result<Reader, SourceError> {
        let stop = Stop::default();
        let (closing, closed) = mpsc::channel::<()>();
        let life = Arc::new(());
        let alive = Arc::downgrade(&life);
        let (name, told) = (what.to_owned(), stop.clone());
        let spawned = thread::Builder::new().name("device".into()).spawn(move || {
            let _both = (closing, life);
            read(&name, open, &to, &told);
        });
        match spawned {
            Ok(_) => Ok(Reader {
                stop,
                closed,
                alive,
            }),
            Err(error) => Err(SourceError::Open {
                what: what.to_owned(),
                reason: format!("no thread for it: {error}"),
            }),
        }
    }

    /// Waits until the device is closed, so that it can be opened again, but not for ever.
    fn end(self, what: &str, from: Receiver<Event>) {
        self.stop.stop();
        drop(from);
        if self.closed.recv_timeout(CLOSE) == Err(RecvTimeoutError::Timeout) {
            stuck().insert(what.to_owned(), self.alive);
        }
    }
}

fn read(
    what: &str,
    open: impl FnOnce(&Stop) -> Result<(Input, Media), SourceError>,
    to: &SyncSender<Event>,
    stop: &Stop,
) {
    let (mut input, media) = match open(stop) {
        Ok(opened) => opened,
        Err(error) => {
            let _ = to.send(Event::Ended(error));
            return;
        }
    };
    let mut sent = to.send(Event::Opened(media));
    while sent.is_ok() && !stop.is_stopped() {
        sent = match input.next() {
            Ok(Some(packet)) => to.send(Event::Packet(packet)),
            ended => {
                let error = ended.err();
                let error = error.unwrap_or_else(|| SourceError::Ended(what.to_owned()));
                let _ = to.send(Event::Ended(error));
                return;
            }
        };
    }
}

/// Devices that were given up and whose threads have not come back.
fn stuck() -> std::sync::MutexGuard<'static, BTreeMap<String, Weak<()>>> {
    static STUCK: Mutex<BTreeMap<String, Weak<()>>> = Mutex::new(BTreeMap::new());
    STUCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_stuck(what: &str) -> bool {
    let mut stuck = stuck();
    stuck.retain(|_, alive| alive.strong_count() > 0);
    stuck.contains_key(what)
}
