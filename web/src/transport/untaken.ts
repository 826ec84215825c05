// What tells that Media Source Extensions take nothing of a stream: no error comes, and the buffer stays empty.

/** So many pictures without sound, and none of them in the buffer: the browser drops what it cannot begin to decode with. */
export const TAKES_NONE = 20;

/** The one kind of stream that is known to be refused so. */
export const TAKES_NOTHING = "this browser's MSE takes no picture of a stream that has no IDR pictures (intra refresh)";
