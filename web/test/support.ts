// Helpers for the unit tests: H.264, MP4 and records, fake timers and sockets.

import type { TestContext } from "node:test";

/** Annex B from NAL units, with 4-byte start codes by default. */
export function annexB(nals: readonly (readonly number[])[], startCode: readonly number[] = [0, 0, 0, 1]): Uint8Array {
  return Uint8Array.from(nals.flatMap((nal) => [...startCode, ...nal]));
}

export const SPS = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01];
export const OTHER_SPS = [0x67, 0x64, 0x00, 0x28, 0xac, 0x2b];
export const PPS = [0x68, 0xce, 0x3c, 0x80];
export const AUD = [0x09, 0x10];
export const IDR = [0x65, 0x88, 0x84, 0x21];
export const DELTA = [0x41, 0x9a, 0x02, 0x33];
/** One SEI message: recovery point, one byte long. */
export const RECOVERY = [0x06, 0x06, 0x01, 0xc4, 0x80];
/** User data of five bytes only. */
export const USER_DATA = [0x06, 0x05, 0x05, 0x06, 0x01, 0xc4, 0x06, 0x06, 0x80];

/** Pseudo-random numbers, the same in every run (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** An MP4 box from bytes and boxes. */
export function box(type: string, ...content: (readonly number[] | Uint8Array)[]): Uint8Array {
  const body = content.flatMap((part) => [...part]);
  return Uint8Array.from([...be32(8 + body.length), ...[...type].map((letter) => letter.charCodeAt(0)), ...body]);
}

export const be32 = (value: number): number[] => [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];

/** An init segment with tracks of these kinds, numbered from 1. */
export function initSegment(...handlers: readonly ("vide" | "soun")[]): Uint8Array {
  const tracks = handlers.map((handler, index) => {
    // Version 1 for every second track: its times are longer.
    const version = index % 2;
    const times = version === 1 ? 16 : 8;
    const header = box("tkhd", [version, 0, 0, 7], new Array<number>(times).fill(9), be32(index + 1));
    return box("trak", header, box("mdia", box("mdhd"), box("hdlr", be32(0), be32(0), [...handler].map((letter) => letter.charCodeAt(0)))));
  });
  return Uint8Array.from([...box("ftyp", be32(0)), ...box("moov", box("mvhd"), ...tracks)]);
}

/** A fragment with one sample of this track, whose flags are stored in one of three ways. */
export function fragment(track: number, sync: boolean, flagsIn: "first" | "each" | "default" = "default", size = 4): Uint8Array {
  const flags = be32(sync ? 0x0200_0000 : 0x0101_0000);
  const header =
    flagsIn === "default" ? box("tfhd", be32(0x02_0028), be32(track), be32(3000), flags) : box("tfhd", be32(0x02_0000), be32(track));
  const run =
    flagsIn === "each"
      ? box("trun", be32(0x0100_0701), be32(1), be32(0), be32(3000), be32(size), flags)
      : flagsIn === "first"
        ? box("trun", be32(0x0000_0005), be32(1), be32(0), flags)
        : box("trun", be32(0x0000_0001), be32(1), be32(0));
  return Uint8Array.from([...box("moof", box("mfhd"), box("traf", header, box("tfdt"), run)), ...box("mdat", new Array<number>(size).fill(0))]);
}

/** A record of `webcodecs`. */
export function record(kind: number, content: readonly number[]): Uint8Array {
  return Uint8Array.from([...be32(1 + content.length), kind, ...content]);
}

/** A catalogue with a video track, an audio track and one of an unknown kind. */
export function catalogue(fields: Record<string, unknown> = {}): Uint8Array {
  const video = { kind: "video", format: "h264/avcc", codec: "avc1.64001f", config: "AWQAH//gAA==", timescale: 90_000, pixelAspect: [16, 11], rotation: 90, mirrored: false };
  const audio = { kind: "audio", format: "aac", codec: "mp4a.40.2", config: "EZA=", timescale: 48_000, sampleRate: 48_000, channels: 2 };
  const json = JSON.stringify({ version: 1, startedAt: 1, epoch: 0, tracks: [video, audio, { kind: "smell" }], ...fields });
  return record(0, [...new TextEncoder().encode(json)]);
}

/** A frame's record; `time` in ticks. */
export function coded(frame: { track?: number; group?: number; time?: number; independent?: boolean; leading?: boolean; data?: readonly number[] }): Uint8Array {
  const { track = 0, group = 1, time = 0, independent = false, leading = false, data = [1] } = frame;
  const fields = new DataView(new ArrayBuffer(16));
  fields.setBigUint64(0, BigInt(group));
  fields.setBigInt64(8, BigInt(time));
  return record(1, [track, (independent ? 1 : 0) | (leading ? 2 : 0), 0, ...new Uint8Array(fields.buffer), ...data]);
}

const originals = new Map<string, PropertyDescriptor | undefined>();

/** Replaces a global until the test ends. */
export function replace(t: TestContext, name: string, value: unknown): void {
  if (!originals.has(name)) originals.set(name, Object.getOwnPropertyDescriptor(globalThis, name));
  const before = originals.get(name);
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  t.after(() => {
    if (before === undefined) Reflect.deleteProperty(globalThis, name);
    else Object.defineProperty(globalThis, name, before);
  });
}

