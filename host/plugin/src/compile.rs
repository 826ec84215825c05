//! Compiles components, in a child process with limits.
//!
//! The time and memory that a compiler needs do not follow from the size of the component: half a megabyte took 45 s
//! and 7.7 GB. So what is too large is rejected first, and the rest is compiled by a child process that the kernel ends
//! at its limits of processor time and memory. The child is this same program (`compile-component`), so the code that
//! it returns is as trustworthy as this engine's own. Called by `Cache`.

use super::encode;
use parking_lot::{Mutex, MutexGuard};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
};
use sluicegate_telemetry::contain;
use std::{
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ChildStdout, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use wasmparser::{Parser, Payload};
use wasmtime::{Config, Engine};

/// Most functions of a component, in all its modules.
const MAX_FUNCTIONS: u32 = 65_536;
/// Largest function in bytes: compilers take more than twice the time for a function of twice the size.
const MAX_FUNCTION_BYTES: usize = 1 << 20;
/// Largest compiled code, in bytes.
const MAX_CODE_BYTES: u64 = 256 << 20;
/// Limit of the child's data segment (`RLIMIT_DATA`), in bytes.
const MEMORY: u64 = 1 << 30;
/// Limit of the child's processor time, in seconds. A compiler that was built without optimization takes several times
/// as long.
const SECONDS: u64 = if cfg!(debug_assertions) { 120 } else { 30 };
/// Timeout of the child in real time, on a machine that is busy otherwise.
const TIMEOUT: Duration = Duration::from_secs(4 * SECONDS);
/// Threads of the compiler. Each has a stack and compiles a function, so the number multiplies the memory.
const THREADS: &str = "4";

/// First byte of the child's output. The compiled code follows, or the reason why there is none.
const CODE: u8 = b'c';
const NOT_ENCODED: u8 = b'e';
const NOT_COMPILED: u8 = b'f';

/// Reason why there is no compiled code.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// A core module that cannot be converted to a component.
    #[error("{0}")]
    Encode(String),
    /// The component does not compile, or not within the limits.
    #[error("{0}")]
    Compile(String),
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
/// Components are compiled one at a time, so that the limits hold for all of them together.
static COMPILING: Mutex<()> = Mutex::new(());

/// Waits until no other component is being compiled; the guard keeps others waiting.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    COMPILING.lock()
}

/// Sets the program that is run to compile components; it must call [`answer`] for the argument `compile-component`.
/// Without one, for example if the gateway is used as a library, components are compiled in this process, without
/// limits of time and memory.
pub fn set_compiler_program(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// An engine with the settings that all code is compiled with.
pub(super) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    // Deterministic: the same calls return the same bytes on every machine.
    config
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .epoch_interruption(true);
    Engine::new(&config)
}

/// Compiles a component, or a core module with an embedded component type.
///
/// # Errors
/// It does not compile, or exceeds a limit.
pub(super) fn compile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, Refused> {
    check_size(wasm)?;
    match PROGRAM.get() {
        Some(program) => {
            let mut command = Command::new(program);
            command.arg("compile-component");
            compile_in_child(command, wasm, TIMEOUT)
        }
        None => compile_in_process(engine, wasm),
    }
}

/// The child's side: sets its limits, compiles the component from standard input, and writes the result to standard
/// output.
pub fn answer() {
    // The parent may end before it can kill this process.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    for (resource, most) in [
        (Resource::Data, MEMORY),
        (Resource::Cpu, SECONDS),
        (Resource::Core, 0),
    ] {
        lower(resource, most);
    }
    let work = || {
        let mut wasm = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut wasm);
        read.map_err(|error| Refused::Compile(format!("cannot be read: {error}")))?;
        let engine = engine().map_err(|error| Refused::Compile(format!("{error:#}")))?;
        compile_in_process(&engine, &wasm)
    };
    let done = contain(work)
        .unwrap_or_else(|panicked| Err(Refused::Compile(format!("the compiler {panicked}"))));
    let (first, rest) = match done {
        Ok(code) => (CODE, code),
        Err(Refused::Encode(reason)) => (NOT_ENCODED, reason.into_bytes()),
        Err(Refused::Compile(reason)) => (NOT_COMPILED, reason.into_bytes()),
    };
    let mut output = io::stdout().lock();
    // An error means that the parent has ended.
    let _ = output
        .write_all(&[first])
        .and_then(|()| output.write_all(&rest))
        .and_then(|()| output.flush());
}

