//! Bits of H.264 syntax (ISO/IEC 14496-10 7.2, 9.1). Reader and writer are independent of the gateway's own code, so
//! that tests can judge it.

use bytes::Bytes;

/// A bit string with a read position.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    bits: Vec<bool>,
    at: usize,
}

impl Bits {
    /// Reads the payload of a NAL unit, without its header byte, emulation prevention and trailing bits.
    pub fn of_nal(nal: &[u8]) -> Bits {
        Bits::plain(&unescape(&nal[1..]))
    }

    fn plain(bytes: &[u8]) -> Bits {
        let mut bits: Vec<bool> = bytes
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1))
            .collect();
        while bits.pop() == Some(false) {}
        Bits { bits, at: 0 }
    }

    /// Builds a NAL unit with this header byte, trailing bits and emulation prevention.
    pub fn into_nal(mut self, header: u8) -> Bytes {
        self.bits.push(true);
        let mut nal = vec![header];
        let mut zeros = 0;
        for eight in self.bits.chunks(8) {
            let bits = eight.iter().chain(std::iter::repeat(&false)).take(8);
            let byte = bits.fold(0u8, |byte, bit| byte << 1 | u8::from(*bit));
            if zeros >= 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal.into()
    }

    /// Reads u(n).
    pub fn read(&mut self, count: u32) -> u32 {
        (0..count).fold(0, |value, _| {
            self.at += 1;
            value << 1 | u32::from(self.bits[self.at - 1])
        })
    }

    /// Reads ue(v).
    pub fn read_ue(&mut self) -> u32 {
        let zeros = (0..).take_while(|_| self.read(1) == 0).count() as u32;
        (1 << zeros) - 1 + self.read(zeros)
    }

    /// Reads se(v).
    pub fn read_se(&mut self) -> i32 {
        let code = self.read_ue() as i32;
        if code & 1 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        }
    }

    /// Bits that have not been read yet.
    pub fn rest(&self) -> &[bool] {
        &self.bits[self.at..]
    }

    /// Writes u(n).
    pub fn put(&mut self, count: u32, value: u32) -> &mut Bits {
        let bits = (0..count).rev().map(|bit| value >> bit & 1 == 1);
        self.bits.extend(bits);
        self
    }

    /// Writes ue(v).
    pub fn ue(&mut self, value: u32) -> &mut Bits {
        let length = u32::BITS - (value + 1).leading_zeros();
        self.put(length - 1, 0).put(length, value + 1)
    }

    /// Writes se(v).
    pub fn se(&mut self, value: i32) -> &mut Bits {
        self.ue(match value {
            1.. => 2 * value as u32 - 1,
            _ => 2 * value.unsigned_abs(),
        })
    }

    /// Appends bits unchanged.
    pub fn raw(&mut self, bits: &[bool]) -> &mut Bits {
        self.bits.extend_from_slice(bits);
        self
    }

    /// Appends zeros up to the next byte boundary.
    pub fn align(&mut self) -> &mut Bits {
        self.bits.resize(self.bits.len().next_multiple_of(8), false);
        self
    }
}

/// Removes emulation prevention (7.4.1).
fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for byte in bytes {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}
