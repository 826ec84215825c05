//! Chooses the H.264 encoder: the first that actually encodes on this machine, with the reasons why the preferred ones
//! do not.
//!
//! That libavcodec lists an encoder proves nothing: without its driver and device it fails to open, crashes or hangs.
//! Each encoder is therefore tested in a child process that encodes two frames and decodes them again. This happens
//! once, when something is to be encoded for the first time. If the child cannot be run, nothing is known about the
//! encoder, and it is tested again at the next use. So is libx264 if its test takes too long: it has no driver that could
//! hang, so the machine is busy. If another's child was killed, the encoder counts as one that does not work for a while
//! ([`RETRY`]), and is tested again at the next use after that.

use super::{Decoder, Encoder, Error, Settings, init};
use ffmpeg_next as ffmpeg;
use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_config::EncoderName;
use sluicegate_media::{
    h264::{annexb, nal, parameter_sets::ParameterSets},
    pattern::Painter,
};
use sluicegate_telemetry::{Backoff, Chain, contain, panic_point};
use std::{
    io::{self, PipeReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

/// An encoder whose test takes longer than this is rejected, or tested again if it has no driver.
const LIMIT: Duration = Duration::from_secs(5);
/// How long an encoder is rejected whose test did not finish: each time twice as long, so that a driver that always hangs
/// rarely delays anybody.
const RETRY: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));
/// Largest amount of a child's output that is kept, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// The child's result is the line with this prefix; its drivers may print other lines before.
const ANSWER: &str = "probe: ";
const GOOD: &str = "good";

/// Which encoder is used if the config names none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Encoder")]
pub struct EncoderChoice {
    /// Name of the encoder; absent if none works.
    #[schemars(with = "Option<String>")]
    pub name: Option<EncoderName>,
    /// Preferred encoders that do not work on this machine.
    pub passed_over: Vec<PassedOver>,
}

/// An encoder that does not work on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PassedOver {
    /// Name of the encoder.
    #[schemars(with = "String")]
    pub name: EncoderName,
    /// Reason why it does not work.
    pub reason: String,
}

/// Sets the program that tests encoders in a child process; it must call [`answer`] on `probe-encoder NAME`. Without
/// it, as when the gateway is used as a library, only libx264 is considered, which needs no driver.
pub fn set_probe_program(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// The chosen encoder; `None` until something has been encoded and all preferred encoders could be tested. Never blocks.
pub fn encoders() -> Option<EncoderChoice> {
    CHOICE.newest().map(|kept| kept.value)
}

/// The encoder that [`choose`] has found last, or that it finds none; `None` if that has to be tested. Never blocks.
pub(super) fn chosen(pinned: Option<EncoderName>) -> Option<Option<EncoderName>> {
    let kept = match pinned {
        Some(name) => {
            let tested = OUTCOMES[name as usize].newest()?;
            tested.map(|outcome| outcome.is_ok().then_some(name))
        }
        None => CHOICE.newest()?.map(|choice| choice.name),
    };
    // One that works does so while others are tested again.
    let is_known = kept.value.is_some() || kept.holds(Instant::now());
    is_known.then_some(kept.value)
}

/// Runs in the child process: tests one encoder and prints the result.
pub fn answer(name: EncoderName) {
    // A watchdog, in case the parent exits before it could end this process.
    thread::spawn(|| {
        thread::sleep(LIMIT * 2);
        std::process::exit(1);
    });
    init();
    ffmpeg::log::set_level(ffmpeg::log::Level::Error);
    let words = match test_encoder(name) {
        Ok(()) => GOOD.to_owned(),
        Err(reason) => reason,
    };
    // On a line of its own, whatever a driver printed before without a line break.
    let _ = writeln!(io::stdout(), "\n{ANSWER}{}", words.replace('\n', " "));
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
static CHOICE: Found<EncoderChoice> = Found::new();
static OUTCOMES: [Found<Outcome>; EncoderName::ALL.len()] =
    [const { Found::new() }; EncoderName::ALL.len()];

/// What the test of an encoder found: that it works, or why not.
type Outcome = Result<(), Rejection>;

/// Why an encoder does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rejection {
    reason: String,
    /// Whether the test was killed, so that the encoder may work another time.
    was_killed: bool,
}

impl<S: Into<String>> From<S> for Rejection {
    fn from(reason: S) -> Rejection {
        Rejection {
            reason: reason.into(),
            was_killed: false,
        }
    }
}

/// Reason why an encoder could not be tested.
type Untested = String;

/// A value that is kept until then, or for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept<T> {
    value: T,
    until: Option<Instant>,
}

