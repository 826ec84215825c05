//! `/api/openapi.json` against the gateway: every operation in the description is called, correctly and incorrectly,
//! and status, content type and schema of each response must be described. Python's `jsonschema` validates the schemas.

use serde_json::{Value, json};
use sluicegate::api::ROUTES;
use sluicegate_tests::{
    CaptureClient, Control, Gateway, Metrics, Nal,
    accounts::{PASSWORD, user},
    client::request_with,
    scratch, within,
};
use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncWriteExt, process::Command};

/// A gateway that has everything in use, its description, and what has been exercised so far.
struct Contract {
    gateway: Gateway,
    document: Value,
    checks: Vec<Value>,
    /// Method and path of the operations that succeeded.
    done: BTreeSet<(String, String)>,
}

impl Contract {
    async fn new() -> Contract {
        let dir = scratch("captures").join("contract");
        let config = format!(
            "[capture]\ndir = {dir:?}\ntimeout = \"20s\"\n[streams.demo]\nsource = \"test-pattern\"\n\
             encode = {{ width = 320, height = 192 }}\nrenditions.small = {{ width = 160 }}\n\
             [streams.\"two words\"]\nsource = \"test-pattern\"\nencode = {{ width = 320, height = 192 }}\n{}",
            user("eva", "view = [\"*\"]"),
        );
        let gateway = Gateway::with_config(&config).await;
        let document = gateway.api("/api/openapi.json").await;
        Contract {
            gateway,
            document,
            checks: Vec::new(),
            done: BTreeSet::new(),
        }
    }

