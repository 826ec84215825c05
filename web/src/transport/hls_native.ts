// HLS by the browser itself. It tells little: no bytes, and its place behind live only where it may be sought.

import type { HlsPlayer } from "./hls";

/** A player that joins further behind (s) than this is moved, to so much (s) behind the end, and then left alone for a while (ms). */
const FAR = 8;
const TARGET = 3;
const REST_MS = 5000;
const LOOK_EVERY_MS = 1000;
/** Pictures in that time, as is likely: the browser does not tell. */
const LIKELY = 10;

/** A browser that may play and knows nothing of the stream after so long (ms) loads nothing: a gateway waits less for a segment. */
const LOAD_MS = 12_000;

/** Whether the element has sound, as far as its engine says so. */
interface Hearing {
  readonly audioTracks?: { readonly length: number };
  readonly webkitAudioDecodedByteCount?: number;
  readonly mozHasAudio?: boolean;
}

/** Plays by the element's `src`, which the browser follows without a word of bytes or pictures. */
export const playByBrowser: HlsPlayer = (url, loan, events) => {
  const video: HTMLVideoElement & Hearing = loan.element;
  let movedAt = -Infinity;
  let waited = 0;
  const behind = (): number | null => {
    const { seekable } = video;
    return seekable.length === 0 ? null : seekable.end(seekable.length - 1) - video.currentTime;
  };
  const look = (): void => {
    events.sound((video.audioTracks?.length ?? 0) > 0 || (video.webkitAudioDecodedByteCount ?? 0) > 0 || video.mozHasAudio === true);
    if (video.readyState >= HTMLMediaElement.HAVE_METADATA) {
      events.fed(LIKELY);
    } else if (!video.paused) {
      waited += LOOK_EVERY_MS;
      if (waited >= LOAD_MS) {
        events.ended("loading");
        return;
      }
    }
    const now = performance.now();
    const late = behind();
    if (late === null || late <= FAR || video.seeking || now - movedAt < REST_MS) return;
    movedAt = now;
    video.currentTime += late - TARGET;
  };
  const looking = setInterval(look, LOOK_EVERY_MS);
  const over = new AbortController();
  video.addEventListener("ended", () => events.ended({ kind: "draining", reason: "the gateway ended the stream" }), over);
  loan.show(url.href);
  return {
    behind,
    stop: () => {
      over.abort();
      clearInterval(looking);
    },
  };
};
