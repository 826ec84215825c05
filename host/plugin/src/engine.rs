//! The wasmtime engine that all guests share, the loading of components, and the clock of guest deadlines.
//!
//! Loading goes from file to [`Plugin`]: check that it is WebAssembly and of the expected world, compile it through the
//! cache, link it. Each check that fails is a [`LoadError`] that says what to change. A guest's deadline is measured in
//! ticks of wasmtime's epoch: [`Ticker`] advances the epoch, and `Guest::tick` reads the thread's processor time.
//! Called at start and on reload; `Instance` and `PolicyInstance` instantiate what it returns.

use super::{
    Limits,
    bindings::{TransportPlugin, TransportPluginPre},
    cache::Cache,
    compile::{self, Refused},
    encode,
    guest::{Guest, TICK},
    metadata::Metadata,
    world::{Kind, Version, World, full_name, interface},
};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::Duration,
};
use thiserror::Error;
use wasmtime::component::{Component, Linker, types::ComponentItem};

/// Largest component file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reason why a component cannot be used.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(
        "cannot read the plugin {path}: {reason}; check the path (one in a config is relative to the config file)"
    )]
    Read {
        /// Path of the file, resolved.
        path: String,
        /// Error of the operating system.
        reason: std::io::Error,
    },
    /// The file is larger than the limit.
    #[error("{path} is {size} bytes; a plugin may have at most {MAX_FILE_BYTES}")]
    TooLarge {
        /// Path of the file.
        path: String,
        /// Size in bytes.
        size: u64,
    },
    /// Neither a component nor a core module.
    #[error("{path} is not WebAssembly: {what}")]
    NotWasm {
        /// Path of the file.
        path: String,
        /// What it is instead, and what to do.
        what: &'static str,
    },
    /// A core module that cannot be converted to a component.
    #[error(
        "{path} is a core module that cannot be converted to a component: {reason}; build it with the SDK or wit-bindgen for wasm32-unknown-unknown"
    )]
    Encode {
        /// Path of the file.
        path: String,
        /// Message of the encoder.
        reason: String,
    },
    /// The component does not compile, or not within the limits.
    #[error("{path} does not compile: {reason}")]
    Compile {
        /// Path of the file.
        path: String,
        /// Message of the compiler.
        reason: String,
    },
    /// The component was built for another version of the interface.
    #[error(
        "{path} needs version {needed} of the interface between gateway and components, and this gateway has {}; {}",
        Version::HOST, advice(*needed)
    )]
    Version {
        /// Path of the file.
        path: String,
        /// Version that it needs.
        needed: Version,
    },
    /// The component implements another world.
    #[error(
        "{path} is not a {}: it exports {found}, not `{}`; implement the world `{}` of wit/gateway.wit (in Rust: \
         `sluicegate_sdk::{}!(TYPE)`)",
        kind.name, full_name(kind.interface), kind.world, kind.export_macro
    )]
    OtherWorld {
        /// Path of the file.
        path: String,
        /// Expected kind of component.
        kind: &'static Kind,
        /// Names of the interfaces that it exports.
        found: String,
    },
    /// The interface lacks functions.
    #[error("{path} is not a {}: its interface `{}` lacks the function {missing}", kind.name, kind.interface)]
    Missing {
        /// Path of the file.
        path: String,
        /// Expected kind of component.
        kind: &'static Kind,
        /// Names of the missing functions.
        missing: String,
    },
    /// The component imports interfaces that the gateway does not provide.
    #[error(
        "{path} imports {imports}, which the gateway does not provide: components may import only `media`, `viewers` and `log` of `sluicegate:gateway`; build it without WASI (wasm32-unknown-unknown)"
    )]
    Imports {
        /// Path of the file.
        path: String,
        /// Names of those interfaces.
        imports: String,
    },
    /// The names match, but the types do not.
    #[error(
        "{path} does not fit this gateway's interface: {reason}; build it against this version's wit/gateway.wit"
    )]
    Mismatch {
        /// Path of the file.
        path: String,
        /// Message of the linker.
        reason: String,
    },
    /// The wasmtime engine cannot be created.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
}