impl<T> Kept<T> {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn map<U>(self, change: impl FnOnce(T) -> U) -> Kept<U> {
        Kept {
            value: change(self.value),
            until: self.until,
        }
    }
}

/// A value that is kept once it has been found, by one thread at a time.
struct Found<T> {
    kept: Mutex<Option<Kept<T>>>,
    /// How often it has been found; locked while it is looked for.
    times: Mutex<u32>,
}

impl<T: Clone> Found<T> {
    const fn new() -> Found<T> {
        Found {
            kept: Mutex::new(None),
            times: Mutex::new(0),
        }
    }

    /// What was found last, even if it is to be looked for again.
    fn newest(&self) -> Option<Kept<T>> {
        self.kept.lock().clone()
    }

    /// The value that is kept, or what `find` returns, which gets how often it has been found before. An error is not
    /// kept.
    fn get_or_find<E>(
        &self,
        now: Instant,
        find: impl FnOnce(u32) -> Result<Kept<T>, E>,
    ) -> Result<Kept<T>, E> {
        let known = || self.newest().filter(|kept| kept.holds(now));
        if let Some(kept) = known() {
            return Ok(kept);
        }
        let mut times = self.times.lock();
        // The thread that had the turn before may have found it.
        if let Some(kept) = known() {
            return Ok(kept);
        }
        let found = find(*times)?;
        *times = times.saturating_add(1);
        *self.kept.lock() = Some(found.clone());
        Ok(found)
    }
}

/// The encoder that the config names, if it works, else the first that does. May block up to [`LIMIT`] when one is tested,
/// so do not call it on a thread that serves sockets.
pub(super) fn choose(pinned: Option<EncoderName>) -> Result<EncoderName, Error> {
    if let Some(name) = pinned {
        let reason = match outcome(name).map(|tested| tested.value) {
            Ok(Ok(())) => return Ok(name),
            Ok(Err(rejection)) => rejection.reason,
            Err(reason) => reason,
        };
        return Err(Error::Pinned { name, reason });
    }
    let choice = CHOICE.get_or_find(Instant::now(), |_| {
        // In parallel, so that several drivers that hang cost one timeout.
        let outcomes = thread::scope(|scope| {
            let tests = EncoderName::ALL.map(|name| {
                let test = move || outcome(name);
                (name, thread::Builder::new().spawn_scoped(scope, test))
            });
            tests.map(|(name, test)| {
                let tested = test.ok().and_then(|test| test.join().ok());
                (name, tested.unwrap_or_else(|| outcome(name)))
            })
        });
        let (choice, is_final) = choose_from(outcomes);
        let rejected = choice.value.reasons();
        match choice.value.name {
            // Who asked reports a failure, and asks again.
            _ if !is_final => tracing::debug!("encoders could not be tested: {rejected}"),
            Some(name) => tracing::info!("using the H.264 encoder {name}; rejected: {rejected}"),
            None => tracing::error!("no H.264 encoder works on this machine: {rejected}"),
        }
        if is_final { Ok(choice) } else { Err(choice) }
    });
    let choice = choice.unwrap_or_else(|provisional| provisional).value;
    choice.name.ok_or_else(|| Error::NoEncoder {
        reasons: choice.reasons(),
    })
}

