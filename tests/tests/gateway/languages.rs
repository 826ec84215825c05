//! Transports in other languages than Rust: a project outside the repository is built by its language's own tool, real
//! players play what it makes, and the log says why it fails.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, Raw,
    command::{CommandResult, sluicegate, tool, try_tool},
    http_get,
    raw::masked,
    within,
};
use std::path::PathBuf;

const DEMO: &str = "
[streams.demo]
source = \"test-pattern\"
encode = { width = 320, height = 192, frame-rate = 30 }
";

/// A project of `sluicegate plugin new` in a folder outside the repository, which is removed at the end.
struct Project(PathBuf);

impl Project {
    async fn new(language: &str, name: &str) -> Project {
        let parent = std::env::temp_dir().join(format!("sluicegate-{}", std::process::id()));
        std::fs::create_dir_all(&parent).unwrap();
        let project = Project(parent.join(name));
        let folder = project.0.to_str().unwrap();
        let made = sluicegate(&["plugin", "new", "--lang", language, folder]).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        project
    }

    /// With the tools that it names.
    async fn javascript(name: &str) -> Project {
        let project = Project::new("js", name).await;
        // From npm's cache, if these versions are in it.
        project
            .npm(&["ci", "--prefer-offline", "--no-audit", "--no-fund"])
            .await;
        project
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    async fn npm(&self, arguments: &[&str]) {
        let run = self.try_npm(arguments).await;
        assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
    }

    async fn try_npm(&self, arguments: &[&str]) -> CommandResult {
        let folder = ["--prefix", self.0.to_str().unwrap()];
        try_tool("npm", &[&folder[..], arguments].concat()).await
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_project_in_javascript_plays() {
    let project = Project::javascript("mine").await;
    project.npm(&["run", "check"]).await;
    project.npm(&["run", "build"]).await;
    plays(&project, "mine").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_project_in_rust_plays() {
    let project = Project::new("rust", "my-own").await;
    let build = Gateway::root().join("plugins/build");
    let (folder, component) = (&project.0, project.file("my-own.wasm"));
    let arguments = [
        "project",
        folder.to_str().unwrap(),
        component.to_str().unwrap(),
    ];
    tool(build.to_str().unwrap(), &arguments).await;
    plays(&project, "my-own").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_without_its_export_is_not_built() {
    let project = Project::javascript("unexported").await;
    let transport = std::fs::read_to_string(project.file("transport.js")).unwrap();
    for (from, to, said) in [
        (
            "export const transport",
            "const transport",
            "transport.js: Failed to evaluate user JavaScript module",
        ),
        (
            "component(H264)",
            "H264",
            "write `export const transport = component(CLASS)`",
        ),
        (
            "component(H264)",
            "component(new H264({}))",
            "`component` takes the class of a transport, not object",
        ),
    ] {
        let wrong = transport.replace(from, to);
        std::fs::write(project.file("transport.js"), wrong).unwrap();
        let built = project.try_npm(&["run", "build"]).await;
        assert!(built.err.contains(said), "{said:?} is not in {built:#?}");
        assert_ne!(built.code, Some(0), "{built:?}");
    }
    assert!(!project.file("unexported.wasm").exists());
}

/// The component of a new project passes the tests of the kit, and plays.
async fn plays(project: &Project, name: &str) {
    let component = project.file(&format!("{name}.wasm"));
    let tested = sluicegate(&["plugin", "test", component.to_str().unwrap()]).await;
    assert_eq!(tested.code, Some(0), "{tested:?}");
    // The name and version of the package.
    let about = format!("{name}@0.1.0, ");
    assert!(tested.out.starts_with(&about), "{tested:?}");
    assert!(tested.out.contains("players can read it"), "{tested:?}");
    let transport = std::fs::read_to_string(project.file("sluicegate.toml")).unwrap();
    let (_, transport) = transport.split_once("[transports").unwrap();
    let file = format!("{name}.wasm");
    let transport = transport.replace(&file, component.to_str().unwrap());
    let gateway = Gateway::with_config(&format!("{DEMO}[transports{transport}")).await;
    assert_eq!(play(&gateway, name).await.trim(), "h264,320,192,60");
    let (status, head, body) = http_get(gateway.address, &format!("/live/demo/{name}/info"), &[])
        .await
        .unwrap();
    let about: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &about["width"]),
        (200, &320.into()),
        "{head} {about}"
    );
    assert_eq!(failures(&gateway, name).await, 0);
}

/// Failures of a transport's component so far.
async fn failures(gateway: &Gateway, name: &str) -> u64 {
    let plugins = gateway.api("/api/plugins").await;
    let mut all = plugins.as_array().unwrap().iter();
    let one = all.find(|plugin| plugin["name"] == name).unwrap();
    one["failures"].as_u64().unwrap()
}

/// What ffprobe says about the first 60 frames that one connection delivers.
async fn play(gateway: &Gateway, transport: &str) -> String {
    let url = format!("http://{}/live/demo/{transport}", gateway.address);
    let entries = "stream=codec_name,width,height,nb_read_frames";
    let arguments = [
        "-v",
        "error",
        "-probesize",
        "32768",
        "-f",
        "h264",
        "-count_frames",
        "-read_intervals",
        "%+#60",
        "-show_entries",
        entries,
        "-of",
        "csv=p=0",
        &url,
    ];
    tool("ffprobe", &arguments).await
}

/// A transport that makes the mistake which its option names.
const MISTAKEN: &str = r#"
import { FOREVER, Refusal, chunk, component, findViewer, join, log } from "./sluicegate/sluicegate.js";
import { millis, options, payload, reply, slice } from "./sluicegate/sluicegate.js";

export const transport = component(class {
  constructor(given) {
    this.made = given.made;
    if (this.made === "refusal") throw new Refusal("write ünïcode 🎥");
    if (this.made === "exception") this.missing.part = 1;
    if (this.made === "option") options(given, { stale: "2s" });
    if (this.made === "duration") millis("2 parsecs");
    this.profile = { carriers: ["http", "websocket"], formats: ["h264/annexb"], lanes: [{ staleMs: 2000 }] };
    if (this.made === "field") this.profile.lables = "Mine";
    if (this.made === "number") this.profile.latencyMs = 12.5;
    if (this.made === "item") this.profile.embeds = ["file", 5];
    if (this.made === "pair") this.profile.more = [["name", 5]];
    if (this.made === "lane-item") this.profile.lanes = [2000];
    if (this.made === "profile") this.profile = undefined;
    if (this.made === "method") this.push = undefined;
    if (this.made === "no-method") this.stop = [];
    if (this.made === "async") this.push = async () => [];
  }
  configure() {
    if (this.made === "configure") throw new Error("nothing to configure");
    return ["text", Uint8Array.of(0)];
  }
  push(sample) {
    this.pushed = (this.pushed ?? 0) + 1;
    if (this.made === "late" && this.pushed === 40) this.missing.part = 1;
    if (this.made === "nothing") return;
    if (this.made === "loop") for (;;);
    if (this.made === "null") return [null];
    if (this.made === "time") return [{ ...chunk(sample), time: "now" }];
    if (this.made === "piece") return [chunk(sample, join(5))];
    if (this.made === "read") sample.data.read("0", 5);
    if (this.made === "find") findViewer("1");
    if (this.made === "lane") return [{ payload: sample.data, lane: "first" }];
    if (this.made === "payload") return [{ payload: 5 }];
    if (this.made === "twice") return [chunk(sample), chunk(sample)];
    if (this.made === "slice") return [chunk(sample, join(slice(sample.data, 1, sample.size)))];
    if (this.made === "memory") for (const all = []; ; ) all.push(new Uint8Array(1 << 20));
    return [chunk(sample, join("é", sample.data))];
  }
  request(path) {
    if (path === "exception") throw new RangeError("two\nlines");
    if (path === "nothing") return;
    if (path === "headers") return reply.body("text/plain", "", { headers: ["link"] });
    if (path === "status") return reply.text(70000, "");
    if (path === "forever") return reply.body("text/plain", "ünï 🎥", { maxAge: FOREVER });
    return path === "" ? reply.follow("video/h264") : reply.notFound(path);
  }
  join(viewer) {
    if (viewer.query() === "refuse") throw new Refusal("not you");
    if (viewer.query() === "exception") throw new TypeError("not anybody");
  }
  received(viewer, message) {
    viewer.send(payload(`you said ${message.val}`));
  }
  leave(id) { log.info(`viewer ${typeof id} left`); }
});
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_in_javascript_are_named_and_exceptions_logged_with_their_stack() {
    let project = Project::javascript("mistaken").await;
    std::fs::write(project.file("transport.js"), MISTAKEN).unwrap();
    project.npm(&["run", "build"]).await;
    let component = project.file("mistaken.wasm");
    let component = component.to_str().unwrap();

    for (made, said) in [
        ("refusal", "rejected its options: write ünïcode 🎥"),
        (
            "exception",
            "`open` failed: TypeError: cannot set property 'part' of undefined | at ",
        ),
        ("option", "unknown option `made`; known: `stale`"),
        ("duration", "`2 parsecs` is not a valid duration"),
        ("field", "TypeError: a profile has no \"lables\" | at "),
        (
            "number",
            "\"latencyMs\" of a profile is 12.5, not an integer from 0 to 4294967295 | at ",
        ),
        (
            "item",
            "item 1 of \"embeds\" of a profile is 5, not a string | at ",
        ),
        (
            "pair",
            "item 0 of \"more\" of a profile is an array, not a pair of strings | at ",
        ),
        ("lane-item", "a lane is 2000, not an object | at "),
        ("profile", "a profile is undefined, not an object | at "),
        ("method", "the transport has no method `push` | at "),
        ("no-method", "`stop` is an array, not a method | at "),
    ] {
        let options = format!("{{\"made\": \"{made}\"}}");
        let inspect = ["plugin", "inspect", component, "--options", &options];
        sluicegate(&inspect).await.refused(&[said]);
    }
    // What only shows when it runs.
    for (made, said) in [
        (
            "async",
            "fails: TypeError: `push` is async or returned a Promise: a component has no event loop; return the result",
        ),
        (
            "configure",
            "`configure` fails: Error: nothing to configure | at configure (/transport.js:",
        ),
        ("loop", "it ran longer than its limit of 20ms"),
        ("null", "a chunk is null, not an object"),
        ("time", "a time is string, not an object"),
        (
            "piece",
            "a piece is bytes, a string, a Buffer or a slice, not 5",
        ),
        ("read", "argument 1 of `read` is string, not number"),
        ("find", "the id of a viewer is string, not a number"),
    ] {
        let options = format!("{{\"made\": \"{made}\"}}");
        let check = ["plugin", "check", component, "--options", &options];
        sluicegate(&check).await.refused(&[said]);
    }

    let of_push = [
        ("nothing", "`push` returned undefined, not an array"),
        (
            "lane",
            "\"lane\" of a chunk is string, not an integer from 0 to 255",
        ),
        (
            "payload",
            "a payload is a Buffer, a Uint8Array or a string, not 5",
        ),
        (
            "twice",
            "a buffer was returned before; return `join(buffer)`",
        ),
        ("slice", "`push` failed: a slice of "),
        (
            "memory",
            "its limit is 32MiB (limits.memory); it logged: InternalError: out of memory",
        ),
    ];
    let mut config = DEMO.to_owned();
    for made in ["right", "other", "late"]
        .into_iter()
        .chain(of_push.map(|(made, _)| made))
    {
        config += &format!("[transports.{made}]\nplugin = \"{component}\"\nmade = \"{made}\"\n");
    }
    let gateway = Gateway::with_config(&config).await;
    // A player stays connected while other instances take over.
    assert_eq!(play(&gateway, "late").await.trim(), "h264,320,192,60");
    assert!(failures(&gateway, "late").await > 0);
    let line = gateway.logged("transport=\"late\"").await;
    for part in [
        "`push` failed: TypeError: cannot set property 'part' of undefined | at push (/transport.js:",
        " | at <anonymous> (/sluicegate/sluicegate.js:",
    ] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }

    let mut viewers = Vec::new();
    for (made, _) in of_push {
        let mut viewer = Raw::connect(gateway.address).await;
        let request = format!(
            "GET /live/demo/{made} HTTP/1.1\r\nHost: {}\r\n\r\n",
            gateway.address
        );
        viewer.write(request).await;
        viewers.push(viewer);
    }
    for (_, said) in of_push {
        gateway.logged(said).await;
    }

    let mut viewer = Raw::connect(gateway.address).await;
    let head = viewer
        .upgrade(gateway.address, "/live/demo/right?refuse")
        .await;
    assert_eq!(head.unwrap().status, 400);
    let mut viewer = Raw::connect(gateway.address).await;
    let head = viewer.upgrade(gateway.address, "/live/demo/right").await;
    assert_eq!(head.unwrap().status, 101);
    viewer.write(masked(0x81, "é".as_bytes())).await;
    let answer = async { while viewer.frame().await.unwrap() != (1, "you said é".into()) {} };
    within("an answer", answer).await;
    drop(viewer);
    gateway.logged("viewer number left").await;

    for (path, status, said) in [
        ("right/forever", 200, "ünï 🎥"),
        (
            "right/elsewhere",
            404,
            "This transport has nothing at \"elsewhere\".",
        ),
        (
            "right/exception",
            503,
            "`request` failed: RangeError: two | lines | at request (/transport.js:",
        ),
        (
            "right/headers",
            503,
            "item 0 of \"headers\" of a response is string, not a pair of strings",
        ),
        (
            "right/status",
            503,
            "\"status\" of a response is 70000, not an integer from 0 to 65535",
        ),
        (
            "other/nothing",
            503,
            "`request` did not return one of `reply`",
        ),
    ] {
        let path = format!("/live/demo/{path}");
        let (got, head, body) = http_get(gateway.address, &path, &[]).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(
            got == status && body.contains(said),
            "{path}: {head}\n{body}"
        );
    }
}