/// The engine with its linker, its cache of compiled code and its clock.
pub struct Engine {
    wasm: wasmtime::Engine,
    linker: Linker<Guest>,
    cache: Cache,
    ticker: Arc<Ticker>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// A compiled and linked component; a transport by default.
pub struct Plugin<W = TransportPluginPre<Guest>> {
    /// Name from its metadata, or else the file's name without extension.
    pub name: String,
    /// Version from its metadata, or else "0".
    pub version: String,
    /// SHA-256 of the file, in hexadecimal.
    pub hash: String,
    /// Size of the file in bytes.
    pub size: usize,
    /// Names of the interfaces that it imports.
    pub imports: Vec<String>,
    /// Names of the interfaces that it exports.
    pub exports: Vec<String>,
    /// Limits of each instance.
    pub limits: Limits,
    pub(super) pre: W,
    pub(super) ticker: Arc<Ticker>,
}

impl<W> Plugin<W> {
    /// The first digits of its hash, for people: enough to tell two builds of one version apart.
    pub fn short_hash(&self) -> &str {
        self.hash.get(..12).unwrap_or(&self.hash)
    }
}

impl<W> Plugin<W> {
    /// Version of the interface that it needs: the newest in the names of its imports and exports.
    pub fn needed(&self) -> Version {
        let names = self.imports.iter().chain(&self.exports);
        let versions = names.filter_map(|name| interface(name).map(|(_, version)| version));
        versions.max().unwrap_or(Version::HOST)
    }
}

impl<W> std::fmt::Debug for Plugin<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({self})")
    }
}

impl<W> std::fmt::Display for Plugin<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl Engine {
    /// Creates an engine that caches compiled code in the user's cache folder.
    ///
    /// # Errors
    ///
    /// [`LoadError::Engine`].
    pub fn new() -> Result<Arc<Engine>, LoadError> {
        Engine::with_cache(Cache::for_user())
            .map_err(|error| LoadError::Engine(format!("{error:#}")))
    }

    fn with_cache(cache: Cache) -> wasmtime::Result<Arc<Engine>> {
        let wasm = compile::engine()?;
        let mut linker = Linker::new(&wasm);
        TransportPlugin::add_to_linker::<_, wasmtime::component::HasSelf<Guest>>(
            &mut linker,
            |guest| guest,
        )?;
        let ticker = Ticker::start(wasm.clone());
        Ok(Arc::new(Engine {
            wasm,
            linker,
            cache,
            ticker,
        }))
    }

    /// Loads a component, or a core module with an embedded component type, from a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a component of the world `W`.
    pub fn load_file<W: World>(
        &self,
        path: &Path,
        limits: Limits,
    ) -> Result<Arc<Plugin<W>>, LoadError> {
        let bytes = Engine::read_file(path)?;
        self.load(&path.display().to_string(), &bytes, limits)
    }

