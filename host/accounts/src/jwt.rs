//! JSON Web Tokens (RFC 7519) with public keys (RFC 7517). Pure.
//!
//! Signatures are verified by `ring`, which is here already. There are no shared secrets (HMAC) and no `none`: each key
//! is for one kind of signature, so a token cannot choose a weaker one.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};
use sluicegate_config::Jwt;
use thiserror::Error;

/// Longest token, in bytes.
pub(crate) const MAX_TOKEN: usize = 8 << 10;
/// Largest set of keys that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 256 << 10;
/// Most keys of a set that are used.
pub(crate) const MAX_KEYS: usize = 32;
/// Seconds by which the clocks of issuer and gateway may differ.
const LEEWAY: u64 = 60;

/// Why a JWK Set cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JwksError {
    /// It is too long.
    #[error("this is no set of keys: it is larger than {} KiB", MAX_JWKS_BYTES >> 10)]
    Size,
    /// It is not JSON, or not such an object.
    #[error("this is no set of keys: it has to be a JSON object with the list `keys` (RFC 7517)")]
    Form,
    /// None of the keys is usable.
    #[error(
        "there is no key that can be used: it has to be public, for signatures, and RSA of 2048 bits or more, EC (P-256, P-384) or Ed25519"
    )]
    NoKey,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    Unknown,
    Expired,
}

/// A public key from the JWKS, with its id and algorithm.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// What a valid token says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub user: String,
    pub groups: Vec<String>,
    /// Unix time in seconds.
    pub until: u64,
}

/// Reads a JWK Set. Keys that cannot be used are left out.
pub(crate) fn read_keys(json: &[u8]) -> Result<Vec<Key>, JwksError> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }

    if json.len() > MAX_JWKS_BYTES {
        return Err(JwksError::Size);
    }
    let Set { keys } = serde_json::from_slice(json).map_err(|_| JwksError::Form)?;
    let keys: Vec<Key> = keys.iter().filter_map(read_key).take(MAX_KEYS).collect();
    match keys.is_empty() {
        true => Err(JwksError::NoKey),
        false => Ok(keys),
    }
}

fn read_key(key: &Value) -> Option<Key> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let bytes = |name: &str| {
        BASE64_URL_SAFE_NO_PAD
            .decode(text(name)?.trim_end_matches('='))
            .ok()
    };
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let point = |size: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
    };
    let public = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let (modulus, exponent) = (bytes("n")?, bytes("e")?);
            // Some libraries write a sign, which ring refuses.
            let without_zeros = |bytes: Vec<u8>| -> Vec<u8> {
                bytes.into_iter().skip_while(|byte| *byte == 0).collect()
            };
            let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
            // What ring accepts.
            if !(256..=1_024).contains(&modulus.len()) || exponent.is_empty() {
                return None;
            }
            Public::Rsa { modulus, exponent }
        }
        ("EC", Some("P-256")) => Public::P256(point(32)?),
        ("EC", Some("P-384")) => Public::P384(point(48)?),
        ("OKP", Some("Ed25519")) => Public::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
        _ => return None,
    };
    Some(Key {
        id: text("kid").map(str::to_owned),
        algorithm: text("alg").map(str::to_owned),
        public,
    })
}

impl Key {
    /// Whether a signature is right; `None` if the key is not for this algorithm.
    fn verify(&self, algorithm: &str, signed: &[u8], tag: &[u8]) -> Option<bool> {
        if self
            .algorithm
            .as_deref()
            .is_some_and(|own| own != algorithm)
        {
            return None;
        }
        let good = match (&self.public, algorithm) {
            (Public::Rsa { modulus, exponent }, _) => {
                let algorithm = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return None,
                };
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(algorithm, signed, tag)
            }
            (Public::P256(point), "ES256") => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, tag)
            }
            (Public::P384(point), "ES384") => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(signed, tag)
            }
            (Public::Ed25519(point), "EdDSA" | "Ed25519") => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(signed, tag)
            }
            _ => return None,
        };
        Some(good.is_ok())
    }
}

