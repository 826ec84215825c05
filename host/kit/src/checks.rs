//! Checks of a finished transport, in the engine that runs it in the gateway, with the same limits.
//!
//! What is checked is what the gateway relies on and viewers would notice: that it opens, that the same calls give the
//! same output, that a new instance continues from any group, that it survives interruptions and viewers, that it is
//! fast, that it does not grow, and that players can read what it emits. Each check passes its [`Finding`] on at once.

use crate::{
    compare::difference,
    demux,
    film::{Film, FilmError},
    replay::shown,
    script::Script,
};
use bytes::{Bytes, BytesMut};
use sluicegate_plugin::{
    Embed, Held, Instance, OpenError, Plugin, Profile,
    recording::{Answer, Blob, Call, Chunk, Payload, Record, Viewer},
    thread_time,
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;

/// Samples of the long run, and when it is first looked at what the component holds.
const LONG_RUN: usize = 10_000;
const WARM_UP: usize = 5_000;
/// Growth of memory after the warm-up that is not taken for a leak, in bytes: a few pages.
const MAX_GROWTH: usize = 256 << 10;
/// Segments of a playlist that are fetched.
const MAX_SEGMENTS: usize = 64;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Something to know.
    Note,
    /// A mistake of the component.
    Failed,
}

/// The result of one check, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it went.
    pub verdict: Verdict,
    /// What was checked, and what was found.
    pub text: String,
}

/// Sum of all checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of checks.
    pub checks: usize,
    /// How many failed.
    pub failed: usize,
}

/// Reason why a component cannot be tested.
#[derive(Debug, Error)]
pub enum TestError {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No stream can be generated.
    #[error(transparent)]
    Film(#[from] FilmError),
}

/// Tests a transport with these options on generated streams and on `recorded` ones. Passes each finding to `tell`.
///
/// # Errors
/// It does not open, or there is nothing to test it with.
pub fn test_component(
    plugin: &Arc<Plugin>,
    options: &str,
    recorded: Vec<Script>,
    tell: &mut dyn FnMut(&Finding),
) -> Result<Report, TestError> {
    let (_, profile) = Instance::open(plugin, "(test)", options, Arc::default())?;
    let mut checks = Checks {
        plugin,
        options,
        profile,
        tell,
        report: Report::default(),
    };
    checks.opens_fast()?;
    let mut scripts = Vec::new();
    for film in Film::all(&checks.profile) {
        scripts.push(film.make(&checks.profile)?);
    }
    for script in &scripts {
        checks.check(script)?;
        checks.does_not_grow(script)?;
    }
    for script in recorded {
        checks.check(&script)?;
    }
    if let Some(script) = scripts.first() {
        checks.serves_viewers(script)?;
    }
    Ok(checks.report)
}

struct Checks<'a> {
    plugin: &'a Arc<Plugin>,
    options: &'a str,
    profile: Profile,
    tell: &'a mut dyn FnMut(&Finding),
    report: Report,
}

/// A run of one instance.
struct Run {
    records: Vec<Record>,
    /// Processor time of each `push`.
    times: Vec<Duration>,
    /// The call that failed, and why.
    failure: Option<String>,
}

