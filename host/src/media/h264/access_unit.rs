//! NAL units to access units, ISO/IEC 14496-10 7.4.1.2.

use super::counting::{Counting, Gap};
use super::nal;
use super::parameter_sets::{self, ParameterSets, Pps, Sps};
use super::sei;
use super::slice::{Header, Unreadable};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Puts NAL units in decoding order together to access units, untouched, each once and in order.
///
/// Nothing comes out before the first picture that decoding may start at and whose parameter sets are known, and nothing
/// between a loss and the next such picture; [`Self::dropped`] counts what was left out. A loss is what [`Self::damaged`]
/// tells and what shows: a NAL unit marked as damaged (`forbidden_zero_bit`), a slice that cannot be read, a gap in `frame_num`
/// unless the source [counts wrongly](Self::miscounts), a picture without its first slice, another SPS without a start.
/// Parameter sets that cannot be read are left out. An access unit is complete when
/// the next one begins, or when [`Self::flush`] says so. Each field of an interlaced frame is an access unit of its own.
/// Holds one access unit of at most [`Limits`] and the newest parameter sets of each id.
#[derive(Debug, Default)]
pub struct Assembler {
    limits: Limits,
    sps: BTreeMap<u8, Sps>,
    pps: BTreeMap<u8, KnownPps>,
    /// `sps` or `pps` changed since `sets` was made.
    sets_outdated: bool,
    /// Those of the newest picture, and the SPS they were made of.
    sets: Option<Arc<ParameterSets>>,
    sets_sps: Option<u8>,
    reported: Option<Arc<ParameterSets>>,
    running: bool,
    unit: Unit,
    /// The picture that was given out last.
    previous: Option<Picture>,
    counting: Counting,
    dropped: u64,
    error: Option<Error>,
}

/// What an [`Assembler`] holds at most. A larger access unit is dropped, and so is all that follows to the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in an access unit.
    pub bytes: usize,
    /// NAL units in an access unit.
    pub nals: usize,
}

impl Default for Limits {
    /// 16 MiB in 8192 NAL units: as many slices of 2 KiB.
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            nals: 8192,
        }
    }
}

/// The NAL units of one primary coded picture and of what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessUnit {
    /// In decoding order, as they came; never empty.
    pub nals: Vec<Bytes>,
    /// Whether decoding may start here.
    pub start: Option<Start>,
    /// Set where they differ from those of the access unit before, so always on the first: (re)configure, then decode.
    pub parameter_sets: Option<Arc<ParameterSets>>,
    /// Has B slices: output order may differ from decoding order.
    pub bidirectional: bool,
    /// The second field of the frame whose first field is the access unit before.
    pub second_field: bool,
    /// More slices of the picture before, which [`Assembler::flush`] gave out too early.
    pub continues: bool,
}

impl AccessUnit {
    /// Bytes in all NAL units, without start codes or lengths.
    pub fn size(&self) -> usize {
        self.nals.iter().map(Bytes::len).sum()
    }
}

/// A random access point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// An IDR picture: nothing after it depends on anything before it.
    Idr,
    /// A recovery point (D.2.8), as in streams with intra refresh or open GOPs.
    Recovery {
        /// Frames after this one until the picture is right; until then it shows remains of what was missed.
        frames: u32,
    },
}

/// Why something of the stream cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A parameter set in the stream; the one it would have replaced stays in use.
    #[error(transparent)]
    ParameterSets(#[from] parameter_sets::Error),
    /// A picture refers to a PPS (or through it to an SPS) that never came.
    #[error(
        "a picture needs PPS {pps}, and it or its SPS never came; the source has to send them in the stream or beside it"
    )]
    MissingParameterSets {
        /// `pic_parameter_set_id`.
        pps: u8,
    },
    /// Something is not there that this or later pictures are made from.
    #[error("{0}; pictures are left out up to the next keyframe")]
    Loss(Loss),
    /// An access unit outgrew [`Limits`].
    #[error("an access unit is larger than {} bytes or {} NAL units and was dropped", .0.bytes, .0.nals)]
    TooLarge(Limits),
}

