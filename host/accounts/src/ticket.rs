//! Tickets: each lets its bearer use one stream, in one role, for as long as it is used and the credential is good that
//! it was issued under. A ticket in a path (`/live/~TICKET/STREAM/…`) is for players that send no header; one with a
//! restriction to a transport is for the sandboxed frame of a half (`docs/decisions/0041-the-half-in-the-browser.md`).
//!
//! A ticket is signed with the key of the state file, so the gateway keeps only when those were used that are older
//! than their first time. [`Ticket`] is what it says, `Claims` what is signed. Pure.

use super::Role;
use super::random::Id;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use std::time::Duration;
use thiserror::Error;

/// Name of the query parameter that carries a ticket.
pub const PARAMETER: &str = "ticket";
/// Longest ticket that is read, in characters.
const MAX_TICKET: usize = 2_048;
const VERSION: u8 = 1;
/// Bytes of the signature.
const TAG: usize = 32;

/// A transport of a stream, in one rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// Name of the stream, which need not exist.
    pub stream: &'a str,
    /// Name of the rendition; empty for the stream itself.
    pub rendition: &'a str,
    /// Name of the transport.
    pub transport: &'a str,
}

/// What a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Name of the stream.
    pub stream: String,
    /// The role over it.
    pub role: Role,
    /// The one rendition and transport that it is for; `None` for all.
    pub restriction: Option<Restriction>,
    /// Number of the playback session that it was made for; 0 if it was made for none.
    pub session: u64,
}

/// One transport of one rendition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// Name of the rendition; empty for the stream itself.
    pub rendition: String,
    /// Name of the transport.
    pub transport: String,
}

impl Ticket {
    /// How long a ticket with a restriction is valid without use.
    pub const MEDIA_LIFETIME: Duration = Duration::from_secs(300);

    /// Whether it lets its bearer watch this.
    pub fn admits(&self, media: Media<'_>) -> bool {
        let restricted = self.restriction.as_ref().is_none_or(|only| {
            only.rendition == media.rendition && only.transport == media.transport
        });
        self.stream == media.stream && includes(self.role, Role::View) && restricted
    }
}

/// Whether a role over one stream, as tickets and links give it, includes another: who talks watches, too.
pub(crate) fn includes(role: Role, wanted: Role) -> bool {
    role == wanted || (role == Role::Talk && wanted == Role::View)
}

/// Reason why a ticket is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TicketError {
    /// It was changed, made for something else or by another gateway, or what it was issued under was revoked.
    #[error(
        "this ticket is not valid for this, or not any more; get a new one where it came from, for a half from /api/halves/STREAM"
    )]
    Invalid,
    /// It has not been used for too long.
    #[error(
        "this ticket has expired; get a new one where it came from, for a half from /api/halves/STREAM"
    )]
    Expired,
}

/// The ticket in the query of a URL.
pub fn ticket_in(query: Option<&str>) -> Option<&str> {
    let mut pairs = query?.split('&');
    pairs.find_map(|pair| pair.strip_prefix(PARAMETER)?.strip_prefix('='))
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Unix time in seconds.
    pub expires: u64,
    pub credential: Reference,
    pub ticket: Ticket,
}

/// The credential that a ticket was issued under, as far as it can be found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Nothing,
    Local,
    Session(Id),
    Token(Id),
    Password {
        user: String,
        fingerprint: u64,
    },
    /// Key of a table of those that a proxy or a JSON Web Token identified.
    External(u64),
}

/// First half of a signature, by which tickets are told apart.
pub(crate) type Seal = [u8; TAG / 2];

