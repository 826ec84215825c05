// Plays `webcodecs`. A worker receives, decodes and draws on a canvas of its own; this is the page's side, which has
// the canvas and the sound.

import type { ElementScreen } from "../player/element_screen";
import { doubtOffer, noteBlocked, webTransportEndpoint } from "./endpoints";
import { refusal, unreachable } from "./refusal";
import { playSound } from "./sound";
import { type Ending, type Sink, type Transport, transportUrl } from "./transport";
import type { WorkerEvents, WorkerOrder, WorkerReport } from "./webcodecs_messages";
import type { Source } from "./webcodecs_carrier";
import type { Receiver, ReceiverEvents } from "./webcodecs_receiver";

/** The receiver, in a worker or in the page. */
interface Receiving {
  /** Once, before anything else. */
  open(source: Source): void;
  send(order: WorkerOrder, transfer?: Transferable[]): void;
  stop(): void;
}

/** What the page gets from it. */
interface PageEvents extends ReceiverEvents, Pick<WorkerEvents, "displayed"> {
  /** It could not be loaded, or failed. */
  failed(reason: string): void;
}

/** If the receiver fails again within this time (ms), it is not the network's fault. */
const FAILS_AGAIN_MS = 60_000;
let failedAt = -Infinity;

/** Plays `{base}/webcodecs` on this screen. `soundBlocked`: sound must wait until the viewer acts; it is muted then. */
export function openWebCodecs(base: URL, sink: Sink, screen: ElementScreen, soundBlocked: () => void): Transport {
  const controller = new AbortController();
  const { signal } = controller;
  let sound: { readonly sampleRate: number; readonly channels: number } | null = null;
  let silence: (() => void) | null = null;

  const stop = (): void => {
    controller.abort();
    silence?.();
    silence = null;
    receiving.stop();
    detach();
  };
  const end = (ending: Ending): void => {
    if (signal.aborted) return;
    stop();
    doubtOffer(base);
    sink.ended(ending);
  };
  const endSound = (): void => {
    if (silence === null) return;
    silence();
    silence = null;
    receiving.send({ sound: null });
  };
  /** Starts or ends the sound, as it should be now. */
  const applySound = (): void => {
    const wanted = sound !== null && !screen.muted;
    if (!wanted) {
      endSound();
    } else if (sound !== null && silence === null) {
      silence = playSound(sound.sampleRate, sound.channels, {
        opened: (port) => receiving.send({ sound: port }, [port]),
        clock: (clock) => receiving.send({ clock }),
        blocked: soundBlocked,
        failed: () => events.audio(false),
      });
    }
  };
  const events: PageEvents = {
    frame: (frame) => (signal.aborted ? frame.close() : sink.frame(frame)),
    displayed: (frame) => {
      screen.shape(frame.width, frame.height);
      sink.displayed(frame);
    },
    fed: (count) => sink.fed(count),
    audioPlayed: () => sink.audioPlayed(),
    audio: (present) => {
      if (!present) sound = null;
      sink.audio(present);
      applySound();
    },
    soundFound: (sampleRate, channels) => {
      // A context is for one rate and number of channels.
      if (sound?.sampleRate !== sampleRate || sound.channels !== channels) endSound();
      sound = { sampleRate, channels };
      applySound();
    },
    carrier: (name) => sink.carrier(name),
    bytes: (count) => sink.bytes(count),
    queueingDelay: (ms) => sink.queueingDelay(ms),
    dropped: (count) => sink.dropped(count),
    webTransportBlocked: () => noteBlocked(base),
    failed: (reason) => {
      const again = performance.now() - failedAt < FAILS_AGAIN_MS;
      failedAt = performance.now();
      const ending: Ending = { kind: again ? "unsupported" : "lost", reason };
      void refusal(transportUrl(base, "webcodecs"), signal, ending).then(end);
    },
    ended: end,
  };

  const canvas = document.createElement("canvas");
  const worker = new URL("webcodecs_worker.js", import.meta.url);
  // A page of another site cannot start a worker from the gateway's script.
  const receiving = worker.origin === location.origin ? receiveInWorker(worker, canvas, events) : receiveInPage(events);
  const detach = screen.attach(canvas, applySound);
  webTransportEndpoint(base, signal).then(
    (endpoint) => signal.aborted || receiving.open({ base: base.href, endpoint }),
    () => end(unreachable(base)),
  );
  return { stop };
}

function receiveInWorker(url: URL, element: HTMLCanvasElement, events: PageEvents): Receiving {
  const worker = new Worker(url, { type: "module" });
  worker.onmessage = ({ data: [name, ...values] }: MessageEvent<WorkerReport>) => {
    if (name === "frame") {
      const [frame] = values as Parameters<WorkerEvents["frame"]>;
      events.frame({ ...frame, arrivedAt: frame.arrivedAt - performance.timeOrigin, close: () => frame.image.close() });
    } else if (name === "displayed") {
      const [frame] = values as Parameters<WorkerEvents["displayed"]>;
      events.displayed({ ...frame, at: frame.at - performance.timeOrigin });
    } else {
      (events[name] as (...values: unknown[]) => void)(...values);
    }
  };
  worker.onerror = ({ message }) => events.failed(`the player's worker failed (${message || "it could not be loaded"})`);
  const send = (order: WorkerOrder, transfer: Transferable[] = []): void => worker.postMessage(order, transfer);
  const canvas = typeof element.transferControlToOffscreen === "function" ? element.transferControlToOffscreen() : null;
  return {
    open: (source) => send({ open: source, canvas }, canvas === null ? [] : [canvas]),
    send,
    stop: () => worker.terminate(),
  };
}

function receiveInPage(events: PageEvents): Receiving {
  let receiver: Receiver | null = null;
  let stopped = false;
  const start = async (source: Source): Promise<void> => {
    const { Receiver } = await import("./webcodecs_receiver");
    if (!stopped) receiver = new Receiver(source, events);
  };
  return {
    open: (source) => void start(source).catch((error: unknown) => events.failed(`a part of the player could not be loaded (${String(error)})`)),
    send: (order) => {
      if ("sound" in order) receiver?.setSound(order.sound);
      else if ("clock" in order) receiver?.setClock(order.clock);
    },
    stop: () => {
      stopped = true;
      receiver?.stop();
    },
  };
}
