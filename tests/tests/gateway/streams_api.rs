//! Streams that are added, changed and removed while the gateway runs.

use serde_json::{Value, json};
use sluicegate_tests::{
    Camera, Gateway, Nal, Watcher,
    accounts::{PASSWORD, basic, call, user},
    camera,
    client::request_with,
    config_file::Reloading,
    scratch, within,
};
use std::process::Stdio;

async fn put(served: &Reloading, name: &str, body: Value) -> (u16, Value) {
    let path = format!("/api/streams/{name}");
    served.post("PUT", &path, &body.to_string()).await
}

async fn delete(served: &Reloading, name: &str) -> (u16, Value) {
    served
        .post("DELETE", &format!("/api/streams/{name}"), "")
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_kept_beside_the_config() {
    let state = scratch("streams").join("state.json");
    let config = format!(
        "[server]\nstate = '{}'\n[streams.demo]\nsource = 'test-pattern'\n",
        state.display()
    );
    let mut camera = Camera::new(camera::clip()).await;
    let mut served = Reloading::serve(&config).await;
    let source = camera.feeder.source();
    let address = source.rsplit_once("//").unwrap().1;
    let secret = format!("annexb:tcp://eva:hunter2@{address}");
    let (status, refused) = put(&served, "door", json!({ "source": secret })).await;
    assert_eq!(status, 400, "{refused:#}");
    let (status, added) = put(&served, "door", json!({ "source": source, "idle": "30s" })).await;
    assert_eq!(status, 201, "{added:#}");
    assert_eq!(
        (&added["name"], &added["kept"]),
        (&json!("door"), &json!("state"))
    );
    assert_eq!(added["settings"], json!({ "idle": "30s" }));
    let mut viewer = Watcher::open(served.gateway.address, "/live/door/nal", camera::clip()).await;
    camera.show(&mut viewer).await;
    // Without a source, the one there is stays, and so does the viewer.
    let renditions = json!({ "renditions": { "small": { "width": 160 } } });
    let (status, changed) = put(&served, "door", renditions.clone()).await;
    assert_eq!((status, &changed["settings"]), (200, &renditions));
    camera.show(&mut viewer).await;
    let (path, new) = ("/api/streams/door", [("If-None-Match", "*")]);
    let address = served.gateway.address;
    let refused = request_with(address, "PUT", path, &new, b"{}")
        .await
        .unwrap();
    assert_eq!(refused.0, 412);
    let device = served.gateway.api("/api/devices/door").await;
    assert_eq!(device["renditions"], json!(["small"]));
    // A reload of the file changes nothing about it.
    served.reload(&config).await;
    camera.show(&mut viewer).await;
    let written = std::fs::read_to_string(&served.file).unwrap();
    assert_eq!(written, config, "the user's own file");

    let arguments = ["serve", "--listen", "127.0.0.1:0", "--config"];
    let arguments = [&arguments[..], &[served.file.to_str().unwrap()]].concat();
    let (restarted, _) = Gateway::start(&arguments, Stdio::null()).await;
    served.gateway = restarted;
    let list = served.gateway.api("/api/streams").await;
    let kept = |list: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = list.as_array().unwrap().iter();
        all.map(|one| (text(&one["name"]), text(&one["kept"])))
            .collect()
    };
    let pair = |name: &str, kept: &str| (name.to_owned(), kept.to_owned());
    assert_eq!(kept(&list), [pair("demo", "config"), pair("door", "state")]);
    camera.hang_up();
    let address = served.gateway.address;
    let mut viewer = Nal::open(address, "/live/door/nal").await.unwrap();
    camera.send().await;
    within("the header", viewer.next()).await.unwrap();
    let (status, removed) = delete(&served, "door").await;
    assert_eq!((status, &removed["name"]), (200, &json!("door")));
    let closed = within("the end", viewer.closed()).await.unwrap().unwrap();
    assert_eq!(closed.reason, "the stream was removed");
    assert_eq!(delete(&served, "door").await.0, 404);
    let list = served.gateway.api("/api/streams").await;
    assert_eq!(kept(&list), [pair("demo", "config")]);

    // The config wins over what was added before.
    put(&served, "door", json!({ "source": "test-pattern" })).await;
    let both = format!("{config}[streams.door]\nsource = 'test-pattern'\n");
    let reloaded = served.reload(&both).await;
    assert!(
        reloaded["notes"].to_string().contains("`door`"),
        "{reloaded:#}"
    );
    assert_eq!(
        put(&served, "door", json!({ "source": "test-pattern" }))
            .await
            .0,
        409
    );
    served.gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_stream_is_told_and_nothing_is_kept() {
    let state = scratch("streams").join("state.json");
    let config = format!(
        "[server]\nstate = '{}'\n[streams.demo]\nsource = 'test-pattern'\n",
        state.display()
    );
    let served = Reloading::serve(&config).await;
    let long = "x".repeat(129);
    for (source, what) in [
        ("rtsp://cam/\r\nQUIT", "line break"),
        ("10.0.0.7:554/hunter2", "rtsp://10.0.0.7:554/PATH"),
    ] {
        let (status, answer) = put(&served, "new", json!({ "source": source })).await;
        let text = answer["error"].as_str().unwrap();
        assert!(
            status == 400 && text.contains(what) && !text.contains("hunter2"),
            "{text}"
        );
    }
    let many: serde_json::Map<String, Value> = (0..33)
        .map(|nth| (format!("r{nth}"), json!({ "width": 160 })))
        .collect();
    for (name, body, status, what) in [
        (
            "demo",
            json!({ "source": "test-pattern" }),
            409,
            "changed there",
        ),
        ("new", json!({}), 400, "`source` is missing"),
        ("new", json!({ "source": "" }), 400, "is empty"),
        (
            "new",
            json!({ "soruce": "x" }),
            400,
            "did you mean `source`",
        ),
        (
            "new",
            json!({ "source": "rtps://u:hunter2@cam/1" }),
            400,
            "did you mean `rtsp`",
        ),
        ("new", json!({ "source": null }), 400, "null"),
        ("new", json!({ "source": 7 }), 400, "expected"),
        (
            "new",
            json!({ "source": "test-pattern", "idle": 5 }),
            400,
            "idle",
        ),
        (
            "new",
            json!({ "source": "file:/etc/passwd" }),
            403,
            "config",
        ),
        (
            "new",
            json!({ "source": "lavfi:movie=/etc/passwd" }),
            403,
            "config",
        ),
        ("new", json!({ "source": "screen:" }), 403, "config"),
        ("new", json!({ "source": "annexb:-" }), 403, "config"),
        (
            "new",
            json!({ "source": "annexb:listen:5000" }),
            403,
            "config",
        ),
        (
            "~new",
            json!({ "source": "test-pattern" }),
            400,
            "must not start with",
        ),
        (
            &long,
            json!({ "source": "test-pattern" }),
            400,
            "longer than 128",
        ),
        ("new", json!([]), 400, "JSON object"),
        (
            "new",
            json!({ "source": "tls://cam:1?cert=/etc/passwd" }),
            403,
            "config",
        ),
        (
            "new",
            json!({ "source": "test-pattern", "renditions": many }),
            400,
            "more than 32",
        ),
        (
            "new",
            json!({ "source": format!("rtsp://cam/{}", "x".repeat(9000)) }),
            400,
            "8 KiB",
        ),
    ] {
        let (found, answer) = put(&served, name, body.clone()).await;
        assert_eq!(found, status, "{body}: {answer:#}");
        let text = answer["error"].as_str().unwrap();
        assert!(text.contains(what), "{body}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(delete(&served, "demo").await.0, 409);
    let list = served.gateway.api("/api/streams").await;
    assert_eq!(list.as_array().unwrap().len(), 1, "{list:#}");
    assert!(served.gateway.logs("hunter2").is_empty());
    served.gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_the_config_does_not_go_with_is_undone_in_the_file_too() {
    let state = scratch("streams").join("state.json");
    let config = format!(
        "[server]\nstate = '{}'\n[streams.demo]\nsource = 'test-pattern'\n",
        state.display()
    );
    let served = Reloading::serve(&config).await;
    let small = json!({ "source": "test-pattern", "renditions": { "small": { "width": 160 } } });
    assert_eq!(put(&served, "door", small.clone()).await.0, 201);
    let rule = "[[clients]]\nmatch = { stream = 'door' }\nrendition = ['small']\n";
    served.reload(&format!("{config}{rule}")).await;
    let kept = || std::fs::read_to_string(&state).unwrap();
    let before = kept();
    let (status, refused) = delete(&served, "door").await;
    assert_eq!(status, 422, "{refused:#}");
    assert!(refused["error"].to_string().contains("door"), "{refused:#}");
    let (status, refused) = put(&served, "door", json!({})).await;
    assert_eq!(status, 422, "{refused:#}");
    assert_eq!(kept(), before);
    served.gateway.assert_serves("door@small").await;
    served.reload(&config).await;
    assert_eq!(put(&served, "door", json!({})).await.0, 200);
    assert_eq!(delete(&served, "door").await.0, 200);
    // The state file cannot be written: what is in force stays what is stored.
    put(&served, "door", json!({ "source": "test-pattern" })).await;
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    let (status, refused) = put(&served, "gate", json!({ "source": "test-pattern" })).await;
    assert_eq!(status, 500, "{refused:#}");
    let devices = served.gateway.api("/api/devices").await;
    assert!(!devices.to_string().contains("gate"), "{devices:#}");
    served.gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_administers_one_stream_gets_at_no_other() {
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!(
        "[server]\nnames = ['cam.example']\n{}{}{}",
        camera.config(),
        user("eva", "admin = ['mine*']\nview = ['mine*']\n"),
        user("root", "admin = ['*']\nview = ['*']\n"),
    );
    let served = Reloading::serve(&config).await;
    let gateway = &served.gateway;
    let eva = basic("eva", PASSWORD);
    let ask = async |method: &str, path: &str, body: Value| {
        call(gateway, method, path, ("Authorization", &eva), &body).await
    };
    let own = format!("http://{}/live/cam/mjpeg", gateway.address);
    for (method, path, body, status) in [
        (
            "PUT",
            "/api/streams/cam",
            json!({ "source": "test-pattern" }),
            404,
        ),
        ("DELETE", "/api/streams/cam", Value::Null, 404),
        (
            "PUT",
            "/api/streams/other",
            json!({ "source": "test-pattern" }),
            404,
        ),
        (
            "PUT",
            "/api/streams/mine",
            json!({ "source": "android:x" }),
            403,
        ),
        (
            "PUT",
            "/api/streams/mine",
            json!({ "source": "v4l2:/dev/video0" }),
            403,
        ),
        (
            "POST",
            "/api/try",
            json!({ "source": "v4l2:/dev/video0" }),
            403,
        ),
        ("POST", "/api/try", json!({ "source": own }), 422),
        ("POST", "/api/config/reload", Value::Null, 403),
        (
            "PUT",
            "/api/streams/mine",
            json!({ "source": own, "always-on": true }),
            201,
        ),
    ] {
        let (found, answer) = ask(method, path, body.clone()).await;
        assert_eq!(found, status, "{method} {path} {body}: {answer:#}");
    }
    let (_, list) = ask("GET", "/api/streams", Value::Null).await;
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["mine"]);
    // The gateway asks itself as a stranger, and not as somebody on its own machine.
    let (_, refused) = ask("POST", "/api/try", json!({ "source": own })).await;
    let text = refused["error"].as_str().unwrap();
    assert!(text.contains("user name and password"), "{text}");
    let mut viewer = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    camera.show(&mut viewer).await;
    gateway.no_panic();
}
