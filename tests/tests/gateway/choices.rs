//! Choice of transport and rendition by the config's rules, by the policy and by hand; and the damage that a broken
//! policy cannot do.

use serde_json::json;
use sluicegate_tests::{
    Control, Gateway, Raw, choose,
    client::Mjpeg,
    command::{check, tool},
    http_get, within,
};
use std::time::Duration;

const STREAMS: &str = "
[streams.demo]
source = \"test-pattern\"
always-on = true
encode = { width = 320, height = 192, frame-rate = 30, keyframe-interval = \"1s\" }
renditions.mobile = { width = 160, bitrate = \"100k\" }
";

/// One rule for every kind of match. `[policy]` sets the default order, so that a decision without a matching rule can
/// be told from one by a rule.
const RULES: &str = "
[policy]
near = [\"nal\", \"mjpeg\"]
[[clients]]
match = { user-agent = \"Kiosk\" }
transport = \"mjpeg\"
rendition = \"mobile\"
force = true
[[clients]]
match = { header = { x-room = \"hall\" } }
transport = \"hls\"
rendition = [\"mobile\", \"\"]
[[clients]]
match = { query = { where = \"front door\" } }
transport = [\"mse\", \"hls\"]
policy = { near = [\"hls\"], far = [] }
[[clients]]
match = { client = \"tablet\", network = \"127.0.0.0/8\", stream = \"demo\" }
transport = \"mse\"
rendition = \"\"
[[clients]]
match = { network = \"10.0.0.0/8\" }
transport = \"hls\"
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_every_kind_apply_and_a_manual_choice_wins_unless_one_forces() {
    let gateway = Gateway::with_config(&format!("{STREAMS}{RULES}")).await;
    let all = "can=nal,mse,hls,mjpeg";
    for (query, headers, expected, reason) in [
        (all, &[][..], "nal", "lowest latency"),
        ("can=mse,mjpeg", &[], "mjpeg", "lowest latency"),
        (
            all,
            &[("User-Agent", "x Kiosk/1")],
            "mjpeg@mobile",
            "config sets it",
        ),
        (all, &[("X-Room", "hall")], "hls@mobile", ""),
        ("where=front+door&can=nal,mse,hls", &[], "hls", ""),
        ("client=tablet&can=mse,nal", &[], "mse", "config sets it"),
        // A choice by hand overrides a rule, unless the rule says `force`.
        (
            "can=nal,hls&transport=nal&rendition=mobile",
            &[("X-Room", "hall")],
            "nal@mobile",
            "manually",
        ),
        (
            "can=nal,mjpeg&transport=nal",
            &[("User-Agent", "Kiosk")],
            "mjpeg@mobile",
            "config sets it",
        ),
        ("can=nal,mjpeg&transport=auto", &[], "nal", "lowest latency"),
    ] {
        let (status, chosen) = choose(&gateway, "demo", query, headers).await;
        assert_eq!(status, 200, "{query} {headers:?}: {chosen}");
        let (transport, rendition) = expected.split_once('@').unwrap_or((expected, ""));
        assert_eq!(
            (&chosen["transport"], &chosen["rendition"]),
            (&json!(transport), &json!(rendition)),
            "{query} {headers:?}: {chosen}"
        );
        let said = chosen["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{query} {headers:?}: {said}");
        let base = match rendition {
            "" => "/live/demo".to_owned(),
            rendition => format!("/live/demo@{rendition}"),
        };
        let file = if transport == "hls" {
            "/index.m3u8"
        } else {
            ""
        };
        assert_eq!(chosen["base"], json!(base));
        assert_eq!(chosen["url"], json!(format!("{base}/{transport}{file}")));
    }
    // A rendition in the path works like one in the query.
    let (_, chosen) = choose(&gateway, "demo@mobile", "can=nal,mjpeg", &[]).await;
    assert_eq!(chosen["base"], "/live/demo@mobile");
    for (stream, query, headers, status, what) in [
        ("dmo", all, &[][..], 404, "did you mean `demo`?"),
        ("demo@mobil", all, &[], 404, "did you mean `mobile`?"),
        ("demo", "can=flv", &[], 406, "it can play flv"),
        ("demo", "can=nal", &[("X-Room", "hall")], 406, "allows hls"),
        (
            "demo",
            "can=nal&transport=hls",
            &[],
            406,
            "available are: nal, nal of mobile",
        ),
    ] {
        let (found, answer) = choose(&gateway, stream, query, headers).await;
        let text = answer["error"].as_str().unwrap();
        assert!(found == status && text.contains(what), "{found} {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_clients_are_led_to_what_they_play() {
    let gateway = Gateway::with_config(&format!("{STREAMS}{RULES}")).await;
    let mozilla = "Mozilla/5.0 (X11; Linux x86_64) Chrome/142.0";
    for (stream, headers, expected) in [
        (
            "demo",
            &[("User-Agent", mozilla), ("Sec-Fetch-Dest", "image")][..],
            "demo/mjpeg?x=1",
        ),
        (
            "demo",
            &[("User-Agent", mozilla), ("Sec-Fetch-Dest", "document")],
            "../watch/demo?x=1",
        ),
        (
            "demo@mobile",
            &[("User-Agent", mozilla), ("Sec-Fetch-Dest", "document")],
            "../watch/demo@mobile?x=1",
        ),
        (
            "demo",
            &[("User-Agent", mozilla), ("Sec-Fetch-Dest", "video")],
            "demo/mse?x=1",
        ),
        (
            "demo",
            &[("User-Agent", "VLC/3.0.21 LibVLC/3.0.21")],
            "demo/hls/index.m3u8?x=1",
        ),
        (
            "demo@mobile",
            &[("User-Agent", "Lavf/61.7.100")],
            "demo@mobile/hls/index.m3u8?x=1",
        ),
        ("demo", &[("User-Agent", "curl/8")], "demo/mjpeg?x=1"),
        // A rule applies if the client can play what it names, or if it says `force`.
        (
            "demo",
            &[("User-Agent", "Lavf/61 Kiosk")],
            "demo@mobile/mjpeg?x=1",
        ),
        (
            "demo",
            &[("Sec-Fetch-Dest", "image"), ("X-Room", "hall")],
            "demo@mobile/mjpeg?x=1",
        ),
    ] {
        let path = format!("/live/{stream}?x=1");
        let (status, head, _) = http_get(gateway.address, &path, headers).await.unwrap();
        assert_eq!(status, 307, "{headers:?}: {head}");
        let head = head.to_lowercase();
        assert!(
            head.contains(&format!("location: {expected}\r\n").to_lowercase()),
            "{headers:?}: {head}"
        );
        assert!(
            head.contains("vary: origin, accept, user-agent, sec-fetch-dest"),
            "{head}"
        );
        assert!(head.contains("cache-control: no-store"), "{head}");
    }
    // Real clients.
    let url = format!("http://{}/live/demo", gateway.address);
    let found = tool(
        "ffprobe",
        &[
            "-v",
            "error",
            "-show_entries",
            "format=format_name:stream=codec_name,width",
            "-of",
            "compact",
            &url,
        ],
    )
    .await;
    assert!(
        found.contains("codec_name=h264|width=320") && found.contains("format_name=hls"),
        "{found}"
    );
    let found = tool(
        "curl",
        &[
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{redirect_url}",
            &url,
        ],
    )
    .await;
    assert_eq!(found, format!("307 {url}/mjpeg"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_are_redirected_by_what_a_transport_is_not_by_its_name() {
    // What is called hls here is no playlist, and the playlist has a name that no code knows.
    let gateway = Gateway::with_config(&format!(
        "{STREAMS}[transports.hls]\nplugin = '{}'\n[transports.film-reel]\nplugin = '{}'\n",
        Gateway::component("nal").display(),
        Gateway::component("hls").display(),
    ))
    .await;
    let vlc = [("User-Agent", "VLC/3.0.21 LibVLC/3.0.21")];
    let (status, head, _) = http_get(gateway.address, "/live/demo", &vlc).await.unwrap();
    assert_eq!(status, 307, "{head}");
    let expected = "location: demo/film-reel/index.m3u8\r\n";
    assert!(head.to_lowercase().contains(expected), "{head}");
    let url = format!("http://{}/live/demo", gateway.address);
    let shown = "format=format_name:stream=codec_name,width";
    let found = tool(
        "ffprobe",
        &[
            "-v",
            "error",
            "-show_entries",
            shown,
            "-of",
            "compact",
            &url,
        ],
    )
    .await;
    assert!(
        found.contains("codec_name=h264|width=320") && found.contains("format_name=hls"),
        "{found}"
    );
    let (_, chosen) = choose(&gateway, "demo", "can=film-reel", &[]).await;
    assert_eq!(chosen["url"], "/live/demo/film-reel/index.m3u8", "{chosen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_moves_by_policy_and_by_pin_and_the_lists_have_the_reason() {
    let gateway = Gateway::with_config(&format!("{STREAMS}[policy]\nnear = [\"mjpeg\"]\n")).await;
    let (mut control, chosen) = Control::open(&gateway, "demo", "can=hls,mjpeg").await;
    assert_eq!(chosen["transport"], "mjpeg");
    let choices = control.heard("choices").await;
    let names: Vec<String> = choices["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| format!("{}@{}", choice["transport"], choice["rendition"]).replace('"', ""))
        .collect();
    assert_eq!(names, ["hls@", "hls@mobile", "mjpeg@", "mjpeg@mobile"]);
    assert_eq!(
        (&choices["forced"], &choices["pin"]["transport"]),
        (&json!(false), &json!(null))
    );
    control.say(json!({ "type": "ping", "id": 7 })).await;
    let pong = control.heard("pong").await;
    assert!(
        pong["id"] == 7 && pong["now"].as_u64().unwrap() > 1_700_000_000_000,
        "{pong}"
    );

    // The video connection names its session in the query, which is hidden from the component.
    let id = control.path.rsplit('/').next().unwrap().to_owned();
    let path = format!("/live/demo/mjpeg?session={id}");
    let mut viewer = within("mjpeg", Mjpeg::open(gateway.address, &path))
        .await
        .unwrap();
    within("a frame", viewer.next()).await.unwrap();
    control.playing(&chosen).await;
    control.report(json!({ "network": "cellular" })).await;
    let told = control.heard("move").await;
    assert_eq!(
        (&told["transport"], &told["base"]),
        (&json!("hls"), &json!("/live/demo")),
        "{told}"
    );
    assert!(
        told["reason"].as_str().unwrap().contains("mobile"),
        "{told}"
    );
    assert!(told["timeout_ms"].as_u64().unwrap() >= 5000, "{told}");
    assert_eq!(told["makes_way"], true, "HLS needs less: {told}");
    control.playing(&told).await;
    let sessions = || async {
        let (_, _, body) = http_get(gateway.address, "/api/sessions", &[])
            .await
            .unwrap();
        let all: serde_json::Value = serde_json::from_slice(&body).unwrap();
        all["sessions"].as_array().unwrap().clone()
    };
    let moved = within("the list knows", async {
        loop {
            let all = sessions().await;
            // The connection belongs to the session and has no entry of its own.
            assert_eq!(all.len(), 1, "{all:?}");
            if all[0]["transport"] == "hls" {
                return all[0].clone();
            }
        }
    })
    .await;
    assert_eq!(moved["last_move"]["from"]["transport"], "mjpeg", "{moved}");
    assert!(
        moved["reason"].as_str().unwrap().contains("mobile"),
        "{moved}"
    );
    assert!(moved["bytes"].as_u64().unwrap() > 0, "{moved}");
    assert_ne!(
        moved["id"],
        json!(id),
        "the list gives no control over sessions"
    );

    control
        .say(json!({ "type": "pin", "transport": "mjpeg", "rendition": "mobile" }))
        .await;
    let told = control.heard("move").await;
    assert_eq!(
        (&told["transport"], &told["base"]),
        (&json!("mjpeg"), &json!("/live/demo@mobile"))
    );
    control.playing(&told).await;
    control
        .report(json!({ "network": "cellular", "stalled_ms": 900 }))
        .await;
    control
        .report(json!({ "network": "cellular", "stalled_ms": 900 }))
        .await;
    control
        .say(json!({ "type": "pin", "transport": "flv" }))
        .await;
    let refused = control.heard("refused").await;
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("available are: hls"),
        "{refused}"
    );
    control.say(json!({ "type": "auto" })).await;
    let told = control.heard("move").await;
    assert_eq!(
        told["transport"], "hls",
        "a manual choice was moved: {told}"
    );

    // A candidate that the stream does not have appears neither in lists nor in events.
    control
        .say(json!({ "type": "playing", "transport": "x".repeat(9000), "rendition": "" }))
        .await;
    let refused = control.heard("refused").await;
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("no such transport"),
        "{refused}"
    );
    assert_ne!(sessions().await[0]["transport"], "x".repeat(9000));

    // Calls and answers of the policy can be read, and the moves appear as events.
    let (_, _, body) = http_get(gateway.address, &control.path, &[]).await.unwrap();
    let log: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let log = log["log"].as_array().unwrap();
    assert!(
        log[0]["call"]["open"].is_object() && log.len() > 4,
        "{log:?}"
    );
    let (status, _, body) = http_get(gateway.address, "/api/sessions/nobody", &[])
        .await
        .unwrap();
    assert!(status == 404 && String::from_utf8_lossy(&body).contains("start one"));
    for wrong in ["{}", "nonsense", "{\"type\":\"report\",\"received\":\"x\"}"] {
        let (mut control, _) = Control::open(&gateway, "demo", "can=mjpeg").await;
        control.raw(wrong).await;
        let end = loop {
            match within("an end", control.hear()).await {
                Ok(_) => {}
                Err(end) => break end.to_string(),
            }
        };
        assert!(end.starts_with("1007: not a valid player message"), "{end}");
    }
}

/// If a rule forces the candidates, the transport in the query is not a manual choice, so moves still have the policy's
/// reasons.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forced_was_not_chosen_by_hand() {
    let rule = "[[clients]]\nmatch = {}\ntransport = [\"mjpeg\", \"hls\"]\nforce = true\n[policy]\nnear = [\"mjpeg\"]\n";
    let gateway = Gateway::with_config(&format!("{STREAMS}{rule}")).await;
    let query = "can=mjpeg,hls,nal&transport=nal";
    let (mut control, chosen) = Control::open(&gateway, "demo", query).await;
    assert_eq!(chosen["transport"], "mjpeg");
    control.playing(&chosen).await;
    control.report(json!({ "network": "cellular" })).await;
    let told = control.heard("move").await;
    assert_eq!(told["transport"], "hls");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("mobile"), "{told}");
}

/// A client that only starts sessions cannot fill the table: each address has a limit, and a session whose player has
/// opened the control channel no longer counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_creates_sessions_and_opens_none_is_limited() {
    let gateway = Gateway::with_config(STREAMS).await;
    let (_control, chosen) = Control::open(&gateway, "demo", "can=mjpeg").await;
    assert_eq!(chosen["transport"], "mjpeg");
    let (mut begun, mut refused) = (0, None);
    while refused.is_none() {
        let (status, said) = choose(&gateway, "demo", "can=mjpeg", &[]).await;
        match status {
            200 => begun += 1,
            _ => refused = Some((status, said["error"].to_string())),
        }
    }
    let (status, said) = refused.unwrap();
    assert_eq!((begun, status), (256, 429), "{said}");
    assert!(said.contains("never opened"), "{said}");
}

/// The kernel's figures about the video connection are used, unless a proxy is in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_looks_at_the_link_itself() {
    let gateway = Gateway::with_config(STREAMS).await;
    let address = gateway.address;
    for (header, round_trip, direct) in [
        ("", 2, Some(true)),
        // A header that proxies add.
        ("Via: 1.1 edge\r\n", 2, None),
        // A proxy that leaves no trace but is much nearer than the player.
        ("", 90, Some(false)),
    ] {
        let (mut control, chosen) = Control::open(&gateway, "demo", "can=mjpeg").await;
        let id = control.path.rsplit('/').next().unwrap();
        // The viewer reads the beginning and then stops, so that frames queue up.
        let mut viewer = Raw::with_buffer(address, Some(4096)).await;
        viewer
            .write(format!(
                "GET /live/demo/mjpeg?session={id} HTTP/1.0\r\nHost: {address}\r\n{header}\r\n"
            ))
            .await;
        assert_eq!(viewer.head().await.unwrap().status, 200);
        control.playing(&chosen).await;
        let path = control.path.clone();
        let mut pace = tokio::time::interval(Duration::from_millis(300));
        let seen = within("what piled up", async {
            loop {
                pace.tick().await;
                control.report(json!({ "round_trip_ms": round_trip })).await;
                control.say(json!({ "type": "ping", "id": 1 })).await;
                control.heard("pong").await;
                let (_, _, body) = http_get(address, &path, &[]).await.unwrap();
                let log: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let seen = &log["session"];
                if seen["report"].is_object()
                    && (direct.is_none() || seen["link"]["unsent"].as_u64() > Some(10_000))
                {
                    return seen.clone();
                }
            }
        })
        .await;
        assert_eq!(seen["link"]["direct"].as_bool(), direct, "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_breaks_costs_no_session_anything() {
    let plugin = Gateway::component("whimsical");
    for (what, call) in [
        ("trap", "open"),
        ("trap", "choose"),
        ("trap", "observe"),
        ("loop", "choose"),
        ("loop", "observe"),
        ("nonsense", "choose"),
        ("nonsense", "observe"),
    ] {
        let config = format!(
            "{STREAMS}[policy]\nplugin = \"{}\"\ndo = \"{what}\"\nin = \"{call}\"\n",
            plugin.display()
        );
        let gateway = Gateway::with_config(&config).await;
        let agent = [("User-Agent", "test")];
        for _ in 0..3 {
            let (status, chosen) = choose(&gateway, "demo", "can=mjpeg,hls", &agent).await;
            assert_eq!(status, 200, "{what} in {call}: {chosen}");
            if call != "observe" {
                let reason = chosen["reason"].as_str().unwrap();
                assert!(
                    chosen["transport"] == "mjpeg" && reason.contains("first candidate"),
                    "{chosen}"
                );
            }
        }
        let (mut control, chosen) = Control::open(&gateway, "demo", "can=mjpeg,hls").await;
        control.playing(&chosen).await;
        for nth in 0..6 {
            control.report(json!({})).await;
            control.say(json!({ "type": "ping", "id": nth })).await;
            assert_eq!(control.heard("pong").await["id"], nth, "{what} in {call}");
        }
        // The player also reports that a candidate gave no frame, whether or not the policy had moved it there.
        control
            .say(json!({ "type": "failed", "transport": chosen["transport"], "rendition": chosen["rendition"] }))
            .await;
        let (_, _, body) = http_get(gateway.address, "/api/plugins", &[])
            .await
            .unwrap();
        let plugins: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let policy = plugins
            .as_array()
            .unwrap()
            .iter()
            .find(|plugin| plugin["kind"] == "policy")
            .unwrap();
        assert_eq!(policy["component"], "whimsical@0.1.0");
        if what != "nonsense" {
            assert!(policy["failures"].as_u64().unwrap() > 0, "{policy}");
        }
        let said = gateway.log.lock().unwrap().join("\n");
        assert!(said.contains("sessions keep playing"), "{said}");
    }
}

#[tokio::test]
async fn rules_and_policies_that_cannot_be_are_refused_at_the_start() {
    for (config, what) in [
        (
            "[[clients]]\nmatch = {}\ntransport = \"hsl\"",
            "item 1 of [[clients]]: there is no transport `hsl`; did you mean `hls`?",
        ),
        (
            "[policy]\nstart-timeout = \"100ms\"",
            "is out of range; write 1s to 60s",
        ),
        ("[policy]\nstart-timeout = 7", "`start-timeout`: "),
        (
            "[[clients]]\nmatch = {}\nrendition = \"tiny\"",
            "there is no rendition `tiny`; there are: mobile",
        ),
        (
            "[[clients]]\nmatch = { stream = \"porch\" }\ntransport = \"hls\"",
            "there is no stream `porch`; there are: demo",
        ),
        (
            "[[clients]]\nmatch = {}\npolicy = { up-at = 3 }",
            "item 1 of [[clients]]: `policy`: auto@0.1.0 rejected its options: option `up-at`: 3 is out of range",
        ),
        (
            "[policy]\nup-aft = \"1s\"",
            "unknown option `up-aft`; known: `near`",
        ),
        (
            "[policy]\nplugin = \"nope\"",
            "no policy `nope` is built in; built in are: auto",
        ),
        ("[policy]\nplugin = \"nope.wasm\"", "cannot read the plugin"),
    ] {
        check(&format!("{STREAMS}{config}\n"))
            .await
            .refused(&[what]);
    }
    let mjpeg = Gateway::component("mjpeg");
    check(&format!(
        "{STREAMS}[policy]\nplugin = \"{}\"\n",
        mjpeg.display()
    ))
    .await
    .refused(&["is not a policy: it exports `sluicegate:gateway/transport@0.2.0`"]);
    let auto = Gateway::component("auto");
    check(&format!(
        "{STREAMS}[transports.x]\nplugin = \"{}\"\n",
        auto.display()
    ))
    .await
    .refused(&["is not a transport: it exports `sluicegate:gateway/policy@0.2.0`"]);
}
