//! Test transport `hostile`: misbehaves as its options say, and otherwise works like `nal` (H.264 in Annex B over
//! WebSocket). Tests use it to check the gateway's limits, repair and error messages.
//!
//! Options: `{"in": CALL, "do": DEED, "after": N, "every": N, "once": BOOL, "repeat": N, "protocols": [NAME],
//! "carriers": [NAME], "embeds": [NAME]}`. All but `in` and `do` are optional.
//!
//! - `in`: the call in which it misbehaves: `open`, `configure`, `push`, `stop`, `request`, `join`, `received`, `leave`.
//! - `do`: `trap`, `panic`, `loop`, `memory`, `log`, `hold`, `output`, `giant`, `nonsense`, `refuse`, `page`, `burst`,
//!   `slow`, `silent`, `double`, `differ`, `text`, `clock`; see `Misbehavior`.
//! - `after`: the first N calls of `in` in an instance succeed.
//! - `every`: only samples whose number is N − 1 modulo N. The number is decode time / duration, so a new instance
//!   agrees.
//! - `once`: once per instance; a new instance does it again.
//! - `repeat`: `repeat-ms` of its profile.
//! - `protocols`: `protocols` of its profile. A viewer is then sent the one that was agreed on, as text.
//! - `carriers`, `embeds`: those of its profile; by default `websocket` and `access-units`.
//! - `build`: misbehaves only in the build of this name, see `BUILD`.
//! - `output`: `output` of its profile.

// Misbehaviour is the purpose.
#![allow(clippy::panic)]

use std::cell::{Cell, RefCell};

