// HLS by the browser's native player, for browsers without MediaSource. It reports no byte counts, and its distance
// to live only through `seekable`.

import type { HlsPlayer } from "./hls";

/**
 * Beyond `FAR` seconds behind live the player seeks to `TARGET` seconds behind; it is then left alone for `REST_MS`.
 */
const MAX_LATENCY = 8;
const TARGET_LATENCY = 3;
const MIN_SEEK_INTERVAL_MS = 5000;
const CHECK_INTERVAL_MS = 1000;
/** Assumed frames in that interval, as the browser does not report any. */
const ASSUMED_FRAMES = 10;

/**
 * A browser that is allowed to play but has no metadata after this time (ms) loads nothing: the gateway answers a
 * segment request sooner.
 */
const LOAD_TIMEOUT_MS = 12_000;

/** Engine-specific properties that reveal an audio track. */
interface AudioTrackHints {
  readonly audioTracks?: { readonly length: number };
  readonly webkitAudioDecodedByteCount?: number;
  readonly mozHasAudio?: boolean;
}

/** Plays through the element's `src`. */
export const playByBrowser: HlsPlayer = (url, attachment, events) => {
  const video: HTMLVideoElement & AudioTrackHints = attachment.element;
  let seekedAt = -Infinity;
  let waitedMs = 0;
  const behind = (): number | null => {
    const { seekable } = video;
    return seekable.length === 0 ? null : seekable.end(seekable.length - 1) - video.currentTime;
  };
  const check = (): void => {
    events.audio((video.audioTracks?.length ?? 0) > 0 || (video.webkitAudioDecodedByteCount ?? 0) > 0 || video.mozHasAudio === true);
    if (video.readyState >= HTMLMediaElement.HAVE_METADATA) {
      events.fed(ASSUMED_FRAMES);
    } else if (!video.paused) {
      waitedMs += CHECK_INTERVAL_MS;
      if (waitedMs >= LOAD_TIMEOUT_MS) {
        events.ended("loading");
        return;
      }
    }
    const now = performance.now();
    const latency = behind();
    if (latency === null || latency <= MAX_LATENCY || video.seeking || now - seekedAt < MIN_SEEK_INTERVAL_MS) return;
    seekedAt = now;
    video.currentTime += latency - TARGET_LATENCY;
  };
  const interval = setInterval(check, CHECK_INTERVAL_MS);
  const controller = new AbortController();
  video.addEventListener("ended", () => events.ended({ kind: "draining", reason: "the gateway ended the stream" }), controller);
  attachment.load(url.href);
  return {
    behind,
    stop: () => {
      controller.abort();
      clearInterval(interval);
    },
  };
};
