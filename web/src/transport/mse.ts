// Fragmented MP4 over WebSocket into Media Source Extensions. It connects the socket, `MseFeed` (what to append),
// `LiveEdge` (where to play) and the video element.

import { canAdjustPlaybackRate, mediaSource } from "./browser";
import { LiveEdge, type TimeRange } from "./live_edge";
import { type MediaBuffer, MseFeed } from "./mse_feed";
import { openSocket } from "./socket";
import type { Ending, Sink, Transport } from "./transport";
import type { VideoScreen } from "./video";

const FOLLOW_INTERVAL_MS = 100;

/** Why this browser cannot play `mse` at all, or null if it can. */
export function mseObstacle(): string | null {
  return mediaSource() === null ? "this browser does not support Media Source Extensions" : null;
}

/** Plays `{base}/mse` in the attached video element. */
export function openMse(base: URL, sink: Sink, screen: VideoScreen): Transport {
  const Source = mediaSource();
  const controller = new AbortController();
  const { signal } = controller;
  let edge = new LiveEdge({ adjustsRate: canAdjustPlaybackRate() });
  let buffer: SourceBuffer | null = null;
  let played = false;
  /** Object URL of the media source that is about to open. */
  let objectUrl = "";

  const stop = (): void => {
    controller.abort();
    socket.close();
    clearInterval(interval);
    feed.stop();
    attachment.detach();
    URL.revokeObjectURL(objectUrl);
  };
  const end = (ending: Ending): void => {
    if (signal.aborted) return;
    stop();
    sink.ended(ending);
  };

  // A stream that has never played is treated as unsupported.
  const playbackFailed = (reason: string): void =>
    end({ kind: played ? "lost" : "unsupported", reason: `this browser cannot play the stream (${reason})` });

  const attachment = screen.attach({
    displayed: (frame) => {
      played = true;
      const newest = buffer === null ? undefined : bufferedRanges(buffer).at(-1);
      const delay = newest === undefined ? null : { ms: (newest.to - video.currentTime) * 1000, kind: "live" as const };
      sink.displayed({ ...frame, delay });
    },
    audioPlayed: () => {
      played = true;
      sink.audioPlayed();
    },
    dropped: (count) => sink.dropped(count),
    blocked: () => sink.blocked(),
    failed: playbackFailed,
  });
  const video = attachment.element;

  const follow = (): void => {
    if (buffer === null || video.seeking) return;
    const adjustment = edge.update(performance.now(), video.currentTime, bufferedRanges(buffer));
    if (adjustment?.kind === "seek") video.currentTime = adjustment.to;
    if (adjustment?.kind === "rate") video.playbackRate = adjustment.rate;
  };
  const interval = setInterval(follow, FOLLOW_INTERVAL_MS);
  video.addEventListener(
    "waiting",
    () => {
      if (buffer !== null) edge.underrun(performance.now(), video.currentTime, bufferedRanges(buffer));
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
      edge = new LiveEdge({ adjustsRate: canAdjustPlaybackRate() });
      objectUrl = URL.createObjectURL(source);
      source.addEventListener(
        "sourceopen",
        () => {
          URL.revokeObjectURL(objectUrl);
          source.duration = Infinity;
          const sourceBuffer = source.addSourceBuffer(mime);
          buffer = sourceBuffer;
          sourceBuffer.addEventListener("updateend", () => buffer === sourceBuffer && feed.updateEnd(), { signal });
          feed.ready(mediaBuffer(sourceBuffer));
        },
        { once: true, signal },
      );
      attachment.load(objectUrl);
    },
    position: () => video.currentTime,
    fed: (count) => sink.fed(count),
    playable: (from, to) => {
      edge.arrived(performance.now(), from, to);
      follow();
    },
    audio: (present) => sink.audio(present),
    failed: (ending) => (video.error === null ? end(ending) : playbackFailed(video.error.message)),
  });

  const socket = openSocket(base, "mse", {
    message: (data) => {
      if (typeof data !== "string") sink.bytes(data.byteLength);
      feed.message(data);
    },
    ended: end,
  });
  return { stop };
}

function mediaBuffer(buffer: SourceBuffer): MediaBuffer {
  return {
    buffered: () => bufferedRanges(buffer),
    append: (bytes) => buffer.appendBuffer(bytes),
    remove: (from, to) => buffer.remove(from, to),
    changeType: (mime) => buffer.changeType(mime),
  };
}

function bufferedRanges({ buffered }: SourceBuffer): TimeRange[] {
  return Array.from({ length: buffered.length }, (_, index) => ({ from: buffered.start(index), to: buffered.end(index) }));
}
