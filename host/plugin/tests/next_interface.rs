//! A host of the next version of the interface runs components for it, and the frozen one of version 0.2.0 as before.
//!
//! ```sh
//! plugins/build brittle
//! cargo test --workspace --features sluicegate-plugin/next-interface --test next_interface
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use sluicegate_plugin::{
    Engine, Instance, Limits, Plugin, Version,
    recording::{Answer, Call, Effected, Payload, Record, Viewer},
};
use std::{path::Path, sync::Arc};

fn load(name: &str) -> Arc<Plugin> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins");
    let engine = Engine::new().unwrap();
    engine
        .load_file(&file.join(format!("{name}.wasm")), Limits::default())
        .unwrap()
}

fn request(instance: &mut Instance, path: &str) -> String {
    let asked = instance.make(Call::Request {
        path: path.into(),
        query: String::new(),
    });
    match asked.answer {
        Some(Answer::Response(response)) => {
            String::from_utf8(response.body.0.to_bytes().to_vec()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn join(instance: &mut Instance, viewer: u64, query: &str) -> Record {
    instance.make(Call::Join(Viewer {
        viewer,
        carrier: "websocket".into(),
        path: String::new(),
        query: query.into(),
        protocol: Some("frozen".into()),
        roles: vec!["view".into()],
    }))
}

#[test]
fn a_component_for_the_next_version_runs() {
    assert_eq!(Version::HOST.to_string(), "0.2.1");
    let next = load("next");
    assert!(
        next.exports
            .contains(&"sluicegate:gateway/greeting@0.2.1".into())
    );
    let (mut instance, _) = Instance::open(&next, "demo", "{}", Arc::default()).unwrap();
    assert_eq!(request(&mut instance, ""), "0 viewers");
    for viewer in [4, 5] {
        assert_eq!(join(&mut instance, viewer, "").answer, Some(Answer::Done));
    }
    assert_eq!(request(&mut instance, ""), "2 viewers");
}

#[test]
fn a_component_for_version_0_2_0_runs_as_before() {
    let frozen = load("frozen");
    assert!(
        frozen
            .exports
            .contains(&"sluicegate:gateway/transport@0.2.0".into())
    );
    let opened = Instance::open(&frozen, "demo", r#"{"refuse": true}"#, Arc::default());
    assert!(opened.unwrap_err().to_string().contains("refused as told"));
    let (mut instance, profile) = Instance::open(&frozen, "demo", "{}", Arc::default()).unwrap();
    assert_eq!((profile.label.as_str(), profile.history), ("Frozen", 2));
    let record = join(&mut instance, 7, "lane");
    assert!(record.keyframe);
    let [
        (7, Effected::StreamHead { .. }),
        (7, Effected::Reply { .. }),
        (7, Effected::Send(said)),
        (7, Effected::Choose(lanes)),
    ] = &record.requested[..]
    else {
        panic!("{record:?}");
    };
    assert_eq!(*lanes, [1]);
    let Payload::Text(said) = said else {
        panic!("{said:?}");
    };
    for part in [
        r#""id":7"#,
        r#""protocol":"frozen""#,
        r#""view":true"#,
        r#""fly":false"#,
        r#""talked":true"#,
    ] {
        assert!(said.contains(part), "{said}");
    }
    let received = |instance: &mut Instance, text: &str| {
        let message = Payload::Text(text.into());
        instance
            .make(Call::Received { viewer: 7, message })
            .requested
    };
    assert_eq!(
        received(&mut instance, "hi"),
        [(7, Effected::Send(Payload::Text("hi true".into())))]
    );
    assert_eq!(
        received(&mut instance, "bye"),
        [(7, Effected::Close("as you say".into()))]
    );
    let refused = join(&mut instance, 8, "refuse");
    assert_eq!(refused.answer, Some(Answer::Refused("not you".into())));
    assert_eq!(
        instance.make(Call::Leave { viewer: 7 }).answer,
        Some(Answer::Done)
    );
}