fn compile_in_process(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, Refused> {
    let encoded = match Parser::is_component(wasm) {
        true => None,
        false => Some(encode::encode(wasm).map_err(Refused::Encode)?),
    };
    let code = engine.precompile_component(encoded.as_deref().unwrap_or(wasm));
    code.map_err(|error| Refused::Compile(format!("{error:#}")))
}

/// Sets a resource limit, unless the current one is stricter.
fn lower(resource: Resource, most: u64) {
    let now = getrlimit(resource);
    let least = |limit: Option<u64>| Some(limit.unwrap_or(u64::MAX).min(most));
    let limits = Rlimit {
        current: least(now.current),
        maximum: least(now.maximum),
    };
    if let Err(error) = setrlimit(resource, limits) {
        tracing::warn!(
            "cannot set the compiler's limit of {resource:?}, compiling without it: {error}"
        );
    }
}

/// Rejects what exceeds the limits before anything is allocated for it. Malformed code is left to the compiler, which
/// reports it.
fn check_size(wasm: &[u8]) -> Result<(), Refused> {
    let mut functions = 0u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::CodeSectionStart { count, .. }) => {
                functions = functions.saturating_add(count);
            }
            Ok(Payload::CodeSectionEntry(body)) if body.range().len() > MAX_FUNCTION_BYTES => {
                return Err(Refused::Compile(format!(
                    "a function has {} bytes, at most {MAX_FUNCTION_BYTES} are allowed; build it with optimization, or split it",
                    body.range().len()
                )));
            }
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        if functions > MAX_FUNCTIONS {
            return Err(Refused::Compile(format!(
                "it has {functions} functions, at most {MAX_FUNCTIONS} are allowed"
            )));
        }
    }
    Ok(())
}

/// Runs `command` to compile `wasm`, for at most `patience`.
fn compile_in_child(
    mut command: Command,
    wasm: &[u8],
    patience: Duration,
) -> Result<Vec<u8>, Refused> {
    let failed = |what: &str, error: io::Error| {
        Refused::Compile(format!("the compiler cannot be {what}: {error}"))
    };
    let deadline = Instant::now() + patience;
    let mut child = command
        .env("RAYON_NUM_THREADS", THREADS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("run", error))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (Some(mut input), Some(output)) = (input, output) else {
        return Err(failed("written to", io::ErrorKind::BrokenPipe.into()));
    };
    let wasm = wasm.to_vec();
    // On a thread of its own, since a child that does not read would block here. The thread ends with the child.
    let given = thread::Builder::new()
        .name("compile".into())
        .spawn(move || drop(input.write_all(&wasm)));
    let read = given.and_then(|_| read(output, deadline));
    // A child that has answered is about to exit; any other must be killed.
    if !matches!(read, Ok(Some(_))) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed("waited for", error))?;
    let answer = read.map_err(|error| failed("read from", error))?;
    let Some(answer) = answer else {
        return Err(limit_error(&format!(
            "it took longer than {} s",
            patience.as_secs()
        )));
    };
    let text = |rest: &[u8]| String::from_utf8_lossy(rest).into_owned();
    match (answer.split_first(), status.success()) {
        (Some((&CODE, code)), true) => Ok(code.to_vec()),
        (Some((&NOT_ENCODED, reason)), true) => Err(Refused::Encode(text(reason))),
        (Some((&NOT_COMPILED, reason)), true) => Err(Refused::Compile(text(reason))),
        _ => Err(ended(status)),
    }
}

/// Error of a child that ended without an answer. At the limit of processor time the kernel ends it, but at that of
/// memory it aborts, as it does because of an error of its own.
fn ended(status: ExitStatus) -> Refused {
    const ENDED: [Signal; 2] = [Signal::XCPU, Signal::KILL];
    match status.signal() {
        Some(signal) if ENDED.iter().any(|known| known.as_raw() == signal) => {
            limit_error(&format!("the compiler was ended by signal {signal}"))
        }
        Some(signal) => limit_error(&format!(
            "the compiler crashed with signal {signal}, for want of memory or because of an error of its own"
        )),
        None => limit_error(&format!("the compiler ended with {status}")),
    }
}

