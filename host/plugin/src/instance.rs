//! An instance of a transport component: a typed wrapper over the guest's exports.
//!
//! An [`Instance`] runs one component in a `Sandbox`, which enforces time and memory, and has a method for each export.
//! Everything that a guest can get wrong is rejected here, so callers can trust the result: `profile` checks what it
//! declares when it is opened, `values` converts the arguments and results of the later calls and counts what they
//! return. After a [`Failure`] the instance must not be used again. Called by the muxer's thread, and once at start by
//! `transports`, which checks the options.

mod profile;
mod values;

pub(crate) use profile::MAX_LANES;
pub use profile::{Embed, Profile};
pub use values::{Answer, Chunk, Rendition};

use super::{
    JoinRequest, Plugin, Requests, Usage,
    bindings::{TransportPlugin, transport},
    engine::shown_text,
    guest::{Guest, Held},
    recording::{self, Call, Record, Recorder},
    sandbox::{Failure, Sandbox},
};
use sluicegate_media::{group::Group, sample::Sample};
use sluicegate_stream::{Info, Selection};
use sluicegate_viewer::{ClientStreamData, Content, FromClient};
use std::sync::{Arc, atomic::Ordering};
use thiserror::Error;
use values::{Timescales, lend_message, take_answer, take_chunks, take_header};
pub(super) use values::{pushed, stream_info};
use wasmtime::StoreContextMut;

/// Reason why an instance cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The component rejects its options.
    #[error("{plugin} rejected its options: {message}")]
    Refused {
        /// Component, as name@version.
        plugin: String,
        /// Message of the component.
        message: String,
    },
    /// The component's profile is invalid.
    #[error("{plugin}: its profile is refused: {message}")]
    Profile {
        /// Component, as name@version.
        plugin: String,
        /// What is wrong with the profile.
        message: String,
    },
    /// The component failed in `open`.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A running instance of a transport.
pub struct Instance {
    sandbox: Sandbox,
    guest: TransportPlugin,
    choice: Option<Selection>,
    /// Number of lanes in its profile.
    lanes: usize,
    /// Of the tracks that it is configured with.
    timescales: Timescales,
    /// Takes down what is called and returned.
    recorder: Option<Recorder>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Instance({:?})", self.sandbox)
    }
}

impl Instance {
    /// Instantiates the component and opens it. `options` is JSON; `stream` is for messages.
    ///
    /// # Errors
    ///
    /// [`OpenError::Refused`] or [`OpenError::Profile`] if these are invalid, [`OpenError::Failed`] if the guest traps or
    /// exceeds a limit.
    pub fn open(
        plugin: &Arc<Plugin>,
        stream: &str,
        options: &str,
        usage: Arc<Usage>,
    ) -> Result<(Instance, Profile), OpenError> {
        let engine = plugin.pre.engine();
        let (sandbox, guest) = Sandbox::new(plugin, engine, stream, usage, |store| {
            plugin.pre.instantiate(store)
        })?;
        let mut instance = Instance {
            sandbox,
            guest,
            choice: None,
            lanes: 0,
            timescales: Timescales::default(),
            recorder: None,
        };
        let opened = instance.call("open", |store, guest| guest.call_open(store, options))?;
        let opened = opened.map_err(|message| OpenError::Refused {
            plugin: plugin.to_string(),
            message: shown_text(&message),
        })?;
        let profile = Profile::from_guest(opened).map_err(|message| OpenError::Profile {
            plugin: plugin.to_string(),
            message,
        })?;
        instance.lanes = profile.lanes.len();
        Ok((instance, profile))
    }

    /// Bytes in the buffers that the guest holds.
    pub fn held(&self) -> usize {
        self.sandbox.held()
    }

    /// All that the guest holds.
    pub fn holds(&mut self) -> Held {
        self.sandbox.guest().holds()
    }

    /// Takes what the guest requested for viewers in the last call. The next call discards what was not taken.
    pub fn take_requests(&mut self) -> Requests {
        self.sandbox.guest().take_requests()
    }

    /// Announces the first tracks or a discontinuity; later samples are packaged as `choice` says. Returns the header.
    pub fn configure(
        &mut self,
        info: &Info,
        choice: impl Into<Selection>,
        renditions: &[Rendition],
        longest_group_ms: u32,
    ) -> Result<Vec<Content>, Failure> {
        let choice = choice.into();
        let info = stream_info(info, &choice, renditions, longest_group_ms);
        self.choice = Some(choice);
        self.configure_as(&info)
    }

