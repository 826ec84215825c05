// The audio worklet of `webcodecs`: takes chunks from a port and plays each at its time.

import { type SoundChunk, SoundRing } from "../media/sound_ring";

// TypeScript has no types for this scope.
declare const sampleRate: number;
declare const currentTime: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

class SoundPlayer extends AudioWorkletProcessor {
  readonly #ring = new SoundRing();

  constructor() {
    super();
    // The receiver's end of this port may be in a worker.
    this.port.onmessage = ({ data: port }: MessageEvent<MessagePort>) => {
      port.onmessage = ({ data }: MessageEvent<SoundChunk>) => this.#ring.push(data);
    };
  }

  process(_: unknown, [output = []]: Float32Array[][]): boolean {
    this.#ring.read(output, sampleRate, currentTime);
    return true;
  }
}

registerProcessor("sluicegate-sound", SoundPlayer);
