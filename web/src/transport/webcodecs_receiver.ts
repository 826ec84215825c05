// Receives a `webcodecs` stream and decodes it. It runs in a worker, or in the page where there can be none. Sound goes
// to the port of an audio worklet; frames are given out when they are to be displayed.

import { Lateness } from "../net/lateness";
import { type AudioTrack, type CodedFrame, KEYFRAME_REQUEST } from "../media/records";
import { Playout } from "./playout";
import { SoundDecoder } from "./sound_decoder";
import type { Ending, DecodedFrame, Sink } from "./transport";
import { displayGeometry, WebCodecsDecoder } from "./video_decoder";
import { Carrier, type CarrierEvents, type Source } from "./webcodecs_carrier";
import { VideoFeed } from "./webcodecs_feed";

/** What the receiver reports. Times are ms of `performance.now()`. */
export interface ReceiverEvents
  extends Pick<Sink, "fed" | "audioPlayed" | "audio" | "queueingDelay" | "dropped">,
    Omit<CarrierEvents, "frame"> {
  /** To be displayed now. */
  frame(frame: VideoDecodedFrame): void;
  /** The stream has sound that this browser can decode, with so many samples per second and channels. */
  soundFound(sampleRate: number, channels: number): void;
}

/** Moment of the audio context, measured now and then. */
export interface SoundClock {
  /** Time of the context (s), and when it is heard (Unix ms with fractions). */
  readonly context: number;
  readonly heardAt: number;
  /** From the moment that sound is rendered until it is heard, in ms. */
  readonly latency: number;
}

/** A frame is handed out this much (ms) before it is due, for it is drawn at the next refresh. */
const DRAW_AHEAD_MS = 8;
/** Decoded frames that wait for their time. Some decoders have no more of them. */
const MAX_WAITING = 10;
/** How often audio without video is reported as playing, in ms. */
const AUDIO_ONLY_MS = 500;

export type VideoDecodedFrame = DecodedFrame & { readonly image: VideoFrame };

/** Receives from construction until `stop` or `ended`. */
export class Receiver {
  readonly #events: ReceiverEvents;
  readonly #carrier: Carrier;
  readonly #decoder: WebCodecsDecoder;
  readonly #video: VideoFeed;
  readonly #sound: SoundDecoder;
  #lateness = new Lateness();
  #playout = new Playout();
  #startedAt: number | null = null;
  #clock: SoundClock | null = null;
  readonly #waiting: { readonly frame: VideoDecodedFrame; readonly cancel: () => void }[] = [];
  #audioTrack: AudioTrack | null = null;
  #hasVideo = false;
  #stopped = false;
  #audioReportedAt = -Infinity;