/// The choice, which holds as long as what was found about all encoders up to it, and whether these could be tested: if
/// not, a preferred one may work after all.
fn choose_from(
    outcomes: impl IntoIterator<Item = (EncoderName, Result<Kept<Outcome>, Untested>)>,
) -> (Kept<EncoderChoice>, bool) {
    let mut choice = EncoderChoice {
        name: None,
        passed_over: Vec::new(),
    };
    let (mut is_final, mut until) = (true, None);
    for (name, outcome) in outcomes {
        is_final &= outcome.is_ok();
        let reason = match outcome {
            Ok(tested) => {
                until = until.into_iter().chain(tested.until).min();
                match tested.value {
                    Ok(()) => {
                        choice.name = Some(name);
                        break;
                    }
                    Err(rejection) => rejection.reason,
                }
            }
            Err(reason) => reason,
        };
        choice.passed_over.push(PassedOver { name, reason });
    }
    let value = choice;
    (Kept { value, until }, is_final)
}

impl EncoderChoice {
    fn reasons(&self) -> String {
        let each = self.passed_over.iter();
        let each: Vec<String> = each
            .map(|passed| format!("{} ({})", passed.name, passed.reason))
            .collect();
        each.join(", ")
    }
}

/// Tests an encoder, unless it has been tested.
fn outcome(name: EncoderName) -> Result<Kept<Outcome>, Untested> {
    let test = || {
        panic_point("probe");
        init();
        if ffmpeg::codec::encoder::find_by_name(name.as_str()).is_none() {
            return Ok(Err("not in this build of FFmpeg".into()));
        }
        match (PROGRAM.get(), name) {
            (Some(program), _) => {
                let mut command = Command::new(program);
                command.args(["probe-encoder", name.as_str()]);
                run_probe(command, LIMIT, name != EncoderName::Libx264)
            }
            (None, EncoderName::Libx264) => Ok(test_encoder(name).map_err(Rejection::from)),
            (None, _) => Ok(Err("not tested: there is no program to test it in".into())),
        }
    };
    OUTCOMES[name as usize].get_or_find(Instant::now(), |nth| {
        let outcome = contain(test)
            .unwrap_or_else(|panicked| Ok(Err(format!("testing it {panicked}").into())));
        Ok(kept(outcome?, nth, Instant::now()))
    })
}

/// Until when the outcome of the `nth` test (from 0) of an encoder is kept.
fn kept(outcome: Outcome, nth: u32, now: Instant) -> Kept<Outcome> {
    let was_killed = matches!(&outcome, Err(rejection) if rejection.was_killed);
    Kept {
        value: outcome,
        until: was_killed.then(|| now + RETRY.nth(nth)),
    }
}

/// Encodes two frames and decodes them again.
fn test_encoder(name: EncoderName) -> Result<(), String> {
    let settings = Settings {
        encoder: name,
        ..Settings::default()
    };
    let (width, height) = (settings.width, settings.height);
    let words = |error: Error| match &error {
        Error::Open { source, .. } => format!("cannot be opened: {source}"),
        _ => Chain(&error).to_string(),
    };
    let mut encoder = Encoder::new(settings).map_err(words)?;
    let mut painter = Painter::new(width, height).map_err(|error| error.to_string())?;
    let mut packets = Vec::new();
    for number in 0..2 {
        let image = painter.paint(number, 0);
        packets.extend(
            encoder
                .encode(image, number as i64 * 6_000, false)
                .map_err(words)?,
        );
    }
    packets.extend(encoder.finish().map_err(words)?);
    let first = packets.first().ok_or("it output no packet")?;
    let nals = annexb::split(&first.data);
    let [sps, pps] = [nal::SPS, nal::PPS].map(|kind| {
        let of_kind = nals.iter().filter(|unit| nal::unit_type(unit) == kind);
        of_kind.cloned().collect::<Vec<_>>()
    });
    if !first.key {
        return Err("its first frame is not a keyframe".into());
    }
    let sets = ParameterSets::new(&sps, &pps).map_err(|error| error.to_string())?;
    if (sets.picture.width, sets.picture.height) != (width, height) {
        return Err(format!(
            "it was set to {width}x{height} but encodes {}x{}",
            sets.picture.width, sets.picture.height
        ));
    }
    let mut decoder = Decoder::h264().map_err(words)?;
    let mut frames = 0;
    for packet in &packets {
        decoder
            .decode_each(&packet.data, packet.pts, |_| frames += 1)
            .map_err(|error| format!("its output cannot be decoded: {error}"))?;
    }
    // The decoder may hold back the last frame.
    if frames == 0 || packets.len() < 2 {
        return Err(format!(
            "it output {} packets for two frames",
            packets.len()
        ));
    }
    Ok(())
}

