// Gets the frames of a `webcodecs` stream in order: over WebTransport where that works, else over the WebSocket, which
// carries the same bytes. If UDP is blocked later, the WebSocket goes on where WebTransport ended.

import { Catalogues, type CodedFrame, type MediaTrack, RecordReader } from "../media/records";
import { clockUrl } from "../player/address";
import { Continuation } from "./continuation";
import { GroupOrder, MAX_HELD_BYTES, type OrderEnv } from "./group_order";
import { SilenceWatch } from "./silence_watch";
import { type OpenSocket, openSocket } from "./socket";
import type { CarrierName, EndKind, Ending } from "./transport";
import { type Endpoint, endingFor, openWebTransport, readGroups, sendRecord } from "./webtransport";

/** What to receive. */
export interface Source {
  /** Base URL of the stream. */
  readonly base: string;
  /** Where to try WebTransport first; null for the WebSocket alone. */
  readonly endpoint: Endpoint | null;
}

/** What arrives. `ended` comes once, and nothing after it. */
export interface CarrierEvents {
  bytes(count: number): void;
  /** The next frame. `gap`: frames before it are missing. */
  frame(frame: CodedFrame, gap: boolean, arrivedAt: number): void;
  /** Frames arrive over this from now on; before the first one, and when it changes. */
  carrier(name: CarrierName): void;
  /** UDP does not get through, but the WebSocket does. */
  webTransportBlocked(): void;
  ended(ending: Ending): void;
}

interface Arrived {
  readonly frame: CodedFrame;
  readonly arrivedAt: number;
}

interface Held extends Arrived {
  readonly gap: boolean;
}

type Orders = Readonly<Record<MediaTrack["kind"], GroupOrder<Arrived>>>;

/** Ends of the WebSocket that tell of the gateway, or of the whole network. */
const GONE: ReadonlySet<EndKind> = new Set(["unreachable", "lost", "draining"]);

const ENV: OrderEnv = {
  now: () => performance.now(),
  timer: (callback, ms) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};

/** Receives from construction until `stop` or `ended`. */
export class Carrier {
  readonly #base: URL;
  readonly #events: CarrierEvents;
  readonly #controller = new AbortController();
  /** Ends WebTransport only. */
  readonly #webTransport = new AbortController();
  #session: WebTransport | null = null;
  #socket: OpenSocket | null = null;
  #orders: Orders = this.#newOrders();
  #startedAt: number | null = null;
  /** Starts of runs before this one: what a late stream still brings of them is of no use. */
  readonly #endedRuns = new Set<number>();
  #watch: SilenceWatch | null = null;
  /** Data has arrived over WebTransport. */
  #hasHeard = false;
  /** What was given out last. */
  readonly #continuation = new Continuation();
  /** What came over the WebSocket while it is not decided which carrier goes on; null afterwards. */
  #held: Held[] | null = null;
  #heldBytes = 0;

  constructor({ base, endpoint }: Source, events: CarrierEvents) {
    this.#base = new URL(base);
    this.#events = events;
    if (endpoint === null) this.#openSocket();
    else void this.#openWebTransport(endpoint);
  }

  /** Sends a record; dropped if nothing is open. */
  send(record: Uint8Array<ArrayBuffer>): void {
    if (this.#session !== null) void sendRecord(this.#session, record);
    else this.#socket?.send(record);
  }

  /** No event follows. */
  stop(): void {
    this.#controller.abort();
    this.#leaveWebTransport();
    this.#socket?.close();
  }

  #end(ending: Ending): void {
    if (this.#controller.signal.aborted) return;
    this.stop();
    this.#events.ended(ending);
  }

  async #openWebTransport(endpoint: Endpoint): Promise<void> {
    const { signal } = this.#webTransport;
    const session = await openWebTransport(endpoint, (signal) => askOverTcp(this.#base, signal), signal);
    if (signal.aborted) return;
    if (typeof session === "string") {
      this.#openSocket(session === "blocked");
      return;
    }
    this.#session = session;
    // The first data may take any time, as the source starts, but a firewall may begin to drop UDP now, too.
    this.#watch = new SilenceWatch(ENV, {
      poke: () => this.send(Uint8Array.of()),
      ask: () => this.#ask(),
      dismiss: () => this.#dismiss(),
      takeOver: () => this.#takeOver(),
    });
    const ending = await readGroups(session, {
      bytes: (count) => {
        if (signal.aborted) return;
        this.#heard();
        this.#events.bytes(count);
      },
      frame: (frame) => !signal.aborted && this.#order(frame),
      groupEnded: (kind, group, complete) => signal.aborted || this.#orders[kind].end(group, complete),
    });
    if (!signal.aborted) this.#end(ending);
  }

