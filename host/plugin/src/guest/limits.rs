//! What a guest may use: memory, output and log lines. One that exceeds a limit gets a [`LimitExceeded`], which ends the
//! call like a trap; memory is refused as the system would, and log lines are dropped.

use super::{Guest, Name};
use crate::Limits;
use std::time::{Duration, Instant};
use thiserror::Error;
use wasmtime::ResourceLimiter;

/// Log lines that an instance may write within [`LOG_PERIOD`].
const LOG_LINES: u32 = 32;
const LOG_PERIOD: Duration = Duration::from_secs(10);
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

/// Checks the media type of a response, which becomes an HTTP header.
pub fn media_type(text: String) -> wasmtime::Result<String> {
    match text.len() {
        0..=MAX_TYPE_LEN => Ok(text),
        long => Err(LimitExceeded::MediaType(long).into()),
    }
}

/// What one call may still hand to the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputBudget {
    pub(super) bytes: usize,
    pub(super) items: usize,
}

impl OutputBudget {
    pub(super) fn new(limits: &Limits) -> OutputBudget {
        OutputBudget {
            bytes: limits.output,
            items: limits.items,
        }
    }
}

/// Rate limit of log lines.
#[derive(Debug)]
pub(super) struct LogBudget {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl LogBudget {
    pub(super) fn new() -> LogBudget {
        LogBudget {
            since: Instant::now(),
            lines: 0,
            dropped: 0,
        }
    }

    /// Whether one more line may be written. When a new period begins, logs how many lines were dropped in the previous
    /// one.
    pub(super) fn spend(&mut self, name: &Name) -> bool {
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

/// Total size of a guest's memories and tables.
#[derive(Debug, Default)]
pub(super) struct MemoryUse {
    pub(super) bytes: usize,
    /// Bytes of the last growth that was granted; taken back if the system then has no memory for it.
    last: usize,
}

impl MemoryUse {
    /// Grants the growth of a memory or table from `current` to `desired` items of `item` bytes.
    ///
    /// # Errors
    /// The total would exceed `limit` bytes; it is the error.
    pub(super) fn grow(
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
