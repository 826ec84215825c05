// The player's video element, lent to one transport at a time. It handles muted autoplay, reports displayed and
// dropped frames, and resets the element when the loan ends.

import type { Shown } from "./transport";

/** Events of the element for the transport that has it on loan. */
export interface VideoEvents {
  shown(shown: Omit<Shown, "delay">): void;
  /** It plays a stream without video. */
  heard(): void;
  dropped(count: number): void;
  /** The browser blocks playback, or playback was paused, until the viewer acts. */
  blocked(): void;
  /** The media cannot be played. */
  failed(reason: string): void;
}

/** The element, while it is lent to a transport. */
export interface VideoLoan {
  readonly element: HTMLVideoElement;
  /** Starts playback as soon as there is media. */
  play(): void;
  /** Plays the media at this URL. */
  show(url: string): void;
  /** Preserves the displayed frame, as the source is about to change. */
  keepFrame(): void;
  /** Resets the element. No event follows. */
  release(): void;
}

/**
 * Browsers may not report frames while the element is out of view. After this time (ms) without a report, decoded
 * frames are counted instead.
 */
const UNSEEN_MS = 2000;

/** Lends the element to one transport after another. */
export class VideoScreen {
  readonly #element: HTMLVideoElement;
  readonly #leaving: () => void;
  #loan: Loan | null = null;

  /** `leaving` is called before a displayed frame disappears with its source. */
  constructor(element: HTMLVideoElement, leaving: () => void) {
    this.#element = element;
    this.#leaving = leaving;
    // Audio needs a user activation: no browser plays it otherwise.
    element.muted = true;
    element.playsInline = true;
    // Required for ManagedMediaSource to open.
    element.disableRemotePlayback = true;
    // With CORS, pages of allowed origins may read the frames; others get none.
    element.crossOrigin = "anonymous";
  }

  /** Lends the element; the previous loan must have been released. */
  lend(events: VideoEvents): VideoLoan {
    this.#loan = new Loan(this.#element, events, () => {
      if (this.#element.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) this.#leaving();
    });
    return this.#loan;
  }

  /** Called within a user activation, this starts blocked playback. */
  play(): void {
    this.#loan?.play();
  }
}

class Loan implements VideoLoan {
  readonly element: HTMLVideoElement;
  readonly #events: VideoEvents;
  readonly keepFrame: () => void;
  readonly #over = new AbortController();
  readonly #stopFrames: () => void;
  #dropped: number;
  /** When a frame was last reported, how many were decoded then, and the position at the last `timeupdate`. */
  #shownAt = -Infinity;
  #decoded = 0;
  #position = 0;

  constructor(element: HTMLVideoElement, events: VideoEvents, keepFrame: () => void) {
    this.element = element;
    this.#events = events;
    this.keepFrame = keepFrame;
    this.#dropped = droppedBy(element);
    const { signal } = this.#over;
    element.addEventListener("pause", () => this.#paused(), { signal });
    element.addEventListener("timeupdate", () => this.#advanced(), { signal });
    element.addEventListener("error", () => events.failed(element.error?.message || "the browser cannot play this video"), { signal });
    this.#stopFrames = eachFrame(element, (count) => this.#frame(count));
  }

  play(): void {
    if (!this.#over.signal.aborted) void this.#play();
  }

  show(url: string): void {
    this.keepFrame();
    this.element.src = url;
    this.play();
  }

  release(): void {
    if (this.#over.signal.aborted) return;
    this.#over.abort();
    this.#stopFrames();
    this.keepFrame();
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

  /** Browsers pause audible playback without user activation; muted playback may continue. */
  #paused(): void {
    if (!this.element.muted && !wasActivated()) {
      this.element.muted = true;
      void this.#play();
    } else {
      this.#events.blocked();
    }
  }

  /** Playback has advanced: audio is playing, or frames are decoded while the element is out of view. */
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
    // A seek displays a frame too, although nothing plays.
    if (paused) return;
    this.#shownAt = performance.now();
    this.#decoded = decodedBy(this.element);
    this.#events.shown({ width: videoWidth, height: videoHeight, at: this.#shownAt, count });
    const dropped = droppedBy(this.element);
    if (dropped > this.#dropped) this.#events.dropped(dropped - this.#dropped);
    this.#dropped = dropped;
  }
}

/** Whether the page has had a user activation since it was loaded; true if the browser does not tell. */
export function wasActivated(): boolean {
  const { userActivation } = navigator as { userActivation?: { readonly hasBeenActive: boolean } };
  return userActivation?.hasBeenActive !== false;
}

function decodedBy(element: HTMLVideoElement): number {
  return element.getVideoPlaybackQuality().totalVideoFrames;
}

function droppedBy(element: HTMLVideoElement): number {
  return element.getVideoPlaybackQuality().droppedVideoFrames;
}

/** Calls back with the number of new frames whenever there are some. The returned function stops it. */
function eachFrame(element: HTMLVideoElement, frame: (count: number) => void): () => void {
  let request = 0;
  let known: number | null = null;
  const tell = (presented: number): void => {
    // Depending on the browser, the count restarts at 0 with a new source.
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
