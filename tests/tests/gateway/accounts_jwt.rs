//! JSON Web Tokens over the wire: which are believed, what their bearers may do, and what ends with a key.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use sluicegate_tests::{
    Gateway, Raw,
    accounts::{ask, socket, ticket, user},
    client::jpeg_number,
    scratch, within,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long something may go on after its key is gone.
const SOON: Duration = Duration::from_secs(1);

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.unwrap().as_secs()
}

/// A key of an issuer, with its id.
struct Key(&'static str, Ed25519KeyPair);

impl Key {
    fn new(id: &'static str) -> Key {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Key(id, Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn public(&self) -> Value {
        let x = encode(self.1.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.0, "use": "sig", "alg": "EdDSA" })
    }

    fn signed(&self, claims: &Value) -> String {
        let header = json!({ "alg": "EdDSA", "kid": self.0, "typ": "JWT" });
        let signed = unsigned(&header, claims);
        let tag = self.1.sign(signed.as_bytes());
        format!("{signed}.{}", encode(tag))
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| encode(part.to_string()));
    format!("{header}.{claims}")
}

/// Puts a set with these keys in the place of an earlier one.
fn publish(file: &Path, keys: &[&Key]) {
    let mut all: Vec<Value> = keys.iter().map(|key| key.public()).collect();
    // Of another kind, which is skipped.
    all.push(json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "shared" }));
    let new = file.with_extension("new");
    fs::write(&new, json!({ "keys": all }).to_string()).unwrap();
    fs::rename(new, file).unwrap();
}

/// What an issuer says of somebody in a group that may watch the porch.
fn kim() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["other", "sluicegate"], "sub": "kim",
        "groups": ["staff", "others"], "exp": now() + 3_600,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = kim();
    claims[name] = value;
    claims
}

