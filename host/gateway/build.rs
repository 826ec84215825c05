//! Embeds the built web pages (`target/web`) in the binary, as a table of name, fingerprint and content that
//! `src/api/pages.rs` includes. The pages are built before, by `make build`.

use std::{env, fmt::Write, fs, path::Path, process::exit};

fn main() {
    // The variable at run time, not `env!`: a build folder may have been moved, or be shared by several checkouts.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let web = Path::new(&package).join("../../target/web");
    println!("cargo::rerun-if-changed={}", web.display());
    let mut files = Vec::new();
    collect(&web, "", &mut files);
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
    write_out("pages.rs", &table);
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
