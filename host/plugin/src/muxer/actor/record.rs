//! Begins the recording of a muxer's instance, with what a new instance would be given: the tracks, the history, and the
//! viewers that are connected.

use super::{
    Actor,
    follow::{Setting, Step},
};
use crate::{
    recording::{Call, FORMAT, Line, Opening, Record, Recorder, Viewer},
    world::Version,
};

impl Actor {
    /// Records the instance from now on; ends the recording at once if there is none, or if it is being recorded.
    pub(super) fn record(&mut self, recorder: Recorder) {
        let Some(setting) = self.setting() else {
            return recorder.end("the source has delivered nothing yet");
        };
        let steps = self.history();
        let viewers = self.known_viewers();
        let Some(instance) = &mut self.instance else {
            return recorder.end("the component has failed and is being restarted");
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
                recorder.end("it is being recorded already; end that recording first");
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
