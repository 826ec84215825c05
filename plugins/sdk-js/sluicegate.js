// @ts-check
/// <reference path="./gateway.d.ts" />
/**
 * SDK for Sluicegate transports in JavaScript: WebAssembly components that define what viewers receive on the wire.
 *
 * A transport is a class, which {@link component} turns into what the module exports:
 *
 *     export const transport = component(class { constructor(options) { this.profile = … } … });
 *
 * The host opens one instance for each stream and serves any number of viewers from its output. Payload stays with the
 * host: a transport gets {@link Buffer}s, joins slices of them with bytes of its own by {@link join}, and returns the
 * result. Handles need no care: they are freed once nothing refers to them. A buffer that was returned is void.
 *
 * The one rule: what `push` returns may depend only on the options, the newest `configure` and the samples since the
 * group began. Then the host can replace an instance at any time without viewers noticing.
 */
import { write } from "sluicegate:gateway/log";
import { Buffer } from "sluicegate:gateway/media";
import { find, keyframe, Viewer } from "sluicegate:gateway/viewers";

export { Buffer, Viewer, keyframe as requestKeyframe };

/**
 * @typedef {import("sluicegate:gateway/media").Piece} Piece
 * @typedef {import("sluicegate:gateway/media").Payload} Payload
 * @typedef {import("sluicegate:gateway/media").Sample} Sample
 * @typedef {import("sluicegate:gateway/media").Track} Track
 * @typedef {import("sluicegate:gateway/media").Video} Video
 * @typedef {import("sluicegate:gateway/transport").Transport} Exports
 * @typedef {import("sluicegate:gateway/transport").Profile} FullProfile
 * @typedef {import("sluicegate:gateway/transport").Lane} Lane
 * @typedef {import("sluicegate:gateway/transport").StreamInfo} StreamInfo
 * @typedef {import("sluicegate:gateway/transport").Message} Message
 * @typedef {import("sluicegate:gateway/transport").Response} Response
 * @typedef {import("sluicegate:gateway/transport").Reply} Reply
 */

/**
 * A profile, of which only `carriers` and `formats` are needed. Without lanes the transport only answers requests.
 * @typedef {Partial<Omit<FullProfile, "lanes">> & Pick<FullProfile, "carriers" | "formats"> &
 *   { lanes?: Partial<Lane>[] }} Profile
 */

/**
 * Content of one message, or the next bytes of a body. A string is a text message; carriers without text skip it.
 * @typedef {Buffer | Uint8Array | string} Content
 */

/**
 * Output for every viewer of a lane; see `chunk` of the transport interface. Lane 0, not independent and not leading
 * if it does not say otherwise.
 * @typedef {{ payload: Content, lane?: number, independent?: boolean, leading?: boolean,
 *   time?: import("sluicegate:gateway/transport").MediaTime | null }} Chunk
 */

/**
 * A transport: the interface `transport` of gateway.d.ts, which documents units, limits and the order of calls in full.
 * The constructor gets the options as an object and throws a {@link Refusal} of wrong ones.
 * @typedef {object} Transport
 * @property {Profile} profile
 * @property {(info: StreamInfo) => Content[]} configure The header, which each viewer gets first.
 * @property {(sample: Sample) => Chunk[]} push The chunks that are complete now.
 * @property {(reason: string, final: boolean) => Chunk[]} [stop] What was held back.
 * @property {(path: string, query: string) => Reply} [request] Must not change what later calls answer.
 * @property {(viewer: Viewer) => void} [join] Throws a {@link Refusal} of a viewer that gets status 400. By default all
 *   viewers at the transport itself are accepted, and none below it.
 * @property {(viewer: Viewer, message: Message) => void} [received]
 * @property {(viewer: number) => void} [leave]
 */

/** Thrown by a constructor or `join`: refuses the options or the viewer, with a sentence for people. */
export class Refusal extends Error {}

