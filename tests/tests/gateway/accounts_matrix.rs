//! Every route × method × carrier × way to prove who one is, made from the gateway's table of routes: who may not, gets
//! nothing. A route that this file does not know does not compile.

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use serde_json::{Value, json};
use sluicegate::api::{ROUTES, Route, Subject, Target};
use sluicegate_net::auth::Role;
use sluicegate_tests::{
    Gateway, Raw,
    accounts::{HOST, PASSWORD, ask, basic, call, cookie_in, sign_in, ticket, user},
    client::request_with,
    raw::handshake,
    webtransport::RawHttp3,
    within,
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpStream;

/// A path and a body of the route, for this stream. The body does nothing, if it can be helped: it is not valid.
fn sample(route: &Route, stream: &str, session: &str) -> (String, &'static str) {
    let path = route
        .pattern
        .replace("{stream}", stream)
        .replace("{serial}", stream)
        .replace("{transport}", "webcodecs")
        .replace(
            "{id}",
            if route.subject == Subject::Session {
                session
            } else {
                "none"
            },
        )
        .replace("{secret}", "none")
        .replace("{name}", "no-such-file.js")
        .replace("{*rest}", "no/such/thing");
    let body = match route.target {
        // A form without an action.
        Target::Login | Target::Logout | Target::ChangeAccount => "",
        Target::CreateToken
        | Target::CreateLink
        | Target::AddPlugin
        | Target::PutStream
        | Target::Capture
        | Target::TrySource => "[]",
        Target::Dashboard
        | Target::StreamsPage
        | Target::Watch
        | Target::Asset
        | Target::Health
        | Target::Ready
        | Target::Metrics
        | Target::Events
        | Target::Devices
        | Target::Device
        | Target::Streams
        | Target::RemoveStream
        | Target::ReloadConfig
        | Target::Sessions
        | Target::Session
        | Target::Plugins
        | Target::RemovePlugin
        | Target::Reload
        | Target::Recording
        | Target::Choice
        | Target::Live
        | Target::Halves
        | Target::HalfFrame
        | Target::HalfModule
        | Target::NalStream
        | Target::Frame
        | Target::CaptureSocket
        | Target::Docs
        | Target::DocsPage
        | Target::OpenApi
        | Target::LoginPage
        | Target::OpenLink
        | Target::AccountPage
        | Target::Account
        | Target::EndSession
        | Target::RevokeToken
        | Target::RevokeLink => "",
    };
    (path, body)
}

/// What a caller gets who is let in, or not.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// Anything but a refusal.
    In,
    /// 401.
    SignIn,
    /// 403.
    Forbidden,
    /// 404: the stream does not exist for it.
    Hidden,
}

