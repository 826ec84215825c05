//! Cameras, screens and filter graphs through libavdevice, which runs in a child process (`sluicegate-devices`).
//!
//! libavdevice blocks in drivers and cannot be interrupted, but a process can be killed. The media arrives through a
//! pipe as NUT.

use super::{
    SourceContext, SourceError, camera,
    libav::{self, Input},
    pace::Pace,
    spec::Screen,
};
use rustix::{io::Errno, process::Signal};
use sluicegate_config as config;
use std::{
    io::Read,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// How long a killed process may take to end before that is reported, and before a source that is being stopped gives
/// up waiting.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest amount of the process's error output that is kept, in bytes.
const MAX_OUTPUT_BYTES: u64 = 2000;

/// Environment variable from which `sluicegate-devices` reads the name if that is given as `-`.
const DEVICE_VARIABLE: &str = "SLUICEGATE_DEVICE";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Sets the program that opens devices, `sluicegate-devices`.
pub fn set_devices_program(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// Streams a camera in the format that suits `encode` best.
pub fn run_camera(path: &Path, context: &mut SourceContext<'_>) -> Result<(), SourceError> {
    let what = format!("v4l2:{}", path.display());
    let fail = |reason: String| SourceError::Open {
        what: what.clone(),
        reason,
    };
    let (path, choice) = camera::choose_for(path, context.encode.get()).map_err(fail)?;
    tracing::info!("{what}: {choice}");
    let mut options = vec![
        format!("input_format={}", choice.format.name()),
        format!("video_size={}x{}", choice.size.0, choice.size.1),
    ];
    options.extend(choice.rate.map(|rate| format!("framerate={rate:.4}")));
    let device = Device {
        kind: "v4l2",
        name: &path.to_string_lossy(),
        options,
        advice: &camera::advice,
    };
    run(&what, device, None, context)
}

/// Streams an X11 screen, or a part of it.
pub fn run_screen(screen: &Screen, context: &mut SourceContext<'_>) -> Result<(), SourceError> {
    let what = format!("screen:{screen}");
    let display = screen
        .display
        .clone()
        .or_else(|| std::env::var("DISPLAY").ok());
    let display = display.ok_or_else(|| SourceError::Open {
        what: what.clone(),
        reason: "DISPLAY is not set; start the gateway in the session of that screen, or name the display, e.g. screen::0".into(),
    })?;
    let mut options = vec![
        format!("framerate={}", context.encode.get().frame_rate),
        format!("grab_x={}", screen.offset.0),
        format!("grab_y={}", screen.offset.1),
    ];
    options.extend(
        screen
            .size
            .map(|(width, height)| format!("video_size={width}x{height}")),
    );
    let advice = |errno: Errno| {
        Some(match errno {
            Errno::IO => {
                "is there an X server, and may this user access it? Check DISPLAY and XAUTHORITY"
            }
            Errno::INVAL => {
                "is the region within the screen? Write e.g. screen::0+100,200?size=640x360"
            }
            _ => return None,
        })
    };
    let device = Device {
        kind: "x11grab",
        name: &display,
        options,
        advice: &advice,
    };
    run(&what, device, None, context)
}

/// Streams the output of a filter graph, in real time.
pub fn run_lavfi(
    source: &config::Source,
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    let what = source.to_string();
    let device = Device {
        kind: "lavfi",
        name: lavfi_graph(source),
        options: Vec::new(),
        advice: &|_| None,
    };
    let pace = Some(Pace::default());
    run(&what, device, pace, context)
}

/// The filter graph: the source without its `lavfi:`, which is removed once.
fn lavfi_graph(source: &config::Source) -> &str {
    let text = source.expose();
    text.strip_prefix("lavfi:").unwrap_or(text)
}

/// A device for libavdevice to open.
struct Device<'a> {
    kind: &'a str,
    name: &'a str,
    options: Vec<String>,
    /// Returns advice for an error.
    advice: &'a dyn Fn(Errno) -> Option<&'static str>,
}

/// Runs a device until it is stopped, fails or falls silent.
fn run(
    what: &str,
    device: Device<'_>,
    pace: Option<Pace>,
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    let fail = |reason: String| SourceError::Open {
        what: what.to_owned(),
        reason,
    };
    let program = PROGRAM.get().ok_or_else(|| {
        fail("sluicegate-devices, the program that opens it, is not configured".into())
    })?;
    let mut command = Command::new(program);
    match device.kind {
        // A graph may contain a file name or URL with a password, and the arguments of a process are visible to
        // everybody.
        "lavfi" => command
            .args([device.kind, "-"])
            .env(DEVICE_VARIABLE, device.name),
        kind => command.args([kind, device.name]),
    };
    let mut child = command
        .args(&device.options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            fail(format!(
                "{} cannot be run: {error}; install it beside the gateway's own program",
                program.display()
            ))
        })?;
    let ended = match child.stdout.take() {
        Some(media) => Input::of_pipe(what, media, context.stop)
            .and_then(|opened| libav::play(what, opened, pace, context)),
        None => Err(SourceError::Ended(what.to_owned())),
    };
    let status = end(&mut child, context);
    if context.stop.is_stopped() {
        return Ok(());
    }
    let failed = |reason: String| {
        let what = what.to_owned();
        match ended {
            Err(SourceError::Open { .. }) => SourceError::Open { what, reason },
            _ => SourceError::Read { what, reason },
        }
    };
    // The process ended first, and knows the reason better.
    if let Some(errno) = status
        .and_then(|status| status.code())
        .filter(|code| *code != 0)
    {
        let mut reason = error_output(&mut child);
        if let Some(advice) = (device.advice)(Errno::from_raw_os_error(errno)) {
            reason.push_str("; ");
            reason.push_str(advice);
        }
        return Err(failed(reason));
    }
    match status.and_then(|status| status.signal()) {
        Some(signal) if signal != Signal::KILL.as_raw() => {
            Err(failed(format!("its driver crashed with signal {signal}")))
        }
        _ => ended,
    }
}

