//! Tests of the audio converter with generated tones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;
use std::f64::consts::TAU;

/// An audio track as a demuxer describes it.
fn coding(name: &str, rate: u32, channels: i32) -> AudioCoding {
    init();
    let found = codec::encoder::find_by_name(name).unwrap();
    let mut encoder = codec::Context::new_with_codec(found)
        .encoder()
        .audio()
        .unwrap();
    encoder.set_rate(rate as i32);
    encoder.set_format(Layout::I16(Type::Packed));
    encoder.set_channel_layout(ChannelLayout::default(channels));
    encoder.set_time_base(Rational(1, rate as i32));
    let encoder = encoder.open_as(found).unwrap();
    AudioCoding::new(Parameters::from(&encoder))
}

/// Sixteen-bit samples: 440 Hz, and 660 Hz in the second channel.
fn tones(rate: u32, channels: usize, from: usize, count: usize) -> Vec<u8> {
    let sample = |at: usize, channel: usize| {
        let pitch = if (channel, channels) == (1, 2) {
            660.0
        } else {
            440.0
        };
        let turn = at as f64 * pitch / f64::from(rate);
        ((turn * TAU).sin() * 12_000.0) as i16
    };
    (from..from + count)
        .flat_map(|at| (0..channels).flat_map(move |channel| sample(at, channel).to_le_bytes()))
        .collect()
}

/// Decodes the frames and returns the samples of each channel.
fn decode(config: &aac::Config, frames: &[AacFrame]) -> Vec<Vec<f32>> {
    let mut parameters = Parameters::new();
    parameters.set_medium(ffmpeg::media::Type::Audio);
    parameters.set_id(Id::AAC);
    let context = codec::Context::from_parameters(parameters).unwrap();
    let mut decoder = context.decoder().audio().unwrap();
    let mut decoded = vec![Vec::new(); usize::from(config.channels)];
    for frame in frames {
        // A raw frame has no header; in ADTS it has one.
        let length = frame.data.len() + 7;
        let mut packet = vec![
            0xff,
            0xf1,
            1 << 6 | 3 << 2,
            config.channels << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1f,
            0xfc,
        ];
        packet.extend_from_slice(&frame.data);
        decoder
            .send_packet(&codec::packet::Packet::copy(&packet))
            .unwrap();
        let mut audio = frame::Audio::empty();
        while decoder.receive_frame(&mut audio).is_ok() {
            for (channel, decoded) in decoded.iter_mut().enumerate() {
                decoded.extend_from_slice(audio.plane::<f32>(channel));
            }
        }
    }
    decoded
}

/// Frequency in Hz: upward zero crossings per second.
fn pitch(audio: &[f32]) -> f64 {
    let rises = audio.windows(2).filter(|two| two[0] < 0.0 && two[1] >= 0.0);
    rises.count() as f64 * f64::from(RATE) / audio.len() as f64
}

/// Converts two seconds in packets of 20 ms, without those `(number, time)` for which `is_lost` returns true.
fn convert(
    converter: &mut AacConverter,
    (rate, channels): (u32, usize),
    is_lost: impl Fn(usize) -> bool,
) -> Vec<AacFrame> {
    let size = rate as usize / 50;
    let packets = (0..100).filter(|packet| !is_lost(*packet));
    packets
        .flat_map(|packet| {
            let data = tones(rate, channels, packet * size, size);
            converter.convert(&data, packet as i64 * 1800).unwrap()
        })
        .collect()
}

