//! What a client presents to prove who it is, found in its request.
//!
//! Of several credentials one counts, in this order: a ticket in the path; `Authorization`; what a trusted proxy says;
//! the cookie; being on this machine; a ticket in the query. A cookie that is not valid (any more) counts as none,
//! since browsers send it by themselves. An `Authorization` that is not valid is refused, unless nobody has a password
//! here: then it is meant for a proxy in front.

use super::{Caller, Permission, RequestHead, Scope, Site, may_administer};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{HeaderMap, Request, Uri, header, http::uri::PathAndQuery};
use sluicegate_accounts::{Accounts, Identity, Presented, Refused, ticket_in};
use sluicegate_config::Server;
use std::time::SystemTime;

/// Name of the cookie over plain HTTP. Over TLS it has the prefix that binds it to this host (RFC 6265bis, section
/// 4.1.3.2).
const COOKIE: &str = "sluicegate";
const HOST_PREFIX: &str = "__Host-";
/// Path of a stream's transports, and what begins the segment behind it if that is a ticket.
const LIVE: &str = "/live/";
const TICKET_MARKS: [&str; 3] = ["~", "%7E", "%7e"];

/// A ticket that was in the path of a request, among its extensions.
#[derive(Clone)]
pub struct PathTicket(pub String);

/// Removes the ticket from a path `/live/~TICKET/STREAM/…`, so that routes, logs and components do not see it, and puts
/// it into the extensions.
pub fn take_path_ticket<B>(request: &mut Request<B>) {
    let path = request.uri().path();
    let ticket = path.strip_prefix(LIVE).and_then(|rest| {
        let mut marks = TICKET_MARKS.iter();
        let rest = marks.find_map(|mark| rest.strip_prefix(mark))?;
        Some(rest.split_once('/').unwrap_or((rest, "")))
    });
    let Some((ticket, rest)) = ticket else {
        return;
    };
    let ticket = PathTicket(ticket.to_owned());
    let query = request.uri().query();
    let path = match query {
        Some(query) => format!("{LIVE}{rest}?{query}"),
        None => format!("{LIVE}{rest}"),
    };
    let mut parts = request.uri().clone().into_parts();
    // A part of a valid path is a valid path.
    if let Ok(path) = PathAndQuery::try_from(path) {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(ticket);
        }
    }
}

/// Who makes a request.
///
/// # Errors
/// What it presents is not valid.
pub async fn identify(
    server: &Server,
    accounts: &Accounts,
    caller: &Caller,
    site: &Site,
    needed: Permission<'_>,
    asked: RequestHead<'_>,
    now: SystemTime,
) -> Result<Identity, Refused> {
    let from = caller.address.ip();
    let query_ticket = match needed.scope {
        Scope::Media(_) => ticket_in(asked.uri.query()),
        _ => None,
    };
    // A frame with an opaque origin has nothing else, and must not get more.
    let only_ticket = asked.ticket.or(query_ticket.filter(|_| site.is_opaque));
    if let Some(ticket) = only_ticket {
        let presented = Presented::Ticket(ticket);
        return accounts.identify(presented, from, now).await;
    }
    if asked.headers.contains_key(header::AUTHORIZATION) {
        let authorization = Authorization::of(asked.headers);
        let identified = match authorization.as_ref().and_then(Authorization::presented) {
            Some(presented) => accounts.identify(presented, from, now).await,
            None => Err(Refused::Unknown),
        };
        match identified {
            Err(Refused::Unknown | Refused::Expired) if !accounts.has_passwords() => {}
            identified => return identified,
        }
    }
    if let Some((user, groups)) = said_by_proxy(accounts, caller, asked.headers) {
        let presented = Presented::Proxy { user, groups };
        return accounts.identify(presented, from, now).await;
    }
    if let Some(cookie) = cookie(asked.headers, caller.secure) {
        let identified = accounts.identify(Presented::Cookie(cookie), from, now);
        match identified.await {
            Err(Refused::Unknown | Refused::Expired) => {}
            identified => return identified,
        }
    }
    let presented = match query_ticket {
        _ if site.foreign.is_none() && may_administer(server, caller, asked).is_ok() => {
            Presented::Local
        }
        Some(ticket) => Presented::Ticket(ticket),
        None => Presented::Nothing,
    };
    accounts.identify(presented, from, now).await
}