/// Somebody, as the request tells it.
#[derive(Clone, Debug)]
struct Caller {
    name: String,
    headers: Vec<(&'static str, String)>,
    /// A ticket for the path.
    ticket: Option<String>,
    /// Roles over the stream `porch`; `None` if nothing is proved.
    roles: Option<Vec<Role>>,
    /// Whether it may view another stream.
    views_another: bool,
    /// Whether these are over all streams.
    everywhere: bool,
    /// Whether the credential is for one stream, and nothing else.
    is_ticket: bool,
}

impl Caller {
    fn new(name: &str, roles: Option<&[Role]>) -> Caller {
        Caller {
            name: name.to_owned(),
            headers: Vec::new(),
            ticket: None,
            roles: roles.map(<[Role]>::to_vec),
            views_another: false,
            everywhere: false,
            is_ticket: false,
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Caller {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// What it gets from a route, by what the table says of that.
    fn expected(&self, route: &Route) -> Expected {
        let Some(roles) = &self.roles else {
            let is_public = route.role.is_none() && route.subject != Subject::Account;
            return if is_public {
                Expected::In
            } else {
                Expected::SignIn
            };
        };
        let Some(role) = route.role else {
            return Expected::In;
        };
        let has = roles.contains(&role) || roles.contains(&Role::Admin);
        let views = roles.contains(&Role::View) || roles.contains(&Role::Admin);
        match route.subject {
            Subject::Gateway if has && self.everywhere => Expected::In,
            Subject::Gateway => Expected::Forbidden,
            Subject::AnyStream if role == Role::View && self.views_another => Expected::In,
            Subject::Stream | Subject::Media | Subject::Session if !views => Expected::Hidden,
            _ if has => Expected::In,
            _ => Expected::Forbidden,
        }
    }
}

/// How a request reaches the gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Carrier {
    Http,
    /// All requests over one connection.
    Http2,
    WebSocket,
    WebTransport,
}

/// Where requests go.
struct Reached<'a> {
    gateway: &'a Gateway,
    http2: SendRequest<Bytes>,
}

impl Reached<'_> {
    async fn new(gateway: &Gateway) -> Reached<'_> {
        let socket = TcpStream::connect(gateway.address).await.unwrap();
        let (http2, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        Reached { gateway, http2 }
    }
}

/// Status of a request over HTTP/2.
async fn http2_status(
    sender: &SendRequest<Bytes>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> u16 {
    let host = headers.iter().find(|(name, _)| *name == "Host").unwrap().1;
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{host}{path}"));
    for (name, value) in headers.iter().filter(|(name, _)| *name != "Host") {
        request = request.header(*name, *value);
    }
    let mut sender = sender.clone().ready().await.unwrap();
    let request = request.body(()).unwrap();
    let (answer, mut stream) = sender.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        // The answer may come without it.
        let _ = stream.send_data(Bytes::from_static(body.as_bytes()), true);
    }
    let answer = answer.await.unwrap();
    let status = answer.status().as_u16();
    // All of it, since a client that often gives up is disconnected.
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    status
}

/// Addresses of clients, each from another network, so that none is slowed down for what another did.
fn address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("2001:db8:{:x}::1", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Status of a request.
async fn status(
    Reached { gateway, http2 }: &Reached<'_>,
    carrier: Carrier,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> u16 {
    let what = format!("{carrier:?} {method} {path}");
    match carrier {
        Carrier::Http2 => {
            let asked = http2_status(http2, method, path, headers, body);
            within(&what, asked).await
        }
        Carrier::Http => {
            let asked = request_with(gateway.address, method, path, headers, body.as_bytes());
            within(&what, asked).await.unwrap().0
        }
        Carrier::WebSocket => {
            let host = format!("Host: {}", gateway.address);
            let lines = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}"));
            let lines = lines.collect::<Vec<_>>().join("\r\n");
            let mut raw = Raw::connect(gateway.address).await;
            raw.write(handshake(gateway.address, path).replace(&host, &lines))
                .await;
            within(&what, raw.head()).await.unwrap().status
        }
        Carrier::WebTransport => {
            let path = path.strip_prefix("/live/").unwrap();
            let named = headers.iter().find(|(name, _)| *name == "Host");
            let authority = format!("{}:{}", named.unwrap().1, gateway.address.port());
            let fields: Vec<_> = headers
                .iter()
                .filter(|(name, _)| *name != "Host")
                .map(|(name, value)| (name.to_lowercase(), *value))
                .collect();
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect();
            let asked = RawHttp3::status(gateway.address, &authority, path, &fields);
            within(&what, asked).await.unwrap()
        }
    }
}

fn in_a(time: Duration) -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from((passed + time).as_millis()).unwrap()
}

/// The gateway with users of all kinds.
async fn gateway() -> Gateway {
    let streams = ["porch", "garden"].map(|name| {
        format!("[streams.{name}]\nsource = \"test-pattern\"\nencode = {{ width = 320, height = 192 }}\n")
    });
    let config = format!(
        "[server]\nnames = [\"cam.example\"]\ntrusted-proxies = [\"127.0.0.1\"]\n\
         [access]\nproxy-secret = \"0123456789abcdef\"\ngroup-map = {{ family = \"family\" }}\n\
         [groups.family]\nview = [\"porch\"]\n{}{}{}{}",
        streams.concat(),
        user("viewer", "view = [\"porch\"]"),
        user("gardener", "view = [\"garden\"]\ncapture = [\"garden\"]"),
        user("root", "admin = [\"*\"]"),
    );
    Gateway::with_config(&config).await
}

/// Makes something that ends, waits until it has, and returns its credential.
async fn expired(gateway: &Gateway, kind: &str) -> (&'static str, String) {
    let cookie = sign_in(gateway, "viewer").await;
    let viewer = ("Cookie", cookie.as_str());
    let until = in_a(Duration::from_secs(2));
    let credential = match kind {
        "token" => {
            let new = json!({ "name": "short", "grants": { "view": ["*"] }, "until": until });
            let (status, made) = call(gateway, "POST", "/api/account/tokens", viewer, &new).await;
            assert_eq!(status, 200, "{made}");
            (
                "Authorization",
                format!("Bearer {}", made["secret"].as_str().unwrap()),
            )
        }
        _ => {
            let new = json!({ "stream": "porch", "until": until });
            let (status, made) = call(gateway, "POST", "/api/account/links", viewer, &new).await;
            assert_eq!(status, 200, "{made}");
            let (_, head, _) = ask(gateway, "GET", made["path"].as_str().unwrap(), &[]).await;
            ("Cookie", cookie_in(&head))
        }
    };
    within("it expires", async {
        loop {
            let headers = [(credential.0, credential.1.as_str())];
            let (status, ..) = ask(gateway, "GET", "/api/devices", &headers).await;
            match status {
                401 => return,
                200 => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other}"),
            }
        }
    })
    .await;
    credential
}

