// Plays the half of a transport that runs in the browser: in a sandboxed frame with an opaque origin or, if the gateway's
// config trusts the component, in the page itself.

import { ApiError } from "../net/api";
import { withTimeout } from "../net/timeout";
import { unreachable } from "../transport/refusal";
import type { Ending, Sink, Transport } from "../transport/transport";
import { Context, obstacle, start } from "./context";
import type { FrameOrder, FrameTask, Half } from "./contract";
import { fetchHalves, halvesUrl, type HalfEntry } from "./list";
import { readObstacle, Reports } from "./reports";
import type { ElementScreen } from "../player/element_screen";

/** Timeout (ms) for the list of halves, and for a half's answer whether it can play. */
export const LIST_TIMEOUT_MS = 5000;
const ANSWER_TIMEOUT_MS = 3000;

/**
 * Halves that can play, by the address of their module, and those that are asked. The others are asked again: one may not
 * have answered because the network or the browser was slow.
 */
const answers = new Map<string, Promise<string | null>>();

/** Why this browser cannot play the half, or null if it can, by the half's own answer. */
export function halfObstacle(entry: HalfEntry, screen: ElementScreen): Promise<string | null> {
  const key = entry.module.href;
  const known = answers.get(key);
  if (known !== undefined) return known;
  const answer = entry.frame === null ? obstacle(key) : askFrame(entry, entry.frame, screen);
  answers.set(key, answer);
  void answer.then((obstacle) => obstacle !== null && answers.delete(key));
  return answer;
}

function askFrame(entry: HalfEntry, frame: URL, screen: ElementScreen): Promise<string | null> {
  return new Promise((resolve) => {
    const finish = (answer: string | null): void => {
      clearTimeout(timeout);
      port.close();
      remove();
      resolve(answer);
    };
    const task = frameTask("can-play", entry, true);
    const { element, port } = openFrame(frame, task, (data) => finish(readObstacle(data)));
    const remove = screen.runHidden(element);
    const timeout = setTimeout(() => finish("the transport's player does not answer"), ANSWER_TIMEOUT_MS);
  });
}

/** Plays the transport `name` of the stream at `base` on this screen. */
export function openHalf(base: URL, name: string, sink: Sink, screen: ElementScreen): Transport {
  const controller = new AbortController();
  const { signal } = controller;
  const stop = (): void => controller.abort();
  const end = (ending: Ending): void => {
    if (signal.aborted) return;
    stop();
    sink.ended(ending);
  };
  const own: Sink = {
    ...sink,
    displayed: (frame) => {
      screen.shape(frame.width, frame.height);
      sink.displayed(frame);
    },
    ended: end,
  };
  const find = (): Promise<HalfEntry | undefined> =>
    withTimeout(LIST_TIMEOUT_MS, signal, (signal) => fetchHalves(base, signal)).then((entries) => entries.find((entry) => entry.name === name));
  const play = (entry: HalfEntry): void => {
    const reports = new Reports(own, () => performance.now());
    const receive = (data: unknown): void => {
      if (signal.aborted) return;
      const wrong = reports.receive(data);
      if (wrong !== null) end({ kind: "unsupported", reason: wrong });
    };
    const renew = entry.frame === null ? playInPage(entry, screen, signal, receive) : playInFrame(entry, entry.frame, screen, signal, receive);
    // Without a new ticket the half goes on with what it has opened, and ends by itself if it needs more.
    const timer = setInterval(() => void find().then((entry) => entry && !signal.aborted && renew(entry.url), () => undefined), entry.ticketMs / 2);
    signal.addEventListener("abort", () => clearInterval(timer));
  };
  find().then(
    (entry) => {
      if (signal.aborted) return;
      if (entry === undefined) end({ kind: "unsupported", reason: `the gateway no longer has a player for the transport ${name}` });
      else play(entry);
    },
    (error: unknown) => end(error instanceof ApiError ? { kind: "refused", reason: error.message } : unreachable(halvesUrl(base))),
  );
  return { stop };
}

/** Passes a new address with a fresh ticket to the half. */
type Renew = (url: URL) => void;

function playInFrame(entry: HalfEntry, frame: URL, screen: ElementScreen, signal: AbortSignal, receive: (data: unknown) => void): Renew {
  const task = frameTask("play", entry, screen.muted);
  const { element, port } = openFrame(frame, task, receive);
  const tell = (order: FrameOrder): void => port.postMessage(order);
  const detach = screen.attach(element, (muted) => tell({ muted }));
  signal.addEventListener("abort", () => {
    port.close();
    // Ends all its scripts and connections.
    detach();
  });
  return (url) => tell({ url: url.href });
}

function playInPage(entry: HalfEntry, screen: ElementScreen, signal: AbortSignal, receive: (data: unknown) => void): Renew {
  const root = document.createElement("div");
  const context = new Context(root, frameTask("play", entry, screen.muted), receive);
  let half: Half | null = null;
  const detach = screen.attach(root, (muted) => {
    context.setMuted(muted);
    half?.setMuted?.(muted);
  });
  void start(entry.module.href, context).then((started) => {
    half = started;
    if (signal.aborted) half?.stop();
  });
  signal.addEventListener("abort", () => {
    half?.stop();
    detach();
  });
  return (url) => context.setUrl(url.href);
}

function frameTask(task: FrameTask["task"], { module, url, carriers }: HalfEntry, muted: boolean): FrameTask {
  return { task, module: module.href, url: url.href, carriers, muted };
}

/** A frame with an opaque origin that gets this task once it is loaded, and the port over which it reports. */
function openFrame(url: URL, task: FrameTask, receive: (data: unknown) => void): { readonly element: HTMLIFrameElement; readonly port: MessagePort } {
  const element = document.createElement("iframe");
  // Scripts, and nothing else: no origin, no popups, no forms, no navigation of the page.
  element.setAttribute("sandbox", "allow-scripts");
  element.allow = "autoplay";
  element.tabIndex = -1;
  element.title = "Player";
  element.src = url.href;
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }: MessageEvent<unknown>) => receive(data);
  // Only the first document gets the port. An opaque origin cannot be named as the target.
  element.addEventListener("load", () => element.contentWindow?.postMessage(task, "*", [port2]), { once: true });
  return { element, port: port1 };
}
