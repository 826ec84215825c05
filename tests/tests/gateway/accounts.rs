//! Accounts over the wire: who sees which stream, by what a client may prove who it is, and what ends when that is
//! taken away.

use serde_json::{Value, json};
use sluicegate_tests::{
    Gateway, Raw,
    accounts::{HOST, PASSWORD, ask, basic, call, cookie_in, sign_in, user},
    client::request_with,
    command::config_file,
    raw::handshake,
    webtransport::{Access, Session},
    within,
};
use std::{
    process::Stdio,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::process::Command;

/// How long something may go on after its permission was taken away.
const SOON: Duration = Duration::from_secs(1);

/// A gateway with two streams, somebody who may view one of them, and an administrator.
async fn gateway() -> Gateway {
    gateway_with("").await
}

async fn gateway_with(more: &str) -> Gateway {
    let streams = ["porch", "garden"].map(|name| {
        format!(
            "[streams.{name}]\nsource = \"test-pattern\"\nencode = {{ width = 320, height = 192 }}\n"
        )
    });
    let config = format!(
        "[server]\nnames = [\"cam.example\"]\n{}{}{}{more}",
        streams.concat(),
        user("eva", "view = [\"porch\"]\ncapture = [\"porch\"]"),
        user("root", "admin = [\"*\"]"),
    );
    Gateway::with_config(&config).await
}

fn in_an_hour() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from((passed + Duration::from_secs(3600)).as_millis()).unwrap()
}

