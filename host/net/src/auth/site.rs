//! Which site's page a request comes from, as browsers report it: `Origin`, `Referer`, and Fetch Metadata
//! (<https://www.w3.org/TR/fetch-metadata/>), which scripts cannot forge. Called by `auth::check`.

use super::{Authority, Caller, is_named};
use hyper::{HeaderMap, Method, header};
use sluicegate_config::Server;

/// Whether pages of this origin are the gateway's own: the same scheme, host and port (RFC 6454 section 4).
pub fn is_own(server: &Server, caller: &Caller, host: &Authority<'_>, origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "https" if caller.secure => 443,
        // A proxy that is not in `trusted-proxies` terminated TLS. The sign of it is that one of `names` was requested:
        // our own port does not speak TLS, so under a loopback name or an address the page is another site's.
        "https" if is_named(server, host) && host.address().is_none() => 443,
        "http" if !caller.secure => 80,
        _ => return false,
    };
    Authority::parse(authority).is_some_and(|own| own.is(host, default_port))
}

/// Whether a browser asks for a document to show, and so can be sent to another page. Browsers send no Fetch Metadata
/// over plain HTTP, except to loopback; then what they accept tells.
pub fn is_visit(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|header| header == value);
    let accepts_pages = headers.get(header::ACCEPT);
    let accepts_pages = accepts_pages
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    (method == Method::GET || method == Method::HEAD)
        && match headers.contains_key("sec-fetch-mode") {
            true => is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document"),
            false => accepts_pages && is_browser(headers),
        }
}

/// Whether this comes from a browser, which would ask its user for a password in a window of its own.
pub fn is_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT);
    headers.contains_key("sec-fetch-site")
        || agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
}

/// Whether the browser reports that a page of another site makes this request, other than by navigating to it.
pub fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    let header_value = |name: &str| {
        let value = headers.get(name)?;
        Some(value.to_str().unwrap_or("(unreadable)"))
    };
    match header_value("sec-fetch-site") {
        // Browsers send none over plain HTTP except to loopback; other clients send none at all.
        None | Some("same-origin" | "none") => false,
        _ => {
            let is_visit = (method == Method::GET || method == Method::HEAD)
                && header_value("sec-fetch-mode") == Some("navigate")
                && header_value("sec-fetch-dest") == Some("document")
                // A prefetch would start a camera as an <img> does.
                && header_value("sec-purpose").or(header_value("purpose")).is_none();
            !is_visit
        }
    }
}

/// Whether the browser reports that the request loads the document of an `<iframe>`.
pub fn is_frame(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|header| header == value);
    is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "iframe")
}

/// Whether the `Referer`, if there is one, has this very host and port. Behind a proxy, a browser sends the proxy's
/// host and port.
pub fn refers_to(host: &Authority<'_>, default_port: u16, headers: &HeaderMap) -> bool {
    let Some(referer) = headers.get(header::REFERER) else {
        return true;
    };
    let page = referer.to_str().ok().and_then(|text| {
        let (_, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        Authority::parse(&rest[..end])
    });
    page.is_some_and(|page| page.is(host, default_port))
}