    /// Calls an operation at `path` and records the response for validation against its description.
    async fn ask(
        &mut self,
        method: &str,
        pattern: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> u16 {
        let answer = request_with(self.gateway.address, method, path, headers, body.as_bytes());
        let (status, head, body) = within(path, answer).await.unwrap();
        let what = format!("{method} {path} {headers:?}: {status}");
        let operation = &self.document["paths"][pattern][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {pattern} is not described");
        let response = &operation["responses"][status.to_string()];
        assert!(
            response.is_object(),
            "{what} is not described: {}",
            String::from_utf8_lossy(&body)
        );
        let line = |line: &str| {
            line.to_ascii_lowercase()
                .strip_prefix("content-type: ")
                .map(str::to_owned)
        };
        let kind = head.lines().find_map(line).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
        if let Some(kinds) = response["content"].as_object() {
            let schema = kinds.get(&kind).or(kinds.get("*/*"));
            let schema = schema.unwrap_or_else(|| panic!("{what}: {kind} is not described"));
            if kind == "application/json" {
                let instance: Value = serde_json::from_slice(&body).unwrap();
                self.checks.push(
                    json!({ "what": what, "schema": schema["schema"], "instance": instance }),
                );
            }
        }
        if (200..400).contains(&status) {
            self.done.insert((method.to_owned(), pattern.to_owned()));
        }
        status
    }

    async fn get(&mut self, pattern: &str, path: &str) -> u16 {
        self.ask("GET", pattern, path, &[], "").await
    }

    /// Records a WebSocket message of one end, which must match one of the messages described for it.
    fn said(&mut self, pattern: &str, by: &str, text: &str) {
        let schema = self.messages(pattern, by);
        self.check(format!("{pattern}: {text}"), schema, text);
        self.done.insert(("GET".into(), pattern.to_owned()));
    }

    /// Records a message that was refused, which must match none of them.
    fn record_refused_message(&mut self, pattern: &str, by: &str, text: &str) {
        let schema = json!({ "not": self.messages(pattern, by) });
        self.check(format!("{pattern}, refused: {text}"), schema, text);
    }

    fn messages(&self, pattern: &str, by: &str) -> Value {
        let described = self.document["paths"][pattern]["get"]["x-websocket"][by]
            .as_array()
            .unwrap();
        let texts = described.iter().filter(|message| message["name"] == "text");
        let schemas: Vec<&Value> = texts.map(|message| &message["schema"]).collect();
        json!({ "anyOf": schemas })
    }

    fn check(&mut self, what: String, schema: Value, text: &str) {
        let instance: Value = serde_json::from_str(text).unwrap();
        self.checks
            .push(json!({ "what": what, "schema": schema, "instance": instance }));
    }

    /// Validates everything recorded; returns what does not match.
    async fn judged(&self) -> String {
        let mut judge = Command::new("/usr/bin/python3")
            .arg(Gateway::root().join("tests/fixtures/schemas.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let asked = json!({ "document": self.document, "checks": self.checks }).to_string();
        let mut stdin = judge.stdin.take().unwrap();
        stdin.write_all(asked.as_bytes()).await.unwrap();
        drop(stdin);
        let judged = within("the judge", judge.wait_with_output()).await.unwrap();
        assert!(judged.status.success());
        String::from_utf8(judged.stdout).unwrap()
    }
}

/// Unix milliseconds.
fn in_an_hour() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from((passed + Duration::from_secs(3600)).as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_as_it_is_described() {
    let mut contract = Contract::new().await;
    let paths: BTreeSet<&String> = contract.document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    let routes: BTreeSet<String> = ROUTES
        .iter()
        .map(|route| route.pattern.replace("{*rest}", "{rest}"))
        .collect();
    assert_eq!(paths, routes.iter().collect());
    assert_eq!(contract.document["openapi"], "3.1.1");

    // Populate the lists: one viewer, one session, one capture client.
    let address = contract.gateway.address;
    let mut viewer = within("connect", Nal::connect(address, "demo"))
        .await
        .unwrap();
    within("a frame", viewer.next_unit()).await.unwrap();
    let (mut control, chosen) = Control::open(&contract.gateway, "demo", "can=nal,mjpeg,hls").await;
    control
        .raw("{\"type\":\"playing\",\"transport\":\"nal\",\"rendition\":\"\"}")
        .await;
    let report = "{\"type\":\"report\",\"round_trip_ms\":3.5,\"goodput\":2000000,\"received\":900000,\"frame_rate\":15.0,\"visible\":true}";
    control.raw(report).await;
    control.raw("{\"type\":\"ping\",\"id\":7}").await;
    let session = chosen["session"].as_str().unwrap().to_owned();
    for text in [
        report,
        "{\"type\":\"ping\",\"id\":7}",
        "{\"type\":\"auto\"}",
    ] {
        contract.said("/api/sessions/{id}", "client", text);
    }
    for kind in ["choices", "pong"] {
        let said = control.heard(kind).await.to_string();
        contract.said("/api/sessions/{id}", "server", &said);
    }
    let mut shots = CaptureClient::of(&contract.gateway, "demo").await;
    for (request, good) in [
        (
            "{\"type\":\"capture\",\"format\":\"jpeg\",\"quality\":80,\"save\":true}",
            true,
        ),
        (
            "{\"type\":\"capture\",\"format\":\"png\",\"width\":320}",
            true,
        ),
        ("{\"type\":\"capture\",\"format\":\"gif\"}", false),
    ] {
        shots.say(request).await;
        let answer = shots.answer().await;
        assert_eq!(answer.is_ok(), good);
        let said = answer
            .map_or_else(|failure| failure, |(said, _)| said)
            .to_string();
        match good {
            true => contract.said("/api/ws/capture/{serial}", "client", request),
            false => contract.record_refused_message("/api/ws/capture/{serial}", "client", request),
        }
        contract.said("/api/ws/capture/{serial}", "server", &said);
    }

    for (pattern, path) in [
        ("/", "/"),
        ("/watch/{stream}", "/watch/demo"),
        ("/docs", "/docs"),
        ("/docs/{rest}", "/docs/api"),
        ("/assets/{name}", "/assets/player.js"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
        ("/metrics", "/metrics"),
        ("/api/openapi.json", "/api/openapi.json"),
        ("/api/devices", "/api/devices"),
        ("/api/devices/{serial}", "/api/devices/two%20words"),
        ("/api/sessions", "/api/sessions"),
        ("/api/sessions/{id}", session.as_str()),
        ("/api/plugins", "/api/plugins"),
        (
            "/live/{stream}/frame.jpg",
            "/live/demo@small/frame.jpg?width=64&quality=50",
        ),
        (
            "/live/{stream}/{transport}/{rest}",
            "/live/demo/hls/index.m3u8",
        ),
    ] {
        let status = contract.get(pattern, path).await;
        assert_eq!(status, 200, "{path}");
    }
    let accept = [("Accept", "application/json")];
    let (live, choice) = (
        "/live/{stream}",
        "/live/demo?can=nal,mjpeg&client=x&network=wifi",
    );
    assert_eq!(contract.ask("GET", live, choice, &accept, "").await, 200);
    assert_eq!(
        contract
            .ask("GET", live, "/live/demo", &[("User-Agent", "VLC/3")], "")
            .await,
        307
    );
    let capture = "/api/devices/{serial}/capture";
    for (accept, body) in [
        ("application/json", ""),
        (
            "application/json",
            "{\"type\":\"capture\",\"format\":\"png\",\"quality\":1,\"width\":16,\"save\":true}",
        ),
        ("image/jpeg", "{}"),
        ("image/png", ""),
        ("image/webp", ""),
    ] {
        let status = contract
            .ask(
                "POST",
                capture,
                "/api/devices/demo/capture",
                &[("Accept", accept)],
                body,
            )
            .await;
        assert_eq!(status, 200, "{accept} {body}");
    }
    let reload = "/api/plugins/{name}/reload";
    assert_eq!(
        contract
            .ask("POST", reload, "/api/plugins/policy/reload", &[], "")
            .await,
        200
    );
    let (add, remove) = ("/api/plugins", "/api/plugins/{name}");
    let plugin = Gateway::component("nal");
    let added = json!({ "name": "added", "plugin": plugin, "stale": "2s" }).to_string();
    assert_eq!(contract.ask("POST", add, add, &[], &added).await, 200);
    let path = "/api/plugins/added/reload";
    assert_eq!(contract.ask("POST", reload, path, &[], "").await, 200);

    // Incorrect calls.
    for (method, pattern, path, body, expected) in [
        ("GET", "/assets/{name}", "/assets/no.js", "", 404),
        ("GET", "/modules/{name}", "/modules/no.js", "", 404),
        ("GET", "/api/halves/{stream}", "/api/halves/demo", "", 200),
        ("GET", "/api/halves/{stream}", "/api/halves/nobody", "", 404),
        (
            "GET",
            "/halves/{stream}/{transport}",
            "/halves/demo/nal",
            "",
            404,
        ),
        (
            "GET",
            "/api/plugins/{name}/recording",
            "/api/plugins/nothing/recording",
            "",
            404,
        ),
        (
            "GET",
            "/api/plugins/{name}/recording",
            "/api/plugins/nal/recording?seconds=0",
            "",
            400,
        ),
        ("GET", "/docs/{rest}", "/docs/no/such/page", "", 404),
        (
            "GET",
            "/api/devices/{serial}",
            "/api/devices/nobody",
            "",
            404,
        ),
        ("GET", "/api/sessions/{id}", "/api/sessions/nobody", "", 404),
        (
            "GET",
            "/api/ws/stream/{serial}",
            "/api/ws/stream/nobody",
            "",
            404,
        ),
        (
            "GET",
            "/api/ws/stream/{serial}",
            "/api/ws/stream/demo",
            "",
            426,
        ),
        (
            "GET",
            "/api/ws/capture/{serial}",
            "/api/ws/capture/nobody",
            "",
            404,
        ),
        (
            "GET",
            "/api/ws/capture/{serial}",
            "/api/ws/capture/demo",
            "",
            426,
        ),
        ("GET", "/live/{stream}", "/live/nobody", "", 404),
        (
            "GET",
            "/live/{stream}/{transport}",
            "/live/demo/nothing",
            "",
            404,
        ),
        (
            "GET",
            "/live/{stream}/{transport}",
            "/live/demo/mjpeg?width=1",
            "",
            400,
        ),
        (
            "GET",
            "/live/{stream}/{transport}/{rest}",
            "/live/demo/hls/nothing.mp4",
            "",
            404,
        ),
        (
            "GET",
            "/live/{stream}/frame.jpg",
            "/live/demo/frame.jpg?quality=0",
            "",
            400,
        ),
        (
            "GET",
            "/live/{stream}/frame.jpg",
            "/live/nobody/frame.jpg",
            "",
            404,
        ),
        ("POST", capture, "/api/devices/nobody/capture", "", 404),
        (
            "POST",
            capture,
            "/api/devices/demo/capture",
            "{\"quality\":1000}",
            400,
        ),
        ("POST", capture, "/api/devices/demo/capture", "[]", 400),
        (
            "POST",
            capture,
            "/api/devices/demo/capture",
            "{\"format\":\"tiff\"}",
            415,
        ),
        ("GET", "/streams", "/streams", "", 200),
        ("POST", "/api/try", "/api/try", "[]", 400),
        (
            "POST",
            "/api/try",
            "/api/try",
            "{\"source\":\"file:x\"}",
            403,
        ),
        (
            "POST",
            "/api/try",
            "/api/try",
            "{\"source\":\"test-pattern\"}",
            200,
        ),
        ("POST", add, add, "[]", 400),
        ("POST", add, add, "{\"name\":\"x\"}", 400),
        ("POST", add, add, &added, 409),
        (
            "POST",
            add,
            add,
            "{\"name\":\"x\",\"plugin\":\"none\"}",
            422,
        ),
        ("DELETE", remove, "/api/plugins/hls", "", 409),
        ("DELETE", remove, "/api/plugins/nothing", "", 404),
        ("POST", reload, "/api/plugins/hls/reload", "", 409),
        ("POST", reload, "/api/plugins/nothing/reload", "", 404),
    ] {
        let status = contract.ask(method, pattern, path, &[], body).await;
        assert_eq!(status, expected, "{method} {path} {body}");
    }

    let path = "/api/plugins/added";
    assert_eq!(contract.ask("DELETE", remove, path, &[], "").await, 200);

    // Endless responses and WebSockets.
    for (pattern, path) in [
        ("/live/{stream}/{transport}", "/live/demo/nal"),
        ("/api/ws/stream/{serial}", "/api/ws/stream/demo"),
    ] {
        let mut viewer = within(path, Nal::open(address, path)).await.unwrap();
        within(path, viewer.next_unit()).await.unwrap();
        contract.done.insert(("GET".into(), pattern.into()));
    }
    // Accounts: what is made and revoked on the gateway's own machine.
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let signs_in = format!("name=eva&password={}", PASSWORD.replace(' ', "+"));
    for (method, path, body, expected) in [
        ("GET", "/login", "", 200),
        ("POST", "/login", &*signs_in, 303),
        ("POST", "/login", "name=eva&password=wrong", 401),
        ("POST", "/logout", "", 303),
        ("GET", "/account", "", 200),
        ("GET", "/api/account", "", 200),
        ("POST", "/account", "action=none", 400),
        ("POST", "/api/account/tokens", "{}", 400),
        (
            "POST",
            "/api/account/links",
            "{\"stream\":\"none\",\"until\":0}",
            404,
        ),
    ] {
        let status = contract.ask(method, path, path, &form, body).await;
        assert_eq!(status, expected, "{method} {path} {body}");
    }
    let account = "action=create-link&stream=demo&hours=1";
    assert_eq!(
        contract
            .ask("POST", "/account", "/account", &form, account)
            .await,
        200
    );
    let link = json!({ "stream": "demo", "until": in_an_hour() }).to_string();
    let token = json!({ "name": "t", "grants": { "view": ["*"] } }).to_string();
    for (kind, body) in [("tokens", token), ("links", link)] {
        let pattern = format!("/api/account/{kind}");
        assert_eq!(
            contract.ask("POST", &pattern, &pattern, &[], &body).await,
            200
        );
    }
    let address = contract.gateway.address;
    let body = json!({ "stream": "demo", "until": in_an_hour() }).to_string();
    let made = request_with(address, "POST", "/api/account/links", &[], body.as_bytes());
    let (_, _, made) = within("a link", made).await.unwrap();
    let made: Value = serde_json::from_slice(&made).unwrap();
    let path = made["path"].as_str().unwrap();
    assert_eq!(contract.ask("GET", "/s/{secret}", path, &[], "").await, 303);
    assert_eq!(contract.get("/s/{secret}", "/s/nothing").await, 404);
    let listed = contract.gateway.api("/api/account").await;
    // The end of a link ends what was opened with it.
    for kind in ["sessions", "tokens", "links"] {
        let pattern = format!("/api/account/{kind}/{{id}}");
        let id = listed[kind][0]["id"].as_str().unwrap();
        let path = format!("/api/account/{kind}/{id}");
        assert_eq!(contract.ask("DELETE", &pattern, &path, &[], "").await, 200);
        assert_eq!(contract.ask("DELETE", &pattern, &path, &[], "").await, 404);
    }
    let stream = "/api/streams/{stream}";
    let body = json!({ "source": "test-pattern", "idle": "20s" }).to_string();
    for (method, name, body, expected) in [
        ("PUT", "added", &body[..], 201),
        ("PUT", "added", "{}", 200),
        ("PUT", "added", "[]", 400),
        ("PUT", "new", "{\"source\":\"file:x\"}", 403),
        ("PUT", "demo", &body, 409),
        ("DELETE", "demo", "", 409),
        ("DELETE", "added", "", 200),
        ("DELETE", "added", "", 404),
    ] {
        let path = format!("/api/streams/{name}");
        let status = contract.ask(method, stream, &path, &[], body).await;
        assert_eq!(status, expected, "{method} {name} {body}");
    }
    for (method, path) in [("GET", "/api/streams"), ("POST", "/api/config/reload")] {
        assert_eq!(contract.ask(method, path, path, &[], "").await, 200);
    }
    // A recording of what is being watched, and the half in the browser of a component.
    let mut viewer = within("connect", Nal::connect(address, "demo"))
        .await
        .unwrap();
    within("a frame", viewer.next_unit()).await.unwrap();
    let recording = "/api/plugins/{name}/recording";
    let path = "/api/plugins/nal/recording?stream=demo&seconds=1";
    assert_eq!(contract.ask("GET", recording, path, &[], "").await, 200);
    let canvas = json!({ "name": "canvas", "plugin": Gateway::component("canvas") }).to_string();
    assert_eq!(contract.ask("POST", add, add, &[], &canvas).await, 200);
    let halves = contract.gateway.api("/api/halves/demo").await;
    for (pattern, key) in [
        ("/modules/{name}", "module"),
        ("/halves/{stream}/{transport}", "frame"),
    ] {
        let path = halves[0][key].as_str().unwrap().to_owned();
        assert_eq!(contract.ask("GET", pattern, &path, &[], "").await, 200);
    }

    let names: BTreeSet<String> = contract.document["paths"]["/api/events"]["get"]["x-events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["name"].as_str().unwrap().to_owned())
        .collect();
    let mut events = sluicegate_tests::Raw::connect(address).await;
    let head = format!("GET /api/events HTTP/1.1\r\nHost: {address}\r\nLast-Event-ID: 0-0\r\n\r\n");
    events.write(head).await;
    assert_eq!(
        events.head().await.unwrap().header("content-type"),
        Some("text/event-stream")
    );
    contract.done.insert(("GET".into(), "/api/events".into()));
    assert!(names.contains("capture") && names.contains("stream"));

    let all = contract.document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        });
    let left: Vec<_> = all
        .filter(|operation| !contract.done.contains(operation))
        .collect();
    assert!(
        left.is_empty(),
        "operations that were never called: {left:?}"
    );
    assert_eq!(contract.judged().await, "");
    assert!(contract.checks.len() > 30, "{}", contract.checks.len());
    drop((viewer, control, shots));
    Metrics::of(&contract.gateway).await;
    contract.gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_finds_what_does_not_fit() {
    let mut contract = Contract::new().await;
    contract
        .get("/api/devices/{serial}", "/api/devices/demo")
        .await;
    assert_eq!(contract.judged().await, "");
    contract.checks[0]["instance"]["state"] = json!("asleep");
    contract.checks[0]["instance"]["viewers"] = json!("two");
    contract.checks[0]["instance"]
        .as_object_mut()
        .unwrap()
        .remove("serial");
    let mistakes = contract.judged().await;
    assert_eq!(mistakes.lines().count(), 3, "{mistakes}");
}