/// By what a loss shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// `forbidden_zero_bit` is set: somebody on the way knows that the NAL unit is damaged.
    #[error("a NAL unit is marked as damaged")]
    Marked,
    /// The header of a slice, 7.3.3.
    #[error("a slice cannot be read")]
    Slice,
    /// A gap in `frame_num`, 7.4.3.
    #[error("reference pictures are missing")]
    Pictures,
    /// No slice begins at the top.
    #[error("the first slice of a picture is missing")]
    Top,
    /// Another SPS at a picture that is no start, 7.4.1.2.1.
    #[error("the SPS changes in the middle of a sequence")]
    Sequence,
}

/// The access unit under construction.
#[derive(Debug, Default)]
struct Unit {
    nals: Vec<Bytes>,
    bytes: usize,
    recovery: Option<u32>,
    picture: Option<Picture>,
    /// Where prefix NAL units begin that came after a slice: the next slice tells which picture they belong to.
    undecided: Option<usize>,
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

#[derive(Debug)]
struct Picture {
    /// That of the first slice; `None` if it was unreadable.
    header: Option<Header>,
    /// Colour planes whose top slice was seen, as bits.
    tops: u8,
    bidirectional: bool,
    second_field: bool,
    continues: bool,
    sets: Option<Arc<ParameterSets>>,
    /// Why it does not go on from the picture before.
    loss: Option<Loss>,
    /// In `frame_num`, before it.
    gap: Option<Gap>,
}

impl Assembler {
    /// An assembler with bounds other than the default ones.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Takes the next NAL unit; gives the access unit that ended before it.
    pub fn push(&mut self, nal: Bytes) -> Option<AccessUnit> {
        if nal::is_marked_damaged(&nal) {
            self.error = Some(Error::Loss(Loss::Marked));
            self.damaged();
            return None;
        }
        let finished = match nal::unit_type(&nal) {
            nal::SLICE | nal::PARTITION_A | nal::IDR => {
                let header = Header::read(&nal, |pps| self.lookup(pps));
                if self.begins_picture(&header) {
                    let finished = self.finish_picture();
                    self.unit.picture = Some(self.begin_picture(header));
                    finished
                } else if self.add_slice(header) {
                    None
                } else {
                    self.damaged();
                    return None;
                }
            }
            kind @ (nal::SPS | nal::PPS) => {
                let finished = self.finish_picture();
                if let Err(error) = self.store(kind, &nal) {
                    self.error = Some(error.into());
                    return finished;
                }
                finished
            }
            nal::SEI => {
                let finished = self.finish_picture();
                self.unit.recovery = sei::recovery_point(&nal).or(self.unit.recovery);
                finished
            }
            // 7.4.1.2.3: types 14 to 18 begin an access unit like these, but a prefix also precedes each further slice.
            nal::PREFIX if self.unit.picture.is_some() => {
                self.unit.undecided.get_or_insert(self.unit.nals.len());
                None
            }
            nal::AUD | 15..=18 => self.finish_picture(),
            _ if nal.is_empty() => return None,
            _ => None,
        };
        self.unit.bytes += nal.len();
        self.unit.nals.push(nal);
        if self.unit.bytes > self.limits.bytes || self.unit.nals.len() > self.limits.nals {
            self.error = Some(Error::TooLarge(self.limits));
            self.damaged();
        }
        finished
    }

    /// Gives out the access unit under construction because it is known to be complete: the stream ended or fell silent, or
    /// a packet boundary says so. What precedes a picture (parameter sets, SEI) waits for it.
    pub fn flush(&mut self) -> Option<AccessUnit> {
        self.finish_picture()
    }

    /// Bytes were lost here: drops the access unit under construction and all that follows to the next start.
    pub fn damaged(&mut self) {
        let unit = std::mem::take(&mut self.unit);
        self.dropped += u64::from(unit.picture.is_some());
        self.previous = None;
        self.running = false;
        self.counting.lost();
    }

    /// Parameter sets from outside the stream, as NAL units; later ones of the same id in the stream replace them. Those
    /// that can be read are used even if another is refused.
    pub fn set_parameter_sets(
        &mut self,
        sps: &[Bytes],
        pps: &[Bytes],
    ) -> Result<(), parameter_sets::Error> {
        let mut result = Ok(());
        for nal in sps {
            result = result.and(self.store(nal::SPS, nal));
        }
        for nal in pps {
            result = result.and(self.store(nal::PPS, nal));
        }
        if self.sets.is_none()
            && let Some(first) = self
                .pps
                .keys()
                .find(|id| self.lookup(**id).is_some())
                .copied()
        {
            self.activate(first);
        }
        result
    }