use sluicegate_sdk::serde::Deserialize;
use sluicegate_sdk::{
    Buffer, Chunk, Lane, Message, Payload, Profile, Reply, Response, Sample, StreamInfo, Transport,
    Viewer, h264, log,
};

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", rename_all = "kebab-case")]
enum Call {
    Open,
    Configure,
    Push,
    Stop,
    Request,
    Join,
    Received,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", rename_all = "kebab-case")]
enum Misbehavior {
    /// A bare trap, with nothing in the log.
    Trap,
    /// A Rust panic: the message is logged before the trap.
    Panic,
    /// Never returns.
    Loop,
    /// Allocates until it is refused, keeps the memory, and continues.
    Memory,
    /// Writes 100,000 lines of 1 KiB to the log, and continues.
    Log,
    /// In `push`: keeps the sample's buffer for ever. Elsewhere: keeps 100,000 new buffers. Continues.
    Hold,
    /// Returns 100,000 small texts, or one of 8 MiB where the answer is a single text.
    Output,
    /// Returns one buffer of 512 MiB, joined from slices of a small one.
    Giant,
    /// Returns invalid values: unknown lanes, a status of 9999, a content type of two lines, an empty profile.
    #[serde(alias = "reply-nonsense")]
    Nonsense,
    /// In `open` and `join`: returns an error. Elsewhere: nothing.
    Refuse,
    /// In `request`: serves pages whose script, markup and service worker try what only the gateway's own pages may do.
    /// Elsewhere: nothing.
    Page,
    /// In `received`: answers with 32 KiB. Elsewhere: nothing.
    Echo,
    /// In `push`: takes about ten times as long as usual. Elsewhere: nothing.
    Slow,
    /// In `push`: emits nothing. Elsewhere: nothing.
    Silent,
    /// In `push`: emits each chunk twice. Elsewhere: nothing.
    Double,
    /// In `push`: emits other bytes than usual, as many of them. Elsewhere: nothing.
    Differ,
    /// In `push`: emits text. Elsewhere: nothing.
    Text,
    /// Asks what time it is.
    Clock,
    /// In `join` and `received`: sends 1,000 small texts to the viewer at once, more than may be queued. Elsewhere:
    /// nothing.
    Burst,
}

#[derive(Debug, Default, Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields, default)]
struct Options {
    r#in: Option<Call>,
    r#do: Option<Misbehavior>,
    after: u32,
    every: u64,
    once: bool,
    repeat: u32,
    protocols: Vec<String>,
    carriers: Option<Vec<String>>,
    embeds: Option<Vec<String>>,
    build: Option<String>,
    output: String,
}

/// The build of this component: its last byte. Tests write other builds by changing that byte in the file.
#[used]
static BUILD: [u8; 17] = *b"hostile's build A";

/// Name of this build.
fn build() -> char {
    // Read at run time, so that a change in the file counts.
    char::from(std::hint::black_box(&BUILD)[16])
}

struct Hostile {
    options: Options,
    video: Option<u32>,
    calls: Cell<u32>,
    done: Cell<bool>,
    /// Number of viewers that joined and did not leave; served at the path `viewers`.
    viewers: Cell<u32>,
    held: RefCell<Vec<Buffer>>,
    memory: RefCell<Vec<Vec<u8>>>,
}

impl Transport for Hostile {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let hostile = Hostile {
            options: sluicegate_sdk::options(options)?,
            video: None,
            calls: Cell::new(0),
            done: Cell::new(false),
            viewers: Cell::new(0),
            held: RefCell::default(),
            memory: RefCell::default(),
        };
        let names = |given: &Option<Vec<String>>, usual: &str| {
            given.clone().unwrap_or_else(|| vec![usual.into()])
        };
        let mut profile = Profile {
            carriers: names(&hostile.options.carriers, "websocket"),
            protocols: hostile.options.protocols.clone(),
            formats: vec!["h264/annexb".into()],
            lanes: vec![Lane::new(1000)],
            repeat_ms: hostile.options.repeat,
            output: hostile.options.output.clone(),
            latency_ms: 80,
            embeds: names(&hostile.options.embeds, "access-units"),
            ..Profile::default()
        };
        match hostile.misbehave(Call::Open) {
            Some(Misbehavior::Refuse) => return Err("hostile refuses these options".into()),
            Some(Misbehavior::Output) => return Err("x".repeat(8 << 20)),
            Some(Misbehavior::Nonsense) => {
                profile.carriers = vec!["carrier pigeon".into()];
                profile.formats.clear();
                profile.lanes = (0..1000)
                    .map(|_| Lane {
                        stale_ms: u32::MAX,
                        datagrams: true,
                    })
                    .collect();
                profile.history = 0;
            }
            _ => {}
        }
        Ok((hostile, profile))
    }

    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        let track = info.video().map(|(track, _)| track);
        self.video = track.map(|track| track.id);
        match self.misbehave(Call::Configure) {
            Some(Misbehavior::Output) => return texts(100_000),
            Some(Misbehavior::Giant) => return vec![giant().into()],
            Some(Misbehavior::Nonsense) => return vec![Payload::Text(String::new())],
            _ => {}
        }
        let sets = track.and_then(|track| h264::parameter_sets(&track.config).ok());
        sets.into_iter()
            .map(|sets| Buffer::from(sets).into())
            .collect()
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        if self.video != Some(sample.track) {
            return vec![];
        }
        let (independent, leading) = (sample.independent, sample.leading);
        let chunk = |payload, lane| Chunk {
            lane,
            leading,
            ..Chunk::new(payload, independent)
        };
        if self.is_selected(&sample) {
            match self.misbehave(Call::Push) {
                Some(Misbehavior::Output) => {
                    return texts(100_000)
                        .into_iter()
                        .map(|text| chunk(text, 0))
                        .collect();
                }
                Some(Misbehavior::Giant) => return vec![chunk(giant().into(), 0)],
                Some(Misbehavior::Nonsense) => return vec![chunk(sample.data.into(), 200)],
                Some(Misbehavior::Silent) => return vec![],
                Some(Misbehavior::Text) => return vec![chunk(Payload::Text("frame".into()), 0)],
                Some(Misbehavior::Double) => {
                    let shared = sample.data.share();
                    return vec![chunk(sample.data.into(), 0), chunk(shared.into(), 0)];
                }
                Some(Misbehavior::Differ) => {
                    let mut bytes = sample.data.to_vec();
                    bytes.reverse();
                    return vec![chunk(Buffer::from(bytes).into(), 0)];
                }
                Some(Misbehavior::Hold) => {
                    let shared = sample.data.share();
                    self.held.borrow_mut().push(sample.data);
                    return vec![chunk(shared.into(), 0)];
                }
                _ => {}
            }
        }
        vec![chunk(sample.data.into(), 0)]
    }

    fn stop(&mut self, _reason: &str, _last: bool) -> Vec<Chunk> {
        let chunk = |payload, lane| Chunk {
            lane,
            ..Chunk::new(payload, true)
        };
        match self.misbehave(Call::Stop) {
            Some(Misbehavior::Output) => texts(100_000)
                .into_iter()
                .map(|text| chunk(text, 0))
                .collect(),
            Some(Misbehavior::Giant) => vec![chunk(giant().into(), 0)],
            Some(Misbehavior::Nonsense) => vec![chunk(Payload::Text("late".into()), 200)],
            _ => vec![],
        }
    }

    fn request(&self, path: &str, _query: &str) -> Reply {
        match self.misbehave(Call::Request) {
            Some(Misbehavior::Output) => Reply::text(200, "x".repeat(8 << 20)),
            Some(Misbehavior::Giant) => {
                let content_type = "application/octet-stream";
                let response = Response::new(200, content_type, Response::FOREVER, giant());
                Reply::Done(response)
            }
            Some(Misbehavior::Nonsense) => {
                let content_type = "text/plain\r\nSet-Cookie: owned=1\r\n\r\n<h1>";
                let body = b"nonsense".as_slice();
                let mut response = Response::new(9999, content_type, Response::FOREVER, body);
                for (name, value) in [
                    ("Set-Cookie", "owned=1"),
                    ("X-Accel-Redirect", "/etc/passwd"),
                    ("Content-Security-Policy", "default-src *"),
                    ("ETag", "\"1\"\r\nSet-Cookie: owned=1"),
                    ("Location", "https://evil.example/"),
                    ("Content-Language", "en"),
                ] {
                    response.headers.push((name.into(), value.into()));
                }
                Reply::Done(response)
            }
            Some(Misbehavior::Page) => page(path),
            _ if path == "viewers" => Reply::text(200, self.viewers.get().to_string()),
            _ if path.is_empty() => Reply::text(426, "Connect with a WebSocket.\n"),
            _ => Reply::not_found(path),
        }
    }

    fn join(&mut self, viewer: Viewer) -> Result<(), String> {
        match self.misbehave(Call::Join) {
            Some(Misbehavior::Refuse) => Err("hostile refuses this viewer".into()),
            deed => {
                self.viewers.set(self.viewers.get() + 1);
                if !self.options.protocols.is_empty() {
                    let protocol = viewer.protocol().unwrap_or("none".into());
                    viewer.send(Payload::Text(protocol));
                }
                pester(&viewer, deed);
                Ok(())
            }
        }
    }

    fn received(&mut self, viewer: &Viewer, _message: Message) {
        pester(viewer, self.misbehave(Call::Received));
    }

    fn leave(&mut self, _viewer: u64) {
        self.viewers.set(self.viewers.get().saturating_sub(1));
        self.misbehave(Call::Leave);
    }
}

