//! The host's side of a component that does what the input says: nothing panics, its output stays within the limits,
//! and viewers get only whole frames of it.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::{Input, as_text, root};
use sluicegate_media::{
    geometry::Geometry,
    group::Group,
    sample::{Codec, Format, Sample, Times, Video},
};
use sluicegate_net::websocket::MessageEncoding;
use sluicegate_plugin::{
    Answer, Chunk, Effect, Engine, Instance, JoinRequest, Limits, Plugin, Requests,
};
use sluicegate_stream::Info;
use sluicegate_viewer::{Carrier, Content, Cursor, FromClient, Header, Item, Next, Outlet};
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

const LIMITS: Limits = Limits {
    memory: 4 << 20,
    call: Duration::from_millis(10),
    handles: 64,
    viewers: 64,
    buffers: 1 << 20,
    output: 256 << 10,
    items: 64,
    hostcall: 128 << 10,
};

// Input: options, then calls, each with the function, its arguments and a script.
fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    let plugin = PLUGIN.get_or_init(|| {
        let engine = Engine::new().expect("an engine");
        let file = root().join("target/plugins/fuzzed.wasm");
        let plugin = engine
            .load_file(&file, LIMITS)
            .expect("run plugins/build first");
        // The engine lives as long as this process.
        std::mem::forget(engine);
        plugin
    });
    let options = as_text(input.bytes());
    let Ok((mut instance, profile)) = Instance::open(plugin, "stream", &options, Arc::default())
    else {
        return;
    };
    assert!(!profile.carriers.is_empty() && !profile.formats.is_empty());
    assert!(profile.lanes.len() <= 16 && (1..=64).contains(&profile.history));
    let outlet = Outlet::default();
    outlet.set_lanes(profile.lanes.clone());
    let mut viewers = [Cursor::new(), Cursor::new()];
    let lanes = profile.lanes.len();
    let mut at = 0;
    while !input.is_empty() {
        at += 1;
        let (call, flag) = (input.byte() % 10, input.flag());
        let failed = match call {
            0 => {
                let info = info(input.bytes());
                instance
                    .configure(&info, Format::H264AnnexB, &[], 0)
                    .map(|header| {
                        bounded(header.iter().map(Content::len));
                        outlet.set_header(Header::new(header));
                    })
            }
            1..=4 => {
                let times = Times {
                    decode_time: at * 3000,
                    ..Times::default()
                };
                let script = Bytes::copy_from_slice(input.bytes());
                let sample = match call {
                    1 => Sample::jpeg(times, script),
                    _ => Sample::h264(times, flag, vec![script]),
                };
                let group = Group {
                    number: at,
                    started_at: at,
                };
                let pushed = instance.push(&sample, group);
                pushed.map(|chunks| publish(&outlet, chunks, lanes, at))
            }
            5 => instance
                .stop(&as_text(input.bytes()), flag)
                .map(|chunks| publish(&outlet, chunks, lanes, at)),
            6 => instance.request(&as_text(input.bytes()), "").map(|answer| {
                if let Answer::Done(response) = answer {
                    bounded([response.body.len()]);
                }
            }),
            7 => {
                let carrier = if flag {
                    Carrier::WebSocket
                } else {
                    Carrier::Http
                };
                let request = JoinRequest {
                    carrier,
                    path: as_text(input.bytes()),
                    query: String::new(),
                    protocol: None,
                    roles: vec!["view".into()],
                };
                instance.join(at, &Arc::new(request)).map(drop)
            }
            8 => {
                let data = match flag {
                    true => Content::Text(as_text(input.bytes()).into()),
                    false => Content::Binary(Bytes::copy_from_slice(input.bytes()).into()),
                };
                // The viewer that joined last, if the call before was its join.
                instance.received(at - 1, FromClient::Message(data))
            }
            _ => instance.leave(input.quad()),
        };
        apply(instance.take_requests(), &mut viewers);
        for viewer in &mut viewers {
            read(viewer, &outlet);
        }
        if let Err(failure) = failed {
            // Text of a log line and of an answer to clients.
            let text = failure.to_string();
            assert!(text.starts_with("fuzzed@") && text.len() < 10_000, "{text}");
            return;
        }
    }
});

fn read(cursor: &mut Cursor, outlet: &Outlet) {
    let mut context = Context::from_waker(Waker::noop());
    let mut items = VecDeque::new();
    while let Poll::Ready(Next::TakenChunks(taken)) =
        outlet.poll_take(&mut context, cursor, 64 << 10, &mut items)
    {
        assert!(taken.chunks > 0);
    }
    for item in items {
        let Item::Chunk(chunk) = item else {
            panic!("a ring has chunks only: {item:?}");
        };
        for piece in chunk.header.pieces().iter().chain([&*chunk.piece]) {
            whole_frames(&piece.encoded::<MessageEncoding>().concat());
        }
    }
}

/// RFC 6455 5.2: text or binary frames, not masked, not fragmented, one after the other to the last byte.
fn whole_frames(mut wire: &[u8]) {
    while let [head, length, rest @ ..] = wire {
        assert!(matches!(head, 0x81 | 0x82), "{head:#x}");
        let (length, rest) = match length {
            126 => {
                let (length, rest) = rest.split_first_chunk().expect("a length");
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().expect("a length");
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(*short), rest),
        };
        wire = rest.get(length as usize..).expect("a whole frame");
    }
    assert!(wire.is_empty());
}

fn publish(outlet: &Outlet, chunks: Vec<Chunk>, lanes: usize, at: u64) {
    assert!(chunks.iter().all(|chunk| usize::from(chunk.lane) < lanes));
    bounded(chunks.iter().map(|chunk| chunk.content.len()));
    let chunks = chunks.into_iter().map(Chunk::into_parts);
    outlet.publish(chunks, Duration::from_millis(at * 33), None);
}

fn apply(requests: Requests, viewers: &mut [Cursor]) {
    bounded(requests.effects.iter().map(|(_, effect)| effect.bytes()));
    for (_, effect) in requests.effects {
        if let Effect::Lanes(lanes) = effect {
            viewers.iter_mut().for_each(|viewer| viewer.choose(&lanes));
        }
    }
}

fn bounded(sizes: impl IntoIterator<Item = usize>) {
    let (mut items, mut bytes) = (0, 0);
    for size in sizes {
        (items, bytes) = (items + 1, bytes + size);
    }
    assert!(
        items <= LIMITS.items && bytes <= LIMITS.output,
        "{items} items, {bytes} bytes"
    );
}

fn info(config: &[u8]) -> Info {
    Info {
        video: Some(Video {
            codec: Codec::H264,
            codec_string: "avc1.64001f".into(),
            config: Bytes::copy_from_slice(config),
            width: 320,
            height: 192,
            geometry: Geometry::default(),
            frame_rate: 30.0,
            keyframe_ms: 0,
        }),
        ..Info::default()
    }
}
