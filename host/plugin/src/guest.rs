//! What the host keeps for one instance of a component.
//!
//! [`Guest`] is the data of a guest's `Store`: its handle table, its viewers, and its use of buffers, memory, time and
//! log lines. What the guest requests for viewers is collected and taken by whoever called it. Called by `Sandbox` around
//! guest calls, and during them by the guest's imports (`imports`) and for its memory (`limits`).

mod imports;
mod limits;

pub use limits::{LimitExceeded, media_type};

use super::{Effect, JoinRequest, Limits, Requests, ViewerHandle, bindings::media};
use limits::{LogBudget, MemoryUse, OutputBudget};
use sluicegate_media::buffer::Buffer;
use sluicegate_viewer::Content;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use wasmtime::{
    UpdateDeadline,
    component::{Resource, ResourceTable},
};

/// Interval of the epoch, at which the deadline of a running guest is checked.
pub const TICK: Duration = Duration::from_millis(5);

/// Names that identify a guest in the log.
#[derive(Clone, Debug)]
pub struct Name {
    /// Component, as name@version.
    pub plugin: Arc<str>,
    /// Name of the stream, or "(check)" or "(sessions)".
    pub stream: Arc<str>,
}

/// What a guest holds between two calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of all its memories and tables.
    pub memory: usize,
    /// Bytes in its buffers.
    pub buffers: usize,
    /// Handles of buffers.
    pub handles: usize,
    /// Handles of viewers.
    pub viewers: usize,
}

/// Data of a guest's `Store`.
#[derive(Debug)]
pub struct Guest {
    /// Identifies it in the log.
    name: Name,
    /// Handles of buffers that the guest holds.
    pub table: ResourceTable,
    /// Handles of viewers that the guest holds.
    viewer_table: ResourceTable,
    limits: Limits,
    held: usize,
    /// Connected viewers that joined this instance.
    viewers: BTreeMap<u64, Arc<JoinRequest>>,
    /// What the current call has requested for viewers.
    requests: Requests,
    /// What the current call may still hand to the host.
    output: OutputBudget,
    ran_at_first_tick: Option<Duration>,
    memory_use: MemoryUse,
    /// Bytes of memory that it would have with the growth that the current call was refused.
    memory_refused: Option<usize>,
    log: LogBudget,
    last_error: Option<String>,
}

impl Guest {
    /// Data for a new instance.
    pub fn new(name: Name, limits: Limits) -> Guest {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let mut viewer_table = ResourceTable::new();
        viewer_table.set_max_capacity(limits.viewers);
        Guest {
            name,
            table,
            viewer_table,
            limits,
            held: 0,
            viewers: BTreeMap::new(),
            requests: Requests::default(),
            output: OutputBudget::new(&limits),
            ran_at_first_tick: None,
            memory_use: MemoryUse::default(),
            memory_refused: None,
            log: LogBudget::new(),
            last_error: None,
        }
    }

    /// Limits of the instance.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes in the buffers that it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// All that it holds. Counts its handles.
    pub fn holds(&mut self) -> Held {
        Held {
            memory: self.memory_use.bytes,
            buffers: self.held,
            handles: self.table.iter_mut().count(),
            viewers: self.viewer_table.iter_mut().count(),
        }
    }

    /// Resets the state of one call; call it before each.
    pub fn begin_call(&mut self) {
        self.ran_at_first_tick = None;
        self.memory_refused = None;
        self.last_error = None;
        self.requests = Requests::default();
        self.output = OutputBudget::new(&self.limits);
    }

    /// Counts one item of so many bytes that the current call hands to the host.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded::Output`].
    pub fn count_output(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let OutputBudget { bytes: left, items } = self.output;
        match (left.checked_sub(bytes), items.checked_sub(1)) {
            (Some(bytes), Some(items)) => {
                self.output = OutputBudget { bytes, items };
                Ok(())
            }
            _ => Err(LimitExceeded::Output(self.limits.output, self.limits.items).into()),
        }
    }

    /// Takes a buffer that the current call hands to the host, and counts it.
    ///
    /// # Errors
    ///
    /// As [`Guest::take`] and [`Guest::count_output`].
    pub fn take_output(&mut self, handle: Resource<Buffer>) -> wasmtime::Result<Buffer> {
        let buffer = self.take(handle)?;
        self.count_output(buffer.len())?;
        Ok(buffer)
    }