  constructor(source: Source, events: ReceiverEvents) {
    this.#events = events;
    this.#decoder = new WebCodecsDecoder({
      frame: (frame) => this.#decoded(frame),
      failed: () => this.#video.decoderFailed(),
      unsupported: (reason) => this.#end({ kind: "unsupported", reason }),
    });
    this.#video = new VideoFeed(this.#decoder, {
      dropped: (count) => events.dropped(count),
      fed: () => events.fed(1),
      keyframeNeeded: () => this.#carrier.send(KEYFRAME_REQUEST),
    });
    this.#sound = new SoundDecoder({
      decoded: (time) => {
        const now = performance.now();
        this.#playout.decoded("audio", time / 1000, now);
        if (this.#clock === null) return null;
        const dueAt = this.#playout.dueAt(time / 1000, this.#clock.latency, now);
        return this.#clock.context + (dueAt + performance.timeOrigin - this.#clock.heardAt) / 1000;
      },
      failed: (reason) => this.#soundFailed(reason),
    });
    this.#carrier = new Carrier(source, {
      bytes: (count) => events.bytes(count),
      frame: (frame, gap, arrivedAt) => this.#frame(frame, gap, arrivedAt),
      carrier: (name) => {
        // Another path has other queues, and what was late on the one that failed says nothing of it.
        this.#lateness = new Lateness();
        events.carrier(name);
      },
      webTransportBlocked: () => events.webTransportBlocked(),
      ended: (ending) => this.#end(ending),
    });
  }

  /** Plays sound through this port of an audio worklet, or none. */
  setSound(port: MessagePort | null): void {
    this.#sound.setPort(port);
    if (port !== null) return;
    this.#clock = null;
    this.#playout = new Playout();
  }

  setClock(clock: SoundClock): void {
    this.#clock = clock;
  }

  /** Closes connection and decoders. No event follows. */
  stop(): void {
    this.#stopped = true;
    this.#carrier.stop();
    for (const { frame, cancel } of this.#waiting.splice(0)) {
      cancel();
      frame.close();
    }
    this.#decoder.close();
    this.#sound.close();
  }

  #end(ending: Ending): void {
    if (this.#stopped) return;
    this.stop();
    this.#events.ended(ending);
  }

  /** Another run of the stream has other times. */
  #followRun({ catalogue: { startedAt } }: CodedFrame): void {
    if (startedAt === this.#startedAt) return;
    if (this.#startedAt !== null) {
      this.#playout = new Playout();
      this.#lateness = new Lateness();
    }
    this.#startedAt = startedAt;
  }

  #frame(frame: CodedFrame, gap: boolean, arrivedAt: number): void {
    if (this.#stopped) return;
    this.#followRun(frame);
    this.#followTracks(frame);
    const { track, time } = frame;
    if (track.kind === "video") {
      const queued = this.#lateness.arrived(time / 1000, arrivedAt);
      if (queued !== null) this.#events.queueingDelay(queued);
      this.#video.frame(frame, track, gap, arrivedAt);
    } else if (track === this.#audioTrack) {
      if (!this.#hasVideo) this.#audioArrived(arrivedAt);
      this.#sound.frame(frame);
    }
  }

  /** Audio without video counts as played when it arrives, as it does in a muted video element. */
  #audioArrived(now: number): void {
    this.#events.fed(1);
    if (now - this.#audioReportedAt < AUDIO_ONLY_MS || !this.#sound.isSupported) return;
    this.#audioReportedAt = now;
    this.#events.audioPlayed();
  }

  /** The sound is the first audio track of the catalogue. */
  #followTracks({ track, catalogue: { tracks } }: CodedFrame): void {
    this.#hasVideo = tracks.some((track) => track?.kind === "video");
    const first = tracks.find((track): track is AudioTrack => track?.kind === "audio") ?? null;
    if (first === this.#audioTrack || (first !== null && first !== track)) return;
    this.#audioTrack = first;
    this.#sound.setTrack(first, () => {
      if (first === null) return;
      this.#events.audio(true);
      this.#events.soundFound(first.sampleRate, first.channels);
    });
  }

  /** The picture goes on. */
  #soundFailed(reason: string): void {
    if (this.#stopped) return;
    this.#events.audio(false);
    if (!this.#hasVideo) this.#end({ kind: "unsupported", reason });
  }

  #decoded(image: VideoFrame): void {
    const now = performance.now();
    const time = image.timestamp / 1000;
    const track = this.#video.track;
    const frame = {
      image,
      ...displayGeometry(image, track?.geometry ?? null),
      arrivedAt: this.#video.frameDecoded(image.timestamp) ?? now,
      close: () => image.close(),
    };
    this.#playout.decoded("video", time, now);
    const wait = this.#clock === null ? 0 : this.#playout.dueAt(time, this.#clock.latency, now) - now - DRAW_AHEAD_MS;
    // Later frames do not overtake those that wait.
    if (wait <= 0 && this.#waiting.length === 0) {
      this.#events.frame(frame);
      return;
    }
    const timer = setTimeout(() => this.#show(frame), Math.max(0, wait));
    this.#waiting.push({ frame, cancel: () => clearTimeout(timer) });
    const [first] = this.#waiting;
    if (this.#waiting.length > MAX_WAITING && first !== undefined) this.#show(first.frame);
  }

  /** Displays a frame that has waited; those before it are too late. */
  #show(frame: VideoDecodedFrame): void {
    const index = this.#waiting.findIndex((waiting) => waiting.frame === frame);
    for (const { frame: due, cancel } of this.#waiting.splice(0, index + 1)) {
      cancel();
      this.#events.frame(due);
    }
  }
}
