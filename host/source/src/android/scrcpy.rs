//! Command line of scrcpy's server and parser of its video socket, by version. Pure: bytes in, events out.
//!
//! Derived from upstream's tags, and pinned by fixtures that name file and line (`tests/fixtures/scrcpy-wire.txt`):
//! versions 2.0 to 3.3.4 send the codec and the first size (`Streamer.writeVideoHeader`), then packets; from 4.0 on the
//! codec, then packets, among them *session packets* with each size (`Streamer.writeSessionMeta`). The dummy byte and
//! the device's name, which come first by default, are turned off: an adb socket itself shows whether it is connected.

use bytes::{Buf, Bytes, BytesMut};
use sluicegate_config::{Android, Mirror, ScrcpyVersion};
use std::time::Duration;
use thiserror::Error;

/// Largest packet that is accepted, in bytes.
pub const MAX_PACKET_BYTES: usize = 16 << 20;

/// `h264` as scrcpy writes codecs: four characters.
const H264: u32 = 0x6832_3634;
/// Sent instead of a codec if the device could not start (`Streamer.writeDisableStream`).
const NO_CODEC: [u32; 2] = [0, 1];
/// Length of a packet header: eight bytes of flags and time, four of size.
const HEADER: usize = 12;
/// Largest width or height that is accepted.
const MAX_SIDE: u32 = 1 << 15;

/// Format of a version's video socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// 2.x and 3.x: codec, width, height; the flags config and key are the top two bits.
    Sized,
    /// 4.x: codec; the flags session, config and key are the top three bits.
    Sessions,
}

impl Wire {
    /// The format of a version; a version newer than all known ones is treated as the newest known.
    pub fn of(version: &ScrcpyVersion) -> Wire {
        match version.numbers() {
            (..4, _) => Wire::Sized,
            _ => Wire::Sessions,
        }
    }
}

/// A violation of the video socket's format.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// The device reported a failure instead of a codec.
    #[error("the device could not start encoding")]
    Disabled,
    /// The codec is not H.264.
    #[error(
        "its video is not H.264 but {0:#010x}; check that `version` under [android] is that of `server`"
    )]
    Codec(u32),
    /// A size that no screen has, in pixels.
    #[error(
        "scrcpy announced a frame of {0}x{1}; check that `version` under [android] is that of `server`"
    )]
    Size(u32, u32),
    /// An empty packet, or one that exceeds the limit.
    #[error(
        "scrcpy announced a packet of {0} bytes; check that `version` under [android] is that of `server`"
    )]
    Packet(u32),
}

/// An event of the video socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Size of the frames that follow.
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Parameter sets in Annex B, for the frames that follow.
    Config(Bytes),
    /// One frame in Annex B.
    Frame {
        /// Presentation time, microseconds of the device's clock.
        at_us: u64,
        /// Whether the encoder marked it as a keyframe.
        key: bool,
        /// Its NAL units.
        data: Bytes,
    },
}

/// Splits the bytes of a video socket, in pieces of any size, into events.
#[derive(Debug)]
pub struct Parser {
    wire: Wire,
    /// Received bytes that are not parsed yet; at most a packet and what arrived with its end.
    buffer: BytesMut,
    begun: bool,
    size_is_next: bool,
    packet: Option<Header>,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    config: bool,
    key: bool,
    at_us: u64,
    size: usize,
}

impl Parser {
    /// A parser at the start of the socket.
    pub fn new(wire: Wire) -> Parser {
        Parser {
            wire,
            buffer: BytesMut::new(),
            begun: false,
            size_is_next: false,
            packet: None,
        }
    }

    /// Adds received bytes. Call [`Parser::take`] afterwards until it returns `None`, so that at most one packet is
    /// buffered.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event. After an error the rest of the stream is meaningless.
    ///
    /// # Errors
    /// The bytes are not a valid stream of this version.
    pub fn take(&mut self) -> Result<Option<Event>, WireError> {
        if !self.begun {
            if self.buffer.len() < 4 {
                return Ok(None);
            }
            match self.buffer.get_u32() {
                H264 => {}
                codec if NO_CODEC.contains(&codec) => return Err(WireError::Disabled),
                codec => return Err(WireError::Codec(codec)),
            }
            self.begun = true;
            self.size_is_next = self.wire == Wire::Sized;
        }
        if self.size_is_next {
            if self.buffer.len() < 8 {
                return Ok(None);
            }
            self.size_is_next = false;
            return self.size().map(Some);
        }
        let packet = match self.packet {
            Some(packet) => packet,
            None if self.buffer.len() < HEADER => return Ok(None),
            None => {
                let flags = self.buffer.first_chunk().copied();
                let flags = flags.map_or(0, u64::from_be_bytes);
                if self.wire == Wire::Sessions && flags >> 63 == 1 {
                    self.buffer.advance(4);
                    return self.size().map(Some);
                }
                self.buffer.advance(8);
                let size = self.buffer.get_u32();
                let packet = Header::new(self.wire, flags, size)?;
                self.packet = Some(packet);
                packet
            }
        };
        if self.buffer.len() < packet.size {
            return Ok(None);
        }
        self.packet = None;
        // Copied, so that a small frame does not keep the whole read buffer alive.
        let data = Bytes::copy_from_slice(self.buffer.get(..packet.size).unwrap_or_default());
        self.buffer.advance(packet.size);
        Ok(Some(match packet {
            Header { config: true, .. } => Event::Config(data),
            Header { at_us, key, .. } => Event::Frame { at_us, key, data },
        }))
    }

