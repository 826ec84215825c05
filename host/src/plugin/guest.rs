//! What one instance may hold and ask for: the host's side of the interfaces `media` and `log`, with their limits.

use super::{
    Limits,
    bindings::{log, media},
};
use crate::media::buffer::{Buffer, Run};
use bytes::Bytes;
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
        let mut runs: Vec<Run> = Vec::with_capacity(pieces.len());
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

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = desired <= self.limits.memory;
        self.memory_refused |= !granted;
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 100_000)
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
