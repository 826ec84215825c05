//! A component for the interface as it might be in its next version: it calls a function and exports an interface that
//! version 0.2.0 does not have. `plugins/build` makes that version; see `tests/frozen/README.md`.

use sluicegate_sdk::{
    Chunk, Lane, Payload, Profile, Reply, Sample, StreamInfo, Transport,
    bindings::sluicegate::gateway::viewers,
};

struct Next;

impl Transport for Next {
    fn open(_: &str) -> Result<(Self, Profile), String> {
        let profile = Profile {
            carriers: vec!["websocket".into()],
            formats: vec!["h264/annexb".into()],
            lanes: vec![Lane::new(2000)],
            ..Profile::default()
        };
        Ok((Next, profile))
    }

    fn configure(&mut self, _: &StreamInfo) -> Vec<Payload> {
        vec![]
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        vec![sample.into()]
    }

    fn request(&self, _: &str, _: &str) -> Reply {
        Reply::text(200, format!("{} viewers", viewers::count()))
    }
}

sluicegate_sdk::export!(Next);

mod addition {
    #![allow(unsafe_code)]
    wit_bindgen::generate!({ path: "sluicegate/wit", world: "addition" });

    struct Half;

    impl exports::sluicegate::gateway::greeting::Guest for Half {
        fn greet() -> String {
            "hello".into()
        }
    }

    export!(Half);
}
