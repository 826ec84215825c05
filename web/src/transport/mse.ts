// Fragmented MP4 over WebSocket into Media Source Extensions. It connects the socket, `MseFeed` (what to append),
// `LiveEdge` (where to play) and the video element.

import { changesRateSmoothly, mediaSource } from "./browser";
import { LiveEdge, type Span } from "./live_edge";
import { type MediaBuffer, MseFeed } from "./mse_feed";
import { openSocket } from "./socket";
import type { Ending, Sink, Transport } from "./transport";
import type { VideoScreen } from "./video";

const LOOK_EVERY_MS = 100;

/** Why this browser cannot play `mse` at all, or null if it can. */
export function mseObstacle(): string | null {
  return mediaSource() === null ? "this browser does not support Media Source Extensions" : null;
}

/** Plays `{base}/mse` in the lent video element. */
export function openMse(base: URL, sink: Sink, screen: VideoScreen): Transport {
  const Source = mediaSource();
  const over = new AbortController();
  const { signal } = over;
  let edge = new LiveEdge({ rates: changesRateSmoothly() });
  let buffer: SourceBuffer | null = null;
  let played = false;
  /** Object URL of the media source that is about to be opened. */
  let address = "";

  const stop = (): void => {
    over.abort();
    closeSocket();
    clearInterval(looking);
    feed.stop();
    loan.release();
    URL.revokeObjectURL(address);
  };
  const end = (ending: Ending): void => {
    if (signal.aborted) return;
    stop();
    sink.ended(ending);
  };

  // A stream that has never played is treated as unsupported.
  const broken = (reason: string): void =>
    end({ kind: played ? "lost" : "unsupported", reason: `this browser cannot play the stream (${reason})` });

  const loan = screen.lend({
    shown: (shown) => {
      played = true;
      const newest = buffer === null ? undefined : spansOf(buffer).at(-1);
      const delay = newest === undefined ? null : { ms: (newest.to - video.currentTime) * 1000, kind: "live" as const };
      sink.shown({ ...shown, delay });
    },
    heard: () => {
      played = true;
      sink.heard();
    },
    dropped: (count) => sink.dropped(count),
    blocked: () => sink.blocked(),
    failed: broken,
  });
  const video = loan.element;

  const follow = (): void => {
    if (buffer === null || video.seeking) return;
    const move = edge.look(performance.now(), video.currentTime, spansOf(buffer));
    if (move?.kind === "seek") video.currentTime = move.to;
    if (move?.kind === "rate") video.playbackRate = move.rate;
  };
  const looking = setInterval(follow, LOOK_EVERY_MS);
  video.addEventListener(
    "waiting",
    () => {
      if (buffer !== null) edge.starved(performance.now(), video.currentTime, spansOf(buffer));
      follow();
    },
    { signal },
  );

  video.addEventListener("play", () => edge.resumed(), { signal });

  const feed = new MseFeed({
    supports: (mime) => Source?.isTypeSupported(mime) ?? false,
    open: (mime) => {
      if (Source === null) return;
      const source = new Source();
      buffer = null;
      edge = new LiveEdge({ rates: changesRateSmoothly() });
      address = URL.createObjectURL(source);
      source.addEventListener(
        "sourceopen",
        () => {
          URL.revokeObjectURL(address);
          source.duration = Infinity;
          const made = source.addSourceBuffer(mime);
          buffer = made;
          made.addEventListener("updateend", () => buffer === made && feed.done(), { signal });
          feed.ready(bufferOf(made));
        },
        { once: true, signal },
      );
      loan.show(address);
    },
    position: () => video.currentTime,
    fed: (count) => sink.fed(count),
    playable: (from, to) => {
      edge.arrived(performance.now(), from, to);
      follow();
    },
    sound: (there) => sink.sound(there),
    failed: (ending) => (video.error === null ? end(ending) : broken(video.error.message)),
  });

  const closeSocket = openSocket(base, "mse", {
    message: (data) => {
      if (typeof data !== "string") sink.bytes(data.byteLength);
      feed.message(data);
    },
    ended: end,
  });
  return { stop };
}

function bufferOf(buffer: SourceBuffer): MediaBuffer {
  return {
    spans: () => spansOf(buffer),
    append: (bytes) => buffer.appendBuffer(bytes),
    remove: (from, to) => buffer.remove(from, to),
    changeType: (mime) => buffer.changeType(mime),
  };
}

function spansOf({ buffered }: SourceBuffer): Span[] {
  return Array.from({ length: buffered.length }, (_, index) => ({ from: buffered.start(index), to: buffered.end(index) }));
}
