//! The interface between gateway and components grows by additions only: a component for an older version plays, and one
//! for a newer version is refused by the version that it needs. `host/plugin/tests/next_interface.rs` is the other half.

use serde_json::Value;
use sluicegate_tests::{Gateway, Raw, command::sluicegate, http_get, raw::masked, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_for_version_0_2_0_uses_all_of_it() {
    let component = Gateway::component("frozen");
    let checked = sluicegate(&["plugin", "test", component.to_str().unwrap()]).await;
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    let gateway = Gateway::with_config(&format!(
        "[streams.demo]\nsource = \"test-pattern\"\n\
         encode = {{ width = 320, height = 192, frame-rate = 30, keyframe-interval = \"500ms\" }}\n\
         [transports.frozen]\nplugin = {component:?}\nsome = \"option\"\n"
    ))
    .await;
    let address = gateway.address;
    let mut viewer = Raw::connect(address).await;
    let head = viewer.upgrade(address, "/live/demo/frozen?lane").await;
    assert_eq!(head.unwrap().status, 101);
    let (_, said) = viewer.frame().await.unwrap();
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said["carrier"], "websocket");
    assert_eq!(
        (&said["view"], &said["fly"], &said["talked"]),
        (&true.into(), &false.into(), &true.into())
    );
    assert_eq!(viewer.frame().await.unwrap(), (1, "header".into()));
    // It chose the lane of texts.
    let (kind, group) = viewer.frame().await.unwrap();
    let group: u64 = String::from_utf8(group.to_vec()).unwrap().parse().unwrap();
    assert!(kind == 1 && group > 0);
    viewer.write(masked(0x81, b"hi")).await;
    let echoed = async { while viewer.frame().await.unwrap() != (1, "hi true".into()) {} };
    within("an echo", echoed).await;

    let (status, head, body) = http_get(address, "/live/demo/frozen/about?x", &[])
        .await
        .unwrap();
    let about: Value = serde_json::from_slice(&body).unwrap();
    assert!(
        status == 200 && head.to_lowercase().contains("etag: \"frozen\""),
        "{head}"
    );
    assert_eq!(
        (&about["about"]["width"], &about["query"]),
        (&320.into(), &"x".into()),
        "{about}"
    );
    assert_eq!(about["about"]["options"]["some"], "option");
    assert_eq!(about["viewers"], 1);

    viewer.write(masked(0x81, b"bye")).await;
    let closed = async { while viewer.frame().await.unwrap().0 != 8 {} };
    within("the end", closed).await;
    gateway.logged("has left after").await;
    let mut refused = Raw::connect(address).await;
    let head = refused.upgrade(address, "/live/demo/frozen?refuse").await;
    assert_eq!(head.unwrap().status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_for_a_newer_version_is_refused_by_the_version_that_it_needs() {
    let component = Gateway::component("next");
    let file = component.to_str().unwrap();
    for command in ["check", "inspect", "test"] {
        let refused = sluicegate(&["plugin", command, file]).await;
        refused.refused(&[
            "needs version 0.2.1 of the interface between gateway and components, and this gateway has 0.2.0",
            "update the gateway",
        ]);
    }
}
