//! Users for the config of a gateway, and what clients send that are one of them. Clients name the gateway
//! [`HOST`], so that none is on the gateway's own machine by its address.

use crate::{
    Gateway,
    client::{request, request_with},
    raw::handshake,
    within,
};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use serde_json::Value;

/// The host name that clients use; it has to be in `names`.
pub const HOST: (&str, &str) = ("Host", "cam.example");
/// Password of every user.
pub const PASSWORD: &str = "a horse, a battery";

/// A user for a config, whose password is cheap to verify; `rights` are lines of TOML.
pub fn user(name: &str, rights: &str) -> String {
    user_with(name, rights, (64, 1))
}

/// As [`user`], with a hash that costs as much to verify as those that the gateway makes.
pub fn user_at_full_cost(name: &str, rights: &str) -> String {
    user_with(name, rights, (19 << 10, 2))
}

fn user_with(name: &str, rights: &str, cost: (u32, u32)) -> String {
    format!("[users.{name}]\npassword = '{}'\n{rights}\n", hash(cost))
}

/// Hash of [`PASSWORD`], by this memory in KiB and number of passes.
fn hash((memory, passes): (u32, u32)) -> String {
    let lanes = 1;
    let params = Params::new(memory, passes, lanes, Some(32)).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let (salt, mut hash) = (b"salt of the tests", [0; 32]);
    argon2
        .hash_password_into(PASSWORD.as_bytes(), salt, &mut hash)
        .unwrap();
    format!(
        "$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(hash)
    )
}

/// Value of `Authorization` with this name and password.
pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// Signs in with the form; returns the value of the header `Cookie`.
pub async fn sign_in(gateway: &Gateway, name: &str) -> String {
    let form = format!("name={name}&password={}&next=/", PASSWORD.replace(' ', "+"));
    let asked = request_with(gateway.address, "POST", "/login", &[HOST], form.as_bytes());
    let (status, head, _) = within("signing in", asked).await.unwrap();
    assert_eq!(status, 303, "{head}");
    cookie_in(&head)
}

/// The cookie that the head of a response sets, as a client sends it.
pub fn cookie_in(head: &str) -> String {
    let lines = head.lines();
    let mut values = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then_some(value)
    });
    let cookie = values.next().unwrap_or_else(|| panic!("no cookie: {head}"));
    cookie.split(';').next().unwrap().to_owned()
}

/// Calls the JSON API as somebody who sends this header; returns status and answer.
pub async fn call(
    gateway: &Gateway,
    method: &str,
    path: &str,
    header: (&str, &str),
    body: &Value,
) -> (u16, Value) {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let headers = [HOST, header];
    let asked = request_with(gateway.address, method, path, &headers, body.as_bytes());
    let (status, _, body) = within(path, asked).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A ticket for a stream, as a player gets it that presents this header.
pub async fn ticket(gateway: &Gateway, stream: &str, header: (&str, &str)) -> String {
    let headers = [header, ("Accept", "application/json")];
    let (status, _, chosen) = ask(gateway, "GET", &format!("/live/{stream}"), &headers).await;
    assert_eq!(status, 200, "{chosen}");
    let chosen: Value = serde_json::from_str(&chosen).unwrap();
    chosen["ticket"].as_str().unwrap().to_owned()
}

/// The handshake of a WebSocket with these headers.
pub fn socket(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> String {
    let asked = format!("Host: {}", gateway.address);
    let lines = [HOST].into_iter().chain(headers.iter().copied());
    let lines: Vec<_> = lines
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    handshake(gateway.address, path).replace(&asked, &lines.join("\r\n"))
}

/// Status, head and body of a request with these headers.
pub async fn ask(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String, String) {
    let headers: Vec<_> = [HOST].iter().chain(headers).copied().collect();
    let asked = request(gateway.address, method, path, &headers);
    let (status, head, body) = within(path, asked).await.unwrap();
    (status, head, String::from_utf8_lossy(&body).into_owned())
}
