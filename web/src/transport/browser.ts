// What browsers have and have not, as far as video elements go.

/** `MediaSource`, or what stands in for it. */
export type SourceKind = Pick<typeof MediaSource, "isTypeSupported"> & (new () => MediaSource);

/** The one there is: an iPhone has only the managed kind. */
export function mediaSource(): SourceKind | null {
  const names = ["ManagedMediaSource", "MediaSource"] as const;
  const known = globalThis as Partial<Record<(typeof names)[number], typeof MediaSource>>;
  return names.map((name) => known[name]).find((found) => found !== undefined) ?? null;
}

/** Safari, which every browser on an iPhone or iPad is inside, buffers anew when the rate changes. */
export function changesRateSmoothly(): boolean {
  return !/^Apple/.test(navigator.vendor);
}
