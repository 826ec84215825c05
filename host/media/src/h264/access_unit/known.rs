//! The parameter sets received so far, and which of them a picture decodes with (ISO/IEC 14496-10 7.4.1.2.1). Part of
//! [`super::Assembler`].

use super::super::nal;
use super::super::parameter_sets::{Error, ParameterSets, Pps, Sps};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The newest parameter sets of each id: at most 32 SPS and 256 PPS.
#[derive(Debug, Default)]
pub struct KnownSets {
    sps: BTreeMap<u8, Sps>,
    pps: BTreeMap<u8, KnownPps>,
    /// `sps` or `pps` changed since `current` was computed.
    outdated: bool,
    /// Parameter sets of the newest picture, and the id of their SPS.
    current: Option<Arc<ParameterSets>>,
    current_sps: Option<u8>,
}

#[derive(Debug)]
struct KnownPps {
    pps: Pps,
    /// A slice has referred to this PPS.
    used: bool,
    /// The PPS was not repeated with the SPS before the newest IDR picture. Unless it is used, it is no longer passed
    /// on: damage may have created it, and an invalid PPS can make a decoder fail.
    stale: bool,
}

impl KnownSets {
    /// Stores a parameter set of NAL unit type `kind`. Keeps a copy, since the NAL unit may share the memory of
    /// something much larger.
    pub fn store(&mut self, kind: u8, nal: &Bytes) -> Result<(), Error> {
        if kind == nal::SPS {
            if self.sps.values().any(|known| known.nal == nal) {
                return Ok(());
            }
            let mut sps = Sps::parse(nal)?;
            sps.nal = Bytes::copy_from_slice(nal);
            self.sps.insert(sps.id, sps);
        } else {
            if self.pps.values().any(|known| known.pps.nal == nal) {
                return Ok(());
            }
            let mut pps = Pps::parse(nal)?;
            pps.nal = Bytes::copy_from_slice(nal);
            let known = KnownPps {
                used: false,
                stale: false,
                pps,
            };
            self.pps.insert(known.pps.id, known);
        }
        self.outdated = true;
        Ok(())
    }

    /// Returns the PPS of an id together with its SPS.
    pub fn lookup(&self, pps: u8) -> Option<(&Pps, &Sps)> {
        let pps = &self.pps.get(&pps)?.pps;
        Some((pps, self.sps.get(&pps.sps_id)?))
    }

    /// Parameter sets of the newest picture.
    pub fn current(&self) -> Option<&Arc<ParameterSets>> {
        self.current.as_ref()
    }

    /// Returns the parameter sets of a picture that refers to `pps`: its SPS, and every PPS of that SPS.
    pub fn activate(&mut self, pps: u8) -> Option<Arc<ParameterSets>> {
        let known = self.pps.get_mut(&pps)?;
        let sps = self.sps.get(&known.pps.sps_id)?;
        self.outdated |= known.stale && !known.used;
        known.used = true;
        let id = sps.id;
        if self.outdated || self.current_sps != Some(id) {
            let good = |known: &&KnownPps| known.pps.sps_id == id && (known.used || !known.stale);
            let pps = self.pps.values().filter(good);
            let sets =
                ParameterSets::of_picture(sps, pps.map(|known| known.pps.nal.clone()).collect());
            if self.current.as_deref() != Some(&sets) {
                self.current = Some(Arc::new(sets));
            }
            self.current_sps = Some(id);
            self.outdated = false;
        }
        self.current.clone()
    }

    /// Activates the first PPS whose SPS is known, if there was no picture yet.
    pub fn activate_any(&mut self) {
        let complete = |id: &&u8| self.lookup(**id).is_some();
        let first = self.pps.keys().find(complete).copied();
        if let (None, Some(first)) = (&self.current, first) {
            self.activate(first);
        }
    }

    /// If `nals`, which precede an IDR picture, contain an SPS, they contain its PPS, too. Marks every PPS that they do
    /// not repeat as stale.
    pub fn forget_unrepeated(&mut self, nals: &[Bytes]) {
        if !nals.iter().any(|nal| nal::unit_type(nal) == nal::SPS) {
            return;
        }
        for known in self.pps.values_mut() {
            let stale = !nals.contains(&known.pps.nal);
            self.outdated |= stale != known.stale && !known.used;
            known.stale = stale;
        }
    }
}
