// The worker of `webcodecs`: receives, decodes and draws, so that a busy page delays nothing.

import { Painter } from "../player/painter";
import type { DecodedFrame } from "./transport";
import type { WorkerOrder, WorkerReport } from "./webcodecs_messages";
import { Receiver, type ReceiverEvents } from "./webcodecs_receiver";

// TypeScript's types are those of a page.
const page = globalThis as unknown as {
  postMessage(report: WorkerReport, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<WorkerOrder>) => void) | null;
};

let receiver: Receiver | null = null;

page.onmessage = ({ data }) => {
  if ("open" in data) receiver = new Receiver(data.open, events(data.canvas));
  else if ("sound" in data) receiver?.setSound(data.sound);
  else receiver?.setClock(data.clock);
};

function events(canvas: OffscreenCanvas | null): ReceiverEvents {
  const tell = (...report: WorkerReport): void => page.postMessage(report);
  return {
    frame: canvas === null ? send : draw(canvas, tell),
    fed: (count) => tell("fed", count),
    audioPlayed: () => tell("audioPlayed"),
    audio: (present) => tell("audio", present),
    bytes: (count) => tell("bytes", count),
    queueingDelay: (ms) => tell("queueingDelay", ms),
    dropped: (count) => tell("dropped", count),
    ended: (ending) => tell("ended", ending),
    soundFound: (sampleRate, channels) => tell("soundFound", sampleRate, channels),
    carrier: (name) => tell("carrier", name),
    webTransportBlocked: () => tell("webTransportBlocked"),
  };
}

function draw(canvas: OffscreenCanvas, tell: (...report: WorkerReport) => void): (frame: DecodedFrame) => void {
  const painter = new Painter(canvas, {
    // The page sees what was drawn once this task has ended.
    displayed: (frame) => setTimeout(() => tell("displayed", { ...frame, at: frame.at + performance.timeOrigin })),
    dropped: () => tell("dropped", 1),
  });
  return (frame) => painter.offer(frame);
}

/** Sends a frame to the page. */
function send({ close: _, ...frame }: DecodedFrame & { readonly image: VideoFrame }): void {
  page.postMessage(["frame", { ...frame, arrivedAt: frame.arrivedAt + performance.timeOrigin }], [frame.image]);
}
