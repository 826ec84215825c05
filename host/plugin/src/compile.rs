//! Compiling a component, in a process of its own.
//!
//! How long a compiler works on a component, and with how much memory, does not follow from its size: half a megabyte took 45 s
//! and 7.7 GB. So what is too large is refused before, and the rest is compiled by a child that the system ends at its limits of
//! processor time and memory. The child is this same program, so that what it gives back is this engine's own code.

use super::encode;
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
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use wasmparser::{Parser, Payload};
use wasmtime::{Config, Engine};

/// Functions of a component, in all its modules.
const MAX_FUNCTIONS: u32 = 65_536;
/// Bytes of one of them: compilers take more than twice the time for twice as much.
const MAX_FUNCTION_BYTES: usize = 1 << 20;
/// Compiled code.
const MAX_CODE_BYTES: u64 = 256 << 20;
/// What the child may have in data, bytes.
const MEMORY: u64 = 1 << 30;
/// Processor time of the child, seconds; a compiler that is not optimized takes several times as long.
const SECONDS: u64 = if cfg!(debug_assertions) { 120 } else { 30 };
/// For the child on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(4 * SECONDS);
/// Each has a stack and works on a function, so they multiply the memory.
const THREADS: &str = "4";

/// What the child says first: the compiled code follows, or why there is none.
const CODE: u8 = b'c';
const NOT_ENCODED: u8 = b'e';
const NOT_COMPILED: u8 = b'f';

/// Why there is no compiled code.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// It is a core module that cannot be made a component.
    #[error("{0}")]
    Encode(String),
    /// It does not compile, or not within its limits.
    #[error("{0}")]
    Compile(String),
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
/// One at a time, so that many do not add up to more than one may take.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for the turn to compile, which lasts as long as what it gives.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names the program that is run to compile components, which must call [`answer`] on `compile-component`. Without one, as where
/// the gateway is used as a library, they are compiled in this process, without limits of time and memory.
pub fn compile_with(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// The engine that everything is compiled for.
pub(super) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    // Same calls in, same bytes out, on every machine.
    config
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .epoch_interruption(true);
    Engine::new(&config)
}

/// The code of a component, or of a core module that carries its component type.
///
/// # Errors
/// It does not compile, or is more than may be compiled.
pub(super) fn compile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, Refused> {
    measure(wasm)?;
    match PROGRAM.get() {
        Some(program) => {
            let mut command = Command::new(program);
            command.arg("compile-component");
            ask(command, wasm, PATIENCE)
        }
        None => here(engine, wasm),
    }
}

/// Compiles what comes on standard input, for the process that asked, and writes the answer.
pub fn answer() {
    // Whoever asked may be gone before it could end this.
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
        here(&engine, &wasm)
    };
    let done = contain(work)
        .unwrap_or_else(|panicked| Err(Refused::Compile(format!("the compiler {panicked}"))));
    let (first, rest) = match done {
        Ok(code) => (CODE, code),
        Err(Refused::Encode(reason)) => (NOT_ENCODED, reason.into_bytes()),
        Err(Refused::Compile(reason)) => (NOT_COMPILED, reason.into_bytes()),
    };
    let mut output = io::stdout().lock();
    // Nobody may want it any more.
    let _ = output
        .write_all(&[first])
        .and_then(|()| output.write_all(&rest))
        .and_then(|()| output.flush());
}