/** Lines in the gateway's log. An error is shown if the call then fails, and otherwise at debug level only. */
export const log = {
  /** @param {unknown} message */
  error: (message) => write("error", String(message)),
  /** @param {unknown} message */
  warn: (message) => write("warn", String(message)),
  /** @param {unknown} message */
  info: (message) => write("info", String(message)),
  /** @param {unknown} message */
  debug: (message) => write("debug", String(message)),
};

/**
 * What a module exports as `transport`. An exception in the class is logged with its stack and ends the instance; the
 * host starts a new one, and viewers stay connected.
 * @param {new (options: any) => Transport} Type
 * @returns {Exports}
 */
export function component(Type) {
  if (typeof Type !== "function") throw new TypeError(`\`component\` takes the class of a transport, not ${shown(Type)}`);
  /** @type {any} */
  let transport;
  /** Calls a method. @param {string} name @param {any[]} given */
  const call = (name, ...given) => {
    const value = transport[name](...given);
    if (typeof value?.then === "function") {
      throw new TypeError(
        `\`${name}\` is async or returned a Promise: a component has no event loop; return the result directly`,
      );
    }
    return value;
  };
  return {
    open: guard((options) => {
      transport = new Type(JSON.parse(options || "{}"));
      for (const [name, byDefault] of Object.entries(METHODS)) {
        const method = transport[name] ?? byDefault;
        if (method === null) throw new TypeError(`the transport has no method \`${name}\``);
        if (typeof method !== "function") throw new TypeError(`\`${name}\` is ${shown(method)}, not a method`);
        transport[name] = method;
      }
      const profile = complete("profile", transport.profile, PROFILE);
      return { ...profile, lanes: profile.lanes.map((lane) => complete("lane", lane, LANE)) };
    }, true),
    configure: guard((info) => array("configure", call("configure", info)).map(payload)),
    push: guard((sample) => array("push", call("push", sample)).map(lower)),
    stop: guard((reason, final) => array("stop", call("stop", reason, final)).map(lower)),
    request: guard((path, query) => answer(call("request", path, query))),
    join: guard((viewer) => call("join", viewer), true),
    received: guard((id, message) => {
      const viewer = find(id);
      if (viewer) call("received", viewer, message);
    }),
    leave: guard((id) => call("leave", id)),
  };
}

/** The methods of a transport, with what those do that it need not have. @type {Record<string, Function | null>} */
const METHODS = {
  configure: null,
  push: null,
  stop: () => [],
  /** @param {string} path */
  request: (path) => reply.notFound(path),
  /** @param {Viewer} viewer */
  join: (viewer) => {
    if (viewer.path() !== "") throw new Refusal(`this transport has nothing at "${viewer.path()}"`);
  },
  received: () => {},
  leave: () => {},
};

/**
 * A buffer of these pieces in order: bytes, text as UTF-8, whole buffers, or a {@link slice}.
 * @param {...(Uint8Array | string | Buffer | Piece)} pieces
 */
export function join(...pieces) {
  return new Buffer(pieces.map(piece));
}

/**
 * A range of a buffer, in bytes, as a piece of another one. A range that is not in the buffer ends the instance.
 * @param {Buffer} source
 * @param {number} offset
 * @param {number} length
 * @returns {Piece}
 */
export function slice(source, offset, length) {
  if (!(source instanceof Buffer)) throw new TypeError(`the source of a slice is ${shown(source)}, not a Buffer`);
  complete("slice", { offset, length }, { offset: 0, length: 0 });
  return { tag: "slice", val: { source, offset, length } };
}

/**
 * A chunk with the properties of the sample, and its data or another payload.
 * @param {Sample} sample
 * @param {Content} payload
 * @returns {Chunk}
 */
export function chunk(sample, payload = sample.data) {
  return { payload, independent: sample.independent, leading: sample.leading };
}

/**
 * Content as a message of its own, for `viewer.send`. A buffer is given away.
 * @param {Content} content
 * @returns {Payload}
 */
