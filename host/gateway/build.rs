//! Embeds what `make build` has built before: the built-in components (`target/plugins`) as tables of name and bytes,
//! which `src/gateway/built_in.rs` includes, and the web pages (`target/web`) as a table of path, fingerprint and
//! content, which `src/api/pages.rs` includes.

use std::{env, fmt::Write, fs, path::Path, process::exit};

/// Names of the built-in transports.
const TRANSPORTS: [&str; 5] = ["hls", "mjpeg", "mse", "nal", "webcodecs"];
/// Names of the built-in policies; the first is the default.
const POLICIES: [&str; 1] = ["auto"];

fn main() {
    // The variable at run time, not `env!`: a build folder may have been moved, or be shared by several checkouts.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let target = Path::new(&package).join("../../target");
    embed_components(&target.join("plugins"), &TRANSPORTS, "transports.rs");
    embed_components(&target.join("plugins"), &POLICIES, "policies.rs");
    embed_pages(&target.join("web"), "pages.rs");
}

/// Writes a table of components, with name and bytes, to the file `out` in `OUT_DIR`.
fn embed_components(plugins: &Path, names: &[&str], out: &str) {
    let mut table = String::from("&[");
    for name in names {
        let file = plugins.join(format!("{name}.wasm"));
        println!("cargo::rerun-if-changed={}", file.display());
        if !file.is_file() {
            missing(&format!("the component target/plugins/{name}.wasm"));
        }
        let _ = write!(table, "({name:?}, include_bytes!({:?})),", absolute(&file));
    }
    table.push(']');
    write_out(out, &table);
}

/// Writes a table of pages, with path, fingerprint and content, to the file `out` in `OUT_DIR`.
fn embed_pages(web: &Path, out: &str) {
    println!("cargo::rerun-if-changed={}", web.display());
    let mut files = Vec::new();
    collect(web, "", &mut files);
    if !files.iter().any(|name| name == "index.html") {
        missing("the web pages in target/web");
    }
    files.sort();
    let mut table = String::from("&[");
    for name in files {
        let file = web.join(&name);
        println!("cargo::rerun-if-changed={}", file.display());
        let content = fs::read(&file).unwrap_or_default();
        let _ = write!(
            table,
            "({name:?}, \"{:016x}\", include_bytes!({:?})),",
            fingerprint(&content),
            absolute(&file)
        );
    }
    table.push(']');
    write_out(out, &table);
}

/// Adds the paths of all files below `dir`, relative to the first call's directory, to `files`.
fn collect(dir: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.push(name);
        }
    }
}

/// FNV-1a hash of a file, from which its `ETag` is made.
fn fingerprint(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn absolute(path: &Path) -> String {
    fs::canonicalize(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}

fn write_out(name: &str, content: &str) {
    let out = env::var("OUT_DIR").unwrap_or_default();
    if let Err(error) = fs::write(Path::new(&out).join(name), content) {
        eprintln!("cannot write {name}: {error}");
        exit(1);
    }
}

fn missing(what: &str) -> ! {
    eprintln!("{what} must be built first: run `make build` at the top of the repository, once");
    exit(1);
}