#[test]
fn audio_of_any_rate_and_channel_count_becomes_aac_that_sounds_the_same() {
    for (rate, channels, kept) in [(48_000, 2, 2), (44_100, 2, 2), (8000, 1, 1), (48_000, 6, 2)] {
        let coding = coding("pcm_s16le", rate, channels as i32);
        assert_eq!(coding.probe().unwrap(), (rate, channels as u8));
        let mut converter = AacConverter::new(&coding).unwrap();
        let config = converter.config().clone();
        assert_eq!(
            (config.object_type, config.sample_rate, config.channels),
            (2, 48_000, kept)
        );
        let frames = convert(&mut converter, (rate, channels), |_| false);
        // Frames are contiguous; the first is one frame early, as preroll for the decoder.
        assert!(frames.len() >= 91, "{} at {rate}", frames.len());
        for (nth, frame) in frames.iter().enumerate() {
            let expected = (nth as i64 - 1) * 1920;
            assert!((frame.time - expected).abs() <= 1, "{nth}: {}", frame.time);
        }
        let decoded = decode(&config, &frames);
        let middle = &decoded[0][20_000..80_000];
        assert!(
            (pitch(middle) - 440.0).abs() < 2.0,
            "{} at {rate}",
            pitch(middle)
        );
        let loudest = middle
            .iter()
            .fold(0f32, |most, sample| most.max(sample.abs()));
        assert!((0.1..1.0).contains(&loudest), "{loudest} at {rate}");
        if channels == 2 {
            assert!((pitch(&decoded[1][20_000..80_000]) - 660.0).abs() < 2.0);
        }
    }
}

#[test]
fn telephone_codecs_are_taken() {
    for name in ["pcm_alaw", "pcm_mulaw", "g722"] {
        let rate = if name == "g722" { 16_000 } else { 8000 };
        let mut converter = AacConverter::new(&coding(name, rate, 1)).unwrap();
        let frames: Vec<AacFrame> = (0..50)
            .flat_map(|packet| converter.convert(&[0x55; 160], packet * 1800).unwrap())
            .collect();
        assert!(
            (44..=47).contains(&frames.len()),
            "{} of {name}",
            frames.len()
        );
    }
}

#[test]
fn audio_that_is_lost_leaves_a_gap_where_it_was() {
    let mut converter = AacConverter::new(&coding("pcm_s16le", 48_000, 1)).unwrap();
    let frames = convert(&mut converter, (48_000, 1), |packet| {
        (40..60).contains(&packet)
    });
    let gaps: Vec<i64> = frames
        .windows(2)
        .map(|two| two[1].time - two[0].time)
        .filter(|step| (step - 1920).abs() > 1)
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    // A gap of 400 ms, plus the samples before it that did not fill a frame.
    assert!((36_000..40_000).contains(&gaps[0]), "{gaps:?}");
    // Jitter leaves no gap.
    let mut converter = AacConverter::new(&coding("pcm_s16le", 48_000, 1)).unwrap();
    let times: Vec<i64> = (0..100i64)
        .flat_map(|packet| {
            let data = tones(48_000, 1, packet as usize * 960, 960);
            let jitter = [0, 900, -900][packet as usize % 3];
            converter.convert(&data, packet * 1800 + jitter).unwrap()
        })
        .map(|frame| frame.time)
        .collect();
    assert!(
        times.windows(2).all(|two| two[1] - two[0] == 1920),
        "{times:?}"
    );
}

#[test]
fn what_is_no_packet_is_an_error_and_the_next_is_taken() {
    let mut converter = AacConverter::new(&coding("pcm_s16le", 48_000, 2)).unwrap();
    assert!(converter.convert(&[], 0).is_err());
    assert!(converter.convert(&vec![0; MAX_BYTES + 1], 0).is_err());
    assert!(converter.convert(&[1], 0).is_err(), "less than a sample");
    assert!(!convert(&mut converter, (48_000, 2), |_| false).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_bytes_at_any_time_are_survived(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), any::<i64>()), 1..20)) {
        for name in ["aac", "pcm_alaw"] {
            let channels = if name == "aac" { 2 } else { 1 };
            let mut parameters = Parameters::new();
            parameters.set_medium(ffmpeg::media::Type::Audio);
            parameters.set_id(Id::AAC);
            let coding = match name {
                "aac" => AudioCoding::new(parameters),
                _ => coding(name, 8000, channels),
            };
            let Ok(mut converter) = AacConverter::new(&coding) else { continue };
            for (bytes, time) in &packets {
                let _ = converter.convert(bytes, *time);
            }
        }
    }
}
