//! What one instance may hold and ask for: the host's side of the interfaces `media` and `log`, with their limits.

use super::{
    Limits,
    bindings::{log, media},
};
use bytes::Bytes;
use sluicegate_media::buffer::{Buffer, SharedSlice};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use wasmtime::{
    ResourceLimiter, UpdateDeadline,
    component::{Resource, ResourceTable},
};

/// The epoch's tick: how often a running guest is looked at.
pub const TICK: Duration = Duration::from_millis(5);
/// Log lines an instance may write within this time, and the characters of one.
const LOG_LINES: u32 = 32;
const LOG_PERIOD: Duration = Duration::from_secs(10);
const LOG_CHARS: usize = 2000;

/// Bytes of a media type at most; the longest that is registered has 100.
const MAX_TYPE_LEN: usize = 256;

/// A limit that a guest ran into.
#[derive(Debug, Error)]
pub enum Breach {
    /// Ran longer than `limits.call`.
    #[error("it ran longer than its limit of {0:?} a call (limits.call)")]
    Deadline(Duration),
    /// Holds more bytes than `limits.buffers`.
    #[error("its buffers hold more than {0} bytes")]
    Buffers(usize),
    /// Holds more handles than `limits.handles`.
    #[error("it holds more than {0} handles")]
    Handles(usize),
    /// Gave out more than the limit in one call.
    #[error("it gave out more than {0} bytes or {1} items in one call")]
    Output(usize, usize),
    /// A media type that is none.
    #[error("it gave out a media type of {0} bytes; at most {MAX_TYPE_LEN} are possible")]
    MediaType(usize),
    /// A chunk on a lane that its profile does not have.
    #[error("it gave out a chunk on lane {0}; its profile has {1}, counted from 0")]
    Lane(u8, usize),
    /// A slice that reaches over its buffer's end.
    #[error("a slice of {length} bytes at {offset} is out of a buffer of {size} bytes")]
    Slice {
        /// Where the slice starts.
        offset: u32,
        /// Its length.
        length: u32,
        /// Of the buffer.
        size: usize,
    },
}

/// What the log calls a guest.
#[derive(Clone, Debug)]
pub struct Name {
    /// name@version of the component.
    pub plugin: Arc<str>,
    /// The stream it works on.
    pub stream: Arc<str>,
}

/// The data of a guest's `Store`.
#[derive(Debug)]
pub struct Guest {
    /// Names it in the log.
    name: Name,
    /// The handles it holds.
    pub table: ResourceTable,
    limits: Limits,
    held: usize,
    ran_at_first_tick: Option<Duration>,
    grown: Grown,
    memory_refused: bool,
    log: LogBudget,
    said: Option<String>,
}

/// What is left of the log lines that it may write.
#[derive(Debug)]
struct LogBudget {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl LogBudget {
    fn new() -> LogBudget {
        LogBudget {
            since: Instant::now(),
            lines: 0,
            left_out: 0,
        }
    }

    /// Whether one more line may be written; says first how many could not.
    fn spend(&mut self, name: &Name) -> bool {
        if self.since.elapsed() >= LOG_PERIOD {
            let left_out = self.left_out;
            *self = LogBudget::new();
            if left_out > 0 {
                let Name { plugin, stream } = name;
                tracing::warn!(%plugin, %stream, "{left_out} lines of its log were left out");
            }
        }
        let granted = self.lines < LOG_LINES;
        self.lines = self.lines.saturating_add(1);
        self.left_out += u64::from(!granted);
        granted
    }
}

/// What a guest says an answer is, which becomes a header.
pub fn media_type(text: String) -> wasmtime::Result<String> {
    match text.len() {
        0..=MAX_TYPE_LEN => Ok(text),
        long => Err(Breach::MediaType(long).into()),
    }
}

impl Guest {
    /// A guest that holds nothing yet.
    pub fn new(name: Name, limits: Limits) -> Guest {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Guest {
            name,
            table,
            limits,
            held: 0,
            ran_at_first_tick: None,
            grown: Grown::default(),
            memory_refused: false,
            log: LogBudget::new(),
            said: None,
        }
    }