  /** Data arrived over WebTransport. */
  #heard(): void {
    if (!this.#hasHeard) this.#events.carrier("WebTransport");
    this.#hasHeard = true;
    this.#watch?.heard();
  }

  #leaveWebTransport(): void {
    this.#webTransport.abort();
    this.#session = null;
    this.#watch?.stop();
    for (const order of Object.values(this.#orders)) order.stop();
  }

  #newOrders(): Orders {
    const order = (): GroupOrder<Arrived> =>
      new GroupOrder(ENV, {
        item: ({ frame, arrivedAt }, gap) => this.#give(frame, gap, arrivedAt),
      });
    return { video: order(), audio: order() };
  }

  #order(frame: CodedFrame): boolean {
    const { startedAt } = frame.catalogue;
    if (this.#endedRuns.has(startedAt)) return false;
    // Groups of another run of the stream may be numbered anew.
    if (this.#startedAt !== null && this.#startedAt !== startedAt) {
      this.#endedRuns.add(this.#startedAt);
      for (const order of Object.values(this.#orders)) order.stop();
      this.#orders = this.#newOrders();
    }
    this.#startedAt = startedAt;
    return this.#orders[frame.track.kind].push(frame.group, { frame, arrivedAt: performance.now() }, frame.data.length);
  }

  #give(frame: CodedFrame, gap: boolean, arrivedAt: number): void {
    if (this.#controller.signal.aborted) return;
    this.#continuation.given(frame);
    this.#events.frame(frame, gap, arrivedAt);
  }

  /** On a WebSocket everything is in order, except that the gateway leaves out what is too late. */
  #openSocket(isFallback = false): void {
    let heard = false;
    this.#socket = this.#receive((frame, bytes) => {
      if (!heard) this.#events.carrier("WebSocket");
      if (!heard && isFallback) this.#events.webTransportBlocked();
      heard = true;
      this.#events.bytes(bytes);
      if (frame !== null) this.#give(frame, false, performance.now());
    }, (ending) => this.#end(ending));
  }

  /** WebTransport is silent: looks what the WebSocket has. */
  #ask(): void {
    this.#held = [];
    this.#heldBytes = 0;
    const resumed = this.#continuation.resume();
    this.#socket = this.#receive(
      (frame, bytes) => {
        if (this.#held === null) this.#events.bytes(bytes);
        const place = frame === null ? null : resumed.place(frame);
        if (frame === null || place === null) return;
        if (this.#held === null) {
          this.#give(frame, place.gap, performance.now());
          return;
        }
        this.#held.push({ frame, arrivedAt: performance.now(), ...place });
        this.#heldBytes += bytes;
        this.#watch?.news();
        if (this.#heldBytes > MAX_HELD_BYTES) this.#takeOver();
      },
      (ending) => {
        if (this.#held === null || GONE.has(ending.kind)) this.#end(ending);
      },
    );
  }

  #dismiss(): void {
    this.#socket?.close();
    this.#socket = null;
    this.#held = null;
  }

  #takeOver(): void {
    const { catalogue } = this.#held?.[0]?.frame ?? {};
    if (this.#startedAt !== null && catalogue?.startedAt !== this.#startedAt) {
      // Another gateway answers than the one that this session is with, and may do so over UDP.
      this.#end({ kind: "lost", reason: "the gateway was started again" });
      return;
    }
    this.#leaveWebTransport();
    this.#events.carrier("WebSocket");
    this.#events.webTransportBlocked();
    const held = this.#held ?? [];
    this.#held = null;
    for (const { frame, gap, arrivedAt } of held) this.#give(frame, gap, arrivedAt);
  }

  /** Receives from a WebSocket, a message at a time. */
  #receive(message: (frame: CodedFrame | null, bytes: number) => void, ended: (ending: Ending) => void): OpenSocket {
    const records = new RecordReader(new Catalogues());
    return openSocket(this.#base, "webcodecs", {
      message: (data) => {
        if (typeof data === "string") return;
        try {
          message(records.message(new Uint8Array(data)), data.byteLength);
        } catch (error) {
          this.#end(endingFor(error));
        }
      },
      ended,
    });
  }
}

/** Requests something small of the gateway, over the kind of connection that a WebSocket has. */
async function askOverTcp(base: URL, signal: AbortSignal): Promise<void> {
  const response = await fetch(clockUrl(base), { cache: "no-store", signal });
  await response.arrayBuffer();
}