/// Whether a text has the form of a JSON Web Token, so that it is no token of our own.
pub(crate) fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Checks signature, issuer, audience and time of a token, and returns what it says of its bearer.
pub(crate) fn check(keys: &[Key], jwt: &Jwt, token: &str, now: u64) -> Result<Claims, Invalid> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        kid: Option<String>,
        /// Extensions that whoever does not know them must not ignore (RFC 7515 section 4.1.11). We know none.
        crit: Option<Value>,
    }

    if token.len() > MAX_TOKEN {
        return Err(Invalid::Unknown);
    }
    let (signed, tag) = token.rsplit_once('.').ok_or(Invalid::Unknown)?;
    let (header, claims) = signed.split_once('.').ok_or(Invalid::Unknown)?;
    let decode = |text| {
        BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| Invalid::Unknown)
    };
    let (header, tag) = (decode(header)?, decode(tag)?);
    let header: Header = serde_json::from_slice(&header).map_err(|_| Invalid::Unknown)?;
    let is_meant = |key: &&Key| match (&header.kid, &key.id) {
        (Some(wanted), Some(id)) => wanted == id,
        _ => true,
    };
    let mut keys = keys.iter().filter(is_meant);
    let good = keys.any(|key| key.verify(&header.alg, signed.as_bytes(), &tag) == Some(true));
    if !good || header.crit.is_some() {
        return Err(Invalid::Unknown);
    }
    let claims: Map<String, Value> =
        serde_json::from_slice(&decode(claims)?).map_err(|_| Invalid::Unknown)?;
    read_claims(&claims, jwt, now)
}

