/*! Contains hls.js, (c) Dailymotion and its contributors, under the Apache License 2.0: https://github.com/video-dev/hls.js */

import Hls from "hls.js/light";
import { changesRateSmoothly } from "./browser";
import type { HlsPlayer } from "./hls";
import { refusedBy } from "./refusal";
import { TAKES_NONE, TAKES_NOTHING } from "./untaken";

/** Where a playlist has no parts: so far behind its end (s), and no further than this. */
const PLAIN = { target: 3, limit: 8 };
/** With parts, the playlist says how far; this (s) and it is better to jump. */
const LOW_LATENCY_LIMIT = 4;
/** Off by more than this (s), the rate changes; by less than the other, it is 1 again. hls.js waits for a second of buffer. */
const LOOSE = 0.05;
const CLOSE = 0.02;
const LOOK_EVERY_MS = 250;
/** What comes at once, in bytes: a packet's worth. */
const PACKET = 1400;
/** Pictures in a second of media, where nobody says how many: segments have some also in a silence, which the gateway fills. */
const LIKELY_RATE = 10;
/** A playlist may take so long (ms), with long segments: a session opens anew what brings nothing in 30 s. */
const PLAYLIST_MS = 25_000;
/** Behind by more than this (s) after a pause, it jumps. */
const JUMP_RESUMED = 0.5;

/** Plays by Media Source Extensions. */
export const playByHlsJs: HlsPlayer = (url, loan, events) => {
  const hls = new Hls({
    lowLatencyMode: true,
    // A stall asks for more of a cushion, once and for all.
    liveSyncOnStallIncrease: 0.3,
    backBufferLength: 10,
    // An endless duration puts Chromium into a mode that keeps hardly a decoded picture; what costs time here is the buffer.
    liveDurationInfinity: false,
    // The pages' CSP allows no script from memory, and there is nothing to transmux.
    enableWorker: false,
    // A session tries again by itself, later and later, and knows what else there is.
    manifestLoadPolicy: {
      default: { maxTimeToFirstByteMs: PLAYLIST_MS, maxLoadTimeMs: PLAYLIST_MS, timeoutRetry: null, errorRetry: null },
    },
  });
  const video = loan.element;
  let part = 0;
  let listed = false;
  let heard = false;
  let loaded = 0;
  let appended = 0;
  let taken = false;
  let recovered = false;
  hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => {
    part = details.partTarget;
    listed = true;
    const plain = part === 0;
    if (plain && hls.config.liveSyncDuration === undefined) hls.targetLatency = PLAIN.target;
    hls.config.liveMaxLatencyDuration = plain ? Math.max(PLAIN.limit, 3 * details.targetduration) : LOW_LATENCY_LIMIT;
    if (!details.live) events.ended({ kind: "draining", reason: "the gateway ended the stream" });
  });
  hls.on(Hls.Events.FRAG_LOADED, (_, { payload, frag, part }) => {
    events.bytes(payload.byteLength);
    const { first, end } = (part ?? frag).stats.loading;
    // Timed from when the first packet had come.
    if (first > 0 && end >= first) events.carried(Math.max(0, payload.byteLength - PACKET), end - first);
    // What was loaded before is in the buffer by the time that this is appended.
    appended += loaded;
    loaded = Math.max(1, Math.round((part ?? frag).duration * LIKELY_RATE));
    events.fed(loaded);
  });
  hls.on(Hls.Events.BUFFER_CODECS, (_, { audio, audiovideo }) => {
    heard = audio !== undefined || /mp4a|opus|flac/i.test(audiovideo?.codec ?? "");
    events.sound(heard);
  });
  hls.on(Hls.Events.BUFFER_APPENDED, () => {
    taken ||= video.buffered.length > 0;
    // With sound too, what is buffered is what both tracks have, so that an empty buffer proves nothing.
    if (!taken && !heard && appended >= TAKES_NONE) events.ended({ kind: "unsupported", reason: TAKES_NOTHING });
  });
  hls.on(Hls.Events.ERROR, (_, { fatal, type, details, networkDetails, stats }) => {
    const playlist = details === Hls.ErrorDetails.MANIFEST_LOAD_ERROR || details === Hls.ErrorDetails.LEVEL_LOAD_ERROR;
    if (playlist && !listed && networkDetails instanceof XMLHttpRequest && networkDetails.status >= 400) {
      // The gateway's own words, so that it need not be asked, and waited for, once more.
      const { status, statusText, responseText } = networkDetails;
      const ms = stats === undefined ? 0 : performance.now() - stats.loading.start;
      const headers = { "cache-control": networkDetails.getResponseHeader("cache-control") ?? "" };
      void refusedBy(new Response(responseText, { status, statusText, headers }), ms).then(events.ended);
      return;
    }
    if (!fatal) return;
    if (details === Hls.ErrorDetails.MANIFEST_LOAD_TIMEOUT) {
      events.ended({ kind: "unready", reason: `no playlist came within ${PLAYLIST_MS / 1000} s` });
    } else if (type === Hls.ErrorTypes.NETWORK_ERROR) {
      events.ended("loading");
    } else if (details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) {
      events.ended({ kind: "unsupported", reason: "this browser cannot play the stream's codecs" });
    } else if (type === Hls.ErrorTypes.MEDIA_ERROR && !recovered) {
      recovered = true;
      loan.hold();
      hls.recoverMediaError();
    } else {
      events.ended({ kind: "lost", reason: `the HLS player gave up (${details})` });
    }
  });
  hls.on(Hls.Events.MEDIA_ATTACHED, () => loan.play());
  // As far behind as the playlist asks for: the start is later by what loading took.
  const look = (): void => {
    const target = hls.targetLatency;
    if (part === 0 || target === null || hls.latency === 0 || video.paused) return;
    const late = hls.latency - target;
    const { length } = video.buffered;
    const ahead = length === 0 ? 0 : video.buffered.end(length - 1) - video.currentTime;
    if (Math.abs(late) <= CLOSE || (late > 0 && ahead < part)) video.playbackRate = 1;
    else if (Math.abs(late) > LOOSE) video.playbackRate = late > 0 ? 1.05 : 0.95;
  };
  const over = new AbortController();
  const resume = (): void => {
    const { liveSyncPosition } = hls;
    if (liveSyncPosition !== null && liveSyncPosition - video.currentTime > JUMP_RESUMED) video.currentTime = liveSyncPosition;
  };
  video.addEventListener("play", resume, over);
  const looking = changesRateSmoothly() ? setInterval(look, LOOK_EVERY_MS) : undefined;
  hls.loadSource(url.href);
  hls.attachMedia(video);
  return {
    behind: () => (hls.latency > 0 ? hls.latency : null),
    rest: (rests) => (rests ? hls.stopLoad() : hls.startLoad()),
    stop: () => {
      over.abort();
      clearInterval(looking);
      hls.destroy();
    },
  };
};
