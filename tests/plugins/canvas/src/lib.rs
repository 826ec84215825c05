//! Test transport `canvas`: each WebSocket message is a JPEG, which the half in the browser (`half.js`) draws on a canvas.
//! `whoami` answers with the path and query that were requested, as the component sees them.

use sluicegate_sdk::{
    Chunk, Lane, NoOptions, Payload, Profile, Reply, Sample, StreamInfo, Transport,
};

struct Canvas;

impl Transport for Canvas {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        sluicegate_sdk::options::<NoOptions>(options)?;
        let profile = Profile {
            carriers: vec!["websocket".into(), "http".into()],
            formats: vec!["jpeg".into()],
            lanes: vec![Lane::new(0)],
            repeat_ms: 250,
            latency_ms: 60,
            label: "Canvas".into(),
            ..Profile::default()
        };
        Ok((Canvas, profile))
    }

    fn configure(&mut self, _: &StreamInfo) -> Vec<Payload> {
        vec![]
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        vec![sample.into()]
    }

    fn request(&self, path: &str, query: &str) -> Reply {
        match path {
            "whoami" => Reply::text(200, format!("{path}?{query}\n")),
            _ => Reply::not_found(path),
        }
    }
}

sluicegate_sdk::export!(Canvas, browser: include_str!("half.js"));
