// What was chosen in this browser, where it may keep anything; else it is for this page only.

export function remembered(what: string): string | null {
  try {
    return localStorage.getItem(what);
  } catch {
    return null;
  }
}

/** Keeps a value; null forgets it. */
export function remember(what: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(what);
    else localStorage.setItem(what, value);
  } catch {
    // As above.
  }
}

/** "false" where the sound was turned on; absent: it is off. */
export const MUTED = "sluicegate-muted";

/** The transport that is played, for every stream. */
export const TRANSPORT = "sluicegate-transport";
