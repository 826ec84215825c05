//! Assembles NAL units into access units (ISO/IEC 14496-10 7.4.1.2), and withholds what a decoder could not decode.
//!
//! Decoders in browsers fail on data that refers to missing pictures. [`Assembler`] therefore outputs access units only
//! from a start point on, and after a loss nothing until the next one. NAL units are passed on unchanged.
//! `stream::Ingest` pushes the NAL units of a source, reports bytes lost on the way, and turns the access units into
//! samples.

mod known;

use super::frame_num_check::{FrameNumCheck, Gap};
use super::nal;
use super::order::OutputOrder;
use super::parameter_sets::{self, ParameterSets};
use super::sei;
use super::slice::{Header, UnreadableSlice};
use bytes::Bytes;
use known::KnownSets;
use std::sync::Arc;

/// Assembles NAL units in decoding order into access units. Every NAL unit is passed on unchanged, once and in order.
///
/// There is no output before the first picture at which decoding may start and whose parameter sets are known, and none
/// between a loss and the next such picture; [`Self::dropped`] counts what is withheld. A loss is either reported by
/// [`Self::damaged`] or detected: a NAL unit marked as damaged (`forbidden_zero_bit`), an unreadable slice, a gap in
/// `frame_num` unless the source [counts wrongly](Self::ignores_frame_num), a picture without its first slice, or a
/// different SPS without a start point. Unreadable parameter sets are dropped.
///
/// An access unit is complete when the next one begins or [`Self::flush`] is called. Both fields of a frame are one
/// access unit, as players expect (ISO/IEC 14496-15 has one sample for both), so a first field waits for the second.
/// Buffers one access unit of at most [`Limits`] and the newest parameter sets of each id.
#[derive(Debug, Default)]
pub struct Assembler {
    limits: Limits,
    sets: KnownSets,
    running: bool,
    unit: Unit,
    /// The last picture that was output.
    previous: Option<Picture>,
    frame_num_check: FrameNumCheck,
    orders: OutputOrder,
    /// Place in output order of the newest start point.
    start: i64,
    dropped: u64,
    error: Option<Error>,
}

/// Limits of an access unit. A larger one is dropped, and so is everything up to the next start point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of bytes in an access unit.
    pub bytes: usize,
    /// Number of NAL units in an access unit.
    pub nals: usize,
}

impl Default for Limits {
    /// 16 MiB in 8192 NAL units, which is as many slices of 2 KiB.
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            nals: 8192,
        }
    }
}

/// NAL units of one frame, or of a field without a second one, and those that belong to it.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessUnit {
    /// NAL units in decoding order, unchanged; never empty.
    pub nals: Vec<Bytes>,
    /// Start point, if decoding may start here.
    pub start: Option<Start>,
    /// Parameter sets that it decodes with: its SPS, and every PPS of that SPS as valid here. The SPS changes only at a
    /// start point (7.4.1.2.1); a PPS may change from picture to picture. The allocation is shared with the previous
    /// access unit if nothing changed.
    pub parameter_sets: Arc<ParameterSets>,
    /// Contains B slices: output order may differ from decoding order.
    pub bidirectional: bool,
    /// Place in output order, on one scale for all access units: higher is later. Consecutive frames are 2 apart, or 1
    /// in some streams.
    pub order: i64,
    /// All earlier access units are output before this one.
    pub restarts_order: bool,
    /// Leading: follows a start point in decoding order and precedes it in output order, like the B pictures after the
    /// I picture of an open GOP. It may refer to pictures before the start point, so a viewer that starts there must
    /// not get it.
    pub leading: bool,
    /// Contains more slices of the previous picture, which [`Assembler::flush`] returned too early.
    pub continues: bool,
}

impl AccessUnit {
    /// Total size of the NAL units in bytes, without start codes or lengths.
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
        /// Number of frames until the picture is correct. Before that it shows remains of the missed ones.
        frames: u32,
    },
}

/// Reason why a part of the stream cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A parameter set in the stream is unusable. The one that it would have replaced stays in use.
    #[error(transparent)]
    ParameterSets(#[from] parameter_sets::Error),
    /// A picture refers to a PPS that was not received, or whose SPS was not.
    #[error(
        "a picture refers to PPS {pps}, but it or its SPS was not received; the source must send both, in band or out of band"
    )]
    MissingParameterSets {
        /// `pic_parameter_set_id`.
        pps: u8,
    },
    /// Data is missing that this or later pictures depend on.
    #[error("{0}; dropping frames up to the next keyframe")]
    Loss(Loss),
    /// An access unit exceeds [`Limits`].
    #[error("dropped an access unit of more than {} bytes or {} NAL units", .0.bytes, .0.nals)]
    TooLarge(Limits),
}

