//! Decides whether gaps in `frame_num` (ISO/IEC 14496-10 7.4.3) are losses or a counting error of the source.
//!
//! Some encoders count `frame_num` wrongly although nothing is missing, and would otherwise never be shown.
//! [`super::access_unit::Assembler`] asks for the gap before each picture and reports each picture that it finishes.

use super::parameter_sets::Sps;
use super::slice::Header;

/// Number of groups in a row that must have the same gaps, compared up to the first [`LOOKED_AT`] gaps.
const ALIKE: u32 = 3;
const LOOKED_AT: usize = 64;

/// Tracks `frame_num` and the gaps of the last groups.
///
/// Losses hit different pictures in each group and spare some groups. A source that counts wrongly does so in every
/// group in the same way: at the same pictures, by the same amount. So after three groups in a row with the same gaps,
/// `frame_num` is ignored. A single gap per group is not enough, since the picture after a large keyframe may be lost
/// again and again, unless the gap goes backwards, which no loss causes.
#[derive(Debug, Default)]
pub struct Counting {
    disbelieved: bool,
    /// The last reference picture.
    reference: Option<Header>,
    group: Group,
    before: Group,
    /// Number of consecutive groups with the same gaps.
    alike: u32,
}

/// Gaps since a start point, with the index of the picture after each.
#[derive(Debug, Default)]
struct Group {
    pictures: u32,
    gaps: Vec<(u32, Gap)>,
}

/// Distance of a picture's `frame_num` from the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    missing: u32,
    backwards: bool,
}

impl Counting {
    /// Returns the gap before a picture, if `frame_num` shows one.
    pub fn gap(&self, header: &Header, sps: &Sps) -> Option<Gap> {
        let reference = self.reference.as_ref().filter(|_| !header.idr)?;
        if header.follows(reference, sps) {
            return None;
        }
        let count = 1 << sps.slice.frame_num_bits;
        let missing = header.frame_num.wrapping_sub(reference.frame_num + 1) & (count - 1);
        Some(Gap {
            missing,
            backwards: missing >= count / 2,
        })
    }

    /// Records a picture and the gap before it. `start` is set if decoding may start at it.
    pub fn picture(&mut self, header: &Header, start: bool, gap: Option<Gap>) {
        if start {
            self.close();
            self.reference = None;
        } else if let Some(gap) = gap
            && self.group.gaps.len() < LOOKED_AT
        {
            self.group.gaps.push((self.group.pictures, gap));
        }
        self.group.pictures += 1;
        if header.reference {
            self.reference = Some(header.left());
        }
    }

    /// Records the second field of the newest picture.
    pub fn second_field(&mut self, header: &Header) {
        if header.reference {
            self.reference = Some(header.left());
        }
    }

    /// Records a loss that is known otherwise: the gaps of this group prove nothing.
    pub fn lost(&mut self) {
        *self = Counting {
            disbelieved: self.disbelieved,
            ..Counting::default()
        };
    }

    /// Whether the source was found to count wrongly.
    pub fn is_disbelieved(&self) -> bool {
        self.disbelieved
    }

    fn close(&mut self) {
        let pictures = self.group.pictures.min(self.before.pictures);
        let common = |group: &Group| -> Vec<(u32, Gap)> {
            let gaps = group.gaps.iter();
            gaps.take_while(|(at, _)| *at < pictures).copied().collect()
        };
        let gaps = common(&self.group);
        let tells = gaps.len() > 1 || gaps.iter().any(|(_, gap)| gap.backwards);
        self.alike = match tells && gaps == common(&self.before) {
            true => self.alike + 1,
            false => 1,
        };
        self.disbelieved |= self.alike >= ALIKE;
        self.before = std::mem::take(&mut self.group);
    }
}
