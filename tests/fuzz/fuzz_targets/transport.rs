//! The built-in transports with the SDK, natively: whatever a host passes, a guest does not panic, and it can be
//! replaced at the start of any group.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::Input;
use sluicegate_sdk::{
    Audio, Buffer, Kind, Message, Profile, Rendition, Reply, Sample, StreamInfo, Track, Transport,
    Video, Viewer,
    mock::{self, Connection},
};

// They are components, not libraries, so their source files are included here.
#[path = "../../../plugins/mjpeg/src/lib.rs"]
mod mjpeg;
#[path = "../../../plugins/mse/src/lib.rs"]
mod mse;
#[path = "../../../plugins/nal/src/lib.rs"]
mod nal;

/// Parameter sets, for formats that have them in the configuration.
const AVCC: [u8; 16] = [
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
];

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    match input.byte() % 3 {
        0 => run::<mjpeg::Mjpeg>(input, "jpeg"),
        1 => run::<nal::Nal>(input, "h264/annexb"),
        _ => run::<mse::Mse>(input, "h264/avcc"),
    }
    let _ = mock::take_logs();
});

fn run<T: Transport>(mut input: Input<'_>, format: &str) {
    let (mut transport, profile): (T, Profile) = match T::open(&input.text()) {
        Ok(opened) => opened,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    let mut frames: Vec<(bool, Vec<u8>)> = Vec::new();
    let mut viewers = 0;
    let info = |input: &mut Input<'_>| {
        let tracks: Vec<Track> = (0..input.byte() % 3).map(|_| track(input)).collect();
        StreamInfo {
            started_at: input.quad(),
            epoch: input.long(),
            renditions: tracks.iter().map(rendition).collect(),
            tracks,
            longest_group_ms: input.long(),
            more: vec![],
        }
    };
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => drop(transport.configure(&info(&mut input))),
            1 | 2 => {
                let sample = sample(&mut input);
                let independent = sample.independent;
                frames.push((independent || frames.is_empty(), sample.data.to_vec()));
                for chunk in transport.push(sample) {
                    assert!(usize::from(chunk.lane) < profile.lanes.len());
                    assert!(chunk.independent == independent || format != "h264/annexb");
                }
            }
            3 => {
                for chunk in transport.stop(&input.text(), input.flag()) {
                    assert!(usize::from(chunk.lane) < profile.lanes.len());
                }
            }
            4 => {
                if let Reply::Done(response) = transport.request(&input.text(), &input.text()) {
                    assert!((100..600).contains(&response.status));
                }
            }
            5 => {
                let carrier = if input.flag() { "websocket" } else { "http" };
                let (path, query) = (input.text(), input.text());
                viewers += 1;
                let viewer = mock::connect(Connection::new(viewers, carrier, &path, &query));
                let _ = transport.join(viewer);
            }
            6 => {
                let message = match input.flag() {
                    true => Message::Text(input.text()),
                    false => Message::Binary(Buffer::from(input.bytes())),
                };
                if let Some(viewer) = Viewer::find(viewers) {
                    transport.received(&viewer, message);
                }
            }
            _ => transport.leave(input.quad()),
        }
    }
    (1..=viewers).for_each(mock::disconnect);
    frames.truncate(8);
    let samples = mock::samples(0, frames);
    mock::assert_restartable::<T>("{}", &mock::video(format, "", &AVCC), &samples);
}

/// Everything from the host may be wrong except sizes.
fn sample(input: &mut Input<'_>) -> Sample {
    let data = input.bytes();
    Sample {
        track: u32::from(input.byte() % 3),
        group: input.quad(),
        decode_time: input.quad(),
        composition_offset: input.long().cast_signed(),
        duration: input.long(),
        independent: input.flag(),
        leading: input.flag(),
        repeated: input.flag(),
        captured_at: input.quad(),
        group_started_at: input.quad(),
        size: data.len() as u32,
        data: Buffer::from(data),
    }
}

fn track(input: &mut Input<'_>) -> Track {
    Track {
        id: u32::from(input.byte() % 3),
        format: input.text(),
        codec: input.text(),
        config: input.bytes().into(),
        timescale: input.long(),
        kind: match input.byte() % 4 {
            0 => Kind::Data,
            1 => Kind::Audio(Audio {
                sample_rate: input.long(),
                channels: input.byte(),
                language: input.text(),
            }),
            _ => Kind::Video(Video {
                width: input.long(),
                height: input.long(),
                pixel_aspect: (input.long(), input.long()),
                rotation: input.long() as u16,
                mirrored: input.long() % 2 == 1,
                frame_rate: f32::from_bits(input.long()),
                keyframe_ms: input.long(),
            }),
        },
        more: vec![],
    }
}

fn rendition(track: &Track) -> Rendition {
    Rendition {
        name: track.codec.clone(),
        base: track.format.clone(),
        codecs: track.codec.clone(),
        bandwidth: track.timescale,
        width: track.id,
        height: track.id,
        frame_rate: f32::NAN,
        more: vec![],
    }
}
