//! Begins the recording of a muxer's instance, with what a new instance would be given: the tracks, the history, and the
//! viewers that are connected. While there is no instance, the recording waits for one.

use super::{
    Actor,
    follow::{Setting, Step},
};
use crate::{
    Instance,
    recording::{Call, FORMAT, Line, Opening, Record, Recorder, Viewer},
    world::Version,
};

/// Reason for which a recording ends.
const TWICE: &str = "it is being recorded already; end that recording first";

impl Actor {
    /// Records the instance from now on, or the next one if there is none now. There is one recording at a time.
    pub(super) fn record(&mut self, mut recorder: Recorder) {
        let instance = self.instance.as_ref();
        let is_waiting = self.recorder.as_ref().is_some_and(|of| !of.is_closed());
        if is_waiting || instance.is_some_and(Instance::is_recorded) {
            return recorder.end(TWICE);
        }
        recorder.accept();
        self.recorder = Some(recorder);
    }

    /// Begins the recording that waits, if there is an instance with a source now.
    pub(super) fn begin_recording(&mut self) {
        if self.recorder.is_none() || self.instance.is_none() {
            return;
        }
        let Some(setting) = self.setting() else {
            return;
        };
        let steps = self.history();
        let viewers = self.known_viewers();
        let (Some(instance), Some(recorder)) = (&mut self.instance, self.recorder.take()) else {
            return;
        };
        let plugin = &self.transport.plugin;
        let opening = Opening {
            recording: FORMAT,
            interface: Version::HOST.to_string(),
            component: plugin.to_string(),
            sha256: plugin.hash.clone(),
            transport: self.transport.name.clone(),
            stream: self.muxer.stream.clone(),
            options: self.transport.options.clone(),
        };
        let past = steps.iter().filter_map(|step| call(step, &setting));
        let joined = viewers.iter();
        let joined = joined.map(|(viewer, request)| Call::Join(Viewer::of(*viewer, request)));
        let past = past.chain(joined).map(Record::past);
        let mut past = past.map(|record| Line::Record(Box::new(record)));
        if recorder.begin(Line::Opening(opening)) && past.all(|line| recorder.begin(line)) {
            let recorded = instance.record_to(recorder);
            if let Err(recorder) = recorded {
                recorder.end(TWICE);
            }
        }
    }
}

/// A step of the past as the call that a guest got; `None` if it got none.
fn call(step: &Step, setting: &Setting) -> Option<Call> {
    match step {
        Step::Configure(info) => Some(Call::configure(
            info,
            &setting.choice,
            &setting.renditions,
            setting.longest_group_ms,
        )),
        Step::Push(sample, group, _) => Call::push(sample, *group, &setting.choice),
        Step::Stop(reason) => Some(Call::Stop {
            reason: reason.to_string(),
            last: false,
        }),
    }
}
