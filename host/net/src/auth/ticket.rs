//! Tickets: each lets its bearer use one transport of one stream, in one rendition, for a few minutes.
//!
//! The half of a transport that runs in the browser has no origin by which it could be recognised, and is not trusted
//! with the page's (`docs/decisions/0041-the-half-in-the-browser.md`). The page, which may watch, gets a ticket for it.
//! A ticket is signed with a key of this process, so the gateway keeps none, and those of an earlier run are invalid.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hyper::Uri;
use ring::{error::Unspecified, hmac, rand::SystemRandom};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Name of the query parameter that carries a ticket.
pub const PARAMETER: &str = "ticket";

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

/// What a valid ticket says besides the media that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Number of the session that the ticket was made for; 0 if it was made for none.
    pub session: u64,
}

/// Reason why a ticket is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TicketError {
    /// It was changed, made for something else, or made by another process.
    #[error(
        "this ticket is not for this stream, rendition and transport, or was not made by this run of the gateway; get one from /api/halves/STREAM"
    )]
    Invalid,
    /// It is too old.
    #[error("this ticket has expired; get a new one from /api/halves/STREAM")]
    Expired,
}

/// Makes and checks tickets.
#[derive(Debug)]
pub struct Tickets {
    key: hmac::Key,
    /// Times in tickets are seconds since then, so that setting the clock changes nothing.
    started: Instant,
}

impl Tickets {
    /// How long a ticket is valid. A connection that was opened with it may last longer.
    pub const LIFETIME: Duration = Duration::from_secs(300);

    /// Makes a random key. No time that is passed later is before `started`.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(started: Instant) -> Result<Tickets, Unspecified> {
        Ok(Tickets {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
            started,
        })
    }

    /// Makes a ticket, which begins to be valid now.
    pub fn issue(&self, media: Media<'_>, grant: Grant, now: Instant) -> String {
        let expires = self.seconds(now + Tickets::LIFETIME);
        let tag = hmac::sign(&self.key, &signed(media, grant, expires));
        let tag = BASE64_URL_SAFE_NO_PAD.encode(tag);
        format!("{expires:x}.{:x}.{tag}", grant.session)
    }

    /// Checks that a ticket is for this media and still valid.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(
        &self,
        ticket: &str,
        media: Media<'_>,
        now: Instant,
    ) -> Result<Grant, TicketError> {
        let (grant, expires, tag) = parse(ticket).ok_or(TicketError::Invalid)?;
        hmac::verify(&self.key, &signed(media, grant, expires), &tag)
            .map_err(|Unspecified| TicketError::Invalid)?;
        match self.seconds(now) <= expires {
            true => Ok(grant),
            false => Err(TicketError::Expired),
        }
    }

    fn seconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_secs()
    }
}

/// The ticket in the query of a URL.
pub fn ticket_in(uri: &Uri) -> Option<&str> {
    let mut pairs = uri.query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix(PARAMETER)?.strip_prefix('='))
}

fn parse(ticket: &str) -> Option<(Grant, u64, Vec<u8>)> {
    let mut parts = ticket.splitn(3, '.');
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    let (expires, session) = (number()?, number()?);
    let tag = BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    Some((Grant { session }, expires, tag))
}

/// The bytes that are signed. Each name is preceded by its length, so that two different lists of names differ.
fn signed(media: Media<'_>, grant: Grant, expires: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(expires.to_be_bytes());
    bytes.extend(grant.session.to_be_bytes());
    for name in [media.stream, media.rendition, media.transport] {
        bytes.extend((name.len() as u64).to_be_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MEDIA: Media<'_> = Media {
        stream: "porch",
        rendition: "mobile",
        transport: "canvas",
    };
    const GRANT: Grant = Grant { session: 7 };

    #[test]
    fn a_ticket_is_for_one_transport_of_one_rendition() {
        let now = Instant::now();
        let tickets = Tickets::new(now).unwrap();
        let ticket = tickets.issue(MEDIA, GRANT, now);
        assert_eq!(tickets.check(&ticket, MEDIA, now), Ok(GRANT));
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
            // The same letters in other places.
            Media {
                stream: "porchm",
                rendition: "obile",
                ..MEDIA
            },
        ] {
            let refused = Err(TicketError::Invalid);
            assert_eq!(tickets.check(&ticket, other, now), refused, "{other:?}");
        }
    }

    #[test]
    fn a_ticket_expires() {
        let now = Instant::now();
        let tickets = Tickets::new(now).unwrap();
        let ticket = tickets.issue(MEDIA, GRANT, now);
        let check = |after| tickets.check(&ticket, MEDIA, now + after);
        assert_eq!(check(Tickets::LIFETIME), Ok(GRANT));
        let later = Tickets::LIFETIME + Duration::from_secs(2);
        assert_eq!(check(later), Err(TicketError::Expired));
    }

    #[test]
    fn a_changed_or_foreign_ticket_is_invalid() {
        let now = Instant::now();
        let tickets = Tickets::new(now).unwrap();
        let ticket = tickets.issue(MEDIA, GRANT, now);
        let (expires, rest) = ticket.split_once('.').unwrap();
        let (_, tag) = rest.split_once('.').unwrap();
        let other = Tickets::new(now).unwrap().issue(MEDIA, GRANT, now);
        for forged in [
            String::new(),
            "..".into(),
            format!("ffffffff.{rest}"),
            format!("{expires}.8.{tag}"),
            format!("{expires}.7."),
            ticket.clone() + "A",
            other,
        ] {
            let refused = Err(TicketError::Invalid);
            assert_eq!(tickets.check(&forged, MEDIA, now), refused, "{forged}");
        }
    }

    #[test]
    fn a_ticket_is_found_in_the_query() {
        let found = |uri: &'static str| {
            let uri = Uri::from_static(uri);
            ticket_in(&uri).map(str::to_owned)
        };
        assert_eq!(found("/a?x=1&ticket=b.c&y"), Some("b.c".into()));
        assert_eq!(found("/a?tickets=b"), None);
        assert_eq!(found("/ticket=b"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_ticket(text in ".{0,60}") {
            let now = Instant::now();
            let tickets = Tickets::new(now).unwrap();
            let refused = Err(TicketError::Invalid);
            prop_assert_eq!(tickets.check(&text, MEDIA, now), refused);
        }
    }
}
