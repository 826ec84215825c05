// H.264 access units over WebSocket into WebCodecs. It connects the socket, `NalFeed` (what to decode) and the
// decoder. Annex B needs no `description`: parameter sets travel in the stream.

import { type Geometry, readGeometry } from "../media/geometry";
import { NalFeed } from "./nal_feed";
import { openSocket } from "./socket";
import type { Ending, Sink, Transport } from "./transport";
import { displayGeometry, WebCodecsDecoder } from "./video_decoder";

/** Plays `{base}/nal`, with frames for the canvas. */
export function openNal(base: URL, sink: Sink): Transport {
  let stopped = false;
  let geometry: Geometry | null = null;
  const stop = (): void => {
    stopped = true;
    socket.close();
    decoder.close();
  };
  const end = (ending: Ending): void => {
    if (stopped) return;
    stop();
    sink.ended(ending);
  };
  const decoder = new WebCodecsDecoder({
    frame: (frame) => {
      feed.frameDecoded();
      sink.frame({
        image: frame,
        ...displayGeometry(frame, geometry),
        arrivedAt: frame.timestamp / 1000,
        close: () => frame.close(),
      });
    },
    failed: () => feed.decoderFailed(),
    unsupported: (reason) => end({ kind: "unsupported", reason }),
  });
  const feed = new NalFeed(decoder, { dropped: (count) => sink.dropped(count), fed: () => sink.fed(1) });
  const socket = openSocket(base, "nal", {
    message: (data) => {
      if (typeof data === "string") {
        geometry = readGeometry(data) ?? geometry;
        return;
      }
      sink.bytes(data.byteLength);
      const header = feed.message(new Uint8Array(data), performance.now() * 1000);
      // A new track begins; its geometry follows in a text message if frames are not displayed as coded.
      if (header) geometry = null;
    },
    ended: end,
  });
  return { stop };
}