    fn configure_as(&mut self, info: &transport::StreamInfo) -> Result<Vec<Content>, Failure> {
        self.timescales = Timescales::of(&info.tracks);
        let made = self.recorded(|| Call::Configure(info.into()));
        let header = self.call("configure", |mut store, guest| {
            let payloads = guest.call_configure(&mut store, info)?;
            take_header(&mut store, payloads)
        });
        self.record(made, &header, |header| recording::Answer::header(header));
        header
    }

    /// Pushes one sample of `group` and returns the chunks. A sample in another format than configured is ignored.
    pub fn push(&mut self, sample: &Sample, group: Group) -> Result<Vec<Chunk>, Failure> {
        let format = self.choice.and_then(|choice| choice.format(sample.codec()));
        let Some(data) = format.and_then(|format| sample.packaged(format)) else {
            return Ok(Vec::new());
        };
        self.push_as(pushed(sample, group, data))
    }

    fn push_as(&mut self, sample: recording::Sample) -> Result<Vec<Chunk>, Failure> {
        self.sandbox.usage().pushes.fetch_add(1, Ordering::Relaxed);
        let made = self.recorded(|| Call::Push(sample.clone()));
        let (lanes, timescales) = (self.lanes, self.timescales);
        let chunks = self.call("push", |mut store, guest| {
            let sample = sample.lend(store.data_mut())?;
            let chunks = guest.call_push(&mut store, sample)?;
            take_chunks(&mut store, chunks, lanes, timescales)
        });
        self.record(made, &chunks, |chunks| recording::Answer::chunks(chunks));
        chunks
    }

    /// Announces that no samples follow until the next `configure` or, if `last`, at all. Returns the last chunks.
    pub fn stop(&mut self, reason: &str, last: bool) -> Result<Vec<Chunk>, Failure> {
        let made = self.recorded(|| Call::Stop {
            reason: reason.to_owned(),
            last,
        });
        let (lanes, timescales) = (self.lanes, self.timescales);
        let chunks = self.call("stop", |mut store, guest| {
            let chunks = guest.call_stop(&mut store, reason, last)?;
            take_chunks(&mut store, chunks, lanes, timescales)
        });
        self.record(made, &chunks, |chunks| recording::Answer::chunks(chunks));
        chunks
    }

    /// Answers a GET below the transport's path.
    pub fn request(&mut self, path: &str, query: &str) -> Result<Answer, Failure> {
        let made = self.recorded(|| Call::Request {
            path: path.to_owned(),
            query: query.to_owned(),
        });
        let answer = self.call("request", |mut store, guest| {
            let reply = guest.call_request(&mut store, path, query)?;
            take_answer(&mut store, reply)
        });
        self.record(made, &answer, recording::Answer::reply);
        answer
    }

    /// Adds a viewer. The inner result is the component's decision; the error is its reason.
    pub fn join(
        &mut self,
        viewer: u64,
        request: &Arc<JoinRequest>,
    ) -> Result<Result<(), String>, Failure> {
        let made = self.recorded(|| Call::Join(recording::Viewer::of(viewer, request)));
        let joined = self.call("join", |mut store, guest| {
            let handle = store.data_mut().add_viewer(viewer, request)?;
            guest.call_join(&mut store, handle)
        });
        self.record(made, &joined, recording::Answer::joined);
        joined
    }

    /// Forgets a viewer that the component has refused.
    pub fn forget(&mut self, viewer: u64) {
        self.sandbox.guest().remove_viewer(viewer);
    }

    /// Passes what a viewer sent.
    pub fn received(&mut self, viewer: u64, data: FromClient) -> Result<(), Failure> {
        let made = self.recorded(|| Call::received(viewer, &data));
        let received = self.call("received", |mut store, guest| {
            let message = lend_message(store.data_mut(), data)?;
            guest.call_received(&mut store, viewer, &message)
        });
        self.record(made, &received, |()| recording::Answer::Done);
        received
    }