impl Checks<'_> {
    fn tell(&mut self, verdict: Verdict, text: String) {
        self.report.checks += usize::from(verdict != Verdict::Note);
        self.report.failed += usize::from(verdict == Verdict::Failed);
        (self.tell)(&Finding { verdict, text });
    }

    /// Tells that a check passed, or why it failed.
    fn check_of(&mut self, what: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(found) => self.tell(Verdict::Passed, format!("{what}{found}")),
            Err(reason) => self.tell(Verdict::Failed, format!("{what}: {reason}")),
        }
    }

    fn open(&self) -> Result<Instance, OpenError> {
        let opened = Instance::open(self.plugin, "(test)", self.options, Arc::default());
        opened.map(|(instance, _)| instance)
    }

    fn run<'c>(&self, calls: impl IntoIterator<Item = &'c Call>) -> Result<Run, OpenError> {
        let mut instance = self.open()?;
        let mut run = Run {
            records: Vec::new(),
            times: Vec::new(),
            failure: None,
        };
        for call in calls {
            let began = thread_time();
            let record = instance.make(call.clone());
            let took = thread_time().saturating_sub(began);
            if let Call::Push(_) = call {
                run.times.push(took);
            }
            let failure = match &record.answer {
                Some(Answer::Failed(reason)) => Some(format!("{} fails: {reason}", shown(call))),
                _ => None,
            };
            run.records.push(record);
            if failure.is_some() {
                run.failure = failure;
                break;
            }
        }
        Ok(run)
    }

    fn opens_fast(&mut self) -> Result<(), OpenError> {
        let began = thread_time();
        let mut instance = self.open()?;
        let took = thread_time().saturating_sub(began);
        let Held { memory, .. } = instance.holds();
        let text = format!("opens in {}, with {} of memory", time(took), size(memory));
        self.tell(Verdict::Passed, text);
        for ignored in self.profile.ignored.clone() {
            let text = format!("this gateway ignores {ignored} of its profile");
            self.tell(Verdict::Note, text);
        }
        Ok(())
    }

    /// The checks of one stream.
    fn check(&mut self, script: &Script) -> Result<(), OpenError> {
        let script = self.with_requests(script);
        let label = &script.label;
        let reference = self.run(&script.calls)?;
        let times = reference.times.len();
        if let Some(failure) = reference.failure {
            self.tell(
                Verdict::Failed,
                format!("{label}: after {times} samples {failure}"),
            );
            return Ok(());
        }
        let output = output(&reference.records);
        let passed = format!(
            "{label}: {times} samples, {} chunks, {} of them start points, {}",
            output.len(),
            output.iter().filter(|chunk| chunk.independent).count(),
            size(output.iter().map(|chunk| chunk.payload.len()).sum()),
        );
        let has_output = !output.is_empty() || self.profile.lanes.is_empty();
        match output.iter().any(|chunk| chunk.independent) || self.profile.lanes.is_empty() {
            true => self.tell(Verdict::Passed, passed),
            false if has_output => self.tell(
                Verdict::Failed,
                format!("{passed}: viewers can start nowhere; set `independent` on the chunks of independent samples"),
            ),
            false => self.tell(
                Verdict::Failed,
                format!("{passed}: viewers see nothing; does it take the track's id and format?"),
            ),
        }
        self.is_fast(&reference.times);
        let again = self.run(&script.calls)?;
        let same = first_difference(&reference.records, &again.records);
        self.check_of(
            "the same calls give the same output",
            same.map_or(Ok(String::new()), Err),
        );
        let restarted = self.continues_from_any_group(&script, &reference.records)?;
        self.check_of("a new instance continues from each group", restarted);
        let interrupted = self.goes_on_after_a_break(&script)?;
        self.check_of("goes on after the source was lost", interrupted);
        if let Some(readable) = self.is_readable(&script, &reference.records)? {
            self.check_of("players can read it", readable);
        }
        Ok(())
    }

    /// The script, for a transport without lanes with a request for its entry where a group begins.
    fn with_requests(&self, script: &Script) -> Script {
        if !self.profile.lanes.is_empty() {
            return script.clone();
        }
        let starts: BTreeSet<usize> = script.group_starts().into_iter().collect();
        let request = || Call::Request {
            path: self.profile.entry.clone(),
            query: String::new(),
        };
        let calls = script.calls.iter().enumerate().flat_map(|(index, call)| {
            let ask = starts.contains(&index).then(request);
            ask.into_iter().chain([call.clone()])
        });
        Script {
            label: script.label.clone(),
            calls: calls.collect(),
        }
    }

    fn is_fast(&mut self, times: &[Duration]) {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let most = sorted.last().copied().unwrap_or_default();
        let limit = self.plugin.limits.call;
        let text = format!(
            "a sample takes {} in the median and {} at most; the limit is {}",
            time(median),
            time(most),
            time(limit)
        );
        self.tell(Verdict::Passed, text);
        if most > limit / 2 {
            let text = "more than half of the limit: a slower machine may end it; make it faster, or set `limits.call`";
            self.tell(Verdict::Note, text.into());
        }
    }

    /// Starts a new instance with the groups of `profile.history` before each group, and compares what it emits from
    /// there on with the reference.
    fn continues_from_any_group(
        &self,
        script: &Script,
        reference: &[Record],
    ) -> Result<Result<String, String>, OpenError> {
        let starts = script.group_starts();
        let history = self.profile.history as usize;
        let mut compared = 0;
        for (nth, at) in starts.iter().enumerate() {
            let Some(from) = (nth + 1)
                .checked_sub(history)
                .and_then(|nth| starts.get(nth))
            else {
                continue;
            };
            let Some(configure) = script.configure_before(*from) else {
                continue;
            };
            // Into the next group but one.
            let end = starts.get(nth + 2).copied().unwrap_or(script.calls.len());
            let mut instance = self.open()?;
            let _ = instance.make(configure.clone());
            for index in *from..end {
                let (Some(call), Some(expected)) = (script.calls.get(index), reference.get(index))
                else {
                    break;
                };
                let found = instance.make(call.clone());
                let failure = match &found.answer {
                    Some(Answer::Failed(reason)) => Some(format!("fails: {reason}")),
                    _ if index >= *at => difference(expected, &found),
                    _ => None,
                };
                if let Some(what) = failure {
                    return Ok(Err(format!(
                        "an instance that gets {history} groups, from group {} on, differs from one that got all: {}: \
                         {what}. What `push` returns may depend on the newest `configure` and on those groups only; \
                         keep no counter that began earlier, or raise `history`",
                        nth + 1 - history,
                        shown(call)
                    )));
                }
            }
            compared += 1;
        }
        Ok(Ok(format!(" ({compared} of them)")))
    }

    /// The source is lost in the middle and comes back with the same tracks.
    fn goes_on_after_a_break(&self, script: &Script) -> Result<Result<String, String>, OpenError> {
        let starts = script.group_starts();
        let (Some(first), Some(at)) = (starts.first(), starts.get(starts.len() / 2)) else {
            return Ok(Err("the stream has no group".into()));
        };
        let Some(Call::Configure(info)) = script.configure_before(*at) else {
            return Ok(Err("the stream has no tracks".into()));
        };
        let mut info = info.clone();
        info.epoch += 1;
        let stop = |last| Call::Stop {
            reason: "source lost".into(),
            last,
        };
        let (before, after) = script.calls.split_at(*at);
        let pause = [stop(false), Call::Configure(info)];
        let end = [stop(true)];
        let run = self.run(before.iter().chain(&pause).chain(after).chain(&end))?;
        if let Some(failure) = run.failure {
            return Ok(Err(failure));
        }
        let emits = |records: &[Record]| output(records).iter().any(|chunk| chunk.independent);
        let (before, after) = run.records.split_at(before.len());
        Ok(match emits(before) && !emits(after) && first != at {
            true => Err("viewers can start nowhere any more".into()),
            false => Ok(String::new()),
        })
    }

    /// Ten thousand samples, after which it must hold no more than in the middle.
    fn does_not_grow(&mut self, script: &Script) -> Result<(), OpenError> {
        let Some(calls) = script.endless() else {
            return Ok(());
        };
        let mut instance = self.open()?;
        let mut pushed = 0;
        let mut middle = Held::default();
        for call in calls {
            pushed += usize::from(matches!(call, Call::Push(_)));
            let record = instance.make(call);
            if let Some(Answer::Failed(reason)) = &record.answer {
                let text = format!(
                    "after {pushed} samples {} fails: {reason}",
                    shown(&record.call)
                );
                self.tell(Verdict::Failed, text);
                return Ok(());
            }
            if pushed == WARM_UP {
                middle = instance.holds();
            }
            if pushed >= LONG_RUN {
                break;
            }
        }
        let end = instance.holds();
        let text = format!(
            "{LONG_RUN} samples: {} of memory and {} buffers of {} are held, and were {} and {} of {} after {WARM_UP}",
            size(end.memory),
            end.handles,
            size(end.buffers),
            size(middle.memory),
            middle.handles,
            size(middle.buffers),
        );
        let more_handles = end.handles > middle.handles + middle.handles / 10;
        let verdict = match end.memory > middle.memory + MAX_GROWTH || more_handles {
            true => Verdict::Failed,
            false => Verdict::Passed,
        };
        let text = match verdict {
            Verdict::Failed => format!("{text}; it grows: drop what is not needed any more"),
            _ => text,
        };
        self.tell(verdict, text);
        Ok(())
    }

    /// Viewers of all carriers join, talk nonsense and leave; URLs that exist and that do not are requested.
    fn serves_viewers(&mut self, script: &Script) -> Result<(), OpenError> {
        let mut instance = self.open()?;
        let mut refusals = BTreeSet::new();
        let requests =
            ["", "no/such/path", self.profile.entry.as_str()].map(|path| Call::Request {
                path: path.to_owned(),
                query: "x=%41&y".into(),
            });
        let mut visits: Vec<Call> = requests.to_vec();
        for (nth, carrier) in self.profile.carriers.iter().enumerate() {
            for protocol in [None, self.profile.protocols.first()] {
                visits.push(Call::Join(Viewer {
                    viewer: 10 * nth as u64 + u64::from(protocol.is_some()),
                    carrier: carrier.name().into(),
                    path: String::new(),
                    query: String::new(),
                    protocol: protocol.cloned(),
                    roles: vec!["view".into(), "capture".into()],
                }));
            }
        }
        // Before the first sample, and while it runs.
        let running = script.calls.iter().take(100);
        let calls = visits.iter().chain(running).chain(&visits);
        let mut calls: VecDeque<Call> = calls.cloned().collect();
        let mut outcome = Ok(String::new());
        while let Some(call) = calls.pop_front() {
            let record = instance.make(call);
            match (&record.call, &record.answer) {
                (call, Some(Answer::Failed(reason))) => {
                    outcome = Err(format!("{} fails: {reason}", shown(call)));
                    break;
                }
                (Call::Join(viewer), Some(Answer::Refused(reason))) => {
                    refusals.insert(format!("{}: {reason}", viewer.carrier));
                }
                (Call::Join(viewer), _) => {
                    let has_streams = viewer.carrier == "webtransport";
                    let viewer = viewer.viewer;
                    let text = Payload::Text("{\"nonsense\": [1, 2".into());
                    let bytes = Payload::Base64(Bytes::from_static(&[0, 255, 128, 7]).into());
                    calls.push_front(Call::Leave { viewer });
                    for message in [text, bytes, Payload::Text("".into())] {
                        calls.push_front(Call::Received { viewer, message });
                    }
                    if has_streams {
                        let data = Blob::from(Bytes::from_static(&[0, 255, 128, 7]));
                        calls.push_front(Call::ClientStream {
                            viewer,
                            id: 4,
                            bidirectional: true,
                            data: data.clone(),
                            last: true,
                        });
                        calls.push_front(Call::Datagram { viewer, data });
                    }
                }
                _ => {}
            }
        }
        self.check_of("survives viewers that send nonsense and leave", outcome);
        for refusal in refusals {
            self.tell(Verdict::Note, format!("refuses viewers over {refusal}"));
        }
        Ok(())
    }

    /// Lets libav read what a viewer gets from each start point; `None` if the format is not one that libav knows.
    fn is_readable(
        &mut self,
        script: &Script,
        records: &[Record],
    ) -> Result<Option<Result<String, String>>, OpenError> {
        if self.profile.embeds.contains(&Embed::Playlist) {
            return self.playlist_is_readable(script).map(Some);
        }
        let mut instance = self.open()?;
        if let Some(configure) = script.calls.first() {
            let _ = instance.make(configure.clone());
        }
        let asked = instance.make(Call::Request {
            path: self.profile.entry.clone(),
            query: String::new(),
        });
        let name = match (
            &asked.answer,
            self.profile.embeds.contains(&Embed::AccessUnits),
        ) {
            (_, true) => Some("a.h264"),
            (Some(Answer::Follow(content_type)), _) => demux::file_name(content_type),
            _ => None,
        };
        let Some(name) = name else {
            return Ok(None);
        };
        Ok(Some(starts_are_readable(records, name)))
    }

    /// Fetches the playlists and segments as a player does, and lets libav read the segments.
    fn playlist_is_readable(&self, script: &Script) -> Result<Result<String, String>, OpenError> {
        let mut instance = self.open()?;
        for call in &script.calls {
            let _ = instance.make(call.clone());
        }
        Ok(read_playlist(&mut instance, &self.profile.entry))
    }
}

