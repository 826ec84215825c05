//! Which parameter sets go to viewers, and how: the SPS and the first PPS in the configuration of the track, later PPS
//! in the frames.
//!
//! Only a different SPS is a different configuration. A PPS may change before any picture (ISO/IEC 14496-10 7.4.1.2.1)
//! and travels with the frame that it came with. A viewer that starts later knows only the configuration, so a start
//! point repeats every PPS that differs from it.

use bytes::Bytes;
use sluicegate_media::h264::{access_unit::AccessUnit, nal, parameter_sets::ParameterSets};
use std::sync::Arc;

/// The parameter sets that viewers have.
#[derive(Debug, Default)]
pub struct InBand {
    /// Those in the configuration.
    configured: Option<Arc<ParameterSets>>,
    /// Those in force at the newest frame that was passed on.
    newest: Option<Arc<ParameterSets>>,
    /// Whether frames have needed a PPS that the configuration did not have.
    varies: bool,
}

impl InBand {
    /// Whether frames that decode with `sets` fit the configuration.
    pub fn is_configured_for(&self, sets: &Arc<ParameterSets>) -> bool {
        let known = self.configured.as_ref();
        known.is_some_and(|known| Arc::ptr_eq(known, sets) || known.sps == sets.sps)
    }

    /// Makes `sets` the configuration. Returns its RFC 6381 codec string: `avc1` says that all parameter sets are in
    /// the configuration, `avc3` that there are some in the frames (ISO/IEC 14496-15 5.4.2.1). It is `avc3` if that was
    /// seen before.
    pub fn configure(&mut self, sets: &Arc<ParameterSets>, codec: String) -> String {
        self.configured = Some(sets.clone());
        self.newest = Some(sets.clone());
        match codec.strip_prefix("avc1") {
            Some(rest) if self.varies => format!("avc3{rest}"),
            _ => codec,
        }
    }

    /// The NAL units of `unit`, with every PPS that a decoder may lack in front of its slices.
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

/// Whether a NAL unit precedes a PPS in an access unit.
fn goes_before(unit: &Bytes) -> bool {
    matches!(nal::unit_type(unit), nal::AUD | nal::SPS | nal::PPS)
}