/// Error of a child that did not answer, most likely because of a limit.
fn limit_error(what: &str) -> Refused {
    Refused::Compile(format!(
        "{what}; a component may take {SECONDS} s of processor time and {} MiB of memory to compile: make its functions smaller, or \
         build it with optimization",
        MEMORY >> 20
    ))
}

/// Reads until end of file; `None` if that takes longer than `deadline` or more than [`MAX_CODE_BYTES`].
fn read(mut output: ChildStdout, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => return Ok(None),
            Ok(_) => {}
        }
        match output.read(&mut buffer) {
            Ok(0) => return Ok(Some(all)),
            Ok(size) if (all.len() + size) as u64 > MAX_CODE_BYTES => return Ok(None),
            Ok(size) => all.extend_from_slice(&buffer[..size]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// A component with a module of this many functions, each with this many one-byte instructions.
    fn component(functions: usize, length: usize) -> Vec<u8> {
        let function = format!("(func {})\n", "nop ".repeat(length));
        let text = format!("(component (core module {}))", function.repeat(functions));
        wat::parse_str(text).unwrap()
    }

    fn reason(refused: Result<Vec<u8>, Refused>) -> String {
        match refused.unwrap_err() {
            Refused::Compile(reason) => reason,
            Refused::Encode(reason) => panic!("{reason}"),
        }
    }

    fn shell(text: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", text]);
        command
    }

    #[test]
    fn what_is_too_much_is_refused_before_it_is_compiled() {
        let engine = engine().unwrap();
        let functions = MAX_FUNCTIONS as usize;
        assert_eq!(check_size(&component(functions, 0)), Ok(()));
        let text = reason(compile(&engine, &component(functions + 1, 0)));
        assert!(text.starts_with("it has 65537 functions"), "{text}");
        assert_eq!(check_size(&component(2, MAX_FUNCTION_BYTES - 16)), Ok(()));
        let text = reason(compile(&engine, &component(1, MAX_FUNCTION_BYTES)));
        assert!(text.starts_with("a function has 10485"), "{text}");
        // Two modules count together.
        let half = "(func)\n".repeat(functions / 2 + 1);
        let both = format!("(component (core module {half}) (core module {half}))");
        let text = reason(compile(&engine, &wat::parse_str(both).unwrap()));
        assert!(text.starts_with("it has 65538 functions"), "{text}");
    }

    #[test]
    fn the_child_gets_the_component_and_its_answer_is_the_code_or_a_reason() {
        let large = vec![b'x'; 1 << 20];
        let asked = |text: &str| compile_in_child(shell(text), &large, TIMEOUT);
        assert_eq!(
            asked("printf c; wc -c | tr -d '\\n '"),
            Ok(b"1048576".to_vec())
        );
        assert_eq!(
            asked("cat >/dev/null; printf 'ebad type'"),
            Err(Refused::Encode("bad type".into()))
        );
        assert_eq!(
            asked("printf 'fno code'"),
            Err(Refused::Compile("no code".into()))
        );
    }

    #[test]
    fn a_compiler_that_is_killed_fails_or_hangs_is_reported_with_the_limits() {
        for (text, said) in [
            (
                "printf c; kill -XCPU $$",
                "the compiler was ended by signal 24; a component may take",
            ),
            (
                "kill -ABRT $$",
                "the compiler crashed with signal 6, for want of memory or because of an error of its own; a component",
            ),
            ("kill -SEGV $$", "the compiler crashed with signal 11, "),
            ("exit 101", "the compiler ended with exit status: 101; a"),
            ("", "the compiler ended with exit status: 0; a"),
        ] {
            let text = reason(compile_in_child(shell(text), b"wasm", TIMEOUT));
            assert!(text.contains(said) && text.contains("1024 MiB"), "{text}");
        }
        let began = Instant::now();
        let text = reason(compile_in_child(
            shell("exec sleep 1000"),
            b"wasm",
            Duration::from_secs(1),
        ));
        assert!(text.starts_with("it took longer than 1 s"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(100));
        let missing = Command::new("/nowhere/sluicegate");
        assert!(
            reason(compile_in_child(missing, b"wasm", TIMEOUT))
                .contains("cannot be run: No such file")
        );
    }
}
