// WebTransport as a carrier of `webcodecs`: where it works, how it is opened, and how its streams become frames. Each
// group of a track is a unidirectional stream; streams may end before they are complete.

import { Catalogues, type CodedFrame, type MediaTrack, RecordError, RecordReader } from "../media/records";
import type { Ending } from "./transport";
import { silenceOfUdp } from "./udp_silence";

/** Where a gateway accepts WebTransport. Sent to the worker. */
export interface Endpoint {
  readonly url: string;
  /** SHA-256 of acceptable certificates, in Base64; empty if the certificate is of a known authority. */
  readonly hashes: readonly string[];
}

/** What arrives. */
export interface GroupEvents {
  bytes(count: number): void;
  /** Returns false if the frame's group is of no use any more. */
  frame(frame: CodedFrame): boolean;
  /** Nothing more follows of this group. */
  groupEnded(kind: MediaTrack["kind"], group: number, complete: boolean): void;
}

/** Streams that are read at once; the oldest gives way to a new one. */
const MAX_STREAMS = 64;
/** First versions with a WebTransport that can be relied on. */
const CHROMIUM = 100;
const FIREFOX = 153;

/**
 * Whether the WebTransport of this browser can be relied on. WebKit's (on iPhones that is every browser) stops
 * delivering streams after some thousand.
 */
export function hasReliableWebTransport(userAgent: string): boolean {
  const version = (pattern: RegExp): number => Number(pattern.exec(userAgent)?.[1] ?? 0);
  return version(/Chrom(?:e|ium)\/(\d+)/) >= CHROMIUM || version(/ Firefox\/(\d+)/) >= FIREFOX;
}

/**
 * Opens a session. `blocked`: nothing answered in time, though `ask` got answers to requests over TCP. `late`: neither
 * did. `refused`: it could not be opened for another reason, which browsers do not reveal.
 */
export async function openWebTransport(
  { url, hashes }: Endpoint,
  ask: (signal: AbortSignal) => Promise<unknown>,
  signal: AbortSignal,
): Promise<WebTransport | "blocked" | "late" | "refused"> {
  const waiting = new AbortController();
  const stop = (): void => waiting.abort();
  try {
    const serverCertificateHashes = hashes.map((hash) => ({ algorithm: "sha-256", value: Uint8Array.from(atob(hash), (letter) => letter.charCodeAt(0)) }));
    const session = new WebTransport(url, serverCertificateHashes.length === 0 ? {} : { serverCertificateHashes });
    // Its end is looked at later, or not at all.
    session.closed.catch(() => undefined);
    signal.addEventListener("abort", () => close(session));
    signal.addEventListener("abort", stop);
    const outcome = await Promise.race([session.ready.then(() => session), silenceOfUdp(ask, waiting.signal)]);
    if (outcome === session && !signal.aborted) return session;
    close(session);
    return signal.aborted ? "refused" : outcome;
  } catch {
    return "refused";
  } finally {
    stop();
    signal.removeEventListener("abort", stop);
  }
}

/** Sends a record, or none, on a stream of its own; dropped if the session has ended. */
export async function sendRecord(session: WebTransport, record: Uint8Array<ArrayBuffer>): Promise<void> {
  try {
    const writer = (await session.createUnidirectionalStream()).getWriter();
    if (record.length > 0) await writer.write(record);
    await writer.close();
  } catch {
    // It has ended.
  }
}

/** Reads all streams of a session. Returns why it ended. */
export async function readGroups(session: WebTransport, events: GroupEvents): Promise<Ending> {
  const catalogues = new Catalogues();
  const reading = new Set<ReadableStreamDefaultReader<Uint8Array>>();
  let damage: Ending | null = null;
  const read = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    const bytes = stream.getReader();
    reading.add(bytes);
    const [oldest] = reading;
    if (reading.size > MAX_STREAMS && oldest !== undefined) {
      reading.delete(oldest);
      void oldest.cancel().catch(() => undefined);
    }
    try {
      await readGroup(bytes, () => reading.has(bytes), new RecordReader(catalogues), events);
    } catch (error) {
      damage ??= endingFor(error);
      close(session);
    } finally {
      reading.delete(bytes);
    }
  };
  try {
    const streams = session.incomingUnidirectionalStreams.getReader();
    for (let next = await streams.read(); !next.done; next = await streams.read()) {
      void read(next.value as ReadableStream<Uint8Array>);
    }
  } catch {
    // The connection ended; browsers do not show why.
  }
  return damage ?? { kind: "lost", reason: "the connection was lost" };
}

/** What a failure to read ends with. */
export function endingFor(error: unknown): Ending {
  if (error instanceof RecordError) return { kind: error.unsupported ? "unsupported" : "lost", reason: error.message };
  return { kind: "unsupported", reason: `the player failed (${String(error)})` };
}

/**
 * Reads one stream, as long as it is of use. A stream that is reset ends here too; what is missing shows in the number
 * of the next group.
 */
async function readGroup(bytes: ReadableStreamDefaultReader<Uint8Array>, isOfUse: () => boolean, records: RecordReader, events: GroupEvents): Promise<void> {
  let newest: CodedFrame | null = null;
  let complete = false;
  try {
    for (;;) {
      let piece: ReadableStreamReadResult<Uint8Array>;
      try {
        piece = await bytes.read();
      } catch {
        return;
      }
      if (piece.done) {
        // So is a stream that was cancelled here.
        complete = isOfUse() && records.isComplete;
        return;
      }
      events.bytes(piece.value.length);
      for (const frame of records.push(piece.value)) {
        newest = frame;
        if (!events.frame(frame)) {
          void bytes.cancel().catch(() => undefined);
          return;
        }
      }
    }
  } finally {
    if (newest !== null) events.groupEnded(newest.track.kind, newest.group, complete);
  }
}

function close(session: WebTransport): void {
  try {
    session.close();
  } catch {
    // It has never been open.
  }
}