/// User and groups according to a trusted proxy that knows the secret.
fn said_by_proxy<'a>(
    accounts: &Accounts,
    caller: &Caller,
    headers: &'a HeaderMap,
) -> Option<(&'a str, &'a str)> {
    let names = accounts
        .proxy_headers()
        .filter(|_| caller.by_trusted_proxy)?;
    let single = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            // With several it is unknown which one the proxy wrote.
            _ => None,
        }
    };
    let secret = single(&names.secret)?;
    let user = single(&names.user).filter(|user| !user.is_empty())?;
    accounts
        .is_proxy_secret(secret)
        .then(|| (user, single(&names.groups).unwrap_or_default()))
}

/// Value of the sign-in cookie.
fn cookie(headers: &HeaderMap, secure: bool) -> Option<&str> {
    let wanted = cookie_name(secure);
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted).then_some(value)
    })
}

/// Name of the sign-in cookie; `secure` says whether the client uses TLS.
pub fn cookie_name(secure: bool) -> String {
    match secure {
        true => format!("{HOST_PREFIX}{COOKIE}"),
        false => COOKIE.to_owned(),
    }
}

/// Content of a header `Authorization`.
enum Authorization<'a> {
    Bearer(&'a str),
    /// Name and password, separated by a colon (RFC 7617 section 2).
    Basic(String),
}

impl<'a> Authorization<'a> {
    /// `None` if the header is repeated or malformed, or has another scheme.
    fn of(headers: &'a HeaderMap) -> Option<Authorization<'a>> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Authorization::Bearer(rest));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = BASE64_STANDARD.decode(rest).ok()?;
        String::from_utf8(decoded).ok().map(Authorization::Basic)
    }

    fn presented(&self) -> Option<Presented<'_>> {
        Some(match self {
            Authorization::Bearer(token) => Presented::Bearer(token),
            Authorization::Basic(both) => {
                let (name, password) = both.split_once(':')?;
                Presented::Basic { name, password }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_ticket_in_the_path_is_taken_out() {
        for (uri, path, ticket) in [
            (
                "/live/~abc/porch/hls/a.m4s?x=1",
                "/live/porch/hls/a.m4s?x=1",
                Some("abc"),
            ),
            ("/live/~abc/porch", "/live/porch", Some("abc")),
            ("/live/%7Eabc/porch", "/live/porch", Some("abc")),
            ("/live/~abc", "/live/", Some("abc")),
            ("/live/~/porch", "/live/porch", Some("")),
            ("/live/~a/~b/porch", "/live/~b/porch", Some("a")),
            ("/live/porch/~abc/x", "/live/porch/~abc/x", None),
            ("/watch/~abc/porch", "/watch/~abc/porch", None),
            ("https://a.example/live/~b/c?d", "/live/c?d", Some("b")),
        ] {
            let mut request = Request::get(uri).body(()).unwrap();
            take_path_ticket(&mut request);
            let found = request.extensions().get::<PathTicket>();
            assert_eq!(found.map(|ticket| ticket.0.as_str()), ticket, "{uri}");
            let left = request.uri().path_and_query().unwrap();
            assert_eq!(left.as_str(), path, "{uri}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = |lines: &[&str], secure| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            cookie(&headers, secure).map(str::to_owned)
        };
        assert_eq!(found(&["a=b; sluicegate=c; d=e"], false), Some("c".into()));
        assert_eq!(found(&["a=b", "sluicegate=c"], false), Some("c".into()));
        assert_eq!(found(&["__Host-sluicegate=c"], true), Some("c".into()));
        // Another page of this host could have set it over plain HTTP.
        assert_eq!(found(&["sluicegate=c"], true), None);
        assert_eq!(found(&["notsluicegate=c", "sluicegate"], false), None);
    }

    #[test]
    fn name_and_password_are_split_at_the_first_colon() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
            let authorization = Authorization::of(&headers);
            match authorization.as_ref().and_then(Authorization::presented) {
                Some(Presented::Basic { name, password }) => Some(format!("{name}|{password}")),
                Some(Presented::Bearer(token)) => Some(token.to_owned()),
                _ => None,
            }
        };
        assert_eq!(read("Basic YTpiOmM="), Some("a|b:c".into()));
        assert_eq!(read("basic w7bDpDrDvA=="), Some("öä|ü".into()));
        assert_eq!(read("Bearer abc.def"), Some("abc.def".into()));
        for wrong in ["Basic YQ==", "Basic ?", "Basic", "Digest a", "Basic /w=="] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
