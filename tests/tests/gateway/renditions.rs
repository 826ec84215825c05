//! One stream in several forms: renditions, JPEGs of other sizes, keyframes on request. Each form is made once, and
//! only while it is watched.

use serde_json::Value;
use sluicegate_media::h264::{nal, parameter_sets::ParameterSets};
use sluicegate_tests::{
    Gateway, Nal, Raw,
    client::{Mjpeg, http_get, jpeg_number},
    media::NumberReader,
    mjpeg, within,
};
use std::{collections::BTreeSet, time::Instant};

const CONFIG: &str = "
[streams.demo]
source = \"test-pattern\"
idle = \"100ms\"
encode = { width = 640, height = 384, frame-rate = 30, bitrate = \"1M\", keyframe-interval = \"1s\" }
renditions.mobile = { width = 320, frame-rate = 10, bitrate = \"200k\" }
renditions.tiny = { height = 96 }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rendition_is_made_once_on_the_timeline_and_in_the_groups_of_its_stream() {
    let gateway = Gateway::with_config(CONFIG).await;
    let mut whole = Numbered::connect(&gateway, "demo").await;
    let mut mobile = Numbered::connect(&gateway, "demo@mobile").await;
    let mut second = Numbered::connect(&gateway, "demo@mobile").await;
    let mut frames = within("connect", mjpeg(gateway.address, "demo@mobile"))
        .await
        .unwrap();
    // All at once, because a viewer that is not read falls behind and jumps.
    tokio::join!(mobile.watch(45), second.watch(45), whole.watch(135));
    let last = *mobile.numbers.last().unwrap();
    while whole.numbers.last().is_none_or(|number| *number < last) {
        whole.watch(1).await;
    }
    // Ten of thirty frames, the same for both viewers, with keyframes only where the stream has them.
    let steps: Vec<u32> = mobile
        .numbers
        .windows(2)
        .map(|two| two[1] - two[0])
        .collect();
    let usual = steps.iter().filter(|step| **step == 3).count();
    assert!(usual * 10 >= steps.len() * 8, "{:?}", mobile.numbers);
    let one: BTreeSet<u32> = mobile.numbers.iter().copied().collect();
    let two: BTreeSet<u32> = second.numbers.iter().copied().collect();
    assert!(one.intersection(&two).count() >= 30, "{one:?} {two:?}");
    // The first keyframe of each viewer may be where the rendition started.
    let groups: Vec<u32> = mobile.keyframes.iter().copied().skip(1).collect();
    assert!(groups.len() >= 2, "{groups:?}");
    for number in groups {
        assert!(
            whole.keyframes.contains(&number),
            "{number} in {:?}",
            whole.keyframes
        );
    }
    let jpeg = within("a frame", frames.next()).await.unwrap();
    assert_eq!(size_of(&jpeg), (320, 192));
    assert_eq!((mobile.size, whole.size), ((320, 192), (640, 384)));

    let threads = gateway.thread_names();
    let of = |name: &str| threads.iter().filter(|thread| *thread == name).count();
    assert_eq!(
        (of("decode demo"), of("encode demo"), of("jpeg demo")),
        (1, 1, 1),
        "{threads:?}"
    );
    let devices = gateway.api("/api/devices").await;
    assert_eq!(
        devices[0]["renditions"],
        serde_json::json!(["mobile", "tiny"])
    );
    assert_eq!(devices[0]["decoder"], "running");
    let made = &devices[0]["made"];
    assert!(made["encoded"].as_u64() >= Some(30), "{made}");
    assert!(made["decoded"].as_u64() >= Some(90), "{made}");
    assert_eq!(made["failed"], 0, "{made}");

    // All of it ends with the last viewer.
    drop((whole, mobile, second, frames));
    let idle = |devices: &Value| devices[0]["state"] == "idle";
    gateway.api_until("/api/devices", "idle", idle).await;
    within("the threads end", async {
        while gateway
            .thread_names()
            .iter()
            .any(|name| name.ends_with(" demo"))
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rendition_keeps_the_aspect_ratio_and_an_unknown_one_is_refused() {
    let gateway = Gateway::with_config(CONFIG).await;
    let mut tiny = Numbered::connect(&gateway, "demo@tiny").await;
    tiny.units(3).await;
    assert_eq!(tiny.size, (160, 96));
    for (path, what) in [
        (
            "/live/demo@mobil/mjpeg",
            "there is no rendition `mobil`; did you mean `mobile`?",
        ),
        (
            "/live/demo@/mjpeg",
            "there is no rendition ``; there are: mobile, tiny",
        ),
        (
            "/live/dem@mobile/mjpeg",
            "there is no stream `dem`; did you mean `demo`?",
        ),
    ] {
        let (status, _, body) = http_get(gateway.address, path, &[]).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!((status, body.trim_end()), (404, what), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jpegs_of_another_size_are_shared_and_bounded() {
    let gateway = Gateway::with_config(CONFIG).await;
    let path = |query: &str| format!("/live/demo/mjpeg?{query}");
    let mut open = Vec::new();
    for (query, size) in [
        ("width=150", (160, 96)),
        ("width=160", (160, 96)),
        ("width=320&quality=20", (320, 192)),
        ("width=320", (320, 192)),
        ("quality=10", (640, 384)),
    ] {
        let mut viewer = within(query, Mjpeg::open(gateway.address, &path(query)))
            .await
            .unwrap();
        let jpeg = within(query, viewer.next()).await.unwrap();
        assert_eq!(size_of(&jpeg), size, "{query}");
        open.push((query, viewer));
    }
    // The first two requests share a form, which makes four.
    let threads = gateway.thread_names();
    let jpegs = threads.iter().filter(|name| *name == "jpeg demo").count();
    assert_eq!(jpegs, 4, "{threads:?}");
    let (status, head, body) = http_get(gateway.address, &path("width=480"), &[])
        .await
        .unwrap();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(head.to_lowercase().contains("retry-after: 1"), "{head}");
    assert!(
        body.contains("already use 4 custom JPEG sizes or qualities"),
        "{body}"
    );
    for (query, what) in [
        ("width=x", "`width=x`"),
        ("quality=0", "from 1 to 100"),
        ("fps=0", "`fps=0`"),
    ] {
        let (status, _, body) = http_get(gateway.address, &path(query), &[]).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(status == 400 && body.contains(what), "{status} {body}");
    }
    // A lower quality of the same frame has fewer bytes.
    let mut numbered = async |query: &str| {
        let (_, viewer) = open.iter_mut().find(|(known, _)| *known == query).unwrap();
        let jpeg = within(query, viewer.next()).await.unwrap();
        (jpeg_number(&jpeg).unwrap(), jpeg.len())
    };
    let mut low = numbered("width=320&quality=20").await;
    let mut usual = numbered("width=320").await;
    while low.0 != usual.0 {
        if low.0 < usual.0 {
            low = numbered("width=320&quality=20").await;
        } else {
            usual = numbered("width=320").await;
        }
    }
    assert!(low.1 * 2 < usual.1, "{low:?} {usual:?}");
    // When one form is released, another may be made.
    open.retain(|(query, _)| *query != "quality=10");
    within("a place is free", async {
        while Mjpeg::open(gateway.address, &path("width=480"))
            .await
            .is_err()
        {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_that_nobody_watches_any_more_makes_way_for_another() {
    let gateway =
        Gateway::with_config("[streams.demo]\nsource = \"test-pattern\"\nidle = \"10m\"\n").await;
    let path = |width: u32| format!("/live/demo/mjpeg?width={width}");
    let watch = async |width| {
        let mut viewer = Mjpeg::open(gateway.address, &path(width)).await?;
        let jpeg = viewer.next().await?;
        assert_eq!(size_of(&jpeg).0, width as usize);
        anyhow::Ok(viewer)
    };
    let mut open = Vec::new();
    for width in [160, 240, 320, 480] {
        open.push(within("a size", watch(width)).await.unwrap());
    }
    let (status, ..) = http_get(gateway.address, &path(640), &[]).await.unwrap();
    assert_eq!(status, 503);
    // Of the unused forms, the one that was released first is removed.
    drop(open.remove(1));
    for width in [640, 800, 960] {
        // The gateway must first notice that the viewer disconnected.
        let fifth = within("a place is free", async {
            loop {
                if let Ok(viewer) = watch(width).await {
                    return viewer;
                }
            }
        });
        drop(fifth.await);
    }
    for viewer in &mut open {
        within("the watched forms continue", viewer.next())
            .await
            .unwrap();
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fps_paces_one_viewer_and_no_other() {
    let gateway = Gateway::with_config(CONFIG).await;
    let open = |path| Mjpeg::open(gateway.address, path);
    let mut paced = within("connect", open("/live/demo/mjpeg?fps=2"))
        .await
        .unwrap();
    let mut free = within("connect", open("/live/demo/mjpeg")).await.unwrap();
    let began = Instant::now();
    let mut numbers = Vec::new();
    for _ in 0..5 {
        let jpeg = within("a frame", paced.next()).await.unwrap();
        numbers.extend(jpeg_number(&jpeg));
    }
    assert!(began.elapsed().as_millis() >= 1500, "{:?}", began.elapsed());
    // Half a second is fifteen frames of the source. The first interval may have begun earlier.
    for two in numbers.windows(2).skip(1) {
        let step = two[1] - two[0];
        assert!((10..=30).contains(&step), "{numbers:?}");
    }
    let mut all = Vec::new();
    while all.last().is_none_or(|last| last < numbers.last().unwrap()) {
        all.push(within("a number", free.next_number()).await.unwrap());
    }
    assert!(all.len() >= 12, "{all:?}");
}

/// Encoders are tested when the first viewer comes, by the running program; a new version may be installed by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoders_are_tested_although_the_programs_file_is_gone() {
    let program = Gateway::binary().with_file_name(format!("sluicegate-{}", std::process::id()));
    let shown = program.display();
    let other = format!("ln \"$0\" '{shown}'; exec '{shown}' \"$@\"");
    let gateway = Gateway::with_config_after(&other, CONFIG).await;
    std::fs::remove_file(&program).unwrap();
    let mut frames = within("connect", mjpeg(gateway.address, "demo"))
        .await
        .unwrap();
    within("a frame", frames.next()).await.unwrap();
    gateway.logged("using the H.264 encoder ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_waits_for_a_keyframe_gets_one_from_an_encoder_of_ours() {
    let gateway = Gateway::with_config(
        "[streams.demo]\nsource = \"test-pattern\"\n\
         encode = { width = 1280, height = 720, frame-rate = 30, bitrate = \"40M\", keyframe-interval = \"1m\" }\n",
    )
    .await;
    let mut viewer = Numbered::connect(&gateway, "demo").await;
    viewer.units(10).await;
    assert_eq!(viewer.keyframes.len(), 1);
    // It reads nothing until it is seconds behind; the next regular keyframe is most of a minute away.
    let mut slow = Raw::with_buffer(gateway.address, Some(16 << 10)).await;
    let head = slow
        .upgrade(gateway.address, "/live/demo/nal")
        .await
        .unwrap();
    assert_eq!(head.status, 101, "{}", head.text);
    viewer.units(240).await;
    assert_eq!(viewer.keyframes.len(), 1);
    // When it reads again, the gateway notices that it is late.
    let read = async { while slow.frame().await.is_ok() {} };
    let second = async {
        while viewer.keyframes.len() < 2 {
            viewer.units(1).await;
        }
    };
    within("a keyframe", async {
        tokio::select! {
            () = second => {}
            () = read => panic!("the slow viewer was cut off"),
        }
    })
    .await;
    let began = viewer.keyframes[0];
    assert!(viewer.keyframes[1] - began < 900, "{:?}", viewer.keyframes);
}

/// A viewer of `nal`, with the numbers and keyframes it received.
struct Numbered {
    viewer: Nal,
    reader: NumberReader,
    numbers: Vec<u32>,
    keyframes: Vec<u32>,
    size: (u32, u32),
}

impl Numbered {
    async fn connect(gateway: &Gateway, stream: &str) -> Numbered {
        let viewer = within("connect", Nal::connect(gateway.address, stream)).await;
        Numbered {
            viewer: viewer.unwrap(),
            reader: NumberReader::default(),
            numbers: Vec::new(),
            keyframes: Vec::new(),
            size: (0, 0),
        }
    }

    /// Watches until this many further numbers have been read.
    async fn watch(&mut self, count: usize) {
        let most = self.numbers.len() + count;
        while self.numbers.len() < most {
            self.units(1).await;
        }
    }

    async fn units(&mut self, count: usize) {
        for _ in 0..count {
            let unit = within("a frame", self.viewer.next_unit()).await.unwrap();
            let numbers = self.reader.feed(&unit.data);
            if unit.is_idr() {
                self.keyframes
                    .push(numbers.first().copied().unwrap_or(u32::MAX));
                let of = |kind| -> Vec<_> {
                    let units = unit.nals.iter().filter(|unit| nal::unit_type(unit) == kind);
                    units.cloned().collect()
                };
                let sets = ParameterSets::new(&of(nal::SPS), &of(nal::PPS)).unwrap();
                self.size = (sets.picture.width, sets.picture.height);
            }
            self.numbers.extend(numbers);
        }
    }
}

fn size_of(jpeg: &[u8]) -> (usize, usize) {
    let head = turbojpeg::read_header(jpeg).unwrap();
    (head.width, head.height)
}