    fn size(&mut self) -> Result<Event, WireError> {
        let (width, height) = (self.buffer.get_u32(), self.buffer.get_u32());
        let sides = 1..=MAX_SIDE;
        match sides.contains(&width) && sides.contains(&height) {
            true => Ok(Event::Size { width, height }),
            false => Err(WireError::Size(width, height)),
        }
    }
}

impl Header {
    fn new(wire: Wire, flags: u64, size: u32) -> Result<Header, WireError> {
        let bytes = usize::try_from(size).unwrap_or(usize::MAX);
        if !(1..=MAX_PACKET_BYTES).contains(&bytes) {
            return Err(WireError::Packet(size));
        }
        let top = match wire {
            Wire::Sized => 63,
            Wire::Sessions => 62,
        };
        Ok(Header {
            config: flags >> top & 1 == 1,
            key: flags >> (top - 1) & 1 == 1,
            at_us: flags & ((1 << (top - 1)) - 1),
            size: bytes,
        })
    }
}

/// The control message `RESET_VIDEO` (`ControlMessage.TYPE_RESET_VIDEO`): the encoder restarts, with a keyframe.
pub const RESET_VIDEO: u8 = 17;

/// Whether the version supports [`RESET_VIDEO`]: from 3.0 on.
pub fn can_reset(version: &ScrcpyVersion) -> bool {
    version.numbers() >= (3, 0)
}

/// Whether to open a control socket: to request keyframes, or because scrcpy wakes devices only with one.
pub fn is_controlled(version: &ScrcpyVersion, settings: &Android) -> bool {
    can_reset(version) || settings.wake
}

/// Name of the socket on which a server with this id listens.
pub fn socket(id: u32) -> String {
    format!("scrcpy_{id:08x}")
}

/// The shell command that runs the server `jar` on a device. It replaces the shell's process, so that both end
/// together.
///
/// It changes nothing on the device, except waking the screen if configured, and does not read the clipboard.
pub fn command(
    version: &ScrcpyVersion,
    jar: &str,
    id: u32,
    settings: &Android,
    mirror: &Mirror,
) -> String {
    let mut options = format!(
        "scid={id:08x} log_level=info audio=false control={} tunnel_forward=true cleanup=false power_on={} \
         clipboard_autosync=false max_size={} max_fps={} video_bit_rate={} video_codec_options={}",
        is_controlled(version, settings),
        settings.wake,
        mirror.max_size,
        mirror.frame_rate,
        mirror.bitrate.bits_per_second().min(i32::MAX as u64),
        keyframes_every(mirror.keyframe_interval.duration()),
    );
    options.push_str(match (settings.metadata, version.numbers()) {
        (true, _) => " send_dummy_byte=false send_device_meta=false",
        // Its name until 2.1.
        (false, (2, 0)) => " raw_video_stream=true",
        (false, _) => " raw_stream=true",
    });
    format!(
        "echo sdk=$(getprop ro.build.version.sdk); export CLASSPATH={jar}; \
         exec app_process / com.genymobile.scrcpy.Server {version} {options}"
    )
}

