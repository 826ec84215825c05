//! The parameter sets that have come, and which of them a picture decodes with (ISO/IEC 14496-10 7.4.1.2.1).

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
    /// `sps` or `pps` changed since `current` was made.
    outdated: bool,
    /// Those of the newest picture, and the SPS they were made of.
    current: Option<Arc<ParameterSets>>,
    current_sps: Option<u8>,
}

#[derive(Debug)]
struct KnownPps {
    pps: Pps,
    /// A slice has named it.
    used: bool,
    /// It was not repeated with the SPS before the newest IDR picture. Unless it is used it is then no longer passed on:
    /// damage may have made it, and a decoder that is given nonsense may end.
    stale: bool,
}

impl KnownSets {
    /// Takes a parameter set of NAL unit type `kind`. Keeps a copy: the NAL unit may share the memory of something much larger.
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

    /// The PPS of an id, and its SPS.
    pub fn lookup(&self, pps: u8) -> Option<(&Pps, &Sps)> {
        let pps = &self.pps.get(&pps)?.pps;
        Some((pps, self.sps.get(&pps.sps_id)?))
    }

    /// Those of the newest picture.
    pub fn current(&self) -> Option<&Arc<ParameterSets>> {
        self.current.as_ref()
    }

    /// The parameter sets of a picture that names `pps`: its SPS, and every PPS of that SPS.
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

    /// The same before the first picture, of the first PPS that has its SPS.
    pub fn activate_any(&mut self) {
        let complete = |id: &&u8| self.lookup(**id).is_some();
        let first = self.pps.keys().find(complete).copied();
        if let (None, Some(first)) = (&self.current, first) {
            self.activate(first);
        }
    }

    /// Where an SPS comes before an IDR picture, in `nals`, its PPS come too.
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