    /// Those of the newest picture; before the first one, those from outside the stream.
    pub fn parameter_sets(&self) -> Option<&Arc<ParameterSets>> {
        self.sets.as_ref()
    }

    /// Whether it drops access units until one that decoding may start at.
    pub fn is_waiting(&self) -> bool {
        !self.running
    }

    /// Whether gaps in `frame_num` are no losses, as the source counts wrongly: in every group in the same manner.
    pub fn miscounts(&self) -> bool {
        self.counting.is_disbelieved()
    }

    /// How many access units were left out so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The newest reason why something could not be used, once.
    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    fn begins_picture(&self, slice: &Result<Header, Unreadable>) -> bool {
        let picture = self.unit.picture.as_ref();
        picture.is_none_or(|picture| !picture.takes(slice))
    }

    /// Another slice of the picture under construction, unless it cannot be read: then it may be of that or all that came of
    /// the next one.
    fn add_slice(&mut self, slice: Result<Header, Unreadable>) -> bool {
        self.unit.undecided = None;
        match slice {
            Ok(header) => {
                if let Some(picture) = &mut self.unit.picture {
                    picture.add(&header);
                }
                true
            }
            Err(unreadable) => {
                self.error = Some(unreadable.into());
                false
            }
        }
    }

    fn begin_picture(&mut self, header: Result<Header, Unreadable>) -> Picture {
        let previous = self.previous.take();
        let mut picture = Picture {
            header: header.ok(),
            tops: 0,
            bidirectional: false,
            second_field: false,
            continues: previous
                .as_ref()
                .is_some_and(|previous| previous.takes(&header)),
            sets: None,
            loss: None,
            gap: None,
        };
        match header {
            Ok(header) => {
                picture.second_field =
                    previous
                        .as_ref()
                        .is_some_and(|previous| match previous.header {
                            Some(_) if picture.continues => previous.second_field,
                            Some(first) => !previous.second_field && header.completes(&first),
                            None => false,
                        });
                if let (true, Some(previous)) = (picture.continues, previous) {
                    picture.tops = previous.tops;
                }
                picture.add(&header);
                if header.idr {
                    self.forget_unrepeated();
                }
                let before = self.sets.clone();
                picture.sets = self.activate(header.pps_id);
                if !picture.continues && !picture.second_field {
                    let sps = self.lookup(header.pps_id).map(|(_, sps)| sps);
                    picture.gap = sps.and_then(|sps| self.counting.gap(&header, sps));
                    picture.loss = self.loss_before(&header, picture.gap, before.as_deref());
                }
            }
            Err(unreadable) => self.error = Some(unreadable.into()),
        }
        picture
    }

    /// Ends the access unit if it has its picture.
    fn finish_picture(&mut self) -> Option<AccessUnit> {
        let picture = self.unit.picture.take()?;
        let end = self.unit.undecided.take().unwrap_or(self.unit.nals.len());
        let rest = self.unit.nals.split_off(end);
        let nals = std::mem::replace(&mut self.unit.nals, rest);
        self.unit.bytes = self.unit.nals.iter().map(Bytes::len).sum();
        let recovery = self.unit.recovery.take();

        let start = match &picture.header {
            _ if picture.continues || picture.second_field => None,
            Some(header) if header.idr => Some(Start::Idr),
            _ => recovery.map(|frames| Start::Recovery { frames }),
        };
        // A start whose top is missing is what was left of one when this stream was joined or damaged.
        let loss = match picture.tops {
            0 => Some(Loss::Top),
            _ => picture.loss.filter(|_| start.is_none()),
        };
        if loss.is_some_and(|loss| loss != Loss::Pictures) {
            self.counting.lost();
        } else if let Some(header) = &picture.header
            && !picture.continues
            && !picture.second_field
        {
            self.counting.picture(header, start.is_some(), picture.gap);
        }
        let usable = loss.is_none() && (self.running || start.is_some());
        let Some(sets) = picture.sets.clone().filter(|_| usable) else {
            if let Some(loss) = loss.filter(|_| self.running) {
                self.error = Some(Error::Loss(loss));
            }
            self.dropped += 1;
            self.running = false;
            self.previous = None;
            return None;
        };
        self.running = true;
        let changed = self.reported.as_ref() != Some(&sets);
        if changed {
            self.reported = Some(sets.clone());
        }
        let unit = AccessUnit {
            nals,
            start,
            parameter_sets: changed.then_some(sets),
            bidirectional: picture.bidirectional,
            second_field: picture.second_field,
            continues: picture.continues,
        };
        self.previous = Some(picture);
        Some(unit)
    }

