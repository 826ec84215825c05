/*! Contains hls.js, (c) Dailymotion and its contributors, under the Apache License 2.0: https://github.com/video-dev/hls.js */

import Hls from "hls.js/light";
import { canAdjustPlaybackRate } from "./browser";
import type { HlsPlayer } from "./hls";
import { classifyRefusal } from "./refusal";
import { REJECTED_AFTER_FRAMES, REJECTED_REASON } from "./mse_rejection";

/** Without parts in the playlist: target distance to its end, and the limit for jumping forward, in seconds. */
const WITHOUT_PARTS = { target: 3, limit: 8 };
/** With parts, the playlist sets the target; beyond this distance (s) the player jumps. */
const LOW_LATENCY_LIMIT = 4;
/**
 * An offset above `ADJUST_ABOVE` (s) changes the playback rate; below `ADJUST_UNTIL` the rate returns to 1. hls.js
 * itself would wait for a second of buffer.
 */
const ADJUST_ABOVE = 0.05;
const ADJUST_UNTIL = 0.02;
const ADJUST_INTERVAL_MS = 250;
/** Bytes that arrive together: about one packet. */
const PACKET_BYTES = 1400;
/** Assumed frame rate, as HLS has no frame counts. The gateway fills silence, so every segment has frames. */
const ASSUMED_FRAME_RATE = 10;
/** Timeout (ms) for a playlist, which takes long with long segments. `Session` reconnects after 30 s without data. */
const PLAYLIST_TIMEOUT_MS = 25_000;
/** After a pause, the player jumps if it is further behind (s) than this. */
const JUMP_RESUMED = 0.5;

/** Plays with hls.js, through Media Source Extensions. */
export const playByHlsJs: HlsPlayer = (url, attachment, events) => {
  const hls = new Hls({
    lowLatencyMode: true,
    // Each stall increases the target latency permanently.
    liveSyncOnStallIncrease: 0.3,
    backBufferLength: 10,
    // With an infinite duration, Chromium keeps hardly any decoded frames; the buffer determines the latency here.
    liveDurationInfinity: false,
    // The pages' CSP forbids scripts from blobs, and nothing has to be transmuxed.
    enableWorker: false,
    // `Session` retries with backoff, and knows the alternatives.
    manifestLoadPolicy: {
      default: { maxTimeToFirstByteMs: PLAYLIST_TIMEOUT_MS, maxLoadTimeMs: PLAYLIST_TIMEOUT_MS, timeoutRetry: null, errorRetry: null },
    },
  });
  const video = attachment.element;
  let partTarget = 0;
  let levelLoaded = false;
  let hasAudio = false;
  let loaded = 0;
  let appended = 0;
  let buffered = false;
  let recovered = false;
  hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => {
    partTarget = details.partTarget;
    levelLoaded = true;
    const withoutParts = partTarget === 0;
    if (withoutParts && hls.config.liveSyncDuration === undefined) hls.targetLatency = WITHOUT_PARTS.target;
    hls.config.liveMaxLatencyDuration = withoutParts ? Math.max(WITHOUT_PARTS.limit, 3 * details.targetduration) : LOW_LATENCY_LIMIT;
    if (!details.live) events.ended({ kind: "draining", reason: "the gateway ended the stream" });
  });
  hls.on(Hls.Events.FRAG_LOADED, (_, { payload, frag, part }) => {
    events.bytes(payload.byteLength);
    const { first, end } = (part ?? frag).stats.loading;
    // Timed from the arrival of the first packet.
    if (first > 0 && end >= first) events.bandwidthSample(Math.max(0, payload.byteLength - PACKET_BYTES), end - first);
    // What was loaded earlier is in the buffer by the time this fragment is appended.
    appended += loaded;
    loaded = Math.max(1, Math.round((part ?? frag).duration * ASSUMED_FRAME_RATE));
    events.fed(loaded);
  });
  hls.on(Hls.Events.BUFFER_CODECS, (_, { audio, audiovideo }) => {
    hasAudio = audio !== undefined || /mp4a|opus|flac/i.test(audiovideo?.codec ?? "");
    events.audio(hasAudio);
  });
  hls.on(Hls.Events.BUFFER_APPENDED, () => {
    buffered ||= video.buffered.length > 0;
    // With audio, `buffered` is the intersection of both tracks, so an empty buffer proves nothing.
    if (!buffered && !hasAudio && appended >= REJECTED_AFTER_FRAMES) events.ended({ kind: "unsupported", reason: REJECTED_REASON });
  });
  hls.on(Hls.Events.ERROR, (_, { fatal, type, details, networkDetails, stats }) => {
    const playlist = details === Hls.ErrorDetails.MANIFEST_LOAD_ERROR || details === Hls.ErrorDetails.LEVEL_LOAD_ERROR;
    if (playlist && !levelLoaded && networkDetails instanceof XMLHttpRequest && networkDetails.status >= 400) {
      // Uses the error body that was already received, instead of another request that may have to wait.
      const { status, statusText, responseText } = networkDetails;
      const ms = stats === undefined ? 0 : performance.now() - stats.loading.start;
      const headers = { "cache-control": networkDetails.getResponseHeader("cache-control") ?? "" };
      void classifyRefusal(new Response(responseText, { status, statusText, headers }), ms).then(events.ended);
      return;
    }
    if (!fatal) return;
    if (details === Hls.ErrorDetails.MANIFEST_LOAD_TIMEOUT) {
      events.ended({ kind: "unready", reason: `the playlist did not load within ${PLAYLIST_TIMEOUT_MS / 1000} s` });
    } else if (type === Hls.ErrorTypes.NETWORK_ERROR) {
      events.ended("loading");
    } else if (details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) {
      events.ended({ kind: "unsupported", reason: "this browser cannot play the stream's codecs" });
    } else if (type === Hls.ErrorTypes.MEDIA_ERROR && !recovered) {
      recovered = true;
      attachment.keepFrame();
      hls.recoverMediaError();
    } else {
      events.ended({ kind: "lost", reason: `HLS playback failed (${details})` });
    }
  });
  hls.on(Hls.Events.MEDIA_ATTACHED, () => attachment.play());
  // Keeps the latency at the playlist's target: playback starts later than that by the loading time.
  const adjustRate = (): void => {
    const target = hls.targetLatency;
    if (partTarget === 0 || target === null || hls.latency === 0 || video.paused) return;
    const offset = hls.latency - target;
    const { length } = video.buffered;
    const bufferAhead = length === 0 ? 0 : video.buffered.end(length - 1) - video.currentTime;
    if (Math.abs(offset) <= ADJUST_UNTIL || (offset > 0 && bufferAhead < partTarget)) video.playbackRate = 1;
    else if (Math.abs(offset) > ADJUST_ABOVE) video.playbackRate = offset > 0 ? 1.05 : 0.95;
  };
  const controller = new AbortController();
  const resume = (): void => {
    const { liveSyncPosition } = hls;
    if (liveSyncPosition !== null && liveSyncPosition - video.currentTime > JUMP_RESUMED) video.currentTime = liveSyncPosition;
  };
  video.addEventListener("play", resume, controller);
  const interval = canAdjustPlaybackRate() ? setInterval(adjustRate, ADJUST_INTERVAL_MS) : undefined;
  hls.loadSource(url.href);
  hls.attachMedia(video);
  return {
    behind: () => (hls.latency > 0 ? hls.latency : null),
    throttle: (throttled) => (throttled ? hls.stopLoad() : hls.startLoad()),
    stop: () => {
      controller.abort();
      clearInterval(interval);
      hls.destroy();
    },
  };
};
