//! Signing in and out: the page `/login`, a plain form; `/logout`; and `/s/{secret}`, which opens a share link.
//!
//! A sign-in is a cookie that scripts cannot read and that other sites' pages cannot make a browser send with a form
//! (`SameSite=Lax`). Requests that change something need an `Origin` of ours besides (`sluicegate_net::auth`).

use super::{Body, Visitor, error, pages, read_body, visitor};
use crate::gateway::Gateway;
use form_urlencoded::parse;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use sluicegate_accounts::{Proof, Refused, Secret};
use sluicegate_config::BasePath;
use sluicegate_net::auth;
use std::time::{Duration, SystemTime};

/// Longest body of the form, in bytes.
const MAX_FORM_BYTES: usize = 8 << 10;
/// What is shown after signing in if nothing else was wanted; relative to the form.
const HOME: &str = "./";
/// Longest path that is gone to after signing in, in bytes.
const MAX_NEXT_LEN: usize = 2048;

/// Shows the form.
pub fn page(query: Option<&str>) -> Response<Body> {
    let mut pairs = parse(query.unwrap_or_default().as_bytes());
    let next = pairs.find(|(name, _)| name == "next");
    let next = next.map_or_else(|| HOME.into(), |(_, next)| next);
    form(StatusCode::OK, &next, "", "")
}

/// The form; `problem` is why the last attempt failed.
fn form(status: StatusCode, next: &str, name: &str, problem: &str) -> Response<Body> {
    let problem = match problem {
        "" => String::new(),
        text => banner(text),
    };
    let (next, name) = (pages::escaped(own_path(next)), pages::escaped(name));
    let values = [
        ("next", next.as_str()),
        ("name", &name),
        ("problem", &problem),
    ];
    pages::filled("login.html", status, &values)
}

/// What went wrong, as a page shows it.
pub fn banner(text: &str) -> String {
    let text = pages::escaped(text);
    format!("<p class=\"banner\" role=\"alert\">{text}</p>")
}

/// The path, or [`HOME`] if it could lead to another site.
fn own_path(path: &str) -> &str {
    let is_own = path.starts_with('/')
        && !path[1..].starts_with(['/', '\\'])
        && path.len() <= MAX_NEXT_LEN
        && !path.contains(char::is_control);
    if is_own { path } else { HOME }
}

/// Signs in with what the form has.
pub async fn sign_in(
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
    request: Request<Incoming>,
) -> Response<Body> {
    let agent = agent(request.headers()).to_owned();
    let body = match read_body(request, MAX_FORM_BYTES).await {
        Ok(body) => body,
        Err(text) => return error(false, StatusCode::BAD_REQUEST, &text),
    };
    let field = |name: &str| {
        let mut fields = parse(&body);
        let field = fields.find(|(known, _)| known == name);
        field.map_or_else(String::new, |(_, value)| value.into_owned())
    };
    let (name, next) = (field("name"), field("next"));
    let password = Secret::new(field("password"));
    let (accounts, from) = (&gateway.accounts, visitor.address.ip());
    let signed_in = accounts
        .sign_in(&name, password.expose(), from, &agent, SystemTime::now())
        .await;
    match signed_in {
        Ok((cookie, _)) => {
            end_present_session(gateway, visitor).await;
            let response = visitor::see_other(own_path(&next));
            with_cookie(response, gateway, visitor, base_path, &cookie)
        }
        Err(refused) => {
            let status = visitor::Refusal::Unproved(refused.clone()).status();
            let text = match refused {
                Refused::Unknown | Refused::Expired => {
                    "There is no such name, or the password is wrong.".to_owned()
                }
                ref refused => refused.to_string(),
            };
            let mut response = form(status, &next, &name, &text);
            visitor::set_retry_after(&mut response, &refused);
            response
        }
    }
}

/// Signs out and shows the form.
pub async fn sign_out(
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
) -> Response<Body> {
    end_present_session(gateway, visitor).await;
    let response = visitor::see_other("login");
    let over = Secret::new("");
    cookie(response, visitor, base_path, &over, Duration::ZERO)
}

/// Ends the session that the browser has had so far, if it has one.
async fn end_present_session(gateway: &Gateway, visitor: &Visitor) {
    let identity = &visitor.identity;
    if matches!(identity.proof(), Proof::Session | Proof::Link)
        && let Err(error) = gateway.accounts.sign_out(identity).await
    {
        tracing::warn!("a sign-out cannot be stored: {error}");
    }
}

/// Lets the browser watch the stream of a share link, and shows its page.
pub async fn open_link(
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
    secret: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let (accounts, from) = (&gateway.accounts, visitor.address.ip());
    let opened = accounts
        .open_link(secret, from, agent(headers), SystemTime::now())
        .await;
    let (cookie, identity, stream) = match opened {
        Ok(opened) => opened,
        Err(refused) => {
            let refusal = visitor::Refusal::Unproved(refused.clone());
            let text = match refused {
                Refused::Unknown | Refused::Expired => {
                    "this link is not valid, or not any more; ask for a new one".to_owned()
                }
                ref refused => refused.to_string(),
            };
            let status = match refusal.status() {
                StatusCode::UNAUTHORIZED => StatusCode::NOT_FOUND,
                status => status,
            };
            let mut response = error(false, status, &text);
            visitor::set_retry_after(&mut response, &refused);
            return response;
        }
    };
    let place = format!("../watch/{}", sluicegate_config::path_segment(&stream));
    let response = visitor::see_other(&place);
    // Whoever has signed in and may watch the stream anyway stays who it is.
    if visitor.identity.proof() == Proof::Session && visitor.sees(&stream) {
        if let Err(error) = accounts.sign_out(&identity).await {
            tracing::warn!("the end of a session cannot be stored: {error}");
        }
        return response;
    }
    with_cookie(response, gateway, visitor, base_path, &cookie)
}

/// The client's program, as the list of sessions shows it.
fn agent(headers: &HeaderMap) -> &str {
    let agent = headers.get(header::USER_AGENT);
    agent
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default()
}

/// Lets the browser keep the cookie of a session.
fn with_cookie(
    response: Response<Body>,
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
    value: &Secret,
) -> Response<Body> {
    let lifetime = gateway.accounts.cookie_lifetime();
    cookie(response, visitor, base_path, value, lifetime)
}

fn cookie(
    mut response: Response<Body>,
    visitor: &Visitor,
    base_path: &BasePath,
    value: &Secret,
    lifetime: Duration,
) -> Response<Body> {
    let name = auth::cookie_name(visitor.secure);
    let (value, age) = (value.expose(), lifetime.as_secs());
    // A name with the prefix `__Host-` is for the whole host.
    let (secure, path) = match visitor.secure {
        true => ("; Secure", "/".to_owned()),
        false => ("", format!("{base_path}/")),
    };
    let text =
        format!("{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    // Base64 is always a valid value.
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_pages_of_the_gateway_only() {
        let long = format!("/{}", "a".repeat(MAX_NEXT_LEN));
        for (next, expected) in [
            ("/watch/porch?transport=hls", "/watch/porch?transport=hls"),
            ("/", "/"),
            ("", HOME),
            ("watch", HOME),
            ("//evil.example", HOME),
            ("/\\evil.example", HOME),
            ("https://evil.example", HOME),
            ("/a\r\nSet-Cookie: b", HOME),
            (&long, HOME),
        ] {
            assert_eq!(own_path(next), expected, "{next:?}");
        }
    }
}
