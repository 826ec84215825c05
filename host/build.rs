//! Puts the built-in components and the pages into the binary.

use std::{env, fmt::Write, fs, path::Path, process::exit};

/// The transports that every gateway has, by name, and the policies.
const TRANSPORTS: [&str; 4] = ["hls", "mjpeg", "mse", "nal"];
const POLICIES: [&str; 1] = ["auto"];

fn main() {
    // Where it is now: a build folder may have been moved, or be of several checkouts.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let root = Path::new(&package).join("..");
    let (plugins, web) = (root.join("target/plugins"), root.join("target/web"));
    embed(&plugins, &TRANSPORTS, "plugins.rs");
    embed(&plugins, &POLICIES, "policies.rs");

    println!("cargo::rerun-if-changed={}", web.display());
    let mut files = Vec::new();
    collect(&web, "", &mut files);
    if !files.iter().any(|name| name == "index.html") {
        missing("the pages in target/web");
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
    write_out("pages.rs", &table);
}

/// A table of components, name and bytes.
fn embed(plugins: &Path, names: &[&str], out: &str) {
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

/// FNV-1a: tells versions of a file apart.
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