    /// Reads a component's file.
    ///
    /// # Errors
    ///
    /// [`LoadError::Read`] or [`LoadError::TooLarge`].
    fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
        let shown = path.display().to_string();
        let read = |reason| LoadError::Read {
            path: shown.clone(),
            reason,
        };
        // Opening a pipe could wait for ever, and a device has no end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let file = File::from(opened.map_err(|error| read(error.into()))?);
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            let what = "it is not a regular file";
            return Err(read(io::Error::new(io::ErrorKind::InvalidInput, what)));
        }
        // The file may grow meanwhile.
        let mut bytes = Vec::new();
        let mut limited = file.take(MAX_FILE_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(read)?;
        let size = metadata.len().max(bytes.len() as u64);
        match size > MAX_FILE_BYTES {
            true => Err(LoadError::TooLarge { path: shown, size }),
            false => Ok(bytes),
        }
    }

    /// Whether this component was compiled before, for this machine and engine.
    pub fn has_compiled(&self, wasm: &[u8]) -> bool {
        self.cache.has(&self.wasm, wasm)
    }

    /// The same for a component's file; a file that cannot be read is not compiled either.
    pub fn has_compiled_file(&self, path: &Path) -> bool {
        Engine::read_file(path).is_ok_and(|wasm| self.has_compiled(&wasm))
    }

    /// Loads a component or core module from memory; `origin` names it in messages.
    ///
    /// # Errors
    ///
    /// It is not a component of the world `W`.
    pub fn load<W: World>(
        &self,
        origin: &str,
        bytes: &[u8],
        limits: Limits,
    ) -> Result<Arc<Plugin<W>>, LoadError> {
        let path = || origin.to_owned();
        let metadata = Metadata::read(bytes);
        if wasmparser::Parser::is_core_wasm(bytes) {
            encode::check_world(origin, bytes, &W::KIND)?;
        } else if !wasmparser::Parser::is_component(bytes) {
            return Err(LoadError::NotWasm {
                path: path(),
                what: instead_of_wasm(bytes),
            });
        }
        let compiled = self.cache.compile(&self.wasm, bytes);
        let component = compiled.map_err(|refused| match refused {
            Refused::Encode(reason) => LoadError::Encode {
                path: path(),
                reason: shown_text(&reason),
            },
            Refused::Compile(reason) => LoadError::Compile {
                path: path(),
                reason: shown_text(&reason),
            },
        })?;
        let (imports, exports) = self.check_world(origin, &component, &W::KIND)?;
        let pre = self
            .linker
            .instantiate_pre(&component)
            .and_then(W::find)
            .map_err(|error| LoadError::Mismatch {
                path: path(),
                reason: shown_text(&format!("{error:#}")),
            })?;
        let stem = Path::new(origin)
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        Ok(Arc::new(Plugin {
            name: metadata.name.or(stem).unwrap_or_else(path),
            version: metadata.version.unwrap_or_else(|| "0".into()),
            hash: hex_sha256(bytes),
            size: bytes.len(),
            imports,
            exports,
            limits,
            pre,
            ticker: self.ticker.clone(),
        }))
    }

    /// Checks that the component implements the expected world; returns the names of its imports and exports.
    fn check_world(
        &self,
        origin: &str,
        component: &Component,
        kind: &'static Kind,
    ) -> Result<(Vec<String>, Vec<String>), LoadError> {
        let ty = component.component_type();
        let imports: Vec<String> = ty
            .imports(&self.wasm)
            .map(|(name, _)| name.to_owned())
            .collect();
        let exports: Vec<String> = ty
            .exports(&self.wasm)
            .map(|(name, _)| name.to_owned())
            .collect();
        kind.check_names(origin, &imports, &exports)?;
        let mut all = ty.exports(&self.wasm);
        let exported = all.find(|(name, _)| {
            interface(name).is_some_and(|(interface, _)| interface == kind.interface)
        });
        let functions: Vec<String> = match exported.map(|(_, item)| item.ty) {
            Some(ComponentItem::ComponentInstance(instance)) => instance
                .exports(&self.wasm)
                .map(|(name, _)| name.to_owned())
                .collect(),
            _ => Vec::new(),
        };
        let missing: Vec<String> = kind
            .functions
            .iter()
            .filter(|name| !functions.iter().any(|function| function == *name))
            .map(|name| (*name).to_owned())
            .collect();
        if !missing.is_empty() {
            return Err(LoadError::Missing {
                path: origin.to_owned(),
                kind,
                missing: quoted(&missing),
            });
        }
        Ok((imports, exports))
    }
}

/// What a file is that is no WebAssembly, and what to do, in words.
fn instead_of_wasm(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => {
            "it is a native library or program (ELF); build with --target wasm32-unknown-unknown"
        }
        _ => {
            "it does not begin with \\0asm; give a component or a core module built with wit-bindgen"
        }
    }
}

/// What to do about a component that needs this version of the interface, which the host does not run.
fn advice(needed: Version) -> &'static str {
    match needed < Version::HOST {
        true => "build it with the SDK or against the wit/gateway.wit of this gateway's version",
        false => "update the gateway",
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Most names that a message lists.
const MAX_SHOWN: usize = 8;
/// Longest part of a message that comes from a component, in characters.
const MAX_SHOWN_LEN: usize = 1000;

/// Names from a component, for a message.
pub(super) fn quoted(names: &[String]) -> String {
    let shown = names.iter().take(MAX_SHOWN);
    let mut quoted: Vec<String> = shown
        .map(|name| format!("`{}`", shown_text(name)))
        .collect();
    if names.len() > MAX_SHOWN {
        quoted.push(format!("{} more", names.len() - MAX_SHOWN));
    }
    quoted.join(", ")
}

/// A text that may contain anything that a component or its author wrote, for a message of one line.
pub(super) fn shown_text(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_SHOWN_LEN)
        .collect();
    if text.chars().nth(MAX_SHOWN_LEN).is_some() {
        shown.push('…');
    }
    shown
}