/// Kills the process, so that its device can be opened again. If it is stuck in its driver, waits for it, because
/// another process would be stuck there too.
fn end(child: &mut Child, context: &mut SourceContext<'_>) -> Option<ExitStatus> {
    // A process that has ended keeps its status.
    let _ = child.kill();
    let began = Instant::now();
    let mut reported = false;
    loop {
        match child.try_wait() {
            Ok(None) => {}
            ended => return ended.ok().flatten(),
        }
        if began.elapsed() > KILL_TIMEOUT {
            if context.stop.is_stopped() {
                return None;
            }
            if !reported {
                context.sink.lost(
                    "the device is stuck in its driver; unplug it, or restart the service behind it"
                        .into(),
                );
                reported = true;
            }
        }
        thread::sleep(Duration::from_millis(if reported { 200 } else { 5 }));
    }
}

/// The process's error output as one line, the last message first, without prefixes such as `[x11grab @ 0x55d0]`.
fn error_output(child: &mut Child) -> String {
    let mut words = String::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(MAX_OUTPUT_BYTES).read_to_string(&mut words);
    }
    let lines: Vec<&str> = words
        .lines()
        .map(|line| match line.split_once("] ") {
            Some((place, rest)) if place.starts_with('[') => rest,
            _ => line,
        })
        .map(|line| line.trim().trim_end_matches('.'))
        .filter(|line| !line.is_empty())
        .collect();
    // The error is last; the lines before it led to it.
    match lines.split_last() {
        Some((error, [])) => (*error).to_owned(),
        Some((error, before)) => format!("{error}: {}", before.join(": ")),
        None => "it exited without a message".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::lavfi_graph;

    #[test]
    fn a_graph_is_all_that_stands_behind_the_first_colon() {
        for (source, graph) in [("lavfi:testsrc", "testsrc"), ("lavfi:lavfi:x", "lavfi:x")] {
            assert_eq!(lavfi_graph(&source.into()), graph);
        }
    }
}