/// Everybody who asks for everything.
async fn callers(gateway: &Gateway) -> Vec<Caller> {
    let view = Some(&[Role::View][..]);
    let cookie = sign_in(gateway, "viewer").await;
    let viewer = ("Cookie", cookie.as_str());
    let token = async |name: &str, grants: Value| {
        let new = json!({ "name": name, "grants": grants });
        let (status, made) = call(gateway, "POST", "/api/account/tokens", viewer, &new).await;
        assert_eq!(status, 200, "{made}");
        let secret = format!("Bearer {}", made["secret"].as_str().unwrap());
        (secret, made["token"]["id"].as_str().unwrap().to_owned())
    };
    let link = async |_: &str| {
        let new = json!({ "stream": "porch", "until": in_a(Duration::from_secs(3600)) });
        let (status, made) = call(gateway, "POST", "/api/account/links", viewer, &new).await;
        assert_eq!(status, 200, "{made}");
        let (_, head, _) = ask(gateway, "GET", made["path"].as_str().unwrap(), &[]).await;
        (
            cookie_in(&head),
            made["link"]["id"].as_str().unwrap().to_owned(),
        )
    };
    let ticket =
        async |cookie: &str, stream: &str| ticket(gateway, stream, ("Cookie", cookie)).await;
    let revoke = async |what: &str, id: &str| {
        let path = format!("/api/account/{what}/{id}");
        assert_eq!(
            call(gateway, "DELETE", &path, viewer, &Value::Null).await.0,
            200
        );
    };
    let proxied = |name: &str, roles, group: &str| {
        Caller::new(name, roles)
            .with("X-Proxy-Secret", "0123456789abcdef")
            .with("Remote-User", "somebody")
            .with("Remote-Groups", group)
    };
    let mut all = vec![
        // None, and wrong.
        Caller::new("nobody", None),
        Caller::new("wrong cookie", None).with("Cookie", "sluicegate=c29tZXRoaW5n"),
        Caller::new("cookie for TLS", None)
            .with("Cookie", &cookie.replace("sluice", "__Host-sluice")),
        Caller::new("wrong token", None).with("Authorization", "Bearer c29tZXRoaW5n"),
        Caller::new("no scheme", None).with("Authorization", "x"),
        Caller::new("proxy without secret", None)
            .with("Remote-User", "root")
            .with("Remote-Groups", "family"),
        Caller::new("proxy with a wrong secret", None)
            .with("X-Proxy-Secret", "0123456789abcdeg")
            .with("Remote-User", "root"),
        // Right.
        Caller::new("viewer's cookie", view).with("Cookie", &cookie),
        Caller::new("viewer's password", view).with("Authorization", &basic("viewer", PASSWORD)),
        Caller::new("viewer's token", view).with(
            "Authorization",
            &token("good", json!({ "view": ["porch"] })).await.0,
        ),
        Caller::new("a link", view).with("Cookie", &link("good").await.0),
        proxied("proxy", view, "family"),
        Caller {
            everywhere: true,
            ..Caller::new("root", Some(&[Role::Admin]))
                .with("Authorization", &basic("root", PASSWORD))
        },
        // Other streams and roles.
        Caller {
            views_another: true,
            ..Caller::new("gardener", Some(&[])).with("Authorization", &basic("gardener", PASSWORD))
        },
        Caller::new("a token for another role", Some(&[])).with(
            "Authorization",
            &token("capture", json!({ "capture": ["*"] })).await.0,
        ),
        proxied("a group that is not in the map", Some(&[]), "admins"),
    ];
    // Revoked.
    let (secret, id) = token("revoked", json!({ "view": ["*"] })).await;
    revoke("tokens", &id).await;
    all.push(Caller::new("a revoked token", None).with("Authorization", &secret));
    let (cookie_of_link, id) = link("revoked").await;
    revoke("links", &id).await;
    all.push(Caller::new("a revoked link", None).with("Cookie", &cookie_of_link));
    let out = sign_in(gateway, "viewer").await;
    let late = ticket(&out, "porch").await;
    assert_eq!(
        ask(gateway, "POST", "/logout", &[("Cookie", &out)]).await.0,
        303
    );
    all.push(Caller::new("a cookie after signing out", None).with("Cookie", &out));
    // Expired.
    for kind in ["token", "link"] {
        let (name, value) = expired(gateway, kind).await;
        all.push(Caller::new(&format!("an expired {kind}"), None).with(name, &value));
    }
    // Tickets, which are for paths of one stream.
    let gardener = sign_in(gateway, "gardener").await;
    for (name, ticket, roles) in [
        ("a ticket", ticket(&cookie, "porch").await, view),
        (
            "a ticket for another stream",
            ticket(&gardener, "garden").await,
            Some(&[][..]),
        ),
        ("a wrong ticket", "abc".into(), None),
        ("a ticket after signing out", late, None),
    ] {
        all.push(Caller {
            ticket: Some(ticket),
            is_ticket: true,
            ..Caller::new(name, roles)
        });
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_what_is_not_for_them_by_any_route_method_and_carrier() {
    let gateway = gateway().await;
    let callers = callers(&gateway).await;
    let reached = Reached::new(&gateway).await;
    // A session of the stream, for routes about one.
    let root = basic("root", PASSWORD);
    let headers = [
        ("Authorization", root.as_str()),
        ("Accept", "application/json"),
    ];
    let (_, _, chosen) = ask(&gateway, "GET", "/live/porch", &headers).await;
    let chosen: Value = serde_json::from_str(&chosen).unwrap();
    let session = chosen["session"].as_str().unwrap();
    let mut control = Raw::connect(gateway.address).await;
    let host = format!("Host: {}", gateway.address);
    let lines = format!("Host: cam.example\r\nAuthorization: {root}");
    control
        .write(handshake(gateway.address, session).replace(&host, &lines))
        .await;
    assert_eq!(control.head().await.unwrap().status, 101);
    let session = session.rsplit('/').next().unwrap();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for route in ROUTES {
        let (path, body) = sample(route, "porch", session);
        let mut ways = vec![(Carrier::Http, route.method.as_str().to_owned())];
        if route.method == "GET" {
            // In place of GET, whose answer may have no end.
            ways[0].1 = "HEAD".into();
        }
        ways.push((Carrier::Http2, ways[0].1.clone()));
        if route.method == "GET" {
            ways.push((Carrier::WebSocket, "GET".into()));
        }
        if route.pattern == "/live/{stream}/{transport}" {
            ways.push((Carrier::WebTransport, "CONNECT".into()));
        }
        for caller in &callers {
            let path = match &caller.ticket {
                Some(_) if !path.starts_with("/live/") => continue,
                Some(ticket) => path.replacen("/live/", &format!("/live/~{ticket}/"), 1),
                None => path.clone(),
            };
            let own = format!("http://{}", HOST.1);
            let from = address();
            let base = || {
                let mut headers = vec![HOST, ("X-Forwarded-For", from.as_str())];
                headers.extend(
                    caller
                        .headers
                        .iter()
                        .map(|(name, value)| (*name, value.as_str())),
                );
                headers
            };
            for (carrier, method) in &ways {
                let expected = match caller.expected(route) {
                    // A ticket says nothing about what exists.
                    Expected::Hidden if caller.is_ticket => Expected::Forbidden,
                    expected => expected,
                };
                let mut check = async |what: &str, headers: Vec<(&str, &str)>, allowed: &[u16]| {
                    let status = status(&reached, *carrier, method, &path, &headers, body).await;
                    *counts.entry(format!("{carrier:?}")).or_default() += 1;
                    let is_refused = matches!(status, 401 | 403 | 421 | 429);
                    let good = match allowed {
                        [] => !is_refused,
                        allowed => allowed.contains(&status),
                    };
                    if !good {
                        wrong.push(format!(
                            "{carrier:?} {method} {path} by {}{what}: {status} instead of {allowed:?}",
                            caller.name
                        ));
                    }
                };
                let allowed: &[u16] = match expected {
                    Expected::In => &[],
                    // The answer to a request for a WebTransport session has fewer statuses.
                    Expected::SignIn | Expected::Forbidden if *carrier == Carrier::WebTransport => {
                        &[403]
                    }
                    Expected::SignIn => &[401],
                    Expected::Forbidden => &[403],
                    // The page of a stream is the same for all, and says that there is none.
                    Expected::Hidden if route.target == Target::Watch => &[200],
                    // Needs a ticket, whoever asks.
                    Expected::Hidden if route.target == Target::HalfFrame => &[404, 403],
                    Expected::Hidden => &[404],
                };
                let has_cookie = caller.headers.iter().any(|(name, _)| *name == "Cookie");
                match route.target {
                    // Needs a ticket in the query, whoever asks.
                    Target::HalfFrame if expected == Expected::In => {
                        check("", base(), &[403, 404]).await;
                    }
                    // The form is empty, so the password is wrong.
                    Target::Login => check("", base(), &[401]).await,
                    // Would end what the caller still needs.
                    Target::Logout if has_cookie => {}
                    _ => check("", base(), allowed).await,
                }
                // Whoever it is: pages of other sites get nothing, nor does another host name.
                if expected != Expected::In {
                    continue;
                }
                let is_public = route.role.is_none()
                    && !matches!(route.subject, Subject::Account | Subject::SignIn);
                let mut foreign = base();
                foreign.push(("Origin", "http://evil.example"));
                if !is_public {
                    check(" from a foreign page", foreign.clone(), &[403]).await;
                }
                let mut cross = base();
                cross.push(("Sec-Fetch-Site", "cross-site"));
                cross.push(("Sec-Fetch-Mode", "no-cors"));
                cross.push(("Sec-Fetch-Dest", "image"));
                check(" across sites", cross, &[403]).await;
                let mut other = base();
                other[0] = ("Host", "evil.example");
                let misdirected = if *carrier == Carrier::WebTransport {
                    403
                } else {
                    421
                };
                check(" of a foreign host", other, &[misdirected]).await;
                let mut same = base();
                same.push(("Origin", own.as_str()));
                let is_done = matches!(
                    route.target,
                    Target::HalfFrame | Target::Login | Target::Logout
                );
                if *carrier != Carrier::WebTransport && !is_done {
                    check(" from an own page", same, &[]).await;
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(counts.values().all(|count| *count > 30), "{counts:?}");
}
