// Detection of a stream that Media Source Extensions silently reject: no error is reported, and the buffer stays
// empty.

/**
 * Number of appended video-only frames after which a still empty buffer proves it: the browser drops everything that
 * it cannot start decoding with.
 */
export const REJECTED_AFTER_FRAMES = 20;

/** Reason for the viewer. Streams with intra refresh are the only kind known to be rejected this way. */
export const REJECTED_REASON = "this browser's MSE cannot start a stream without IDR frames (intra refresh)";