pub(crate) fn read_claims(
    claims: &Map<String, Value>,
    jwt: &Jwt,
    now: u64,
) -> Result<Claims, Invalid> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let has_audience = match claims.get("aud") {
        Some(Value::String(audience)) => *audience == jwt.audience,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(&jwt.audience)),
        _ => false,
    };
    if text("iss") != Some(&jwt.issuer) || !has_audience {
        return Err(Invalid::Unknown);
    }
    // NumericDate may have a fraction (RFC 7519 section 2).
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(time) => {
            let time = time.as_f64().filter(|time| *time >= 0.0);
            time.map(|time| Some(time as u64)).ok_or(Invalid::Unknown)
        }
    };
    let until = time("exp")?.ok_or(Invalid::Unknown)?.saturating_add(LEEWAY);
    if time("nbf")?.is_some_and(|from| from > now.saturating_add(LEEWAY)) {
        return Err(Invalid::Unknown);
    }
    if until <= now {
        return Err(Invalid::Expired);
    }
    let groups = match claims.get(&jwt.groups_claim) {
        Some(Value::String(groups)) => {
            let groups = groups.split([',', '|', ' ']);
            groups.map(str::to_owned).collect()
        }
        Some(Value::Array(groups)) => {
            let groups = groups.iter().filter_map(Value::as_str);
            groups.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    Ok(Claims {
        user: text(&jwt.user_claim).ok_or(Invalid::Unknown)?.to_owned(),
        groups,
        until,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
    };
    use serde_json::json;
    use sluicegate_config::Jwks;

    pub(crate) fn settings() -> Jwt {
        Jwt {
            jwks: Jwks::File("keys.json".into()),
            issuer: "https://id.example".into(),
            audience: "sluicegate".into(),
            user_claim: "sub".into(),
            groups_claim: "groups".into(),
        }
    }

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A key of an issuer.
    pub(crate) struct Issuer(Ed25519KeyPair);

    impl Issuer {
        pub(crate) fn new() -> Issuer {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Issuer(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
        }

        pub(crate) fn set(&self) -> Vec<u8> {
            let x = encode(self.0.public_key());
            let key = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one", "use": "sig"});
            json!({"keys": [{"kty": "oct", "k": "eA"}, key]})
                .to_string()
                .into()
        }

        pub(crate) fn token(&self, header: Value, claims: &Value) -> String {
            let signed = format!(
                "{}.{}",
                encode(header.to_string()),
                encode(claims.to_string())
            );
            let tag = self.0.sign(signed.as_bytes());
            format!("{signed}.{}", encode(tag))
        }
    }

    pub(crate) fn claims() -> Value {
        json!({
            "iss": "https://id.example", "aud": ["other", "sluicegate"], "sub": "kim", "exp": 2_000,
            "groups": ["staff"],
        })
    }

    fn changed(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    #[test]
    fn a_token_of_the_issuer_is_accepted_until_it_ends() {
        let issuer = Issuer::new();
        let keys = read_keys(&issuer.set()).unwrap();
        assert_eq!(keys.len(), 1);
        let token = issuer.token(json!({"alg": "EdDSA", "kid": "one"}), &claims());
        assert!(is_jwt(&token));
        let kim = Claims {
            user: "kim".into(),
            groups: vec!["staff".into()],
            until: 2_060,
        };
        assert_eq!(check(&keys, &settings(), &token, 2_059), Ok(kim));
        assert_eq!(
            check(&keys, &settings(), &token, 2_060),
            Err(Invalid::Expired)
        );
        // Without the name of a key, all are tried.
        let token = issuer.token(json!({"alg": "EdDSA"}), &claims());
        assert!(check(&keys, &settings(), &token, 1_000).is_ok());
    }

    #[test]
    fn whatever_else_it_says_it_must_be_for_us_and_from_the_issuer() {
        let issuer = Issuer::new();
        let keys = read_keys(&issuer.set()).unwrap();
        let header = || json!({"alg": "EdDSA", "kid": "one"});
        let mut tokens: Vec<String> = [
            ("iss", json!("https://id.example.org")),
            ("iss", Value::Null),
            ("aud", json!("other")),
            ("aud", json!(["sluicegate2"])),
            ("sub", json!(7)),
            ("exp", Value::Null),
            ("exp", json!("2000")),
            ("exp", json!(-1)),
            ("nbf", json!(1_061)),
        ]
        .into_iter()
        .map(|(name, value)| issuer.token(header(), &changed(name, value)))
        .collect();
        for header in [
            json!({"alg": "EdDSA", "kid": "two"}),
            json!({"alg": "none"}),
            json!({"alg": "HS256"}),
            json!({"alg": "ES256"}),
            json!({"alg": "EdDSA", "crit": ["exp"]}),
            json!({"kid": "one"}),
        ] {
            tokens.push(issuer.token(header, &claims()));
        }
        let good = issuer.token(header(), &claims());
        let (signed, tag) = good.rsplit_once('.').unwrap();
        tokens.push(Issuer::new().token(header(), &claims()));
        tokens.push(format!("{signed}."));
        tokens.push(format!("{}.{tag}", &signed[..signed.len() - 1]));
        tokens.push(format!("{good}A"));
        for token in &tokens {
            assert_eq!(
                check(&keys, &settings(), token, 1_000),
                Err(Invalid::Unknown),
                "{token}"
            );
        }
        assert!(check(&keys, &settings(), &good, 1_000).is_ok());
    }

    #[test]
    fn groups_may_be_one_text() {
        let read = |groups| {
            let claims = changed("groups", groups);
            let claims = claims.as_object().unwrap();
            read_claims(claims, &settings(), 1_000).unwrap().groups
        };
        assert_eq!(read(json!("a,b c|d")), ["a", "b", "c", "d"]);
        assert_eq!(read(json!(["a b", 7, "c"])), ["a b", "c"]);
        assert!(read(json!({"a": "b"})).is_empty());
    }

    #[test]
    fn elliptic_curves_are_verified_too() {
        let random = SystemRandom::new();
        let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}]});
        let keys = read_keys(set.to_string().as_bytes()).unwrap();
        let header = encode(json!({"alg": "ES256"}).to_string());
        let signed = format!("{header}.{}", encode(claims().to_string()));
        let tag = pair.sign(&random, signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}", encode(tag));
        assert!(check(&keys, &settings(), &token, 1_000).is_ok());
    }

    #[test]
    fn rsa_of_rfc_7515_is_verified() {
        // Appendix A.2 of RFC 7515; its claims are not for us, so that only the signature is looked at.
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT\
                 -SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let set = json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256"}]});
        let keys = read_keys(set.to_string().as_bytes()).unwrap();
        let signed = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let tag = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).unwrap();
        assert_eq!(keys[0].verify("RS256", signed.as_bytes(), &tag), Some(true));
        assert_eq!(keys[0].verify("RS256", b"x", &tag), Some(false));
        assert_eq!(keys[0].verify("PS256", signed.as_bytes(), &tag), None);
    }

    #[test]
    fn a_set_without_a_usable_key_is_refused() {
        let cases = [
            ("", JwksError::Form),
            ("[]", JwksError::Form),
            (r#"{"keys": 7}"#, JwksError::Form),
            (r#"{"keys": []}"#, JwksError::NoKey),
            (r#"{"keys": [{"kty": "oct", "k": "eA"}]}"#, JwksError::NoKey),
            (
                r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#,
                JwksError::NoKey,
            ),
            (
                r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}]}"#,
                JwksError::NoKey,
            ),
        ];
        for (text, error) in cases {
            assert_eq!(read_keys(text.as_bytes()).unwrap_err(), error, "{text}");
        }
        let large = vec![b' '; MAX_JWKS_BYTES + 1];
        assert_eq!(read_keys(&large).unwrap_err(), JwksError::Size);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}", header in "\\PC{0,40}", claims in "\\PC{0,40}") {
            let keys = read_keys(&Issuer::new().set()).unwrap();
            let token = format!("{}.{}.{}", encode(&header), encode(&claims), encode(&text));
            for token in [&text, &token] {
                prop_assert!(check(&keys, &settings(), token, 1_000).is_err());
            }
            let _ = read_keys(text.as_bytes());
        }
    }
}
