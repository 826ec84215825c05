// Detection of a stream that Media Source Extensions silently reject: no error is reported, and the buffer stays
// empty.

/**
 * Number of appended video-only frames after which a still empty buffer proves it: the browser drops everything that
 * it cannot start decoding with.
 */
export const TAKES_NONE = 20;

/** Reason for the viewer. Streams with intra refresh are the only kind known to be rejected this way. */
export const TAKES_NOTHING = "this browser's MSE cannot start a stream without IDR frames (intra refresh)";