export function payload(content) {
  if (typeof content === "string") return { tag: "text", val: content };
  if (content instanceof Buffer) {
    if (returned.has(content)) throw new TypeError("a buffer was returned before; return `join(buffer)`");
    returned.add(content);
    return { tag: "binary", val: content };
  }
  if (content instanceof Uint8Array) return { tag: "binary", val: join(content) };
  throw new TypeError(`a payload is a Buffer, a Uint8Array or a string, not ${shown(content)}`);
}

/**
 * The video track and its properties; null if the stream has no video.
 * @param {StreamInfo} info
 * @returns {{ track: Track, video: Video } | null}
 */
export function video(info) {
  for (const track of info.tracks) {
    if (track.kind.tag === "video") return { track, video: track.kind.val };
  }
  return null;
}

/**
 * SPS and PPS of an avcC record (ISO/IEC 14496-15, 5.3.3.1.2), the `config` of an H.264 track, in Annex B format: each
 * behind a 4-byte start code, in their order.
 * @param {Uint8Array} avcc
 */
export function parameterSets(avcc) {
  const sets = [];
  let at = 5;
  for (const mask of [0x1f, 0xff]) {
    for (let left = avcc[at++] & mask; left > 0; left--) {
      const end = at + 2 + avcc[at] * 256 + avcc[at + 1];
      if (!(end <= avcc.length)) throw new RangeError(`an avcC record of ${avcc.length} bytes is truncated`);
      sets.push(0, 0, 0, 1, ...avcc.subarray(at + 2, end));
      at = end;
    }
  }
  return Uint8Array.from(sets);
}

/**
 * A new handle of a connected viewer, by its id; null if it is not connected.
 * @param {number} id
 */
export function findViewer(id) {
  if (typeof id !== "number") throw new TypeError(`the id of a viewer is ${shown(id)}, not a number`);
  return find(id);
}

/** `maxAge` of content that never changes under its URL. */
export const FOREVER = 0xffffffff;

/** Answers to a GET. */
export const reply = {
  /** Not available yet: the host calls again when something has changed. @type {Reply} */
  pending: { tag: "pending" },
  /**
   * Respond 200 with this content type, then `join` the client as a viewer.
   * @param {string} contentType
   * @returns {Reply}
   */
  follow: (contentType) => ({ tag: "follow", val: contentType }),
  /**
   * A response: by default status 200, to be cached by nobody.
   * @param {string} contentType
   * @param {Buffer | Uint8Array | string} body
   * @param {Partial<Omit<Response, "body" | "contentType">>} more
   * @returns {Reply}
   */
  body: (contentType, body, more = {}) => ({
    tag: "done",
    val: { ...RESPONSE, contentType, ...more, body: body instanceof Buffer ? body : join(body) },
  }),
  /** @param {unknown} value */
  json: (value) => reply.body("application/json", JSON.stringify(value)),
  /** @param {number} status @param {string} text */
  text: (status, text) => reply.body("text/plain; charset=utf-8", text, { status }),
  /** @param {string} path */
  notFound: (path) => reply.text(404, `This transport has nothing at "${path}".\n`),
};

/**
 * Options with their defaults: the default of an option that is a string, a number or a boolean, and the type of what
 * is given. Others are refused by name. Durations are strings such as "2s", which {@link millis} reads.
 * @template {Record<string, string | number | boolean>} T
 * @param {Record<string, unknown>} given
 * @param {T} defaults
 * @returns {T}
 */
export function options(given, defaults) {
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(defaults, name)) {
      const known = Object.keys(defaults).map((name) => `\`${name}\``).join(", ");
      throw new Refusal(`unknown option \`${name}\`${known ? `; known: ${known}` : ": this component has no options"}`);
    }
    if (typeof value !== typeof defaults[name]) {
      const example = JSON.stringify(defaults[name]);
      throw new Refusal(`option \`${name}\`: write a ${typeof defaults[name]}, such as ${example}`);
    }
  }
  return { ...defaults, ...given };
}

