// Plays the sound of `webcodecs`: an audio context with a worklet that gets decoded sound through a port.

import { hasBeenActive } from "./video";
import type { SoundClock } from "./webcodecs_receiver";

/** Events of a sound that is being played. */
export interface PlayedSoundEvents {
  /** The worklet takes sound from the other end of this port. */
  opened(port: MessagePort): void;
  /** When the context's time is heard; repeated, as the device has a clock of its own. */
  clock(clock: SoundClock): void;
  /** The browser plays no sound before the viewer acts. */
  blocked(): void;
  /** It cannot play this sound at all. */
  failed(): void;
}

const CLOCK_INTERVAL_MS = 100;
/** Time (ms) in which a context starts if the browser lets it. */
const START_MS = 1000;

/** Starts to play. The returned function ends it; no event follows. */
export function playSound(sampleRate: number, channels: number, events: PlayedSoundEvents): () => void {
  let context: AudioContext;
  try {
    context = new AudioContext({ sampleRate, latencyHint: "interactive" });
  } catch {
    // Of such a rate.
    queueMicrotask(() => events.failed());
    return () => undefined;
  }
  let stopped = false;
  const since = performance.now();
  const tell = (): void => {
    if (context.state === "running") events.clock(readClock(context));
    else if (!hasBeenActive() && performance.now() - since > START_MS) events.blocked();
  };
  const interval = setInterval(tell, CLOCK_INTERVAL_MS);
  context.addEventListener("statechange", tell);
  const load = async (): Promise<void> => {
    await context.audioWorklet.addModule(new URL("sound_worklet.js", import.meta.url));
    if (stopped) return;
    const node = new AudioWorkletNode(context, "sluicegate-sound", { numberOfInputs: 0, outputChannelCount: [channels] });
    node.connect(context.destination);
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage(port1, [port1]);
    events.opened(port2);
    tell();
  };
  load().catch(() => stopped || events.failed());
  return () => {
    stopped = true;
    clearInterval(interval);
    context.removeEventListener("statechange", tell);
    void context.close();
  };
}

function readClock(context: AudioContext): SoundClock {
  const { contextTime, performanceTime } = context.getOutputTimestamp();
  // Some browsers have zeros until sound is heard.
  const [heard, at] = contextTime && performanceTime ? [contextTime, performanceTime] : [context.currentTime - (context.outputLatency || context.baseLatency), performance.now()];
  const now = heard + (performance.now() - at) / 1000;
  return { context: heard, heardAt: at + performance.timeOrigin, latency: Math.max(0, (context.currentTime - now) * 1000) };
}
