//! Halves of transports that run in browsers: their list, frame and module, and the tickets that a frame needs.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, Raw,
    client::request_with,
    command::{check, sluicegate},
    exchange::{Exchanged, FAST, entry, reload},
    http_get,
    raw::handshake,
    within,
};

/// What a frame with an opaque origin sends.
const OPAQUE: [(&str, &str); 2] = [("Origin", "null"), ("Sec-Fetch-Site", "cross-site")];

async fn gateway() -> Gateway {
    let canvas = Gateway::component("canvas");
    let canvas = canvas.display();
    Gateway::with_config(&format!(
        "[server]\norigins = [\"https://pets.example\"]\n\
         [streams.demo]\nsource = \"test-pattern\"\nrenditions = {{ small = {{ width = 320 }} }}\n\
         [streams.other]\nsource = \"test-pattern\"\n\
         [transports.canvas]\nplugin = \"{canvas}\"\n\
         [transports.trusted]\nplugin = \"{canvas}\"\ntrusted = true\n"
    ))
    .await
}

/// The entry of the transport `canvas` in the list for a stream.
async fn half(gateway: &Gateway, stream: &str) -> Value {
    let list = gateway.api(&format!("/api/halves/{stream}")).await;
    list.as_array().unwrap()[0].clone()
}

/// Status, head in lower case, and body of a GET.
async fn get(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
    let (status, head, body) = within(path, http_get(gateway.address, path, headers))
        .await
        .unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    (status, head.to_ascii_lowercase(), body)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn the_list_has_what_a_player_needs() {
    let gateway = gateway().await;
    let list = gateway.api("/api/halves/demo@small").await;
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|half| text(&half["transport"]))
        .collect();
    assert_eq!(names, ["canvas", "trusted"]);
    let (canvas, trusted) = (&list[0], &list[1]);
    assert_eq!(canvas["label"], "Canvas");
    assert!(text(&canvas["url"]).starts_with("/live/demo@small/canvas?ticket="));
    assert!(text(&canvas["frame"]).starts_with("/halves/demo@small/canvas?ticket="));
    assert_eq!(trusted["frame"], Value::Null);
    assert_eq!(trusted["module"], canvas["module"]);
    let (status, _, body) = get(&gateway, "/api/halves/nobody", &[]).await;
    assert_eq!(status, 404, "{body}");
    assert_eq!(gateway.api("/api/plugins").await[0]["failures"], 0);
}

#[tokio::test]
async fn the_module_is_served_for_ever_and_also_to_an_opaque_origin() {
    let gateway = gateway().await;
    let half = half(&gateway, "demo").await;
    let (status, head, body) = get(&gateway, text(&half["module"]), &OPAQUE).await;
    assert_eq!(status, 200, "{head}");
    for part in [
        "content-type: text/javascript; charset=utf-8",
        "cache-control: public, max-age=31536000, immutable",
        "access-control-allow-origin: null",
    ] {
        assert!(head.contains(part), "{part}: {head}");
    }
    assert!(body.contains("export default class Canvas"), "{body}");
    let evil = [("Origin", "https://evil.example"), OPAQUE[1]];
    assert_eq!(get(&gateway, text(&half["module"]), &evil).await.0, 403);
}

#[tokio::test]
async fn the_frame_has_an_opaque_origin_and_reaches_its_own_media_only() {
    let gateway = gateway().await;
    let address = gateway.address;
    let half = half(&gateway, "demo").await;
    let path = text(&half["frame"]);
    let embedded = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "iframe"),
    ];
    for headers in [&[][..], &embedded] {
        let (status, head, _) = get(&gateway, path, headers).await;
        assert_eq!(status, 200, "{head}");
        let module = text(&half["module"]).to_ascii_lowercase();
        for part in [
            "content-security-policy: sandbox allow-scripts; default-src 'none';".into(),
            format!(" http://{address}{module} "),
            format!(
                "connect-src http://{address}/live/demo/canvas http://{address}/live/demo/canvas/ ws://{address}/live/demo/canvas ws://{address}/live/demo/canvas/;"
            ),
            "frame-ancestors 'self' https://pets.example".into(),
        ] {
            assert!(head.contains(&part), "{part}: {head}");
        }
        assert!(!head.contains("allow-same-origin"), "{head}");
    }
    let (bare, query) = path.split_once('?').unwrap();
    for (path, headers) in [
        (bare.to_owned(), &[][..]),
        (format!("{bare}?ticket=x"), &[]),
        (format!("/halves/other/canvas?{query}"), &[]),
        (format!("/halves/demo/trusted?{query}"), &[]),
        (bare.to_owned(), &embedded),
    ] {
        let (status, _, body) = get(&gateway, &path, headers).await;
        assert_eq!(status, 403, "{path}: {body}");
    }
}

