//! Checks of a finished transport, in the engine that runs it in the gateway, with the same limits.
//!
//! What is checked is what the gateway relies on and viewers would notice: that it opens, that the same calls give the
//! same output, that a new instance continues from any group, that it survives interruptions and viewers, that it is
//! fast, that it does not grow, and that players can read what it emits. Each check passes its [`Finding`] on at once.

use crate::{
    compare::difference,
    film::{Film, FilmError},
    players,
    replay::shown,
    script::Script,
};
use bytes::Bytes;
use sluicegate_plugin::{
    Held, Instance, OpenError, Plugin, Profile,
    recording::{Answer, Blob, Call, Chunk, Payload, Record, Viewer},
    thread_time,
};
use sluicegate_viewer::Carrier;
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
    let mut checks = Checks::open(plugin, options, tell)?;
    checks.opens_fast()?;
    let mut scripts = Vec::new();
    for film in Film::all(&checks.profile) {
        scripts.push(film.make(&checks.profile)?);
    }
    for script in &scripts {
        if checks.check(script)? {
            checks.does_not_grow(script)?;
        }
    }
    for script in recorded {
        checks.check(&script)?;
    }
    if let Some(script) = scripts.first() {
        checks.serves_viewers(script)?;
        checks.serves_http(script)?;
    }
    Ok(checks.report)
}

/// Opens a transport with these options and lets it run on the beginning of each stream that it may get. Returns its
/// profile, and the first failure, in words, if there is one.
///
/// # Errors
/// It does not open, or there is nothing to run it on.
pub fn try_component(
    plugin: &Arc<Plugin>,
    options: &str,
) -> Result<(Profile, Option<String>), TestError> {
    let mut failure = None;
    let mut tell = |finding: &Finding| {
        if finding.verdict == Verdict::Failed {
            failure = Some(finding.text.clone());
        }
    };
    let mut checks = Checks::open(plugin, options, &mut tell)?;
    for film in Film::all(&checks.profile) {
        let script = film.beginning(&checks.profile)?;
        if checks.emits(&checks.with_requests(&script))?.is_some() {
            checks.serves_http(&script)?;
        }
        if checks.report.failed > 0 {
            break;
        }
    }
    let profile = checks.profile;
    Ok((profile, failure))
}

struct Checks<'a> {
    plugin: &'a Arc<Plugin>,
    options: &'a str,
    profile: Profile,
    tell: &'a mut dyn FnMut(&Finding),
    report: Report,
    /// Why calls failed, as far as it was told.
    told: BTreeSet<String>,
}

/// A run of one instance, up to a call that fails.
struct Run {
    records: Vec<Record>,
    /// Processor time of each `push`.
    times: Vec<Duration>,
}

impl Run {
    /// The call that failed, and why.
    fn failure(&self) -> Option<(&Call, &str)> {
        failure(self.records.last()?)
    }
}

/// The call and why it failed, if it did.
fn failure(record: &Record) -> Option<(&Call, &str)> {
    match &record.answer {
        Some(Answer::Failed(reason)) => Some((&record.call, reason)),
        _ => None,
    }
}

