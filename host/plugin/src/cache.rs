//! Cache of compiled components, kept between starts in a folder that only this user can write to.
//!
//! An entry is named by the hash of the component and of the engine's settings, and has a checksum in front; whatever
//! does not match is compiled again. The entries that were not used for longest are deleted when there are too many.
//! Called by `Engine::load`.

use super::{
    compile::{Refused, compile, turn},
    engine::hex_sha256,
};
use sha2::{Digest, Sha256};
use sluicegate_config::private;
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};
use wasmtime::component::Component;

/// Size in bytes of the checksum in front of the compiled code.
const CHECKSUM: usize = 32;
/// Size in bytes of all entries together: about a thousand small components, or one of the largest.
const MAX_CACHE_BYTES: u64 = 256 << 20;

/// A private folder with compiled code.
#[derive(Debug)]
pub struct Cache {
    dir: Option<PathBuf>,
}

impl Cache {
    /// The cache in `$XDG_CACHE_HOME/sluicegate/compiled` or `~/.cache/sluicegate/compiled`; without either, nothing is
    /// cached.
    pub fn for_user() -> Cache {
        let dir = private::folder("XDG_CACHE_HOME", ".cache", "compiled");
        if dir.is_none() {
            tracing::info!(
                "compiled components are not cached: neither XDG_CACHE_HOME nor HOME is an absolute path"
            );
        }
        Cache::at(dir)
    }

    /// The cache in that folder, which is created if needed. Nothing is cached if other users can write to it.
    pub fn at(dir: Option<PathBuf>) -> Cache {
        let dir = dir.filter(|dir| match private::make(dir) {
            Ok(()) => true,
            Err(reason) => {
                tracing::info!(
                    "compiled components are not cached: {}: {reason}",
                    dir.display()
                );
                false
            }
        });
        Cache { dir }
    }

    /// Whether the cache has the component.
    pub fn has(&self, engine: &wasmtime::Engine, wasm: &[u8]) -> bool {
        let dir = self.dir.as_ref();
        dir.is_some_and(|dir| dir.join(key(engine, wasm)).exists())
    }

    /// Returns the compiled component, from the cache or from the compiler.
    ///
    /// # Errors
    /// It does not compile, or exceeds the compiler's limits.
    pub fn compile(&self, engine: &wasmtime::Engine, wasm: &[u8]) -> Result<Component, Refused> {
        let path = self.dir.as_ref().map(|dir| dir.join(key(engine, wasm)));
        if let Some(component) = path.as_ref().and_then(|path| load(engine, path)) {
            return Ok(component);
        }
        let _turn = turn();
        // The caller that had the turn before may have compiled the same component.
        if let Some(component) = path.as_ref().and_then(|path| load(engine, path)) {
            return Ok(component);
        }
        let compiled = compile(engine, wasm)?;
        let checksum = Sha256::digest(&compiled);
        if let (Some(dir), Some(path)) = (&self.dir, path)
            && let Err(error) = write(dir, &path, &[checksum.as_slice(), &compiled])
        {
            tracing::info!("cache of compiled components: {}: {error}", path.display());
        }
        let component = deserialize(engine, &compiled);
        component.map_err(|error| Refused::Compile(format!("{error:#}")))
    }
}

fn key(engine: &wasmtime::Engine, wasm: &[u8]) -> String {
    let mut compatible = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut compatible);
    format!("{}-{:016x}", hex_sha256(wasm), compatible.finish())
}

fn load(engine: &wasmtime::Engine, path: &Path) -> Option<Component> {
    let bytes = private::read(path)?;
    let (checksum, compiled) = bytes.split_at_checked(CHECKSUM)?;
    if checksum != Sha256::digest(compiled).as_slice() {
        return None;
    }
    let component = deserialize(engine, compiled).ok()?;
    // The time of its last use, for `delete_oldest`. Where it cannot be set, the entry counts as old, no more.
    let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    Some(component)
}

/// Writes an entry, for which others make room first: the folder may be full because of them.
fn write(dir: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    delete_oldest(dir, MAX_CACHE_BYTES.saturating_sub(bytes as u64))?;
    private::write(path, parts)
}

/// Deletes the entries that were not used for longest until the others take at most `max` bytes.
fn delete_oldest(dir: &Path, max: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Another gateway may have deleted it meanwhile.
        if let Ok(metadata) = entry.metadata() {
            entries.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    entries.sort_unstable_by(|one, other| other.cmp(one));
    let mut bytes = 0;
    for (_, size, path) in entries {
        bytes += size;
        if bytes > max
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Loads compiled code. The one exception to the ban on `unsafe`: wasmtime trusts compiled code as it trusts itself.
///
/// The bytes are either what this same program's compiler just returned, in this process or in a child that it started,
/// or a file of this user, mode 0600, in a folder of mode 0700, whose checksum matches. Whoever can write there can
/// replace this program, too.
#[allow(unsafe_code)]
fn deserialize(engine: &wasmtime::Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: see above: only output of this engine's own compiler gets here.
    unsafe { Component::deserialize(engine, compiled) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    fn scratch(name: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("sluicegate-cache-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn a_second_start_reads_what_the_first_compiled_and_damage_is_noticed() {
        let dir = scratch("reuse");
        let engine = wasmtime::Engine::default();
        let wasm = wat::parse_str("(component)").unwrap();
        Cache::at(Some(dir.clone()))
            .compile(&engine, &wasm)
            .unwrap();
        let file = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
        assert!(load(&engine, &file).is_some());
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(load(&engine, &file).is_none());
        Cache::at(Some(dir.clone()))
            .compile(&engine, &wasm)
            .unwrap();
        assert!(load(&engine, &file).is_some());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_entries_that_were_not_used_for_longest_are_deleted() {
        let dir = scratch("bound");
        let cache = Cache::at(Some(dir.clone()));
        let engine = wasmtime::Engine::default();
        let components = [
            "(component)",
            "(component (type u8))",
            "(component (type u16))",
        ];
        let paths = components.map(|text| {
            let wasm = wat::parse_str(text).unwrap();
            cache.compile(&engine, &wasm).unwrap();
            dir.join(key(&engine, &wasm))
        });
        let then = SystemTime::now() - Duration::from_secs(3600);
        for path in &paths {
            fs::File::open(path).unwrap().set_modified(then).unwrap();
        }
        assert!(load(&engine, &paths[1]).is_some());
        let size = fs::metadata(&paths[1]).unwrap().len();
        delete_oldest(&dir, size).unwrap();
        assert_eq!(paths.map(|path| path.exists()), [false, true, false]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_is_not_used() {
        let dir = scratch("open");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::at(Some(dir.clone())).dir.is_none());
        fs::remove_dir_all(dir).unwrap();
    }
}
