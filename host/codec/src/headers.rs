//! Adds to an encoder's access units what [`super::Packet`] promises and some encoders leave out: delimiter and
//! parameter sets. Pure.

use bytes::Bytes;
use sluicegate_media::h264::{annexb, nal};

/// An access unit delimiter for any kind of slice (H.264 7.4.2.4).
const DELIMITER: Bytes = Bytes::from_static(&[nal::AUD, 0xf0]);

/// The encoder's newest parameter sets, from its extradata or its stream.
#[derive(Debug, Default)]
pub(super) struct Headers {
    sps: Vec<Bytes>,
    pps: Vec<Bytes>,
}

impl Headers {
    /// Starts with the encoder's extradata, in Annex B.
    pub(super) fn new(extradata: &Bytes) -> Self {
        let mut headers = Self::default();
        headers.learn(&annexb::split(extradata));
        headers
    }

    /// Returns the access unit with a leading delimiter and, if it is an IDR picture, its parameter sets; and whether
    /// it is an IDR picture.
    pub(super) fn complete(&mut self, data: Bytes) -> (Bytes, bool) {
        let nals = annexb::split(&data);
        let has = |kind: u8| nals.iter().any(|unit| nal::unit_type(unit) == kind);
        let (key, sps, pps) = (has(nal::IDR), has(nal::SPS), has(nal::PPS));
        self.learn(&nals);
        let whole = !key || (sps && pps);
        if whole
            && nals
                .first()
                .is_some_and(|unit| nal::unit_type(unit) == nal::AUD)
        {
            return (data, key);
        }
        let mut all = vec![DELIMITER];
        if !whole {
            all.extend(self.sps.iter().chain(&self.pps).cloned());
        }
        let rest = nals.into_iter().filter(|unit| {
            let kind = nal::unit_type(unit);
            kind != nal::AUD && (whole || !matches!(kind, nal::SPS | nal::PPS))
        });
        all.extend(rest);
        (annexb::join(&all), key)
    }

    /// Remembers parameter sets; those of a type replace the known ones of that type.
    fn learn(&mut self, nals: &[Bytes]) {
        for (kind, known) in [(nal::SPS, &mut self.sps), (nal::PPS, &mut self.pps)] {
            let mut news = nals
                .iter()
                .filter(|unit| nal::unit_type(unit) == kind)
                .peekable();
            if news.peek().is_some() {
                *known = news.cloned().collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const AUD: &[u8] = &[9, 0xf0];
    const SPS: &[u8] = &[0x67, 1];
    const PPS: &[u8] = &[0x68, 1];
    const IDR: &[u8] = &[0x65, 0x88];
    const SLICE: &[u8] = &[0x41, 0x9a];

    fn unit(nals: &[&'static [u8]]) -> Bytes {
        annexb::join(
            &nals
                .iter()
                .map(|unit| Bytes::from_static(unit))
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn every_idr_frame_gets_the_known_parameter_sets_wherever_they_came_from() {
        for (beside, first) in [
            // All in the stream, once: v4l2m2m.
            (&[][..], &[SPS, PPS, IDR][..]),
            // All in the extradata: encoders with global headers.
            (&[SPS, PPS], &[IDR]),
            // One of each.
            (&[SPS], &[PPS, IDR]),
        ] {
            let mut headers = Headers::new(&unit(beside));
            for (given, wanted, key) in [
                (first, &[AUD, SPS, PPS, IDR][..], true),
                (&[SLICE], &[AUD, SLICE], false),
                (&[AUD, IDR], &[AUD, SPS, PPS, IDR], true),
                (&[AUD, SLICE], &[AUD, SLICE], false),
            ] {
                assert_eq!(headers.complete(unit(given)), (unit(wanted), key));
            }
        }
    }

    #[test]
    fn complete_access_units_pass_unchanged_and_newer_sets_replace_older() {
        let mut headers = Headers::new(&unit(&[SPS, PPS]));
        let whole = unit(&[AUD, &[0x67, 2], &[0x68, 2], IDR]);
        let (same, key) = headers.complete(whole.clone());
        assert!(key && same.as_ptr() == whole.as_ptr());
        assert_eq!(headers.complete(unit(&[IDR])).0, whole);
    }
}
