//! What a session may be given: what the config allows, the client can play and the stream has.

use super::{MAX_SESSIONS, MAX_UNCLAIMED};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_config as config;
use sluicegate_plugin::{policy::Candidate, transports::Transport};
use sluicegate_stream::{Info, Offer, Stream};
use std::{collections::BTreeMap, sync::Arc};
use thiserror::Error;
use tokio::task::spawn_blocking;

/// A bandwidth that changed by less than this part is the same.
const ALIKE: f64 = 0.25;

/// Why there is no session, or not that form of the stream.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Nothing that the client can play is allowed.
    #[error(
        "nothing is left for this client: it can play {can}, and may have {allowed}; check `[[clients]]`"
    )]
    Nothing {
        /// Names of transports.
        can: String,
        /// Names of transports.
        allowed: String,
    },
    /// The config decides.
    #[error("the gateway's config decides for this client, and nobody else")]
    Forced,
    /// The gateway or the client has no such thing.
    #[error("there is no {0} to choose; there are: {1}")]
    NoSuch(String, String),
    /// Too many of one address.
    #[error(
        "this address has begun {MAX_UNCLAIMED} sessions whose control channel was never opened; each is forgotten after half a minute"
    )]
    TooManyUnclaimed,
    /// Too many.
    #[error("there are {MAX_SESSIONS} sessions already; try again later")]
    TooMany,
}

/// What a rule of the config leaves.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Names of transports, best first; `None`: all.
    pub transports: Option<Vec<String>>,
    /// Names of renditions; `None`: all.
    pub renditions: Option<Vec<String>>,
    /// Whether nobody may choose anything else.
    pub force: bool,
}

impl From<&config::Client> for Allowed {
    fn from(rule: &config::Client) -> Allowed {
        Allowed {
            transports: rule.transport.clone(),
            renditions: rule.rendition.clone(),
            force: rule.force,
        }
    }
}

/// Part of a form that somebody chose; what is `None` is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pin {
    /// Name of the transport.
    pub transport: Option<String>,
    /// Name of the rendition; empty: the stream itself.
    pub rendition: Option<String>,
}

impl Pin {
    /// Whether a form is what was chosen.
    pub(super) fn fits(&self, transport: &str, rendition: &str) -> bool {
        let is = |pinned: &Option<String>, name: &str| {
            pinned.as_ref().is_none_or(|pinned| pinned == name)
        };
        is(&self.transport, transport) && is(&self.rendition, rendition)
    }
}

/// Waits until it is known which renditions can be made here, which takes a moment the first time: elsewhere, as a driver may hang.
pub(super) async fn prepared(
    transports: &BTreeMap<String, Arc<Transport>>,
    stream: &Arc<Stream>,
    can: &[String],
) {
    let Some(info) = stream.info() else { return };
    for transport in can.iter().filter_map(|name| transports.get(name)) {
        let formats = &transport.profile.formats;
        if !stream.offers_without_probing(&info, formats).1 {
            let (stream, info, formats) = (stream.clone(), info.clone(), formats.clone());
            let found = spawn_blocking(move || drop(stream.offers(&info, &formats)));
            // One that panicked is in the log; what it did not find out is offered.
            let _ = found.await;
        }
    }
}

/// What a client may have and can play; at least one. Never waits. A person's choice goes beyond what a rule allows that does not force.
pub(super) fn candidates(
    transports: &BTreeMap<String, Arc<Transport>>,
    stream: &Arc<Stream>,
    can: &[String],
    allowed: &Allowed,
    pin: &Pin,
) -> Result<Vec<Candidate>, SessionError> {
    let free = *pin == Pin::default();
    let order: Vec<&String> = match &allowed.transports {
        Some(names) if free || allowed.force => {
            names.iter().filter(|name| can.contains(name)).collect()
        }
        _ => can.iter().collect(),
    };
    let info = stream.info();
    let mut candidates: Vec<Candidate> = order
        .iter()
        .filter_map(|name| transports.get(*name))
        .flat_map(|transport| forms(stream, info.as_ref(), transport))
        .collect();
    let all = candidates.clone();
    if let (true, Some(names)) = (free || allowed.force, &allowed.renditions) {
        let place =
            |candidate: &Candidate| names.iter().position(|name| *name == candidate.rendition);
        candidates.retain(|candidate| place(candidate).is_some());
        let transport = |candidate: &Candidate| {
            let mut names = order.iter();
            names.position(|name| **name == candidate.transport)
        };
        candidates.sort_by_key(|candidate| (transport(candidate), place(candidate)));
    }
    if !free && !allowed.force {
        candidates.retain(|candidate| pin.fits(&candidate.transport, &candidate.rendition));
    }
    if !candidates.is_empty() {
        return Ok(candidates);
    }
    let names = |names: &mut dyn Iterator<Item = String>| {
        let all: Vec<String> = names.collect();
        match all.is_empty() {
            true => "nothing".to_owned(),
            false => all.join(", "),
        }
    };
    if !free && !all.is_empty() {
        let wanted = format!(
            "`{}` of `{}`",
            pin.transport.as_deref().unwrap_or("any transport"),
            match pin.rendition.as_deref() {
                None | Some("") => stream.name.as_str(),
                Some(rendition) => rendition,
            }
        );
        let there = names(&mut all.iter().map(shown));
        return Err(SessionError::NoSuch(wanted, there));
    }
    Err(SessionError::Nothing {
        can: names(&mut can.iter().cloned()),
        allowed: match &allowed.transports {
            Some(allowed) => allowed.join(", "),
            None => names(&mut transports.keys().cloned()),
        },
    })
}

/// What a transport has of a stream, best first; where its source has not run yet, by the config.
fn forms(stream: &Arc<Stream>, info: Option<&Arc<Info>>, transport: &Transport) -> Vec<Candidate> {
    let formats = &transport.profile.formats;
    let offers: Vec<Offer> = match info {
        Some(info) => {
            let (offers, all_known) = stream.offers_without_probing(info, formats);
            if !all_known {
                stream.probe_encoders(info, formats);
            }
            offers
        }
        None => std::iter::once("")
            .chain(stream.renditions().map(String::as_str))
            .map(Offer::unknown)
            .map(|offer| Offer {
                sound: transport
                    .profile
                    .formats
                    .iter()
                    .any(|format| format.is_audio()),
                ..offer
            })
            .collect(),
    };
    let candidate = |offer: Offer| Candidate {
        transport: transport.name.clone(),
        label: transport.label().to_owned(),
        rendition: offer.rendition,
        bandwidth: offer.bandwidth,
        latency_ms: transport.profile.latency_ms,
        width: offer.width,
        height: offer.height,
        frame_rate: offer.frame_rate,
        sound: offer.sound,
    };
    offers.into_iter().map(candidate).collect()
}

/// Whether the policy need not hear of it.
pub(super) fn alike(old: &[Candidate], new: &[Candidate]) -> bool {
    let near = |old: u32, new: u32| {
        let (old, new) = (f64::from(old), f64::from(new));
        (old - new).abs() <= ALIKE * old.max(new)
    };
    old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| {
            let bandwidth = old.bandwidth;
            near(bandwidth, new.bandwidth)
                && *old
                    == Candidate {
                        bandwidth,
                        ..new.clone()
                    }
        })
}

fn shown(candidate: &Candidate) -> String {
    match candidate.rendition.as_str() {
        "" => candidate.transport.clone(),
        rendition => format!("{} of {rendition}", candidate.transport),
    }
}