/**
 * Milliseconds of a duration such as "200ms", "1.5s", "2m" or "1h".
 * @param {string} duration
 */
export function millis(duration) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(duration) ?? [];
  const exact = Number(number) * (UNITS[unit] ?? NaN);
  const length = Math.round(exact);
  if (Math.abs(exact - length) < 1e-6 && length <= 0xffffffff) return length;
  throw new Refusal(`\`${duration}\` is not a valid duration in whole milliseconds; write for example "200ms" or "2s"`);
}

/** @type {Record<string, number>} */
const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** @type {FullProfile} */
const PROFILE = {
  carriers: [], protocols: [], formats: [], lanes: [], groupMs: 0, history: 1, repeatMs: 0, latencyMs: 0,
  partialStreams: false, entry: "", label: "", embeds: [], output: "", more: [],
};
/** @type {Lane} */
const LANE = { staleMs: 0, datagrams: false };
const CHUNK = { lane: 0, independent: false, leading: false };
const RESPONSE = { status: 200, contentType: "", maxAge: 0, headers: [] };
const TIME = { track: 0, presentation: 0 };
/** The highest value of an integer that is not a u32. @type {Record<string, number>} */
const HIGHEST = { lane: 0xff, status: 0xffff, presentation: Number.MAX_SAFE_INTEGER };

/**
 * Runs a call so that an exception reaches the log, since the bindings drop its message. Of a call that may refuse they
 * take any Error for a refusal; what traps in every call is to throw something that is neither an Error nor a text.
 * @template {(...given: any[]) => any} F
 * @param {F} call
 * @param {boolean} mayRefuse
 * @returns {F}
 */
function guard(call, mayRefuse = false) {
  return /** @type {F} */ ((...given) => {
    try {
      return call(...given);
    } catch (error) {
      if (mayRefuse && error instanceof Refusal) throw error.message;
      log.error(describe(error));
      throw { payload: null };
    }
  });
}

/**
 * An exception with its stack, on one line.
 * @param {unknown} error
 */
function describe(error) {
  if (!(error instanceof Error)) return `exception: ${String(error)}`;
  const lines = `${error.name}: ${error.message}\n${error.stack}`.split("\n");
  return lines.map((line) => line.trim()).filter((line) => line).join(" | ");
}

/**
 * A record with all its fields. The bindings end an instance without a word where one is missing or of another type, so
 * that is checked here.
 * @template {Record<string, any>} T
 * @param {string} what
 * @param {Record<string, any>} given
 * @param {T} defaults
 * @returns {T}
 */
function complete(what, given, defaults) {
  if (kind(given) !== "object") throw new TypeError(`a ${what} is ${shown(given)}, not an object`);
  for (const [name, value] of Object.entries(given)) {
    const wanted = kind(defaults[name]);
    if (wanted === "undefined") throw new TypeError(`a ${what} has no "${name}"`);
    const highest = HIGHEST[name] ?? 0xffffffff;
    if (kind(value) !== wanted || (wanted === "number" && !isInteger(value, highest))) {
      const type = wanted === "number" ? `an integer from 0 to ${highest}` : wanted;
      throw new TypeError(`"${name}" of a ${what} is ${shown(value)}, not ${type}`);
    }
    if (wanted === "an array" && name !== "lanes") list(`"${name}" of a ${what}`, value, PAIRS.includes(name));
  }
  return { ...defaults, ...given };
}

/** Lists of names with values; the others but `lanes` are lists of strings. */
const PAIRS = ["more", "headers"];

/**
 * Checks the items of a list.
 * @param {string} what
 * @param {unknown[]} items
 * @param {boolean} isOfPairs
 */
function list(what, items, isOfPairs) {
  const isText = (/** @type {unknown} */ item) => typeof item === "string";
  for (const [nth, item] of items.entries()) {
    const fits = isOfPairs ? Array.isArray(item) && item.length === 2 && item.every(isText) : isText(item);
    if (!fits) {
      throw new TypeError(`item ${nth} of ${what} is ${shown(item)}, not ${isOfPairs ? "a pair of strings" : "a string"}`);
    }
  }
}