    /// Takes a payload that the current call hands to the host, and counts it.
    ///
    /// # Errors
    ///
    /// As [`Guest::take_output`].
    pub fn take_content(&mut self, payload: media::Payload) -> wasmtime::Result<Content> {
        match payload {
            media::Payload::Binary(handle) => self.take_output(handle).map(Content::Binary),
            media::Payload::Text(text) => {
                self.count_output(text.len())?;
                Ok(Content::Text(text.into()))
            }
        }
    }

    /// What the last call requested for viewers.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Takes what the last call requested for viewers. The next call discards what was not taken.
    pub fn take_requests(&mut self) -> Requests {
        std::mem::take(&mut self.requests)
    }

    /// Makes a viewer known to the guest and gives it a handle.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded::Handles`].
    pub fn add_viewer(
        &mut self,
        id: u64,
        request: &Arc<JoinRequest>,
    ) -> wasmtime::Result<Resource<ViewerHandle>> {
        self.viewers.insert(id, request.clone());
        self.lend_viewer(id, request.clone())
    }

    /// Forgets a viewer. The guest's handles of it stay valid and do nothing.
    pub fn remove_viewer(&mut self, id: u64) {
        self.viewers.remove(&id);
    }

    fn lend_viewer(
        &mut self,
        id: u64,
        request: Arc<JoinRequest>,
    ) -> wasmtime::Result<Resource<ViewerHandle>> {
        let handle = self.viewer_table.push(ViewerHandle { id, request });
        handle.map_err(|_| LimitExceeded::Viewers(self.limits.viewers).into())
    }

    /// Collects something that the guest requests for a viewer, and counts it.
    fn request(&mut self, viewer: &Resource<ViewerHandle>, effect: Effect) -> wasmtime::Result<()> {
        self.count_output(effect.bytes())?;
        self.collect(viewer, effect)
    }

    fn collect(&mut self, viewer: &Resource<ViewerHandle>, effect: Effect) -> wasmtime::Result<()> {
        let id = self.viewer_table.get(viewer)?.id;
        self.requests.effects.push((id, effect));
        Ok(())
    }

    /// Gives the guest a handle to a buffer.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded::Buffers`] or [`LimitExceeded::Handles`].
    pub fn lend(&mut self, payload: Buffer) -> wasmtime::Result<Resource<Buffer>> {
        let held = self.held + payload.len();
        if held > self.limits.buffers {
            return Err(LimitExceeded::Buffers(self.limits.buffers).into());
        }
        let handle = self
            .table
            .push(payload)
            .map_err(|_| LimitExceeded::Handles(self.limits.handles))?;
        self.held = held;
        Ok(handle)
    }

    /// Takes a buffer out of the guest's handle table.
    ///
    /// # Errors
    ///
    /// The handle does not exist.
    pub fn take(&mut self, handle: Resource<Buffer>) -> wasmtime::Result<Buffer> {
        let payload = self.table.delete(handle)?;
        self.held -= payload.len();
        Ok(payload)
    }

    /// Takes the newest error that the guest logged in this call. A panic logs its message before it traps.
    pub fn last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// Logs a line about the guest, within its rate limit.
    pub fn warn(&mut self, message: &str) {
        if self.log.spend(&self.name) {
            let Name { plugin, stream } = &self.name;
            tracing::warn!(%plugin, %stream, "{message}");
        }
    }

    /// Bytes of memory that the guest would have, if it was refused some in this call.
    pub fn memory_refused(&self) -> Option<usize> {
        self.memory_refused
    }

    /// Grants the growth of a memory or table, or remembers that it was refused; see [`MemoryUse::grow`].
    fn grow(&mut self, current: usize, desired: usize, item: usize) -> bool {
        let limit = self.limits.memory;
        let grown = self.memory_use.grow(current, desired, item, limit);
        self.memory_refused = grown.err().or(self.memory_refused);
        grown.is_ok()
    }

    /// Checks the deadline; called at each tick during a call. It measures the processor time of this thread, so a busy
    /// machine does not end guests.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded::Deadline`].
    pub fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let ran = thread_time();
        match self.ran_at_first_tick {
            None => self.ran_at_first_tick = Some(ran),
            Some(first) if ran.saturating_sub(first) > self.limits.call => {
                return Err(LimitExceeded::Deadline(self.limits.call).into());
            }
            Some(_) => {}
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

/// Processor time that the calling thread has used.
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
