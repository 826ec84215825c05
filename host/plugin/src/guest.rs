//! Host side of the guest's imports, `media`, `viewers` and `log`, with the limits of one instance.
//!
//! [`Guest`] is the data of a guest's `Store`: its handle table, its viewers, and its use of buffers, memory, time and
//! log lines. What the guest requests for viewers is collected and taken by whoever called it. A guest that exceeds a
//! limit gets a [`LimitExceeded`], which ends the call like a trap. Called by wasmtime during guest calls, and by
//! `Sandbox` around them.

use super::{
    Effect, JoinRequest, Limits, Requests, ViewerHandle,
    bindings::{log, media, viewers},
};
use bytes::Bytes;
use sluicegate_media::buffer::{Buffer, SharedSlice};
use sluicegate_viewer::Content;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use wasmtime::{
    ResourceLimiter, UpdateDeadline,
    component::{Resource, ResourceTable},
};

/// Interval of the epoch, at which the deadline of a running guest is checked.
pub const TICK: Duration = Duration::from_millis(5);
/// Log lines that an instance may write within [`LOG_PERIOD`], and the longest line in characters.
const LOG_LINES: u32 = 32;
const LOG_PERIOD: Duration = Duration::from_secs(10);
const LOG_CHARS: usize = 2000;

/// Longest media type in bytes; the longest that is registered has 100.
const MAX_TYPE_LEN: usize = 256;

/// A limit that a guest exceeded, or a value out of range.
#[derive(Debug, Error)]
pub enum LimitExceeded {
    /// A call used more processor time than `limits.call`.
    #[error("it ran longer than its limit of {0:?} a call (limits.call)")]
    Deadline(Duration),
    /// The buffers that it holds exceed `limits.buffers`.
    #[error("its buffers hold more than {0} bytes")]
    Buffers(usize),
    /// It holds more handles of buffers than `limits.handles`.
    #[error("it holds more than {0} handles of buffers")]
    Handles(usize),
    /// It holds more handles of viewers than `limits.viewers`.
    #[error("it holds more than {0} handles of viewers")]
    Viewers(usize),
    /// One call handed more bytes or items to the host than `limits.output` and `limits.items`.
    #[error("it handed more than {0} bytes or {1} items to the host in one call")]
    Output(usize, usize),
    /// A media type that is too long.
    #[error("it returned a media type of {0} bytes; at most {MAX_TYPE_LEN} are allowed")]
    MediaType(usize),
    /// A chunk on a lane that its profile does not have.
    #[error("it returned a chunk on lane {0}; its profile has {1} lanes, counted from 0")]
    Lane(u8, usize),
    /// A chunk of a track that the stream does not have.
    #[error("it returned a chunk of track {0}, which the stream does not have")]
    Track(u32),
    /// A slice that exceeds its buffer.
    #[error("a slice of {length} bytes at offset {offset} exceeds its buffer of {size} bytes")]
    Slice {
        /// Start of the slice in bytes.
        offset: u32,
        /// Length of the slice in bytes.
        length: u32,
        /// Size of the buffer in bytes.
        size: usize,
    },
}

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

/// What one call may still hand to the host.
#[derive(Clone, Copy, Debug)]
struct OutputBudget {
    bytes: usize,
    items: usize,
}

impl OutputBudget {
    fn new(limits: &Limits) -> OutputBudget {
        OutputBudget {
            bytes: limits.output,
            items: limits.items,
        }
    }
}

/// Rate limit of log lines.
#[derive(Debug)]
struct LogBudget {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl LogBudget {
    fn new() -> LogBudget {
        LogBudget {
            since: Instant::now(),
            lines: 0,
            dropped: 0,
        }
    }