    /// What it may use.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes in its buffers.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Before each call.
    pub fn begin_call(&mut self) {
        self.ran_at_first_tick = None;
        self.memory_refused = false;
        self.said = None;
    }

    /// Hands a buffer to the guest.
    pub fn lend(&mut self, payload: Buffer) -> wasmtime::Result<Resource<Buffer>> {
        let held = self.held + payload.len();
        if held > self.limits.buffers {
            return Err(Breach::Buffers(self.limits.buffers).into());
        }
        let handle = self
            .table
            .push(payload)
            .map_err(|_| Breach::Handles(self.limits.handles))?;
        self.held = held;
        Ok(handle)
    }

    /// Takes a buffer back out of the guest's hands.
    pub fn take(&mut self, handle: Resource<Buffer>) -> wasmtime::Result<Buffer> {
        let payload = self.table.delete(handle)?;
        self.held -= payload.len();
        Ok(payload)
    }

    /// The newest error that the guest logged in this call: what a panic says before it traps.
    pub fn said(&mut self) -> Option<String> {
        self.said.take()
    }

    /// Whether the guest asked for more memory than it may have in this call.
    pub fn memory_refused(&self) -> Option<usize> {
        self.memory_refused.then_some(self.limits.memory)
    }

    /// At each tick during a call: counts the time this thread really ran, so that a busy machine kills nobody.
    pub fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let ran = thread_time();
        match self.ran_at_first_tick {
            None => self.ran_at_first_tick = Some(ran),
            Some(first) if ran.saturating_sub(first) > self.limits.call => {
                return Err(Breach::Deadline(self.limits.call).into());
            }
            Some(_) => {}
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
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
                        return Err(Breach::Slice {
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
                return Err(Breach::Buffers(self.limits.buffers).into());
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

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        // The last error of a call explains its trap, however much was logged before.
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
                tracing::debug!(%plugin, %stream, "guest error: {message}");
                self.said = Some(message);
            }
            log::Level::Warn => tracing::warn!(%plugin, %stream, "{message}"),
            log::Level::Info => tracing::info!(%plugin, %stream, "{message}"),
            log::Level::Debug => tracing::debug!(%plugin, %stream, "{message}"),
        }
        Ok(())
    }
}

/// What all of a guest's memories and tables take together, in bytes.
#[derive(Debug, Default)]
struct Grown {
    bytes: usize,
    /// By how much the last one that was granted grew: it is not so much if the system then has no memory.
    last: usize,
}

impl Grown {
    /// Grants a memory or table to grow from one size to another, in items of so many bytes, if all stay within `limit`.
    fn grow(&mut self, current: usize, desired: usize, item: usize, limit: usize) -> bool {
        let more = desired.saturating_sub(current).saturating_mul(item);
        let bytes = self.bytes.saturating_add(more);
        let granted = bytes <= limit;
        if granted {
            (self.bytes, self.last) = (bytes, more);
        }
        granted
    }

    fn failed(&mut self) {
        self.bytes -= std::mem::take(&mut self.last);
    }
}

/// Bytes of an entry of a table: a pointer.
const ENTRY: usize = size_of::<usize>();

/// Memories never shrink, so what was granted is what is held.
impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = self.grown.grow(current, desired, 1, self.limits.memory);
        self.memory_refused |= !granted;
        Ok(granted)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.grown.failed();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = self.grown.grow(current, desired, ENTRY, self.limits.memory);
        self.memory_refused |= !granted;
        Ok(granted)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.grown.failed();
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

    /// A store whose guest may have `pages` of memory, and the module's instance in it.
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
            // 8,192 pointers are a page.
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
        assert!(store.data().memory_refused().is_some());
    }
}
