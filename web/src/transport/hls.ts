// HLS playback, by hls.js where the browser has a MediaSource, otherwise by the browser itself. hls.js is loaded on
// first use, so that other transports do not pay for it. This file has what both share: the loan of the video
// element, and asking the gateway why a load failed.

import { RESPONSE_TIMEOUT_MS } from "../net/timeout";
import { mediaSource } from "./browser";
import { playByBrowser } from "./hls_native";
import { refusal } from "./refusal";
import { type Ending, type Sink, type Transport, transportUrl } from "./transport";
import type { VideoLoan, VideoScreen } from "./video";

const TYPE = "application/vnd.apple.mpegurl";

/** Plays a playlist in the lent video element. */
export type HlsPlayer = (url: URL, loan: VideoLoan, events: HlsEvents) => HlsPlayback;

/** Events from the HLS player to the transport. */
export interface HlsEvents {
  bytes(count: number): void;
  carried(bytes: number, ms: number): void;
  /** About `count` frames were added to the browser's buffer (an estimate). */
  fed(count: number): void;
  sound(there: boolean): void;
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
export function openHls(base: URL, sink: Sink, only: boolean, screen: VideoScreen): Transport {
  const url = transportUrl(base, "hls", only ? "media.m3u8" : "index.m3u8");
  const over = new AbortController();
  const { signal } = over;
  let playback: HlsPlayback | null = null;
  let played = false;

  const halt = (): void => {
    loan.release();
    playback?.stop();
    playback = null;
  };
  const stop = (): void => {
    over.abort();
    halt();
  };
  const end = (ending: Ending): void => {
    if (signal.aborted) return;
    stop();
    sink.ended(ending);
  };
  const loan = screen.lend({
    shown: (shown) => {
      played = true;
      const behind = playback?.behind() ?? null;
      sink.shown({ ...shown, delay: behind === null ? null : { ms: behind * 1000, kind: "live" } });
    },
    heard: () => {
      played = true;
      sink.heard();
    },
    dropped: (count) => sink.dropped(count),
    blocked: () => sink.blocked(),
    failed: (reason) => {
      const ending: Ending = { kind: played ? "lost" : "unsupported", reason: `this browser cannot play the stream (${reason})` };
      // Native players do not distinguish a playlist that they could not load from one that they cannot play.
      if (played || mediaSource() !== null) end(ending);
      else ask(ending);
    },
  });
  const events: HlsEvents = {
    bytes: (count) => sink.bytes(count),
    carried: (bytes, ms) => sink.carried(bytes, ms),
    fed: (count) => sink.fed(count),
    sound: (there) => sink.sound(there),
    ended: (ending) => {
      if (ending === "loading") ask({ kind: "refused", reason: "the stream's segments could not be loaded" });
      else end(ending);
    },
  };
  /** Ends with the gateway's reason for refusing the playlist, or with `otherwise` if it does not refuse it. */
  const ask = (otherwise: Ending): void => {
    halt();
    void refusal(url, signal, otherwise).then(end);
  };
  const start = (play: HlsPlayer): void => {
    if (!signal.aborted) playback = play(url, loan, events);
  };

  if (mediaSource() === null) {
    start(playByBrowser);
  } else {
    // `refused`, so that another transport is tried.
    const unloaded = (): void => end({ kind: "refused", reason: "the HLS player could not be loaded; if the gateway was updated, reload the page" });
    const late = setTimeout(unloaded, RESPONSE_TIMEOUT_MS);
    signal.addEventListener("abort", () => clearTimeout(late));
    import("./hls_js").then(({ playByHlsJs }) => {
      clearTimeout(late);
      start(playByHlsJs);
    }, unloaded);
  }
  return { stop, throttle: (throttled) => playback?.throttle?.(throttled) };
}