/// Runs `command`, which tests an encoder, and waits for its result up to `limit`. That it takes longer says nothing
/// about an encoder that has no driver in which it could hang.
fn run_probe(mut command: Command, limit: Duration, has_driver: bool) -> Result<Outcome, Untested> {
    let deadline = Instant::now() + limit;
    let program = command.get_program().to_string_lossy().into_owned();
    let run = move || -> io::Result<(String, Option<ExitStatus>)> {
        let (output, input) = io::pipe()?;
        command
            .stdin(Stdio::null())
            .stdout(input.try_clone()?)
            .stderr(input);
        let mut child = command.spawn()?;
        // `command` holds the pipe's write end, and reading ends only when that is closed.
        drop(command);
        let (words, ended) = read(output, deadline)?;
        // A process that ended by itself has its status already and keeps it.
        let _ = child.kill();
        let (to, status) = mpsc::channel();
        // A process that is stuck inside a driver cannot be killed; this thread does not wait for it.
        thread::Builder::new().spawn(move || to.send(child.wait()))?;
        let status = status.recv_timeout(Duration::from_secs(1));
        let status = status.ok().and_then(Result::ok).filter(|_| ended);
        Ok((words, status))
    };
    let (words, status) =
        run().map_err(|error| format!("not tested: {program} cannot be run: {error}"))?;
    let said = first_complaint(&words);
    let because = |what: String| match said {
        Some(said) => format!("{what}: {said}"),
        None => what,
    };
    let was_killed = |what: String| Rejection {
        reason: because(what),
        was_killed: true,
    };
    let Some(status) = status else {
        let late = format!(
            "it did not finish within {} s and was killed",
            limit.as_secs_f32()
        );
        return match has_driver {
            true => Ok(Err(was_killed(late))),
            false => Err(format!(
                "not tested, as the machine is busy: {}",
                because(late)
            )),
        };
    };
    match status.signal() {
        // As the system does that has no memory left.
        Some(signal) if signal == Signal::KILL.as_raw() => {
            return Ok(Err(was_killed("it was killed".into())));
        }
        Some(signal) => {
            let reason = because(format!("it crashed with signal {signal}"));
            return Ok(Err(reason.into()));
        }
        None => {}
    }
    Ok(
        match words.lines().find_map(|line| line.strip_prefix(ANSWER)) {
            Some(GOOD) => Ok(()),
            Some(reason) => Err(because(reason.to_owned()).into()),
            None => Err(because(format!("it printed no result, {status}")).into()),
        },
    )
}

/// Reads until all writers have closed the pipe, and returns whether that happened before the deadline.
fn read(mut output: PipeReader, deadline: Instant) -> io::Result<(String, bool)> {
    let mut words = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let ended = match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => Some(false),
            Ok(_) => match output.read(&mut buffer) {
                Ok(0) => Some(true),
                Ok(size) => {
                    words.extend_from_slice(&buffer[..size]);
                    words.drain(..words.len().saturating_sub(MAX_OUTPUT_BYTES));
                    None
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                Err(error) => return Err(error),
            },
        };
        if let Some(ended) = ended {
            return Ok((String::from_utf8_lossy(&words).into_owned(), ended));
        }
    }
}

/// The first complaint of libav or a driver, without a prefix such as `[h264_qsv @ 0x55d0]`: later ones are
/// consequences.
fn first_complaint(words: &str) -> Option<&str> {
    let complaint = words
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with(ANSWER.trim_end()))?;
    let complaint = match complaint.split_once("] ") {
        Some((place, rest)) if place.starts_with('[') => rest,
        _ => complaint,
    };
    let end = complaint.floor_char_boundary(200);
    complaint.get(..end).map(|text| text.trim_end_matches('.'))
}

#[cfg(test)]
mod tests;