impl Hostile {
    fn is_selected(&self, sample: &Sample) -> bool {
        let Options {
            r#in: Some(Call::Push),
            every,
            ..
        } = self.options
        else {
            return true;
        };
        let number = sample.decode_time / u64::from(sample.duration.max(1));
        every == 0 || number % every == every - 1
    }

    /// Misbehaves if it is the time to, in ways that are possible in any call. Returns the deed, so that the call can
    /// do the rest with its answer.
    fn misbehave(&self, call: Call) -> Option<Misbehavior> {
        if self.options.r#in != Some(call) {
            return None;
        }
        let wanted = self.options.build.as_deref();
        if wanted.is_some_and(|wanted| !wanted.starts_with(build())) {
            return None;
        }
        let calls = self.calls.get();
        self.calls.set(calls.saturating_add(1));
        if calls < self.options.after || (self.options.once && self.done.replace(true)) {
            return None;
        }
        match self.options.r#do? {
            Misbehavior::Trap => trap(),
            Misbehavior::Panic => panic!("hostile was told to panic in {call:?}"),
            Misbehavior::Loop => loop {
                std::hint::black_box(());
            },
            Misbehavior::Memory => self.exhaust_memory(),
            Misbehavior::Log => {
                let line = "x".repeat(1024);
                (0..100_000).for_each(|_| log::info(&line));
            }
            Misbehavior::Hold if call != Call::Push => {
                let new = (0..100_000_u32).map(|i| Buffer::from(i.to_be_bytes().as_slice()));
                self.held.borrow_mut().extend(new);
            }
            Misbehavior::Slow if call == Call::Push => {
                for i in 0..200_000_u32 {
                    std::hint::black_box(i);
                }
            }
            Misbehavior::Clock => drop(std::hint::black_box(std::time::Instant::now())),
            Misbehavior::Hold
            | Misbehavior::Slow
            | Misbehavior::Silent
            | Misbehavior::Double
            | Misbehavior::Differ
            | Misbehavior::Text
            | Misbehavior::Output
            | Misbehavior::Giant
            | Misbehavior::Nonsense
            | Misbehavior::Refuse
            | Misbehavior::Page
            | Misbehavior::Echo
            | Misbehavior::Burst => {}
        }
        self.options.r#do
    }

    fn exhaust_memory(&self) {
        const STEP: usize = 1 << 20;
        let mut memory = self.memory.borrow_mut();
        loop {
            let mut bytes = Vec::new();
            if memory.try_reserve(1).is_err() || bytes.try_reserve_exact(STEP).is_err() {
                return;
            }
            // Written to, since memory is otherwise only reserved.
            bytes.resize(STEP, 0x5a);
            memory.push(bytes);
        }
    }
}

