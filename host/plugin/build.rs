//! Embeds the built-in components (`target/plugins`) in the library, as tables of name and bytes that
//! `src/transports.rs` and `src/policy.rs` include. The components are built before, by `make build`.

use std::{env, fmt::Write, fs, path::Path, process::exit};

/// Names of the built-in transports.
const TRANSPORTS: [&str; 4] = ["hls", "mjpeg", "mse", "nal"];
/// Names of the built-in policies.
const POLICIES: [&str; 1] = ["auto"];

fn main() {
    // The variable at run time, not `env!`: a build folder may have been moved, or be shared by several checkouts.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let plugins = Path::new(&package).join("../../target/plugins");
    embed(&plugins, &TRANSPORTS, "plugins.rs");
    embed(&plugins, &POLICIES, "policies.rs");
}

/// Writes a table of components, with name and bytes, to the file `out` in `OUT_DIR`.
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
