//! Containment of panics in the gateway's own threads.
//!
//! If a thread that works for viewers panicked and ended, everything that waits for its output would wait forever. So
//! each such thread runs its work through [`contain`], which turns a panic into a value with its place, and its
//! supervisor treats that as a failure of the part: a source is opened again, a guest or codec is created anew. Panics
//! outside of [`contain`] (such as in a task of the runtime, which loses its one connection) are logged with their
//! place.

use std::{
    cell::{Cell, RefCell},
    fmt,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

/// A caught panic. Displayed as one line with its place and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    place: String,
    message: String,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Panicked { place, message } = self;
        write!(
            f,
            "panicked at {place}: {message} (a bug in the gateway: please report this line)"
        )
    }
}

thread_local! {
    /// Number of nested calls of `contain` on this thread.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static LAST: RefCell<Option<Panicked>> = const { RefCell::new(None) };
}

/// Uncontained panics are logged instead of passed to the previous panic hook.
static LOG_UNCONTAINED: AtomicBool = AtomicBool::new(false);

/// Runs `work` and catches a panic in it. State that `work` shares with the caller must be valid, or be discarded,
/// after a panic at any point.
///
/// # Errors
/// `work` panicked. Nothing is logged; that is up to the caller.
pub fn contain<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    install();
    DEPTH.set(DEPTH.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|_| {
        let caught = LAST.with(|last| last.try_borrow_mut().ok()?.take());
        caught.unwrap_or_else(|| Panicked {
            place: "an unknown place".into(),
            message: "no message".into(),
        })
    })
}

/// Makes uncontained panics errors in the log from here on.
pub(super) fn log_uncontained() {
    LOG_UNCONTAINED.store(true, Ordering::Relaxed);
    install();
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.try_with(Cell::get).unwrap_or(0) > 0 {
                let _ = LAST.try_with(|last| {
                    if let Ok(mut last) = last.try_borrow_mut() {
                        *last = Some(Panicked::new(info));
                    }
                });
            } else if LOG_UNCONTAINED.load(Ordering::Relaxed) {
                let thread = std::thread::current();
                let name = thread.name().unwrap_or("without a name");
                tracing::error!("the thread `{name}` {}", Panicked::new(info));
            } else {
                before(info);
            }
        }));
    });
}

impl Panicked {
    fn new(info: &PanicHookInfo<'_>) -> Panicked {
        Panicked {
            place: info
                .location()
                .map_or_else(|| "an unknown place".into(), ToString::to_string),
            message: info
                .payload_as_str()
                .unwrap_or("no message")
                .replace('\n', " "),
        }
    }
}

/// Panics where a test requests it. In debug builds only, by the variable `SLUICEGATE_PANIC`: a comma-separated list of
/// `PART=N` (once, at the Nth call for that part) or `PART=N+` (at every call from the Nth on).
#[cfg(debug_assertions)]
#[track_caller]
pub fn panic_point(part: &str) {
    use parking_lot::Mutex;
    use std::{collections::BTreeMap, sync::OnceLock};

    /// By part: number of the first call that panics, whether later ones do, too, and the number of calls so far.
    type PanicPoints = BTreeMap<String, (u64, bool, u64)>;
    static PANIC_POINTS: OnceLock<Option<Mutex<PanicPoints>>> = OnceLock::new();
    let points = PANIC_POINTS.get_or_init(|| {
        let text = std::env::var("SLUICEGATE_PANIC").ok()?;
        let points = text.split(',').filter_map(|point| {
            let (part, nth) = point.split_once('=')?;
            let count = nth.trim_end_matches('+').parse().ok()?;
            Some((part.to_owned(), (count, nth.ends_with('+'), 0)))
        });
        Some(Mutex::new(points.collect()))
    });
    let Some(points) = points else { return };
    let mut points = points.lock();
    let Some((from, again, calls)) = points.get_mut(part) else {
        return;
    };
    *calls += 1;
    let due = *calls == *from || (*again && *calls > *from);
    drop(points);
    assert!(!due, "SLUICEGATE_PANIC requests a panic of `{part}`");
}

/// Does nothing outside of debug builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn panic_point(_: &str) {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_panic_is_a_value_with_its_place_and_what_it_said() {
        let line = line!() + 1;
        let caught = contain(|| -> u32 { panic!("two\nlines") }).unwrap_err();
        let said = caught.to_string();
        let place = format!("panicked at {}:{line}:", file!());
        assert!(
            said.starts_with(&place) && said.contains(": two lines ("),
            "{said}"
        );
        assert_eq!(contain(|| 7), Ok(7));
        // Of nested calls, the inner one catches the panic.
        let outer = contain(|| contain(|| panic!("inner")).unwrap_err());
        assert!(outer.unwrap().to_string().contains("inner"));
    }
}