/// How often the ticker checks whether a guest is running.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Advances the engine's epoch while guests run, and sleeps while there are no instances. It polls whether a guest runs
/// instead of being woken by each call: most calls end long before the next poll, and a wake-up per call would cost
/// more.
#[derive(Debug)]
pub struct Ticker {
    instances: AtomicUsize,
    running: AtomicUsize,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> Arc<Ticker> {
        let ticker = Arc::new(Ticker {
            instances: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            thread: std::sync::OnceLock::new(),
        });
        let weak = Arc::downgrade(&ticker);
        let started: std::io::Result<JoinHandle<()>> =
            thread::Builder::new().name("ticker".into()).spawn(move || {
                while let Some(ticker) = weak.upgrade() {
                    let idle = ticker.instances.load(Ordering::Acquire) == 0;
                    let running = ticker.running.load(Ordering::Relaxed) > 0;
                    drop(ticker);
                    if idle {
                        thread::park_timeout(TICK * 200);
                    } else if running {
                        thread::sleep(TICK);
                        engine.increment_epoch();
                    } else {
                        thread::sleep(POLL_INTERVAL);
                    }
                }
            });
        match started {
            Ok(handle) => {
                let _ = ticker.thread.set(handle.thread().clone());
            }
            Err(error) => tracing::error!(
                "cannot start the thread for component deadlines: {error}; endless loops in plugins will not be stopped"
            ),
        }
        ticker
    }

    /// Registers an instance until the guard is dropped.
    pub(super) fn run(self: &Arc<Ticker>) -> TickerGuard {
        if self.instances.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        TickerGuard(self.clone())
    }
}

/// Registration of one instance with the ticker.
#[derive(Debug)]
pub struct TickerGuard(Arc<Ticker>);

impl TickerGuard {
    /// Runs `work`, which calls the guest, with the epoch advancing.
    pub(super) fn during<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Ends the work also if it panics.
        struct Running<'a>(&'a AtomicUsize);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(&self.0.running);
        work()
    }
}

impl Drop for TickerGuard {
    fn drop(&mut self) {
        self.0.instances.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        let engine = Engine::with_cache(Cache::at(None)).unwrap();
        let loaded: Result<Arc<Plugin>, _> = engine.load("some.wasm", bytes, Limits::default());
        loaded.unwrap_err().to_string()
    }

    #[test]
    fn text_is_not_webassembly() {
        assert!(refusal(b"(module)").contains("not WebAssembly"));
        assert_eq!(
            refusal(b"\x7fELF\x02\x01"),
            "some.wasm is not WebAssembly: it is a native library or program (ELF); build with --target \
             wasm32-unknown-unknown"
        );
    }

    #[test]
    fn a_core_module_without_a_component_type_is_refused_with_what_to_do() {
        let module = wat::parse_str("(module (func (export \"push\")))").unwrap();
        let text = refusal(&module);
        assert!(
            text.contains("some.wasm") && text.contains("wit-bindgen"),
            "{text}"
        );
    }

    #[test]
    fn a_component_of_another_world_is_refused_with_what_is_missing() {
        let empty = wat::parse_str("(component)").unwrap();
        assert!(
            refusal(&empty).contains("exports nothing, not `sluicegate:gateway/transport@0.2.0`")
        );
        let partial = wat::parse_str(
            r#"(component
                (core module $m (func (export "leave") (param i64)))
                (core instance $i (instantiate $m))
                (func $leave (param "viewer" u64) (canon lift (core func $i "leave")))
                (instance $t (export "leave" (func $leave)))
                (export "sluicegate:gateway/transport@0.2.0" (instance $t)))"#,
        )
        .unwrap();
        assert!(refusal(&empty).ends_with("(in Rust: `sluicegate_sdk::export!(TYPE)`)"));
        let text = refusal(&partial);
        assert!(
            text.contains("lacks the function `open`, `configure`, `push`")
                && !text.contains("`leave`"),
            "{text}"
        );
    }
}
