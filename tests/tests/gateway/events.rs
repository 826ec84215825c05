//! `/api/events`: each event is sent once to every follower, replayed to followers that reconnect, and bounded for
//! those that do not read.

use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate_tests::{
    Camera, CaptureClient, Gateway, Raw, Watcher,
    camera::{self, GROUP},
    client::request,
    raw::handshake,
    within,
};
use std::{collections::BTreeSet, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A received event.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Event {
    /// The number in the event's id, which rises by one from event to event of a run.
    fn number(&self) -> u64 {
        self.id.split_once('-').unwrap().1.parse().unwrap()
    }
}

/// A curl process that follows the events.
struct Curl {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Curl {
    fn follow(gateway: &Gateway, query: &str, header: Option<&str>) -> Curl {
        let url = format!("http://{}/api/events{query}", gateway.address);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--no-buffer", "--fail"]);
        if let Some(header) = header {
            curl.args(["--header", header]);
        }
        let mut child = curl
            .arg(url)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Curl { child, lines }
    }

    async fn line(&mut self) -> Option<String> {
        within("a line", self.lines.next_line()).await.unwrap()
    }

    /// Reads the next event by the rules of the SSE standard.
    async fn next(&mut self) -> Event {
        let mut event = Event {
            id: String::new(),
            name: String::new(),
            data: Value::Null,
        };
        loop {
            let line = self.line().await.expect("the events ended");
            match line.split_once(": ") {
                None if line.is_empty() && !event.name.is_empty() => return event,
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                Some(("retry", wait)) => assert_eq!(wait, "2000"),
                _ => assert!(line.is_empty() || line.starts_with(':'), "{line:?}"),
            }
        }
    }

    /// Reads up to the first event with this name that satisfies `good`; returns all events up to it.
    async fn until(&mut self, name: &str, good: impl Fn(&Value) -> bool) -> Vec<Event> {
        let mut all = Vec::new();
        loop {
            let event = self.next().await;
            let found = event.name == name && good(&event.data);
            all.push(event);
            if found {
                return all;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_streams_and_viewers_are_ordered_and_replayed_on_reconnect() {
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!("{}idle = '0s'\n", camera.config());
    let gateway = Gateway::with_config(&config).await;
    let mut curl = Curl::follow(&gateway, "", None);
    let hello = curl.next().await;
    assert_eq!((hello.name.as_str(), hello.number()), ("hello", 0));
    assert_eq!(hello.data["version"], env!("CARGO_PKG_VERSION"));

    let mut watcher = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    camera.show(&mut watcher).await;
    let mut all = curl.until("stream", |data| data["state"] == "live").await;
    camera.hang_up();
    all.extend(
        curl.until("stream", |data| data["state"] == "retrying")
            .await,
    );
    let away = all.last().unwrap().data.clone();
    assert!(
        away["reason"].as_str().unwrap().contains("annexb:tcp://"),
        "{away}"
    );
    camera.show(&mut watcher).await;
    all.extend(curl.until("stream", |data| data["state"] == "live").await);
    drop(watcher);
    all.extend(curl.until("stream", |data| data["state"] == "idle").await);

    let told: Vec<_> = all
        .iter()
        .map(|event| match event.name.as_str() {
            "stream" => event.data["state"].as_str().unwrap(),
            name => name,
        })
        .collect();
    // The states between retrying and live depend on how soon the camera reconnects.
    let begins = BTreeSet::from(["viewer-came", "starting"]);
    // The source starts while the viewer is being admitted, so the order of these two varies.
    let first: BTreeSet<&str> = told[..2].iter().copied().collect();
    assert_eq!(first, begins, "{told:?}");
    assert_eq!(told.last(), Some(&"idle"));
    let place = |name: &str| told.iter().position(|told| *told == name).unwrap();
    assert!(place("live") < place("retrying"));
    assert!(place("viewer-left") < place("idle"));
    let live: Vec<_> = told.iter().filter(|told| **told == "live").collect();
    assert_eq!(live.len(), 2, "{told:?}");
    let ids: Vec<u64> = all.iter().map(Event::number).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    let came = &all[place("viewer-came")].data;
    assert_eq!(
        (&came["stream"], &came["transport"]),
        (&"cam".into(), &"nal".into())
    );
    let left = &all[place("viewer-left")].data;
    assert_eq!(left["viewer"], came["viewer"]);
    assert!(left["bytes"].as_u64().unwrap() > 1000, "{left}");

    // Resumes by the header, as EventSource does, and by the query, for clients that cannot set headers.
    let last = all[2].id.clone();
    let encoded: String = last.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for (query, header) in [
        (String::new(), Some(format!("Last-Event-ID: {last}"))),
        (format!("?last-event-id={last}"), None),
        (format!("?x=1&last-event-id={encoded}"), None),
    ] {
        let mut again = Curl::follow(&gateway, &query, header.as_deref());
        let hello = again.next().await;
        assert_eq!(
            (hello.name.as_str(), hello.id.as_str()),
            ("hello", last.as_str())
        );
        let mut replayed = Vec::new();
        while replayed.len() < all.len() - 3 {
            replayed.push(again.next().await);
        }
        assert_eq!(replayed, all[3..]);
    }
    let address = gateway.address;
    let head = request(address, "HEAD", "/api/events", &[]).await.unwrap();
    assert!(
        head.1.contains("content-type: text/event-stream"),
        "{}",
        head.1
    );
}

#[tokio::test]
async fn an_id_of_an_earlier_run_replays_nothing_and_says_so() {
    let gateway = Gateway::serve(&[]).await;
    let first = Curl::follow(&gateway, "", None).next().await;
    drop(gateway);
    let gateway = Gateway::serve(&[]).await;
    let header = format!("Last-Event-ID: {}", first.id);
    let mut curl = Curl::follow(&gateway, "", Some(&header));
    let hello = curl.next().await;
    assert_ne!(hello.data["run"], first.data["run"]);
    let missed = curl.next().await;
    assert_eq!(
        (missed.name.as_str(), &missed.data["count"]),
        ("missed", &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_guest_is_reported_as_failing_resting_and_recovered() {
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!(
        "{}[transports.odd]\nplugin = \"{}\"\nin = \"push\"\ndo = \"panic\"\nevery = {GROUP}\n",
        camera.config(),
        Gateway::component("hostile").display()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut curl = Curl::follow(&gateway, "", None);
    let mut watcher = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    let _odd = Watcher::open(gateway.address, "/live/cam/odd", camera::clip()).await;
    let plugin = |state: &'static str| move |data: &Value| data["state"] == state;
    let failed = async {
        let failed = curl.until("plugin", plugin("backing-off")).await;
        let well = curl.until("plugin", plugin("running")).await;
        (
            failed.last().unwrap().data.clone(),
            well.last().unwrap().data.clone(),
        )
    };
    let shows = async {
        loop {
            camera.show(&mut watcher).await;
        }
    };
    let (failed, well) = tokio::select! {
        told = failed => told,
        () = shows => unreachable!(),
    };
    let named = |data: &Value| {
        assert_eq!(
            (&data["stream"], &data["transport"], &data["plugin"]),
            (&"cam".into(), &"odd".into(), &"hostile@0.1.0".into())
        );
    };
    named(&failed);
    named(&well);
    let reason = failed["reason"].as_str().unwrap();
    assert!(
        reason.contains("hostile was told to panic in Push"),
        "{reason}"
    );
    assert_eq!(well["reason"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_event_reader_learns_how_much_it_missed_and_continues() {
    let gateway = Gateway::with_config("[streams.cam]\nsource = \"annexb:listen:0\"\n").await;
    let address = gateway.address;
    let mut slow = Raw::with_buffer(address, Some(4 << 10)).await;
    slow.write(format!(
        "GET /api/events HTTP/1.0\r\nHost: {address}\r\n\r\n"
    ))
    .await;
    assert_eq!(slow.head().await.unwrap().status, 200);
    // Two events per turn: more than the ring and the connection's buffers can hold.
    for _ in 0..4000 {
        let mut viewer = Raw::connect(address).await;
        viewer.write(handshake(address, "/live/cam/nal")).await;
        assert_eq!(viewer.head().await.unwrap().status, 101);
    }
    gateway
        .api_until("/api/sessions", "all are gone", |sessions| {
            sessions["sessions"].as_array().unwrap().is_empty()
        })
        .await;
    let newest = Curl::follow(&gateway, "", None).next().await;
    let last = format!("id: {}\n", newest.id);
    let read = async {
        while !String::from_utf8_lossy(&slow.buffer).contains(&last) {
            assert!(slow.socket.read_buf(&mut slow.buffer).await.unwrap() > 0);
        }
    };
    within("it catches up", read).await;
    let text = String::from_utf8(slow.buffer.to_vec()).unwrap();
    let number = |event: &str| -> Option<u64> {
        let id = event.lines().find_map(|line| line.strip_prefix("id: "))?;
        id.split_once('-')?.1.parse().ok()
    };
    // The last event may be incomplete.
    let events: Vec<&str> = text
        .split_inclusive("\n\n")
        .filter(|event| event.ends_with("\n\n"))
        .collect();
    let (mut position, mut gaps) = (0, Vec::new());
    for event in events {
        let number = number(event).unwrap();
        if event.contains("event: missed\n") {
            gaps.push(number - position);
            let count = format!("\"count\":{},", number - position);
            assert!(
                event.contains(&count),
                "{event}, but {position} was the last"
            );
        } else if !event.contains("event: hello\n") {
            assert_eq!(number, position + 1, "{event}");
        }
        position = number;
    }
    assert!(gaps.iter().sum::<u64>() > 1000, "{gaps:?}");
}

#[tokio::test]
async fn the_events_end_when_the_gateway_drains() {
    let mut gateway = Gateway::serve(&[]).await;
    let mut curl = Curl::follow(&gateway, "", None);
    curl.next().await;
    gateway.signal(Signal::TERM);
    while curl.line().await.is_some() {}
    // The body ended properly; otherwise curl would report an error.
    assert!(
        within("curl ends", curl.child.wait())
            .await
            .unwrap()
            .success()
    );
    let ended = within("the gateway ends", gateway.child.wait()).await;
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_capture_is_an_event() {
    let dir = sluicegate_tests::scratch("captures").join("told");
    let config = format!(
        "[capture]\ndir = {dir:?}\ntimeout = \"20s\"\n[streams.demo]\nsource = \"test-pattern\"\nencode = {{ width = 320, height = 192 }}\n"
    );
    let gateway = Gateway::with_config(&config).await;
    let mut curl = Curl::follow(&gateway, "", None);
    let mut shots = CaptureClient::of(&gateway, "demo").await;
    shots.take(json!({})).await.unwrap();
    let (said, _) = shots.take(json!({ "save": true })).await.unwrap();
    let all = curl.until("capture", |_| true).await;
    let told = &all.last().unwrap().data;
    for field in [
        "serial",
        "capture_id",
        "captured_at",
        "width",
        "height",
        "bytes",
        "path",
    ] {
        assert_eq!(told[field], said[field], "{told}");
    }
}
