//! Writes boxes (ISO/IEC 14496-12, 4.2): a size, a type and content. A box's size is filled in when its content is
//! complete, so callers nest closures and never compute sizes.

/// Bytes of boxes; numbers are big-endian.
pub(crate) struct Boxes(pub Vec<u8>);

impl Boxes {
    /// Appends a box. Its content is small; payload, which can be large, is never written here.
    pub fn put(&mut self, kind: &[u8; 4], content: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.u32(0).bytes(kind);
        content(self);
        let size = (self.0.len() - at) as u32;
        self.0[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// Appends a full box: one with a version and flags.
    pub fn full(
        &mut self,
        kind: &[u8; 4],
        version: u8,
        flags: u32,
        content: impl FnOnce(&mut Self),
    ) {
        self.put(kind, |boxes| {
            boxes.u32(u32::from(version) << 24 | flags);
            content(boxes);
        });
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    pub fn u8(&mut self, number: u8) -> &mut Self {
        self.bytes(&[number])
    }

    pub fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }
}