#[tokio::test]
async fn a_ticket_opens_one_transport_of_one_stream_to_an_opaque_origin() {
    let gateway = gateway().await;
    let half = half(&gateway, "demo").await;
    let ticket = text(&half["url"]).split_once('?').unwrap().1.to_owned();
    let good = format!("/live/demo/canvas/whoami?a=1&{ticket}&b");
    let (status, head, body) = get(&gateway, &good, &OPAQUE).await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("access-control-allow-origin: null"), "{head}");
    // The component does not see the ticket.
    assert_eq!(body, "whoami?a=1&b\n");
    let cut = &ticket[..ticket.len() - 1];
    let forged = ticket.replacen("=", "=f", 1);
    let (other, invalid, foreign) = (
        (403, "is not for this stream"),
        (401, "is not valid for this"),
        (403, "add it to `origins`"),
    );
    for (path, (expected, advice)) in [
        (format!("/live/other/canvas/whoami?{ticket}"), other),
        (format!("/live/demo@small/canvas/whoami?{ticket}"), other),
        (format!("/live/demo/trusted/whoami?{ticket}"), other),
        (format!("/live/demo/canvas/whoami?{cut}"), invalid),
        (format!("/live/demo/canvas/whoami?{forged}"), invalid),
        ("/live/demo/canvas/whoami".into(), foreign),
        (format!("/live/demo?{ticket}"), foreign),
        (format!("/live/demo/frame.jpg?{ticket}"), foreign),
        (format!("/api/halves/demo?{ticket}"), foreign),
        (format!("/api/devices?{ticket}"), foreign),
        (format!("/api/plugins?{ticket}"), foreign),
    ] {
        let (status, head, body) = get(&gateway, &path, &OPAQUE).await;
        assert_eq!(status, expected, "{path}: {body}");
        assert!(body.contains(advice), "{path}: {body}");
        assert!(!head.contains("access-control"), "{path}: {head}");
    }
    // Nor does it make another site's page an allowed one.
    let evil = [("Origin", "https://evil.example")];
    assert_eq!(get(&gateway, &good, &evil).await.0, 403);
    for (path, status) in [
        (format!("/live/demo/canvas?{ticket}"), 101),
        (format!("/live/other/canvas?{ticket}"), 403),
        (format!("/api/ws/stream/demo?{ticket}"), 403),
        (format!("/api/ws/capture/demo?{ticket}"), 403),
    ] {
        let own = handshake(gateway.address, &path);
        let host = format!("Host: {}", gateway.address);
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(own.replace(&host, &format!("{host}\r\nOrigin: null")))
            .await;
        assert_eq!(raw.head().await.unwrap().status, status, "{path}");
    }
    // Those of another gateway are invalid.
    let later = self::gateway().await;
    let (status, _, body) = get(&later, &good, &OPAQUE).await;
    assert_eq!(status, 401, "{body}");
}

#[tokio::test]
async fn inspect_says_whether_there_is_a_half_in_the_browser() {
    for (name, line) in [
        ("canvas", "browser    a module of "),
        ("nal", "browser    (none)"),
    ] {
        let file = Gateway::component(name);
        let seen = sluicegate(&["plugin", "inspect", file.to_str().unwrap()]).await;
        assert!(seen.out.contains(line), "{seen:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_whose_module_cannot_be_used_is_refused_and_the_one_in_use_stays() {
    let mine = Exchanged::new("mine", "canvas");
    let gateway = Gateway::with_config(&format!("{FAST}{}", mine.config(""))).await;
    let used = half(&gateway, "demo").await["module"].clone();
    let hash = entry(&gateway, "mine").await["hash"].clone();
    let too_large = "a module may have at most 1048576";
    for (write, reason) in [
        (b'E', "it is empty; return the source of an ES module"),
        (b'L', too_large),
        (b'P', "`module` failed: "),
        (b'S', "`module` failed: "),
        (b'U', "`module` failed: "),
    ] {
        let build = char::from(write);
        match write {
            b'U' => mine.write_with(b"this browser has no ", 0xff),
            build => mine.write_build(build),
        }
        let (status, refused) = reload(gateway.address, "mine").await;
        assert_eq!(status, 422, "{build}: {refused}");
        let said = text(&refused["error"]);
        let beginning = "[transports.mine]: ";
        assert!(said.contains(beginning) && said.contains(reason), "{said}");
        gateway.logged(said).await;
        // The same at start, by `check`, by `inspect`, and for a transport that is added.
        check(&format!("{FAST}{}", mine.config("")))
            .await
            .refused(&[beginning, reason]);
        let file = mine.path.to_str().unwrap();
        sluicegate(&["plugin", "inspect", file])
            .await
            .refused(&[reason]);
        let body = format!("{{\"name\": \"other\", \"plugin\": \"{file}\"}}");
        let adding = request_with(
            gateway.address,
            "POST",
            "/api/plugins",
            &[],
            body.as_bytes(),
        );
        let (status, _, answer) = within("an answer", adding).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(status, 422, "{answer}");
        assert!(answer.contains("[transports.other]: "), "{answer}");
    }
    // Pages go on with what they have.
    assert_eq!(half(&gateway, "demo").await["module"], used);
    assert_eq!(get(&gateway, text(&used), &OPAQUE).await.0, 200);
    assert_eq!(entry(&gateway, "mine").await["hash"], hash);
    let list = gateway.api("/api/halves/demo").await;
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
}
