//! Mirrors one device: pushes the server, starts it in a shell, reads its video socket, and ends all of it.
//!
//! Everything on the device depends on connections to the adb server. When these end, in whatever way the gateway
//! ended, adbd closes the streams: the shell's process gets SIGHUP (AOSP, `adb/daemon/shell_service.cpp`,
//! `Subprocess::PassDataStreams`), and scrcpy's server, which replaced the shell, exits; its closed sockets would end
//! it, too. The pushed file is removed as soon as the server runs from it, which is later than scrcpy's own client does
//! it (`CleanUp`); if the gateway was killed in the second before, a later start removes the file a day later.

use super::{
    super::{
        POLL_INTERVAL, Sink, SourceContext, SourceError, SourceTimes,
        annexb::{ByteStream, CHUNK},
    },
    adb::Connection,
    device::{Device, Failure, Shell},
    fleet::Fleet,
    scrcpy::{self, Event, Parser, Wire},
};
use bytes::Bytes;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use sluicegate_config::{Android, MAX_SCRCPY_SERVER_BYTES, ScrcpyVersion};
use sluicegate_media::h264::annexb::split;
use std::{
    fs::File,
    io::{self, Read},
    time::{Duration, Instant},
};

/// How long to wait for the last output of a server that ended.
const FINAL_OUTPUT_TIMEOUT: Duration = Duration::from_millis(500);
/// Shortest time between two resets of the encoder, since each interrupts the video briefly.
const MIN_RESET_INTERVAL: Duration = Duration::from_secs(2);

/// Mirrors a device until stopped or until it fails. Waits for a device that is not attached or is detached.
///
/// # Errors
/// What failed while the device was attached.
pub fn run(
    serial: &str,
    fleet: &Fleet,
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    let what = format!("android:{serial}");
    while let Some(before) = fleet.ready(serial, context.stop) {
        let ended = run_server(serial, fleet, context);
        let Err(failure) = ended else { break };
        if context.stop.is_stopped() {
            break;
        }
        let (error, reason) = match failure {
            Failure::Setup(reason) => return Err(SourceError::Open { what, reason }),
            Failure::Open(reason) => (true, reason),
            Failure::Read(reason) => (false, reason),
        };
        match (fleet.gone(serial, before, context.stop), error) {
            (Some(gone), _) => {
                tracing::info!("{what}: {gone}; it resumes when the device is back");
                context.sink.lost(format!("{what}: {gone}"));
            }
            (None, true) => return Err(SourceError::Open { what, reason }),
            (None, false) => return Err(SourceError::Read { what, reason }),
        }
    }
    Ok(())
}

/// One run of scrcpy's server.
fn run_server(serial: &str, fleet: &Fleet, context: &mut SourceContext<'_>) -> Result<(), Failure> {
    let settings = fleet.settings();
    let (version, server) = server(settings).map_err(Failure::Setup)?;
    context
        .sink
        .listening(format!("starting scrcpy {version} on the device"));
    let device = Device {
        settings,
        serial,
        stop: context.stop,
    };
    // 31 bits, as in scrcpy, so that several servers on one device do not collide.
    let id = fastrand::u32(..) >> 1;
    let mut jar = device.push(id, &server)?;
    let mirror = settings.mirror(serial);
    let command = scrcpy::command(&version, &jar.path, id, settings, &mirror);
    let mut shell = device.shell(&command)?;
    let socket = format!("localabstract:{}", scrcpy::socket(id));
    let video = device.video(&socket, &mut shell, &version, fleet)?;
    let control = match scrcpy::is_controlled(&version, settings) {
        true => Some(device.service(&socket)?),
        false => None,
    };
    jar.remove();
    context.sink.connected();
    let mut showing = MirrorSession {
        version: &version,
        video,
        control,
        shell,
        video_format: match settings.metadata {
            true => VideoFormat::Packets(Parser::new(Wire::of(&version)), Vec::new()),
            false => VideoFormat::Bare(ByteStream::default()),
        },
        request: KeyframeRequest::default(),
    };
    showing.run(context)
}

/// The configured server's version and bytes.
fn server(settings: &Android) -> Result<(ScrcpyVersion, Vec<u8>), String> {
    let Some(path) = &settings.server else {
        return Err(
            "[android] needs `server`, the scrcpy-server to run on devices: download scrcpy-server-v… from \
             https://github.com/Genymobile/scrcpy/releases and write server = \"scrcpy-server-v…\""
                .into(),
        );
    };
    let Some(version) = settings.scrcpy() else {
        return Err("[android] needs `version`, that of `server`, e.g. version = \"3.3.4\"".into());
    };
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| {
        file.take(MAX_SCRCPY_SERVER_BYTES + 1)
            .read_to_end(&mut content)
    });
    match read {
        Ok(0) => Err(format!(
            "{} is empty; correct `server` under [android]",
            path.display()
        )),
        Ok(_) if content.len() as u64 > MAX_SCRCPY_SERVER_BYTES => Err(format!(
            "{} is not a scrcpy-server: it is larger than 16 MiB; correct `server` under [android]",
            path.display()
        )),
        Ok(_) => Ok((version, content)),
        Err(error) => Err(format!(
            "{} cannot be read: {error}; correct `server` under [android]",
            path.display()
        )),
    }
}

/// Format of the video socket.
enum VideoFormat {
    /// Packets with times; and the newest parameter sets, for the next frame.
    Packets(Parser, Vec<Bytes>),
    /// Bytes without times.
    Bare(ByteStream),
}

