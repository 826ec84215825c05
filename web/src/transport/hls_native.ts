// HLS by the browser's native player, for browsers without MediaSource. It reports no byte counts, and its distance
// to live only through `seekable`.

import type { HlsPlayer } from "./hls";

/**
 * Beyond `FAR` seconds behind live the player seeks to `TARGET` seconds behind; it is then left alone for `REST_MS`.
 */
const FAR = 8;
const TARGET = 3;
const REST_MS = 5000;
const LOOK_EVERY_MS = 1000;
/** Assumed frames in that interval, as the browser does not report any. */
const LIKELY = 10;

/**
 * A browser that is allowed to play but has no metadata after this time (ms) loads nothing: the gateway answers a
 * segment request sooner.
 */
const LOAD_MS = 12_000;

/** Engine-specific properties that reveal an audio track. */
interface Hearing {
  readonly audioTracks?: { readonly length: number };
  readonly webkitAudioDecodedByteCount?: number;
  readonly mozHasAudio?: boolean;
}

/** Plays through the element's `src`. */
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