    /// Whether something is missing before a picture, or is not what it was, if decoding goes on from `before`.
    fn loss_before(
        &self,
        header: &Header,
        gap: Option<Gap>,
        before: Option<&ParameterSets>,
    ) -> Option<Loss> {
        let (_, sps) = self.lookup(header.pps_id)?;
        if header.idr || !self.running {
            return None;
        }
        if before.is_some_and(|before| before.sps.first() != Some(&sps.nal)) {
            return Some(Loss::Sequence);
        }
        gap.filter(|_| !self.miscounts()).map(|_| Loss::Pictures)
    }

    /// Where an SPS comes before an IDR picture, its PPS come too.
    fn forget_unrepeated(&mut self) {
        let mut sps = self.unit.nals.iter();
        if !sps.any(|nal| nal::unit_type(nal) == nal::SPS) {
            return;
        }
        for known in self.pps.values_mut() {
            let stale = !self.unit.nals.contains(&known.pps.nal);
            self.sets_outdated |= stale != known.stale && !known.used;
            known.stale = stale;
        }
    }

    fn lookup(&self, pps: u8) -> Option<(&Pps, &Sps)> {
        let pps = &self.pps.get(&pps)?.pps;
        Some((pps, self.sps.get(&pps.sps_id)?))
    }

    /// The parameter sets of a picture that names `pps`: its SPS, and every PPS of that SPS.
    fn activate(&mut self, pps: u8) -> Option<Arc<ParameterSets>> {
        let known = self.pps.get_mut(&pps)?;
        let sps = self.sps.get(&known.pps.sps_id)?;
        self.sets_outdated |= known.stale && !known.used;
        known.used = true;
        let id = sps.id;
        if self.sets_outdated || self.sets_sps != Some(id) {
            let good = |known: &&KnownPps| known.pps.sps_id == id && (known.used || !known.stale);
            let pps = self.pps.values().filter(good);
            let sets =
                ParameterSets::of_picture(sps, pps.map(|known| known.pps.nal.clone()).collect());
            if self.sets.as_deref() != Some(&sets) {
                self.sets = Some(Arc::new(sets));
            }
            self.sets_sps = Some(id);
            self.sets_outdated = false;
        }
        self.sets.clone()
    }

    /// Keeps a copy: the NAL unit may share the memory of something much larger.
    fn store(&mut self, kind: u8, nal: &Bytes) -> Result<(), parameter_sets::Error> {
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
        self.sets_outdated = true;
        Ok(())
    }
}

impl From<Unreadable> for Error {
    fn from(slice: Unreadable) -> Error {
        match slice.missing_pps {
            Some(pps) => Error::MissingParameterSets { pps },
            None => Error::Loss(Loss::Slice),
        }
    }
}

impl Picture {
    /// Whether a slice belongs to this picture.
    fn takes(&self, slice: &Result<Header, Unreadable>) -> bool {
        match (&self.header, slice) {
            (Some(_), Ok(slice)) if slice.redundant => true,
            // 7.4.1.2.4, and for streams whose IDR pictures all have the same idr_pic_id: no picture has two tops.
            (Some(first), Ok(slice)) => first.same_picture(slice) && self.tops & top(slice) == 0,
            (None, Ok(_)) => false,
            (_, Err(slice)) => !slice.at_top,
        }
    }

    fn add(&mut self, slice: &Header) {
        self.bidirectional |= slice.bidirectional;
        self.tops |= top(slice);
    }
}

fn top(slice: &Header) -> u8 {
    u8::from(slice.at_top && !slice.redundant) << slice.colour_plane
}

#[cfg(test)]
mod tests;
