//! Random secrets, ids and passwords.

use super::StateError;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sluicegate_config::Secret;
use std::{fmt, str::FromStr};

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], StateError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StateError::NoRandomness)?;
    Ok(bytes)
}

/// A secret of 256 random bits in base64url, 43 characters, behind a prefix.
pub(crate) fn secret(prefix: &str) -> Result<Secret, StateError> {
    let text = BASE64_URL_SAFE_NO_PAD.encode(bytes::<32>()?);
    Ok(Secret::new(format!("{prefix}{text}")))
}

/// A password of 100 random bits in four groups of five characters, none of which looks like another one.
pub(crate) fn password() -> Result<Secret, StateError> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = bytes::<20>()?;
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    let groups: Vec<String> = letters
        .chunks(5)
        .map(|group| group.iter().collect())
        .collect();
    Ok(Secret::new(groups.join("-")))
}

/// Public name of a session, token or link: 64 random bits, 16 digits in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(pub u64);

impl Id {
    pub(crate) fn random() -> Result<Id, StateError> {
        Ok(Id(u64::from_be_bytes(bytes()?)))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Id, ()> {
        // Only as it is written: no sign, no capitals.
        let id = u64::from_str_radix(text, 16).map(Id).map_err(|_| ())?;
        (id.to_string() == text).then_some(id).ok_or(())
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| D::Error::custom("no id"))
    }
}

/// SHA-256 of a random secret. The secret cannot be guessed, so it needs neither salt nor a slow hash, and finding the
/// digest in a table tells nothing by its time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(secret: &str) -> Digest {
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Digest(bytes)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text);
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Digest)
            .ok_or_else(|| D::Error::custom("no digest"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_and_passwords_differ_and_have_their_form() {
        let (one, other) = (secret("p_").unwrap(), secret("p_").unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 45);
        assert!(one.expose().starts_with("p_"));
        let (one, other) = (password().unwrap(), password().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 23);
        let letters = |group: &str| group.len() == 5 && !group.contains(['0', '1', 'l', 'o']);
        assert!(one.expose().split('-').all(letters));
    }

    #[test]
    fn a_digest_is_not_shown() {
        assert_eq!(format!("{:?}", Digest::of("x")), "Digest(…)");
    }

    proptest! {
        #[test]
        fn an_id_reads_back_as_itself_and_nothing_else_is_one(number: u64, text in "[+ 0-9a-fA-F]{15,17}") {
            let id = Id(number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            if let Ok(id) = text.parse::<Id>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
