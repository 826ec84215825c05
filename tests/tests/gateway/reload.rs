//! The config is read again while viewers watch: only what differs is touched.

use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate_tests::{
    Camera, Gateway, Nal, Watcher,
    accounts::{self, basic, user},
    camera::{self, COUNT},
    client::{http_get, is_header},
    config_file::Reloading,
    measure::{mib, slope},
    media::{cut, picture_size},
    session::Control,
    within,
};
use std::{net::SocketAddr, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

/// Two streams of a test pattern that encodes quickly.
fn pattern(name: &str, width: u32) -> String {
    format!(
        "[streams.{name}]\nsource = 'test-pattern'\nencode = {{ width = {width}, height = 128, frame-rate = 10 }}\n"
    )
}

/// Waits until the viewer gets frames of this width.
async fn width_becomes(viewer: &mut Nal, width: u32) {
    let began = Instant::now();
    loop {
        let what = format!("frames that are {width} wide");
        let message = within(&what, viewer.next()).await.unwrap();
        if is_header(&cut(&message)) && picture_size(&message).0 == width {
            return;
        }
        assert!(began.elapsed().as_secs() < 30, "no {what}");
    }
}

async fn open(gateway: &Gateway, path: &str) -> Nal {
    within(path, Nal::open(gateway.address, path))
        .await
        .unwrap()
}

/// Waits until the viewer is disconnected; returns why.
async fn end_of(mut viewer: Nal) -> String {
    let closed = within("the end of a viewer", viewer.closed()).await;
    closed.unwrap().unwrap().reason.to_string()
}

async fn status(gateway: &Gateway, path: &str) -> u16 {
    within(path, http_get(gateway.address, path, &[]))
        .await
        .unwrap()
        .0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_added_changed_and_removed_and_others_lose_no_frame() {
    let mut camera = Camera::new(camera::clip()).await;
    let mut second = Camera::new(camera::clip()).await;
    let base = camera.config();
    let with = |rest: &[String]| format!("{base}{}", rest.concat());
    let served = Reloading::serve(&with(&[pattern("demo", 192)])).await;
    let gateway = &served.gateway;
    let mut untouched = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    let mut demo = open(gateway, "/live/demo/nal").await;
    width_becomes(&mut demo, 192).await;
    camera.show(&mut untouched).await;

    let changed = served.reload(&with(&[pattern("demo", 192)])).await;
    assert_eq!(
        changed["streams"],
        json!({ "added": [], "changed": [], "removed": [] })
    );
    assert_eq!(changed["needs_restart"], json!([]));
    camera.show(&mut untouched).await;

    // Another encoder setting: the viewer stays, and sees the new size.
    let changed = served.reload(&with(&[pattern("demo", 256)])).await;
    assert_eq!(changed["streams"]["changed"], json!(["demo"]));
    camera.show(&mut untouched).await;
    width_becomes(&mut demo, 256).await;

    // A rendition is added, changed and removed.
    let small = |width| {
        format!(
            "{}renditions.small = {{ width = {width} }}\n",
            pattern("demo", 256)
        )
    };
    served.reload(&with(&[small(128)])).await;
    let mut rendition = open(gateway, "/live/demo@small/nal").await;
    width_becomes(&mut rendition, 128).await;
    served.reload(&with(&[small(160)])).await;
    width_becomes(&mut rendition, 160).await;
    camera.show(&mut untouched).await;
    served.reload(&with(&[pattern("demo", 256)])).await;
    assert_eq!(end_of(rendition).await, "the rendition was removed");
    assert_eq!(status(gateway, "/live/demo@small/nal").await, 404);
    width_becomes(&mut open(gateway, "/live/demo/nal").await, 256).await;

    // Another source in the place of the pattern, for the viewer that is there.
    let source = format!("[streams.demo]\nsource = '{}'\n", second.feeder.source());
    served.reload(&with(std::slice::from_ref(&source))).await;
    second.send().await;
    width_becomes(&mut demo, 320).await;
    camera.show(&mut untouched).await;

    // A stream with another name is another stream.
    let renamed = source.replace("demo", "other");
    let changed = served.reload(&with(std::slice::from_ref(&renamed))).await;
    assert_eq!(
        changed["streams"],
        json!({ "added": ["other"], "changed": [], "removed": ["demo"] })
    );
    assert_eq!(end_of(demo).await, "the stream was removed");
    assert_eq!(status(gateway, "/live/demo/nal").await, 404);
    second.hang_up();
    let mut other = Watcher::open(gateway.address, "/live/other/nal", camera::clip()).await;
    second.show(&mut other).await;
    camera.show(&mut untouched).await;

    // By signal, and the first name again.
    served.write(&with(&[renamed, pattern("demo", 192)]));
    gateway.signal(Signal::HUP);
    gateway
        .logged("SIGHUP reloaded the config: streams added: demo")
        .await;
    width_becomes(&mut open(gateway, "/live/demo/nal").await, 192).await;
    camera.show(&mut untouched).await;
    second.show(&mut other).await;
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_with_a_mistake_changes_nothing_and_tells_its_place() {
    let mut camera = Camera::new(camera::clip()).await;
    let base = camera.config();
    let served = Reloading::serve(&base).await;
    let gateway = &served.gateway;
    let mut untouched = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    camera.show(&mut untouched).await;
    let events = follow_events(gateway.address).await;
    let file = served.file.display().to_string();
    let good = "[streams.new]\nsource = 'test-pattern'\n";
    for (rest, line, what) in [
        ("[streams.bad\n", 5, "this is not TOML"),
        ("[streams.bad]\nsoruce = 'x'\n", 6, "unknown key `soruce`"),
        (
            "[streams.bad]\nsource = 'rtps://u:hunter2@cam/'\n",
            6,
            "did you mean `rtsp`",
        ),
        ("[transports.hls]\nsegment = 'x'\n", 5, "hls"),
        (
            "[transports.none]\n",
            5,
            "no transport of that name is built in",
        ),
        ("[policy]\nplugin = 'nowhere.wasm'\n", 5, "nowhere.wasm"),
        (
            "[[clients]]\nmatch = { client = 'x' }\ntransport = ['nall']\n",
            5,
            "did you mean `nal`",
        ),
        ("[users.eva]\npassword = 'hunter2'\n", 6, "password"),
    ] {
        let (status, text) = served.refused(&format!("{base}{good}{rest}")).await;
        assert_eq!(status, 422, "{text}");
        assert!(text.contains(what), "{text}");
        assert!(text.contains(&format!("{file}:{line}:")), "{line}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
        camera.show(&mut untouched).await;
    }
    for (text, what) in [("", "says nothing"), ("\n  # only\n", "says nothing")] {
        let (status, told) = served.refused(text).await;
        assert!(status == 422 && told.contains(what), "{status} {told}");
    }
    std::fs::remove_file(&served.file).unwrap();
    std::fs::create_dir(&served.file).unwrap();
    let (status, told) = served.post("POST", "/api/config/reload", "").await;
    assert!(
        status == 422 && told.to_string().contains("no regular file"),
        "{told}"
    );
    std::fs::remove_dir(&served.file).unwrap();
    gateway.signal(Signal::HUP);
    gateway.logged("SIGHUP reloads the config: ").await;
    let devices = gateway.api("/api/devices").await;
    assert_eq!(devices.as_array().unwrap().len(), 1, "{devices:#}");
    assert!(gateway.logs("hunter2").is_empty());
    let told = gateway.logs("nothing was changed");
    assert_eq!(told.len(), 12, "{told:#?}");
    // What takes effect at start only is told, each time.
    for _ in 0..2 {
        let changed = served
            .reload(&format!("[server]\nbase-path = '/cams'\nconnections = 7\norigins = ['https://a.example']\n{base}"))
            .await;
        let kept = json!(["`base-path` in [server]", "`connections` in [server]"]);
        assert_eq!(changed["needs_restart"], kept);
    }
    let events = within("events", events).await.unwrap();
    assert!(events.contains("event: config\n"), "{events}");
    assert!(
        events.contains(&format!("{file}:6:")) && !events.contains("hunter2"),
        "{events}"
    );
    camera.show(&mut untouched).await;
    gateway.no_panic();
}

/// The events from now on, up to the second reload that succeeds.
async fn follow_events(address: SocketAddr) -> JoinHandle<String> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /api/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    read_until(&mut socket, &mut text, "event: hello", 1).await;
    tokio::spawn(async move {
        read_until(&mut socket, &mut text, "\"result\":\"reloaded\"", 2).await;
        text
    })
}

/// Reads until the text has `part` so often.
async fn read_until(socket: &mut TcpStream, text: &mut String, part: &str, times: usize) {
    while text.matches(part).count() < times {
        let mut buffer = [0; 4096];
        let count = within(part, socket.read(&mut buffer)).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_config_is_read_when_it_changes() {
    let config = |rest: &str| format!("[server]\nwatch = true\n{}{rest}", pattern("demo", 192));
    let served = Reloading::serve(&config("")).await;
    served.write(&config(&pattern("second", 192)));
    let watcher = "the watcher of the config file reloaded the config: streams added: ";
    served.gateway.logged(&format!("{watcher}second")).await;
    served.write(&config("[streams.x]\n"));
    served.gateway.logged("`source` is missing").await;
    served.write(&config(&pattern("third", 192)));
    served
        .gateway
        .logged(&format!("{watcher}third; streams removed: second"))
        .await;
    // Once it is not watched any more, a change waits for a reload.
    served.write(&pattern("demo", 192));
    served.gateway.logged("[server] changed: watch").await;
    assert_eq!(served.gateway.logs(watcher).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_rules_follow_the_config() {
    let mut camera = Camera::new(camera::clip()).await;
    let stream = camera.config();
    let server = "[server]\nnames = ['cam.example']\n";
    let users = format!(
        "{}{}",
        user("eva", "view = ['cam']\n"),
        user("root", "admin = ['*']\n")
    );
    let config = |users: &str, rest: &str| format!("{server}{stream}{users}{rest}");
    let served = Reloading::serve(&config(&users, "")).await;
    let gateway = &served.gateway;
    let view = |name: &str| {
        let header = ("Authorization", basic(name, accounts::PASSWORD));
        async move {
            accounts::ask(gateway, "GET", "/api/devices/cam", &[(header.0, &header.1)])
                .await
                .0
        }
    };
    assert_eq!((view("eva").await, view("kim").await), (200, 401));
    let rule = "[[clients]]\nmatch = { client = 'kiosk' }\ntransport = ['mjpeg']\nforce = true\n";
    let (mut kiosk, first) = Control::open(gateway, "cam", "can=nal,mjpeg&client=kiosk").await;
    assert_eq!(first["transport"], "nal");
    kiosk.playing(&first).await;
    let (mut other, first) = Control::open(gateway, "cam", "can=nal,mjpeg&client=phone").await;
    other.playing(&first).await;
    let mut untouched = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    let reloaded = async |config: String| served.reload(&config).await;
    let changed = reloaded(config(&user("kim", "view = ['cam']\n"), rule)).await;
    assert_eq!(
        (&changed["access"], &changed["clients"]),
        (&json!(true), &json!(true))
    );
    assert_eq!((view("eva").await, view("kim").await), (401, 200));
    let moved = kiosk.heard("move").await;
    assert_eq!(moved["transport"], "mjpeg", "{moved:#}");
    camera.show(&mut untouched).await;
    let changed = reloaded(config(&users, "")).await;
    assert_eq!(changed["clients"], true);
    assert_eq!((view("eva").await, view("kim").await), (200, 401));
    // The choices of before may still be on their way.
    while kiosk.heard("choices").await["forced"] != false {}
    camera.show(&mut untouched).await;
    // The session of another client has heard of nothing.
    other.say(json!({ "type": "ping", "id": 7 })).await;
    loop {
        let said = within("a pong", other.hear()).await.unwrap();
        assert_ne!(said["type"], "move", "{said:#}");
        if said["type"] == "pong" {
            break;
        }
    }
    gateway.no_panic();
}

const VIEWERS: usize = 50;
const RELOADS: u32 = 1000;
/// Allowed growth in KiB per reload, after the first two hundred.
const MAX_GROWTH: f64 = 4.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_cost_viewers_of_other_streams_nothing() {
    let mut camera = Camera::new(camera::clip()).await;
    let stream = camera.config();
    let config = |nth: u32| {
        let renditions = match nth % 3 {
            0 => String::new(),
            more => format!(
                "renditions.r{more} = {{ width = {} }}\n",
                64 + 16 * (nth % 5)
            ),
        };
        format!(
            "{}[streams.changing]\nsource = 'test-pattern'\nidle = '{}s'\n{renditions}[streams.s{}]\nsource = 'test-pattern'\n\
             [transports.hls]\nwindow = {}\n[[clients]]\nmatch = {{ client = 'c{nth}' }}\ntransport = ['mjpeg']\n",
            stream,
            10 + nth % 7,
            nth % 4,
            6 + nth % 2,
        )
    };
    let served = Reloading::serve(&config(0)).await;
    let gateway = &served.gateway;
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        viewers.push(Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await);
    }
    let (mut memory, mut descriptors) = (Vec::new(), 0);
    for nth in 1..=RELOADS {
        let changed = served.reload(&config(nth)).await;
        assert_eq!(
            changed["streams"]["changed"],
            json!(["changing"]),
            "{changed:#}"
        );
        let sent = camera.send_at_once().await;
        for viewer in &mut viewers {
            let (place, _) = within("a frame", viewer.next()).await;
            assert_eq!(place, sent % COUNT, "reload {nth}");
        }
        if nth % 50 == 0 {
            memory.push(mib(gateway.memory()));
        }
        if nth == 200 {
            descriptors = gateway.files();
        }
    }
    let growth = slope(&memory[4..]) * 1024.0 / 50.0;
    println!("{growth:.2} KiB for each reload: {memory:.1?}");
    assert!(
        growth <= MAX_GROWTH,
        "{growth} KiB for each reload: {memory:?}"
    );
    assert_eq!(gateway.files(), descriptors);
    let left = gateway.api("/api/devices").await;
    assert_eq!(left.as_array().unwrap().len(), 3, "{left:#}");
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_five_hundred_streams_takes_a_moment() {
    let config = |every: u32| -> String {
        let streams = (0..500).map(|nth| {
            let idle = if nth % every == 0 { "20s" } else { "10s" };
            format!("[streams.s{nth}]\nsource = 'rtsp://127.0.0.1:1/{nth}'\nidle = '{idle}'\n")
        });
        streams.collect()
    };
    let served = Reloading::serve(&config(1000)).await;
    for (every, changes) in [(1000, 0), (10, 49), (1, 450), (1000, 499)] {
        let began = Instant::now();
        let changed = served.reload(&config(every)).await;
        println!("{changes} of 500 changed: {:.1?}", began.elapsed());
        let names = changed["streams"]["changed"].as_array().map(Vec::len);
        assert_eq!(names, Some(changes));
    }
    let devices: Value = served.gateway.api("/api/devices").await;
    assert_eq!(devices.as_array().unwrap().len(), 500);
}
