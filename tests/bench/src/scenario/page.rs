//! Age of the frame on the screen: the player in a real browser reads the clock shown in the frame.

use crate::{bench::Bench, report::Table};
use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Targets in milliseconds for the median.
const AIMS: [(&str, f64); 2] = [("hls", 800.0), ("mse", 200.0)];
/// Names of Chromium's executable.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Measures every transport that the player knows; `script` opens the pages.
pub fn run(bench: &Bench, script: &Path) -> Result<Table> {
    let seconds = bench.pick(3, 30);
    let found = look(bench, script, seconds)?;
    let mut table = Table::new("page", &["<transport", "median ms", "max ms", "samples"]);
    for age in &found {
        match &age.ms {
            Ok([median, worst]) => table.row([
                age.transport.clone(),
                format!("{median:.0}"),
                format!("{worst:.0}"),
                seconds.to_string(),
            ]),
            Err(problem) => {
                table.note(format!("`{}`: **missed**, {problem}.", age.transport));
            }
        }
    }
    for (transport, aim) in AIMS {
        let age = found.iter().find(|age| age.transport == transport);
        if let Some(Ok([median, _])) = age.map(|age| &age.ms) {
            table.aim(&format!("{transport}, median"), *median, aim, |ms| {
                format!("{ms:.0} ms")
            });
        }
    }
    Ok(table)
}

/// Age of the frame on the screen with one transport.
struct Age {
    transport: String,
    /// Median and maximum, or the reason why there is none.
    ms: Result<[f64; 2], String>,
}

/// Runs the script, which watches each transport for `seconds`.
fn look(bench: &Bench, script: &Path, seconds: u32) -> Result<Vec<Age>> {
    read(&script_output(bench, script, &[seconds.to_string()], None)?)
}

/// Chromium's executable, if there is one.
pub fn browser() -> Option<PathBuf> {
    let set = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let found = || {
        BROWSERS
            .iter()
            .find_map(|name| super::others::on_path(name))
    };
    set.or_else(found)
}

/// Output of a script that opens pages, run with these arguments, in the usual browser or another.
pub fn script_output(
    bench: &Bench,
    script: &Path,
    arguments: &[String],
    other: Option<&Path>,
) -> Result<String> {
    let mut command = Command::new("node");
    command
        .arg(script)
        .args(arguments)
        .env("SLUICEGATE_BIN", &bench.gateway)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if let Some(browser) = other.map(Path::to_owned).or_else(browser) {
        command.env("CHROMIUM", browser);
    }
    let output = command.output().context("cannot run node")?;
    ensure!(
        output.status.success(),
        "{} ended with {}",
        script.display(),
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Parses the script's output.
fn read(text: &str) -> Result<Vec<Age>> {
    let list: Vec<serde_json::Value> =
        serde_json::from_str(text).with_context(|| text.to_owned())?;
    let ages = list.iter().map(|entry| {
        let word = |name: &str| entry[name].as_str().map(str::to_owned);
        let number = |name: &str| {
            entry[name]
                .as_f64()
                .with_context(|| format!("{entry}: no {name}"))
        };
        Ok(Age {
            transport: word("transport").with_context(|| format!("{entry}: not a transport"))?,
            ms: match word("problem") {
                Some(problem) => Err(problem),
                None => Ok([number("median")?, number("worst")?]),
            },
        })
    });
    ages.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_script_says_is_read() {
        let text = r#"[{"transport":"mse","median":160,"worst":171},{"transport":"hls","problem":"nothing"}]"#;
        let ages = read(text).unwrap();
        assert_eq!(ages[0].transport, "mse");
        assert_eq!(ages[0].ms, Ok([160.0, 171.0]));
        assert_eq!(ages[1].ms, Err("nothing".into()));
        for wrong in [
            "",
            "{}",
            r#"[{"transport":"mse"}]"#,
            r#"[{"median":1,"worst":2}]"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