fn here(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, Refused> {
    let encoded = match Parser::is_component(wasm) {
        true => None,
        false => Some(encode::encode(wasm).map_err(Refused::Encode)?),
    };
    let code = engine.precompile_component(encoded.as_deref().unwrap_or(wasm));
    code.map_err(|error| Refused::Compile(format!("{error:#}")))
}

/// What is stricter already stays.
fn lower(resource: Resource, most: u64) {
    let now = getrlimit(resource);
    let least = |limit: Option<u64>| Some(limit.unwrap_or(u64::MAX).min(most));
    let limits = Rlimit {
        current: least(now.current),
        maximum: least(now.maximum),
    };
    if let Err(error) = setrlimit(resource, limits) {
        tracing::warn!("compiling without a limit of {resource:?}: {error}");
    }
}

/// Refuses what is too much before anything is allocated for it. What cannot be read is the compiler's to tell.
fn measure(wasm: &[u8]) -> Result<(), Refused> {
    let mut functions = 0u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::CodeSectionStart { count, .. }) => {
                functions = functions.saturating_add(count);
            }
            Ok(Payload::CodeSectionEntry(body)) if body.range().len() > MAX_FUNCTION_BYTES => {
                return Err(Refused::Compile(format!(
                    "a function has {} bytes, and may have {MAX_FUNCTION_BYTES}; build it with optimization, or split it",
                    body.range().len()
                )));
            }
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        if functions > MAX_FUNCTIONS {
            return Err(Refused::Compile(format!(
                "it has {functions} functions, and may have {MAX_FUNCTIONS}"
            )));
        }
    }
    Ok(())
}

/// Has `command` compile, and waits no longer than `patience`.
fn ask(mut command: Command, wasm: &[u8], patience: Duration) -> Result<Vec<u8>, Refused> {
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
        return Err(failed("spoken to", io::ErrorKind::BrokenPipe.into()));
    };
    let wasm = wasm.to_vec();
    // Apart, as a child that does not read would hold this up. It ends with the child.
    let given = thread::Builder::new()
        .name("compile".into())
        .spawn(move || drop(input.write_all(&wasm)));
    let read = given.and_then(|_| read(output, deadline));
    // Who has answered is at its end; all others have to be.
    if !matches!(read, Ok(Some(_))) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed("waited for", error))?;
    let answer = read.map_err(|error| failed("read from", error))?;
    let Some(answer) = answer else {
        return Err(over(&format!(
            "it took longer than {} s",
            patience.as_secs()
        )));
    };
    let text = |rest: &[u8]| String::from_utf8_lossy(rest).into_owned();
    match (answer.split_first(), status.success()) {
        (Some((&CODE, code)), true) => Ok(code.to_vec()),
        (Some((&NOT_ENCODED, reason)), true) => Err(Refused::Encode(text(reason))),
        (Some((&NOT_COMPILED, reason)), true) => Err(Refused::Compile(text(reason))),
        _ => Err(over(&shown(status))),
    }
}

fn shown(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("the compiler was ended by signal {signal}"),
        None => format!("the compiler ended with {status}"),
    }
}

/// It went over a limit, most likely: the system ends who does.
fn over(what: &str) -> Refused {
    Refused::Compile(format!(
        "{what}; a component may take {SECONDS} s of processor time and {} MiB of memory to compile: make its functions smaller, or \
         build it with optimization",
        MEMORY >> 20
    ))
}

/// All that comes until the other end is closed; `None` if that is not in time, or it is too much.
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

    /// A component with a module of so many functions, each with so many instructions of one byte.
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
        assert_eq!(measure(&component(functions, 0)), Ok(()));
        let text = reason(compile(&engine, &component(functions + 1, 0)));
        assert!(text.starts_with("it has 65537 functions"), "{text}");
        assert_eq!(measure(&component(2, MAX_FUNCTION_BYTES - 16)), Ok(()));
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
        let asked = |text: &str| ask(shell(text), &large, PATIENCE);
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
    fn a_child_that_is_ended_fails_or_hangs_is_told_with_the_limits() {
        for (text, said) in [
            (
                "printf c; kill -XCPU $$",
                "the compiler was ended by signal 24; a component may take",
            ),
            ("kill -ABRT $$", "signal 6; a component may take"),
            ("exit 101", "the compiler ended with exit status: 101; a"),
            ("", "the compiler ended with exit status: 0; a"),
        ] {
            let text = reason(ask(shell(text), b"wasm", PATIENCE));
            assert!(text.contains(said) && text.contains("1024 MiB"), "{text}");
        }
        let began = Instant::now();
        let text = reason(ask(
            shell("exec sleep 1000"),
            b"wasm",
            Duration::from_secs(1),
        ));
        assert!(text.starts_with("it took longer than 1 s"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(100));
        let missing = Command::new("/nowhere/sluicegate");
        assert!(reason(ask(missing, b"wasm", PATIENCE)).contains("cannot be run: No such file"));
    }
}