/// How a loss was detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// `forbidden_zero_bit` is set: a network element detected that the NAL unit is damaged.
    #[error("a NAL unit is marked as damaged")]
    Marked,
    /// The slice header (7.3.3) is unreadable.
    #[error("a slice header is unreadable")]
    Slice,
    /// There is a gap in `frame_num` (7.4.3).
    #[error("reference frames are missing")]
    Pictures,
    /// No slice begins with the first macroblock.
    #[error("the first slice of a picture is missing")]
    Top,
    /// The SPS changes at a picture that is not a start point (7.4.1.2.1).
    #[error("the SPS changed without an IDR picture")]
    Sequence,
}

/// The access unit under construction.
#[derive(Debug, Default)]
struct Unit {
    nals: Vec<Bytes>,
    bytes: usize,
    recovery: Option<u32>,
    picture: Option<Picture>,
    /// Index of the first NAL unit that came after a slice and may precede another: prefixes, or anything between two
    /// fields. The next slice decides whether they belong to this access unit.
    undecided: Option<usize>,
    /// Recovery point among the undecided NAL units.
    undecided_recovery: Option<u32>,
    /// It is known to be a complete first field, and waits for its second.
    awaits_second_field: bool,
}

#[derive(Debug)]
struct Picture {
    /// Header of the first slice; `None` if that was unreadable.
    header: Option<Header>,
    /// Header of the first slice of the second field.
    second: Option<Header>,
    /// Bit mask of the colour planes whose first slice was seen, for the newest field.
    first_slices: u8,
    /// The first field lacks its first slice.
    lacks_first_slice: bool,
    bidirectional: bool,
    continues: bool,
    order: i64,
    restarts_order: bool,
    sets: Option<Arc<ParameterSets>>,
    /// Why decoding cannot continue from the previous picture.
    loss: Option<Loss>,
    /// Gap in `frame_num` before this picture.
    gap: Option<Gap>,
}

