// Differences between browsers that concern video elements.

/** `MediaSource`, or `ManagedMediaSource` in its place. */
export type MediaSourceConstructor = Pick<typeof MediaSource, "isTypeSupported"> & (new () => MediaSource);

/** The available implementation; iPhones have only `ManagedMediaSource`. */
export function mediaSource(): MediaSourceConstructor | null {
  const names = ["ManagedMediaSource", "MediaSource"] as const;
  const known = globalThis as Partial<Record<(typeof names)[number], typeof MediaSource>>;
  return names.map((name) => known[name]).find((found) => found !== undefined) ?? null;
}

/** False for Safari, and so for every browser on iPhones and iPads: it rebuffers when the playback rate changes. */
export function canAdjustPlaybackRate(): boolean {
  return !/^Apple/.test(navigator.vendor);
}
