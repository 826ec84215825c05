// Reads the records of `webcodecs`: catalogues of tracks, and frames. docs/reference/http.md describes the format.
// Whatever arrives, memory is bounded, and damage ends with a reason.

import { list, number, object, text } from "../net/json";
import { type Geometry, geometry } from "./geometry";

/** A track of the catalogue that this player can use. */
export type MediaTrack = VideoTrack | AudioTrack;

interface CodedTrack {
  readonly codec: string;
  /** The decoder's configuration (avcC, AudioSpecificConfig); empty if there is none. */
  readonly config: Uint8Array;
  /** Ticks per second. */
  readonly timescale: number;
}

export interface VideoTrack extends CodedTrack {
  readonly kind: "video";
  readonly geometry: Geometry;
}

export interface AudioTrack extends CodedTrack {
  readonly kind: "audio";
  readonly sampleRate: number;
  readonly channels: number;
}

/** The tracks that frames refer to by index; null for those that this player does not know. */
export interface Catalogue {
  /** Start of this run of the stream, in Unix µs. Another run has other times. */
  readonly startedAt: number;
  readonly tracks: readonly (MediaTrack | null)[];
}

/** One coded frame. */
export interface CodedFrame {
  readonly track: MediaTrack;
  /** The catalogue that the frame refers to. */
  readonly catalogue: Catalogue;
  /** Number of its group. */
  readonly group: number;
  /** Whether decoding can start here. */
  readonly independent: boolean;
  /** Whether it may need frames before the one that its group starts with. */
  readonly leading: boolean;
  /** Presentation time in µs. */
  readonly time: number;
  readonly data: Uint8Array;
}

/** What is wrong with the input. */
export class RecordError extends Error {
  /** Whether this player can never read such a stream. */
  readonly unsupported: boolean;

  constructor(message: string, unsupported = false) {
    super(message);
    this.unsupported = unsupported;
  }
}

/** Bytes of the length field, which does not count itself. */
const LENGTH_FIELD = 4;
const CATALOGUE = 0;
const FRAME = 1;
/** Bytes of a frame's record before the frame. */
const FRAME_HEADER = 24;
const VERSION = 1;
/** Maximum length of a record in bytes: no frame is that large. */
export const MAX_RECORD = 16 * 1024 * 1024;
const MAX_CATALOGUE = 64 * 1024;
/** Streams with an older catalogue may arrive between those with the newest. */
const KNOWN_CATALOGUES = 4;
/** The record by which a client asks for a frame that is decodable by itself. */
export const KEYFRAME_REQUEST = Uint8Array.of(0, 0, 0, 1, 2);
const INDEPENDENT = 1;
const LEADING = 2;

/**
 * The last catalogues. One with the same text is the same object, on whichever stream it comes. So is a track that is
 * also in a later one of the same run: its decoder goes on.
 */
export class Catalogues {
  /** By their texts, the newest last. */
  readonly #known = new Map<string, Catalogue>();

