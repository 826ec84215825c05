// Decoded sound on its way to the audio device: each chunk at its time. A small error is corrected by a playback rate
// that nobody hears, a larger one by silence or by skipping. Pure; it runs in the AudioWorklet.

/** Sound with the time at which it is to be played. */
export interface SoundChunk {
  /** Samples of each channel. */
  readonly channels: readonly Float32Array[];
  /** Samples per second. */
  readonly rate: number;
  /** In seconds of the audio context. */
  readonly at: number;
}

/** What is kept at most, in seconds; then the oldest is dropped. */
const MAX_SECONDS = 2;
/** Beyond this error (s), silence or skipping corrects it at once. */
const RESYNC = 0.025;
/** Within this error (s), the rate is not changed. */
const TOLERANCE = 0.003;
/** Highest change of the rate. */
const MAX_STRETCH = 0.01;
/** Change of the rate by second of error. */
const GAIN = 0.5;

/** Queue between the decoder and the device. */
export class SoundRing {
  #chunks: SoundChunk[] = [];
  #seconds = 0;
  /** Position in the first chunk, in samples. */
  #position = 0;
  #playing = false;

  push(chunk: SoundChunk): void {
    this.#chunks.push(chunk);
    this.#seconds += seconds(chunk);
    while (this.#seconds > MAX_SECONDS) this.#next();
  }

  /** Fills a block of `rate` samples per second whose time in the audio context is `now` (s). */
  read(outputs: readonly Float32Array[], rate: number, now: number): void {
    const length = outputs[0]?.length ?? 0;
    for (const output of outputs) output.fill(0);
    const stretch = this.#align(now, length / rate);
    for (let index = 0; index < length && this.#playing; index++) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) {
        this.#playing = false;
        return;
      }
      const whole = Math.floor(this.#position);
      const part = this.#position - whole;
      for (const [channel, output] of outputs.entries()) {
        const from = chunk.channels[Math.min(channel, chunk.channels.length - 1)];
        const sample = from?.[whole] ?? 0;
        // The sample after the last one of a chunk is the first of the next.
        const following = from?.[whole + 1] ?? this.#chunks[1]?.channels[channel]?.[0] ?? sample;
        output[index] = sample + (following - sample) * part;
      }
      this.#position += (chunk.rate / rate) * stretch;
      const end = chunk.channels[0]?.length ?? 0;
      if (this.#position >= end) {
        const rest = this.#position - end;
        this.#next();
        this.#position = rest;
      }
    }
  }

  /** Brings the position to what is to be played now, and returns the rate that corrects what is left of the error. */
  #align(now: number, block: number): number {
    for (let chunk = this.#chunks[0]; chunk !== undefined; chunk = this.#chunks[0]) {
      // Positive: too late.
      const error = now - chunk.at - this.#position / chunk.rate;
      if (this.#playing && Math.abs(error) <= RESYNC) {
        const correction = Math.min(Math.max(error * GAIN, -MAX_STRETCH), MAX_STRETCH);
        return Math.abs(error) <= TOLERANCE ? 1 : 1 + correction;
      }
      this.#playing = false;
      if (error < -block) return 1;
      const position = this.#position + Math.max(0, error) * chunk.rate;
      if (position < (chunk.channels[0]?.length ?? 0)) {
        this.#position = position;
        this.#playing = true;
        return 1;
      }
      this.#next();
    }
    this.#playing = false;
    return 1;
  }

  #next(): void {
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) this.#seconds -= seconds(chunk);
    this.#position = 0;
  }
}

function seconds({ channels, rate }: SoundChunk): number {
  return (channels[0]?.length ?? 0) / rate;
}