/// A page that misbehaves, under names and content types from which a browser may run script.
fn page(path: &str) -> Reply {
    let svg = "<svg xmlns='http://www.w3.org/2000/svg'><title>untouched</title>";
    let (content_type, text) = match path {
        "page.html" => ("text/html", PAGE.replace("SCRIPT", SCRIPT)),
        "page.xhtml" => (
            "application/xhtml+xml",
            format!(
                "<html xmlns='http://www.w3.org/1999/xhtml'><head><title>untouched</title></head><body><script><![CDATA[{SCRIPT}]]></script></body></html>"
            ),
        ),
        "page.svg" => (
            "image/svg+xml",
            format!("{svg}<script><![CDATA[{SCRIPT}]]></script></svg>"),
        ),
        "page.txt" => ("text/plain", PAGE.replace("SCRIPT", SCRIPT)),
        "worker.js" => ("text/javascript", "self.onfetch = () => {};".into()),
        _ => return Reply::not_found(path),
    };
    Reply::Done(Response::new(200, content_type, 0, text.as_bytes()))
}

/// Tries with markup alone what needs no script.
const PAGE: &str = "<!doctype html><title>untouched</title><link rel='stylesheet' href='/assets/none.css'>\
<meta http-equiv='refresh' content='0;url=/healthz'><img src='/live/cam/frame.jpg'><iframe src='/readyz'></iframe>\
<object data='/healthz'></object><form action='/healthz'><button autofocus>go</button></form><script>SCRIPT</script>";
/// Reports in the document's title how far it got.
const SCRIPT: &str = "document.title = 'ran'; (async () => {\
const reached = async (what) => { try { return await what(); } catch (error) { return error.name; } };\
const metrics = await reached(async () => (await fetch('/metrics')).status);\
const reload = await reached(async () => (await fetch('/api/plugins/policy/reload', { method: 'POST' })).status);\
const worker = await reached(async () => { await navigator.serviceWorker.register('worker.js'); return 'registered'; });\
document.title = `metrics ${metrics}, reload ${reload}, worker ${worker}`; })();";

