//! Tests of who may request what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use sluicegate_config::Config;
use std::path::Path;

const VIEW: Option<Role> = Some(Role::View);
const ADMIN: Option<Role> = Some(Role::Admin);

fn server(text: &str) -> Server {
    Config::parse(
        &format!("[server]\n{text}\n[streams.a]\nsource = \"test-pattern\""),
        Path::new("t.toml"),
    )
    .unwrap()
    .server
}

/// A request to `host` with these headers.
fn request(host: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri("/").header(header::HOST, host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn judge(
    server: &Server,
    peer: Peer,
    role: Option<Role>,
    request: &Request<()>,
) -> Result<Option<String>, Denied> {
    let caller = caller(server, peer, request.headers());
    let scope = Scope::Gateway;
    let needed = Permission { role, scope };
    let site = check(server, &caller, needed, request.into())?;
    // As the gateway does if nobody can sign in.
    if role == ADMIN {
        may_administer(server, &caller, request.into())?;
    }
    Ok(site.foreign)
}

fn plain(address: &str) -> Peer {
    Peer {
        address: address.parse().unwrap(),
        tls: false,
    }
}

fn ask(
    server: &Server,
    peer: &str,
    role: Option<Role>,
    host: &str,
    origin: Option<&str>,
) -> Result<Option<String>, Denied> {
    let headers: Vec<_> = origin
        .map(|origin| ("origin", origin))
        .into_iter()
        .collect();
    judge(server, plain(peer), role, &request(host, &headers))
}

#[test]
fn a_page_is_our_own_only_by_our_scheme_host_and_port() {
    let server = server("names = [\"cam.example\"]");
    for (tls, host, origin, own) in [
        (true, "localhost:8080", "https://localhost:8080", true),
        (true, "localhost:8080", "http://localhost:8080", false),
        (true, "cam.example", "https://cam.example:443", true),
        (true, "cam.example", "https://cam.example:80", false),
        (false, "localhost:8080", "http://localhost:8080", true),
        (false, "LOCALHOST:8080", "http://localhost:8080", true),
        // This port does not speak TLS, so the page is another site's.
        (false, "localhost:8080", "https://localhost:8080", false),
        (false, "127.0.0.1:8080", "https://127.0.0.1:8080", false),
        (false, "localhost:8080", "http://localhost:8081", false),
        (false, "localhost:8080", "http://localhost", false),
        (false, "localhost:8080", "ftp://localhost:8080", false),
        (false, "localhost:8080", "localhost:8080", false),
        (false, "localhost:8080", "http://localhost:8080/", false),
        (false, "cam.example:80", "http://cam.example", true),
        // Behind a proxy that terminates TLS and is not configured.
        (false, "cam.example", "https://cam.example", true),
        (false, "cam.example:8080", "https://cam.example", false),
    ] {
        let peer = Peer {
            tls,
            ..plain("127.0.0.1:5")
        };
        let asked = request(host, &[("origin", origin)]);
        let judged = judge(&server, peer, VIEW, &asked);
        assert_eq!(judged.is_ok(), own, "{tls} {host} {origin}: {judged:?}");
    }
}

#[test]
fn the_authority_counts_before_the_host_header() {
    let server = server("");
    for (uri, host, good) in [
        ("https://localhost:8080/x", "evil.example", true),
        ("http://evil.example/x", "localhost:8080", false),
        ("https://me@localhost:8080/x", "localhost:8080", false),
        ("/x", "localhost:8080", true),
    ] {
        let mut asked = request(host, &[]);
        *asked.uri_mut() = uri.parse().unwrap();
        let judged = judge(&server, plain("127.0.0.1:5"), ADMIN, &asked);
        assert_eq!(judged.is_ok(), good, "{uri} {host}: {judged:?}");
    }
}

#[test]
fn a_request_names_one_host() {
    let server = server("");
    let judge = |asked: &Request<()>| judge(&server, plain("127.0.0.1:5"), VIEW, asked);
    for host in [
        "",
        "a, evil",
        "127.0.0.1:8080/x",
        "[::1]evil",
        "me@localhost",
        "localhost:x",
    ] {
        let judged = judge(&request(host, &[]));
        assert!(
            matches!(judged, Err(Denied::BadHost(_))),
            "{host:?}: {judged:?}"
        );
    }
    let two = judge(&request("localhost", &[("host", "localhost")]));
    assert!(matches!(two, Err(Denied::BadHost(_))), "{two:?}");
    let mut none = request("localhost", &[]);
    none.headers_mut().clear();
    assert!(matches!(judge(&none), Err(Denied::BadHost(_))));
    *none.uri_mut() = Uri::from_static("http://localhost/");
    assert!(matches!(judge(&none), Err(Denied::BadHost(_))));
    // HTTP/2 needs only the authority.
    *none.version_mut() = Version::HTTP_2;
    assert_eq!(judge(&none), Ok(None));
}

#[test]
fn requests_of_other_sites_are_refused() {
    let server = server("origins = [\"https://pets.example\"]");
    let said = |site, mode, dest| {
        vec![
            ("sec-fetch-site", site),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", dest),
        ]
    };
    let listed = ("origin", "https://pets.example");
    for (headers, good) in [
        (said("same-origin", "no-cors", "image"), true),
        (said("same-origin", "cors", "empty"), true),
        (said("none", "navigate", "document"), true),
        // A link to the gateway.
        (said("cross-site", "navigate", "document"), true),
        (said("cross-site", "no-cors", "image"), false),
        (said("same-site", "no-cors", "image"), false),
        (said("cross-site", "no-cors", "video"), false),
        (said("cross-site", "navigate", "iframe"), false),
        (said("cross-site", "navigate", "object"), false),
        (said("cross-site", "no-cors", "empty"), false),
        (said("nonsense", "no-cors", "image"), false),
        (
            [
                said("cross-site", "navigate", "document"),
                vec![("sec-purpose", "prefetch")],
            ]
            .concat(),
            false,
        ),
        (
            [said("cross-site", "cors", "image"), vec![listed]].concat(),
            true,
        ),
        (vec![], true),
    ] {
        for role in [None, VIEW, Some(Role::Capture)] {
            let asked = request("localhost:8080", &headers);
            let judged = judge(&server, plain("127.0.0.1:5"), role, &asked);
            assert_eq!(judged.is_ok(), good, "{headers:?}: {judged:?}");
        }
    }
    let mut form = request(
        "localhost:8080",
        &said("cross-site", "navigate", "document"),
    );
    *form.method_mut() = Method::POST;
    assert!(judge(&server, plain("127.0.0.1:5"), VIEW, &form).is_err());
}

#[test]
fn what_is_the_same_for_everybody_needs_no_origin_of_ours() {
    let server = server("");
    let origin = ("origin", "http://proxy.example");
    let ask = |role, more: &[_]| {
        let asked = request("127.0.0.1:8080", &[&[origin], more].concat());
        judge(&server, plain("127.0.0.1:5"), role, &asked)
    };
    let own = [("sec-fetch-site", "same-origin")];
    let other = [("sec-fetch-site", "cross-site")];
    assert_eq!(ask(None, &[]), Ok(None));
    assert_eq!(ask(None, &own), Ok(None));
    assert!(matches!(ask(None, &other), Err(Denied::Origin(_))));
    assert!(matches!(ask(VIEW, &own), Err(Denied::Origin(_))));
}

#[test]
fn only_own_names_are_answered_to() {
    let closed = server("names = [\"cam.home.example\"]");
    for host in [
        "127.0.0.1:8080",
        "localhost",
        "[::1]:8080",
        "LOCALHOST:1",
        "cam.home.example:8080",
    ] {
        assert_eq!(
            ask(&closed, "127.0.0.1:5", VIEW, host, None),
            Ok(None),
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "192.168.1.2",
        "localhost.evil.example",
        "localhost.",
    ] {
        assert!(
            matches!(
                ask(&closed, "127.0.0.1:5", VIEW, host, None),
                Err(Denied::Host(_))
            ),
            "{host}"
        );
    }
    let open = server("listen = \"0.0.0.0:8080\"\nopen = true");
    assert_eq!(
        ask(&open, "192.168.1.9:5", VIEW, "192.168.1.2:8080", None),
        Ok(None)
    );
    assert!(ask(&open, "192.168.1.9:5", VIEW, "evil.example", None).is_err());
}

#[test]
fn foreign_pages_need_to_be_listed_and_are_named_exactly() {
    let server = server("origins = [\"https://pets.example\"]");
    let ask = |origin| ask(&server, "127.0.0.1:5", VIEW, "localhost:8080", Some(origin));
    assert_eq!(ask("http://localhost:8080"), Ok(None));
    assert_eq!(
        ask("https://pets.example"),
        Ok(Some("https://pets.example".into()))
    );
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost:9999",
        "https://pets.example.evil.example",
    ] {
        assert!(matches!(ask(origin), Err(Denied::Origin(_))), "{origin}");
    }
}

#[test]
fn administrators_come_from_loopback() {
    let open = server("listen = \"0.0.0.0:8080\"\nopen = true");
    let ask = |peer, host| ask(&open, peer, ADMIN, host, None);
    for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(ask("127.0.0.1:5", host), Ok(None), "{host}");
    }
    assert_eq!(ask("192.168.1.9:5", "localhost:8080"), Err(Denied::Admin));
    assert_eq!(ask("127.0.0.1:5", "192.168.1.2:8080"), Err(Denied::Admin));
    // As forwarded by a proxy or a tunnel.
    for host in ["localhost", "localhost:80", "localhost:9000"] {
        let refused = Err(Denied::AdminPort(8080));
        assert_eq!(ask("127.0.0.1:5", host), refused, "{host}");
    }
}

#[test]
fn whatever_shows_a_proxy_or_another_site_makes_nobody_an_administrator() {
    let server = server("origins = [\"https://pets.example\"]");
    let ask = |headers: &[_]| {
        let asked = request("localhost:8080", headers);
        judge(&server, plain("127.0.0.1:5"), ADMIN, &asked)
    };
    assert_eq!(ask(&[("referer", "http://localhost:8080/docs")]), Ok(None));
    for referer in ["https://cam.example/", "http://localhost/", "?"] {
        let refused = ask(&[("referer", referer)]);
        assert_eq!(refused, Err(Denied::AdminPort(8080)), "{referer}");
    }
    assert_eq!(
        ask(&[("origin", "https://pets.example")]),
        Err(Denied::OwnPages("https://pets.example".into()))
    );
    let mut old = request("localhost:8080", &[]);
    *old.version_mut() = Version::HTTP_10;
    let refused = judge(&server, plain("127.0.0.1:5"), ADMIN, &old);
    assert_eq!(refused, Err(Denied::AdminProxy));
}

#[test]
fn a_frame_without_origin_is_admitted_if_it_has_a_ticket_to_show() {
    let server = server("");
    let media = Scope::Media(Media {
        stream: "porch",
        rendition: "",
        transport: "canvas",
    });
    let ask = |scope, headers: &[(&str, &str)], query: &str| {
        let mut asked = request("localhost:8080", headers);
        *asked.uri_mut() = format!("/x?{query}").parse().unwrap();
        let caller = caller(&server, plain("127.0.0.1:5"), asked.headers());
        let needed = Permission { role: VIEW, scope };
        check(&server, &caller, needed, (&asked).into())
    };
    let admitted = |foreign: Option<&str>| {
        Ok(Site {
            foreign: foreign.map(str::to_owned),
            is_opaque: true,
        })
    };
    let with_ticket = "a=b&ticket=x";
    let opaque = [("origin", "null"), ("sec-fetch-site", "cross-site")];
    assert_eq!(ask(media, &opaque, with_ticket), admitted(Some("null")));
    assert!(matches!(ask(media, &opaque, ""), Err(Denied::Origin(_))));
    // A ticket is for media only.
    for scope in [
        Scope::Gateway,
        Scope::AnyStream,
        Scope::Stream("porch"),
        Scope::Account,
        Scope::SignIn,
    ] {
        let judged = ask(scope, &opaque, with_ticket);
        assert!(matches!(judged, Err(Denied::Origin(_))), "{scope:?}");
    }
    // It makes no other site's page an allowed one.
    let evil = [("origin", "https://evil.example")];
    let judged = ask(media, &evil, with_ticket);
    assert!(matches!(judged, Err(Denied::Origin(_))), "{judged:?}");
    // The document of a frame in a page of `origins`.
    let frame = |dest| {
        [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", dest),
        ]
    };
    assert_eq!(ask(media, &frame("iframe"), with_ticket), admitted(None));
    assert_eq!(ask(media, &frame("iframe"), ""), Err(Denied::CrossSite));
    let judged = ask(media, &frame("object"), with_ticket);
    assert_eq!(judged, Err(Denied::CrossSite));
    // What is named by its content.
    let judged = ask(Scope::Content, &opaque, "");
    assert_eq!(judged, admitted(Some("null")));
    assert!(ask(Scope::Content, &evil, "").is_err());
}

#[test]
fn signing_in_and_ones_account_are_for_own_pages() {
    let server = server("origins = [\"https://pets.example\"]");
    for scope in [Scope::SignIn, Scope::Account] {
        for (origin, expected) in [
            ("http://localhost:8080", Ok(Site::default())),
            (
                "https://pets.example",
                Err(Denied::OwnPages("https://pets.example".into())),
            ),
            (
                "http://proxy.example",
                Err(Denied::Origin("http://proxy.example".into())),
            ),
        ] {
            let asked = request("localhost:8080", &[("origin", origin)]);
            let caller = caller(&server, plain("127.0.0.1:5"), asked.headers());
            let needed = Permission { role: None, scope };
            let judged = check(&server, &caller, needed, (&asked).into());
            assert_eq!(judged, expected, "{scope:?} {origin}");
        }
    }
}

#[test]
fn a_visit_is_told_by_what_the_browser_says_or_accepts() {
    let page = "text/html,application/xhtml+xml,*/*;q=0.8";
    for (headers, visits) in [
        (&[][..], false),
        (&[("accept", page)], false),
        (&[("user-agent", "Mozilla/5.0")], false),
        (&[("user-agent", "Mozilla/5.0"), ("accept", page)], true),
        (&[("user-agent", "VLC/3.0"), ("accept", page)], false),
        (
            &[
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
            true,
        ),
        (
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
            false,
        ),
        (&[("sec-fetch-mode", "cors"), ("accept", page)], false),
    ] {
        let asked = request("localhost:8080", headers);
        assert_eq!(RequestHead::from(&asked).is_visit(), visits, "{headers:?}");
    }
}

#[test]
fn a_host_is_named_in_a_policy_if_it_can_be() {
    let named = |host| requested_host((&request(host, &[])).into());
    assert_eq!(named("localhost:8080"), Some("localhost:8080".into()));
    assert_eq!(named("cam.example"), Some("cam.example".into()));
    for host in ["[::1]:8080", "a;script-src", "a'self'", "a,b", ""] {
        assert_eq!(named(host), None, "{host}");
    }
}