impl Claims {
    /// The text of the ticket.
    pub(crate) fn sign(&self, key: &hmac::Key) -> String {
        let mut bytes = self.bytes();
        let tag = hmac::sign(key, &bytes);
        bytes.extend(tag.as_ref());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What is signed.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.expires.to_be_bytes());
        bytes.extend(self.ticket.session.to_be_bytes());
        let role = Role::ALL.iter().position(|role| *role == self.ticket.role);
        bytes.extend(role.and_then(|role| u8::try_from(role).ok()));
        let names: &[&str] = match &self.credential {
            Reference::Nothing => {
                bytes.push(0);
                &[]
            }
            Reference::Local => {
                bytes.push(1);
                &[]
            }
            Reference::Session(id) => {
                bytes.push(2);
                bytes.extend(id.0.to_be_bytes());
                &[]
            }
            Reference::Token(id) => {
                bytes.push(3);
                bytes.extend(id.0.to_be_bytes());
                &[]
            }
            Reference::Password { user, fingerprint } => {
                bytes.push(4);
                bytes.extend(fingerprint.to_be_bytes());
                &[user]
            }
            Reference::External(external) => {
                bytes.push(5);
                bytes.extend(external.to_be_bytes());
                &[]
            }
        };
        let restriction = self.ticket.restriction.as_ref();
        let restriction = restriction.map(|only| [only.rendition.as_str(), &only.transport]);
        let names = names.iter().copied().chain([self.ticket.stream.as_str()]);
        for name in names.chain(restriction.into_iter().flatten()) {
            // Names in URLs are shorter. One that is not makes a ticket that nobody accepts.
            bytes.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    /// What a ticket says, and its seal, if it was signed with this key. Whether it has expired is up to the caller.
    pub(crate) fn read(key: &hmac::Key, ticket: &str) -> Option<(Claims, Seal)> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (signed, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        hmac::verify(key, signed, tag).ok()?;
        let claims = Claims::parse(signed)?;
        Some((claims, tag.first_chunk().copied()?))
    }

    /// The inverse of [`Claims::bytes`].
    pub(crate) fn parse(bytes: &[u8]) -> Option<Claims> {
        let mut rest = Rest(bytes);
        if rest.byte()? != VERSION {
            return None;
        }
        let (expires, session) = (rest.number()?, rest.number()?);
        let role = Role::ALL.get(usize::from(rest.byte()?)).copied()?;
        let credential = match rest.byte()? {
            0 => Reference::Nothing,
            1 => Reference::Local,
            2 => Reference::Session(Id(rest.number()?)),
            3 => Reference::Token(Id(rest.number()?)),
            4 => Reference::Password {
                fingerprint: rest.number()?,
                user: rest.name()?,
            },
            5 => Reference::External(rest.number()?),
            _ => return None,
        };
        let stream = rest.name()?;
        let restriction = match rest.0.is_empty() {
            true => None,
            false => Some(Restriction {
                rendition: rest.name()?,
                transport: rest.name()?,
            }),
        };
        let ticket = Ticket {
            stream,
            role,
            restriction,
            session,
        };
        rest.0.is_empty().then_some(Claims {
            expires,
            credential,
            ticket,
        })
    }
}

/// What is left of the bytes of a ticket.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn name(&mut self) -> Option<String> {
        let length = self.array().map(u16::from_be_bytes)?;
        let (name, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        String::from_utf8(name.to_vec()).ok()
    }
}

