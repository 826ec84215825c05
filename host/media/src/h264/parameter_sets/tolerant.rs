//! A bit reader that accepts SPS as real encoders write them.

use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, Integer, Primitive};

/// Tolerates an SPS that is followed by more bytes, that states a decoded picture buffer too small for its reference
/// frames, or, in a second attempt with `without_vui`, that has an invalid VUI.
pub struct Tolerant<'a> {
    bits: BitReader<&'a [u8]>,
    without_vui: bool,
    needed_buffering: u32,
}

impl<'a> Tolerant<'a> {
    pub fn new(rbsp: &'a [u8], without_vui: bool) -> Self {
        Self {
            bits: BitReader::new(rbsp),
            without_vui,
            needed_buffering: 0,
        }
    }
}

impl BitRead for Tolerant<'_> {
    fn read_ue(&mut self, name: &'static str) -> Result<u32, BitReaderError> {
        let value = self.bits.read_ue(name)?;
        Ok(match name {
            "max_num_ref_frames" | "max_num_reorder_frames" => {
                self.needed_buffering = self.needed_buffering.max(value);
                value
            }
            "max_dec_frame_buffering" => value.max(self.needed_buffering),
            _ => value,
        })
    }

    fn read_se(&mut self, name: &'static str) -> Result<i32, BitReaderError> {
        self.bits.read_se(name)
    }

    fn read_bit(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        if self.without_vui && name == "vui_parameters_present_flag" {
            return Ok(false);
        }
        self.bits.read_bit(name)
    }

    fn read<const BITS: u32, I: Integer>(
        &mut self,
        name: &'static str,
    ) -> Result<I, BitReaderError> {
        self.bits.read::<BITS, I>(name)
    }

    fn read_var<I: Integer>(
        &mut self,
        bit_count: u32,
        name: &'static str,
    ) -> Result<I, BitReaderError> {
        self.bits.read_var(bit_count, name)
    }

    fn read_to<V: Primitive>(&mut self, name: &'static str) -> Result<V, BitReaderError> {
        self.bits.read_to(name)
    }

    fn skip(&mut self, bit_count: u32, name: &'static str) -> Result<(), BitReaderError> {
        self.bits.skip(bit_count, name)
    }

    fn byte_aligned(&self) -> bool {
        self.bits.byte_aligned()
    }

    fn has_more_rbsp_data(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.bits.has_more_rbsp_data(name)
    }

    fn finish_rbsp(self) -> Result<(), BitReaderError> {
        Ok(())
    }

    fn finish_sei_payload(self) -> Result<(), BitReaderError> {
        Ok(())
    }
}
