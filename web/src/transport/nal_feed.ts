// Decides what of a `nal` stream goes to the decoder, and when. No socket, no decoder, no clock: those are handed in, so
// that lost keyframes, bursts and changing parameter sets can be tested one message at a time.

import { type AccessUnit, codecString, inspect, mergeParameters, sameBytes, withParameters } from "../media/annexb";

/** One access unit for the decoder, in Annex B form. */
export interface Unit {
  readonly key: boolean;
  /** A key that is no IDR picture but a recovery point. Not every decoder starts there. */
  readonly recovery: boolean;
  /** When it came, in µs; rises from unit to unit. */
  readonly timestamp: number;
  readonly data: Uint8Array;
}

/** The decoder as the feed needs it. */
export interface Decoder {
  /** Starts anew for this codec string; what is queued is forgotten. */
  configure(codec: string): void;
  decode(unit: Unit): void;
  /** Units that wait to be decoded. */
  readonly queued: number;
}

/** What becomes of the pictures: each is told once, by one of these. */
export interface FeedEvents {
  /** So many were left out. */
  dropped(count: number): void;
  /** One went into the decoder. */
  fed(): void;
}

/** More waiting than this means that the decoder is behind. */
const QUEUE_LIMIT = 4;

/** Behind for longer than this (µs), and the rest up to the next keyframe is left out. A network or a busy page delivers in bursts, which pass. */
const BEHIND_LIMIT = 500_000;

/** A viewer gets the newest group at once when it joins; decoding that may take this long (µs). */
const CATCH_UP_LIMIT = 3_000_000;

/** Never more than this waits, however short the time. */
const BURST_LIMIT = 900;

/** Parameter sets kept for the next keyframe, in bytes; a stream that sends more is not sending parameter sets. */
const PARAMETERS_LIMIT = 64 * 1024;

/** Takes the messages of one connection. */
export class NalFeed {
  readonly #decoder: Decoder;
  readonly #events: FeedEvents;
  #parameters: Uint8Array | null = null;
  #sps: Uint8Array | null = null;
  #configured: Uint8Array | null = null;
  #waitsForKey = true;
  #sawIdr = false;
  #recoveries = 0;
  /** Decoding began at a recovery point, and no picture has come that is shown behind it. */
  #atRecovery = false;
  #catchingUp = true;
  #shown = false;
  #keptUpAt: number | null = null;
  #lastTimestamp = -1;

  constructor(decoder: Decoder, events: FeedEvents) {
    this.#decoder = decoder;
    this.#events = events;
  }

  /**
   * Takes one message, an access unit in Annex B form, that arrived at `now` (µs; made strictly rising here).
   * True if it is a header: parameter sets without a picture, which begin a track.
   */
  message(bytes: Uint8Array, now: number): boolean {
    const unit = inspect(bytes);
    if (unit.sps !== null) this.#sps = unit.sps.slice();
    if (unit.parameters !== null && unit.parameters.length <= PARAMETERS_LIMIT) this.#keep(unit.parameters, unit.sps !== null);
    if (unit.picture) this.#picture(unit, bytes, now);
    return !unit.picture && unit.sps !== null;
  }

  #picture(unit: AccessUnit, bytes: Uint8Array, now: number): void {
    const key = this.#isKey(unit.idr, unit.recovery);
    const full = this.#isBehind(now);
    if (!key) {
      if (full) this.#waitsForKey = true;
      if (this.#waitsForKey) {
        this.#events.dropped(1);
        return;
      }
      // B pictures right behind the I picture of an open group are shown before it, and made from what was not decoded here.
      if (this.#atRecovery && unit.bidirectional) {
        this.#events.dropped(1);
        return;
      }
      this.#atRecovery = false;
    } else if (!this.#begin(full, !unit.idr)) {
      this.#events.dropped(1);
      return;
    } else if (full) {
      this.#keptUpAt = now;
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

  /** A picture came out: the stream decodes. */
  shown(): void {
    this.#shown = true;
  }

  /** The decoder failed and forgot everything: goes on at the next keyframe. */
  decoderFailed(): void {
    this.#configured = null;
    this.#waitsForKey = true;
  }

  /**
   * Where a stream has IDR pictures, decoding starts at those. One that has none, or had its only one at its beginning
   * (intra refresh), is started at recovery points.
   */
  #isKey(idr: boolean, recovery: boolean): boolean {
    if (idr) {
      this.#sawIdr = true;
      this.#recoveries = 0;
    } else if (recovery) {
      this.#recoveries++;
    }
    return idr || (recovery && (!this.#sawIdr || this.#recoveries > 1));
  }

  #isBehind(now: number): boolean {
    const queued = this.#decoder.queued;
    if (queued <= QUEUE_LIMIT) {
      if (this.#shown) this.#catchingUp = false;
      this.#keptUpAt = now;
      return false;
    }
    const since = now - (this.#keptUpAt ?? now);
    return queued > BURST_LIMIT || since > (this.#catchingUp ? CATCH_UP_LIMIT : BEHIND_LIMIT);
  }

  /** Readies the decoder for a keyframe. False if the stream has not said yet what it is. */
  #begin(full: boolean, recovery: boolean): boolean {
    if (this.#sps === null) return false;
    const changed = this.#configured === null || !sameBytes(this.#configured, this.#sps);
    if (changed || full) {
      const codec = codecString(this.#sps);
      if (codec === null) return false;
      this.#decoder.configure(codec);
      this.#configured = this.#sps;
    }
    this.#atRecovery = recovery && (changed || full || this.#waitsForKey);
    this.#waitsForKey = false;
    return true;
  }

  #keep(parameters: Uint8Array, withSps: boolean): void {
    // A message with an SPS says everything anew; one with a PPS alone adds to what is known.
    if (withSps || this.#parameters === null) {
      this.#parameters = parameters;
    } else {
      // A PPS may come with every picture, the same or another one of the same id.
      const merged = mergeParameters(this.#parameters, parameters);
      if (merged.length <= PARAMETERS_LIMIT) this.#parameters = merged;
    }
  }
}
