// The player's video element, attached to one transport at a time. It handles muted autoplay, reports displayed and
// dropped frames, and resets the element when it is detached.

import type { DisplayedFrame } from "./transport";

/** Events of the element for the transport that it is attached to. */
export interface VideoEvents {
  displayed(frame: Omit<DisplayedFrame, "delay">): void;
  /** It plays the audio of a stream without video. */
  audioPlayed(): void;
  dropped(count: number): void;
  /** The browser blocks playback, or playback was paused, until the viewer acts. */
  blocked(): void;
  /** The media cannot be played. */
  failed(reason: string): void;
}

/** The element, while it is attached to a transport. */
export interface VideoAttachment {
  readonly element: HTMLVideoElement;
  /** Starts playback as soon as there is media. */
  play(): void;
  /** Plays the media at this URL. */
  load(url: string): void;
  /** Preserves the displayed frame, as the source is about to change. */
  keepFrame(): void;
  /** Resets the element. No event follows. */
  detach(): void;
}

/**
 * Browsers may not report frames while the element is out of view. After this time (ms) without a report, decoded
 * frames are counted instead.
 */
const OUT_OF_VIEW_MS = 2000;

/** Attaches the element to one transport after another. */
export class VideoScreen {
  readonly #element: HTMLVideoElement;
  readonly #onFrameLoss: () => void;
  #attachment: Attachment | null = null;

  /** `onFrameLoss` is called before a displayed frame disappears with its source. */
  constructor(element: HTMLVideoElement, onFrameLoss: () => void) {
    this.#element = element;
    this.#onFrameLoss = onFrameLoss;
    // Audio needs a user activation: no browser plays it otherwise.
    element.muted = true;
    element.playsInline = true;
    // Required for ManagedMediaSource to open.
    element.disableRemotePlayback = true;
    // With CORS, pages of allowed origins may read the frames; others get none.
    element.crossOrigin = "anonymous";
  }

  /** Attaches the element to a transport; it must have been detached from the previous one. */
  attach(events: VideoEvents): VideoAttachment {
    this.#attachment = new Attachment(this.#element, events, () => {
      if (this.#element.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) this.#onFrameLoss();
    });
    return this.#attachment;
  }

  /** Called within a user activation, this starts blocked playback. */
  play(): void {
    this.#attachment?.play();
  }
}

class Attachment implements VideoAttachment {
  readonly element: HTMLVideoElement;
  readonly #events: VideoEvents;
  readonly keepFrame: () => void;
  readonly #controller = new AbortController();
  readonly #stopFrames: () => void;
  #dropped: number;
  /** When a frame was last reported, how many were decoded then, and the position at the last `timeupdate`. */
  #displayedAt = -Infinity;
  #decoded = 0;
  #position = 0;

  constructor(element: HTMLVideoElement, events: VideoEvents, keepFrame: () => void) {
    this.element = element;
    this.#events = events;
    this.keepFrame = keepFrame;
    this.#dropped = droppedFrames(element);
    const { signal } = this.#controller;
    element.addEventListener("pause", () => this.#onPause(), { signal });
    element.addEventListener("timeupdate", () => this.#onTimeUpdate(), { signal });
    element.addEventListener("error", () => events.failed(element.error?.message || "the browser cannot play this video"), { signal });
    this.#stopFrames = onEachFrame(element, (count) => this.#onFrame(count));
  }

  play(): void {
    if (!this.#controller.signal.aborted) void this.#play();
  }

  load(url: string): void {
    this.keepFrame();
    this.element.src = url;
    this.play();
  }

  detach(): void {
    if (this.#controller.signal.aborted) return;
    this.#controller.abort();
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
      if (this.#controller.signal.aborted || !(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      if (this.element.muted) {
        this.#events.blocked();
      } else {
        this.element.muted = true;
        await this.#play();
      }
    }
  }

  /** Browsers pause audible playback without user activation; muted playback may continue. */
  #onPause(): void {
    if (!this.element.muted && !hasBeenActive()) {
      this.element.muted = true;
      void this.#play();
    } else {
      this.#events.blocked();
    }
  }

  /** Playback has advanced: audio is playing, or frames are decoded while the element is out of view. */
  #onTimeUpdate(): void {
    const { paused, seeking, currentTime, videoWidth } = this.element;
    const advanced = !paused && !seeking && currentTime > this.#position;
    this.#position = currentTime;
    if (!advanced) return;
    if (videoWidth === 0) {
      this.#events.audioPlayed();
    } else if (performance.now() - this.#displayedAt > OUT_OF_VIEW_MS && decodedFrames(this.element) !== this.#decoded) {
      this.#onFrame(1);
    }
  }

  #onFrame(count: number): void {
    const { paused, videoWidth, videoHeight } = this.element;
    // A seek displays a frame too, although nothing plays.
    if (paused) return;
    this.#displayedAt = performance.now();
    this.#decoded = decodedFrames(this.element);
    this.#events.displayed({ width: videoWidth, height: videoHeight, at: this.#displayedAt, count });
    const dropped = droppedFrames(this.element);
    if (dropped > this.#dropped) this.#events.dropped(dropped - this.#dropped);
    this.#dropped = dropped;
  }
}

/** Whether the page has had a user activation since it was loaded; true if the browser does not say. */
export function hasBeenActive(): boolean {
  const { userActivation } = navigator as { userActivation?: { readonly hasBeenActive: boolean } };
  return userActivation?.hasBeenActive !== false;
}

function decodedFrames(element: HTMLVideoElement): number {
  return element.getVideoPlaybackQuality().totalVideoFrames;
}

function droppedFrames(element: HTMLVideoElement): number {
  return element.getVideoPlaybackQuality().droppedVideoFrames;
}

/** Calls back with the number of new frames whenever there are some. The returned function stops it. */
function onEachFrame(element: HTMLVideoElement, frame: (count: number) => void): () => void {
  let request = 0;
  let lastPresented: number | null = null;
  const report = (presented: number): void => {
    // Depending on the browser, the count restarts at 0 with a new source.
    const count = lastPresented !== null && presented > lastPresented ? presented - lastPresented : 1;
    lastPresented = presented;
    frame(count);
  };
  if (typeof element.requestVideoFrameCallback === "function") {
    const next: VideoFrameRequestCallback = (_, { presentedFrames }) => {
      request = element.requestVideoFrameCallback(next);
      report(presentedFrames);
    };
    request = element.requestVideoFrameCallback(next);
    return () => element.cancelVideoFrameCallback(request);
  }
  // Firefox before 132.
  const poll = (): void => {
    request = requestAnimationFrame(poll);
    const { totalVideoFrames, droppedVideoFrames } = element.getVideoPlaybackQuality();
    const presented = totalVideoFrames - droppedVideoFrames;
    if (presented !== lastPresented) report(presented);
  };
  request = requestAnimationFrame(poll);
  return () => cancelAnimationFrame(request);
}
