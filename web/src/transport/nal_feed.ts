// Decides what of a `nal` stream goes to the decoder, and when. Socket, decoder and clock are passed in, so that lost
// keyframes, bursts and changing parameter sets can be tested one message at a time.

import { type AccessUnit, codecString, inspect, mergeParameters, sameBytes, withParameters } from "../media/annexb";
import { DecoderLag } from "./decoder_lag";
import { StartPoints } from "./start_points";
import type { Decoder, FeedEvents } from "./video_decoder";

/** Limit for stored parameter sets in bytes; a stream that exceeds it is not sending parameter sets. */
const PARAMETERS_LIMIT = 64 * 1024;

/** Handles the messages of one connection. */
export class NalFeed {
  readonly #decoder: Decoder;
  readonly #events: FeedEvents;
  #parameters: Uint8Array | null = null;
  #sps: Uint8Array | null = null;
  #configured: Uint8Array | null = null;
  #waitsForKey = true;
  readonly #startPoints = new StartPoints();
  /** Decoding started at a recovery point, and no frame that follows it in presentation order has arrived. */
  #atRecovery = false;
  readonly #lag = new DecoderLag();
  #lastTimestamp = -1;

  constructor(decoder: Decoder, events: FeedEvents) {
    this.#decoder = decoder;
    this.#events = events;
  }

  /**
   * Handles one message, an access unit in Annex B format that arrived at `now` (µs; made strictly increasing here).
   * Returns true for a header: parameter sets without a frame, which start a track.
   */
  message(bytes: Uint8Array, now: number): boolean {
    const unit = inspect(bytes);
    if (unit.sps !== null) this.#sps = unit.sps.slice();
    if (unit.parameters !== null && unit.parameters.length <= PARAMETERS_LIMIT) this.#storeParameters(unit.parameters, unit.sps !== null);
    if (unit.picture) this.#handleFrame(unit, bytes, now);
    return !unit.picture && unit.sps !== null;
  }

  #handleFrame(unit: AccessUnit, bytes: Uint8Array, now: number): void {
    const key = this.#startPoints.includes(unit.idr, unit.recovery);
    const behind = this.#lag.isBehind(this.#decoder.decodeQueueSize, now / 1000);
    if (!key) {
      if (behind) this.#waitsForKey = true;
      if (this.#waitsForKey) {
        this.#events.dropped(1);
        return;
      }
      // B pictures that directly follow the I picture of an open GOP precede it in presentation order, and depend on
      // frames that were not decoded here.
      if (this.#atRecovery && unit.bidirectional) {
        this.#events.dropped(1);
        return;
      }
      this.#atRecovery = false;
    } else if (!this.#prepareDecoder(behind, !unit.idr)) {
      this.#events.dropped(1);
      return;
    } else if (behind) {
      this.#lag.restarted(now / 1000);
    }
    const complete = !key || (unit.sps !== null && unit.hasPps) || this.#parameters === null;
    this.#lastTimestamp = Math.max(this.#lastTimestamp + 1, Math.round(now));
    this.#decoder.decode({
      key,
      recovery: key && !unit.idr,
      timestamp: this.#lastTimestamp,
      data: complete || this.#parameters === null ? bytes : withParameters(bytes, unit.insertAt, this.#parameters),
    });
    this.#events.fed();
  }

  /** The decoder has output a frame: the stream can be decoded. */
  frameDecoded(): void {
    this.#lag.frameDecoded();
  }

  /** The decoder failed and lost its state; decoding resumes at the next keyframe. */
  decoderFailed(): void {
    this.#configured = null;
    this.#waitsForKey = true;
  }

  /** Prepares the decoder for a keyframe. Returns false if no SPS has arrived yet. */
  #prepareDecoder(behind: boolean, recovery: boolean): boolean {
    if (this.#sps === null) return false;
    const changed = this.#configured === null || !sameBytes(this.#configured, this.#sps);
    if (changed || behind) {
      const codec = codecString(this.#sps);
      if (codec === null) return false;
      this.#decoder.configure(codec);
      this.#configured = this.#sps;
    }
    this.#atRecovery = recovery && (changed || behind || this.#waitsForKey);
    this.#waitsForKey = false;
    return true;
  }

  #storeParameters(parameters: Uint8Array, withSps: boolean): void {
    // A message with an SPS replaces all parameter sets; one with a PPS alone adds to them.
    if (withSps || this.#parameters === null) {
      this.#parameters = parameters;
    } else {
      // A PPS may arrive with every frame, the same one or a new one with the same id.
      const merged = mergeParameters(this.#parameters, parameters);
      if (merged.length <= PARAMETERS_LIMIT) this.#parameters = merged;
    }
  }
}