#[tokio::test]
async fn a_browser_is_led_to_the_form_and_back() {
    let gateway = gateway().await;
    let visit = [
        ("Sec-Fetch-Site", "none"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    // Over plain HTTP, browsers send none of these.
    let plain = [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ];
    for headers in [&visit[..], &plain] {
        let (status, head, _) = ask(&gateway, "GET", "/watch/porch?client=a%20b", headers).await;
        assert_eq!(status, 303, "{head}");
        let place = "location: /login?next=%2Fwatch%2Fporch%3Fclient%3Da%2520b\r\n";
        assert!(
            (head.to_lowercase() + "\r\n").contains(&place.to_lowercase()),
            "{head}"
        );
    }
    let login = "/login?next=%2Fwatch%2Fporch";
    let (status, head, page) = ask(&gateway, "GET", login, &[]).await;
    assert_eq!(status, 200, "{page}");
    assert!(
        page.contains("name=\"next\" value=\"/watch/porch\""),
        "{page}"
    );
    assert!(!page.contains("<script"), "{page}");
    assert!(head.contains("form-action 'self'"), "{head}");

    let form = |name: &str, password: &str| {
        let password = password.replace(' ', "+");
        format!("name={name}&password={password}&next=%2Fwatch%2Fporch")
    };
    let post = async |form: String, headers: &[(&str, &str)]| {
        let headers: Vec<_> = [HOST].iter().chain(headers).copied().collect();
        let asked = request_with(gateway.address, "POST", "/login", &headers, form.as_bytes());
        let (status, head, body) = within("the form", asked).await.unwrap();
        (status, head, String::from_utf8(body).unwrap())
    };
    // The answers differ in nothing, whether there is such a user or not.
    let mut wrong = Vec::new();
    for name in ["eva", "nobody"] {
        let (status, head, page) = post(form(name, "wrong"), &[]).await;
        assert_eq!(status, 401, "{head}");
        assert!(!head.to_lowercase().contains("www-authenticate"), "{head}");
        assert!(page.contains("the password is wrong"), "{page}");
        assert!(
            !page.contains("wrong\""),
            "the password is not repeated: {page}"
        );
        wrong.push(page.replace(name, "NAME"));
    }
    assert_eq!(wrong[0], wrong[1]);
    let foreign = [("Origin", "http://evil.example")];
    assert_eq!(post(form("eva", PASSWORD), &foreign).await.0, 403);

    let (status, head, _) = post(form("eva", PASSWORD), &[]).await;
    assert_eq!(status, 303, "{head}");
    assert!(head.contains("/watch/porch"), "{head}");
    let line = head
        .lines()
        .find(|line| line.to_lowercase().starts_with("set-cookie"));
    let line = line.unwrap();
    for part in [
        "sluicegate=",
        "; Path=/",
        "; HttpOnly",
        "; SameSite=Lax",
        "; Max-Age=",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("Secure"), "{line}");
    let cookie = cookie_in(&head);
    let signed_in = [("Cookie", cookie.as_str())];
    assert_eq!(
        ask(&gateway, "GET", "/watch/porch", &signed_in).await.0,
        200
    );
    // A form of another site cannot use it.
    let foreign = [signed_in[0], ("Origin", "http://evil.example")];
    for path in ["/logout", "/account", "/api/account/tokens"] {
        assert_eq!(ask(&gateway, "POST", path, &foreign).await.0, 403, "{path}");
    }
    let (status, head, _) = ask(&gateway, "POST", "/logout", &signed_in).await;
    assert_eq!(status, 303, "{head}");
    assert!(head.contains("Max-Age=0"), "{head}");
    assert_eq!(
        ask(&gateway, "GET", "/watch/porch", &signed_in).await.0,
        401
    );
}

#[tokio::test]
async fn a_stream_that_one_may_not_view_does_not_exist() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, "eva").await;
    let eva = ("Cookie", cookie.as_str());
    let (status, devices) = call(&gateway, "GET", "/api/devices", eva, &Value::Null).await;
    assert_eq!(status, 200);
    let names = |list: &Value| {
        let list = list.as_array().unwrap().iter();
        list.map(|one| one["serial"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&devices), ["porch"]);
    let (_, sessions) = call(&gateway, "GET", "/api/sessions", eva, &Value::Null).await;
    assert_eq!(names(&sessions["streams"]), ["porch"]);
    let root = basic("root", PASSWORD);
    let root = ("Authorization", root.as_str());
    let (_, devices) = call(&gateway, "GET", "/api/devices", root, &Value::Null).await;
    assert_eq!(names(&devices), ["garden", "porch"]);

    // The same answer as for a stream that nobody has, apart from its name.
    for (method, path) in [
        ("GET", "/live/NAME"),
        ("GET", "/live/NAME/mjpeg"),
        ("GET", "/live/NAME/hls/index.m3u8"),
        ("GET", "/live/NAME/frame.jpg"),
        ("GET", "/api/devices/NAME"),
        ("GET", "/api/halves/NAME"),
        ("GET", "/api/ws/stream/NAME"),
        ("GET", "/api/ws/capture/NAME"),
        ("POST", "/api/devices/NAME/capture"),
    ] {
        let mut answers = Vec::new();
        for name in ["garden", "gardex"] {
            let (status, head, body) =
                ask(&gateway, method, &path.replace("NAME", name), &[eva]).await;
            assert_eq!(status, 404, "{method} {path} of {name}: {body}");
            // What differs by its nature.
            let lines = head
                .lines()
                .filter(|line| !line.to_lowercase().starts_with("date"));
            let head: Vec<_> = lines.collect();
            let answer = format!("{head:?}{body}").replace(name, "NAME");
            let id = answer.split_once("capture_id\":\"");
            let id = id.map(|(_, rest)| rest.split('"').next().unwrap().to_owned());
            answers.push(id.map_or(answer.clone(), |id| answer.replace(&id, "ID")));
        }
        assert_eq!(answers[0], answers[1], "{method} {path}");
    }
    // Nothing of it was started.
    let (_, garden) = call(&gateway, "GET", "/api/devices/garden", root, &Value::Null).await;
    assert_eq!(garden["state"], "idle", "{garden:#}");
}

#[tokio::test]
async fn programs_prove_who_they_are_by_password_token_or_ticket() {
    let gateway = gateway().await;
    let url = |path: &str| format!("http://cam.example:{}{path}", gateway.address.port());
    let curl = async |path: &str, arguments: &[&str]| {
        let resolve = format!("cam.example:{}:127.0.0.1", gateway.address.port());
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ])
        .args(["--resolve", &resolve])
        .args(arguments)
        .arg(url(path))
        .stdout(Stdio::piped());
        let ended = within("curl", curl.output()).await.unwrap();
        String::from_utf8(ended.stdout).unwrap()
    };
    let (frame, other) = ("/live/porch/frame.jpg", "/live/garden/frame.jpg");
    assert_eq!(curl(frame, &[]).await, "401");
    let (_, head, _) = ask(&gateway, "GET", frame, &[]).await;
    assert!(
        head.to_lowercase()
            .contains("www-authenticate: basic realm="),
        "{head}"
    );
    let script = [
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors"),
    ];
    let (status, head, _) = ask(&gateway, "GET", frame, &script).await;
    assert_eq!(status, 401, "{head}");
    assert!(!head.to_lowercase().contains("www-authenticate"), "{head}");

    let password = format!("eva:{PASSWORD}");
    assert_eq!(curl(frame, &["--user", &password]).await, "200");
    assert_eq!(curl(other, &["--user", &password]).await, "404");
    assert_eq!(curl(frame, &["--user", "eva:wrong"]).await, "401");

    let cookie = sign_in(&gateway, "eva").await;
    let eva = ("Cookie", cookie.as_str());
    let new = json!({ "name": "wall", "grants": { "view": ["*"] } });
    let (status, made) = call(&gateway, "POST", "/api/account/tokens", eva, &new).await;
    assert_eq!(status, 200, "{made}");
    let bearer = format!("Authorization: Bearer {}", made["secret"].as_str().unwrap());
    assert_eq!(curl(frame, &["--header", &bearer]).await, "200");
    assert_eq!(
        curl(other, &["--header", &bearer]).await,
        "404",
        "no more than its user"
    );
    let capture = ["--header", &bearer, "--request", "POST"];
    assert_eq!(curl("/api/devices/porch/capture", &capture).await, "403");
    let (_, account) = call(&gateway, "GET", "/api/account", eva, &Value::Null).await;
    assert_eq!(account["tokens"][0]["name"], "wall", "{account:#}");
    assert!(
        !account
            .to_string()
            .contains(made["secret"].as_str().unwrap())
    );
    let path = format!(
        "/api/account/tokens/{}",
        made["token"]["id"].as_str().unwrap()
    );
    assert_eq!(
        call(&gateway, "DELETE", &path, eva, &Value::Null).await.0,
        200
    );
    assert_eq!(curl(frame, &["--header", &bearer]).await, "401");

    // A player that sends nothing follows relative URLs from a path with a ticket.
    let accept = ("Accept", "application/json");
    let (_, _, chosen) = ask(&gateway, "GET", "/live/porch", &[eva, accept]).await;
    let chosen: Value = serde_json::from_str(&chosen).unwrap();
    let ticket = chosen["ticket"].as_str().unwrap();
    let playlist = url(&format!("/live/~{ticket}/porch/hls/index.m3u8"));
    let mut probe = Command::new("ffprobe");
    probe
        .args(["-v", "error", "-headers", "Host: cam.example\r\n"])
        .args(["-show_entries", "stream=codec_name", "-of", "csv=p=0"])
        .arg(playlist.replace("cam.example", "127.0.0.1"));
    let probed = within("ffprobe", probe.output()).await.unwrap();
    assert!(
        String::from_utf8_lossy(&probed.stdout).contains("h264"),
        "{probed:?}"
    );
    let ticketed = |stream: &str| format!("/live/~{ticket}/{stream}/frame.jpg");
    assert_eq!(curl(&ticketed("porch"), &[]).await, "200");
    assert_eq!(curl(&ticketed("garden"), &[]).await, "403");
    assert_eq!(
        curl(&ticketed("porch").replace('~', "~x"), &[]).await,
        "401"
    );
    // It is worth nothing without what it was issued under.
    assert_eq!(ask(&gateway, "POST", "/logout", &[eva]).await.0, 303);
    assert_eq!(curl(&ticketed("porch"), &[]).await, "401");
}

