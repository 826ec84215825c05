//! Result tables, printed to standard output and, with `--write`, put between markers in docs/benchmarks.md. Each table
//! states its targets and whether they were met.

use anyhow::{Context, Result};
use std::{fmt::Write, fs, path::Path, process::Command, time::Duration};

/// Results of a scenario.
pub struct Table {
    /// Name of its markers in docs/benchmarks.md.
    pub name: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// Creates an empty table. A column whose head starts with `<` is text, the others are numbers.
    pub fn new(name: &'static str, head: &[&str]) -> Table {
        Table {
            name,
            head: head.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds a sentence that says whether `found` is at most `aim`; `show` formats both.
    pub fn aim(&mut self, what: &str, found: f64, aim: f64, show: impl Fn(f64) -> String) {
        let verdict = if found <= aim { "met" } else { "**missed**" };
        self.note(format!(
            "Target: {what} at most {}: {verdict}, {}.",
            show(aim),
            show(found)
        ));
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        if self.rows.is_empty() {
            return self.notes.join("\n\n") + "\n";
        }
        let mut out = String::new();
        let line = |cells: &mut dyn Iterator<Item = String>| {
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let named = |column: &String| column.trim_start_matches('<').to_owned();
        out += &line(&mut self.head.iter().map(named));
        let side = |column: &String| {
            if column.starts_with('<') {
                "---"
            } else {
                "---:"
            }
            .to_owned()
        };
        out += &line(&mut self.head.iter().map(side)).replace(' ', "");
        for row in &self.rows {
            out += &line(&mut row.iter().cloned());
        }
        for note in &self.notes {
            let _ = write!(out, "\n{note}\n");
        }
        out
    }

    /// Whether an aim was missed.
    pub fn missed(&self) -> bool {
        self.notes.iter().any(|note| note.contains("**missed**"))
    }

    /// Writes the table between its markers, each on a line of its own.
    ///
    /// # Errors
    ///
    /// If the markers are not there.
    pub fn put(&self, file: &Path) -> Result<()> {
        replace(file, self.name, &self.markdown())
    }
}

/// Replaces the text between the markers of this name.
pub fn replace(file: &Path, name: &str, text: &str) -> Result<()> {
    let all = fs::read_to_string(file)?;
    let (begin, end) = (
        format!("<!-- bench:{name} -->\n"),
        format!("<!-- /bench:{name} -->\n"),
    );
    let missing = || {
        format!(
            "{} has no markers {} and {}",
            file.display(),
            begin.trim(),
            end.trim()
        )
    };
    let (before, rest) = all.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(fs::write(
        file,
        format!("{before}{begin}{text}{end}{after}"),
    )?)
}

/// A sentence about the machine and its load just before the run.
pub fn machine() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
    let cpu = read("/proc/cpuinfo")?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let memory = crate::process::field(&read("/proc/meminfo")?, "MemTotal:").unwrap_or(0) / 1024;
    let date = Command::new("date")
        .args(["-u", "+%F %H:%M UTC"])
        .output()?
        .stdout;
    let cores = std::thread::available_parallelism()?;
    let busy = || -> Result<(u64, u64)> {
        let text = read("/proc/stat")?;
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        // The fourth and fifth fields are idle and iowait.
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Ok((ticks.iter().sum::<u64>() - idle, ticks.iter().sum()))
    };
    let before = busy()?;
    std::thread::sleep(Duration::from_secs(2));
    let after = busy()?;
    let others = (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64;
    Ok(format!(
        "{}, {cores} × {}, {memory} MB, Linux {}; in the two seconds before the run other programs used {:.0} % of the processors.",
        String::from_utf8_lossy(&date).trim(),
        model.map_or("processor", |(_, name)| name.trim()),
        read("/proc/sys/kernel/osrelease")?.trim(),
        others * 100.0,
    ))
}

/// Milliseconds with two decimals.
pub fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

/// Megabytes (10^6 bytes) with one decimal.
pub fn mb(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// Median; for an even number of values the mean of the middle two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.get(middle.wrapping_sub(1))) {
        (Some(high), Some(low)) if sorted.len().is_multiple_of(2) => (high + low) / 2.0,
        (Some(one), _) => *one,
        _ => f64::NAN,
    }
}

/// Median with minimum and maximum.
pub fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        1 => format!("{least:.2}"),
        _ => format!("{:.2} ({least:.2}–{most:.2})", median(values)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_table_replaces_what_is_between_its_markers_only() {
        let file = std::env::temp_dir().join(format!("sluicegate-report-{}", std::process::id()));
        fs::write(
            &file,
            "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n<!-- bench:y -->\n<!-- /bench:y -->\n",
        )
        .unwrap();
        let mut table = Table::new("x", &["<what", "ms"]);
        table.row(["one".into(), "2".into()]);
        table.aim("time", 3.0, 2.0, |value| format!("{value} ms"));
        table.put(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(
            text,
            "a\n<!-- bench:x -->\n| what | ms |\n|---|---:|\n| one | 2 |\n\nTarget: time at most 2 ms: **missed**, 3 ms.\n\
             <!-- /bench:x -->\nb\n<!-- bench:y -->\n<!-- /bench:y -->\n"
        );
        assert!(table.missed());
        assert!(replace(&file, "z", "").is_err());
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[1.0, 3.0, 2.0]), "2.00 (1.00–3.00)");
        assert_eq!(spread(&[1.5]), "1.50");
    }
}
