//! `/metrics`, read by Prometheus' own parser.

use crate::{Gateway, PATIENCE, http_get, within};
use std::{collections::BTreeMap, process::Stdio, time::Instant};
use tokio::{io::AsyncWriteExt, process::Command};

/// Samples of one scrape.
#[derive(Debug)]
pub struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    /// Scrapes the gateway; fails the test if the text is not valid.
    pub async fn of(gateway: &Gateway) -> Metrics {
        let (status, head, body) = http_get(gateway.address, "/metrics", &[]).await.unwrap();
        assert_eq!(status, 200);
        let media_type = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(head.to_ascii_lowercase().contains(media_type), "{head}");
        // The parser is a system package, so only the system's Python has it.
        let mut parser = Command::new("/usr/bin/python3")
            .arg(Gateway::root().join("tests/fixtures/metrics.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = parser.stdin.take().unwrap();
        stdin.write_all(&body).await.unwrap();
        drop(stdin);
        let parsed = within("the parser", parser.wait_with_output())
            .await
            .unwrap();
        let (said, text) = (
            String::from_utf8_lossy(&parsed.stderr),
            String::from_utf8_lossy(&body),
        );
        assert!(parsed.status.success(), "{said}\n{text}");
        let samples: Vec<serde_json::Value> = serde_json::from_slice(&parsed.stdout).unwrap();
        let read = |sample: serde_json::Value| serde_json::from_value(sample).unwrap();
        Metrics(samples.into_iter().map(read).collect())
    }

    /// Scrapes until the figures satisfy `good`; fails with the last ones after a deadline.
    pub async fn until(gateway: &Gateway, what: &str, good: impl Fn(&Metrics) -> bool) -> Metrics {
        let began = Instant::now();
        loop {
            let metrics = Metrics::of(gateway).await;
            if good(&metrics) {
                return metrics;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: still {metrics:#?}");
        }
    }

    /// Sum of the samples with this name and these labels; fails the test if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let all: Vec<f64> = self.matching(name, labels).collect();
        assert!(!all.is_empty(), "no {name} with {labels:?} in {self:#?}");
        all.iter().sum()
    }

    /// Whether there is a sample with this name and these labels.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// Counters (and the buckets, sums and counts of histograms) that are lower than before.
    pub fn decreased_since<'a>(&'a self, before: &'a Metrics) -> Vec<String> {
        let rises = |name: &str| {
            ["_total", "_bucket", "_count", "_sum"]
                .iter()
                .any(|end| name.ends_with(end))
        };
        let old = before.0.iter().filter(|(name, ..)| rises(name));
        old.filter(|(name, labels, value)| {
            let now = self.0.iter().find(|(n, l, _)| (n, l) == (name, labels));
            now.is_none_or(|(.., now)| now < value)
        })
        .map(|(name, labels, value)| format!("{name} {labels:?} was {value}"))
        .collect()
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = f64> + 'a {
        self.0
            .iter()
            .filter(move |(known, has, _)| {
                known == name
                    && labels
                        .iter()
                        .all(|(label, value)| has.get(*label).is_some_and(|is| is == value))
            })
            .map(|(.., value)| *value)
    }
}
