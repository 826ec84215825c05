//! Parameter sets on their way to viewers: the SPS and the first PPS in the tracks' configuration, what comes later in the pictures.
//!
//! Only another SPS is another configuration. A PPS may change before any picture (ISO/IEC 14496-10 7.4.1.2.1), and goes with the
//! picture it came with. A viewer that starts later knows the configuration only, so a start point brings whatever differs from it.

use bytes::Bytes;
use sluicegate_media::h264::{access_unit::AccessUnit, nal, parameter_sets::ParameterSets};
use std::sync::Arc;

/// What viewers know.
#[derive(Debug, Default)]
pub struct InBand {
    /// In the configuration.
    configured: Option<Arc<ParameterSets>>,
    /// By the newest picture that was passed on.
    newest: Option<Arc<ParameterSets>>,
    /// Pictures have needed a PPS that the configuration did not have.
    varies: bool,
}

impl InBand {
    /// Whether pictures that decode with `sets` fit the configuration.
    pub fn is_configured_for(&self, sets: &Arc<ParameterSets>) -> bool {
        let known = self.configured.as_ref();
        known.is_some_and(|known| Arc::ptr_eq(known, sets) || known.sps == sets.sps)
    }

    /// The configuration is made of `sets`. Gives its RFC 6381 codec: `avc1` says that all parameter sets are in the configuration,
    /// `avc3` that there are some in the pictures (ISO/IEC 14496-15 5.4.2.1), which is said where it was seen before.
    pub fn configure(&mut self, sets: &Arc<ParameterSets>, codec: String) -> String {
        self.configured = Some(sets.clone());
        self.newest = Some(sets.clone());
        match codec.strip_prefix("avc1") {
            Some(rest) if self.varies => format!("avc3{rest}"),
            _ => codec,
        }
    }

    /// The NAL units of `unit`, and in front of its picture each PPS that somebody who decodes it may lack.
    pub fn complete(&mut self, unit: AccessUnit) -> Vec<Bytes> {
        let sets = unit.parameter_sets;
        let mut nals = unit.nals;
        let differs = |known: &Option<Arc<ParameterSets>>| {
            !known
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, &sets))
        };
        let starts = unit.start.is_some();
        if differs(&self.newest) || (starts && differs(&self.configured)) {
            let has = |known: &Option<Arc<ParameterSets>>, pps: &Bytes| {
                known.as_ref().is_some_and(|known| known.pps.contains(pps))
            };
            let outside = |pps: &&Bytes| !has(&self.configured, pps);
            self.varies |= sets.pps.iter().any(|pps| outside(&pps));
            let lacks =
                |pps: &&Bytes| !has(&self.newest, pps) || (starts && !has(&self.configured, pps));
            let missing = sets.pps.iter().filter(lacks);
            let missing: Vec<Bytes> = missing.filter(|pps| !nals.contains(pps)).cloned().collect();
            let at = nals.iter().position(|nal| !goes_before(nal));
            let at = at.unwrap_or(nals.len());
            nals.splice(at..at, missing);
            self.newest = Some(sets);
        }
        nals
    }
}

/// What stands before a PPS in an access unit.
fn goes_before(unit: &Bytes) -> bool {
    matches!(nal::unit_type(unit), nal::AUD | nal::SPS | nal::PPS)
}
