// What the director is told and tells, and the world as it needs it. Types only.

import type { Asking, Choice, Form } from "../net/choice";
import type { ControlEvents, Offer, Report } from "../net/control";
import type { TransportName } from "../transport/names";
import type { Session, SessionSink, SessionState, Wanted } from "./session";

/** Which of the two stages: on one is what is seen, on the other what is to come. */
export type StageName = "first" | "second";

/** What the viewer is told: of the stage that is seen, and of the moves. */
export interface DirectorState extends SessionState {
  /** Empty: the stream itself. */
  readonly rendition: string;
  /** Why the gateway chose what plays; empty where it did not. */
  readonly why: string;
  readonly moved: Moved | null;
  /** Whether the stream has sound, though what plays may not carry it (`sound`). */
  readonly hasSound: boolean;
  /** Transports that would carry it, those of the gateway's that this browser can play. */
  readonly carriers: string;
  /** It is the gateway's test pattern, whose pictures carry a block code. */
  readonly pattern: boolean;
}

/** The newest move. */
export interface Moved {
  readonly from: Form;
  readonly to: Form;
  readonly reason: string;
  /** Unix ms. */
  readonly at: number;
  /** From the gateway's word to the first picture. */
  readonly tookMs: number;
}

/** What may be chosen by hand, for the page that shows the choice. */
export type Choices = Offer;

/** A control channel, as it is needed here. */
export interface ControlLike {
  report(report: Report): void;
  playing(form: Form): void;
  failed(form: Form): void;
  pin(form: Partial<Form> | null): void;
  close(): void;
}

/** The world as the director needs it. */
export interface DirectorEnv {
  session(stage: StageName, sink: SessionSink): Session;
  /** Why this browser cannot play it, or null. */
  obstacle(name: TransportName): string | null;
  network(): string | null;
  /** This may be played later: what it takes may be fetched now. */
  prepare(name: TransportName): void;
  choose(base: URL, asking: Asking, signal: AbortSignal): Promise<Choice>;
  attend(url: URL, events: ControlEvents): ControlLike;
  timer(callback: () => void, ms: number): () => void;
  now(): number;
}

/** What becomes of it: pictures and counts of the stage that is seen, and what changed. */
export interface DirectorSink extends Pick<SessionSink, "picture" | "shown" | "bytes" | "dropped"> {
  changed(state: DirectorState): void;
  /** This stage's pictures are those that are seen. */
  turned(stage: StageName): void;
  choices(choices: Choices): void;
}

/** What is wanted, with a rendition chosen by hand. */
export interface DirectorWanted extends Wanted {
  /** Empty: the stream itself; null: whichever the gateway chooses. */
  readonly rendition: string | null;
}

/** Figures of the newest second, from who counts them. */
export type Figures = Pick<Report, "received" | "buffered_ms" | "stalled_ms" | "frames_dropped" | "frame_rate" | "visible">;
