//! Whether `frame_num` can be believed, ISO/IEC 14496-10 7.4.3.

use super::parameter_sets::Sps;
use super::slice::Header;

/// So many groups in a row have to be wrong alike, in their first so many gaps.
const ALIKE: u32 = 3;
const LOOKED_AT: usize = 64;

/// Finds the gaps in `frame_num`, and whether they are losses.
///
/// Where pictures are lost, other ones are missing in each group, and some groups are whole. A source that counts wrongly
/// does so in each group in the same manner: at the same pictures, by as much. So after three groups in a row with the same
/// gaps its counting is not believed any more. One gap alone is not enough, since the picture behind a large keyframe may
/// be lost again and again, unless it goes backwards: no loss does that.
#[derive(Debug, Default)]
pub struct Counting {
    disbelieved: bool,
    /// The last reference picture.
    reference: Option<Header>,
    group: Group,
    before: Group,
    /// Groups in a row that were wrong alike.
    alike: u32,
}

/// What was seen since a start point.
#[derive(Debug, Default)]
struct Group {
    pictures: u32,
    gaps: Vec<(u32, Gap)>,
}

/// How far a picture is from where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    missing: u32,
    backwards: bool,
}

impl Counting {
    /// What is missing before a picture, as it seems.
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

    /// Takes a picture and the gap before it; `start`: decoding may start there.
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

    /// Takes the second field of the newest picture.
    pub fn second_field(&mut self, header: &Header) {
        if header.reference {
            self.reference = Some(header.left());
        }
    }

    /// Something is known to be lost, so that gaps tell nothing.
    pub fn lost(&mut self) {
        *self = Counting {
            disbelieved: self.disbelieved,
            ..Counting::default()
        };
    }

    /// Whether the source counts wrongly.
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
