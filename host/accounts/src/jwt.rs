//! JSON Web Tokens (RFC 7519) with public keys (RFC 7517). Pure.
//!
//! `jsonwebtoken` reads keys and tokens and checks what they say; signatures are verified by `ring` ([`verifier`]).
//! There are no shared secrets (HMAC) and no `none`: each key is for one kind of signature, so a token cannot choose a
//! weaker one. Times are checked here, since the crate knows only the system's clock.

mod keys;
mod verifier;

pub use keys::{JwksError, MAX_JWKS_BYTES};
pub(crate) use keys::{Key, Keys, read_keys};

use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use sluicegate_config::Jwt;

/// Longest token, in bytes.
pub(crate) const MAX_TOKEN: usize = 8 << 10;
/// Seconds by which the clocks of issuer and gateway may differ.
const LEEWAY: u64 = 60;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    Unknown,
    Expired,
}

/// What a valid token says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub user: String,
    pub groups: Vec<String>,
    /// Unix time in seconds.
    pub until: u64,
}

/// Whether a text has the form of a JSON Web Token, so that it is no token of our own.
pub(crate) fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Checks signature, issuer, audience and time of a token. Returns what it says of its bearer, and the print of its
/// key.
pub(crate) fn check(
    keys: &[Key],
    jwt: &Jwt,
    token: &str,
    now: u64,
) -> Result<(Claims, u64), Invalid> {
    if token.len() > MAX_TOKEN {
        return Err(Invalid::Unknown);
    }
    let header = decode_header(token).map_err(|_| Invalid::Unknown)?;
    let is_meant = |key: &&Key| match (&header.kid, &key.id) {
        (Some(wanted), Some(id)) => wanted == id,
        _ => true,
    };
    let mut rules = Validation::default();
    rules.set_required_spec_claims(&["iss", "aud", "exp"]);
    rules.set_issuer(&[&jwt.issuer]);
    rules.set_audience(&[&jwt.audience]);
    rules.validate_exp = false;
    let claims = keys.iter().filter(is_meant).find_map(|key| {
        rules.algorithms.clone_from(&key.algorithms);
        let decoded = decode::<Map<String, Value>>(token, &key.public, &rules);
        Some((decoded.ok()?.claims, key.print))
    });
    let (claims, signed_by) = claims.ok_or(Invalid::Unknown)?;
    Ok((read_claims(&claims, jwt, now)?, signed_by))
}

/// Checks the time of claims that are signed and for us, and reads the rest.
pub(crate) fn read_claims(
    claims: &Map<String, Value>,
    jwt: &Jwt,
    now: u64,
) -> Result<Claims, Invalid> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
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
    use super::keys::MAX_KEYS;
    use super::*;
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use jsonwebtoken::Algorithm;
    use proptest::prelude::*;
    use ring::{
        hmac,
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
        assert_eq!(
            check(&keys, &settings(), &token, 2_059),
            Ok((kim, keys[0].print))
        );
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
    fn a_public_key_is_no_shared_secret() {
        let issuer = Issuer::new();
        let set = issuer.set();
        let keys = read_keys(&set).unwrap();
        for secret in [issuer.0.public_key().as_ref(), b"x", &set] {
            let header = encode(json!({"alg": "HS256", "kid": "one"}).to_string());
            let signed = format!("{header}.{}", encode(claims().to_string()));
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let tag = encode(hmac::sign(&key, signed.as_bytes()));
            let token = format!("{signed}.{tag}");
            assert_eq!(
                check(&keys, &settings(), &token, 1_000),
                Err(Invalid::Unknown)
            );
        }
    }

    #[test]
    fn keys_that_are_of_no_use_are_skipped() {
        let issuer = Issuer::new();
        let x = encode(issuer.0.public_key());
        let good = |more: Value| {
            let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
            for (name, value) in more.as_object().unwrap() {
                key[name] = value.clone();
            }
            key
        };
        let useless = [
            json!(7),
            json!({"kty": "XYZ", "alg": "XY1", "a": [1]}),
            json!({"kty": "EC", "crv": "P-521", "x": "AQAB", "y": "AQAB"}),
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": "AQAB"}),
            good(json!({"use": "enc"})),
            good(json!({"alg": "HS256"})),
            good(json!({"alg": "RS256"})),
            good(json!({"alg": "ES512K"})),
            good(json!({"crv": "X25519"})),
            good(json!({"x": format!("{x}AA")})),
            good(json!({"kid": 7})),
        ];
        let token = issuer.token(json!({"alg": "EdDSA", "kid": "a"}), &claims());
        for (more, is_accepted) in [
            (json!({}), true),
            (json!({"x": format!("{x}=")}), true),
            (
                json!({"kid": "a", "use": "sig", "alg": "EdDSA", "key_ops": ["verify"], "more": {}}),
                true,
            ),
            (json!({"kid": "b"}), false),
        ] {
            let keys = [&useless[..], &[good(more.clone())]].concat();
            let keys = read_keys(json!({"keys": keys}).to_string().as_bytes()).unwrap();
            assert_eq!(keys.len(), 1, "{more}");
            let checked = check(&keys, &settings(), &token, 1_000);
            assert_eq!(checked.is_ok(), is_accepted, "{more}");
        }
        let many = vec![good(json!({})); MAX_KEYS + 9];
        let keys = read_keys(json!({"keys": many}).to_string().as_bytes()).unwrap();
        assert_eq!(keys.len(), MAX_KEYS);
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
        let verify = |signed: &str, algorithm| {
            jsonwebtoken::crypto::verify(tag, signed.as_bytes(), &keys[0].public, algorithm)
                .unwrap()
        };
        assert_eq!(keys[0].algorithms, [Algorithm::RS256]);
        assert!(verify(signed, Algorithm::RS256));
        assert!(!verify("x", Algorithm::RS256));
        assert!(!verify(signed, Algorithm::PS256));
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