/// A gateway that believes these keys, and the file with them.
async fn gateway(keys: &[&Key]) -> (Gateway, PathBuf) {
    let file = scratch("jwks").join("keys.json");
    publish(&file, keys);
    let streams = ["porch", "garden"].map(|name| {
        format!(
            "[streams.{name}]\nsource = \"test-pattern\"\nencode = {{ width = 320, height = 192 }}\n"
        )
    });
    let config = format!(
        "[server]\nnames = [\"cam.example\"]\n{}{}\
         [groups.family]\nview = [\"porch\"]\n[access]\ngroup-map = {{ staff = \"family\" }}\n\
         jwt = {{ jwks = {file:?}, issuer = \"https://id.example\", audience = \"sluicegate\" }}\n",
        streams.concat(),
        user("root", "admin = [\"*\"]"),
    );
    (Gateway::with_config(&config).await, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_believed_if_all_of_it_is_right() {
    let key = Key::new("one");
    let (gateway, _) = gateway(&[&key]).await;
    let status = async |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        ask(&gateway, "GET", path, &headers).await.0
    };
    let porch = "/api/devices/porch";
    let token = key.signed(&kim());
    for (path, expected) in [
        (porch, 200),
        ("/live/porch/frame.jpg", 200),
        ("/api/devices/garden", 404),
        ("/live/garden/frame.jpg", 404),
        ("/api/plugins", 403),
    ] {
        assert_eq!(status(path, &token).await, expected, "{path}");
    }
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let (_, _, account) = ask(&gateway, "GET", "/api/account", &headers).await;
    let account: Value = serde_json::from_str(&account).unwrap();
    assert!(account.to_string().contains("\"jwt\""), "{account:#}");

    for (claims, expected) in [
        (with("aud", json!("sluicegate")), 200),
        (with("aud", json!("sluicegate2")), 401),
        (with("aud", json!([])), 401),
        (with("aud", Value::Null), 401),
        (with("iss", json!("https://id.example/")), 401),
        (with("iss", Value::Null), 401),
        (with("exp", json!(now() - 30)), 200),
        (with("exp", json!(now() - 90)), 401),
        (with("exp", Value::Null), 401),
        (with("exp", json!("never")), 401),
        (with("nbf", json!(now() + 30)), 200),
        (with("nbf", json!(now() + 300)), 401),
        (with("sub", json!(7)), 401),
        // Groups of the gateway, or none, are none of the issuer's that are in the map.
        (with("groups", json!(["family"])), 404),
        (with("groups", Value::Null), 404),
        (with("groups", json!("others,staff")), 200),
        // The same name as one of the gateway's users is somebody else.
        (with("sub", json!("root")), 200),
    ] {
        let token = key.signed(&claims);
        assert_eq!(status(porch, &token).await, expected, "{claims}");
    }
    let root = key.signed(&with("sub", json!("root")));
    assert_eq!(status("/api/plugins", &root).await, 403);

    let (header, tag) = (json!({ "alg": "none" }), token.rsplit('.').next().unwrap());
    let none = unsigned(&header, &kim());
    let by_public_key = {
        let signed = unsigned(&json!({ "alg": "HS256", "kid": "one" }), &kim());
        let secret = hmac::Key::new(hmac::HMAC_SHA256, key.1.public_key().as_ref());
        format!(
            "{signed}.{}",
            encode(hmac::sign(&secret, signed.as_bytes()))
        )
    };
    let by_shared_key = {
        let signed = unsigned(&json!({ "alg": "HS256", "kid": "shared" }), &kim());
        let secret = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        format!(
            "{signed}.{}",
            encode(hmac::sign(&secret, signed.as_bytes()))
        )
    };
    let long = key.signed(&with("more", json!("x".repeat(6_200))));
    for forged in [
        Key::new("one").signed(&kim()),
        format!("{none}."),
        format!("{none}.{tag}"),
        by_public_key,
        by_shared_key,
        format!("{token}A"),
        long,
        "..".into(),
    ] {
        assert_eq!(status(porch, &forged).await, 401, "{forged}");
    }
    let log = gateway.log.lock().unwrap().join("\n");
    assert!(!log.contains(&token), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_gone_ends_what_runs_by_it_and_nothing_else() {
    let (old, kept, new) = (Key::new("old"), Key::new("kept"), Key::new("new"));
    let (gateway, file) = gateway(&[&old, &kept]).await;
    let bearer = |key: &Key| format!("Bearer {}", key.signed(&kim()));
    let opened = async |request: String, status: u16| {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(request).await;
        let head = within("an answer", raw.head()).await.unwrap();
        assert_eq!(head.status, status, "{}", head.text);
        raw
    };
    let mjpeg = |bearer: &str| {
        format!(
            "GET /live/porch/mjpeg HTTP/1.0\r\nHost: cam.example\r\nAuthorization: {bearer}\r\n\r\n"
        )
    };
    let by_old = bearer(&old);
    let header = ("Authorization", by_old.as_str());
    let in_path = ticket(&gateway, "porch", header).await;
    let in_path = format!("/live/~{in_path}/porch/nal");
    let mut body = opened(mjpeg(&by_old), 200).await;
    let mut viewer = opened(socket(&gateway, "/live/porch/nal", &[header]), 101).await;
    let mut ticketed = opened(socket(&gateway, &in_path, &[]), 101).await;
    let by_kept = bearer(&kept);
    let mut other = opened(mjpeg(&by_kept), 200).await;
    within("a frame", body.part()).await.unwrap();
    within("a frame", viewer.frame()).await.unwrap();
    within("a frame", ticketed.frame()).await.unwrap();

    let began = Instant::now();
    publish(&file, &[&kept, &new]);
    let (end, code, code_of_ticket) = tokio::join!(body.end(), viewer.closed(), ticketed.closed());
    let took = began.elapsed();
    end.unwrap();
    assert_eq!(code.unwrap().0, 4401);
    assert_eq!(code_of_ticket.unwrap().0, 4401);
    assert!(took < SOON, "{took:?}");
    // What the other key has signed goes on: its viewer gets frames that were made later.
    let mut newcomer = opened(mjpeg(&by_kept), 200).await;
    let newest = number(&mut newcomer).await;
    while number(&mut other).await < newest {}

    let porch = "/api/devices/porch";
    for (key, expected) in [(&old, 401), (&kept, 200), (&new, 200)] {
        let bearer = bearer(key);
        let headers = [("Authorization", bearer.as_str())];
        let (status, ..) = ask(&gateway, "GET", porch, &headers).await;
        assert_eq!(status, expected, "{}", key.0);
    }
    opened(socket(&gateway, &in_path, &[]), 401).await;
    let (status, ..) = ask(&gateway, "GET", &in_path.replace("nal", "frame.jpg"), &[]).await;
    assert_eq!(status, 401);
    // A file that is no set of keys changes nothing.
    fs::write(file.with_extension("new"), "{").unwrap();
    fs::rename(file.with_extension("new"), &file).unwrap();
    gateway.logged("the earlier keys are used").await;
    let headers = [("Authorization", by_kept.as_str())];
    assert_eq!(ask(&gateway, "GET", porch, &headers).await.0, 200);
}

/// Number of the next frame of a viewer of MJPEG.
async fn number(viewer: &mut Raw) -> u32 {
    loop {
        let jpeg = within("a frame", viewer.part()).await.unwrap();
        if let Some(number) = jpeg_number(&jpeg) {
            return number;
        }
    }
}
