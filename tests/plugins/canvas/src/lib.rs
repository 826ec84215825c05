//! Test transport `canvas`: each WebSocket message is a JPEG, which the half in the browser (`half.js`) draws on a canvas.
//! `whoami` answers with the path and query that were requested, as the component sees them. Other builds have a module
//! that is empty (`E`), too large (`L`) or without a class (`N`), or that panics (`P`) or never returns (`S`) when it is
//! asked for.

// Misbehaviour is a purpose.
#![allow(clippy::panic)]

use sluicegate_sdk::{
    Chunk, Lane, NoOptions, Payload, Profile, Reply, Sample, StreamInfo, Transport,
};

struct Canvas;

impl Transport for Canvas {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        sluicegate_sdk::options::<NoOptions>(options)?;
        let profile = Profile {
            carriers: vec!["websocket".into()],
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

/// The build of this component: its last byte. Tests write other builds by changing that byte in the file.
#[used]
static BUILD: [u8; 16] = *b"canvas's build A";

/// The module for browsers; in other builds it is none that the gateway can use.
fn module() -> String {
    const SOURCE: &str = include_str!("half.js");
    // Read at run time, so that a change in the file counts.
    match std::hint::black_box(&BUILD)[15] {
        b'E' => String::new(),
        b'L' => SOURCE.repeat((1 << 20) / SOURCE.len() + 1),
        b'N' => "export default 5;".into(),
        b'P' => panic!("canvas was told to panic in `module`"),
        b'S' => loop {
            std::hint::black_box(());
        },
        _ => SOURCE.into(),
    }
}

sluicegate_sdk::export!(Canvas, browser: module());
