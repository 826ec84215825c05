// HLS: by hls.js, which is fetched when it is first needed, or by the browser itself where there is no MediaSource.

import { ANSWER_MS } from "../net/within";
import { mediaSource } from "./browser";
import { playByBrowser } from "./hls_native";
import { refusal } from "./refusal";
import { type Ending, type Sink, type Transport, transportUrl } from "./transport";
import type { VideoLoan, VideoScreen } from "./video";

const TYPE = "application/vnd.apple.mpegurl";

/** How the video element is made to play a playlist. */
export type HlsPlayer = (url: URL, loan: VideoLoan, events: HlsEvents) => HlsPlayback;

/** What such a player tells the transport. */
export interface HlsEvents {
  bytes(count: number): void;
  carried(bytes: number, ms: number): void;
  /** Pictures, `count` as is likely, went into the browser's buffer. */
  fed(count: number): void;
  sound(there: boolean): void;
  /** It is over. `loading`: a playlist or segment was not to be had; the gateway is asked why. */
  ended(ending: Ending | "loading"): void;
}

/** A player that runs, up to `stop`. */
export interface HlsPlayback {
  /** Seconds behind live, null if not known yet. */
  behind(): number | null;
  stop(): void;
  rest?(rests: boolean): void;
}

/** Why this browser cannot play `hls` at all, or null if it can. */
export function hlsObstacle(): string | null {
  const native = document.createElement("video").canPlayType(TYPE) !== "";
  return mediaSource() !== null || native ? null : "this browser plays no HLS";
}

/** Fetches what it takes, for later: on a link that has become narrow it would take long. */
export function prepareHls(): void {
  if (mediaSource() !== null) import("./hls_js").catch(() => undefined);
}

/** Plays `{base}/hls/index.m3u8`, which has all renditions, or one rendition's `media.m3u8`. */
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
      // A player of the browser's own does not tell a playlist that it could not get from one that it cannot play.
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
      if (ending === "loading") ask({ kind: "refused", reason: "the stream's segments cannot be loaded" });
      else end(ending);
    },
  };
  /** Has the gateway say what it has against it; `otherwise` if that is nothing. */
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
    // Refused, for there may be another way than HLS.
    const unloaded = (): void => end({ kind: "refused", reason: "the HLS player could not be loaded; if the gateway was renewed, load the page again" });
    const late = setTimeout(unloaded, ANSWER_MS);
    signal.addEventListener("abort", () => clearTimeout(late));
    import("./hls_js").then(({ playByHlsJs }) => {
      clearTimeout(late);
      start(playByHlsJs);
    }, unloaded);
  }
  return { stop, rest: (rests) => playback?.rest?.(rests) };
}