/** @param {number} value @param {number} highest */
function isInteger(value, highest) {
  return Number.isInteger(value) && value >= 0 && value <= highest;
}

/** @param {unknown} value */
function kind(value) {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : typeof value;
}

/** A value in a message: a number itself, or what else it is. @param {unknown} value */
function shown(value) {
  return typeof value === "number" ? String(value) : kind(value);
}

/**
 * @template T
 * @param {string} call
 * @param {T[]} value
 */
function array(call, value) {
  if (!Array.isArray(value)) throw new TypeError(`\`${call}\` returned ${shown(value)}, not an array`);
  return value;
}

/**
 * Checks what a method of the host gets, by the `typeof` or the class of each argument: the bindings end an instance
 * without a word if one is wrong.
 * @param {{ prototype: any }} Type
 * @param {string} name
 * @param {...(string | (new (...given: any[]) => unknown))} types
 */
function checked(Type, name, ...types) {
  const call = Type.prototype[name];
  Type.prototype[name] = function (/** @type {unknown[]} */ ...given) {
    for (const [nth, type] of types.entries()) {
      const fits = typeof type === "string" ? kind(given[nth]) === type : given[nth] instanceof type;
      if (!fits) {
        const wanted = typeof type === "string" ? type : `a ${type.name}`;
        const hint = name === "send" ? "; write `payload(…)`" : "";
        throw new TypeError(`argument ${nth + 1} of \`${name}\` is ${shown(given[nth])}, not ${wanted}${hint}`);
      }
    }
    return call.apply(this, given);
  };
}
checked(Buffer, "read", "number", "number");
checked(Viewer, "may", "string");
checked(Viewer, "send", "object");
checked(Viewer, "choose", Uint8Array);
checked(Viewer, "streamHead", "number", Uint8Array);
checked(Viewer, "reply", "number", Buffer, "boolean");
checked(Viewer, "talk", "string", Buffer);
checked(Viewer, "close", "string");

/** Buffers that were given away to the host, whose handles are void. @type {WeakSet<Buffer>} */
const returned = new WeakSet();

/** @param {Reply} given */
function answer(given) {
  if (given?.tag === "done") {
    const { body, ...rest } = given.val;
    if (!(body instanceof Buffer)) throw new TypeError(`the body of a response is ${shown(body)}, not a Buffer`);
    complete("response", rest, RESPONSE);
  } else if (given?.tag === "follow" ? typeof given.val !== "string" : given?.tag !== "pending") {
    throw new TypeError("`request` did not return one of `reply`");
  }
  return given;
}

/** @param {Chunk} chunk */
function lower(chunk) {
  if (kind(chunk) !== "object") throw new TypeError(`a chunk is ${shown(chunk)}, not an object`);
  const { payload: content, time = null, ...rest } = chunk;
  const at = time && complete("time", time, TIME);
  return { payload: payload(content), time: at, ...complete("chunk", rest, CHUNK) };
}

/**
 * @param {Uint8Array | string | Buffer | Piece} part
 * @returns {Piece}
 */
function piece(part) {
  if (typeof part === "string") return { tag: "bytes", val: utf8(part) };
  if (part instanceof Uint8Array) return { tag: "bytes", val: part };
  if (part instanceof Buffer) return slice(part, 0, part.size());
  if (part?.tag !== "slice") throw new TypeError(`a piece is bytes, a string, a Buffer or a slice, not ${shown(part)}`);
  return part;
}

/**
 * UTF-8 of a text; QuickJS has no TextEncoder.
 * @param {string} text
 */
function utf8(text) {
  const bytes = encodeURIComponent(text.toWellFormed()).match(/%..|./g) ?? [];
  return Uint8Array.from(bytes, (byte) => (byte[0] === "%" ? parseInt(byte.slice(1), 16) : byte.charCodeAt(0)));
}