/// Requests something unreasonable for a viewer.
fn pester(viewer: &Viewer, deed: Option<Misbehavior>) {
    match deed {
        Some(Misbehavior::Output) => texts(100_000)
            .into_iter()
            .for_each(|text| viewer.send(text)),
        Some(Misbehavior::Burst) => texts(1000).into_iter().for_each(|text| viewer.send(text)),
        Some(Misbehavior::Giant) => viewer.send(giant()),
        Some(Misbehavior::Echo) => viewer.send(Buffer::from([b'e'; 32 << 10].as_slice())),
        // There are no such lanes and no such streams, and the source takes nothing.
        Some(Misbehavior::Nonsense) => {
            viewer.choose(&[7, 7, 255]);
            viewer.stream_head(255, b"?");
            viewer.reply(u64::MAX, Buffer::from(b"?".as_slice()), true);
            let refused = viewer.talk("opus", Buffer::from(b"?".as_slice()));
            assert!(refused.is_err(), "nobody takes this");
        }
        _ => {}
    }
}

fn texts(count: u32) -> Vec<Payload> {
    (0..count)
        .map(|i| Payload::Text(format!("{i:064}")))
        .collect()
}

fn giant() -> Buffer {
    const STEP: u32 = 1 << 20;
    let small = Buffer::from(vec![0x5a; STEP as usize]);
    Buffer::new((0..512).map(|_| small.slice(0, STEP)))
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    std::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    panic!("a bare trap");
}

sluicegate_sdk::export!(Hostile);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use sluicegate_sdk::mock;

    const AVCC: [u8; 16] = [
        1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
    ];

    // Does not use `mock::Muxer`, which would reject this behaviour.
    fn lanes(options: &str, samples: Vec<Sample>) -> Vec<u8> {
        let (mut hostile, _) = Hostile::open(options).unwrap();
        hostile.configure(&mock::video("h264/annexb", "avc1.42c01e", &AVCC));
        samples
            .into_iter()
            .flat_map(|sample| hostile.push(sample))
            .map(|chunk| chunk.lane)
            .collect()
    }

    fn samples() -> Vec<Sample> {
        mock::samples(0, (0..6).map(|i| (i % 2 == 0, vec![i])))
    }

    #[test]
    fn does_as_nal_without_options() {
        mock::assert_restartable::<Hostile>("", &mock::video("h264/annexb", "", &AVCC), &samples());
        assert_eq!(lanes("{}", samples()), [0; 6]);
    }

    #[test]
    fn misbehaves_when_its_options_say_so() {
        for (when, expected) in [
            ("", [200; 6]),
            (r#", "after": 4"#, [0, 0, 0, 0, 200, 200]),
            (r#", "after": 1, "once": true"#, [0, 200, 0, 0, 0, 0]),
            (r#", "every": 3"#, [0, 0, 200, 0, 0, 200]),
        ] {
            let options = format!(r#"{{"in": "push", "do": "nonsense"{when}}}"#);
            assert_eq!(lanes(&options, samples()), expected, "{options}");
        }
    }

    #[test]
    fn new_instance_misbehaves_on_the_same_samples() {
        let options = r#"{"in": "push", "do": "reply-nonsense", "every": 3}"#;
        assert_eq!(lanes(options, samples().split_off(2)), [200, 0, 0, 200]);
    }

    #[test]
    #[should_panic(expected = "hostile was told to panic in Stop")]
    fn panic_names_the_call() {
        let (mut hostile, _) = Hostile::open(r#"{"in": "stop", "do": "panic"}"#).unwrap();
        hostile.stop("", true);
    }

    #[test]
    fn refuses() {
        assert!(Hostile::open(r#"{"in": "open", "do": "refuse"}"#).is_err());
        let (mut hostile, _) = Hostile::open(r#"{"in": "join", "do": "refuse"}"#).unwrap();
        let viewer = mock::Connection::new(1, "websocket", "", "");
        let viewer = mock::connect(viewer);
        assert!(hostile.join(viewer).is_err());
    }
}
