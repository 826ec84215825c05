//! Writer of the Prometheus text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>). Pure.
//!
//! `/metrics` reads the gateway's counters on request and writes them here; see decision 0026 for why there is no
//! registry of collectors.

use super::Reading;
use std::fmt::{Display, Write};

/// Media type of the format, for `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises. Its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution, written from a [`Reading`].
    Histogram,
}

/// The text written so far.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric family. Its samples are written through the returned value.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        line(
            &mut self.0,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"),
        );
        Family {
            text: &mut self.0,
            name,
        }
    }

    /// The complete text.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A metric family whose samples are being written.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Family<'_> {
    /// Writes one sample. `value` must be an integer or a finite number.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.write("", labels, None, value);
    }

    /// Writes the samples of a histogram: cumulative buckets, sum and count.
    pub fn histogram(&mut self, labels: &[(&str, &str)], reading: &Reading) {
        for (bound, count) in &reading.buckets {
            self.write("_bucket", labels, Some(&bound.to_string()), count);
        }
        self.write("_bucket", labels, Some("+Inf"), reading.count);
        self.write("_sum", labels, None, reading.seconds);
        self.write("_count", labels, None, reading.count);
    }

    fn write(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) {
        let mut all = String::new();
        for (name, value) in labels.iter().copied().chain(bound.map(|le| ("le", le))) {
            let comma = if all.is_empty() { "" } else { "," };
            let _ = write!(all, "{comma}{name}=\"{}\"", escape(value));
        }
        if !all.is_empty() {
            all = format!("{{{all}}}");
        }
        line(
            self.text,
            format_args!("{}{suffix}{all} {value}", self.name),
        );
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Histogram;
    use std::time::Duration;

    #[test]
    fn figures_and_labels_are_written_as_the_format_says() {
        let mut text = Exposition::default();
        let mut family = text.family("a_total", Kind::Counter, "Back\\slash and\nline.");
        family.sample(&[], 3u64);
        family.sample(&[("stream", "a \"b\"\\\n"), ("other", "")], 0.5);
        assert_eq!(
            text.into_text(),
            "# HELP a_total Back\\\\slash and\\nline.\n# TYPE a_total counter\na_total 3\n\
             a_total{stream=\"a \\\"b\\\"\\\\\\n\",other=\"\"} 0.5\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_infinity_sum_and_count() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(2));
        let mut text = Exposition::default();
        text.family("took_seconds", Kind::Histogram, "How long.")
            .histogram(&[("transport", "nal")], &histogram.read());
        let text = text.into_text();
        for line in [
            "took_seconds_bucket{transport=\"nal\",le=\"0.00005\"} 0\n",
            "took_seconds_bucket{transport=\"nal\",le=\"0.0025\"} 1\n",
            "took_seconds_bucket{transport=\"nal\",le=\"+Inf\"} 1\n",
            "took_seconds_sum{transport=\"nal\"} 0.002\n",
            "took_seconds_count{transport=\"nal\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
