// Decides what of a `webcodecs` stream goes to the video decoder, and when. Decoder and clock are passed in, like those
// of `NalFeed`.

import { hasIdr } from "../media/avcc";
import type { CodedFrame, VideoTrack } from "../media/records";
import { BURST_LIMIT, DecoderLag } from "./decoder_lag";
import { StartPoints } from "./start_points";
import type { Decoder, FeedEvents } from "./video_decoder";

/** What happens to frames, and what the decoder needs. */
export interface VideoFeedEvents extends FeedEvents {
  /** Decoding can go on only from an independent frame, and the next one may be far. */
  keyframeNeeded(): void;
}

/** After this time (ms) without an independent frame, and again, one is asked for. */
const KEYFRAME_MS = 1000;

/** Handles the video frames of one connection, in order. Times are ms on one monotonic clock. */
export class VideoFeed {
  readonly #decoder: Decoder;
  readonly #events: VideoFeedEvents;
  readonly #lag = new DecoderLag();
  #startPoints = new StartPoints();
  #track: VideoTrack | null = null;
  #configured = false;
  #waitsForKey = true;
  /** Since when, or since it was asked for; null before the first frame that has to be left out. */
  #waitsSince: number | null = null;
  /** Decoding started with this group, so the frames that its leading frames refer to were not decoded. */
  #skipsLeading = true;
  /** Arrival times of the frames in the decoder, by their presentation times. */
  readonly #arrivals = new Map<number, number>();

  constructor(decoder: Decoder, events: VideoFeedEvents) {
    this.#decoder = decoder;
    this.#events = events;
  }

  /** The track whose frames are being decoded. */
  get track(): VideoTrack | null {
    return this.#track;
  }

  /** Handles one frame, which arrived at `arrivedAt`. `gap`: frames before it are missing. */
  frame(frame: CodedFrame, track: VideoTrack, gap: boolean, arrivedAt: number): void {
    const behind = this.#lag.isBehind(this.#decoder.decodeQueueSize, arrivedAt);
    const changed = track !== this.#track;
    if (changed) {
      this.#configured = false;
      this.#startPoints = new StartPoints();
    }
    this.#track = track;
    if (gap || behind || changed) this.#waitsForKey = true;
    const idr = frame.independent && hasIdr(frame.data, track.config);
    const key = this.#startPoints.includes(idr, frame.independent);
    if (key || (frame.independent && !this.#waitsForKey)) {
      this.#skipsLeading = this.#waitsForKey;
      this.#waitsForKey = false;
      this.#waitsSince = null;
      if (!this.#configured || behind) this.#configure(track, arrivedAt);
    } else if (this.#waitsForKey || (frame.leading && this.#skipsLeading)) {
      this.#events.dropped(1);
      if (this.#waitsForKey) this.#leftOut(arrivedAt);
      return;
    }
    this.#arrivals.set(frame.time, arrivedAt);
    const [oldest] = this.#arrivals.keys();
    if (this.#arrivals.size > BURST_LIMIT && oldest !== undefined) this.#arrivals.delete(oldest);
    this.#decoder.decode({
      key,
      recovery: key && !idr,
      timestamp: frame.time,
      data: frame.data,
    });
    this.#events.fed();
  }

  /** The decoder has output the frame with this presentation time (µs). Returns when it arrived, if that is known. */
  frameDecoded(time: number): number | null {
    this.#lag.frameDecoded();
    const arrivedAt = this.#arrivals.get(time) ?? null;
    this.#arrivals.delete(time);
    return arrivedAt;
  }

  /** The decoder failed and lost its state; decoding resumes at the next independent frame. */
  decoderFailed(): void {
    this.#configured = false;
    this.#waitsForKey = true;
    this.#waitsSince = null;
    this.#events.keyframeNeeded();
  }

  /** A frame that arrived now was of no use without an independent one. */
  #leftOut(now: number): void {
    this.#waitsSince ??= now;
    if (now - this.#waitsSince < KEYFRAME_MS) return;
    this.#waitsSince = now;
    this.#events.keyframeNeeded();
  }

  #configure(track: VideoTrack, now: number): void {
    this.#configured = true;
    this.#arrivals.clear();
    this.#lag.restarted(now);
    this.#decoder.configure(track.codec, track.config);
  }
}
