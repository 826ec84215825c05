// The player's video element, lent to one transport at a time: muted start, what it shows, what it drops, and its way back
// to an empty element.

import type { Shown } from "./transport";

/** What the transport that has the element hears of it. */
export interface VideoEvents {
  shown(shown: Omit<Shown, "delay">): void;
  /** It plays, and what it plays has no pictures. */
  heard(): void;
  dropped(count: number): void;
  /** It may not play, or somebody paused it, until the viewer says so. */
  blocked(): void;
  /** What it was given cannot be played. */
  failed(reason: string): void;
}

/** The element, while a transport has it. */
export interface VideoLoan {
  readonly element: HTMLVideoElement;
  /** Plays what was put into it, from when there is something. */
  play(): void;
  /** Plays what is at this address. */
  show(url: string): void;
  /** Keeps on the screen what is there, for the source is going to change. */
  hold(): void;
  /** Empties it. Nothing is heard of it afterwards. */
  release(): void;
}

/** Browsers may not tell of pictures that nobody has in view. After so long (ms) without one, those that were decoded count. */
const UNSEEN_MS = 2000;

/** Lends the element to one transport after another. */
export class VideoScreen {
  readonly #element: HTMLVideoElement;
  readonly #leaving: () => void;
  #loan: Loan | null = null;

  /** `leaving` is called before a picture that is shown goes away with its source. */
  constructor(element: HTMLVideoElement, leaving: () => void) {
    this.#element = element;
    this.#leaving = leaving;
    // Sound comes with a tap: no browser plays it unasked.
    element.muted = true;
    element.playsInline = true;
    // ManagedMediaSource does not open without it.
    element.disableRemotePlayback = true;
    // Another site's page may read the pictures then, or gets none.
    element.crossOrigin = "anonymous";
  }

  /** The one that had it before must have released it. */
  lend(events: VideoEvents): VideoLoan {
    this.#loan = new Loan(this.#element, events, () => {
      if (this.#element.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) this.#leaving();
    });
    return this.#loan;
  }

  /** In a tap, this plays what could not play by itself. */
  play(): void {
    this.#loan?.play();
  }
}

class Loan implements VideoLoan {
  readonly element: HTMLVideoElement;
  readonly #events: VideoEvents;
  readonly hold: () => void;
  readonly #over = new AbortController();
  readonly #stopFrames: () => void;
  #dropped: number;
  /** When a new picture was last told of, how many were decoded then, and where the element played at its last look. */
  #shownAt = -Infinity;
  #decoded = 0;
  #position = 0;

  constructor(element: HTMLVideoElement, events: VideoEvents, hold: () => void) {
    this.element = element;
    this.#events = events;
    this.hold = hold;
    this.#dropped = droppedBy(element);
    const { signal } = this.#over;
    element.addEventListener("pause", () => this.#paused(), { signal });
    element.addEventListener("timeupdate", () => this.#advanced(), { signal });
    element.addEventListener("error", () => events.failed(element.error?.message || "the browser cannot play it"), { signal });
    this.#stopFrames = eachFrame(element, (count) => this.#frame(count));
  }

  play(): void {
    if (!this.#over.signal.aborted) void this.#play();
  }

  show(url: string): void {
    this.hold();
    this.element.src = url;
    this.play();
  }

  release(): void {
    if (this.#over.signal.aborted) return;
    this.#over.abort();
    this.#stopFrames();
    this.hold();
    this.element.playbackRate = 1;
    this.element.removeAttribute("src");
    this.element.load();
  }

  async #play(): Promise<void> {
    try {
      await this.element.play();
    } catch (error) {
      if (this.#over.signal.aborted || !(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      if (this.element.muted) {
        this.#events.blocked();
      } else {
        this.element.muted = true;
        await this.#play();
      }
    }
  }

  /** A browser pauses what was made loud without a tap; quiet it may play on. */
  #paused(): void {
    if (!this.element.muted && !wasTapped()) {
      this.element.muted = true;
      void this.#play();
    } else {
      this.#events.blocked();
    }
  }

  /** Playing goes on: it is heard, or its pictures are decoded though nobody has the element in view. */
  #advanced(): void {
    const { paused, seeking, currentTime, videoWidth } = this.element;
    const advanced = !paused && !seeking && currentTime > this.#position;
    this.#position = currentTime;
    if (!advanced) return;
    if (videoWidth === 0) {
      this.#events.heard();
    } else if (performance.now() - this.#shownAt > UNSEEN_MS && decodedBy(this.element) !== this.#decoded) {
      this.#frame(1);
    }
  }

  #frame(count: number): void {
    const { paused, videoWidth, videoHeight } = this.element;
    // A seek shows a picture too, though nothing plays.
    if (paused) return;
    this.#shownAt = performance.now();
    this.#decoded = decodedBy(this.element);
    this.#events.shown({ width: videoWidth, height: videoHeight, at: this.#shownAt, count });
    const dropped = droppedBy(this.element);
    if (dropped > this.#dropped) this.#events.dropped(dropped - this.#dropped);
    this.#dropped = dropped;
  }
}

/** Whether the page was tapped or typed into since it was loaded; true where the browser does not tell. */
export function wasTapped(): boolean {
  const { userActivation } = navigator as { userActivation?: { readonly hasBeenActive: boolean } };
  return userActivation?.hasBeenActive !== false;
}

function decodedBy(element: HTMLVideoElement): number {
  return element.getVideoPlaybackQuality().totalVideoFrames;
}

function droppedBy(element: HTMLVideoElement): number {
  return element.getVideoPlaybackQuality().droppedVideoFrames;
}

/** Calls back with the number of new pictures whenever there are some. The result ends it. */
function eachFrame(element: HTMLVideoElement, frame: (count: number) => void): () => void {
  let request = 0;
  let known: number | null = null;
  const tell = (presented: number): void => {
    // Browsers count from 0 again after a new source, or do not.
    const count = known !== null && presented > known ? presented - known : 1;
    known = presented;
    frame(count);
  };
  if (typeof element.requestVideoFrameCallback === "function") {
    const next: VideoFrameRequestCallback = (_, { presentedFrames }) => {
      request = element.requestVideoFrameCallback(next);
      tell(presentedFrames);
    };
    request = element.requestVideoFrameCallback(next);
    return () => element.cancelVideoFrameCallback(request);
  }
  // Firefox before 132.
  const look = (): void => {
    request = requestAnimationFrame(look);
    const { totalVideoFrames, droppedVideoFrames } = element.getVideoPlaybackQuality();
    const presented = totalVideoFrames - droppedVideoFrames;
    if (presented !== known) tell(presented);
  };
  request = requestAnimationFrame(look);
  return () => cancelAnimationFrame(request);
}