    /// Whether one more line may be written. When a new period begins, logs how many lines were dropped in the previous
    /// one.
    fn spend(&mut self, name: &Name) -> bool {
        if self.since.elapsed() >= LOG_PERIOD {
            let dropped = self.dropped;
            *self = LogBudget::new();
            if dropped > 0 {
                let Name { plugin, stream } = name;
                tracing::warn!(%plugin, %stream, "{dropped} log lines of this component were dropped by the rate limit");
            }
        }
        let granted = self.lines < LOG_LINES;
        self.lines = self.lines.saturating_add(1);
        self.dropped += u64::from(!granted);
        granted
    }
}

/// Checks the media type of a response, which becomes an HTTP header.
pub fn media_type(text: String) -> wasmtime::Result<String> {
    match text.len() {
        0..=MAX_TYPE_LEN => Ok(text),
        long => Err(LimitExceeded::MediaType(long).into()),
    }
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

impl media::Host for Guest {}

impl media::HostBuffer for Guest {
    fn new(&mut self, pieces: Vec<media::Piece>) -> wasmtime::Result<Resource<Buffer>> {
        let mut runs: Vec<SharedSlice> = Vec::with_capacity(pieces.len());
        let mut total = 0usize;
        for piece in pieces {
            match piece {
                media::Piece::Bytes(bytes) => {
                    total += bytes.len();
                    runs.push(Bytes::from(bytes).into());
                }
                media::Piece::Slice(slice) => {
                    let source = self.table.get(&slice.source)?;
                    let (offset, length) = (slice.offset as usize, slice.length as usize);
                    if offset
                        .checked_add(length)
                        .is_none_or(|end| end > source.len())
                    {
                        return Err(LimitExceeded::Slice {
                            offset: slice.offset,
                            length: slice.length,
                            size: source.len(),
                        }
                        .into());
                    }
                    total += length;
                    runs.extend(source.slice(offset, length));
                }
            }
            if self.held + total > self.limits.buffers {
                return Err(LimitExceeded::Buffers(self.limits.buffers).into());
            }
        }
        self.lend(runs.into_iter().collect())
    }

    fn size(&mut self, buffer: Resource<Buffer>) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.table.get(&buffer)?.len()).unwrap_or(u32::MAX))
    }

    fn read(
        &mut self,
        buffer: Resource<Buffer>,
        offset: u32,
        length: u32,
    ) -> wasmtime::Result<Vec<u8>> {
        let payload = self.table.get(&buffer)?;
        let mut bytes = Vec::with_capacity((length as usize).min(payload.len()));
        for piece in payload.slice(offset as usize, length as usize) {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn drop(&mut self, buffer: Resource<Buffer>) -> wasmtime::Result<()> {
        self.take(buffer).map(|_| ())
    }
}

impl viewers::Host for Guest {
    fn find(&mut self, id: u64) -> wasmtime::Result<Option<Resource<ViewerHandle>>> {
        let request = self.viewers.get(&id).cloned();
        request
            .map(|request| self.lend_viewer(id, request))
            .transpose()
    }

    fn keyframe(&mut self) -> wasmtime::Result<()> {
        self.requests.keyframe = true;
        Ok(())
    }

    #[cfg(feature = "next-interface")]
    fn count(&mut self) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.viewers.len()).unwrap_or(u32::MAX))
    }
}

