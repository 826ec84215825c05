//! `sluicegate-devices FORMAT NAME [KEY=VALUE]…` opens a device of libavdevice and writes its video and audio to
//! standard output, as NUT. If NAME is `-`, it is taken from the environment variable `SLUICEGATE_DEVICE`.
//!
//! It is a separate program, which the gateway runs while a camera or a screen is being watched: drivers hang and
//! crash, and libavdevice depends on eighty libraries that a gateway without cameras does not need. If the device
//! cannot be opened or fails, the reason is written to standard error and the exit code is its `errno`. The caller is
//! `host/source/src/device.rs`.

use ffmpeg_next::{
    self as ffmpeg, Dictionary, Error, Format, Packet, Rational, codec, device, encoder, format,
    frame, media,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::process::ExitCode;

fn main() -> ExitCode {
    // The parent may die while a blocking driver call keeps this process from noticing the closed pipe.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(([kind, name], options)) = arguments.split_first_chunk() else {
        eprintln!("usage: sluicegate-devices FORMAT NAME [KEY=VALUE]...");
        return ExitCode::from(64);
    };
    let hidden = match name.as_str() {
        "-" => std::env::var("SLUICEGATE_DEVICE").ok(),
        _ => None,
    };
    match run(kind, hidden.as_ref().unwrap_or(name), options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let errno = match error {
                Error::Other { errno } => u8::try_from(errno).unwrap_or(1),
                _ => 1,
            };
            ExitCode::from(errno.max(1))
        }
    }
}

fn run(kind: &str, name: &str, options: &[String]) -> Result<(), Error> {
    ffmpeg::init()?;
    device::register_all();
    // libavdevice's log lines about a device that cannot be opened are better than its error code; while it runs they
    // are noise.
    ffmpeg::log::set_level(ffmpeg::log::Level::Error);
    let mut input = open(kind, name, options)?;
    ffmpeg::log::set_level(ffmpeg::log::Level::Fatal);
    let mut output = format::output_as("pipe:1", "nut")?;
    let mut tracks = Vec::new();
    for medium in [media::Type::Video, media::Type::Audio] {
        let Some(stream) = input.streams().best(medium) else {
            continue;
        };
        let (index, time_base) = (stream.index(), stream.time_base());
        // Frames of libavfilter are not serialised yet.
        let raw = match stream.parameters().id() {
            codec::Id::RAWVIDEO | codec::Id::WRAPPED_AVFRAME if kind == "lavfi" => {
                Some(Raw::new(stream.parameters(), time_base)?)
            }
            _ => None,
        };
        let mut track = output.add_stream(encoder::find(codec::Id::None))?;
        track.set_parameters(match &raw {
            Some(raw) => codec::Parameters::from(&raw.encoder),
            None => stream.parameters(),
        });
        track.set_time_base(time_base);
        track.set_avg_frame_rate(stream.avg_frame_rate());
        tracks.push((index, time_base, raw));
    }
    if tracks.is_empty() {
        return Err(Error::StreamNotFound);
    }
    // Without an index, which would grow as long as the device runs.
    let bounded = [
        ("strict", "experimental"),
        ("syncpoints", "none"),
        ("write_index", "0"),
        ("flush_packets", "1"),
    ];
    output.write_header_with(bounded.into_iter().collect())?;
    loop {
        let mut packet = Packet::empty();
        match packet.read(&mut input) {
            Ok(()) => {}
            Err(Error::Eof) => return Ok(()),
            Err(error) => return Err(error),
        }
        let nth = tracks
            .iter()
            .position(|(index, ..)| *index == packet.stream());
        let Some((nth, (_, time_base, raw))) =
            nth.and_then(|nth| Some((nth, tracks.get_mut(nth)?)))
        else {
            continue;
        };
        let time_base_out = output.stream(nth).ok_or(Error::StreamNotFound)?.time_base();
        let mut write = |mut packet: Packet| {
            packet.set_stream(nth);
            packet.set_position(-1);
            packet.rescale_ts(*time_base, time_base_out);
            packet.write(&mut output).map(drop)
        };
        match raw {
            Some(raw) => raw.pass(&packet, &mut write)?,
            None => write(packet)?,
        }
    }
}

fn open(kind: &str, name: &str, options: &[String]) -> Result<format::context::Input, Error> {
    let named = |input: &format::Input| input.name().split(',').any(|known| known == kind);
    let format = device::input::video()
        .find(|format| matches!(format, Format::Input(input) if named(input)))
        .ok_or(Error::DemuxerNotFound)?;
    let options: Dictionary<'_> = options
        .iter()
        .filter_map(|option| option.split_once('='))
        .collect();
    match format::open_with(name, &format, options)? {
        format::Context::Input(input) => Ok(input),
        format::Context::Output(_) => Err(Error::DemuxerNotFound),
    }
}

/// Serialises raw frames.
struct Raw {
    decoder: codec::decoder::Video,
    encoder: codec::encoder::video::Encoder,
}

impl Raw {
    fn new(parameters: codec::Parameters, time_base: Rational) -> Result<Raw, Error> {
        let decoder = codec::Context::from_parameters(parameters)?
            .decoder()
            .video()?;
        let codec = encoder::find(codec::Id::RAWVIDEO).ok_or(Error::EncoderNotFound)?;
        let mut encoder = codec::Context::new_with_codec(codec).encoder().video()?;
        encoder.set_width(decoder.width());
        encoder.set_height(decoder.height());
        encoder.set_format(decoder.format());
        encoder.set_time_base(time_base);
        let encoder = encoder.open_as(codec)?;
        Ok(Raw { decoder, encoder })
    }

    fn pass(
        &mut self,
        packet: &Packet,
        mut write: impl FnMut(Packet) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.decoder.send_packet(packet)?;
        let mut decoded = frame::Video::empty();
        while self.decoder.receive_frame(&mut decoded).is_ok() {
            decoded.set_pts(packet.pts());
            self.encoder.send_frame(&decoded)?;
            let mut bytes = Packet::empty();
            while self.encoder.receive_packet(&mut bytes).is_ok() {
                write(std::mem::replace(&mut bytes, Packet::empty()))?;
            }
        }
        Ok(())
    }
}