impl Assembler {
    /// Creates an assembler with other limits than the default ones.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Takes the next NAL unit. Returns the access unit that it ended.
    pub fn push(&mut self, nal: Bytes) -> Option<AccessUnit> {
        if nal::is_marked_damaged(&nal) {
            self.error = Some(Error::Loss(Loss::Marked));
            self.damaged();
            return None;
        }
        let finished = match nal::unit_type(&nal) {
            nal::SLICE | nal::PARTITION_A | nal::IDR => {
                let header = Header::read(&nal, |pps| self.sets.lookup(pps));
                if let Ok(second) = &header
                    && self.is_second_field(second)
                {
                    self.add_field(second);
                    None
                } else if self.begins_picture(&header) {
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
                let finished = self.precede_picture();
                if let Err(error) = self.sets.store(kind, &nal) {
                    self.error = Some(error.into());
                    return finished;
                }
                finished
            }
            nal::SEI => {
                let finished = self.precede_picture();
                let recovery = match self.unit.undecided {
                    Some(_) => &mut self.unit.undecided_recovery,
                    None => &mut self.unit.recovery,
                };
                *recovery = sei::recovery_point(&nal).or(*recovery);
                finished
            }
            // 7.4.1.2.3: types 14 to 18 begin an access unit like these, but a prefix also precedes each further slice.
            nal::PREFIX if self.unit.picture.is_some() => {
                self.unit.undecided.get_or_insert(self.unit.nals.len());
                None
            }
            nal::AUD | 15..=18 => self.precede_picture(),
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

    /// Returns the access unit under construction because it is known to be complete: the stream paused, or a packet
    /// boundary shows it. NAL units that precede a picture (parameter sets, SEI) wait for it, and a first field waits
    /// for its second.
    pub fn flush(&mut self) -> Option<AccessUnit> {
        self.unit.awaits_second_field = self
            .unit
            .picture
            .as_ref()
            .is_some_and(Picture::is_first_field);
        match self.unit.awaits_second_field {
            true => None,
            false => self.finish_picture(),
        }
    }

    /// Returns a waiting first field, because the stream ended or something else follows.
    pub fn end(&mut self) -> Option<AccessUnit> {
        match self.unit.awaits_second_field {
            true => self.finish_picture(),
            false => None,
        }
    }

    /// Whether the access unit under construction contains a picture.
    pub fn has_begun(&self) -> bool {
        self.unit.picture.is_some()
    }

    /// Reports that bytes were lost: drops the access unit under construction and everything up to the next start
    /// point.
    pub fn damaged(&mut self) {
        let unit = std::mem::take(&mut self.unit);
        self.dropped += u64::from(unit.picture.is_some());
        self.previous = None;
        self.running = false;
        self.frame_num_check.lost();
    }

    /// Sets out-of-band parameter sets, given as NAL units. Later ones of the same id in the stream replace them.
    /// Readable ones are used even if another one is rejected.
    pub fn set_parameter_sets(
        &mut self,
        sps: &[Bytes],
        pps: &[Bytes],
    ) -> Result<(), parameter_sets::Error> {
        let mut result = Ok(());
        for nal in sps {
            result = result.and(self.sets.store(nal::SPS, nal));
        }
        for nal in pps {
            result = result.and(self.sets.store(nal::PPS, nal));
        }
        self.sets.activate_any();
        result
    }

    /// Parameter sets of the newest picture; before the first picture, the out-of-band ones.
    pub fn parameter_sets(&self) -> Option<&Arc<ParameterSets>> {
        self.sets.current()
    }

    /// Whether access units are being dropped until the next start point.
    pub fn is_waiting(&self) -> bool {
        !self.running
    }

    /// Whether gaps in `frame_num` are not taken for losses, because the source counts wrongly in the same way in every
    /// group.
    pub fn ignores_frame_num(&self) -> bool {
        self.frame_num_check.is_ignored()
    }

    /// Number of access units dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes the newest reason why something could not be used.
    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// Handles a NAL unit that begins an access unit, unless it is between the two fields of a frame, which the next
    /// slice decides.
    fn precede_picture(&mut self) -> Option<AccessUnit> {
        if self
            .unit
            .picture
            .as_ref()
            .is_some_and(Picture::is_first_field)
        {
            self.unit.undecided.get_or_insert(self.unit.nals.len());
            return None;
        }
        self.finish_picture()
    }

    fn is_second_field(&self, header: &Header) -> bool {
        let first = self
            .unit
            .picture
            .as_ref()
            .filter(|picture| picture.is_first_field());
        let first = first.and_then(|picture| picture.header.as_ref());
        first.is_some_and(|first| header.completes(first))
    }

    /// Adds the first slice of the second field.
    fn add_field(&mut self, header: &Header) {
        let sets = self.sets.activate(header.pps_id);
        (self.unit.undecided, self.unit.undecided_recovery) = (None, None);
        self.unit.awaits_second_field = false;
        let known = self.sets.lookup(header.pps_id);
        if let (Some(picture), Some((_, sps))) = (&mut self.unit.picture, known) {
            picture.order = self.orders.place_second(header, sps, picture.order);
            let before = picture.sets.as_ref();
            let same_sps =
                |sets: &Arc<ParameterSets>| before.is_some_and(|before| before.sps == sets.sps);
            if !sets.as_ref().is_some_and(same_sps) {
                picture.loss = Some(Loss::Sequence);
            }
            picture.sets = sets;
            picture.lacks_first_slice |= picture.first_slices == 0;
            picture.first_slices = 0;
            picture.second = Some(*header);
            picture.add(header);
        }
    }

    fn begins_picture(&self, slice: &Result<Header, UnreadableSlice>) -> bool {
        let picture = self.unit.picture.as_ref();
        picture.is_none_or(|picture| !picture.includes(slice))
    }

    /// Adds another slice to the picture under construction. Returns false if the slice is unreadable: it may be of
    /// this picture, or all that was received of the next one.
    fn add_slice(&mut self, slice: Result<Header, UnreadableSlice>) -> bool {
        (self.unit.undecided, self.unit.undecided_recovery) = (None, None);
        self.unit.awaits_second_field = false;
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

    fn begin_picture(&mut self, header: Result<Header, UnreadableSlice>) -> Picture {
        let previous = self.previous.take();
        let mut picture = Picture {
            header: header.ok(),
            second: None,
            first_slices: 0,
            lacks_first_slice: false,
            bidirectional: false,
            continues: previous
                .as_ref()
                .is_some_and(|previous| previous.includes(&header)),
            order: previous.as_ref().map_or(0, |previous| previous.order),
            restarts_order: false,
            sets: None,
            loss: None,
            gap: None,
        };
        match header {
            Ok(header) => {
                if let (true, Some(previous)) = (picture.continues, previous) {
                    picture.first_slices = previous.first_slices;
                }
                picture.add(&header);
                if header.idr {
                    self.sets.forget_unrepeated(&self.unit.nals);
                }
                let before = self.sets.current().cloned();
                picture.sets = self.sets.activate(header.pps_id);
                if !picture.continues {
                    (picture.order, picture.restarts_order) = self.place(&header);
                    let sps = self.sets.lookup(header.pps_id).map(|(_, sps)| sps);
                    picture.gap = sps.and_then(|sps| self.frame_num_check.gap(&header, sps));
                    picture.loss = self.loss_before(&header, picture.gap, before.as_deref());
                }
            }
            Err(unreadable) => self.error = Some(unreadable.into()),
        }
        picture
    }

    /// Returns the place of a picture in output order, and whether all earlier pictures are output before it.
    fn place(&mut self, header: &Header) -> (i64, bool) {
        let anew = !self.running && self.unit.recovery.is_some();
        if anew {
            self.orders.restart();
        }
        let Some((_, sps)) = self.sets.lookup(header.pps_id) else {
            return (0, anew);
        };
        let order = self.orders.place(header, sps);
        (order, anew || header.idr || header.mmco5)
    }

    /// Finishes the access unit if it has its picture.
    fn finish_picture(&mut self) -> Option<AccessUnit> {
        let picture = self.unit.picture.take()?;
        let end = self.unit.undecided.take().unwrap_or(self.unit.nals.len());
        let rest = self.unit.nals.split_off(end);
        let nals = std::mem::replace(&mut self.unit.nals, rest);
        self.unit.bytes = self.unit.nals.iter().map(Bytes::len).sum();
        self.unit.awaits_second_field = false;
        let undecided = self.unit.undecided_recovery.take();
        let recovery = std::mem::replace(&mut self.unit.recovery, undecided);

        let start = match &picture.header {
            _ if picture.continues => None,
            Some(header) if header.idr => Some(Start::Idr),
            _ => recovery.map(|frames| Start::Recovery { frames }),
        };
        // A start point without its first slice is what remained of one when this stream was joined or damaged.
        let loss = match picture.first_slices {
            0 => Some(Loss::Top),
            _ if picture.lacks_first_slice => Some(Loss::Top),
            _ => picture.loss.filter(|_| start.is_none()),
        };
        if loss.is_some_and(|loss| loss != Loss::Pictures) {
            self.frame_num_check.lost();
        } else if let Some(header) = &picture.header
            && !picture.continues
        {
            self.frame_num_check
                .picture(header, start.is_some(), picture.gap);
            if let Some(second) = &picture.second {
                self.frame_num_check.second_field(second);
            }
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
        if start.is_some() {
            self.start = picture.order;
        }
        let unit = AccessUnit {
            nals,
            start,
            parameter_sets: sets,
            bidirectional: picture.bidirectional,
            order: picture.order,
            restarts_order: picture.restarts_order,
            leading: start.is_none() && picture.order < self.start,
            continues: picture.continues,
        };
        self.previous = Some(picture);
        Some(unit)
    }

    /// Returns why decoding cannot continue from `before` with this picture, if it cannot.
    fn loss_before(
        &self,
        header: &Header,
        gap: Option<Gap>,
        before: Option<&ParameterSets>,
    ) -> Option<Loss> {
        let (_, sps) = self.sets.lookup(header.pps_id)?;
        if header.idr || !self.running {
            return None;
        }
        if before.is_some_and(|before| before.sps.first() != Some(&sps.nal)) {
            return Some(Loss::Sequence);
        }
        gap.filter(|_| !self.ignores_frame_num())
            .map(|_| Loss::Pictures)
    }
}

impl From<UnreadableSlice> for Error {
    fn from(slice: UnreadableSlice) -> Error {
        match slice.missing_pps {
            Some(pps) => Error::MissingParameterSets { pps },
            None => Error::Loss(Loss::Slice),
        }
    }
}

impl Picture {
    /// Whether the picture consists of one field so far.
    fn is_first_field(&self) -> bool {
        let first = self.header.as_ref().filter(|_| self.second.is_none());
        !self.continues && first.is_some_and(|first| first.field.is_some())
    }

    /// Whether a slice belongs to this picture (to its second field, if it has two).
    fn includes(&self, slice: &Result<Header, UnreadableSlice>) -> bool {
        match (self.second.as_ref().or(self.header.as_ref()), slice) {
            (Some(_), Ok(slice)) if slice.redundant => true,
            // 7.4.1.2.4; and no picture has two first slices, for streams whose IDR pictures all have the same
            // idr_pic_id.
            (Some(first), Ok(slice)) => {
                first.same_picture(slice) && self.first_slices & top(slice) == 0
            }
            (None, Ok(_)) => false,
            (_, Err(slice)) => !slice.is_first_slice,
        }
    }

    fn add(&mut self, slice: &Header) {
        self.bidirectional |= slice.bidirectional;
        self.first_slices |= top(slice);
    }
}

fn top(slice: &Header) -> u8 {
    u8::from(slice.is_first_slice && !slice.redundant) << slice.colour_plane
}

#[cfg(test)]
mod tests;
