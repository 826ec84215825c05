//! A sink that records what a source writes to it, for the tests of this crate.

use super::{
    AudioTrack, EncodeSettings, Expected, Keyframes, Presentation, Sink, Source, SourceContext,
    SourceError, SourceTimes, Stop,
};
use bytes::Bytes;
use sluicegate_codec::Counts;
use sluicegate_config as config;
use std::sync::Arc;

/// Records access units with their times, notes, and the number of JPEGs and losses.
#[derive(Default)]
pub struct Recorder {
    pub units: Vec<(Vec<Bytes>, SourceTimes)>,
    pub notes: Vec<(&'static str, String)>,
    pub jpegs: usize,
    pub losses: usize,
    pub counts: Arc<Counts>,
}

impl Sink for Recorder {
    fn listening(&mut self, _: String) {}
    fn connected(&mut self) {}
    fn configured(&mut self, _: f32) {}
    fn presentation(&mut self, _: Presentation) {}
    fn parameter_sets(&mut self, _: Vec<Bytes>) {}
    fn byte_stream(&mut self, _: Bytes) {}
    fn silence(&mut self) {}
    fn access_unit(&mut self, nals: Vec<Bytes>, times: SourceTimes) {
        self.units.push((nals, times));
    }
    fn jpeg(&mut self, _: Bytes, _: SourceTimes) {
        self.jpegs += 1;
    }
    fn expect(&mut self, _: Expected) {}
    fn audio_track(&mut self, _: AudioTrack) {}
    fn audio_frame(&mut self, _: Bytes, _: SourceTimes) {}
    fn damaged(&mut self) {
        self.losses += 1;
    }
    fn note(&mut self, key: &'static str, text: String) {
        self.notes.push((key, text));
    }
    fn loops(&mut self) {}
    fn lost(&mut self, _: String) {}
    fn codec_counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

/// Runs a source until it ends, with the default settings.
pub fn run(source: &dyn Source, sink: &mut Recorder) -> Result<(), SourceError> {
    run_fetching(source, &config::Fetch::default(), sink)
}

/// Runs a source until it ends, fetching as `fetch` says.
pub fn run_fetching(
    source: &dyn Source,
    fetch: &config::Fetch,
    sink: &mut Recorder,
) -> Result<(), SourceError> {
    source.run(&mut SourceContext {
        sink,
        stop: &Stop::default(),
        keyframes: &Keyframes::default(),
        encode: &EncodeSettings::default(),
        fetch,
    })
}