impl viewers::HostViewer for Guest {
    fn id(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<u64> {
        Ok(self.viewer_table.get(&viewer)?.id)
    }

    fn carrier(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<String> {
        Ok(self
            .viewer_table
            .get(&viewer)?
            .request
            .carrier
            .name()
            .to_owned())
    }

    fn path(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<String> {
        Ok(self.viewer_table.get(&viewer)?.request.path.clone())
    }

    fn query(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<String> {
        Ok(self.viewer_table.get(&viewer)?.request.query.clone())
    }

    fn protocol(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.viewer_table.get(&viewer)?.request.protocol.clone())
    }

    fn may(&mut self, viewer: Resource<ViewerHandle>, role: String) -> wasmtime::Result<bool> {
        let roles = &self.viewer_table.get(&viewer)?.request.roles;
        Ok(roles.contains(&role))
    }

    fn send(
        &mut self,
        viewer: Resource<ViewerHandle>,
        content: media::Payload,
    ) -> wasmtime::Result<()> {
        let content = self.take_content(content)?;
        self.collect(&viewer, Effect::Send(content))
    }

    fn choose(&mut self, viewer: Resource<ViewerHandle>, lanes: Vec<u8>) -> wasmtime::Result<()> {
        self.request(&viewer, Effect::Lanes(lanes))
    }

    fn stream_head(
        &mut self,
        viewer: Resource<ViewerHandle>,
        lane: u8,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<()> {
        self.request(&viewer, Effect::StreamHead(lane, bytes.into()))
    }

    fn reply(
        &mut self,
        viewer: Resource<ViewerHandle>,
        client_stream: u64,
        data: Resource<Buffer>,
        last: bool,
    ) -> wasmtime::Result<()> {
        let data = self.take_output(data)?;
        let stream = client_stream;
        self.collect(&viewer, Effect::Reply { stream, data, last })
    }

    fn talk(
        &mut self,
        _: Resource<ViewerHandle>,
        _: String,
        frame: Resource<Buffer>,
    ) -> wasmtime::Result<Result<(), String>> {
        self.take(frame)?;
        Ok(Err("this stream takes neither voice nor picture".into()))
    }

    fn close(&mut self, viewer: Resource<ViewerHandle>, reason: String) -> wasmtime::Result<()> {
        self.request(&viewer, Effect::Close(reason))
    }

    fn drop(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<()> {
        self.viewer_table.delete(viewer)?;
        Ok(())
    }
}

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        // Errors are not rate limited, since the last error of a call explains its trap. They are logged at debug level
        // only.
        if level != log::Level::Error && !self.log.spend(&self.name) {
            return Ok(());
        }
        let message: String = message
            .chars()
            .filter(|c| !c.is_control())
            .take(LOG_CHARS)
            .collect();
        let Name { plugin, stream } = &self.name;
        match level {
            log::Level::Error => {
                tracing::debug!(%plugin, %stream, "component error: {message}");
                self.last_error = Some(message);
            }
            log::Level::Warn => tracing::warn!(%plugin, %stream, "{message}"),
            log::Level::Info => tracing::info!(%plugin, %stream, "{message}"),
            log::Level::Debug => tracing::debug!(%plugin, %stream, "{message}"),
        }
        Ok(())
    }
}

/// Total size of a guest's memories and tables.
#[derive(Debug, Default)]
struct MemoryUse {
    bytes: usize,
    /// Bytes of the last growth that was granted; taken back if the system then has no memory for it.
    last: usize,
}

impl MemoryUse {
    /// Grants the growth of a memory or table from `current` to `desired` items of `item` bytes.
    ///
    /// # Errors
    /// The total would exceed `limit` bytes; it is the error.
    fn grow(
        &mut self,
        current: usize,
        desired: usize,
        item: usize,
        limit: usize,
    ) -> Result<(), usize> {
        let more = desired.saturating_sub(current).saturating_mul(item);
        let bytes = self.bytes.saturating_add(more);
        if bytes > limit {
            return Err(bytes);
        }
        (self.bytes, self.last) = (bytes, more);
        Ok(())
    }

    fn failed(&mut self) {
        self.bytes -= std::mem::take(&mut self.last);
    }
}

/// Size of a table's entry in bytes: a pointer.
const ENTRY: usize = size_of::<usize>();

/// Memories and tables never shrink, so the sum of granted growth is the size in use.
impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, 1))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_use.failed();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, ENTRY))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_use.failed();
        Ok(())
    }

    fn instances(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        4
    }

    fn tables(&self) -> usize {
        64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wasmtime::{Engine, Instance, Module, Store};

    /// A store whose guest may have `pages` of memory, with an instance of `module`.
    fn instantiate(pages: usize, module: &str) -> wasmtime::Result<(Store<Guest>, Instance)> {
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(module).unwrap())?;
        let name = Name {
            plugin: "test".into(),
            stream: "test".into(),
        };
        let limits = Limits {
            memory: pages << 16,
            ..Limits::default()
        };
        let mut store = Store::new(&engine, Guest::new(name, limits));
        store.limiter(|guest| guest);
        let instance = Instance::new(&mut store, &module, &[])?;
        Ok((store, instance))
    }

    #[test]
    fn memories_and_tables_count_together() {
        for (module, pages) in [
            ("(module (memory 3) (memory 3) (memory 2))", 8),
            // 8,192 pointers fill one page.
            ("(module (memory 3) (table 16384 funcref))", 5),
            ("(module (table 8192 funcref) (table 8192 funcref))", 2),
        ] {
            assert!(instantiate(pages, module).is_ok(), "{module}");
            assert!(instantiate(pages - 1, module).is_err(), "{module}");
        }
    }

    #[test]
    fn each_memory_grows_only_within_what_all_may_have() {
        let module = "(module (memory 1) (memory 1) (table 0 funcref)
            (func (export \"first\") (param i32) (result i32) (memory.grow 0 (local.get 0)))
            (func (export \"second\") (param i32) (result i32) (memory.grow 1 (local.get 0)))
            (func (export \"entries\") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))";
        let (mut store, instance) = instantiate(5, module).unwrap();
        let mut grow = |name: &str, by: i32| {
            let function = instance.get_typed_func::<i32, i32>(&mut store, name);
            function.unwrap().call(&mut store, by).unwrap()
        };
        assert_eq!(grow("first", 2), 1);
        assert_eq!(grow("second", 2), -1, "three and three");
        assert_eq!(grow("second", 1), 1);
        assert_eq!(grow("first", 1), -1);
        assert_eq!(grow("entries", 1), -1);
        assert_eq!(store.data().memory_refused(), Some((5 << 16) + 8));
    }
}