impl<'a> Checks<'a> {
    fn open(
        plugin: &'a Arc<Plugin>,
        options: &'a str,
        tell: &'a mut dyn FnMut(&Finding),
    ) -> Result<Checks<'a>, OpenError> {
        let (_, profile) = open(plugin, options)?;
        Ok(Checks {
            plugin,
            options,
            profile,
            tell,
            report: Report::default(),
            told: BTreeSet::new(),
        })
    }

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

    /// A call that failed, for people. The reason may be long, with a stack, so it is told once.
    fn failed(&mut self, (call, reason): (&Call, &str)) -> String {
        let call = shown(call);
        match self.told.insert(reason.to_owned()) {
            true => format!("{call} fails: {reason}"),
            false => format!("{call} fails as above"),
        }
    }

    fn instance(&self) -> Result<Instance, OpenError> {
        open(self.plugin, self.options).map(|(instance, _)| instance)
    }

    fn run<'c>(&self, calls: impl IntoIterator<Item = &'c Call>) -> Result<Run, OpenError> {
        let mut instance = self.instance()?;
        let mut run = Run {
            records: Vec::new(),
            times: Vec::new(),
        };
        for call in calls {
            let began = thread_time();
            let record = instance.make(call.clone());
            let took = thread_time().saturating_sub(began);
            if let Call::Push(_) = call {
                run.times.push(took);
            }
            let has_failed = failure(&record).is_some();
            run.records.push(record);
            if has_failed {
                break;
            }
        }
        Ok(run)
    }

    fn opens_fast(&mut self) -> Result<(), OpenError> {
        let began = thread_time();
        let mut instance = self.instance()?;
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

    /// Runs it on a stream, of which viewers must see something; `None` if a call fails.
    fn emits(&mut self, script: &Script) -> Result<Option<Run>, OpenError> {
        let label = &script.label;
        let reference = self.run(&script.calls)?;
        let times = reference.times.len();
        if let Some(failure) = reference.failure() {
            let failure = self.failed(failure);
            let text = format!("{label}: after {} {failure}", count(times, "sample"));
            self.tell(Verdict::Failed, text);
            return Ok(None);
        }
        let output = output(&reference.records);
        let passed = format!(
            "{label}: {}, {}, {}, {}",
            count(times, "sample"),
            count(output.len(), "chunk"),
            count(
                output.iter().filter(|chunk| chunk.independent).count(),
                "start point"
            ),
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
        Ok(Some(reference))
    }

    /// The checks of one stream; returns whether it ran to its end.
    fn check(&mut self, script: &Script) -> Result<bool, OpenError> {
        let script = self.with_requests(script);
        let Some(reference) = self.emits(&script)? else {
            let text = "the other checks of this stream cannot run because of that";
            self.tell(Verdict::Note, text.into());
            return Ok(false);
        };
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
        let (mut instance, records) = (self.instance()?, &reference.records);
        match players::read(&mut instance, &self.profile, &script, records) {
            Some(readable) => self.check_of("players can read it", readable),
            None => {
                let text = "whether players can read it is not checked: neither its media type nor `embeds` names a format \
                            that libavformat knows";
                self.tell(Verdict::Note, text.into());
            }
        }
        Ok(true)
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
        &mut self,
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
            let Some(calls) = script.calls.get(*from..end) else {
                continue;
            };
            let found = self.run([configure].into_iter().chain(calls))?;
            let what = match found.failure() {
                Some(failure) => Some(self.failed(failure)),
                // Without `configure`, and only from the group on.
                None => {
                    let found = found.records.get(1 + at - from..).unwrap_or_default();
                    first_difference(reference.get(*at..end).unwrap_or_default(), found)
                }
            };
            if let Some(what) = what {
                return Ok(Err(format!(
                    "an instance that gets {}, from group {} on, differs from one that got all: {what}. \
                     What `push` returns may depend on the newest `configure` and on those groups only; keep no \
                     counter that began earlier, or raise `history`",
                    count(history, "group"),
                    nth + 1 - history
                )));
            }
            compared += 1;
        }
        Ok(Ok(format!(" ({compared} of them)")))
    }

    /// The source is lost in the middle and comes back with the same tracks.
    fn goes_on_after_a_break(
        &mut self,
        script: &Script,
    ) -> Result<Result<String, String>, OpenError> {
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
        if let Some(failure) = run.failure() {
            return Ok(Err(self.failed(failure)));
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
        let mut instance = self.instance()?;
        let mut pushed = 0;
        let mut middle = Held::default();
        for call in calls {
            pushed += usize::from(matches!(call, Call::Push(_)));
            let record = instance.make(call);
            if let Some(failure) = failure(&record) {
                let failure = self.failed(failure);
                let text = format!("after {} {failure}", count(pushed, "sample"));
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

    /// What an HTTP client gets, if it is to have the carrier: as a viewer it follows the stream, by the transport's path or
    /// its entry; of a transport without lanes it gets the entry.
    fn serves_http(&mut self, script: &Script) -> Result<(), OpenError> {
        if !self.profile.carriers.contains(&Carrier::Http) {
            return Ok(());
        }
        let mut instance = self.instance()?;
        let calls = script.calls.iter();
        for call in calls.filter(|call| !matches!(call, Call::Stop { .. })) {
            let _ = instance.make(call.clone());
        }
        let mut ask = |path: &str| {
            let (path, query) = (path.to_owned(), String::new());
            instance.make(Call::Request { path, query })
        };
        let entry = self.profile.entry.clone();
        let asked = ask(&entry);
        if let Some(failure) = failure(&asked) {
            let failure = self.failed(failure);
            self.tell(Verdict::Failed, failure);
            return Ok(());
        }
        let answer = asked.answer.as_ref();
        let what = match answer {
            Some(Answer::Response(response)) => {
                format!("{} {}", response.status, response.content_type)
            }
            _ => "`Reply::Pending`".into(),
        };
        let follows = |answer: Option<&Answer>| matches!(answer, Some(Answer::Follow(_)));
        let mistake = match self.profile.lanes[..] {
            [] => match answer {
                Some(Answer::Response(response)) if response.status >= 400 => Some(format!(
                    "`request` of its `entry`, \"{entry}\", answers {what}, and without lanes there is nothing else to get"
                )),
                Some(Answer::Follow(_)) => Some(format!(
                    "`request` of \"{entry}\" answers `Reply::Follow`, but there are no lanes that viewers could follow"
                )),
                _ => None,
            },
            _ if follows(answer) || follows(ask("").answer.as_ref()) => None,
            _ => Some(format!(
                "its carriers name `http`, but `request` of \"{entry}\" answers {what} instead of `Reply::Follow`: no HTTP \
                 client becomes a viewer; let it follow, or leave out `http`"
            )),
        };
        match mistake {
            Some(mistake) => self.tell(Verdict::Failed, mistake),
            None => self.tell(Verdict::Passed, "HTTP clients get it".into()),
        }
        Ok(())
    }

    /// Viewers of all carriers join, talk nonsense and leave; URLs that exist and that do not are requested.
    fn serves_viewers(&mut self, script: &Script) -> Result<(), OpenError> {
        let mut instance = self.instance()?;
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
            if let Some(failure) = failure(&record) {
                outcome = Err(self.failed(failure));
                break;
            }
            match (&record.call, &record.answer) {
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
}

fn open(plugin: &Arc<Plugin>, options: &str) -> Result<(Instance, Profile), OpenError> {
    Instance::open(plugin, "(check)", options, Arc::default())
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

/// A duration with three digits.
fn time(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us => format!("{:.1} ms", us / 1000.0),
    }
}

/// A number of things, as in "1 sample" and "2 samples".
pub(crate) fn count(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
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