/** Fake timers whose clock (ms) the test advances. */
export class Timers {
  #now = 0;
  #timers: { at: number; readonly every: number | null; readonly callback: () => void }[] = [];

  get now(): number {
    return this.#now;
  }

  /** Number of active timers. */
  get running(): number {
    return this.#timers.length;
  }

  start(callback: () => void, ms: number, every: number | null = null): object {
    const timer = { at: this.#now + ms, every, callback };
    this.#timers.push(timer);
    return timer;
  }

  stop(timer: unknown): void {
    this.#timers = this.#timers.filter((other) => other !== timer);
  }

  advance(ms: number): void {
    const until = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#now = Math.max(this.#now, next.at);
      if (next.every === null) this.stop(next);
      else next.at += next.every;
      next.callback();
    }
    this.#now = until;
  }

  /** Time passes in which no timer is called: the device is busy. */
  stall(ms: number): void {
    this.#now += ms;
  }
}

/** Replaces the page's timers until the test ends. */
export class Clock extends Timers {
  constructor(t: TestContext) {
    super();
    replace(t, "setTimeout", (callback: () => void, ms: number) => this.start(callback, ms));
    replace(t, "setInterval", (callback: () => void, ms: number) => this.start(callback, ms, ms));
    replace(t, "clearTimeout", (timer: unknown) => this.stop(timer));
    replace(t, "clearInterval", (timer: unknown) => this.stop(timer));
    replace(t, "performance", { now: () => this.now });
  }
}

/** A WebSocket whose peer is the test. */
export class FakeSocket {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  readonly sent: Record<string, unknown>[] = [];
  /** Messages of bytes that were sent. */
  readonly sentBytes: number[][] = [];
  readonly url: string;
  readyState = FakeSocket.CONNECTING;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;

  constructor(url: URL) {
    this.url = url.href;
  }

  send(data: string | Uint8Array): void {
    if (typeof data === "string") this.sent.push(JSON.parse(data) as Record<string, unknown>);
    else this.sentBytes.push([...data]);
  }

  close(): void {
    this.readyState = 2;
  }

  get closed(): boolean {
    return this.readyState > FakeSocket.OPEN;
  }

  open(): this {
    this.readyState = FakeSocket.OPEN;
    this.onopen?.();
    return this;
  }

  receive(data: unknown): void {
    this.onmessage?.({ data });
  }

  /** The connection is closed by the peer or a proxy. */
  end(code = 1006, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

/** Records the sockets created until the test ends. */
export function fakeSockets(t: TestContext): FakeSocket[] {
  const sockets: FakeSocket[] = [];
  class RecordedSocket extends FakeSocket {
    constructor(url: URL) {
      super(url);
      sockets.push(this);
    }
  }
  replace(t, "WebSocket", RecordedSocket);
  return sockets;
}

/** A WebTransport session whose peer is the test. */
export class FakeSession {
  static last: FakeSession;
  readonly url: string;
  readonly options: { serverCertificateHashes?: { value: Uint8Array }[] };
  /** What the page has sent, by stream. */
  readonly sent: number[][] = [];
  closedByPage = false;
  #open!: () => void;
  #refuse!: (error: Error) => void;
  #streams!: ReadableStreamDefaultController<ReadableStream<Uint8Array>>;
  readonly ready = new Promise<void>((resolve, reject) => ([this.#open, this.#refuse] = [resolve, reject]));
  readonly closed = new Promise<never>(() => undefined);
  readonly incomingUnidirectionalStreams = new ReadableStream<ReadableStream<Uint8Array>>({ start: (controller) => void (this.#streams = controller) });

  constructor(url: string, options: FakeSession["options"]) {
    [this.url, this.options] = [url, options];
    FakeSession.last = this;
  }

  close(): void {
    if (this.closedByPage) return;
    this.closedByPage = true;
    this.#streams.close();
  }

  async createUnidirectionalStream(): Promise<WritableStream<Uint8Array>> {
    if (this.closedByPage) throw new Error("closed");
    const sent: number[] = [];
    this.sent.push(sent);
    return new WritableStream({ write: (bytes) => void sent.push(...bytes) });
  }

  open(): void {
    this.#open();
  }

  refuse(): void {
    this.#refuse(new Error("no"));
  }

  /** The connection ends. */
  lose(): void {
    this.#streams.error(new Error("lost"));
  }

  stream(): ReadableStreamDefaultController<Uint8Array> {
    let writer!: ReadableStreamDefaultController<Uint8Array>;
    this.#streams.enqueue(new ReadableStream<Uint8Array>({ start: (controller) => void (writer = controller) }));
    return writer;
  }
}

/** Waits until the callbacks of settled promises have run. */
export const settled = (): Promise<void> => new Promise(setImmediate);

/** Time passes for what waits for timers and promises by turns. */
export async function elapse(clock: Timers, ms: number): Promise<void> {
  const until = clock.now + ms;
  while (clock.now < until) {
    clock.advance(Math.min(10, until - clock.now));
    await settled();
  }
}

/** A fetch that completes only when it is aborted. */
export const unanswered = (_: URL | string, { signal }: { signal: AbortSignal }): Promise<Response> =>
  new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