    /// Removes a viewer.
    pub fn leave(&mut self, viewer: u64) -> Result<(), Failure> {
        let made = self.recorded(|| Call::Leave { viewer });
        let left = self.call("leave", |mut store, guest| {
            store.data_mut().remove_viewer(viewer);
            guest.call_leave(&mut store, viewer)
        });
        self.record(made, &left, |()| recording::Answer::Done);
        left
    }

    /// Makes a recorded call, or one in the terms of a recording. Returns it with what it returned and requested; after
    /// [`recording::Answer::Failed`] the instance must not be used again.
    pub fn make(&mut self, call: Call) -> Record {
        let done = |()| recording::Answer::Done;
        let answered = match call.clone() {
            Call::Configure(info) => {
                let header = self.configure_as(&(&info).into());
                header.map(|header| recording::Answer::header(&header))
            }
            Call::Push(sample) => {
                let chunks = self.push_as(sample);
                chunks.map(|chunks| recording::Answer::chunks(&chunks))
            }
            Call::Stop { reason, last } => {
                let chunks = self.stop(&reason, last);
                chunks.map(|chunks| recording::Answer::chunks(&chunks))
            }
            Call::Request { path, query } => {
                let answer = self.request(&path, &query);
                answer.map(|answer| recording::Answer::reply(&answer))
            }
            Call::Join(viewer) => {
                let joined = self.join(viewer.viewer, &viewer.request());
                if let Ok(Err(_)) = &joined {
                    self.forget(viewer.viewer);
                }
                joined.map(|joined| recording::Answer::joined(&joined))
            }
            Call::Received { viewer, message } => {
                let message = FromClient::Message(message.content());
                self.received(viewer, message).map(done)
            }
            Call::Datagram { viewer, data } => {
                let data = FromClient::Datagram(data.0);
                self.received(viewer, data).map(done)
            }
            Call::ClientStream {
                viewer,
                id,
                bidirectional,
                data,
                last,
            } => {
                let data = FromClient::Stream(ClientStreamData {
                    id,
                    bidirectional,
                    data: data.0,
                    last,
                });
                self.received(viewer, data).map(done)
            }
            Call::Leave { viewer } => self.leave(viewer).map(done),
        };
        let (answer, requests) = match answered {
            Ok(answer) => (answer, self.take_requests()),
            Err(failure) => (
                recording::Answer::Failed(failure.reason),
                Requests::default(),
            ),
        };
        Record::new(call, answer, &requests)
    }

    /// Whether its calls are recorded, by a recording whose reader has not gone.
    pub fn is_recorded(&self) -> bool {
        self.recorder.as_ref().is_some_and(|of| !of.is_closed())
    }

    /// Records its calls from now on. There is one recording at a time.
    ///
    /// # Errors
    /// It is being recorded; the recorder is given back.
    pub fn record_to(&mut self, recorder: Recorder) -> Result<(), Recorder> {
        if self.is_recorded() {
            return Err(recorder);
        }
        self.recorder = Some(recorder);
        Ok(())
    }

    /// Ends its recording, if there is one, for this reason.
    pub fn end_recording(&mut self, reason: &str) {
        if let Some(recorder) = self.recorder.take() {
            recorder.end(reason);
        }
    }

    /// The call, if it is recorded.
    fn recorded(&self, call: impl FnOnce() -> Call) -> Option<Call> {
        self.recorder.as_ref().map(|_| call())
    }

    /// Records what a call returned.
    fn record<R>(
        &mut self,
        call: Option<Call>,
        result: &Result<R, Failure>,
        answer: impl FnOnce(&R) -> recording::Answer,
    ) {
        let (Some(call), Some(recorder)) = (call, &self.recorder) else {
            return;
        };
        let none = Requests::default();
        let record = match result {
            Ok(result) => Record::new(call, answer(result), self.sandbox.requests()),
            Err(failure) => {
                let failed = recording::Answer::Failed(failure.reason.clone());
                Record::new(call, failed, &none)
            }
        };
        if !recorder.record(record) {
            self.recorder = None;
        } else if result.is_err() {
            self.end_recording("the component failed");
        }
    }

    fn call<R>(
        &mut self,
        name: &'static str,
        call: impl FnOnce(StoreContextMut<'_, Guest>, &transport::Guest) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        let guest = self.guest.sluicegate_gateway_transport();
        self.sandbox.call(name, |store| call(store, guest))
    }
}
