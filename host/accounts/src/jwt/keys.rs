//! Sets of public keys (RFC 7517).

use super::verifier;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use parking_lot::RwLock;
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use thiserror::Error;

/// Largest set of keys that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 256 << 10;
/// Most keys of a set that are used.
pub(crate) const MAX_KEYS: usize = 32;

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

/// A public key from the JWKS, with its id and what it may have signed by.
#[derive(Debug)]
pub(crate) struct Key {
    pub id: Option<String>,
    pub algorithms: Vec<Algorithm>,
    pub public: DecodingKey,
    /// By which it is found again in another set: the same for all keys that verify the same.
    pub print: u64,
}

/// The keys that are in use.
#[derive(Default)]
pub(crate) struct Keys(RwLock<Arc<Vec<Key>>>);

impl Keys {
    pub(crate) fn new(keys: Vec<Key>) -> Keys {
        Keys(RwLock::new(Arc::new(keys)))
    }

    pub(crate) fn get(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.0.read())
    }

    pub(crate) fn has(&self, print: u64) -> bool {
        self.0.read().iter().any(|key| key.print == print)
    }

    /// Uses others from now on. Returns whether one of the earlier ones is not among them.
    pub(crate) fn replace(&self, keys: Vec<Key>) -> bool {
        let earlier = std::mem::replace(&mut *self.0.write(), Arc::new(keys));
        earlier.iter().any(|key| !self.has(key.print))
    }
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
    let keys: Vec<Key> = keys
        .into_iter()
        .filter_map(read_key)
        .take(MAX_KEYS)
        .collect();
    match keys.is_empty() {
        true => Err(JwksError::NoKey),
        false => Ok(keys),
    }
}

fn read_key(key: Value) -> Option<Key> {
    let Jwk { common, algorithm } = serde_json::from_value(key).ok()?;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let (mut algorithms, public) = match algorithm {
        AlgorithmParameters::RSA(key) => {
            let (modulus, exponent) = (unsigned(&key.n)?, unsigned(&key.e)?);
            // What ring accepts.
            if !(256..=1_024).contains(&modulus.len()) || exponent.is_empty() {
                return None;
            }
            let public = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
            (public.family().algorithms().to_vec(), public)
        }
        AlgorithmParameters::EllipticCurve(key) => {
            let (algorithm, size) = match key.curve {
                EllipticCurve::P256 => (Algorithm::ES256, 32),
                EllipticCurve::P384 => (Algorithm::ES384, 48),
                _ => return None,
            };
            let point = [&[4][..], &sized(&key.x, size)?, &sized(&key.y, size)?].concat();
            (vec![algorithm], DecodingKey::from_ec_der(&point))
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            let public = DecodingKey::from_ed_der(&sized(&key.x, 32)?);
            (vec![Algorithm::EdDSA], public)
        }
        _ => return None,
    };
    if let Some(only) = common.key_algorithm {
        let only = Algorithm::try_from(only).ok()?;
        algorithms.retain(|algorithm| *algorithm == only);
    }
    verifier::install();
    (!algorithms.is_empty()).then(|| Key {
        id: common.key_id,
        algorithms,
        print: print(&public),
        public,
    })
}

fn print(key: &DecodingKey) -> u64 {
    let mut context = Context::new(&SHA256);
    match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => context.update(bytes),
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            context.update(n);
            context.update(e);
        }
    }
    let digest = context.finish();
    let first = digest.as_ref().first_chunk();
    first.map_or(0, |first| u64::from_be_bytes(*first))
}

/// Some libraries pad what is not padded.
fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .ok()
}

fn sized(text: &str, size: usize) -> Option<Vec<u8>> {
    bytes(text).filter(|bytes| bytes.len() == size)
}

/// Some libraries write a sign, which ring refuses.
fn unsigned(text: &str) -> Option<Vec<u8>> {
    let zeros = |byte: &u8| *byte == 0;
    Some(bytes(text)?.into_iter().skip_while(zeros).collect())
}
