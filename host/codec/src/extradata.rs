//! Access to a stream's out-of-band configuration, which ffmpeg-next does not expose.

use bytes::Bytes;
use ffmpeg_next::codec::Parameters;

/// Largest configuration that is accepted, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// The `extradata` of a stream: an `avcC` payload, or parameter sets in Annex B; empty if there is none.
#[allow(unsafe_code)]
pub fn of(parameters: &Parameters) -> Bytes {
    // SAFETY: `as_ptr` is valid while `parameters` lives, and libavcodec keeps `extradata` valid for `extradata_size`
    // bytes (avcodec.h, AVCodecParameters). The bytes are copied before either can change.
    let found = unsafe {
        let raw = parameters.as_ptr();
        let (data, size) = (
            (*raw).extradata,
            usize::try_from((*raw).extradata_size).unwrap_or(0),
        );
        if data.is_null() || size == 0 || size > MAX_BYTES {
            return Bytes::new();
        }
        std::slice::from_raw_parts(data, size)
    };
    Bytes::copy_from_slice(found)
}
