//! Candidates of a session: the transports and renditions that the config allows, the client can play and the stream
//! offers.
//!
//! The policy only ever chooses from this list, so everything that restricts a client is applied here. The list is
//! never empty and its order is the preference: the first candidate is what plays if the policy does not answer. Called
//! by [`Sessions`](super::Sessions) at the start of a session, on a pin and on each report; asks [`Stream`] for its
//! offers.

use super::{MAX_SESSIONS, MAX_UNCLAIMED};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_config as config;
use sluicegate_plugin::{
    policy::Candidate,
    transports::{Table, Transport},
};
use sluicegate_stream::{Info, Offer, Stream};
use std::sync::Arc;
use thiserror::Error;
use tokio::task::spawn_blocking;

/// Relative change of bandwidth up to which candidates count as unchanged.
const BANDWIDTH_TOLERANCE: f64 = 0.25;

/// Why a session or a pin is refused.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Nothing that the client can play is allowed.
    #[error(
        "no transport fits this client: it can play {can}, and the config allows {allowed}; check `[[clients]]`"
    )]
    Nothing {
        /// Names of the transports that the client can play.
        can: String,
        /// Names of the transports that the config allows.
        allowed: String,
    },
    /// A rule with `force = true` applies, so the user may not choose.
    #[error("the gateway's config decides for this client; manual selection is disabled")]
    Forced,
    /// The client cannot play what was chosen or the stream does not offer it: the choice, and what is available.
    #[error("{0} is not available; available are: {1}")]
    NoSuch(String, String),
    /// The client's address has too many unclaimed sessions.
    #[error(
        "this address started {MAX_UNCLAIMED} sessions and never opened their control channels; each expires after 30 s, try \
         again then"
    )]
    TooManyUnclaimed,
    /// The stream was removed meanwhile.
    #[error("the stream was removed")]
    Removed,
    /// The gateway has too many sessions.
    #[error("the gateway has {MAX_SESSIONS} sessions, which is its limit; try again later")]
    TooMany,
}

/// What a rule in `[[clients]]` allows. The default allows everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowed {
    /// Names of the allowed transports, best first; `None` allows all.
    pub transports: Option<Vec<String>>,
    /// Names of the allowed renditions, best first; `None` allows all.
    pub renditions: Option<Vec<String>>,
    /// Whether the user may not choose beyond these lists.
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

/// What the user has pinned. What is null is chosen by the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pin {
    /// Name of the transport.
    pub transport: Option<String>,
    /// Name of the rendition; empty for the stream itself.
    pub rendition: Option<String>,
}

impl Pin {
    /// Whether a transport and rendition match the pin.
    pub(super) fn fits(&self, transport: &str, rendition: &str) -> bool {
        let is = |pinned: &Option<String>, name: &str| {
            pinned.as_ref().is_none_or(|pinned| pinned == name)
        };
        is(&self.transport, transport) && is(&self.rendition, rendition)
    }
}

/// Waits until it is known which renditions this machine can encode for the transports in `can`. The first time,
/// encoders are probed, on a blocking thread, since a driver may hang.
pub(super) async fn wait_for_probes(transports: &Table, stream: &Arc<Stream>, can: &[String]) {
    let Some(info) = stream.info() else { return };
    for transport in can.iter().filter_map(|name| transports.get(name)) {
        let formats = &transport.profile.formats;
        if !stream.offers_without_probing(&info, formats).1 {
            let (stream, info, formats) = (stream.clone(), info.clone(), formats.clone());
            let found = spawn_blocking(move || drop(stream.offers(&info, &formats)));
            // A panic is logged already; renditions that were not probed are offered.
            let _ = found.await;
        }
    }
}

/// Candidates of a client, best first; at least one. Never waits. A pin overrides a rule's lists unless the rule has
/// `force = true`.
pub(super) fn candidates(
    transports: &Table,
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
        .flat_map(|transport| transport_candidates(stream, info.as_ref(), transport))
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

/// Forms in which a transport can deliver a stream, best first. Before the source has run for the first time, they are
/// derived from the config and their figures are unknown.
fn transport_candidates(
    stream: &Arc<Stream>,
    info: Option<&Arc<Info>>,
    transport: &Transport,
) -> Vec<Candidate> {
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
            .chain(stream.renditions().iter().map(String::as_str))
            .map(Offer::unknown)
            .map(|offer| Offer {
                has_audio: formats.iter().any(|format| format.is_audio()),
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
        sound: offer.has_audio,
        more: Vec::new(),
    };
    offers.into_iter().map(candidate).collect()
}

/// Whether two lists differ so little that the policy need not be told: bandwidths within [`BANDWIDTH_TOLERANCE`], all
/// else equal.
pub(super) fn is_similar(old: &[Candidate], new: &[Candidate]) -> bool {
    let near = |old: u32, new: u32| {
        let (old, new) = (f64::from(old), f64::from(new));
        (old - new).abs() <= BANDWIDTH_TOLERANCE * old.max(new)
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