/// All chunks of a run.
fn output(records: &[Record]) -> Vec<&Chunk> {
    let chunks = records.iter().filter_map(|record| match &record.answer {
        Some(Answer::Chunks(chunks)) => Some(chunks),
        _ => None,
    });
    chunks.flatten().collect()
}

fn first_difference(expected: &[Record], found: &[Record]) -> Option<String> {
    let mut pairs = expected.iter().zip(found);
    pairs.find_map(|(expected, found)| {
        difference(expected, found).map(|what| format!("{}: {what}", shown(&expected.call)))
    })
}

/// Reads the stream of a viewer from each start point of the first lane to the next one.
fn starts_are_readable(records: &[Record], file_name: &str) -> Result<String, String> {
    let mut header: Vec<Payload> = Vec::new();
    let mut streams: Vec<BytesMut> = Vec::new();
    for record in records {
        match &record.answer {
            Some(Answer::Header(newest)) => header = newest.clone(),
            Some(Answer::Chunks(chunks)) => {
                for chunk in chunks {
                    if chunk.independent && chunk.lane == 0 {
                        streams.push(binary(&header));
                    }
                    // A viewer that starts here does without leading chunks.
                    if let Some(stream) = streams.last_mut().filter(|_| !chunk.leading) {
                        stream.extend_from_slice(&binary(std::slice::from_ref(&chunk.payload)));
                    }
                }
            }
            _ => {}
        }
    }
    let mut sum = demux::Read::default();
    let starts = streams.len();
    for (nth, stream) in streams.into_iter().enumerate() {
        let read = demux::read(stream.freeze(), file_name);
        let read = read.map_err(|reason| format!("start point {nth}: {reason}"))?;
        if read.frames == 0 && read.audio == 0 {
            return Err(format!(
                "start point {nth}: {} packets of {} and none of them can be decoded",
                read.packets, read.format
            ));
        }
        if read.packets > 0 && !read.starts_with_key {
            return Err(format!("start point {nth} does not begin with a keyframe"));
        }
        sum.format = read.format;
        sum.frames += read.frames;
        sum.audio += read.audio;
    }
    Ok(format!(
        ": {} frames of video and {} packets of audio from {starts} start points, as {}",
        sum.frames, sum.audio, sum.format
    ))
}