/// HMAC-SHA-256 of a list of parts. Each is preceded by its length, so that two different lists differ.
pub(crate) fn tag(key: &hmac::Key, parts: &[&[u8]]) -> [u8; TAG] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut tag = [0; TAG];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// The first 64 bits of [`tag`].
pub(crate) fn short_tag(key: &hmac::Key, parts: &[&[u8]]) -> u64 {
    let tag = tag(key, parts);
    tag.first_chunk()
        .map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])
    }

    fn claims(restriction: Option<(&str, &str)>) -> Claims {
        Claims {
            expires: 1_000,
            credential: Reference::Session(Id(9)),
            ticket: Ticket {
                stream: "porch".into(),
                role: Role::View,
                restriction: restriction.map(|(rendition, transport)| Restriction {
                    rendition: rendition.into(),
                    transport: transport.into(),
                }),
                session: 7,
            },
        }
    }

    const MEDIA: Media<'_> = Media {
        stream: "porch",
        rendition: "mobile",
        transport: "canvas",
    };

    #[test]
    fn a_restricted_ticket_is_for_one_transport_of_one_rendition() {
        let ticket = claims(Some(("mobile", "canvas"))).ticket;
        assert!(ticket.admits(MEDIA));
        for other in [
            Media {
                stream: "garden",
                ..MEDIA
            },
            Media {
                rendition: "",
                ..MEDIA
            },
            Media {
                transport: "mjpeg",
                ..MEDIA
            },
        ] {
            assert!(!ticket.admits(other), "{other:?}");
        }
    }

    #[test]
    fn another_ticket_is_for_one_stream_and_role() {
        let mut ticket = claims(None).ticket;
        assert!(ticket.admits(MEDIA));
        let rendition = "";
        assert!(ticket.admits(Media { rendition, ..MEDIA }));
        let stream = "garden";
        assert!(!ticket.admits(Media { stream, ..MEDIA }));
        ticket.role = Role::Talk;
        assert!(ticket.admits(MEDIA));
        ticket.role = Role::Control;
        assert!(!ticket.admits(MEDIA));
    }

    #[test]
    fn a_changed_or_foreign_ticket_is_none() {
        let ticket = claims(None).sign(&key());
        assert!(Claims::read(&key(), &ticket).is_some());
        let other = hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]);
        assert!(Claims::read(&other, &ticket).is_none());
        for forged in [
            "",
            "A",
            &ticket[1..],
            &format!("{ticket}A"),
            &"A".repeat(9_000),
        ] {
            assert!(Claims::read(&key(), forged).is_none(), "{forged}");
        }
        // Each single character matters.
        for at in 0..ticket.len() {
            let mut forged = ticket.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(Claims::read(&key(), &forged).is_none(), "{at}");
        }
    }

    #[test]
    fn a_ticket_fits_in_a_path() {
        let ticket = claims(Some(("mobile", "canvas"))).sign(&key());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(ticket.bytes().all(plain), "{ticket}");
        assert!(ticket.len() < 150, "{ticket}");
    }

    #[test]
    fn a_ticket_is_found_in_the_query() {
        assert_eq!(ticket_in(Some("x=1&ticket=b.c&y")), Some("b.c"));
        assert_eq!(ticket_in(Some("tickets=b")), None);
        assert_eq!(ticket_in(None), None);
    }

    fn any_reference() -> impl Strategy<Value = Reference> {
        prop_oneof![
            Just(Reference::Nothing),
            Just(Reference::Local),
            any::<u64>().prop_map(|id| Reference::Session(Id(id))),
            any::<u64>().prop_map(|id| Reference::Token(Id(id))),
            any::<u64>().prop_map(Reference::External),
            (".{0,20}", any::<u64>())
                .prop_map(|(user, fingerprint)| Reference::Password { user, fingerprint }),
        ]
    }

    fn any_claims() -> impl Strategy<Value = Claims> {
        let names = (".{0,40}", proptest::option::of((".{0,20}", ".{0,20}")));
        let numbers = (any::<u64>(), any::<u64>(), 0_usize..6);
        (names, numbers, any_reference()).prop_map(
            |((stream, restriction), (expires, session, role), credential)| Claims {
                expires,
                credential,
                ticket: Ticket {
                    stream,
                    role: Role::ALL[role],
                    restriction: restriction.map(|(rendition, transport)| Restriction {
                        rendition,
                        transport,
                    }),
                    session,
                },
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_signed_reads_back_as_itself(claims in any_claims()) {
            let ticket = claims.sign(&key());
            prop_assert_eq!(Claims::read(&key(), &ticket).map(|(claims, _)| claims), Some(claims));
        }

        #[test]
        fn no_text_is_a_ticket_and_no_bytes_panic(text in ".{0,60}", bytes: Vec<u8>) {
            prop_assert_eq!(Claims::read(&key(), &text), None);
            let _ = Claims::parse(&bytes);
            // Signed by whoever has the key, but not a ticket.
            let signed = [&bytes[..], hmac::sign(&key(), &bytes).as_ref()].concat();
            let _ = Claims::read(&key(), &BASE64_URL_SAFE_NO_PAD.encode(signed));
        }
    }
}