/// `KEY_I_FRAME_INTERVAL` in seconds: an integer, or from Android 7.1 on a float.
fn keyframes_every(interval: Duration) -> String {
    match interval.subsec_nanos() {
        0 => format!("i-frame-interval={}", interval.as_secs()),
        _ => format!("i-frame-interval:float={}", interval.as_secs_f32()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use sluicegate_config::Android;

    fn events(wire: Wire, pieces: &[&[u8]]) -> Result<Vec<Event>, WireError> {
        let mut parser = Parser::new(wire);
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece);
            while let Some(event) = parser.take()? {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn write(wire: Wire, events: &[Event]) -> Vec<u8> {
        let mut out = b"h264".to_vec();
        let mut first = true;
        for event in events {
            let (flags, data) = match event {
                Event::Size { width, height } => {
                    match wire {
                        // Only once.
                        Wire::Sized if !first => continue,
                        Wire::Sized => {}
                        Wire::Sessions => out.extend(0x8000_0001u32.to_be_bytes()),
                    }
                    first = false;
                    out.extend(width.to_be_bytes());
                    out.extend(height.to_be_bytes());
                    continue;
                }
                Event::Config(data) => (0b100u64 << 61, data),
                Event::Frame { at_us, key, data } => (*at_us | u64::from(*key) << 62, data),
            };
            let flags = match (wire, event) {
                (Wire::Sized, _) => flags,
                (Wire::Sessions, Event::Config(_)) => flags >> 1,
                (Wire::Sessions, Event::Frame { at_us, key, .. }) => *at_us | u64::from(*key) << 61,
                (Wire::Sessions, Event::Size { .. }) => flags,
            };
            out.extend(flags.to_be_bytes());
            out.extend((data.len() as u32).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    fn some_events() -> impl Strategy<Value = Vec<Event>> {
        let data = || proptest::collection::vec(any::<u8>(), 1..40).prop_map(Bytes::from);
        let event =
            prop_oneof![
                data().prop_map(Event::Config),
                (0u64..1 << 60, any::<bool>(), data())
                    .prop_map(|(at_us, key, data)| Event::Frame { at_us, key, data }),
            ];
        proptest::collection::vec(event, 0..20)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_is_cut(
            events_written in some_events(),
            resize in 0usize..20,
            cuts in proptest::collection::vec(0usize..2000, 0..30),
            new in any::<bool>(),
        ) {
            let wire = if new { Wire::Sessions } else { Wire::Sized };
            let mut all = vec![Event::Size { width: 720, height: 1280 }];
            all.extend(events_written);
            if new {
                let at = 1 + resize.min(all.len() - 1);
                all.insert(at, Event::Size { width: 1280, height: 720 });
            }
            let stream = write(wire, &all);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|two| &stream[two[0]..two[1]]).collect();
            prop_assert_eq!(events(wire, &pieces), Ok(all));
        }

        #[test]
        fn no_bytes_panic_and_no_more_than_was_sent_is_kept(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            begun in any::<bool>(),
            new in any::<bool>(),
        ) {
            let wire = if new { Wire::Sessions } else { Wire::Sized };
            let mut parser = Parser::new(wire);
            if begun {
                parser.push(&write(wire, &[Event::Size { width: 2, height: 2 }]));
            }
            parser.push(&bytes);
            let mut given = 0;
            while let Ok(Some(event)) = parser.take() {
                if let Event::Config(data) | Event::Frame { data, .. } = event {
                    given += data.len();
                }
            }
            prop_assert!(given + parser.buffer.len() <= bytes.len() + 16);
        }
    }

    #[test]
    fn an_invalid_header_is_refused_before_anything_is_buffered_for_it() {
        let size = Event::Size {
            width: 720,
            height: 1280,
        };
        let head = write(Wire::Sized, std::slice::from_ref(&size));
        let packet = |size: u32| [&head[..], &[0; 8], &size.to_be_bytes()].concat();
        for (bytes, error) in [
            (
                b"h265\0\0\0\x01\0\0\0\x01".to_vec(),
                WireError::Codec(0x6832_3635),
            ),
            (vec![0; 12], WireError::Disabled),
            ([b"h264", &[0; 8][..]].concat(), WireError::Size(0, 0)),
            (packet(0), WireError::Packet(0)),
            (packet(16 << 20 | 1), WireError::Packet(16 << 20 | 1)),
            (packet(u32::MAX), WireError::Packet(u32::MAX)),
        ] {
            assert_eq!(events(Wire::Sized, &[&bytes]), Err(error), "{bytes:?}");
        }
        assert_eq!(events(Wire::Sized, &[&packet(16 << 20)]), Ok(vec![size]));
        assert!(WireError::Packet(0).to_string().contains("`version`"));
    }

    #[test]
    fn each_version_gets_its_own_arguments() {
        let android = Android::default();
        let ask_with = |version: &str, settings: &Android| {
            let version = version.parse().unwrap();
            command(&version, "/x.jar", 0x1234, settings, &android.mirror("a"))
        };
        let ask = |version, metadata| {
            let android = android.clone();
            ask_with(
                version,
                &Android {
                    metadata,
                    ..android
                },
            )
        };
        let new = ask("3.3.4", true);
        for part in [
            "CLASSPATH=/x.jar; exec app_process / com.genymobile.scrcpy.Server 3.3.4 scid=00001234 ",
            " control=true ",
            " max_size=1280 max_fps=30 video_bit_rate=4000000 video_codec_options=i-frame-interval=2 ",
            " power_on=false ",
        ] {
            assert!(new.contains(part), "{part} is not in {new}");
        }
        assert!(ask("2.7", true).contains(" control=false "));
        let wake = Android {
            wake: true,
            ..android.clone()
        };
        for version in ["2.7", "3.0"] {
            let asked = ask_with(version, &wake);
            assert!(asked.contains(" control=true ") && asked.contains(" power_on=true "));
        }
        assert!(ask("2.0", false).ends_with(" raw_video_stream=true"));
        assert!(ask("2.1", false).ends_with(" raw_stream=true"));
        assert!(ask("4.1", false).ends_with(" raw_stream=true"));
        assert_eq!(
            keyframes_every(Duration::from_millis(500)),
            "i-frame-interval:float=0.5"
        );
        assert_eq!(socket(0x1234), "scrcpy_00001234");
        let of = |version: &str| Wire::of(&version.parse().unwrap());
        assert_eq!([of("2.0"), of("3.3.4")], [Wire::Sized; 2]);
        assert_eq!([of("4.0"), of("4.1"), of("5.0")], [Wire::Sessions; 3]);
    }
}
