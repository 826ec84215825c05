//! The keys for JSON Web Tokens, if the config names a URL: fetched at the start and every ten minutes.
//!
//! Whoever can forge this answer can sign in as anybody. So unlike cameras, its server must have a certificate that the
//! system trusts, and redirects are not followed.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, client::conn::http1, header, http::uri::Scheme};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use sluicegate_accounts::{Accounts, MAX_JWKS_BYTES};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Time between two requests, and after one that failed.
const EVERY: Duration = Duration::from_secs(600);
const AGAIN: Duration = Duration::from_secs(30);
/// Time for a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps the keys of the accounts up to date. Never returns.
pub async fn follow(accounts: Accounts) {
    let mut changes = accounts.changes();
    let mut failed = false;
    loop {
        let url = accounts.jwks_url();
        let wait = match &url {
            None => Duration::MAX,
            Some(url) => match update(&accounts, url).await {
                Ok(keys) => {
                    if std::mem::take(&mut failed) {
                        tracing::info!(keys, "got the keys for JSON Web Tokens again");
                    }
                    EVERY
                }
                Err(reason) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(
                            "cannot get the keys for JSON Web Tokens from `jwks` under [access]: {reason}; trying \
                             again, until then the earlier ones are used"
                        );
                    }
                    AGAIN
                }
            },
        };
        // A reload may name another URL.
        let another =
            async { while changes.changed().await.is_ok() && accounts.jwks_url() == url {} };
        let _ = timeout(wait, another).await;
    }
}

async fn update(accounts: &Accounts, url: &str) -> Result<usize, String> {
    let fetched = timeout(PATIENCE, fetch(url)).await;
    let late = |_| format!("no answer within {} s", PATIENCE.as_secs());
    let keys = fetched.map_err(late)??;
    accounts.set_jwks(&keys).map_err(|error| error.to_string())
}

/// The content at a URL. Messages do not have its path or query, in which there may be a secret.
async fn fetch(url: &str) -> Result<Bytes, String> {
    let url: Uri = url.parse().map_err(|_| "this is no URL")?;
    let authority = url.authority().ok_or("the URL has no host")?;
    if authority.as_str().contains('@') {
        return Err("a login in the URL is not supported".into());
    }
    let is_secure = url.scheme() == Some(&Scheme::HTTPS);
    let port = authority
        .port_u16()
        .unwrap_or(if is_secure { 443 } else { 80 });
    let host = authority.host().trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, port)).await;
    let tcp = tcp.map_err(|error| format!("cannot connect to {host}: {error}"))?;
    if !is_secure {
        return request(&url, tcp).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    // Reads files.
    let tls = tokio::task::spawn_blocking(tls).await;
    let tls = tls.map_err(|error| error.to_string())??;
    let connector = TlsConnector::from(Arc::new(tls));
    let tls = connector.connect(name, tcp).await;
    request(
        &url,
        tls.map_err(|error| format!("no TLS with {host}: {error}"))?,
    )
    .await
}

async fn request<S>(url: &Uri, socket: S) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shown = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(shown)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(shown)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(format!(
                "the server answered {status}; name the URL that it redirects to"
            ));
        }
        if status != StatusCode::OK {
            return Err(format!("the server answered {status}"));
        }
        let body = Limited::new(response.into_body(), MAX_JWKS_BYTES)
            .collect()
            .await;
        body.map(|body| body.to_bytes())
            .map_err(|error| error.to_string())
    };
    // The connection lives as long as this, so that nothing is left of it.
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        ended = &mut connection => match ended {
            // What arrived before is read by hyper already.
            Ok(()) => answered.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// TLS with the certificates that the system trusts.
fn tls() -> Result<ClientConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            "this system has no certificates that it trusts; install ca-certificates".into(),
        );
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_config::Config;
    use std::path::Path;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// A server that gives one answer to each connection, and its URL.
    async fn server(answers: Vec<String>) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/keys?secret", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(socket.read_u8().await.unwrap());
                }
                assert!(request.starts_with(b"GET /keys?secret HTTP/1.1\r\n"));
                // The client may have had enough.
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        url
    }

    fn answer(status: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[tokio::test]
    async fn keys_are_fetched_within_bounds() {
        let accounts = |url: &str| {
            let text =
                format!("[access]\njwt = {{ jwks = \"{url}\", issuer = \"i\", audience = \"a\" }}");
            Accounts::open(&Config::parse(&text, Path::new("x.toml")).unwrap(), None).unwrap()
        };
        let large = "x".repeat(MAX_JWKS_BYTES + 1);
        let url = server(vec![
            answer("200 OK", SET),
            format!("HTTP/1.1 200 OK\r\n\r\n{SET}"),
            answer("302 Found", ""),
            answer("404 Not Found", SET),
            answer("200 OK", "<html>"),
            answer("200 OK", &large),
            "nonsense\r\n\r\n".into(),
            String::new(),
        ])
        .await;
        let accounts = accounts(&url);
        assert_eq!(update(&accounts, &url).await, Ok(1));
        assert_eq!(update(&accounts, &url).await, Ok(1));
        for why in [
            "redirects to",
            "404",
            "no set of keys",
            "limit",
            "invalid HTTP",
            "closed",
        ] {
            let error = update(&accounts, &url).await.unwrap_err();
            assert!(
                error.contains(why) && !error.contains("secret"),
                "{why}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_url_without_a_trusted_server_is_refused() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let speechless = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        });
        let error = fetch(&format!("https://127.0.0.1:{port}/keys"))
            .await
            .unwrap_err();
        assert!(
            error.contains("TLS") || error.contains("ca-certificates"),
            "{error}"
        );
        speechless.abort();
        let error = fetch("http://eva:secret@127.0.0.1/").await.unwrap_err();
        assert!(
            error.contains("login") && !error.contains("secret"),
            "{error}"
        );
    }
}
