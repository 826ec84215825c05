//! New projects for components, in a folder of their own, with the SDK.
//!
//! The files are those of the repository, embedded by `build.rs`: the example is the template, so that there is one and it
//! is tested. In text files, `plugin-name`, `{{crate}}` and `{{version}}` stand for the component's name, for that as
//! cargo writes it in the names of files, and for the gateway's version.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Language of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// JavaScript.
    JavaScript,
}

/// Reason why a project cannot be made.
#[derive(Debug, Error)]
pub enum ProjectError {
    /// The name of the folder cannot be the name of a package.
    #[error(
        "`{0}` cannot be the name of a component; use lower-case letters, digits, `-` and `_`, beginning with a letter, and not `policy`"
    )]
    Name(String),
    /// The binary has a component of that name.
    #[error("`{0}` is the name of a component in the gateway; choose another name")]
    Taken(String),
    /// The folder exists.
    #[error("{0} exists already; choose another name, or remove it first")]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        reason: io::Error,
    },
}

/// Path in the project, and content.
type Files = &'static [(&'static str, &'static [u8])];

const RUST: Files = include!(concat!(env!("OUT_DIR"), "/rust.rs"));
const JAVASCRIPT: Files = include!(concat!(env!("OUT_DIR"), "/js.rs"));
/// Longest name, in characters.
const MAX_NAME_LEN: usize = 64;

impl Language {
    fn files(self) -> Files {
        match self {
            Language::Rust => RUST,
            Language::JavaScript => JAVASCRIPT,
        }
    }

    /// What to type next.
    fn steps(self, folder: &Path, name: &str) -> String {
        let build = match self {
            Language::Rust => format!(
                "rustup target add wasm32-unknown-unknown   # once; Debian's cargo: apt install libstd-rust-dev-wasm32\n\
                 cargo build --release --target wasm32-unknown-unknown\n\
                 cp target/wasm32-unknown-unknown/release/{}.wasm {name}.wasm",
                crate_name(name)
            ),
            Language::JavaScript => "npm ci && npm run build".to_owned(),
        };
        format!(
            "cd {}\n{build}\nsluicegate plugin test {name}.wasm\nsluicegate serve --config sluicegate.toml\n",
            folder.display()
        )
    }
}

/// Makes the folder with a project in that language, named after the folder. `taken` are the names of the components in
/// the binary. Returns the commands to type next.
///
/// # Errors
/// The name is not valid or taken, the folder exists, or a file cannot be written.
pub fn create(language: Language, folder: &Path, taken: &[&str]) -> Result<String, ProjectError> {
    // Of `..` it is missing.
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    let name = name.to_string_lossy().into_owned();
    let is_fine = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
        && name.len() <= MAX_NAME_LEN;
    // In a config it means the policy.
    if !is_fine || name == "policy" {
        return Err(ProjectError::Name(name));
    }
    if taken.contains(&name.as_str()) {
        return Err(ProjectError::Taken(name));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |reason| ProjectError::Write { path, reason }
    };
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(ProjectError::Exists(folder.to_owned()));
        }
        Err(error) => return Err(failed(folder)(error)),
    }
    for (path, content) in language.files() {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        let mut file = fs::File::create_new(&path).map_err(failed(&path))?;
        file.write_all(&filled_in(content, &name))
            .map_err(failed(&path))?;
    }
    Ok(language.steps(folder, &name))
}

/// The name of a package in the names of the files that cargo makes.
fn crate_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The content with the name of the project.
fn filled_in(content: &[u8], name: &str) -> Vec<u8> {
    match std::str::from_utf8(content) {
        Ok(text) => text
            .replace("plugin-name", name)
            .replace("{{crate}}", &crate_name(name))
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
            .into_bytes(),
        Err(_) => content.to_owned(),
    }
}
