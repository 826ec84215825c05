// HLS playback, by hls.js where the browser has a MediaSource, otherwise by the browser itself. hls.js is loaded on
// first use, so that other transports do not pay for it. This file has what both share: attaching the
// video element, and asking the gateway why a load failed.

import { RESPONSE_TIMEOUT_MS } from "../net/timeout";
import { mediaSource } from "./browser";
import { playByBrowser } from "./hls_native";
import { refusal } from "./refusal";
import { type Ending, type Sink, type Transport, transportUrl } from "./transport";
import type { VideoAttachment, VideoScreen } from "./video";

const TYPE = "application/vnd.apple.mpegurl";

/** Plays a playlist in the attached video element. */
export type HlsPlayer = (url: URL, attachment: VideoAttachment, events: HlsEvents) => HlsPlayback;

/** Events from the HLS player to the transport. */
export interface HlsEvents {
  bytes(count: number): void;
  bandwidthSample(bytes: number, ms: number): void;
  /** About `count` frames were added to the browser's buffer (an estimate). */
  fed(count: number): void;
  audio(present: boolean): void;
  /** Playback ended. `loading`: a playlist or segment could not be loaded; the gateway is asked for the reason. */
  ended(ending: Ending | "loading"): void;
}

/** A running player, until `stop`. */
export interface HlsPlayback {
  /** Seconds behind live; null if unknown. */
  behind(): number | null;
  stop(): void;
  throttle?(throttled: boolean): void;
}

/** Why this browser cannot play `hls` at all, or null if it can. */
export function hlsObstacle(): string | null {
  const native = document.createElement("video").canPlayType(TYPE) !== "";
  return mediaSource() !== null || native ? null : "this browser does not support HLS";
}

/** Preloads hls.js for a later move: on a link that has become slow, loading it would take long. */
export function prepareHls(): void {
  if (mediaSource() !== null) import("./hls_js").catch(() => undefined);
}

/** Plays `{base}/hls/index.m3u8`, which lists all renditions, or with `only` one rendition's `media.m3u8`. */
export function openHls(base: URL, sink: Sink, singleRendition: boolean, screen: VideoScreen): Transport {
  const url = transportUrl(base, "hls", singleRendition ? "media.m3u8" : "index.m3u8");
  const controller = new AbortController();
  const { signal } = controller;
  let playback: HlsPlayback | null = null;
  let played = false;

  const stopPlayback = (): void => {
    attachment.detach();
    playback?.stop();
    playback = null;
  };
  const stop = (): void => {
    controller.abort();
    stopPlayback();
  };
  const end = (ending: Ending): void => {
    if (signal.aborted) return;
    stop();
    sink.ended(ending);
  };
  const attachment = screen.attach({
    displayed: (frame) => {
      played = true;
      const behind = playback?.behind() ?? null;
      sink.displayed({ ...frame, delay: behind === null ? null : { ms: behind * 1000, kind: "live" } });
    },
    audioPlayed: () => {
      played = true;
      sink.audioPlayed();
    },
    dropped: (count) => sink.dropped(count),
    blocked: () => sink.blocked(),
    failed: (reason) => {
      const ending: Ending = { kind: played ? "lost" : "unsupported", reason: `this browser cannot play the stream (${reason})` };
      // Native players do not distinguish a playlist that they could not load from one that they cannot play.
      if (played || mediaSource() !== null) end(ending);
      else endWithRefusal(ending);
    },
  });
  const events: HlsEvents = {
    bytes: (count) => sink.bytes(count),
    bandwidthSample: (bytes, ms) => sink.bandwidthSample(bytes, ms),
    fed: (count) => sink.fed(count),
    audio: (present) => sink.audio(present),
    ended: (ending) => {
      if (ending === "loading") endWithRefusal({ kind: "refused", reason: "the stream's segments could not be loaded" });
      else end(ending);
    },
  };
  /** Ends with the gateway's reason for refusing the playlist, or with `otherwise` if it does not refuse it. */
  const endWithRefusal = (otherwise: Ending): void => {
    stopPlayback();
    void refusal(url, signal, otherwise).then(end);
  };
  const start = (play: HlsPlayer): void => {
    if (!signal.aborted) playback = play(url, attachment, events);
  };

  if (mediaSource() === null) {
    start(playByBrowser);
  } else {
    // `refused`, so that another transport is tried.
    const loadFailed = (): void => end({ kind: "refused", reason: "the HLS player could not be loaded; if the gateway was updated, reload the page" });
    const timeout = setTimeout(loadFailed, RESPONSE_TIMEOUT_MS);
    signal.addEventListener("abort", () => clearTimeout(timeout));
    import("./hls_js").then(({ playByHlsJs }) => {
      clearTimeout(timeout);
      start(playByHlsJs);
    }, loadFailed);
  }
  return { stop, throttle: (throttled) => playback?.throttle?.(throttled) };
}
