// The director's interface: its inputs and outputs, and the environment that it needs. Types only.

import type { ChoiceRequest, Choice, PlaybackTarget } from "../net/choice";
import type { ControlEvents, Offer, Report } from "../net/control";
import type { TransportName } from "../transport/names";
import type { Session, SessionSink, SessionState, Selection } from "./session";

/** Name of one of the two stages: one is visible, the other prepares a move. */
export type StageName = "first" | "second";

/** State for the viewer: the visible stage, plus the moves between transports. */
export interface DirectorState extends SessionState {
  /** Rendition that plays; empty for the stream itself. */
  readonly rendition: string;
  /** The gateway's reason for choosing what plays; empty if it did not choose. */
  readonly why: string;
  readonly moved: CompletedMove | null;
  /** Whether the stream has audio, even if the current transport does not carry it (that is `hasAudio`). */
  readonly streamHasAudio: boolean;
  /** Labels of the other transports that carry the audio, among those the gateway offers and this browser can play. */
  readonly audioTransports: string;
  /** Whether this is the gateway's test pattern, whose frames carry a block code. */
  readonly pattern: boolean;
}

/** The most recent move. */
export interface CompletedMove {
  readonly from: PlaybackTarget;
  readonly to: PlaybackTarget;
  readonly reason: string;
  /** When it completed, in Unix ms. */
  readonly at: number;
  /** Time from the gateway's `move` message to the first displayed frame. */
  readonly tookMs: number;
}

/** The choices available to the viewer, for the page that displays them. */
export type Choices = Offer;

/** The part of `Control` that the director uses. */
export interface ControlLike {
  report(report: Report): void;
  playing(target: PlaybackTarget): void;
  failed(target: PlaybackTarget): void;
  pin(target: Partial<PlaybackTarget> | null): void;
  close(): void;
}

/** The director's environment, replaced in tests. */
export interface DirectorEnv {
  session(stage: StageName, sink: SessionSink): Session;
  /** Names of the transports that can be played if there is no obstacle, in order of preference. */
  names(): readonly TransportName[];
  /** Name of a transport for people. */
  label(name: TransportName): string;
  /** Why this browser cannot play the transport, or null if it can. */
  obstacle(name: TransportName): string | null;
  network(): string | null;
  /** The transport may be played later: its dependencies may be loaded now. */
  prepare(name: TransportName): void;
  choose(base: URL, request: ChoiceRequest, signal: AbortSignal): Promise<Choice>;
  openControl(url: URL, events: ControlEvents): ControlLike;
  timer(callback: () => void, ms: number): () => void;
  now(): number;
}

/** Receives frames and counters of the visible stage, and state changes. */
export interface DirectorSink extends Pick<SessionSink, "frame" | "displayed" | "bytes" | "dropped"> {
  changed(state: DirectorState): void;
  /** This stage is the visible one from now on. */
  swapped(stage: StageName): void;
  choices(choices: Choices): void;
}

/** What to play, including a rendition selected by the viewer. */
export interface DirectorSelection extends Selection {
  /** Empty: the stream itself; null: whichever rendition the gateway chooses. */
  readonly rendition: string | null;
  /** Why nothing is played: the selection cannot be. */
  readonly problem?: string;
}

/** Playback statistics of the last second, from the element that collects them. */
export type PlaybackStats = Pick<Report, "received" | "buffered_ms" | "stalled_ms" | "frames_dropped" | "frame_rate" | "visible" | "view_width" | "view_height">;
