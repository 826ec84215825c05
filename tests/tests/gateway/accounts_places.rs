//! Accounts where browsers may find the gateway: below a path, over TLS, and on sockets that another process passed.
//! The client keeps cookies by the rules of RFC 6265bis.

use super::{
    listeners::activated,
    proxies::{location, resolve},
};
use serde_json::{Value, json};
use sluicegate_tests::{
    Gateway, Raw,
    accounts::{HOST, PASSWORD, basic, user},
    client::request_with,
    proxy::free_address,
    raw::handshake,
    tls, within,
};
use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// A client with at most one cookie.
struct Browser {
    address: SocketAddr,
    secure: bool,
    /// Name with value, and path.
    cookie: Option<(String, String)>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Browser {
    fn new(gateway: &Gateway, secure: bool) -> Browser {
        Browser {
            address: gateway.address,
            secure,
            cookie: None,
        }
    }

    /// The cookie for a path, as a header.
    fn cookie_for(&self, path: &str) -> String {
        match &self.cookie {
            Some((cookie, scope)) if path.starts_with(scope.as_str()) => {
                format!("Cookie: {cookie}\r\n")
            }
            _ => String::new(),
        }
    }

    /// Requests a path as a page of the site does, and keeps the cookie that the answer sets.
    async fn request(&mut self, method: &str, path: &str, more: &str, body: &str) -> Answer {
        let scheme = if self.secure { "https" } else { "http" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {scheme}://{host}\r\nConnection: close\r\n\
             Content-Length: {}\r\n{}{more}\r\n{body}",
            body.len(),
            self.cookie_for(path),
            host = HOST.1,
        );
        let text = match self.secure {
            true => {
                exchange(
                    tls::connect(self.address, "http/1.1").await.unwrap(),
                    &request,
                )
                .await
            }
            false => exchange(TcpStream::connect(self.address).await.unwrap(), &request).await,
        };
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        for line in head.lines() {
            let Some((name, value)) = line.split_once(": ") else {
                continue;
            };
            if name.eq_ignore_ascii_case("set-cookie") {
                self.keep(value);
            }
        }
        Answer {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Keeps a cookie, or forgets the one of the same name and path.
    fn keep(&mut self, line: &str) {
        let mut parts = line.split("; ");
        let cookie = parts.next().unwrap().to_owned();
        let attributes: Vec<&str> = parts.collect();
        let value = |name: &str| {
            let start = format!("{name}=");
            attributes
                .iter()
                .find_map(|part| part.strip_prefix(start.as_str()))
        };
        let has = |name: &str| attributes.contains(&name);
        let path = value("Path").unwrap().to_owned();
        assert!(has("HttpOnly") && has("SameSite=Lax"), "{line}");
        assert_eq!(value("Domain"), None, "{line}");
        // Browsers ignore a cookie with this prefix otherwise, and one that is `Secure` over plain HTTP.
        assert_eq!(has("Secure"), self.secure, "{line}");
        assert_eq!(cookie.starts_with("__Host-"), self.secure, "{line}");
        assert!(!self.secure || path == "/", "{line}");
        let age: u64 = value("Max-Age").unwrap().parse().unwrap();
        if age > 0 {
            self.cookie = Some((cookie, path));
            return;
        }
        let name = |cookie: &str| cookie.split('=').next().unwrap().to_owned();
        let (own, scope) = self.cookie.take().unwrap();
        assert_eq!((name(&own), scope), (name(&cookie), path), "{line}");
    }

    /// Follows a link or types an address.
    async fn visit(&mut self, path: &str) -> Answer {
        let visit = "Accept: text/html\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n\
                     Sec-Fetch-Dest: document\r\n";
        self.request("GET", path, visit, "").await
    }

    /// Status of the handshake of a WebSocket.
    async fn socket(&self, path: &str) -> u16 {
        let asked = format!("Host: {}\r\n", self.address);
        let own = format!("Host: {}\r\n{}", HOST.1, self.cookie_for(path));
        let request = handshake(self.address, path).replace(&asked, &own);
        match self.secure {
            true => {
                status_of(
                    tls::connect(self.address, "http/1.1").await.unwrap(),
                    &request,
                )
                .await
            }
            false => status_of(TcpStream::connect(self.address).await.unwrap(), &request).await,
        }
    }
}

impl Answer {
    /// Where it leads from a path.
    fn place(&self, from: &str) -> String {
        assert_eq!(self.status, 303, "{}", self.head);
        resolve(from, &location(&self.head))
    }
}

async fn exchange(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    let mut answer = Vec::new();
    within("an answer", async {
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.read_to_end(&mut answer).await.unwrap();
    })
    .await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status of an answer that may go on.
async fn status_of(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> u16 {
    let mut line = [0; 12];
    within("an answer", async {
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.read_exact(&mut line).await.unwrap();
    })
    .await;
    let line = std::str::from_utf8(&line).unwrap();
    line.strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}

fn in_an_hour() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from((passed + Duration::from_secs(3600)).as_millis()).unwrap()
}

/// Signs in, watches, shares a stream and signs out, below a path or not.
async fn everything_works(base: &str, secure: bool) {
    let tls = if secure {
        "tls = \"self-signed\"\n"
    } else {
        ""
    };
    let streams = ["porch", "garden"].map(|name| {
        format!(
            "[streams.{name}]\nsource = \"test-pattern\"\nencode = {{ width = 320, height = 192 }}\n"
        )
    });
    let config = format!(
        "[server]\nnames = [\"cam.example\"]\nbase-path = \"{base}\"\n{tls}{}{}",
        streams.concat(),
        user("eva", "view = [\"*\"]"),
    );
    let gateway = Gateway::with_config(&config).await;
    let at = |path: &str| format!("{base}{path}");
    let mut eva = Browser::new(&gateway, secure);
    let watch = at("/watch/porch");

    let form = eva.visit(&watch).await.place(&watch);
    assert_eq!(form.split('?').next().unwrap(), at("/login"));
    let page = eva.visit(&form).await;
    assert_eq!(page.status, 200, "{}", page.head);
    let (_, next) = page.body.split_once("name=\"next\" value=\"").unwrap();
    let next = next.split('"').next().unwrap();
    let form_of = |password: &str| {
        let (password, next) = (password.replace(' ', "+"), next.replace('/', "%2F"));
        format!("name=eva&password={password}&next={next}")
    };
    let login = at("/login");
    let wrong = eva.request("POST", &login, "", &form_of("wrong")).await;
    assert_eq!(wrong.status, 401);
    assert_eq!(eva.cookie, None);
    let signed_in = eva.request("POST", &login, "", &form_of(PASSWORD)).await;
    assert_eq!(signed_in.place(&login), watch);
    let (cookie, scope) = eva.cookie.clone().unwrap();
    let expected = if secure { "/".into() } else { at("/") };
    assert_eq!(scope, expected);
    assert_eq!(eva.visit(&watch).await.status, 200);
    let frame = at("/live/porch/frame.jpg");
    assert_eq!(eva.request("GET", &frame, "", "").await.status, 200);
    assert_eq!(eva.socket(&at("/live/porch/nal")).await, 101);
    // The cookie is worth nothing under the name that it would have otherwise.
    let renamed = match secure {
        true => cookie.replace("__Host-", ""),
        false => format!("__Host-{cookie}"),
    };
    let mut other = Browser::new(&gateway, secure);
    other.cookie = Some((renamed, "/".into()));
    assert_eq!(other.request("GET", &frame, "", "").await.status, 401);

    let links = at("/api/account/links");
    let new = json!({ "stream": "porch", "until": in_an_hour() }).to_string();
    let made = eva.request("POST", &links, "", &new).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let made: Value = serde_json::from_str(&made.body).unwrap();
    let link = made["path"].as_str().unwrap();
    assert!(link.starts_with(&at("/")), "{link}");
    let mut guest = Browser::new(&gateway, secure);
    assert_eq!(guest.visit(link).await.place(link), watch);
    assert_eq!(guest.visit(&watch).await.status, 200);
    assert_eq!(guest.socket(&at("/live/porch/nal")).await, 101);
    let garden = at("/live/garden/frame.jpg");
    assert_eq!(guest.request("GET", &garden, "", "").await.status, 404);

    let logout = at("/logout");
    let signed_out = eva.request("POST", &logout, "", "").await;
    assert_eq!(signed_out.place(&logout), login);
    assert_eq!(eva.cookie, None);
    // Also for whoever has kept a copy.
    eva.cookie = Some((cookie, scope));
    assert_eq!(eva.request("GET", &frame, "", "").await.status, 401);
    assert_eq!(eva.socket(&at("/live/porch/nal")).await, 401);
    assert_eq!(guest.request("GET", &frame, "", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_and_sharing_work_below_a_path() {
    everything_works("/cams", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_and_sharing_work_over_tls() {
    everything_works("", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_and_sharing_work_below_a_path_over_tls() {
    everything_works("/house/cams", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_administrator_is_made_for_sockets_that_are_passed() {
    // What the config says does not count.
    let demo = "[streams.demo]\nsource = \"test-pattern\"\n";
    let configured = |listen: &str| format!("[server]\nlisten = \"{listen}\"\n{demo}");
    let port = free_address().port();
    let passed = format!("tcp:0.0.0.0:{port}");
    let command = activated(&[&passed], &configured("127.0.0.1:0"));
    let (mut gateway, _) = Gateway::run(command, Stdio::null()).await;
    gateway.address.set_ip([127, 0, 0, 1].into());
    assert_eq!(gateway.address.port(), port);
    gateway.logged("name: admin").await;
    let line = gateway.logged("password: ").await;
    let password = line.split_once("password: ").unwrap().1.trim();
    let host = format!("192.0.2.1:{port}");
    for (authorization, expected) in [
        (basic("admin", password), 200),
        (basic("admin", "wrong"), 401),
        (String::new(), 401),
    ] {
        let headers = [("Host", host.as_str()), ("Authorization", &authorization)];
        let asked = request_with(gateway.address, "GET", "/api/plugins", &headers, b"");
        assert_eq!(within("components", asked).await.unwrap().0, expected);
    }
    // Nor is anybody needed where only this machine can connect.
    let address = free_address();
    let passed = format!("tcp:{address}");
    let command = activated(&[&passed], &configured("0.0.0.0:0"));
    let (gateway, _) = Gateway::run(command, Stdio::null()).await;
    assert_eq!(gateway.address, address);
    let mut raw = Raw::connect(address).await;
    raw.write(format!(
        "GET /api/plugins HTTP/1.1\r\nHost: {address}\r\n\r\n"
    ))
    .await;
    assert_eq!(within("components", raw.head()).await.unwrap().status, 200);
    assert!(gateway.logs("password: ").is_empty());
}