  read(json: Uint8Array): Catalogue {
    if (json.length > MAX_CATALOGUE) throw new RecordError(`the gateway sent a catalogue of ${json.length} bytes`);
    const text = new TextDecoder().decode(json);
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const { startedAt, tracks } = parseCatalogue(text);
    const earlier = [...this.#known.values()].filter((other) => other.startedAt === startedAt).flatMap((other) => other.tracks);
    const catalogue = { startedAt, tracks: tracks.map((track) => earlier.find((other) => sameTrack(track, other)) ?? track) };
    this.#known.set(text, catalogue);
    const [oldest] = this.#known.keys();
    if (this.#known.size > KNOWN_CATALOGUES && oldest !== undefined) this.#known.delete(oldest);
    return catalogue;
  }
}

/** Reads one sequence of records: a WebSocket, or one stream of WebTransport. */
export class RecordReader {
  readonly #catalogues: Catalogues;
  #catalogue: Catalogue | null = null;
  readonly #lengthField = new Uint8Array(LENGTH_FIELD);
  /** The record that is being received, after its length field is known. */
  #record: Uint8Array | null = null;
  /** Bytes of the length field or the record that have arrived. */
  #filled = 0;

  constructor(catalogues: Catalogues) {
    this.#catalogues = catalogues;
  }

  /** Whether the bytes so far end with a record. */
  get isComplete(): boolean {
    return this.#record === null && this.#filled === 0;
  }

  /** Reads the next bytes of a stream. Returns the frames that are complete now. Throws `RecordError`. */
  push(bytes: Uint8Array): CodedFrame[] {
    const frames: CodedFrame[] = [];
    for (let at = 0; at < bytes.length; ) {
      const target = this.#record ?? this.#lengthField;
      const piece = bytes.subarray(at, at + target.length - this.#filled);
      target.set(piece, this.#filled);
      at += piece.length;
      this.#filled += piece.length;
      if (this.#filled < target.length) break;
      this.#filled = 0;
      if (this.#record === null) {
        this.#record = new Uint8Array(checkedLength(this.#lengthField));
      } else {
        this.#record = null;
        const frame = this.#read(target);
        if (frame !== null) frames.push(frame);
      }
    }
    return frames;
  }

  /** Reads a message, which is one record. Null if that is not a frame for this player. Throws `RecordError`. */
  message(bytes: Uint8Array): CodedFrame | null {
    const length = bytes.length < LENGTH_FIELD ? null : checkedLength(bytes);
    if (length !== bytes.length - LENGTH_FIELD) throw new RecordError(`the gateway sent a message of ${bytes.length} bytes with a wrong length field`);
    return this.#read(bytes.subarray(LENGTH_FIELD));
  }

  /** Reads a record without its length field. */
  #read(record: Uint8Array): CodedFrame | null {
    switch (record[0]) {
      case CATALOGUE:
        this.#catalogue = this.#catalogues.read(record.subarray(1));
        return null;
      case FRAME:
        return this.#frame(record);
      default:
        return null;
    }
  }

  #frame(record: Uint8Array): CodedFrame | null {
    const header = FRAME_HEADER - LENGTH_FIELD;
    if (record.length < header) throw new RecordError(`the gateway sent a frame of ${record.length} bytes, less than its header`);
    const catalogue = this.#catalogue;
    if (catalogue === null) throw new RecordError("the gateway sent a frame before the catalogue");
    const [, index = 0, flags = 0] = record;
    const track = catalogue.tracks[index] ?? null;
    if (track === null) return null;
    const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
    const ticks = Number(view.getBigInt64(12));
    return {
      track,
      catalogue,
      group: Number(view.getBigUint64(4)),
      independent: (flags & INDEPENDENT) !== 0,
      leading: (flags & LEADING) !== 0,
      time: Math.round((ticks * 1_000_000) / track.timescale),
      data: record.subarray(header),
    };
  }
}

/** Reads a length field. */
function checkedLength(field: Uint8Array): number {
  const length = new DataView(field.buffer, field.byteOffset).getUint32(0);
  if (length === 0 || length > MAX_RECORD) throw new RecordError(`the gateway sent a record of ${length} bytes; it may have 1 to ${MAX_RECORD}`);
  return length;
}

function parseCatalogue(json: string): Catalogue {
  let fields: Record<string, unknown> | null = null;
  try {
    fields = object(JSON.parse(json));
  } catch {
    // The same as JSON that is not an object.
  }
  if (fields === null) throw new RecordError("the gateway sent a catalogue that is not a JSON object");
  const version = number(fields["version"]);
  if (version !== VERSION) throw new RecordError(`this player reads version ${VERSION} of the format, and the gateway sends ${version}: reload the page`, true);
  return { startedAt: number(fields["startedAt"]) ?? 0, tracks: list(fields["tracks"]).map(parseTrack) };
}

function parseTrack(fields: Record<string, unknown>): MediaTrack | null {
  const timescale = number(fields["timescale"]);
  const config = fromBase64(text(fields["config"]));
  const codec = text(fields["codec"]);
  if (codec === "" || config === null || timescale === null || timescale <= 0) return null;
  const coded = { codec, config, timescale };
  if (text(fields["format"]) === "h264/avcc") {
    // As coded if a newer gateway describes it otherwise.
    const asCoded: Geometry = { orientation: { rotation: 0, mirrored: false }, pixelAspect: [1, 1] };
    return { kind: "video", ...coded, geometry: geometry(fields) ?? asCoded };
  }
  const [sampleRate, channels] = [number(fields["sampleRate"]), number(fields["channels"])];
  const known = ["aac", "opus"].includes(text(fields["format"]));
  if (!known || sampleRate === null || channels === null || sampleRate <= 0 || channels <= 0) return null;
  return { kind: "audio", ...coded, sampleRate, channels };
}

function sameTrack(one: MediaTrack | null, other: MediaTrack | null): boolean {
  const fields = (track: MediaTrack | null): string => JSON.stringify(track && { ...track, config: [...track.config] });
  return fields(one) === fields(other);
}

/** Decodes Base64; null if it is not valid. */
function fromBase64(encoded: string): Uint8Array | null {
  try {
    return Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
}