/// Binary payloads, as a carrier without text messages sends them.
fn binary(payloads: &[Payload]) -> BytesMut {
    let mut all = BytesMut::new();
    for payload in payloads {
        if let Payload::Base64(bytes) = payload {
            all.extend_from_slice(&bytes.0.to_bytes());
        }
    }
    all
}

/// Requests `path` of an instance that is not asked by anybody else.
fn fetch(instance: &mut Instance, url: &str) -> Result<Bytes, String> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let asked = instance.make(Call::Request {
        path: path.to_owned(),
        query: query.to_owned(),
    });
    match asked.answer {
        Some(Answer::Response(response)) if response.status == 200 => {
            Ok(response.body.0.to_bytes())
        }
        Some(Answer::Response(response)) => Err(format!("\"{url}\" gives {}", response.status)),
        Some(Answer::Pending) => Err(format!("\"{url}\" is pending")),
        Some(Answer::Failed(reason)) => Err(format!("a request for \"{url}\" fails: {reason}")),
        _ => Err(format!("\"{url}\" gives no response")),
    }
}

/// URL of `reference` in a playlist at `base`, both relative to the transport (RFC 3986 section 5.2).
fn resolve(base: &str, reference: &str) -> String {
    let folder = base.split('?').next().unwrap_or_default();
    let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
    match folder {
        "" => reference.to_owned(),
        folder => format!("{folder}/{reference}"),
    }
}

