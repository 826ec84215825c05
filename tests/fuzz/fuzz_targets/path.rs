//! Request paths, and the headers by which access is decided.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use hyper::{
    HeaderMap, Method, Uri,
    header::{HOST, HeaderName, HeaderValue, ORIGIN},
};
use libfuzzer_sys::fuzz_target;
use sluicegate::api::{Found, ROUTES, find};
use sluicegate_config::{Config, Server};
use sluicegate_fuzz::Input;
use sluicegate_net::auth::{
    Peer, Permission, Role, Scope, base_path, caller, check, may_administer, take_path_ticket,
};
use sluicegate_net::websocket::Handshake;
use std::{net::SocketAddr, path::Path, sync::OnceLock};

const OTHERS: [&str; 10] = [
    "forwarded",
    "x-forwarded-for",
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-forwarded-prefix",
    "x-ingress-path",
];

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let (post, remote, open) = (input.flag(), input.flag(), input.flag());
    let path = &*input.text();
    let method = if post { Method::POST } else { Method::GET };
    match find(&method, path) {
        Found::Route(route, parameters) => {
            assert!(path.len() <= 2048 && route.method == method);
            for name in ["stream", "transport", "serial", "name", "id"] {
                let value = parameters.get(name);
                assert!(
                    value
                        .is_none_or(|value| !value.is_empty() && !value.contains(char::is_control))
                );
            }
        }
        Found::OtherMethod(_) => {
            assert!(ROUTES.iter().any(|route| route.method != method));
        }
        Found::BadPath(_) | Found::Nothing => {}
    }

    let mut headers = HeaderMap::new();
    let mut add = |name: HeaderName, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    };
    add(HOST, input.bytes());
    if input.flag() {
        add(ORIGIN, input.bytes());
    }
    while !input.is_empty() {
        let name = OTHERS[usize::from(input.byte()) % OTHERS.len()];
        add(HeaderName::from_static(name), input.bytes());
    }
    let address: SocketAddr = if remote {
        ([192, 168, 1, 9], 5000).into()
    } else {
        ([127, 0, 0, 1], 5000).into()
    };
    let server = server(open);
    let peer = Peer { address, tls: post };
    let caller = caller(server, peer, &headers);
    // Whatever is told, it is a path of this host.
    let told = base_path(server, peer, &headers);
    let told = told.as_str();
    assert!(told.is_empty() || (told.starts_with('/') && !told.ends_with('/')));
    assert!(!told.contains("//") && told.split('/').all(|name| name != ".."));
    // A remote client never counts as local, unless a trusted proxy says so.
    assert!(!caller.local || !remote || !server.trusted_proxies.is_empty());
    let uri = path.parse::<Uri>().unwrap_or_default();
    let mut request = hyper::Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers.clone();
    take_path_ticket(&mut request);
    assert!(
        may_administer(server, &caller, (&request).into()).is_err() || caller.local,
        "a remote administrator"
    );
    for role in [None, Some(Role::View), Some(Role::Admin)] {
        let scope = Scope::Gateway;
        let needed = Permission { role, scope };
        if let Ok(site) = check(server, &caller, needed, (&request).into()) {
            // Only origins listed in the config are ever allowed across sites.
            assert!(
                site.foreign
                    .is_none_or(|origin| origin.eq_ignore_ascii_case("https://pets.example"))
            );
            assert!(
                headers.contains_key(HOST) || uri.authority().is_some(),
                "for no host"
            );
        }
    }
    let mut handshake = hyper::Request::new(());
    *handshake.method_mut() = method;
    *handshake.headers_mut() = headers;
    let _ = Handshake::of(&handshake);
});

fn server(open: bool) -> &'static Server {
    static SERVERS: OnceLock<[Server; 2]> = OnceLock::new();
    let servers =
        SERVERS.get_or_init(|| {
            ["", "listen = \"0.0.0.0:80\"\nopen = true\ntrusted-proxies = [\"192.168.0.0/16\", \"127.0.0.1\"]\n"].map(|more| {
            let text = format!(
                "[server]\nnames = [\"cam.example\"]\norigins = [\"https://pets.example\"]\n{more}"
            );
            Config::parse(&text, Path::new("some.toml")).expect("a config").server
        })
        });
    &servers[usize::from(open)]
}
