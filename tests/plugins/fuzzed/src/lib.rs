//! Test transport `fuzzed`: a fuzzer writes its calls. Each argument that carries bytes is the script of that call:
//! first what it does to the host (buffers, slices in and out of range, reads, log lines, memory, loops, traps), then
//! what it returns.
//!
//! Strings carry bytes as the characters U+0000 to U+00FF. A script that is used up reads as zeros, so the call returns
//! nothing more. The fuzz targets of the host run it to check that no component can harm the host.

// Trapping is one of the actions.
#![allow(clippy::panic)]

use sluicegate_sdk::{
    Buffer, Chunk, Lane, MediaTime, Message, Payload, Piece, Profile, Reply, Response, Sample,
    StreamInfo, Transport, Viewer, log, request_keyframe,
};
use std::cell::RefCell;

/// Buffers and memory that are kept from call to call. `request` must not change anything, and this one does so anyway.
#[derive(Default)]
struct Held {
    buffers: Vec<Buffer>,
    memory: Vec<Vec<u8>>,
    viewers: Vec<Viewer>,
}

struct Fuzzed {
    held: RefCell<Held>,
}

/// The bytes of a call, read from the front; zeros after the end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u32 {
        u32::from(self.word()) | u32::from(self.word()) << 16
    }

    /// A count. Small ones are more likely, since each item has to be produced.
    fn count(&mut self) -> usize {
        match self.byte() {
            few @ 0..240 => usize::from(few % 8),
            240..252 => usize::from(self.byte()),
            _ => usize::from(self.word()),
        }
    }

    /// As many bytes as `count` says, from the script and then padding.
    fn bytes(&mut self) -> Vec<u8> {
        let count = self.count();
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        let mut bytes = taken.to_vec();
        self.0 = rest;
        bytes.resize(count, 0x5a);
        bytes
    }

    fn text(&mut self) -> String {
        match self.byte() {
            0 => String::new(),
            1 => "text/plain\r\nSet-Cookie: owned=1".into(),
            2 => "image/jpeg".into(),
            3 => "http".into(),
            4 => "websocket".into(),
            5 => "h264/annexb".into(),
            6 => "jpeg".into(),
            7 => "h264/avcc".into(),
            _ => self.bytes().into_iter().map(char::from).collect(),
        }
    }
}

impl Held {
    fn run_actions(&mut self, script: &mut Script) {
        for _ in 0..script.count() {
            match script.byte() % 12 {
                0 => self.buffers.push(script.bytes().into()),
                1 => {
                    let joined = self.join(script);
                    self.buffers.push(joined);
                }
                2 => {
                    let (offset, length) = (script.long(), script.long());
                    if let Some(buffer) = self.pick(script) {
                        let read = buffer.read(offset, length);
                        log::debug(format!("{}", read.len()));
                    }
                }
                3 => {
                    if let Some(buffer) = self.pick(script) {
                        log::debug(format!("{}", buffer.size()));
                    }
                }
                4 if !self.buffers.is_empty() => {
                    let at = usize::from(script.byte()) % self.buffers.len();
                    drop(self.buffers.swap_remove(at));
                }
                5 => {
                    let text = script.text();
                    match script.byte() % 4 {
                        0 => log::error(text),
                        1 => log::warn(text),
                        2 => log::info(text),
                        _ => log::debug(text),
                    }
                }
                6 => {
                    let mut bytes = Vec::new();
                    if bytes.try_reserve_exact(script.count() << 16).is_ok() {
                        bytes.resize(bytes.capacity(), 1);
                        self.memory.push(bytes);
                    }
                }
                // Joins a buffer with itself repeatedly, so its size doubles.
                7 => {
                    for _ in 0..script.byte() % 32 {
                        let Some(buffer) = self.buffers.pop() else {
                            break;
                        };
                        self.buffers
                            .push(Buffer::new([(&buffer).into(), (&buffer).into()]));
                    }
                }
                8 => (0..script.count()).for_each(|_| self.buffers.push(b"!".as_slice().into())),
                9 => {
                    for i in 0..script.long() {
                        std::hint::black_box(i);
                    }
                }
                10 if script.byte() == 0xee => panic!("as the script says"),
                _ => {}
            }
        }
    }

    fn pick(&mut self, script: &mut Script) -> Option<&Buffer> {
        let at = usize::from(script.byte());
        self.buffers.get(at % self.buffers.len().max(1))
    }

    /// Joins bytes and slices, most of which are in range.
    fn join(&mut self, script: &mut Script) -> Buffer {
        enum Part {
            Bytes(Vec<u8>),
            Slice(usize, u32, u32),
        }
        let parts: Vec<Part> = (0..script.count())
            .map(|_| {
                let kind = script.byte();
                if kind.is_multiple_of(3) || self.buffers.is_empty() {
                    return Part::Bytes(script.bytes());
                }
                let at = usize::from(script.byte()) % self.buffers.len();
                let size = self.buffers[at].size();
                let (offset, length) = (script.long(), script.long());
                if kind == 254 {
                    return Part::Slice(at, offset, length);
                }
                let offset = offset % (size + 1);
                Part::Slice(at, offset, length % (size - offset + 1))
            })
            .collect();
        Buffer::new(parts.iter().map(|part| match part {
            Part::Bytes(bytes) => Piece::from(bytes.as_slice()),
            Part::Slice(at, offset, length) => self.buffers[*at].slice(*offset, *length),
        }))
    }

    fn buffer(&mut self, script: &mut Script) -> Buffer {
        match script.byte() % 3 {
            0 => self.buffers.pop().unwrap_or_else(|| Buffer::from(vec![])),
            1 => script.bytes().into(),
            _ => self.join(script),
        }
    }

