//! Embeds the files of new projects as tables of path and content, which `src/project.rs` includes: the templates of this
//! package, the examples, the SDKs and the interface. A file `NAME.in` of a template becomes `NAME`.

use std::{env, fmt::Write, fs, path::Path, process::exit};

/// What a project consists of: a file or folder of the repository, and where it goes.
type Parts = &'static [(&'static str, &'static str)];

const RUST: Parts = &[
    ("host/kit/templates/rust", ""),
    ("host/kit/templates/sluicegate.toml.in", "sluicegate.toml"),
    ("examples/plugins/h264/src", "src"),
    (
        "plugins/sdk/Cargo.toml",
        "sluicegate/plugins/sdk/Cargo.toml",
    ),
    ("plugins/sdk/src", "sluicegate/plugins/sdk/src"),
    (
        "plugins/fmp4/Cargo.toml",
        "sluicegate/plugins/fmp4/Cargo.toml",
    ),
    ("plugins/fmp4/src", "sluicegate/plugins/fmp4/src"),
    ("wit", "sluicegate/wit"),
    ("LICENSE", "sluicegate/LICENSE"),
];
const JAVASCRIPT: Parts = &[
    ("plugins/sdk-js/template", ""),
    ("host/kit/templates/sluicegate.toml.in", "sluicegate.toml"),
    ("plugins/sdk-js/sluicegate.js", "sluicegate/sluicegate.js"),
    ("plugins/sdk-js/build.mjs", "sluicegate/build.mjs"),
    ("plugins/sdk-js/gateway.d.ts", "sluicegate/gateway.d.ts"),
    ("wit/gateway.wit", "sluicegate/gateway.wit"),
    ("LICENSE", "sluicegate/LICENSE"),
];

fn main() {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let root = Path::new(&package).join("../..");
    embed(&root, RUST, "rust.rs");
    embed(&root, JAVASCRIPT, "js.rs");
}

/// Writes the table of a project to the file `out` in `OUT_DIR`.
fn embed(root: &Path, parts: Parts, out: &str) {
    let mut files = Vec::new();
    for (from, to) in parts {
        let from = root.join(from);
        println!("cargo::rerun-if-changed={}", from.display());
        collect(&from, to, &mut files);
    }
    files.sort();
    let mut table = String::from("&[");
    for (path, file) in files {
        println!("cargo::rerun-if-changed={file}");
        let path = path.strip_suffix(".in").unwrap_or(&path);
        let _ = write!(table, "({path:?}, include_bytes!({file:?})),");
    }
    table.push(']');
    let out = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join(out);
    if let Err(error) = fs::write(&out, table) {
        eprintln!("cannot write {}: {error}", out.display());
        exit(1);
    }
}

/// Adds a file, or all files of a folder, with their paths in the project and here.
fn collect(from: &Path, to: &str, files: &mut Vec<(String, String)>) {
    if from.is_dir() {
        for entry in fs::read_dir(from).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // What an author's tools have made.
            if name == "node_modules" || name == "target" {
                continue;
            }
            let inside = match to {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            collect(&entry.path(), &inside, files);
        }
        return;
    }
    match fs::canonicalize(from) {
        Ok(file) => files.push((to.to_owned(), file.display().to_string())),
        Err(error) => {
            eprintln!("cannot read {}: {error}", from.display());
            exit(1);
        }
    }
}
