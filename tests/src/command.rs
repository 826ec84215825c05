//! `sluicegate` run to its end, for what it says and how it exits.

use crate::{Gateway, scratch, within};
use std::path::PathBuf;
use tokio::process::Command;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Fails the test unless it exited with an error that has all `parts` in it.
    pub fn refused(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in {self:#?}");
        }
    }
}

/// Runs it with these arguments.
pub async fn sluicegate(arguments: &[&str]) -> Ended {
    let command = Command::new(Gateway::binary())
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = within(&format!("sluicegate {arguments:?}"), command)
        .await
        .unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Writes a config to a file `sluice.toml` in a folder of its own.
pub fn config_file(text: &str) -> PathBuf {
    let file = scratch("config").join("sluice.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// `sluicegate check` on that config.
pub async fn check(config: &str) -> Ended {
    let file = config_file(config);
    sluicegate(&["check", file.to_str().unwrap()]).await
}

/// Another program's standard output; it must end well.
pub async fn tool(program: &str, arguments: &[&str]) -> String {
    let command = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = within(program, command).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
