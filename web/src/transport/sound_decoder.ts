// The browser's audio decoder, for `webcodecs`. It decodes only while there is somewhere to play.

import type { AudioTrack, CodedFrame } from "../media/records";
import type { SoundChunk } from "../media/sound_ring";

/** What the decoder reports. */
export interface SoundEvents {
  /**
   * Sound with this presentation time (µs) has been decoded. Returns when it is to be played, in seconds of the audio
   * context; null if that is not known yet.
   */
  decoded(time: number): number | null;
  /** There is no sound, for this reason. */
  failed(reason: string): void;
}

/** Consecutive failures without output after which the sound is given up. */
const MAX_FAILURES = 3;
/** With more frames waiting than this, the decoder is behind, and what follows is dropped. */
const QUEUE_LIMIT = 50;

/** Decodes one track at a time. */
export class SoundDecoder {
  readonly #events: SoundEvents;
  #track: AudioTrack | null = null;
  #decoder: AudioDecoder | null = null;
  #port: MessagePort | null = null;
  #supported = false;
  #failures = 0;

  constructor(events: SoundEvents) {
    this.#events = events;
  }

  /** Whether this browser can decode the track; false while that is not known. */
  get isSupported(): boolean {
    return this.#supported;
  }

  /** Another track begins, or none. `supported` is called if the browser can decode it. */
  setTrack(track: AudioTrack | null, supported: () => void): void {
    this.#release();
    this.#track = track;
    this.#supported = false;
    this.#failures = 0;
    if (track === null) {
      this.#events.failed("the stream has no sound any more");
      return;
    }
    void isSupported(track).then((answer) => {
      if (this.#track !== track) return;
      this.#supported = answer;
      if (answer) supported();
      else this.#events.failed(`this browser cannot decode the sound (${track.codec})`);
    });
  }

  /** Where decoded sound goes: the port of a `SoundPlayer`. */
  setPort(port: MessagePort | null): void {
    this.#port?.close();
    this.#port = port;
    if (port === null) this.#release();
  }

  frame({ time, data }: CodedFrame): void {
    if (this.#port === null || this.#track === null || !this.#supported) return;
    this.#decoder ??= this.#create(this.#track);
    if (this.#decoder === null || this.#decoder.decodeQueueSize > QUEUE_LIMIT) return;
    try {
      this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: time, data }));
    } catch (error) {
      this.#failed(error);
    }
  }

  close(): void {
    this.#track = null;
    this.setPort(null);
  }

  #create(track: AudioTrack): AudioDecoder | null {
    const decoder = new AudioDecoder({
      output: (data) => {
        if (this.#decoder === decoder) this.#output(data);
        data.close();
      },
      error: (error) => {
        if (this.#decoder === decoder) this.#failed(error);
      },
    });
    try {
      decoder.configure(decoderConfig(track));
      return decoder;
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  #output(data: AudioData): void {
    this.#failures = 0;
    const at = this.#events.decoded(data.timestamp);
    if (at === null) return;
    const channels = Array.from({ length: data.numberOfChannels }, (_, planeIndex) => {
      const samples = new Float32Array(data.numberOfFrames);
      data.copyTo(samples, { planeIndex, format: "f32-planar" });
      return samples;
    });
    const chunk: SoundChunk = { channels, rate: data.sampleRate, at };
    this.#port?.postMessage(chunk, channels.map(({ buffer }) => buffer));
  }

  #failed(error: unknown): void {
    this.#release();
    if (++this.#failures < MAX_FAILURES) return;
    this.#supported = false;
    this.#events.failed(`this browser cannot decode the sound (${error instanceof Error ? error.message : String(error)})`);
  }

  #release(): void {
    const decoder = this.#decoder;
    this.#decoder = null;
    if (decoder !== null && decoder.state !== "closed") decoder.close();
  }
}

async function isSupported(track: AudioTrack): Promise<boolean> {
  if (typeof AudioDecoder !== "function") return false;
  try {
    return (await AudioDecoder.isConfigSupported(decoderConfig(track))).supported === true;
  } catch {
    return false;
  }
}

function decoderConfig({ codec, sampleRate, channels, config }: AudioTrack): AudioDecoderConfig {
  return { codec, sampleRate, numberOfChannels: channels, ...(config.length > 0 && { description: config }) };
}