/// A pending keyframe request.
#[derive(Default)]
struct KeyframeRequest {
    is_there: bool,
    /// Earliest time for the next reset; unknown before the first frame.
    from: Option<Instant>,
}

/// A running server.
struct MirrorSession<'a> {
    version: &'a ScrcpyVersion,
    video: Connection<'a>,
    control: Option<Connection<'a>>,
    shell: Shell<'a>,
    video_format: VideoFormat,
    request: KeyframeRequest,
}

impl MirrorSession<'_> {
    fn run(&mut self, context: &mut SourceContext<'_>) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK];
        let lost = |error: io::Error| Failure::Read(error.to_string());
        while !context.stop.is_stopped() {
            let wait = match &self.video_format {
                VideoFormat::Packets(..) => POLL_INTERVAL,
                VideoFormat::Bare(bytes) => bytes.wait(),
            };
            let (video, shell, control) = self.poll(wait).map_err(lost)?;
            if shell {
                self.shell.read();
            }
            if control {
                self.discard_control(&mut buffer);
            }
            if context.keyframes.take() {
                self.request.is_there = true;
            }
            match video {
                true => {
                    let size = self.video.read(&mut buffer).unwrap_or(0);
                    if size == 0 {
                        return Err(self.ended(context.sink));
                    }
                    self.take(buffer.get(..size).unwrap_or_default(), context.sink)?;
                }
                false => {
                    if let VideoFormat::Bare(bytes) = &mut self.video_format {
                        bytes.silence(context.sink);
                    }
                    if self.shell.ended {
                        return Err(self.ended(context.sink));
                    }
                }
            }
            self.send_keyframe_request(context.sink);
        }
        Ok(())
    }

    /// Which of video, shell and control have data to read.
    fn poll(&self, wait: Duration) -> io::Result<(bool, bool, bool)> {
        let mut all = vec![PollFd::new(&self.video, PollFlags::IN)];
        if !self.shell.ended {
            all.push(PollFd::new(&self.shell.connection, PollFlags::IN));
        }
        if let Some(control) = &self.control {
            all.push(PollFd::new(control, PollFlags::IN));
        }
        let wait = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        match poll(&mut all, Some(&wait)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((false, false, false)),
            Err(error) => return Err(error.into()),
        }
        let mut ready = all.iter().map(|fd| !fd.revents().is_empty());
        let video = ready.next().unwrap_or(false);
        let shell = !self.shell.ended && ready.next().unwrap_or(false);
        let control = self.control.is_some() && ready.next().unwrap_or(false);
        Ok((video, shell, control))
    }

    fn take(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Failure> {
        let (parser, sets) = match &mut self.video_format {
            VideoFormat::Bare(stream) => {
                stream.bytes(bytes, sink);
                self.request.begin();
                return Ok(());
            }
            VideoFormat::Packets(parser, sets) => (parser, sets),
        };
        parser.push(bytes);
        loop {
            match parser.take() {
                Ok(Some(Event::Size { width, height })) => {
                    tracing::debug!("scrcpy sends {width}x{height}");
                }
                Ok(Some(Event::Config(data))) => *sets = split(&data),
                Ok(Some(Event::Frame { at_us, key, data })) => {
                    let mut nals = std::mem::take(sets);
                    nals.extend(split(&data));
                    let ticks = u128::from(at_us) * 9 / 100;
                    let times = SourceTimes {
                        presentation: i64::try_from(ticks).ok(),
                        ..SourceTimes::default()
                    };
                    sink.access_unit(nals, times);
                    self.request.begin();
                    self.request.is_there &= !key;
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(Failure::Read(error.to_string())),
            }
        }
    }

    /// Discards device messages; none is expected.
    fn discard_control(&mut self, buffer: &mut [u8]) {
        if let Some(control) = &mut self.control
            && !matches!(control.read(buffer), Ok(1..))
        {
            self.control = None;
        }
    }

    /// Requests a keyframe if one is pending and the last reset is long enough ago.
    fn send_keyframe_request(&mut self, sink: &mut dyn Sink) {
        let now = Instant::now();
        if !self.request.is_there || self.request.from.is_none_or(|from| now < from) {
            return;
        }
        self.request = KeyframeRequest {
            is_there: false,
            from: Some(now + MIN_RESET_INTERVAL),
        };
        let asked = self
            .control
            .as_mut()
            .filter(|_| scrcpy::can_reset(self.version));
        match asked {
            // A broken connection is noticed when it ends.
            Some(control) => {
                let _ = control.write(&[scrcpy::RESET_VIDEO]);
            }
            None => sink.note(
                "keyframe",
                format!(
                    "a viewer waits for a keyframe, which scrcpy {} cannot make on request: use 3.0 or newer, or a shorter \
                     keyframe-interval",
                    self.version
                ),
            ),
        }
    }

    /// Why the video ended.
    fn ended(&mut self, sink: &mut dyn Sink) -> Failure {
        if let VideoFormat::Bare(bytes) = &mut self.video_format {
            bytes.silence(sink);
        }
        self.shell.listen(FINAL_OUTPUT_TIMEOUT);
        Failure::Read(self.shell.output.explain_exit(self.version))
    }
}

impl KeyframeRequest {
    /// Notes that a frame arrived. The first frame is a keyframe anyway.
    fn begin(&mut self) {
        self.from
            .get_or_insert_with(|| Instant::now() + MIN_RESET_INTERVAL);
    }
}
