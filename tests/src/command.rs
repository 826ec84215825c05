//! Runs `sluicegate` to its end, for tests of its output and exit code.

use crate::{Gateway, PATIENCE, scratch};
use std::{path::PathBuf, process::Output};
use tokio::process::Command;

/// Result of a command that has ended.
#[derive(Debug)]
pub struct CommandResult {
    /// Exit code; `None` if a signal ended the command.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for CommandResult {
    fn from(output: Output) -> CommandResult {
        CommandResult {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl CommandResult {
    /// Fails the test unless the command failed with an error that contains all `parts`.
    pub fn refused(&self, parts: &[&str]) {
        self.ended_with(1, parts);
    }

    /// Fails the test unless the command refused its arguments with an error that contains all `parts`.
    pub fn misused(&self, parts: &[&str]) {
        self.ended_with(2, parts);
    }

    fn ended_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in {self:#?}");
        }
    }
}

/// Runs `sluicegate` with these arguments.
pub async fn sluicegate(arguments: &[&str]) -> CommandResult {
    let binary = Gateway::binary();
    try_tool(binary.to_str().unwrap(), arguments).await
}

/// Writes a config to a file `sluice.toml` in a directory of its own.
pub fn config_file(text: &str) -> PathBuf {
    let file = scratch("config").join("sluice.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Runs `sluicegate check` on this config.
pub async fn check(config: &str) -> CommandResult {
    let file = config_file(config);
    sluicegate(&["check", file.to_str().unwrap()]).await
}

/// Runs another program, which must succeed; returns its standard output.
pub async fn tool(program: &str, arguments: &[&str]) -> String {
    let CommandResult { code, out, err } = try_tool(program, arguments).await;
    assert_eq!(code, Some(0), "{program} {arguments:?}: {err}");
    out
}

/// Runs a program. It may compile or fetch something, so it has more time than anything else.
pub async fn try_tool(program: &str, arguments: &[&str]) -> CommandResult {
    let command = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(4 * PATIENCE, command).await;
    let output = output
        .unwrap_or_else(|_| panic!("timed out: {program} {arguments:?}"))
        .unwrap();
    output.into()
}
