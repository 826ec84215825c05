/*! Contains hls.js, (c) Dailymotion and its contributors, under the Apache License 2.0: https://github.com/video-dev/hls.js */

import Hls from "hls.js/light";
import type { HlsPlayer } from "./hls";

/** Where a playlist has no parts: so far behind its end (s), and no further than this. */
const PLAIN = { target: 3, limit: 8 };
/** With parts, the playlist says how far; this (s) and it is better to jump. */
const LOW_LATENCY_LIMIT = 4;

/** Plays by Media Source Extensions. */
export const playByHlsJs: HlsPlayer = (url, loan, events) => {
  // Every browser on an iPhone or iPad is Safari inside, and buffers anew when the rate changes.
  const steady = /^Apple/.test(navigator.vendor);
  const hls = new Hls({
    lowLatencyMode: true,
    maxLiveSyncPlaybackRate: steady ? 1 : 1.1,
    backBufferLength: 10,
    liveDurationInfinity: true,
    // The pages' CSP allows no script from memory, and there is nothing to transmux.
    enableWorker: false,
  });
  let recovered = false;
  hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => {
    const plain = details.partTarget === 0;
    if (plain && hls.config.liveSyncDuration === undefined) hls.targetLatency = PLAIN.target;
    hls.config.liveMaxLatencyDuration = plain ? Math.max(PLAIN.limit, 3 * details.targetduration) : LOW_LATENCY_LIMIT;
    if (!details.live) events.ended({ kind: "draining", reason: "the gateway ended the stream" });
  });
  hls.on(Hls.Events.FRAG_LOADED, (_, { payload }) => events.bytes(payload.byteLength));
  hls.on(Hls.Events.BUFFER_CODECS, (_, { audio, audiovideo }) => {
    events.sound(audio !== undefined || /mp4a|opus|flac/i.test(audiovideo?.codec ?? ""));
  });
  hls.on(Hls.Events.ERROR, (_, { fatal, type, details }) => {
    if (!fatal) return;
    if (type === Hls.ErrorTypes.NETWORK_ERROR) {
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
  hls.loadSource(url.href);
  hls.attachMedia(loan.element);
  return {
    behind: () => (hls.latency > 0 ? hls.latency : null),
    stop: () => hls.destroy(),
  };
};