/// Whether the connection is ended within [`SOON`] after `revoke`. Returns what it received last.
async fn ended_soon(what: &str, viewer: &mut Raw, revoke: impl Future<Output = ()>) -> Vec<u8> {
    let began = Instant::now();
    revoke.await;
    let rest = within(what, viewer.end()).await.unwrap();
    let took = began.elapsed();
    assert!(took < SOON, "{what}: {took:?}");
    rest.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_ends_when_its_permission_is_taken_away() {
    let gateway = gateway().await;
    let address = gateway.address;
    let root = basic("root", PASSWORD);
    let root = ("Authorization", root.as_str());
    let end_sessions = async |user: &str| {
        let (_, account) = call(&gateway, "GET", "/api/account", root, &Value::Null).await;
        let sessions = account["sessions"].as_array().unwrap();
        for session in sessions.iter().filter(|session| session["user"] == user) {
            let path = format!("/api/account/sessions/{}", session["id"].as_str().unwrap());
            let (status, answer) = call(&gateway, "DELETE", &path, root, &Value::Null).await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    // Bodies without an end.
    for path in ["/live/porch/mjpeg", "/live/porch/mse", "/api/events"] {
        let cookie = sign_in(&gateway, "eva").await;
        let mut viewer = Raw::connect(address).await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: cam.example\r\nCookie: {cookie}\r\n");
        viewer.write(head + "Connection: close\r\n\r\n").await;
        assert_eq!(viewer.head().await.unwrap().status, 200, "{path}");
        let last = ended_soon(path, &mut viewer, end_sessions("eva")).await;
        assert!(last.ends_with(b"0\r\n\r\n"), "{path}: {last:?}");
    }
    // WebSockets: a viewer, a player's control channel, a capture client.
    let socket = |path: &str, header: String| {
        let host = format!("Host: {address}");
        handshake(address, path).replace(&host, &format!("Host: cam.example\r\n{header}"))
    };
    for kind in ["nal", "control", "capture"] {
        let cookie = sign_in(&gateway, "eva").await;
        let path = match kind {
            "nal" => "/live/porch/nal".to_owned(),
            "control" => {
                let headers = [("Cookie", cookie.as_str()), ("Accept", "application/json")];
                let (_, _, chosen) = ask(&gateway, "GET", "/live/porch", &headers).await;
                let chosen: Value = serde_json::from_str(&chosen).unwrap();
                chosen["session"].as_str().unwrap().to_owned()
            }
            _ => "/api/ws/capture/porch".to_owned(),
        };
        let mut viewer = Raw::connect(address).await;
        viewer
            .write(socket(&path, format!("Cookie: {cookie}")))
            .await;
        assert_eq!(viewer.head().await.unwrap().status, 101, "{kind}");
        let began = Instant::now();
        end_sessions("eva").await;
        let (code, reason) = within(kind, viewer.closed()).await.unwrap();
        let took = began.elapsed();
        assert!(took < SOON, "{kind}: {took:?}");
        assert_eq!(code, 4401, "{kind}: {reason}");
        // It cannot come back.
        let mut again = Raw::connect(address).await;
        again
            .write(socket(&path, format!("Cookie: {cookie}")))
            .await;
        assert_eq!(again.head().await.unwrap().status, 401, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_link_opens_one_stream_until_it_is_revoked() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, "eva").await;
    let eva = ("Cookie", cookie.as_str());
    let links = "/api/account/links";
    let new = json!({ "stream": "garden", "until": in_an_hour() });
    assert_eq!(call(&gateway, "POST", links, eva, &new).await.0, 404);
    let new = json!({ "stream": "porch", "role": "talk", "until": in_an_hour() });
    let (status, answer) = call(&gateway, "POST", links, eva, &new).await;
    assert_eq!(status, 403, "eva may not talk: {answer}");
    let new = json!({ "stream": "porch", "until": in_an_hour() });
    let (status, made) = call(&gateway, "POST", links, eva, &new).await;
    assert_eq!(status, 200, "{made}");
    let path = made["path"].as_str().unwrap();

    let (status, head, _) = ask(&gateway, "GET", path, &[]).await;
    assert_eq!(status, 303, "{head}");
    assert!(head.contains("/watch/porch"), "{head}");
    let cookie = cookie_in(&head);
    let guest = ("Cookie", cookie.as_str());
    let (_, devices) = call(&gateway, "GET", "/api/devices", guest, &Value::Null).await;
    assert_eq!(devices.as_array().unwrap().len(), 1);
    assert_eq!(
        ask(&gateway, "GET", "/live/garden/frame.jpg", &[guest])
            .await
            .0,
        404
    );
    assert_eq!(
        ask(&gateway, "POST", "/api/devices/porch/capture", &[guest])
            .await
            .0,
        403
    );
    let new = json!({ "stream": "porch", "until": in_an_hour() });
    assert_eq!(call(&gateway, "POST", links, guest, &new).await.0, 403);
    let (_, account) = call(&gateway, "GET", "/api/account", eva, &Value::Null).await;
    assert_eq!(account["links"][0]["stream"], "porch", "{account:#}");
    assert!(!account.to_string().contains(&path[3..]), "{account:#}");

    let mut viewer = Raw::connect(gateway.address).await;
    let head =
        format!("GET /live/porch/mjpeg HTTP/1.1\r\nHost: cam.example\r\nCookie: {cookie}\r\n\r\n");
    viewer.write(head).await;
    assert_eq!(viewer.head().await.unwrap().status, 200);
    let revoke = async {
        let id = made["link"]["id"].as_str().unwrap();
        let path = format!("{links}/{id}");
        assert_eq!(
            call(&gateway, "DELETE", &path, eva, &Value::Null).await.0,
            200
        );
    };
    // The connection stays for further requests, so its body has to end.
    let began = Instant::now();
    revoke.await;
    while !viewer.buffer.ends_with(b"\r\n0\r\n\r\n") {
        within("the end", viewer.more()).await.unwrap();
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(ask(&gateway, "GET", path, &[]).await.0, 404);
    assert_eq!(
        ask(&gateway, "GET", "/live/porch/frame.jpg", &[guest])
            .await
            .0,
        401
    );
    assert_eq!(
        ask(&gateway, "GET", "/live/porch/frame.jpg", &[eva])
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn the_page_of_the_account_makes_and_revokes() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, "eva").await;
    let origin = "http://cam.example";
    let headers = [HOST, ("Cookie", cookie.as_str()), ("Origin", origin)];
    let post = async |form: &str| {
        let asked = request_with(
            gateway.address,
            "POST",
            "/account",
            &headers,
            form.as_bytes(),
        );
        let (status, head, body) = within(form, asked).await.unwrap();
        (status, head, String::from_utf8(body).unwrap())
    };
    let between = |page: &str, before: &str| {
        let (_, rest) = page.split_once(before).unwrap_or_else(|| panic!("{page}"));
        rest.split('"').next().unwrap().to_owned()
    };
    let (status, _, page) = post("action=create-link&stream=porch&role=view&hours=8").await;
    assert_eq!(status, 200, "{page}");
    // The next link is for the same stream, unless another one is chosen.
    assert!(page.contains("<option value=\"porch\" selected>"), "{page}");
    let link = between(&page, "<input readonly value=\"");
    let path = link
        .strip_prefix(origin)
        .unwrap_or_else(|| panic!("{link}"));
    assert_eq!(ask(&gateway, "GET", path, &[]).await.0, 303);
    let (status, _, page) =
        post("action=create-token&name=%3Cb%3E&streams=porch&hours=0&role=view").await;
    assert_eq!(status, 200, "{page}");
    let token = between(&page, "<input readonly value=\"");
    let bearer = format!("Bearer {token}");
    let bearer = [("Authorization", bearer.as_str())];
    assert_eq!(
        ask(&gateway, "GET", "/live/porch/frame.jpg", &bearer)
            .await
            .0,
        200
    );

    let (_, _, page) = ask(&gateway, "GET", "/account", &headers[1..]).await;
    assert!(page.contains("<strong>&lt;b&gt;</strong>"), "{page}");
    assert!(!page.contains(&token) && !page.contains(path), "{page}");
    for action in ["revoke-link", "revoke-token"] {
        let id = between(
            &page,
            &format!("value=\"{action}\"><input type=\"hidden\" name=\"id\" value=\""),
        );
        let (status, head, _) = post(&format!("action={action}&id={id}")).await;
        assert_eq!(status, 303, "{action}: {head}");
    }
    assert_eq!(ask(&gateway, "GET", path, &[]).await.0, 404);
    assert_eq!(
        ask(&gateway, "GET", "/live/porch/frame.jpg", &bearer)
            .await
            .0,
        401
    );
    for (form, expected) in [
        ("action=revoke-link&id=x", 404),
        ("action=create-link&stream=garden&hours=8", 404),
        ("action=create-link&stream=porch&hours=", 400),
        (
            "action=create-token&name=x&streams=a/b&hours=0&role=view",
            400,
        ),
        (
            "action=create-token&name=x&streams=*&hours=0&role=owner",
            400,
        ),
        ("action=no", 400),
        ("", 400),
    ] {
        let (status, _, page) = post(form).await;
        assert_eq!(status, expected, "{form}");
        assert!(page.contains("role=\"alert\""), "{form}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webtransport_session_has_a_ticket_and_ends_with_it() {
    let gateway = gateway().await;
    let address = gateway.address;
    let cookie = sign_in(&gateway, "eva").await;
    let eva = ("Cookie", cookie.as_str());
    let accept = ("Accept", "application/json");
    let (_, _, chosen) = ask(&gateway, "GET", "/live/porch", &[eva, accept]).await;
    let chosen: Value = serde_json::from_str(&chosen).unwrap();
    let ticket = chosen["ticket"].as_str().unwrap();
    let client = Access::in_choice(&gateway, &chosen).client();
    let named = [("origin", "http://evil.example")];
    let path = format!("~{ticket}/porch/webcodecs");
    let refused = Session::with(&client, address, &path, &named).await;
    assert!(refused.is_err(), "a page of another site");
    for path in [
        "~x/porch/webcodecs".to_owned(),
        format!("~{ticket}/garden/webcodecs"),
    ] {
        let refused = Session::with(&client, address, &path, &[]).await;
        assert!(refused.is_err(), "{path}");
    }
    let session = Session::with(&client, address, &path, &[]).await.unwrap();
    session.stream().await.unwrap();
    let began = Instant::now();
    assert_eq!(ask(&gateway, "POST", "/logout", &[eva]).await.0, 303);
    let (code, reason) = session.closed().await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(code, 4401, "{reason}");
}

#[tokio::test]
async fn a_trusted_proxy_says_who_it_is_if_it_knows_the_secret() {
    let config = format!(
        "[server]\nnames = [\"cam.example\"]\ntrusted-proxies = [\"127.0.0.1\"]\n\
         [access]\nproxy-secret = \"0123456789abcdef\"\ngroup-map = {{ \"Family Members\" = \"family\" }}\n\
         [groups.family]\nview = [\"porch\"]\n\
         [streams.porch]\nsource = \"test-pattern\"\n[streams.garden]\nsource = \"test-pattern\"\n{}",
        user("root", "admin = [\"*\"]"),
    );
    let gateway = Gateway::with_config(&config).await;
    let through = ("X-Forwarded-For", "192.0.2.7");
    let secret = ("X-Proxy-Secret", "0123456789abcdef");
    let wrong = ("X-Proxy-Secret", "0123456789abcdeg");
    let user = ("Remote-User", "eva");
    let family = ("Remote-Groups", "others, Family Members");
    for (headers, expected) in [
        (&[through, secret, user, family][..], 200),
        (&[through, user, family], 401),
        (&[through, wrong, user, family], 401),
        (&[through, secret, family], 401),
        // A group that is not in the map gives nothing.
        (&[through, secret, user, ("Remote-Groups", "family")], 404),
        (&[through, secret, user], 404),
        // One of them was not written by the proxy.
        (
            &[through, secret, user, ("Remote-User", "root"), family],
            401,
        ),
    ] {
        let (status, _, body) = ask(&gateway, "GET", "/api/devices/porch", headers).await;
        assert_eq!(status, expected, "{headers:?}: {body}");
    }
    let headers = [through, secret, user, family];
    assert_eq!(
        ask(&gateway, "GET", "/api/devices/garden", &headers)
            .await
            .0,
        404
    );
    assert_eq!(ask(&gateway, "GET", "/api/plugins", &headers).await.0, 403);
}

#[tokio::test]
async fn the_first_start_beyond_loopback_makes_an_administrator_once() {
    let file = config_file("[streams.demo]\nsource = \"test-pattern\"\n");
    let arguments = [
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--config",
        file.to_str().unwrap(),
    ];
    let (mut gateway, _) = Gateway::start(&arguments, Stdio::null()).await;
    gateway.address.set_ip([127, 0, 0, 1].into());
    gateway.logged("name: admin").await;
    let line = gateway.logged("password: ").await;
    let password = line.split_once("password: ").unwrap().1.trim().to_owned();
    let port = gateway.address.port();
    // By an address that is no loopback one, a client is not local.
    let ask = async |gateway: &Gateway, authorization: &str| {
        let host = format!("192.0.2.1:{port}");
        let headers = [("Host", host.as_str()), ("Authorization", authorization)];
        let asked = request_with(gateway.address, "GET", "/api/plugins", &headers, b"");
        within("components", asked).await.unwrap().0
    };
    let admin = basic("admin", &password);
    assert_eq!(ask(&gateway, &admin).await, 200);
    assert_eq!(ask(&gateway, &basic("admin", "wrong")).await, 401);
    assert_eq!(ask(&gateway, "").await, 401);
    let log = gateway.log.lock().unwrap().join("\n");
    assert_eq!(log.matches(&password).count(), 1, "{log}");
    drop(gateway);

    let (gateway, _) = Gateway::start(&arguments, Stdio::null()).await;
    let mut gateway = gateway;
    gateway.address.set_ip([127, 0, 0, 1].into());
    let port = gateway.address.port();
    let host = format!("192.0.2.1:{port}");
    let headers = [("Host", host.as_str()), ("Authorization", admin.as_str())];
    let asked = request_with(gateway.address, "GET", "/api/plugins", &headers, b"");
    assert_eq!(within("components", asked).await.unwrap().0, 200);
    let log = gateway.log.lock().unwrap().join("\n");
    assert!(!log.contains("password:"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_about_streams_that_one_may_view() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, "eva").await;
    let mut events = Raw::connect(gateway.address).await;
    let head = format!("GET /api/events HTTP/1.0\r\nHost: cam.example\r\nCookie: {cookie}\r\n\r\n");
    events.write(head).await;
    assert_eq!(events.head().await.unwrap().status, 200);
    let root = basic("root", PASSWORD);
    let root = [("Authorization", root.as_str())];
    // The garden's events are before the porch's.
    for stream in ["garden", "porch"] {
        let path = format!("/live/{stream}/frame.jpg");
        assert_eq!(ask(&gateway, "GET", &path, &root).await.0, 200);
    }
    let text = loop {
        within("an event", events.more()).await.unwrap();
        let text = String::from_utf8_lossy(&events.buffer).into_owned();
        if text.contains("\"serial\":\"porch\"") {
            break text;
        }
    };
    assert!(!text.contains("garden"), "{text}");
}

#[tokio::test]
async fn who_guesses_passwords_is_slowed_down_and_others_are_not() {
    let gateway = gateway_with("").await;
    let cookie = sign_in(&gateway, "eva").await;
    let mut slowed = None;
    for nth in 0..40 {
        let wrong = basic("eva", &format!("wrong {nth}"));
        let (status, head, _) = ask(
            &gateway,
            "GET",
            "/live/porch/frame.jpg",
            &[("Authorization", &wrong)],
        )
        .await;
        if status == 429 {
            slowed = Some(head);
            break;
        }
        assert_eq!(status, 401, "{head}");
    }
    let head = slowed.expect("never slowed down").to_lowercase();
    assert!(head.contains("retry-after: "), "{head}");
    // Whoever has signed in is not concerned.
    let eva = [("Cookie", cookie.as_str())];
    assert_eq!(
        ask(&gateway, "GET", "/live/porch/frame.jpg", &eva).await.0,
        200
    );
}
