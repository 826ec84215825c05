//! What the fuzz target calls: the parsers behind signatures and permissions of files, which the fuzzer could not pass.

use super::jwt;
use super::random::Id;
use super::state::{State, StateError};
use super::ticket::{Claims, Reference, Ticket};
use serde_json::Value;
use sluicegate_config::{Jwks, Jwt, Role};

/// A state file. Returns whether what was read, if it could be read, is written and read as the same.
pub fn state(text: &[u8]) -> bool {
    let Ok(state) = State::read(text) else {
        return true;
    };
    State::read(&state.write()) == Ok(state)
}

/// What is signed in a ticket. Returns as [`state`].
pub fn ticket(signed: &[u8]) -> bool {
    let Some(claims) = Claims::parse(signed) else {
        return true;
    };
    Claims::parse(&claims.bytes()) == Some(claims)
}

/// A JSON Web Token, a set of keys, and claims whose signature was right. Returns whether the token was refused, which
/// has no key.
pub fn jwt(text: &[u8]) -> bool {
    let jwt = Jwt {
        jwks: Jwks::File("keys.json".into()),
        issuer: "i".into(),
        audience: "a".into(),
        user_claim: "sub".into(),
        groups_claim: "groups".into(),
    };
    if let Ok(Value::Object(claims)) = serde_json::from_slice(text) {
        let _ = jwt::read_claims(&claims, &jwt, 1_000);
    }
    let keys = jwt::read_keys(text).unwrap_or_default();
    jwt::check(&keys, &jwt, &String::from_utf8_lossy(text), 1_000).is_err()
}

/// Inputs to begin with: for each of the three.
///
/// # Errors
/// The system gives no random numbers.
pub fn seeds() -> Result<[Vec<u8>; 3], StateError> {
    let claims = Claims {
        expires: 1_000,
        credential: Reference::Session(Id(9)),
        ticket: Ticket {
            stream: "porch".into(),
            role: Role::View,
            restriction: None,
            session: 7,
        },
    };
    let jwt = br#"{"iss":"i","aud":["a"],"sub":"kim","exp":2000,"nbf":1,"groups":["x"],"keys":[]}"#;
    Ok([State::new()?.write(), claims.bytes(), jwt.to_vec()])
}