    fn payload(&mut self, script: &mut Script) -> Payload {
        match script.byte() % 3 {
            0 => Payload::Text(script.text()),
            _ => self.buffer(script).into(),
        }
    }

    fn chunks(&mut self, script: &mut Script) -> Vec<Chunk> {
        (0..script.count())
            .map(|_| Chunk {
                payload: self.payload(script),
                lane: match script.byte() {
                    252.. => script.byte(),
                    likely => likely % 2,
                },
                independent: script.byte().is_multiple_of(2),
                leading: script.byte().is_multiple_of(8),
                time: (script.byte() > 250).then(|| MediaTime {
                    track: script.byte().into(),
                    presentation: script.long().into(),
                }),
            })
            .collect()
    }

    /// Requests something for the viewer.
    fn request(&mut self, viewer: &Viewer, script: &mut Script) {
        for _ in 0..script.count() {
            match script.byte() % 9 {
                0 => viewer.send(self.payload(script)),
                1 => viewer.choose(&script.bytes()),
                2 => viewer.stream_head(script.byte(), &script.bytes()),
                3 => viewer.reply(script.long().into(), self.buffer(script), true),
                4 => drop(viewer.talk(&script.text(), self.buffer(script))),
                5 => request_keyframe(),
                6 => log::debug(format!("{:?} {}", viewer.protocol(), viewer.may("view"))),
                7 => log::debug(format!("{} {}", viewer.carrier(), viewer.query())),
                _ => viewer.close(&script.text()),
            }
        }
    }
}

fn unpack(text: &str) -> Vec<u8> {
    text.chars().map(|c| (u32::from(c) & 0xff) as u8).collect()
}

impl Fuzzed {
    /// Performs the script's actions and then computes the answer.
    fn run<R>(&self, script: &[u8], answer: impl FnOnce(&mut Held, &mut Script) -> R) -> R {
        let (mut held, mut script) = (self.held.borrow_mut(), Script(script));
        held.run_actions(&mut script);
        answer(&mut held, &mut script)
    }
}

impl Transport for Fuzzed {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let fuzzed = Fuzzed {
            held: RefCell::default(),
        };
        let profile = fuzzed.run(&unpack(options), |_, script| match script.byte() {
            // A valid profile, so that most scripts get further than `open`.
            0..200 => Ok(Profile {
                carriers: vec!["http".into(), "websocket".into()],
                formats: vec!["h264/annexb".into(), "jpeg".into()],
                lanes: vec![
                    Lane {
                        stale_ms: 0,
                        datagrams: true,
                    },
                    Lane::new(1000),
                ],
                ..Profile::default()
            }),
            200..250 => Ok(Profile {
                carriers: (0..script.count()).map(|_| script.text()).collect(),
                protocols: (0..script.count()).map(|_| script.text()).collect(),
                formats: (0..script.count()).map(|_| script.text()).collect(),
                lanes: (0..script.count())
                    .map(|_| Lane {
                        stale_ms: script.long(),
                        datagrams: script.byte() % 2 == 0,
                    })
                    .collect(),
                group_ms: script.long(),
                history: script.long(),
                repeat_ms: script.long(),
                latency_ms: script.long(),
                partial_streams: script.byte().is_multiple_of(2),
                entry: script.text(),
                label: script.text(),
                embeds: (0..script.count()).map(|_| script.text()).collect(),
                output: script.text(),
                more: (0..script.count())
                    .map(|_| (script.text(), script.text()))
                    .collect(),
            }),
            _ => Err(script.text()),
        })?;
        Ok((fuzzed, profile))
    }

    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        let script = info.tracks.first().map(|track| track.config.as_slice());
        self.run(script.unwrap_or_default(), |held, script| {
            (0..script.count()).map(|_| held.payload(script)).collect()
        })
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        let script = sample.data.to_vec();
        self.held.borrow_mut().buffers.push(sample.data);
        self.run(&script, Held::chunks)
    }

    fn stop(&mut self, reason: &str, _last: bool) -> Vec<Chunk> {
        self.run(&unpack(reason), Held::chunks)
    }

    fn request(&self, path: &str, _query: &str) -> Reply {
        self.run(&unpack(path), |held, script| match script.byte() % 4 {
            0 => Reply::Pending,
            1 => Reply::Follow(script.text()),
            _ => Reply::Done(Response {
                status: script.word(),
                content_type: script.text(),
                max_age: if script.byte() % 2 == 0 {
                    Response::FOREVER
                } else {
                    0
                },
                headers: (0..script.count())
                    .map(|_| (script.text(), script.text()))
                    .collect(),
                body: held.buffer(script),
            }),
        })
    }

    fn join(&mut self, viewer: Viewer) -> Result<(), String> {
        self.run(&unpack(&viewer.path()), |held, script| {
            match script.byte() {
                250.. => Err(script.text()),
                _ => {
                    held.request(&viewer, script);
                    if script.byte().is_multiple_of(2) {
                        held.viewers.push(viewer);
                    }
                    Ok(())
                }
            }
        })
    }

    fn received(&mut self, viewer: &Viewer, message: Message) {
        let script = match &message {
            Message::Binary(buffer) | Message::Datagram(buffer) => buffer.to_vec(),
            Message::Text(text) => unpack(text),
            Message::ClientStream(stream) => stream.data.to_vec(),
        };
        self.run(&script, |held, script| {
            held.request(viewer, script);
            // Requests for a viewer that may have left are ignored.
            if let Some(other) = held.viewers.pop() {
                held.request(&other, script);
            }
        });
    }

    fn leave(&mut self, viewer: u64) {
        self.run(&viewer.to_le_bytes(), |_, _| ());
    }
}

sluicegate_sdk::export!(Fuzzed);