fn read_playlist(instance: &mut Instance, entry: &str) -> Result<String, String> {
    let mut url = entry.to_owned();
    let mut text = String::new();
    // A multivariant playlist, then the media playlist.
    for _ in 0..2 {
        let body = fetch(instance, &url)?;
        text = String::from_utf8_lossy(&body).into_owned();
        if !text.starts_with("#EXTM3U") {
            return Err(format!("\"{url}\" does not begin with #EXTM3U"));
        }
        let mut lines = text
            .lines()
            .skip_while(|line| !line.starts_with("#EXT-X-STREAM-INF"));
        match lines.nth(1) {
            Some(variant) => url = resolve(&url, variant),
            None => break,
        }
    }
    let mut init = Bytes::new();
    let mut stream = BytesMut::new();
    let mut segments = 0;
    for line in text.lines() {
        if let Some(map) = line.strip_prefix("#EXT-X-MAP:") {
            let uri = map
                .split("URI=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            let uri = uri.ok_or("#EXT-X-MAP has no URI")?;
            init = fetch(instance, &resolve(&url, uri))?;
        } else if !line.starts_with('#') && !line.is_empty() && segments < MAX_SEGMENTS {
            if stream.is_empty() {
                stream.extend_from_slice(&init);
            }
            stream.extend_from_slice(&fetch(instance, &resolve(&url, line))?);
            segments += 1;
        }
    }
    if segments == 0 {
        return Err(format!("the playlist \"{url}\" has no segments"));
    }
    let name = if init.is_empty() { "a.ts" } else { "a.mp4" };
    let read = demux::read(stream.freeze(), name)?;
    match read.frames + read.audio {
        0 => Err(format!(
            "{segments} segments, and nothing in them can be decoded"
        )),
        _ => Ok(format!(
            ": {} frames of video and {} packets of audio in {segments} segments, as {}",
            read.frames, read.audio, read.format
        )),
    }
}

/// A duration with three digits.
fn time(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us => format!("{:.1} ms", us / 1000.0),
    }
}

/// A number of bytes.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes < 10_000 => format!("{bytes} bytes"),
        bytes if bytes < 10_000_000 => format!("{} KiB", bytes >> 10),
        bytes => format!("{} MiB", bytes >> 20),
    }
}
